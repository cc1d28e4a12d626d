"""How much is read of stored variables: told by metadata and sizes of objects, without reading."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.sources.contents import file_of, local_folder, outer_chunks, plain_store, touched
from xsphere.sources.fingerprints import leaves_of, opened_leaf
from xsphere.sources.wrappers import Leaf

# objects of a variable whose sizes are asked for; of more, some stand for all
MOST_FILES = 2**17
MOST_REMOTE = 2**10


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Bytes that some work reads of a variable.

    Parameters
    ----------
    stored : float or None
        In the store, each chunk once; None where nothing tells.
    read : float or None
        In the store, each chunk as often as it is read.
    needed : int
        Decoded, each chunk once.
    decoded : int
        Decoded, each chunk as often as it is read.
    n_missing : int
        Objects of the store that are not there.
    sampled : bool
        Whether the sizes of some objects stand for all.

    Examples
    --------
    >>> one = Volume(stored=1.0, read=2.0, needed=4, decoded=8)
    >>> (one + one).read
    4.0
    """

    stored: float | None
    read: float | None
    needed: int
    decoded: int
    n_missing: int = 0
    sampled: bool = False

    def __add__(self, other: "Volume") -> "Volume":
        return Volume(
            stored=_sum(self.stored, other.stored),
            read=_sum(self.read, other.read),
            needed=self.needed + other.needed,
            decoded=self.decoded + other.decoded,
            n_missing=self.n_missing + other.n_missing,
            sampled=self.sampled or other.sampled,
        )


def volume(variable: xr.Variable, dim: str | None, parts: Sequence[slice]) -> Volume:
    """What is read of a variable, part by part along a dimension.

    Parameters
    ----------
    variable : Variable
        Lazy, chunked or in memory; nothing is read.
    dim : str or None
        The dimension that is cut; a variable without it is read whole with each part.
    parts : sequence of slice
        Steps that are read together; of each part, a chunk is decoded once.

    Returns
    -------
    Volume
        Nothing for values in memory.

    Examples
    --------
    >>> volume(xr.Variable("time", [1.0, 2.0]), "time", [slice(0, 2)]).decoded
    0
    """
    leaf = opened_leaf(variable)
    if leaf is not None and (selection := leaf.selection()) is not None:
        chunks = _Chunks.of(leaf, selection, variable)
        return chunks.volume(_axis(leaf, variable, dim), parts)
    leaves = leaves_of(variable)
    if not leaves:
        return Volume(stored=0.0, read=0.0, needed=0, decoded=0)
    # points, or tasks between the store and the variable: how much of it they read is their own
    share = float(len(parts))
    if dim in variable.dims:
        share = sum(len(range(variable.sizes[dim])[part]) for part in parts) / variable.sizes[dim]
    decoded = round(share * variable.nbytes)
    return Volume(stored=None, read=None, needed=variable.nbytes, decoded=decoded)


def chunk_bytes(variable: xr.Variable) -> int:
    """Decoded size of a stored chunk of a variable; 0 if it has none."""
    leaf = opened_leaf(variable)
    if leaf is None or (selection := leaf.selection()) is None:
        return 0
    chunks = _Chunks.of(leaf, selection, variable)
    return math.prod(chunks.inner) * chunks.itemsize


