"""Laplacians of a weighted graph and the bound of their spectrum."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

LaplacianType = Literal["combinatorial", "normalized"]
LAPLACIAN_TYPES: tuple[LaplacianType, ...] = ("combinatorial", "normalized")
MARGIN = 1.01
DENSE_LIMIT = 256


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
    edges = adjacency.tocoo()
    weights: NDArray[np.float64] = edges.data
    if laplacian_type == "normalized":
        divisors = diagonal if degrees is None else degrees
        inverse = np.zeros(n_cells)
        np.divide(1.0, divisors, out=inverse, where=divisors > 0)
        # one product per edge, the same from either end
        weights = weights * np.sqrt(inverse[edges.row] * inverse[edges.col])
        diagonal = diagonal * inverse
    cells = np.arange(n_cells, dtype=edges.row.dtype)
    rows, columns = np.concatenate([edges.row, cells]), np.concatenate([edges.col, cells])
    matrix = sparse.csr_array(
        (np.concatenate([-weights, diagonal]), (rows, columns)), shape=adjacency.shape
    )
    matrix.sort_indices()
    return matrix


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


def _rounded_up(value: float, n_digits: int) -> float:
    if value == 0:
        return 0.0
    decimals = n_digits - 1 - int(np.floor(np.log10(value)))
    # float() of the decimal text is the nearest double, whatever the power of ten
    digits = int(np.ceil(value * 10.0**decimals - 1e-6))
    return float(f"{digits}e{-decimals}")
