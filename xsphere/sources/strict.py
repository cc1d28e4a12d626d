"""Stored Zarr arrays whose chunks are checked when they are read, and named when they are bad.

It is imported where it is used, since Zarr is.
"""

import math
import re
import struct
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends.zarr import ZarrArrayWrapper
from zarr import Array, AsyncArray
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import ShardingCodec
from zarr.storage import StorePath, WrapperStore

from xsphere.compat import done_by_zarr, held
from xsphere.sources.contents import outer_chunks, touched, zarr_metadata
from xsphere.sources.errors import (
    CorruptChunkError,
    MissingChunkError,
    SourceError,
    UnsafeSourceError,
)
from xsphere.sources.opening import MissingChunks
from xsphere.stages import note_read
from xsphere.unpacking import bounded

METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
ABSENT = 2**64 - 1
_HELP = (
    "Zarr would read its fill value. If the store was written without chunks that hold nothing "
    "else, say missing_chunks='fill'; missing_chunks='invalid' makes its cells missing"
)
_REPAIR = "Fetch or write it again; the rest of the store can be read"


@dataclass(kw_only=True)
class Opening:
    """What holds for all arrays of a store that was opened.

    Parameters
    ----------
    missing_chunks : {"raise", "invalid", "fill"}
        What a chunk means that is not in the store, see `xsphere.open`.
    max_chunk_bytes, max_read_bytes : int
        Sizes beyond which a variable, or one read of it, is refused.
    stamp : str
        Tells another store at the same place, in names of tasks.
    times : dict
        First time and step of dimensions that count times evenly, once they are known.
    """

    missing_chunks: MissingChunks
    max_chunk_bytes: int
    max_read_bytes: int
    stamp: str = ""
    times: dict[str, tuple[np.datetime64, np.timedelta64]] = field(default_factory=dict)


class StrictStore(WrapperStore[Store]):
    """A store that may refuse to be without a chunk."""

    def __init__(self, store: Store, *, require: bool) -> None:
        super().__init__(store)
        self.require, self.unchecked = require, store

    def _with_store(self, store: Store) -> "StrictStore":
        return type(self)(store, require=self.require)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """The object, or None where objects may be missing."""
        found = await self.unchecked.get(key, prototype, byte_range)
        if key.rsplit("/", 1)[-1] not in METADATA:
            if found is None and self.require:
                raise _AbsentObjectError(key, "it is not in the store")
            note_read(0 if found is None else len(found))
        return found


