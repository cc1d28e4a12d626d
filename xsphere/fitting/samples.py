"""What a network learns from: inputs and targets of all common times, on the model's grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import horizontal_grid
from xsphere.conventions.angles import check_no_angles
from xsphere.conventions.base import pandas_indexes
from xsphere.conventions.horizontal import common_grid
from xsphere.evaluation.shares import ClassShares
from xsphere.grids import Grid, HealpixGrid
from xsphere.model import ModelSpec, Variable
from xsphere.model.bounds import Bounds, usual_bounds
from xsphere.model.catalogue import VARIABLES
from xsphere.model.inputs import MatchedVariable, matched_variables
from xsphere.model.vector_names import component_pairs
from xsphere.notices import shortened, warn_user
from xsphere.regridding import LoneComponentWarning
from xsphere.segmentation import Inference, ModelHandle, SegmentNode
from xsphere.segmentation.labelled import readings_of
from xsphere.sources.opening import warn_of_unchecked

MAX_SAMPLES_IN_MEMORY = 8 * 2**30
BLOCK = 32  # times in memory at once


@dataclass(frozen=True)
class Samples:
    """Inputs and targets on the model's grid."""

    times: NDArray[Any]
    fields: NDArray[np.float32]  # (time, cells, variables)
    targets: NDArray[np.float32]  # (time, cells, classes)


def input_variables(
    ds: xr.Dataset, variables: Sequence[str | Variable] | None
) -> tuple[Variable, ...]:
    """Variables to learn from, given by name or description, or all on the dataset's grid."""
    if variables is None:
        dims = set(horizontal_grid(ds).dims)
        variables = [str(name) for name, array in ds.data_vars.items() if dims <= set(array.dims)]
    missing = [v for v in variables if isinstance(v, str) and v not in VARIABLES and v not in ds]
    if missing:
        raise ValueError(
            f"variables {shortened(missing)} are not in the dataset, which has "
            f"{shortened(list(ds))}"
        )
    return tuple(_variable(ds, variable) for variable in variables)


def _variable(ds: xr.Dataset, variable: str | Variable) -> Variable:
    if isinstance(variable, Variable):
        return variable
    if variable in VARIABLES:
        return VARIABLES[variable]
    attrs = ds[variable].attrs
    if "units" not in attrs:
        raise ValueError(
            f"{shortened(variable)} has no units attribute; set "
            f"ds[{shortened(variable)}].attrs['units']"
        )
    return Variable(
        name=variable, units=str(attrs["units"]), standard_name=attrs.get("standard_name")
    )


def with_ranges(
    variables: Sequence[Variable], ranges: str | Mapping[str, Bounds | None] | None
) -> tuple[Variable, ...]:
    """Variables with the ranges that their values must be in: the usual ones, or those given."""
    if ranges is None:
        return tuple(replace(variable, valid_range=None) for variable in variables)
    if isinstance(ranges, str) and ranges != "auto":
        raise ValueError(f"valid_ranges must be 'auto', a dict or None, got {shortened(ranges)}")
    chosen = {} if isinstance(ranges, str) else dict(ranges)
    names = [variable.name for variable in variables]
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise ValueError(
            f"valid_ranges names {shortened(unknown)}, but the variables are {shortened(names)}"
        )
    return tuple(
        replace(variable, valid_range=chosen.get(variable.name, _usual_range(variable)))
        for variable in variables
    )


def _usual_range(variable: Variable) -> Bounds | None:
    if variable.valid_range is not None:
        return variable.valid_range
    return usual_bounds(variable.standard_name, variable.units)


def gathered_samples(
    ds: xr.Dataset,
    labels: xr.DataArray,
    times: NDArray[Any],
    spec: ModelSpec,
    *,
    scratch: Path | None = None,
    progress: bool,
) -> Samples:
    """Inputs and targets of some times, regridded block by block; in files of a folder, if any."""
    from tqdm.auto import tqdm

    grid = HealpixGrid(spec.level)
    matches = matched_variables(ds, spec)
    check_no_angles([match.array for match in matches], "fit()")
    warn_of_unchecked([labels, *(match.array for match in matches)])
    names = list(dict.fromkeys(match.array.name for match in matches))
    horizontal = common_grid(ds, names)
    if horizontal.grid != grid:
        _warn_of_scalars([match.array for match in matches], spec)
    shape = (len(times), grid.n_cells)
    sizes = {"fields": len(spec.variables), "targets": len(spec.classes) + 1}
    if scratch is None:
        _check_memory(shape, sum(sizes.values()))
        fields, targets = (np.empty((*shape, n), np.float32) for n in sizes.values())
    else:
        fields, targets = (
            np.memmap(scratch / name, np.float32, "w+", shape=(*shape, n))
            for name, n in sizes.items()
        )
    node = _node(spec, matches, horizontal.grid)
    found = node.beyond(spec)
    shares = ClassShares.of(labels, spec.classes, grid)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(times), BLOCK)]
    for block in tqdm(blocks, desc="regridding", unit="block", disable=not progress):

        def read(index: int, block: slice = block) -> NDArray[Any]:
            field = matches[index].array.sel(time=times[block]).transpose("time", *horizontal.dims)
            return field.values.reshape(len(field), -1)

        fields[block] = np.stack(node.on_model_grid(spec, read, found), axis=-1)
        targets[block] = _targets(shares, labels.sel(time=times[block]))
    found.tell()
    return Samples(times, fields, targets)


