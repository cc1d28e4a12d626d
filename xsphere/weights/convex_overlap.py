"""Overlaps of polygons of great circles with each other, as compiled loops.

An edge lies in a plane through the centre of the sphere: a polygon clipped by the planes of the
edges of a convex one is what they share (Sutherland and Hodgman), in whatever form the first one
is. Planes and areas follow from differences of corners, so that small polygons keep their digits.
Everything here is numba: import it inside the functions that need it.
"""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from xsphere.compiled import compiled
from xsphere.weights.overlap import grown


@numba.njit(nogil=True)
def _corners(nodes, face, out):
    """Different corners of a polygon one after another, into out; their number."""
    n = 0
    for corner in range(face.size):
        if face[corner] != face[(corner + 1) % face.size]:
            out[n] = nodes[face[corner]]
            n += 1
    return n


@numba.njit(nogil=True)
def _plane(nodes, here, there, out):
    """Normal of the plane of an edge, inward; to the bit the opposite on the edge's other side."""
    a, b = nodes[min(here, there)], nodes[max(here, there)]
    sign = 1.0 if here < there else -1.0
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        out[k] = sign * (a[i] * (b[j] - a[j]) - a[j] * (b[i] - a[i]))


@numba.njit(nogil=True)
def _height(plane, point):
    return plane[0] * point[0] + plane[1] * point[1] + plane[2] * point[2]


@numba.njit(nogil=True)
def _clip(points, n, plane, out):
    """Corners of the part of a polygon on the inner side of a plane, into out; their number."""
    m = 0
    if n == 0:
        return 0
    before = points[n - 1]
    height_before = _height(plane, before)
    for i in range(n):
        here = points[i]
        height = _height(plane, here)
        if height * height_before < 0.0:
            part = height_before / (height_before - height)
            length = 0.0
            for k in range(3):
                out[m, k] = before[k] + part * (here[k] - before[k])
                length += out[m, k] * out[m, k]
            length = math.sqrt(length)
            for k in range(3):
                out[m, k] /= length
            m += 1
        if height >= 0.0:
            out[m] = here
            m += 1
        before, height_before = here, height
    return m


@numba.njit(nogil=True)
def _area(points, n):
    """Area on the unit sphere, positive counter-clockwise, as sums of triangles (Eriksson 1990)."""
    total = 0.0
    for i in range(1, n - 1):
        a, b, c = points[0], points[i], points[i + 1]
        volume, products = 0.0, 1.0
        for k in range(3):
            p, q = (k + 1) % 3, (k + 2) % 3
            across = (b[p] - a[p]) * (c[q] - a[q]) - (b[q] - a[q]) * (c[p] - a[p])
            volume += a[k] * across
            products += a[k] * b[k] + b[k] * c[k] + c[k] * a[k]
        total += 2.0 * math.atan2(volume, products)
    return total


@numba.njit(nogil=True)
def _shared(nodes, face, points, n, work):
    """Area that a convex face shares with the polygon of points."""
    first, second, plane = work
    first[:n] = points[:n]
    for corner in range(face.size):
        here, there = face[corner], face[(corner + 1) % face.size]
        if here == there:
            continue
        _plane(nodes, here, there, plane)
        # of every two corners one at most is cut off and replaced by two
        second = grown(second, 0, n + n // 2 + 1)
        n = _clip(first, n, plane, second)
        if n < 3:
            return 0.0
        first, second = second, first
    return _area(first, n)


@numba.njit(nogil=True)
def _shared_in_parts(nodes, face, points, n, work):
    """Area that any face shares with the polygon of points, by signed triangles from a corner."""
    total = 0.0
    corners, triangle = np.empty((3, 3)), np.empty(3, np.int64)
    for corner in range(1, face.size - 1):
        triangle[0], triangle[1], triangle[2] = face[0], face[corner], face[corner + 1]
        for k in range(3):
            corners[k] = nodes[triangle[k]]
        size = _area(corners, 3)
        if size == 0.0:
            continue
        if size < 0.0:
            triangle[1], triangle[2] = triangle[2], triangle[1]
        total += math.copysign(_shared(nodes, triangle, points, n, work), size)
    return total


@compiled
def shared_areas(nodes, faces, convex, other_nodes, other_faces, starts, others):
    """Areas that pairs of polygons share.

    Parameters
    ----------
    nodes : array of float, shape (n_nodes, 3)
        Unit vectors of the corners, each once.
    faces : array of int, shape (n_polygons, n_vertices)
        Corners of every polygon, counter-clockwise seen from outside; repeats are left out.
    convex : array of bool, shape (n_polygons,)
        Whether each polygon is convex.
    other_nodes, other_faces : arrays
        The same of the other polygons, convex or not.
    starts : array of int, shape (n_polygons + 1,)
        Which pairs belong to which polygon.
    others : array of int, shape (n_pairs,)
        The other polygon of every pair.

    Returns
    -------
    array of float64, shape (n_pairs,)
        Steradian; 0, or rounding of either sign, where a pair shares no area.
    """
    areas = np.empty(others.size)
    n_corners = other_faces.shape[1]
    # a plane adds a corner to a convex polygon; others find more room as they need it
    room = n_corners + faces.shape[1] + 2
    work = (np.empty((room, 3)), np.empty((room, 3)), np.empty(3))
    points = np.empty((n_corners, 3))
    for polygon in range(faces.shape[0]):
        face = faces[polygon]
        for pair in range(starts[polygon], starts[polygon + 1]):
            n = _corners(other_nodes, other_faces[others[pair]], points)
            if convex[polygon]:
                areas[pair] = _shared(nodes, face, points, n, work)
            else:
                areas[pair] = _shared_in_parts(nodes, face, points, n, work)
    return areas