class StrictArray(ZarrArrayWrapper):
    """A stored Zarr array as xarray reads it, with checks.

    Parameters
    ----------
    array : zarr.Array
        Read without checks.
    name : str
        Of the variable, for messages.
    dims : tuple of str
        Names of the axes.
    opening : Opening
        What holds for the whole store.
    missing_chunks : {"raise", "invalid", "fill"}
        What a missing chunk of this array means.
    fill : scalar, optional
        What cells of missing chunks get instead of the fill value.
    """

    def __init__(
        self,
        array: Any,
        *,
        name: str,
        dims: tuple[str, ...],
        opening: Opening,
        missing_chunks: MissingChunks,
        fill: Any = None,
    ) -> None:
        metadata = array.metadata if fill is None else replace(array.metadata, fill_value=fill)
        store = StrictStore(array.store, require=missing_chunks == "raise")
        place = StorePath(store, array.path)
        self.zarr: Any = bounded(Array(AsyncArray(metadata=metadata, store_path=place)))
        super().__init__(self.zarr)  # type: ignore[no-untyped-call]
        self.name, self.dims, self.opening = name, dims, opening
        self.missing_chunks = missing_chunks

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        array = self.zarr
        about = (self.missing_chunks, repr(array.fill_value), self.opening.max_read_bytes)
        place = str(array.store_path)
        return ("xsphere.StrictArray", place, zarr_metadata(array), self.opening.stamp, *about)

    async def async_getitem(self, key: Any) -> Any:
        """As `self[key]`: what xarray would read at once otherwise is read with checks."""
        return self[key]

    def __getitem__(self, key: Any) -> Any:
        self._check_size(key)
        selection = self._selection(key)
        try:
            self._check_shards(selection)
            return super().__getitem__(key)  # type: ignore[no-untyped-call]
        except _ObjectError as error:
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
        n_bytes, most = _n_selected(key, self.shape) * self.dtype.itemsize, self.opening
        if n_bytes > most.max_read_bytes:
            raise UnsafeSourceError(
                f"one read of variable {self.name!r} would take {n_bytes / 2**30:.1f} GiB, the "
                f"limit is {most.max_read_bytes / 2**30:.1f} GiB: read less at a time, for "
                "example with .chunk(time=1), or raise max_read_bytes"
            )

    def _check_shards(self, selection: tuple[Any, ...]) -> None:
        array = self.zarr
        shard = _shard_of(array)
        if shard is None:
            return
        within: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for chunk in product(*touched(selection, array.shape, array.chunks)):
            place = tuple(c // n for c, n in zip(chunk, shard.counts, strict=True))
            inner = tuple(c % n for c, n in zip(chunk, shard.counts, strict=True))
            within.setdefault(place, []).append(inner)
        for place, chunks in within.items():
            key = array.metadata.encode_chunk_key(place)
            shard.check(array.store, f"{array.path}/{key}".lstrip("/"), chunks)

    def _named(self, error: "_ObjectError") -> SourceError:
        array = self.zarr
        n_numbers = len(self.shape)
        numbers = [int(n) for n in re.findall(r"\d+", error.key[len(array.path) :])]
        place, chunks = tuple(numbers[-n_numbers:] if n_numbers else ()), outer_chunks(array)
        if error.inner is not None:
            # within a shard
            counts = [o // c for o, c in zip(chunks, array.chunks, strict=True)]
            place = tuple(p * n + i for p, n, i in zip(place, counts, error.inner, strict=True))
            chunks = tuple(array.chunks)
        where = self._where(place, chunks)
        if isinstance(error, _AbsentObjectError):
            return MissingChunkError(self.name, where, error.key, f"{error.reason}. {_HELP}")
        return CorruptChunkError(self.name, where, error.key, f"{error.reason}. {_REPAIR}")

    def _raise_culprit(self, selection: tuple[Any, ...], error: Exception) -> None:
        """Name the chunk that cannot be decoded, if one cannot."""
        array = self.zarr
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
                raise CorruptChunkError(self.name, where, key.lstrip("/"), reason) from error

    def _where(self, place: tuple[int, ...], chunks: tuple[int, ...]) -> str:
        """Which part of the array a chunk is."""
        parts = []
        for dim, number, chunk, size in zip(self.dims, place, chunks, self.shape, strict=True):
            start, stop = number * chunk, min((number + 1) * chunk, size)
            if (start, stop) == (0, size):
                continue
            parts.append(f"{dim}[{start}:{stop}] of {size}")
            if dim in self.opening.times:
                first, step = self.opening.times[dim]
                ends = np.array([first + start * step, first + (stop - 1) * step])
                parts[-1] += " ({} to {})".format(*np.datetime_as_string(ends, "s"))
        return ", ".join(parts)


class NamedArray(xr.backends.BackendArray):
    """A variable of a file, whose errors name variable and file.

    Parameters
    ----------
    variable : Variable
        As xarray opened it: not read.
    name : str
        Its name.
    path : str
        Of the file.

    Examples
    --------
    >>> NamedArray(xr.Variable("x", [1.0]), "t", "a.nc").shape
    (1,)
    """

    def __init__(self, variable: xr.Variable, name: str, path: str) -> None:
        self.variable, self.name, self.path = variable, name, path
        self.shape, self.dtype = variable.shape, variable.dtype

    @property
    def inner(self) -> Any:
        """What is read, as xarray has it."""
        return held(self.variable)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return normalize_token(self.inner)

    def __getitem__(self, key: Any) -> Any:
        from xsphere.compat import by_outer_indices

        return by_outer_indices(key, self.shape, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        try:
            return self.variable[key].values
        except (RuntimeError, OSError) as error:
            # what disks and networks say has a number
            number = getattr(error, "errno", None)
            if number is not None and number > 0:
                raise
            reason = f"it cannot be read ({error}). Fetch or write the file again"
            where = f"{self.name} at {key}"
            raise CorruptChunkError(self.name, where, self.path, reason) from error


class _ObjectError(Exception):
    """An object of a store that cannot be used; its key is told, its place in the array is not."""

    def __init__(self, key: str, reason: str, inner: tuple[int, ...] | None = None) -> None:
        super().__init__(key, reason, inner)
        self.key, self.reason, self.inner = key, reason, inner


class _AbsentObjectError(_ObjectError):
    """An object that is not there."""


@dataclass(frozen=True)
class Shard:
    """How the chunks of a shard are found.

    Parameters
    ----------
    counts : tuple of int
        Number of chunks along each axis.
    at_start : bool
        Whether the index comes first.
    n_index : int
        Size of the index in bytes.
    """

    counts: tuple[int, ...]
    at_start: bool
    n_index: int

    def check(self, store: StrictStore, key: str, chunks: list[tuple[int, ...]]) -> None:
        """Refuse a shard in which chunks are missing or lie beyond its end."""
        index, length = self._index(store.unchecked, key)
        if index is None:
            return  # what that means is for the store to say
        for chunk in chunks:
            flat = int(np.ravel_multi_index(chunk, self.counts))
            offset, size = struct.unpack_from("<QQ", index, 16 * flat)
            if (offset, size) == (ABSENT, ABSENT):
                if store.require:
                    raise _AbsentObjectError(key, "the shard does not hold it", chunk)
                continue
            if offset + size > length:
                raise _ObjectError(key, "it lies beyond the end of its shard", chunk)

    def _index(self, store: Store, key: str) -> tuple[bytes | None, int]:
        from zarr.buffer import default_buffer_prototype

        request = (
            RangeByteRequest(0, self.n_index) if self.at_start else SuffixByteRequest(self.n_index)
        )
        index = done_by_zarr(store.get(key, default_buffer_prototype(), request))
        if index is None:
            return None, 0
        length = done_by_zarr(store.getsize(key))
        if length < self.n_index:
            raise _ObjectError(key, f"it has {length} bytes, too few for the index of a shard")
        return bytes(index.to_bytes()), length


def _shard_of(array: Any) -> Shard | None:
    """How to read the index of shards, if there are any and it is plain."""
    codecs = getattr(array.metadata, "codecs", ())
    sharded: Any = next((codec for codec in codecs if isinstance(codec, ShardingCodec)), None)
    if sharded is None:
        return None
    names = [type(codec).__name__ for codec in sharded.index_codecs]
    if names not in (["BytesCodec", "Crc32cCodec"], ["BytesCodec"]):
        return None
    counts = tuple(o // c for o, c in zip(outer_chunks(array), array.chunks, strict=True))
    at_start = str(getattr(sharded.index_location, "value", sharded.index_location)) == "start"
    return Shard(counts, at_start, 16 * math.prod(counts) + 4 * (len(names) - 1))


def _n_selected(key: Any, shape: tuple[int, ...]) -> int:
    """How many values an index of xarray selects."""
    lengths = [
        len(range(n)[i]) for i, n in zip(key.tuple, shape, strict=True) if isinstance(i, slice)
    ]
    arrays = [np.shape(index) for index in key.tuple if not isinstance(index, slice)]
    if type(key).__name__ == "VectorizedIndexer":
        # points: arrays go together, as those of a transposed array do
        return math.prod(lengths) * math.prod(np.broadcast_shapes(*arrays))
    return math.prod(lengths) * math.prod(math.prod(one) for one in arrays)
