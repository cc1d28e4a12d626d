"""Rules for blocking highs, as functions of the fields of one step."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.detection.contours import nearest_cells, values_at
from xsphere.grids import EARTH_RADIUS_KM, Grid, lonlat_to_vectors
from xsphere.regions.labelling import Labelling

Fields = Mapping[str, NDArray[Any]]


def tempest_blocking(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Regions where the height is far above that of the climatology."""
    least = np.maximum(fields.get("threshold", 0.0), s["min_anomaly"])
    inside = fields["Z500"].astype(float) - fields["climatology"] >= least
    return _large(inside & _between(grid, s), grid, s)


def gradient_blocking(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Regions where the height rises towards the pole, and falls beyond: reversed westerlies."""
    height = fields["Z500"].astype(float)
    ways = _along_meridians(grid, s["distance"])
    poleward, equatorward = (values_at(height, cells) for cells in ways)
    degrees = np.rad2deg(s["distance"] / EARTH_RADIUS_KM)
    reversed_flow = (height - equatorward) / degrees > s["min_equatorward_gradient"]
    westerlies = (poleward - height) / degrees < s["max_poleward_gradient"]
    return _large(reversed_flow & westerlies & _between(grid, s), grid, s)


def _between(grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    latitude = np.abs(grid.centre_lonlat[1])
    return (latitude >= s["min_latitude"]) & (latitude <= s["max_latitude"])


def _large(inside: NDArray[np.bool_], grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    find = Labelling(grid=grid, wanted=(1,), known=(0, 1), name="event", min_area=s["min_area"])
    found: NDArray[np.bool_] = find.step(inside.astype(np.uint8))[0] > 0
    return found


@lru_cache(maxsize=4)
def _along_meridians(grid: Grid, distance: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nearest cells at a distance from each cell towards its pole, and towards the equator."""
    lon, lat = grid.centre_lonlat
    step = np.rad2deg(distance / EARTH_RADIUS_KM) * np.where(lat < 0, -1, 1)
    poleward, equatorward = (
        nearest_cells(grid, lonlat_to_vectors(lon, np.clip(moved, -90, 90)))
        for moved in (lat + step, lat - step)
    )
    return poleward, equatorward
