"""Neighbours from which derivatives are taken: as near and as evenly around a cell as may be.

The nearest cells of a longitude-latitude grid all lie in one row near a pole, and points that
coincide say nothing of a derivative, so these are not the neighbours of a graph.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.graph.neighbours import nearest_points
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.grids.spacing import COORDINATE_TOLERANCE
from xsphere.grids.voronoi import distinct_places


def stencil(grid: Grid, k: int, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the cells around some cells, shape (cells.size, at least k).

    Blocks of rows and columns on a longitude-latitude grid, none over a gap; elsewhere the `k`
    nearest distinct places. -1 all along the row of a cell that has no such block.
    """
    if isinstance(grid, LatLonGrid):
        return _block_stencil(grid, k)[cells]
    first, place = _distinct(grid)
    if k >= first.size:
        raise ValueError(
            f"k must be less than the number of distinct cells, got k={k} for {first.size} in "
            f"{grid!r}; choose a smaller k or a finer grid"
        )
    places, of_cell = np.unique(place[cells], return_inverse=True)
    points = grid.centres[first]
    ids, _ = nearest_points(points, points[places], k, own=places)
    return first[ids][of_cell]


def whole_stencil(grid: Grid, k: int, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `stencil`, where every cell must have one."""
    ids = stencil(grid, k, cells)
    lacking = int((ids[:, 0] < 0).sum())
    if lacking:
        raise ValueError(
            f"stencils of {k} neighbours need more rows and columns between gaps, got {lacking} "
            f"cells of {grid!r} with too few; choose a smaller k, or to_healpix() first"
        )
    return ids


def distinct_count(grid: Grid) -> int:
    """Number of different places that the cells of a grid have."""
    return _distinct(grid)[0].size


def _distinct(grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First cell at each place, and the place of each cell, both in the order of the cells."""
    if isinstance(grid, HealpixGrid):
        return np.arange(grid.n_cells), np.arange(grid.n_cells)
    first, place = distinct_places(grid.centres)
    order = np.argsort(first)
    return first[order].astype(np.int64), np.argsort(order)[place].astype(np.int64)


def _block_stencil(grid: LatLonGrid, k: int) -> NDArray[np.int64]:
    """Blocks of (2 r + 1)**2 cells, their columns spread to about the distance of the rows."""
    n_lat, n_lon = grid.lat.size, grid.lon.size - grid.has_cyclic_column
    radius = int(np.ceil((np.sqrt(k + 1) - 1) / 2))
    row_runs, column_runs = _Runs.of(grid.joined_rows), _Runs.of_circle(grid.joined_columns)
    need = 2 * radius + 1
    enough = (row_runs.length >= need)[:, None] & (column_runs.length >= need)
    if not enough.any():
        raise ValueError(
            f"stencils of {k} neighbours need at least {need} rows and columns, got "
            f"{n_lat} x {n_lon} in {grid!r}, or fewer between gaps"
        )
    offsets = np.arange(-radius, radius + 1)
    rows, turned = _rows_around(grid, offsets, row_runs)
    step = _column_steps(grid, n_lon, radius)[:, None]
    if grid.periodic:
        # (row, column, row offset, column offset)
        around = np.arange(n_lon)[None, :, None, None] + (step[:, :, None] * offsets)[:, None]
        around = around + turned[:, None, :, None]
    else:
        step = np.minimum(step, (column_runs.length - 1) // (2 * radius))
        start = (column_runs.place - radius * step).clip(
            0, column_runs.length - 1 - 2 * radius * step
        )
        around = column_runs.first + start
        around = around[:, :, None, None] + step[:, :, None, None] * (offsets + radius)
    ids = rows[:, None, :, None] * grid.lon.size + around % n_lon
    ids = np.where(enough[:, :, None], ids.reshape(n_lat, n_lon, -1), -1)
    if grid.has_cyclic_column:
        ids = np.concatenate([ids, ids[:, :1]], axis=1)
    return ids.reshape(n_lat * grid.lon.size, -1)


class _Runs(NamedTuple):
    """Runs of neighbours without gaps: of every member the first, the length, and its place."""

    first: NDArray[np.int64]
    length: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, joined: NDArray[np.bool_]) -> "_Runs":
        """Runs along an axis; `joined` says whether each member touches the next."""
        run = np.concatenate([[0], np.cumsum(~joined)])
        first = np.searchsorted(run, run)
        return cls(first, np.bincount(run)[run], np.arange(run.size) - first)

    @classmethod
    def of_circle(cls, joined: NDArray[np.bool_]) -> "_Runs":
        """Runs around a circle; the last flag joins the last member to the first."""
        n, turn = joined.size, int(np.argmin(joined)) + 1
        if joined.all():
            return cls.of(joined[:-1])
        runs = cls.of(np.roll(joined, -turn)[:-1])
        back = np.arange(n) - turn
        return cls((runs.first + turn)[back], runs.length[back], runs.place[back])


def _rows_around(
    grid: LatLonGrid, offsets: NDArray[np.int64], runs: _Runs
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows beside each row, and how many columns to turn where a row lies beyond a pole."""
    n_lat, n_lon = grid.lat.size, grid.lon.size - grid.has_cyclic_column
    ascending = grid.lat.size < 2 or grid.lat[0] < grid.lat[-1]
    beyond = [pole and grid.periodic for pole in grid.includes_poles]
    at_start, at_end = beyond if ascending else beyond[::-1]
    rows = np.arange(n_lat)[:, None] + offsets
    # back into the run of the row, but over a pole
    first, last = runs.first, runs.first + runs.length - 1
    early = (first[:, None] - rows[:, :1]).clip(min=0)
    late = (rows[:, -1:] - last[:, None]).clip(min=0)
    rows = rows + np.where((first[:, None] == 0) & at_start, 0, early)
    rows = rows - np.where((last[:, None] == n_lat - 1) & at_end, 0, late)
    turned = np.where((rows < 0) | (rows >= n_lat), n_lon // 2, 0)
    # a row at the pole itself is met once, rows beside it are met again on the other side
    on_pole = np.abs(np.abs(grid.lat[[0, -1]]) - 90.0) < COORDINATE_TOLERANCE
    rows = np.where(rows < 0, -rows - 1 + on_pole[0], rows)
    rows = np.where(rows >= n_lat, 2 * n_lat - 1 - rows - on_pole[1], rows)
    return rows, turned


def _column_steps(grid: LatLonGrid, n_lon: int, radius: int) -> NDArray[np.int64]:
    """How many columns, in each row, are about as far apart as the rows are."""
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    whole = grid.joined_rows.all() and grid.lat.size > 1
    height = np.abs(np.gradient(grid.lat)) if whole else np.ptp(grid.lat_bounds, axis=-1)
    if grid.joined_columns[:-1].all():
        width = 360.0 / n_lon if grid.periodic else np.ptp(grid.lon) / (n_lon - 1)
    else:
        width = np.median(np.ptp(grid.lon_bounds, axis=-1))
    across = width * np.cos(np.deg2rad(grid.lat)).clip(min=1e-9)
    # on a full circle the columns of a block stay within 60 degrees a step
    most = n_lon // (6 * radius) if grid.periodic else (n_lon - 1) // (2 * radius)
    return np.round(height / across).clip(1, max(1, most)).astype(np.int64)
