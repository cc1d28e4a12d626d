"""Pictures of tracks in time: families that split and merge, and the life of one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.notices import shortened
from xsphere.plotting.drawing import CLASS_COLOURS, axis_label, draw_legend, readable
from xsphere.plotting.tracks import PALE, check_columns, in_order, legend_of, links, styles_of


def plot_genealogy(
    tracks: xr.Dataset, number: int | None = None, *, ax: Any = None, title: str = ""
) -> Any:
    """Tracks as lines in time, with dashed arrows where one splits from or merges into another.

    Parameters
    ----------
    tracks : Dataset
        As from `xsphere.track`.
    number : int, optional
        A track: it and all that it is related to by splits and merges are drawn. All tracks if
        not given.
    ax : Axes, optional
        Axes to draw on; new ones if not given.
    title : str
        Of the axes.

    Returns
    -------
    Axes
        Time across, one row a track, families together; marks are larger where the event is.

    Raises
    ------
    ValueError
        If columns are missing, or there is no such track.

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
    check_columns(tracks, None)
    ordered = in_order(tracks)
    rows = _rows(ordered, number)
    ordered = ordered.isel(event=np.isin(ordered["track_id"].values, list(rows)))
    if ax is None:
        (ax,) = _new_axes(1, min(0.3 * len(rows) + 1.4, 12.0))
    ids, time = ordered["track_id"].values, _drawable(ordered["time"].values)
    row = np.array([rows[i] for i in ids.tolist()], float)
    styles = styles_of(ordered, None, None) or {}
    codes = ordered["event_class"].values if "event_class" in ordered else ids
    colours = np.array([styles[int(code)][0] for code in codes], object)
    for i in rows:
        events = ids == i
        ax.plot(time[events], row[events], color=colours[events][0], linewidth=1.0, zorder=2.0)
    ax.scatter(time, row, s=_sizes(ordered), color=colours.tolist(), zorder=3.0)
    arrow = {"arrowstyle": "->", "linestyle": "--", "color": PALE, "shrinkA": 3, "shrinkB": 3}
    for start, end in links(ordered).tolist():
        ax.annotate("", (time[end], row[end]), (time[start], row[start]), arrowprops=arrow)
    ax.set_yticks(range(len(rows)), [str(i) for i in rows])
    ax.set(ylabel="track", title=title, ylim=(max(len(rows), 1) - 0.5, -0.5))
    _tidy_times(ax)
    if len(styles) > 1 and all(words for _, words in styles.values()):
        draw_legend([ax], legend_of(styles), facets=False)
    return ax


def _rows(tracks: xr.Dataset, number: int | None) -> dict[int, int]:
    """Row of each track, by its number: families one after the other, or the one of a track."""
    from scipy import sparse

    numbers, place = np.unique(tracks["track_id"].values, return_inverse=True)
    one, other = place[links(tracks)].T
    shape = (numbers.size, numbers.size)
    kin = sparse.csr_array((np.ones(one.size), (one, other)), shape)
    _, family = sparse.csgraph.connected_components(kin, directed=False)
    shown = np.lexsort([numbers, family])
    if number is not None:
        if number not in numbers:
            raise ValueError(f"there is no track {shortened(number)} in these tracks")
        shown = np.flatnonzero(family == family[np.searchsorted(numbers, number)])
    return {int(i): row for row, i in enumerate(numbers[shown])}


def _sizes(tracks: xr.Dataset) -> NDArray[np.float64]:
    """Of marks, in square points: larger where the event is, small where its area is unknown."""
    area = tracks["area"].values if "area" in tracks else np.ones(tracks.sizes["event"])
    area = np.nan_to_num(area.astype(float))
    sides: NDArray[np.float64] = np.sqrt(area / max(area.max(initial=0.0), 1e-9))
    return (1.5 + 4.5 * sides) ** 2


def plot_life(
    tracks: xr.Dataset,
    number: int,
    names: str | Sequence[str] = ("area",),
    *,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """How the measures of one track change while it lives.

    Parameters
    ----------
    tracks : Dataset
        As from `xsphere.track`.
    number : int
        Which track.
    names : str or sequence of str
        Columns along ``event``, one picture each.
    ax : Axes or sequence of Axes, optional
        Axes to draw on, one for each name; new ones if not given.
    title : str, optional
        Number and class if not given.

    Returns
    -------
    array of Axes, shape (len(names),)
        One below the other, with the same times.

    Raises
    ------
    ValueError
        If there is no such track or column, or not one of `ax` for each name.

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
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        check_columns(tracks, name)
        if tracks[name].dims != ("event",):
            raise ValueError(f"{name!r} is one number a track, not a column along 'event'")
    axes = np.atleast_1d(ax) if ax is not None else None
    if not names or (axes is not None and axes.shape != (len(names),)):
        raise ValueError(
            "names must be one column or more, got none"
            if not names
            else f"ax must be {len(names)} axes, one for each of {names}, got {np.size(ax)}"
        )
    ordered = in_order(tracks)
    life = ordered.isel(event=ordered["track_id"].values == number)
    if not life.sizes["event"]:
        raise ValueError(f"there is no track {shortened(number)} in these tracks")
    if axes is None:
        axes = _new_axes(len(names), 1.6 * len(names) + 0.8)
    time = _drawable(life["time"].values)
    for one, name in zip(axes, names, strict=True):
        one.plot(time, life[name].values, marker="o", markersize=3.5, color=CLASS_COLOURS[1])
        one.set_ylabel(axis_label(life[name]), fontsize="small")
        one.grid(alpha=0.3)
    named = str(life["class_name"].values[0]) if "class_name" in life else ""
    axes[0].set_title(f"{readable(named)} {number}".strip() if title is None else title)
    _tidy_times(axes[-1])
    return axes


def _new_axes(n: int, height: float) -> Any:
    import matplotlib.pyplot as plt

    options: dict[str, Any] = {"figsize": (7.0, height), "layout": "constrained"}
    return plt.subplots(n, sharex=True, squeeze=False, **options)[1][:, 0]


def _drawable(time: NDArray[Any]) -> NDArray[Any]:
    """Times as matplotlib draws them; those of other calendars as days since the first."""
    if time.dtype.kind != "O":
        return time
    first = min(time, default=None)
    return np.array([(t - first).total_seconds() / 86400 for t in time])


def _tidy_times(ax: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if not ax.has_data():
        return
    if "Date" in type(ax.xaxis.get_converter()).__name__:
        locator: Any = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        ax.set_xlabel("days since the first time")
