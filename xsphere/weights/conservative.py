"""First-order conservative weights, exact: shares of area, so integrals are kept.

Boxes against HEALPix cells by planar clipping in the equal-area projection, boxes against boxes as
a product of two axes, HEALPix against HEALPix by nesting, polygons of unstructured grids against
either by `xsphere.weights.polygons`, and against each other by `xsphere.weights.polygon_pairs`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.weights.assembly import canonical, present_entries
from xsphere.weights.polygon_pairs import polygon_areas_in_polygons
from xsphere.weights.polygons import polygon_areas_in_boxes, polygon_areas_in_cells
from xsphere.weights.projection import belt_height, cap_distance
from xsphere.weights.spheres import on_one_sphere

Floats = NDArray[np.float64]

# Level at which the boxes that a part of the sphere can touch are found first.
COARSE_LEVEL = 5


def conservative_weights(source: Grid, target: Grid) -> sparse.csr_array:
    """Part of every target cell that every source cell covers.

    A field of means regridded with these weights is again a field of means, and its integral is
    kept. Edges of latitude-longitude cells are parallels and meridians, those of HEALPix cells
    their true ones; no polygon of great circles stands for either [1]_. Cells of a `PointGrid` are
    polygons of great circles, convex or not; their areas agree to 1e-6 with those that the weights
    imply.

    Parameters
    ----------
    source, target : HealpixGrid, LatLonGrid or PointGrid
        Cells from and to which means go; a PointGrid with bounds.

    Returns
    -------
    sparse array of float64, shape (n_target, n_source)
        Overlap divided by the area of the target cell. Rows sum to the part of the cell that the
        source covers: 1 to rounding for a global source, and where the polygons of a PointGrid
        tile the sphere. A repeated cyclic column has no area: as a source its weights are zero,
        as a target it gets the weights of the column it repeats.

    Raises
    ------
    ValueError
        If a `PointGrid` has no bounds, edges of one of its cells cross where the other grid is a
        `PointGrid` too, or there are no such weights between such grids.

    References
    ----------
    .. [1] Calabretta and Roukema (2007), https://doi.org/10.1111/j.1365-2966.2007.12297.x

    Examples
    --------
    The twelve base cells touch the northern and the southern hemisphere:

    >>> from xsphere.grids import HealpixGrid, LatLonGrid
    >>> hemispheres = LatLonGrid([180.0], [45.0, -45.0], lon_bounds=[[0.0, 360.0]])
    >>> conservative_weights(hemispheres, HealpixGrid(0)).toarray().round(12)[[0, 4, 8]]
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    _check_bounds(source=source, target=target)
    source, target = on_one_sphere(source, target)
    for (from_type, to_type), overlap in _PAIRS.items():
        if isinstance(source, from_type) and isinstance(target, to_type):
            return _with_cyclic_rows(canonical(overlap(source, target)), target)
    pairs = ", ".join(f"{a.__name__} to {b.__name__}" for a, b in _PAIRS)
    raise ValueError(
        f"no conservative weights from {type(source).__name__} to {type(target).__name__}; there "
        f"are some for {pairs}. Use method='nearest', or go by way of a fine HealpixGrid"
    )


def _check_bounds(**grids: Grid) -> None:
    """Refuse points without edges, by the names under which they were given."""
    bare = {
        name: grid
        for name, grid in grids.items()
        if isinstance(grid, PointGrid) and not grid.has_bounds
    }
    if bare:
        raise ValueError(
            f"conservative weights need cells with edges, got {bare} without bounds; give "
            "PointGrid(lon, lat, lon_bounds, lat_bounds), or a Dataset (a DataArray cannot hold "
            "them) with CF bounds or a UGRID mesh, or use method='nearest' or "
            "inverse_distance_weights"
        )


def _with_cyclic_rows(matrix: sparse.csr_array, target: Grid) -> sparse.csr_array:
    """The matrix, where a repeated column of no width gets the rows of the column it repeats."""
    if not repeats_first_column(target):
        return matrix
    rows = np.arange(target.n_cells).reshape(target.shape)
    rows[:, -1] = rows[:, 0]
    return canonical(matrix[rows.ravel()])


def repeats_first_column(grid: Grid) -> bool:
    """Whether the last column is the first one again, without an area of its own."""
    if not (isinstance(grid, LatLonGrid) and grid.has_cyclic_column):
        return False
    return not (grid.areas.reshape(grid.shape)[:, -1] > 0).any()