def stored_dtype(variable: xr.Variable) -> np.dtype[Any]:
    """Of the values before they are unpacked."""
    leaf = opened_leaf(variable)
    dtype: np.dtype[Any] = variable.dtype if leaf is None else np.dtype(leaf.stored.dtype)
    return dtype


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """Chunks of a stored array, and what is selected of it."""

    leaf: Leaf
    selection: tuple[NDArray[np.int64], ...]
    # what is decoded at once, and what is one object: a shard holds several chunks
    inner: tuple[int, ...]
    outer: tuple[int, ...]
    source: str | None

    @classmethod
    def of(
        cls, leaf: Leaf, selection: tuple[NDArray[np.int64], ...], variable: xr.Variable
    ) -> "_Chunks":
        array, source = leaf.zarr_array, variable.encoding.get("source")
        if array is not None:
            inner, outer = tuple(array.chunks), outer_chunks(array)
        else:
            sizes = variable.encoding.get("chunksizes") or ()
            shape = leaf.stored.shape
            inner = outer = tuple(sizes) if len(sizes) == len(shape) else (1,) * len(shape)
        return cls(leaf=leaf, selection=selection, inner=inner, outer=outer, source=source)

    @property
    def itemsize(self) -> int:
        return int(np.dtype(self.leaf.stored.dtype).itemsize)

    def volume(self, axis: int | None, parts: Sequence[slice]) -> Volume:
        """What is read in parts along an axis; whole with every part if there is none."""
        places = touched(self.selection, self.leaf.stored.shape, self.inner)
        if axis is None:
            axis, first = 0, np.array(places[0])
            times = np.full(first.size, len(parts))
        else:
            first, times = _times_read(self.selection[axis] // self.inner[axis], parts)
        others = math.prod(len(place) for a, place in enumerate(places) if a != axis)
        each = others * math.prod(self.inner) * self.itemsize
        if self.leaf.zarr_array is None:
            sizes, n_missing, sampled = self._file_sizes(first.size), 0, False
        else:
            sizes, n_missing, sampled = self._sizes(axis, first, places)
        return Volume(
            stored=None if sizes is None else float(sizes.sum()),
            read=None if sizes is None else float(sizes @ times),
            needed=each * first.size,
            decoded=each * int(times.sum()),
            n_missing=n_missing,
            sampled=sampled,
        )

    def _sizes(
        self, axis: int, first: NDArray[np.int64], places: Sequence[Any]
    ) -> tuple[NDArray[np.float64] | None, int, bool]:
        """Stored bytes for each chunk number along an axis, objects not there, if sampled."""
        ratio = [o // i for o, i in zip(self.outer, self.inner, strict=True)]
        objects = touched(self.selection, self.leaf.stored.shape, self.outer)
        part = 1.0 / ratio[axis]
        for other, (chunks, whole) in enumerate(zip(places, objects, strict=True)):
            if other != axis:
                part *= min(1.0, len(chunks) / (len(whole) * ratio[other]))
        leading, within = np.unique(first // ratio[axis], return_inverse=True)
        objects[axis] = leading.tolist()
        sums, n_missing, sampled = _object_sizes(self.leaf.zarr_array, objects, axis)
        return None if sums is None else sums[within] * part, n_missing, sampled

    def _file_sizes(self, n_chunks: int) -> NDArray[np.float64] | None:
        """Bytes of a file for each chunk, as if all its variables were packed as tightly."""
        path = file_of(self.leaf, self.source)
        stored = getattr(getattr(self.leaf.stored, "datastore", None), "ds", None)
        variables = getattr(stored, "variables", None)
        if path is None or not variables:
            return None
        plain = [v for v in variables.values() if hasattr(v.dtype, "itemsize")]
        total = sum(math.prod(v.shape) * v.dtype.itemsize for v in plain)
        selected = math.prod(map(len, self.selection)) * self.itemsize
        share = path.stat().st_size * selected / max(1, total)
        return np.full(n_chunks, share / n_chunks)


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _axis(leaf: Leaf, variable: xr.Variable, dim: str | None) -> int | None:
    """Axis of the stored array that a dimension is, whatever was selected along others."""
    if dim not in variable.dims:
        return None
    axes = list(range(len(leaf.stored.shape)))
    for layer in reversed(leaf.layers):
        key = getattr(layer, "key", None)
        if key is not None:
            kept = [isinstance(i, slice) or np.ndim(i) > 0 for i in key.tuple]
            axes = [axis for axis, keep in zip(axes, kept, strict=True) if keep]
    return axes[variable.dims.index(dim)]


def _times_read(
    chunks: NDArray[np.int64], parts: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of chunks, and in how many of the parts each has a step."""
    numbers = [np.unique(chunks[part]) for part in parts]
    first, times = np.unique(np.concatenate(numbers), return_counts=True)
    return first, times


def _object_sizes(
    array: Any, objects: Sequence[Any], axis: int
) -> tuple[NDArray[np.float64] | None, int, bool]:
    """Stored bytes of objects, summed for each number along an axis; those missing; if sampled."""
    leading = list(objects[axis])
    n_others = math.prod(len(o) for a, o in enumerate(objects) if a != axis)
    folder = local_folder(array)
    most = max(1, (MOST_REMOTE if folder is None else MOST_FILES) // max(1, n_others))
    spread = np.linspace(0, len(leading) - 1, min(most, len(leading))).astype(int)
    chosen = [leading[i] for i in np.unique(spread)]
    encode = array.metadata.encode_chunk_key
    keys = [
        encode((*place[:axis], number, *place[axis:]))
        for number in chosen
        for place in product(*(o for a, o in enumerate(objects) if a != axis))
    ]
    sizes = _remote_sizes(array, keys) if folder is None else _file_sizes(folder, keys)
    if sizes is None:
        return None, 0, False
    found = np.array([size or 0 for size in sizes], float).reshape(len(chosen), -1).sum(axis=1)
    sampled = len(chosen) < len(leading)
    whole = np.full(len(leading), found.mean()) if sampled else found
    return whole, sum(size is None for size in sizes), sampled


def _file_sizes(folder: str, keys: Sequence[str]) -> list[int | None]:
    sizes: list[int | None] = []
    for key in keys:
        try:
            sizes.append(os.stat(f"{folder}/{key}").st_size)
        except FileNotFoundError:
            sizes.append(None)
    return sizes


def _remote_sizes(array: Any, keys: Sequence[str]) -> list[int | None] | None:
    """Sizes as the store tells them; None if it would have to read the objects to tell."""
    import asyncio

    from zarr.abc.store import Store
    from zarr.core.sync import sync

    store = plain_store(array.store)
    in_memory = type(store).__name__ == "MemoryStore"
    if type(store).getsize is Store.getsize and not in_memory:
        return None

    async def size(key: str) -> int | None:
        try:
            return int(await store.getsize(f"{array.path}/{key}".lstrip("/")))
        except FileNotFoundError:
            return None

    async def sizes() -> list[int | None]:
        return list(await asyncio.gather(*map(size, keys)))

    found: list[int | None] = sync(sizes())
    return found
