"""Functions of a Laplacian applied to fields, as sums of Chebyshev polynomials.

A filter multiplies each eigenvector of the Laplacian by a function of its eigenvalue. No
eigenvector is ever found: the function is approximated by a polynomial, and a polynomial of a
sparse matrix costs one product a degree. Which function, in which units, is left to others; what
the eigenvalues mean is the business of `xsphere.graph.response`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from xsphere.notices import shortened, warn_user
from xsphere.weights.apply import result_dtype

Function = Callable[[NDArray[np.float64]], ArrayLike]

# What is neglected, as a part of the largest value of the function.
TOLERANCE = 1e-6
MAX_TERMS = 4096
# Fields that share a reading of the matrix, and the most values of them at a time.
FIELDS_AT_ONCE = 16
VALUES_AT_ONCE = 1 << 25


class ChebyshevWarning(UserWarning):
    """A function was approximated less well than asked.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():  # doctest: +ELLIPSIS
    ...     warnings.simplefilter("error", ChebyshevWarning)
    ...     chebyshev_coefficients(np.sqrt, lambda_max=2.0, max_terms=9)
    Traceback (most recent call last):
    xsphere.graph.filters.ChebyshevWarning: 9 Chebyshev terms leave an error of ...
    """


def chebyshev_coefficients(
    function: Function,
    lambda_max: float,
    n_terms: int | None = None,
    *,
    tolerance: float = TOLERANCE,
    max_terms: int = MAX_TERMS,
) -> NDArray[np.float64]:
    """Coefficients of the Chebyshev polynomials that sum to a function of the eigenvalue.

    The function is interpolated at Chebyshev points, ever more of them until the coefficients
    vanish, and those at the end that sum to less than the tolerance are left out [1]_ [2]_.

    Parameters
    ----------
    function : callable
        Takes eigenvalues, an array of float64 in [0, lambda_max], and gives as many real numbers.
    lambda_max : float
        Bound of the spectrum.
    n_terms : int, optional
        Number of coefficients. By default as few as meet the tolerance.
    tolerance : float
        Largest error allowed, as a part of the largest absolute value of the function.
    max_terms : int
        Most coefficients where `n_terms` is not given.

    Returns
    -------
    array of float64, shape (n_terms,)
        ``c`` with ``function(x) = sum_k c[k] T_k(2 x / lambda_max - 1)``.

    Raises
    ------
    TypeError
        If what the function gives are no real numbers.
    ValueError
        If an option is out of range, or the function gives another number of values or values
        that are not finite.

    Warns
    -----
    ChebyshevWarning
        If `max_terms` do not meet the tolerance: the message names the error that is left.

    References
    ----------
    .. [1] Hammond, Vandergheynst and Gribonval (2011), https://arxiv.org/abs/0912.3848
    .. [2] Aurentz and Trefethen (2017), https://arxiv.org/abs/1512.01803

    Examples
    --------
    On [0, 2] the variable of the polynomials is ``x - 1``:

    >>> chebyshev_coefficients(lambda x: 3 + 2 * (x - 1), lambda_max=2.0).round(12)
    array([3., 2.])
    """
    _check_options(lambda_max, n_terms, tolerance, max_terms)
    most = max_terms if n_terms is None else n_terms
    n_points = 32 if n_terms is None else max(32, 2 * n_terms)
    while True:
        coefficients, largest = _interpolated(function, lambda_max, n_points)
        # what is left out when the series is cut after each term
        rest = np.append(np.cumsum(np.abs(coefficients[::-1]))[::-1], 0.0)
        # the last quarter is empty once the points resolve the function
        resolved = rest[3 * n_points // 4] <= tolerance * largest
        if n_terms is not None or resolved or n_points >= 2 * max_terms:
            break
        n_points *= 2
    if n_terms is not None:
        return coefficients[:n_terms]
    needed = max(1, int(np.argmax(rest <= tolerance * largest)))
    if needed > most or not resolved:
        warn_user(
            f"{most} Chebyshev terms leave an error of {rest[min(most, n_points)] / largest:.1e} "
            f"of the largest value of the function, above the tolerance {tolerance:.1e}: it "
            f"changes too fast for a spectrum that reaches {lambda_max:.4g}; choose a smoother "
            "one, a larger n_terms or scale, or a grid of more even spacing (to_healpix())",
            ChebyshevWarning,
        )
    return coefficients[: min(needed, most)]


def filtered(
    laplacian: sparse.csr_array,
    lambda_max: float,
    coefficients: ArrayLike,
    values: ArrayLike,
) -> NDArray[np.floating]:
    """Fields with each eigenvector of a Laplacian scaled by a function of its eigenvalue.

    The sum ``sum_k c[k] T_k(2 L / lambda_max - I) f`` by the recursion of the polynomials, one
    product with L a term. L need not be symmetric. Everything is computed in float64 and rounded
    once, so float32 fields lose nothing to the number of terms, and a field comes out the same to
    the last bit whatever other fields go with it.

    Parameters
    ----------
    laplacian : sparse array of float64, shape (n_cells, n_cells)
        (target, source).
    lambda_max : float
        Bound of its spectrum. Beyond it the polynomials explode.
    coefficients : array_like of float, shape (n_terms,)
        As from `chebyshev_coefficients`.
    values : array_like of real numbers, shape (..., n_cells)
        Fields. A cell that is not finite makes all cells within ``n_terms - 1`` steps along the
        edges of the graph NaN.

    Returns
    -------
    array of float, shape (..., n_cells)
        float32 for float16, float32, booleans and integers of up to 16 bits, else float64.

    Raises
    ------
    TypeError
        If `values` are no real numbers.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    The Laplacian itself, as the function ``x`` of its eigenvalue:

    >>> laplacian = sparse.csr_array([[1.0, -1.0], [-1.0, 1.0]])
    >>> coefficients = chebyshev_coefficients(lambda x: x, lambda_max=2.0)
    >>> filtered(laplacian, 2.0, coefficients, [3.0, 1.0])
    array([ 2., -2.])
    """
    fields, terms = np.asarray(values), np.asarray(coefficients, np.float64)
    dtype = result_dtype(fields.dtype)
    if fields.ndim == 0 or fields.shape[-1] != laplacian.shape[0]:
        raise ValueError(
            f"values must have the {laplacian.shape[0]} cells of the Laplacian on their last axis, "
            f"got shape {fields.shape}"
        )
    if terms.ndim != 1 or not terms.size:
        raise ValueError(f"coefficients must be a non-empty 1-D array, got shape {terms.shape}")
    flat = fields.reshape(-1, fields.shape[-1])
    result = np.empty(flat.shape, dtype)
    step = max(1, min(FIELDS_AT_ONCE, VALUES_AT_ONCE // max(1, fields.shape[-1])))
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        columns = np.ascontiguousarray(flat[part].T, np.float64)
        columns[~np.isfinite(columns)] = np.nan
        result[part] = _series(laplacian, 2.0 / lambda_max, terms, columns).T
    return result.reshape(fields.shape)


def _check_options(
    lambda_max: float, n_terms: int | None, tolerance: float, max_terms: int
) -> None:
    problems = []
    if not (np.isfinite(lambda_max) and lambda_max > 0):
        problems.append(f"lambda_max must be positive and finite, got {lambda_max!r}")
    if not 0 < tolerance < 1:
        problems.append(f"tolerance must lie between 0 and 1, got {tolerance!r}")
    problems += [
        f"{name} must be a positive integer, got {shortened(value)}"
        for name, value in (("n_terms", n_terms), ("max_terms", max_terms))
        if value is not None and (int(value) != value or value < 1)
    ]
    if problems:
        raise ValueError("; ".join(problems))


def _interpolated(
    function: Function, lambda_max: float, n_points: int
) -> tuple[NDArray[np.float64], float]:
    """Coefficients of the polynomial through a function at Chebyshev points; its largest value."""
    from scipy.fft import dct

    angles = (np.arange(n_points) + 0.5) * (np.pi / n_points)
    # 1 + cos as a square keeps the smallest eigenvalues exact
    points = lambda_max * np.cos(angles / 2) ** 2
    values = np.asarray(function(points))
    if values.dtype.kind not in "fiub":
        raise TypeError(f"function must give real numbers, got {values.dtype}")
    if values.shape not in ((), points.shape):
        raise ValueError(
            f"function must give one value for each of {points.shape} eigenvalues, got shape "
            f"{values.shape}; write it with numpy functions"
        )
    values = np.broadcast_to(values.astype(np.float64), points.shape)
    if not np.isfinite(values).all():
        wrong = points[~np.isfinite(values)]
        raise ValueError(
            f"function must be finite on [0, {lambda_max:.4g}], got {wrong.size} values that are "
            f"not, such as at {wrong[0]:.4g}"
        )
    coefficients = dct(values, type=2) / n_points
    coefficients[0] /= 2
    return coefficients, float(np.abs(values).max()) or 1.0


def _series(
    laplacian: sparse.csr_array,
    factor: float,
    terms: NDArray[np.float64],
    columns: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum of the polynomials of the scaled Laplacian applied to fields (n_cells, n_fields)."""
    total: NDArray[np.float64] = terms[0] * columns
    if terms.size == 1:
        return total
    before, last = columns, factor * (laplacian @ columns) - columns
    total += terms[1] * last
    for term in terms[2:]:
        following = laplacian @ last
        following *= 2.0 * factor
        following -= 2.0 * last
        following -= before
        total += term * following
        before, last = last, following
    return total
