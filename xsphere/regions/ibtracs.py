"""Best tracks of tropical cyclones, as the archive IBTrACS gives them."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.notices import shortened
from xsphere.paths import source_path
from xsphere.regions.track_files import tracks_of_table

Agency = Literal["usa", "wmo"]
KNOT = 1852 / 3600
_UNITS = {"wind": "m s-1", "pressure": "hPa"}


def read_ibtracs(path: str | Path, *, agency: Agency = "usa") -> xr.Dataset:
    """Read best tracks of tropical cyclones.

    Parameters
    ----------
    path : str or Path
        A file of IBTrACS [1]_, CSV (also compressed) or NetCDF, whole or one of its subsets; or a
        CSV file of tracks with ``track_id``, ``time``, ``lon`` and ``lat``, and where they are
        there ``wind`` (knots), ``slp`` (hPa), ``basin``, ``season`` and ``status``.
    agency : {"usa", "wmo"}
        Whose winds and pressures: those of the USA are means over one minute everywhere, those of
        the WMO differ by basin.

    Returns
    -------
    Dataset
        As `xsphere.read_tracks`, along ``event`` and ``track``: ``track_id``, ``time``, ``lon``,
        ``lat``, and where they are there ``name``, ``basin``, ``season``, ``status`` (nature or
        status of the storm), ``wind`` (m s-1) and ``pressure`` (hPa).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no file of IBTrACS, or the agency is unknown.

    References
    ----------
    .. [1] Knapp et al. (2010), https://doi.org/10.1175/2009BAMS2755.1

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "ibtracs.csv")
    >>> lines = ["SID,BASIN,NAME,ISO_TIME,LAT,LON,USA_WIND", " , , , ,degrees_north, ,kts"]
    >>> lines += ["2011279N10257,EP,JOVA,2011-10-11 00:00:00,16.8,-106.2,105"]
    >>> with path.open("w") as file:
    ...     for line in lines:
    ...         print(line, file=file)
    >>> storms = read_ibtracs(path)
    >>> storms.name.item(), storms.wind.values.round(1)
    ('JOVA', array([54.]))
    """
    if agency not in get_args(Agency):
        raise ValueError(f"agency must be one of {list(get_args(Agency))}, got {shortened(agency)}")
    text = source_path(path, "the best tracks")
    if "://" not in text and not Path(text).is_file():
        raise FileNotFoundError(f"there is no file {text!r}")
    frame = _of_netcdf(text) if text.endswith(".nc") else _of_csv(text)
    ds = tracks_of_table(_in_our_names(frame, agency, text))
    for name, unit in _UNITS.items():
        if name in ds:
            ds[name].attrs["units"] = unit
    return ds


def _of_csv(path: str) -> pd.DataFrame:
    # "NA" is the North Atlantic, and a blank what is missing
    frame = pd.read_csv(path, keep_default_na=False, na_values=["", " "], low_memory=False)
    # the archive has a line of units below that of names
    return frame.iloc[1:] if "SID" in frame and pd.isna(frame["SID"].iloc[:1]).all() else frame


def _of_netcdf(path: str) -> pd.DataFrame:
    names = ["sid", "season", "basin", "name", "nature", "time", "lat", "lon"]
    names += [f"{agency}_{what}" for agency in get_args(Agency) for what in ("wind", "pres")]
    with xr.open_dataset(path) as opened:
        ds = opened[[name for name in names if name in opened]].load()
    if not {"sid", "time", "lat", "lon"} <= set(ds.variables):
        return pd.DataFrame()
    there = ds["lat"].notnull()
    columns: dict[str, Any] = {}
    for name, array in ds.variables.items():
        text = array.dtype.kind in "SO"
        values = np.asarray(array.values, object if text else None)
        plain: Any = xr.Variable(array.dims, values)
        whole = plain.set_dims(dict(ds["lat"].sizes)).values
        flat = whole[there.values]
        columns[str(name).upper()] = [
            value.decode() if isinstance(value, bytes) else value for value in flat
        ] if text else flat  # fmt: skip
    frame = pd.DataFrame(columns).rename(columns={"TIME": "ISO_TIME"})
    return frame.assign(ISO_TIME=pd.to_datetime(frame["ISO_TIME"]).dt.round("s"))


def _in_our_names(frame: pd.DataFrame, agency: str, path: str) -> pd.DataFrame:
    """The columns that are wanted, with our names and units."""
    archive = {
        "SID": "track_id", "ISO_TIME": "time", "LON": "lon", "LAT": "lat", "NAME": "name",
        "BASIN": "basin", "SEASON": "season", "NATURE": "status",
        f"{agency.upper()}_WIND": "wind", f"{agency.upper()}_PRES": "pressure",
    }  # fmt: skip
    plain = {name: name for name in ("track_id", "time", "lon", "lat", "name", "basin")}
    plain |= {name: name for name in ("season", "status", "wind")} | {"slp": "pressure"}
    names = archive if "SID" in frame else plain
    if not {"track_id", "time", "lon", "lat"} <= {names.get(str(name)) for name in frame}:
        raise ValueError(
            f"expected best tracks with {list(archive)[:4]} or {list(plain)[:4]} in {path}, got "
            f"the columns {shortened(list(frame))}"
        )
    chosen = frame[[name for name in names if name in frame]].rename(columns=names)
    numbers = [name for name in ("lon", "lat", "wind", "pressure", "season") if name in chosen]
    chosen = chosen.assign(
        time=pd.to_datetime(chosen["time"]),
        **{name: pd.to_numeric(chosen[name]) for name in numbers},
    )
    if "wind" in chosen:
        chosen = chosen.assign(wind=chosen["wind"] * KNOT)
    return chosen.dropna(subset=["lon", "lat"])
