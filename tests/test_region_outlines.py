"""Perimeters against unions of polygons in a plane, bounding caps against all directions."""

import healpy
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

import xsphere
from tests.test_regions import GLOBAL_GRIDS, cells_within, mask_on, on_global_grids
from tests.tiers import examples
from xsphere.graph.edges import cell_edges
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.regions.outlines import region_outlines, smallest_cap

SPHERE = Geod(a=EARTH_RADIUS_KM, b=EARTH_RADIUS_KM)
POLYGONS = {
    "healpix": HealpixGrid(4),
    "ring": HealpixGrid(4, "ring"),
    "cubed sphere": PointGrid.cubed_sphere(12),
    "points": PointGrid.icosahedral(3),
}
PLACES = {
    "equator": (37, 5),
    "seam": (180, -20),
    "zero": (0, 30),
    "north": (0, 90),
    "south": (0, -88),
}


def corners_of(grid):
    """Corners of cells as vectors, from healpy and scipy's Voronoi cells."""
    if isinstance(grid, HealpixGrid):
        nested = grid.indexing_scheme == "nested"
        return np.moveaxis(healpy.boundaries(grid.nside, grid.ids, nest=nested), 1, -1)
    with_bounds = grid if grid.has_bounds else grid.with_voronoi_bounds()
    return lonlat_to_vectors(with_bounds.lon_bounds, with_bounds.lat_bounds)


def outline_length(grid, cells, lon, lat):
    """Of the union of cells, in the gnomonic plane at a place: great circles are straight."""
    up = lonlat_to_vectors(lon, lat)
    east = np.linalg.svd(up[None])[2][1]
    axes = np.stack([east, np.cross(up, east), up])
    x, y, z = np.moveaxis(corners_of(grid)[cells] @ axes.T, -1, 0)
    polygons = shapely.polygons(np.stack([x / z, y / z], -1))
    union = shapely.union_all(shapely.set_precision(polygons, 1e-10))
    total = 0.0
    for line in shapely.get_parts(shapely.boundary(union)):
        plane = np.array(line.coords)
        vectors = np.column_stack([plane, np.ones(len(plane))]) @ axes
        lons, lats = (
            np.rad2deg(np.arctan2(vectors[:, 1], vectors[:, 0])),
            np.rad2deg(np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1]))),
        )
        total += SPHERE.line_length(lons, lats)
    return total


