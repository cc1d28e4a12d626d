"""Sums over pairs of cells, as a compiled loop. Imports numba: import it inside functions."""

# mypy: allow-untyped-defs

import numba
import numpy as np

from xsphere.compiled import compiled

# Pairs that go through the recurrence side by side: no sum runs across them, so that they become
# vector instructions while the order of every sum stays fixed.
LANES = 8


@numba.njit(nogil=True)
def _add(moments, scaled, values):
    """Add ``values * T_k(scaled)`` of every lane to row k of the moments; empty the lanes."""
    previous, current = np.ones(LANES), scaled.copy()
    for lane in range(LANES):
        moments[0, lane] += values[lane]
    for k in range(1, moments.shape[0]):
        for lane in range(LANES):
            moments[k, lane] += values[lane] * current[lane]
            following = 2.0 * scaled[lane] * current[lane] - previous[lane]
            previous[lane] = current[lane]
            current[lane] = following
    values[:] = 0.0


@numba.njit(nogil=True)
def _half_square(points, one, other):
    """``1 - cos`` of the angle between two points, without cancellation."""
    x = points[one, 0] - points[other, 0]
    y = points[one, 1] - points[other, 1]
    z = points[one, 2] - points[other, 2]
    return 0.5 * (x * x + y * y + z * z)


@compiled
def row_moments(starts, sources, weights, points, areas, rows, widest, n_terms):
    """Chebyshev moments, over pairs of cells, of what a matrix weighs.

    With ``u = 1 - cos(angle)`` and ``T_k`` the Chebyshev polynomials on [0, `widest`], the k-th
    moments are ``sum_i A_i sum_j w_ij u_ij T_k(u_ij)`` and
    ``sum_i A_i sum_jj' w_ij w_ij' u_jj' T_k(u_jj')``.

    Parameters
    ----------
    starts, sources, weights : arrays, shapes (n_cells + 1,), (n,), (n,)
        A matrix (target, source) in compressed rows.
    points : array of float64, shape (n_cells, 3)
        Unit vectors.
    areas : array of float64, shape (n_cells,)
        Weights A of the rows.
    rows : tuple of int
        First row, and the row after the last.
    widest : float
        No u is larger.
    n_terms : int
        Number of moments.

    Returns
    -------
    array of float64, shape (2, n_terms)
        Of the single sums and of the double sums.
    """
    moments = np.zeros((2, n_terms, LANES))
    scaled, values = np.zeros((2, LANES)), np.zeros((2, LANES))
    filled = np.zeros(2, np.int64)
    scale = 2.0 / widest
    for row in range(rows[0], rows[1]):
        for entry in range(starts[row], starts[row + 1]):
            weight = areas[row] * weights[entry]
            # the row's own cell first, then the pairs of its sources, each once
            for second in range(starts[row] - 1, entry):
                kind = 0 if second < starts[row] else 1
                other = row if kind == 0 else sources[second]
                factor = 1.0 if kind == 0 else 2.0 * weights[second]
                u = _half_square(points, sources[entry], other)
                lane = filled[kind]
                scaled[kind, lane] = scale * u - 1.0
                values[kind, lane] = weight * factor * u
                filled[kind] = lane + 1
                if filled[kind] == LANES:
                    _add(moments[kind], scaled[kind], values[kind])
                    filled[kind] = 0
    for kind in range(2):
        _add(moments[kind], scaled[kind], values[kind])
    return moments.sum(axis=2)
