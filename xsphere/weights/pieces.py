"""What the cells of two grids share, piece by piece: how much of the target, and where it is.

The same overlaps as those of `xsphere.weights.conservative`, with their centroids.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Grid, HealpixGrid, LatLonGrid
from xsphere.weights.conservative import (
    axis_shares,
    column_pieces,
    repeats_first_column,
    row_pieces,
    sine_height,
    touching_boxes,
    turned_columns,
)
from xsphere.weights.slopes import box_centroids, cell_centroids

Floats = NDArray[np.float64]


class Pieces(NamedTuple):
    """Overlaps of source and target cells, one entry each, in no order.

    Parameters
    ----------
    sources, targets : arrays of int, shape (n,)
        The two cells. A pair may come more than once. Numbers from the number of target cells
        on are cells outside a partial HEALPix grid.
    weights : array of float64, shape (n,)
        Part of the target cell.
    centroids : array of float64, shape (n, 3)
        Mean of the unit vectors of the piece, inside the sphere.

    Examples
    --------
    >>> Pieces([0], [0], [1.0], [[0.0, 0.0, 0.5]]).weights
    [1.0]
    """

    sources: NDArray[Any]
    targets: NDArray[Any]
    weights: Floats
    centroids: Floats


def shared_pieces(source: Grid, target: Grid) -> Pieces:
    """Overlaps of the cells of two grids, of every source cell that touches the target.

    Parameters
    ----------
    source, target : HealpixGrid or LatLonGrid
        Two grids.

    Returns
    -------
    Pieces
        Weights of a pair of cells add up to those of `xsphere.weights.conservative_weights`.

    Raises
    ------
    ValueError
        If a grid has no cell edges (`PointGrid`).

    Examples
    --------
    >>> pieces = shared_pieces(HealpixGrid(0, cell_ids=[5]), HealpixGrid(1))
    >>> pieces.targets, pieces.weights
    (array([20, 21, 22, 23]), array([1., 1., 1., 1.]))
    """
    for (from_type, to_type), pieces_of in _PAIRS.items():
        if isinstance(source, from_type) and isinstance(target, to_type):
            pieces = _with_cyclic_targets(pieces_of(source, target), target)
            return _without_outsiders(pieces, source, target)
    pairs = ", ".join(f"{a.__name__} to {b.__name__}" for a, b in _PAIRS)
    raise ValueError(
        f"no second-order conservative weights from {type(source).__name__} to "
        f"{type(target).__name__}; there are some for {pairs}. Use method='nearest', or 'bilinear' "
        "from a HealpixGrid or LatLonGrid"
    )


def _with_cyclic_targets(pieces: Pieces, target: Grid) -> Pieces:
    """Pieces, where a repeated column of no width gets those of the column it repeats."""
    if not repeats_first_column(target):
        return pieces
    n_lon = target.shape[1]
    repeated = np.flatnonzero((pieces.targets % n_lon == 0) & (pieces.targets < target.n_cells))
    copies = Pieces(*(part[repeated] for part in pieces))
    copies = copies._replace(targets=copies.targets + (n_lon - 1))
    return Pieces(*(np.concatenate(parts) for parts in zip(pieces, copies, strict=True)))


def _without_outsiders(pieces: Pieces, source: Grid, target: Grid) -> Pieces:
    """Pieces of source cells that touch the target."""
    inside = pieces.targets < target.n_cells
    if inside.all():
        return pieces
    touched = np.zeros(source.n_cells, bool)
    touched[pieces.sources[inside]] = True
    kept = touched[pieces.sources]
    return Pieces(*(part[kept] for part in pieces))


def _latlon_to_healpix(source: LatLonGrid, target: HealpixGrid) -> Pieces:
    boxes, cells, areas, centroids = _shared_pieces(source, target)
    return Pieces(boxes, _numbers(cells, target), areas, centroids)


def _numbers(nested_ids: NDArray[np.int64], grid: HealpixGrid) -> NDArray[np.int64]:
    """Positions of cells in the grid's data; numbers that follow those for cells not in it."""
    positions = grid.positions_of(nested_ids)
    absent = positions < 0
    others = np.unique(nested_ids[absent], return_inverse=True)[1]
    positions[absent] = grid.n_cells + others.reshape(-1)
    return positions


