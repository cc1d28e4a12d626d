"""Graphs of the cells of a grid, whose Laplacians filter fields on the sphere.

A graph is a value: a grid and a few options. Its matrices are built when asked for, once a process
and once a machine (`xsphere.cache`), and are the same to the last bit everywhere.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, cached_arrays, content_key
from xsphere.graph.laplacians import (
    LaplacianType,
    check_laplacian_type,
    degrees_of,
    laplacian,
    spectrum_bound,
)
from xsphere.graph.neighbours import Nearest, check_neighbour_count, nearest_neighbours
from xsphere.graph.width import kernel_width as default_kernel_width
from xsphere.grids import Grid, HealpixGrid

Weights = Literal["gaussian", "perraudin2019"]
# part of every key: raise it when a graph of the same options comes out otherwise
GRAPH_FORMAT = 1
_shared = SharedEntries(16)


@dataclass(frozen=True, eq=False, repr=False)
class SphereGraph:
    """The cells of a grid joined to their nearest neighbours by weights that fall with distance.

    The k nearest neighbours are made symmetric by union, so a cell has k edges or some more, with
    weights ``w = exp(-ln2 d**2 / sigma**2)``, d the chord distance [1]_.

    The graph of a part of a HEALPix sphere is the induced subgraph of the graph of the whole:
    its edges are those of the whole with both ends in the part, with the same weights, and
    `lambda_max` is that of the whole, so that the same filter does the same away from the
    border. At the border edges are missing, and the Laplacian's diagonal with them: rows sum to
    zero. (The normalized Laplacian divides by the degrees in the whole, which keeps its
    spectrum within that of the whole.) Cells in any order or indexing scheme have the same
    graph, permuted.

    Parameters
    ----------
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, below the number of cells (of the whole sphere for HEALPix).
    weights : {"gaussian", "perraudin2019"}
        ``"gaussian"``: k nearest neighbours [1]_. ``"perraudin2019"``: the 8 (for 24 cells 7)
        neighbours that touch a HEALPix cell, ``w = exp(-d**2 / (2 mean(d**2)))`` [2]_; k is 8.
    kernel_width : float, optional
        Sigma in radians. By default that of `kernel_width` for ``"gaussian"``, and
        ``sqrt(2 ln2 mean(d**2))`` for ``"perraudin2019"``.
    laplacian_type : {"combinatorial", "normalized"}
        ``D - W`` or ``D**-1/2 (D - W) D**-1/2``.

    Raises
    ------
    TypeError
        If `grid` is not a grid or `k` not an integer.
    ValueError
        If an option is unknown or out of range.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000
    .. [2] Perraudin et al. (2019), https://arxiv.org/abs/1810.12186

    Examples
    --------
    >>> graph = SphereGraph(HealpixGrid(level=2), k=8)
    >>> graph
    SphereGraph(HealpixGrid(level=2, nested), k=8, gaussian, combinatorial)
    >>> graph.adjacency.shape
    (192, 192)
    >>> bool(abs(graph.laplacian.sum(axis=1)).max() < 1e-12)
    True
    """

    grid: Grid
    k: int = 8
    _: KW_ONLY
    weights: Weights = "gaussian"
    kernel_width: float | None = None
    laplacian_type: LaplacianType = "combinatorial"

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise TypeError(f"grid must be a Grid, such as HealpixGrid(6), got {self.grid!r}")
        if self.weights not in _EDGES:
            raise ValueError(f"weights must be one of {sorted(_EDGES)}, got {self.weights!r}")
        check_laplacian_type(self.laplacian_type)
        check_neighbour_count(_whole(self.grid), self.k)
        if self.weights == "perraudin2019" and not (
            isinstance(self.grid, HealpixGrid) and self.k == 8
        ):
            raise ValueError(
                "weights='perraudin2019' needs a HealpixGrid and k=8, got "
                f"{self.grid!r} and k={self.k}; use weights='gaussian'"
            )
        object.__setattr__(self, "k", int(self.k))
        if self.kernel_width is not None:
            width = float(self.kernel_width)
            if not (np.isfinite(width) and width > 0):
                raise ValueError(f"kernel_width must be positive and finite, got {width!r}")
            object.__setattr__(self, "kernel_width", width)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.grid.n_cells

    def spec(self) -> dict[str, Any]:
        """Options of the graph without its grid: ``SphereGraph(grid, **spec)`` is equal.

        Returns
        -------
        dict
            ``k``, ``weights``, ``kernel_width`` (None if not given) and ``laplacian_type``, as
            JSON holds them.

        Examples
        --------
        >>> SphereGraph(HealpixGrid(1), k=5).spec()["k"]
        5
        """
        return {
            "k": self.k,
            "weights": self.weights,
            "kernel_width": self.kernel_width,
            "laplacian_type": self.laplacian_type,
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the grid and the options, the same in every process."""
        return content_key("graph", GRAPH_FORMAT, self.grid.fingerprint, self.spec())

    @cached_property
    def neighbours(self) -> Nearest:
        """Ids (int32) and chord distances of the cells joined to each, before the union.

        Both of shape (n_cells, k), nearest first. A neighbour that the grid lacks has id -1 and an
        infinite distance.
        """
        ids, distances = _EDGES[self.weights](_whole(self.grid), self.k)
        if isinstance(self.grid, HealpixGrid) and not self._is_whole:
            ids = ids[self._whole_cells]
            ids = np.where(ids < 0, -1, self.grid.positions_of(ids)).astype(np.int32)
            distances = np.where(ids < 0, np.inf, distances[self._whole_cells])
        return _frozen(ids), _frozen(distances)

    @cached_property
    def adjacency(self) -> sparse.csr_array:
        """Edge weights, symmetric with an empty diagonal, shape (n_cells, n_cells)."""
        matrix = self._whole_graph.adjacency
        if self._is_whole:
            return matrix
        cells = self._whole_cells
        part = matrix[cells][:, cells]
        part.sort_indices()
        return _frozen_csr(part)

    @cached_property
    def lambda_max(self) -> float:
        """Bound of the Laplacian's spectrum, about 1 % above its largest eigenvalue.

        For a part of a HEALPix sphere it is that of the whole.
        """
        return self._whole_graph.lambda_max

    @cached_property
    def laplacian(self) -> sparse.csr_array:
        """Laplacian, symmetric, shape (n_cells, n_cells), CSR with sorted indices."""
        degrees = degrees_of(self._whole_graph.adjacency)[self._whole_cells]
        return _frozen_csr(laplacian(self.adjacency, self.laplacian_type, degrees=degrees))

    @cached_property
    def scaled_laplacian(self) -> sparse.csr_array:
        """``2 L / lambda_max - I``: its spectrum lies in [-1, 1], as Chebyshev polynomials need.

        Shape (n_cells, n_cells), float64, CSR with sorted indices, an entry on every diagonal
        place.
        """
        scaled = self.laplacian * (2.0 / self.lambda_max)
        scaled.setdiag(scaled.diagonal() - 1.0)
        return _frozen_csr(scaled)

    @cached_property
    def _is_whole(self) -> bool:
        return self.grid == _whole(self.grid)

    @cached_property
    def _whole_cells(self) -> NDArray[np.int64]:
        """Position of each cell in the whole graph."""
        if self._is_whole or not isinstance(self.grid, HealpixGrid):
            return np.arange(self.n_cells)
        return self.grid.nested_ids

    @cached_property
    def _whole_graph(self) -> "_WholeGraph":
        whole = self if self._is_whole else SphereGraph(_whole(self.grid), **self.spec())
        found = _shared.fetch(whole.fingerprint, whole._read_or_build)
        assert isinstance(found, _WholeGraph)
        return found

    def _read_or_build(self) -> "_WholeGraph":
        arrays = cached_arrays("graphs", self.fingerprint, self._build, about=repr(self))
        data, indices, indptr = (np.asarray(arrays[name]) for name in ("data", "indices", "indptr"))
        matrix = sparse.csr_array((data, indices, indptr), shape=(self.n_cells, self.n_cells))
        return _WholeGraph(_frozen_csr(matrix), float(arrays["lambda_max"]))

    def _build(self) -> dict[str, NDArray[Any]]:
        ids, distances = _EDGES[self.weights](self.grid, self.k)
        sigma = self.kernel_width
        if sigma is None:
            sigma = _default_width(self.weights, self.grid, self.k, distances)
        matrix = _gaussian_weights(ids, distances, sigma)
        bound = spectrum_bound(laplacian(matrix, self.laplacian_type))
        if bound == 0:
            raise ValueError(
                f"all weights of {self!r} vanish: kernel_width {sigma:g} is too small for cells "
                f"{distances.min():g} or more apart"
            )
        return {
            "data": matrix.data,
            "indices": matrix.indices.astype(np.int32),
            "indptr": matrix.indptr,
            "lambda_max": np.array(bound),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SphereGraph):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        # the matrices are read from the cache where the graph arrives, not shipped
        return {"grid": self.grid, **self.spec()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return type(self).__name__, self.fingerprint

    def __repr__(self) -> str:
        width = "" if self.kernel_width is None else f", kernel_width={self.kernel_width:g}"
        return (
            f"SphereGraph({self.grid!r}, k={self.k}, {self.weights}{width}, {self.laplacian_type})"
        )


@dataclass(frozen=True)
class _WholeGraph:
    """What is built and cached for a whole sphere."""

    adjacency: sparse.csr_array
    lambda_max: float


def _whole(grid: Grid) -> Grid:
    """The grid whose graph is built: for HEALPix the whole sphere in nested order."""
    return HealpixGrid(grid.level) if isinstance(grid, HealpixGrid) else grid


def _touching_cells(grid: Grid, k: int) -> Nearest:
    """The neighbours that touch each cell of a whole nested sphere, -1 where there are fewer."""
    import healpy

    assert isinstance(grid, HealpixGrid)
    assert k == 8
    ids = healpy.get_all_neighbours(grid.nside, np.arange(grid.n_cells), nest=True).T
    squares = ((grid.centres[ids] - grid.centres[:, None]) ** 2).sum(axis=-1)
    distances = np.where(ids < 0, np.inf, np.sqrt(squares))
    order = np.lexsort((ids, distances), axis=1)
    return np.take_along_axis(ids, order, 1).astype(np.int32), np.take_along_axis(
        distances, order, 1
    )


_EDGES: dict[str, Callable[[Grid, int], Nearest]] = {
    "gaussian": nearest_neighbours,
    "perraudin2019": _touching_cells,
}


def _default_width(weights: Weights, grid: Grid, k: int, distances: NDArray[np.float64]) -> float:
    if weights == "gaussian":
        return default_kernel_width(grid, k)
    squares = distances[np.isfinite(distances)] ** 2
    return float(np.sqrt(2 * np.log(2) * squares.mean()))


def _gaussian_weights(
    ids: NDArray[np.int32], distances: NDArray[np.float64], sigma: float
) -> sparse.csr_array:
    """Weights of the union of directed edges: an edge from either end has the same weight."""
    n_cells, k = ids.shape
    present = ids.ravel() >= 0
    rows = np.repeat(np.arange(n_cells, dtype=np.int32), k)[present]
    values = np.exp(-np.log(2) * (distances.ravel()[present] / sigma) ** 2)
    directed = sparse.csr_array((values, (rows, ids.ravel()[present])), shape=(n_cells, n_cells))
    matrix = sparse.csr_array(directed.maximum(directed.T.tocsr()))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _frozen_csr(matrix: sparse.csr_array) -> sparse.csr_array:
    """The same matrix over read-only arrays: it is shared by all that ask for it."""
    arrays = (_frozen(matrix.data), _frozen(matrix.indices), _frozen(matrix.indptr))
    return sparse.csr_array(arrays, shape=matrix.shape, copy=False)
