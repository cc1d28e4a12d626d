"""Scores against their definitions, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.tiers import examples
from xsphere.metrics import binned_average_precision, class_scores, confusion_counts

maps = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


@given(maps)
def test_scores_are_those_of_sets(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    scores = class_scores(confusion_counts(true, predicted, 3))
    for number in range(3):
        is_true = {i for i, value in enumerate(true) if value == number}
        is_predicted = {i for i, value in enumerate(predicted) if value == number}
        hits = len(is_true & is_predicted)
        for name, whole in (
            ("iou", len(is_true | is_predicted)),
            ("recall", len(is_true)),
            ("precision", len(is_predicted)),
            ("f1", (len(is_true) + len(is_predicted)) / 2),
        ):
            expected = hits / whole if whole else np.nan
            assert scores[name][number] == pytest.approx(expected, nan_ok=True)


def test_weights_count_instead_of_cells() -> None:
    true, predicted = np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]])
    counts = confusion_counts(true, predicted, 3, np.array([2.0, 3.0]))
    assert counts.tolist() == [[2.0, 0.0, 0.0], [2.0, 6.0, 0.0], [0.0, 0.0, 0.0]]


def test_unknown_cells_are_left_out() -> None:
    true, predicted = np.array([0, 254, 1], np.uint8), np.array([0, 1, 255], np.uint8)
    assert confusion_counts(true, predicted, 3).sum() == 1


@examples(60)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 12))
def test_average_precision_of_bins_lies_within_its_error(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    true, score = rng.random(n) < 0.4, rng.random(n)
    true[0] = True
    place = (score * bins).astype(int)
    value, error = binned_average_precision(
        np.bincount(place, true, bins), np.bincount(place, minlength=bins).astype(float)
    )
    assert abs(value - average_precision_score(true, score)) <= error + 1e-12
    assert value == pytest.approx(average_precision_score(true, place))


def test_average_precision_of_a_class_that_is_nowhere_is_unknown() -> None:
    assert np.isnan(binned_average_precision(np.zeros(3), np.ones(3))[0])
