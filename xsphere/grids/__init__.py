"""Grids of the sphere as frozen values."""

from xsphere.grids.coarsening import coarsened_points
from xsphere.grids.ellipsoids import Ellipsoid
from xsphere.grids.grid import (
    EARTH_RADIUS_KM,
    Grid,
    lonlat_to_vectors,
    tangent_vectors,
    vectors_to_lonlat,
)
from xsphere.grids.healpix import HealpixGrid, IndexingScheme, level_from_nside
from xsphere.grids.latlon import LatLonGrid
from xsphere.grids.points import PointGrid

__all__ = [
    "EARTH_RADIUS_KM",
    "Ellipsoid",
    "Grid",
    "HealpixGrid",
    "IndexingScheme",
    "LatLonGrid",
    "PointGrid",
    "coarsened_points",
    "level_from_nside",
    "lonlat_to_vectors",
    "tangent_vectors",
    "vectors_to_lonlat",
]
