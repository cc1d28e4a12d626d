"""Masks and the fields that go with them, checked against each other and read block by block."""

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import INVALID, NOT_COMPUTED, HorizontalGrid, horizontal_grid
from xsphere.conventions.angles import Angle, angle_of
from xsphere.conventions.base import pandas_indexes
from xsphere.conventions.masks import holds_classes
from xsphere.conventions.values import Reading, check_unpacked, reading_of
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.grids.spacing import COORDINATE_TOLERANCE
from xsphere.grids.travel import Travelling
from xsphere.notices import shortened
from xsphere.regions.labelling import Labelling
from xsphere.regions.measures import Measures
from xsphere.regions.regions import Columns, measured_regions, no_regions

Found = TypeVar("Found")
# blocks that are given to Dask at a time
BLOCKS_TOGETHER = 64


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


@dataclass(frozen=True)
class StepRegions:
    """Regions of one step.

    Parameters
    ----------
    position : tuple of int
        The step, along the leading dimensions.
    columns : dict of str to array
        A row for each region, in the order of their numbers.
    cells, labels : array, shape (n,)
        Cells of the regions, in order, and the number of the region that each is in.
    uncertain : bool
        Whether nothing but 0 and 1 was met, which may be shares.

    Examples
    --------
    >>> StepRegions((0,), {}, np.arange(2), np.ones(2, np.int32), uncertain=False).cells
    array([0, 1])
    """

    position: tuple[int, ...]
    columns: Columns
    cells: NDArray[np.int64]
    labels: NDArray[np.int32]
    uncertain: bool


@dataclass(frozen=True, kw_only=True)
class RegionFinder(Travelling):
    """What finds and measures the regions of every step of a block.

    Parameters
    ----------
    labelling : Labelling
        What numbers them.
    leading : tuple of hashable
        Dimensions that are not horizontal, in the order of positions.
    readings : dict of str to Reading
        What is missing in each field.
    angles : dict of str to Angle
        Fields that go round.
    measures : Measures
        What else is measured of each region.
    """

    labelling: Labelling
    leading: tuple[Hashable, ...]
    readings: Mapping[str, Reading]
    angles: Mapping[str, Angle]
    measures: Measures

    def no_regions(self, measured: Mapping[str, Any]) -> Columns:
        """Columns of no rows."""
        return no_regions(measured, self.angles) | self.measures.no_regions

    def __call__(self, block: xr.Dataset, first: Sequence[int]) -> list[StepRegions]:
        """Regions of each step of a block, whose first step has this position."""
        loaded = block.compute()
        return [
            self._step(
                tuple(start + i for start, i in zip(first, offset, strict=True)),
                loaded.isel(dict(zip(self.leading, offset, strict=True))),
            )
            for offset in np.ndindex(*(loaded.sizes[dim] for dim in self.leading))
        ]

    def _step(self, position: tuple[int, ...], step: xr.Dataset) -> StepRegions:
        find = self.labelling
        values = {str(name): array.values.ravel() for name, array in step.data_vars.items()}
        codes = values.pop("")
        values = {name: self.readings[name](field) for name, field in values.items()}
        cells, region, classes = find.regions(codes)
        columns = measured_regions(cells, region, classes, values, self.angles, find.grid)
        columns |= self.measures(cells, region, columns, values, find)
        columns["label"] = np.arange(1, classes.size + 1, dtype=np.int32)
        columns["touches_unknown"] = self._touching(codes, cells, region, classes.size)
        # invalid and not computed count: shares have no such values
        labels = (region + 1).astype(np.int32)
        return StepRegions(position, columns, cells, labels, not (codes > 1).any())

    def _touching(
        self, codes: NDArray[Any], cells: NDArray[Any], region: NDArray[Any], number: int
    ) -> NDArray[np.bool_]:
        """Which regions touch a cell of which nothing is known."""
        unknown = (codes == INVALID) | (codes == NOT_COMPUTED) | np.isnan(codes)
        touching = np.zeros(number, bool)
        if unknown.any() and cells.size:
            beside = self.labelling.adjacency[cells] @ unknown.astype(np.int64) > 0
            touching[region[beside]] = True
        return touching


def measuring(
    mask: xr.DataArray,
    fields: xr.Dataset | xr.DataArray | None,
    find: Labelling,
    horizontal: HorizontalGrid,
    leading: Sequence[Hashable],
    **wanted: bool,
) -> tuple[dict[str, xr.DataArray], RegionFinder]:
    """Fields that are measured in the regions of a mask, and what finds and measures them.

    `wanted` says what else is measured, as for `Measures.of`.
    """
    measured = {} if fields is None else matched_fields(fields, mask, horizontal, leading)
    finder = RegionFinder(
        labelling=find,
        leading=tuple(leading),
        readings={name: reading_of(array) for name, array in measured.items()},
        angles={name: angle for name, field in measured.items() if (angle := angle_of(field))},
        measures=Measures.of(measured, **wanted),
    )
    return measured, finder


def searched(
    mask: xr.DataArray,
    measured: Mapping[str, xr.DataArray],
    finder: RegionFinder,
    dims: Sequence[Hashable],
) -> xr.Dataset:
    """A mask, without a name, and the fields that are measured in its regions."""
    parts = {name: array.variable for name, array in measured.items()}
    parts[""] = mask.transpose(*finder.leading, *dims).variable
    return xr.Dataset(parts)


def found_in_blocks(
    together: xr.Dataset,
    find_in: Callable[[xr.Dataset, Sequence[int]], list[Found]],
    leading: Sequence[Hashable],
    kept: Callable[[xr.Dataset, Sequence[int]], list[Found] | None] | None = None,
) -> Iterator[Found]:
    """What is found in blocks, such as regions of steps, in order; chunks side by side on Dask.

    As many blocks are in memory as the scheduler has workers. Of blocks that are `kept` nothing is
    computed.
    """
    lazy = any(variable.chunks is not None for variable in together.variables.values())
    blocks = [
        (together.isel(block), tuple(part.start for part in block.values()))
        for block in time_blocks(together, leading)
    ]
    if not lazy:
        for block, first in blocks:
            yield from find_in(block, first)
        return
    from dask.base import compute
    from dask.delayed import delayed

    find = delayed(find_in, traverse=False)
    # what comes of a block is small; the scheduler has as many to choose from as it may need
    for start in range(0, len(blocks), BLOCKS_TOGETHER):
        group = blocks[start : start + BLOCKS_TOGETHER]
        found = [None if kept is None else kept(*block) for block in group]
        todo = [find(*block) for block, steps in zip(group, found, strict=True) if steps is None]
        computed = iter(compute(*todo))  # type: ignore[no-untyped-call]
        for steps in found:
            yield from next(computed) if steps is None else steps


def time_blocks(ds: xr.Dataset, leading: Sequence[Hashable]) -> Iterator[dict[Hashable, slice]]:
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
