"""Scores against their definitions, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsphere.metrics import Confusion, average_precision

CLASSES = ("background", "cyclone", "river")
maps = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


@given(maps)
def test_scores_are_those_of_sets(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    confusion = Confusion(CLASSES)
    confusion.add(true, predicted)
    for index, name in enumerate(CLASSES):
        is_true = {i for i, value in enumerate(true) if value == index}
        is_predicted = {i for i, value in enumerate(predicted) if value == index}
        hits = len(is_true & is_predicted)
        for scores, whole in (
            (confusion.iou(), is_true | is_predicted),
            (confusion.recall(), is_true),
            (confusion.precision(), is_predicted),
        ):
            if whole:
                assert scores[name] == pytest.approx(hits / len(whole))
            else:
                assert np.isnan(scores[name])


@given(maps, maps)
def test_counts_add_up_over_blocks(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    blocks, whole = Confusion(CLASSES), Confusion(CLASSES)
    for pairs in (first, second):
        blocks.add(*np.array(pairs).T)
    whole.add(*np.array(first + second).T)
    assert np.array_equal(blocks.counts, whole.counts)


def test_weights_count_instead_of_cells() -> None:
    confusion = Confusion(CLASSES)
    confusion.add(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]]), np.array([2.0, 3.0]))
    assert confusion.counts.tolist() == [[2.0, 0.0, 0.0], [2.0, 6.0, 0.0], [0.0, 0.0, 0.0]]


def test_unknown_cells_are_left_out() -> None:
    confusion = Confusion(CLASSES)
    confusion.add(np.array([0, 254, 1], np.uint8), np.array([0, 1, 255], np.uint8))
    assert confusion.counts.sum() == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_average_precision_is_its_definition(pairs: list[tuple[bool, int]]) -> None:
    true, score = np.array([p[0] for p in pairs]), np.array([float(p[1]) for p in pairs])
    if not true.any():
        assert np.isnan(average_precision(true, score))
        return
    expected, recall_before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        chosen = score >= threshold
        recall = (true & chosen).sum() / true.sum()
        expected += (recall - recall_before) * (true & chosen).sum() / chosen.sum()
        recall_before = recall
    assert average_precision(true, score) == pytest.approx(expected)
