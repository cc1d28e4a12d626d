"""What a task runs: it knows two grids and a method, and looks its weights up where it runs."""

from dataclasses import dataclass, fields
from typing import Any, TypedDict, cast, get_args

import numpy as np
from numpy.typing import NDArray

from xsphere.conventions import NOT_COMPUTED
from xsphere.conventions.angles import Angle
from xsphere.conventions.masks import check_flags
from xsphere.grids import Grid
from xsphere.grids.travel import Travelling
from xsphere.weights.apply import MissingPolicy, least_valid_part
from xsphere.weights.method_table import FieldMethod, RegridMethod

# Part of every task's key: raise it when results change for the same weights.
VERSION = 2

# More values than this are a measurement, not classes.
MAX_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How values become values of another grid.

    Parameters
    ----------
    method : str
        As for `regrid`.
    missing : str
        As for `regrid`.
    min_valid_fraction : float
        As for `regrid`.

    Raises
    ------
    ValueError
        If an option is unknown or out of range.

    Examples
    --------
    >>> Rules().method
    'auto'
    """

    method: RegridMethod = "auto"
    missing: MissingPolicy = "renormalize"
    min_valid_fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in get_args(RegridMethod):
            raise ValueError(
                f"method must be one of {list(get_args(RegridMethod))}, got {self.method!r}"
            )
        least_valid_part(self.missing, self.min_valid_fraction)

    def options(self) -> "FieldArguments":
        """As arguments of `regrid_fields`; the method must be one of fields."""
        return FieldArguments(
            method=cast("FieldMethod", self.method),
            missing=self.missing,
            min_valid_fraction=self.min_valid_fraction,
        )


class FieldArguments(TypedDict):
    """What `regrid_fields` and `regrid_vectors` take."""

    method: FieldMethod
    missing: MissingPolicy
    min_valid_fraction: float


@dataclass(frozen=True, kw_only=True)
class RegridNode(Travelling):
    """What a task runs: blocks of fields on one grid in, on another out.

    Parameters
    ----------
    source, target : Grid
        The grids. Weights between them come from the cache of the process that runs the task.
    rules : Rules
        With a definite method.
    dtype : dtype
        Of the result.
    classes : tuple of int, optional
        Labels to choose from, for ``"mode"``; those that occur if not given.
    fill : int
        Label of target cells without a class, for ``"mode"``.
    exhaustive : bool
        Whether other labels than `classes` are a mistake; else they are missing.
    angle : Angle, optional
        What the values are, if they go round.
    name : str
        Of the variable, for messages.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> node = RegridNode(
    ...     source=HealpixGrid(1), target=HealpixGrid(0),
    ...     rules=Rules(method="conservative"), dtype=np.dtype("f4"),
    ... )
    >>> node(np.ones((2, 48), "f4")).shape
    (2, 12)
    """

    # the name of its tasks; dask cannot do with one that has a hyphen, as a repr may have
    __name__ = "xsphere_regrid"

    source: Grid
    target: Grid
    rules: Rules
    dtype: np.dtype[Any]
    classes: tuple[int, ...] | None = None
    fill: int = NOT_COMPUTED
    exhaustive: bool = False
    angle: Angle | None = None
    name: str = ""

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Fields of shape (..., *target.shape) for fields of shape (..., *source.shape)."""
        leading = values.shape[: values.ndim - len(self.source.shape)]
        shape = (*leading, *self.target.shape)
        if values.size == 0:
            return np.empty(shape, self.dtype)
        flat = values.reshape(*leading, self.source.n_cells)
        result = self._modes(flat) if self.rules.method == "mode" else self._means(flat)
        return result.astype(self.dtype, copy=False).reshape(shape)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        content = _content(self.source, self.target, self.rules)
        special = () if self.angle is None else (self.angle.turn, self.angle.from_north)
        return ("xsphere.regrid", *content, self.dtype.str, self.classes, self.fill, *special)

    def _means(self, values: NDArray[Any]) -> NDArray[Any]:
        from xsphere.weights import regrid_fields
        from xsphere.weights.vectors import regrid_angles

        # the same cells: nothing turns, and nothing is rounded
        if self.angle is not None and self.source != self.target:
            turn, from_north = self.angle.turn, self.angle.from_north
            return regrid_angles(
                values,
                self.source,
                self.target,
                turn=turn,
                from_north=from_north,
                **self.rules.options(),
            )
        return regrid_fields(values, self.source, self.target, **self.rules.options())

    def _modes(self, values: NDArray[Any]) -> NDArray[Any]:
        from xsphere.weights import apply_mode, regridding_weights, shares_areas

        overlap = shares_areas(self.source, self.target)
        matrix = regridding_weights(
            self.source, self.target, method="conservative" if overlap else "nearest"
        )
        labels = self._labels(values)
        classes = self.classes or tuple(np.unique(labels).tolist())
        if len(classes) > MAX_CLASSES:
            raise ValueError(
                f"method 'mode' is for classes, got {len(classes)} different values; use "
                "'conservative' or 'bilinear'"
            )
        # a missing label is a class of its own: the largest part of a cell may be missing
        choices = sorted({self.fill, *classes})
        result = apply_mode(matrix, labels, classes=choices, fill=self.fill)
        least = least_valid_part(self.rules.missing, self.rules.min_valid_fraction)
        result[..., matrix.sum(axis=1) < (1.0 if least is None else least) - 1e-9] = self.fill
        return np.where(result == self.fill, np.nan, result) if self.dtype.kind == "f" else result

    def _labels(self, values: NDArray[Any]) -> NDArray[Any]:
        labels: NDArray[Any]
        match values.dtype.kind:
            case "b":
                labels = values.astype(np.int32)
            case "f":
                labels = self._whole_numbers(values)
            case _:
                labels = values
        if self.classes is None:
            return labels
        if self.exhaustive:
            check_flags(values, self.classes, self.name)
        # a label that was not declared means as little as a missing one
        return np.where(np.isin(labels, self.classes), labels, np.array(self.fill, labels.dtype))

    def _whole_numbers(self, values: NDArray[Any]) -> NDArray[np.int64]:
        valid = np.isfinite(values)
        labels = np.where(valid, values, self.fill).astype(np.int64)
        fractions = valid & (labels != values)
        if fractions.any():
            raise ValueError(
                "method 'mode' is for classes, got values that are no whole numbers, such as "
                f"{values[fractions][0]}; use 'conservative' or 'bilinear'"
            )
        return labels


