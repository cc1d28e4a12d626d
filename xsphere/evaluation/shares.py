"""Shares of classes in cells: what masks, probabilities and annotators say, in one form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import event_classes_of, horizontal_grid
from xsphere.conventions.masks import BACKGROUND, holds_classes
from xsphere.conventions.values import Reading, check_unpacked, reading_of
from xsphere.grids import Grid, PointGrid
from xsphere.grids.travel import Travelling
from xsphere.notices import shortened
from xsphere.regridding.node import RegridNode, Rules
from xsphere.weights import FieldMethod
from xsphere.weights.method_table import check_method

CLASS_DIMS = ("class", "event", "classes", "events", "label")
ANNOTATOR = "annotator"


def class_names(array: xr.DataArray, what: str = "labels") -> tuple[str, ...]:
    """Names of the events of a mask or of probabilities, in their order."""
    dim = class_dim(array)
    if dim is not None:
        if dim not in array.coords:
            raise ValueError(
                f"{what} have the dimension {shortened(dim)} but no names along it; assign them "
                f"with .assign_coords({dim}=[...])"
            )
        names = [str(value) for value in array[dim].values]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{what} have the classes {shortened(twice)} more than once")
        events = tuple(name for name in names if name != "background")
        if not events:
            raise ValueError(f"{what} must have classes other than the background, got {names}")
        return events
    if array.dtype.kind not in "iu" and not holds_classes(array):
        raise ValueError(
            f"{what} must be integer classes, or probabilities along one of {CLASS_DIMS}, got "
            f"dtype {array.dtype} and dimensions {array.dims}; of booleans make integers that "
            "name their class: labels.astype('uint8').assign_attrs(mask_attributes(['storm']))"
        )
    found = tuple(event_classes_of(array).values())
    if not found:
        raise ValueError(
            f"{what} do not name their classes; set the attributes flag_values and flag_meanings"
        )
    return found


def class_dim(array: xr.DataArray) -> str | None:
    """The dimension along which there are probabilities of classes, if any."""
    return next((dim for dim in CLASS_DIMS if dim in array.dims), None)


@dataclass(frozen=True, kw_only=True)
class ClassShares(Travelling):
    """What makes shares of classes on a grid of the values of a mask or of probabilities.

    Parameters
    ----------
    chosen : tuple of int
        Classes that are meant: values of a mask, or positions among probabilities.
    declared : tuple of int
        All values that a mask may have where something is known; none of probabilities.
    annotated : bool
        Whether there are several annotators.
    reading : Reading
        What is missing.
    node : RegridNode, optional
        What brings shares to the grid, if they are on another.
    what : str
        Name for errors.

    Examples
    --------
    >>> from xsphere.conventions import describe_healpix
    >>> from xsphere.grids import HealpixGrid
    >>> values = np.array([[0, 1, 254] + 9 * [0]], np.uint8)
    >>> flags = {"flag_values": [0, 1], "flag_meanings": "background storm"}
    >>> mask = xr.DataArray(values, dims=("time", "cells"), attrs=flags)
    >>> mask = describe_healpix(mask, HealpixGrid(0))
    >>> shares = ClassShares.of(mask, ["storm"], HealpixGrid(0))
    >>> shares(shares.arranged(mask).values)[0, :, :3]
    array([[ 1.,  0., nan],
           [ 0.,  1., nan]])
    """

    chosen: tuple[int, ...]
    declared: tuple[int, ...]
    annotated: bool
    reading: Reading
    node: RegridNode | None
    what: str

    @classmethod
    def of(
        cls,
        array: xr.DataArray,
        classes: Sequence[str],
        target: Grid,
        *,
        method: FieldMethod = "conservative",
        what: str = "labels",
    ) -> "ClassShares":
        """What makes shares of these classes, on a grid, of an array that has them."""
        check_unpacked({array.name: array})
        dim, source = class_dim(array), horizontal_grid(array).grid
        if dim is None:
            values = {name: value for value, name in event_classes_of(array).items()}
            declared = (BACKGROUND, *values.values())
        else:
            values = {str(name): n for n, name in enumerate(array[dim].values)}
            declared = ()
        node = None
        if source != target:
            if method == "conservative":
                source, target = _with_edges(source), _with_edges(target)
            check_method(method, source, target)
            rules = Rules(method=method)
            node = RegridNode(source=source, target=target, rules=rules, dtype=np.dtype(float))
        return cls(
            chosen=tuple(values[name] for name in classes),
            declared=declared,
            annotated=ANNOTATOR in array.dims,
            reading=reading_of(array),
            node=node,
            what=what,
        )

    def arranged(self, array: xr.DataArray) -> xr.DataArray:
        """The array as it is called with: without labels, its dimensions in order and its own."""
        classes = [] if self.declared else [class_dim(array)]
        order = [*([ANNOTATOR] if self.annotated else []), *classes, *horizontal_grid(array).dims]
        bare = array.drop_vars(list(array.coords)).transpose("time", *order)
        return bare.rename({dim: f"{dim} of {self.what}" for dim in order})

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Shares (time, classes, cells), the background first; NaN where nothing is known.

        Parameters
        ----------
        values : array, shape (time, [annotators], [classes], *horizontal)
            As `arranged` has them.

        Returns
        -------
        array of float64
            They add up to 1. Where probabilities of events add up to more, for a teacher's classes
            may overlap, they are divided by their sum. Of several annotators the mean of those who
            know.
        """
        if not self.annotated:
            values = values[:, None]
        events = self._events(values)
        events = events if self.node is None else self.node(events)
        events = events.reshape(*events.shape[:3], -1)
        self._check_probabilities(events)
        events = events / np.maximum(events.sum(2, keepdims=True), 1.0)
        shares = np.concatenate([1.0 - events.sum(2, keepdims=True), events], 2)
        if not self.annotated:
            return shares[:, 0]
        known = np.isfinite(shares)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN where nobody knows
            mean: NDArray[np.float64] = np.where(known, shares, 0.0).sum(1) / known.sum(1)
        return mean

    def _events(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Shares of the events (time, annotators, classes, *horizontal), NaN where unknown."""
        if not self.declared:
            events = self.reading(values).astype(np.float64)[:, :, list(self.chosen)]
            # a cell of which one class is unknown is unknown
            return np.where(np.isfinite(events).all(2, keepdims=True), events, np.nan)
        values = values[:, :, None]
        ids = np.array(self.chosen).reshape(-1, *(1,) * (values.ndim - 3))
        # invalid, not computed and whatever is not declared: nothing is known there
        known = np.isin(values, self.declared)
        return np.where(known, (values == ids).astype(np.float64), np.nan)

    def _check_probabilities(self, values: NDArray[np.float64]) -> None:
        finite = values[np.isfinite(values)]
        if finite.size and (finite.min() < -1e-6 or finite.max() > 1 + 1e-6):
            raise ValueError(
                f"probabilities must be from 0 to 1, got {finite.min():g} to {finite.max():g} in "
                f"{self.what}; divide scaled integers first"
            )


def _with_edges(grid: Grid) -> Grid:
    """With Voronoi cells, if these are points all over the sphere."""
    if isinstance(grid, PointGrid) and not grid.has_bounds and grid.is_global:
        return grid.with_voronoi_bounds()
    return grid
