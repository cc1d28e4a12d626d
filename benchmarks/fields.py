"""Test fields, their true cell means, and scores of what regridding makes of them.

The fields and scores are those by which regridding is compared in the literature [1]_. What is
compared is in `contenders`.

.. [1] Mahadevan et al. (2022), https://doi.org/10.5194/gmd-15-6601-2022
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import healpy
import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Grid, HealpixGrid, LatLonGrid

Floats = NDArray[np.float64]

# samples along an edge of a cell: the means are then off by far less than any method
N_ALONG = 16
CELLS_AT_ONCE = 2048


def sinusoid(lon: Floats, lat: Floats) -> Floats:
    """One slow wave round the point (0, 0)."""
    return 2 - np.cos(np.arccos((np.cos(lon) * np.cos(lat)).clip(-1, 1)) / 1.2)


def harmonic(lon: Floats, lat: Floats) -> Floats:
    """Sixteen waves round two belts."""
    return 2 + np.sin(2 * lat) ** 16 * np.cos(16 * lon)


def vortex(lon: Floats, lat: Floats) -> Floats:
    """Two vortices that have rolled up a front."""
    along = np.cos(lat) * np.cos(lon - 5.5)
    x = np.sin(0.2) * along - np.cos(0.2) * np.sin(lat)
    y = np.cos(lat) * np.sin(lon - 5.5)
    z = np.sin(0.2) * np.sin(lat) + np.cos(0.2) * along
    rho = 3 * np.sqrt((1 - z * z).clip(0))
    speed = 1.5 * np.sqrt(3) * np.tanh(rho) / np.cosh(rho) ** 2
    turning = np.divide(speed, rho, out=np.zeros_like(rho), where=rho > 0)
    return 2 * (1 + np.tanh(rho / 5 * np.sin(np.arctan2(y, x) - 6 * turning)))


def smooth(lon: Floats, lat: Floats) -> Floats:
    """A spherical harmonic of degree 2."""
    return 2 + np.cos(lat) ** 2 * np.cos(2 * lon)


def polar(lon: Floats, lat: Floats) -> Floats:  # noqa: ARG001  all fields are called alike
    """A bump on the north pole that falls to 1/e in 3 degrees."""
    return np.exp(-(((np.pi / 2 - lat) / np.deg2rad(3.0)) ** 2))


FIELDS: dict[str, Callable[[Floats, Floats], Floats]] = {
    field.__name__: field for field in (sinusoid, harmonic, vortex, smooth, polar)
}


def latlon(step: float) -> LatLonGrid:
    """Global grid from the meridian of Greenwich, with rows between the poles."""
    n_lat = round(180 / step)
    if abs(n_lat * step - 180) > 1e-9:
        raise ValueError(f"step must divide 180 degrees, got {step:g}")
    rows = (np.arange(n_lat) + 0.5) * (180 / n_lat) - 90
    return LatLonGrid(np.arange(2 * n_lat) * (180 / n_lat), rows)


def samples(grid: Grid) -> dict[str, Floats]:
    """Every field at the cell centres."""
    lon, lat = np.deg2rad(grid.centre_lonlat)
    return {name: field(lon, lat) for name, field in FIELDS.items()}


def true_means(grid: HealpixGrid | LatLonGrid) -> dict[str, Floats]:
    """Mean of every field over every cell, from 256 places of equal area in it."""
    places = _places_in_healpix if isinstance(grid, HealpixGrid) else _places_in_latlon
    means = {name: np.empty(grid.n_cells) for name in FIELDS}
    for start in range(0, grid.n_cells, CELLS_AT_ONCE):
        cells = np.arange(start, min(start + CELLS_AT_ONCE, grid.n_cells))
        lon, lat = places(grid, cells)
        for name, field in FIELDS.items():
            means[name][cells] = field(lon, lat).mean(axis=-1)
    return means


def _places_in_healpix(grid: HealpixGrid, cells: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Centres of the cells four levels further down, (n_cells, 256), in radians."""
    children = grid.nested_ids[cells, None] * N_ALONG**2 + np.arange(N_ALONG**2)
    colatitude, lon = healpy.pix2ang(grid.nside * N_ALONG, children, nest=True)
    return lon, np.pi / 2 - colatitude


def _places_in_latlon(grid: LatLonGrid, cells: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Middles of 16 x 16 boxes of equal area in every cell, (n_cells, 256), in radians."""
    rows, columns = np.unravel_index(cells, grid.shape)
    part = (np.arange(N_ALONG) + 0.5) / N_ALONG
    west, east = np.deg2rad(grid.lon_bounds[columns]).T
    south, north = np.sin(np.deg2rad(grid.lat_bounds[rows])).T
    lon = west[:, None] + part * (east - west)[:, None]
    lat = np.arcsin(south[:, None] + part * (north - south)[:, None])
    return np.tile(lon, N_ALONG), np.repeat(lat, N_ALONG, axis=-1)


class Scores(NamedTuple):
    """How far a regridded field is from the truth; 0 is perfect."""

    conservation: float  # change of the integral, relative to the integral of the truth
    l1: float
    l2: float
    linf: float
    overshoot: float  # beyond the largest value of the source, relative to its range
    undershoot: float


def scores(
    result: NDArray[Any], truth: Floats, given: Floats, source: Grid, target: Grid
) -> Scores:
    """Scores of a regridded field, given the values it was made from."""
    areas, error = target.areas, np.abs(result - truth)
    change = result @ areas - given @ source.areas
    spread = np.ptp(given)
    return Scores(
        conservation=abs(change) / (np.abs(truth) @ areas),
        l1=(error @ areas) / (np.abs(truth) @ areas),
        l2=np.sqrt((error**2 @ areas) / (truth**2 @ areas)),
        linf=error.max() / np.abs(truth).max(),
        overshoot=max(result.max() - given.max(), 0.0) / spread,
        undershoot=max(given.min() - result.min(), 0.0) / spread,
    )
