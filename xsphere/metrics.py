"""Scores of a segmentation: counts that add up over blocks, and what is derived from them.

All scores are sums over the whole test set before any ratio is taken, never means over maps.
"""

import numpy as np
from numpy.typing import NDArray


def confusion_counts(
    true: NDArray[np.integer],
    predicted: NDArray[np.integer],
    n_classes: int,
    weights: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Cells (or their weights) by true and predicted class, from which scores follow.

    Parameters
    ----------
    true, predicted : arrays of int, one shape
        Class of each cell; ids beyond the classes (invalid, not computed) are left out.
    n_classes : int
        With the background.
    weights : array of float, optional
        Weight of each cell, such as its area, broadcast against `true`. 1 if not given.

    Returns
    -------
    array of float64, shape (n_classes, n_classes)
        By (true, predicted).

    Examples
    --------
    >>> confusion_counts(np.array([0, 1, 1, 254]), np.array([0, 1, 0, 1]), 2)
    array([[1., 0.],
           [1., 1.]])
    """
    known = (true < n_classes) & (predicted < n_classes)
    pairs = true[known].astype(np.int64) * n_classes + predicted[known]
    weight = None if weights is None else np.broadcast_to(weights, true.shape)[known]
    counts = np.bincount(pairs, weight, n_classes**2).astype(np.float64)
    return counts.reshape(n_classes, n_classes)


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


def binned_average_precision(
    hits: NDArray[np.float64], whole: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area under the precision-recall curve of a histogram of scores, and how far off it may be.

    The curve is a step function: ``sum_n (R_n - R_{n-1}) P_n`` over thresholds [1]_.

    Parameters
    ----------
    hits, whole : arrays of float, shape (..., bins)
        Cells (or their weights) of the class, and all, by score in ascending bins.

    Returns
    -------
    value : array of float, shape (...)
        With one threshold a bin; NaN if no cell is of the class.
    error : array of float, shape (...)
        The value of the scores themselves lies at most so far away: in each bin cells of the class
        may come before all others, or after them.

    References
    ----------
    .. [1] https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score

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
