"""Temperature and thresholds of a model, chosen on validation data."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.evaluation.shares import ClassShares, class_names
from xsphere.evaluation.times import at_times_of
from xsphere.model import Calibration, Model
from xsphere.notices import shortened
from xsphere.segmentation import segment
from xsphere.segmentation.checks import dataset_of
from xsphere.sources import unchanged

Score = Literal["iou", "f2", "peirce"]
Numbers = NDArray[np.float64]

# of counts by threshold: hits, cells predicted, cells of the class, all cells
SCORES: dict[str, Callable[[Numbers, Numbers, float, float], Numbers]] = {
    "iou": lambda hits, predicted, true, _: hits / (predicted + true - hits),
    "f2": lambda hits, predicted, true, _: 5 * hits / (predicted + 4 * true),
    "peirce": lambda hits, predicted, true, every: (
        hits / true - (predicted - hits) / (every - true)
    ),
}
# thresholds that are tried
GRID = np.arange(1, 100) / 100
# temperatures from the first to the last
TEMPERATURES = 0.05, 20.0


def calibrate(model: Model, ds: Any, labels: xr.DataArray, *, score: Score | None = "iou") -> Model:
    """The model with the temperature and the thresholds that fit validation data best.

    The temperature is the one with the least log loss of the labels, from 0.05 to 20. The threshold
    of each class, taken for itself, is the one of 0.01, 0.02, ... 0.99 with the largest score of
    the cells that are at least as probable; of equal ones the lowest. What a model was before
    does not count.

    Parameters
    ----------
    model : Model, str or Path
        A model, or its name or path. It is not changed.
    ds : Dataset, str or Path
        Fields, as for `xsphere.segment`.
    labels : DataArray
        Classes or probabilities, as for `xsphere.fit`, on any grid, of the classes of the model. At
        times that `ds` has and that the model was not trained on. Cells that are unknown do not
        count.
    score : {"iou", "f2", "peirce"} or None
        What thresholds are chosen by: intersection over union (as F1 would), F2 (which counts
        recall twice), or recall minus false positive rate. None for no thresholds: the likeliest
        class then counts.

    Returns
    -------
    Model
        With a calibration, which records all this. Its weights are the same.

    Raises
    ------
    ValueError
        If classes differ, a class is in no known cell or in all, times are missing, or `score` is
        unknown.

    Notes
    -----
    The probabilities of all cells at all times are in memory: 4 bytes for each class.

    References
    ----------
    .. [1] Guo et al. (2017), On calibration of modern neural networks,
       https://arxiv.org/abs/1706.04599

    Examples
    --------
    Labels that are the probabilities of a model need no temperature:

    >>> import xsphere
    >>> ds = xsphere.sample_dataset()
    >>> labels = xsphere.segment(ds, "tc-ar", output="probability")
    >>> round(calibrate("tc-ar", ds, labels).temperature, 3)
    1.0
    """
    if score is not None and score not in get_args(Score):
        raise ValueError(f"score must be one of {list(SCORES)} or None, got {shortened(score)}")
    plain = Model.load(model).with_record(calibration=None)
    if set(class_names(labels)) != set(plain.classes):
        raise ValueError(
            f"labels must have the classes of the model, {shortened(list(plain.classes))}, got "
            f"{shortened(list(class_names(labels)))}"
        )
    fields = dataset_of(ds)
    if "time" in labels.dims and "time" in fields.dims:
        fields = at_times_of(labels, fields, "ds")
    logs, true = _cells(plain, fields, labels)
    _check_present(true, plain.classes if score is not None else ())
    temperature = best_temperature(logs, true)
    record: dict[str, Any] = {
        "temperature": "least log loss on validation data",
        "log_loss": {
            "as trained": _plain(log_loss(logs, true, 1.0)),
            "calibrated": _plain(log_loss(logs, true, temperature)),
        },
        "cells": len(true),
        "times": _span(labels),
    }
    thresholds: dict[str, float] = {}
    if score is not None:
        chances, likeliest = tempered(logs, temperature), true.argmax(1)
        record |= {"thresholds": f"largest {score} of each class", "scores": {}}
        for number, name in enumerate(plain.classes, start=1):
            found, value = best_threshold(chances[:, number], likeliest == number, score)
            thresholds[name], record["scores"][name] = found, _plain(value)
    calibration = Calibration(
        temperature=_plain(temperature), thresholds=thresholds, chosen_by=record
    )
    return plain.with_record(calibration=calibration)


def best_temperature(logs: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Temperature with the least log loss.

    Parameters
    ----------
    logs : array of float, shape (cells, classes)
        Logarithms of probabilities, but for a constant in each cell.
    true : array of float, shape (cells, classes)
        Shares of the classes.

    Returns
    -------
    float
        From 0.05 to 20.

    Examples
    --------
    >>> logs = np.log([[0.9, 0.1]])
    >>> round(best_temperature(logs, np.array([[0.75, 0.25]])), 4)
    2.0
    """
    from scipy.optimize import minimize_scalar

    # the loss is convex in 1 / T, so it has one minimum in log T
    found = minimize_scalar(
        lambda log: log_loss(logs, true, np.exp(log)),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def log_loss(logs: NDArray[np.floating], true: NDArray[np.floating], temperature: float) -> float:
    """Mean of ``-sum(true * log(probability))`` over cells at a temperature."""
    from scipy.special import log_softmax

    return float(-(true * log_softmax(logs / temperature, axis=1)).sum(1).mean())


def tempered(logs: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """Probabilities at a temperature."""
    from scipy.special import softmax

    found: NDArray[np.floating] = softmax(logs / temperature, axis=1)
    return found


def best_threshold(
    probability: NDArray[np.floating], true: NDArray[np.bool_], score: Score
) -> tuple[float, float]:
    """Threshold of a class with the largest score, and that score.

    Parameters
    ----------
    probability : array of float, shape (cells,)
        Of the class.
    true : array of bool, shape (cells,)
        Whether cells are of the class.
    score : {"iou", "f2", "peirce"}
        As for `calibrate`.

    Returns
    -------
    threshold, value : float
        The lowest of equal ones.

    Examples
    --------
    >>> best_threshold(np.array([0.1, 0.3, 0.6, 0.7]), np.array([0, 0, 1, 1], bool), "iou")
    (0.31, 1.0)
    """
    # float32 as in `segment`: how many of the thresholds a cell reaches
    place = np.searchsorted(GRID.astype(np.float32), probability.astype(np.float32), "right")
    n = len(GRID) + 1
    reached = [np.bincount(part, minlength=n)[::-1].cumsum()[::-1] for part in (place, place[true])]
    predicted, hits = (counts[1:].astype(float) for counts in reached)
    values = SCORES[score](hits, predicted, float(true.sum()), float(true.size))
    best = int(values.argmax())
    return float(GRID[best]), float(values[best])


def _cells(
    model: Model, fields: xr.Dataset, labels: xr.DataArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logarithms of probabilities and true shares (cells, classes) of all cells that are known."""
    predicted = segment(fields, model, output="probability")
    shares = ClassShares.of(labels, model.classes, model.grid)
    if "time" not in labels.dims:
        labels = labels.expand_dims("time")
    if "time" not in predicted.dims:
        predicted = predicted.expand_dims("time")
    extra = set(predicted.dims) - {"time", "class", "cells"}
    if extra:
        raise ValueError(f"ds must have no dimensions but time and those of its grid, got {extra}")
    arranged = shares.arranged(labels)
    logs, true = [], []
    with unchanged(fields, labels):
        for step in range(labels.sizes["time"]):
            chances = predicted.isel(time=step).transpose("cells", "class").values
            wanted = shares(arranged.isel(time=[step]).values)[0].T
            known = np.isfinite(wanted).all(1) & np.isfinite(chances).all(1)
            tiny = np.finfo(np.float32).tiny
            logs.append(np.log(np.maximum(chances[known], tiny)))
            true.append(wanted[known].astype(np.float32))
    return np.concatenate(logs), np.concatenate(true)


def _check_present(true: NDArray[np.floating], classes: tuple[str, ...]) -> None:
    if not len(true):
        raise ValueError("no cell is known in labels and in ds; check grids and missing values")
    counts = np.bincount(true.argmax(1), minlength=true.shape[1])[1:].tolist()
    absent = [name for name, n in zip(classes, counts, strict=False) if n in (0, len(true))]
    if absent:
        raise ValueError(
            f"the classes {shortened(absent)} are in none or all of the {len(true)} known cells, "
            "so nothing can be chosen for them; take other times or labels"
        )


def _span(labels: xr.DataArray) -> list[Any] | None:
    """First and last time, and their number."""
    if "time" not in labels.coords:
        return None
    times = np.atleast_1d(labels["time"].values)
    return [str(times.min()), str(times.max()), times.size]


def _plain(value: float) -> float:
    """Six digits, which are more than the data have."""
    return float(f"{value:.6g}")
