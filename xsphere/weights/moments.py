"""Centroids of cells and of pieces of them, and gradients, as compiled loops.

Centroids are means of unit vectors over an area, so they lie inside the sphere. Positions on a
facet are those of `xsphere.weights.overlap`: squares of the HEALPix projection, counted along the
two edges of the facet. Everything here is numba: import it inside the functions that need it.
"""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from xsphere.compiled import compiled

# Radon's rule of seven points on a triangle: exact for polynomials of degree five.
_NEAR = (6.0 - math.sqrt(15.0)) / 21.0
_FAR = (6.0 + math.sqrt(15.0)) / 21.0
_RULE = np.array(
    [
        [1.0 / 3.0, 1.0 / 3.0, 9.0 / 40.0],
        *(
            [x, y, (155.0 - math.sqrt(15.0)) / 1200.0]
            for x, y in ((_NEAR, _NEAR), (_NEAR, 1.0 - 2.0 * _NEAR), (1.0 - 2.0 * _NEAR, _NEAR))
        ),
        *(
            [x, y, (155.0 + math.sqrt(15.0)) / 1200.0]
            for x, y in ((_FAR, _FAR), (_FAR, 1.0 - 2.0 * _FAR), (1.0 - 2.0 * _FAR, _FAR))
        ),
    ]
)

# Neighbours that a gradient needs, and the least part of their spread across its main direction.
FEWEST_NEIGHBOURS = 3
LEAST_SPREAD = 0.05


@numba.njit(nogil=True)
def _add_triangle(zone, nside, corners, vector):
    """Adds the integral of the unit vector, in the frame of the quarter; returns the area.

    Corners are (u0, v0, u1, v1, u2, v2).
    """
    u0, v0, u1, v1, u2, v2 = corners
    area = ((u1 - u0) * (v2 - v0) - (u2 - u0) * (v1 - v0)) / 2.0
    for point in range(7):
        p, q, weight = _RULE[point]
        u, v = u0 + p * (u1 - u0) + q * (u2 - u0), v0 + p * (v1 - v0) + q * (v2 - v0)
        across = (u + v) / nside
        if zone == 0:
            angle = np.pi / 4.0 * ((u - v) / nside + 1.0)
            z = 2.0 / 3.0 * (across - 2.0)
            radius = math.sqrt(1.0 - z * z)
        else:
            # no point of the rule is at a corner, where the pole may be
            angle = np.pi / 2.0 * u / (u + v)
            z = zone * (1.0 - across * across / 3.0)
            radius = across * math.sqrt((2.0 - across * across / 3.0) / 3.0)
        vector[0] += area * weight * radius * math.cos(angle)
        vector[1] += area * weight * radius * math.sin(angle)
        vector[2] += area * weight * z
    return area


@numba.njit(nogil=True)
def _turn(vector, quarter, size):
    """A sum of vectors in the frame of a quarter, as their mean in that of the sphere."""
    x, y = vector[0] / size, vector[1] / size
    for _ in range(quarter % 4):
        x, y = -y, x
    vector[0], vector[1], vector[2] = x, y, vector[2] / size


@numba.njit(nogil=True)
def polygon_centroid(zone, quarter, nside, x, y, n, centroid):
    """Fill centroid with the mean unit vector over a convex polygon of a facet.

    Parameters
    ----------
    zone, quarter, nside : int
        The facet: 1 in the northern cap, 0 in the belt, -1 in the southern cap.
    x, y : arrays of float
        Vertices in cells along the edges of the facet.
    n : int
        Number of vertices.
    centroid : array of float, shape (3,)
        Filled with the mean, exact for polynomials of degree five in the projection.
    """
    area = 0.0
    centroid[:] = 0.0
    for i in range(1, n - 1):
        corners = (x[0], y[0], x[i], y[i], x[i + 1], y[i + 1])
        area += _add_triangle(zone, nside, corners, centroid)
    _turn(centroid, quarter, area)


@numba.njit(nogil=True)
def _gathered(bits):
    """The bits at the even places of an integer, side by side."""
    bits = bits & 0x5555555555555555
    bits = (bits | (bits >> 1)) & 0x3333333333333333
    bits = (bits | (bits >> 2)) & 0x0F0F0F0F0F0F0F0F
    bits = (bits | (bits >> 4)) & 0x00FF00FF00FF00FF
    bits = (bits | (bits >> 8)) & 0x0000FFFF0000FFFF
    return (bits | (bits >> 16)) & 0x00000000FFFFFFFF


