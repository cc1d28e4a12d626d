"""Rows of a Laplacian fitted to the sphere, as compiled loops. Import it inside functions."""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from xsphere.compiled import compiled

# Relative to the mean of the diagonal: far below what the fit resolves, far above rounding.
RIDGE = 1e-13
# Squared distance of cells at one place, which rounding leaves.
COINCIDENT = 1e-28


@numba.njit(nogil=True)
def _value(pieces, scale, square):
    """Piecewise polynomial of the squared distance, times that distance."""
    at = square * scale
    piece = min(int(at), pieces.shape[0] - 1)
    u = 2.0 * (at - piece) - 1.0
    value = pieces[piece, pieces.shape[1] - 1]
    for i in range(pieces.shape[1] - 2, -1, -1):
        value = value * u + pieces[piece, i]
    return square * value


@numba.njit(nogil=True)
def _cholesky(gram, kept, m, ridge, factor):
    """Lower factor of some rows, in order, of a matrix with a ridge; whether there is one."""
    for i in range(m):
        for j in range(i + 1):
            total = gram[kept[i], kept[j]]
            if i == j:
                total += ridge
            for p in range(j):
                total -= factor[i, p] * factor[j, p]
            if i > j:
                factor[i, j] = total / factor[j, j]
            elif total <= 0.0:
                return False
            else:
                factor[i, i] = math.sqrt(total)
    return True


@numba.njit(nogil=True)
def _solve(factor, target, kept, m, row):
    """Weights of some neighbours; the others' are zero."""
    for i in range(m):
        row[i] = target[kept[i]]
        for p in range(i):
            row[i] -= factor[i, p] * row[p]
        row[i] /= factor[i, i]
    for i in range(m - 1, -1, -1):
        for p in range(i + 1, m):
            row[i] -= factor[p, i] * row[p]
        row[i] /= factor[i, i]


@numba.njit(nogil=True)
def _worst(row, m):
    """Minus the sum of the weights, the sum of those of the wrong sign, and the most wrong one."""
    total, wrong, worst = 0.0, 0.0, 0
    for i in range(m):
        total -= row[i]
        wrong += max(row[i], 0.0)
        if row[i] > row[worst]:
            worst = i
    return total, wrong, worst


@numba.njit(nogil=True)
def _fit(gram, target, m, limits, kept, factor, row):
    """Weights of a row that is stable and bounded: how many neighbours stay, if it was damped."""
    trace = 0.0
    for i in range(m):
        kept[i] = i
        trace += gram[i, i]
    least = RIDGE * trace / m
    ridge, damped = least, False
    while m > 0:
        if not _cholesky(gram, kept, m, ridge, factor):
            ridge *= 10.0
            continue
        _solve(factor, target, kept, m, row)
        total, wrong, worst = _worst(row, m)
        if wrong > limits[1] * total:
            # the neighbour that pulls the wrong way most is left out
            m -= 1
            ridge, damped = least, False
            for i in range(worst, m):
                kept[i] = kept[i + 1]
        elif 2.0 * (total + wrong) > limits[0]:
            ridge, damped = 4.0 * ridge, True
        else:
            break
    return m, damped


@numba.njit(nogil=True)
def _square(centres, one, other):
    square = 0.0
    for axis in range(3):
        square += (centres[one, axis] - centres[other, axis]) ** 2
    return square


@numba.njit(nogil=True)
def _system(centres, cell, ids, tables, scale, near, gram, target):
    """Equations of the weights of a cell's neighbours."""
    for i in range(ids.size):
        square = _square(centres, ids[i], cell)
        square *= square > COINCIDENT
        near[i] = _value(tables[0], scale, square)
        target[i] = -_value(tables[1], scale, square)
        for j in range(i):
            between = _value(tables[0], scale, _square(centres, ids[i], ids[j]))
            # cells at the place of this one say nothing, whatever is left by rounding
            gram[i, j] = near[i] + near[j] - between if near[i] * near[j] > 0.0 else 0.0
        gram[i, i] = 2.0 * near[i]


