"""Which variables are taken, and whether they can be: found from names, types and chunks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions import HorizontalGrid
from xsphere.conventions.angles import check_no_angles
from xsphere.conventions.base import check_one_chunk
from xsphere.conventions.masks import FLAG_ATTRIBUTES, holds_classes
from xsphere.conventions.values import (
    STORAGE_ATTRIBUTES,
    ReadingNode,
    check_unpacked,
    reading_of,
)
from xsphere.notices import shortened

# What holds for a field but not for what becomes of it.
STALE_ATTRIBUTES = (*STORAGE_ATTRIBUTES, *FLAG_ATTRIBUTES, "number_of_significant_digits")


def check_fields(variables: Mapping[Any, xr.DataArray], found: HorizontalGrid, wish: str) -> None:
    """Refuse variables that are no fields of numbers, or split over the sphere."""
    kinds = {name: str(v.dtype) for name, v in variables.items() if v.dtype.kind not in "fiub"}
    if kinds:
        raise TypeError(
            f"{wish}() is for numbers, got variables {kinds}; drop them with "
            f"ds.drop_vars({shortened(list(kinds))}), or convert them first"
        )
    check_unpacked(variables)
    classes = [name for name, variable in variables.items() if holds_classes(variable)]
    if classes:
        raise ValueError(
            f"{wish}() is for fields, but {classes} hold classes (flag_values); drop them with "
            f"ds.drop_vars({classes}), or take the share of one class, such as mask == 1"
        )
    check_no_angles(variables.values(), f"{wish}()")
    check_one_chunk(variables, found.dims)


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Floats keep their type, of at most 64 bits; others get one that holds them."""
    if dtype.kind == "f":
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    return np.result_type(dtype.newbyteorder("="), np.float32)


def on_the_grid(
    node: Any, variables: list[xr.DataArray], found: HorizontalGrid, n_outputs: int, dtype: Any
) -> list[xr.DataArray]:
    """What a node makes of variables, on the same grid and in the order of their dimensions."""
    dims = list(found.dims)
    results = xr.apply_ufunc(
        ReadingNode(node=node, readings=tuple(map(reading_of, variables))),
        *variables,
        input_core_dims=[dims] * len(variables),
        output_core_dims=[dims] * n_outputs,
        join="exact",
        dask="parallelized",
        output_dtypes=[dtype] * n_outputs,
        keep_attrs=True,
    )
    arrays = [results] if n_outputs == 1 else list(results)
    order = tuple(dict.fromkeys(dim for variable in variables for dim in variable.dims))
    # a transpose that changes nothing would still cost a task a block
    return [array if array.dims == order else array.transpose(*order) for array in arrays]


def kept_attributes(variable: xr.DataArray) -> dict[str, Any]:
    """Attributes of a variable that still hold for what becomes of it."""
    return {key: v for key, v in variable.attrs.items() if key not in STALE_ATTRIBUTES}
