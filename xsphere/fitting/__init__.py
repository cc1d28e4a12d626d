"""Training: a dataset and labels in, a model out."""

from xsphere.fitting.core import fit

__all__ = ["fit"]