def _latlon_to_healpix(source: LatLonGrid, target: HealpixGrid) -> sparse.csr_array:
    return _shared_areas(source, target).T.tocsr()


def _healpix_to_latlon(source: HealpixGrid, target: LatLonGrid) -> sparse.csr_array:
    cell_area = 4 * np.pi / (12 * 4**source.level)
    return _rows_divided(_shared_areas(target, source), target.areas / cell_area)


def _rows_divided(matrix: sparse.csr_array, sizes: Floats) -> sparse.csr_array:
    """Rows divided by sizes; a row of size 0 has no entries."""
    data = matrix.data / np.repeat(sizes, np.diff(matrix.indptr))
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _shared_areas(boxes: LatLonGrid, healpix: HealpixGrid) -> sparse.csr_array:
    """Areas that boxes (rows) and HEALPix cells (columns) share, in HEALPix cells."""
    from xsphere.weights.overlap import box_overlaps

    rows, row_starts = row_pieces(boxes)
    columns, column_starts = column_pieces(boxes)
    starts, cells, areas = box_overlaps(
        healpix.nside, rows, row_starts, columns, column_starts, touching_boxes(boxes, healpix)
    )
    shape = (boxes.n_cells, healpix.n_cells)
    return present_entries(starts, healpix.positions_of(cells), areas, shape)


def touching_boxes(boxes: LatLonGrid, healpix: HealpixGrid) -> NDArray[np.bool_]:
    """Boxes that may touch a cell of the grid: all, but for a part of a fine sphere."""
    if healpix.is_global or healpix.level <= COARSE_LEVEL:
        return np.ones(boxes.shape, bool)
    coarse = _shared_areas(boxes, healpix.at_level(COARSE_LEVEL))
    return (np.diff(coarse.indptr) > 0).reshape(boxes.shape)


def row_pieces(grid: LatLonGrid) -> tuple[Floats, NDArray[np.int64]]:
    """Rows cut at |sin lat| = 2/3, as (zone, low, high) for `box_overlaps`, and their starts."""
    from xsphere.weights.overlap import BELT, NORTH_CAP, SOUTH_CAP

    assert grid.lat_bounds is not None
    south, north = grid.lat_bounds.T
    zones = [
        (NORTH_CAP, cap_distance(north), cap_distance(south)),
        (BELT, *belt_height([south, north])),
        (SOUTH_CAP, cap_distance(-south), cap_distance(-north)),
    ]
    pieces = np.stack([np.stack(np.broadcast_arrays(*zone), -1) for zone in zones], 1)
    return _kept(pieces)


def column_pieces(grid: LatLonGrid) -> tuple[Floats, NDArray[np.int64]]:
    """Columns cut at quarter turns, as (quarter, west, east) for `box_overlaps`; their starts."""
    assert grid.lon_bounds is not None
    west, east = (bound[:, None] for bound in grid.lon_bounds.T)
    # a column of a whole turn can begin inside one quarter and end inside it
    quarter = np.floor(west / 90.0) + np.arange(5)
    low = (np.maximum(west, 90.0 * quarter) - 90.0 * quarter) / 90.0
    high = (np.minimum(east, 90.0 * (quarter + 1)) - 90.0 * quarter) / 90.0
    return _kept(np.stack([quarter % 4, low, high], -1))


