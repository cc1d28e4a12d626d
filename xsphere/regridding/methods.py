"""The method for each variable, chosen from its attributes and the two grids."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions.masks import holds_classes
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.notices import shortened
from xsphere.weights import METHODS, FieldMethod, RegridMethod, shares_areas
from xsphere.weights.method_table import check_method

# Sums over time or area, and what flows through an area: their integral is what matters.
_INTEGRATED = re.compile(
    "flux|precipitation|rainfall|snowfall|runoff|evaporation|sublimation|deposition"
)


def definite_method(
    variable: xr.DataArray, source: Grid, target: Grid, method: RegridMethod
) -> RegridMethod:
    """The method asked for, or the one that suits the variable and the grids."""
    if method != "auto":
        return method
    if variable.dtype.kind == "b" or holds_classes(variable):
        return "mode"
    if isinstance(source, PointGrid) and not source.has_bounds:
        return "nearest"
    if shares_areas(source, target) and (_is_integrated(variable) or _coarser(target, source)):
        return "conservative"
    return "inverse_distance" if isinstance(source, PointGrid) else "bilinear"


def definite_methods(
    variables: Mapping[Any, xr.DataArray], source: Grid, target: Grid, method: RegridMethod
) -> dict[Any, RegridMethod]:
    """Methods by name of variable, all of them possible and none that averages flags."""
    methods = {
        name: definite_method(variable, source, target, method)
        for name, variable in variables.items()
    }
    averaged = [
        name
        for name, chosen in methods.items()
        if not METHODS[chosen].keeps_values and holds_classes(variables[name])
    ]
    if averaged:
        raise ValueError(
            f"flags cannot be averaged, but method {shortened(method)} was asked for variables "
            f"{averaged} with flag_values; use method='auto' or 'mode'"
        )
    for chosen in set(methods.values()):
        check_method(chosen, source, target)
    return methods


def method_from(source: Grid, wanted: FieldMethod) -> FieldMethod:
    """The method wanted, or what stands for it where points make it impossible."""
    if not isinstance(source, PointGrid):
        return wanted
    if not source.has_bounds:
        return "nearest"
    return METHODS[wanted].from_points or wanted


def _is_integrated(variable: xr.DataArray) -> bool:
    cell_methods = str(variable.attrs.get("cell_methods", ""))
    standard_name = str(variable.attrs.get("standard_name", ""))
    return bool(re.search(r"\bsum\b", cell_methods) or _INTEGRATED.search(standard_name))


def _coarser(target: Grid, source: Grid) -> bool:
    """Whether cells grow: typical ones, of a longitude-latitude grid those at the equator."""
    return _typical_area(target) > _typical_area(source) * (1 + 1e-6)


def _typical_area(grid: Grid) -> float:
    match grid:
        case HealpixGrid():
            return float(4 * np.pi / (12 * 4**grid.level))
        case LatLonGrid():
            return grid.largest_area
    return float(grid.areas.mean())
