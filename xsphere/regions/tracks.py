"""Events with a life: regions of a mask followed through time, as a table of events and tracks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.conventions import HorizontalGrid, horizontal_grid
from xsphere.grids import EARTH_RADIUS_KM
from xsphere.notices import shortened, warn_user
from xsphere.regions.labelling import is_number, labelling
from xsphere.regions.linking import Linker, LinkRules, Links, OverlapOf, Step, identities
from xsphere.regions.masks import check_certain, wanted_classes
from xsphere.regions.parts import resumed_regions
from xsphere.regions.steps import (
    RegionFinder,
    StepRegions,
    measuring,
    searched,
)
from xsphere.regions.table import coordinates_at, described_columns
from xsphere.regions.track_tables import (
    FoundRegions,
    TimeAxis,
    Tracks,
    cut,
    motion_of_events,
    with_lives,
)

Duration = str | float | np.timedelta64 | pd.Timedelta
# hours between maps, beyond which no storm is followed
FAR_APART = 72.0
# what `label` was given, so that `track_mask` can number the same regions
SETTINGS = ("min_area", "max_hole_area", "merge_distance")


class FarApartWarning(UserWarning):
    """Maps are so far apart that what shares cells in two of them need not be one event."""


def track(  # noqa: PLR0913 - each says another thing of what one event is
    mask: xr.DataArray,
    fields: xr.Dataset | xr.DataArray | None = None,
    *,
    classes: str | int | Sequence[str | int] | None = None,
    min_area: float = 0.0,
    max_hole_area: float = 0.0,
    merge_distance: float = 0.0,
    min_duration: Duration = "0h",
    max_gap: Duration = "0h",
    max_speed: float | None = None,
    min_overlap: float = 0.0,
    overlap_of: OverlapOf = "smaller",
    split_merge: bool = True,
    shape: bool = False,
    land: bool = False,
    places: bool = False,
    parts: str | Path | None = None,
) -> xr.Dataset:
    """Follow the regions of a mask through time: storms and rivers with a life.

    Regions of one class in consecutive steps are linked where they share cells, enough of them by
    area, and where they share none, if they are near enough for `max_speed`. Series of any length
    need the memory of a few steps, and the result does not depend on chunks, schedulers or
    workers. Ensemble members and other dimensions are followed each for itself.

    Parameters
    ----------
    mask : DataArray of int or bool
        As for `xsphere.label`, with a dimension of times in order.
    fields : Dataset or DataArray, optional
        Measured in each region, as by `xsphere.events`.
    classes, min_area, max_hole_area, merge_distance
        As for `xsphere.label`.
    min_duration : str, timedelta or number of hours
        Tracks whose last time is not so long after their first are left out.
    max_gap : str, timedelta or number of hours
        How long a region may be missing, between two times at which it is there, and still be the
        same. A gap in the times of the data counts as well.
    max_speed : float, optional
        Regions that share no cell with any of the next step are linked to one whose centre is near
        enough for this speed, in km/h, the nearest first. Small, fast storms move by more than
        their size in 6 hours. No such links if not given.
    min_overlap : float
        Least area that two regions share to be linked, from 0 to 1, as a part of that of ...
    overlap_of : {"smaller", "union"}
        ... the smaller region, or both together. With 0, any shared cell links.
    split_merge : bool
        Whether the branches of events that split or merge are tracks of their own, with a parent
        or a child. If not, all regions that are linked have one number.
    shape, land, places : bool
        Whether to measure the shape of regions, what of them is over land and where fields have
        their extremes, as `xsphere.events` does.
    parts : str or Path, optional
        A folder that keeps what is found in each block of a chunked mask, so that a call that was
        stopped, however it was, is resumed by the same call. Remove it once the tracks are written.

    Returns
    -------
    Dataset
        Along ``event``, sorted by track and time: ``track_id`` (from 1), ``event_class``,
        ``class_name``, ``time`` and other labels of `mask`, ``lon``, ``lat``, ``area`` (km2),
        ``n_cells``, statistics of `fields`, ``label`` (number of the region, see
        `xsphere.label`), ``touches_unknown`` (whether the region touches cells that are invalid or
        not computed), ``speed`` (km/h) and ``heading`` (degrees clockwise from north) from where
        the track was before, NaN at its first time. Along ``track``: ``track`` (the number),
        ``track_class``, ``start``, ``end``, ``duration`` (h), ``n_events``, ``max_area``,
        ``<name>_lifetime_max`` and ``_min`` with their ``_time``, ``_lon`` and ``_lat``,
        ``genesis_lon``, ``genesis_lat``, ``lysis_lon``, ``lysis_lat``, ``parent`` and ``child``
        (track that it split from, or merged into; 0 for none), ``cut_by_start`` and ``cut_by_end``
        (whether it is there at a first or last time, or beside a gap of the data). With `land`,
        ``landfall_time``, ``_after`` (h since ``start``), ``_lon`` and ``_lat``: when the centre is
        first over land after it was not, and where; ``contact_...``: when any cell is, after none
        was. Missing where that never is. With `places`, extremes of a life are where they are in
        the region, not at its centre.

    Raises
    ------
    TypeError
        If `mask` is not a DataArray, or `fields` are not numbers.
    ValueError
        If there is no dimension of times, they are not in order, or repeat, an option is out of
        range, or as for `xsphere.label` and `xsphere.events`; if `parts` is a folder of other
        things, or of another mask or options.
    SourceChangedError
        If `parts` is given, and what is read changed meanwhile.

    Notes
    -----
    Which region continues another: of all that a region is linked to in the next step, it shares
    most area with one (of those it shares nothing with, one is nearest; of equal ones, the first
    counts); where each is that of the other, they are one track. A region that is linked to an
    earlier one without continuing it begins a track with that one's as ``parent`` (a split); a
    track whose last region is linked to a later one without being continued by it has that one's as
    ``child`` (a merge). Links over gaps join single regions that have no other link. Numbers
    are in the order of first time, other dimensions, class, and first cell.

    Examples
    --------
    A storm that moves by 6 degrees in 6 hours:

    >>> from xsphere.conventions import mask_attributes
    >>> lon, lat = np.arange(0, 360, 3.0), np.arange(-88.5, 90, 3.0)
    >>> time = pd.date_range("2001-09-01", periods=3, freq="6h")
    >>> near = [(abs(lon - 60 - 6 * n) < 5) & (abs(lat[:, None] - 20) < 5) for n in range(3)]
    >>> mask = xr.DataArray(
    ...     np.array(near, np.uint8),
    ...     {"time": time, "lat": lat, "lon": lon},
    ...     ("time", "lat", "lon"),
    ...     attrs=mask_attributes(["storm"]),
    ... )
    >>> tracks = track(mask)
    >>> tracks.track_id.values, tracks.speed.values.round(), tracks.duration.values
    (array([1, 1, 1]), array([ nan, 105., 105.]), array([12.]))
    """
    rules = _rules(max_gap, max_speed, min_overlap, overlap_of)
    shortest = _hours(min_duration, "min_duration")
    sizes = {"min_area": min_area, "max_hole_area": max_hole_area, "merge_distance": merge_distance}
    find = labelling(mask, classes, wish="track", **sizes)
    check_certain(mask)
    horizontal = horizontal_grid(mask)
    axis = _time_axis(mask, horizontal)
    leading = [axis.dim, *(d for d in mask.dims if d not in (axis.dim, *horizontal.dims))]
    wishes = {"shape": shape, "land": land, "places": places}
    measured, finder = measuring(mask, fields, find, horizontal, leading, **wishes)
    together = searched(mask, measured, finder, horizontal.dims)
    steps = resumed_regions(together, finder, parts)
    found = _linked(steps, finder, measured, axis, rules).sorted()
    number = found.position.shape[0]
    identity = identities(number, found.links, split_merge=split_merge)
    chosen = Tracks.of(found, identity, axis, shortest)
    positions = dict(zip(leading, chosen.position.T, strict=True))
    coordinates = coordinates_at(positions, chosen.track.size, mask, horizontal)
    ds = described_columns(
        chosen.columns, wanted_classes(mask, classes), measured, coordinates, finder.measures
    )
    ds = ds.assign(motion_of_events(chosen))
    if axis.dim != "time":
        ds = ds.assign_coords(time=ds[axis.dim].variable)
    kin = {"parent": chosen.parent + 1, "child": chosen.child + 1}
    title = {"title": "Tracks of the regions of a mask", "earth_radius_km": EARTH_RADIUS_KM}
    times = mask[axis.dim].values[[0, -1]] if mask.sizes[axis.dim] else ()
    ends = dict(zip(("time_coverage_start", "time_coverage_end"), map(str, times), strict=False))
    return with_lives(ds, kin | cut(chosen, axis)).assign_attrs(title | ends | sizes)


def _rules(max_gap: Any, max_speed: Any, min_overlap: Any, overlap_of: Any) -> LinkRules:
    problems = []
    if overlap_of not in get_args(OverlapOf):
        problems.append(f"overlap_of must be 'smaller' or 'union', got {shortened(overlap_of)}")
    if not is_number(min_overlap) or not 0 <= min_overlap <= 1:
        problems.append(f"min_overlap must be from 0 to 1, got {shortened(min_overlap)}")
    if max_speed is not None and not (is_number(max_speed) and max_speed > 0):
        problems.append(f"max_speed must be a number of km/h above 0, got {shortened(max_speed)}")
    if problems:
        raise ValueError("; ".join(problems))
    gap = _hours(max_gap, "max_gap")
    return LinkRules(
        max_gap=gap, max_speed=max_speed, min_overlap=min_overlap, overlap_of=overlap_of
    )


def _hours(value: Any, name: str) -> float:
    """Hours of a duration."""
    try:
        hours = float(value) if is_number(value) else pd.Timedelta(value) / pd.Timedelta("1h")
    except (TypeError, ValueError):
        hours = np.nan
    if not 0 <= hours < np.inf:
        raise ValueError(
            f"{name} must be a duration such as '24h', or a number of hours, zero or more, got "
            f"{shortened(value)}"
        )
    return hours


def _time_axis(mask: xr.DataArray, horizontal: HorizontalGrid) -> TimeAxis:
    """The dimension of times."""
    axis = TimeAxis.of(mask, "track", horizontal.dims)
    if axis.step > FAR_APART:
        warn_user(
            f"the times along {axis.dim!r} are {axis.step / 24:.0f} days apart: regions that share "
            "cells then are taken for one event all the same; give maps that are hours apart",
            FarApartWarning,
        )
    return axis


def _linked(
    steps: Iterator[StepRegions],
    finder: RegionFinder,
    measured: Mapping[str, xr.DataArray],
    axis: TimeAxis,
    rules: LinkRules,
) -> FoundRegions:
    """Regions of all steps, each series linked as its steps come."""
    none = {
        **finder.no_regions(measured),
        "label": np.empty(0, np.int32),
        "touches_unknown": np.empty(0, bool),
    }
    tables, positions = [none], [np.empty((0, len(finder.leading)), np.int64)]
    links = [Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    linkers: dict[tuple[int, ...], Linker] = {}
    number = 0
    for step in steps:
        series = step.position[1:]
        if series not in linkers:
            linkers[series] = Linker(finder.labelling.grid, rules, axis.step)
        links += linkers[series].add(_to_link(step, number, axis))
        tables.append(step.columns)
        n_regions = step.columns["area"].size
        positions.append(np.tile(np.array(step.position, np.int64), (n_regions, 1)))
        number += n_regions
    return FoundRegions(
        np.concatenate(positions),
        {name: np.concatenate([table[name] for table in tables]) for name in none},
        Links(*(np.concatenate([getattr(one, n) for one in links]) for n in _LINK_FIELDS)),
    )


_LINK_FIELDS = ("earlier", "later", "shared")


def _to_link(step: StepRegions, first: int, axis: TimeAxis) -> Step:
    columns = step.columns
    return Step(
        hours=float(axis.hours[step.position[0]]),
        first=first,
        cells=step.cells,
        region=step.labels - 1,
        classes=columns["event_class"],
        area=columns["area"],
        lon=columns["lon"],
        lat=columns["lat"],
    )
