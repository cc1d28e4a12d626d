"""Second-order conservative regridding, limited so that no new extremes appear.

Every source cell holds a linear function with the mean of the cell; its gradient fits the cells
around, shortened where the function would pass their range. Means over the exact overlaps keep the
integral whatever the gradients are. Gradients depend on the values, so this is no matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.cache import SharedEntries
from xsphere.compressed import check_indices, check_numbers, check_starts
from xsphere.grids import Grid
from xsphere.weights.apply import (
    CELLS_AT_ONCE,
    COVER_TOLERANCE,
    FIELDS_AT_ONCE,
    PART_TOLERANCE,
    MissingPolicy,
    check_fit,
    least_valid_part,
    result_dtype,
    transposed,
)
from xsphere.weights.pieces import Pieces, shared_pieces
from xsphere.weights.slopes import cell_centroids, surrounding_cells
from xsphere.weights.spheres import on_one_sphere

Floats = NDArray[np.float64]

_prepared_weights = SharedEntries(4)


@dataclass(frozen=True, eq=False, kw_only=True)
class SecondOrderWeights:
    """Pieces that source and target cells share, and stencils of the gradients.

    Parameters
    ----------
    shape : tuple of int
        Numbers of target and of source cells.
    sources : array of int32, shape (n_used,)
        Source cells that share a piece with a target cell.
    starts : array of int32, shape (n_used + 1,)
        Which pieces belong to which of them.
    targets : array of int32, shape (n_pieces,)
        Target cell of every piece; the number of target cells where a piece of a source cell in use
        is outside the target. Such pieces limit gradients all the same.
    weights : array of float64, shape (n_pieces,)
        Part of the target cell that the piece is.
    offsets : array of float64, shape (n_pieces, 2)
        Way from the centroid of the source cell to that of the piece, to the east and the north,
        in radii of the sphere.
    neighbours : array of int32, shape (n_used, n_neighbours)
        Source cells around; the cell itself stands for one that is absent.
    slopes : array of float64, shape (n_used, n_neighbours, 2)
        Weights of the differences to them in the gradient.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> weights = second_order_weights(HealpixGrid(0), HealpixGrid(1))
    >>> weights.offsets.shape, weights.slopes.shape
    ((48, 2), (12, 8, 2))
    """

    shape: tuple[int, int]
    sources: NDArray[np.int32]
    starts: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: Floats
    offsets: Floats
    neighbours: NDArray[np.int32]
    slopes: Floats

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, such as `xsphere.cache.cached_arrays` keeps.

        Returns
        -------
        dict of array
            What `from_arrays` takes.

        Examples
        --------
        >>> from xsphere.grids import HealpixGrid
        >>> sorted(second_order_weights(HealpixGrid(0), HealpixGrid(0)).to_arrays())[:3]
        ['neighbours', 'offsets', 'shape']
        """
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "SecondOrderWeights":
        """Weights from their arrays by name.

        Parameters
        ----------
        arrays : mapping of array
            As `to_arrays` returns them.

        Returns
        -------
        SecondOrderWeights
            Holds the arrays given, no copies.

        Examples
        --------
        >>> from xsphere.grids import HealpixGrid
        >>> arrays = second_order_weights(HealpixGrid(0), HealpixGrid(1)).to_arrays()
        >>> SecondOrderWeights.from_arrays(arrays).weights is arrays["weights"]
        True
        """
        n_target, n_source = arrays["shape"].tolist()
        others: Mapping[str, Any] = {name: arrays[name] for name in arrays if name != "shape"}
        return cls(shape=(n_target, n_source), **others)

    def check(self, shape: tuple[int, int]) -> None:
        """Refuse arrays that compiled loops cannot follow.

        Parameters
        ----------
        shape : tuple of int
            Numbers of target and of source cells that are expected.

        Raises
        ------
        ValueError
            If an array has another type or shape, or an index leads nowhere.

        Examples
        --------
        >>> from xsphere.grids import HealpixGrid
        >>> second_order_weights(HealpixGrid(0), HealpixGrid(1)).check((48, 12))
        """
        if self.shape != shape:
            raise ValueError(f"shape must be {shape}, got {self.shape}")
        n_used, n_pieces = self.sources.size, self.targets.size
        check_starts(self.starts, n_used, n_pieces, "starts")
        check_indices(self.sources, shape[1], "sources")
        # one more target stands for what is outside
        check_indices(self.targets, shape[0] + 1, "targets")
        check_indices(self.neighbours, shape[1], "neighbours")
        check_numbers(self.weights, (n_pieces,), "weights")
        check_numbers(self.offsets, (n_pieces, 2), "offsets")
        around = self.neighbours.shape
        if self.sources.ndim != 1 or self.targets.ndim != 1 or around[:1] != (n_used,):
            raise ValueError(f"neighbours must be of {n_used} cells, got shape {around}")
        check_numbers(self.slopes, (*around, 2), "slopes")


