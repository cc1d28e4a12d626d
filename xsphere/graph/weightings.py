"""The kinds of graph: a new one is a function that makes its matrix, and an entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.graph.consistent import LEAST_NEIGHBOURS, Fitted, consistent_laplacian
from xsphere.graph.neighbours import Nearest, nearest_neighbours
from xsphere.graph.profiles import profiles_digest
from xsphere.graph.width import kernel_width as default_kernel_width
from xsphere.grids import Grid, HealpixGrid, LatLonGrid

Weights = Literal["consistent", "gaussian", "perraudin2019", "khasanova2017"]


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """How the cells of a grid are joined; the grid is a whole sphere if it is of HEALPix.

    Parameters
    ----------
    summary : str
        A line for users.
    adjacency : callable, optional
        Makes symmetric weights from a grid, a number of neighbours and a kernel width or None.
    fitted : callable, optional
        Makes a Laplacian that comes from no such weights, from the same.
    neighbours : callable
        Ids and distances of the cells joined to each, from a grid and a number of neighbours.
    only_k, least_k : int
        The number of neighbours where there is no choice, and the least.
    grids : tuple of (str, callable), optional
        Which grids there are such graphs of, in words and as a test, if not of all.
    has_width : bool
        Whether a kernel width belongs to the graph, which models then write down.
    version : callable
        A digest of data that the matrix depends on.

    Examples
    --------
    >>> WEIGHTINGS["perraudin2019"].only_k
    8
    """

    summary: str
    adjacency: Callable[[Grid, int, float | None], sparse.csr_array] | None = None
    fitted: Callable[[Grid, int, float | None], Fitted] | None = None
    neighbours: Callable[[Grid, int], Nearest] = nearest_neighbours
    only_k: int | None = None
    least_k: int = 1
    grids: tuple[str, Callable[[Grid], bool]] | None = None
    has_width: bool = True
    version: Callable[[], str] = str

    def check(self, name: str, grid: Grid, k: int) -> None:
        """Refuse a grid or a number of neighbours that there is no such graph of."""
        if k < self.least_k:
            raise ValueError(
                f"weights={name!r} needs k of at least {self.least_k}, got {k}; use more "
                "neighbours or weights='gaussian'"
            )
        if (self.grids and not self.grids[1](grid)) or self.only_k not in (None, k):
            wanted = [self.grids[0]] if self.grids else []
            wanted += [f"k={self.only_k}"] if self.only_k else []
            raise ValueError(
                f"weights={name!r} needs {' and '.join(wanted)}, got {grid!r} and k={k}; use "
                "weights='consistent'"
            )


def _gaussian(grid: Grid, k: int, kernel_width: float | None) -> sparse.csr_array:
    sigma = default_kernel_width(grid, k) if kernel_width is None else kernel_width
    return _bells(grid, *nearest_neighbours(grid, k), sigma)


def _perraudin(grid: Grid, _k: int, kernel_width: float | None) -> sparse.csr_array:
    ids, distances = _touching_cells(grid)
    squares = distances[np.isfinite(distances)] ** 2
    sigma = float(np.sqrt(2 * np.log(2) * squares.mean())) if kernel_width is None else kernel_width
    return _bells(grid, ids, distances, sigma)


def _khasanova(grid: Grid, _k: int, _kernel_width: float | None) -> sparse.csr_array:
    ids, distances = _cells_beside(grid)
    with np.errstate(divide="ignore"):
        return _symmetric(ids, 1 / distances)


def _bells(
    grid: Grid, ids: NDArray[np.int32], distances: NDArray[np.float64], sigma: float
) -> sparse.csr_array:
    """Weights that are halved at a distance of sigma."""
    matrix = _symmetric(ids, np.exp(-np.log(2) * (distances / sigma) ** 2))
    if matrix.nnz == 0:
        raise ValueError(
            f"all weights vanish: kernel_width {sigma:g} is too small for cells "
            f"{distances.min():g} or more apart in {grid!r}"
        )
    return matrix


def _touching_cells(grid: Grid, _k: int = 8) -> Nearest:
    """The neighbours that touch each cell of a whole nested sphere, -1 where there are fewer."""
    import healpy

    assert isinstance(grid, HealpixGrid)
    ids = healpy.get_all_neighbours(grid.nside, np.arange(grid.n_cells), nest=True).T
    return _nearest_first(grid, ids)


def _cells_beside(grid: Grid, _k: int = 4) -> Nearest:
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


def _is_healpix(grid: Grid) -> bool:
    return isinstance(grid, HealpixGrid)


def _is_box_between_poles(grid: Grid) -> bool:
    return isinstance(grid, LatLonGrid) and not bool((np.abs(grid.lat) > 90 - 1e-6).any())


WEIGHTINGS: dict[str, Weighting] = {
    "consistent": Weighting(
        summary="rows fitted to the sphere, as above",
        fitted=lambda grid, k, width: consistent_laplacian(grid, k, kernel_width=width),
        least_k=LEAST_NEIGHBOURS,
        has_width=False,
        version=profiles_digest,
    ),
    "gaussian": Weighting(
        summary="the k nearest neighbours, as above",
        adjacency=_gaussian,
    ),
    "perraudin2019": Weighting(
        summary="the 8 (for 24 cells 7) neighbours that touch a HEALPix cell, "
        "``w = exp(-d**2 / (2 mean(d**2)))`` [2]_; k is 8",
        adjacency=_perraudin,
        neighbours=_touching_cells,
        only_k=8,
        grids=("a HealpixGrid", _is_healpix),
    ),
    "khasanova2017": Weighting(
        summary="the cells to the north, south, east and west on a longitude-latitude grid, not "
        "across a pole, ``w = 1 / d`` [3]_; k is 4",
        adjacency=_khasanova,
        neighbours=_cells_beside,
        only_k=4,
        grids=("a LatLonGrid without rows at the poles", _is_box_between_poles),
    ),
}
