"""Where data come from: opened strictly, looked at without reading, regridded once.

`open` refuses chunks that are missing or damaged. `contents_read` tells of the data under a result,
so that no run goes on with those of others. A cache keeps fields that were regridded.
"""

from xsphere.sources.errors import (
    CorruptChunkError,
    MissingChunkError,
    SourceChangedError,
    SourceError,
    UnsafeSourceError,
)
from xsphere.sources.opening import MissingChunks, UncheckedChunksWarning, UnreadableFileError, open
from xsphere.sources.reads import contents_read, unchanged
from xsphere.sources.regrid_cache import cache_regridded
from xsphere.sources.room import CacheFullError

__all__ = [
    "CacheFullError",
    "CorruptChunkError",
    "MissingChunkError",
    "MissingChunks",
    "SourceChangedError",
    "SourceError",
    "UncheckedChunksWarning",
    "UnreadableFileError",
    "UnsafeSourceError",
    "cache_regridded",
    "contents_read",
    "open",
    "unchanged",
]
