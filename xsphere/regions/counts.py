"""Counts of tracks by season, month or basin, with intervals: how many a year, and how sure."""

from collections.abc import Hashable
from typing import Any, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xsphere.notices import shortened
from xsphere.regions.basins import BASINS, basin_of
from xsphere.regions.frequency import SEASONS, By
from xsphere.regions.resampling import resampled_ratios

NEEDED = ("track_id", "time", "lon", "lat")
_WORDS = {
    "tracks": ("number of tracks that begin", "1"),
    "years": ("years of data", "1"),
    "per_year": ("tracks that begin, per year of data", "year-1"),
    "per_year_low": ("lower end of the 95 % interval", "year-1"),
    "per_year_high": ("upper end of the 95 % interval", "year-1"),
    "spread": ("standard deviation over estimates of tracks per year", "year-1"),
}


def count_tracks(
    tracks: xr.Dataset,
    by: By | None = None,
    *,
    over: Hashable | xr.DataArray | None = None,
    n_samples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Number of tracks that begin in a year, by season, month or basin.

    Parameters
    ----------
    tracks : Dataset
        From `xsphere.track` or `xsphere.read_tracks`; of one class, where others are not meant.
    by : {"season", "month", "basin"}, optional
        What is counted apart: by the first time or place of each track. All seasons or months,
        that is the seasonal cycle, and the basins as IBTrACS draws them.
    over : hashable or DataArray, optional
        Coordinate of `tracks`, such as ``"member"``, whose entries are other estimates of the
        same: ``tracks`` is their sum, ``per_year`` their mean. Entries without any track are known
        only where the coordinate of the mask itself, ``mask.member``, is given.
    n_samples : int
        How often years are drawn for the intervals.
    seed : int
        Of what is drawn.

    Returns
    -------
    Dataset
        Along `by`: ``tracks``; ``years`` of data, where a season or month of which there is a part
        counts as that part (gaps within the data do not); ``per_year``, their ratio, with
        ``per_year_low`` and ``per_year_high``, ends of a 95 % interval of a bootstrap over calendar
        years, NaN where there is one year; with `over` also ``spread``, the standard deviation.

    Raises
    ------
    ValueError
        If variables are missing, or `by` or `over` are none of those.

    Examples
    --------
    >>> time = pd.to_datetime(["2001-01-01", "2001-08-20", "2002-08-21", "2002-12-31"])
    >>> columns = {"track_id": [1, 2, 3, 4], "time": time, "lon": [300.0] * 4, "lat": [15.0] * 4}
    >>> found = count_tracks(xr.Dataset({k: ("event", v) for k, v in columns.items()}), "season")
    >>> found.tracks.values, found.per_year.sel(season="JJA").item()
    (array([2, 0, 2, 0]), 1.0)
    """
    others = None if over is None else _labels(tracks, over)
    _check(tracks, by, n_samples)
    frame = pd.DataFrame({name: tracks[name].values for name in NEEDED})
    frame["other"] = 0 if others is None else others.get_indexer(tracks[others.name].to_index())
    firsts = frame.sort_values(["track_id", "time"], kind="stable").drop_duplicates("track_id")
    groups = {"season": SEASONS, "month": range(1, 13), "basin": BASINS, None: ("all",)}[by]
    names = pd.Index(list(groups))
    years, exposure = _exposure(tracks, names, by)
    counts = np.zeros((1 if others is None else len(others), len(names), len(years)))
    place = (
        firsts["other"],
        names.get_indexer(pd.Index(_groups_of(firsts, by))),
        years.get_indexer(pd.Index([time.year for time in firsts["time"]])),
    )
    np.add.at(counts, tuple(np.asarray(part, int) for part in place), 1)
    blocks = np.arange(len(years))
    ends = resampled_ratios(
        counts.mean(axis=0), exposure, blocks=blocks, n_samples=n_samples, seed=seed
    )
    found = dict(zip(("per_year", "per_year_low", "per_year_high"), ends, strict=True))
    found |= {"tracks": counts.sum(axis=(0, 2)).astype(int), "years": exposure.sum(axis=1)}
    if others is not None:
        each = counts.sum(axis=2) / np.where(exposure.sum(axis=1) > 0, exposure.sum(axis=1), np.nan)
        found["spread"] = (
            each.std(axis=0, ddof=1) if len(others) > 1 else np.full(len(names), np.nan)
        )
    return _described(found, names, by)


def _check(tracks: xr.Dataset, by: Any, n_samples: Any) -> None:
    problems = []
    missing = [name for name in NEEDED if name not in tracks.variables]
    if missing:
        problems.append(f"expected tracks from track(), but {missing} are missing in them")
    elif not tracks["time"].size:
        problems.append("there are no tracks, so that their calendar is not known")
    if by is not None and by not in get_args(By):
        problems.append(f"by must be one of {list(get_args(By))}, got {shortened(by)}")
    if type(n_samples) is not int or n_samples < 0:
        problems.append(f"n_samples must be an integer of 0 or more, got {shortened(n_samples)}")
    if problems:
        raise ValueError("; ".join(problems))


def _labels(tracks: xr.Dataset, over: Hashable | xr.DataArray) -> "pd.Index[Any]":
    """Labels of all estimates."""
    name = over.name if isinstance(over, xr.DataArray) else over
    if name is None or name not in tracks.variables:
        raise ValueError(
            f"over must be a coordinate of the tracks, {sorted(map(str, tracks.coords))}, got "
            f"{shortened(name)}"
        )
    given = over if isinstance(over, xr.DataArray) else tracks[name]
    labels: pd.Index[Any] = pd.Index(np.unique(given.values), name=name)
    unknown = np.setdiff1d(tracks[name].values, labels)
    if unknown.size:
        raise ValueError(f"over must have every {name} of the tracks, {shortened(unknown)} is not")
    return labels


def _groups_of(firsts: pd.DataFrame, by: By | None) -> Any:
    months = np.array([time.month for time in firsts["time"]], int)
    match by:
        case "basin":
            return basin_of(firsts["lon"], firsts["lat"])
        case "season":
            return np.array(SEASONS)[months % 12 // 3]
        case "month":
            return months
    return np.full(len(firsts), "all")


def _exposure(
    tracks: xr.Dataset, names: "pd.Index[Any]", by: By | None
) -> tuple["pd.Index[int]", NDArray[np.float64]]:
    """Calendar years of the data, and the part of each group of each year that they cover."""
    times = pd.Index(tracks["time"].values)
    calendar = getattr(times[0], "calendar", "standard")
    ends = [
        str(tracks.attrs.get(f"time_coverage_{end}", default))[:10]
        for end, default in (("start", times.min()), ("end", times.max()))
    ]
    years = pd.Index(range(int(ends[0][:4]), int(ends[1][:4]) + 1))
    days = xr.date_range(
        f"{years[0]:04d}-01-01", f"{years[-1] + 1:04d}-01-01", freq="D", calendar=calendar
    )[:-1]
    texts = np.array(days.strftime("%Y-%m-%d"))
    covered = (texts >= ends[0]) & (texts <= ends[1])
    year = years.get_indexer(pd.Index(days.year))
    group = np.zeros(len(days), int)
    if by in ("season", "month"):
        group = names.get_indexer(pd.Index(_groups_of(pd.DataFrame({"time": days}), by)))
    parts = np.zeros((2, group.max() + 1, len(years)))
    for count, chosen in zip(parts, (covered, np.ones(len(days), bool)), strict=True):
        np.add.at(count, (group[chosen], year[chosen]), 1)
    return years, np.broadcast_to(parts[0] / parts[1], (len(names), len(years)))


def _described(found: dict[str, NDArray[Any]], names: "pd.Index[Any]", by: By | None) -> xr.Dataset:
    dims, coords = ((by,), {by: names.to_numpy()}) if by else ((), {})
    variables = {
        name: (
            dims,
            found[name] if by else found[name][0],
            dict(zip(("long_name", "units"), words, strict=True)),
        )
        for name, words in _WORDS.items()
        if name in found
    }
    return xr.Dataset(variables, coords, {"title": "Counts of tracks"})
