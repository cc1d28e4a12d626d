"""Derivatives by direction, without units: what an anisotropic convolution mixes.

A Laplacian treats all directions alike, so a polynomial of it cannot tell a front that tilts to the
left from one that tilts to the right. These matrices can: they are the derivatives of a quadratic
that is fitted around each cell, in the cell's own directions east and north. They commute with
turns about the Earth's axis, as far as the grid does, and with no other rotation.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.cache import SharedEntries, cached, content_key
from xsphere.compressed import compressed_rows
from xsphere.graph.consistent import LEAST_NEIGHBOURS, cell_sizes
from xsphere.graph.links import HealpixLinks
from xsphere.graph.neighbours import check_neighbour_count
from xsphere.graph.stencils import whole_stencil
from xsphere.graph.ties import ROUNDING
from xsphere.grids import Grid, HealpixGrid, tangent_vectors
from xsphere.threads import in_parts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Part of every key: raise it when the matrices of the same grid come out otherwise.
VERSION = 1
N_MATRICES = 5
ROWS_AT_ONCE = 1 << 13
# A neighbour weighs one half at this part of the root mean square distance of all: the width at
# which the matrices come nearest to commuting with turns about the axis, of 8 and of 20 neighbours.
HALF_WIDTH = 0.5
# Mean squares of a slope or a curvature around a cell, relative to its neighbours' distance, below
# which these do not determine it: a regular ring has 0.5 and 0.03, a one-sided block 0.1 and 0.001.
LEAST_SLOPE = 2.5e-3
LEAST_CURVATURE = 5e-4

_shared = SharedEntries(8)


def directional_matrices(grid: Grid, k: int = 8) -> list[sparse.csr_array]:
    """Derivatives in the directions east and north of each cell, in units of the cell spacing.

    With h the spacing of the cells in radians, the five matrices are ``h d/de``, ``h d/dn``,
    ``h**2 (d2/de2 - d2/dn2)``, ``h**2 2 d2/de dn`` and ``h**2 (d2/de2 + d2/dn2)``, so that with the
    identity they span all functions of a local quadratic. Weights that mix them have one scale at
    every level. The first two turn as a vector with the directions, the next two by twice the
    angle, the Laplacian not at all.

    A quadratic through the value of each cell is fitted to its neighbours, in the orthographic
    projection around the cell: it differs from the lengths of great circles by the cube of the
    distance only, so that second derivatives are those along great circles. Fields that are
    quadratic there are exact, if the neighbours determine them. For smooth fields the error of a
    derivative, without h, falls with h**2 for slopes, and for curvatures with h at least (with
    h**2 where neighbours lie opposite each other, as on most of HEALPix). What the neighbours do
    not determine counts as zero, curvatures before slopes: at the border of a region slopes are
    exact for linear fields; from stations on a line the derivative across it is zero; a cell
    without neighbours has none. Nothing is divided by what is nearly zero.

    Fields are scalars. The components u and v of a vector are not: they turn with the
    directions, quickly near the poles. The vorticity of a wind is
    ``dv/de - du/dn + u tan(lat)`` on the unit sphere, its divergence
    ``du/de + dv/dn - v tan(lat)``; see `xsphere.graph.vorticity_matrices` for matrices that hold at
    the poles too.

    Parameters
    ----------
    grid : Grid
        Any grid, whole or a part. On HEALPix the neighbours are those of
        `SphereGraph` with weights ``"consistent"``: the k nearest with all that tie, both
        ways, and from k = 8 those that touch. A part of the sphere keeps those that are in it: rows
        with all their neighbours are those of the whole. On a longitude-latitude grid they are the
        block of 3 x 3 (5 x 5, ...) cells that has at least k others, continued across the poles;
        elsewhere the k nearest different places. East at a pole is east of the longitude that the
        grid gives for the cell.
    k : int
        Number of neighbours, at least 5. Fewer than 20 on scattered points leave some curvatures
        undetermined.

    Returns
    -------
    list of five sparse arrays of float64, shape (n_cells, n_cells)
        (target, source), all with the same places of entries, the diagonal among them, columns
        ascending. Rows sum to 0. Read from the cache or built and stored; the arrays are read-only
        and shared.

    Raises
    ------
    TypeError
        If `grid` is not a grid or `k` not an integer.
    ValueError
        If `k` is below 5, or the grid has too few cells.

    Examples
    --------
    A field that grows towards the north-east (here by 1 per radian both ways) near the equator:

    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=5)
    >>> lon, lat = np.deg2rad(grid.centre_lonlat)
    >>> east, north, *_ = directional_matrices(grid)
    >>> cell = grid.cells_at(10.0, 0.0)
    >>> spacing = np.sqrt(4 * np.pi / grid.n_cells)
    >>> float(((east @ (lon + lat))[cell] / spacing).round(3))
    1.0
    >>> float(((north @ (lon + lat))[cell] / spacing).round(3))
    1.0

    The third and the fourth tell the tilt of a front:

    >>> tilted, mirrored = np.sin(9 * (lon + lat)), np.sin(9 * (lon - lat))
    >>> cell = grid.cells_at(10.0, 0.0)
    >>> twice = directional_matrices(grid)[3]
    >>> bool((twice @ tilted)[cell] < 0 < (twice @ mirrored)[cell])
    True
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, such as HealpixGrid(6), got {grid!r}")
    check_neighbour_count(HealpixGrid(grid.level) if isinstance(grid, HealpixGrid) else grid, k)
    if k < LEAST_NEIGHBOURS:
        raise ValueError(
            f"k must be at least {LEAST_NEIGHBOURS} neighbours to fit a quadratic, got {k}"
        )
    key = content_key("directions", VERSION, grid.fingerprint, int(k))

    def load() -> list[sparse.csr_array]:
        about = f"directions of {grid}, k={k}"
        return cached("directions", key, lambda: _built(grid, int(k)), read, about=about)

    def read(arrays: dict[str, NDArray[Any]]) -> list[sparse.csr_array]:
        shape = (grid.n_cells, grid.n_cells)
        return [compressed_rows(arrays, shape, number=number) for number in range(N_MATRICES)]

    matrices: list[sparse.csr_array] = _shared.fetch(key, load)
    return list(matrices)


