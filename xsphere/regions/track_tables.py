"""What is said of tracks: of each event how it moves, of each track its life."""

from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.base import pandas_indexes
from xsphere.notices import shortened
from xsphere.regions.linking import LONG_STEP, Identities, Links, great_circle
from xsphere.regions.regions import Columns


@dataclass(frozen=True)
class TimeAxis:
    """The dimension along which regions are followed.

    Parameters
    ----------
    dim : hashable
        Its name.
    hours : array of float
        Hours since the first step.
    step : float
        Usual hours from one step to the next.
    """

    dim: Hashable
    hours: NDArray[np.float64]
    step: float

    @classmethod
    def of(cls, array: xr.DataArray, wish: str, others: Collection[Hashable] = ()) -> "TimeAxis":
        """The dimension of an array, but for others, that has times, which must be in order."""
        indexes = {d: i for d, i in pandas_indexes(array).items() if d not in others}
        kinds = (pd.DatetimeIndex, pd.TimedeltaIndex, xr.CFTimeIndex)
        times = {d: i for d, i in indexes.items() if d in array.dims and isinstance(i, kinds)}
        dim = "time" if "time" in times else next(iter(times), None)
        if dim is None or (len(times) > 1 and dim != "time"):
            raise ValueError(
                f"{wish}() needs one dimension of times, got the dimensions "
                f"{shortened({d: str(i.dtype) for d, i in indexes.items()})} of {array.dims}; "
                "decode numbers with xr.decode_cf, or name the dimension 'time'"
            )
        index = times[dim]
        if index.hasnans or not index.is_monotonic_increasing or not index.is_unique:
            raise ValueError(
                f"the times along {dim!r} must follow each other, but they are "
                f"{'missing in part' if index.hasnans else 'not in order, or repeat'}; call "
                f".sortby({dim!r}).drop_duplicates({dim!r}) first"
            )
        hours = hours_since_first(index)
        return cls(dim, hours, float(np.median(np.diff(hours))) if hours.size > 1 else 0.0)

    @property
    def begins_anew(self) -> NDArray[np.bool_]:
        """Steps before which nothing is known: the first, and those after a gap in the data."""
        gaps = np.diff(self.hours) > LONG_STEP * self.step
        return np.concatenate([[True], gaps])


@dataclass(frozen=True)
class FoundRegions:
    """All regions and their links."""

    position: NDArray[np.int64]
    columns: Columns
    links: Links

    def sorted(self) -> "FoundRegions":
        """Regions in the order of steps, and of their numbers in them."""
        keys = [self.columns["label"], *self.position.T[::-1]]
        order = np.lexsort(keys)
        place = np.empty(order.size, np.int64)
        place[order] = np.arange(order.size)
        links = Links(place[self.links.earlier], place[self.links.later], self.links.shared)
        columns = {name: column[order] for name, column in self.columns.items()}
        return FoundRegions(self.position[order], columns, links)


@dataclass(frozen=True)
class Tracks:
    """The tracks that are long enough, their regions sorted by track and time."""

    position: NDArray[np.int64]
    columns: Columns
    hours: NDArray[np.float64]
    # by region, from 0, and the region that it was before, or -1
    track: NDArray[np.int64]
    before: NDArray[np.int64]
    # by track, from 0; -1 for none
    parent: NDArray[np.int64]
    child: NDArray[np.int64]

    @property
    def n_tracks(self) -> int:
        """How many there are."""
        return self.parent.size

    @property
    def first(self) -> NDArray[np.int64]:
        """First region of each track."""
        return np.searchsorted(self.track, np.arange(self.n_tracks))

    @property
    def last(self) -> NDArray[np.int64]:
        """Last region of each track."""
        return np.searchsorted(self.track, np.arange(self.n_tracks), side="right") - 1

    @classmethod
    def of(
        cls, found: FoundRegions, identity: Identities, axis: TimeAxis, shortest: float
    ) -> "Tracks":
        """Tracks of all regions that last long enough, numbered without gaps."""
        hours = axis.hours[found.position[:, 0]]
        n = identity.parent.size
        start, end = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(start, identity.track, hours)
        np.maximum.at(end, identity.track, hours)
        kept = end - start >= shortest
        # the place of the last, -1, is that of none
        renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
        track = renumbered[identity.track]
        order = np.argsort(track, kind="stable")[int((track < 0).sum()) :]
        place = np.full(track.size + 1, -1)
        place[order] = np.arange(order.size)
        return cls(
            found.position[order],
            {name: column[order] for name, column in found.columns.items()},
            hours[order],
            track[order],
            place[identity.before[order]],
            renumbered[identity.parent[kept]],
            renumbered[identity.child[kept]],
        )


