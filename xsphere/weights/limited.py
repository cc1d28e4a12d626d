"""Means of limited linear functions over pieces of cells, as compiled loops.

Fields lie side by side, and nothing is ever added across them: what comes out for one does not
depend on the others. Everything here is numba: import it inside the functions that need it.
"""

# mypy: allow-untyped-defs

import numba
import numpy as np

from xsphere.compiled import compiled


@numba.njit(nogil=True)
def _empty(fields):
    return np.empty(fields.shape[1], fields.dtype)


@numba.njit(nogil=True)
def _fit(row, stencils, fields, work):
    """Gradients of the fields at a source cell, and their ranges over its stencil."""
    sources, neighbours, slopes = stencils
    here, east, north, low, high, _, _ = work
    n_fields, zero = fields.shape[1], fields.dtype.type(0)
    for f in range(n_fields):
        value = fields[sources[row], f]
        here[f] = low[f] = high[f] = value
        east[f] = north[f] = zero
    for k in range(neighbours.shape[1]):
        there, by_east, by_north = neighbours[row, k], slopes[row, k, 0], slopes[row, k, 1]
        for f in range(n_fields):
            value = fields[there, f]
            step = value - here[f]
            east[f] += by_east * step
            north[f] += by_north * step
            low[f] = value if value < low[f] else low[f]
            high[f] = value if value > high[f] else high[f]


@numba.njit(nogil=True, error_model="numpy")
def _limit(first, last, offsets, work):
    """Gradients made so short that no piece is out of range; none, and no value, where missing."""
    here, east, north, low, high, down, up = work
    n_fields, zero, one = here.size, here.dtype.type(0), here.dtype.type(1)
    for f in range(n_fields):
        down[f] = up[f] = zero
    for piece in range(first, last):
        by_east, by_north = offsets[piece, 0], offsets[piece, 1]
        for f in range(n_fields):
            change = east[f] * by_east + north[f] * by_north
            down[f] = change if change < down[f] else down[f]
            up[f] = change if change > up[f] else up[f]
    for f in range(n_fields):
        below = (low[f] - here[f]) / down[f] if down[f] < zero else one
        above = (high[f] - here[f]) / up[f] if up[f] > zero else one
        part = below if below < one else one
        part = above if above < part else part
        # a missing neighbour made the gradient NaN or infinite: zero times that is not zero
        known = (east[f] + north[f]) * zero == zero
        east[f] = part * east[f] if known else zero
        north[f] = part * north[f] if known else zero
        here[f] = here[f] if here[f] * zero == zero else zero


@compiled
def second_order_sums(starts, targets, weights, offsets, stencils, fields, sums):
    """Adds up the means over pieces of cells whose fields are limited linear functions.

    Parameters
    ----------
    starts : array of int, shape (m + 1,)
        Which pieces belong to which of the source cells in use.
    targets, weights, offsets : arrays, shapes (n,), (n,), (n, 2)
        Target cell of every piece, part of it that the piece is, way to its centroid.
    stencils : tuple of arrays, shapes (m,), (m, n_neighbours), (m, n_neighbours, 2)
        The source cells in use, their neighbours and the weights of these in gradients, see
        `xsphere.weights.moments.gradient_weights`.
    fields : array of float, shape (n_source, n_fields)
        Source fields. A cell without a finite value adds nothing, one with such a neighbour has
        no gradient.
    sums : array of float, shape (n_target, n_fields)
        Sums over pieces are added here.
    """
    n_fields = fields.shape[1]
    # arrays of their own: slices of one would be looked up anew in every loop
    here, east, north = _empty(fields), _empty(fields), _empty(fields)
    work = (here, east, north, _empty(fields), _empty(fields), _empty(fields), _empty(fields))
    for row in range(starts.size - 1):
        _fit(row, stencils, fields, work)
        _limit(starts[row], starts[row + 1], offsets, work)
        for piece in range(starts[row], starts[row + 1]):
            target, weight = targets[piece], weights[piece]
            by_east, by_north = offsets[piece, 0], offsets[piece, 1]
            for f in range(n_fields):
                value = here[f] + (east[f] * by_east + north[f] * by_north)
                sums[target, f] += weight * value


@compiled
def marked_parts(starts, sources, targets, weights, marks, n_target):
    """Parts of target cells that marked source cells cover.

    Parameters
    ----------
    starts, sources, targets, weights : arrays, shapes (m + 1,), (m,), (n,), (n,)
        As for `second_order_sums`.
    marks : array of bool, shape (n_masks, n_source)
        Marked source cells.
    n_target : int
        Number of target cells.

    Returns
    -------
    array of the type of `weights`, shape (n_target, n_masks)
        Added up in the same order whatever is marked.
    """
    parts = np.zeros((n_target, len(marks)), weights.dtype)
    for row in range(sources.size):
        for mask in range(len(marks)):
            if marks[mask, sources[row]]:
                for piece in range(starts[row], starts[row + 1]):
                    parts[targets[piece], mask] += weights[piece]
    return parts
