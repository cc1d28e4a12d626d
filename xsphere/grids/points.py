"""Cells known by their centres, with or without corners: stations, unstructured grids."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import samplings, voronoi
from xsphere.grids.base import Grid, frozen_array, lonlat_to_vectors, vectors_to_lonlat
from xsphere.grids.corners import check_places, checked_corners


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

    Raises
    ------
    ValueError
        If the arrays differ in shape, are empty, or hold values that are not finite or beyond a
        pole; if only one of the bounds is given, a cell has fewer than three corners, reaches
        over a hemisphere, or is nowhere near its centre.

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
        first, place = voronoi.distinct_places(self.centres)
        cell_areas = voronoi.voronoi_areas(self.centres[first])
        return frozen_array((cell_areas / np.bincount(place))[place])

    @cached_property
    def _voronoi_cells(self) -> Self:
        return type(self)(self.lon, self.lat, *voronoi.voronoi_corners(self.centres))

    def _definition(self) -> dict[str, Any]:
        centres = {"lon": self.lon, "lat": self.lat}
        if self.lon_bounds is None:
            return centres
        return {**centres, "lon_bounds": self.lon_bounds, "lat_bounds": self.lat_bounds}

    def __repr__(self) -> str:
        if self.lon_bounds is None:
            return f"PointGrid({self.n_cells} points)"
        return f"PointGrid({self.n_cells} cells of up to {self.lon_bounds.shape[1]} corners)"


def coarsened_points(grid: Grid, n_cells: int, *, seed: int = 0) -> PointGrid:
    """Some of the centres of a grid, well spread over where it has any.

    The coarser levels of a network of stations: each point is chosen as the farthest from those
    chosen before, so that gaps are filled first and clusters thinned.

    Parameters
    ----------
    grid : Grid
        Any grid.
    n_cells : int
        How many of its centres to keep: at least 1, at most its different places.
    seed : int
        Chooses the first point. The same seed gives the same points, and with it fewer points
        are a part of more.

    Returns
    -------
    PointGrid
        Of `n_cells` points at different places, in the order that they have in `grid`.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer, or out of range.

    Examples
    --------
    >>> coarsened_points(PointGrid.random(1000), 250)
    PointGrid(250 points)
    """
    cells = np.sort(voronoi.well_spread(grid.centres, n_cells, seed))
    lon, lat = grid.centre_lonlat
    return PointGrid(lon[cells], lat[cells])


def polygon_areas(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed areas of polygons of great circles in steradian.

    Parameters
    ----------
    vertices : array of float64, shape (..., n_vertices, 3)
        Unit vectors of the corners, all in one hemisphere. Repeated corners change nothing.

    Returns
    -------
    array of float64, shape (...)
        Positive where the corners go round counter-clockwise, seen from outside the sphere.

    References
    ----------
    .. [1] Eriksson (1990), On the measure of solid angles, https://doi.org/10.2307/2691141

    Examples
    --------
    >>> float(polygon_areas(np.eye(3))) == np.pi / 2
    True
    """
    first = vertices[..., :1, :]
    second, third = vertices[..., 1:-1, :], vertices[..., 2:, :]
    # from differences, since the product of three near vectors is lost in rounding
    volume = (first * np.cross(second - first, third - first)).sum(axis=-1)
    products = (first * second).sum(-1) + (second * third).sum(-1) + (third * first).sum(-1)
    return np.asarray(2.0 * np.arctan2(volume, 1.0 + products).sum(axis=-1))


def polygon_centroids(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres of mass of polygons of great circles, taken onto the sphere.

    Parameters
    ----------
    vertices : array of float64, shape (..., n_vertices, 3)
        Unit vectors of the corners, all in one hemisphere. Repeated corners change nothing.

    Returns
    -------
    array of float64, shape (..., 3)
        Unit vectors.

    References
    ----------
    .. [1] Brock (1975), https://doi.org/10.2307/1426186, the integral of the normal as one along
       the edges

    Examples
    --------
    >>> polygon_centroids(np.eye(3)).round(4)
    array([0.5774, 0.5774, 0.5774])
    """
    following = np.roll(vertices, -1, axis=-2)
    normals = np.cross(vertices, following - vertices)
    sines = np.linalg.norm(normals, axis=-1, keepdims=True)
    angles = np.arctan2(sines, (vertices * following).sum(axis=-1, keepdims=True))
    # angle / sine goes to 1 where an edge has no length
    sums = (np.divide(angles, sines, out=np.ones_like(sines), where=sines > 0) * normals).sum(-2)
    sums *= np.sign((sums * vertices.sum(axis=-2)).sum(axis=-1, keepdims=True))
    return np.asarray(sums / np.linalg.norm(sums, axis=-1, keepdims=True))
