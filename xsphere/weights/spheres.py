"""Two grids brought onto one sphere, where one of them is HEALPix on an ellipsoid.

Weights are areas and distances on a sphere. On an ellipsoid that is the one of equal areas, whose
latitudes are authalic; other grids have geodetic latitudes.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Ellipsoid, Grid, HealpixGrid, LatLonGrid, PointGrid

# Points on an edge, so that the great circles between them follow it: fewer on shorter edges.
EDGE_PARTS, FINEST_PARTS = 32, 4


def on_one_sphere(source: Grid, target: Grid) -> tuple[Grid, Grid]:
    """The same cells on the sphere of the HEALPix grid among them, of the source if both are.

    Parameters
    ----------
    source, target : Grid
        Any grids.

    Returns
    -------
    source, target : Grid
        Themselves, if there is no ellipsoid. HEALPix of another figure becomes polygons.

    Examples
    --------
    >>> boxes = LatLonGrid([0, 180], [45, -45])
    >>> on_one_sphere(boxes, HealpixGrid(0, ellipsoid="WGS84"))[0].lat.round(3)
    array([ 44.872, -44.872])
    """
    figures = [grid.figure for grid in (source, target) if isinstance(grid, HealpixGrid)]
    if not any(figures):
        return source, target
    return _on_sphere_of(source, figures[0]), _on_sphere_of(target, figures[0])


def _on_sphere_of(grid: Grid, figure: Ellipsoid | None) -> Grid:
    if isinstance(grid, HealpixGrid):
        return grid.on_sphere if grid.figure == figure else _polygons(grid, figure)
    if figure is None:
        return grid
    assert isinstance(grid, LatLonGrid | PointGrid)
    bounds = None if grid.lat_bounds is None else figure.authalic(grid.lat_bounds)
    return replace(grid, lat=figure.authalic(grid.lat), lat_bounds=bounds)


def _polygons(grid: HealpixGrid, figure: Ellipsoid | None) -> PointGrid:
    def latitudes(lat: NDArray[np.float64]) -> NDArray[np.float64]:
        return lat if figure is None else figure.authalic(lat)

    lon, lat = grid.centre_lonlat
    lon_bounds, lat_bounds = grid.corner_lonlat(max(FINEST_PARTS, EDGE_PARTS >> grid.level))
    return PointGrid(lon, latitudes(lat), lon_bounds, latitudes(lat_bounds))
