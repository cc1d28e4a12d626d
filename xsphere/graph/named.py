"""The weighted graphs of the literature: which cells are joined, and how strongly."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.graph.neighbours import Nearest, nearest_neighbours
from xsphere.graph.width import kernel_width as default_kernel_width
from xsphere.grids import Grid, HealpixGrid, LatLonGrid

# number of neighbours where a kind of graph has no choice
FIXED_NEIGHBOURS = {"perraudin2019": 8, "khasanova2017": 4}


def joined_cells(weights: str, grid: Grid, k: int) -> Nearest:
    """Neighbours of each cell, nearest first, and their chord distances; -1 and inf for none."""
    match weights:
        case "perraudin2019":
            return _touching_cells(grid)
        case "khasanova2017":
            return _cells_beside(grid)
    return nearest_neighbours(grid, k)


def named_adjacency(
    weights: str, grid: Grid, k: int, kernel_width: float | None
) -> sparse.csr_array:
    """Symmetric weights of a named graph; an edge from either end has the same weight."""
    ids, distances = joined_cells(weights, grid, k)
    if weights == "khasanova2017":
        with np.errstate(divide="ignore"):
            return _symmetric(ids, 1 / distances)
    sigma = kernel_width
    if sigma is None and weights == "perraudin2019":
        squares = distances[np.isfinite(distances)] ** 2
        sigma = float(np.sqrt(2 * np.log(2) * squares.mean()))
    if sigma is None:
        sigma = default_kernel_width(grid, k)
    matrix = _symmetric(ids, np.exp(-np.log(2) * (distances / sigma) ** 2))
    if matrix.nnz == 0:
        raise ValueError(
            f"all weights vanish: kernel_width {sigma:g} is too small for cells "
            f"{distances.min():g} or more apart in {grid!r}"
        )
    return matrix


def check_named(weights: str, grid: Grid, k: int) -> None:
    """Refuse a grid or a number of neighbours that a kind of graph is not defined for."""
    kinds: dict[str, tuple[type[Grid], str]] = {
        "perraudin2019": (HealpixGrid, "a HealpixGrid"),
        "khasanova2017": (LatLonGrid, "a LatLonGrid without rows at the poles"),
    }
    if weights not in kinds:
        return
    kind, wanted = kinds[weights]
    at_pole = isinstance(grid, LatLonGrid) and bool((np.abs(grid.lat) > 90 - 1e-6).any())
    if not isinstance(grid, kind) or k != FIXED_NEIGHBOURS[weights] or at_pole:
        raise ValueError(
            f"weights={weights!r} needs {wanted} and k={FIXED_NEIGHBOURS[weights]}, got {grid!r} "
            f"and k={k}; use weights='consistent'"
        )


def _touching_cells(grid: Grid) -> Nearest:
    """The neighbours that touch each cell of a whole nested sphere, -1 where there are fewer."""
    import healpy

    assert isinstance(grid, HealpixGrid)
    ids = healpy.get_all_neighbours(grid.nside, np.arange(grid.n_cells), nest=True).T
    return _nearest_first(grid, ids)


def _cells_beside(grid: Grid) -> Nearest:
    """Cells to the north, south, east and west, not across a pole."""
    assert isinstance(grid, LatLonGrid)
    n_lat, n_lon = grid.lat.size, grid.lon.size - grid.has_cyclic_column
    cells = np.arange(n_lat)[:, None] * grid.lon.size + np.arange(n_lon)
    beside = np.full((4, n_lat, n_lon), -1)
    beside[0, 1:] = np.where(grid.joined_rows[:, None], cells[:-1], -1)
    beside[1, :-1] = np.where(grid.joined_rows[:, None], cells[1:], -1)
    # of one or two columns all around, none is beside itself, nor the other twice
    joined = grid.joined_columns & ((n_lon > 2) | (np.arange(n_lon) < n_lon - 1))
    beside[2] = np.where(np.roll(joined, 1), np.roll(cells, 1, axis=1), -1)
    beside[3] = np.where(joined, np.roll(cells, -1, axis=1), -1)
    ids = np.moveaxis(beside, 0, -1)
    if grid.has_cyclic_column:
        # the copy of the first column is joined to what that one is joined to
        ids = np.concatenate([ids, ids[:, :1]], axis=1)
    return _nearest_first(grid, ids.reshape(grid.n_cells, 4))


def _nearest_first(grid: Grid, ids: NDArray[np.integer]) -> Nearest:
    squares = ((grid.centres[ids] - grid.centres[:, None]) ** 2).sum(axis=-1)
    distances = np.where(ids < 0, np.inf, np.sqrt(squares))
    order = np.lexsort((ids, distances), axis=1)
    return np.take_along_axis(ids, order, 1).astype(np.int32), np.take_along_axis(
        distances, order, 1
    )


def _symmetric(ids: NDArray[np.int32], values: NDArray[np.float64]) -> sparse.csr_array:
    """Weights of the union of directed edges."""
    n_cells, k = ids.shape
    present = ids.ravel() >= 0
    rows = np.repeat(np.arange(n_cells, dtype=np.int32), k)[present]
    directed = sparse.csr_array(
        (values.ravel()[present], (rows, ids.ravel()[present])), shape=(n_cells, n_cells)
    )
    matrix = sparse.csr_array(directed.maximum(directed.T.tocsr()))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