def _built(grid: Grid, k: int) -> dict[str, NDArray[Any]]:
    ids = _around(grid, k)
    east, north = tangent_vectors(*grid.on_sphere.centre_lonlat)
    spacing = _spacing(grid, ids)

    def rows_of(rows: slice) -> tuple[Integers, NDArray[np.int32], Floats]:
        away = grid.centres[ids[rows]] - grid.centres[rows][:, None]
        x = np.einsum("ijc,ic->ij", away, east[rows])
        y = np.einsum("ijc,ic->ij", away, north[rows])
        weights = _fitted(x, y, spacing[rows])
        return _entries(np.arange(rows.start, rows.stop), ids[rows], weights)

    parts = in_parts(rows_of, grid.n_cells, ROWS_AT_ONCE)
    counts, indices, data = zip(*parts, strict=True)
    n_entries = sum(part.size for part in indices)
    indptr = np.zeros(grid.n_cells + 1, np.int32 if n_entries < 2**31 else np.int64)
    np.cumsum(np.concatenate(counts), out=indptr[1:])
    return {
        "indptr": indptr,
        "indices": np.concatenate(indices),
        "data": np.concatenate(data, axis=1),
    }


def _around(grid: Grid, k: int) -> Integers:
    """Positions of the neighbours, (n_cells, most), rows filled up with the cell itself."""
    if not isinstance(grid, HealpixGrid):
        return whole_stencil(grid, k, np.arange(grid.n_cells))
    order = np.argsort(grid.nested_ids, kind="stable")
    counts, nested = _healpix_links(grid, k, grid.nested_ids[order])
    ids = np.repeat(order[:, None], counts.max(initial=0), axis=1)
    found = np.arange(ids.shape[1]) < counts[:, None]
    others = grid.positions_of(nested)
    ids[found] = np.where(others < 0, np.repeat(order, counts), others)
    return ids[np.argsort(order)]


