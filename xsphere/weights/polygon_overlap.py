"""Overlaps of polygons of great circles with HEALPix cells, as compiled loops.

Every edge becomes a line of short chords in the equal-area HEALPix projection, cut where it enters
another facet and the same for the two polygons that it divides, so that polygons without gaps
share the cells without gaps. The ring of chords is unrolled in longitude, and for each facet
pressed onto the facet's rim where it lies outside; the area in each square then follows from a
walk along the chords, whatever the shape. Areas come in units of one HEALPix cell. Everything here
is numba: import it inside the functions that need it.
"""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from xsphere.compiled import compiled
from xsphere.weights.overlap import BELT, NORTH_CAP, SOUTH_CAP, grown, nested_id

# Chords leave their great circle by less than this part of the edge and of the cell.
LARGEST_DEVIATION = 1e-5

# Overlaps smaller than this part of the cell and of the polygon are rounding of edges that touch.
SMALLEST_PART = 1e-12

# Two heights this near to the rim of a facet are on it.
RIM = 1e-13

HALVINGS = 40


@numba.njit(nogil=True)
def _between(a, b, part, out):
    """Unit vector on the way from a to b, into out."""
    for k in range(3):
        out[k] = a[k] + part * (b[k] - a[k])
    length = math.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2])
    for k in range(3):
        out[k] /= length


@numba.njit(nogil=True)
def _cuts(a, b, parts):
    """Parts of the chord from a to b where it crosses quarter turns and |z| = 2/3; their number."""
    n = 0
    for k in range(2):
        if a[k] * b[k] < 0.0:
            parts[n] = a[k] / (a[k] - b[k])
            n += 1
    # z^2 = 4/9 |p|^2 along p = a + part (b - a)
    rise, bend = b[2] - a[2], 0.0
    for k in range(3):
        bend += (b[k] - a[k]) ** 2
    second = rise * rise - 4.0 / 9.0 * bend
    half_first = a[2] * rise + 2.0 / 9.0 * bend
    constant = a[2] * a[2] - 4.0 / 9.0
    root = half_first * half_first - second * constant
    if root > 0.0:
        larger = -half_first - math.copysign(math.sqrt(root), half_first)
        for above, below in ((larger, second), (constant, larger)):
            if below != 0.0 and 1e-14 < above / below < 1.0 - 1e-14:
                parts[n] = above / below
                n += 1
    parts[:n].sort()
    return n


@numba.njit(nogil=True)
def _facet(point):
    """Zone and quarter that hold a point."""
    zone = BELT
    if abs(point[2]) > 2.0 / 3.0:
        zone = NORTH_CAP if point[2] > 0.0 else SOUTH_CAP
    x, y = point[0], point[1]
    if x > 0.0 and y >= 0.0:
        return zone, 0
    if x <= 0.0 and y > 0.0:
        return zone, 1
    return zone, 2 if x < 0.0 else 3


@numba.njit(nogil=True)
def _flat(point, zone, quarter):
    """A point in the plane of a facet: (part of the quarter, 3/4 z), in a cap (t s, (1 - t) s)."""
    x, y, z = point[0], point[1], point[2]
    if quarter == 1:
        x, y = y, -x
    elif quarter == 2:
        x, y = -x, -y
    elif quarter == 3:
        x, y = -y, x
    t = min(max(math.atan2(y, x) * (2.0 / math.pi), 0.0), 1.0)
    if zone == BELT:
        return t, min(max(0.75 * z, -0.5), 0.5)
    s = min(math.sqrt(3.0 * (x * x + y * y) / (1.0 + abs(z))), 1.0)
    return t * s, (1.0 - t) * s


@numba.njit(nogil=True)
def _add_vertex(arc, n, u, v, zone, quarter):
    """A point of a facet's plane as (quarters, s north, 3/4 z, s south), each pressed to its zone.

    A pole has the longitude of the point before it; its own is corrected by `_add_chords`.
    """
    t, height = u, v
    if zone != BELT:
        height = max(u + v, 0.0)
        t = u / height if height > 0.0 else arc[max(n - 1, 0), 0] - quarter
        height = 1.0 if height > 1.0 - RIM else height
    elif abs(height) > 0.5 - RIM:
        height = math.copysign(0.5, height)
    arc[n, 0] = quarter + min(max(t, 0.0), 1.0)
    arc[n, 1] = height if zone == NORTH_CAP else 1.0
    arc[n, 2] = height if zone == BELT else 0.5 * zone
    arc[n, 3] = height if zone == SOUTH_CAP else 1.0
    return n + 1