def second_order_weights(source: Grid, target: Grid) -> SecondOrderWeights:
    """Pieces and stencils from which `apply_second_order` regrids.

    Sums of the pieces of a pair of cells are the `conservative_weights`. From HEALPix to a HEALPix
    grid that is not finer the second order adds nothing: there are no stencils then.

    Parameters
    ----------
    source, target : HealpixGrid or LatLonGrid
        Cells from and to which means go.

    Returns
    -------
    SecondOrderWeights
        A source cell has no gradient where fewer than three cells lie around it, or all nearly on
        one line, as in a single row.

    Raises
    ------
    ValueError
        If a grid has no cell edges (`PointGrid`).

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid, LatLonGrid
    >>> weights = second_order_weights(LatLonGrid([90, 270], [45, -45]), HealpixGrid(0))
    >>> float(weights.weights.sum().round(12))
    12.0
    """
    source, target = on_one_sphere(source, target)
    return _assembled(shared_pieces(source, target), source, target)


def apply_second_order(
    weights: SecondOrderWeights,
    values: ArrayLike,
    *,
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> NDArray[np.floating[Any]]:
    """Fields on the target grid: means of limited linear functions on the source cells.

    Gradients are least-squares fits to the cells around, shortened so that no piece of a cell is
    beyond the range of the cell and those around [1]_. The integral is kept, constants too, and no
    value is beyond the range of the source.

    Parameters
    ----------
    weights : SecondOrderWeights
        See `second_order_weights`.
    values : array_like of real numbers, shape (..., n_source)
        Source fields. NaN and infinities are missing values: a cell beside one has no gradient.
    missing : str
        As in `xsphere.weights.apply_weights`.
    min_valid_fraction : float
        As in `xsphere.weights.apply_weights`.

    Returns
    -------
    array of float, shape (..., n_target)
        float64 for float64 and integers of 32 bits or more, else float32. Each field is the same,
        bit for bit, whatever the others are.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If the last axis does not fit the weights, or an option is out of range.

    References
    ----------
    .. [1] Barth and Jespersen (1989), https://doi.org/10.2514/6.1989-366

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> weights = second_order_weights(HealpixGrid(2), HealpixGrid(3))
    >>> height = HealpixGrid(2).centres[:, 2]
    >>> error = apply_second_order(weights, height) - HealpixGrid(3).centres[:, 2]
    >>> bool(abs(error).max() < 0.1)
    True
    """
    array = np.asarray(values)
    n_target, n_source = weights.shape
    check_fit(n_source, array, "values", "weights")
    least = least_valid_part(missing, min_valid_fraction)
    dtype = result_dtype(array.dtype)
    prepared = _prepared(weights, dtype)
    flat = array.reshape(-1, n_source)
    result = np.empty((flat.shape[0], n_target), dtype)
    for start in range(0, flat.shape[0], FIELDS_AT_ONCE):
        batch = slice(start, start + FIELDS_AT_ONCE)
        _apply_batch(prepared, flat[batch].astype(dtype, copy=False), result[batch], least)
    return result.reshape(*array.shape[:-1], n_target)


class _Prepared(NamedTuple):
    """Weights in the type that fields are computed in, and their sums over target cells."""

    pieces: SecondOrderWeights
    sums: NDArray[np.floating[Any]]
    exact: SecondOrderWeights
    exact_sums: NDArray[np.floating[Any]]
    original: SecondOrderWeights  # kept alive, so that no other can get its id


def _parts(pieces: SecondOrderWeights, marks: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
    """Parts of the target cells that marked source cells cover, (n_target, n_masks)."""
    from xsphere.weights.limited import marked_parts

    entries = (pieces.starts, pieces.sources, pieces.targets, pieces.weights)
    # one more target for what is outside
    return np.asarray(marked_parts(*entries, marks, pieces.shape[0] + 1)[:-1])


def _prepared(weights: SecondOrderWeights, dtype: np.dtype[Any]) -> _Prepared:
    def make() -> _Prepared:
        exact, pieces = _in_type(weights, np.dtype(np.float64)), _in_type(weights, dtype)
        marks = np.ones((1, weights.shape[1]), bool)
        return _Prepared(pieces, _parts(pieces, marks), exact, _parts(exact, marks), weights)

    if weights.weights.flags.writeable:
        return make()
    prepared: _Prepared = _prepared_weights.fetch(f"{id(weights)} {dtype}", make)
    return prepared


def _in_type(weights: SecondOrderWeights, dtype: np.dtype[Any]) -> SecondOrderWeights:
    """The same, with numbers in a type, all read-only: loops are compiled for that once."""
    arrays = weights.to_arrays()
    for name, array in arrays.items():
        arrays[name] = array.astype(dtype, copy=False) if array.dtype.kind == "f" else array
        arrays[name] = arrays[name].view()
        arrays[name].flags.writeable = False
    return SecondOrderWeights.from_arrays(arrays)


def _apply_batch(
    prepared: _Prepared, values: NDArray[Any], result: NDArray[Any], least: float | None
) -> None:
    """Fills result with regridded fields; least is None where missing values propagate."""
    from xsphere.weights.limited import second_order_sums

    pieces, n_target = prepared.pieces, result.shape[1]
    masks, mask_of = _distinct_masks(np.isfinite(values))
    divisor = _divisor(prepared, masks, least)
    sums = np.zeros((n_target + 1, len(values)), values.dtype)
    stencils = (pieces.sources, pieces.neighbours, pieces.slopes)
    entries = (pieces.starts, pieces.targets, pieces.weights, pieces.offsets)
    second_order_sums(*entries, stencils, transposed(values), sums)
    for start in range(0, n_target, CELLS_AT_ONCE):
        cells = slice(start, min(start + CELLS_AT_ONCE, n_target))
        result[:, cells] = (sums[cells] / divisor[cells][:, mask_of]).T


def _divisor(
    prepared: _Prepared, masks: NDArray[np.bool_] | None, least: float | None
) -> NDArray[Any]:
    """Valid part of every target cell, NaN where too little, (n_target, n_masks).

    What is too little is decided in double precision: sums over many cells drift in single.
    """
    part, exact = prepared.sums, prepared.exact_sums
    if masks is not None:
        part = _parts(prepared.pieces, masks)
        exact = _parts(prepared.exact, masks) if part.dtype != exact.dtype else part
    if least is not None:
        return np.where((exact >= least - PART_TOLERANCE) & (part > 0), part, np.nan)
    good = np.abs(prepared.exact_sums - 1.0) <= COVER_TOLERANCE
    if masks is not None:
        # exact: weights are not negative, so that their sum is zero only if there are none
        good = good & ~(_parts(prepared.pieces, ~masks) > 0)
    return np.where(good, part, np.nan)


def _distinct_masks(
    valid: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
    """The different rows, none if all is valid, and which of them each row is."""
    if valid.all():
        return None, np.zeros(1, np.int64)
    found: dict[bytes, int] = {}
    mask_of = np.array([found.setdefault(np.packbits(row).tobytes(), len(found)) for row in valid])
    return valid[np.unique(mask_of, return_index=True)[1]], mask_of


def _assembled(pieces: Pieces, source: Any, target: Grid) -> SecondOrderWeights:
    """Pieces in the order of the sources, as ways from their centroids, with the stencils."""
    from xsphere.weights.moments import gradient_weights, merged_pieces, piece_offsets

    shape = (int(pieces.targets.max(initial=0)) + 1, source.n_cells)
    by_source, targets, weights, centroids = merged_pieces(*pieces, shape)
    targets = np.minimum(targets, target.n_cells)
    used, counts = np.unique(by_source, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    middles = cell_centroids(source)
    # the mean area of HEALPix cells, which alone have pieces outside the target, is that of all
    areas = np.append(target.areas, target.areas.mean())[targets] * weights
    offsets = piece_offsets(starts, areas, centroids, middles[used], source.areas[used])
    around = surrounding_cells(source)[used] if np.any(offsets) else np.empty((used.size, 0), int)
    around = np.where(around < 0, used[:, None], around).astype(np.int32)
    return SecondOrderWeights(
        shape=(target.n_cells, source.n_cells),
        sources=used,
        starts=starts,
        targets=targets,
        weights=weights,
        offsets=offsets,
        neighbours=around,
        slopes=gradient_weights(middles, used, around),
    )
