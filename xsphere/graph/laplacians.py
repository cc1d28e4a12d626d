"""Laplacians of a weighted graph and the bound of their spectrum."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

LaplacianType = Literal["combinatorial", "normalized"]
LAPLACIAN_TYPES: tuple[LaplacianType, ...] = ("combinatorial", "normalized")
MARGIN = 1.01
DENSE_LIMIT = 256
ROWS_AT_ONCE = 1 << 16


def laplacian(
    adjacency: sparse.csr_array,
    laplacian_type: LaplacianType = "combinatorial",
    *,
    degrees: NDArray[np.float64] | None = None,
) -> sparse.csr_array:
    """Laplacian of a weighted graph: symmetric, positive semi-definite.

    ``D - W``, or ``d**-1/2 (D - W) d**-1/2`` if normalized, with D the row sums of W. A cell
    without an edge has a row of zeros.

    Parameters
    ----------
    adjacency : sparse array of float, shape (n_cells, n_cells)
        Edge weights W: symmetric, non-negative, nothing on the diagonal.
    laplacian_type : {"combinatorial", "normalized"}
        Which of the two.
    degrees : array of float, shape (n_cells,), optional
        The d that normalises. The row sums by default; the degrees in a larger graph for an
        induced subgraph, whose spectrum then stays within that of the larger graph.

    Returns
    -------
    sparse array of float64, shape (n_cells, n_cells)
        In CSR form with sorted indices and an entry at every place of the diagonal. `adjacency` is
        left as it was.

    Raises
    ------
    ValueError
        If `laplacian_type` is unknown or `adjacency` is not square.

    Examples
    --------
    >>> laplacian(sparse.csr_array([[0.0, 3.0], [3.0, 0.0]])).toarray()
    array([[ 3., -3.],
           [-3.,  3.]])
    >>> laplacian(sparse.csr_array([[0.0, 3.0], [3.0, 0.0]]), "normalized").toarray().round(12)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    check_laplacian_type(laplacian_type)
    n_cells, n_columns = adjacency.shape
    if n_cells != n_columns:
        raise ValueError(f"adjacency must be square, got shape {adjacency.shape}")
    diagonal = degrees_of(adjacency)
    matrix = _with_diagonal(adjacency, -1.0, diagonal)
    if laplacian_type == "combinatorial":
        return matrix
    return normalized(matrix, diagonal if degrees is None else degrees)


def normalized(matrix: sparse.csr_array, degrees: NDArray[np.float64]) -> sparse.csr_array:
    """Laplacian with row and column i divided by the root of a degree, or by 1 where that is 0.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_cells, n_cells)
        Combinatorial Laplacian.
    degrees : array of float, shape (n_cells,)
        Its diagonal, or that of a larger graph.

    Returns
    -------
    sparse array of float64, shape (n_cells, n_cells)
        Symmetric if `matrix` is.

    Examples
    --------
    >>> path = sparse.csr_array([[3.0, -3.0], [-3.0, 3.0]])
    >>> normalized(path, np.full(2, 3.0)).toarray().round(12)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    inverse = np.zeros(degrees.size)
    np.divide(1.0, degrees, out=inverse, where=degrees > 0)
    rows = np.repeat(np.arange(degrees.size, dtype=np.int32), np.diff(matrix.indptr))
    # one product per edge, the same from either end
    data = matrix.data * np.sqrt(inverse[rows] * inverse[matrix.indices])
    result = sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    own = rows == matrix.indices
    data[own] = matrix.data[own] * inverse
    return result


def induced(matrix: sparse.csr_array, cells: NDArray[np.int64]) -> sparse.csr_array:
    """Laplacian of some cells of a larger graph: edges to others are gone, rows still sum to 0.

    A row that loses edges loses those of the wrong sign (above 0) too: too little may be left to
    balance them, and eigenvalues would be negative.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_cells, n_cells)
        Laplacian whose rows sum to 0.
    cells : array of int, shape (n_kept,)
        Cells to keep, in their order.

    Returns
    -------
    sparse array of float64, shape (n_kept, n_kept)
        In CSR form with sorted indices.

    Examples
    --------
    >>> path = sparse.csr_array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])
    >>> induced(path, np.array([1, 0])).toarray()
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    rows = matrix[cells]
    part = off_diagonal(rows[:, cells])
    counts = np.diff(part.indptr)
    cut = counts < np.diff(rows.indptr) - 1
    part.data[np.repeat(cut, counts) & (part.data > 0)] = 0.0
    part.eliminate_zeros()
    return _with_diagonal(part, 1.0, -np.asarray(part.sum(axis=1), np.float64))


