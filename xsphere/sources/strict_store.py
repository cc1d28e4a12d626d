"""A Zarr store that hands out no chunk that is missing or cut off.

It is imported where it is used, since Zarr is.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
# size of a Blosc header, and where it says how long its chunk is
BLOSC_HEADER, BLOSC_SIZES = 16, struct.Struct("<III")
ABSENT = 2**64 - 1


class ObjectError(Exception):
    """An object of a store that cannot be used; its key is told, its place in the array is not."""

    def __init__(self, key: str, reason: str, inner: tuple[int, ...] | None = None) -> None:
        super().__init__(key, reason, inner)
        self.key, self.reason, self.inner = key, reason, inner


class AbsentObjectError(ObjectError):
    """An object that is not there."""


@dataclass(frozen=True)
class ChunkRules:
    """What to hold chunks against.

    Parameters
    ----------
    require : bool
        Whether chunks must be there.
    blosc : bool
        Whether chunks begin with a Blosc header.
    sharded : bool
        Whether an object holds several chunks, see `Shard`.
    n_bytes : int, optional
        Size of a chunk once unpacked, where it is known.

    Examples
    --------
    >>> ChunkRules(require=True, blosc=False).n_bytes is None
    True
    """

    require: bool
    blosc: bool
    sharded: bool = False
    n_bytes: int | None = None


class StrictStore(WrapperStore[Store]):
    """A store whose chunks are checked before they are decoded.

    Parameters
    ----------
    store : Store
        Where the chunks are.
    rules : ChunkRules
        What to check.

    Examples
    --------
    >>> from zarr.storage import MemoryStore
    >>> StrictStore(MemoryStore(), ChunkRules(require=True, blosc=False)).read_only
    False
    """

    def __init__(self, store: Store, rules: ChunkRules) -> None:
        super().__init__(store)
        self.rules = rules

    def _with_store(self, store: Store) -> "StrictStore":
        return type(self)(store, self.rules)

    @property
    def unchecked(self) -> Store:
        """The store itself."""
        return self._store

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """The object, checked, or None where objects may be missing."""
        found = await self._store.get(key, prototype, byte_range)
        if key.rsplit("/", 1)[-1] in METADATA:
            return found
        if found is None:
            if self.rules.require:
                raise AbsentObjectError(key, "it is not in the store")
        elif self.rules.blosc and not self.rules.sharded:
            check_blosc(key, found[:BLOSC_HEADER].to_bytes(), len(found), self.rules.n_bytes)
        return found


def check_blosc(
    key: str, header: bytes, length: int, n_bytes: int | None, inner: Any = None
) -> None:
    """Refuse a Blosc chunk whose header tells of another length: decoding one may kill a process.

    See https://github.com/zarr-developers/numcodecs/issues/228.
    """
    if len(header) < BLOSC_HEADER:
        raise ObjectError(key, f"it has {length} bytes, too few for a Blosc header", inner)
    unpacked, _, packed = BLOSC_SIZES.unpack_from(header, 4)
    if packed != length:
        raise ObjectError(
            key, f"its Blosc header tells of {packed} bytes, but it has {length}", inner
        )
    if n_bytes is not None and unpacked != n_bytes:
        raise ObjectError(
            key, f"its Blosc header tells of {unpacked} bytes unpacked, expected {n_bytes}", inner
        )


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

    Examples
    --------
    >>> Shard((2, 3), at_start=False, n_index=100).counts
    (2, 3)
    """

    counts: tuple[int, ...]
    at_start: bool
    n_index: int

    def check(self, store: Store, key: str, chunks: list[tuple[int, ...]], rules: Any) -> None:
        """Refuse a shard in which chunks are missing, lie beyond its end or are cut off."""
        index, length = self._index(store, key)
        if index is None:
            return  # what that means is for the store to say
        for chunk in chunks:
            flat = int(np.ravel_multi_index(chunk, self.counts))
            offset, size = struct.unpack_from("<QQ", index, 16 * flat)
            if (offset, size) == (ABSENT, ABSENT):
                if rules.require:
                    raise AbsentObjectError(key, "the shard does not hold it", chunk)
                continue
            if offset + size > length:
                raise ObjectError(key, "it lies beyond the end of its shard", chunk)
            if rules.blosc:
                header = _part(store, key, RangeByteRequest(offset, offset + BLOSC_HEADER))
                check_blosc(key, header or b"", size, rules.n_bytes, chunk)

    def _index(self, store: Store, key: str) -> tuple[bytes | None, int]:
        request = (
            RangeByteRequest(0, self.n_index) if self.at_start else SuffixByteRequest(self.n_index)
        )
        index = _part(store, key, request)
        if index is None:
            return None, 0
        length = sync(store.getsize(key))
        if length < self.n_index:
            raise ObjectError(key, f"it has {length} bytes, too few for the index of a shard")
        return index, length


def _part(store: Store, key: str, request: Any) -> bytes | None:
    found: Any = sync(store.get(key, default_buffer_prototype(), request))
    return None if found is None else bytes(found.to_bytes())
