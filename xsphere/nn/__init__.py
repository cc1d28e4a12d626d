"""Layers, networks and losses on the sphere, in PyTorch."""

from xsphere.nn.layers import ChebConv, ConvBlock, WeightedPool, pool, unpool
from xsphere.nn.losses import jaccard_loss, soft_cross_entropy
from xsphere.nn.operator import SparseOperator, apply_reference
from xsphere.nn.unet import PRESETS, SphereUNet, UNetLayout, normalize_layout

__all__ = [
    "PRESETS",
    "ChebConv",
    "ConvBlock",
    "SparseOperator",
    "SphereUNet",
    "UNetLayout",
    "WeightedPool",
    "apply_reference",
    "jaccard_loss",
    "normalize_layout",
    "pool",
    "soft_cross_entropy",
    "unpool",
]
