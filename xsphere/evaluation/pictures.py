"""Pictures of a report: scores with intervals, calibration, precision and recall."""

from typing import Any

import numpy as np
import xarray as xr

from xsphere.plotting.curves import COLOURS


def plot_scores(scores: xr.Dataset, names: Any, titles: Any) -> Any:
    """Dots with intervals, a column of the axes for each score, by class; returns the figure.

    Examples
    --------
    >>> one = xr.Dataset({"iou": ("group", [0.5])}, {"group": ["storm"]})
    >>> len(plot_scores(one, ["iou"], ["IoU"]).axes)
    1
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 + 0.8 * len(names), 4), layout="constrained")
    axes = figure.add_subplot()
    groups = [str(name) for name in scores["group"].values]
    for number, group in enumerate(groups):
        one = scores.sel(group=group)
        place = np.arange(len(names)) + (number - (len(groups) - 1) / 2) * 0.6 / len(groups)
        values = np.array([float(one[name]) for name in names])
        ends = np.array(
            [[float(one.get(f"{name}_{end}", np.nan)) for name in names] for end in ("low", "high")]
        )
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "label": group.replace("_", " "),
        }
        axes.plot(place, values, "o", **style)
        axes.vlines(place, *ends, color=style["color"])
    axes.set(xticks=np.arange(len(names)), xticklabels=titles, ylim=(-0.02, 1.02))
    axes.grid(visible=True, axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def plot_reliability(curves: xr.Dataset) -> Any:
    """True shares over probabilities; the area of a dot says how much is there."""
    axes, lines = _axes("probability", "share that is of the class"), []
    axes.plot([0, 1], [0, 1], ":", color="0.3", lw=1)
    for number, name in enumerate(curves["class"].values):
        one, colour = curves.sel({"class": name}), COLOURS[number % len(COLOURS)]
        lines += axes.plot(one["probability"], one["observed"], color=colour, label=_words(name))
        sizes = 150 * np.sqrt(one["bin_share"].values)
        axes.scatter(one["probability"], one["observed"], sizes, color=colour, alpha=0.5)
    axes.legend(handles=lines, fontsize="small")
    return axes.figure


def plot_precision_recall(curves: xr.Dataset) -> Any:
    """Precision over recall of each class, for all thresholds of probability."""
    axes = _axes("recall", "precision")
    for number, name in enumerate(curves["class"].values):
        one = curves.sel({"class": name})
        axes.plot(
            one["recall"],
            one["precision"],
            color=COLOURS[number % len(COLOURS)],
            label=_words(name),
        )
    axes.legend(fontsize="small")
    return axes.figure


def _axes(along: str, up: str) -> Any:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5, 5), layout="constrained").add_subplot()
    axes.set(xlabel=along, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True, alpha=0.3)
    return axes


def _words(name: Any) -> str:
    return str(name).replace("_", " ")