@numba.njit(nogil=True)
def _half_cell(face, x, y, nside, poleward):
    """Zone and corners of one half of a cell; of the northern one if poleward at the equator."""
    if face < 4 or face >= 8:
        i, j = (nside - 1 - y, nside - 1 - x) if face < 4 else (x, y)
        if i + j + (1 if poleward else 2) <= nside:
            return (1 if face < 4 else -1), _triangle(i, j, poleward)
    i = x + nside if face < 4 else x
    j = y + nside if face < 8 else y
    return 0, _triangle(i, j, poleward == (face >= 8))


@numba.njit(nogil=True)
def _triangle(i, j, lower):
    """Corners of the half of a square below its falling diagonal, or of the one above."""
    if lower:
        return i + 0.0, j + 0.0, i + 1.0, j + 0.0, i + 0.0, j + 1.0
    return i + 1.0, j + 1.0, i + 0.0, j + 1.0, i + 1.0, j + 0.0


@compiled
def healpix_centroids(nside, nested_ids):
    """Mean unit vectors of HEALPix cells.

    Parameters
    ----------
    nside : int
        Cells along an edge of a base cell.
    nested_ids : array of int64, shape (n,)
        Cells.

    Returns
    -------
    array of float64, shape (n, 3)
        Inside the sphere. Cells that touch a pole are good to a part in 10,000 of their size, all
        others to the sixth power of theirs.
    """
    centroids = np.zeros((nested_ids.size, 3))
    for cell in range(nested_ids.size):
        face, inside = nested_ids[cell] // (nside * nside), nested_ids[cell] % (nside * nside)
        x, y = _gathered(inside), _gathered(inside >> 1)
        # the parallel that bounds cap and belt runs along the diagonals of cells
        for poleward in (True, False):
            zone, corners = _half_cell(face, x, y, nside, poleward)
            _add_triangle(zone, nside, corners, centroids[cell])
        _turn(centroids[cell], face % 4, 1.0)
    return centroids


