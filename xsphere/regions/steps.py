"""Masks and the fields that go with them, checked against each other and read block by block."""

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import HorizontalGrid, horizontal_grid
from xsphere.conventions.base import pandas_indexes
from xsphere.conventions.masks import holds_classes
from xsphere.conventions.values import check_unpacked, reading_of
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.grids.spacing import COORDINATE_TOLERANCE
from xsphere.notices import shortened


def matched_fields(
    fields: xr.Dataset | xr.DataArray,
    mask: xr.DataArray,
    horizontal: HorizontalGrid,
    leading: Sequence[Hashable],
) -> dict[str, xr.DataArray]:
    """Fields by name, with the labels of the mask and the grid's dimensions last."""
    if isinstance(fields, xr.DataArray):
        fields = fields.to_dataset(name="field" if fields.name is None else fields.name)
    found = horizontal_grid(fields)
    _check_same_grid(found.grid, horizontal.grid)
    on_grid = {
        str(name): array
        for name, array in fields.data_vars.items()
        if set(found.dims) <= set(array.dims) and not holds_classes(array)
    }
    wrong = [f"{name} ({a.dtype})" for name, a in on_grid.items() if a.dtype.kind not in "biuf"]
    if wrong:
        raise TypeError(f"events() measures fields of numbers, got {', '.join(wrong)}")
    check_unpacked(on_grid)
    extra = sorted({str(d) for a in on_grid.values() for d in a.dims} - {*leading, *found.dims})
    if extra:
        raise ValueError(
            f"fields must have no dimensions that mask lacks, got {extra}; choose one entry with "
            f"fields.isel({', '.join(f'{dim}=0' for dim in extra)})"
        )
    return {
        name: _with_labels_of(mask, array, leading).transpose(..., *found.dims)
        for name, array in on_grid.items()
    }


def _check_same_grid(found: Grid, expected: Grid) -> None:
    if found == expected or _rounded_alike(found, expected):
        return
    match expected:
        case HealpixGrid():
            scheme = "" if expected.indexing_scheme == "nested" else ", indexing_scheme='ring'"
            remedy = f"xsphere.to_healpix(fields, level={expected.level}{scheme})"
        case LatLonGrid():
            remedy = "xsphere.to_latlon(fields, like=mask)"
        case _:
            remedy = "xsphere.regrid(fields, xsphere.horizontal_grid(mask).grid)"
    raise ValueError(
        f"fields must be on the grid of mask, {shortened(expected)}, got {shortened(found)}; "
        f"regrid them first with {remedy}"
    )


def _rounded_alike(one: Grid, other: Grid) -> bool:
    """Whether two grids differ only as coordinates stored as float32 do."""
    if not (isinstance(one, LatLonGrid) and isinstance(other, LatLonGrid)):
        return False
    return one.shape == other.shape and all(
        np.allclose(getattr(one, axis), getattr(other, axis), rtol=0.0, atol=COORDINATE_TOLERANCE)
        for axis in ("lon", "lat")
    )


def _with_labels_of(mask: xr.DataArray, field: xr.DataArray, dims: Sequence[Any]) -> xr.DataArray:
    """The field at the times (and other labels) of the mask, still lazy."""
    labels, labels_of_field = pandas_indexes(mask), pandas_indexes(field)
    for dim in (dim for dim in dims if dim in field.dims):
        if dim in labels and dim in labels_of_field:
            wanted, found = labels[dim], labels_of_field[dim]
            if wanted.equals(found):
                continue
            matching = found[found.isin(wanted)]
            wrong = [*wanted[~wanted.isin(found)], *matching[matching.duplicated()]]
            if wrong:
                raise ValueError(
                    f"fields must have every {dim} of mask once, but {field.name} has "
                    f"{len(wrong)} never or twice, such as {[str(label) for label in wrong[:2]]}"
                )
            field = field.sel({dim: wanted})
        elif field.sizes[dim] != mask.sizes[dim]:
            raise ValueError(
                f"fields must be as long as mask, got {field.sizes[dim]} along {shortened(dim)} in "
                f"{field.name} for {mask.sizes[dim]}"
            )
    return field


def steps_of(
    mask: xr.DataArray,
    measured: Mapping[str, xr.DataArray],
    horizontal: HorizontalGrid,
    leading: Sequence[Hashable],
) -> Iterator[tuple[tuple[int, ...], NDArray[Any], dict[str, NDArray[Any]]]]:
    """Position, mask and fields of every step, with one block in memory at a time."""
    readings = {name: reading_of(array) for name, array in measured.items()}
    parts = {name: array.variable for name, array in measured.items()}
    parts[""] = mask.transpose(*leading, *horizontal.dims).variable
    together = xr.Dataset(parts)
    for block in _blocks(together, leading):
        loaded = together.isel(block).compute()
        for offset in np.ndindex(*(loaded.sizes[dim] for dim in leading)):
            step = loaded.isel(dict(zip(leading, offset, strict=True)))
            values = {str(name): array.values.ravel() for name, array in step.data_vars.items()}
            values |= {name: reading(values[name]) for name, reading in readings.items()}
            position = tuple(block[dim].start + i for dim, i in zip(leading, offset, strict=True))
            yield position, values.pop(""), values


def _blocks(ds: xr.Dataset, leading: Sequence[Hashable]) -> Iterator[dict[Hashable, slice]]:
    """The largest chunks along the leading dimensions; single steps where there are none."""
    edges = []
    for dim in leading:
        sizes = [array.variable.chunksizes for array in ds.values()]
        found = [chunks[dim] for chunks in sizes if dim in chunks]
        # no chunk is computed for each of the smaller ones that it overlaps
        chunks = min(found, key=len, default=(1,) * ds.sizes[dim])
        stops = np.cumsum(chunks, dtype=int).tolist()
        edges.append([slice(b - n, b) for n, b in zip(chunks, stops, strict=True)])
    for block in itertools.product(*edges):
        yield dict(zip(leading, block, strict=True))
