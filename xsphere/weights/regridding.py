"""Weight matrices by name of their method, each built once and kept."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, cached, content_key
from xsphere.compressed import compressed_rows
from xsphere.grids import Grid, PointGrid
from xsphere.weights.assembly import canonical
from xsphere.weights.conservative import conservative_weights
from xsphere.weights.interpolation import (
    bilinear_weights,
    inverse_distance_weights,
    nearest_weights,
)
from xsphere.weights.second_order import SecondOrderWeights, second_order_weights

Method = Literal["nearest", "bilinear", "conservative", "inverse_distance"]

# Part of every key: raise it when a method's weights change.
VERSION = 2

_METHODS: dict[str, Callable[[Grid, Grid], sparse.csr_array]] = {
    "nearest": nearest_weights,
    "bilinear": bilinear_weights,
    "conservative": conservative_weights,
    "inverse_distance": inverse_distance_weights,
}
# Those that know no end of a region.
_ENDLESS = {"nearest", "inverse_distance"}
_matrices = SharedEntries(16)


def regridding_weights(source: Grid, target: Grid, *, method: Method) -> sparse.csr_array:
    """Weights from one grid to another, read from the cache or built and stored.

    Safe to call from many threads: a process loads or builds each matrix once.

    Parameters
    ----------
    source, target : Grid
        Cells from and to which values go.
    method : {"nearest", "bilinear", "conservative", "inverse_distance"}
        See `nearest_weights`, `bilinear_weights`, `conservative_weights`,
        `inverse_distance_weights`.

    Returns
    -------
    sparse array of float64, shape (n_target, n_source)
        Compressed rows with sorted int32 indices. Its arrays are read-only and shared. Rows of
        target cells whose centres no source cell holds are empty; points hold what is within their
        reach (see `PointGrid`), and a target cell with a point in it always gets a value.

    Raises
    ------
    ValueError
        If the method is unknown, or not possible between such grids.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> regridding_weights(HealpixGrid(1), HealpixGrid(0), method="conservative").data[:4]
    array([0.25, 0.25, 0.25, 0.25])
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {list(get_args(Method))}, got {method!r}")
    key = _key(source, target, method)

    def build() -> dict[str, NDArray[Any]]:
        matrix = _METHODS[method](source, target)
        if method in _ENDLESS and not source.is_global:
            matrix = _within_reach(matrix, source, target)
        return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}

    def read(arrays: dict[str, NDArray[Any]]) -> sparse.csr_array:
        return compressed_rows(arrays, (target.n_cells, source.n_cells))

    def load() -> sparse.csr_array:
        return cached("weights", key, build, read, about=_title(source, target, method))

    matrix: sparse.csr_array = _matrices.fetch(key, load)
    return matrix


def regridding_pieces(source: Grid, target: Grid) -> SecondOrderWeights:
    """Second-order weights from one grid to another, read from the cache or built and stored.

    Parameters
    ----------
    source, target : Grid
        See `second_order_weights`.

    Returns
    -------
    SecondOrderWeights
        Its arrays are read-only and shared.

    Raises
    ------
    ValueError
        If there are none between such grids.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> regridding_pieces(HealpixGrid(0), HealpixGrid(1)).shape
    (48, 12)
    """
    key = _key(source, target, "conservative2")

    def build() -> dict[str, NDArray[Any]]:
        return second_order_weights(source, target).to_arrays()

    def read(arrays: dict[str, NDArray[Any]]) -> SecondOrderWeights:
        pieces = SecondOrderWeights.from_arrays(arrays)
        pieces.check((target.n_cells, source.n_cells))
        return pieces

    def load() -> SecondOrderWeights:
        about = _title(source, target, "conservative2")
        return cached("weights", key, build, read, about=about)

    pieces: SecondOrderWeights = _matrices.fetch(key, load)
    return pieces


def _within_reach(matrix: sparse.csr_array, source: Grid, target: Grid) -> sparse.csr_array:
    """The matrix without the rows of target cells that are beyond a region, whatever is nearest."""
    inside = source.cells_at(*target.centre_lonlat) >= 0
    if isinstance(source, PointGrid) and not isinstance(target, PointGrid):
        held = target.cells_at(*source.centre_lonlat)
        inside[held[held >= 0]] = True
    return canonical(sparse.diags_array(inside.astype(np.float64)) @ matrix)


def shares_areas(source: Grid, target: Grid) -> bool:
    """Whether there are conservative weights between two grids.

    Parameters
    ----------
    source, target : Grid
        Any grids.

    Returns
    -------
    bool
        False where one of them is of points without cell bounds.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid, PointGrid
    >>> shares_areas(HealpixGrid(1), PointGrid([0.0], [0.0]))
    False
    """
    return all(grid.has_bounds for grid in (source, target) if isinstance(grid, PointGrid))


def _key(source: Grid, target: Grid, method: str) -> str:
    return content_key(VERSION, source.fingerprint, target.fingerprint, method)


def _title(source: Grid, target: Grid, method: str) -> str:
    return f"{source} to {target}, {method}"
