"""Exact overlaps of longitude-latitude boxes with HEALPix cells, as compiled loops.

In the equal-area HEALPix projection cells are squares, and within a facet parallels and meridians
are straight lines: a box cut at the facets is a few quadrilaterals, and an overlap is a clipped
quadrilateral. Areas come in units of one HEALPix cell. Everything here is numba: import it inside
the functions that need it.
"""

# mypy: allow-untyped-defs

import numba
import numpy as np

from xsphere.compiled import compiled
from xsphere.weights.moments import polygon_centroid

SOUTH_CAP, BELT, NORTH_CAP = -1, 0, 1

# Overlaps smaller than this part of the cell and of the box are rounding of edges that touch.
SMALLEST_PART = 1e-13


@numba.njit(nogil=True)
def _clip(x, y, n, limit, side, x_out, y_out):
    """Vertices of the part of a convex polygon where side * (x - limit) <= 0; their number."""
    m = 0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        here, there = side * (limit - x[i]), side * (limit - x[j])
        if here >= 0.0:
            x_out[m], y_out[m] = x[i], y[i]
            m += 1
        if here * there < 0.0:
            x_out[m] = limit
            y_out[m] = y[i] + here / (here - there) * (y[j] - y[i])
            m += 1
    return m


@numba.njit(nogil=True)
def _area(x, y, n):
    twice = 0.0
    for i in range(1, n - 1):
        twice += (x[i] - x[0]) * (y[i + 1] - y[0]) - (x[i + 1] - x[0]) * (y[i] - y[0])
    return abs(twice) / 2.0


@numba.njit(nogil=True)
def _spread(bits):
    """The bits of an integer below 2**32, moved to the even places."""
    bits = (bits | (bits << 16)) & 0x0000FFFF0000FFFF
    bits = (bits | (bits << 8)) & 0x00FF00FF00FF00FF
    bits = (bits | (bits << 4)) & 0x0F0F0F0F0F0F0F0F
    bits = (bits | (bits << 2)) & 0x3333333333333333
    return (bits | (bits << 1)) & 0x5555555555555555


@numba.njit(nogil=True)
def nested_id(zone, quarter, i, j, nside):
    """Nested id of the square (i, j) of a facet in the coordinates of `_corners`."""
    if zone == 1:
        face, x, y = quarter, nside - 1 - j, nside - 1 - i
    elif zone == -1:
        face, x, y = 8 + quarter, i, j
    else:
        x, y = i % nside, j % nside
        if i >= nside:
            face = quarter if j >= nside else 4 + (quarter + 1) % 4
        else:
            face = 4 + quarter if j >= nside else 8 + quarter
    return face * nside * nside + _spread(x) + 2 * _spread(y)


@numba.njit(nogil=True)
def _corners(zone, row, column, nside, work):
    """Corners of a piece of a box, in cells along the two edges of the facet's squares.

    In the caps the pole is the origin (distances from it keep their relative precision), meridians
    are rays and parallels are x + y = s nside; in the belt the four facets of a quarter make one
    square of 2 nside, standing on a corner.
    """
    for corner in range(4):
        t = column[2] if corner in (1, 2) else column[1]
        across = row[2] if corner >= 2 else row[1]
        if zone == 0:
            work[0, corner] = nside * (t + across + 0.5)
            work[1, corner] = nside * (across - t + 1.5)
        else:
            work[0, corner] = nside * t * across
            work[1, corner] = nside * (1.0 - t) * across


@numba.njit(nogil=True)
def _squares(x, n, n_squares):
    """First and last unit interval that the coordinates of a polygon touch."""
    low = high = x[0]
    for i in range(1, n):
        low, high = min(low, x[i]), max(high, x[i])
    first = min(max(int(np.floor(low)), 0), n_squares - 1)
    return first, min(max(int(np.ceil(high)) - 1, first), n_squares - 1)


@numba.njit(nogil=True)
def _add_piece(zone, quarter, nside, smallest, work, found, count):
    """Cells that the quadrilateral in work[:2] touches, appended; their new number."""
    cells, areas, centroids = found
    x, y, x_half, y_half = work[0], work[1], work[2], work[3]
    x_strip, y_strip, x_cell, y_cell = work[4], work[5], work[6], work[7]
    n_squares = 2 * nside if zone == 0 else nside
    left, right = _squares(x, 4, n_squares)
    for i in range(left, right + 1):
        n = _clip(x, y, 4, float(i), -1.0, x_half, y_half)
        n = _clip(x_half, y_half, n, i + 1.0, 1.0, x_strip, y_strip)
        if n < 3:
            continue
        bottom, top = _squares(y_strip, n, n_squares)
        for j in range(bottom, top + 1):
            if bottom == top:
                x_shared, y_shared, m = x_strip, y_strip, n
            else:
                m = _clip(y_strip, x_strip, n, float(j), -1.0, y_half, x_half)
                m = _clip(y_half, x_half, m, j + 1.0, 1.0, y_cell, x_cell)
                x_shared, y_shared = x_cell, y_cell
            area = _area(x_shared, y_shared, m)
            if area > smallest:
                cells[count] = nested_id(zone, quarter, i, j, nside)
                areas[count] = area
                if count < len(centroids):
                    polygon_centroid(zone, quarter, nside, x_shared, y_shared, m, centroids[count])
                count += 1
    return count


