"""How far points stand for what is around them: where points are a grid, and where they end.

Points that are spread over the sphere without gaps stand each for all that is nearest to it. Those
of a region, as curvilinear grids and stations are, must not speak for the rest of the sphere.
Neighbours are the triangles that no other point lies inside of (Delaunay); what is nearest to a
point ends at the centres of the circles around its triangles, at most a radius away from it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from xsphere.grids.grid import tangent_vectors, vectors_to_lonlat

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# A triangle whose circle is so many times the usual one there is a gap between points.
GAP = 2.0
# If no circle is so many times the usual one, the points are scattered, but everywhere.
SCATTERED = 4.0
# So many times the usual one of all, triangles between a few far points are gaps, too.
SPARSE = 16.0
# Directions in which areas are measured, and edges at a time.
N_DIRECTIONS = 720
EDGES_AT_ONCE = 4096
# In radians: 2000 km on the Earth are too far for any point to speak for.
FARTHEST = 2000.0 / 6371.0
# Points of no triangle speak for 1000 km at most.
ALONE = 1000.0 / 6371.0


class Spread(NamedTuple):
    """What the places of points tell.

    Parameters
    ----------
    pairs : array of int, shape (n, 2), or None
        Neighbours with no gap between them, some twice. None if there are fewer than 4 points, or
        all lie on one circle: then it is not determined which are neighbours.
    reach : array of float, shape (n_points,)
        Radians up to which each point stands for what is nearest to it.
    whole : array of bool, shape (n_points,)
        Whether all that is nearest to a point is within its reach.
    has_gaps : bool
        Whether it is known that points leave a part of the sphere empty.

    Examples
    --------
    >>> spread_of(np.eye(3)).pairs is None
    True
    """

    pairs: Integers | None
    reach: Floats
    whole: NDArray[np.bool_]
    has_gaps: bool


class _Triangles(NamedTuple):
    corners: Integers
    radii: Floats
    # with an angle of more than 150 degrees: points on a line
    needles: NDArray[np.bool_]


def spread_of(points: Floats, limit: Floats | None = None) -> Spread:
    """How points are spread over the sphere.

    A triangle of neighbours is a gap if the circle around it is more than twice the usual one (the
    lower median at a corner, the middle one of its corners) or 16 times that of all points, or if
    it is nearly a line. Where no circle is 4 times the usual one, none is a gap: random points are
    of that kind. A point reaches to the centres of the circles around its triangles without the
    gaps; if it has none, to its nearest point; never farther than 2000 km (1000 km without
    triangles).

    Parameters
    ----------
    points : array of float64, shape (n_points, 3)
        Unit vectors, at different places.
    limit : array of float, shape (n_points,), optional
        Radians that the points reach instead; neighbours are those whose reaches meet.

    Returns
    -------
    Spread
        Of these points.

    Examples
    --------
    Four stations a degree or two apart leave the rest of the sphere empty:

    >>> from xsphere.grids import lonlat_to_vectors
    >>> spread = spread_of(lonlat_to_vectors([8, 10, 9, 11], [50, 50, 51, 52]))
    >>> bool(np.rad2deg(spread.reach).max() < 2), bool(spread.whole.any())
    (True, False)
    """
    triangles = _triangles(points)
    if triangles is None:
        reach = _nearest(points).clip(max=ALONE) if limit is None else limit
        return Spread(None, reach, reach >= np.pi, has_gaps=limit is not None)
    corners, radii, _ = triangles
    if limit is None:
        closed = _closed(triangles, len(points))
        reach = _reach(points, corners[closed], radii[closed])
    else:
        closed, reach = radii < np.pi / 2, limit
    pairs = corners[closed][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    if limit is not None:
        lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=-1)
        pairs = pairs[2 * np.arcsin(lengths / 2) <= limit[pairs].sum(axis=1)]
    farthest = np.zeros(len(points))
    np.maximum.at(farthest, corners.ravel(), np.repeat(radii, 3))
    has_gaps = limit is not None or not bool(closed.all())
    return Spread(pairs, reach, farthest <= reach + 1e-9, has_gaps)


def _triangles(points: Floats) -> _Triangles | None:
    """Triangles between neighbours; None if there are too few points, or all are on one circle."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) < 4:
        return None
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None
    corners = hull.simplices.astype(np.int64)
    radii = np.arccos((-hull.equations[:, 3]).clip(-1.0, 1.0))
    sides = points[corners] - points[np.roll(corners, 1, axis=1)]
    longest = np.linalg.norm(sides, axis=-1).max(axis=1)
    return _Triangles(corners, radii, longest < np.sin(radii))


