"""The regridding methods: a new one is a function that makes its weights, and an entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from xsphere.grids import Grid, HealpixGrid, PointGrid
from xsphere.weights.conservative import conservative_weights
from xsphere.weights.interpolation import (
    bilinear_weights,
    inverse_distance_weights,
    nearest_weights,
)
from xsphere.weights.second_order import second_order_weights

FieldMethod = Literal["conservative", "conservative2", "bilinear", "nearest", "inverse_distance"]
"""Methods for fields of numbers."""

RegridMethod = Literal["auto", FieldMethod, "mode"]
"""All methods, and the choice among them for each variable."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to bring values onto another grid.

    Parameters
    ----------
    summary : str
        A line for users.
    cell_methods : {"mean", "point", "mode"}
        What a value of the result is, in the words of CF.
    weights : callable, optional
        Makes the weights from a source to a target grid, where they are the method's own.
    needs : callable, optional
        Why the method is not possible between two grids, and what is; None where it is.
    is_matrix : bool
        Whether the weights are a sparse matrix, else `SecondOrderWeights`.
    from_points : str, optional
        Of one that cannot start from points: the method that does for it, where they have edges.
    keeps_values : bool
        Whether every value of the result is one of the source, so that classes stay classes.
    knows_ends : bool
        Whether the weights end where a regional source does.

    Examples
    --------
    >>> METHODS["conservative"].cell_methods, METHODS["nearest"].keeps_values
    ('mean', True)
    """

    summary: str
    cell_methods: Literal["mean", "point", "mode"]
    weights: Callable[[Grid, Grid], Any] | None = None
    needs: Callable[[Grid, Grid], str | None] | None = None
    is_matrix: bool = True
    from_points: FieldMethod | None = None
    keeps_values: bool = False
    knows_ends: bool = True

    def made(self, source: Grid, target: Grid) -> Any:
        """The weights between two grids."""
        assert self.weights is not None
        return self.weights(source, target)


def shares_areas(source: Grid, target: Grid) -> bool:
    """Whether there are conservative weights between two grids.

    Parameters
    ----------
    source, target : Grid
        Any grids.

    Returns
    -------
    bool
        False where one of them is of points without cell bounds.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid, PointGrid
    >>> shares_areas(HealpixGrid(1), PointGrid([0.0], [0.0]))
    False
    """
    return all(grid.has_bounds for grid in (source, target) if isinstance(grid, PointGrid))


def _needs_areas(source: Grid, target: Grid) -> str | None:
    if shares_areas(source, target):
        return None
    return (
        f"needs cells with edges, got {source} and {target}; give a PointGrid lon_bounds and "
        "lat_bounds (a Dataset holds them as CF bounds or a UGRID mesh, a DataArray loses them), "
        "or use 'nearest' or 'inverse_distance'"
    )


def _needs_boxes(source: Grid, target: Grid) -> str | None:
    points = isinstance(source, PointGrid) or isinstance(target, PointGrid)
    if isinstance(source, HealpixGrid) and isinstance(target, HealpixGrid):
        # cells of another figure are polygons
        points = source.figure != target.figure
    if not points:
        return None
    return (
        f"is between HealpixGrid and LatLonGrid, got {source} and {target}; use 'conservative' "
        "where the points have cell bounds"
    )


def _needs_rows(source: Grid, _target: Grid) -> str | None:
    if not isinstance(source, PointGrid):
        return None
    return f"is not possible from {source}; use 'inverse_distance' or 'nearest'"


METHODS: dict[str, Method] = {
    "conservative": Method(
        summary="keeps area integrals",
        cell_methods="mean",
        weights=conservative_weights,
        needs=_needs_areas,
    ),
    "conservative2": Method(
        summary="keeps them too, more accurately for smooth fields and without new extremes, but "
        "takes several times as long",
        cell_methods="mean",
        weights=second_order_weights,
        needs=_needs_boxes,
        is_matrix=False,
        from_points="conservative",
    ),
    "bilinear": Method(
        summary="is the most accurate for smooth fields where the target is not coarser",
        cell_methods="point",
        weights=bilinear_weights,
        needs=_needs_rows,
        from_points="inverse_distance",
    ),
    "nearest": Method(
        summary="takes the value of the nearest centre",
        cell_methods="point",
        weights=nearest_weights,
        keeps_values=True,
        knows_ends=False,
    ),
    "inverse_distance": Method(
        summary="weighs the four nearest centres, and serves points",
        cell_methods="point",
        weights=inverse_distance_weights,
        knows_ends=False,
    ),
    "mode": Method(
        summary="takes the class that covers most of a cell",
        cell_methods="mode",
        keeps_values=True,
    ),
}


def field_method(name: str) -> Method:
    """The method for fields of that name.

    Parameters
    ----------
    name : str
        A `FieldMethod`.

    Returns
    -------
    Method
        With weights of its own.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> field_method("bilinear").cell_methods
    'point'
    """
    method = METHODS.get(name)
    if method is None or method.weights is None:
        known = [known for known, entry in METHODS.items() if entry.weights is not None]
        raise ValueError(f"method must be one of {known}, got {name!r}")
    return method


def check_method(name: str, source: Grid, target: Grid) -> None:
    """Refuse a method that is not possible between two grids.

    Parameters
    ----------
    name : str
        A method other than "auto".
    source, target : Grid
        Cells from and to which values would go.

    Raises
    ------
    ValueError
        If it is not: why, and what is.

    Examples
    --------
    >>> check_method("bilinear", PointGrid([0.0], [0.0]), HealpixGrid(0))
    Traceback (most recent call last):
    ValueError: method 'bilinear' is not possible from PointGrid(...); use ... or 'nearest'
    """
    needs = METHODS[name].needs
    reason = needs(source, target) if needs else None
    if reason:
        raise ValueError(f"method {name!r} {reason}")
