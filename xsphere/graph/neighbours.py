"""Nearest cells by chord distance, the same in every process whatever the ties."""

import numpy as np
from numpy.typing import NDArray

from xsphere.graph.links import healpix_nearest
from xsphere.graph.ties import ROUNDING, TIE_TOLERANCE
from xsphere.grids import Grid, HealpixGrid
from xsphere.notices import shortened

PAIRS_AT_ONCE = 1 << 20
Nearest = tuple[NDArray[np.int32], NDArray[np.float64]]


def nearest_neighbours(grid: Grid, k: int) -> Nearest:
    """The `k` nearest other cells of every cell, nearest first, by the distance of their centres.

    Distances that differ by less than one part in 10**9 count as equal; equal ones are ordered
    by position. Cells whose centres coincide are neighbours at distance 0.

    Parameters
    ----------
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, from 1 to ``n_cells - 1``.

    Returns
    -------
    ids : array of int32, shape (n_cells, k)
        Positions of the neighbours; never the cell itself.
    distances : array of float64, shape (n_cells, k)
        Chord lengths on the unit sphere, from 0 to 2.

    Raises
    ------
    TypeError
        If `k` is not an integer.
    ValueError
        If `k` is below 1 or the grid has no more than `k` cells.

    Examples
    --------
    >>> from xsphere.grids import PointGrid
    >>> ids, distances = nearest_neighbours(PointGrid(lon=[0, 10, 30], lat=[0, 0, 0]), k=1)
    >>> ids[:, 0]
    array([1, 0, 1], dtype=int32)
    >>> distances[:, 0].round(3)
    array([0.174, 0.174, 0.347])
    """
    check_neighbour_count(grid, k)
    if isinstance(grid, HealpixGrid) and grid.is_natural and grid.indexing_scheme == "nested":
        return healpix_nearest(grid.level, k)
    return nearest_points(grid.centres, grid.centres, k, own=np.arange(grid.n_cells))


def check_neighbour_count(grid: Grid, k: int) -> None:
    """Refuse a number of neighbours that the grid cannot have."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise TypeError(f"k must be an integer, got {shortened(k)}")
    if k < 1:
        raise ValueError(f"k must be at least 1 neighbour, got {k}")
    if k >= grid.n_cells:
        raise ValueError(
            f"k must be less than the number of cells, got k={k} for {grid.n_cells} cells in "
            f"{grid!r}; choose a smaller k or a finer grid"
        )


def nearest_points(
    points: NDArray[np.float64],
    targets: NDArray[np.float64],
    k: int,
    *,
    own: NDArray[np.integer] | None = None,
) -> Nearest:
    """Positions and distances of the `k` points nearest to each target; see `nearest_neighbours`.

    The targets may be points themselves, at the positions `own`: none is its own neighbour then.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    ids = np.empty((len(targets), k), np.int32)
    distances = np.empty((len(targets), k))
    pending = [(np.arange(len(targets)), min(2 * k + 8, len(points)))]
    while pending:
        rows, n_asked = pending.pop()
        n_now = max(1, PAIRS_AT_ONCE // n_asked)
        if rows.size > n_now:
            pending.append((rows[n_now:], n_asked))
            rows = rows[:n_now]
        _, nearest = tree.query(targets[rows], k=np.arange(1, n_asked + 1))
        found = np.asarray(nearest, np.intp)
        # a sum of three squares is the same number from either end: weights are symmetric
        lengths = np.sqrt(((points[found] - targets[rows][:, None]) ** 2).sum(axis=-1))
        if own is not None:
            lengths[found == own[rows][:, None]] = np.inf
        found, lengths, complete = _ordered(found, lengths, k)
        complete |= n_asked == len(points)
        ids[rows[complete]] = found[complete]
        distances[rows[complete]] = lengths[complete]
        if not complete.all():
            pending.append((rows[~complete], min(4 * n_asked, len(points))))
    return ids, distances


def _ordered(
    found: NDArray[np.intp], lengths: NDArray[np.float64], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """The `k` nearest with ties broken, and whether no tie reaches beyond what was found."""
    order = np.argsort(lengths, axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    lengths = np.take_along_axis(lengths, order, axis=1)
    with np.errstate(invalid="ignore"):  # inf - inf, behind everything else
        larger = np.diff(lengths, axis=1) > TIE_TOLERANCE * lengths[:, 1:] + ROUNDING
    # the gap before an infinite length is none by this rule, but is one
    larger |= np.isinf(lengths[:, 1:]) & np.isfinite(lengths[:, :-1])
    rank = np.concatenate([np.zeros((len(found), 1), int), larger.cumsum(axis=1)], axis=1)
    # the cell itself, if it is among them, is last and tells nothing of ties
    n_others = np.isfinite(lengths).sum(axis=1)
    last = np.take_along_axis(rank, n_others[:, None] - 1, axis=1)[:, 0]
    complete = last > rank[:, k - 1]
    order = np.lexsort((found, rank), axis=1)[:, :k]
    return np.take_along_axis(found, order, 1), np.take_along_axis(lengths, order, 1), complete
