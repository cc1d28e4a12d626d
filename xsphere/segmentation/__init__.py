"""Lazy segmentation: a dataset and a model in, masks or probabilities of events out."""

from xsphere.segmentation.checks import OutputGrid
from xsphere.segmentation.devices import DeviceMemoryError, DeviceWarning
from xsphere.segmentation.inference import Inference, Precision
from xsphere.segmentation.jobs import Segmentation
from xsphere.segmentation.labelled import job, segment
from xsphere.segmentation.layout import ChunksWarning
from xsphere.segmentation.node import ModelHandle, Output, SegmentNode
from xsphere.segmentation.plausibility import UnlikelyInputWarning

__all__ = [
    "ChunksWarning",
    "DeviceMemoryError",
    "DeviceWarning",
    "Inference",
    "ModelHandle",
    "Output",
    "OutputGrid",
    "Precision",
    "SegmentNode",
    "Segmentation",
    "UnlikelyInputWarning",
    "job",
    "segment",
]
