"""Times of labels, and what else has them."""

from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.base import pandas_indexes
from xsphere.notices import shortened
from xsphere.regions.resampling import block_numbers
from xsphere.regions.track_tables import hours_since_first

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


def times_of(obj: xr.Dataset | xr.DataArray, what: str) -> "pd.Index[Any]":
    """Times along the dimension ``time``, each once.

    Examples
    --------
    >>> labels = xr.DataArray([0], {"time": pd.to_datetime(["2001-01-01"])}, "time")
    >>> len(times_of(labels, "labels"))
    1
    """
    index = pandas_indexes(obj).get("time")
    if index is None:
        raise ValueError(
            f"{what} must have a time coordinate, got {shortened(list(obj.coords))}; select one "
            "time with .isel(time=0), or assign them with .assign_coords(time=...)"
        )
    if not isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex):
        raise ValueError(  # noqa: TRY004  (the index is of no type that the user chose)
            f"times of {what} must be dates, got {index.dtype}; decode them"
        )
    if not index.is_unique or index.hasnans:
        raise ValueError(
            f"times of {what} must be known and differ from each other, got "
            f"{np.sum(index.duplicated())} duplicates and {np.sum(index.isna())} unknown; "
            "drop them"
        )
    return index


def at_times_of(labels: xr.DataArray, obj: Labelled, what: str) -> Labelled:
    """The part of `obj` that is at the times of the labels, in their order."""
    if all("time" not in side.indexes and side.sizes["time"] == 1 for side in (labels, obj)):
        return obj
    wanted, found = times_of(labels, "labels"), times_of(obj, what)
    if not len(wanted):
        raise ValueError("labels must have at least one time, got none")
    if wanted.equals(found):
        return obj
    missing = wanted[~wanted.isin(found)]
    if len(missing):
        other = "" if type(wanted) is type(found) else " in another calendar"
        raise ValueError(
            f"{what} must have every time of the labels, but lacks {len(missing)} of "
            f"{len(wanted)}, such as {missing[0]}; it has {len(found)} from {found.min()} to "
            f"{found.max()}{other}. To score common times alone, select them: labels.sel(time=...)"
        )
    return obj.sel(time=wanted)


def blocks_of(times: "pd.Index[Any]", hours: float) -> NDArray[np.int64]:
    """Number of the block of so many hours that each time is in, counted from 0 without gaps.

    Examples
    --------
    >>> blocks_of(pd.to_datetime(["2001-05-03", "2001-01-02", "2001-01-01"]), 48.0)
    array([1, 0, 0])
    """
    order = np.argsort(times.to_numpy(), kind="stable")
    numbers = np.empty(len(times), np.int64)
    numbers[order] = block_numbers(hours_since_first(times[order]), hours)
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
