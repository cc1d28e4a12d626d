"""What the command shows as text, and which variables it means."""

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.conventions.horizontal import selected
from xsphere.notices import shortened
from xsphere.plotting.drawing import readable


def mask_of(ds: xr.Dataset) -> xr.DataArray:
    """The one mask of a dataset.

    Parameters
    ----------
    ds : Dataset
        Any dataset.

    Returns
    -------
    DataArray
        The variable of integers with `flag_meanings`, else that of booleans.

    Raises
    ------
    ValueError
        If there is none, or several.

    Examples
    --------
    >>> flags = {"flag_values": [0, 1], "flag_meanings": "background river"}
    >>> mask_of(xr.Dataset({"a": ("x", [0.5]), "b": ("x", [1], flags)})).name
    'b'
    """
    from xsphere.conventions.masks import holds_classes

    names = [name for name, array in ds.data_vars.items() if holds_classes(array)]
    names = names or [name for name, array in ds.data_vars.items() if array.dtype.kind == "b"]
    if len(names) != 1:
        raise ValueError(
            "one variable with flag_meanings (a mask of integers) was expected, got "
            f"{shortened(names)} among {shortened(list(ds.data_vars))}"
        )
    return selected(ds, names[0])


def segmentation_of(ds: xr.Dataset, variable: str | None = None) -> xr.DataArray:
    """The one mask of a dataset, or the one variable of probabilities of classes.

    Parameters
    ----------
    ds : Dataset
        Any dataset.
    variable : str, optional
        Which it is; needed where several may be meant.

    Returns
    -------
    DataArray
        Probabilities along the dimension of classes, if there are any, else as `mask_of`.

    Raises
    ------
    ValueError
        If there is none, or several.

    Examples
    --------
    >>> shares = xr.DataArray([0.2, 0.8], {"class": ["background", "river"]}, name="probability")
    >>> segmentation_of(shares.to_dataset()).name
    'probability'
    """
    from xsphere.evaluation.shares import class_dim

    if variable is not None:
        return selected(ds, variable)
    names = [name for name, array in ds.data_vars.items() if class_dim(array) is not None]
    return selected(ds, names[0]) if len(names) == 1 else mask_of(ds)


def place(lon: float, lat: float) -> str:
    """Place in words that fit a table.

    Parameters
    ----------
    lon, lat : float
        Degrees, in either convention.

    Returns
    -------
    str
        Such as ``"16.8N 106.2W"``.

    Examples
    --------
    >>> place(253.8, 16.8)
    '16.8N 106.2W'
    """
    west = (lon + 180.0) % 360.0 - 180.0
    return f"{abs(lat):.1f}{'NS'[lat < 0]} {abs(west):.1f}{'EW'[west < 0]}"


def events_text(events: xr.Dataset, limit: int = 40) -> str:
    """Table of events for a terminal.

    Parameters
    ----------
    events : Dataset
        As `xsphere.events` gives it.
    limit : int
        Events to show; how many are left out is said.

    Returns
    -------
    str
        One line an event, grouped by time.

    Examples
    --------
    >>> import xsphere
    >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
    >>> "atmospheric river" in events_text(xsphere.events(mask))
    True
    """
    if not events.sizes["event"]:
        return "no events"
    lines, shown = [], None
    extremes = _telling_extremes(events)
    for _, row in events.isel(event=slice(limit)).to_dataframe().iterrows():
        time = row.get("time")
        if time != shown:
            lines.append(f"{pd.Timestamp(time):%Y-%m-%d %H:%M}" if time is not None else "events")
            shown = time
        values = "".join(
            f"  {label} {_readable(row[name])} {units}" for name, (label, units) in extremes.items()
        )
        lines.append(
            f"  {readable(row['class_name']):<18}{row['area'] / 1e6:6.2f} million km2  "
            f"{place(row['lon'], row['lat']):>14}{values}"
        )
    rest = events.sizes["event"] - limit
    return "\n".join([*lines, f"  and {rest} more"] if rest > 0 else lines)


