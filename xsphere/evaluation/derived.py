"""Scores that follow from sums over cells and regions, with intervals over blocks of time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.evaluation.statistics import N_BINS, Sums
from xsphere.metrics import binned_average_precision, class_scores
from xsphere.regions.resampling import LEVEL, block_draws, interval
from xsphere.regions.scores import detection_scores

MEANS = ("mean_of_events", "mean_of_all")
WORDS = {
    "iou": "intersection over union",
    "recall": "share of the class that was found",
    "precision": "share of what was predicted that is of the class",
    "f1": "harmonic mean of recall and precision",
    "share": "share of the class in the labels",
    "predicted_share": "share of the class in the prediction",
    "average_precision": "area under the precision-recall curve",
    "average_precision_error": "largest error of average_precision by its histogram",
    "brier": "mean square of probability minus true share",
    "calibration_error": "mean distance of probability and true share in bins of probability",
    "hits": "regions of the labels that were found",
    "misses": "regions of the labels that were not found",
    "false_alarms": "predicted regions that are none of the labels",
    "pod": "probability of detection of regions",
    "far": "false-alarm ratio of regions",
    "csi": "critical success index of regions",
}
# of counts and bounds there is no interval
PLAIN = ("hits", "misses", "false_alarms", "average_precision_error")
WITHOUT_MEANS = (*PLAIN, "share", "predicted_share")


def scores_of(
    sums_of_blocks: Sequence[Sums], classes: Sequence[str], *, n_samples: int, seed: int
) -> xr.Dataset:
    """All scores by class and their means, with the ends of their intervals.

    Parameters
    ----------
    sums_of_blocks : sequence of Sums
        Of every block of time.
    classes : sequence of str
        Names, the background first.
    n_samples, seed : int
        How often blocks are drawn, and from which start.

    Returns
    -------
    Dataset
        Along ``group``: the classes and their means.
    """
    n_blocks = len(sums_of_blocks)
    draws = block_draws(n_blocks, n_samples if n_blocks > 1 else 0, seed)
    drawn = {}
    for name in sums_of_blocks[0]:
        of_blocks = np.array([sums[name] for sums in sums_of_blocks])
        drawn[name] = np.tensordot(draws, of_blocks, axes=1)
    variables: dict[str, Any] = {}
    for name, values in _all_scores(drawn).items():
        described = {"long_name": WORDS[name], "units": "1"}
        rows = _with_means(values, len(classes), name)
        variables[name] = xr.Variable("group", rows[0], described)
        if name in PLAIN:
            continue
        ends = np.array([interval(column) for column in rows[1:].T])
        for end, column in zip(("low", "high"), ends.T, strict=True):
            words = f"{WORDS[name]}, {end}er end of the {LEVEL:.0%} interval"
            variables[f"{name}_{end}"] = xr.Variable("group", column, {"long_name": words})
    return xr.Dataset(variables, {"group": [*classes, *MEANS]})


def _all_scores(sums: Sums) -> dict[str, NDArray[np.float64]]:
    """Scores (draws, classes) or, of regions, (draws, events)."""
    confusion = sums["confusion"]
    total = confusion.sum((1, 2))[:, None]
    with np.errstate(invalid="ignore"):  # intentionally NaN where nothing was drawn
        scores = class_scores(confusion) | {
            "share": confusion.sum(2) / total,
            "predicted_share": confusion.sum(1) / total,
        }
        if "histogram" in sums:
            value, error = binned_average_precision(
                sums["histogram"][:, :, 1], sums["histogram"][:, :, 0]
            )
            _, probability, true = np.moveaxis(sums["calibration"], 2, 0)
            scores |= {
                "average_precision": value,
                "average_precision_error": error,
                "brier": sums["squares"] / total,
                "calibration_error": np.abs(probability - true).sum(2) / total,
            }
    hits, misses, alarms, found = np.moveaxis(sums["regions"], 1, 0)
    counts = {"hits": hits, "misses": misses, "false_alarms": alarms}
    return scores | counts | detection_scores(hits, misses, alarms, found)


def _with_means(values: NDArray[np.float64], n_classes: int, name: str) -> NDArray[np.float64]:
    """Scores (draws, groups): of each class, and the means without and with background.

    A mean is NaN where one of the classes has no score.
    """
    background = np.full((len(values), n_classes - values.shape[1]), np.nan)
    values = np.concatenate([background, values], 1)
    if name in WITHOUT_MEANS:
        means = np.full((len(values), 2), np.nan)
    else:
        means = np.stack([values[:, 1:].mean(1), values.mean(1)], 1)
    return np.concatenate([values, means], 1)


def curves_of(sums: Sums, classes: Sequence[str]) -> xr.Dataset:
    """Calibration by bins of probability, and precision and recall by threshold."""
    weight, probability, true = np.moveaxis(sums["calibration"], 1, 0)
    whole, hits = (
        np.cumsum(part[:, ::-1], 1)[:, ::-1] for part in np.moveaxis(sums["histogram"], 1, 0)
    )
    with np.errstate(invalid="ignore"):  # bins without cells are NaN
        variables = {
            "probability": (("class", "bin"), probability / weight, "mean probability"),
            "observed": (("class", "bin"), true / weight, "mean true share"),
            "bin_share": (
                ("class", "bin"),
                weight / weight.sum(1, keepdims=True),
                "share of all that is in the bin",
            ),
            "recall": (("class", "threshold"), hits / hits[:, :1], WORDS["recall"]),
            "precision": (("class", "threshold"), hits / whole, WORDS["precision"]),
        }
    return xr.Dataset(
        {
            name: xr.Variable(dims, values, {"long_name": words, "units": "1"})
            for name, (dims, values, words) in variables.items()
        },
        {
            "class": list(classes),
            "bin": (np.arange(weight.shape[1]) + 0.5) / weight.shape[1],
            "threshold": np.arange(N_BINS) / N_BINS,
        },
    )
