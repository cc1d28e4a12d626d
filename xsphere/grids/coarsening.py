"""Coarser levels of grids that have none of their own."""

import numpy as np

from xsphere.grids import voronoi
from xsphere.grids.grid import Grid
from xsphere.grids.points import PointGrid


def coarsened_points(grid: Grid, n_cells: int, *, seed: int = 0) -> PointGrid:
    """Some of the centres of a grid, well spread over where it has any.

    The coarser levels of a network of stations: each point is chosen as the farthest from those
    chosen before, so that gaps are filled first and clusters thinned.

    Parameters
    ----------
    grid : Grid
        Any grid.
    n_cells : int
        How many of its centres to keep: at least 1, at most its different places.
    seed : int
        Chooses the first point. The same seed gives the same points, and with it fewer points
        are a part of more.

    Returns
    -------
    PointGrid
        Of `n_cells` points at different places, in the order that they have in `grid`.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer, or out of range.

    Examples
    --------
    >>> coarsened_points(PointGrid.random(1000), 250)
    PointGrid(250 points)
    """
    cells = np.sort(voronoi.well_spread(grid.centres, n_cells, seed))
    lon, lat = grid.centre_lonlat
    return PointGrid(lon[cells], lat[cells])
