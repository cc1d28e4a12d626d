"""Matrices from entries, and one form for all: compressed rows, sorted, no duplicates or zeros."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
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


def present_entries(
    starts: NDArray[Any], columns: NDArray[Any], data: NDArray[np.float64], shape: tuple[int, int]
) -> sparse.csr_array:
    """A matrix of those entries whose column is present.

    Parameters
    ----------
    starts : array of int, shape (n_rows + 1,)
        Which entries belong to which row.
    columns : array of int, shape (n,)
        Columns of the entries; -1 for one that is absent. May repeat.
    data : array of float64, shape (n,)
        The entries.
    shape : tuple of int
        Of the matrix.

    Returns
    -------
    sparse array of float64
        Compressed rows as they came, neither sorted nor added up.

    Examples
    --------
    >>> starts, columns = np.array([0, 2, 3]), np.array([1, -1, 0])
    >>> present_entries(starts, columns, np.ones(3), (2, 2)).toarray()
    array([[0., 1.],
           [1., 0.]])
    """
    present = columns >= 0
    if not present.all():
        starts = np.concatenate([[0], np.cumsum(present)])[starts]
        columns, data = columns[present], data[present]
    return sparse.csr_array((data, columns.astype(np.int32), starts), shape=shape)
