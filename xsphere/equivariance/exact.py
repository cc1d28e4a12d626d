"""Schur's measure of a matrix, exactly: the expectation over all random fields of a degree.

By the addition theorem isotropic random fields of degree l have the covariance P_l(cos angle), so
the mean squares of ``L f`` and of ``L f - c f`` are sums of Legendre polynomials over the pairs of
cells that a row weighs. Neither fields nor rotations are drawn.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from xsphere.grids import Grid
from xsphere.threads import in_parts

Floats = NDArray[np.float64]
ROWS_AT_ONCE = 4096
# Coefficients below this part of the largest are rounding.
ROUNDING = 1e-15
# Mean squares below this part of what the weights could make are zero but for rounding.
VANISHING = 1e-24


def exact_squares(
    matrix: sparse.csr_array, grid: Grid, degrees: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Squared relative error and response of a matrix on every degree.

    The error is the least that any scalar c(l) leaves,
    ``E |L f - c f|^2 / E |L f|^2 = 1 - (sum A w'p)^2 / (sum A  sum A w'P w)``, and the response is
    that scalar, ``c = sum A w'p / sum A``, with ``p_j = P_l(x_i . x_j)``,
    ``P_jj' = P_l(x_j . x_j')``, w the weights and A the area of each row [1]_.

    Parameters
    ----------
    matrix : sparse array of float64, shape (n_cells, n_cells)
        (target, source), in CSR form.
    grid : Grid
        Any grid, whole or a part: rows and areas are those of its cells.
    degrees : array of int64, shape (n_degrees,)
        Degrees, at least 0.

    Returns
    -------
    squared_error, response : arrays of float64, shape (n_degrees,)
        NaN on a degree that the matrix maps to zero.

    References
    ----------
    .. [1] The addition theorem: https://dlmf.nist.gov/14.30.E9

    Examples
    --------
    A shift by one cell of four on the equator is no scalar on degree 1:

    >>> from xsphere.grids import LatLonGrid
    >>> grid = LatLonGrid([0, 90, 180, 270], [0])
    >>> shift = sparse.csr_array(np.roll(np.eye(4), 1, axis=0))
    >>> squared, response = exact_squares(shift, grid, np.array([1]))
    >>> squared.round(12), response.round(12)
    (array([1.]), array([0.]))
    """
    areas, sums = np.asarray(grid.areas), np.asarray(matrix.sum(axis=1))
    widest = _widest(matrix, grid.centres)
    series = _legendre_series(degrees, widest)
    single, double = _moments(matrix, grid.centres, areas, widest, series.shape[1]) @ series.T
    total, weighted = areas.sum(), np.asarray(areas @ sums)
    response = (single + weighted) / total
    power = double + areas @ sums**2
    # row sums apart, so that nothing is left of a multiple of the identity
    residual = double - 2 * response * single + areas @ (sums[:, None] - response) ** 2
    possible = areas @ np.asarray(abs(matrix).sum(axis=1)) ** 2
    power = np.where(power > VANISHING * possible, power, np.nan)
    return (residual / power).clip(0.0, 1.0), response


def _widest(matrix: sparse.csr_array, points: Floats) -> float:
    """``1 - cos`` of the angle that no two cells of one row exceed: twice the largest reach."""
    largest = 0.0
    for first in range(0, matrix.shape[0], ROWS_AT_ONCE):
        starts = matrix.indptr[first : first + ROWS_AT_ONCE + 1]
        targets = np.repeat(np.arange(first, first + starts.size - 1), np.diff(starts))
        away = points[matrix.indices[starts[0] : starts[-1]]] - points[targets]
        largest = max(largest, float((away**2).sum(axis=1).max(initial=0.0)))
    # any width does where every row weighs only its own cell
    return min(2.0 * largest, 2.0) or 1e-6


def _legendre_series(degrees: NDArray[np.int64], widest: float) -> Floats:
    """Chebyshev coefficients of ``(P_l(1 - u) - 1) / u`` on [0, widest], (n_degrees, n_terms).

    Divided by u, they hold their relative accuracy for the nearest pairs, on which the large and
    opposite weights of a Laplacian depend.
    """
    top = max(int(degrees.max()), 1)
    u = widest * np.cos(np.pi * (np.arange(top) + 0.5) / (2 * top)) ** 2
    values = np.zeros((top + 1, top))
    # P_l - 1 by its increments: the plain recurrence would lose it beside 1
    increment, legendre = -u, np.ones(top)
    for degree in range(1, top + 1):
        legendre = legendre + increment
        values[degree] = values[degree - 1] + increment / u
        increment = (degree * increment - (2 * degree + 1) * u * legendre) / (degree + 1)
    coefficients = fft.dct(values[degrees], type=2, axis=1) / top
    coefficients[:, 0] /= 2
    largest = np.abs(coefficients).max(axis=1, keepdims=True)
    used = np.flatnonzero((np.abs(coefficients) > ROUNDING * largest).any(axis=0))
    return coefficients[:, : used.max(initial=0) + 1]


def _moments(
    matrix: sparse.csr_array, points: Floats, areas: Floats, widest: float, n_terms: int
) -> Floats:
    """Moments of all rows: blocks side by side, added in their order whatever the threads."""
    from xsphere.equivariance.field_moments import row_moments

    arrays = (matrix.indptr, matrix.indices, matrix.data, points, areas)

    def of_block(rows: slice) -> Floats:
        moments: Floats = row_moments(*arrays, (rows.start, rows.stop), widest, n_terms)
        return moments

    moments: Floats = np.sum(in_parts(of_block, matrix.shape[0], ROWS_AT_ONCE), axis=0)
    return moments
