"""What tasks run: each node knows a grid, and looks its matrices up where it runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, content_key
from xsphere.filtering.degree_kernels import title_of
from xsphere.graph import SphereGraph
from xsphere.graph.derivative_cache import VERSION as DERIVATIVE_VERSION
from xsphere.graph.derivative_cache import Derivative, derivative_matrices
from xsphere.graph.filters import FIELDS_AT_ONCE, chebyshev_coefficients, filtered
from xsphere.graph.latlon_laplacian import VERSION as LATLON_VERSION
from xsphere.graph.latlon_laplacian import latlon_laplacian
from xsphere.graph.response import SpectralResponse, spectral_response
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.grids.travel import Travelling

MissingCells = Literal["propagate", "renormalize"]
Fields = NDArray[Any]

# Part of every task's key: raise it when results change for the same matrices.
VERSION = 1
# A smaller part of the kernel is not told from the error of the polynomial.
LEAST_SHARE = 1e-3

# A stable polynomial makes values of noise larger by a little at most.
LARGEST_GROWTH = 4.0

_operators = SharedEntries(8)
_steady = SharedEntries(64)


class Operator(NamedTuple):
    """The Laplacian of a graph and what its eigenvalues mean."""

    laplacian: sparse.csr_array
    lambda_max: float
    response: SpectralResponse


@dataclass(frozen=True, kw_only=True)
class FilterNode(Travelling):
    """What a task runs: blocks of fields in, filtered out.

    Parameters
    ----------
    grid : Grid
        Cells of the fields.
    spec : tuple of (str, value), or None
        Options of the graph, see `SphereGraph.spec`; None for `latlon_laplacian`.
    kernel : callable
        Factor for each l (l + 1).
    missing, min_valid_fraction
        As for `xsphere.filter`.
    dtype : dtype
        Of the result.

    Examples
    --------
    >>> node = FilterNode(
    ...     grid=HealpixGrid(2), spec=tuple(SphereGraph(HealpixGrid(2)).spec().items()),
    ...     kernel=np.ones_like, dtype=np.dtype("f4"),
    ... )
    >>> node(np.ones((3, 192), "f4")).shape
    (3, 192)
    """

    # the name of its tasks; dask cannot do with one that has a hyphen, as a repr may have
    __name__ = "xsphere_filter"

    grid: Grid
    spec: tuple[tuple[str, Any], ...] | None
    kernel: Callable[[Any], Any]
    dtype: np.dtype[Any]
    missing: MissingCells = "propagate"
    min_valid_fraction: float = 0.5

    def __call__(self, values: Fields) -> Fields:
        """Fields of shape (..., *grid.shape), as they come."""
        if values.size == 0:
            return np.empty(values.shape, self.dtype)
        operator = operator_of(self.grid, self.spec)
        coefficients = self._coefficients(operator)
        content = (*_content(self.grid, self.spec), coefficients.tobytes().hex())
        _steady.fetch(content_key(*content), lambda: self._check_steady(operator, coefficients))
        flat = values.reshape(-1, self.grid.n_cells)
        result = np.empty(flat.shape, self.dtype)
        for rows, mask in self._groups(flat):
            result[rows] = self._filtered(flat[rows], mask, operator, coefficients)
        return result.reshape(values.shape)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        rule = (self.missing, self.min_valid_fraction)
        content = (*_content(self.grid, self.spec), self.kernel, self.dtype.str, *rule)
        return ("xsphere.filter", VERSION, *content)

    def _coefficients(self, operator: Operator) -> NDArray[np.float64]:
        """Those of the kernel, moved by less than the tolerance to be exact for constants."""
        coefficients = chebyshev_coefficients(
            lambda eigenvalues: self.kernel(operator.response(eigenvalues)), operator.lambda_max
        )
        # polynomials at eigenvalue 0 are 1 and -1 in turn
        coefficients[0] += factor_of_constants(self.kernel) - (
            coefficients[::2].sum() - coefficients[1::2].sum()
        )
        return coefficients

    def _check_steady(self, operator: Operator, coefficients: NDArray[np.float64]) -> None:
        """Refuse polynomials that grow on eigenvalues off the real axis, seen on noise."""
        noise = np.random.default_rng(0).standard_normal(self.grid.n_cells)
        noise /= np.abs(noise).max()
        result = filtered(operator.laplacian, operator.lambda_max, coefficients, noise)
        factors = self.kernel(operator.response(np.linspace(0, operator.lambda_max, 1024)))
        growth = float(np.abs(result).max() / np.abs(factors).max())
        if not growth < LARGEST_GROWTH:
            raise ValueError(
                f"filter {title_of(self.kernel)!r} makes noise on {self.grid!r} {growth:.2g} times "
                "larger: its polynomial is unstable on this graph, whose cells are spaced too "
                "unevenly; choose another k, a smoother kernel (order=2, 'heat'), or to_healpix() "
                "first"
            )

    def _groups(self, flat: Fields) -> Iterator[tuple[Any, NDArray[np.bool_] | None]]:
        """Which fields share a mask, and the mask, or None where it plays no part."""
        if self.missing == "propagate" or flat.dtype.kind != "f":
            yield slice(None), None
            return
        valid = np.isfinite(flat)
        groups: dict[bytes, list[int]] = {}
        for row, mask in enumerate(valid):
            groups.setdefault(b"" if mask.all() else np.packbits(mask).tobytes(), []).append(row)
        for key, rows in groups.items():
            yield rows, valid[rows[0]] if key else None

    def _filtered(
        self,
        flat: Fields,
        mask: NDArray[np.bool_] | None,
        operator: Operator,
        coefficients: NDArray[np.float64],
    ) -> Fields:
        matrix, lambda_max = operator.laplacian, operator.lambda_max
        if mask is None:
            return filtered(matrix, lambda_max, coefficients, flat)
        sums = filtered(matrix, lambda_max, coefficients, np.where(mask, flat, 0.0).astype("f8"))
        # what the kernel makes of a field of ones, of which the mask leaves a part
        shares = filtered(matrix, lambda_max, coefficients, mask.astype("f8"))
        shares /= factor_of_constants(self.kernel)
        enough = shares >= max(self.min_valid_fraction, LEAST_SHARE)
        shares[~enough] = np.nan
        return np.asarray(sums / shares)


@dataclass(frozen=True, kw_only=True)
class DerivativeNode(Travelling):
    """What a task runs: one field in and two out for a gradient, else two in and one out.

    Parameters
    ----------
    grid : Grid
        Cells of the fields.
    derivative : {"gradient", "divergence", "vorticity"}
        Which one.
    k : int
        Number of neighbours.
    radius : float
        Of the sphere, in kilometres; derivatives are per metre.
    dtype : dtype
        Of the result.

    Examples
    --------
    >>> node = DerivativeNode(
    ...     grid=HealpixGrid(2), derivative="gradient", k=8, radius=6371.0, dtype=np.dtype("f4")
    ... )
    >>> [part.shape for part in node(np.ones((3, 192), "f4"))]
    [(3, 192), (3, 192)]
    """

    __name__ = "xsphere_derivative"

    grid: Grid
    derivative: Derivative
    k: int
    radius: float
    dtype: np.dtype[Any]

    def __call__(self, *fields: Fields) -> Fields | tuple[Fields, Fields]:
        """Fields of shape (..., *grid.shape) for as many of that shape as there are inputs."""
        shape = fields[0].shape
        parts = [np.empty((fields[0].size // self.grid.n_cells, self.grid.n_cells), self.dtype)]
        if self.derivative == "gradient":
            parts.append(np.empty_like(parts[0]))
        if fields[0].size:
            self._fill(parts, [field.reshape(-1, self.grid.n_cells) for field in fields])
        # an empty block has any shape, as dask calls it to learn the type
        shaped = [
            part.reshape(shape) if part.size else np.empty(shape, self.dtype) for part in parts
        ]
        return (shaped[0], shaped[1]) if self.derivative == "gradient" else shaped[0]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        options = (self.derivative, self.k, self.radius, self.dtype.str)
        return ("xsphere.derivative", VERSION, DERIVATIVE_VERSION, self.grid.fingerprint, *options)

    def _fill(self, parts: list[Fields], fields: list[Fields]) -> None:
        first, second = derivative_matrices(self.derivative, self.grid, self.k)
        metres = 1e3 * self.radius
        for start in range(0, len(fields[0]), FIELDS_AT_ONCE):
            rows = slice(start, start + FIELDS_AT_ONCE)
            columns = [np.ascontiguousarray(field[rows].T, np.float64) for field in fields]
            for column in columns:
                column[~np.isfinite(column)] = np.nan
            if len(parts) == 2:
                parts[0][rows] = (first @ columns[0] / metres).T
                parts[1][rows] = (second @ columns[0] / metres).T
            else:
                parts[0][rows] = ((first @ columns[0] + second @ columns[1]) / metres).T


@dataclass(frozen=True, kw_only=True)
class SpectrumNode(Travelling):
    """What a task runs: maps of the whole sphere in, angular power by degree out.

    Parameters
    ----------
    grid : HealpixGrid
        Cells of the fields, in any order; a part of the sphere for ``"pseudo"``.
    max_degree : int
        The last degree.
    missing : {"propagate", "pseudo"}
        As for `xsphere.power_spectrum`.

    Examples
    --------
    >>> SpectrumNode(grid=HealpixGrid(2), max_degree=8)(np.ones((3, 192))).shape
    (3, 9)
    """

    __name__ = "xsphere_power_spectrum"

    grid: HealpixGrid
    max_degree: int
    missing: Literal["propagate", "pseudo"] = "propagate"

    def __call__(self, values: Fields) -> Fields:
        """Spectra of shape (..., max_degree + 1) for fields of shape (..., n_cells)."""
        shape = (*values.shape[:-1], self.max_degree + 1)
        if values.size == 0:
            return np.empty(shape)
        flat = values.reshape(-1, self.grid.n_cells)
        return np.array([self._spectrum(field) for field in flat]).reshape(shape)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        options = (self.max_degree, self.missing)
        return ("xsphere.power_spectrum", VERSION, self.grid.fingerprint, *options)

    def _spectrum(self, field: Fields) -> NDArray[np.float64]:
        import healpy

        sphere = np.full(12 * 4**self.grid.level, np.nan)
        sphere[healpy.nest2ring(self.grid.nside, self.grid.nested_ids)] = field
        valid = np.isfinite(sphere)
        if not valid.any() or not (self.missing == "pseudo" or valid.all()):
            return np.full(self.max_degree + 1, np.nan)
        mean = sphere[valid].mean()
        # without its mean the edge of a mask is no cliff, nor does a large mean leak into others
        anomaly = np.where(valid, sphere - mean, 0.0)
        harmonics = healpy.map2alm(anomaly, lmax=self.max_degree, iter=3, pol=False)
        harmonics /= np.sqrt(valid.mean())
        harmonics[0] += np.sqrt(4 * np.pi) * mean
        return np.asarray(healpy.alm2cl(harmonics), np.float64)


def factor_of_constants(kernel: Callable[[Any], Any]) -> float:
    """What a kernel does to a field of one value."""
    return float(np.asarray(kernel(np.zeros(1))).ravel()[0])


def operator_of(grid: Grid, spec: tuple[tuple[str, Any], ...] | None) -> Operator:
    """The Laplacian of a grid or of its graph, with its response, once per process."""

    def make() -> Operator:
        if spec is None:
            assert isinstance(grid, LatLonGrid)
            matrix, lambda_max = latlon_laplacian(grid)
            return Operator(matrix, lambda_max, spectral_response(matrix, grid, lambda_max))
        graph = SphereGraph(grid, **dict(spec))
        # rows at a border are no sample of what the filter does
        whole = HealpixGrid(grid.level) if isinstance(grid, HealpixGrid) else grid
        sample = SphereGraph(whole, **dict(spec))
        response = spectral_response(sample.laplacian, whole, sample.lambda_max)
        return Operator(graph.laplacian, graph.lambda_max, response)

    operator: Operator = _operators.fetch(" ".join(map(str, _content(grid, spec))), make)
    return operator


def _content(grid: Grid, spec: tuple[tuple[str, Any], ...] | None) -> tuple[Any, ...]:
    """All that a Laplacian depends on."""
    if spec is None:
        return "latlon", LATLON_VERSION, grid.fingerprint
    return "graph", SphereGraph(grid, **dict(spec)).fingerprint
