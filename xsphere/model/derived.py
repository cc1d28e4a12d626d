"""Input channels that are derived from others on the model's grid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.cache import SharedEntries
from xsphere.graph.derivative_cache import Derivative, derivative_matrices
from xsphere.grids import EARTH_RADIUS_KM, Grid, HealpixGrid

Fields = NDArray[np.float32]

_matrices = SharedEntries(maxsize=8)


@dataclass(frozen=True)
class Derivation:
    """How a derived channel is made.

    Parameters
    ----------
    n_sources : int
        Number of source fields.
    units : str
        Units of the result, where winds are in m s-1.
    make : callable
        Takes the grid and the source fields, each of shape (n, n_cells), and gives one.

    Examples
    --------
    >>> DERIVED["wind_speed"].n_sources
    2
    """

    n_sources: int
    units: str
    make: Callable[..., Fields]


def _derivatives(kind: Derivative, grid: Grid) -> tuple[Any, Any]:
    matrices = derivative_matrices(kind, grid)
    of_u, of_v = ((matrix / (1e3 * EARTH_RADIUS_KM)).astype(np.float32) for matrix in matrices)
    return of_u, of_v


def _derivative(kind: Derivative, grid: Grid, u: Fields, v: Fields) -> Fields:
    of_u, of_v = _matrices.fetch(f"{kind} {grid.fingerprint}", lambda: _derivatives(kind, grid))
    result: Fields = (of_u @ u.T + of_v @ v.T).T
    return result


def _sin_latitude(grid: Grid) -> Fields:
    sines: Fields = grid.centres[:, 2].astype(np.float32)[None]
    return sines


DERIVED: dict[str, Derivation] = {
    "wind_speed": Derivation(2, "m s-1", lambda _, u, v: np.hypot(u, v)),
    "vorticity": Derivation(2, "s-1", lambda grid, u, v: _derivative("vorticity", grid, u, v)),
    # positive for cyclones of either hemisphere
    "cyclonic_vorticity": Derivation(
        2,
        "s-1",
        lambda grid, u, v: np.sign(_sin_latitude(grid)) * _derivative("vorticity", grid, u, v),
    ),
    "divergence": Derivation(2, "s-1", lambda grid, u, v: _derivative("divergence", grid, u, v)),
    "sin_latitude": Derivation(0, "1", _sin_latitude),
    "abs_sin_latitude": Derivation(0, "1", lambda grid: np.abs(_sin_latitude(grid))),
}


def derived_field(kind: str, grid: HealpixGrid, *sources: NDArray[Any]) -> Fields:
    """Field derived from others on one grid.

    Parameters
    ----------
    kind : str
        A name in `DERIVED`.
    grid : HealpixGrid
        Grid of the fields.
    *sources : arrays of float, shape (n, n_cells)
        Source fields, winds in m s-1: eastward, then northward.

    Returns
    -------
    array of float32, shape (n, n_cells) or (1, n_cells)
        The derived field. Where a source is not finite, neither is it, and neither are
        derivatives at the neighbours.

    Raises
    ------
    ValueError
        If the kind is unknown or takes another number of sources.

    Examples
    --------
    >>> grid = HealpixGrid(1)
    >>> wind = np.ones((1, grid.n_cells), np.float32)
    >>> derived_field("wind_speed", grid, 3 * wind, 4 * wind).max()
    np.float32(5.0)
    """
    if kind not in DERIVED:
        raise ValueError(f"unknown derived field {kind!r}; known are {sorted(DERIVED)}")
    rule = DERIVED[kind]
    if len(sources) != rule.n_sources:
        raise ValueError(f"{kind} takes {rule.n_sources} fields, got {len(sources)}")
    result: Fields = rule.make(grid, *(np.asarray(source, np.float32) for source in sources))
    return result
