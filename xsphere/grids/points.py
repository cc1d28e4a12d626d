"""Cells known by their centres alone: stations, reduced Gaussian, unstructured grids."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids.base import Grid, frozen_array


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

        Points at one place share their cell equally. Fewer than four distinct points share the
        sphere equally.
        """
        from scipy.spatial import SphericalVoronoi

        # 1e-9 rad is 6 mm on the Earth
        _, first, inverse, counts = np.unique(
            self.centres.round(9),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        if first.size < 4:
            cell_areas = np.full(first.size, 4 * np.pi / first.size)
        else:
            cell_areas = SphericalVoronoi(self.centres[first], threshold=1e-10).calculate_areas()
        return frozen_array((cell_areas / counts)[inverse.ravel()])

    def _definition(self) -> dict[str, Any]:
        return {"lon": self.lon, "lat": self.lat}

    def __repr__(self) -> str:
        return f"PointGrid({self.n_cells} points)"
