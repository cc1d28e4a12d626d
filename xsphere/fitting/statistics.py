"""What is measured of the training samples, block by block: means, spreads, frequencies."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.fitting.samples import BLOCK, Samples
from xsphere.grids import HealpixGrid
from xsphere.model import ModelSpec

# power of the inverse frequency of a class
WEIGHTINGS = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}


def with_statistics(spec: ModelSpec, samples: Samples, times: NDArray[np.int64]) -> ModelSpec:
    """Channels normalised by the mean and standard deviation of the samples of some times."""
    n_valid = np.zeros(len(spec.channels))
    sums, squares = np.zeros((2, len(spec.channels)))
    for values in _channels(spec, samples, times):
        n_valid += [np.isfinite(v).sum() for v in values]
        sums += [np.nansum(v, dtype=np.float64) for v in values]
    empty = [c.name for c, n in zip(spec.channels, n_valid, strict=True) if not n]
    if empty:
        raise ValueError(
            f"channels {empty} have no valid value in the training data; where values lie beyond "
            "valid ranges, choose others: valid_ranges={name: (low, high)}"
        )
    means = sums / n_valid
    # about the means: differences of large sums of squares would lose the digits of pressures
    for values in _channels(spec, samples, times):
        pairs = zip(values, means, strict=True)
        squares += [np.nansum((v - mean) ** 2, dtype=np.float64) for v, mean in pairs]
    stds = np.sqrt(squares / n_valid)
    # six digits are more than the data have, and make the record readable
    channels = tuple(
        replace(channel, mean=float(f"{mean:.6g}"), std=float(f"{std:.6g}") or 1.0)
        for channel, mean, std in zip(spec.channels, means, stds, strict=True)
    )
    return replace(spec, channels=channels)


def _channels(
    spec: ModelSpec, samples: Samples, times: NDArray[np.int64]
) -> Iterator[list[NDArray[Any]]]:
    """Values of each channel, of blocks of times."""
    grid = HealpixGrid(spec.level)
    for start in range(0, len(times), BLOCK):
        fields = samples.fields[times[start : start + BLOCK]]
        by_name = {variable.name: fields[..., i] for i, variable in enumerate(spec.variables)}
        yield [channel.values(grid, by_name) for channel in spec.channels]


def check_class_weights(wanted: str | Sequence[float], n_classes: int) -> None:
    """Refuse weights that are not known by name, or not one for each class."""
    if isinstance(wanted, str):
        if wanted not in WEIGHTINGS:
            raise ValueError(
                f"class_weights must be one of {sorted(WEIGHTINGS)} or numbers, got {wanted!r}"
            )
    elif len(wanted) != n_classes:
        raise ValueError(f"class_weights must be {n_classes}, background first, got {len(wanted)}")


def weights_of_classes(
    wanted: str | Sequence[float], samples: Samples, times: NDArray[np.int64]
) -> tuple[float, ...]:
    """Weights of the classes in a loss, the background first."""
    if not isinstance(wanted, str):
        return tuple(float(weight) for weight in wanted)
    frequency = sum(
        samples.targets[times[start : start + BLOCK]].sum((0, 1), dtype=np.float64)
        for start in range(0, len(times), BLOCK)
    )
    frequency = frequency / (len(times) * samples.targets.shape[1])
    absent = np.flatnonzero(frequency == 0)
    if absent.size:
        raise ValueError(f"classes {absent.tolist()} are nowhere in the training labels")
    weights = frequency ** -WEIGHTINGS[wanted]
    return tuple(float(f"{weight:.4g}") for weight in weights / weights[0])
