"""Which steps of a store a task handles, and how many of them it reads at a time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xarray as xr

from xsphere.notices import warn_user
from xsphere.segmentation.node import SegmentNode
from xsphere.weights.apply import FIELDS_AT_ONCE

# in a task: seconds of work, so that what a scheduler costs does not count
BLOCK_SAMPLES = 48
# so many blocks, if chunks allow, before they grow to that: enough for every core to have some
FEW_BLOCKS = 32
# of a task's result
BLOCK_BYTES = 256 * 2**20
# of fields read at a time: a variable or the two components of a vector
READ_BYTES = 512 * 2**20
# an array that the C library takes from what was freed, rather than from the system page by page
REUSED_BYTES = 2**25
# how often a chunk may be decoded before it is said aloud
MANY_TIMES = 4


class ChunksWarning(UserWarning):
    """A store is laid out for other ways of reading."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How unread variables are cut into blocks along the first of their leading dimensions.

    Parameters
    ----------
    leading : tuple of (str, int)
        Dimensions that are not horizontal and their sizes, in the order of the result.
    core : tuple of str
        Horizontal dimensions in the order of the grid.
    block : int
        Steps along the first leading dimension in a task; the other dimensions are whole.
    read : int
        Steps read at a time.
    """

    leading: tuple[tuple[str, int], ...]
    core: tuple[str, ...]
    block: int
    read: int

    @classmethod
    def of(
        cls,
        arrays: Sequence[xr.DataArray],
        core: tuple[str, ...],
        node: SegmentNode,
        block_size: int | None = None,
    ) -> "Layout":
        """Layout of some variables, in blocks of whole stored chunks as far as memory allows."""
        whole = cls.whole(arrays, core)
        if not whole.leading:
            return whole
        leading = dict(whole.leading)
        first, *others = leading
        chunk = _common_chunk(arrays, first)
        n_others = math.prod(leading[dim] for dim in others)
        samples = min(BLOCK_SAMPLES, leading[first] * n_others // FEW_BLOCKS)
        block = block_size or _block(chunk, samples // n_others, n_others * _result_bytes(node))
        block = min(block, leading[first])
        # regridded together, as far as memory is used again that was used before
        together = min(FIELDS_AT_ONCE, REUSED_BYTES // max(1, _largest(arrays, first) // n_others))
        wanted = -(-max(node.inference.batch_size, together) // n_others)
        read = _read(arrays, first, min(chunk, block), wanted)
        return cls(leading=tuple(leading.items()), core=core, block=block, read=min(read, block))

    @classmethod
    def whole(cls, arrays: Sequence[xr.DataArray], core: tuple[str, ...]) -> "Layout":
        """Layout of variables that are one block."""
        leading = {
            str(dim): size
            for array in arrays
            for dim, size in array.sizes.items()
            if dim not in core
        }
        n_steps = next(iter(leading.values()), 1)
        return cls(leading=tuple(leading.items()), core=core, block=n_steps, read=n_steps)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the leading dimensions."""
        return tuple(dim for dim, _ in self.leading)

    @property
    def first(self) -> str | None:
        """Name of the leading dimension that is cut."""
        return self.leading[0][0] if self.leading else None

    @property
    def n_steps(self) -> int:
        """Length of the first leading dimension; 1 if there is none."""
        return self.leading[0][1] if self.leading else 1

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Chunks of the result's leading dimensions, as dask has them."""
        if not self.leading:
            return ()
        starts = range(0, self.n_steps, self.block)
        first = tuple(min(self.block, self.n_steps - start) for start in starts)
        return (first, *((size,) for _, size in self.leading[1:]))

    def parts(self, index: int) -> Iterator[slice]:
        """Steps of a block that are read together."""
        stop = min((index + 1) * self.block, self.n_steps)
        for start in range(index * self.block, stop, self.read):
            yield slice(start, min(start + self.read, stop))


def _common_chunk(arrays: Sequence[xr.DataArray], dim: str) -> int:
    """Steps after which a chunk ends in every variable."""
    chunks = [_stored_chunk(array, dim) for array in arrays if dim in array.dims]
    common = math.lcm(*chunks)
    return common if common <= MANY_TIMES * max(chunks) else max(chunks)


def _stored_chunk(array: xr.DataArray, dim: str) -> int:
    encoding = array.encoding
    preferred = encoding.get("preferred_chunks") or {}
    if dim in preferred:
        return min(max(1, int(preferred[dim])), array.sizes[dim])
    sizes = encoding.get("chunksizes") or encoding.get("chunks") or ()
    # a level may have been selected since: then sizes and dimensions no longer belong together
    if len(sizes) != array.ndim:
        return 1
    return min(max(1, int(sizes[array.dims.index(dim)])), array.sizes[dim])


def _result_bytes(node: SegmentNode) -> int:
    return math.prod(node.shape) * node.dtype.itemsize


def _block(chunk: int, wanted: int, result_bytes: int) -> int:
    """Steps in a block: whole chunks, or a part of one if its result would be too large."""
    fits = max(1, BLOCK_BYTES // result_bytes)
    if chunk > fits:
        return -(-chunk // -(-chunk // fits))
    return chunk * max(1, min(fits, wanted) // chunk)


def _largest(arrays: Sequence[xr.DataArray], dim: str) -> int:
    """Bytes of a step of the largest variable."""
    return max(a.nbytes // a.sizes[dim] for a in arrays if dim in a.dims)


def _read(arrays: Sequence[xr.DataArray], dim: str, chunk: int, wanted: int) -> int:
    """Steps that are read at a time: whole chunks, as far as memory allows."""
    largest = _largest(arrays, dim)
    fits = max(1, READ_BYTES // (2 * largest))
    if chunk <= fits:
        return chunk * max(1, min(-(-wanted // chunk), fits // chunk))
    times = -(-chunk // fits)
    if times > MANY_TIMES:
        warn_user(
            f"the store has chunks of {chunk} steps along {dim!r} ("
            f"{2 * largest * chunk / 2**30:.1f} GiB for whole maps of two variables): each is "
            f"decoded {times} times to be read in parts; a copy with fewer steps in a chunk, "
            f"ds.chunk({{{dim!r}: {fits}}}).to_zarr(...), is read once",
            ChunksWarning,
        )
    return -(-chunk // times)
