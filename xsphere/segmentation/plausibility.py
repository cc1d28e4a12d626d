"""Inputs whose values no training map ever had: units that say one thing and values another."""

import numpy as np
from numpy.typing import NDArray

from xsphere.model import Model
from xsphere.notices import OncePerRun, shortened, warn_user

# standard deviations that a whole map may be from the mean of the training data, on average
FAR = 10.0


class UnlikelyInputWarning(UserWarning):
    """Fields are nothing like those that the model was trained on."""


def check_plausible(
    model: Model, channels: NDArray[np.float32], valid: NDArray[np.bool_], run: OncePerRun
) -> None:
    """Warn, once in a run, of variables that are far from the training data everywhere.

    Channels that are derived from others are not judged: no user gave them.
    """
    if not valid.any():
        return
    counted = channels[valid]
    distances = np.abs(counted).mean(0, dtype=np.float64)
    for index, channel in enumerate(model.spec.channels):
        far = channel.kind == "variable" and distances[index] > FAR
        if not (far and run.first(f"unlikely {channel.name}")):
            continue
        found = float(counted[:, index].mean(dtype=np.float64)) * channel.std + channel.mean
        warn_user(
            f"the input {shortened(channel.name)} of the model {shortened(model.spec.name)} is "
            f"{distances[index]:.0f} "
            f"standard deviations away from its training data, on average over a map: about "
            f"{found:.4g}, while they had {channel.mean:.4g} and a standard deviation of "
            f"{channel.std:.4g}; check that the values are in the units that the attribute says",
            UnlikelyInputWarning,
        )