@numba.njit(nogil=True)
def _order(keys, n_keys, before):
    """Stable order by a key below n_keys of entries that come in an order."""
    starts = np.zeros(n_keys + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(keys.size, np.int64)
    for entry in before:
        order[starts[keys[entry]]] = entry
        starts[keys[entry]] += 1
    return order


@compiled
def merged_pieces(sources, targets, weights, centroids, shape):
    """Pieces in the order of their sources, those of one pair of cells made one.

    Parameters
    ----------
    sources, targets : arrays of int, shape (n,)
        Cells that share each piece.
    weights : array of float64, shape (n,)
        Parts of the target cells.
    centroids : array of float64, shape (n, 3)
        Centroids of the pieces.
    shape : tuple of int
        Numbers of targets and sources.

    Returns
    -------
    sources, targets : arrays of int32, shape (m,)
        Sorted, each pair once.
    weights : array of float64, shape (m,)
        Sums over the pieces of a pair.
    centroids : array of float64, shape (m, 3)
        Means over the pieces of a pair.
    """
    by_target = _order(targets, shape[0], np.arange(targets.size))
    order = _order(sources, shape[1], by_target)
    new_sources, new_targets = np.empty(order.size, np.int32), np.empty(order.size, np.int32)
    new_weights, new_centroids = np.empty(order.size), np.empty((order.size, 3))
    last = -1
    for entry in order:
        source, target = sources[entry], targets[entry]
        if last >= 0 and new_sources[last] == source and new_targets[last] == target:
            new_weights[last] += weights[entry]
            part = weights[entry] / new_weights[last]
            for axis in range(3):
                step = centroids[entry, axis] - new_centroids[last, axis]
                new_centroids[last, axis] += part * step
            continue
        last += 1
        new_sources[last], new_targets[last] = source, target
        new_weights[last] = weights[entry]
        new_centroids[last] = centroids[entry]
    n = last + 1
    return new_sources[:n], new_targets[:n], new_weights[:n], new_centroids[:n]


@numba.njit(nogil=True)
def _east_north(x, y, z):
    """Unit vectors to the east and the north of a point inside the sphere."""
    across, length = math.hypot(x, y), math.sqrt(x * x + y * y + z * z)
    if across == 0.0:
        return (0.0, 1.0, 0.0), (-1.0 if z >= 0.0 else 1.0, 0.0, 0.0)
    sin_lat, cos_lat = z / length, across / length
    return (-y / across, x / across, 0.0), (-sin_lat * x / across, -sin_lat * y / across, cos_lat)


@numba.njit(nogil=True)
def _along(direction, here, there):
    """Part of the way from here to there along a direction."""
    total = 0.0
    for axis in range(3):
        total += direction[axis] * (there[axis] - here[axis])
    return total


@compiled
def piece_offsets(starts, areas, centroids, cell_centroids, cell_areas):
    """Ways from the centroids of cells to those of their pieces, in local east and north.

    Parameters
    ----------
    starts : array of int, shape (n_cells + 1,)
        Which pieces belong to which cell.
    areas : array of float64, shape (n,)
        Areas of the pieces.
    centroids : array of float64, shape (n, 3)
        Centroids of the pieces.
    cell_centroids : array of float64, shape (n_cells, 3)
        Centroids of whole cells.
    cell_areas : array of float64, shape (n_cells,)
        Areas of whole cells, in the unit of `areas`.

    Returns
    -------
    array of float64, shape (n, 2)
        In radii of the sphere. Where the pieces fill the cell, their mean weighted by area is zero
        to rounding.
    """
    offsets = np.empty((areas.size, 2))
    for cell in range(starts.size - 1):
        middle = cell_centroids[cell]
        east, north = _east_north(middle[0], middle[1], middle[2])
        total, mean_east, mean_north = 0.0, 0.0, 0.0
        for piece in range(starts[cell], starts[cell + 1]):
            offsets[piece, 0] = _along(east, middle, centroids[piece])
            offsets[piece, 1] = _along(north, middle, centroids[piece])
            total += areas[piece]
            mean_east += areas[piece] * offsets[piece, 0]
            mean_north += areas[piece] * offsets[piece, 1]
        if abs(total - cell_areas[cell]) > 1e-9 * cell_areas[cell]:
            continue
        for piece in range(starts[cell], starts[cell + 1]):
            offsets[piece, 0] -= mean_east / total
            offsets[piece, 1] -= mean_north / total
    return offsets


@compiled
def gradient_weights(centroids, cells, neighbours):
    """Weights of the differences to the neighbours in a least-squares gradient.

    Parameters
    ----------
    centroids : array of float64, shape (n_cells, 3)
        Centroids of all cells.
    cells : array of int, shape (m,)
        Cells that want a gradient.
    neighbours : array of int, shape (m, n_neighbours)
        Their neighbours; a cell itself stands for one that is absent.

    Returns
    -------
    array of float64, shape (m, n_neighbours, 2)
        Eastern and northern component, per radius of the sphere. Zero for a cell with fewer than
        three neighbours, or with all of them nearly on one line.
    """
    n_neighbours = neighbours.shape[1]
    weights = np.zeros((cells.size, n_neighbours, 2))
    for row in range(cells.size):
        here = centroids[cells[row]]
        east, north = _east_north(here[0], here[1], here[2])
        found, xx, xy, yy = 0, 0.0, 0.0, 0.0
        for k in range(n_neighbours):
            there = centroids[neighbours[row, k]]
            squared = (there[0] - here[0]) ** 2 + (there[1] - here[1]) ** 2
            squared += (there[2] - here[2]) ** 2
            if squared == 0.0:
                continue
            x, y = _along(east, here, there), _along(north, here, there)
            found += 1
            xx, xy, yy = xx + x * x / squared, xy + x * y / squared, yy + y * y / squared
            weights[row, k, 0], weights[row, k, 1] = x / squared, y / squared
        across = (xx + yy - math.sqrt((xx - yy) ** 2 + 4.0 * xy * xy)) / 2.0
        if found < FEWEST_NEIGHBOURS or across < LEAST_SPREAD * (xx + yy):
            weights[row] = 0.0
            continue
        determinant = xx * yy - xy * xy
        for k in range(n_neighbours):
            x, y = weights[row, k]
            weights[row, k, 0] = (yy * x - xy * y) / determinant
            weights[row, k, 1] = (xx * y - xy * x) / determinant
    return weights