@dataclass(frozen=True, kw_only=True)
class VectorNode(Travelling):
    """What a task runs for two components of a vector: both in, both out.

    Parameters
    ----------
    source, target : Grid
        As for `RegridNode`.
    rules : Rules
        With a definite method other than ``"mode"``.
    dtypes : tuple of dtype
        Of the components towards the east and the north.
    factor : float
        Brings the northward component into the units of the other.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> node = VectorNode(
    ...     source=HealpixGrid(1), target=HealpixGrid(0),
    ...     rules=Rules(method="conservative"), dtypes=(np.dtype("f4"),) * 2,
    ... )
    >>> [part.shape for part in node(np.ones((2, 48), "f4"), np.ones((2, 48), "f4"))]
    [(2, 12), (2, 12)]
    """

    __name__ = "xsphere_regrid_vectors"

    source: Grid
    target: Grid
    rules: Rules
    dtypes: tuple[np.dtype[Any], np.dtype[Any]]
    factor: float = 1.0

    def __call__(
        self, east: NDArray[Any], north: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Components of shape (..., *target.shape) for those of shape (..., *source.shape)."""
        leading = east.shape[: east.ndim - len(self.source.shape)]
        shape = (*leading, *self.target.shape)
        if east.size == 0:
            return np.empty(shape, self.dtypes[0]), np.empty(shape, self.dtypes[1])
        from xsphere.weights import regrid_vectors

        flat = (*leading, self.source.n_cells)
        first, second = regrid_vectors(
            east.reshape(flat),
            north.reshape(flat) if self.factor == 1 else north.reshape(flat) * self.factor,
            self.source,
            self.target,
            **self.rules.options(),
        )
        if self.factor != 1:
            second /= self.factor
        return (
            first.astype(self.dtypes[0], copy=False).reshape(shape),
            second.astype(self.dtypes[1], copy=False).reshape(shape),
        )

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        content = _content(self.source, self.target, self.rules)
        types = (dtype.str for dtype in self.dtypes)
        factor = () if self.factor == 1 else (self.factor,)
        return ("xsphere.regrid_vectors", *content, *types, *factor)


def _content(source: Grid, target: Grid, rules: Rules) -> tuple[Any, ...]:
    """All that a result depends on, beside the data and what is one node's own."""
    from xsphere.weights import regridding

    options = tuple(getattr(rules, field.name) for field in fields(rules))
    return VERSION, regridding.VERSION, source.fingerprint, target.fingerprint, *options
