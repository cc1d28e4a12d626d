"""What a measure refuses, before it begins."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.equivariance.operators import is_matrix
from xsphere.grids import Grid, HealpixGrid
from xsphere.notices import shortened

METHODS = ("schur", "rotations", "turns")
OUTPUTS = ("cells", "global")
# Part of the sphere that a whole grid may miss, by rounding of the edges of its cells.
WHOLE = 1e-3


def check_options(
    *, method: str, output: str, counts: dict[str, int], seed: int, confidence: float
) -> None:
    """Refuse options that are unknown or out of range, all at once.

    Parameters
    ----------
    method, output : str
        As `equivariance_error` takes them.
    counts : dict of int
        Numbers that must be at least 1, by name.
    seed : int
        At least 0.
    confidence : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If any is wrong.

    Examples
    --------
    >>> counts = {"n_signals": 5}
    >>> check_options(method="schur", output="cells", counts=counts, seed=0, confidence=0.9)
    """
    problems = [
        f"{name} must be one of {list(known)}, got {shortened(value)}"
        for name, value, known in (("method", method, METHODS), ("output", output, OUTPUTS))
        if value not in known
    ]
    for name, count, least in [*((n, c, 1) for n, c in counts.items()), ("seed", seed, 0)]:
        if not _is_integer(count) or count < least:
            problems.append(f"{name} must be an integer of at least {least}, got {count!r}")
    if not 0 < confidence < 1:
        problems.append(f"confidence must be between 0 and 1, got {confidence!r}")
    if problems:
        raise ValueError("; ".join(problems))


def highest_degree(grid: Grid) -> int:
    """Highest degree of fields that the cells of a grid may hold.

    Parameters
    ----------
    grid : Grid
        Any grid.

    Returns
    -------
    int
        ``3 nside - 1`` on HEALPix; else ``sqrt(4 pi / mean area) - 1``, the degree up to which
        the sphere has as many harmonics as cells of this size.

    Examples
    --------
    >>> highest_degree(HealpixGrid(5))
    95
    """
    if isinstance(grid, HealpixGrid):
        return 3 * grid.nside - 1
    areas = grid.areas[grid.areas > 0]
    return max(int(np.sqrt(4 * np.pi / areas.mean()) + 1e-9) - 1, 0)


def checked_degrees(degrees: ArrayLike, grid: Grid) -> NDArray[np.int64]:
    """Degrees as an array of integers.

    Parameters
    ----------
    degrees : int or array_like of int
        Degrees of spherical harmonics.
    grid : Grid
        Its cells say which degree is the highest.

    Returns
    -------
    array of int64, shape (n_degrees,)
        In their order.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If there are none, or some are out of range.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> checked_degrees(5, HealpixGrid(2))
    array([5])
    """
    given = np.atleast_1d(np.asarray(degrees))
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"degrees must be a number or a non-empty list, got shape {given.shape}")
    if given.dtype.kind not in "iu":
        raise TypeError(f"degrees must be integers, got {given.dtype}, such as {given[:3]}")
    highest = highest_degree(grid)
    wrong = given[(given < 0) | (given > highest)]
    if wrong.size:
        raise ValueError(
            f"degrees must be from 0 to {highest} on {grid!r}, got {wrong.size} others: "
            f"{wrong[:5].tolist()}; leave them out or take a finer grid"
        )
    return given.astype(np.int64)


def check_possible(operator: Any, grid: Grid, *, method: str, output: str, n_channels: int) -> None:
    """Refuse combinations that cannot be measured.

    Parameters
    ----------
    operator : csr_array or callable
        As `normalize_operator` gives it.
    grid : Grid
        Where inputs live.
    method, output : str
        Known ones.
    n_channels : int
        Channels of the input.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> grid = HealpixGrid(1)
    >>> check_possible(np.negative, grid, method="rotations", output="cells", n_channels=1)
    """
    if is_matrix(operator) and (n_channels != 1 or output != "cells"):
        raise ValueError(
            "operator must be a callable for several channels or an output without cells, got a "
            f"matrix with n_channels={n_channels}, output={shortened(output)}"
        )
    if method == "schur":
        if output == "global":
            raise ValueError(
                "output='global' needs method='rotations' or 'turns': Schur's lemma compares "
                "fields on cells"
            )
        return
    missing = 1.0 - float(grid.areas.sum()) / (4 * np.pi)
    if abs(missing) > WHOLE:
        raise ValueError(
            f"method={method!r} needs a whole sphere, got {grid!r}, which lacks {missing:.1%} of "
            "it; use method='schur' for a linear operator, or measure on the whole sphere"
        )
    if output == "cells" and not isinstance(grid, HealpixGrid):
        raise ValueError(
            f"method={method!r} rotates outputs on a HealpixGrid only, got {grid!r}; use "
            "method='schur' for a linear operator, or output='global' for outputs without cells"
        )


def check_enough_signals(degrees: NDArray[np.int64], n_signals: int, n_channels: int) -> None:
    """Refuse fewer fields than the response to several channels has unknowns.

    Parameters
    ----------
    degrees : array of int64, shape (n_degrees,)
        Degrees: there are ``2 l + 1`` independent fields of each.
    n_signals, n_channels : int
        Fields of each degree and channels of each field.

    Raises
    ------
    ValueError
        If any operator would fit them.

    Examples
    --------
    >>> check_enough_signals(np.array([3]), 5, 4)
    """
    lowest = int(degrees.min())
    if n_signals * (2 * lowest + 1) <= n_channels:
        raise ValueError(
            f"n_signals must be more than n_channels / (2 l + 1) to tell a response from chance, "
            f"got {n_signals} for {n_channels} channels and degree {lowest}; raise n_signals"
        )


def check_not_zero(errors: NDArray[np.float64], degrees: NDArray[np.int64]) -> None:
    """Refuse degrees that the operator maps to zero: nothing is relative to it.

    Parameters
    ----------
    errors : array of float64, shape (n_degrees,)
        NaN at these degrees.
    degrees : array of int64, shape (n_degrees,)
        Degrees.

    Raises
    ------
    ValueError
        If there are any.

    Examples
    --------
    >>> check_not_zero(np.array([0.5]), np.array([3]))
    """
    zero = degrees[np.isnan(errors)]
    if zero.size:
        raise ValueError(
            f"operator maps degrees {zero[:5].tolist()} to zero, where a relative error has no "
            "meaning (a Laplacian does so at degree 0); leave them out of degrees"
        )


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
