"""Gradient, vorticity and divergence of fields on any grid, as sparse matrices.

All are on the unit sphere, per radian: divide by the radius for the Earth. Vectors are turned
into Cartesian ones before they are compared, so nothing happens at the poles or the date line.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.graph.stencils import distinct_count, stencil
from xsphere.grids import Grid, LatLonGrid, PointGrid, tangent_vectors
from xsphere.grids.reach import parts_between_gaps
from xsphere.grids.voronoi import distinct_places

Pair = tuple[sparse.csr_array, sparse.csr_array]
Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
ROWS_AT_ONCE = 1 << 15
LARGEST_WEIGHT = 4.0


def gradient_matrices(grid: Grid, k: int = 8) -> Pair:
    """Derivatives towards the east and the north, per radian, as matrices that apply to a field.

    A quadratic through the value of each cell is fitted to its neighbours by least squares, with
    Gaussian weights of one half at half the root mean square distance of the neighbours, in the
    orthographic projection around the cell. The error falls with the square of the cell size.

    The neighbours are the k nearest; where they lie too unevenly, up to 4 k. On a
    longitude-latitude grid they are the block of 3 x 3 (5 x 5, ...) cells that has at least k
    others, its columns spread near the poles and continued across them. At the edge of a region
    or a gap they lie on one side, never beyond it.

    Parameters
    ----------
    grid : Grid
        Any grid. East at a pole is east of the longitude that the grid gives for the cell.
    k : int
        Number of neighbours, at least 5.

    Returns
    -------
    east, north : sparse arrays of float64, shape (n_cells, n_cells)
        (target, source); rows sum to 0. The row of a cell between gaps that leave it too few
        neighbours is NaN.

    Raises
    ------
    ValueError
        If `k` is below 5, the grid has too few cells, or the neighbours of a cell lie on a line.

    Examples
    --------
    The sine of latitude grows by its cosine per radian:

    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=4)
    >>> _, lat = grid.centre_lonlat
    >>> east, north = gradient_matrices(grid)
    >>> error = north @ np.sin(np.deg2rad(lat)) - np.cos(np.deg2rad(lat))
    >>> bool(abs(error).max() < 1e-3)
    True
    """
    slopes = _slopes(grid, k)
    return slopes.matrix(slopes.east), slopes.matrix(slopes.north)


def vorticity_matrices(grid: Grid, k: int = 8) -> Pair:
    """Matrices A and B with which the relative vorticity of a wind (u, v) is ``A u + B v``.

    The derivatives are those of `gradient_matrices`, of the components of the neighbours' winds in
    the cell's own directions. Solid-body rotation about any axis w has vorticity
    ``2 w . centre``.

    Parameters
    ----------
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, at least 5.

    Returns
    -------
    of_u, of_v : sparse arrays of float64, shape (n_cells, n_cells)
        (target, source), for the unit sphere: divide by the Earth's radius in metres for winds
        in m/s. NaN in a wind makes the vorticity of the cells around it NaN.

    Raises
    ------
    ValueError
        As `gradient_matrices`.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=4)
    >>> lat_rad = np.deg2rad(grid.centre_lonlat[1])
    >>> of_u, _ = vorticity_matrices(grid)
    >>> error = of_u @ np.cos(lat_rad) - 2 * np.sin(lat_rad)
    >>> bool(abs(error).max() < 2e-3)
    True
    """
    slopes = _slopes(grid, k)
    return _vector_matrices(grid, slopes, of_east=-slopes.north, of_north=slopes.east)


def divergence_matrices(grid: Grid, k: int = 8) -> Pair:
    """Matrices A and B with which the divergence of a wind (u, v) is ``A u + B v``.

    Parameters
    ----------
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, at least 5.

    Returns
    -------
    of_u, of_v : sparse arrays of float64, shape (n_cells, n_cells)
        (target, source), for the unit sphere; see `vorticity_matrices`.

    Raises
    ------
    ValueError
        As `gradient_matrices`.

    Examples
    --------
    Solid-body rotation does not diverge:

    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=4)
    >>> of_u, _ = divergence_matrices(grid)
    >>> divergence = of_u @ np.cos(np.deg2rad(grid.centre_lonlat[1]))
    >>> bool(abs(divergence).max() < 2e-3)
    True
    """
    slopes = _slopes(grid, k)
    return _vector_matrices(grid, slopes, of_east=slopes.east, of_north=slopes.north)


@dataclass(frozen=True)
class _Slopes:
    """Weights of the eastward and northward derivative, an entry for each pair of cells."""

    n_cells: int
    target: NDArray[np.int64]
    source: NDArray[np.int64]
    east: NDArray[np.float64]
    north: NDArray[np.float64]

    def matrix(self, weights: NDArray[np.float64]) -> sparse.csr_array:
        matrix = sparse.csr_array(
            (weights, (self.target, self.source)), shape=(self.n_cells, self.n_cells)
        )
        matrix.sort_indices()
        return matrix


def _slopes(grid: Grid, k: int) -> _Slopes:
    """Fitted derivatives, from more neighbours where k of them lie too unevenly around a cell."""
    if k < 5:
        raise ValueError(f"k must be at least 5 neighbours to fit a quadratic, got {k}")
    cells = np.arange(grid.n_cells)
    most = k if isinstance(grid, LatLonGrid) else max(k, min(4 * k, distinct_count(grid) - 1))
    part = _parts(grid)
    parts = []
    while cells.size:
        ids = stencil(grid, k, cells)
        lacking = _over_gaps(part, cells, ids)
        parts.append(_missing_entries(cells[lacking]))
        cells, ids = cells[~lacking], ids[~lacking]
        weights, size = _weights_around(grid, cells, ids)
        finite = np.isfinite(weights).all(axis=(1, 2))
        if k == most and not finite.all():
            raise ValueError(
                f"the neighbours of {int((~finite).sum())} cells of {grid!r} lie nearly on a "
                "line, so that a gradient is not determined; choose a larger k"
            )
        norm = np.sqrt((weights**2).sum(axis=1)).max(axis=1) * size
        done = (norm < LARGEST_WEIGHT) | (k == most)
        parts.append(_entries(cells[done], ids[done], weights[done]))
        cells, k = cells[~done], min(2 * k, most)
    return _Slopes(grid.n_cells, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _parts(grid: Grid) -> NDArray[np.int64] | None:
    """Which of the parts between gaps every point is in; None where there are none."""
    if not isinstance(grid, PointGrid) or not grid.has_gaps:
        return None
    first, place = distinct_places(grid.centres)
    return parts_between_gaps(grid.centres[first])[place]


def _over_gaps(
    part: NDArray[np.int64] | None, cells: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which cells have no stencil, or one that reaches over a gap."""
    if part is None:
        return np.asarray(ids[:, 0] < 0)
    return np.asarray((part[ids] != part[cells][:, None]).any(axis=1))