def motion_of_events(chosen: Tracks) -> dict[str, xr.Variable]:
    """Numbers of tracks, and how regions move."""
    lon, lat = chosen.columns["lon"], chosen.columns["lat"]
    moved = chosen.before >= 0
    here, there = np.flatnonzero(moved), chosen.before[moved]
    speed, heading = np.full(moved.size, np.nan), np.full(moved.size, np.nan)
    distance = great_circle(lon[there], lat[there], lon[here], lat[here])
    speed[here] = distance / (chosen.hours[here] - chosen.hours[there])
    # arriving: the way that it has gone
    back = _bearing(lon[here], lat[here], lon[there], lat[there])
    heading[here] = np.where(distance > 0, (back + 180) % 360, np.nan)
    return {
        "track_id": xr.Variable("event", chosen.track + 1, {"long_name": "number of the track"}),
        "label": xr.Variable(
            "event", chosen.columns["label"], {"long_name": "number of the region in its step"}
        ),
        "touches_unknown": xr.Variable(
            "event",
            chosen.columns["touches_unknown"],
            {"long_name": "whether the region touches cells of which nothing is known"},
        ),
        "speed": xr.Variable("event", speed, {"long_name": "speed", "units": "km h-1"}),
        "heading": xr.Variable(
            "event", heading, {"long_name": "direction of motion from north", "units": "degree"}
        ),
    }


def _bearing(
    lon: NDArray[Any], lat: NDArray[Any], to_lon: NDArray[Any], to_lat: NDArray[Any]
) -> NDArray[np.float64]:
    """Direction from points to others along great circles, in degrees clockwise from north."""
    turn, one, other = np.deg2rad(to_lon - lon), np.deg2rad(lat), np.deg2rad(to_lat)
    east = np.sin(turn) * np.cos(other)
    north = np.cos(one) * np.sin(other) - np.sin(one) * np.cos(other) * np.cos(turn)
    bearing: NDArray[np.float64] = np.rad2deg(np.arctan2(east, north)) % 360
    return bearing


def with_lives(ds: xr.Dataset, of_tracks: Mapping[str, Any]) -> xr.Dataset:
    """Events, sorted by track and time, with what is said of each track as a whole.

    Parameters
    ----------
    ds : Dataset
        Along ``event``: ``track_id``, ``time``, ``lon``, ``lat`` and what else there is.
    of_tracks : mapping of str to array
        What the events do not tell of each track, in the order of their numbers.

    Returns
    -------
    Dataset
        The same and, along ``track``, the life of each.
    """
    ids, first, track = np.unique(ds["track_id"].values, return_index=True, return_inverse=True)
    last = np.append(first[1:], track.size)[: ids.size] - 1
    hours = hours_since_first(pd.Index(ds["time"].values))

    def at(events: NDArray[np.int64], name: str, words: str) -> xr.Variable:
        of = ds[name].variable
        return xr.Variable("track", of.values[events], {**of.attrs, "long_name": words})

    def place(
        events: NDArray[np.int64], name: str, words: str, of: str = ""
    ) -> dict[str, xr.Variable]:
        return {
            f"{name}_lon": at(events, f"{of}lon", f"longitude {words}"),
            f"{name}_lat": at(events, f"{of}lat", f"latitude {words}"),
        }

    found = {
        "start": at(first, "time", "first time"),
        "end": at(last, "time", "last time"),
        "duration": _of_tracks("duration", hours[last] - hours[first]),
        "n_events": _of_tracks("n_events", np.bincount(track, minlength=ids.size)),
        **{name: _of_tracks(name, values) for name, values in of_tracks.items()},
        **place(first, "genesis", "at the first time"),
        **place(last, "lysis", "at the last time"),
    }
    for name, (of, kind) in _extremes_of(ds).items():
        event = _extreme(track, ds[of].values, kind)[first]
        found[name] = at(event, of, f"{ds[of].attrs.get('long_name', of)}, over a life")
        found[f"{name}_time"] = at(event, "time", f"time of {name}")
        own = {f"{of}_lon", f"{of}_lat"} <= set(ds.variables)
        found |= place(event, name, f"at the time of {name}", f"{of}_" if own else "")
    for name, over, of in _landfalls_of(ds):
        event = _first_after(track, hours, over)
        missing = event < 0
        after = np.where(missing, np.nan, hours[event] - hours[first])
        found[f"{name}_after"] = xr.Variable("track", after, _WORDS[f"{name}_after"])
        of_landfall = place(event, name, f"at {name}", of)
        if ds["time"].dtype.kind in "mM":
            # other calendars have no time for what never is
            of_landfall[f"{name}_time"] = at(event, "time", f"time of {name}")
        found |= {key: _without(column, missing) for key, column in of_landfall.items()}
    if "event_class" in ds:
        found["track_class"] = at(first, "event_class", "class")
    return ds.assign(found).assign_coords(track=("track", ids))


