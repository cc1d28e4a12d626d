"""Edges of cells: how long each is, and which cell is on its other side."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.grids.voronoi import distinct_places


class CellEdges(NamedTuple):
    """Edges of every cell of a grid.

    Parameters
    ----------
    neighbours : array of int64, shape (n_cells, n_edges)
        Cell across each edge; -1 where there is none.
    lengths : array of float64, shape (n_cells, n_edges)
        Radians; 0 for edges that cells with fewer of them lack.

    Examples
    --------
    >>> CellEdges(np.array([[-1]]), np.array([[0.5]])).lengths
    array([[0.5]])
    """

    neighbours: NDArray[np.int64]
    lengths: NDArray[np.float64]


def cell_edges(grid: Grid) -> CellEdges | None:
    """Edges of the cells of a grid.

    Parameters
    ----------
    grid : Grid
        Any grid, whole or a part.

    Returns
    -------
    CellEdges or None
        Lengths of great circles between the corners of HEALPix cells and polygons, and along
        parallels and meridians of longitude-latitude cells. The polygon of a point without one is
        its Voronoi cell; None if points without polygons share places or leave gaps.

    Examples
    --------
    >>> edges = cell_edges(LatLonGrid(lon=[0, 90, 180, 270], lat=[45, -45]))
    >>> edges.neighbours[0]  # to the west, the east, the row before, the row after
    array([ 3,  1, -1,  4])
    >>> np.rad2deg(edges.lengths[0]).round(9)
    array([90., 90.,  0., 90.])
    """
    match grid:
        case HealpixGrid():
            return _healpix_edges(grid)
        case LatLonGrid():
            return _latlon_edges(grid)
        case PointGrid(has_bounds=True):
            return _polygon_edges(grid)
        case PointGrid():
            try:
                return _polygon_edges(grid.with_voronoi_bounds()) if grid.is_global else None
            except ValueError:
                return None
    raise TypeError(f"expected a grid of xsphere.grids, got {type(grid).__name__}")


def _healpix_edges(grid: HealpixGrid) -> CellEdges:
    import healpy

    # the edges from the northern corner on, counter-clockwise: NW, SW, SE, NE
    around = healpy.get_all_neighbours(grid.nside, grid.nested_ids, nest=True)[[2, 0, 6, 4]]
    found = np.where(around < 0, -1, grid.positions_of(around))
    corners = lonlat_to_vectors(*grid.on_sphere.corner_lonlat())
    return CellEdges(np.ascontiguousarray(found.T, np.int64), _arcs(corners))


def _latlon_edges(grid: LatLonGrid) -> CellEdges:
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    n_lat, n_lon = grid.lat.size, grid.lon.size - grid.has_cyclic_column
    cells = np.full((n_lat + 2, n_lon), -1)
    cells[1:-1] = np.arange(n_lat * grid.lon.size).reshape(grid.shape)[:, :n_lon]
    joined = np.pad(grid.joined_rows, 1)[:, None]
    before, after = (
        np.where(j, c, -1) for j, c in ((joined[:-1], cells[:-2]), (joined[1:], cells[2:]))
    )
    inner = cells[1:-1]
    ahead = np.where(grid.joined_columns, np.roll(inner, -1, axis=1), -1)
    behind = np.where(np.roll(grid.joined_columns, 1), np.roll(inner, 1, axis=1), -1)
    width, height = (np.deg2rad(np.ptp(b, axis=-1)) for b in (grid.lon_bounds, grid.lat_bounds))
    # the bound towards the row before comes second where rows go north
    edges = grid.lat_bounds if grid.lat[0] < grid.lat[-1] else grid.lat_bounds[:, ::-1]
    across = np.cos(np.deg2rad(edges)).T[:, :, None] * width[:n_lon]
    along = np.broadcast_to(height[:, None], inner.shape)
    parts = (behind, ahead, before, after), (along, along, *across)
    # a column that repeats the first has no edges
    copies = ((0, 0), (0, int(grid.has_cyclic_column)))
    neighbours, lengths = (
        np.stack([np.pad(p, copies, constant_values=none).ravel() for p in of], -1)
        for of, none in zip(parts, (-1, 0), strict=True)
    )
    return CellEdges(neighbours, lengths)


def _polygon_edges(grid: PointGrid) -> CellEdges:
    """Edges of polygons: those of two cells that join the same corners are one."""
    corners = lonlat_to_vectors(grid.lon_bounds, grid.lat_bounds)  # type: ignore[arg-type]
    first, place = distinct_places(corners.reshape(-1, 3))
    nodes = place.reshape(corners.shape[:2])
    ends = np.stack([nodes, np.roll(nodes, -1, axis=1)], -1)
    lengths = np.where(ends[..., 0] == ends[..., 1], 0.0, _arcs(corners))
    codes = ends.min(-1) * first.size + ends.max(-1)
    present = np.flatnonzero(lengths)
    order = present[np.argsort(codes.ravel()[present], kind="stable")]
    _, start, count = np.unique(codes.ravel()[order], return_index=True, return_counts=True)
    one, other = order[start[count == 2]], order[start[count == 2] + 1]
    neighbours = np.full(lengths.size, -1)
    n_edges = lengths.shape[1]
    neighbours[one], neighbours[other] = other // n_edges, one // n_edges
    return CellEdges(neighbours.reshape(lengths.shape), lengths)


def _arcs(corners: NDArray[np.float64]) -> NDArray[Any]:
    """Lengths of the edges of polygons, from each corner to the next."""
    chords = np.linalg.norm(np.roll(corners, -1, axis=-2) - corners, axis=-1)
    arcs: NDArray[np.float64] = 2 * np.arcsin((chords / 2).clip(max=1.0))
    return arcs
