"""A stored Zarr array whose chunks are checked when they are read, and named when they are bad."""

import math
import re
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np
from xarray.backends.common import BackendArray
from xarray.core.indexing import VectorizedIndexer

from xsphere.sources.contents import outer_chunks, touched, zarr_metadata
from xsphere.sources.errors import (
    CorruptChunkError,
    MissingChunkError,
    SourceError,
    UnsafeSourceError,
)

MissingChunks = Literal["raise", "invalid", "fill"]


class StrictArray(BackendArray):
    """A stored Zarr array, read with checks.

    Parameters
    ----------
    stored : BackendArray
        xarray's own, which reads without.
    variable : str
        Its name, for messages.
    dims : tuple of str
        Names of the stored axes.
    times : dict
        First time and step of evenly spaced times, by dimension.
    missing_chunks : {"raise", "invalid", "fill"}
        As for `checked`.
    fill : scalar, optional
        What cells of missing chunks get instead of the fill value.
    max_read_bytes : int
        As for `checked`.
    """

    def __init__(
        self,
        stored: Any,
        *,
        variable: str,
        dims: tuple[str, ...],
        times: dict[str, tuple[np.datetime64, np.timedelta64]],
        missing_chunks: MissingChunks,
        fill: Any,
        max_read_bytes: int,
    ) -> None:
        self.variable, self.dims, self.times = variable, dims, times
        self.missing_chunks, self.max_read_bytes = missing_chunks, max_read_bytes
        self.inner = type(stored)(_strict_zarr(stored.get_array(), missing_chunks, fill))
        self.shape, self.dtype = stored.shape, stored.dtype

    def get_array(self) -> Any:
        """The Zarr array, with checks."""
        return self.inner.get_array()

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        array = self.get_array()
        policy = (self.missing_chunks, repr(array.fill_value), self.max_read_bytes)
        return ("xsphere.StrictArray", str(array.store_path), zarr_metadata(array), *policy)

    def __getitem__(self, key: Any) -> Any:
        from xsphere.sources.strict_store import ObjectError

        self._check_size(key)
        selection = self._selection(key)
        try:
            self._check_shards(selection)
            return self.inner[key]
        except ObjectError as error:
            raise self._named(error) from None
        except (OSError, MemoryError, SourceError):
            raise
        except Exception as error:
            self._raise_culprit(selection, error)
            raise

    def _selection(self, key: Any) -> tuple[Any, ...]:
        """Indices along each axis; those of points may stand for more than is read."""
        return tuple(
            np.arange(*index.indices(size))
            if isinstance(index, slice)
            else np.atleast_1d(index).ravel() % size
            for index, size in zip(key.tuple, self.shape, strict=True)
        )

    def _check_size(self, key: Any) -> None:
        n_bytes = _n_selected(key, self.shape) * self.dtype.itemsize
        if n_bytes > self.max_read_bytes:
            raise UnsafeSourceError(
                f"one read of variable {self.variable!r} would take {n_bytes / 2**30:.1f} GiB, the "
                f"limit is {self.max_read_bytes / 2**30:.1f} GiB: read less at a time, for "
                "example with .chunk(time=1), or raise max_read_bytes"
            )

    def _check_shards(self, selection: tuple[Any, ...]) -> None:
        array = self.get_array()
        shard = _shard_of(array)
        if shard is None:
            return
        store = array.store
        numbers = touched(selection, array.shape, array.chunks)
        within: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for chunk in product(*numbers):
            place = tuple(c // n for c, n in zip(chunk, shard.counts, strict=True))
            inner = tuple(c % n for c, n in zip(chunk, shard.counts, strict=True))
            within.setdefault(place, []).append(inner)
        for place, chunks in within.items():
            key = array.metadata.encode_chunk_key(place)
            shard.check(store, f"{array.path}/{key}".lstrip("/"), chunks)

    def _named(self, error: Any) -> SourceError:
        from xsphere.sources.strict_store import AbsentObjectError

        array = self.get_array()
        n_numbers = len(self.shape)
        numbers = [int(n) for n in re.findall(r"\d+", error.key[len(array.path) :])]
        place, chunks = tuple(numbers[-n_numbers:] if n_numbers else ()), outer_chunks(array)
        if error.inner is not None:
            # within a shard
            counts = [o // c for o, c in zip(chunks, array.chunks, strict=True)]
            place = tuple(p * n + i for p, n, i in zip(place, counts, error.inner, strict=True))
            chunks = tuple(array.chunks)
        where = self._where(place, chunks)
        if isinstance(error, AbsentObjectError):
            return MissingChunkError(self.variable, where, error.key, f"{error.reason}. {_HELP}")
        return CorruptChunkError(self.variable, where, error.key, f"{error.reason}. {_REPAIR}")

    def _raise_culprit(self, selection: tuple[Any, ...], error: Exception) -> None:
        """Name the chunk that cannot be decoded, if one cannot."""
        array = self.get_array()
        encode = array.metadata.encode_chunk_key
        for place in product(*touched(selection, array.shape, array.chunks)):
            region = tuple(
                slice(p * c, (p + 1) * c) for p, c in zip(place, array.chunks, strict=True)
            )
            try:
                array[region]
            except (OSError, MemoryError):
                raise
            except Exception as cause:
                pairs = zip(place, array.chunks, outer_chunks(array), strict=True)
                key = f"{array.path}/{encode(tuple(p * c // o for p, c, o in pairs))}"
                reason = f"it cannot be decoded ({cause}). {_REPAIR}"
                where = self._where(place, tuple(array.chunks))
                raise CorruptChunkError(self.variable, where, key.lstrip("/"), reason) from error

    def _where(self, place: tuple[int, ...], chunks: tuple[int, ...]) -> str:
        """Which part of the array a chunk is."""
        parts = []
        for dim, number, chunk, size in zip(self.dims, place, chunks, self.shape, strict=True):
            start, stop = number * chunk, min((number + 1) * chunk, size)
            if (start, stop) == (0, size):
                continue
            parts.append(f"{dim}[{start}:{stop}] of {size}")
            if dim in self.times:
                first, step = self.times[dim]
                ends = np.array([first + start * step, first + (stop - 1) * step])
                parts[-1] += " ({} to {})".format(*np.datetime_as_string(ends, "s"))
        return ", ".join(parts)


class NamedArray(BackendArray):
    """A stored array of a file, whose errors name variable and file.

    Parameters
    ----------
    stored : BackendArray
        xarray's own.
    variable : str
        Its name.
    path : str
        Of the file.

    Examples
    --------
    >>> class Truncated(BackendArray):
    ...     shape, dtype = (2,), np.dtype("f4")
    ...
    ...     def __getitem__(self, key):
    ...         raise RuntimeError("file is truncated")
    >>> from xarray.core.indexing import BasicIndexer
    >>> NamedArray(Truncated(), "t", "a.nc")[BasicIndexer((slice(2),))]  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xsphere.sources.errors.CorruptChunkError: ... it cannot be read (file is truncated)...
    """

    def __init__(self, stored: Any, variable: str, path: str) -> None:
        self.stored, self.variable, self.path = stored, variable, path
        self.shape, self.dtype = stored.shape, stored.dtype
        # by which the contents are told
        self.datastore = getattr(stored, "datastore", None)
        self.variable_name = getattr(stored, "variable_name", None)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return normalize_token(self.stored)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.stored[key]
        except (RuntimeError, OSError) as error:
            # what disks and networks say has a number
            number = getattr(error, "errno", None)
            if number is not None and number > 0:
                raise
            where = f"{self.variable_name or self.variable} at {key.tuple}"
            reason = f"it cannot be read ({error}). Fetch or write the file again"
            raise CorruptChunkError(self.variable, where, self.path, reason) from error


_HELP = (
    "Zarr would read its fill value. If the store was written without chunks that hold nothing "
    "else, say missing_chunks='fill'; missing_chunks='invalid' makes its cells missing"
)
_REPAIR = "Fetch or write it again; the rest of the store can be read"


def _n_selected(key: Any, shape: tuple[int, ...]) -> int:
    """How many values an indexer selects."""
    lengths = [
        len(range(n)[i]) for i, n in zip(key.tuple, shape, strict=True) if isinstance(i, slice)
    ]
    arrays = [np.shape(index) for index in key.tuple if not isinstance(index, slice)]
    if isinstance(key, VectorizedIndexer):
        # points: arrays go together, as those of a transposed array do
        return math.prod(lengths) * math.prod(np.broadcast_shapes(*arrays))
    return math.prod(lengths) * math.prod(math.prod(one) for one in arrays)


def _strict_zarr(array: Any, policy: MissingChunks, fill: Any) -> Any:
    """The same Zarr array, read from its store through checks."""
    from zarr import Array, AsyncArray
    from zarr.storage import StorePath

    from xsphere.sources.strict_store import StrictStore
    from xsphere.unpacking import bounded

    metadata = array.metadata if fill is None else replace(array.metadata, fill_value=fill)
    store = StrictStore(getattr(array.store, "unchecked", array.store), require=policy == "raise")
    place = StorePath(store, array.path)
    return bounded(Array(AsyncArray(metadata=metadata, store_path=place)))


def _sharding(array: Any) -> Any:
    codecs = getattr(array.metadata, "codecs", ())
    return next((c for c in codecs if type(c).__name__ == "ShardingCodec"), None)


def _shard_of(array: Any) -> Any:
    """How to read the index of shards, if there are any and it is plain."""
    from xsphere.sources.strict_store import Shard

    sharded = _sharding(array)
    if sharded is None:
        return None
    names = [type(codec).__name__ for codec in sharded.index_codecs]
    if names not in (["BytesCodec", "Crc32cCodec"], ["BytesCodec"]):
        return None
    counts = tuple(o // c for o, c in zip(outer_chunks(array), array.chunks, strict=True))
    at_start = str(getattr(sharded.index_location, "value", sharded.index_location)) == "start"
    return Shard(counts, at_start, 16 * math.prod(counts) + 4 * (len(names) - 1))
