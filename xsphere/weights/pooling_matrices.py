"""Averages over finer cells and copies of coarser ones, as sparse matrices, between any grids."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import Grid, HealpixGrid, PointGrid
from xsphere.grids.voronoi import distinct_places, voronoi_problem
from xsphere.weights.assembly import canonical
from xsphere.weights.conservative import conservative_weights
from xsphere.weights.interpolation import nearest_weights


def pooling_matrix(fine: Grid, coarse: Grid) -> sparse.csr_array:
    """Mean over the fine cells of each coarse cell: (coarse, fine), rows sum to 1.

    Between HEALPix grids a fine cell belongs to its ancestor, in any indexing scheme and
    order; for nested order the matrix is a reshape to (coarse, 4**levels) and a mean. Between
    other grids a fine cell counts by the area that it shares with the coarse one. Points without
    bounds stand for their Voronoi polygons, and points at one place share one equally.

    Points that leave a hemisphere empty, as a regional network does, have no such polygons. Then a
    fine cell belongs to the coarse cell that holds its centre, or whose point is nearest to it; the
    mean is weighted by the areas of the fine cells, or by none if it is they that have no polygons.

    Parameters
    ----------
    fine, coarse : Grid
        Two grids of which the fine one covers a part at least of every cell of the coarse one; for
        HEALPix the coarse level is not above the fine one, for others the coarse grid has no more
        cells.

    Returns
    -------
    sparse array of float64, shape (coarse.n_cells, fine.n_cells)
        Of a constant it makes the same constant. The integral is kept where both grids fill the
        sphere and share areas.

    Raises
    ------
    ValueError
        If the grids are the wrong way round, a fine cell has no ancestor in `coarse`, or a coarse
        cell has no fine cell.

    Examples
    --------
    >>> pool = pooling_matrix(HealpixGrid(1), HealpixGrid(0))
    >>> pool[[2]].indices, pool[[2]].data
    (array([ 8,  9, 10, 11], dtype=int32), array([0.25, 0.25, 0.25, 0.25]))
    >>> stations = PointGrid.random(100)
    >>> pooling_matrix(stations, HealpixGrid(0)).shape
    (12, 100)
    """
    _check_order(fine, coarse)
    if isinstance(fine, HealpixGrid) and isinstance(coarse, HealpixGrid):
        shares = canonical(_copies(coarse, fine).T)
    else:
        shares = _shares(fine, coarse, _members)
    return _rows_of_one(shares, coarse=coarse, fine=fine)


def unpooling_matrix(coarse: Grid, fine: Grid) -> sparse.csr_array:
    """Mean over the coarse cells of each fine cell: (fine, coarse), rows sum to 1.

    Where cells nest, as between HEALPix grids, these are copies of the coarse cells, and pooling
    gives them back: ``pooling_matrix(fine, coarse) @ unpooling_matrix(coarse, fine)`` is the
    identity. Where fine cells lie in several coarse ones it smooths instead: only constants and,
    on grids that fill the sphere, the integral come back.

    Parameters
    ----------
    coarse, fine : Grid
        As for `pooling_matrix`, the other way round; the coarse one covers a part at least of
        every cell of the fine one.

    Returns
    -------
    sparse array of float64, shape (fine.n_cells, coarse.n_cells)
        Rows sum to 1.

    Raises
    ------
    ValueError
        If the grids are the wrong way round, or a fine cell has no ancestor or no coarse cell.

    Examples
    --------
    >>> unpool = unpooling_matrix(HealpixGrid(0), HealpixGrid(1))
    >>> (unpool @ np.arange(12.0))[[0, 3, 4, 47]]
    array([ 0.,  0.,  1., 11.])
    """
    _check_order(fine, coarse)
    if isinstance(fine, HealpixGrid) and isinstance(coarse, HealpixGrid):
        return _copies(coarse, fine)
    return _rows_of_one(_shares(coarse, fine, nearest_weights), fine=fine, coarse=coarse)


def _check_order(fine: Grid, coarse: Grid) -> None:
    healpix = isinstance(fine, HealpixGrid) and isinstance(coarse, HealpixGrid)
    if healpix and coarse.level > fine.level:  # type: ignore[attr-defined]
        raise ValueError(
            f"the coarse grid must not have a higher level than the fine one, got {coarse!r} as "
            f"the coarse and {fine!r} as the fine grid; swap them"
        )
    if not healpix and coarse.n_cells > fine.n_cells:
        raise ValueError(
            f"the coarse grid must not have more cells than the fine one, got {coarse!r} as the "
            f"coarse and {fine!r} as the fine grid; swap them, or {_remedy(fine, coarse)}"
        )


def _copies(coarse: HealpixGrid, fine: HealpixGrid) -> sparse.csr_array:
    """A single 1 in every row, on the ancestor."""
    parents = coarse.positions_of(fine.nested_ids >> 2 * (fine.level - coarse.level))
    orphans = np.flatnonzero(parents < 0)
    if orphans.size:
        raise ValueError(
            f"every cell of the fine {fine!r} needs its ancestor in the coarse {coarse!r}, but "
            f"{orphans.size} have none, such as the cell at position {orphans[0]}; "
            f"{_remedy(fine, coarse)}"
        )
    n_fine = fine.n_cells
    return sparse.csr_array(
        (np.ones(n_fine), parents.astype(np.int32), np.arange(n_fine + 1, dtype=np.int32)),
        shape=(n_fine, coarse.n_cells),
    )


def _rows_of_one(shares: sparse.csr_array, **grids: Grid) -> sparse.csr_array:
    """Rows divided by their sums, once all have one; the grids of rows and columns by name."""
    (row_name, rows), (column_name, columns) = grids.items()
    totals = np.asarray(shares.sum(axis=1))
    missing = np.flatnonzero(~(totals > 0))
    if missing.size:
        raise ValueError(
            f"every cell of the {row_name} {rows!r} needs cells of the {column_name} {columns!r}, "
            f"but {missing.size} have none, such as the cell at position {missing[0]}; "
            f"{_remedy(rows, columns)}"
        )
    data = shares.data / np.repeat(totals, np.diff(shares.indptr))
    return sparse.csr_array((data, shares.indices, shares.indptr), shape=shares.shape)


def _remedy(*grids: Grid) -> str:
    if all(isinstance(grid, HealpixGrid) for grid in grids):
        return "take fine.at_level(level) as the coarse grid"
    return "choose grids of the same region, the coarse one coarser"


def _shares(
    source: Grid, target: Grid, without_areas: Callable[[Grid, Grid], sparse.csr_array]
) -> sparse.csr_array:
    """Conservative weights, or others where a grid has no areas, of points at different places."""
    (from_places, place), (to_places, to_place) = _places(source), _places(target)
    if _has_polygons(from_places) and _has_polygons(to_places):
        weights = conservative_weights(_with_polygons(from_places), _with_polygons(to_places))
    else:
        weights = without_areas(from_places, to_places)
    # points at one place have one cell: as targets each has all of it, as sources an equal part
    return canonical(weights[to_place][:, place] / np.bincount(place)[place])


def _places(grid: Grid) -> tuple[Grid, NDArray[np.intp]]:
    """Points at different places, and which of them every cell of the grid is at."""
    if isinstance(grid, PointGrid) and not grid.has_bounds:
        first, place = distinct_places(grid.centres)
        if first.size < grid.n_cells:
            return PointGrid(grid.lon[first], grid.lat[first]), place
    return grid, np.arange(grid.n_cells)


def _has_polygons(grid: Grid) -> bool:
    """Whether the cells have edges, or Voronoi cells do."""
    bare = isinstance(grid, PointGrid) and not grid.has_bounds
    return not bare or voronoi_problem(grid.centres) is None


def _with_polygons(grid: Grid) -> Grid:
    if isinstance(grid, PointGrid) and not grid.has_bounds:
        return grid.with_voronoi_bounds()
    return grid


def _members(fine: Grid, coarse: Grid) -> sparse.csr_array:
    """Areas of the fine cells that belong to each coarse one by their centres."""
    members = nearest_weights(coarse, fine)
    areas = fine.areas if _has_polygons(fine) else np.ones(fine.n_cells)
    return canonical((sparse.diags_array(areas) @ members).T)
