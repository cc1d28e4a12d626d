"""Fields taken from one grid to another by the name of a method."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.grids import Grid
from xsphere.weights.apply import Missing, apply_weights
from xsphere.weights.regridding import regridding_pieces, regridding_weights
from xsphere.weights.second_order import apply_second_order

FieldMethod = Literal["nearest", "bilinear", "conservative", "conservative2", "inverse_distance"]


def regrid_fields(
    values: ArrayLike,
    source: Grid,
    target: Grid,
    *,
    method: FieldMethod,
    missing: Missing = "renormalize",
    min_valid_fraction: float = 0.5,
) -> NDArray[np.floating[Any]]:
    """Fields on another grid.

    Parameters
    ----------
    values : array_like of real numbers, shape (..., n_source)
        Source fields. NaN and infinities are missing values.
    source, target : Grid
        Cells from and to which values go.
    method : {"nearest", "bilinear", "conservative", "conservative2", "inverse_distance"}
        See `nearest_weights`, `bilinear_weights`, `conservative_weights`, `second_order_weights`,
        `inverse_distance_weights`.
    missing : {"renormalize", "propagate"}
        See `apply_weights`.
    min_valid_fraction : float
        See `apply_weights`.

    Returns
    -------
    array of float, shape (..., n_target)
        As from `apply_weights`.

    Raises
    ------
    ValueError
        If the method is unknown or not possible between these grids, or as `apply_weights`.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> coarse, fine = HealpixGrid(0), HealpixGrid(1)
    >>> regrid_fields(np.arange(12.0), coarse, fine, method="conservative")[:5]
    array([0., 0., 0., 0., 1.])
    """
    if method == "conservative2":
        return apply_second_order(
            regridding_pieces(source, target),
            values,
            missing=missing,
            min_valid_fraction=min_valid_fraction,
        )
    if method not in get_args(FieldMethod):
        raise ValueError(f"method must be one of {list(get_args(FieldMethod))}, got {method!r}")
    weights = regridding_weights(source, target, method=method)
    return apply_weights(weights, values, missing=missing, min_valid_fraction=min_valid_fraction)
