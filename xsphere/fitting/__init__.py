"""Training: a dataset and labels in, a model out."""

from xsphere.fitting.configuration import ConfigurationError, train_config
from xsphere.fitting.trained_model import fit

__all__ = ["ConfigurationError", "fit", "train_config"]
