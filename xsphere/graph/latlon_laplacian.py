"""Laplacian of a longitude-latitude grid, whose nearest neighbours near a pole are all in one row.

A graph of nearest neighbours cuts such rows off from each other. Here fluxes go through the edges
of cells instead, and along a row they reach over as many columns as rows are apart, so that the
crowding of columns at the poles does not blow the spectrum up.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import Grid, LatLonGrid

# Part of the keys of results: raise it when the matrix of the same grid comes out otherwise.
VERSION = 2
# Parts of a step by which columns may differ and still be even.
EVEN = 0.01


def latlon_laplacian(grid: LatLonGrid) -> tuple[sparse.csr_array, float]:
    """Laplacian of a longitude-latitude grid by fluxes, and the bound of its spectrum.

    Between rows: finite volumes, the flux through the edge that two cells share. Along rows: the
    mean of the second differences over all columns up to the distance of the rows, scaled to be
    exact for waves of the length of the circle. Second order in the cell size; there is no flux
    through a pole, nor through the edge of a region or of a gap.

    Parameters
    ----------
    grid : LatLonGrid
        With even columns and two rows or more, whole or regional, with or without rows at the
        poles. A column that repeats the first gets what the first gets.

    Returns
    -------
    laplacian : sparse array of float64, shape (n_cells, n_cells)
        (target, source), per square radian, with eigenvalues near l (l + 1), all real and not
        negative. Rows sum to 0, and so do columns weighted by the cells' areas: the area mean of
        a filtered field is kept.
    lambda_max : float
        No eigenvalue is larger (Gershgorin).

    Raises
    ------
    ValueError
        If the grid is not such a grid, see `has_latlon_laplacian`.

    Examples
    --------
    >>> grid = LatLonGrid(np.arange(36) * 10.0, np.arange(-85.0, 90.0, 10.0))
    >>> laplacian, lambda_max = latlon_laplacian(grid)
    >>> z = np.repeat(np.sin(np.deg2rad(grid.lat)), 36)
    >>> bool(abs(laplacian @ z - 2 * z).max() < 0.03)
    True
    """
    if not has_latlon_laplacian(grid):
        raise ValueError(
            "the Laplacian by fluxes needs two rows and three columns or more, the columns evenly "
            f"spaced, got {grid!r}; use a SphereGraph"
        )
    n_lon = _n_columns(grid)
    along = sparse.block_diag([_along(grid, row, n_lon) for row in range(grid.lat.size)])
    across = sparse.kron(_across(grid), sparse.eye_array(n_lon))
    matrix = sparse.csr_array(along + across)
    if grid.has_cyclic_column:
        columns = np.append(np.arange(n_lon), 0)
        first = (np.arange(grid.lat.size)[:, None] * n_lon + columns).ravel()
        place = (np.arange(grid.lat.size)[:, None] * grid.lon.size + columns[:-1]).ravel()
        matrix = matrix[first].tocoo()
        matrix = sparse.csr_array(
            (matrix.data, (matrix.row, place[matrix.col])), shape=(grid.n_cells, grid.n_cells)
        )
    matrix.sort_indices()
    return matrix, 2.0 * float(matrix.diagonal().max())


def has_latlon_laplacian(grid: Grid) -> bool:
    """Whether a grid is one of longitude and latitude, with several rows and even columns.

    Parameters
    ----------
    grid : Grid
        Any grid.

    Returns
    -------
    bool
        False for grids that need a graph.

    Examples
    --------
    >>> has_latlon_laplacian(LatLonGrid([0.0, 90.0, 180.0, 270.0], [-45.0, 45.0]))
    True
    """
    if not isinstance(grid, LatLonGrid) or grid.lat.size < 2 or grid.lon.size < 3:
        return False
    steps = _column_steps(grid)
    if not steps.size:
        return False
    width = 360.0 / _n_columns(grid) if grid.periodic else float(steps.mean())
    return bool((np.abs(steps - width) <= EVEN * width).all())


def _column_steps(grid: LatLonGrid) -> NDArray[np.float64]:
    """Degrees from each column to the next that touches it, over the seam too."""
    once = grid.lon[: _n_columns(grid)]
    steps = (np.roll(once, -1) - once) % 360.0
    return np.asarray(np.minimum(steps, 360.0 - steps)[grid.joined_columns])


def _n_columns(grid: LatLonGrid) -> int:
    """Number of columns without one that repeats the first."""
    return int(grid.lon.size - grid.has_cyclic_column)


def _across(grid: LatLonGrid) -> sparse.csr_array:
    """Fluxes between rows, by the area of the cells that they leave, shape (n_lat, n_lat)."""
    lat, bounds = np.deg2rad(grid.lat), np.deg2rad(_row_bounds(grid))
    # area of a cell by the radian of longitude
    areas = np.abs(np.diff(np.sin(bounds), axis=1))[:, 0]
    edges = np.deg2rad(_edges_between(grid))
    flux = np.cos(edges) / np.abs(np.diff(lat)) * grid.joined_rows
    rows = np.arange(lat.size - 1)
    weights = sparse.coo_array((flux, (rows, rows + 1)), shape=(lat.size, lat.size)).tocsr()
    weights = weights + weights.T
    sums: NDArray[np.float64] = np.asarray(weights.sum(axis=1)).ravel()
    fluxes = sparse.csr_array(sparse.diags_array(sums) - weights)
    return sparse.csr_array(sparse.diags_array(1.0 / areas) @ fluxes)


def _row_bounds(grid: LatLonGrid) -> NDArray[np.float64]:
    """Edges of the rows in degrees, shape (n_lat, 2)."""
    assert grid.lat_bounds is not None
    return grid.lat_bounds


def _edges_between(grid: LatLonGrid) -> NDArray[np.float64]:
    """Latitude of the edge between each row and the next, in degrees."""
    bounds = _row_bounds(grid)
    upward = grid.lat[:-1] < grid.lat[1:]
    first, second = bounds[:-1], bounds[1:]
    ends = np.where(upward, first.max(axis=1), first.min(axis=1))
    starts = np.where(upward, second.min(axis=1), second.max(axis=1))
    return np.asarray((ends + starts) / 2)


def _along(grid: LatLonGrid, row: int, n_lon: int) -> sparse.csr_array:
    """Second differences along a row, over all columns as near as the rows, (n_lon, n_lon)."""
    bounds = np.deg2rad(_row_bounds(grid)[row])
    height = abs(bounds[1] - bounds[0])
    # mean cosine of the cell, which does not vanish at a pole
    cosine = abs(np.sin(bounds[1]) - np.sin(bounds[0])) / height
    if not grid.periodic:
        return _along_arcs(grid, height, cosine)
    step = 2 * np.pi / n_lon
    reach = int(np.clip(round(height / (step * cosine)), 1, (n_lon - 1) // 2))
    offsets = np.arange(1, reach + 1)
    # 1 - cos, instead of half the square, is exact for one wave around the circle
    weight = 1.0 / (2.0 * (1.0 - np.cos(offsets * step)).sum() * cosine**2)
    columns = np.arange(n_lon)
    sources = (columns[:, None] + np.concatenate([offsets, -offsets])) % n_lon
    targets = np.repeat(columns, 2 * reach)
    shape = (n_lon, n_lon)
    values = np.full(targets.size, -weight)
    beside = sparse.coo_array((values, (targets, sources.ravel())), shape=shape)
    return sparse.csr_array(beside + 2 * reach * weight * sparse.eye_array(n_lon))


def _along_arcs(grid: LatLonGrid, height: float, cosine: float) -> sparse.csr_array:
    """As on a circle, where columns end: what would come from beyond the ends is left out."""
    n_lon = grid.joined_columns.size
    # places along the arcs in whole columns, those of other arcs out of reach
    turn = int(np.argmin(grid.joined_columns)) + 1
    order = np.roll(np.arange(n_lon), -turn)
    place = np.cumsum(np.where(grid.joined_columns[order - 1], 1, 2 * n_lon))[np.argsort(order)]
    step = np.deg2rad(float(_column_steps(grid).mean()))
    reach = int(np.clip(round(height / (step * cosine)), 1, max(1, n_lon - 1)))
    offsets = np.arange(1, reach + 1)
    weight = 1.0 / (2.0 * (1.0 - np.cos(offsets * step)).sum() * cosine**2)
    apart = np.abs(place[:, None] - place)
    weights = sparse.csr_array(weight * ((apart > 0) & (apart <= reach)))
    sums = np.asarray(weights.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(sums) - weights)
