"""Averages over finer cells and copies of coarser ones, as sparse matrices."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.graph.neighbours import nearest_points
from xsphere.grids import Grid, HealpixGrid


def pooling_matrix(fine: Grid, coarse: Grid) -> sparse.csr_array:
    """Mean over the fine cells of each coarse cell: (coarse, fine), rows sum to 1.

    Between HEALPix grids a fine cell belongs to its ancestor, in any indexing scheme and
    order; between other grids to the coarse cell with the nearest centre, and the mean is
    weighted by the areas of the fine cells. For HEALPix grids in nested order it is a reshape to
    (coarse, 4**levels) and a mean.

    Parameters
    ----------
    fine, coarse : Grid
        Two grids that cover the same region; for HEALPix the coarse level is not above the fine
        one.

    Returns
    -------
    sparse array of float64, shape (coarse.n_cells, fine.n_cells)
        Of a constant it makes the same constant.

    Raises
    ------
    ValueError
        If the levels are the wrong way round, a fine cell has no ancestor in `coarse`, or a coarse
        cell has no fine cell.

    Examples
    --------
    >>> pool = pooling_matrix(HealpixGrid(1), HealpixGrid(0))
    >>> pool[[2]].indices, pool[[2]].data
    (array([ 8,  9, 10, 11], dtype=int32), array([0.25, 0.25, 0.25, 0.25]))
    """
    parents = _parents(fine, coarse)
    n_children = np.bincount(parents, minlength=coarse.n_cells)
    if (n_children == 0).any():
        missing = np.flatnonzero(n_children == 0)
        raise ValueError(
            f"every cell of the coarse {coarse!r} needs cells of the fine {fine!r}, but "
            f"{missing.size} have none, such as the cell at position {missing[0]}; {_remedy(fine)}"
        )
    areas = fine.areas
    total = np.bincount(parents, weights=areas, minlength=coarse.n_cells)
    # cells without an area, as a repeated column, count only where there are no others
    weights = np.where(total[parents] > 0, areas, 1.0)
    weights = weights / np.bincount(parents, weights=weights, minlength=coarse.n_cells)[parents]
    matrix = sparse.csr_array(
        (weights, (parents, np.arange(fine.n_cells, dtype=np.int32))),
        shape=(coarse.n_cells, fine.n_cells),
    )
    matrix.sort_indices()
    return matrix


def unpooling_matrix(coarse: Grid, fine: Grid) -> sparse.csr_array:
    """Copies of each coarse cell in its fine cells: (fine, coarse), a single 1 in every row.

    Pooling what was unpooled gives it back: ``pooling_matrix(fine, coarse) @ unpooling_matrix(
    coarse, fine)`` is the identity.

    Parameters
    ----------
    coarse, fine : Grid
        As for `pooling_matrix`, the other way round.

    Returns
    -------
    sparse array of float64, shape (fine.n_cells, coarse.n_cells)
        Rows sum to 1.

    Raises
    ------
    ValueError
        If the levels are the wrong way round or a fine cell has no ancestor in `coarse`.

    Examples
    --------
    >>> unpool = unpooling_matrix(HealpixGrid(0), HealpixGrid(1))
    >>> (unpool @ np.arange(12.0))[[0, 3, 4, 47]]
    array([ 0.,  0.,  1., 11.])
    """
    parents = _parents(fine, coarse)
    n_fine = fine.n_cells
    return sparse.csr_array(
        (np.ones(n_fine), parents, np.arange(n_fine + 1, dtype=np.int32)),
        shape=(n_fine, coarse.n_cells),
    )


def _parents(fine: Grid, coarse: Grid) -> NDArray[np.int32]:
    """Position of the coarse cell that each fine cell belongs to."""
    if not (isinstance(fine, HealpixGrid) and isinstance(coarse, HealpixGrid)):
        ids, _ = nearest_points(coarse.centres, fine.centres, 1)
        return ids[:, 0]
    if coarse.level > fine.level:
        raise ValueError(
            f"the coarse grid must not have a higher level than the fine one, got {coarse!r} as "
            f"the coarse and {fine!r} as the fine grid; swap them"
        )
    parents = coarse.positions_of(fine.nested_ids >> 2 * (fine.level - coarse.level))
    orphans = np.flatnonzero(parents < 0)
    if orphans.size:
        raise ValueError(
            f"every cell of the fine {fine!r} needs its ancestor in the coarse {coarse!r}, but "
            f"{orphans.size} have none, such as the cell at position {orphans[0]}; "
            f"{_remedy(fine)}"
        )
    return parents.astype(np.int32)


def _remedy(fine: Grid) -> str:
    if isinstance(fine, HealpixGrid):
        return "take fine.at_level(level) as the coarse grid"
    return "choose a coarser grid of the same region"
