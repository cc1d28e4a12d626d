"""Where data come from: opened strictly, looked at without reading.

`open` refuses chunks that are missing or damaged. `contents_read` tells of the data under a result,
so that no run goes on with those of others.
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

__all__ = [
    "CorruptChunkError",
    "MissingChunkError",
    "MissingChunks",
    "SourceChangedError",
    "SourceError",
    "UncheckedChunksWarning",
    "UnreadableFileError",
    "UnsafeSourceError",
    "contents_read",
    "open",
    "unchanged",
]
