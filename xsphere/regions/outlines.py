"""Outlines of regions: how long they are, and the smallest caps around them."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.graph.edges import CellEdges, cell_edges
from xsphere.grids import EARTH_RADIUS_KM, Grid

# nearer than this to the centre of the Earth, in radii, is at it
NOWHERE = 1e-9
Vectors = NDArray[np.float64]

# in the order of the columns
OUTLINE_ATTRIBUTES: dict[str, dict[str, str]] = {
    "perimeter": {
        "long_name": "length of the edges between cells inside and outside",
        "units": "km",
    },
    "cap_lon": {
        "long_name": "longitude of the centre of the smallest cap around the cells' centres",
        "units": "degrees_east",
    },
    "cap_lat": {
        "long_name": "latitude of the centre of the smallest cap around the cells' centres",
        "units": "degrees_north",
    },
    "cap_radius": {"long_name": "radius of that cap along the surface", "units": "km"},
}


def region_outlines(
    labels: NDArray[np.int32], number: int, grid: Grid
) -> dict[str, NDArray[np.float64]]:
    """Perimeter and bounding cap of each region of a step.

    Parameters
    ----------
    labels : array of int, shape (n_cells,)
        Numbers of the regions from 1, 0 where there is none.
    number : int
        How many there are.
    grid : Grid
        Of the labels.

    Returns
    -------
    dict of str to array, shape (number,)
        ``perimeter``: sum of the lengths of the edges between a cell of the region and one that is
        not, or nothing, in km (see `xsphere.graph.edges.cell_edges`); NaN where points have no
        polygons. Edges go round cells: the outline of a round region is longer than a circle by
        25 to 35 percent, on HEALPix around a pole by up to 70, however small its cells.
        ``cap_lon``, ``cap_lat``, ``cap_radius``: see
        `smallest_cap`.

    Examples
    --------
    >>> from xsphere.grids import LatLonGrid
    >>> grid = LatLonGrid(np.arange(0, 360, 90.0), [45.0, -45.0])
    >>> found = region_outlines(np.array([1, 1, 1, 1, 0, 0, 0, 0], np.int32), 1, grid)
    >>> (found["perimeter"] / EARTH_RADIUS_KM / (2 * np.pi)).round(9), found["cap_lat"]
    (array([1.]), array([90.]))
    """
    cells = np.flatnonzero(labels)
    region = labels[cells] - 1
    perimeter = np.full(number, np.nan)
    edges = _shared_edges(grid)
    if edges is not None:
        across = edges.neighbours[cells]
        rim = (across < 0) | (labels[across] != labels[cells, None])
        lengths = (edges.lengths[cells] * rim).sum(axis=1)
        perimeter = np.bincount(region, lengths, number) * EARTH_RADIUS_KM
    order = np.argsort(region, kind="stable")
    parts = np.split(cells[order], np.searchsorted(region[order], np.arange(1, number)))
    caps = [smallest_cap(grid.centres[part]) for part in parts[:number]]
    lon, lat = grid.lonlat_of(np.reshape([axis for axis, _ in caps], (-1, 3)))
    radius = np.array([radius for _, radius in caps]) * EARTH_RADIUS_KM
    found = (perimeter, lon % 360, lat, radius)
    return dict(zip(OUTLINE_ATTRIBUTES, found, strict=True))


@lru_cache(maxsize=4)
def _shared_edges(grid: Grid) -> CellEdges | None:
    return cell_edges(grid)


def smallest_cap(points: Vectors) -> tuple[Vectors, float]:
    """Centre and radius of the smallest spherical cap that holds some points.

    Parameters
    ----------
    points : array of float64, shape (n, 3)
        Unit vectors.

    Returns
    -------
    centre : array of float64, shape (3,)
        Unit vector. Of several caps of one size, any.
    radius : float
        Radians; more than pi / 2 where no hemisphere holds the points. Exact to a metre on the
        Earth.

    Notes
    -----
    Where a hemisphere holds the points, the centre is in the direction of that point of their
    convex hull that is nearest to the centre of the sphere; it is found from ever better
    simplices [1]_. Otherwise the largest empty cap, beyond the nearest face of the hull, is the
    complement.

    References
    ----------
    .. [1] Gilbert, Johnson and Keerthi (1988), https://doi.org/10.1109/56.2083

    Examples
    --------
    >>> centre, radius = smallest_cap(np.eye(3)[:2])
    >>> centre.round(4), float(np.rad2deg(radius).round(4))
    (array([0.7071, 0.7071, 0.    ]), 45.0)
    """
    mean = points.sum(axis=0)
    corners = points[[np.argmin(points @ mean)]]
    while True:
        share = _nearest_share(corners)
        corners, share = corners[share > 0], share[share > 0]
        nearest = share @ corners / share.sum()
        height = float(np.linalg.norm(nearest))
        if height < NOWHERE:
            return _beyond_hemisphere(points)
        heights = points @ (nearest / height)
        farthest = points[np.argmin(heights)]
        # no corner comes twice but by rounding
        if heights.min() > height - 1e-12 or (corners == farthest).all(-1).any():
            break
        corners = np.concatenate([corners, [farthest]])
    centre = nearest / height
    # from the chord: the cosine of a small angle tells little of it
    chord = np.sqrt(((corners - centre) ** 2).sum(axis=1).max())
    return centre, float(2 * np.arcsin(min(1.0, chord / 2)))


def _nearest_share(corners: Vectors) -> NDArray[np.float64]:
    """Shares, up to a factor, of a few points in the point of their hull nearest to the origin."""
    from scipy.optimize import nnls

    system = np.concatenate([corners.T, np.ones((1, len(corners)))])
    share: NDArray[np.float64] = nnls(system, np.array([0.0, 0.0, 0.0, 1.0]))[0]
    return share


def _beyond_hemisphere(points: Vectors) -> tuple[Vectors, float]:
    """As `smallest_cap`, of points whose hull holds the centre of the sphere."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        faces: Any = ConvexHull(points).equations
    except QhullError:
        # all on one great circle
        normal = np.linalg.svd(points, full_matrices=False)[2][-1]
        return normal * (1.0 if normal[2] >= 0 else -1.0), np.pi / 2
    nearest = faces[np.argmax(faces[:, 3])]
    return -nearest[:3], float(np.pi - np.arccos(np.clip(-nearest[3], -1.0, 1.0)))
