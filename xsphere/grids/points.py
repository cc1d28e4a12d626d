"""Cells known by their centres alone: stations, reduced Gaussian, unstructured grids."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids.base import Grid, frozen_array

# Points this near to one plane, in radii of the sphere, lie on a circle.
FLAT = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class PointGrid(Grid):
    """Points on the sphere, each standing for the part of the sphere nearest to it.

    Parameters
    ----------
    lon, lat : array_like of float, shape (n_cells,)
        Degrees.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are empty, or hold values that are not finite or beyond a
        pole.

    Examples
    --------
    >>> octahedron = PointGrid(lon=[0, 90, 180, 270, 0, 0], lat=[0, 0, 0, 0, 90, -90])
    >>> bool(np.allclose(octahedron.areas, 4 * np.pi / 6))
    True
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]

    def __post_init__(self) -> None:
        lon, lat = frozen_array(self.lon), frozen_array(self.lat)
        if lon.ndim != 1 or lon.shape != lat.shape or lon.size == 0:
            raise ValueError(
                f"lon and lat must be 1-D, of one length, not empty, got shapes {lon.shape} and "
                f"{lat.shape}"
            )
        bad = ~np.isfinite(lon) | ~np.isfinite(lat) | (np.abs(lat) > 90)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"lon and lat must be finite and lat within -90..90 degrees, got {int(bad.sum())} "
                f"points that are not, such as ({lon[first]:g}, {lat[first]:g}) at {first}; "
                "drop them first"
            )
        object.__setattr__(self, "lon", lon)
        object.__setattr__(self, "lat", lat)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_cells,)``."""
        return self.lon.shape

    @property
    def centre_lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of every point, in degrees, each of shape (n_cells,)."""
        return self.lon, self.lat

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Area of every point's Voronoi cell in steradian, shape (n_cells,).

        Points at one place (within 0.6 m on the Earth) share their cell equally.
        """
        _, first, inverse, counts = np.unique(
            self.centres.round(7),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        cell_areas = _voronoi_areas(self.centres[first])
        return frozen_array((cell_areas / counts)[inverse.ravel()])

    def _definition(self) -> dict[str, Any]:
        return {"lon": self.lon, "lat": self.lat}

    def __repr__(self) -> str:
        return f"PointGrid({self.n_cells} points)"


def _voronoi_areas(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas of the Voronoi cells of distinct unit vectors, shape (n,)."""
    if len(points) < 3:
        return np.full(len(points), 4 * np.pi / len(points))
    _, spread, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    if spread[2] > FLAT:
        from scipy.spatial import SphericalVoronoi

        areas: NDArray[np.float64] = SphericalVoronoi(points, threshold=1e-10).calculate_areas()
        return areas
    # points on one circle: cells are lunes, of twice their angle, between the poles of the circle
    angle = np.arctan2(points @ axes[1], points @ axes[0])
    order = np.argsort(angle)
    gaps = np.diff(angle[order], append=angle[order[0]] + 2 * np.pi)
    areas = np.empty(len(points))
    areas[order] = gaps + np.roll(gaps, 1)
    return areas
