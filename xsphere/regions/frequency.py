"""How often cells are in events, and how much of a field falls there, with counts and intervals."""

from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import HorizontalGrid, event_classes_of, horizontal_grid
from xsphere.conventions.masks import BACKGROUND, check_flags
from xsphere.conventions.values import reading_of
from xsphere.notices import shortened
from xsphere.regions.basins import BASINS, basin_of
from xsphere.regions.masks import check_certain, check_is_mask, known_values, wanted_classes
from xsphere.regions.resampling import block_numbers, resampled_ratios, wilson_interval
from xsphere.regions.steps import matched_fields
from xsphere.regions.track_tables import TimeAxis

By = Literal["season", "month", "basin"]
SEASONS = ("DJF", "MAM", "JJA", "SON")
ENDS = ("low", "high")


def frequency(
    mask: xr.DataArray,
    by: By | None = None,
    *,
    classes: str | int | Sequence[str | int] | None = None,
    over: Hashable | None = None,
    weight: xr.DataArray | None = None,
) -> xr.Dataset:
    """Share of the valid times at which each cell is in each class of a mask.

    Parameters
    ----------
    mask : DataArray of int or bool
        As for `xsphere.events`, with times in order, of any calendar. Every time counts once,
        however far it is from the next. Cells that are invalid (254) or not computed (255) do not
        count at that time.
    by : {"season", "month", "basin"}, optional
        A map for each season or month that occurs; or one number for each basin (as IBTrACS draws
        them), the share of its area and valid times.
    classes : str, int or sequence of them, optional
        Names or values of the classes. All if not given.
    over : hashable, optional
        A dimension of `mask` whose entries are other estimates of the same, such as ensemble
        members, annotators or thresholds: mean and standard deviation over them are given.
    weight : DataArray, optional
        An amount on the grid of `mask`, such as precipitation: the share of its sum that fell in
        events, rather than the share of times. Missing values do not count.

    Returns
    -------
    Dataset
        ``frequency`` along ``class``, ``season``, ``month`` or ``basin``, and the dimensions of
        `mask` without time; NaN where nothing is valid. ``valid_times``: how many times count (of
        a basin: times at which any of its cells does; over `over` they are summed).
        ``frequency_low`` and ``frequency_high``: ends of a 95 % interval, but for maps of a
        `weight` and where there is `over`, which has ``spread`` instead. Lazy if `mask` is: one
        pass, and memory of a few chunks and the result.

    Raises
    ------
    TypeError
        If `mask` is not a DataArray, or `weight` holds no numbers.
    ValueError
        If `mask` has no classes or other values than its flags (when it is computed), its times
        are not in order, or `by`, `over`, `classes` or `weight` do not fit it.

    Notes
    -----
    A cell is in an event at many consecutive times, which tell no more than one does. Intervals of
    maps are Wilson's with as many observations as there are spells of their mean length [1]_
    (where a cell is never in an event: of the mean length in all cells). Intervals of basins come
    of a bootstrap over blocks of 30 days. Neither knows of what varies from year to year.

    References
    ----------
    .. [1] Brown, Cai and DasGupta (2001), https://doi.org/10.1214/ss/1009213286

    Examples
    --------
    >>> import xsphere
    >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
    >>> found = frequency(mask)
    >>> found.frequency.dims, found.valid_times.values.max()
    (('class', 'cells'), np.int64(2))
    >>> same = (mask == 2).mean("time") == found.frequency.sel({"class": "atmospheric_river"})
    >>> bool(same.all())
    True
    """
    check_is_mask(mask, "frequency")
    wanted = wanted_classes(mask, classes)
    check_certain(mask)
    horizontal = horizontal_grid(mask)
    axis = TimeAxis.of(mask, "frequency", horizontal.dims)
    _check_options(mask, by, over, (axis.dim, *horizontal.dims))
    node = partial(_checked, (*known_values(mask),), str(mask.name))
    codes = _lazily(node, mask, mask.dtype)
    valid = codes.isin([BACKGROUND, *event_classes_of(mask)])
    values = xr.DataArray(list(wanted), dims="class", coords={"class": list(wanted.values())})
    inside = codes == values
    amount = valid
    if weight is not None:
        field = _matched_weight(weight, mask, horizontal)
        valid = valid & field.notnull()
        amount, inside = field.where(valid, 0.0), inside & valid
    if by == "basin":
        sums = _sums_of_basins(inside, valid, amount, horizontal)
        found = _over_blocks(sums, axis, over)
    else:
        groups = list(_groups(mask, axis.dim, by))
        parts = [_sums(inside, valid, amount, axis.dim, steps) for _, steps in groups]
        together = parts[0]
        if by is not None:
            labels = xr.Variable(by, [label for label, _ in groups])
            together = xr.concat(parts, labels.to_index().rename(by))
        found = _of_maps(together, weight is None, over)
    return _described(found, mask, weight, by)


