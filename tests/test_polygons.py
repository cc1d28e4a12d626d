"""Polygons of great circles against HEALPix cells, and inverse distance weights, by oracles."""

from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import SphericalVoronoi

from tests.tiers import examples
from xsphere.conventions import horizontal_grid
from xsphere.grids import (
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    lonlat_to_vectors,
    vectors_to_lonlat,
)
from xsphere.weights import conservative_weights
from xsphere.weights.interpolation import inverse_distance_weights
from xsphere.weights.polygons import polygon_areas_in_boxes, polygon_areas_in_cells, polygon_mesh

Floats = NDArray[np.float64]


def random_rotation(seed: int) -> Floats:
    random = np.random.default_rng(seed)
    q, _ = np.linalg.qr(random.standard_normal((3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def from_vectors(corners: Floats) -> PointGrid:
    """Grid of polygons given as unit vectors, (n, n_vertices, 3), NaN where a corner is absent."""
    present = np.nan_to_num(corners)
    lon, lat = vectors_to_lonlat(np.where(present == 0, 0.0, present))
    absent = np.isnan(corners[..., 0])
    return PointGrid(
        *vectors_to_lonlat(np.nansum(corners, axis=1)),
        np.where(absent, np.nan, lon),
        np.where(absent, np.nan, lat),
    )


def voronoi(n_cells: int, seed: int) -> tuple[PointGrid, Floats]:
    """Random Voronoi cells, in random sense of rotation, and scipy's areas of them."""
    random = np.random.default_rng(seed)
    points = random.standard_normal((n_cells, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cells = SphericalVoronoi(points, threshold=1e-12)
    cells.sort_vertices_of_regions()
    corners = np.full((n_cells, max(map(len, cells.regions)), 3), np.nan)
    for cell, region in enumerate(cells.regions):
        corners[cell, : len(region)] = cells.vertices[region[:: random.choice([-1, 1])]]
    lon, lat = vectors_to_lonlat(np.nan_to_num(corners, nan=1.0))
    absent = np.isnan(corners[..., 0])
    grid = PointGrid(
        *vectors_to_lonlat(points), np.where(absent, np.nan, lon), np.where(absent, np.nan, lat)
    )
    return grid, cells.calculate_areas()


def octahedron(seed: int | None = None) -> PointGrid:
    """Eight octants, with corners at the poles and edges on quarter turns unless turned."""
    signs = np.array(np.meshgrid([1, -1], [1, -1], [1, -1])).reshape(3, 8).T
    corners = signs[:, :, None] * np.eye(3)
    return from_vectors(corners if seed is None else corners @ random_rotation(seed).T)


def cube(seed: int | None = None, n: int = 1) -> PointGrid:
    """Six faces, each of n x n cells; poles in the middle of a face or at a corner of four."""
    edge = np.tan(np.linspace(-np.pi / 4, np.pi / 4, n + 1))
    i, j = (index.ravel() for index in np.meshgrid(np.arange(n), np.arange(n)))
    around = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
    face = np.stack([[edge[a], edge[b], np.ones(a.size)] for a, b in around]).transpose(2, 0, 1)
    corners = np.concatenate([np.roll(s * face, k, axis=-1) for s in (1, -1) for k in range(3)])
    corners /= np.linalg.norm(corners, axis=-1, keepdims=True)
    return from_vectors(corners if seed is None else corners @ random_rotation(seed).T)


def inside(points: Floats, corners: Floats) -> NDArray[np.bool_]:
    """Whether points are on the same side of every edge of a convex polygon as its middle."""
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    normals = normals[np.linalg.norm(normals, axis=-1) > 1e-14]
    sides = np.sign(normals @ corners.sum(axis=0))
    return np.asarray((points @ (sides[:, None] * normals).T > 0).all(axis=1))


def sampled(grid: PointGrid, level: int, finer: int) -> Floats:
    """Areas of overlap, in cells, from the centres of the cells some levels finer."""
    fine = HealpixGrid(level + finer)
    shares = []
    for lon, lat in zip(grid.lon_bounds, grid.lat_bounds, strict=True):  # type: ignore[arg-type]
        corners = lonlat_to_vectors(lon, lat)
        shares.append(inside(fine.centres, corners).reshape(-1, 4**finer).mean(axis=1))
    return np.array(shares)


TILINGS = {
    "octahedron": octahedron(),
    "turned-octahedron": octahedron(3),
    "cube": cube(),
    "turned-cube": cube(5),
    "cubed-sphere": cube(n=7),
    "cubed-sphere-with-poles-at-corners": cube(n=6),
    "turned-cubed-sphere": cube(8, n=5),
    "voronoi-9": voronoi(9, 1)[0],
    "voronoi-70": voronoi(70, 2)[0],
    "voronoi-2000": voronoi(2000, 3)[0],
}


@pytest.mark.parametrize("name", TILINGS)
@pytest.mark.parametrize("level", [0, 2, 5])
def test_tilings_fill_every_cell_and_keep_their_areas(name: str, level: int) -> None:
    grid, healpix = TILINGS[name], HealpixGrid(level)
    shared, totals = polygon_areas_in_cells(grid, healpix)
    assert (shared.data > 0).all()
    np.testing.assert_allclose(shared.sum(axis=0), 1.0, rtol=0, atol=1e-11)
    np.testing.assert_allclose(shared.sum(axis=1), totals, rtol=1e-11)
    np.testing.assert_allclose(totals * 4 * np.pi / healpix.n_cells, grid.areas, rtol=1e-7)


@pytest.mark.parametrize("name", ["octahedron", "cube", "turned-cube", "voronoi-9", "voronoi-70"])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_overlaps_are_those_of_sampled_polygons(name: str, level: int) -> None:
    grid = TILINGS[name]
    shared, _ = polygon_areas_in_cells(grid, HealpixGrid(level))
    finer = 6 - level if level else 5
    # an edge passes through about 2^finer of the 4^finer samples of a cell
    assert np.abs(shared.toarray() - sampled(grid, level, finer)).max() < 1.0 / 2**finer


def test_octants_are_whole_and_half_base_cells() -> None:
    shared, totals = polygon_areas_in_cells(octahedron(), HealpixGrid(0))
    np.testing.assert_allclose(totals, 1.5, rtol=1e-9)
    found = np.sort(shared.toarray(), axis=1)[:, -4:]
    # a base cell of the cap, and halves of halves of those around the equator
    np.testing.assert_allclose(found, [[0.0, 0.25, 0.25, 1.0]] * 8, atol=1e-9)


@examples(40)
@given(st.integers(4, 40), st.integers(0, 10**6), st.integers(0, 4))
def test_any_voronoi_cells_fill_every_cell(n_cells: int, seed: int, level: int) -> None:
    grid, areas = voronoi(n_cells + 4, seed)
    shared, totals = polygon_areas_in_cells(grid, HealpixGrid(level))
    np.testing.assert_allclose(shared.sum(axis=0), 1.0, rtol=0, atol=1e-10)
    implied = totals * 4 * np.pi / (12 * 4**level)
    np.testing.assert_allclose(implied, areas, rtol=1e-6, atol=1e-8 * areas.mean())


def ring_of_corners(lon: float, lat: float, radius: float, n: int) -> PointGrid:
    """One regular polygon around a place."""
    turn = 2 * np.pi * np.arange(n) / n
    around = np.stack([np.cos(turn), np.sin(turn)], -1) * np.sin(np.deg2rad(radius))
    corners = np.column_stack([around, np.full(n, np.cos(np.deg2rad(radius)))])
    tilt, east = np.deg2rad(90 - lat), np.deg2rad(lon)
    tilted = corners @ np.array(
        [[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]]
    )
    x = tilted[:, 0] * np.cos(east) - tilted[:, 1] * np.sin(east)
    y = tilted[:, 0] * np.sin(east) + tilted[:, 1] * np.cos(east)
    bounds = vectors_to_lonlat(np.stack([x, y, tilted[:, 2]], -1))
    return PointGrid([lon], [lat], *(bound[None] for bound in bounds))


def area_of_ring(radius: float, n: int) -> float:
    """From the angles of a regular polygon (Girard)."""
    half = np.arctan2(1.0, np.tan(np.pi / n) * np.cos(np.deg2rad(radius)))
    return float(2 * n * half - (n - 2) * np.pi)


@examples(60)
@given(
    st.floats(-180, 360),
    st.sampled_from([-90.0, -89.9, -60.0, -41.8, -5.0, 0.0, 20.0, 41.8, 70.0, 89.99, 90.0]),
    st.sampled_from([1e-3, 0.1, 3.0, 20.0, 50.0, 85.0]),
    st.integers(3, 9),
    st.integers(0, 5),
)
@example(0.0, 90.0, 85.0, 4, 4)
@example(180.0, -90.0, 3.0, 3, 5)
@example(359.9999, 89.9999, 1e-3, 5, 3)
def test_areas_of_regular_polygons(
    lon: float, lat: float, radius: float, n: int, level: int
) -> None:
    grid = ring_of_corners(lon, lat, radius, n)
    expected = area_of_ring(radius, n) if radius > 0.05 else grid.areas[0]
    assert grid.areas[0] == pytest.approx(expected, rel=1e-9)
    shared, totals = polygon_areas_in_cells(grid, HealpixGrid(level))
    assert totals[0] * 4 * np.pi / (12 * 4**level) == pytest.approx(expected, rel=1e-6)
    assert shared.data.max() <= 1 + 1e-12
    cells = np.unique(shared.indices)
    near = np.arccos(np.clip(HealpixGrid(level).centres[cells] @ grid.centres[0], -1, 1))
    assert near.max() < np.deg2rad(radius) + healpy.max_pixrad(2**level) * 1.01


def test_a_polygon_of_most_of_a_hemisphere_covers_its_cells() -> None:
    grid = ring_of_corners(77.0, 65.0, 85.0, 48)
    shared, _ = polygon_areas_in_cells(grid, HealpixGrid(4))
    share = np.asarray(shared.sum(axis=0))
    angle = np.rad2deg(np.arccos(HealpixGrid(4).centres @ grid.centres[0]))
    np.testing.assert_allclose(share[angle < 80], 1.0, atol=1e-12)
    assert not share[angle > 90].any()


def test_polygons_need_not_be_convex() -> None:
    arrow = PointGrid([2.0], [48.0], [[-20, 5, 30, 4]], [[40, 48, 44, 62]])
    left = PointGrid([0.0], [52.0], [[-20, 5, 4]], [[40, 48, 62]])
    right = PointGrid([10.0], [52.0], [[5, 30, 4]], [[48, 44, 62]])
    whole, parts = (
        [np.asarray(polygon_areas_in_cells(g, HealpixGrid(4))[0].sum(axis=0)) for g in grids]
        for grids in ([arrow], [left, right])
    )
    np.testing.assert_allclose(whole[0], parts[0] + parts[1], atol=1e-14)


def test_longitudes_may_be_written_in_any_turn() -> None:
    grid = TILINGS["voronoi-70"]
    turned = PointGrid(grid.lon, grid.lat, (grid.lon_bounds + 180) % 360 - 180, grid.lat_bounds)
    first, second = (polygon_areas_in_cells(g, HealpixGrid(3))[0] for g in (grid, turned))
    np.testing.assert_allclose(first.toarray(), second.toarray(), atol=1e-13)


def test_corners_written_in_several_ways_are_one() -> None:
    # two octants that share the pole and a meridian, to the precision of float32 radians
    lon = [[-180.0, 90.0, 17.0], [180.000005 + 360.0, 270.0, -44.0]]
    grid = PointGrid([135.0, 225.0], [35.0, 35.0], lon, [[0, 0, 90], [0, 0, 90]])
    assert len(polygon_mesh(grid)[0]) == 5
    near = PointGrid([135.0, 225.0], [35.0, 35.0], np.round(lon, 4), [[0, 0, 90], [0, 0, 90]])
    nodes, faces = polygon_mesh(near)
    assert len(nodes) == 4
    assert len(np.intersect1d(*faces)) == 2
    assert (np.linalg.det(nodes[faces]) > 0).all()


def smooth(grid: Grid) -> Floats:
    lon, lat = np.deg2rad(grid.centre_lonlat)
    return np.asarray(2 + np.cos(lat) ** 2 * np.cos(2 * lon) + np.exp(-(((lat - 1.5) / 0.05) ** 2)))


@pytest.mark.parametrize("name", ["cubed-sphere", "turned-cubed-sphere", "voronoi-2000"])
@pytest.mark.parametrize("level", [2, 4])
def test_integrals_are_kept_both_ways(name: str, level: int) -> None:
    polygons, healpix = TILINGS[name], HealpixGrid(level, "ring")
    _, totals = polygon_areas_in_cells(polygons, healpix)
    implied = totals * 4 * np.pi / healpix.n_cells
    there, back = conservative_weights(polygons, healpix), conservative_weights(healpix, polygons)
    for matrix in (there, back):
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-10)
        assert matrix.has_canonical_format
    field = smooth(polygons)
    assert healpix.areas @ (there @ field) == pytest.approx(implied @ field, rel=1e-12)
    assert healpix.areas @ (there @ field) == pytest.approx(polygons.areas @ field, rel=1e-7)
    field = smooth(healpix)
    assert implied @ (back @ field) == pytest.approx(healpix.areas @ field, rel=1e-12)


def test_means_of_a_smooth_field_come_near_it() -> None:
    polygons, healpix = cube(1, n=24), HealpixGrid(4)
    for source, target in ((polygons, healpix), (healpix, polygons)):
        heights, expected = (np.sin(np.deg2rad(g.centre_lonlat[1])) for g in (source, target))
        assert np.abs(conservative_weights(source, target) @ heights - expected).max() < 0.03


def test_parts_of_the_sphere_get_the_weights_of_the_whole() -> None:
    polygons, level = TILINGS["voronoi-2000"], 7
    cells = np.random.default_rng(0).permutation(
        healpy.query_disc(128, [0.9, 0, 1], 0.2, nest=True)
    )
    part, whole = HealpixGrid(level, cell_ids=cells), HealpixGrid(level)
    there, back = conservative_weights(polygons, part), conservative_weights(part, polygons)
    difference = there - conservative_weights(polygons, whole)[cells]
    assert np.abs(difference.data).max(initial=0.0) < 1e-12
    difference = back - conservative_weights(whole, polygons)[:, cells]
    assert np.abs(difference.data).max(initial=0.0) < 1e-12
    np.testing.assert_allclose(there.sum(axis=1), 1.0, atol=1e-10)
    assert np.asarray(back.sum(axis=1)).max() == pytest.approx(1.0)


def test_rows_sum_to_the_part_that_a_mesh_covers() -> None:
    octant = PointGrid([45], [35], [[0, 90, 0]], [[0, 0, 90]])
    covered = np.asarray(conservative_weights(octant, HealpixGrid(3)).sum(axis=1))
    lon, lat = HealpixGrid(3).centre_lonlat
    np.testing.assert_allclose(covered[(lon > 12) & (lon < 78) & (lat > 6)], 1.0, atol=1e-12)
    assert not covered[(lat < -6) | (lon > 102) & (lon < 348)].any()
    assert covered.sum() == pytest.approx(768 / 8, rel=1e-8)
    half = HealpixGrid(0, cell_ids=[0])
    np.testing.assert_allclose(conservative_weights(half, octant).toarray(), [[1 / 1.5]], rtol=1e-8)


def from_edges(lon: Any, lat: Any) -> LatLonGrid:
    lon, lat = np.array(lon, float), np.array(lat, float)
    return LatLonGrid(
        (lon[1:] + lon[:-1]) / 2,
        (lat[1:] + lat[:-1]) / 2,
        lon_bounds=np.stack([lon[:-1], lon[1:]], -1),
        lat_bounds=np.stack([lat[:-1], lat[1:]], -1),
    )


RIM = np.rad2deg(np.arcsin(2 / 3))
BOXES = {
    "five-degrees": LatLonGrid(np.arange(0.0, 360, 5), np.arange(-87.5, 90, 5)),
    "with-poles-southward": LatLonGrid(np.arange(-180.0, 180, 4) + 0.3, np.linspace(90, -90, 31)),
    # a parallel that is the rim of the caps but for rounding
    "irregular": from_edges([-17, 20, 91, 200, 343], [-90, -44, RIM + 1e-11, 89, 90]),
    "one-box": from_edges([-30, 330], [-90, 90]),
    "cyclic": LatLonGrid(np.linspace(0, 360, 37), np.linspace(-85, 85, 18)),
}


@pytest.mark.parametrize("name", ["octahedron", "turned-cube", "cubed-sphere", "voronoi-2000"])
@pytest.mark.parametrize("boxes", BOXES)
def test_tilings_fill_every_box_and_keep_integrals(name: str, boxes: str) -> None:
    polygons, grid = TILINGS[name], BOXES[boxes]
    shared, totals = polygon_areas_in_boxes(polygons, grid)
    assert (shared.data > 0).all()
    np.testing.assert_allclose(shared.sum(axis=0), grid.areas, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(totals, polygons.areas, rtol=1e-7)
    there, back = conservative_weights(polygons, grid), conservative_weights(grid, polygons)
    np.testing.assert_allclose(there.sum(axis=1), 1.0, rtol=0, atol=1e-10)
    np.testing.assert_allclose(back.sum(axis=1), 1.0, rtol=0, atol=1e-10)
    field = smooth(polygons)
    assert grid.areas @ (there @ field) == pytest.approx(totals @ field, rel=1e-12)
    field = smooth(grid)
    assert totals @ (back @ field) == pytest.approx(grid.areas @ field, rel=1e-12)


@pytest.mark.parametrize("name", ["octahedron", "cube", "turned-cube", "voronoi-9"])
def test_overlaps_with_boxes_are_those_of_sampled_polygons(name: str) -> None:
    grid, polygons, n = BOXES["irregular"], TILINGS[name], 200
    shared, _ = polygon_areas_in_boxes(polygons, grid)
    # equally spaced in area
    part = (np.arange(n) + 0.5) / n
    for box, area in enumerate(grid.areas):
        row, column = divmod(box, grid.lon.size)
        west, east = grid.lon_bounds[column]  # type: ignore[index]
        low, high = np.sin(np.deg2rad(grid.lat_bounds[row]))  # type: ignore[index]
        net = np.meshgrid(west + part * (east - west), low + part * (high - low))
        points = lonlat_to_vectors(net[0].ravel(), np.rad2deg(np.arcsin(net[1].ravel())))
        for cell, (lon, lat) in enumerate(
            zip(polygons.lon_bounds, polygons.lat_bounds, strict=True)  # type: ignore[arg-type]
        ):
            share = inside(points, lonlat_to_vectors(lon, lat)).mean()
            assert abs(shared[[cell]].toarray()[0, box] / area - share) < 4 / n


def test_a_region_of_boxes_gets_the_weights_of_the_whole() -> None:
    whole = LatLonGrid(np.arange(0.0, 360, 3), np.arange(-88.5, 90, 3))
    region = LatLonGrid(np.arange(-12.0, 30, 3), np.arange(88.5, 40, -3))
    polygons = TILINGS["voronoi-70"]
    columns, rows = (region.lon % 360 / 3).astype(int), ((region.lat + 88.5) / 3).astype(int)
    cells = (rows[:, None] * whole.lon.size + columns).ravel()
    difference = (
        conservative_weights(polygons, region) - (conservative_weights(polygons, whole)[cells])
    )
    assert np.abs(difference.data).max(initial=0.0) < 1e-11
    back = conservative_weights(region, polygons)
    difference = back - conservative_weights(whole, polygons)[:, cells]
    assert np.abs(difference.data).max(initial=0.0) < 1e-11
    assert 0.0 < np.asarray(back.sum(axis=1)).max() <= 1 + 1e-12


def test_points_without_edges_are_refused_with_the_remedy() -> None:
    points, healpix = PointGrid([0.0, 1.0], [2.0, 3.0]), HealpixGrid(0)
    for source, target, name in ((points, healpix, "source"), (healpix, points, "target")):
        with pytest.raises(ValueError, match=rf"\{{'{name}': .* without bounds; give .*'nearest'"):
            conservative_weights(source, target)
    octant = PointGrid([45], [35], [[0, 90, 0]], [[0, 0, 90]])
    with pytest.raises(ValueError, match=r"\{'target': .* without bounds; give"):
        conservative_weights(octant, points)


# --- inverse distance


def brute_force(source: Grid, target: Grid, k: int, power: float) -> Floats:
    """Weights from all distances, for places that are all different."""
    dense = np.zeros((target.n_cells, source.n_cells))
    for row, place in enumerate(target.centres):
        crossed = np.linalg.norm(np.cross(source.centres, place), axis=1)
        distances = np.arctan2(crossed, source.centres @ place)
        nearest = np.argsort(distances, kind="stable")[:k]
        weights = distances[nearest] ** -power if distances.min() > 0 else distances[nearest] == 0
        dense[row, nearest] = weights / weights.sum()
    return dense


def scattered(n: int, seed: int) -> PointGrid:
    random = np.random.default_rng(seed)
    lat = np.rad2deg(np.arcsin(random.uniform(-1, 1, n)))
    return PointGrid(random.uniform(-180, 360, n), lat)


@pytest.mark.parametrize(("k", "power"), [(1, 1.0), (4, 1.0), (7, 2.0), (50, 3.5)])
def test_inverse_distances_are_those_of_all_pairs(k: int, power: float) -> None:
    source = scattered(37, 1)
    for target in (HealpixGrid(2), LatLonGrid(np.arange(0, 360, 30.0), [88.0, 1.0]), source):
        matrix = inverse_distance_weights(source, target, n_neighbours=k, power=power)
        expected = brute_force(source, target, k, power)
        np.testing.assert_allclose(matrix.toarray(), expected, atol=1e-12)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-14)


def test_a_source_at_the_place_takes_all_weight_and_shares_it_with_its_likes() -> None:
    source = PointGrid([10.0, 370.0, 12.0, 13.0, 10.0], [5.0, 5.0, 5.0, 5.0, 5.0])
    target = PointGrid([10.0, 11.0], [5.0, 5.0])
    dense = inverse_distance_weights(source, target, n_neighbours=2).toarray()
    np.testing.assert_allclose(dense[0], [1 / 3, 1 / 3, 0, 0, 1 / 3])
    np.testing.assert_allclose(dense[1], [1 / 6, 1 / 6, 1 / 2, 0, 1 / 6], rtol=1e-6)


def test_of_equally_far_neighbours_the_first_are_taken() -> None:
    lon = np.array([45.0, 0.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0])
    pole = PointGrid([0.0], [90.0])
    for shift in range(8):
        source = PointGrid(np.roll(lon, shift), np.full(8, 80.0))
        assert inverse_distance_weights(source, pole, n_neighbours=3).indices.tolist() == [0, 1, 2]


def test_numbers_of_neighbours_and_powers_must_be_positive() -> None:
    points = PointGrid([0.0, 1.0], [2.0, 3.0])
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"n_neighbours must be a positive.*got {wrong}"):
            inverse_distance_weights(points, points, n_neighbours=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="power must be positive and finite, got -1"):
        inverse_distance_weights(points, points, power=-1)


# --- real meshes


@pytest.mark.parametrize(
    ("file", "level"), [("triangular_grid_ICON.nc", 5), ("lfric_surface_mean.nc", 4)]
)
def test_real_meshes_fill_the_sphere(test_data: Path, file: str, level: int) -> None:
    with xr.open_dataset(test_data / "other_grids" / file, decode_times=False) as ds:
        grid: Any = horizontal_grid(ds).grid
    assert grid.has_bounds
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    shared, totals = polygon_areas_in_cells(grid, HealpixGrid(level))
    np.testing.assert_allclose(shared.sum(axis=0), 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(totals * np.pi / 3 / 4**level, grid.areas, rtol=1e-7)


def test_cells_around_the_centres_of_a_real_mesh_fill_the_sphere(test_data: Path) -> None:
    with xr.open_dataset(test_data / "other_grids" / "MPAS.nc") as ds:
        step = 40
        lon, lat = (
            np.rad2deg(ds["lonCell"].values[::step]),
            np.rad2deg(ds["latCell"].values[::step]),
        )
    points = lonlat_to_vectors(lon, lat)
    cells = SphericalVoronoi(points, threshold=1e-12)
    cells.sort_vertices_of_regions()
    corners = np.full((len(points), max(map(len, cells.regions))), -1)
    for cell, region in enumerate(cells.regions):
        corners[cell, : len(region)] = region
    places = np.append(np.stack(vectors_to_lonlat(cells.vertices)), [[np.nan], [np.nan]], axis=1)
    grid = PointGrid(lon, lat, *places[:, corners])
    matrix = conservative_weights(grid, HealpixGrid(4))
    assert isinstance(matrix, sparse.csr_array)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-12)
