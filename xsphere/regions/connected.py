"""Cells that touch, and cells that two steps share, as compiled loops. Import it inside functions.

One pass over the cells in order, whatever is in the sphere around them.
"""

# mypy: allow-untyped-defs

import numba
import numpy as np

from xsphere.compiled import compiled


@numba.njit(nogil=True)
def _first_of(before, n):
    """First cell that leads to none but itself; the way there is shorter afterwards."""
    while before[n] != n:
        before[n] = before[before[n]]
        n = before[n]
    return n


@compiled
def connected_cells(starts, beside, cells, classes):
    """Number of the region of each of some cells, and how many there are.

    Cells of one class that touch are in one region. Regions are numbered from 0 in the order of
    their first cells.

    Parameters
    ----------
    starts, beside : array of int
        Rows of a symmetric CSR matrix of touching cells, each sorted: ``indptr`` and ``indices``.
    cells : array of int, shape (n,)
        The cells, in order.
    classes : array of int, shape (n,)
        Class of each.

    Returns
    -------
    array of int, shape (n,)
        The numbers.
    int
        How many there are.
    """
    place = np.full(starts.size - 1, -1, np.int32)
    # of each cell an earlier one of its region; of the first, itself
    before = np.empty(cells.size, np.int32)
    for n in range(cells.size):
        cell = cells[n]
        place[cell] = n
        first = before[n] = np.int32(n)
        for k in range(starts[cell], starts[cell + 1]):
            if beside[k] >= cell:
                break
            other = place[beside[k]]
            if other < 0 or classes[other] != classes[n] or before[other] == first:
                continue
            other = _first_of(before, other)
            if other < first:
                before[first] = other
                first = other
            else:
                before[other] = first
        before[n] = first
    region = np.empty(cells.size, np.int64)
    number = 0
    for n in range(cells.size):
        if before[n] == n:
            region[n] = number
            number += 1
        else:
            region[n] = region[before[n]]
    return region, number


@compiled
def shared_cells(one, other):
    """Where the cells that two arrays share stand in each; both are in order.

    Parameters
    ----------
    one, other : array of int
        Different cells, in order.

    Returns
    -------
    array of int, shape (2, n)
        Positions in `one` and in `other`.
    """
    found = np.empty((2, min(one.size, other.size)), np.int64)
    i = j = n = 0
    while i < one.size and j < other.size:
        if one[i] < other[j]:
            i += 1
        elif one[i] > other[j]:
            j += 1
        else:
            found[0, n] = i
            found[1, n] = j
            n, i, j = n + 1, i + 1, j + 1
    return found[:, :n]