def off_diagonal(matrix: sparse.csr_array) -> sparse.csr_array:
    """What of a matrix is not on its diagonal, with sorted indices."""
    entries = matrix.tocoo()
    other = entries.row != entries.col
    result = sparse.csr_array(
        (entries.data[other], (entries.row[other], entries.col[other])), shape=matrix.shape
    )
    result.sort_indices()
    return result


def _with_diagonal(
    matrix: sparse.csr_array, factor: float, diagonal: NDArray[np.float64]
) -> sparse.csr_array:
    """A factor times a matrix with an empty diagonal, and a diagonal with an entry everywhere."""
    edges = matrix.tocoo()
    cells = np.arange(diagonal.size, dtype=edges.row.dtype)
    rows, columns = np.concatenate([edges.row, cells]), np.concatenate([edges.col, cells])
    result = sparse.csr_array(
        (np.concatenate([factor * edges.data, diagonal]), (rows, columns)), shape=matrix.shape
    )
    result.sort_indices()
    return result


def degrees_of(adjacency: sparse.csr_array) -> NDArray[np.float64]:
    """Sum of the weights of each cell's edges."""
    return np.asarray(adjacency.sum(axis=1), np.float64)


def check_laplacian_type(laplacian_type: str) -> None:
    """Refuse an unknown type of Laplacian."""
    if laplacian_type not in LAPLACIAN_TYPES:
        raise ValueError(
            f"laplacian_type must be one of {list(LAPLACIAN_TYPES)}, got {laplacian_type!r}"
        )


def spectrum_bound(matrix: sparse.csr_array) -> float:
    """Number above the largest eigenvalue of a Laplacian by about 1 %, the same in every process.

    The largest eigenvalue from Lanczos steps with a fixed start, good to a few parts in 10**4,
    times 1.01, rounded up to four significant digits, so that differences between linear algebra
    libraries do not show.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_cells, n_cells)
        Symmetric, positive semi-definite.

    Returns
    -------
    float
        The bound; 0 for a matrix of zeros.

    Examples
    --------
    >>> spectrum_bound(laplacian(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]])))
    2.02
    """
    from scipy.sparse.linalg import eigsh

    n_cells = matrix.shape[0]
    if n_cells <= DENSE_LIMIT:
        largest = float(np.linalg.eigvalsh(matrix.toarray())[-1])
    else:
        start = np.random.default_rng(0).standard_normal(n_cells)
        largest = eigsh(
            matrix, k=1, which="LA", v0=start, ncv=20, tol=1e-3, return_eigenvectors=False
        ).item()
    return _rounded_up(MARGIN * max(largest, 0.0), 4)


def gershgorin_bound(matrix: sparse.csr_array, factors: NDArray[np.float64] | None = None) -> float:
    """Number that no eigenvalue of a matrix exceeds, rounded up to four significant digits.

    The largest sum of absolute values of a row: nothing is iterated, and it scales with the cells
    exactly as the matrix does.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_cells, n_cells)
        Any real matrix without empty rows.
    factors : array of float, shape (n_cells,) or (1,), optional
        What each row is multiplied by.

    Returns
    -------
    float
        The bound; 0 for a matrix of zeros.

    Examples
    --------
    >>> gershgorin_bound(sparse.csr_array([[2.0, -2.0], [-1.0, 1.0]]))
    4.0
    """
    n_cells = matrix.shape[0]
    sums, starts = np.empty(n_cells), matrix.indptr
    for first in range(0, n_cells, ROWS_AT_ONCE):
        rows = slice(first, min(first + ROWS_AT_ONCE, n_cells))
        part = np.abs(matrix.data[starts[first] : starts[rows.stop]])
        sums[rows] = np.add.reduceat(part, starts[rows] - starts[first])
    return _rounded_up(float((sums if factors is None else sums * factors).max()), 4)


def _rounded_up(value: float, n_digits: int) -> float:
    if value == 0:
        return 0.0
    decimals = n_digits - 1 - int(np.floor(np.log10(value)))
    # float() of the decimal text is the nearest double, whatever the power of ten
    digits = int(np.ceil(value * 10.0**decimals - 1e-6))
    return float(f"{digits}e{-decimals}")
