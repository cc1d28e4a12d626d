"""Weights of points: the cell that holds a target centre, or a mean of the source centres near it.

Linear between the centres of regular grids, by inverse distance between any.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.grids.latlon import EDGE_TOLERANCE
from xsphere.notices import shortened
from xsphere.weights.assembly import canonical
from xsphere.weights.spheres import on_one_sphere

Floats = NDArray[np.float64]

# Points nearer than this are at one place, in radii of the sphere: 0.6 mm on the Earth.
SAME_PLACE = 1e-10
# Points looked at beyond those wanted, so that of several equally far the first are taken.
SPARE = 8


def nearest_weights(source: Grid, target: Grid) -> sparse.csr_array:
    """One weight of 1 per target cell, on the source cell that its centre lies in.

    From a `PointGrid`, bounds or none, it is the source point nearest to the centre, however far.

    Parameters
    ----------
    source, target : Grid
        Cells from and to which values go.

    Returns
    -------
    sparse array of float64, shape (n_target, n_source)
        Rows sum to 1; the row of a centre outside the source is empty.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid, LatLonGrid
    >>> quarters = LatLonGrid([45, 135, 225, 315], [0])
    >>> nearest_weights(quarters, HealpixGrid(0)).indices[:4]
    array([0, 1, 2, 3], dtype=int32)
    """
    if isinstance(source, HealpixGrid | LatLonGrid):
        columns = source.cells_at(*target.centre_lonlat)
    else:
        from scipy.spatial import cKDTree

        source, target = on_one_sphere(source, target)
        columns = np.asarray(cKDTree(source.centres).query(target.centres)[1], np.int64)
    rows = np.flatnonzero(columns >= 0)
    entries = (np.ones(rows.size), (rows, columns[rows]))
    return canonical(sparse.coo_array(entries, shape=(target.n_cells, source.n_cells)))


def inverse_distance_weights(
    source: Grid, target: Grid, *, n_neighbours: int = 4, power: float = 1.0
) -> sparse.csr_array:
    """Weights of the source centres nearest to every target centre, falling with their distance.

    Distances are along great circles, as for the distance-weighted average of SCRIP and CDO's
    ``remapdis`` [1]_, however far the neighbours are.

    Parameters
    ----------
    source, target : Grid
        Cells from and to which values go, each at its centre.
    n_neighbours : int
        Places that share the weight, at most all of them. Of several equally far, those first in
        the source are taken.
    power : float
        Weights fall with this power of the distance.

    Returns
    -------
    sparse array of float64, shape (n_target, n_source)
        Weights are not negative and rows sum to 1. A source centre at the very place of the target
        takes all weight; source centres at one place share theirs.

    Raises
    ------
    ValueError
        If `n_neighbours` is not a positive integer or `power` not positive.

    References
    ----------
    .. [1] Jones (1999), https://doi.org/10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2

    Examples
    --------
    >>> from xsphere.grids import PointGrid
    >>> stations = PointGrid([0.0, 30.0, 180.0], [0.0, 0.0, 0.0])
    >>> matrix = inverse_distance_weights(stations, PointGrid([10.0], [0.0]), n_neighbours=2)
    >>> matrix.toarray().round(3)
    array([[0.667, 0.333, 0.   ]])
    """
    if isinstance(n_neighbours, bool) or int(n_neighbours) != n_neighbours or n_neighbours < 1:
        raise ValueError(f"n_neighbours must be a positive integer, got {shortened(n_neighbours)}")
    if not 0 < power < np.inf:
        raise ValueError(f"power must be positive and finite, got {shortened(power)}")
    source, target = on_one_sphere(source, target)
    first, cells_of_places = _places(source)
    places, distances = _nearest_places(source.centres[first], target.centres, int(n_neighbours))
    at_place = distances <= SAME_PLACE
    # relative to the nearest, so that no power overflows
    ratios = np.where(at_place, 1.0, distances[:, :1]) / np.where(at_place, 1.0, distances)
    weights = np.where(at_place.any(axis=1, keepdims=True), at_place, ratios**power)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(target.n_cells), places.shape[1])
    shape = (target.n_cells, first.size)
    by_place = sparse.csr_array((weights.ravel(), (rows, places.ravel())), shape=shape)
    return canonical(by_place @ cells_of_places)


def _places(grid: Grid) -> tuple[NDArray[np.int64], sparse.csr_array]:
    """First cell at every distinct place, in order, and the shares of all cells in the places."""
    places = np.rint(grid.centres / SAME_PLACE).astype(np.int64)
    _, first, inverse = np.unique(places, axis=0, return_index=True, return_inverse=True)
    # numbered in the order of the cells, so that ties go to the first
    order = np.argsort(first)
    rank = np.empty(first.size, np.int64)
    rank[order] = np.arange(first.size)
    rows = rank[inverse.ravel()]
    shares = 1.0 / np.bincount(rows)[rows]
    entries = (shares, (rows, np.arange(grid.n_cells)))
    return first[order], sparse.csr_array(entries, shape=(first.size, grid.n_cells))


def _nearest_places(
    places: Floats, points: Floats, n_neighbours: int
) -> tuple[NDArray[np.int64], Floats]:
    """Nearest places and great-circle distances, each of shape (n_points, n_neighbours)."""
    from scipy.spatial import cKDTree

    n_wanted = min(n_neighbours, len(places))
    looked_at = np.arange(1, min(n_wanted + SPARE, len(places)) + 1)
    chords, found = cKDTree(places).query(points, k=looked_at)
    distances = 2.0 * np.arcsin((np.asarray(chords) / 2.0).clip(max=1.0))
    # distances that differ by rounding alone are equal
    order = np.lexsort((found, np.rint(distances * 1e12)), axis=-1)[:, :n_wanted]
    return (
        np.take_along_axis(np.asarray(found, np.int64), order, axis=1),
        np.take_along_axis(distances, order, axis=1),
    )


def bilinear_weights(source: Grid, target: Grid) -> sparse.csr_array:
    """Linear interpolation between the source centres around every target centre.

    On a `LatLonGrid` linear in longitude and in latitude, across the seam where the columns go
    round. Between the last row and a pole that the grid covers, the mean of that row stands for
    the value at the pole. Elsewhere at the rim and beside gaps, between the last centres and the
    edge of their cells, the value is that of the last centres. On a `HealpixGrid` between two cells
    on each of the two rings around the point [1]_.

    Parameters
    ----------
    source : LatLonGrid or HealpixGrid
        Cells from which values go, each at its centre.
    target : Grid
        Cells to which values go, each at its centre.

    Returns
    -------
    sparse array of float64, shape (n_target, n_source)
        Weights are not negative. Rows sum to 1; the row of a centre outside a regional
        `LatLonGrid` is empty, and a row lacks the weights of cells absent from a partial
        `HealpixGrid`.

    Raises
    ------
    ValueError
        If the source is a `PointGrid`.

    References
    ----------
    .. [1] Górski et al. (2005), https://doi.org/10.1086/427976

    Examples
    --------
    >>> from xsphere.grids import LatLonGrid, PointGrid
    >>> source = LatLonGrid([0, 90, 180, 270], [45, -45])
    >>> bilinear_weights(source, PointGrid([-22.5], [45.0])).toarray()[0, :4]
    array([0.75, 0.  , 0.  , 0.25])
    """
    match source:
        case LatLonGrid():
            return canonical(_between_rows_and_columns(source, *target.centre_lonlat))
        case HealpixGrid():
            return canonical(_between_rings(source, *target.centre_lonlat))
    raise ValueError(
        f"no bilinear weights from a {type(source).__name__}; there are some from LatLonGrid and "
        "HealpixGrid. Use method='nearest' or inverse_distance_weights"
    )


class Stencil(NamedTuple):
    """Two nodes of an axis and their weights, each of shape (2, n_points)."""

    nodes: NDArray[np.int64]
    weights: Floats


def _stencil(x: Floats, nodes: Floats) -> Stencil:
    """Nodes (increasing) on either side of each x; beyond the ends all weight on the last."""
    left = (np.searchsorted(nodes, x, side="right") - 1).clip(0, max(nodes.size - 2, 0))
    right = np.minimum(left + 1, nodes.size - 1)
    step = np.where(right > left, nodes[right] - nodes[left], 1.0)
    part = ((x - nodes[left]) / step).clip(0.0, 1.0)
    return Stencil(np.stack([left, right]), np.stack([1.0 - part, part]))


def _beside_gaps(found: Stencil, x: Floats, joined: NDArray[np.bool_], upper: Floats) -> Stencil:
    """The stencil, where all weight is on the node whose cell holds x if nodes do not touch.

    Parameters
    ----------
    found : Stencil
        Of increasing nodes.
    x : array of float, shape (n_points,)
        Places in cells of the axis.
    joined : array of bool, shape (n_nodes - 1,)
        Whether the cells of each node and the next share an edge.
    upper : array of float, shape (n_nodes,)
        Upper edge of the cell of every node.
    """
    if joined.all():
        return found
    left = found.nodes[0]
    part = np.where(joined[left], found.weights[1], x > upper[left] + EDGE_TOLERANCE)
    return Stencil(found.nodes, np.stack([1.0 - part, part]))


def _column_stencil(grid: LatLonGrid, lon: Floats) -> Stencil:
    assert grid.lon_bounds is not None
    once = grid.lon[:-1] if grid.has_cyclic_column else grid.lon
    order = np.argsort(once)
    nodes, start = once[order], grid.lon_bounds.min()
    upper, joined = grid.lon_bounds[order, 1], grid.joined_columns
    # between each column and the next to the east
    joined = joined if order[0] == 0 else np.append(joined[:-1][::-1], joined[-1])
    if joined[-1]:
        start, order = nodes[0], np.append(order, order[0])
        nodes, upper = np.append(nodes, nodes[0] + 360.0), np.append(upper, np.inf)
    else:
        joined = joined[:-1]
    x = start + np.mod(lon - start, 360.0)
    found = _beside_gaps(_stencil(x, nodes), x, joined, upper)
    return Stencil(order[found.nodes], found.weights)


def _row_stencil(grid: LatLonGrid, lat: Floats) -> Stencil:
    assert grid.lat_bounds is not None
    order = np.argsort(grid.lat)
    joined = grid.joined_rows if order[0] == 0 else grid.joined_rows[::-1]
    found = _stencil(lat, grid.lat[order])
    found = _beside_gaps(found, lat, joined, grid.lat_bounds[order, 1])
    return Stencil(order[found.nodes], found.weights)


def _between_rows_and_columns(grid: LatLonGrid, lon: Floats, lat: Floats) -> sparse.coo_array:
    inside = np.flatnonzero(grid.cells_at(lon, lat) >= 0)
    columns = _column_stencil(grid, lon[inside])
    rows = _row_stencil(grid, lat[inside])
    polar_part, polar_row = _polar_part(grid, lat[inside])
    beyond = polar_part > 0
    blocks = [
        (
            inside,
            rows.nodes[:, None] * grid.lon.size + columns.nodes,
            ((1.0 - polar_part) * rows.weights)[:, None] * columns.weights,
        ),
        (
            inside[beyond],
            polar_row[beyond] * grid.lon.size + np.arange(grid.lon.size)[:, None],
            polar_part[beyond] * _mean_weights(grid)[:, None],
        ),
    ]
    targets = np.concatenate([np.broadcast_to(points, w.shape).ravel() for points, _, w in blocks])
    cells = np.concatenate([cells.ravel() for _, cells, _ in blocks])
    weights = np.concatenate([weights.ravel() for _, _, weights in blocks])
    return sparse.coo_array((weights, (targets, cells)), shape=(lon.size, grid.n_cells))


def _polar_part(grid: LatLonGrid, lat: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Weight of the value at the pole for points beyond the last row, and which row that is."""
    part, row = np.zeros(lat.size), np.zeros(lat.size, np.int64)
    ends = ((int(grid.lat.argmin()), -1.0), (int(grid.lat.argmax()), 1.0))
    for (last, sign), covered in zip(ends, grid.includes_poles, strict=True):
        distance = 90.0 - sign * grid.lat[last]
        beyond = sign * (lat - grid.lat[last]) > 0
        if covered and grid.periodic and distance > 0:
            part[beyond] = np.abs(lat[beyond] - grid.lat[last]) / distance
            row[beyond] = last
    return part, row


def _mean_weights(grid: LatLonGrid) -> Floats:
    """Weights of the columns in the mean of a row: their widths."""
    assert grid.lon_bounds is not None
    width = np.ptp(grid.lon_bounds, axis=-1)
    return np.asarray(width / width.sum())


def _between_rings(grid: HealpixGrid, lon: Floats, lat: Floats) -> sparse.coo_array:
    import healpy

    lat = grid.lat_on_sphere(lat)
    found: Any = healpy.get_interp_weights(grid.nside, lon, lat, nest=True, lonlat=True)
    ids, weights = found
    cells = grid.positions_of(ids)
    targets = np.broadcast_to(np.arange(lon.size), cells.shape)
    present = cells >= 0
    entries = (weights[present], (targets[present], cells[present]))
    return sparse.coo_array(entries, shape=(lon.size, grid.n_cells))
