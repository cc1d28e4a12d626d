"""Intervals of shares and counts: blocks of time drawn anew, and Wilson's."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xsphere.notices import shortened

LEVEL = 0.95
QUANTILE = 1.959963984540054  # of the normal distribution, for LEVEL


def block_length(block: Any, name: str = "block", least: str = "more than 0h") -> float:
    """Hours of a length of time such as ``"30D"``."""
    try:  # a bare number would be nanoseconds
        known = isinstance(block, str | pd.Timedelta)
        hours = pd.Timedelta(block) / pd.Timedelta("1h") if known else np.nan
    except ValueError:
        hours = np.nan
    if not (hours > 0 or (least.startswith("0h") and hours == 0)):
        raise ValueError(
            f"{name} must be a length of time of {least}, such as '10D', got {shortened(block)}"
        )
    return float(hours)


def block_numbers(hours: NDArray[np.float64], length: float) -> NDArray[np.int64]:
    """Number, from 0, of the block of so many hours that each time is in."""
    return (hours // length).astype(np.int64)


def block_draws(n_blocks: int, n_samples: int, seed: int) -> NDArray[np.float64]:
    """How often each block counts: once in the first row, as drawn in those after it.

    Returns
    -------
    array of float64, shape (1 + n_samples, n_blocks)

    Examples
    --------
    >>> block_draws(2, 3, seed=0).sum(axis=1)
    array([2., 2., 2., 2.])
    """
    draws = np.random.default_rng(seed).multinomial(
        n_blocks, np.full(n_blocks, 1 / n_blocks), n_samples
    )
    return np.concatenate([np.ones((1, n_blocks)), draws])


def interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the interval of what was drawn, NaN where nothing can tell."""
    if not np.isfinite(samples).any():
        return np.nan, np.nan
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def resampled_ratios(
    part: NDArray[np.float64],
    whole: NDArray[np.float64],
    *,
    blocks: NDArray[np.int64],
    n_samples: int = 1000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ratios of sums over time, with intervals of a bootstrap over blocks.

    Parameters
    ----------
    part, whole : array of float, shapes that go together, time last
        What is summed.
    blocks : array of int, shape (n_times,)
        Number of the block of each time, from 0.
    n_samples, seed : int
        How often blocks are drawn, and from which start.

    Returns
    -------
    ratio, low, high : array of float
        NaN where the whole is 0; the ends also where there is one block.

    Examples
    --------
    >>> ones = np.ones(4)
    >>> resampled_ratios(np.array([0, 1, 0, 1.0]), ones, blocks=np.array([0, 0, 1, 1]))[0]
    array(0.5)
    """
    part, whole = np.broadcast_arrays(part, whole)
    n_blocks = int(blocks.max(initial=0)) + 1
    of_block = (blocks[:, None] == np.arange(n_blocks)).astype(float)
    draws = block_draws(n_blocks, n_samples if n_blocks > 1 else 0, seed).T
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN: there is nothing to share
        ratios = (part @ of_block @ draws) / (whole @ of_block @ draws)
    ends = np.array([interval(row[1:]) for row in ratios.reshape(-1, ratios.shape[-1])])
    low, high = ends.T.reshape(2, *ratios.shape[:-1])
    return ratios[..., 0], low, high


def wilson_interval(share: Any, n: Any) -> tuple[Any, Any]:
    """Wilson's interval of shares of `n` observations, which need be no whole number.

    Examples
    --------
    >>> low, high = wilson_interval(np.array([0.0, 0.5]), np.array([10.0, 10.0]))
    >>> low.round(3), high.round(3)
    (array([0.   , 0.237]), array([0.278, 0.763]))
    """
    square = QUANTILE**2 / n
    middle = (share + square / 2) / (1 + square)
    half = QUANTILE / (1 + square) * ((share * (1 - share) + square / 4) / n) ** 0.5
    # rounding aside, the share lies within
    return (middle - half).clip(0, share), (middle + half).clip(share, 1)
