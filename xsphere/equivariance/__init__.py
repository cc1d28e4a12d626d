"""How far an operator on the sphere is from commuting with rotations."""

from xsphere.equivariance.measure import Method, Output, equivariance_error
from xsphere.equivariance.result import EquivarianceError

__all__ = ["EquivarianceError", "Method", "Output", "equivariance_error"]
