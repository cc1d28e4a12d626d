"""Polygons of a `PointGrid` against HEALPix cells and boxes: the areas shared."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.grids.polygon_areas import polygon_areas
from xsphere.weights.assembly import present_entries
from xsphere.weights.projection import belt_height, cap_distance

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Corners that agree to this part of a degree (a centimetre on the Earth) are one.
CORNER_STEPS = 10**7
# Corners this near to a meridian plane of the facets lie in it.
ON_MERIDIAN = 1e-12
# Edges of boxes that differ by fewer degrees are one.
SAME_EDGE = 1e-9


def polygon_areas_in_cells(
    polygons: PointGrid, healpix: HealpixGrid, wanted: NDArray[np.bool_] | None = None
) -> tuple[sparse.csr_array, Floats]:
    """Areas that polygons (rows) and HEALPix cells (columns) share, in HEALPix cells.

    Edges are great circles, drawn in the equal-area projection as chords that both neighbours of
    an edge have in common: polygons that tile the sphere fill every cell to rounding.

    Parameters
    ----------
    polygons : PointGrid
        With bounds.
    healpix : HealpixGrid
        The cells, all or some.
    wanted : array of bool, shape (n_polygons,), optional
        Polygons to look at; the others get empty rows.

    Returns
    -------
    shared : sparse array of float64, shape (n_polygons, n_cells)
        A cell may appear more than once in a row.
    totals : array of float64, shape (n_polygons,)
        Areas shared with all cells of the sphere, present or not: the size of the polygon, within
        1e-7 of the true one.

    Examples
    --------
    >>> octant = PointGrid([45], [35], lon_bounds=[[0, 90, 0]], lat_bounds=[[0, 0, 90]])
    >>> shared, totals = polygon_areas_in_cells(octant, HealpixGrid(0))
    >>> bool(np.allclose(totals, 12 / 8, rtol=1e-6)), bool(np.isclose(shared[0, 0], 1.0))
    (True, True)
    """
    from xsphere.weights.polygon_overlap import polygon_overlaps

    nodes, faces = polygon_mesh(polygons)
    sizes = polygons.areas / (4 * np.pi / (12 * 4**healpix.level))
    if wanted is None:
        wanted = np.ones(polygons.n_cells, bool)
    starts, cells, areas = polygon_overlaps(healpix.nside, nodes, faces, sizes, wanted)
    totals = _totals(starts, areas)
    shape = (polygons.n_cells, healpix.n_cells)
    return present_entries(starts, healpix.positions_of(cells), areas, shape), totals


def polygon_areas_in_boxes(
    polygons: PointGrid, boxes: LatLonGrid
) -> tuple[sparse.csr_array, Floats]:
    """Areas that polygons (rows) and longitude-latitude boxes (columns) share, in steradian.

    Edges of polygons are great circles, drawn as for `polygon_areas_in_cells`; those of boxes are
    parallels and meridians.

    Parameters
    ----------
    polygons : PointGrid
        With bounds.
    boxes : LatLonGrid
        Of the whole sphere or a part.

    Returns
    -------
    shared : sparse array of float64, shape (n_polygons, n_boxes)
        A box may appear more than once in a row.
    totals : array of float64, shape (n_polygons,)
        Areas of the polygons, whether boxes cover them or not, within 1e-7 of the true ones.

    Examples
    --------
    >>> octant = PointGrid([45], [35], lon_bounds=[[0, 90, 0]], lat_bounds=[[0, 0, 90]])
    >>> shared, _ = polygon_areas_in_boxes(octant, LatLonGrid([0, 180], [60, 0, -60]))
    >>> bool(np.isclose(shared[0, 2], np.pi / 2 * np.sin(np.pi / 6)))
    True
    """
    from xsphere.weights.polygon_boxes import polygon_box_overlaps

    assert boxes.lon_bounds is not None
    assert boxes.lat_bounds is not None
    nodes, faces = polygon_mesh(polygons)
    west = _once(boxes.lon_bounds % 360.0)
    lon = np.append(west, west[0] + 360.0)
    rim = np.rad2deg(np.arcsin(2 / 3))
    lat = _once(np.append(boxes.lat_bounds, [-90.0, -rim, rim, 90.0]))
    lat = np.where(np.abs(np.abs(lat) - rim) < 2 * SAME_EDGE, np.copysign(rim, lat), lat)
    south, belt, north = lat[lat <= -rim], lat[np.abs(lat) <= rim], lat[lat >= rim]
    starts, found, areas = polygon_box_overlaps(
        nodes,
        faces,
        polygons.areas,
        min(np.ptp(boxes.lon_bounds, axis=-1).max(), np.ptp(boxes.lat_bounds, axis=-1).max()) / 90,
        lon / 90.0,
        cap_distance(-south),
        belt_height(belt),
        np.ascontiguousarray(cap_distance(north)[::-1]),
    )
    rows = np.concatenate([_middles(south), _middles(belt), _middles(north)[::-1]])
    meshed = np.meshgrid(_middles(lon), rows)
    positions = boxes.cells_at(*meshed).ravel()[found]
    shape = (polygons.n_cells, boxes.n_cells)
    return present_entries(starts, positions, areas, shape), _totals(starts, areas)


def _once(edges: Floats) -> Floats:
    """Edges in order, those that differ by rounding alone as one."""
    ordered = np.sort(edges.ravel())
    if ordered[-1] > 360.0 - SAME_EDGE:
        # a whole turn, nearly
        ordered = ordered[ordered <= 360.0 - SAME_EDGE]
    return ordered[np.diff(ordered, prepend=-np.inf) > SAME_EDGE]


def _middles(edges: Floats) -> Floats:
    return (edges[1:] + edges[:-1]) / 2


def _totals(starts: Integers, areas: Floats) -> Floats:
    """Sums of the areas of each polygon."""
    # not as differences of a running sum, which would lose digits to its length
    polygons = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    return np.asarray(np.bincount(polygons, areas, starts.size - 1), np.float64)


def polygon_mesh(grid: PointGrid) -> tuple[Floats, Integers]:
    """Distinct corners as unit vectors, and the counter-clockwise corners of every polygon."""
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    lat = np.rint(grid.lat_bounds * CORNER_STEPS).astype(np.int64)
    lon = np.rint(grid.lon_bounds * CORNER_STEPS).astype(np.int64) % (360 * CORNER_STEPS)
    lon[np.abs(lat) == 90 * CORNER_STEPS] = 0
    keys = (lat + 90 * CORNER_STEPS) * (360 * CORNER_STEPS) + lon
    _, first, faces = np.unique(keys, return_index=True, return_inverse=True)
    nodes = lonlat_to_vectors(grid.lon_bounds.ravel()[first], grid.lat_bounds.ravel()[first])
    nodes[np.abs(nodes) < ON_MERIDIAN] = 0.0
    faces = faces.reshape(keys.shape)
    clockwise = polygon_areas(nodes[faces]) < 0
    faces[clockwise] = faces[clockwise, ::-1]
    return nodes, np.ascontiguousarray(faces, np.int64)