def _check_options(mask: xr.DataArray, by: Any, over: Any, taken: Sequence[Hashable]) -> None:
    problems = []
    if by is not None and by not in get_args(By):
        problems.append(f"by must be one of {list(get_args(By))}, got {shortened(by)}")
    (time, *_) = taken
    if mask.sizes[time] == 0:
        problems.append("mask must have at least one time")
    if by in ("season", "month") and not hasattr(mask.indexes[time], "month"):
        problems.append(f"by={by!r} needs dates along {time!r}, got {mask[time].dtype}")
    if over is not None and (over in taken or over not in mask.dims):
        others = [dim for dim in mask.dims if dim not in taken]
        problems.append(f"over must be one of the other dimensions {others}, got {shortened(over)}")
    clash = sorted({"class", *([by] if by else [])} & {str(dim) for dim in mask.dims})
    if clash:
        problems.append(f"mask must not have dimensions called {clash}; rename them")
    if problems:
        raise ValueError("; ".join(problems))


def _checked(known: tuple[Any, ...], name: str, codes: NDArray[Any]) -> NDArray[Any]:
    check_flags(codes, known, name)
    return codes


def _lazily(function: Any, array: xr.DataArray, dtype: Any) -> xr.DataArray:
    found: xr.DataArray = xr.apply_ufunc(
        function, array, dask="parallelized", output_dtypes=[dtype], keep_attrs=False
    )
    return found


def _matched_weight(
    weight: xr.DataArray, mask: xr.DataArray, horizontal: HorizontalGrid
) -> xr.DataArray:
    """The weight on the labels of the mask, NaN where it is missing."""
    if not isinstance(weight, xr.DataArray):
        raise TypeError(f"weight must be a DataArray, got {type(weight).__name__}")
    leading = [dim for dim in mask.dims if dim not in horizontal.dims]
    found = matched_fields(weight.rename("weight"), mask, horizontal, leading)
    if not found:
        raise ValueError("weight must be a field of numbers on the grid of mask, got classes")
    field = found["weight"]
    # its labels are those of the mask, whose coordinates are kept
    bare = field.drop_vars(list(field.coords))
    wide = bare.rename(dict(zip(bare.dims[-len(horizontal.dims) :], horizontal.dims, strict=True)))
    return _lazily(reading_of(field), wide, np.float64).astype(np.float64)


def _groups(
    mask: xr.DataArray, dim: Hashable, by: By | None
) -> Iterator[tuple[Any, NDArray[np.intp]]]:
    """Each group of times, in the order of the calendar, and its steps."""
    if by is None:
        yield None, np.arange(mask.sizes[dim])
        return
    months = np.asarray(mask.indexes[dim].month)
    number = months % 12 // 3 if by == "season" else months
    for value in np.unique(number):
        yield SEASONS[value] if by == "season" else int(value), np.flatnonzero(number == value)


def _sums(
    inside: xr.DataArray,
    valid: xr.DataArray,
    amount: xr.DataArray,
    dim: Hashable,
    steps: NDArray[np.intp],
) -> xr.Dataset:
    """Sums over some steps: of the amount, in events and at all; valid times, times and spells."""
    inside, valid, amount = (array.isel({dim: steps}) for array in (inside, valid, amount))
    follows = xr.DataArray(np.diff(steps, prepend=-2) == 1, dims=[dim])
    begins = inside & ~(inside.shift({dim: 1}, fill_value=False) & follows)
    sums = {
        "part": amount.where(inside, 0) if amount.dtype.kind == "f" else inside,
        "whole": amount,
        "valid_times": valid,
        "times": inside,
        "spells": begins,
    }
    return xr.Dataset({name: array.sum([dim]) for name, array in sums.items()})


