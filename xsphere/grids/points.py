"""Cells known by their centres, with or without corners: stations, unstructured grids."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids.base import Grid, frozen_array, lonlat_to_vectors

# Points this near to one plane, in radii of the sphere, lie on a circle.
FLAT = 1e-9
# Corners nearer than this are one, in radii of the sphere.
SAME_PLACE = 1e-9


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
            lon_bounds, lat_bounds = _checked_corners(self.lon_bounds, self.lat_bounds, lon.size)
            object.__setattr__(self, "lon_bounds", lon_bounds)
            object.__setattr__(self, "lat_bounds", lat_bounds)
            _check_places(self.centres, lonlat_to_vectors(lon_bounds, lat_bounds))

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
        centres = {"lon": self.lon, "lat": self.lat}
        if self.lon_bounds is None:
            return centres
        return {**centres, "lon_bounds": self.lon_bounds, "lat_bounds": self.lat_bounds}

    def __repr__(self) -> str:
        if self.lon_bounds is None:
            return f"PointGrid({self.n_cells} points)"
        return f"PointGrid({self.n_cells} cells of up to {self.lon_bounds.shape[1]} corners)"


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


def _checked_corners(
    lon_bounds: Any, lat_bounds: Any, n_cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of every cell, filled up by the last one where a cell has fewer than others."""
    shapes = [None if bounds is None else np.shape(bounds) for bounds in (lon_bounds, lat_bounds)]
    first = shapes[0]
    if shapes[0] != shapes[1] or first is None or len(first) != 2 or first[0] != n_cells:
        raise ValueError(
            f"lon_bounds and lat_bounds must both have shape (n_cells, n_vertices) with {n_cells} "
            f"cells, got {shapes[0]} and {shapes[1]}; give both, transposed if need be, or none"
        )
    lon, lat = np.array(lon_bounds, np.float64), np.array(lat_bounds, np.float64)
    given = ~(np.isnan(lon) & np.isnan(lat))
    n_given = given.sum(axis=1)
    gaps = given != (np.arange(lon.shape[1]) < n_given[:, None])
    wrong = (~np.isfinite(lon) | ~np.isfinite(lat) | (np.abs(lat) > 90)) & given
    _refuse(
        (gaps | wrong).any(axis=1),
        "lon_bounds and lat_bounds must be finite, lat_bounds within -90..90 degrees, and NaN only "
        "after the last corner of a cell",
        "correct them, or leave the bounds out",
    )
    last = np.minimum(np.arange(lon.shape[1]), (n_given - 1).clip(min=0)[:, None])
    lon, lat = np.take_along_axis(lon, last, axis=1), np.take_along_axis(lat, last, axis=1)
    corners = lonlat_to_vectors(lon, lat)
    steps = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=-1)
    _refuse(
        ~((steps > SAME_PLACE).sum(axis=1) >= 3),
        "every cell must have three corners or more at different places",
        "drop the cells, or leave the bounds out",
    )
    return frozen_array(lon), frozen_array(lat)


def _check_places(centres: NDArray[np.float64], corners: NDArray[np.float64]) -> None:
    """Refuse polygons that no hemisphere holds or that are far from their centres."""
    sums = corners.sum(axis=1)
    lengths = np.linalg.norm(sums, axis=-1, keepdims=True)
    middles = sums / np.where(lengths > 0, lengths, 1.0)
    _refuse(
        ~_fit_hemispheres(corners, middles),
        "every cell must lie within a hemisphere",
        "split the cells, or leave the bounds out",
    )
    radii = np.linalg.norm(corners - middles[:, None], axis=-1).max(axis=1)
    _refuse(
        # on the other side of the sphere, however large the cell
        np.linalg.norm(centres - middles, axis=-1) > np.minimum(2 * radii + 1e-6, np.sqrt(2)),
        "every cell must be near its centre",
        "lon, lat and bounds must be in degrees and in one order",
    )


def _fit_hemispheres(
    corners: NDArray[np.float64], middles: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether all corners of each polygon lie on one side of some plane through the centre."""
    fit = np.zeros(len(corners), bool)
    rest, directions = np.arange(len(corners)), middles
    # a perceptron: most need one step, and none that matter hundreds
    for _ in range(500):
        heights = (corners[rest] * directions[:, None]).sum(axis=-1)
        done = heights.min(axis=1) > 0
        fit[rest[done]] = True
        rest, directions, lowest = rest[~done], directions[~done], heights[~done].argmin(axis=1)
        if not rest.size:
            break
        directions = directions + corners[rest, lowest]
    return fit


def _refuse(bad: NDArray[np.bool_], expected: str, remedy: str) -> None:
    if bad.any():
        cells = np.flatnonzero(bad)
        others = ", ..." if cells.size > 5 else ""
        raise ValueError(
            f"{expected}, got {cells.size} cells that are otherwise, at "
            f"{', '.join(map(str, cells[:5]))}{others}; {remedy}"
        )


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
