"""Polygons of two unstructured grids against each other: the areas shared."""

from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import PointGrid
from xsphere.grids.polygon_areas import polygon_areas
from xsphere.weights.polygons import polygon_mesh

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Overlaps no larger than a strip this wide along the smaller polygon, in radii of the sphere, are
# rounding of edges that touch: corners in degrees are good to 1e-15 of a radius.
NARROWEST = 5e-15
# A corner this far inside the line of its neighbours, in radii of the sphere, may be rounding.
STRAIGHT = 1e-14
# Products of corners and edges looked at together, so that large grids need little memory.
PAIRS_AT_ONCE = 2_000_000


def polygon_areas_in_polygons(
    polygons: PointGrid, others: PointGrid
) -> tuple[sparse.csr_array, Floats]:
    """Areas that polygons (rows) and other polygons (columns) share, in steradian.

    Edges are great circles, and overlaps exact to rounding. Polygons need not be convex.

    Parameters
    ----------
    polygons, others : PointGrid
        With bounds.

    Returns
    -------
    shared : sparse array of float64, shape (n_polygons, n_others)
        Overlaps, all of them positive.
    sizes : array of float64, shape (n_polygons,)
        Areas of the polygons, whether others cover them or not.

    Raises
    ------
    ValueError
        If edges of a polygon cross each other.

    Examples
    --------
    >>> octant = PointGrid([45], [35], lon_bounds=[[0, 90, 0]], lat_bounds=[[0, 0, 90]])
    >>> turned = PointGrid([90], [35], lon_bounds=[[45, 135, 0]], lat_bounds=[[0, 0, 90]])
    >>> shared, sizes = polygon_areas_in_polygons(octant, turned)
    >>> bool(np.isclose(shared[0, 0], np.pi / 4)), bool(np.isclose(sizes[0], np.pi / 2))
    (True, True)
    """
    from xsphere.weights.convex_overlap import shared_areas

    nodes, faces = polygon_mesh(polygons)
    other_nodes, other_faces = polygon_mesh(others)
    convex = _are_convex(nodes[faces])
    # their form does not matter, but their edges must not cross
    _are_convex(other_nodes[other_faces])
    middles, radii = _caps(nodes[faces])
    other_middles, other_radii = _caps(other_nodes[other_faces])
    starts, found = _near_pairs(middles, radii, other_middles, other_radii)
    areas = shared_areas(nodes, faces, convex, other_nodes, other_faces, starts, found)
    rows = np.repeat(np.arange(len(faces)), np.diff(starts))
    kept = areas > NARROWEST * np.minimum(radii[rows], other_radii[found])
    entries = (areas[kept], (rows[kept], found[kept]))
    shared = sparse.csr_array(entries, shape=(len(faces), len(other_faces)))
    return shared, polygon_areas(nodes[faces])


def _caps(corners: Floats) -> tuple[Floats, Floats]:
    """Middles and radii in radians of circles around polygons; pi for those around too much."""
    sums = corners.sum(axis=1)
    middles = sums / np.linalg.norm(sums, axis=-1, keepdims=True)
    chords = np.linalg.norm(corners - middles[:, None], axis=-1).max(axis=1)
    # a circle around the corners is one around the edges only if it is less than a hemisphere
    small = chords < np.sqrt(2.0) - 1e-9
    return middles, np.where(small, 2 * np.arcsin(np.minimum(chords, np.sqrt(2.0)) / 2), np.pi)


def _near_pairs(
    middles: Floats, radii: Floats, other_middles: Floats, other_radii: Floats
) -> tuple[Integers, Integers]:
    """Pairs of polygons whose circles touch: where those of each begin, and the other ones."""
    from scipy.spatial import cKDTree

    rows, columns = [], []
    # polygons of like size together, so that a few large ones make no work for the small
    sizes = np.floor(np.log2(other_radii)).astype(np.int64)
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        reach = np.minimum(radii + other_radii[members].max(), np.pi)
        chords = 2 * np.sin(reach / 2) * (1 + 1e-9)
        found = cKDTree(other_middles[members]).query_ball_point(middles, chords)
        counts = np.fromiter(map(len, found), np.int64, len(found))
        rows.append(np.repeat(np.arange(len(middles)), counts))
        flat = np.fromiter(chain.from_iterable(found), np.int64, int(counts.sum()))
        columns.append(members[flat])
    row, column = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((column, row))
    counts = np.bincount(row, minlength=len(middles))
    return np.concatenate([[0], np.cumsum(counts)]), column[order]


def _are_convex(corners: Floats) -> NDArray[np.bool_]:
    """Whether polygons are convex; those that are not must at least not cross themselves."""
    n_now = max(1, PAIRS_AT_ONCE // corners.shape[1] ** 2)
    parts = [corners[i : i + n_now] for i in range(0, len(corners), n_now)]
    convex = np.concatenate([(_sides(part) >= 0).all(axis=(1, 2)) for part in parts])
    concave = np.flatnonzero(~convex)
    crossed = concave[[bool(_crossings(_sides(corners[[cell]])[0]).any()) for cell in concave]]
    if crossed.size:
        others = ", ..." if crossed.size > 5 else ""
        raise ValueError(
            f"edges of a cell must not cross each other, got {crossed.size} cells where they do, "
            f"at {', '.join(map(str, crossed[:5]))}{others}; give the corners in order around the "
            "cell, or drop these cells"
        )
    return convex


def _sides(corners: Floats) -> NDArray[np.int8]:
    """Sides of the edges (second axis) of polygons that their corners (third) are on: 1 inward."""
    normals = np.cross(corners, np.roll(corners, -1, axis=1) - corners)
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    heights = normals / np.where(lengths > 0, lengths, 1.0) @ corners.swapaxes(1, 2)
    return np.where(np.abs(heights) > STRAIGHT, np.sign(heights), 0).astype(np.int8)


def _crossings(sides: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether edges of one polygon cross: each has the ends of the other on both of its sides."""
    split = sides * np.roll(sides, -1, axis=1) < 0
    return np.asarray(split & split.T)
