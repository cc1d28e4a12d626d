"""The one function that measures: checks first, then the method."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.equivariance.arguments import (
    check_enough_signals,
    check_not_zero,
    check_options,
    check_possible,
    checked_degrees,
)
from xsphere.equivariance.exact import exact_squares
from xsphere.equivariance.operators import Apply, applied, is_matrix, normalize_operator
from xsphere.equivariance.random_fields import fields_on
from xsphere.equivariance.result import EquivarianceError
from xsphere.equivariance.sampled import (
    Sampling,
    check_linear,
    confidence_interval,
    rotation_ratios,
    schur_ratios,
)
from xsphere.grids import Grid

Method = Literal["schur", "rotations", "turns"]
Output = Literal["cells", "global"]


def equivariance_error(
    operator: Any,
    grid: Grid,
    degrees: ArrayLike,
    *,
    method: Method = "schur",
    output: Output = "cells",
    n_channels: int = 1,
    n_signals: int = 5,
    n_rotations: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
) -> EquivarianceError:
    """Relative error that an operator makes in commuting with rotations, by degree.

    ``"schur"``, for linear operators: by Schur's lemma those that commute with rotations act on
    every degree l as a scalar, so the error is ``|L f - c f| / |L f|``, with the scalar c(l) that
    makes it least. Nothing is rotated and the floor is zero, on any grid. Of a sparse matrix it
    is the exact expectation over all isotropic random fields f of degree l, whatever the seed
    (good to about ``1e-7 / (l h)``, h the size of a cell in radians); of a callable, the mean over
    `n_signals` fields.

    ``"rotations"``, for any operator: ``|R L f - L R f| / |L f|`` over random rotations R, drawn
    from the Haar measure of SO(3) [1]_: about the square root of 2 times the former, since what is
    no scalar comes in twice. Inputs rotate exactly. Outputs rotate on a whole HEALPix sphere: the
    part that is a multiple of the input exactly too, the remainder by its spherical harmonics up
    to ``3 nside - 1``. The floor is the error of the identity, rotated like the remainder, times
    the size of the remainder. What a network puts into an output beyond that band is lost in the
    rotation, counts as its error, and is not in the floor.

    ``"turns"``: the same over turns about the Earth's axis by any angle. An operator that knows
    east and north, such as one of `xsphere.graph.directions.directional_matrices`, commutes with
    these and with no other rotation. What the harmonics miss of a remainder turns ring by ring, in
    Fourier series: east and north jump at the poles, and so do outputs that know them.

    Norms weigh cells by their area.

    Parameters
    ----------
    operator : sparse matrix, callable or torch module
        A matrix (target, source), shape (n_cells, n_cells); a function of an array
        (n_cells, n_channels); a module on (batch, n_cells, n_channels), which is in evaluation
        mode during the measure.
    grid : Grid
        Where inputs, and outputs if they have cells, live. Any grid for ``"schur"``; a whole
        HEALPix sphere, in any indexing scheme and order, for ``"rotations"`` and ``"turns"``; any
        whole sphere if `output` is ``"global"``.
    degrees : int or array_like of int, shape (n_degrees,)
        Degrees l of the fields: at most ``3 nside - 1`` on HEALPix, and elsewhere
        ``sqrt(4 pi / mean area) - 1``.
    method : {"schur", "rotations", "turns"}
        Which of the three.
    output : {"cells", "global"}
        ``"global"``: the outputs have no cells, shape (n_out_channels,) a sample, and should not
        change when the input rotates. Not for ``"schur"``.
    n_channels : int
        Independent random fields that are given at a time. A matrix acts on one.
    n_signals, n_rotations : int
        Random inputs of each degree, and rotations of each.
    seed : int
        Of the random numbers. A degree's result does not depend on the other degrees.
    confidence : float
        Of the intervals, which the bootstrap over signals and rotations gives.

    Returns
    -------
    EquivarianceError
        The mean of the ratio UNSQUARED as ``error``, the mean of its square as ``squared_error``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If an argument is out of range; if the operator has the wrong shape, is not linear (for
        ``"schur"``), gives values that are not finite, or maps a degree to zero.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000

    Examples
    --------
    >>> from xsphere.graph import SphereGraph
    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=3)
    >>> laplacian = SphereGraph(grid, k=8, weights="gaussian").laplacian
    >>> found = equivariance_error(laplacian, grid, [2, 8])
    >>> bool((found.error < 0.2).all()), float(found.floor.max())
    (True, 0.0)
    """
    counts = {"n_channels": n_channels, "n_signals": n_signals, "n_rotations": n_rotations}
    check_options(method=method, output=output, counts=counts, seed=seed, confidence=confidence)
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, such as HealpixGrid(5), got {grid!r}")
    chosen = checked_degrees(degrees, grid)
    normalized = normalize_operator(operator, grid)
    check_possible(normalized, grid, method=method, output=output, n_channels=n_channels)
    if method == "schur" and is_matrix(normalized):
        return _exact(normalized, grid, chosen, confidence)
    turns = method == "turns"
    sampling = Sampling(**counts, seed=seed, confidence=confidence, about_axis=turns)
    with applied(normalized, n_cells=grid.n_cells, output=output) as apply:
        return _MEASURES[method](apply, grid, chosen, sampling)


def _exact(
    matrix: Any, grid: Grid, degrees: NDArray[np.int64], confidence: float
) -> EquivarianceError:
    squared, response = exact_squares(matrix, grid, degrees)
    check_not_zero(squared, degrees)
    error = np.sqrt(squared)
    return EquivarianceError(
        degrees=degrees,
        error=error,
        squared_error=squared,
        low=error,
        high=error,
        floor=np.zeros(degrees.size),
        response=response,
        method="schur",
        confidence=confidence,
    )


def _schur(
    apply: Apply, grid: Grid, degrees: NDArray[np.int64], sampling: Sampling
) -> EquivarianceError:
    check_enough_signals(degrees, sampling.n_signals, sampling.n_channels)
    fields = fields_on(grid)
    check_linear(apply, fields, int(degrees.max()), sampling)
    found = [schur_ratios(apply, fields, grid.areas, int(degree), sampling) for degree in degrees]
    response = np.stack([scalar for _, scalar in found])
    if response.shape[1:] == (1, 1):
        response = response[:, 0, 0]
    ratios = [ratio for ratio, _ in found]
    return _summary(ratios, np.zeros(degrees.size), degrees, sampling, "schur", response)


def _rotations(
    apply: Apply, grid: Grid, degrees: NDArray[np.int64], sampling: Sampling
) -> EquivarianceError:
    fields = fields_on(grid)
    found = [
        rotation_ratios(apply, fields, grid.areas, int(degree), sampling) for degree in degrees
    ]
    floor = np.array([floors.mean() for _, floors in found])
    method: Method = "turns" if sampling.about_axis else "rotations"
    return _summary([ratio for ratio, _ in found], floor, degrees, sampling, method, None)


def _summary(
    ratios: Sequence[NDArray[np.float64]],
    floor: NDArray[np.float64],
    degrees: NDArray[np.int64],
    sampling: Sampling,
    method: Method,
    response: NDArray[np.float64] | None,
) -> EquivarianceError:
    error = np.array([ratio.mean() for ratio in ratios])
    check_not_zero(error, degrees)
    low, high = np.array(
        [
            confidence_interval(ratio, int(degree), sampling)
            for ratio, degree in zip(ratios, degrees, strict=True)
        ]
    ).T
    return EquivarianceError(
        degrees=degrees,
        error=error,
        squared_error=np.array([(ratio**2).mean() for ratio in ratios]),
        low=low,
        high=high,
        floor=floor,
        response=response,
        method=method,
        confidence=sampling.confidence,
        sampled=True,
    )


_MEASURES: dict[str, Callable[[Apply, Grid, NDArray[np.int64], Sampling], EquivarianceError]] = {
    "schur": _schur,
    "rotations": _rotations,
    "turns": _rotations,
}
