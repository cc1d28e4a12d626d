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

from xsphere.stages import note_read

METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
ABSENT = 2**64 - 1


class ObjectError(Exception):
    """An object of a store that cannot be used; its key is told, its place in the array is not."""

    def __init__(self, key: str, reason: str, inner: tuple[int, ...] | None = None) -> None:
        super().__init__(key, reason, inner)
        self.key, self.reason, self.inner = key, reason, inner


class AbsentObjectError(ObjectError):
    """An object that is not there."""


class StrictStore(WrapperStore[Store]):
    """A store that may refuse to be without a chunk.

    Parameters
    ----------
    store : Store
        Where the chunks are.
    require : bool
        Whether chunks must be there.

    Examples
    --------
    >>> from zarr.storage import MemoryStore
    >>> StrictStore(MemoryStore(), require=True).read_only
    False
    """

    def __init__(self, store: Store, *, require: bool) -> None:
        super().__init__(store)
        self.require = require

    def _with_store(self, store: Store) -> "StrictStore":
        return type(self)(store, require=self.require)

    @property
    def unchecked(self) -> Store:
        """The store itself."""
        return self._store

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """The object, or None where objects may be missing."""
        found = await self._store.get(key, prototype, byte_range)
        if key.rsplit("/", 1)[-1] not in METADATA:
            if found is None and self.require:
                raise AbsentObjectError(key, "it is not in the store")
            note_read(0 if found is None else len(found))
        return found


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
                    raise AbsentObjectError(key, "the shard does not hold it", chunk)
                continue
            if offset + size > length:
                raise ObjectError(key, "it lies beyond the end of its shard", chunk)

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