def _node(spec: ModelSpec, inputs: Sequence[MatchedVariable], source: Grid) -> SegmentNode:
    """What makes inputs of fields as the finished model will."""
    # of no model yet: it takes fields to the model's grid
    handle = ModelHandle(digest="", level=spec.level, n_classes=len(spec.classes) + 1)
    options = Inference(device="cpu")
    readings, conversions = readings_of(inputs, spec.vectors)
    return SegmentNode(handle, source, conversions, inference=options, readings=readings)


def _warn_of_scalars(arrays: Sequence[xr.DataArray], spec: ModelSpec) -> None:
    """Warn of components of vectors that the model will take for scalars."""
    told = {(arrays[east].name, arrays[north].name) for east, north in spec.vectors}
    untold = [pair for pair in component_pairs({a.name: a for a in arrays}) if pair not in told]
    if untold:
        warn_user(
            f"{untold} are components of vectors without standard names that say so: regridded as "
            "scalars, they are wrong near the poles. Set their attrs['standard_name'] to "
            "'eastward_wind' and 'northward_wind', or what they are",
            LoneComponentWarning,
        )


def _check_memory(shape: tuple[int, int], n_values: int) -> None:
    n_bytes = 4 * shape[0] * shape[1] * n_values
    if n_bytes > MAX_SAMPLES_IN_MEMORY:
        raise ValueError(
            f"the regridded samples would take {n_bytes / 2**30:.0f} GiB, more than "
            f"{MAX_SAMPLES_IN_MEMORY / 2**30:.0f}; name a folder that holds them, scratch=..., or "
            "train on fewer times or a coarser level"
        )


def common_times(ds: xr.Dataset, labels: xr.DataArray) -> NDArray[Any]:
    """Times, in order, that are in both the dataset and the labels."""
    times = []
    for what, obj in (("the dataset", ds), ("labels", labels)):
        index = pandas_indexes(obj).get("time")
        if index is None:
            raise ValueError(
                f"{what} must have a time coordinate, got {shortened(list(obj.coords))}"
            )
        if not index.is_unique:
            raise ValueError(f"times of {what} must differ from each other; drop the duplicates")
        times.append(index)
    common = times[1].intersection(times[0]).sort_values()
    if not len(common):
        raise ValueError(
            f"no time is in both the dataset ({times[0][:1]} ...) and the labels "
            f"({times[1][:1]} ...)"
        )
    values: NDArray[Any] = common.to_numpy()
    return values


def _targets(shares: ClassShares, labels: xr.DataArray) -> NDArray[np.float32]:
    """Probabilities (time, cells, classes), background first; all zero where nothing is known."""
    values = shares(shares.arranged(labels).values)
    targets: NDArray[np.float32] = np.nan_to_num(values, nan=0.0).astype(np.float32)
    return np.moveaxis(targets, 1, -1)


def validation_times(
    times: NDArray[Any], validation: float | slice | xr.DataArray | Sequence[slice]
) -> NDArray[np.bool_]:
    """Which times are kept for validation: the last share, or those of slices or given."""
    if isinstance(validation, int | float):
        if not 0 <= validation < 1:
            raise ValueError(f"validation must be a share from 0 to 1, got {shortened(validation)}")
        chosen = np.arange(len(times)) >= round(len(times) * (1 - validation))
    else:
        index = xr.DataArray(np.arange(len(times)), {"time": times}, "time")
        chosen = np.zeros(len(times), bool)
        for block in [validation] if isinstance(validation, slice | xr.DataArray) else validation:
            chosen[index.sel(time=block).values] = True
    if chosen.all():
        raise ValueError(
            f"validation={shortened(validation)} leaves none of {len(times)} times to train on"
        )
    return chosen
