"""Matrices of derivatives, built once a machine and read once a process."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, cached, content_key
from xsphere.compressed import check_indices, compressed_rows
from xsphere.graph.derivatives import (
    Pair,
    divergence_matrices,
    gradient_matrices,
    vorticity_matrices,
)
from xsphere.grids import Grid

Derivative = Literal["gradient", "divergence", "vorticity"]

# Part of every key: raise it when the matrices of the same grid come out otherwise.
VERSION = 2

_MAKERS: dict[str, Callable[[Grid, int], Pair]] = {
    "gradient": gradient_matrices,
    "divergence": divergence_matrices,
    "vorticity": vorticity_matrices,
}
_pairs = SharedEntries(8)


def derivative_matrices(derivative: Derivative, grid: Grid, k: int = 8) -> Pair:
    """The two matrices of a derivative, read from the cache or built and stored.

    Safe to call from many threads: a process loads or builds each pair once.

    Parameters
    ----------
    derivative : {"gradient", "divergence", "vorticity"}
        See `gradient_matrices`, `divergence_matrices`, `vorticity_matrices`.
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, at least 5.

    Returns
    -------
    first, second : sparse arrays of float64, shape (n_cells, n_cells)
        As the functions named give them, (target, source), on the unit sphere. Their arrays are
        read-only and shared.

    Raises
    ------
    ValueError
        If the derivative is unknown, or as for the functions named.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> east, north = derivative_matrices("gradient", HealpixGrid(2))
    >>> east.shape
    (192, 192)
    """
    if derivative not in _MAKERS:
        raise ValueError(
            f"derivative must be one of {list(get_args(Derivative))}, got {derivative!r}"
        )
    key = content_key("derivatives", VERSION, grid.fingerprint, derivative, int(k))

    def build() -> dict[str, NDArray[Any]]:
        first, second = _MAKERS[derivative](grid, k)
        return {
            # both have an entry wherever one has, so the pattern is stored once
            "indptr": first.indptr,
            "indices": first.indices.astype(np.int32),
            # entries are finite: those of cells without a derivative are named
            "missing": np.flatnonzero(np.isnan(first.data)).astype(np.int32),
            "first": np.nan_to_num(first.data, nan=0.0),
            "second": np.nan_to_num(second.data, nan=0.0),
        }

    def load() -> Pair:
        return cached("derivatives", key, build, read, about=f"{derivative} of {grid}, k={k}")

    def read(arrays: dict[str, NDArray[Any]]) -> Pair:
        shape = (grid.n_cells, grid.n_cells)
        first, second = (compressed_rows(arrays, shape, data=n) for n in ("first", "second"))
        check_indices(arrays["missing"], first.nnz, "missing")
        return _without(first, arrays["missing"]), _without(second, arrays["missing"])

    pair: Pair = _pairs.fetch(key, load)
    return pair


def _without(matrix: sparse.csr_array, missing: NDArray[Any]) -> sparse.csr_array:
    """The matrix, whose entries that are missing are NaN."""
    if missing.size:
        matrix.data = matrix.data.copy()
        matrix.data[missing] = np.nan
        matrix.data.flags.writeable = False
    return matrix
