"""Weights applied to fields of numbers and of classes, many at a time.

What comes out for one field never depends on which others are in the array, to the last bit, so
results do not change with chunks or threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from xsphere.cache import SharedEntries
from xsphere.notices import listing, shortened

MissingPolicy = Literal["renormalize", "propagate"]


@dataclass(frozen=True)
class MissingRule:
    """What a target cell gets whose source cells miss some values.

    Parameters
    ----------
    summary : str
        A line for users.
    least : callable
        The valid part of a cell that is enough for a mean, given `min_valid_fraction`; None where
        nothing may be missing.

    Examples
    --------
    >>> MISSING["renormalize"].least(0.5)
    0.5
    """

    summary: str
    least: Callable[[float], float | None]


MISSING: dict[str, MissingRule] = {
    "renormalize": MissingRule(
        "the mean of those there are, or NaN where they are less than `min_valid_fraction` of the "
        "target cell",
        lambda fraction: fraction,
    ),
    "propagate": MissingRule(
        "NaN where any is missing or the source does not cover the whole cell", lambda _: None
    ),
}

# Enough for a lookup to be limited by arithmetic; more would only cost memory.
FIELDS_AT_ONCE = 16
# Fewer than these are faster one by one than side by side.
FEW_FIELDS = 3
# Cells copied at once between rows and columns: both sides stay in the processor's cache.
CELLS_AT_ONCE = 2048

# A part of a cell that should be 1/2 or 1 may come out this much smaller in single precision.
PART_TOLERANCE = 1e-6
COVER_TOLERANCE = 1e-9

_prepared_matrices = SharedEntries(16)


@listing(MISSING)
def apply_weights(
    matrix: sparse.csr_array,
    values: ArrayLike,
    *,
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> NDArray[np.floating[Any]]:
    """Fields on the target grid: the weighted mean of the source cells that have a value.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_target, n_source)
        Weights, not negative; rows sum to the part of a target cell that the source covers, see
        `regridding_weights`.
    values : array_like of real numbers, shape (..., n_source)
        Source fields. NaN and infinities are missing values.
    missing : str
        What a target cell gets whose source cells miss some values.
        <table>.
    min_valid_fraction : float
        From 0 to 1, for ``"renormalize"``. Parts outside a regional source count as missing. With
        0, one valid source cell is enough.

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
        If the last axis does not fit the matrix, or an option is out of range.

    Examples
    --------
    >>> halves = sparse.csr_array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    >>> apply_weights(halves, [1.0, 3.0, np.nan])
    array([2., 3.])
    >>> apply_weights(halves, [1.0, 3.0, np.nan], missing="propagate")
    array([ 2., nan])
    """
    fields = np.asarray(values)
    check_fit(matrix.shape[1], fields, "values", "matrix")
    least = least_valid_part(missing, min_valid_fraction)
    dtype = result_dtype(fields.dtype)
    prepared = _prepared(matrix, dtype)
    flat = fields.reshape(-1, fields.shape[-1])
    result = np.empty((flat.shape[0], matrix.shape[0]), dtype)
    _apply(prepared, flat, result, least)
    return result.reshape(*fields.shape[:-1], matrix.shape[0])


def apply_mode(
    matrix: sparse.csr_array, labels: ArrayLike, *, classes: Sequence[int], fill: int
) -> NDArray[Any]:
    """Classes on the target grid: for every cell the one that covers most of it.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_target, n_source)
        Weights, not negative, see `regridding_weights`.
    labels : array_like of int or bool, shape (..., n_source)
        Class of every source cell. Labels that are not among `classes` count as missing.
    classes : sequence of int
        The classes to choose from. Of classes that cover a cell equally the lowest wins.
    fill : int
        Given to target cells that none of the classes touches.

    Returns
    -------
    array of the type of `labels`, shape (..., n_target)
        Members of `classes`, and `fill`.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the last axis does not fit the matrix, there are no classes, or `classes` or `fill` do
        not fit the type of the labels.

    Examples
    --------
    >>> matrix = sparse.csr_array([[0.5, 0.3, 0.2], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    >>> labels = np.array([1, 2, 255], dtype=np.uint8)
    >>> apply_mode(matrix, labels, classes=[1, 2], fill=254)
    array([  1,   2, 254], dtype=uint8)
    """
    fields = np.asarray(labels)
    check_fit(matrix.shape[1], fields, "labels", "matrix")
    _check_classes(fields.dtype, classes, fill)
    flat = fields.reshape(-1, fields.shape[-1])
    choices = np.array([*sorted(set(classes)), fill], fields.dtype)
    result = np.empty((flat.shape[0], matrix.shape[0]), fields.dtype)
    for start in range(0, flat.shape[0], FIELDS_AT_ONCE):
        batch = slice(start, start + FIELDS_AT_ONCE)
        _mode_of_batch(matrix, flat[batch], result[batch], choices)
    return result.reshape(*fields.shape[:-1], matrix.shape[0])


def least_valid_part(missing: str, min_valid_fraction: float) -> float | None:
    """The valid part of a cell that is enough for a mean, or None where nothing may be missing."""
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {list(MISSING)}, got {missing!r}")
    if not 0.0 <= min_valid_fraction <= 1.0:
        raise ValueError(
            f"min_valid_fraction must be from 0 to 1, got {shortened(min_valid_fraction)}"
        )
    return MISSING[missing].least(min_valid_fraction)


def check_fit(n_source: int, fields: NDArray[Any], name: str, what: str) -> None:
    """Refuse fields without one value for each source cell on their last axis."""
    if fields.ndim == 0 or fields.shape[-1] != n_source:
        raise ValueError(
            f"{name} must have the {n_source} source cells of the {what} on their last axis, got "
            f"shape {fields.shape}; flatten (lat, lon) fields first"
        )


def _check_classes(dtype: np.dtype[Any], classes: Sequence[int], fill: int) -> None:
    if dtype.kind not in "biu":
        raise TypeError(f"labels must be integers or booleans, got {dtype}")
    if not len(classes):
        raise ValueError("classes must name at least one class, got none")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    outside = [value for value in (*classes, fill) if not low <= value <= high]
    if outside:
        raise ValueError(
            f"classes and fill must be within {low}..{high}, the range of {dtype} labels, got "
            f"{outside}"
        )


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that fields of a type are computed and returned in."""
    if dtype.kind not in "fiub":
        raise TypeError(f"values must be real numbers, got {dtype}")
    small = dtype.itemsize <= (4 if dtype.kind == "f" else 2)
    return np.dtype(np.float32 if small else np.float64)


class _Prepared(NamedTuple):
    """A matrix in the type that fields are computed in, its tiles, and sums of its rows."""

    weights: NDArray[np.floating[Any]]
    tiles: tuple[NDArray[Any], ...]
    sums: NDArray[np.floating[Any]]
    parts: NDArray[np.float64]  # the same sums without rounding: what the source covers
    original: sparse.csr_array  # kept alive, so that no other can get its id


class _Divisors(NamedTuple):
    """What sums are divided by where nothing is missing, and what valid part is enough else."""

    usual: NDArray[np.floating[Any]]
    enough: NDArray[np.floating[Any]]
    original: sparse.csr_array  # as above


def _kept(matrix: sparse.csr_array, key: str, make: Callable[[], Any]) -> Any:
    """What was made of a matrix before, if it cannot have changed since."""
    if matrix.data.flags.writeable:
        return make()
    return _prepared_matrices.fetch(f"{id(matrix)} {key}", make)


def _prepared(matrix: sparse.csr_array, dtype: np.dtype[Any]) -> _Prepared:
    def make() -> _Prepared:
        from xsphere.weights.row_products import row_sums, tiles_of

        weights = matrix.data.astype(dtype, copy=False)
        rows, needs, needed, slots = tiles_of(matrix.indptr, matrix.indices, matrix.shape[1])
        if np.diff(needs).max(initial=0) <= np.iinfo(np.uint16).max:
            slots = slots.astype(np.uint16)
        parts = row_sums(matrix.indptr, matrix.data.astype(np.float64, copy=False))
        sums = row_sums(matrix.indptr, weights)
        return _Prepared(weights, (rows, needs, needed, slots), sums, parts, matrix)

    prepared: _Prepared = _kept(matrix, f"{dtype}", make)
    return prepared


def _divisors(prepared: _Prepared, least: float | None) -> _Divisors:
    """For a valid part of a cell that is enough, or None where missing values propagate."""
    _, _, sums, parts, matrix = prepared

    def make() -> _Divisors:
        enough = np.full_like(sums, np.inf)
        if least is None:
            tolerance = COVER_TOLERANCE if matrix.dtype == np.float64 else PART_TOLERANCE
            good = np.abs(parts - 1.0) <= tolerance
        else:
            good = (parts >= least - PART_TOLERANCE) & (parts > 0)
            # a sum of many entries is off by its rounding: so is what it must reach
            enough[good] = sums[good] / parts[good] * (least - PART_TOLERANCE)
        usual = np.where(good, sums, np.array(np.nan, sums.dtype))
        return _Divisors(usual, enough, matrix)

    divisors: _Divisors = _kept(matrix, f"{sums.dtype} {least}", make)
    return divisors


def _apply(
    prepared: _Prepared, fields: NDArray[Any], result: NDArray[Any], least: float | None
) -> None:
    """Fills result with regridded fields; least is None where missing values propagate."""
    from xsphere.weights.row_products import LANES, apply_rows, apply_tiles

    weights, tiles, _, _, matrix = prepared
    usual, enough, _ = _divisors(prepared, least)
    rule = (enough, least is None)
    expected = (np.ones(tiles[2].size, np.bool_), usual.copy())
    for start in range(0, len(fields), LANES):
        batch, into = fields[start : start + LANES], result[start : start + LANES]
        batch = np.ascontiguousarray(batch, weights.dtype)
        if len(batch) < FEW_FIELDS:
            apply_rows(matrix.indptr, weights, matrix.indices, usual, batch, into, rule)
        else:
            apply_tiles(matrix.indptr, weights, tiles, usual, expected, batch, into, rule)


def transposed(rows: NDArray[Any]) -> NDArray[Any]:
    """Copy of fields (n_fields, n_cells) with the fields as columns."""
    columns = np.empty(rows.shape[::-1], rows.dtype)
    for start in range(0, rows.shape[1], CELLS_AT_ONCE):
        cells = slice(start, start + CELLS_AT_ONCE)
        columns[cells] = rows[:, cells].T
    return columns


def _mode_of_batch(
    matrix: sparse.csr_array, labels: NDArray[Any], result: NDArray[Any], choices: NDArray[Any]
) -> None:
    """Fills result; choices are the classes in order, and what a cell without any gets."""
    from xsphere.weights.majority import largest_overlaps

    classes = choices[:-1]
    codes = np.full(labels.shape, classes.size, np.min_scalar_type(classes.size))
    for code, number in enumerate(classes):
        np.putmask(codes, labels == number, code)
    found = largest_overlaps(
        matrix.indptr, matrix.indices, matrix.data, transposed(codes), classes.size
    )
    result[...] = choices[found].T