def _of_maps(sums: xr.Dataset, counts: bool, over: Hashable | None) -> xr.Dataset:
    shares = sums["part"] / sums["whole"].where(sums["whole"] != 0)
    if over is not None:
        return _over(shares, sums["valid_times"], over)
    found = xr.Dataset({"frequency": shares, "valid_times": sums["valid_times"]})
    if counts:
        times, spells = sums["times"], sums["spells"]
        others = [dim for dim in times.dims if dim != "class"]
        usual = times.sum(others) / spells.sum(others).clip(1)
        length = (times / spells.clip(1)).where(spells > 0, usual.clip(1))
        n = (sums["valid_times"] / length).where(sums["valid_times"] > 0)
        for name, end in zip(ENDS, wilson_interval(shares, n), strict=True):
            found[f"frequency_{name}"] = end
    return found


def _over(shares: xr.DataArray, valid_times: xr.DataArray, over: Hashable) -> xr.Dataset:
    """Mean and standard deviation over other estimates."""
    mean, number = shares.mean([over]), shares.notnull().sum([over])
    # of one estimate there is none; .std() would warn of it
    spread = (((shares - mean) ** 2).sum([over]) / (number - 1).where(number > 1)) ** 0.5
    return xr.Dataset({"frequency": mean, "spread": spread, "valid_times": valid_times.sum([over])})


def _sums_of_basins(
    inside: xr.DataArray, valid: xr.DataArray, amount: xr.DataArray, horizontal: HorizontalGrid
) -> xr.Dataset:
    """Sums over the area of each basin, at each time."""
    grid, dims = horizontal.grid, horizontal.dims
    basins = basin_of(*grid.centre_lonlat)
    here = np.array([name for name in BASINS if (basins == name).any()])
    areas = (basins == here[:, None]) * grid.covered_areas
    weights = xr.DataArray(
        areas.reshape(here.size, *grid.shape), dims=("basin", *dims), coords={"basin": here}
    )
    part = amount.where(inside, 0) if amount.dtype.kind == "f" else inside
    sums = {"part": part, "whole": amount, "valid_times": valid}
    found = xr.Dataset(
        {name: xr.dot(array.astype(float), weights, dim=dims) for name, array in sums.items()}
    )
    return found.assign(valid_times=found["valid_times"] > 0)


def _over_blocks(sums: xr.Dataset, axis: TimeAxis, over: Hashable | None) -> xr.Dataset:
    """Shares of basins, with intervals of blocks of time."""
    dim, valid_times = axis.dim, sums["valid_times"].sum([axis.dim])
    if over is not None:
        part, whole = sums["part"].sum([dim]), sums["whole"].sum([dim])
        return _over(part / whole.where(whole != 0), valid_times, over)
    core = sums[["part", "whole"]]
    if core.chunks:
        core = core.chunk({dim: -1})
    shares: tuple[xr.DataArray, ...] = xr.apply_ufunc(
        partial(resampled_ratios, blocks=block_numbers(axis.hours, 24.0 * 30)),
        core["part"],
        core["whole"],
        input_core_dims=[[dim], [dim]],
        output_core_dims=[[], [], []],
        dask="parallelized",
        output_dtypes=[np.float64] * 3,
    )
    names = ("frequency", *(f"frequency_{end}" for end in ENDS))
    return xr.Dataset(dict(zip(names, shares, strict=True))).assign(valid_times=valid_times)


def _described(
    found: xr.Dataset,
    mask: xr.DataArray,
    weight: xr.DataArray | None,
    by: By | None,
) -> xr.Dataset:
    what = "valid times at which a cell is in the class"
    if weight is not None:
        name = "weight" if weight.name is None else weight.name
        what = f"{weight.attrs.get('long_name', name)} that falls in the class"
    words = {
        "frequency": f"share of {what}",
        "frequency_low": "lower end of the 95 % interval",
        "frequency_high": "upper end of the 95 % interval",
        "spread": "standard deviation of the share over estimates",
        "valid_times": "number of valid times",
    }
    kept = {} if by == "basin" else {k: mask.attrs[k] for k in ("grid_mapping",) if k in mask.attrs}
    first = ["class", *([by] if by else [])]
    ordered = found.transpose(*first, *(dim for dim in mask.dims if dim in found.dims))
    for name, array in ordered.data_vars.items():
        array.attrs = {"long_name": words[str(name)], "units": "1"} | kept
    return ordered.assign_attrs(title="Frequency of events")