@pytest.mark.parametrize("grid", POLYGONS.values(), ids=list(POLYGONS))
@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_perimeters_are_those_of_unions_of_polygons(grid, place):
    labels = np.zeros(grid.n_cells, np.int32)
    labels[cells_within(grid, *place, 24)] = 1
    labels[cells_within(grid, *place, 12)] = 2  # region 1 has a hole with another in it
    found = region_outlines(labels, 2, grid)["perimeter"]
    expected = [outline_length(grid, np.flatnonzero(labels == n), *place) for n in (1, 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("lon", [10.0, 180.0, 0.0])
@pytest.mark.parametrize("name", ["0..360", "-180..180, north first", "cyclic"])
def test_perimeters_between_parallels_and_meridians(name, lon):
    grid = GLOBAL_GRIDS[name]
    inside = np.zeros(grid.n_cells, np.int32)
    inside[cells_within(grid, lon, 40, 20)] = 1
    found = region_outlines(inside, 1, grid)["perimeter"].item()
    once = inside.reshape(grid.shape)[:, :90]
    width, height = np.deg2rad(4), np.ptp(np.deg2rad(grid.lat_bounds), axis=1)
    shared = np.abs(np.diff(once, axis=0))
    between = np.cos((np.deg2rad(grid.lat[1:] + grid.lat[:-1])) / 2)
    expected = (shared.sum(1) * between).sum() * width
    expected += (np.abs(once - np.roll(once, 1, axis=1)).sum(1) * height).sum()
    assert found == pytest.approx(expected * EARTH_RADIUS_KM)


@on_global_grids
def test_what_goes_round_the_earth_has_no_seam(grid):
    lat = grid.centre_lonlat[1]
    whole = region_outlines(np.ones(grid.n_cells, np.int32), 1, grid)
    assert whole["perimeter"].item() == pytest.approx(0, abs=1e-6)
    assert whole["cap_radius"].item() > 0.95 * np.pi * EARTH_RADIUS_KM
    north = region_outlines((lat > 61).astype(np.int32), 1, grid)
    if isinstance(grid, LatLonGrid):
        edge = np.deg2rad(grid.lat_bounds[grid.lat > 61].min())
        assert north["perimeter"].item() == pytest.approx(
            2 * np.pi * np.cos(edge) * EARTH_RADIUS_KM
        )
    assert north["cap_lat"].item() == pytest.approx(90, abs=1)


def test_cells_at_the_rim_of_a_grid_and_of_none():
    grid = LatLonGrid(np.arange(10.0, 20), np.arange(0.0, 5))
    whole = region_outlines(np.ones(grid.n_cells, np.int32), 1, grid)["perimeter"].item()
    degree = np.deg2rad(1) * EARTH_RADIUS_KM
    sides = 10 * (np.cos(np.deg2rad(0.5)) + np.cos(np.deg2rad(4.5))) + 2 * 5
    assert whole == pytest.approx(sides * degree)
    part = HealpixGrid(3, cell_ids=[0, 1, 2, 3, 700])
    edges = cell_edges(HealpixGrid(3)).lengths[[0, 1, 2, 3, 700]]
    alone = region_outlines(np.array([1, 1, 1, 1, 2], np.int32), 2, part)["perimeter"]
    assert alone[1] == pytest.approx(edges[4].sum() * EARTH_RADIUS_KM)
    # each of four cells in a square has two edges outside
    assert alone[0] < 0.6 * edges[:4].sum() * EARTH_RADIUS_KM
    stations = PointGrid([0.0, 3.0, 5.0, 1.0, 2.0], [0.0, 1.0, 4.0, 3.0, 2.0])
    found = region_outlines(np.ones(5, np.int32), 1, stations)
    assert np.isnan(found["perimeter"]).all()
    assert found["cap_radius"].item() > 0


@pytest.mark.parametrize("degrees", [3, 30, 89, 120, 170])
@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_caps_are_the_smallest_of_all_directions(place, degrees):
    grid = GLOBAL_GRIDS["0..360"]
    points = grid.centres[cells_within(grid, *place, degrees + 3)]
    centre, radius = smallest_cap(points)
    angles = np.arccos(np.clip(points @ centre, -1, 1))
    assert angles.max() == pytest.approx(radius, abs=2e-8)
    every = HealpixGrid(4).centres
    best = np.arccos(np.clip((every @ points.T).min(axis=1), -1, 1)).min()
    assert radius - 1e-8 <= best <= radius + np.deg2rad(3)
    assert abs(np.rad2deg(radius) - degrees) < 6


@given(st.lists(st.tuples(st.floats(0, 360), st.floats(-90, 90)), min_size=1, max_size=6))
@examples(60)
def test_caps_of_few_points_touch_two_or_three_of_them(places):
    points = lonlat_to_vectors(*np.array(places).T)
    _, radius = smallest_cap(points)
    axes = [points, [a + b for a in points for b in points]]
    axes.append([np.cross(b - a, c - a) for a in points for b in points for c in points])
    # on one great circle, its poles
    axes.append([np.cross(a, b) for a in points for b in points])
    candidates = np.concatenate([np.reshape(some, (-1, 3)) for some in axes])
    size = np.linalg.norm(candidates, axis=1)
    candidates = candidates[size > 1e-6] / size[size > 1e-6, None]
    heights = np.concatenate([candidates, -candidates]) @ points.T
    best = np.arccos(np.clip(heights.min(axis=1).max(), -1, 1))
    assert radius == pytest.approx(best, abs=1e-6)


def test_tables_have_outlines_with_their_shapes():
    grid = HealpixGrid(4)
    table = xsphere.events(mask_on(grid, {1: cells_within(grid, 0, 90, 15)}), shape=True)
    assert table.cap_lat.item() == pytest.approx(90, abs=1)
    assert table.cap_radius.item() < table.perimeter.item() / (2 * np.pi) * 1.3
    assert [table[n].attrs["units"] for n in ("perimeter", "cap_radius")] == ["km", "km"]
