"""Points by what is nearest to them: Voronoi cells, equal places, subsets well spread."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from xsphere.grids.corners import SAME_PLACE
from xsphere.grids.grid import vectors_to_lonlat
from xsphere.grids.samplings import Places, whole_number

Floats = NDArray[np.float64]

# Points this near to one plane, in radii of the sphere, lie on a circle.
FLAT = 1e-9
# Points nearer than this are at one place, in radii of the sphere: 0.6 m on the Earth.
ONE_PLACE = 1e-7


def distinct_places(points: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which points stand for those at one place with them.

    Parameters
    ----------
    points : array of float64, shape (n, 3)
        Unit vectors.

    Returns
    -------
    first : array of int, shape (n_places,)
        Position of the first point at every place.
    place : array of int, shape (n,)
        Which of the places every point is at, to 0.6 m on the Earth.

    Examples
    --------
    >>> distinct_places(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    (array([0, 1]), array([0, 1, 0]))
    """
    from scipy.spatial import cKDTree

    _, first, place = np.unique(points.round(7), axis=0, return_index=True, return_inverse=True)
    place = place.ravel()
    # those that rounding took apart; of many at one place there is one left here
    pairs = cKDTree(points[first]).query_pairs(ONE_PLACE, output_type="ndarray")
    if pairs.size:
        joined = sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(first.size, first.size))
        group = csgraph.connected_components(joined, directed=False)[1]
        first, place = first[np.unique(group, return_index=True)[1]], group[place].astype(np.intp)
    return first, place


def voronoi_areas(points: Floats) -> Floats:
    """Areas of the Voronoi cells of distinct points.

    Parameters
    ----------
    points : array of float64, shape (n, 3)
        Unit vectors, no two of them at one place.

    Returns
    -------
    array of float64, shape (n,)
        Steradian; they sum to 4 pi.

    Examples
    --------
    >>> bool(np.allclose(voronoi_areas(np.eye(3)), 4 * np.pi / 3))
    True
    """
    if len(points) < 3:
        return np.full(len(points), 4 * np.pi / len(points))
    _, spread, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    if spread[2] > FLAT:
        from scipy.spatial import SphericalVoronoi

        areas: Floats = SphericalVoronoi(points, threshold=1e-10).calculate_areas()
        return areas
    # points on one circle: cells are lunes, of twice their angle, between the poles of the circle
    angle = np.arctan2(points @ axes[1], points @ axes[0])
    order = np.argsort(angle)
    gaps = np.diff(angle[order], append=angle[order[0]] + 2 * np.pi)
    areas = np.empty(len(points))
    areas[order] = gaps + np.roll(gaps, 1)
    return areas


def voronoi_corners(points: Floats) -> Places:
    """Corners of the polygons of all that is nearer to each point than to any other.

    Parameters
    ----------
    points : array of float64, shape (n, 3)
        Unit vectors, no two of them at one place, that leave no hemisphere empty.

    Returns
    -------
    lon, lat : arrays of float64, shape (n, n_vertices)
        Degrees, around every point; NaN after the last corner of a cell that has fewer.

    Raises
    ------
    ValueError
        If two points are at one place, or a hemisphere holds none.

    Examples
    --------
    >>> octahedron = np.concatenate([np.eye(3), -np.eye(3)])
    >>> voronoi_corners(octahedron)[1].round(2)[0]
    array([-35.26, -35.26,  35.26,  35.26])
    """
    problem = voronoi_problem(points)
    if problem is not None:
        raise ValueError(problem)
    from scipy.spatial import SphericalVoronoi

    cells: Any = SphericalVoronoi(points, threshold=1e-10)
    cells.sort_vertices_of_regions()
    counts = np.array([len(region) for region in cells.regions])
    corners = np.concatenate(cells.regions)
    rows = np.repeat(np.arange(len(points)), counts)
    before = np.arange(corners.size) - 1
    before[np.cumsum(counts) - counts] = np.cumsum(counts) - 1
    # points on one circle have as many corners at one place as triangles between them
    steps = np.linalg.norm(cells.vertices[corners] - cells.vertices[corners[before]], axis=-1)
    rows, corners = rows[steps > SAME_PLACE], corners[steps > SAME_PLACE]
    counts = np.bincount(rows, minlength=len(points))
    slots = np.arange(rows.size) - np.repeat(np.cumsum(counts) - counts, counts)
    lon, lat = np.full((2, len(points), counts.max()), np.nan)
    lon[rows, slots], lat[rows, slots] = vectors_to_lonlat(cells.vertices[corners])
    return lon, lat


def voronoi_problem(points: Floats) -> str | None:
    """Why points have no polygons around them that fill the sphere, or None if they have.

    Parameters
    ----------
    points : array of float64, shape (n, 3)
        Unit vectors.

    Returns
    -------
    str or None
        What was expected, what came and what to do.

    Examples
    --------
    >>> voronoi_problem(np.eye(3)).split(";")[0]
    'Voronoi cells need points that leave no hemisphere empty, got 3 that do'
    """
    from scipy.spatial import ConvexHull, cKDTree

    if len(points) > 1:
        distances = np.asarray(cKDTree(points).query(points, k=[2])[0])
        near = np.flatnonzero(distances[:, 0] < ONE_PLACE)
        if near.size:
            return (
                f"Voronoi cells need points at different places, got {near.size} that share "
                f"theirs, such as those at {', '.join(map(str, near[:5]))}; drop the repeated ones"
            )
    centred = points - points.mean(axis=0)
    flat = len(points) < 4 or np.linalg.svd(centred, compute_uv=False)[2] <= FLAT
    # the centre of the sphere is inside the hull of points that are on all sides of it
    if flat or ConvexHull(points).equations[:, 3].max() > -FLAT:
        return (
            f"Voronoi cells need points that leave no hemisphere empty, got {len(points)} that "
            "do; give the cells' own lon_bounds and lat_bounds, or go without bounds"
        )
    return None


def well_spread(points: Floats, n: int, seed: int) -> NDArray[np.intp]:
    """Positions of points chosen one by one, each the farthest from all chosen before.

    Parameters
    ----------
    points : array of float64, shape (n_points, 3)
        Unit vectors.
    n : int
        How many to choose: at least 1, at most the number of different places.
    seed : int
        Chooses the first point.

    Returns
    -------
    array of int, shape (n,)
        In the order of choice: the first m are the choice of m points.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer, or out of range.

    References
    ----------
    .. [1] Gonzalez (1985), https://doi.org/10.1016/0304-3975(85)90224-5

    Examples
    --------
    >>> well_spread(np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0]]), 2, seed=0).tolist()
    [2, 0]
    """
    from scipy.spatial import cKDTree

    places = distinct_places(points)[0]
    n = whole_number("n_cells", n, 1, places.size)
    tree, chosen = cKDTree(points), np.empty(n, np.intp)
    chosen[0] = np.random.default_rng(whole_number("seed", seed, 0)).integers(len(points))
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=-1)
    for i in range(1, n):
        chosen[i] = nearest.argmax()
        place, reach = points[chosen[i]], np.sqrt(nearest[chosen[i]])
        # none is farther from its nearest than this one, so that it is nearer to none beyond
        around = np.array(tree.query_ball_point(place, reach * (1 + 1e-9)))
        squares = ((points[around] - place) ** 2).sum(axis=-1)
        nearest[around] = np.minimum(nearest[around], squares)
    return chosen