def _healpix_links(grid: HealpixGrid, k: int, wanted: Integers) -> tuple[Integers, Integers]:
    """Links of some ascending nested ids in the graph of the whole sphere: numbers, nested ids."""
    links = HealpixLinks(grid.level, k)

    def of_rows(rows: slice) -> tuple[Integers, NDArray[np.int32]]:
        here = wanted[slice(*np.searchsorted(wanted, [rows.start, rows.stop]))]
        if here.size == 0:
            return here, np.empty(0, np.int32)
        first = int(here[0])
        counts, ids = links.of_rows(slice(first, int(here[-1]) + 1))
        chosen = np.zeros(counts.size, bool)
        chosen[here - first] = True
        return counts[chosen], ids[np.repeat(chosen, counts)]

    counts, ids = zip(*in_parts(of_rows, 12 * 4**grid.level), strict=True)
    return np.concatenate(counts), np.concatenate(ids).astype(np.int64)


def _spacing(grid: Grid, ids: Integers) -> Floats:
    """Side of a square as large as each cell, in radians; one for all where sizes are alike."""
    if isinstance(grid, HealpixGrid):
        return np.sqrt(grid.areas)
    return np.sqrt(cell_sizes(grid, ids))


def _fitted(x: Floats, y: Floats, spacing: Floats) -> Floats:
    """Weights (cells, k, 5) of the differences from each cell in its derivatives."""
    squares = x**2 + y**2
    apart = squares > ROUNDING**2
    size = np.sqrt(squares.sum(axis=1) / apart.sum(axis=1).clip(min=1))
    size[size == 0] = 1.0
    x, y = x / size[:, None], y / size[:, None]
    nearness = np.where(apart, np.exp2(-(x**2 + y**2) / HALF_WIDTH**2), 0.0)
    nearness /= nearness.sum(axis=1, keepdims=True).clip(min=ROUNDING)
    slopes = np.stack([x, y], axis=-1)
    # orthogonal turns of the directions turn these orthogonally, so none of them is preferred
    curvatures = np.stack([x**2 - y**2, 2 * x * y, x**2 + y**2], axis=-1) / 4
    both = _least_squares(slopes, curvatures, nearness[..., None])
    step = (spacing / size)[:, None, None]
    return np.concatenate([both[0] * step, both[1] * step**2], axis=-1)


def _least_squares(slopes: Floats, curvatures: Floats, nearness: Floats) -> tuple[Floats, Floats]:
    """Weights in the coefficients of both sets of terms, the first exact whatever the second."""
    turned = np.swapaxes(slopes * nearness, 1, 2)
    inverse = _bounded_inverse(turned @ slopes, LEAST_SLOPE)
    mixed = turned @ curvatures
    # what is left of curvatures beside slopes: a linear field has none, determined or not
    left = curvatures - slopes @ (inverse @ mixed)
    weighted = left * nearness
    of_curvatures = weighted @ _bounded_inverse(np.swapaxes(weighted, 1, 2) @ left, LEAST_CURVATURE)
    of_slopes = (slopes * nearness - of_curvatures @ np.swapaxes(mixed, 1, 2)) @ inverse
    return of_slopes, of_curvatures


def _bounded_inverse(matrices: Floats, least: float) -> Floats:
    """Inverses of symmetric matrices with no eigenvalue taken to be below `least`."""
    eigenvalues, vectors = np.linalg.eigh(matrices)
    return np.asarray(
        (vectors / eigenvalues.clip(min=least)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    )


def _entries(
    cells: Integers, ids: Integers, weights: Floats
) -> tuple[Integers, NDArray[np.int32], Floats]:
    """Numbers of entries a row, columns, and values (5, n_entries); each column once a row."""
    ids = np.concatenate([ids, cells[:, None]], axis=1)
    weights = np.concatenate([weights, -weights.sum(axis=1, keepdims=True)], axis=1)
    order = np.argsort(ids, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    weights = np.take_along_axis(weights, order[..., None], axis=1)
    first = np.concatenate([np.ones((cells.size, 1), bool), np.diff(ids, axis=1) > 0], axis=1)
    starts = np.flatnonzero(first)
    values = np.add.reduceat(weights.reshape(-1, N_MATRICES), starts, axis=0)
    return first.sum(axis=1), ids.ravel()[starts].astype(np.int32), np.ascontiguousarray(values.T)
