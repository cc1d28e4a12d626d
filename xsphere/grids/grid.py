"""What every grid shares: unit vectors, a content fingerprint, travel between processes.

Grids are frozen values in degrees. They know where their cells are and how large; which label of a
dataset holds them is the business of `xsphere.conventions`.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# mean radius of the sphere that stands for the Earth
EARTH_RADIUS_KM = 6371.0


def lonlat_to_vectors(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors of points given in degrees.

    Parameters
    ----------
    lon, lat : array_like of float, shape (...)
        Longitude and latitude in degrees.

    Returns
    -------
    array of float64, shape (..., 3)
        Cartesian coordinates: x towards (0, 0), z towards the north pole.

    Examples
    --------
    >>> lonlat_to_vectors(90.0, 0.0).round(12)
    array([0., 1., 0.])
    """
    lon_rad, lat_rad = np.deg2rad(np.asarray(lon, float)), np.deg2rad(np.asarray(lat, float))
    cos_lat = np.cos(lat_rad)
    return np.stack([cos_lat * np.cos(lon_rad), cos_lat * np.sin(lon_rad), np.sin(lat_rad)], -1)


def vectors_to_lonlat(vectors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude in [0, 360) and latitude of vectors, in degrees.

    Parameters
    ----------
    vectors : array_like of float, shape (..., 3)
        Cartesian coordinates of any length but zero.

    Returns
    -------
    lon, lat : arrays of float64, shape (...)
        Degrees. The longitude at a pole is 0.

    Examples
    --------
    >>> vectors_to_lonlat([0.0, 0.0, 2.0])
    (np.float64(0.0), np.float64(90.0))
    """
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    lon = np.rad2deg(np.arctan2(y, x)) % 360.0
    # a tiny negative angle rounds up to 360 itself
    lon = np.where(lon == 360.0, 0.0, lon)[()]
    return lon, np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def tangent_vectors(
    lon: ArrayLike, lat: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors towards the east and the north at points given in degrees.

    Parameters
    ----------
    lon, lat : array_like of float, shape (...)
        Longitude and latitude in degrees. At a pole, east is east of the longitude given.

    Returns
    -------
    east, north : arrays of float64, shape (..., 3)
        Cartesian coordinates.

    Examples
    --------
    >>> east, north = tangent_vectors(0.0, 0.0)
    >>> float(east[1]), float(north[2])
    (1.0, 1.0)
    """
    lon_rad = np.deg2rad(np.asarray(lon, float))
    east = np.stack([-np.sin(lon_rad), np.cos(lon_rad), np.zeros_like(lon_rad)], -1)
    return east, np.cross(lonlat_to_vectors(lon, lat), east)


def frozen_array(values: ArrayLike, dtype: Any = np.float64) -> NDArray[Any]:
    """Read-only copy of an array."""
    # + 0 makes -0.0, such as the equator of a flipped axis, the 0.0 that it equals
    array = np.array(values, dtype=dtype) + 0
    array.flags.writeable = False
    return array


class Grid(ABC):
    """A set of cells on the sphere, numbered from 0 to ``n_cells - 1``.

    Two grids are equal when their fingerprints are. Arrays handed out are read-only.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> isinstance(HealpixGrid(1), Grid)
    True
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of an array that holds one value a cell, in C order."""

    @property
    @abstractmethod
    def centre_lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of every cell, in degrees, each of shape (n_cells,)."""

    @property
    @abstractmethod
    def areas(self) -> NDArray[np.float64]:
        """Area of every cell in steradian, shape (n_cells,)."""

    @property
    def on_sphere(self) -> "Grid":
        """The same cells where `centres` has them; another grid only on an ellipsoid."""
        return self

    def lonlat_of(self, vectors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude, in degrees, of vectors beside those of `centres`."""
        return vectors_to_lonlat(vectors)

    @property
    def covered_areas(self) -> NDArray[np.float64]:
        """Area that every cell stands for, in steradian: less than `areas` where points end."""
        return self.areas

    @property
    @abstractmethod
    def is_global(self) -> bool:
        """Whether every point of the sphere is in a cell."""

    @abstractmethod
    def cells_at(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.int64]:
        """Position of the cell that holds each point, -1 outside the grid."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Unit vectors of the cell centres, shape (n_cells, 3)."""
        return frozen_array(lonlat_to_vectors(*self.centre_lonlat))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that defines the grid, the same in every process."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for name, value in self._definition().items():
            if isinstance(value, np.ndarray):
                digest.update(f"|{name}:{value.dtype.str}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
            else:
                digest.update(f"|{name}={value!r}".encode())
        return digest.hexdigest()

    def _definition(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        # derived arrays are many times larger than the definition: rebuilt, not shipped
        return self._definition()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return type(self).__name__, self.fingerprint
