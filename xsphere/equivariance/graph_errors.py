"""The Laplacians of several graphs side by side, as the command shows them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.equivariance.arguments import checked_degrees, highest_degree
from xsphere.equivariance.measure import Method, equivariance_error
from xsphere.equivariance.result import EquivarianceError
from xsphere.graph import WEIGHTINGS, SphereGraph, Weights
from xsphere.grids import Grid


def graph_errors(
    grid: Grid,
    degrees: ArrayLike,
    *,
    neighbours: Sequence[int] = (8, 20, 40),
    weights: Sequence[Weights] = ("gaussian",),
    method: Method = "schur",
    seed: int = 0,
) -> dict[str, EquivarianceError]:
    """Equivariance errors of the Laplacians of graphs on one grid.

    Parameters
    ----------
    grid : Grid
        Any grid that the graphs may have.
    degrees : array_like of int
        Degrees of the fields.
    neighbours : sequence of int
        Numbers k of neighbours. Weights that have a number of their own are given once, with it.
    weights : sequence of str
        As `SphereGraph` takes them.
    method : {"schur", "rotations", "turns"}
        As `equivariance_error` takes it.
    seed : int
        Of the random numbers.

    Returns
    -------
    dict of EquivarianceError
        By weights and k, such as ``"gaussian k=8"``.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> list(graph_errors(HealpixGrid(2), [3], neighbours=[8, 20]))
    ['gaussian k=8', 'gaussian k=20']
    """
    chosen = checked_degrees(degrees, grid)
    # every graph is checked before the first is built
    graphs = {
        f"{name} k={k}": SphereGraph(grid, k=k, weights=name)
        for name in weights
        for k in _numbers_of_neighbours(name, neighbours)
    }
    return {
        name: equivariance_error(graph.laplacian, grid, chosen, method=method, seed=seed)
        for name, graph in graphs.items()
    }


def _numbers_of_neighbours(weights: str, wanted: Sequence[int]) -> Sequence[int]:
    only = WEIGHTINGS[weights].only_k if weights in WEIGHTINGS else None
    return wanted if only is None else [only]


def errors_text(errors: Mapping[str, EquivarianceError]) -> str:
    """Table of the errors of several operators, a line for each degree.

    Parameters
    ----------
    errors : mapping of EquivarianceError
        By name, all at the same degrees and by one method.

    Returns
    -------
    str
        What was measured; the unsquared error of each operator with the floor beside; the means
        over the degrees.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> print(errors_text(graph_errors(HealpixGrid(2), [3], neighbours=[8])).splitlines()[1])
    degree  gaussian k=8  floor
    """
    (first, *_) = errors.values()
    columns = {name: found.error for name, found in errors.items()}
    columns["floor"] = np.mean([found.floor for found in errors.values()], axis=0)
    # intervals are named in the title of what was drawn at random, but have no column here
    title = first.title.rpartition(";")[0] if first.sampled else first.title
    lines = [title, "degree  " + "  ".join(columns)]
    rows = [*zip(first.degrees, np.transpose(list(columns.values())), strict=True)]
    rows.append(("mean", np.array([column.mean() for column in columns.values()])))
    for degree, values in rows:
        cells = (f"{v:<{len(name)}.3g}" for name, v in zip(columns, values, strict=True))
        lines.append(f"{degree:>6}  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def degrees_of_text(text: str | None, grid: Grid) -> NDArray[np.int64]:
    """Degrees that a user has typed.

    Parameters
    ----------
    text : str or None
        Such as ``"5,10,20-25"``. If None, a dozen from 2 to the highest that the grid holds, in
        equal ratios.
    grid : Grid
        Says which degree is the highest.

    Returns
    -------
    array of int64
        In their order.

    Raises
    ------
    ValueError
        If the text cannot be read.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> degrees_of_text("5,8-10", HealpixGrid(2))
    array([ 5,  8,  9, 10])
    >>> degrees_of_text(None, HealpixGrid(2))
    array([ 2,  3,  4,  5,  6,  7,  8,  9, 11])
    """
    if text is None:
        spread = np.geomspace(2, max(highest_degree(grid), 2), 12)
        return np.unique(spread.round()).astype(np.int64)
    degrees: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ValueError(
                f"degrees must be numbers and ranges such as '5,10,20-25', got {text!r}"
            )
        degrees += range(int(first), int(last or first) + 1)
    return checked_degrees(degrees, grid)
