"""Cells known by their centres, with or without corners: stations, unstructured grids."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.cache import SharedEntries
from xsphere.grids import samplings, voronoi
from xsphere.grids.corners import check_places, checked_corners
from xsphere.grids.grid import (
    EARTH_RADIUS_KM,
    Grid,
    frozen_array,
    lonlat_to_vectors,
    vectors_to_lonlat,
)
from xsphere.grids.polygon_areas import polygon_areas
from xsphere.grids.reach import Spread, areas_within, nearest_within, spread_of
from xsphere.notices import shortened

# Polygons looked at for a place: of large and small ones the nearest centre may be the wrong one.
NEAR_POLYGONS = 4

_spreads = SharedEntries(16)


@dataclass(frozen=True, eq=False, repr=False)
class PointGrid(Grid):
    """Points on the sphere, each the centre of a polygon or of the part of the sphere nearest it.

    Parameters
    ----------
    lon, lat : array_like of float, shape (n_cells,)
        Degrees.
    lon_bounds, lat_bounds : array_like of float, shape (n_cells, n_vertices), optional
        Corners of the cells in degrees, in either sense of rotation, joined by great circles.
        Cells with fewer corners than others are filled up with NaN or with their last corner.
    max_distance : float, optional
        Kilometres up to which a point without a polygon stands for what is nearest to it; infinity
        for no limit. By default as far as `xsphere.grids.reach.spread_of` tells from the spacing:
        all of the sphere where points are all around it, half a cell beyond the rim of a region.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are empty, or hold values that are not finite or beyond a
        pole; if only one of the bounds is given, a cell has fewer than three corners, reaches
        over a hemisphere, or is nowhere near its centre; if `max_distance` is not positive, or
        given beside bounds.

    Examples
    --------
    >>> octahedron = PointGrid(lon=[0, 90, 180, 270, 0, 0], lat=[0, 0, 0, 0, 90, -90])
    >>> bool(np.allclose(octahedron.areas, 4 * np.pi / 6))
    True
    >>> octant = PointGrid([45], [35], lon_bounds=[[0, 90, 0]], lat_bounds=[[0, 0, 90]])
    >>> bool(np.allclose(octant.areas, 4 * np.pi / 8))
    True
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    lon_bounds: NDArray[np.float64] | None = None
    lat_bounds: NDArray[np.float64] | None = None
    max_distance: float | None = None

    def __post_init__(self) -> None:
        self._check_max_distance()
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
        if self.lon_bounds is not None or self.lat_bounds is not None:
            lon_bounds, lat_bounds = checked_corners(self.lon_bounds, self.lat_bounds, lon.size)
            object.__setattr__(self, "lon_bounds", lon_bounds)
            object.__setattr__(self, "lat_bounds", lat_bounds)
            check_places(self.centres, lonlat_to_vectors(lon_bounds, lat_bounds))

    @classmethod
    def icosahedral(cls, level: int) -> Self:
        """Vertices of an icosahedron whose triangles were divided in four, `level` times.

        Parameters
        ----------
        level : int
            Number of divisions, from 0 to 12; level 5 has 10,242 points.

        Returns
        -------
        PointGrid
            Of ``10 * 4**level + 2`` points, those of the level below first; two are the poles.

        Examples
        --------
        >>> PointGrid.icosahedral(5)
        PointGrid(10242 points)
        """
        return cls(*vectors_to_lonlat(samplings.icosahedral_vertices(level)))

    @classmethod
    def cubed_sphere(cls, n: int) -> Self:
        """Cells of an equiangular gnomonic cubed sphere, with their corners.

        Parameters
        ----------
        n : int
            Cells along an edge of the cube.

        Returns
        -------
        PointGrid
            Of ``6 * n**2`` cells: four faces around the equator from longitude 0 eastward, then
            the north and the south one.

        Examples
        --------
        >>> PointGrid.cubed_sphere(16)
        PointGrid(1536 cells of up to 4 corners)
        """
        centres, corners = samplings.cubed_sphere_cells(n)
        return cls(*vectors_to_lonlat(centres), *vectors_to_lonlat(corners))

    @classmethod
    def fibonacci(cls, n: int) -> Self:
        """Points of a Fibonacci lattice, of nearly equal areas, from north to south.

        Parameters
        ----------
        n : int
            Number of points.

        Returns
        -------
        PointGrid
            Of `n` points.

        Examples
        --------
        >>> PointGrid.fibonacci(1000)
        PointGrid(1000 points)
        """
        return cls(*samplings.fibonacci_places(n))

    @classmethod
    def random(cls, n: int, seed: int = 0) -> Self:
        """Independent points, uniform on the sphere.

        Parameters
        ----------
        n : int
            Number of points.
        seed : int
            At least 0. The same seed gives the same points.

        Returns
        -------
        PointGrid
            Of `n` points.

        Examples
        --------
        >>> PointGrid.random(100) == PointGrid.random(100, seed=0)
        True
        """
        return cls(*samplings.random_places(n, seed))

    @classmethod
    def reduced_gaussian(cls, n: int) -> Self:
        """Octahedral reduced Gaussian grid, as O80 of the ECMWF for n = 80.

        Parameters
        ----------
        n : int
            Rows between a pole and the equator; row i from a pole has ``4 i + 16`` points.

        Returns
        -------
        PointGrid
            Of ``4 * n * (n + 9)`` points, row by row from north to south.

        Examples
        --------
        >>> PointGrid.reduced_gaussian(80)
        PointGrid(28480 points)
        """
        return cls(*samplings.octahedral_places(n))

    def with_voronoi_bounds(self) -> Self:
        """The same points, each with the polygon of all that is nearer to it than to the others.

        Returns
        -------
        PointGrid
            Whose cells fill the sphere.

        Raises
        ------
        ValueError
            If points share a place, or leave a hemisphere empty (as three points do, or points
            on one circle): cells would be no polygons that belong to their points.

        Examples
        --------
        >>> PointGrid.icosahedral(1).with_voronoi_bounds()
        PointGrid(42 cells of up to 6 corners)
        """
        return self._voronoi_cells

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_cells,)``."""
        return self.lon.shape

    @property
    def has_bounds(self) -> bool:
        """Whether the corners of the cells are known."""
        return self.lon_bounds is not None

    @property
    def centre_lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of every point, in degrees, each of shape (n_cells,)."""
        return self.lon, self.lat

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Area of every cell in steradian, shape (n_cells,).

        Of the polygon where there are bounds, else of the point's Voronoi cell. Points at one
        place (within 0.6 m on the Earth) share their Voronoi cell equally.
        """
        if self.lon_bounds is not None:
            return frozen_array(
                np.abs(polygon_areas(lonlat_to_vectors(self.lon_bounds, self.lat_bounds)))  # type: ignore[arg-type]
            )
        first, place = self._places
        cell_areas = voronoi.voronoi_areas(self.centres[first])
        return frozen_array((cell_areas / np.bincount(place))[place])

    @property
    def covered_areas(self) -> NDArray[np.float64]:
        """Area of the part of every cell within reach of its point, in steradian."""
        return self.areas if self.has_bounds or self.is_global else self._areas_within_reach

    @cached_property
    def is_global(self) -> bool:
        """Whether every point of the sphere is in a polygon, or within reach of a point."""
        if self.has_bounds:
            return bool(self.areas.sum() > 4 * np.pi * (1 - 1e-6))
        return bool(self._spread.whole.all())

    @cached_property
    def reach(self) -> NDArray[np.float64]:
        """Radians up to which each point stands for what is nearest to it, shape (n_cells,)."""
        if self.has_bounds:
            corners = lonlat_to_vectors(self.lon_bounds, self.lat_bounds)  # type: ignore[arg-type]
            chords = np.linalg.norm(corners - self.centres[:, None], axis=-1).max(axis=1)
            return frozen_array(2 * np.arcsin((chords / 2).clip(max=1.0)))
        return frozen_array(self._spread.reach[self._places[1]])

    def cells_at(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.int64]:
        """Position of the cell whose centre is nearest to each place.

        Parameters
        ----------
        lon, lat : array_like of float
            Degrees, of equal shape.

        Returns
        -------
        array of int64, same shape
            -1 beyond the reach of the points, and where not finite.

        Examples
        --------
        >>> stations = PointGrid([8, 10, 9, 11], [50, 50, 51, 52])
        >>> stations.cells_at([8.2, 50.0], [50.2, -20.0])
        array([ 0, -1])
        """
        lon_deg, lat_deg = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
        finite = np.isfinite(lon_deg) & np.isfinite(lat_deg)
        places = lonlat_to_vectors(lon_deg[finite], lat_deg[finite])
        found = np.full(lon_deg.shape, -1)
        reach = None if self.is_global else self.reach
        # the polygon that holds a place need not be that of the nearest centre
        n_near = NEAR_POLYGONS if self.has_bounds else 1
        found[finite] = nearest_within(self.centres, places, reach, n_near)
        return found

    def _check_max_distance(self) -> None:
        if self.max_distance is None:
            return
        distance = float(self.max_distance)
        if not distance > 0:
            raise ValueError(
                f"max_distance must be positive, in km, got {shortened(self.max_distance)}"
            )
        if self.lon_bounds is not None:
            raise ValueError(
                f"max_distance is for points without cell bounds, got {distance:g} km for cells "
                "that have some; leave one of them out"
            )
        object.__setattr__(self, "max_distance", distance)

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First point at each place, and which of the places every point is at."""
        return voronoi.distinct_places(self.centres)

    @property
    def neighbour_places(self) -> NDArray[np.int64] | None:
        """Pairs of places whose cells touch, shape (n, 2); places as `distinct_places` has them.

        None where points on one circle, or fewer than 4, leave it undetermined.
        """
        return self._spread.pairs

    @property
    def has_gaps(self) -> bool:
        """Whether it is known, from spacing, polygons or `max_distance`, where points end."""
        return self._spread.has_gaps

    @property
    def _spread(self) -> Spread:
        """How the places are spread: found once a process, since grids are made anew often."""

        def make() -> Spread:
            return spread_of(self.centres[self._places[0]], self._limits())

        spread: Spread = _spreads.fetch(self.fingerprint, make)
        return spread

    def _limits(self) -> NDArray[np.float64] | None:
        """Radians that the places reach by polygons or `max_distance`, None by their spacing."""
        first, place = self._places
        if self.has_bounds:
            limits = np.zeros(first.size)
            np.maximum.at(limits, place, np.pi if self.is_global else self.reach)
            return limits
        if self.max_distance is None:
            return None
        return np.full(first.size, min(self.max_distance / EARTH_RADIUS_KM, np.pi))

    @cached_property
    def _areas_within_reach(self) -> NDArray[np.float64]:
        first, place = self._places
        spread = self._spread
        areas = voronoi.voronoi_areas(self.centres[first])
        rim = np.flatnonzero(~spread.whole)
        areas[rim] = np.minimum(areas[rim], areas_within(self.centres[first], rim, spread.reach))
        return frozen_array((areas / np.bincount(place))[place])

    @cached_property
    def _voronoi_cells(self) -> Self:
        return type(self)(self.lon, self.lat, *voronoi.voronoi_corners(self.centres))

    def _definition(self) -> dict[str, Any]:
        centres = {"lon": self.lon, "lat": self.lat}
        if self.max_distance is not None:
            return {**centres, "max_distance": self.max_distance}
        if self.lon_bounds is None:
            return centres
        return {**centres, "lon_bounds": self.lon_bounds, "lat_bounds": self.lat_bounds}

    def __repr__(self) -> str:
        if self.lon_bounds is None:
            return f"PointGrid({self.n_cells} points)"
        return f"PointGrid({self.n_cells} cells of up to {self.lon_bounds.shape[1]} corners)"
