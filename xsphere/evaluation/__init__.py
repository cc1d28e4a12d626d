"""Judging a segmentation: scores of classes, probabilities and regions, with intervals."""

from xsphere.evaluation.evaluated import evaluate
from xsphere.evaluation.result import Evaluation
from xsphere.evaluation.splits import split_times

__all__ = ["Evaluation", "evaluate", "split_times"]
