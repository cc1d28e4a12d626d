"""Inputs whose values no training map ever had: units that say one thing and values another."""

import threading

import numpy as np
from numpy.typing import NDArray

from xsphere.model import Model
from xsphere.notices import warn_user

# standard deviations that a whole map may be from the mean of the training data, on average
FAR = 10.0

_told: set[tuple[str, str]] = set()
_lock = threading.Lock()


class UnlikelyInputWarning(UserWarning):
    """Fields are nothing like those that the model was trained on."""


def check_plausible(model: Model, channels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    """Warn, once in a process, of channels that are far from the training data everywhere.

    Parameters
    ----------
    model : Model
        The model.
    channels : array of float32, shape (n, n_cells, n_channels)
        As `Model.channels` gives them: in standard deviations from the mean.
    valid : array of bool, shape (n, n_cells)
        Cells that count.

    Examples
    --------
    >>> model = Model.load("tc-ar")
    >>> channels = np.zeros((1, model.grid.n_cells, len(model.spec.channels)), np.float32)
    >>> check_plausible(model, channels, np.ones((1, model.grid.n_cells), np.bool_))
    """
    n_valid = int(valid.sum())
    if not n_valid:
        return
    for index, channel in enumerate(model.spec.channels):
        values = channels[..., index]
        # cells that do not count are 0, the mean
        distance = float(np.abs(values).sum(dtype=np.float64)) / n_valid
        key = (model.digest, channel.name)
        if distance <= FAR or not _first_time(key):
            continue
        found = float(values.sum(dtype=np.float64)) / n_valid * channel.std + channel.mean
        warn_user(
            f"the input {channel.name!r} of the model {model.spec.name!r} is {distance:.0f} "
            f"standard deviations away from its training data, on average over a map: about "
            f"{found:.4g}, while they had {channel.mean:.4g} and a standard deviation of "
            f"{channel.std:.4g}; check that the values are in the units that the attribute says",
            UnlikelyInputWarning,
        )


def _first_time(key: tuple[str, str]) -> bool:
    with _lock:
        if key in _told:
            return False
        _told.add(key)
        return True
