"""Weights as sparse matrices made from two grids: regridding, pooling, and their application."""

from xsphere.weights.apply import apply_mode, apply_weights
from xsphere.weights.conservative import conservative_weights
from xsphere.weights.interpolation import (
    bilinear_weights,
    inverse_distance_weights,
    nearest_weights,
)
from xsphere.weights.method_table import METHODS, FieldMethod, Method, RegridMethod, shares_areas
from xsphere.weights.pooling_matrices import pooling_matrix, unpooling_matrix
from xsphere.weights.regridding import regrid_fields, regridding_pieces, regridding_weights
from xsphere.weights.second_order import (
    SecondOrderWeights,
    apply_second_order,
    second_order_weights,
)
from xsphere.weights.vectors import regrid_vectors

__all__ = [
    "METHODS",
    "FieldMethod",
    "Method",
    "RegridMethod",
    "SecondOrderWeights",
    "apply_mode",
    "apply_second_order",
    "apply_weights",
    "bilinear_weights",
    "conservative_weights",
    "inverse_distance_weights",
    "nearest_weights",
    "pooling_matrix",
    "regrid_fields",
    "regrid_vectors",
    "regridding_pieces",
    "regridding_weights",
    "second_order_weights",
    "shares_areas",
    "unpooling_matrix",
]