@compiled
def fit_rows(centres, links, tables, scale, limits, values, diagonal):
    """Weights with which differences to neighbours act as a Laplacian, by least squares.

    Parameters
    ----------
    centres : array of float64, shape (n_cells, 3)
        Unit vectors.
    links : tuple of arrays, shapes (n,), (n + 1,) and (n_links,)
        Cells whose rows are fitted; where the neighbours of each start; the neighbours.
    tables : tuple of two arrays of float64, shape (n_pieces, degree + 1)
        Polynomials that, times the squared distance, give ``sum_l a_l (1 - P_l)`` and
        ``sum_l a_l c_l (1 - P_l)``; the first coefficient is the constant.
    scale : float
        Pieces in a unit of the squared distance.
    limits : tuple of two floats
        What the absolute weights of a row may sum to, and those of the wrong sign over the
        diagonal.
    values : array of float64, shape (n_links,)
        Filled with the weights of the neighbours.
    diagonal : array of float64, shape (n,)
        Filled with minus the sum of these.

    Returns
    -------
    int
        Number of rows from which neighbours were left out, or that were damped.

    Examples
    --------
    >>> centres, one = np.eye(3), np.ones((1, 1))
    >>> values, diagonal = np.empty(2), np.empty(1)
    >>> links = np.array([0]), np.array([0, 2]), np.array([1, 2], np.int32)
    >>> fit_rows(centres, links, (one, one), 1.0, (np.inf, 0.1), values, diagonal)
    0
    >>> values.round(6), diagonal.round(6)
    (array([-0.333333, -0.333333]), array([0.666667]))
    """
    cells, starts, neighbours = links
    widest = 0
    for row in range(cells.size):
        widest = max(widest, starts[row + 1] - starts[row])
    gram, factor = np.empty((widest, widest)), np.empty((widest, widest))
    fitted, near, target = np.empty(widest), np.empty(widest), np.empty(widest)
    kept = np.empty(widest, np.int64)
    n_changed = 0
    for row in range(cells.size):
        begin, end = starts[row], starts[row + 1]
        ids = neighbours[begin:end]
        _system(centres, cells[row], ids, tables, scale, near, gram, target)
        n_kept, damped = _fit(gram, target, ids.size, limits, kept, factor, fitted)
        n_changed += damped or n_kept < ids.size
        values[begin:end] = 0.0
        diagonal[row] = 0.0
        for i in range(n_kept):
            values[begin + kept[i]] = fitted[i]
            diagonal[row] -= fitted[i]
    return n_changed


@compiled
def with_diagonal(cells, counts, rows, starts, indices, data):
    """Write rows into a matrix in CSR form, each with its diagonal where it belongs.

    Parameters
    ----------
    cells, counts : array of int64, shape (n,)
        Which rows they are, and how many entries each has beside the diagonal.
    rows : tuple of arrays, shapes (n_links,), (n_links,) and (n,)
        Columns of these entries, ascending in a row, their values, and the diagonal.
    starts : array of int, shape (n_cells + 1,)
        Where the rows of the matrix start.
    indices, data : arrays, shape (n_entries,)
        Columns and values of the matrix, filled for these rows.

    Examples
    --------
    >>> indices, data = np.empty(3, np.int32), np.empty(3)
    >>> rows = np.array([0, 2], np.int32), np.array([-1.0, -2.0]), np.array([3.0])
    >>> with_diagonal(np.array([1]), np.array([2]), rows, np.array([0, 0, 3]), indices, data)
    >>> indices, data
    (array([0, 1, 2], dtype=int32), array([-1.,  3., -2.]))
    """
    ids, values, diagonal = rows
    begin = 0
    for row in range(cells.size):
        at, end = starts[cells[row]], begin + counts[row]
        for i in range(begin, end):
            if ids[i] >= cells[row]:
                break
            indices[at], data[at] = ids[i], values[i]
            at, begin = at + 1, begin + 1
        indices[at], data[at] = cells[row], diagonal[row]
        for i in range(begin, end):
            indices[at + 1], data[at + 1] = ids[i], values[i]
            at += 1
        begin = end
