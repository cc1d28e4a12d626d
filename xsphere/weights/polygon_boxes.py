"""Overlaps of polygons of great circles with longitude-latitude boxes, as compiled loops.

The chords of `xsphere.weights.polygon_overlap`, in the equal-area HEALPix projection, where
parallels and meridians are straight lines too: each chord is followed from row to row and from
column to column, and the area between it and the next meridian to the east goes to the box. Areas
come in steradian. Everything here is numba: import it inside the functions that need it.
"""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from xsphere.compiled import compiled
from xsphere.weights.overlap import BELT, NORTH_CAP, SOUTH_CAP, grown
from xsphere.weights.polygon_overlap import HALVINGS, SMALLEST_PART, polygon_ring

# Steradian per quarter turn and unit of 3/4 z in the belt, of s^2 / 2 in the caps.
BELT_AREA = math.pi / 2 * 4.0 / 3.0
CAP_AREA = math.pi / 2 * 2.0 / 3.0


@numba.njit(nogil=True)
def _column_of(quarters, columns):
    """Number of the column that holds a longitude; they go on from turn to turn."""
    turn = math.floor((quarters - columns[0]) / 4.0)
    column = np.searchsorted(columns, quarters - 4.0 * turn, side="right") - 1
    return turn * (columns.size - 1) + min(max(column, 0), columns.size - 2)


@numba.njit(nogil=True)
def _west_of(column, columns):
    """Western edge of a column and its width, in quarter turns."""
    turn, once = column // (columns.size - 1), column % (columns.size - 1)
    return columns[once] + 4.0 * turn, columns[once + 1] - columns[once]


@numba.njit(nogil=True)
def _part(x, height, zone):
    """Part of the quarter turn at a point of a chord."""
    if zone == BELT:
        return x
    return x / height if height > 0.0 else 0.0


@numba.njit(nogil=True)
def _add_in_row(chord, facet, columns, first, row):
    """Add a piece of a chord within one row to the differences of area from box to box."""
    x, height, x_end, height_end = chord
    zone, quarter = facet
    t, t_end, sign = _part(x, height, zone), _part(x_end, height_end, zone), 1.0
    if zone != BELT and min(height, height_end) <= 0.0:
        # to or from the pole on a meridian
        t = t_end = max(t, t_end)
    if t > t_end:
        x, height, x_end, height_end, t, t_end, sign = x_end, height_end, x, height, t_end, t, -1.0
    column, last = _column_of(quarter + t, columns), _column_of(quarter + t_end, columns)
    dx, rise = x_end - x, height_end - height
    x_left, left = x, height
    while column <= last:
        west, width = _west_of(column, columns)
        x_right, right = x_end, height_end
        if column < last:
            edge = west + width - quarter
            part = (edge - x) / dx if zone == BELT else (edge * height - x) / (dx - edge * rise)
            part = min(max(part, 0.0), 1.0)
            x_right, right = x + part * dx, height + part * rise
        amount = right - left
        moment = 0.5 * (x_left + x_right) * amount
        if zone != BELT:
            amount *= 0.5 * (left + right)
        inside = sign * (moment - (west - quarter) * amount) / width
        row[column - first] += sign * amount - inside
        row[column - first + 1] += inside
        x_left, left, column = x_right, right, column + 1


@numba.njit(nogil=True)
def _add_chord(here, there, zone, heights, columns, corner, table):
    """Add a chord to the differences of area from box to box along every row of a zone."""
    low, high, sign = here[2 - zone], there[2 - zone], 1.0
    if low == high:
        return
    quarter = float(math.floor(0.5 * (here[0] + there[0])))
    x, x_high = here[0] - quarter, there[0] - quarter
    if zone != BELT:
        x, x_high = x * low, x_high * high
    if low > high:
        x, x_high, low, high, sign = x_high, x, high, low, -1.0
    slope = (x_high - x) / (high - low)
    row = max(np.searchsorted(heights, low, side="right") - 1, 0)
    bottom, x_bottom = low, x
    while bottom < high and row < heights.size - 1:
        top = min(high, heights[row + 1])
        x_top = x_high if top == high else x + slope * (top - low)
        chord = (x_bottom, bottom, x_top, top)
        if sign < 0.0:
            chord = (x_top, top, x_bottom, bottom)
        _add_in_row(chord, (zone, quarter), columns, corner[1], table[row - corner[0]])
        bottom, x_bottom, row = top, x_top, row + 1


