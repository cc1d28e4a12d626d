"""Which cells touch: the graph on which regions are connected, without seams."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.grids.voronoi import distinct_places

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def adjacency(grid: Grid) -> sparse.csr_array:
    """Cells that share an edge or a corner, as a symmetric matrix of booleans.

    HEALPix cells have 8 such neighbours, 7 for 24 of them (at level 0 all have 6). A
    longitude-latitude cell has the 8 around it, over the seam too, but not over a gap between rows
    or columns; the cells that meet at a pole all touch each other; a repeated cyclic column touches
    what the first column touches, and that column itself. Points touch where their Voronoi cells
    share an edge, unless it is an edge across an empty half of the sphere or a gap between points
    (see `xsphere.grids.reach.spread_of`); points at one place touch each other and what any of them
    touches.

    Parameters
    ----------
    grid : Grid
        Any grid, whole or a part.

    Returns
    -------
    sparse array of bool, shape (n_cells, n_cells)
        True where two different cells touch; the diagonal is empty.

    Raises
    ------
    ValueError
        If points have fewer than 4 distinct places, or all lie on one circle.

    Examples
    --------
    >>> adjacency(HealpixGrid(level=0)).sum(axis=1)
    array([6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6])
    """
    match grid:
        case HealpixGrid():
            pairs = _healpix_pairs(grid)
        case LatLonGrid():
            pairs = _latlon_pairs(grid)
        case PointGrid():
            pairs = _voronoi_pairs(grid)
        case _:
            raise TypeError(f"expected a grid of xsphere.grids, got {type(grid).__name__}")
    return _symmetric(pairs, grid.n_cells)


def _symmetric(pairs: Pairs, n_cells: int) -> sparse.csr_array:
    one, other = pairs
    different = one != other
    rows = np.concatenate([one[different], other[different]])
    columns = np.concatenate([other[different], one[different]])
    matrix = sparse.csr_array((np.ones(rows.size, bool), (rows, columns)), shape=(n_cells, n_cells))
    matrix.sort_indices()
    return matrix


def _healpix_pairs(grid: HealpixGrid) -> Pairs:
    import healpy

    around = healpy.get_all_neighbours(grid.nside, grid.nested_ids, nest=True)
    found = np.where(around < 0, -1, grid.positions_of(around))
    cells = np.broadcast_to(np.arange(grid.n_cells), found.shape)
    return cells[found >= 0], found[found >= 0]


def _latlon_pairs(grid: LatLonGrid) -> Pairs:
    n_lat, n_lon = grid.lat.size, grid.lon.size - grid.has_cyclic_column
    cells = np.arange(n_lat * n_lon).reshape(n_lat, n_lon)
    # columns that touch the next one, rows that touch the next one
    west, rows = np.flatnonzero(grid.joined_columns), np.flatnonzero(grid.joined_rows)
    east = (west + 1) % n_lon
    upper, lower = cells[rows], cells[rows + 1]
    links = [
        (cells[:, west], cells[:, east]),
        (upper, lower),
        (upper[:, west], lower[:, east]),
        (upper[:, east], lower[:, west]),
        *_pole_links(grid, cells),
    ]
    one, other = (np.concatenate([np.ravel(link[end]) for link in links]) for end in (0, 1))
    if not grid.has_cyclic_column:
        return one, other
    return _with_copies((one, other), np.pad(cells, ((0, 0), (0, 1)), mode="wrap").ravel())


def _pole_links(grid: LatLonGrid, cells: NDArray[np.int64]) -> list[Pairs]:
    """All pairs of the cells that meet at a pole; the poles themselves stay apart."""
    assert grid.lat_bounds is not None
    links: list[Pairs] = []
    for reaches, pole in zip(grid.includes_poles, (-90.0, 90.0), strict=True):
        if reaches:
            (row,) = np.flatnonzero((grid.lat_bounds == pole).any(axis=-1))[:1]
            one, other = np.triu_indices(cells.shape[1], k=1)
            links.append((cells[row][one], cells[row][other]))
    return links


def _voronoi_pairs(grid: PointGrid) -> Pairs:
    first, place = distinct_places(grid.centres)
    if first.size < 4:
        raise ValueError(
            f"touching cells of points need at least 4 distinct places, got {first.size} in "
            f"{grid!r}"
        )
    pairs = grid.neighbour_places
    if pairs is None:
        raise ValueError(
            f"all points of {grid!r} lie on one circle, so that it is not determined which "
            "touch; add a point off it"
        )
    return _with_copies((pairs[:, 0], pairs[:, 1]), place)


def _with_copies(pairs: Pairs, place: NDArray[np.int64]) -> Pairs:
    """Pairs of cells for pairs of places, where several cells may stand at one place."""
    n_cells, n_places = place.size, int(place.max()) + 1
    at = sparse.csr_array(
        (np.ones(n_cells, np.int64), (np.arange(n_cells), place)), shape=(n_cells, n_places)
    )
    links = sparse.csr_array((np.ones(pairs[0].size, np.int64), pairs), shape=(n_places, n_places))
    links = links + sparse.eye_array(n_places, dtype=np.int64, format="csr")
    touching = (at @ links @ at.T).tocoo()
    return touching.row.astype(np.int64), touching.col.astype(np.int64)