@numba.njit(nogil=True)
def _room(zone, nside, work):
    """Most cells that the quadrilateral in work[:2] can touch."""
    n_squares = 2 * nside if zone == 0 else nside
    left, right = _squares(work[0], 4, n_squares)
    bottom, top = _squares(work[1], 4, n_squares)
    return (right - left + 1) * (top - bottom + 1)


@numba.njit(nogil=True)
def grown(array, used, needed):
    """The array, or a longer one with the same first rows."""
    if needed <= array.shape[0]:
        return array
    larger = np.empty((max(needed, 2 * array.shape[0]), *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger


@numba.njit(nogil=True)
def _smaller_area(nside, rows, row_pieces, columns, column_pieces):
    """Area of a box or of a cell, in cells, whichever is smaller."""
    height, width = 0.0, 0.0
    for r in row_pieces:
        low, high = rows[r, 1], rows[r, 2]
        height += 2.0 * (high - low) if rows[r, 0] == 0.0 else (high - low) * (high + low) / 2.0
    for c in column_pieces:
        width += columns[c, 2] - columns[c, 1]
    return min(1.0, height * width * nside * nside)


@numba.njit(nogil=True)
def _pieces(nside, axes, wanted, with_centroids):
    """Starts, cells, areas and centroids, none of which if they are not asked for."""
    rows, row_starts, columns, column_starts = axes
    n_lat, n_lon = wanted.shape
    starts = np.zeros(n_lat * n_lon + 1, np.int64)
    cells, areas = np.empty(1024, np.int64), np.empty(1024, np.float64)
    centroids = np.empty((1024 if with_centroids else 0, 3), np.float64)
    work, count = np.empty((8, 16)), 0
    for box in range(n_lat * n_lon):
        lat, lon = box // n_lon, box % n_lon
        row_pieces = range(row_starts[lat], row_starts[lat + 1] if wanted[lat, lon] else 0)
        column_pieces = range(column_starts[lon], column_starts[lon + 1])
        smallest = SMALLEST_PART * _smaller_area(nside, rows, row_pieces, columns, column_pieces)
        for r in row_pieces:
            for c in column_pieces:
                zone, quarter = int(rows[r, 0]), int(columns[c, 0])
                _corners(zone, rows[r], columns[c], nside, work)
                needed = count + _room(zone, nside, work)
                cells, areas = grown(cells, count, needed), grown(areas, count, needed)
                if with_centroids:
                    centroids = grown(centroids, count, needed)
                found = (cells, areas, centroids)
                count = _add_piece(zone, quarter, nside, smallest, work, found, count)
        starts[box + 1] = count
    return starts, cells[:count], areas[:count], centroids[:count]


@compiled
def box_overlaps(nside, rows, row_starts, columns, column_starts, wanted):
    """Cells that every box of a rectilinear grid touches, with the areas shared.

    Parameters
    ----------
    nside : int
        Cells along an edge of a base cell.
    rows : array of float, shape (n, 3)
        Pieces of the rows, as (zone, low, high): in the belt between 3/4 sin(lat), in a cap
        between sqrt(3 (1 - |sin(lat)|)).
    row_starts : array of int, shape (n_lat + 1,)
        Which pieces belong to which row.
    columns : array of float, shape (n, 3)
        Pieces of the columns, as (quarter, west, east): between parts of that quarter turn.
    column_starts : array of int, shape (n_lon + 1,)
        Which pieces belong to which column.
    wanted : array of bool, shape (n_lat, n_lon)
        Boxes to look at.

    Returns
    -------
    starts : array of int64, shape (n_lat * n_lon + 1,)
        Which entries belong to which box, in (lat, lon) order.
    cells : array of int64, shape (n,)
        Nested ids; a cell that a box touches in two facets appears twice.
    areas : array of float64, shape (n,)
        Shared areas in units of one HEALPix cell.
    """
    return _pieces(nside, (rows, row_starts, columns, column_starts), wanted, False)[:3]


@compiled
def box_pieces(nside, rows, row_starts, columns, column_starts, wanted):
    """Cells that every box touches, with the areas shared and their centroids.

    Parameters
    ----------
    nside, rows, row_starts, columns, column_starts, wanted
        As for `box_overlaps`.

    Returns
    -------
    starts, cells, areas : arrays
        As from `box_overlaps`.
    centroids : array of float64, shape (n, 3)
        Mean of the unit vectors of what is shared, inside the sphere, see
        `xsphere.weights.moments.polygon_centroid`.
    """
    return _pieces(nside, (rows, row_starts, columns, column_starts), wanted, True)