@numba.njit(nogil=True)
def _add_chords(a, b, cell_size, arc, n, ends):
    """Vertices along the great circle from a to b, which lie in one facet."""
    left, middle = ends[HALVINGS], ends[HALVINGS + 1]
    _between(a, b, 0.5, middle)
    zone, quarter = _facet(middle)
    (u, v), (u_end, v_end) = _flat(a, zone, quarter), _flat(b, zone, quarter)
    allowed = LARGEST_DEVIATION * min(cell_size, math.hypot(u_end - u, v_end - v))
    start, arc = n, grown(arc, n, n + 1)
    n = _add_vertex(arc, n, u, v, zone, quarter)
    # halves still to do, the next one last: two at least, since a bend can hide in its middle
    left[:], ends[0], ends[1], depth = a, b, middle, 2
    while depth > 0:
        _between(left, ends[depth - 1], 0.5, middle)
        u_right, v_right = _flat(ends[depth - 1], zone, quarter)
        u_mean, v_mean = 0.5 * (u + u_right), 0.5 * (v + v_right)
        u_off, v_off = _flat(middle, zone, quarter)
        u_off, v_off = u_off - u_mean, v_off - v_mean
        if depth < HALVINGS and math.hypot(u_off, v_off) > allowed:
            ends[depth] = middle
            depth += 1
            continue
        arc = grown(arc, n, n + 2)
        # two chords that hold as much area as the parabola through the three points
        u_tip, v_tip = u_mean + 4.0 / 3.0 * u_off, v_mean + 4.0 / 3.0 * v_off
        n = _add_vertex(arc, n, u_tip, v_tip, zone, quarter)
        n = _add_vertex(arc, n, u_right, v_right, zone, quarter)
        left[:], u, v, depth = ends[depth - 1], u_right, v_right, depth - 1
    if arc[start, 1] + arc[start, 3] == 1.0:
        # the way from a pole is a meridian
        arc[start, 0] = arc[start + 1, 0]
    return arc, n


@numba.njit(nogil=True)
def _edge(a, b, cell_size, arc, ends):
    """Vertices along the great circle from a to b, facet by facet; their number."""
    parts, n = np.empty(4), 0
    n_cuts = _cuts(a, b, parts)
    before, after = ends[HALVINGS + 2], ends[HALVINGS + 3]
    before[:] = a
    for cut in range(n_cuts + 1):
        if cut == n_cuts:
            after[:] = b
        else:
            _between(a, b, parts[cut], after)
            for k in range(2):
                # a crossing is on its meridian, not nearly
                if abs(after[k]) < RIM:
                    after[k] = 0.0
        arc, n = _add_chords(before, after, cell_size, arc, n, ends)
        before[:] = after
    return arc, n


@numba.njit(nogil=True)
def polygon_ring(nodes, face, cell_size, ring, arc, ends):
    """Vertices around a polygon, longitudes unrolled; closed over the pole that it holds."""
    n, n_corners = 0, face.size
    for corner in range(n_corners):
        here, there = face[corner], face[(corner + 1) % n_corners]
        if here == there:
            continue
        # from the lower node to the higher, so that both neighbours see one line of chords
        arc, n_arc = _edge(nodes[min(here, there)], nodes[max(here, there)], cell_size, arc, ends)
        ring = grown(ring, n, n + n_arc + 2)
        for k in range(n_arc):
            ring[n] = arc[k if here < there else n_arc - 1 - k]
            if n > 0:
                ring[n, 0] += 4.0 * np.rint((ring[n - 1, 0] - ring[n, 0]) / 4.0)
            n += 1
    turns = np.rint((ring[n - 1, 0] - ring[0, 0]) / 4.0)
    if turns != 0.0:
        zone = NORTH_CAP if turns > 0.0 else SOUTH_CAP
        for quarters in (ring[n - 1, 0], ring[0, 0]):
            ring[n, 0], ring[n, 2] = quarters, 0.5 * zone
            ring[n, 1], ring[n, 3] = (0.0, 1.0) if zone == NORTH_CAP else (1.0, 0.0)
            n += 1
    return ring, arc, n


@numba.njit(nogil=True)
def _squares_of(vertex, zone, quarter, nside):
    """A vertex of a ring, pressed onto a facet, in cells along the edges of its squares."""
    t = min(max(vertex[0] - quarter, 0.0), 1.0)
    if zone == BELT:
        return nside * (t + vertex[2] + 0.5), nside * (vertex[2] - t + 1.5)
    s = vertex[1] if zone == NORTH_CAP else vertex[3]
    return nside * t * s, nside * (1.0 - t) * s


@numba.njit(nogil=True)
def _add_strip(x, x_next, rise, row):
    """Add a piece of a chord within one strip to the differences of area from cell to cell."""
    low, high = min(x, x_next), max(x, x_next)
    last = max(math.ceil(high) - 1, 0)
    first = min(int(low), last)
    left, rest = low, rise
    for i in range(first, last + 1):
        right = high if i == last else i + 1.0
        part = rest if i == last else rise * (right - left) / (high - low)
        inside = part * (0.5 * (left + right) - i)
        row[i] += part - inside
        row[i + 1] += inside
        left, rest = right, rest - part