_WORDS = {
    "duration": {"long_name": "from first to last time", "units": "h"},
    "n_events": {"long_name": "rows"},
    "parent": {"long_name": "track that it split from, 0 for none"},
    "child": {"long_name": "track that it merged into, 0 for none"},
    "cut_by_start": {"long_name": "whether it is there at a first time of the data"},
    "landfall_after": {"long_name": "from first time to landfall of the centre", "units": "h"},
    "contact_after": {"long_name": "from first time to first cell over land", "units": "h"},
    "cut_by_end": {"long_name": "whether it is there at a last time of the data"},
}


def _landfalls_of(ds: xr.Dataset) -> Iterator[tuple[str, NDArray[np.bool_], str]]:
    """Names of landfalls, which events are over land for them, and whose place is theirs."""
    if "centre_over_land" in ds:
        yield "landfall", ds["centre_over_land"].values.astype(bool), ""
    if {"land_share", "land_lon", "land_lat"} <= set(ds.variables):
        yield "contact", ds["land_share"].values > 0, "land_"


def _first_after(
    track: NDArray[np.int64], hours: NDArray[np.float64], over: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """First event of each track that is over land after one that is not; -1 for none."""
    n = int(track.max(initial=-1)) + 1
    at_sea = np.full(n, np.inf)
    np.minimum.at(at_sea, track[~over], hours[~over])
    arrived = np.flatnonzero(over & (hours > at_sea[track]))[::-1]
    found = np.full(n, -1)
    # the last one written stays: the first
    found[track[arrived]] = arrived
    return found


def _without(column: xr.Variable, missing: NDArray[np.bool_]) -> xr.Variable:
    """A column with nothing where it has no meaning."""
    values = column.values.copy()
    values[missing] = "NaT" if values.dtype.kind in "mM" else np.nan
    return xr.Variable(column.dims, values, column.attrs)


def _of_tracks(name: str, values: Any) -> xr.Variable:
    return xr.Variable("track", values, _WORDS.get(name))


def _extremes_of(ds: xr.Dataset) -> dict[str, tuple[str, str]]:
    """For each extreme of a life: of which column, and whether the largest or the least."""
    names = [str(name) for name, array in ds.data_vars.items() if array.dims == ("event",)]
    return {
        **({"max_area": ("area", "max")} if "area" in names else {}),
        **{
            f"{name.removesuffix(f'_{kind}')}_lifetime_{kind}": (name, kind)
            for name in names
            for kind in ("max", "min")
            if name.endswith(f"_{kind}") and ds[name].dtype.kind in "fiu"
        },
    }


def _extreme(track: NDArray[Any], values: NDArray[Any], kind: str) -> NDArray[np.int64]:
    """Events track by track, those with the largest or least value first; missing ones last."""
    values = values.astype(float)
    key = np.where(np.isnan(values), np.inf, -values if kind == "max" else values)
    return np.lexsort((np.arange(key.size), key, track))


def cut(chosen: Tracks, axis: TimeAxis) -> dict[str, NDArray[np.bool_]]:
    """Whether each track is there where the data begin or end, or beside a gap of theirs."""
    begins = axis.begins_anew
    ends = np.append(begins[1:], True)
    steps = chosen.position[:, 0]
    return {"cut_by_start": begins[steps[chosen.first]], "cut_by_end": ends[steps[chosen.last]]}


def hours_since_first(times: "pd.Index[Any]") -> NDArray[np.float64]:
    """Hours since the first of some times, of any calendar, or spans of time."""
    if not len(times):
        return np.empty(0)
    since = pd.TimedeltaIndex(times - times[0])
    return np.asarray(since / pd.Timedelta("1h"), float)