def _kept(pieces: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Pieces of shape (n, n_pieces, 3) that have a size, and where those of each n start."""
    kept = pieces[..., 2] > pieces[..., 1]
    return pieces[kept], np.concatenate([[0], np.cumsum(kept.sum(axis=1))])


def _healpix_to_healpix(source: HealpixGrid, target: HealpixGrid) -> sparse.csr_array:
    step = source.level - target.level
    if step >= 0:
        columns = np.arange(source.n_cells)
        rows = target.positions_of(source.nested_ids >> 2 * step)
        share = 0.25**step
    else:
        rows = np.arange(target.n_cells)
        columns = source.positions_of(target.nested_ids >> -2 * step)
        share = 1.0
    present = (rows >= 0) & (columns >= 0)
    rows, columns = rows[present], columns[present]
    shape = (target.n_cells, source.n_cells)
    return sparse.csr_array((np.full(rows.size, share), (rows, columns)), shape=shape)


def _points_to_healpix(source: PointGrid, target: HealpixGrid) -> sparse.csr_array:
    shared, _ = polygon_areas_in_cells(source, target, wanted=_near(source, target))
    return shared.T.tocsr()


def _healpix_to_points(source: HealpixGrid, target: PointGrid) -> sparse.csr_array:
    return _rows_divided(*polygon_areas_in_cells(target, source, wanted=_near(target, source)))


def _points_to_latlon(source: PointGrid, target: LatLonGrid) -> sparse.csr_array:
    shared, _ = polygon_areas_in_boxes(source, target)
    return _rows_divided(shared.T.tocsr(), target.areas)


def _latlon_to_points(source: LatLonGrid, target: PointGrid) -> sparse.csr_array:
    return _rows_divided(*polygon_areas_in_boxes(target, source))


def _points_to_points(source: PointGrid, target: PointGrid) -> sparse.csr_array:
    return _rows_divided(*polygon_areas_in_polygons(target, source))


def _near(polygons: PointGrid, healpix: HealpixGrid) -> NDArray[np.bool_] | None:
    """Polygons that may touch a cell of the grid; None for all, but for a part of a fine sphere."""
    if healpix.is_global or healpix.level <= COARSE_LEVEL:
        return None
    coarse, _ = polygon_areas_in_cells(polygons, healpix.at_level(COARSE_LEVEL))
    return np.asarray(np.diff(coarse.indptr) > 0)


def _latlon_to_latlon(source: LatLonGrid, target: LatLonGrid) -> sparse.csr_array:
    assert source.lat_bounds is not None
    assert target.lon_bounds is not None
    assert target.lat_bounds is not None
    columns = turned_columns(source, target)
    along_lon = axis_shares(columns, target.lon_bounds, np.subtract)
    n_turns = len(columns) // source.lon.size
    along_lon = along_lon @ sparse.vstack([sparse.eye_array(source.lon.size)] * n_turns)
    along_lat = axis_shares(source.lat_bounds, target.lat_bounds, sine_height)
    return sparse.kron(along_lat, along_lon, format="csr")


def turned_columns(source: LatLonGrid, target: LatLonGrid) -> Floats:
    """Bounds of the source's columns, all of them again for every turn that the target is in."""
    assert source.lon_bounds is not None
    assert target.lon_bounds is not None
    first = np.floor((target.lon_bounds.min() - source.lon_bounds.max()) / 360.0)
    last = np.ceil((target.lon_bounds.max() - source.lon_bounds.min()) / 360.0)
    turns = [source.lon_bounds + 360.0 * turn for turn in np.arange(first, last + 1)]
    return np.concatenate(turns)


def sine_height(north: Floats, south: Floats) -> Floats:
    """sin(north) - sin(south) of degrees, without the cancellation near a pole."""
    middle, half = np.deg2rad(north + south) / 2, np.deg2rad(north - south) / 2
    return 2 * np.cos(middle) * np.sin(half)


def axis_shares(
    source: Floats, target: Floats, length: Callable[[Floats, Floats], Floats]
) -> sparse.csr_array:
    """Part of every target interval (rows) in every source interval (columns)."""
    order = np.argsort(source[:, 0], kind="stable")
    lower, upper = source[order, 0], np.maximum.accumulate(source[order, 1])
    first = np.searchsorted(upper, target[:, 0], side="right")
    counts = (np.searchsorted(lower, target[:, 1], side="left") - first).clip(min=0)
    rows = np.repeat(np.arange(len(target)), counts)
    slots = np.arange(rows.size) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = order[np.repeat(first, counts) + slots]
    low = np.maximum(target[rows, 0], source[columns, 0])
    high = np.minimum(target[rows, 1], source[columns, 1])
    # edges that are one but for rounding share nothing
    kept = high - low > 1e-12 * np.minimum(np.ptp(target[rows], -1), np.ptp(source[columns], -1))
    rows, columns, low, high = rows[kept], columns[kept], low[kept], high[kept]
    shares = length(high, low) / length(target[rows, 1], target[rows, 0])
    return sparse.csr_array((shares, (rows, columns)), shape=(len(target), len(source)))


_PAIRS: dict[tuple[type[Grid], type[Grid]], Callable[..., sparse.csr_array]] = {
    (LatLonGrid, HealpixGrid): _latlon_to_healpix,
    (HealpixGrid, LatLonGrid): _healpix_to_latlon,
    (HealpixGrid, HealpixGrid): _healpix_to_healpix,
    (LatLonGrid, LatLonGrid): _latlon_to_latlon,
    (PointGrid, HealpixGrid): _points_to_healpix,
    (HealpixGrid, PointGrid): _healpix_to_points,
    (PointGrid, LatLonGrid): _points_to_latlon,
    (LatLonGrid, PointGrid): _latlon_to_points,
    (PointGrid, PointGrid): _points_to_points,
}
