"""Where cells are and which lie around them: what a gradient on a grid is made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.grids.spacing import sharing_edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Part of a column's width within which the column across the pole could be either of two.
TIE = 1e-3


def cell_centroids(grid: LatLonGrid | HealpixGrid) -> Floats:
    """Mean of the unit vectors over every cell.

    Parameters
    ----------
    grid : LatLonGrid or HealpixGrid
        Cells.

    Returns
    -------
    array of float64, shape (n_cells, 3)
        Points inside the sphere: exact for boxes, by quadrature for HEALPix cells.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> bool(np.allclose(cell_centroids(HealpixGrid(2)).mean(axis=0), 0))
    True
    """
    if isinstance(grid, HealpixGrid):
        from xsphere.weights.moments import healpix_centroids

        return np.asarray(healpix_centroids(grid.nside, grid.nested_ids))
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    return box_centroids(grid.lon_bounds, grid.lat_bounds)


def box_centroids(lon_bounds: Floats, lat_bounds: Floats) -> Floats:
    """Mean of the unit vectors over every box between meridians and parallels.

    Parameters
    ----------
    lon_bounds, lat_bounds : arrays of float, shapes (n_lon, 2), (n_lat, 2)
        Edges of columns and rows in degrees, the lower one first.

    Returns
    -------
    array of float64, shape (n_lat * n_lon, 3)
        In (lat, lon) order. A box of no area has that of its middle.

    Examples
    --------
    >>> box_centroids(np.array([[0.0, 360.0]]), np.array([[0.0, 90.0]])).round(12) + 0
    array([[0. , 0. , 0.5]])
    """
    middle, half = np.deg2rad(lon_bounds.sum(-1)) / 2, np.deg2rad(np.ptp(lon_bounds, -1)) / 2
    shrink = np.sinc(half / np.pi)
    # the mean of cos(lat) by quadrature: its closed form cancels near a pole
    nodes, parts = np.polynomial.legendre.leggauss(16)
    south, north = lat_bounds.T[..., None]
    from_pole = 90.0 - np.abs(south + north + (north - south) * nodes) / 2
    cosine = np.sin(np.deg2rad(from_pole))
    total = cosine @ parts
    radius = (cosine**2 @ parts) / np.where(total > 0, total, 1.0)
    z = np.sin(np.deg2rad(lat_bounds)).mean(-1)
    columns = np.stack([shrink * np.cos(middle), shrink * np.sin(middle)], -1)
    centroids = np.empty((z.size, middle.size, 3))
    centroids[..., :2] = radius[:, None, None] * columns
    centroids[..., 2] = z[:, None]
    return centroids.reshape(-1, 3)


def surrounding_cells(grid: LatLonGrid | HealpixGrid) -> Ints:
    """The cells around every cell, across seam and poles too.

    Parameters
    ----------
    grid : LatLonGrid or HealpixGrid
        Cells.

    Returns
    -------
    array of int64, shape (n_cells, 8)
        Positions in the grid's data; -1 for those that there are not, such as beyond the rim of a
        region or a gap. Rows and columns of no area are passed over. Beyond a pole that a row
        touches are the cells of that row on the other side: three, or two where an edge lies
        opposite.

    Examples
    --------
    >>> grid = LatLonGrid([0, 90, 180, 270], [45, -45])
    >>> surrounding_cells(grid)[0].tolist()
    [7, 4, 5, 1, 2, 3, 3, 1]
    """
    if isinstance(grid, LatLonGrid):
        return _around_boxes(grid)
    import healpy

    found = healpy.get_all_neighbours(grid.nside, grid.nested_ids, nest=True)
    return np.ascontiguousarray(grid.positions_of(found).T)


def _around_boxes(grid: LatLonGrid) -> Ints:
    assert grid.lat_bounds is not None
    beside = _columns_around(grid)
    every_cell = np.arange(grid.n_cells).reshape(grid.shape)
    around = np.full((*grid.shape, 8), -1)
    rows = np.flatnonzero(np.ptp(grid.lat_bounds, -1) > 0)
    rows = rows[np.argsort(grid.lat[rows])]
    joined = np.append(sharing_edges(grid.lat[rows], grid.lat_bounds[rows]), False)
    for at, row in enumerate(rows):
        southern = (rows[at - 1], beside) if joined[at - 1] else _across_pole(grid, row, -90.0)
        northern = (rows[at + 1], beside) if joined[at] else _across_pole(grid, row, 90.0)
        parts = [southern, northern, (row, beside[:, [0, 2]])]
        around[row] = np.concatenate([_cells(other, columns, grid) for other, columns in parts], 1)
    around[:, beside[:, 1] < 0] = -1
    around[around == every_cell[..., None]] = -1
    return around.reshape(-1, 8)


def _cells(row: Any, columns: Ints, grid: LatLonGrid) -> Ints:
    return np.where(columns >= 0, row * grid.lon.size + columns, -1)


def _columns_around(grid: LatLonGrid) -> Ints:
    """For every column the one before, itself, the one after; -1 for those that have no width."""
    assert grid.lon_bounds is not None
    columns = np.flatnonzero(np.ptp(grid.lon_bounds, -1) > 0)
    joined = sharing_edges(grid.lon[columns], grid.lon_bounds[columns], around=360.0)
    before = np.where(np.roll(joined, 1), np.roll(columns, 1), -1)
    after = np.where(joined, np.roll(columns, -1), -1)
    around = np.full((grid.lon.size, 3), -1)
    around[columns] = np.stack([before, columns, after], -1)
    return around


def _across_pole(grid: LatLonGrid, row: Any, pole: float) -> tuple[Any, Ints]:
    """The row itself and the columns on the other side of the pole, if it touches the pole."""
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    if pole not in grid.lat_bounds[row]:
        return row, np.full((grid.lon.size, 3), -1)
    opposite, width = grid.lon_bounds.mean(-1) + 180.0, np.ptp(grid.lon_bounds, -1)
    lat = np.full(grid.lon.size, grid.lat_bounds[row].mean())
    west, east = (grid.cells_at(opposite + step * width, lat) for step in (-TIE, TIE))
    west, east = (np.where(cell >= 0, cell % grid.lon.size, -1) for cell in (west, east))
    three = np.where(west[:, None] >= 0, _columns_around(grid)[west], -1)
    two = np.stack([west, east, np.full(east.size, -1)], -1)
    return row, np.where((west == east)[:, None], three, two)
