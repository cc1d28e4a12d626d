"""One form for every weight matrix: compressed rows, sorted, without duplicates or zeros."""

import numpy as np
from scipy import sparse


def canonical(matrix: sparse.csr_array | sparse.csc_array | sparse.coo_array) -> sparse.csr_array:
    """The same matrix in the form that every weight function returns.

    Parameters
    ----------
    matrix : sparse array, shape (n_target, n_source)
        Left as it was.

    Returns
    -------
    sparse array of float64, shape (n_target, n_source)
        Compressed rows with int32 indices, sorted, without duplicates and explicit zeros.

    Examples
    --------
    >>> entries = ([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0]))
    >>> canonical(sparse.coo_array(entries, shape=(2, 2))).data
    array([3.])
    """
    rows = sparse.csr_array(matrix.astype(np.float64), copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    indices, indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    return sparse.csr_array((rows.data, indices, indptr), shape=rows.shape)
