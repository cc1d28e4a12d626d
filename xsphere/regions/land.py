"""Which cells are over land, by the coarsest map of Natural Earth, and how much of regions is."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.grids import Grid, lonlat_to_vectors

NATURAL_EARTH = Path(__file__).parents[1] / "data" / "natural_earth"

# in the order of the columns
LAND_ATTRIBUTES: dict[str, dict[str, str]] = {
    "land_share": {"long_name": "share of the area over land", "units": "1"},
    "centre_over_land": {"long_name": "whether the centre is over land"},
    "land_lon": {
        "long_name": "longitude of the cell over land that is nearest to the centre",
        "units": "degrees_east",
    },
    "land_lat": {
        "long_name": "latitude of the cell over land that is nearest to the centre",
        "units": "degrees_north",
    },
}


@lru_cache(maxsize=2)
def natural_earth(name: str) -> tuple[Any, ...]:
    """Shapes of the coastline or the land at 1:110 million."""
    from cartopy.io.shapereader import Reader

    reader = Reader(NATURAL_EARTH / f"ne_110m_{name}.shp")
    try:
        return tuple(reader.geometries())
    finally:
        reader.close()


@lru_cache(maxsize=1)
def _land() -> Any:
    import shapely

    together = shapely.union_all(natural_earth("land"))
    shapely.prepare(together)
    return together


def is_land(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
    """Whether points are over land.

    Parameters
    ----------
    lon, lat : array-like of float
        Degrees.

    Returns
    -------
    array of bool
        By the land of Natural Earth at 1:110 million: lakes are land, the Caspian Sea and the
        large ice shelves of Antarctica are not, and many islands of less than 3,000 km2, such as
        Réunion, are not in it. False where a coordinate is NaN.

    Examples
    --------
    >>> is_land([10.0, 51.0, 0.0, -150.0], [50.0, 42.0, -90.0, 40.0])
    array([ True, False,  True, False])
    """
    import shapely

    lon = (np.asarray(lon, float) + 180) % 360 - 180
    # the coast itself belongs to the land, so that neither the seam nor the pole is a gap
    found: NDArray[np.bool_] = shapely.intersects_xy(_land(), lon, np.asarray(lat, float))
    return found


@lru_cache(maxsize=4)
def land_cells(grid: Grid) -> NDArray[np.bool_]:
    """Whether the centre of each cell is over land: found once per grid and process."""
    found = is_land(*grid.centre_lonlat)
    found.flags.writeable = False
    return found


def land_of_regions(
    labels: NDArray[np.int32], lon: NDArray[np.float64], lat: NDArray[np.float64], grid: Grid
) -> dict[str, NDArray[Any]]:
    """How much of each region of a step is over land, and where.

    Parameters
    ----------
    labels : array of int, shape (n_cells,)
        Numbers of the regions from 1, 0 where there is none.
    lon, lat : array of float, shape (number,)
        Centres of the regions.
    grid : Grid
        Of the labels.

    Returns
    -------
    dict of str to array, shape (number,)
        ``land_share``: share of the area in cells whose centre is over land. ``centre_over_land``:
        whether the region's centre is. ``land_lon``, ``land_lat``: centre of its cell over land
        that is nearest to the region's centre, the first of equal ones; NaN where there is none.

    Examples
    --------
    >>> from xsphere.grids import LatLonGrid
    >>> grid = LatLonGrid(np.arange(0, 360, 30.0), np.arange(-75, 90, 30.0))
    >>> labels = np.zeros(grid.shape, np.int32)
    >>> labels[3, 10:] = labels[3, 0] = 1  # from the Atlantic into the Sahara
    >>> found = land_of_regions(labels.ravel(), np.array([330.0]), np.array([15.0]), grid)
    >>> found["land_share"], found["land_lon"], found["land_lat"]
    (array([0.33333333]), array([0.]), array([15.]))
    """
    number = lon.size
    cells = np.flatnonzero(labels)
    region = labels[cells] - 1
    weight = grid.covered_areas[cells]
    over = land_cells(grid)[cells]
    with np.errstate(invalid="ignore"):
        share = np.bincount(region, weight * over, number) / np.bincount(region, weight, number)
    cells, region = cells[over], region[over]
    apart = np.linalg.norm(grid.centres[cells] - lonlat_to_vectors(lon, lat)[region], axis=-1)
    order = np.lexsort((cells, apart, region))
    found, first = np.unique(region[order], return_index=True)
    place = np.full((2, number), np.nan)
    nearest = cells[order[first]]
    place[:, found] = grid.centre_lonlat[0][nearest] % 360, grid.centre_lonlat[1][nearest]
    columns = (share, is_land(lon, lat), *place)
    return dict(zip(LAND_ATTRIBUTES, columns, strict=True))
