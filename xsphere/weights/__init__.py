"""Regridding weights: sparse matrices made from two grids, and their application to fields."""

from xsphere.weights.apply import apply_mode, apply_weights
from xsphere.weights.conservative import conservative_weights
from xsphere.weights.interpolation import bilinear_weights, nearest_weights
from xsphere.weights.regridding import Method, regridding_weights

__all__ = [
    "Method",
    "apply_mode",
    "apply_weights",
    "bilinear_weights",
    "conservative_weights",
    "nearest_weights",
    "regridding_weights",
]
