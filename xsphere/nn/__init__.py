"""Layers, networks and losses on the sphere, in PyTorch."""

from xsphere.nn.block import ConvBlock
from xsphere.nn.convolution import (
    ChebConv,
    DirectionalConv,
    DirectionalOperator,
    GraphConv,
    graph_conv,
)
from xsphere.nn.deepsphere import (
    DeepsphereUNet,
    deepsphere_encoder_state,
    deepsphere_layer_state,
    from_deepsphere_weight,
)
from xsphere.nn.losses import LOSSES, jaccard_loss, soft_cross_entropy
from xsphere.nn.operator import SparseOperator
from xsphere.nn.pooling import WeightedPool, pool, unpool
from xsphere.nn.unet import SphereUNet
from xsphere.nn.unet_layout import PRESETS, UNetLayout, normalize_layout

__all__ = [
    "LOSSES",
    "PRESETS",
    "ChebConv",
    "ConvBlock",
    "DeepsphereUNet",
    "DirectionalConv",
    "DirectionalOperator",
    "GraphConv",
    "SparseOperator",
    "SphereUNet",
    "UNetLayout",
    "WeightedPool",
    "deepsphere_encoder_state",
    "deepsphere_layer_state",
    "from_deepsphere_weight",
    "graph_conv",
    "jaccard_loss",
    "normalize_layout",
    "pool",
    "soft_cross_entropy",
    "unpool",
]
