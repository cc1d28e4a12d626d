"""The equal-area HEALPix projection of parallels: straight lines at these heights."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def cap_distance(lat: ArrayLike) -> Floats:
    """Distance of parallels from the north pole: 0 there, 1 where the cap ends and beyond.

    Parameters
    ----------
    lat : array_like of float
        Degrees; of the opposite sign for the south pole.

    Returns
    -------
    array of float64, same shape
        ``sqrt(3 (1 - sin(lat)))``, without the cancellation near the pole, at most 1.

    Examples
    --------
    >>> cap_distance([90.0, 0.0])
    array([0., 1.])
    """
    from_pole = np.deg2rad(90.0 - np.asarray(lat))
    return np.asarray(np.sqrt(6.0) * np.sin(from_pole / 2)).clip(max=1.0)


def belt_height(lat: ArrayLike) -> Floats:
    """Height of parallels in the belt between the caps, from -1/2 to 1/2.

    Parameters
    ----------
    lat : array_like of float
        Degrees.

    Returns
    -------
    array of float64, same shape
        ``3/4 sin(lat)``, clipped where the belt ends.

    Examples
    --------
    >>> belt_height([-90.0, 0.0])
    array([-0.5,  0. ])
    """
    return np.asarray(0.75 * np.sin(np.deg2rad(lat))).clip(-0.5, 0.5)
