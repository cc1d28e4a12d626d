"""How tropical cyclones are: where they are found, how strong, how large; each number's origin.

``MEASURED``: of the 68,467 positions at sea of tropical and subtropical storms with 34 knots or
more in the best tracks of the JTWC and the NHC, 1980 to 2024, in IBTrACS [1]_.

References
----------
.. [1] Knapp et al. (2010), https://doi.org/10.1175/2009BAMS2755.1
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from xsphere.augmentation.vortices import Vortex
from xsphere.regions.basins import basin_of
from xsphere.regions.land import is_land


class Basin(NamedTuple):
    """Share of all positions; quantiles of the distance from the equator and of the longitude.

    Examples
    --------
    >>> round(sum(basin.share for basin in MEASURED.values()), 3)
    1.001
    """

    share: float
    latitudes: tuple[float, ...]
    longitudes: tuple[float, ...]


QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
MEASURED = {
    "NA": Basin(0.161, (11, 18, 25, 32, 44), (-96, -74, -61, -47, -24)),
    "EP": Basin(0.196, (10, 14, 16, 19, 28), (184, 231, 243, 251, 265)),
    "WP": Basin(0.326, (7, 15, 19, 25, 38), (108, 124, 133, 144, 174)),
    "NI": Basin(0.035, (5, 12, 14, 18, 23), (50, 67, 82, 88, 95)),
    "SI": Basin(0.187, (7, 13, 16, 20, 31), (38, 59, 76, 96, 128)),
    "SP": Basin(0.096, (9, 14, 18, 22, 34), (137, 157, 169, 184, 223)),
}
# of the largest wind at 10 m over a minute, from the same positions
WINDS = (17.5, 18.0, 20.6, 28.3, 41.2, 54.0, 72.0, 95.2)
WIND_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)

# Mean over ten minutes by that over one, at sea: Harper, Kepert and Ginger (2010), WMO/TD 1555
TEN_MINUTES = 0.93
# 10 m by gradient wind, to 100 km from the centre and from 700 km on:
# Knaff et al. (2011), https://doi.org/10.1175/2011JAMC2673.1
AT_TEN_METRES = ((100.0, 700.0), (0.90, 0.75))
# Mean inflow at 10 m: Zhang and Uhlhorn (2012), https://doi.org/10.1175/MWR-D-11-00339.1
INFLOW = 22.6  # degrees
# What the motion adds to the wind at 10 m, and how far that is turned cyclonically:
# Lin and Chavas (2012), https://doi.org/10.1029/2011JD017126
OF_THE_MOTION, MOTION_TURNED = 0.55, 20.0
# Poleward drift against the flow, m s-1: Emanuel et al. (2006), https://doi.org/10.1175/BAMS-87-3-299
DRIFT = 2.5
# Median of the radius of vanishing winds: Chavas and Emanuel (2010),
# https://doi.org/10.1029/2010GL044558
OUTER = 423.0  # km

# No published numbers: how far sizes are scattered (standard deviations of logarithms), and angles
OUTER_SCATTER, RADIUS_SCATTER, INFLOW_SCATTER, DRIFT_SCATTER = 0.35, 0.3, 5.0, 1.0
# Water vapour of the core, kg m-2: beyond the values where rain sets in over warm tropical oceans,
# Neelin et al. (2009), https://doi.org/10.1175/2009JAS2962.1
CORE_WATER = (58.0, 70.0)
# Radius of a Gaussian of the moist core by that where winds begin to vanish; not published
MOIST_RADIUS = (0.6, 1.0)

# Most winds of depressions in the same tracks, and what is a wide, weak low; not published
WEAK_WINDS, WEAK_RADII = (8.0, 15.0), (100.0, 250.0)
# How far vapour is blown from the centre of a sheared low, by its outer radius; not published
SHEARED = (0.6, 1.2)


def drawn_place(generator: np.random.Generator) -> tuple[float, float] | None:
    """Longitude and latitude at sea where cyclones are found; None if the draw is on land."""
    names, shares = list(MEASURED), [basin.share for basin in MEASURED.values()]
    name = names[np.searchsorted(np.cumsum(shares), generator.random() * sum(shares))]
    basin = MEASURED[name]
    # no further than the outer quantiles
    u = generator.uniform(QUANTILES[0], QUANTILES[-1], 2)
    lat = float(np.interp(u[0], QUANTILES, basin.latitudes))
    lon = float(np.interp(u[1], QUANTILES, basin.longitudes))
    lat = -lat if name in ("SI", "SP") else lat
    at_home = bool(basin_of(lon, lat) == name) and not bool(is_land(lon, lat))
    return (lon, lat) if at_home else None


def drawn_cyclone(generator: np.random.Generator, lon: float, lat: float) -> Vortex:
    """A tropical cyclone of 34 knots or more at a place.

    The radius of the largest wind is that of Willoughby et al. (2006) [1]_, Holland's B that of
    Willoughby and Rahn (2004) [2]_, each by wind and latitude.

    References
    ----------
    .. [1] https://doi.org/10.1175/MWR3106.1
    .. [2] https://doi.org/10.1175/MWR2831.1

    Examples
    --------
    >>> drawn_cyclone(np.random.default_rng(0), 140.0, 20.0).wind > 15
    True
    """
    surface = np.interp(generator.random(), WIND_QUANTILES, WINDS)
    wind = TEN_MINUTES * surface / AT_TEN_METRES[1][0]
    radius = 46.4 * np.exp(-0.0155 * wind + 0.0169 * abs(lat))
    radius *= np.exp(RADIUS_SCATTER * generator.standard_normal())
    shape = 1.0036 + 0.0173 * wind - 0.0313 * np.log(radius) + 0.0087 * abs(lat)
    outer = OUTER * np.exp(OUTER_SCATTER * generator.standard_normal())
    return Vortex(
        lon=lon,
        lat=lat,
        wind=float(wind),
        radius=float(radius),
        shape=float(shape),
        outer=float(max(outer, 2 * radius)),
    )


def drawn_low(generator: np.random.Generator, lon: float, lat: float) -> Vortex:
    """A wide low that is too weak for a tropical cyclone.

    Examples
    --------
    >>> drawn_low(np.random.default_rng(0), 140.0, 20.0).wind < 17
    True
    """
    wind = TEN_MINUTES * generator.uniform(*WEAK_WINDS) / AT_TEN_METRES[1][0]
    radius = float(generator.uniform(*WEAK_RADII))
    cyclone = drawn_cyclone(generator, lon, lat)
    return replace(
        cyclone, wind=float(wind), radius=radius, shape=1.2, outer=max(cyclone.outer, 2 * radius)
    )