@numba.njit(nogil=True)
def _add_zone(ring, n, zone, rows, columns, smallest, sums, found):
    """Boxes of a zone that a polygon touches, appended."""
    heights, first_row = rows
    lowest, highest = ring[:n, 2 - zone].min(), ring[:n, 2 - zone].max()
    bottom = max(np.searchsorted(heights, lowest, side="right") - 1, 0)
    left = _column_of(ring[:n, 0].min(), columns)
    n_rows = np.searchsorted(heights, highest, side="left") - bottom
    n_columns = _column_of(ring[:n, 0].max(), columns) - left + 1
    sums = grown(sums, 0, n_rows * (n_columns + 1))
    table = sums[: n_rows * (n_columns + 1)].reshape(n_rows, n_columns + 1)
    table[:] = 0.0
    for k in range(n):
        following = ring[k + 1 if k + 1 < n else 0]
        _add_chord(ring[k], following, zone, heights, columns, (bottom, left), table)
    boxes, areas, count = found
    boxes, areas = (
        grown(boxes, count, count + table.size),
        grown(areas, count, count + table.size),
    )
    # the distance from the pole falls to the north
    unit = BELT_AREA if zone == BELT else CAP_AREA
    sign = unit if zone == NORTH_CAP else -unit
    for j in range(n_rows):
        total = 0.0
        for i in range(n_columns):
            total += sign * table[j, i]
            area = total * _west_of(left + i, columns)[1]
            if area > smallest:
                row, column = first_row + bottom + j, (left + i) % (columns.size - 1)
                boxes[count], areas[count] = row * (columns.size - 1) + column, area
                count += 1
    return sums, (boxes, areas, count)


@compiled
def polygon_box_overlaps(nodes, faces, sizes, box_size, columns, south, belt, north):
    """Boxes that every polygon touches, with the areas shared.

    Parameters
    ----------
    nodes : array of float, shape (n_nodes, 3)
        Unit vectors of the corners, each once.
    faces : array of int, shape (n_polygons, n_vertices)
        Corners of every polygon, counter-clockwise seen from outside; repeats are left out.
    sizes : array of float, shape (n_polygons,)
        Areas of the polygons in steradian.
    box_size : float
        Typical side of a box in quarter turns: chords are exact to a small part of it.
    columns : array of float, shape (n_lon + 1,)
        Meridians between columns that go once round, increasing, in quarter turns.
    south, belt, north : arrays of float
        Parallels between rows that cover each zone, increasing: in the belt 3/4 sin(lat) from
        -1/2 to 1/2, in a cap sqrt(3 (1 - |sin(lat)|)) from 0 to 1.

    Returns
    -------
    starts : array of int64, shape (n_polygons + 1,)
        Which entries belong to which polygon.
    boxes : array of int64, shape (n,)
        Row times n_lon plus column, the rows of the three zones one after the other.
    areas : array of float64, shape (n,)
        Shared areas in steradian.
    """
    starts = np.zeros(faces.shape[0] + 1, np.int64)
    found = (np.empty(1024, np.int64), np.empty(1024, np.float64), 0)
    ring, arc, ends = np.empty((256, 4)), np.empty((256, 4)), np.empty((HALVINGS + 4, 3))
    sums = np.empty(256)
    least = np.diff(columns).min() * np.diff(belt).min()
    heights = (south, belt, north)
    first_rows = (0, south.size - 1, south.size + belt.size - 2)
    for polygon in range(faces.shape[0]):
        ring, arc, n = polygon_ring(nodes, faces[polygon], box_size, ring, arc, ends)
        smallest = SMALLEST_PART * min(least, sizes[polygon])
        for zone in (SOUTH_CAP, BELT, NORTH_CAP):
            rows = (heights[zone + 1], first_rows[zone + 1])
            if ring[:n, 2 - zone].min() < ring[:n, 2 - zone].max():
                sums, found = _add_zone(ring, n, zone, rows, columns, smallest, sums, found)
        starts[polygon + 1] = found[2]
    boxes, areas, count = found
    return starts, boxes[:count], areas[:count]
