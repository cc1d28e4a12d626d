"""Cells of the whole HEALPix sphere near each other, found ring by ring, as compiled loops.

The cells within a distance of one are, on each ring, those of an interval of longitudes: no tree is
needed, and what is found is all there is. Everything here is numba: import it inside functions.
"""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from xsphere.compiled import compiled
from xsphere.graph.ties import ROUNDING, TIE_TOLERANCE


@numba.njit(nogil=True)
def _ring_of(cell, nside):
    """Ring of a cell in the ring scheme, its first cell and its number of cells."""
    n_cap = 2 * nside * (nside - 1)
    n_cells = 12 * nside * nside
    if cell < n_cap:
        ring = int((1.0 + math.sqrt(1.0 + 2.0 * cell)) / 2.0)
        while 2 * ring * (ring - 1) > cell:
            ring -= 1
        while 2 * ring * (ring + 1) <= cell:
            ring += 1
        return ring
    if cell < n_cells - n_cap:
        return (cell - n_cap) // (4 * nside) + nside
    mirrored = n_cells - 1 - cell
    ring = int((1.0 + math.sqrt(1.0 + 2.0 * mirrored)) / 2.0)
    while 2 * ring * (ring - 1) > mirrored:
        ring -= 1
    while 2 * ring * (ring + 1) <= mirrored:
        ring += 1
    return 4 * nside - ring


@numba.njit(nogil=True)
def _ring(ring, nside):
    """First cell, number of cells, height and half a step if it is shifted, of a ring."""
    n_cells = 12 * nside * nside
    if ring < nside:
        return 2 * ring * (ring - 1), 4 * ring, 1.0 - ring * ring / (3.0 * nside * nside), 0.5
    if ring <= 3 * nside:
        first = 2 * nside * (nside - 1) + (ring - nside) * 4 * nside
        shift = 0.5 if (ring - nside) % 2 == 0 else 0.0
        return first, 4 * nside, 4.0 / 3.0 - 2.0 * ring / (3.0 * nside), shift
    south = 4 * nside - ring
    first = n_cells - 2 * south * (south + 1)
    return first, 4 * south, south * south / (3.0 * nside * nside) - 1.0, 0.5


@numba.njit(nogil=True)
def _interval(ring, nside, longitude, z, sine, square):
    """First cell of a ring, its size, and which of its cells may be as near: first and number."""
    start, n_ring, height, shift = _ring(ring, nside)
    across = math.sqrt(1.0 - height * height)
    left = square * (1.0 + 1e-9) - (height - z) ** 2 - (across - sine) ** 2
    if left < -1e-15:
        return start, n_ring, 0, 0
    half = left / (4.0 * across * sine) + 1e-12
    if half >= 1.0:
        return start, n_ring, 0, n_ring
    # a little more than the arc sine, and faster: what lies beyond is found to be too far
    width = math.sqrt(half) * (1.0 + (math.pi / 2 - 1.0) * half) / math.pi
    west = math.ceil((longitude - width) * n_ring - shift - 1e-6)
    east = math.floor((longitude + width) * n_ring - shift + 1e-6)
    # the ring may be near and yet no cell on it: that ends nothing
    return start, n_ring, west, max(1, min(east - west + 1, n_ring))


@numba.njit(nogil=True)
def cells_within(cell, square, nside, centres, found, squares):
    """Other cells whose squared distance is at most `square`; their number, also if too many."""
    ring = _ring_of(cell, nside)
    first, n_ring, z, shift = _ring(ring, nside)
    longitude = (cell - first + shift) / n_ring
    x0, y0, z0 = centres[cell, 0], centres[cell, 1], centres[cell, 2]
    sine = math.sqrt(x0 * x0 + y0 * y0)
    n = 0
    for direction in (-1, 1):
        other = ring if direction < 0 else ring + 1
        while 0 < other < 4 * nside:
            start, n_other, west, count = _interval(other, nside, longitude, z, sine, square)
            if count == 0:
                break
            place = west % n_other
            for _ in range(count):
                neighbour = start + place
                place += 1
                if place == n_other:
                    place = 0
                dx, dy = centres[neighbour, 0] - x0, centres[neighbour, 1] - y0
                dz = centres[neighbour, 2] - z0
                length = dx * dx + dy * dy + dz * dz
                if neighbour != cell and length <= square:
                    if n < found.size:
                        found[n], squares[n] = neighbour, length
                    n += 1
            other += direction
    return n


@numba.njit(nogil=True)
def _sorted_by_distance(found, squares, nested_of_ring, n, rank):
    """Cells in place by distance, equal ones by nested id; `found` becomes nested."""
    for i in range(n):
        found[i] = nested_of_ring[found[i]]
    # insertion, twice: there are few
    for i in range(1, n):
        cell, square = found[i], squares[i]
        j = i - 1
        while j >= 0 and squares[j] > square:
            found[j + 1], squares[j + 1] = found[j], squares[j]
            j -= 1
        found[j + 1], squares[j + 1] = cell, square
    rank[0], near = 0, math.sqrt(squares[0])
    for i in range(1, n):
        far = math.sqrt(squares[i])
        rank[i] = rank[i - 1] + (far - near > TIE_TOLERANCE * far + ROUNDING)
        near = far
    for i in range(1, n):
        cell, square, its_rank = found[i], squares[i], rank[i]
        j = i - 1
        while j >= 0 and rank[j] == its_rank and found[j] > cell:
            found[j + 1], squares[j + 1] = found[j], squares[j]
            j -= 1
        found[j + 1], squares[j + 1] = cell, square