def parts_between_gaps(points: Floats) -> Integers:
    """Which of the parts between gaps every point is in.

    Parameters
    ----------
    points : array of float64, shape (n_points, 3)
        Unit vectors, at different places.

    Returns
    -------
    array of int, shape (n_points,)
        Numbers of the parts. A dense cluster among sparse points is part of these.

    Examples
    --------
    >>> parts_between_gaps(np.eye(3))
    array([0, 0, 0])
    """
    triangles, n = _triangles(points), len(points)
    if triangles is None:
        return np.zeros(n, np.int64)
    corners = triangles.corners[_closed(triangles, n, limit=np.inf)]
    one, other = corners[:, [[0, 1], [1, 2]]].reshape(-1, 2).T
    links = sparse.coo_array((np.ones(one.size), (one, other)), shape=(n, n))
    return np.asarray(csgraph.connected_components(links, directed=False)[1], np.int64)


def _closed(triangles: _Triangles, n_points: int, *, limit: float = SPARSE) -> NDArray[np.bool_]:
    """Which triangles are no gaps."""
    radii, needles = triangles.radii, triangles.needles
    # none is more than half the sphere
    half = radii < np.pi / 2
    usual = _usual(triangles, ~needles, n_points)
    large = radii > GAP * usual
    huge = (radii > SCATTERED * usual) | (
        radii > 2 * SCATTERED * _usual(triangles, ~needles, n_points, part=3)
    )
    # holes between scattered points are no lines, as the rims of regions are
    if not huge.any() and 3 * (large & needles).sum() <= large.sum():
        return half
    # at the rim of a region most triangles may be gaps
    near = ~needles & (radii <= SCATTERED * _usual(triangles, ~needles, n_points, part=4))
    if not needles.all():
        near &= radii <= limit * np.median(radii[~needles])
    return np.asarray(half & near & (radii <= GAP * _usual(triangles, near, n_points)))


