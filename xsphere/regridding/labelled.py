"""Fields with labels taken from one grid to another: which variables, how, with what labels.

Nothing here looks at data: whatever is wrong is found from names, types, chunks and grids.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions import HorizontalGrid, without_dggs
from xsphere.conventions.angles import angle_of
from xsphere.conventions.base import Labelled, check_one_chunk, horizontal_variables, related
from xsphere.conventions.masks import FLAG_ATTRIBUTES, flag_values, has_flags, holds_classes
from xsphere.conventions.values import (
    STORAGE_ATTRIBUTES,
    ReadingNode,
    check_unpacked,
    declared_fills,
    reading_of,
)
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.model.vector_names import units_factor
from xsphere.notices import shortened
from xsphere.regridding.methods import definite_methods
from xsphere.regridding.node import RegridNode, Rules, VectorNode
from xsphere.regridding.places import Place
from xsphere.regridding.vector_pairs import Vectors, check_vector_methods, vector_pairs
from xsphere.weights import METHODS

_STALE_ATTRIBUTES = {
    "grid_mapping",
    "cell_measures",
    "coordinates",
    "bounds",
    "mesh",
    "location",
    *STORAGE_ATTRIBUTES,
}
_PACKING = ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")


def regridded(
    obj: Labelled, source: HorizontalGrid, place: Place, rules: Rules, vectors: Vectors = "auto"
) -> Labelled:
    """The fields of an object on another grid."""
    if isinstance(obj, xr.DataArray):
        arrays = _regridded_arrays({obj.name: obj}, source, place, rules, vectors)
        described: Labelled = place.describe(arrays[obj.name])
        return described
    chosen = horizontal_variables(obj, source)
    arrays = _regridded_arrays(chosen, source, place, rules, vectors)
    dataset: Labelled = place.describe(_assembled(obj, arrays, source, place))
    return dataset


def _regridded_arrays(
    variables: Mapping[Any, xr.DataArray],
    source: HorizontalGrid,
    place: Place,
    rules: Rules,
    vectors: Vectors,
) -> dict[Any, xr.DataArray]:
    _check_kinds(variables)
    check_unpacked(variables)
    check_one_chunk(variables, source.dims)
    _check_dims(variables, source.dims, place)
    methods = definite_methods(variables, source.grid, place.grid, rules.method)
    pairs = vector_pairs(variables, vectors, source.grid)
    if isinstance(vectors, str):
        pairs = [pair for pair in pairs if methods[pair[0]] != "mode"]
    # components of one vector go one way
    methods |= {north: methods[east] for east, north in pairs}
    check_vector_methods(pairs, methods)
    arrays = {
        name: _regridded_array(variable, source, place, replace(rules, method=methods[name]))
        for name, variable in variables.items()
        if name not in {name for pair in pairs for name in pair}
    }
    for pair in pairs:
        chosen = replace(rules, method=methods[pair[0]])
        both = [variables[name] for name in pair]
        arrays |= zip(pair, _regridded_vector(both, source, place, chosen), strict=True)
    return arrays


def _check_kinds(variables: Mapping[Any, xr.DataArray]) -> None:
    kinds = {name: str(v.dtype) for name, v in variables.items() if v.dtype.kind not in "fiub"}
    if kinds:
        raise TypeError(
            f"only numbers and booleans can be regridded, got variables {kinds}; drop them with "
            f"ds.drop_vars({shortened(list(kinds))}), or convert them first"
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
    node, attributes = regrid_node(variable, source.grid, place.grid, rules)
    dtype = regridded_dtype(variable, source.grid, rules)
    (result,) = _applied(node, [variable], [dtype], source, place)
    result.attrs = attributes
    result.encoding = _encoding(variable, dtype, source.grid, rules)
    return result


def _regridded_vector(
    components: list[xr.DataArray], source: HorizontalGrid, place: Place, rules: Rules
) -> list[xr.DataArray]:
    node = vector_node(components, source.grid, place.grid, rules)
    dtypes = [regridded_dtype(v, source.grid, rules) for v in components]
    results = _applied(node, components, dtypes, source, place)
    for result, variable, dtype in zip(results, components, dtypes, strict=True):
        result.attrs = _attributes(variable, place.grid, f"{rules.method} vector", rules.method)
        result.encoding = _encoding(variable, dtype, source.grid, rules)
    return results


def _applied(
    node: ReadingNode,
    variables: list[xr.DataArray],
    dtypes: list[np.dtype[Any]],
    source: HorizontalGrid,
    place: Place,
) -> list[xr.DataArray]:
    """What a node makes of variables, one result for each."""
    # names of their own, since a grid may be replaced by another with the same dimensions
    passing = {f"_xsphere_{dim}": dim for dim in place.dims}
    results = xr.apply_ufunc(
        node,
        *(_without_grid(variable, source) for variable in variables),
        input_core_dims=[list(source.dims)] * len(variables),
        output_core_dims=[list(passing)] * len(variables),
        exclude_dims=set(source.dims),
        join="exact",
        dask="parallelized",
        output_dtypes=dtypes,
        dask_gufunc_kwargs={
            "output_sizes": dict(zip(passing, place.grid.shape, strict=True)),
        },
        keep_attrs=True,
    )
    arrays = [results] if len(variables) == 1 else results
    return [array.rename(passing) for array in arrays]


def _without_grid(variable: xr.DataArray, source: HorizontalGrid) -> xr.DataArray:
    scalars = {name: c for name, c in variable.coords.items() if not c.ndim}
    return variable.drop_vars(
        [n for n, c in scalars.items() if n in source.coords or "grid_mapping_name" in c.attrs]
    )


def regrid_node(
    variable: xr.DataArray, source: Grid, target: Grid, rules: Rules
) -> tuple[ReadingNode, dict[str, Any]]:
    """The node for a variable, and the attributes of what comes out of it."""
    angle = None if rules.method == "mode" else angle_of(variable)
    how = rules.method if angle is None else f"{rules.method} direction"
    attributes = _attributes(variable, target, how, rules.method)
    dtype = regridded_dtype(variable, source, rules)
    node = RegridNode(
        source=source, target=target, rules=rules, dtype=dtype, angle=angle, name=str(variable.name)
    )
    reading = reading_of(variable)
    if METHODS[rules.method].keeps_values:
        reading = replace(reading, classes=())
    if rules.method == "mode":
        reading = replace(reading, fills=())
        classes = _classes(variable)
        fill = _fill(variable, classes)
        exhaustive = "not_computed" in str(attributes.get("flag_meanings", "")).split()
        node = replace(node, classes=classes, fill=fill, exhaustive=exhaustive)
        if not source.is_global and dtype.kind in "iu" and classes is not None:
            _declare(attributes, classes, fill, dtype)
    return ReadingNode(node=node, readings=(reading,)), attributes


def vector_node(
    components: list[xr.DataArray], source: Grid, target: Grid, rules: Rules
) -> ReadingNode:
    """The node for the components of a vector."""
    east, north = (regridded_dtype(variable, source, rules) for variable in components)
    node = VectorNode(
        source=source,
        target=target,
        rules=rules,
        dtypes=(east, north),
        factor=units_factor(*components) or 1.0,
    )
    return ReadingNode(node=node, readings=tuple(map(reading_of, components)))


def _declare(
    attributes: dict[str, Any], classes: tuple[int, ...], fill: int, dtype: np.dtype[Any]
) -> None:
    """Name the label of cells without a class among the flags."""
    if fill not in classes:
        attributes["flag_values"] = np.array([*classes, fill], dtype)
        attributes["flag_meanings"] = f"{attributes.get('flag_meanings', '')} not_computed".strip()


def _attributes(variable: xr.DataArray, target: Grid, how: str, method: str) -> dict[str, Any]:
    """Those of the variable that still hold, and what was done."""
    labels = METHODS[method].keeps_values and variable.dtype.kind != "b"
    stale = _STALE_ATTRIBUTES
    if method == "mode" and variable.dtype.kind in "iu":
        # the label of missing cells stays what it is
        stale = stale - {"_FillValue", "missing_value"}
    if has_flags(variable) and not (labels or holds_classes(variable)):
        stale = stale | set(FLAG_ATTRIBUTES)
    attributes = {k: v for k, v in variable.attrs.items() if k not in stale}
    done = f"area: {METHODS[method].cell_methods} ({how} regridding to {_title(target)})"
    return attributes | {"cell_methods": f"{attributes.get('cell_methods', '')} {done}".strip()}


def _title(grid: Grid) -> str:
    match grid:
        case HealpixGrid():
            return f"HEALPix level {grid.level}"
        case LatLonGrid():
            return f"{grid.lat.size} x {grid.lon.size} latitudes and longitudes"
    return f"{grid.n_cells} points"


def regridded_dtype(variable: xr.DataArray, source: Grid, rules: Rules) -> np.dtype[Any]:
    """Type of what a variable becomes."""
    dtype = variable.dtype
    if dtype.kind == "f":
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    if rules.method == "mode" and not (dtype.kind == "b" and not source.is_global):
        return dtype.newbyteorder("=")
    return np.result_type(dtype.newbyteorder("="), np.float32)


def _classes(variable: xr.DataArray) -> tuple[int, ...] | None:
    """Labels that a variable may hold, if it says so."""
    if variable.dtype.kind == "b":
        return 0, 1
    if "flag_values" not in variable.attrs or "flag_masks" in variable.attrs:
        return None
    return flag_values(variable)


def _fill(variable: xr.DataArray, classes: tuple[int, ...] | None) -> int:
    """Label for cells without one: what the file says, else one that means nothing."""
    meanings = str(variable.attrs.get("flag_meanings", "")).split()
    if classes is not None and "not_computed" in meanings[: len(classes)]:
        return classes[meanings.index("not_computed")]
    # labels are int64 while they are chosen; the label becomes NaN among floats
    kind = variable.dtype if variable.dtype.kind in "iu" else np.dtype(np.int32)
    lowest, highest = int(np.iinfo(kind).min), min(int(np.iinfo(kind).max), 2**63 - 1)
    for declared in declared_fills(variable) if variable.dtype.kind in "iu" else ():
        if declared == int(declared) and lowest <= declared <= highest:
            return int(declared)
    return next(label for label in range(highest, -1, -1) if label not in (classes or ()))


def _encoding(
    variable: xr.DataArray, dtype: np.dtype[Any], source: Grid, rules: Rules
) -> dict[str, Any]:
    """How to store the result: packed like the source, unless values could not be held."""
    kept = {key: variable.encoding[key] for key in _PACKING if key in variable.encoding}
    if dtype.kind != variable.dtype.kind:
        return {}
    stored = np.dtype(kept.get("dtype", dtype))
    if stored.kind not in "iu" or dtype.kind != "f":
        return kept
    holds_missing = "_FillValue" in kept or "missing_value" in kept or source.is_global
    holds_fractions = "scale_factor" in kept or METHODS[rules.method].keeps_values
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
        or {"grid_mapping_name", "cf_role"} & set(variable.attrs)
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
    result.attrs = without_dggs(obj.attrs)
    unlimited = set(obj.encoding.get("unlimited_dims", ())) & set(result.dims)
    result.encoding = {"unlimited_dims": unlimited} if unlimited else {}
    return result