def _readable(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _telling_extremes(events: xr.Dataset) -> dict[str, tuple[str, str]]:
    """Label and units of the extremes worth a line: lowest pressures, highest of the rest."""
    chosen = {}
    for name, array in events.data_vars.items():
        field, _, which = str(name).rpartition("_")
        units = str(array.attrs.get("units", ""))
        if which == ("min" if units in ("Pa", "hPa") else "max"):
            chosen[str(name)] = (f"{field} {which}", units)
    return chosen


def class_shares(mask: xr.DataArray) -> dict[str, float]:
    """Share of the cells that each class of a mask has, over all times.

    Parameters
    ----------
    mask : DataArray
        A mask with `flag_values` and `flag_meanings`; computed once.

    Returns
    -------
    dict of float
        From 0 to 1, by class, for the classes that are there and the background.

    Raises
    ------
    ValueError
        If every cell is invalid input: then nothing was segmented.

    Examples
    --------
    >>> flags = {"flag_values": [0, 1], "flag_meanings": "background river"}
    >>> class_shares(xr.DataArray([0, 0, 0, 1], dims="cells", attrs=flags))
    {'background': 0.75, 'river': 0.25}
    """
    from xsphere.conventions import INVALID, classes_of

    counts = {
        value: (name, (mask == value).mean()) for value, name in sorted(classes_of(mask).items())
    }
    shares = xr.Dataset(dict(counts.values())).compute()
    invalid = counts.get(INVALID)
    if invalid is not None and float(shares[invalid[0]]) == 1.0:
        raise ValueError(
            "every cell of the mask is invalid input: no input was finite anywhere; check the "
            "fields and how missing values were decoded"
        )
    kept = {str(name): float(share) for name, share in shares.items()}
    return {name: share for name, share in kept.items() if share or name == "background"}


def shares_text(shares: dict[str, float]) -> str:
    """Shares of classes in one line.

    Parameters
    ----------
    shares : dict of float
        As `class_shares` gives them.

    Returns
    -------
    str
        Percentages.

    Examples
    --------
    >>> shares_text({"background": 0.975, "atmospheric_river": 0.025})
    'background 97.50 %, atmospheric river 2.50 %'
    """
    return ", ".join(f"{readable(name)} {share:.2%}" for name, share in shares.items()).replace(
        "%", " %"
    )


def scores_text(scores: xr.Dataset) -> str:
    """Scores of tracks for a terminal.

    Parameters
    ----------
    scores : Dataset
        As `xsphere.score_tracks` gives it.

    Returns
    -------
    str
        One line a group: counts, scores with their intervals, mean distance and lead.

    Examples
    --------
    >>> import xsphere
    >>> columns = {"track_id": [1], "lon": [0.0], "lat": [9.0]}
    >>> columns["time"] = pd.to_datetime(["2001-01-01"])
    >>> one = xr.Dataset({name: ("event", column) for name, column in columns.items()})
    >>> print(scores_text(xsphere.score_tracks(one, one)))
    group  hits  misses  false alarms  POD   FAR   CSI   distance km  lead h
    all       1       0             0  1.00  0.00  1.00            0     0.0
    """
    rows = [
        ["group", "hits", "misses", "false alarms", "POD", "FAR", "CSI", "distance km", "lead h"]
    ]
    for group in scores["group"].values:
        one = {str(name): float(v) for name, v in scores.sel(group=group).items() if not v.dims}
        counts = [f"{one[name]:.0f}" for name in ("hits", "misses", "false_alarms")]
        shares = [_with_interval(one, name) for name in ("pod", "far", "csi")]
        ends = [f"{one['distance']:.0f}", f"{one['lead']:.1f}"]
        rows.append([str(group), *counts, *shares, *ends])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, 4, 5, 6}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _with_interval(scores: dict[str, float], name: str) -> str:
    low, high = scores[f"{name}_low"], scores[f"{name}_high"]
    return f"{scores[name]:.2f}" + ("" if np.isnan(low) else f" ({low:.2f}-{high:.2f})")
