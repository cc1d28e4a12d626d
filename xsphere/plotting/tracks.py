"""Pictures of tracks: where they go, how they split and merge, how an event lives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.grids import HealpixGrid
from xsphere.notices import shortened
from xsphere.plotting.drawing import (
    CLASS_COLOURS,
    decorate,
    draw_legend,
    draw_numbers,
    readable,
)
from xsphere.plotting.maps import axis_label, new_axes

NEEDED = ("track_id", "time", "lon", "lat")
PALE = "#8c8c8c"


def plot_tracks(
    tracks: xr.Dataset,
    by: str | None = None,
    *,
    ax: Any = None,
    projection: Any = None,
    cmap: Any = "plasma_r",
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
        Column along ``event`` that colours each step by its value at the end, such as
        ``"wind_max"``; the class if not given.
    ax : GeoAxes, optional
        Axes to draw on; new ones if not given.
    projection : cartopy.crs.Projection, optional
        Of new axes, as for `xsphere.plot`.
    cmap : str or Colormap
        Colours of `by`; by default darker where it is larger.
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
    _check_columns(tracks, by)
    if ax is not None and projection is not None:
        raise ValueError("plot_tracks() got ax together with projection; leave one out")
    if ax is None:
        ax = new_axes(1, HealpixGrid(0), projection, None)[0]
        ax.set_global()
    ordered = _ordered(tracks)
    places = np.stack([ordered[name].values.astype(float) for name in ("lon", "lat")], -1)
    ends = np.flatnonzero(ordered["track_id"].values[1:] == ordered["track_id"].values[:-1]) + 1
    first = np.setdiff1d(np.arange(len(places)), ends)
    colours, styles = _colours(ordered, by)
    options = {"colors": colours[ends]} if by is None else {"cmap": cmap}
    lines = _draw_arcs(
        ax, places[ends - 1], places[ends], linewidths=1.8, capstyle="round", zorder=3.0, **options
    )
    if by is not None:
        lines.set_array(colours[ends])
        lines.set_clim(*_limits(colours, vmin, vmax))
    _draw_ends(ax, places, first)
    _draw_kin(ax, ordered, places, first)
    if numbers:
        draw_numbers(ax, ordered.isel(event=first))
    ax.set_title(title)
    decorate(ax, coastlines=coastlines)
    if by is not None:
        label = axis_label(ordered[by])
        ax.get_figure().colorbar(
            lines, ax=ax, label=label, orientation="horizontal", shrink=0.6, aspect=40, pad=0.03
        )
    elif styles:
        draw_legend([ax], styles, facets=False)
    return ax


def _draw_arcs(
    ax: Any, starts: NDArray[np.float64], ends: NDArray[np.float64], **options: Any
) -> Any:
    """Arcs of great circles from places (n, 2) to others, in degrees."""
    import cartopy.crs as ccrs
    from matplotlib.collections import LineCollection

    segments = list(np.stack([starts, ends], axis=1))
    return ax.add_collection(LineCollection(segments, transform=ccrs.Geodetic(), **options))


def _limits(
    values: NDArray[np.float64], vmin: float | None, vmax: float | None
) -> tuple[float, float]:
    shown = values[np.isfinite(values)]
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
    return low if vmin is None else vmin, high if vmax is None else vmax


def _draw_ends(ax: Any, places: NDArray[np.float64], first: NDArray[np.int64]) -> None:
    """A circle where each track begins, a cross where it ends."""
    import cartopy.crs as ccrs

    last = np.append(first[1:], len(places)) - 1
    common = {"transform": ccrs.Geodetic(), "linestyle": "none", "color": "#262626", "zorder": 4.0}
    for events, style in ((first, {"marker": "o", "fillstyle": "none"}), (last, {"marker": "x"})):
        ax.plot(*places[events].T, markersize=3.5, **style, **common)


def plot_genealogy(tracks: xr.Dataset, *, ax: Any = None, title: str = "") -> Any:
    """Tracks as lines in time, with what they split from and merge into.

    Parameters
    ----------
    tracks : Dataset
        As from `xsphere.track`, such as those of one family.
    ax : Axes, optional
        Axes to draw on; new ones if not given.
    title : str
        Of the axes.

    Returns
    -------
    Axes
        Time across, one row a track; thicker where the event is larger.

    Raises
    ------
    ValueError
        If columns are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = {"track_id": [1, 1, 2, 2], "lon": [0.0, 1, 5, 6], "lat": [10.0] * 4}
    >>> tracks = xr.Dataset({name: ("event", values) for name, values in columns.items()})
    >>> times = pd.date_range("2001-09-01", periods=3, freq="6h")
    >>> tracks["time"] = ("event", times[[0, 1, 1, 2]])
    >>> tracks = tracks.assign_coords(track=("track", [1, 2])).assign(
    ...     parent=("track", [0, 1]), child=("track", [0, 0])
    ... )
    >>> ax = plot_genealogy(tracks)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['1', '2']
    """
    _check_columns(tracks, None)
    ordered = _ordered(tracks)
    ids = ordered["track_id"].values
    numbers = np.unique(ids)
    rows = {number: row for row, number in enumerate(numbers.tolist())}
    ax = _plain_axes(ax, 0.3 * len(numbers) + 1.2)
    time = _drawable(ordered["time"].values)
    area = ordered["area"].values if "area" in ordered else np.ones(len(ids))
    width = 1.5 + 4.5 * np.sqrt(area / max(float(np.max(area, initial=0.0)), 1e-9))
    for number, row in rows.items():
        events = np.flatnonzero(ids == number)
        colour = CLASS_COLOURS[_class_of(ordered, events[0]) % len(CLASS_COLOURS)]
        ax.plot(time[events], [row] * len(events), color=colour, linewidth=1.0, zorder=2.0)
        ax.scatter(time[events], [row] * len(events), s=width[events] ** 2, color=colour, zorder=3)
    for one, other, when in _kin(ordered):
        if one in rows and other in rows:
            ends = [rows[one], rows[other]]
            ax.plot([time[when]] * 2, ends, color=PALE, linestyle="--", linewidth=1.0, zorder=1.0)
    ax.set_yticks(range(len(numbers)), [str(number) for number in numbers.tolist()])
    ax.set(ylabel="track", title=title, ylim=(len(numbers) - 0.5, -0.5))
    _tidy_times(ax)
    return ax


def plot_life(
    tracks: xr.Dataset, number: int, names: Sequence[str] = ("area",), *, title: str | None = None
) -> Any:
    """How the measures of one track change while it lives.

    Parameters
    ----------
    tracks : Dataset
        As from `xsphere.track`.
    number : int
        Which track.
    names : sequence of str
        Columns along ``event``, one picture each.
    title : str, optional
        Number and class if not given.

    Returns
    -------
    array of Axes, shape (len(names),)
        One below the other, with the same times.

    Raises
    ------
    ValueError
        If there is no such track or column.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = {"track_id": [1, 1], "lon": [0.0, 1], "lat": [10.0] * 2, "area": [1e5, 2e5]}
    >>> tracks = xr.Dataset({name: ("event", values) for name, values in columns.items()})
    >>> tracks["time"] = ("event", pd.date_range("2001-09-01", periods=2, freq="6h"))
    >>> axes = plot_life(tracks, 1)
    >>> axes[0].get_lines()[0].get_ydata().tolist()
    [100000.0, 200000.0]
    """
    import matplotlib.pyplot as plt

    for name in names:
        _check_columns(tracks, name)
    ordered = _ordered(tracks)
    events = np.flatnonzero(ordered["track_id"].values == number)
    if not events.size:
        raise ValueError(f"there is no track {shortened(number)} in these tracks")
    life = ordered.isel(event=events)
    figure, axes = plt.subplots(
        len(names), figsize=(7.0, 1.6 * len(names) + 0.8), sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    time = _drawable(life["time"].values)
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.plot(time, life[name].values, marker="o", markersize=3.5, color=CLASS_COLOURS[1])
        ax.set_ylabel(axis_label(life[name]), fontsize="small")
        ax.grid(alpha=0.3)
    named = str(life["class_name"].values[0]) if "class_name" in life else ""
    figure.suptitle(f"{readable(named)} {number}".strip() if title is None else title)
    _tidy_times(axes[-1, 0])
    return axes[:, 0]


def _check_columns(tracks: Any, by: str | None) -> None:
    needed = [*NEEDED, *([] if by is None else [by])]
    found = set(tracks.variables) if isinstance(tracks, xr.Dataset) else set()
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(
            f"tracks must have {needed} along 'event', as from xsphere.track or "
            f"xsphere.read_tracks; missing are {missing}"
        )
    if by is not None and (tracks[by].dtype.kind not in "biuf" or tracks[by].dims != ("event",)):
        raise ValueError(f"{by!r} must be numbers along 'event', got {tracks[by].dtype}")


def _ordered(tracks: xr.Dataset) -> xr.Dataset:
    """The events of each track, in the order of time."""
    order = np.lexsort([tracks["time"].values, tracks["track_id"].values])
    found: xr.Dataset = tracks.isel(event=order)
    return found


def _class_of(tracks: xr.Dataset, event: int) -> int:
    return int(tracks["event_class"].values[event]) - 1 if "event_class" in tracks else 1


def _colours(tracks: xr.Dataset, by: str | None) -> tuple[NDArray[Any], list[Any]]:
    """Values of a column, or a colour for each event and the handles of a legend."""
    if by is not None:
        return tracks[by].values.astype(float), []
    from matplotlib.lines import Line2D

    if "event_class" not in tracks or "class_name" not in tracks:
        return np.full(tracks.sizes["event"], CLASS_COLOURS[1], object), []
    codes, names = tracks["event_class"].values.astype(int), tracks["class_name"].values
    palette = np.array(CLASS_COLOURS, object)
    known = dict(sorted(zip(codes.tolist(), map(str, names), strict=True)))
    handles = [
        Line2D([], [], color=palette[(code - 1) % len(palette)], label=readable(name))
        for code, name in known.items()
    ]
    return palette[(codes - 1) % len(palette)], handles


def _kin(tracks: xr.Dataset) -> list[tuple[int, int, int]]:
    """Pairs of tracks that are linked, and the event of the second at which they are."""
    if not {"track", "parent", "child"} <= set(tracks.variables):
        return []
    ids = tracks["track_id"].values
    found = []
    for name, which in (("parent", 0), ("child", -1)):
        pairs = zip(tracks[name].values.tolist(), tracks["track"].values.tolist(), strict=True)
        for relative, number in pairs:
            events = np.flatnonzero(ids == number)
            if relative and events.size:
                found.append((int(relative), int(number), int(events[which])))
    return found


def _draw_kin(
    ax: Any,
    tracks: xr.Dataset,
    places: NDArray[np.float64],
    first: NDArray[np.int64],
) -> None:
    """Dashed lines between tracks that split or merge."""
    ids, time = tracks["track_id"].values, tracks["time"].values
    pairs = []
    for relative, _, event in _kin(tracks):
        others = np.flatnonzero(ids == relative)
        if not others.size:
            continue
        before = event in first
        apart = time[others] <= time[event] if before else time[others] >= time[event]
        near = others[apart][-1 if before else 0] if apart.any() else others[0]
        pairs.append((near, event))
    if pairs:
        starts, ends = places[np.array(pairs).T]
        _draw_arcs(ax, starts, ends, linestyles="--", linewidths=1.0, colors=PALE, zorder=2.5)


def _plain_axes(ax: Any, height: float) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(7.0, min(height, 12.0)), layout="constrained")[1]


def _drawable(time: NDArray[Any]) -> NDArray[Any]:
    """Times as matplotlib draws them; those of other calendars as days since the first."""
    if time.dtype.kind != "O":
        return time
    return np.array([(t - time.min()).total_seconds() / 86400 for t in time])


def _tidy_times(ax: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if "Date" in type(ax.xaxis.get_converter()).__name__:
        locator: Any = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        ax.set_xlabel("days since the first time")
