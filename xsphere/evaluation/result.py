"""What an evaluation gives: scores as arrays, as a dictionary, as text and as files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import built_beside, check_free
from xsphere.notices import markdown_table
from xsphere.paths import local_path

TABLES = {
    "Cells": ("iou", "recall", "precision", "f1", "average_precision"),
    "Probabilities": ("brier", "calibration_error", "average_precision_error"),
    "Regions": ("pod", "far", "csi", "hits", "misses", "false_alarms"),
    "Shares": ("share", "predicted_share"),
}
TITLES = {
    "iou": "IoU",
    "f1": "F1",
    "average_precision_error": "error of average precision",
    "brier": "Brier score",
    "pod": "POD",
    "far": "FAR",
    "csi": "CSI",
    "share": "labels",
    "predicted_share": "predicted",
}
PUBLISHED = {
    "accuracy": ("recall", "mean_of_all"),
    "mAP": ("average_precision", "mean_of_events"),
    "mean_iou": ("iou", "mean_of_all"),
    "events_mean_iou": ("iou", "mean_of_events"),
}
# of which a bootstrap says little
FEW_BLOCKS = 10
PICTURED = (*TABLES["Cells"], "pod", "far", "csi")
COUNTS = ("hits", "misses", "false_alarms")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """Scores of a prediction, from `xsphere.evaluate`.

    Parameters
    ----------
    scores : Dataset
        Along ``group``: the background, the events and their means (``mean_of_events``,
        ``mean_of_all``); each score with the ends ``_low`` and ``_high`` of its interval.
    confusion : DataArray
        Cells, or their area in km2, by (true, predicted) class, summed over time.
    curves : Dataset
        Of probabilities: ``probability`` and ``observed`` by class and bin, ``recall`` and
        ``precision`` by class and threshold; empty for masks.
    cells : mapping of str to int
        Cells of all times: ``total``, ``scored``, ``unknown_predicted`` and ``unknown_labels``.
    settings : mapping
        What was compared, and how.

    Examples
    --------
    >>> import xsphere
    >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
    >>> xsphere.evaluate(mask, mask).to_dict()["scores"]["iou"]["atmospheric_river"]["value"]
    1.0
    """

    scores: xr.Dataset
    confusion: xr.DataArray
    curves: xr.Dataset
    cells: Mapping[str, int]
    settings: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Evaluation of {self._what()}>\n{self._table(TABLES['Cells'])}"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    @property
    def published(self) -> dict[str, float]:
        """Scores by the definitions of the literature, where each cell counts as one.

        ``accuracy`` is the mean recall of all classes, background included, and ``mAP`` the mean
        average precision of the events, over all cells of the test [1]_ [2]_ [3]_; ``mean_iou`` and
        ``events_mean_iou`` are the mean IoU with and without background [4]_. Comparable with
        published numbers if found with ``weighting="cells"`` on the grid of the labels.

        References
        ----------
        .. [1] Mudigonda et al. (2017), Segmenting and tracking extreme climate events
        .. [2] Jiang et al. (2019), https://arxiv.org/abs/1901.02039
        .. [3] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000
        .. [4] Prabhat et al. (2021), https://doi.org/10.5194/gmd-14-107-2021

        Examples
        --------
        >>> import xsphere
        >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
        >>> xsphere.evaluate(mask, mask, weighting="cells").published["accuracy"]
        1.0
        """
        return {
            name: float(self.scores[score].sel(group=group))
            for name, (score, group) in PUBLISHED.items()
            if score in self.scores
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, None for NaN; precision and recall at 100 thresholds."""
        scores: dict[str, Any] = {}
        for name in self._names():
            low, high = (self.scores.get(f"{name}_{end}") for end in ("low", "high"))
            scores[name] = {
                str(group): {"value": float(value)}
                for group, value in zip(
                    self.scores["group"].values, self.scores[name].values, strict=True
                )
            }
            if low is not None and high is not None:
                ends = zip(scores[name].values(), low.values, high.values, strict=True)
                for entry, *pair in ends:
                    entry["interval"] = [float(end) for end in pair]
        thinned = self.curves
        if thinned.sizes:
            thinned = thinned.isel(threshold=slice(None, None, thinned.sizes["threshold"] // 100))
        found: dict[str, Any] = without_nan(
            {
                "settings": dict(self.settings),
                "cells": dict(self.cells),
                "scores": scores,
                "published": self.published,
                "classes": [str(name) for name in self.confusion["true"].values],
                "confusion": self.confusion.values.tolist(),
                "curves": {
                    name: array.values.tolist() for name, array in thinned.variables.items()
                },
            }
        )
        return found

    def to_markdown(self) -> str:
        """All scores as tables, with what they are of."""
        parts = [f"# Evaluation of {self._what()}", self._words()]
        for title, names in TABLES.items():
            if any(name in self.scores for name in names):
                parts += [f"## {title}", self._table(names)]
        total = float(self.confusion.sum())
        shares = self.confusion.values / total * 100
        classes = [_readable(name) for name in self.confusion["true"].values]
        rows = [["labels \\ predicted (%)", *classes]]
        rows += [
            [name, *(f"{share:.3f}" for share in row)]
            for name, row in zip(classes, shares, strict=True)
        ]
        parts += ["## Confusion", markdown_table(rows), "## As the literature defines scores"]
        named = {_readable(name): f"{value:.3f}" for name, value in self.published.items()}
        return "\n\n".join([*parts, markdown_table([list(named), list(named.values())])]) + "\n"

    def write(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a report: ``scores.md``, ``scores.json`` and pictures.

        ``scores.png``; of probabilities also ``reliability.png`` and ``precision_recall.png``.

        Parameters
        ----------
        folder : str or Path
            Made whole or not at all.
        overwrite : bool
            Whether to replace what is there.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            If it is there, and not to be replaced.
        """
        place = local_path(folder, "the report")
        check_free(place, folder=True, replace=overwrite)
        with built_beside(place, folder=True, replace=overwrite) as beside:
            beside.mkdir()
            text, pictures = self.to_markdown(), self._pictures()
            for name, figure in pictures.items():
                figure.savefig(beside / f"{name}.png", dpi=150)
                text += f"\n![{_readable(name)}]({name}.png)\n"
            (beside / "scores.md").write_text(text, encoding="utf-8")
            content = json.dumps(self.to_dict(), indent=1, allow_nan=False)
            (beside / "scores.json").write_text(content + "\n", encoding="utf-8")
        return place

    def _pictures(self) -> dict[str, Any]:
        from xsphere.evaluation.pictures import (
            plot_precision_recall,
            plot_reliability,
            plot_scores,
        )

        names = [name for name in PICTURED if name in self.scores]
        titles = [TITLES.get(name, _readable(name)) for name in names]
        scores = self.scores.sel(group=self.confusion["true"].values)
        pictures = {"scores": plot_scores(scores, names, titles)}
        if self.curves.sizes:
            pictures["reliability"] = plot_reliability(self.curves)
            pictures["precision_recall"] = plot_precision_recall(self.curves)
        return pictures

    def _names(self) -> list[str]:
        return [name for names in TABLES.values() for name in names if name in self.scores]

    def _what(self) -> str:
        return f"{self.settings['predicted']} against {self.settings['labels']}"

    def _words(self) -> str:
        told = self.settings
        total = max(self.cells["total"], 1)
        unknown = " and ".join(
            f"{self.cells[f'unknown_{side}'] / total:.3%} in {words}"
            for side, words in (("predicted", "the prediction"), ("labels", "the labels"))
        )
        span = f" from {told['start']} to {told['end']}" if told["start"] else ""
        enough = told["n_blocks"] > 1 and told["n_samples"]
        intervals = (
            f"95 % intervals of a bootstrap over {told['n_blocks']} blocks of {told['block']}"
            f"{', too few to trust' if told['n_blocks'] < FEW_BLOCKS else ''}"
            if enough
            else "no intervals: all times are in one block"
        )
        weighting = {"area": "weighted by area", "cells": "each cell counts as one"}
        thresholds = ", ".join(
            f"{_readable(n)} {t:g}" for n, t in (told["threshold"] or {}).items()
        )
        decided = f" Classes by thresholds: {thresholds}." if thresholds else ""
        return (
            f"{told['n_times']} times{span}, on {told['grid']}, "
            f"{weighting[told['weighting']]}; {intervals}. Unknown cells, which do not count: "
            f"{unknown}. A region is found if one of its class shares "
            f"{'any cell' if not told['min_overlap'] else format(told['min_overlap'], '.0%')} "
            f"with it{' of the smaller of both' if told['min_overlap'] else ''}; regions of less "
            f"than {told['min_area']:g} km2 do not count.{decided}{self._absent()}"
        )

    def _absent(self) -> str:
        true = self.confusion.sum("predicted")
        absent = [_readable(name) for name in true["true"].values[true.values == 0]]
        return f" Nowhere in the labels: {', '.join(absent)}." if absent else ""

    def _table(self, names: Sequence[str]) -> str:
        names = [name for name in names if name in self.scores]
        rows = [["", *(TITLES.get(name, _readable(name)) for name in names)]]
        for group in self.scores["group"].values:
            one = self.scores.sel(group=group)
            cells = [_cell(one, name) for name in names]
            if any(cells):
                rows.append([_readable(group), *cells])
        return markdown_table(rows)


def without_nan(value: Any) -> Any:
    """Nested dictionaries and lists with None for NaN, which JSON cannot hold.

    Examples
    --------
    >>> without_nan({"iou": [0.5, float("nan")]})
    {'iou': [0.5, None]}
    """
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _readable(name: Any) -> str:
    return str(name).replace("_", " ")


def _cell(scores: xr.Dataset, name: str) -> str:
    value = float(scores[name])
    if np.isnan(value):
        return ""
    if name in COUNTS:
        return f"{value:.0f}"
    low, high = (float(scores.get(f"{name}_{end}", np.nan)) for end in ("low", "high"))
    digits = 3 if value >= 0.1 or value == 0 else 4
    ends = "" if np.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{ends}"
