"""Ocean basins of tropical cyclones, as IBTrACS draws them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BASINS = ("NA", "EP", "WP", "NI", "SI", "SP", "SA")
# west and east ends in degrees from -180 to 180; of the north, where a line parts NA and EP
_NORTH = (("NI", 30, 100), ("WP", 100, 180))
_SOUTH = (("SA", -65, 20), ("SI", 20, 135), ("SP", 135, 180), ("SP", -180, -65))


def basin_of(lon: ArrayLike, lat: ArrayLike) -> NDArray[Any]:
    """Basin that points lie in, by the names of IBTrACS.

    Parameters
    ----------
    lon, lat : array-like of float
        Degrees.

    Returns
    -------
    array of str
        ``NA``, ``EP``, ``WP``, ``NI``, ``SI``, ``SP`` or ``SA``; empty where a coordinate is NaN.
        A boundary belongs to the basin east of it, the equator to the north.

    References
    ----------
    .. [1] Knapp et al. (2010), https://doi.org/10.1175/2009BAMS2755.1

    Examples
    --------
    >>> basin_of([280.0, 250.0, 140.0, 60.0], [25.0, 15.0, 20.0, -15.0])
    array(['NA', 'EP', 'WP', 'SI'], dtype='<U2')
    """
    lon = (np.asarray(lon, float) + 180) % 360 - 180
    lat = np.asarray(lat, float)
    found = np.full(np.broadcast_shapes(lon.shape, lat.shape), "", dtype="<U2")
    north = lat >= 0
    for name, west, east in _NORTH:
        found[north & (lon >= west) & (lon < east)] = name
    for name, west, east in _SOUTH:
        found[(lat < 0) & (lon >= west) & (lon < east)] = name
    atlantic = north & (lon < 30)
    # Central America, from 20 N 100 W to the equator at 65 W
    divide = np.interp(lat, [0, 20], [-65, -100])
    found[atlantic & (lon >= divide)] = "NA"
    found[atlantic & (lon < divide)] = "EP"
    return found
