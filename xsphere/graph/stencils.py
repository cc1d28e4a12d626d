"""Neighbours from which derivatives are taken: as near and as evenly around a cell as may be.

The nearest cells of a longitude-latitude grid all lie in one row near a pole, and points that
coincide say nothing of a derivative, so these are not the neighbours of a graph.
"""

import numpy as np
from numpy.typing import NDArray

from xsphere.graph.neighbours import nearest_points
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.grids.latlon import COORDINATE_TOLERANCE
from xsphere.grids.voronoi import distinct_places


def stencil(grid: Grid, k: int, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the cells around some cells, shape (cells.size, at least k).

    Blocks of rows and columns on a longitude-latitude grid; elsewhere the `k` nearest distinct
    places.
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
    if n_lat < 2 * radius + 1 or n_lon < 2 * radius + 1:
        raise ValueError(
            f"stencils of {k} neighbours need at least {2 * radius + 1} rows and columns, got "
            f"{n_lat} x {n_lon} in {grid!r}"
        )
    offsets = np.arange(-radius, radius + 1)
    rows, turned = _rows_around(grid, offsets)
    step = _column_steps(grid, n_lon, radius)
    columns = np.arange(n_lon)
    spread = step[:, None, None] * offsets
    if grid.periodic:
        # (row, column, row offset, column offset)
        around = columns[None, :, None, None] + spread[:, None] + turned[:, None, :, None]
        around = around % n_lon
    else:
        start = (columns - radius * step[:, None]).clip(0, n_lon - 1 - 2 * radius * step[:, None])
        around = start[:, :, None, None] + step[:, None, None, None] * (offsets + radius)
    ids = rows[:, None, :, None] * grid.lon.size + around
    ids = ids.reshape(n_lat, n_lon, -1)
    if grid.has_cyclic_column:
        ids = np.concatenate([ids, ids[:, :1]], axis=1)
    return ids.reshape(n_lat * grid.lon.size, -1)


def _rows_around(
    grid: LatLonGrid, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows beside each row, and how many columns to turn where a row lies beyond a pole."""
    n_lat, n_lon = grid.lat.size, grid.lon.size - grid.has_cyclic_column
    ascending = grid.lat.size < 2 or grid.lat[0] < grid.lat[-1]
    beyond = [pole and grid.periodic for pole in grid.includes_poles]
    at_start, at_end = beyond if ascending else beyond[::-1]
    rows = np.arange(n_lat)[:, None] + offsets
    if not at_start:
        rows += (-rows[:, :1]).clip(min=0)
    if not at_end:
        rows -= (rows[:, -1:] - (n_lat - 1)).clip(min=0)
    turned = np.where((rows < 0) | (rows >= n_lat), n_lon // 2, 0)
    # a row at the pole itself is met once, rows beside it are met again on the other side
    on_pole = np.abs(np.abs(grid.lat[[0, -1]]) - 90.0) < COORDINATE_TOLERANCE
    rows = np.where(rows < 0, -rows - 1 + on_pole[0], rows)
    rows = np.where(rows >= n_lat, 2 * n_lat - 1 - rows - on_pole[1], rows)
    return rows, turned


def _column_steps(grid: LatLonGrid, n_lon: int, radius: int) -> NDArray[np.int64]:
    """How many columns, in each row, are about as far apart as the rows are."""
    height = np.abs(np.gradient(grid.lat)) if grid.lat.size > 1 else np.array([180.0])
    width = 360.0 / n_lon if grid.periodic else np.ptp(grid.lon) / (n_lon - 1)
    across = width * np.cos(np.deg2rad(grid.lat)).clip(min=1e-9)
    # on a full circle the columns of a block stay within 60 degrees a step
    most = n_lon // (6 * radius) if grid.periodic else (n_lon - 1) // (2 * radius)
    return np.round(height / across).clip(1, max(1, most)).astype(np.int64)