@numba.njit(nogil=True)
def _add_chord(x, y, x_next, y_next, sums):
    """Add a chord to the differences of area from cell to cell along every strip of y."""
    rise = y_next - y
    if rise == 0.0:
        return
    sign = 1.0
    if rise < 0.0:
        x, y, x_next, y_next, rise, sign = x_next, y_next, x, y, -rise, -1.0
    first, last = int(y), max(math.ceil(y_next) - 1, int(y))
    slope = (x_next - x) / rise
    left, bottom = x, y
    for j in range(first, last + 1):
        top = y_next if j == last else j + 1.0
        right = x_next if j == last else x + slope * (top - y)
        # rounding must not leave the chord
        right = min(max(right, min(x, x_next)), max(x, x_next))
        _add_strip(left, right, sign * (top - bottom), sums[j])
        left, bottom = right, top


@numba.njit(nogil=True)
def _summed(ring, n, facet, work):
    """Corner, and table of the differences of area, of the squares that a ring touches."""
    zone, quarter, nside = facet
    flat, sums = work
    n_squares = 2 * nside if zone == BELT else nside
    flat = grown(flat, 0, n)
    for k in range(n):
        flat[k] = _squares_of(ring[k], zone, quarter, nside)
    left = min(int(flat[:n, 0].min()), n_squares - 1)
    bottom = min(int(flat[:n, 1].min()), n_squares - 1)
    n_columns = max(math.ceil(flat[:n, 0].max()) - left, 1)
    n_rows = max(math.ceil(flat[:n, 1].max()) - bottom, 1)
    sums = grown(sums, 0, n_rows * (n_columns + 1))
    table = sums[: n_rows * (n_columns + 1)].reshape(n_rows, n_columns + 1)
    table[:] = 0.0
    for k in range(n):
        here, there = flat[k], flat[k + 1 if k + 1 < n else 0]
        _add_chord(here[0] - left, here[1] - bottom, there[0] - left, there[1] - bottom, table)
    return left, bottom, table, (flat, sums)


@numba.njit(nogil=True)
def _add_facet(ring, n, facet, smallest, work, found):
    """Cells of a facet that a polygon touches, appended."""
    zone, quarter, nside = facet
    left, bottom, table, work = _summed(ring, n, facet, work)
    cells, areas, count = found
    cells, areas = (
        grown(cells, count, count + table.size),
        grown(areas, count, count + table.size),
    )
    # the plane of the north cap is seen from below
    sign = 1.0 if zone == NORTH_CAP else -1.0
    for j in range(table.shape[0]):
        total = 0.0
        for i in range(table.shape[1] - 1):
            total += sign * table[j, i]
            if total > smallest:
                cells[count] = nested_id(zone, quarter % 4, left + i, bottom + j, nside)
                areas[count] = total
                count += 1
    return work, (cells, areas, count)


@numba.njit(nogil=True)
def _add_polygon(ring, n, nside, smallest, work, found):
    """Cells that a polygon touches, appended."""
    first = math.floor(ring[:n, 0].min())
    last = max(math.ceil(ring[:n, 0].max()), first + 1)
    north, south = ring[:n, 1].min() < 1.0, ring[:n, 3].min() < 1.0
    belt = ring[:n, 2].min() < 0.5 and ring[:n, 2].max() > -0.5
    for zone, touched in ((NORTH_CAP, north), (BELT, belt), (SOUTH_CAP, south)):
        for quarter in range(first, last if touched else first):
            work, found = _add_facet(ring, n, (zone, quarter, nside), smallest, work, found)
    return work, found


@compiled
def polygon_overlaps(nside, nodes, faces, sizes, wanted):
    """Cells that every polygon touches, with the areas shared.

    Parameters
    ----------
    nside : int
        Cells along an edge of a base cell.
    nodes : array of float, shape (n_nodes, 3)
        Unit vectors of the corners, each once.
    faces : array of int, shape (n_polygons, n_vertices)
        Corners of every polygon, counter-clockwise seen from outside; repeats are left out.
    sizes : array of float, shape (n_polygons,)
        Areas of the polygons, in units of one HEALPix cell.
    wanted : array of bool, shape (n_polygons,)
        Polygons to look at.

    Returns
    -------
    starts : array of int64, shape (n_polygons + 1,)
        Which entries belong to which polygon.
    cells : array of int64, shape (n,)
        Nested ids; a cell that a polygon touches in two facets appears twice.
    areas : array of float64, shape (n,)
        Shared areas in units of one HEALPix cell.
    """
    starts = np.zeros(faces.shape[0] + 1, np.int64)
    found = (np.empty(1024, np.int64), np.empty(1024, np.float64), 0)
    ring, arc, ends = np.empty((256, 4)), np.empty((256, 4)), np.empty((HALVINGS + 4, 3))
    work = (np.empty((256, 2)), np.empty(256))
    for polygon in range(faces.shape[0]):
        if wanted[polygon]:
            ring, arc, n = polygon_ring(nodes, faces[polygon], 1.0 / nside, ring, arc, ends)
            smallest = SMALLEST_PART * min(1.0, sizes[polygon])
            work, found = _add_polygon(ring, n, nside, smallest, work, found)
        starts[polygon + 1] = found[2]
    cells, areas, count = found
    return starts, cells[:count], areas[:count]
