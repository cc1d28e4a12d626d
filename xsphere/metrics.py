"""Scores of a segmentation: counts that add up over blocks, and what is derived from them.

All scores are sums over the whole test set before any ratio is taken, never means over maps.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Confusion:
    """Counts of cells by true and predicted class, from which scores follow.

    Parameters
    ----------
    classes : tuple of str
        Names, the background first.
    counts : array of float, shape (classes, classes)
        Cells (or their weights) by (true, predicted) class. Zero if not given.

    Examples
    --------
    >>> confusion = Confusion(("background", "river"))
    >>> confusion.add(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]))
    >>> confusion.iou()["river"].round(3)
    np.float64(0.667)
    """

    classes: tuple[str, ...]
    counts: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        if self.counts.size == 0:
            self.counts = np.zeros((len(self.classes), len(self.classes)))

    def add(
        self,
        true: NDArray[np.integer],
        predicted: NDArray[np.integer],
        weights: NDArray[np.floating] | None = None,
    ) -> None:
        """Count more cells; ids beyond the classes (invalid, not computed) are left out.

        Parameters
        ----------
        true, predicted : arrays of int, one shape
            Class of each cell.
        weights : array of float, optional
            Weight of each cell, such as its area, broadcast against `true`. 1 if not given.

        Examples
        --------
        >>> confusion = Confusion(("background", "river"))
        >>> confusion.add(np.array([1, 254]), np.array([1, 1]))
        >>> confusion.counts.tolist()
        [[0.0, 0.0], [0.0, 1.0]]
        """
        n_classes = len(self.classes)
        known = (true < n_classes) & (predicted < n_classes)
        pairs = true[known].astype(np.int64) * n_classes + predicted[known]
        weight = None if weights is None else np.broadcast_to(weights, true.shape)[known]
        self.counts += np.bincount(pairs, weight, n_classes**2).reshape(n_classes, n_classes)

    def iou(self) -> dict[str, np.float64]:
        """Intersection over union of every class; NaN for one that is nowhere."""
        return self._named("iou")

    def recall(self) -> dict[str, np.float64]:
        """Found share of every class; NaN for one that is nowhere."""
        return self._named("recall")

    def precision(self) -> dict[str, np.float64]:
        """Share of every predicted class that is right; NaN for one never predicted."""
        return self._named("precision")

    def _named(self, score: str) -> dict[str, np.float64]:
        return dict(zip(self.classes, class_scores(self.counts)[score], strict=True))


def class_scores(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Intersection over union, recall, precision and F1 of every class.

    Parameters
    ----------
    counts : array of float, shape (..., classes, classes)
        Cells (or their weights) by (true, predicted) class.

    Returns
    -------
    dict of array of float, shape (..., classes)
        ``iou``, ``recall``, ``precision`` and ``f1``; NaN where there is nothing to score.

    Examples
    --------
    >>> class_scores(np.array([[5.0, 1.0], [1.0, 2.0]]))["iou"]
    array([0.71428571, 0.5       ])
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(-1), counts.sum(-2)
    # intentionally NaN where the whole is 0
    with np.errstate(invalid="ignore"):
        return {
            "iou": hits / (true + predicted - hits),
            "recall": hits / true,
            "precision": hits / predicted,
            "f1": 2 * hits / (true + predicted),
        }


def average_precision(true: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the precision-recall curve, as a step function [1]_.

    Parameters
    ----------
    true : array of bool, shape (n,)
        Whether each cell is of the class.
    score : array of float, shape (n,)
        Its score: higher means more likely.

    Returns
    -------
    float
        ``sum_n (R_n - R_{n-1}) P_n``; NaN if no cell is of the class. Equal scores share one
        threshold.

    References
    ----------
    .. [1] https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score

    Examples
    --------
    >>> round(average_precision(np.array([0, 0, 1, 1], bool), np.array([0.1, 0.4, 0.35, 0.8])), 3)
    0.833
    """
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(true[order])
    last_of_ties = np.flatnonzero(np.append(np.diff(score[order]), 1))
    if not hits.size or not hits[-1]:
        return float("nan")
    hits = hits[last_of_ties]
    precision = hits / (last_of_ties + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])


def binned_average_precision(
    hits: NDArray[np.float64], whole: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area under the precision-recall curve of a histogram of scores, and how far off it may be.

    Parameters
    ----------
    hits, whole : arrays of float, shape (..., bins)
        Cells (or their weights) of the class, and all, by score in ascending bins.

    Returns
    -------
    value : array of float, shape (...)
        As `average_precision`, with one threshold a bin; NaN if no cell is of the class.
    error : array of float, shape (...)
        The value of the scores themselves lies at most so far away: in each bin cells of the class
        may come before all others, or after them.

    Examples
    --------
    >>> value, error = binned_average_precision(np.array([0.0, 1, 1]), np.array([1.0, 2, 1]))
    >>> value.round(3), error.round(3)
    (np.float64(0.833), np.float64(0.167))
    """
    hits, whole = hits[..., ::-1], whole[..., ::-1]
    above, of = np.cumsum(hits, -1), np.cumsum(whole, -1)
    first, last = above - hits, of - hits  # hits so far; all but the hits of the bin
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = hits / above[..., -1:]
        highest = above / (of - whole + hits)
        # the mean of (first + k) / (last + k) over k from 0 to the hits of the bin
        lowest = 1 - (last - first) / hits * np.log1p(hits / last)
        value, high, low = (
            np.where(hits > 0, shares * part, 0.0 * above[..., -1:] / above[..., -1:]).sum(-1)
            for part in (above / of, highest, np.where(last > first, lowest, 1.0))
        )
    return value, np.maximum(high - value, value - low)
