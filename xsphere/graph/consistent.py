"""Laplacians whose rows are fitted to the sphere, in units of 1 / radian**2.

A row is a combination of differences between a cell and its neighbours. For a random field of
degree l, the expected squared error of such a row against c_l times the field is a quadratic form
of Legendre polynomials of the angles between the points, whatever the sampling. To minimise a
weighted sum over the degrees is one small system of equations a row: no frame, no pole, no basis.

A row is kept stable: weights of the wrong sign are at most a tenth of its diagonal, which keeps
the spectrum out of the left half-plane (Gershgorin allows it a fifth of a diagonal there; none was
found). Where neighbours lie on one side or too unevenly, those that pull the wrong way are left
out, and weights that are too large are damped; `Fitted` counts such rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.graph.links import HealpixLinks
from xsphere.graph.profiles import N_PIECES, kernel_pieces, profile_for
from xsphere.graph.stencils import distinct_count, stencil, whole_stencil
from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.threads import in_parts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
LEAST_NEIGHBOURS = 5
# Weights of a row may sum to this over the area of a cell, in absolute value: about 7 is natural.
LARGEST_SUM = 20.0
# What weights of the wrong sign may be, of the diagonal.
WRONG_PART = 0.1
# Cells of one grid are of one size where most areas differ by less than this factor,
ALIKE = 3.0
# when densities are means over so many neighbours;
AROUND = 64
# elsewhere they are of classes, eight an octave in length.
STEPS = 8
# Squared distance of which a table has one polynomial, in areas of a cell.
WIDEST_PIECE = 4.0


@dataclass(frozen=True)
class Fitted:
    """A Laplacian of the sphere in 1 / radian**2 and how it came about.

    Parameters
    ----------
    matrix : sparse array of float64, shape (n_cells, n_cells)
        (target, source), rows sum to 0.
    areas : array of float64, shape (n_cells,)
        Steradian, the size at which each row was fitted.
    n_changed : int
        Rows that could not use all their neighbours or had to be damped.
    """

    matrix: sparse.csr_array
    areas: Floats
    n_changed: int


def consistent_laplacian(grid: Grid, k: int, *, kernel_width: float | None = None) -> Fitted:
    """Laplacian with the weights of least squares; for HEALPix of the whole sphere, nested."""
    if isinstance(grid, HealpixGrid):
        return _of_healpix(grid, k, kernel_width)
    return _of_points(grid, k, kernel_width)


def cell_sizes(grid: Grid, ids: Integers) -> Floats:
    """Area that stands for each cell, given neighbours: one for all where sizes are alike."""
    own = _mean_areas(grid, ids)
    areas = own
    if not isinstance(grid, LatLonGrid):
        n_around = min(max(AROUND, ids.shape[1]), distinct_count(grid) - 1)
        areas = _mean_areas(grid, stencil(grid, n_around, np.arange(grid.n_cells)))
    low, high = np.quantile(areas, [0.01, 0.99])
    sizes = 4.0 ** (np.round(STEPS * np.log2(own) / 2) / STEPS)
    if high <= ALIKE * low:
        # a few cells far from all others are of a size of their own
        sizes[own <= ALIKE**2 * np.median(areas)] = np.median(areas)
    return np.asarray(sizes)


def _mean_areas(grid: Grid, ids: Integers) -> Floats:
    """Area of a cell among neighbours, if these fill a disc evenly."""
    n_cells, n = ids.shape
    squares = np.empty(n_cells)

    def fill(rows: slice) -> None:
        away = grid.centres[ids[rows]] - grid.centres[rows][:, None]
        squares[rows] = (away**2).sum(axis=-1).sum(axis=-1)

    in_parts(fill, n_cells)
    return np.asarray(2 * np.pi * squares / (n * (n + 1)))


def _of_healpix(grid: HealpixGrid, k: int, kernel_width: float | None) -> Fitted:
    area = 4 * np.pi / grid.n_cells
    # what rows are made from is freed before they are put together
    parts = _healpix_rows(grid, k, area, kernel_width)
    n_changed = sum(part.n_changed for part in parts)
    return Fitted(_assembled(parts), np.full(grid.n_cells, area), n_changed)


def _healpix_rows(
    grid: HealpixGrid, k: int, area: float, kernel_width: float | None
) -> list["_Rows"]:
    links = HealpixLinks(grid.level, k)
    fit = _Fit(grid, k, area, 4 * links.largest, kernel_width)

    def fitted(rows: slice) -> _Rows:
        counts, ids = links.of_rows(rows)
        return fit.rows(np.arange(rows.start, rows.stop), counts, ids)

    return in_parts(fitted, grid.n_cells)


def _of_points(grid: Grid, k: int, kernel_width: float | None) -> Fitted:
    """Rows of any grid, each fitted at the size of the cells around it."""
    cells = np.arange(grid.n_cells)
    ids = np.sort(whole_stencil(grid, k, cells), axis=1)
    areas = cell_sizes(grid, ids)
    reach = ((grid.centres[ids] - grid.centres[:, None]) ** 2).sum(axis=-1).max(axis=1)
    parts = []
    for area in np.unique(areas):
        chosen = cells[areas == area]
        fit = _Fit(grid, k, float(area), 4 * float(reach[chosen].max()), kernel_width)
        counts = np.full(chosen.size, ids.shape[1])
        parts.append(fit.rows(chosen, counts, ids[chosen].astype(np.int32).ravel()))
    n_changed = sum(part.n_changed for part in parts)
    matrix = _assembled([_in_order(parts)])
    # a block of rows and columns has the cell itself in it, and near a pole some cells twice
    matrix.sum_duplicates()
    return Fitted(matrix, areas, n_changed)


@dataclass(frozen=True)
class _Rows:
    """Rows without their diagonal, which is beside them."""

    cells: Integers
    counts: Integers
    ids: NDArray[np.int32]
    values: Floats
    diagonal: Floats
    n_changed: int = 0


class _Fit:
    """Rows of cells of one size."""

    def __init__(
        self, grid: Grid, k: int, area: float, largest: float, kernel_width: float | None
    ) -> None:
        weights, targets = profile_for(k).at_degrees(area, kernel_width)
        weights /= weights.max()
        scale = targets.max()
        # no chord is longer than a diameter
        largest = min(largest, 4.0)
        n_pieces = max(N_PIECES, int(np.ceil(largest / (WIDEST_PIECE * area))))
        gram = kernel_pieces(weights, largest, n_pieces)
        target = kernel_pieces(weights * targets / scale, largest, n_pieces) * scale
        self.centres, self.limits = grid.centres, (LARGEST_SUM / area, WRONG_PART)
        self.tables, self.scale = (gram, target), gram.shape[0] / largest

    def rows(self, cells: Integers, counts: Integers, ids: NDArray[np.int32]) -> _Rows:
        from xsphere.graph.fitted_rows import fit_rows

        links = cells, np.concatenate([[0], np.cumsum(counts)]), ids
        values, diagonal = np.empty(ids.size), np.empty(counts.size)
        n_changed = fit_rows(
            self.centres, links, self.tables, self.scale, self.limits, values, diagonal
        )
        return _Rows(cells, counts, ids, values, diagonal, n_changed)


def _in_order(parts: list[_Rows]) -> _Rows:
    """Rows of equal length, in the order of their cells."""
    cells = np.concatenate([part.cells for part in parts])
    order = np.argsort(cells)
    ids, values = (
        np.concatenate([getattr(part, name) for part in parts]).reshape(cells.size, -1)[order]
        for name in ("ids", "values")
    )
    counts, diagonal = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("counts", "diagonal")
    )
    return _Rows(cells[order], counts, ids.ravel(), values.ravel(), diagonal)


def _assembled(parts: list[_Rows]) -> sparse.csr_array:
    """Matrix of consecutive rows, each with its diagonal where it belongs."""
    from xsphere.graph.fitted_rows import with_diagonal

    counts = np.concatenate([part.counts for part in parts])
    n_cells, n_entries = counts.size, int(counts.sum()) + counts.size
    starts = np.zeros(n_cells + 1, np.int32 if n_entries < 2**31 else np.int64)
    np.cumsum(counts + 1, out=starts[1:])
    indices, data = np.empty(n_entries, np.int32), np.empty(n_entries)
    parts.reverse()
    while parts:
        # each part is freed when its rows are in the matrix
        part = parts.pop()
        rows = part.ids, part.values, part.diagonal
        with_diagonal(part.cells, part.counts, rows, starts, indices, data)
    return sparse.csr_array((data, indices, starts), shape=(n_cells, n_cells))
