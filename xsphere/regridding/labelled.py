"""Fields with labels taken from one grid to another: which variables, how, with what labels.

Nothing here looks at data: whatever is wrong is found from names, types, chunks and grids.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions import HorizontalGrid
from xsphere.conventions.base import Labelled, check_one_chunk, related
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.regridding.methods import covers_sphere, definite_methods
from xsphere.regridding.node import RegridNode, Rules
from xsphere.regridding.places import Place

_CELL_METHODS = {"conservative": "mean", "bilinear": "point", "nearest": "point", "mode": "mode"}
_STALE_ATTRIBUTES = {"grid_mapping", "cell_measures", "coordinates", "bounds"}
_PACKING = ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")


def regridded(obj: Labelled, source: HorizontalGrid, place: Place, rules: Rules) -> Labelled:
    """The fields of an object on another grid."""
    if isinstance(obj, xr.DataArray):
        arrays = _regridded_arrays({obj.name: obj}, source, place, rules)
        described: Labelled = place.describe(arrays[obj.name])
        return described
    chosen = _horizontal_variables(obj, source)
    arrays = _regridded_arrays(chosen, source, place, rules)
    dataset: Labelled = place.describe(_assembled(obj, arrays, source, place))
    return dataset


def _horizontal_variables(obj: xr.Dataset, source: HorizontalGrid) -> dict[Any, xr.DataArray]:
    chosen = {
        name: variable
        for name, variable in obj.data_vars.items()
        if set(source.dims) <= set(variable.dims) and name not in source.coords
    }
    if not chosen:
        raise ValueError(
            f"expected a variable with the horizontal dimensions {source.dims}, got "
            f"{ {name: variable.dims for name, variable in obj.data_vars.items()} }"
        )
    return chosen


def _regridded_arrays(
    variables: Mapping[Any, xr.DataArray], source: HorizontalGrid, place: Place, rules: Rules
) -> dict[Any, xr.DataArray]:
    _check_kinds(variables)
    check_one_chunk(variables, source.dims)
    _check_dims(variables, source.dims, place)
    methods = definite_methods(variables, source.grid, place.grid, rules.method)
    return {
        name: _regridded_array(variable, source, place, replace(rules, method=methods[name]))
        for name, variable in variables.items()
    }


def _check_kinds(variables: Mapping[Any, xr.DataArray]) -> None:
    kinds = {name: str(v.dtype) for name, v in variables.items() if v.dtype.kind not in "fiub"}
    if kinds:
        raise TypeError(
            f"only numbers and booleans can be regridded, got variables {kinds}; drop them with "
            f"ds.drop_vars({list(kinds)}), or convert them first"
        )


def _check_dims(
    variables: Mapping[Any, xr.DataArray], replaced: tuple[str, ...], place: Place
) -> None:
    taken = {
        name: clash
        for name, variable in variables.items()
        if (clash := sorted(set(place.dims) & (set(map(str, variable.dims)) - set(replaced))))
    }
    if taken:
        raise ValueError(
            f"the result needs the dimensions {place.dims}, but variables have some of these with "
            f"another meaning: {taken}; rename them, or drop the variables, first"
        )


def _regridded_array(
    variable: xr.DataArray, source: HorizontalGrid, place: Place, rules: Rules
) -> xr.DataArray:
    node, attributes = _node(variable, source.grid, place.grid, rules)
    scalars = {name: c for name, c in variable.coords.items() if not c.ndim}
    stale = [n for n, c in scalars.items() if n in source.coords or "grid_mapping_name" in c.attrs]
    # names of their own, since a grid may be replaced by another with the same dimensions
    passing = {f"_xsphere_{dim}": dim for dim in place.dims}
    result: xr.DataArray = xr.apply_ufunc(
        node,
        variable.drop_vars(stale),
        input_core_dims=[list(source.dims)],
        output_core_dims=[list(passing)],
        exclude_dims=set(source.dims),
        dask="parallelized",
        output_dtypes=[node.dtype],
        dask_gufunc_kwargs={
            "output_sizes": dict(zip(passing, place.grid.shape, strict=True)),
        },
        keep_attrs=True,
    )
    result = result.rename(passing)
    result.attrs = attributes
    result.encoding = _encoding(variable, node)
    return result


def _node(
    variable: xr.DataArray, source: Grid, target: Grid, rules: Rules
) -> tuple[RegridNode, dict[str, Any]]:
    """The node for a variable, and the attributes of what comes out of it."""
    attributes = {k: v for k, v in variable.attrs.items() if k not in _STALE_ATTRIBUTES}
    done = f"area: {_CELL_METHODS[rules.method]} ({rules.method} regridding to {_title(target)})"
    attributes["cell_methods"] = f"{attributes.get('cell_methods', '')} {done}".strip()
    partial = not covers_sphere(source)
    dtype = _result_dtype(variable.dtype, rules.method, partial)
    if rules.method != "mode":
        return RegridNode(source=source, target=target, rules=rules, dtype=dtype), attributes
    classes = _classes(variable)
    fill = _fill(variable, classes)
    if partial and dtype.kind in "iu" and classes is not None and fill not in classes:
        attributes["flag_values"] = np.array([*classes, fill], dtype)
        attributes["flag_meanings"] = f"{attributes.get('flag_meanings', '')} not_computed".strip()
    node = RegridNode(
        source=source, target=target, rules=rules, dtype=dtype, classes=classes, fill=fill
    )
    return node, attributes


def _title(grid: Grid) -> str:
    match grid:
        case HealpixGrid():
            return f"HEALPix level {grid.level}"
        case LatLonGrid():
            return f"{grid.lat.size} x {grid.lon.size} latitudes and longitudes"
    return f"{grid.n_cells} points"


def _result_dtype(dtype: np.dtype[Any], method: str, partial: bool) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    if method == "mode" and not (dtype.kind == "b" and partial):
        return dtype.newbyteorder("=")
    return np.result_type(dtype.newbyteorder("="), np.float32)


def _classes(variable: xr.DataArray) -> tuple[int, ...] | None:
    """Labels that a variable may hold, if it says so."""
    if variable.dtype.kind == "b":
        return 0, 1
    if "flag_values" not in variable.attrs or "flag_masks" in variable.attrs:
        return None
    return tuple(int(value) for value in np.atleast_1d(variable.attrs["flag_values"]))


def _fill(variable: xr.DataArray, classes: tuple[int, ...] | None) -> int:
    """Label for cells without one: the flag of masks for that, else one that means nothing."""
    meanings = str(variable.attrs.get("flag_meanings", "")).split()
    if classes is not None and "not_computed" in meanings[: len(classes)]:
        return classes[meanings.index("not_computed")]
    # labels are int64 while they are chosen; the label becomes NaN among floats
    kind = variable.dtype if variable.dtype.kind in "iu" else np.dtype(np.int32)
    highest = min(int(np.iinfo(kind).max), int(np.iinfo(np.int64).max))
    return next(label for label in range(highest, -1, -1) if label not in (classes or ()))


def _encoding(variable: xr.DataArray, node: RegridNode) -> dict[str, Any]:
    """How to store the result: packed like the source, unless values could not be held."""
    kept = {key: variable.encoding[key] for key in _PACKING if key in variable.encoding}
    if node.dtype.kind != variable.dtype.kind:
        return {}
    stored = np.dtype(kept.get("dtype", node.dtype))
    if stored.kind not in "iu" or node.dtype.kind != "f":
        return kept
    holds_missing = "_FillValue" in kept or "missing_value" in kept or covers_sphere(node.source)
    holds_fractions = "scale_factor" in kept or node.rules.method in ("mode", "nearest")
    return kept if holds_missing and holds_fractions else {}


def _assembled(
    obj: xr.Dataset, arrays: Mapping[Any, xr.DataArray], source: HorizontalGrid, place: Place
) -> xr.Dataset:
    """Regridded variables among those that pass through, in their order."""
    horizontal = set(source.dims)
    bounds = {related(variable, "bounds") for variable in obj.variables.values()}
    gone = {
        name
        for name, variable in obj.data_vars.items()
        if name in source.coords
        or "grid_mapping_name" in variable.attrs
        or (name in bounds and horizontal & set(variable.dims))
    }
    passing = {name: v for name, v in obj.data_vars.items() if name not in {*gone, *arrays}}
    _check_dims(passing, (), place)
    unused = horizontal - {dim for variable in passing.values() for dim in variable.dims}
    stale = [
        name
        for name, coordinate in obj.coords.items()
        if "grid_mapping_name" in coordinate.attrs or unused & set(coordinate.dims)
    ]
    empty = obj.drop_vars([*obj.data_vars, *stale])
    ordered = {
        name: arrays.get(name, variable.variable)
        for name, variable in obj.data_vars.items()
        if name not in gone
    }
    result = empty.assign(ordered)
    # of the source's cells
    result.attrs = {key: value for key, value in obj.attrs.items() if key != "dggs"}
    unlimited = set(obj.encoding.get("unlimited_dims", ())) & set(result.dims)
    result.encoding = {"unlimited_dims": unlimited} if unlimited else {}
    return result
