"""Lazy segmentation: a dataset and a model in, masks or probabilities of events out."""

from xsphere.segmentation.labelled import OutputGrid, segment
from xsphere.segmentation.node import ModelHandle, Output, SegmentNode

__all__ = ["ModelHandle", "Output", "OutputGrid", "SegmentNode", "segment"]
