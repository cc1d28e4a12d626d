"""Regridding by the name of a method; weights are built once and kept."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, cached, content_key
from xsphere.compressed import compressed_rows
from xsphere.grids import Grid, PointGrid
from xsphere.weights.apply import MissingPolicy, apply_weights
from xsphere.weights.assembly import canonical
from xsphere.weights.method_table import FieldMethod, field_method
from xsphere.weights.second_order import SecondOrderWeights, apply_second_order

# Part of every key: raise it when a method's weights change.
VERSION = 2

_matrices = SharedEntries(16)


def regrid_fields(
    values: ArrayLike,
    source: Grid,
    target: Grid,
    *,
    method: FieldMethod,
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> NDArray[np.floating[Any]]:
    """Fields on another grid.

    Parameters
    ----------
    values : array_like of real numbers, shape (..., n_source)
        Source fields. NaN and infinities are missing values.
    source, target : Grid
        Cells from and to which values go.
    method : str
        A `FieldMethod`, see `xsphere.weights.METHODS`.
    missing : str
        See `apply_weights`.
    min_valid_fraction : float
        See `apply_weights`.

    Returns
    -------
    array of float, shape (..., n_target)
        As from `apply_weights`.

    Raises
    ------
    ValueError
        If the method is unknown or not possible between these grids, or as `apply_weights`.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> coarse, fine = HealpixGrid(0), HealpixGrid(1)
    >>> regrid_fields(np.arange(12.0), coarse, fine, method="conservative")[:5]
    array([0., 0., 0., 0., 1.])
    """
    options: Any = {"missing": missing, "min_valid_fraction": min_valid_fraction}
    if field_method(method).is_matrix:
        return apply_weights(regridding_weights(source, target, method=method), values, **options)
    return apply_second_order(regridding_pieces(source, target, method=method), values, **options)


def regridding_weights(source: Grid, target: Grid, *, method: FieldMethod) -> sparse.csr_array:
    """Weights from one grid to another, read from the cache or built and stored.

    Safe to call from many threads: a process loads or builds each matrix once.

    Parameters
    ----------
    source, target : Grid
        Cells from and to which values go.
    method : str
        A `FieldMethod` whose weights are a matrix, see `xsphere.weights.METHODS`.

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
    entry = field_method(method)
    if not entry.is_matrix:
        raise ValueError(f"the weights of method {method!r} are no matrix; see regridding_pieces")

    def build() -> dict[str, NDArray[Any]]:
        matrix = entry.made(source, target)
        if not (entry.knows_ends or source.is_global):
            matrix = _within_reach(matrix, source, target)
        return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}

    def read(arrays: dict[str, NDArray[Any]]) -> sparse.csr_array:
        return compressed_rows(arrays, (target.n_cells, source.n_cells))

    matrix: sparse.csr_array = _kept(source, target, method, build, read)
    return matrix


def regridding_pieces(
    source: Grid, target: Grid, *, method: FieldMethod = "conservative2"
) -> SecondOrderWeights:
    """Second-order weights from one grid to another, read from the cache or built and stored.

    Parameters
    ----------
    source, target : Grid
        See `second_order_weights`.
    method : {"conservative2"}
        A method whose weights are such pieces.

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
    entry = field_method(method)

    def build() -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = entry.made(source, target).to_arrays()
        return arrays

    def read(arrays: dict[str, NDArray[Any]]) -> SecondOrderWeights:
        pieces = SecondOrderWeights.from_arrays(arrays)
        pieces.check((target.n_cells, source.n_cells))
        return pieces

    pieces: SecondOrderWeights = _kept(source, target, method, build, read)
    return pieces


def _kept(
    source: Grid,
    target: Grid,
    method: str,
    build: Callable[[], dict[str, NDArray[Any]]],
    read: Callable[[dict[str, NDArray[Any]]], Any],
) -> Any:
    """Weights that this process has, or the cache, or that are built and stored there."""
    key = content_key(VERSION, source.fingerprint, target.fingerprint, method)
    about = f"{source} to {target}, {method}"
    return _matrices.fetch(key, lambda: cached("weights", key, build, read, about=about))


def _within_reach(matrix: sparse.csr_array, source: Grid, target: Grid) -> sparse.csr_array:
    """The matrix without the rows of target cells that are beyond a region, whatever is nearest."""
    inside = source.cells_at(*target.centre_lonlat) >= 0
    if isinstance(source, PointGrid) and not isinstance(target, PointGrid):
        held = target.cells_at(*source.centre_lonlat)
        inside[held[held >= 0]] = True
    return canonical(sparse.diags_array(inside.astype(np.float64)) @ matrix)
