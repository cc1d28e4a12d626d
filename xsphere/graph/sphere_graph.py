"""Graphs of the cells of a grid, whose Laplacians filter fields on the sphere.

A graph is a value: a grid and a few options. Its matrices are built when asked for, once a process
and once a machine (`xsphere.cache`), and are the same to the last bit in every process that shares
the cache, and on every CPU of one kind.
"""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, cached, content_key
from xsphere.compressed import compressed_rows
from xsphere.graph.laplacians import (
    LaplacianType,
    check_laplacian_type,
    gershgorin_bound,
    induced,
    laplacian,
    normalized,
    off_diagonal,
    spectrum_bound,
)
from xsphere.graph.neighbours import Nearest, check_neighbour_count
from xsphere.graph.weightings import WEIGHTINGS, Weighting, Weights
from xsphere.grids import Grid, HealpixGrid
from xsphere.notices import listing, shortened

# part of every key: raise it when a graph of the same options comes out otherwise
GRAPH_FORMAT = 4
_shared = SharedEntries(16)


@listing(WEIGHTINGS)
@dataclass(frozen=True, eq=False, repr=False)
class SphereGraph:
    """The cells of a grid joined to their neighbours, with the Laplacian that filters on it.

    ``"consistent"`` rows are fitted by least squares to act on spherical harmonics of degree l as
    l (l + 1), as far as a stencil resolves them: a Laplacian in 1 / radian**2 on any sampling,
    not quite symmetric, several times nearer to equivariance than the Gaussian graph of equal k.
    On HEALPix a cell is joined to its k nearest (all that tie), to the cells that it is among the k
    nearest of, and from k = 8 to those that touch it (8.4 on average for k = 8). On other grids
    it is the k nearest different places, on a longitude-latitude grid the block of 3 x 3 (5 x 5,
    ...) cells that has at least k others. The spectrum stays in the right half-plane, see
    `n_changed_rows`; eigenvalues are real to about 1 % of `lambda_max` on even samplings, less so
    next to the poles of longitude-latitude grids and on scattered points, where polynomials of
    high order can grow.

    ``"gaussian"`` is the published graph [1]_: the k nearest neighbours made symmetric by union,
    with weights ``w = exp(-ln2 d**2 / sigma**2)``, d the chord distance.

    The graph of a part of a HEALPix sphere is the induced subgraph of the graph of the whole:
    its edges are those of the whole with both ends in the part, with the same weights, and
    `lambda_max` is that of the whole, so that the same filter does the same away from the
    border. At the border edges are missing, and the Laplacian's diagonal with them: rows sum to
    zero, and nothing flows over the border. (The normalized Laplacian divides by the degrees in
    the whole, which keeps its spectrum within that of the whole. A ``"consistent"`` row that loses
    edges loses those of the wrong sign too, or it could be unstable.) Cells in any order or
    indexing scheme have the same graph, permuted.

    Parameters
    ----------
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, below the number of cells (of the whole sphere for HEALPix); at
        least 5 for ``"consistent"``.
    weights : str
        <table>.
    kernel_width : float, optional
        Sigma in radians. By default that of `kernel_width` for ``"gaussian"``, and
        ``sqrt(2 ln2 mean(d**2))`` for ``"perraudin2019"``. For ``"consistent"`` the rows then act
        as the heat kernel of that width does, ``(1 - exp(-t l (l + 1))) / t`` with
        ``t = sigma**2 / (4 ln 2)``; by default as was found best for k.
    laplacian_type : {"combinatorial", "normalized"}
        ``D - W`` or ``D**-1/2 (D - W) D**-1/2``. For ``"consistent"``: in 1 / radian**2, or with
        each row times the area of its cell, which has no unit and bounds the spectrum by 20
        whatever the spacing of the points.

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
    .. [3] Khasanova and Frossard (2017), https://arxiv.org/abs/1707.00944

    Examples
    --------
    >>> graph = SphereGraph(HealpixGrid(level=2), k=8)
    >>> graph
    SphereGraph(HealpixGrid(level=2, nested), k=8, consistent, combinatorial)
    >>> graph.adjacency.shape
    (192, 192)

    A Laplacian takes the height of a point to twice the height (l = 1):

    >>> heights = graph.grid.centres[:, 2]
    >>> bool(abs(graph.laplacian @ heights - 2 * heights).max() < 0.1)
    True
    """

    grid: Grid
    k: int = 8
    _: KW_ONLY
    weights: Weights = "consistent"
    kernel_width: float | None = None
    laplacian_type: LaplacianType = "combinatorial"

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise TypeError(f"grid must be a Grid, such as HealpixGrid(6), got {self.grid!r}")
        if self.weights not in WEIGHTINGS:
            raise ValueError(f"weights must be one of {list(WEIGHTINGS)}, got {self.weights!r}")
        check_laplacian_type(self.laplacian_type)
        check_neighbour_count(_whole(self.grid), self.k)
        self._weighting.check(self.weights, self.grid, self.k)
        object.__setattr__(self, "k", int(self.k))
        if self.kernel_width is not None:
            width = float(self.kernel_width)
            if not (np.isfinite(width) and width > 0):
                raise ValueError(
                    f"kernel_width must be positive and finite, got {shortened(width)}"
                )
            object.__setattr__(self, "kernel_width", width)

    @property
    def _weighting(self) -> Weighting:
        return WEIGHTINGS[self.weights]

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
        version = self._weighting.version()
        return content_key("graph", GRAPH_FORMAT, version, self.grid.fingerprint, self.spec())

    @cached_property
    def neighbours(self) -> Nearest:
        """Ids (int32) and chord distances of the cells joined to each, before the union.

        Both of shape (n_cells, k), nearest first. A neighbour that the grid lacks has id -1 and an
        infinite distance.
        """
        ids, distances = self._weighting.neighbours(_whole(self.grid), self.k)
        if isinstance(self.grid, HealpixGrid) and not self._is_whole:
            ids = ids[self._whole_cells]
            ids = np.where(ids < 0, -1, self.grid.positions_of(ids)).astype(np.int32)
            distances = np.where(ids < 0, np.inf, distances[self._whole_cells])
        return _frozen(ids), _frozen(distances)

    @cached_property
    def adjacency(self) -> sparse.csr_array:
        """Edge weights with an empty diagonal, shape (n_cells, n_cells), (target, source).

        Symmetric and positive, but for ``"consistent"``: there they are minus what stands off the
        diagonal of the Laplacian.
        """
        return _frozen_csr(-off_diagonal(self._combinatorial))

    @cached_property
    def lambda_max(self) -> float:
        """Bound of the Laplacian's spectrum; for a part of a HEALPix sphere that of the whole.

        About 1 % above the largest eigenvalue; for ``"consistent"`` the bound of Gershgorin, some
        20 % above it.
        """
        return self._whole_graph.lambda_max

    @cached_property
    def n_changed_rows(self) -> int:
        """Rows of a ``"consistent"`` graph that were changed to stay stable, in the whole graph.

        Their neighbours lie too unevenly to use all of them, or weights had to be damped. None on
        HEALPix.
        """
        return self._whole_graph.n_changed

    @cached_property
    def laplacian(self) -> sparse.csr_array:
        """Laplacian, shape (n_cells, n_cells), (target, source), CSR with sorted indices."""
        whole, matrix = self._whole_graph, self._combinatorial
        if self.laplacian_type == "combinatorial":
            return matrix
        if self._weighting.fitted:
            areas = np.broadcast_to(whole.areas, whole.laplacian.shape[0])[self._whole_cells]
            return _frozen_csr(sparse.csr_array(sparse.diags_array(areas) @ matrix))
        degrees = whole.laplacian.diagonal()[self._whole_cells]
        return _frozen_csr(normalized(matrix, degrees))

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
    def _combinatorial(self) -> sparse.csr_array:
        matrix = self._whole_graph.laplacian
        return matrix if self._is_whole else _frozen_csr(induced(matrix, self._whole_cells))

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
        return cached("graphs", self.fingerprint, self._build, self._read, about=repr(self))

    def _read(self, arrays: dict[str, NDArray[Any]]) -> "_WholeGraph":
        matrix = compressed_rows(arrays, (self.n_cells, self.n_cells))
        areas, lambda_max = np.asarray(arrays["areas"]), float(arrays["lambda_max"])
        if areas.shape not in ((), (1,), (self.n_cells,)) or not np.isfinite(lambda_max):
            raise ValueError(f"areas have the shape {areas.shape}, lambda_max is {lambda_max}")
        return _WholeGraph(_frozen_csr(matrix), lambda_max, areas, int(arrays["n_changed"]))

    def _build(self) -> dict[str, NDArray[Any]]:
        areas, n_changed, given = np.array(np.nan), 0, (self.grid, self.k, self.kernel_width)
        if self._weighting.fitted:
            fitted = self._weighting.fitted(*given)
            matrix, n_changed = fitted.matrix, fitted.n_changed
            alike = bool((fitted.areas == fitted.areas[0]).all())
            areas = fitted.areas[:1] if alike else fitted.areas
            rows_scaled = self.laplacian_type == "normalized"
            bound = gershgorin_bound(matrix, areas if rows_scaled else None)
        else:
            assert self._weighting.adjacency is not None
            adjacency = self._weighting.adjacency(*given)
            matrix = laplacian(adjacency)
            bound = spectrum_bound(laplacian(adjacency, self.laplacian_type))
        return {
            "data": matrix.data,
            "indices": matrix.indices.astype(np.int32, copy=False),
            "indptr": matrix.indptr,
            "lambda_max": np.array(bound),
            "areas": areas,
            "n_changed": np.array(n_changed),
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

    laplacian: sparse.csr_array
    lambda_max: float
    areas: NDArray[np.float64]
    n_changed: int


def _whole(grid: Grid) -> Grid:
    """The grid whose graph is built: for HEALPix the whole sphere in nested order."""
    return HealpixGrid(grid.level) if isinstance(grid, HealpixGrid) else grid


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _frozen_csr(matrix: sparse.csr_array) -> sparse.csr_array:
    """The same matrix over read-only arrays: it is shared by all that ask for it."""
    arrays = (_frozen(matrix.data), _frozen(matrix.indices), _frozen(matrix.indptr))
    return sparse.csr_array(arrays, shape=matrix.shape, copy=False)
