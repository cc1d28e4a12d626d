"""Times for training, validation and test, in blocks that keep neighbours together."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xsphere.evaluation.times import blocks_of, times_of
from xsphere.notices import shortened, warn_user
from xsphere.regions.labelling import is_number
from xsphere.regions.resampling import block_length
from xsphere.regions.track_tables import hours_since_first

Unit = Literal["blocks", "single_times"]
SHARES = {"training": 0.7, "validation": 0.15, "test": 0.15}
NEAR_HOURS = 3.0


class NeighboursInTimeWarning(UserWarning):
    """Maps of a test have neighbours in time among those of the training."""


def split_times(
    times: xr.DataArray | xr.Dataset,
    shares: Mapping[str, float] = SHARES,
    *,
    block: str = "30D",
    gap: str = "0h",
    unit: Unit = "blocks",
    seed: int = 0,
) -> dict[str, xr.DataArray]:
    """Times in parts for training, validation and test, drawn as whole blocks of time.

    Maps of neighbouring hours are almost the same map: a model that was trained on one is not
    tested by the other.

    Parameters
    ----------
    times : DataArray or Dataset
        With the coordinate ``time``.
    shares : mapping of str to float
        Share of the blocks in each part, by name; together 1. The first is what is trained on.
    block : str
        Length of the blocks, longer than weather depends on itself.
    gap : str
        Times of the first part that are nearer than this to one of another part are in none.
    unit : {"blocks", "single_times"}
        What is drawn. Single times are what is also known as a random shuffle; of these comes a
        `NeighboursInTimeWarning`.
    seed : int
        Of what is drawn.

    Returns
    -------
    dict of DataArray
        Times of each part, in order, for ``ds.sel(time=...)``.

    Raises
    ------
    ValueError
        If an option is out of range, or there are fewer blocks than parts.

    Warns
    -----
    NeighboursInTimeWarning
        Where single times are drawn.

    Examples
    --------
    >>> ds = xr.Dataset(coords={"time": pd.date_range("2001-01-01", periods=8, freq="12h")})
    >>> parts = split_times(ds, {"training": 0.5, "test": 0.5}, block="2D")
    >>> {name: part.dt.day.values.tolist() for name, part in parts.items()}
    {'training': [1, 1, 2, 2], 'test': [3, 3, 4, 4]}
    """
    index = times_of(times, "times")
    hours, apart = _checked(shares, block, gap, unit)
    numbers = blocks_of(index, hours) if unit == "blocks" else np.arange(len(index))
    n_blocks = int(numbers.max(initial=-1)) + 1
    if n_blocks < len(shares):
        raise ValueError(
            f"there must be a block for each of {list(shares)}, got {len(index)} times in "
            f"{n_blocks} blocks of {block}; choose shorter ones with block=..."
        )
    drawn = np.random.default_rng(seed).permutation(n_blocks)
    of_blocks = np.empty(n_blocks, int)
    of_blocks[drawn] = _parts(list(shares.values()), n_blocks)
    part = of_blocks[numbers]
    since, order = _hours(index)
    distance = _nearest(since, part == 0)
    part[(part == 0) & (distance < apart)] = -1
    if unit == "single_times":
        _warn(distance[part > 0])
    found = times["time"]
    return {name: found[order[part[order] == number]] for number, name in enumerate(shares)}


def _checked(shares: Any, block: Any, gap: Any, unit: Any) -> tuple[float, float]:
    problems = []
    if unit not in get_args(Unit):
        problems.append(f"unit must be one of {list(get_args(Unit))}, got {shortened(unit)}")
    values = list(shares.values())
    numbers = all(is_number(share) and share > 0 for share in values)
    if len(values) < 2 or not numbers or abs(sum(values) - 1) > 1e-6:
        problems.append(
            f"shares must be two or more numbers above 0 that add up to 1, got {shortened(shares)}"
        )
    lengths = []
    for name, length, least in (("block", block, "more than 0h"), ("gap", gap, "0h or more")):
        try:
            lengths.append(block_length(length, name, least))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return lengths[0], lengths[1]


def _parts(shares: list[float], n_blocks: int) -> NDArray[np.intp]:
    """Number of the part of each block drawn; every part has one at least."""
    stops = np.round(np.cumsum(shares) * n_blocks).astype(int)
    for number in range(len(stops)):  # one block at least, and one left for each that follows
        least = 1 + (stops[number - 1] if number else 0)
        stops[number] = np.clip(stops[number], least, n_blocks - (len(stops) - 1 - number))
    return np.searchsorted(stops, np.arange(n_blocks), side="right")


def _hours(index: "pd.Index[Any]") -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Hours since the first of all times, and their order."""
    order = np.argsort(index.to_numpy(), kind="stable")
    since = np.empty(len(index))
    since[order] = hours_since_first(index[order])
    return since, order


def _nearest(since: NDArray[np.float64], first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Hours from each time to the nearest on the other side: of the first part, or of the rest."""
    distance = np.full(since.size, np.inf)
    for side in (first, ~first):
        others = np.sort(np.append(since[~side], [-np.inf, np.inf]))
        place = np.searchsorted(others, since[side])
        distance[side] = np.minimum(others[place] - since[side], since[side] - others[place - 1])
    return distance


def _warn(distance: NDArray[np.float64]) -> None:
    near = (distance <= NEAR_HOURS).mean()
    warn_user(
        f"single times were drawn: {near:.0%} of the times that are not trained on have one that "
        f"is within {NEAR_HOURS:g} h (89 % in the published split of the climate data of "
        "DeepSphere), so scores say little of other weather; draw blocks with unit='blocks'",
        NeighboursInTimeWarning,
    )
