"""Checks of the rows and columns of a grid: what `LatLonGrid` asks of its axes."""

import numpy as np
from numpy.typing import NDArray

# Centres that are nearer than this (a metre) are one, and those than a thousandth of the others.
SAME_AXIS = 1e-5
ROUNDED = 1e-3


def axis_problems(name: str, values: NDArray[np.float64]) -> list[str]:
    """What is wrong with the centres of rows or columns; nothing if they can be an axis."""
    if values.ndim != 1 or values.size == 0:
        return [f"{name} must be a non-empty 1-D array, got shape {values.shape}"]
    if not np.isfinite(values).all():
        return [
            f"{name} must be finite, got {int((~np.isfinite(values)).sum())} values that are not"
        ]
    steps = np.diff(values)
    twice = values.size - np.unique(values).size
    if twice:
        return [
            f"{name} must increase or decrease strictly, got {twice} values more than once; keep "
            f"one of each, for example ds.drop_duplicates({name!r})"
        ]
    if values.size > 1 and not ((steps > 0).all() or (steps < 0).all()):
        return [
            f"{name} must increase or decrease strictly, got {values[:3]}...; "
            f"sort it first, for example ds.sortby({name!r})"
        ]
    return _rounding_problems(name, values)


def _rounding_problems(name: str, values: NDArray[np.float64]) -> list[str]:
    """Rows or columns of two files that should have been one, each with half of the values."""
    steps = np.abs(np.diff(values))
    close = steps < max(SAME_AXIS, min(ROUNDED, ROUNDED * steps.max(initial=0.0)))
    if not close.any():
        return []
    first = int(np.flatnonzero(close)[0])
    return [
        f"{name} must not hold values that differ by rounding alone, got {int(close.sum())} pairs, "
        f"such as {values[first]!r} and {values[first + 1]!r}; files whose coordinates differ so "
        "are joined with join='override', for example xr.open_mfdataset(paths, join='override')"
    ]
