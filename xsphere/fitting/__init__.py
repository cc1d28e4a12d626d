"""Training: a dataset and labels in, a model out."""

from xsphere.fitting.trained_model import fit

__all__ = ["fit"]
