"""Sums over cells and regions that all scores follow from: they add up over blocks of time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.masks import INVALID
from xsphere.evaluation.shares import ClassShares
from xsphere.grids import EARTH_RADIUS_KM, Grid
from xsphere.grids.travel import Travelling
from xsphere.metrics import confusion_counts
from xsphere.regions.labelling import Labelling
from xsphere.segmentation.node import decided

# thresholds of precision-recall curves; calibration has one bin for so many of them
N_BINS = 1000
N_COARSE = 10
# of float32, which must not decide between equal shares
ROUNDING = 1e-6
Sums = dict[str, NDArray[np.float64]]


def added(one: Sums, other: Sums) -> Sums:
    """Sums over both."""
    return {name: one[name] + other[name] for name in one}


@dataclass(frozen=True, kw_only=True)
class Scorer(Travelling):
    """What makes the sums of every step of a block of two sides.

    Parameters
    ----------
    predicted, labels : ClassShares
        The sides.
    grid : Grid
        On which both are compared.
    by_area : bool
        Whether cells count by their area, in km2, or each as one.
    n_classes : int
        How many of the classes of both sides are scored, the background first; what is of another
        is background.
    certain : bool
        Whether predictions are classes rather than probabilities.
    thresholds : tuple of float
        Of all classes of the prediction, as for `xsphere.segment`.
    min_area : float
        Of a region, in km2.
    min_overlap : float
        Part of the smaller of two regions that both must share to be one.
    """

    predicted: ClassShares
    labels: ClassShares
    grid: Grid
    by_area: bool
    n_classes: int
    certain: bool
    thresholds: tuple[float, ...]
    min_area: float
    min_overlap: float

    def __call__(self, block: xr.Dataset, first: Sequence[int]) -> list[Sums]:  # noqa: ARG002
        """Sums of each step of a block, of which one at a time is regridded."""
        loaded = block.compute()
        sides = (self.predicted, loaded["predicted"].values), (self.labels, loaded["labels"].values)
        return [
            self.step(*(shares(values[step : step + 1])[0] for shares, values in sides))
            for step in range(loaded.sizes["time"])
        ]

    def step(self, predicted: NDArray[np.float64], true: NDArray[np.float64]) -> Sums:
        """Sums of one step, of shares (all classes, cells) of both sides."""
        weight = self.grid.covered_areas * EARTH_RADIUS_KM**2
        cells = weight > 0  # a repeated cyclic column on its own has no area
        known = [np.isfinite(side).all(0) & cells for side in (predicted, true)]
        both = known[0] & known[1]
        weight = weight[both] if self.by_area else np.ones(int(both.sum()))
        sides = predicted[:, both], true[:, both]
        hard = [likeliest(sides[0], self.thresholds), likeliest(sides[1])]
        hard = [np.where(classes < self.n_classes, classes, 0) for classes in hard]
        sums: Sums = {
            "cells": np.array([cells.sum(), both.sum(), *(part.sum() for part in known)], float),
            "confusion": confusion_counts(hard[1], hard[0], self.n_classes, weight),
            "regions": self._regions(hard, both),
        }
        if not self.certain:
            sums |= probability_sums(
                self._scored(sides[0]), self._scored(sides[1]), hard[1], weight
            )
        return sums

    def _scored(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of the classes that are scored; of the others the background has them."""
        others = shares[self.n_classes :].sum(0, keepdims=True)
        return np.concatenate([shares[:1] + others, shares[1 : self.n_classes]])

    def _regions(self, hard: list[NDArray[Any]], both: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Hits, misses, false alarms and predicted regions (4, events)."""
        wanted = tuple(range(1, self.n_classes))
        find = Labelling(
            grid=self.grid,
            wanted=wanted,
            known=(0, *wanted),
            name="classes",
            min_area=self.min_area,
        )
        codes = np.full((2, self.grid.n_cells), INVALID, np.uint8)
        codes[:, both] = hard
        sides = find.step(codes[0]), find.step(codes[1])
        matched = matched_regions(
            *sides, areas=self.grid.covered_areas, min_overlap=self.min_overlap
        )
        found, true = (
            [
                np.bincount(of[is_matched == yes], minlength=self.n_classes)[1:]
                for yes in (True, False)
            ]
            for (_, of), is_matched in zip(sides, matched, strict=True)
        )
        return np.array([*true, found[1], found[0] + found[1]], float)


def likeliest(
    shares: NDArray[np.float64], thresholds: tuple[float, ...] = ()
) -> NDArray[np.integer[Any]]:
    """Class of each cell by shares (classes, cells), of equal ones the first."""
    found: NDArray[np.integer[Any]]
    if thresholds:
        (found,) = decided(shares[None].astype(np.float32), thresholds)
    else:
        largest = shares.max(0, initial=0.0)
        found = (shares >= largest - ROUNDING).argmax(0)
    return found


def matched_regions(
    one: tuple[NDArray[Any], NDArray[Any]],
    other: tuple[NDArray[Any], NDArray[Any]],
    *,
    areas: NDArray[np.float64],
    min_overlap: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which regions of each side belong to one of the other, of their class.

    A side is the number of the region of each cell, 0 for none, and the class of each region.
    """
    sizes = [np.bincount(labels, areas, of.size + 1)[1:] for labels, of in (one, other)]
    shared = np.flatnonzero((one[0] > 0) & (other[0] > 0))
    first, second = one[0][shared] - 1, other[0][shared] - 1
    pairs, place = np.unique(np.stack([first, second]), axis=1, return_inverse=True)
    common = np.bincount(place.ravel(), areas[shared], pairs.shape[1])
    smaller = np.minimum(sizes[0][pairs[0]], sizes[1][pairs[1]])
    same = one[1][pairs[0]] == other[1][pairs[1]]
    # so that equal numbers are equal whatever the order of their sums
    near = same & (common > 0) & (common >= min_overlap * smaller * (1 - 1e-9))
    matched = [np.zeros(size.size, bool) for size in sizes]
    for side, numbers in zip(matched, pairs, strict=True):
        side[numbers[near]] = True
    return matched[0], matched[1]


def probability_sums(
    predicted: NDArray[np.float64],
    true: NDArray[np.float64],
    classes: NDArray[Any],
    weight: NDArray[np.float64],
) -> Sums:
    """What scores of probabilities follow from, of shares (classes, cells) of both sides.

    Histograms of the probability of each class: ``histogram`` (classes, 2, N_BINS) of all cells and
    of those of the class, ``calibration`` (classes, 3, N_COARSE) of weights, probabilities and true
    shares; ``squares`` (classes).
    """
    fine, coarse = [], []
    for number, (p, y) in enumerate(zip(predicted, true, strict=True)):
        place = np.clip(p * N_BINS, 0, N_BINS - 1).astype(np.intp)
        hit = np.where(classes == number, weight, 0.0)
        fine.append([np.bincount(place, values, N_BINS) for values in (weight, hit)])
        place //= N_BINS // N_COARSE
        values = (weight, weight * p, weight * y)
        coarse.append([np.bincount(place, part, N_COARSE) for part in values])
    squares = ((predicted - true) ** 2 * weight).sum(1)
    return {"histogram": np.array(fine), "calibration": np.array(coarse), "squares": squares}
