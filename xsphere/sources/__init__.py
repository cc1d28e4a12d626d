"""Where data come from: what they are, and how to read them without being fooled.

A fingerprint tells of the data of a dataset without reading them, so that results and caches of
theirs are never taken for those of others. Strict reading tells a chunk that is missing or damaged
from data. A cache keeps fields that were regridded. How files are opened is left to xarray.
"""

from xsphere.sources.errors import (
    CorruptChunkError,
    MissingChunkError,
    SourceChangedError,
    SourceError,
    UnsafeSourceError,
)
from xsphere.sources.fingerprints import as_opened, places_of, source_of
from xsphere.sources.inputs import kept_inputs
from xsphere.sources.reads import unchanged
from xsphere.sources.regrid_cache import cache_regridded, cached_fields
from xsphere.sources.room import CacheFullError
from xsphere.sources.strict import checked
from xsphere.sources.strict_array import MissingChunks

__all__ = [
    "CacheFullError",
    "CorruptChunkError",
    "MissingChunkError",
    "MissingChunks",
    "SourceChangedError",
    "SourceError",
    "UnsafeSourceError",
    "as_opened",
    "cache_regridded",
    "cached_fields",
    "checked",
    "kept_inputs",
    "places_of",
    "source_of",
    "unchanged",
]