@compiled
def nearest_cells(nside, k, cells, centres, nested_of_ring, ids, distances):
    """The `k` nearest of some cells, nearest first, as `nearest_neighbours` orders them.

    Parameters
    ----------
    nside, k : int
        Size of the whole sphere, and a number of neighbours below its number of cells.
    cells : array of int64, shape (n,)
        Ring ids of the cells.
    centres : array of float64, shape (12 nside**2, 3)
        Unit vectors of all cells in the ring scheme.
    nested_of_ring : array of int64, shape (12 nside**2,)
        Nested id of each cell in the ring scheme.
    ids, distances : arrays, shape (n, k)
        Filled with nested ids and chord lengths.

    Examples
    --------
    >>> import healpy
    >>> centres = np.stack(healpy.pix2vec(1, np.arange(12)), -1)
    >>> ids, distances = np.empty((1, 4), np.int32), np.empty((1, 4))
    >>> nested = healpy.ring2nest(1, np.arange(12))
    >>> nearest_cells(1, 4, np.array([0]), centres, nested, ids, distances)
    >>> ids
    array([[4, 5, 1, 3]], dtype=int32)
    """
    n_cells = 12 * nside * nside
    found, squares = np.empty(4 * k + 64, np.int64), np.empty(4 * k + 64)
    rank = np.empty(4 * k + 64, np.int64)
    for row in range(cells.size):
        # a disc that holds k cells and some more, larger where it does not
        square = 4.0 * (k + 4.0 + 2.0 * math.sqrt(k)) / n_cells
        while True:
            n = cells_within(cells[row], square, nside, centres, found, squares)
            if n > found.size:
                found, squares = np.empty(2 * n, np.int64), np.empty(2 * n)
                rank = np.empty(2 * n, np.int64)
                continue
            if n >= k:
                _sorted_by_distance(found, squares, nested_of_ring, n, rank)
                if n == n_cells - 1 or rank[n - 1] > rank[k - 1]:
                    break
            square *= 1.5
        for j in range(k):
            ids[row, j], distances[row, j] = found[j], math.sqrt(squares[j])


@numba.njit(nogil=True)
def _insert_sorted(ids, begin, end, cell):
    """The id at its place among those from begin to end."""
    at = end - 1
    while at >= begin and ids[at] > cell:
        ids[at + 1] = ids[at]
        at -= 1
    ids[at + 1] = cell


@numba.njit(nogil=True)
def _is_among(table, row, value):
    """Whether a row of a table has a value."""
    found = False
    for i in range(table.shape[1]):
        found |= table[row, i] == value
    return found


@compiled
def linked_cells(nside, cells, centres, nested_of_ring, reaches, touching, counts, ids):
    """Cells as near as the reach of one of the two, or touching, by nested id; how many in all.

    Parameters
    ----------
    nside : int
        Size of the whole sphere.
    cells : array of int64, shape (n,)
        Ring ids of the cells.
    centres, nested_of_ring
        As for `nearest_cells`.
    reaches : tuple of float and array of float64, shape (12 nside**2,)
        Squared distance that no link exceeds, and those to which each cell reaches, in the
        ring scheme.
    touching : array of int64, shape (n, n_touching)
        Nested ids of cells that are linked beyond their reach; -1 for none.
    counts : array of int64, shape (n,)
        Filled with the number of cells linked to each.
    ids : array of int32, shape (n_links,)
        Filled with their nested ids, as far as there is room.

    Examples
    --------
    >>> import healpy
    >>> centres = np.stack(healpy.pix2vec(1, np.arange(12)), -1)
    >>> nested, none = healpy.ring2nest(1, np.arange(12)), np.empty((1, 0), np.int64)
    >>> counts, ids = np.empty(1, np.int64), np.empty(9, np.int32)
    >>> reaches = 1.4, np.full(12, 1.4)
    >>> linked_cells(1, np.array([0]), centres, nested, reaches, none, counts, ids)
    4
    >>> ids[:4]
    array([1, 3, 4, 5], dtype=int32)
    """
    largest, reach = reaches
    found, squares = np.empty(256, np.int64), np.empty(256)
    end = 0
    for row in range(cells.size):
        cell, begin = cells[row], end
        n = cells_within(cell, largest, nside, centres, found, squares)
        while n > found.size:
            found, squares = np.empty(2 * n, np.int64), np.empty(2 * n)
            n = cells_within(cell, largest, nside, centres, found, squares)
        for i in range(n):
            other = nested_of_ring[found[i]]
            near = squares[i] <= max(reach[cell], reach[found[i]])
            if near or _is_among(touching, row, other):
                if end < ids.size:
                    _insert_sorted(ids, begin, end, other)
                end += 1
        counts[row] = end - begin
    return end
