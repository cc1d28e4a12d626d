"""Maps of tracks: where they go, how strong they are, where they split and merge."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import classes_of
from xsphere.grids import HealpixGrid
from xsphere.plotting.drawing import (
    CLASS_COLOURS,
    Styles,
    axis_label,
    decorate,
    draw_colorbar,
    draw_legend,
    draw_numbers,
    readable,
)
from xsphere.plotting.maps import check_axes, new_axes

NEEDED = ("track_id", "time", "lon", "lat")
PALE = "#8c8c8c"


def plot_tracks(
    tracks: xr.Dataset,
    by: str | None = None,
    *,
    ax: Any = None,
    projection: Any = None,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    numbers: bool = False,
    coastlines: bool = True,
    title: str = "",
) -> Any:
    """Map of tracks, coloured by class or by how strong they are.

    Each step is an arc of a great circle; a circle is where a track begins, a cross where it ends.
    Dashed lines lead from the track that it split from, and to the one that it merged into.

    Parameters
    ----------
    tracks : Dataset
        As from `xsphere.track` or `xsphere.read_tracks`.
    by : str, optional
        Column that colours the steps; the class if not given. Along ``event``, such as
        ``"wind_max"``, each step has its value at the end; along ``track``, such as ``"max_area"``,
        all steps of a track have one. Categories, which have ``flag_meanings``, and booleans have
        a legend, numbers a colour bar; grey are steps of which the value is missing.
    ax : GeoAxes, optional
        Axes to draw on; new ones if not given.
    projection : cartopy.crs.Projection, optional
        Of new axes, as for `xsphere.plot`.
    cmap : str or Colormap
        Colours of `by`; by default darker where it is larger, or of a minimum (``..._min``)
        where it is smaller.
    vmin, vmax : float, optional
        Limits of the colours; all values if not given.
    numbers : bool
        Whether to write the number of each track where it begins.
    coastlines : bool
        Whether to draw coastlines.
    title : str
        Of the axes.

    Returns
    -------
    GeoAxes
        The axes drawn on.

    Raises
    ------
    ValueError
        If columns are missing, `by` is none of numbers, or `projection` comes with `ax`.
    TypeError
        If `ax` is no map.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = {"track_id": [1, 1, 1], "lon": [350.0, 359, 8], "lat": [10.0, 12, 15]}
    >>> columns |= {"wind_max": [20.0, 30.0, 25.0]}
    >>> tracks = xr.Dataset({name: ("event", values) for name, values in columns.items()})
    >>> tracks["time"] = ("event", pd.date_range("2001-09-01", periods=3, freq="6h"))
    >>> ax = plot_tracks(tracks, "wind_max", title="One storm")
    >>> len(ax.collections[0].get_array())
    2
    """
    check_columns(tracks, by)
    check_axes(ax, "plot_tracks()", projection=projection)
    if ax is None:
        ax = new_axes(1, HealpixGrid(0), projection)[0]
        ax.set_global()
    ordered = in_order(tracks)
    ids = ordered["track_id"].values
    ends = np.flatnonzero(ids[1:] == ids[:-1]) + 1
    first = np.setdiff1d(np.arange(len(ids)), ends)
    lines = _draw_arcs(ax, ordered, np.stack([ends - 1, ends], -1), linewidths=1.8, zorder=3.0)
    lines.set_capstyle("round")
    if (kin := links(ordered)).size:
        _draw_arcs(ax, ordered, kin, linestyles="--", linewidths=1.0, colors=PALE, zorder=2.5)
    _draw_ends(ax, ordered, first)
    if numbers:
        draw_numbers(ax, ordered.isel(event=first))
    ax.set_title(title)
    decorate([ax], coastlines=coastlines)
    if cmap is None:
        cmap = "plasma" if by is not None and by.endswith("_min") else "plasma_r"
    values, styles = _values(ordered, by), styles_of(ordered, by, cmap)
    if styles is None:
        _colour_by_scale(lines, values, ends, cmap, (vmin, vmax))
        draw_colorbar(lines, [ax], [np.ma.masked_invalid(values)], axis_label(ordered[by]))
        return ax
    lines.set_color([styles[int(v)][0] if np.isfinite(v) else PALE for v in values[ends]])
    if any(words for _, words in styles.values()):
        heading = None if by is None else axis_label(ordered[by])
        draw_legend([ax], legend_of(styles), facets=False, title=heading)
    return ax


def _draw_arcs(ax: Any, tracks: xr.Dataset, pairs: NDArray[np.int64], **options: Any) -> Any:
    """Arcs of great circles between pairs of events."""
    import cartopy.crs as ccrs
    from matplotlib.collections import LineCollection

    arcs = list(_places(tracks)[pairs])
    return ax.add_collection(LineCollection(arcs, transform=ccrs.Geodetic(), **options))


def _places(tracks: xr.Dataset) -> NDArray[np.float64]:
    return np.stack([tracks[name].values.astype(float) for name in ("lon", "lat")], -1)


def _draw_ends(ax: Any, tracks: xr.Dataset, first: NDArray[np.int64]) -> None:
    """A circle where each track begins, a cross where it ends."""
    import cartopy.crs as ccrs

    last = np.append(first[1:], tracks.sizes["event"])[: len(first)] - 1
    common = {"transform": ccrs.PlateCarree(), "linestyle": "none", "color": "#262626"}
    for events, style in ((first, {"marker": "o", "fillstyle": "none"}), (last, {"marker": "x"})):
        ax.plot(*_places(tracks)[events].T, markersize=3.5, zorder=4.0, **style, **common)


def _values(tracks: xr.Dataset, by: str | None) -> NDArray[Any]:
    """What colours each event: codes of classes, or numbers."""
    if by is None:
        by = "event_class" if "event_class" in tracks else "track_id"
    column = tracks[by]
    if column.dims == ("event",):
        return np.asarray(column.values)
    rows = tracks["track"].to_index().get_indexer(tracks["track_id"].to_index())
    return np.asarray(column.isel(track=rows).where(xr.DataArray(rows >= 0, dims="track")).values)


def _colour_by_scale(
    lines: Any,
    values: NDArray[Any],
    ends: NDArray[np.int64],
    cmap: Any,
    given: tuple[float | None, float | None],
) -> None:
    import matplotlib as mpl

    shown = values[np.isfinite(values)]
    found = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
    limits = [float(b if a is None else a) for a, b in zip(given, found, strict=True)]
    lines.set(array=np.ma.masked_invalid(values[ends].astype(float)), clim=limits)
    lines.set_cmap(mpl.colormaps.get_cmap(cmap).with_extremes(bad=PALE))


def check_columns(tracks: Any, by: str | None) -> None:
    """Refuse what has not the columns of tracks, and numbers in one of them."""
    needed = [*NEEDED, *([] if by is None else [by])]
    found = set(tracks.variables) if isinstance(tracks, xr.Dataset) else set()
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(
            f"tracks must have {needed} along 'event', as from xsphere.track or "
            f"xsphere.read_tracks; missing are {missing}"
        )
    if by is None:
        return
    along = [("event",), *([("track",)] if "track" in tracks.variables else [])]
    if tracks[by].dtype.kind not in "biuf" or tracks[by].dims not in along:
        raise ValueError(
            f"{by!r} must be numbers along 'event' or 'track', got {tracks[by].dtype} along "
            f"{tracks[by].dims}"
        )


def in_order(tracks: xr.Dataset) -> xr.Dataset:
    """The events of each track, in the order of time."""
    order = np.lexsort([tracks["time"].values, tracks["track_id"].values])
    found: xr.Dataset = tracks.isel(event=order)
    return found


def styles_of(tracks: xr.Dataset, by: str | None, cmap: Any) -> Styles | None:
    """Colour and name of each class or category that is there; None for numbers."""
    import matplotlib as mpl

    if by is None:
        return _styles_of_classes(tracks)
    column = tracks[by]
    if column.dtype.kind == "b":
        names = {0: "no", 1: "yes"}
    elif "flag_meanings" in column.attrs and column.dtype.kind != "f":
        names = classes_of(column)
    else:
        return None
    colours = mpl.colormaps.get_cmap(cmap)(np.linspace(0.0, 1.0, len(names)))
    present = set(np.unique(column.values).astype(int).tolist())
    named = zip(sorted(names), colours, strict=True)
    known = {code: (colour, readable(names[code])) for code, colour in named if code in present}
    return known | {code: (PALE, str(code)) for code in sorted(present - set(names))}


def _styles_of_classes(tracks: xr.Dataset) -> Styles:
    if not {"event_class", "class_name"} <= set(tracks.variables):
        codes = _values(tracks, None)
        return {int(code): (CLASS_COLOURS[1], "") for code in np.unique(codes)}
    codes, names = tracks["event_class"].values.astype(int), tracks["class_name"].values
    known = dict(sorted(zip(codes.tolist(), map(str, names), strict=True)))
    return {
        code: (CLASS_COLOURS[(code - 1) % len(CLASS_COLOURS)], readable(name))
        for code, name in known.items()
    }


def legend_of(styles: Styles) -> list[Any]:
    """Handles of a legend."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=colour, label=words) for colour, words in styles.values()]


def links(tracks: xr.Dataset) -> NDArray[np.int64]:
    """Pairs of events, shape (n, 2), between which tracks split or merge; the earlier first."""
    if not {"track", "parent", "child"} <= set(tracks.variables):
        return np.empty((0, 2), np.int64)
    ids, time = tracks["track_id"].values, tracks["time"].values
    found = []
    for name in ("parent", "child"):
        for relative, number in zip(tracks[name].values, tracks["track"].values, strict=True):
            own, other = (np.arange(*np.searchsorted(ids, [i, i + 1])) for i in (number, relative))
            if not relative or not own.size or not other.size:
                continue
            if name == "parent":
                before = np.searchsorted(time[other], time[own[0]], "left") - 1
                found.append((other[max(before, 0)], own[0]))
            else:
                after = np.searchsorted(time[other], time[own[-1]], "right")
                found.append((own[-1], other[min(after, other.size - 1)]))
    return np.array(found, np.int64).reshape(-1, 2)
