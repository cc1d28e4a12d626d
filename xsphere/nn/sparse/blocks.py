"""Blocks of cells with what surrounds them, so that whole convolutions stay in a core's cache.

A polynomial of the Laplacian reaches as many rings of neighbours around a block as its degree. Each
block carries these cells, numbered from its own outwards, and the rows of the matrix that it needs:
the few cells that several blocks work out cost less than passing every order through main memory.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.nn.sparse.matrices import FixedMatrices

# Cells of a block and its rings, as a multiple of its own: more cost more than they save.
MOST_AROUND = 2.5


@dataclass(frozen=True, eq=False)
class Block:
    """Cells of a range and of the rings around them, with their part of the matrices.

    Parameters
    ----------
    start, stop : int
        The range of cells that is the block's own.
    ids : array of int32, shape (n,)
        Its own cells, then ring by ring those around it.
    counts : array of int32, shape (n_rings + 1,)
        Number of cells up to each ring; the first is ``stop - start``.
    indptr, indices : arrays of int32
        Rows of the matrices for all cells but those of the last ring; columns are places in `ids`.
    values : array of float, shape (n_matrices, n_entries)
        Entries of these rows.

    Examples
    --------
    >>> from scipy import sparse
    >>> ring = sparse.csr_array(np.roll(np.eye(8), 1, axis=1))
    >>> made = blocks(FixedMatrices([ring]), n_rows=4, n_rings=2, dtype=np.dtype("f4"))
    >>> first = made.parts[0]
    >>> first.ids.tolist(), first.counts.tolist()
    ([0, 1, 2, 3, 4, 5], [4, 5, 6])
    """

    start: int
    stop: int
    ids: NDArray[np.int32]
    counts: NDArray[np.int32]
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    values: NDArray[Any]

    @property
    def n_own(self) -> int:
        """Number of the block's own cells."""
        return self.stop - self.start

    @property
    def entries(self) -> tuple[int, ...]:
        """Its row of the table of blocks."""
        arrays = (self.ids, self.counts, self.indptr, self.indices, self.values)
        addresses = (array.ctypes.data for array in arrays)
        return self.start, self.stop, len(self.ids), *addresses, self.values.strides[0]


@dataclass(frozen=True, eq=False)
class Blocks:
    """All blocks of a grid.

    Parameters
    ----------
    parts : list of Block
        In the order of cells.
    """

    parts: list[Block]

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """Of compiled loops, shape (n_blocks, 9).

        First cell, end, cells with rings; where ids, counts, positions, columns and values stand;
        bytes from the values of one matrix to the next.
        """
        return np.array([block.entries for block in self.parts], np.int64)

    @cached_property
    def n_most(self) -> int:
        """Cells of the largest block and its rings."""
        return max(len(block.ids) for block in self.parts)


def blocks(matrices: FixedMatrices, *, n_rows: int, n_rings: int, dtype: np.dtype[Any]) -> Blocks:
    """Blocks that together have every row once.

    Parameters
    ----------
    matrices : FixedMatrices
        Square matrices.
    n_rows : int
        Most cells of a block, a multiple of 4.
    n_rings : int
        Rings around each.
    dtype : dtype
        Of the values.

    Returns
    -------
    Blocks
        Made at the first call and kept with the matrices.

    Examples
    --------
    >>> from scipy import sparse
    >>> matrices = FixedMatrices([sparse.eye_array(12).tocsr()])
    >>> made = blocks(matrices, n_rows=8, n_rings=1, dtype=np.dtype("f4"))
    >>> [len(block.ids) for block in made.parts]
    [8, 4]
    """
    return matrices.kept(
        ("blocks", n_rows, n_rings, dtype.str), lambda: _blocks(matrices, n_rows, n_rings, dtype)
    )


def local_rows(matrices: FixedMatrices, *, n_rows: int, n_rings: int) -> int | None:
    """Cells of blocks that are not much smaller than with the rings around them.

    Parameters
    ----------
    matrices : FixedMatrices
        Square matrices.
    n_rows : int
        Cells that fit best; up to 8 times as many are taken where neighbours are farther apart in
        memory, as across the rows of a longitude-latitude grid.
    n_rings : int
        Rings around each.

    Returns
    -------
    int or None
        None where one block has all cells, or neighbours stand anywhere, as those of stations in
        no order do.

    Examples
    --------
    >>> from scipy import sparse
    >>> near = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(4000, 4000)).tocsr()
    >>> local_rows(FixedMatrices([near]), n_rows=100, n_rings=2)
    100
    >>> far = sparse.random_array((4000, 4000), density=0.002, rng=0)
    >>> local_rows(FixedMatrices([far]), n_rows=100, n_rings=2) is None
    True
    """
    key = ("local rows", n_rows, n_rings)
    return matrices.kept(key, lambda: _local_rows(matrices, n_rows, n_rings))


def _local_rows(matrices: FixedMatrices, n_rows: int, n_rings: int) -> int | None:
    from xsphere.nn.sparse.rings import with_rings

    n_cells = matrices.shape[0]
    places = np.full(n_cells, -1, np.int32)
    nothing = np.empty((0, matrices.indices.size), np.float32)
    for larger in (1, 2, 4, 8):
        n_own = n_rows * larger
        if n_own >= n_cells:
            return None
        n_all = 0
        # blocks at the beginning, in the middle and at the end stand for all
        for start in (0, (n_cells - n_own) // 2, n_cells - n_own):
            ids, *_ = with_rings(
                matrices.indptr, matrices.indices, nothing, start, start + n_own, n_rings, places
            )
            n_all += len(ids)
        if n_all <= 3 * MOST_AROUND * n_own:
            return n_own
    return None


def _blocks(matrices: FixedMatrices, n_rows: int, n_rings: int, dtype: np.dtype[Any]) -> Blocks:
    from xsphere.nn.sparse.rings import with_rings

    n_cells = matrices.shape[0]
    values = np.ascontiguousarray(matrices.values, dtype)
    places = np.full(n_cells, -1, np.int32)
    made = []
    for start in range(0, n_cells, n_rows):
        stop = min(start + n_rows, n_cells)
        parts = with_rings(matrices.indptr, matrices.indices, values, start, stop, n_rings, places)
        made.append(Block(start, stop, *parts))
    return Blocks(made)