def _usual(
    triangles: _Triangles, counted: NDArray[np.bool_], n_points: int, part: int = 2
) -> Floats:
    """Usual radius around every triangle: at its corners, the middle one of the three.

    That at a corner is the lower median (or another quantile, 1 / part) of the triangles counted
    there, 0 if there are none.
    """
    points, radii = triangles.corners[counted].ravel(), np.repeat(triangles.radii[counted], 3)
    order = np.lexsort((radii, points))
    counts = np.bincount(points, minlength=n_points)
    usual = np.zeros(n_points)
    some = counts > 0
    usual[some] = radii[order][(np.cumsum(counts) - counts + (counts - 1) // part)[some]]
    return np.asarray(np.sort(usual[triangles.corners], axis=1)[:, 1])


def _reach(points: Floats, corners: Integers, radii: Floats) -> Floats:
    reach = np.zeros(len(points))
    np.maximum.at(reach, corners.ravel(), np.repeat(radii, 3))
    alone = reach == 0
    if alone.any():
        most = ALONE if alone.all() else min(ALONE, float(np.median(reach[~alone])))
        reach[alone] = _nearest(points)[alone].clip(max=most)
    return reach.clip(max=FARTHEST)


def _nearest(points: Floats) -> Floats:
    """Radians from each point to its nearest, 0 for a single one."""
    from scipy.spatial import cKDTree

    if len(points) == 1:
        return np.zeros(1)
    chords = np.asarray(cKDTree(points).query(points, k=[2])[0])[:, 0]
    return np.asarray(2 * np.arcsin((chords / 2).clip(max=1.0)))


def nearest_within(
    points: Floats, places: Floats, reach: Floats | None, n_near: int = 1
) -> Integers:
    """Position of the point nearest to every place, -1 where none is near.

    Parameters
    ----------
    points, places : arrays of float64, shapes (n_points, 3), (n_places, 3)
        Unit vectors.
    reach : array of float, shape (n_points,), optional
        Radians up to which a place is within reach of a point; no limit if not given.
    n_near : int
        Number of points looked at: a place must be within reach of one of them.

    Returns
    -------
    array of int64, shape (n_places,)
        Of two points equally near, one.

    Examples
    --------
    >>> nearest_within(np.eye(3), np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]), np.full(3, 0.1))
    array([ 1, -1])
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    if reach is None:
        return np.asarray(tree.query(places)[1], np.int64)
    n_near = min(n_near, len(points))
    chords, found = map(np.asarray, tree.query(places, k=np.arange(1, n_near + 1)))
    angles = 2 * np.arcsin((chords / 2).clip(max=1.0))
    near = (angles <= reach[found] + 1e-9).any(axis=1)
    return np.where(near, found[:, 0], -1)


def areas_within(points: Floats, chosen: Integers, reach: Floats) -> Floats:
    """Areas of all that is nearest to some points and within their reach.

    Parameters
    ----------
    points : array of float64, shape (n_points, 3)
        Unit vectors, at different places.
    chosen : array of int, shape (n_chosen,)
        Positions of the points asked for.
    reach : array of float, shape (n_points,)
        Radians.

    Returns
    -------
    array of float64, shape (n_chosen,)
        Steradian, to a few parts in 10**5.

    Examples
    --------
    A point on its own stands for the cap around it:

    >>> cap = 2 * np.pi * (1 - np.cos(0.1))
    >>> bool(np.isclose(areas_within(np.eye(3), np.array([0]), np.full(3, 0.1))[0], cap))
    True
    """
    triangles = _triangles(points)
    lengths = np.repeat(reach[chosen][:, None], N_DIRECTIONS, axis=1)
    if triangles is not None:
        _cut_at_neighbours(lengths, points, chosen, triangles.corners)
    return np.asarray((1.0 - np.cos(lengths)).mean(axis=1) * 2 * np.pi)


def _cut_at_neighbours(
    lengths: Floats, points: Floats, chosen: Integers, corners: Integers
) -> None:
    """Shorten ways in all directions from some points to halfway to their neighbours."""
    row_of = np.full(len(points), -1)
    row_of[chosen] = np.arange(chosen.size)
    ends = corners[:, [[0, 1], [1, 2], [2, 0], [1, 0], [2, 1], [0, 2]]].reshape(-1, 2)
    ends = ends[row_of[ends[:, 0]] >= 0]
    angles = 2 * np.pi * (np.arange(N_DIRECTIONS) + 0.5) / N_DIRECTIONS
    for start in range(0, len(ends), EDGES_AT_ONCE):
        here, there = ends[start : start + EDGES_AT_ONCE].T
        east, north = tangent_vectors(*vectors_to_lonlat(points[here]))
        away = points[there] - points[here]
        # a plane halfway: away . x = 0 for x = cos(way) here + sin(way) direction
        towards = np.outer((away * east).sum(-1), np.cos(angles))
        towards += np.outer((away * north).sum(-1), np.sin(angles))
        height = -(away * points[here]).sum(axis=-1, keepdims=True)
        ways = np.arctan2(height, towards)
        np.minimum.at(lengths, row_of[here], ways)
