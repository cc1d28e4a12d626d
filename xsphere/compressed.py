"""Compressed rows of sparse matrices, checked before compiled loops follow their indices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def compressed_rows(
    arrays: Mapping[str, NDArray[Any]],
    shape: tuple[int, int],
    *,
    data: str = "data",
    number: int | None = None,
) -> sparse.csr_array:
    """A sparse matrix of arrays that were read from files.

    Parameters
    ----------
    arrays : mapping of array
        With ``indptr``, ``indices`` and the entries.
    shape : tuple of int
        Of the matrix.
    data : str
        Name of the array of entries.
    number : int, optional
        Which row of that array holds them, if it holds those of several matrices.

    Returns
    -------
    sparse array of float64
        Over the same arrays; its rows are sorted.

    Raises
    ------
    ValueError
        If they are no such matrix: an index beyond its arrays would end the process.

    Examples
    --------
    >>> arrays = {
    ...     "indptr": np.array([0, 1]), "indices": np.array([2], np.int32), "data": np.ones(1)
    ... }
    >>> compressed_rows(arrays, (1, 2))
    Traceback (most recent call last):
    ValueError: indices must be within 0 to 1, got 0 to 2
    """
    starts, columns = arrays["indptr"], arrays["indices"]
    entries = arrays[data] if number is None else arrays[data][number]
    check_starts(starts, shape[0], columns.size, "indptr")
    check_indices(columns, shape[1], "indices")
    check_numbers(entries, (columns.size,), data)
    is_first = np.zeros(columns.size + 1, bool)
    is_first[starts] = True
    if not (np.diff(columns) > 0)[~is_first[1:-1]].all():
        raise ValueError("indices must ascend within each row")
    matrix = sparse.csr_array((entries, columns, starts), shape=shape)
    # found by a look at every entry: known here, and asked before every product
    matrix.has_canonical_format = True
    return matrix


def check_starts(starts: NDArray[Any], n_rows: int, n_entries: int, name: str) -> None:
    """Refuse an array that does not say where each row begins, and where the last one ends."""
    if starts.dtype.kind not in "iu" or starts.shape != (n_rows + 1,):
        raise ValueError(
            f"{name} must be {n_rows + 1} integers, got {starts.dtype} of shape {starts.shape}"
        )
    if starts[0] != 0 or starts[-1] != n_entries or (starts[1:] < starts[:-1]).any():
        raise ValueError(f"{name} must ascend from 0 to {n_entries}")


def check_indices(indices: NDArray[Any], n: int, name: str) -> None:
    """Refuse an array that has anything but integers from 0 to `n` - 1."""
    if indices.dtype != np.int32:
        raise ValueError(f"{name} must be int32, got {indices.dtype}")
    low, high = int(indices.min(initial=0)), int(indices.max(initial=-1))
    if low < 0 or high >= n:
        raise ValueError(f"{name} must be within 0 to {n - 1}, got {low} to {high}")


def check_numbers(values: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    """Refuse an array that is not of finite float64 numbers and of a shape."""
    if values.dtype != np.float64 or values.shape != shape or not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be finite float64 of shape {shape}, got {values.dtype} of {values.shape}"
        )