def _healpix_to_latlon(source: HealpixGrid, target: LatLonGrid) -> Pieces:
    boxes, cells, areas, centroids = _shared_pieces(target, source)
    sources = source.positions_of(cells)
    cell_area = 4 * np.pi / (12 * 4**source.level)
    pieces = Pieces(sources, boxes, areas / (target.areas / cell_area)[boxes], centroids)
    return Pieces(*(part[sources >= 0] for part in pieces))


def _shared_pieces(
    boxes: LatLonGrid, healpix: HealpixGrid
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Box, nested id, area in HEALPix cells, and centroid of what boxes and the sphere share."""
    from xsphere.weights.overlap import box_pieces

    axes = (*row_pieces(boxes), *column_pieces(boxes))
    starts, cells, areas, centroids = box_pieces(
        healpix.nside, *axes, touching_boxes(boxes, healpix)
    )
    return np.repeat(np.arange(boxes.n_cells), np.diff(starts)), cells, areas, centroids


def _healpix_to_healpix(source: HealpixGrid, target: HealpixGrid) -> Pieces:
    from xsphere.weights.moments import healpix_centroids

    step = source.level - target.level
    if step >= 0:
        targets = target.positions_of(source.nested_ids >> 2 * step)
        sources = np.flatnonzero(targets >= 0)
        weights = np.full(sources.size, 0.25**step)
        return Pieces(sources, targets[sources], weights, cell_centroids(source)[sources])
    touched = np.isin(source.nested_ids, target.nested_ids >> -2 * step)
    sources = np.repeat(np.flatnonzero(touched), 4**-step)
    children = (source.nested_ids[sources] << -2 * step) + np.tile(
        np.arange(4**-step), int(touched.sum())
    )
    targets = _numbers(children, target)
    centroids = healpix_centroids(target.nside, children)
    return Pieces(sources, targets, np.ones(sources.size), centroids)


def _latlon_to_latlon(source: LatLonGrid, target: LatLonGrid) -> Pieces:
    assert source.lat_bounds is not None
    assert target.lon_bounds is not None
    assert target.lat_bounds is not None
    lon_to, lon_from, lon_shares, lon_shared = _axis_pieces(
        turned_columns(source, target), target.lon_bounds, np.subtract
    )
    lat_to, lat_from, lat_shares, lat_shared = _axis_pieces(
        source.lat_bounds, target.lat_bounds, sine_height
    )
    lon_from = lon_from % source.lon.size
    return Pieces(
        np.add.outer(lat_from * source.lon.size, lon_from).ravel(),
        np.add.outer(lat_to * target.lon.size, lon_to).ravel(),
        np.outer(lat_shares, lon_shares).ravel(),
        box_centroids(lon_shared, lat_shared),
    )


def _axis_pieces(
    source: Floats, target: Floats, length: Callable[[Floats, Floats], Floats]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Target and source interval, part of the target, and edges of what they share."""
    shares = axis_shares(source, target, length).tocoo()
    to, come_from = (index.astype(np.int64) for index in shares.coords)
    low = np.maximum(target[to, 0], source[come_from, 0])
    high = np.minimum(target[to, 1], source[come_from, 1])
    return to, come_from, shares.data, np.stack([low, high], -1)


_PAIRS: dict[tuple[type[Grid], type[Grid]], Callable[..., Pieces]] = {
    (LatLonGrid, HealpixGrid): _latlon_to_healpix,
    (HealpixGrid, LatLonGrid): _healpix_to_latlon,
    (HealpixGrid, HealpixGrid): _healpix_to_healpix,
    (LatLonGrid, LatLonGrid): _latlon_to_latlon,
}