def _missing_entries(cells: NDArray[np.int64]) -> Entries:
    """Rows of cells that have no derivative."""
    nothing = np.full(cells.size, np.nan)
    return cells, cells, nothing, nothing


def _weights_around(
    grid: Grid, cells: NDArray[np.int64], ids: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (cells, k, 2) of the differences from each cell in its slopes; stencil sizes."""
    east, north = tangent_vectors(*grid.on_sphere.centre_lonlat)
    weights, size = np.empty((*ids.shape, 2)), np.empty(cells.size)
    for start in range(0, cells.size, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        here = cells[rows]
        away = grid.centres[ids[rows]] - grid.centres[here][:, None]
        x = np.einsum("ijc,ic->ij", away, east[here])
        y = np.einsum("ijc,ic->ij", away, north[here])
        weights[rows], size[rows] = _fitted_slopes(x, y)
    return weights, size


def _fitted_slopes(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (cells, k, 2) in the slopes of a fitted quadratic, NaN where it has none; sizes."""
    squares = x**2 + y**2
    size = np.sqrt(squares.mean(axis=1, keepdims=True))
    x, y = x / size, y / size
    # one half at half the stencil's size: wider weights blur what a few cells resolve
    root = np.exp(-np.log(2) / 2 * squares / (size / 2) ** 2)
    terms = np.stack([x, y, x**2, x * y, y**2], axis=-1) * root[..., None]
    inverse = np.linalg.pinv(terms, rcond=1e-6)
    # slopes are determined where the fit gives back a slope alone, whatever else is not
    wrong = np.abs(inverse[:, :2] @ terms - np.eye(5)[:2]).max(axis=(1, 2)) > 1e-6
    slopes = np.moveaxis(inverse[:, :2], 1, 2) * (root / size)[..., None]
    slopes[wrong] = np.nan
    return slopes, size[:, 0]


def _entries(
    cells: NDArray[np.int64], ids: NDArray[np.int64], weights: NDArray[np.float64]
) -> Entries:
    """Targets, sources and both weights, the cells themselves included: rows sum to 0."""
    ids = np.concatenate([ids, cells[:, None]], axis=1)
    weights = np.concatenate([weights, -weights.sum(axis=1, keepdims=True)], axis=1)
    target = np.repeat(cells, ids.shape[1])
    return target, ids.ravel(), weights[..., 0].ravel(), weights[..., 1].ravel()


def _vector_matrices(
    grid: Grid,
    slopes: _Slopes,
    *,
    of_east: NDArray[np.float64],
    of_north: NDArray[np.float64],
) -> Pair:
    """Matrices of u and v for weights of the winds' components in each cell's own directions."""
    east, north = tangent_vectors(*grid.on_sphere.centre_lonlat)
    of_u, of_v = np.empty(of_east.size), np.empty(of_east.size)
    for start in range(0, of_u.size, 8 * ROWS_AT_ONCE):
        part = slice(start, start + 8 * ROWS_AT_ONCE)
        target, source = slopes.target[part], slopes.source[part]
        direction = of_east[part, None] * east[target] + of_north[part, None] * north[target]
        of_u[part] = (direction * east[source]).sum(axis=-1)
        of_v[part] = (direction * north[source]).sum(axis=-1)
    return slopes.matrix(of_u), slopes.matrix(of_v)
