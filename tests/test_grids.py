"""Grids: where cells are, how large, which of them holds a point, and that they never change."""

import pickle
from typing import Any

import healpy
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.tiers import examples
from xsphere.grids import (
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    level_from_nside,
    lonlat_to_vectors,
    tangent_vectors,
    vectors_to_lonlat,
)

Floats = NDArray[np.float64]
levels = st.integers(0, 5)
schemes = st.sampled_from(["nested", "ring"])
longitudes = st.floats(-360.0, 720.0)
latitudes = st.floats(-90.0, 90.0)


@st.composite
def healpix_grids(draw: st.DrawFn) -> HealpixGrid:
    """The whole sphere or a part of it, in any order."""
    level, scheme = draw(levels), draw(schemes)
    if draw(st.booleans()):
        return HealpixGrid(level, scheme)
    ids = draw(st.lists(st.integers(0, 12 * 4**level - 1), min_size=1, max_size=20, unique=True))
    return HealpixGrid(level, scheme, ids)


@st.composite
def lat_lon_grids(draw: st.DrawFn) -> LatLonGrid:
    """Global or regional grids of any spacing, in any order and convention."""
    n_lat, n_lon = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    steps = draw(st.lists(st.floats(0.1, 1.0), min_size=n_lon, max_size=n_lon))
    span = draw(st.sampled_from([360.0, 60.0, 200.0]))
    edges = draw(st.floats(-180.0, 180.0)) + span * np.cumsum([0.0, *steps]) / np.sum(steps)
    lon_bounds = np.stack([edges[:-1], edges[1:]], -1)
    rows = np.linspace(draw(st.floats(-90, -10)), draw(st.floats(0, 90)), n_lat + 1)
    lat_bounds = np.stack([rows[:-1], rows[1:]], -1)
    if draw(st.booleans()):
        lat_bounds = lat_bounds[::-1]
    if draw(st.booleans()):
        lon_bounds = lon_bounds[::-1]
    return LatLonGrid(lon_bounds.mean(-1), lat_bounds.mean(-1), lon_bounds, lat_bounds)


@st.composite
def point_grids(draw: st.DrawFn) -> PointGrid:
    points = draw(st.lists(st.tuples(longitudes, latitudes), min_size=1, max_size=12))
    return PointGrid(*np.array(points).T)


grids = st.one_of(healpix_grids(), lat_lon_grids(), point_grids())


@given(longitudes, latitudes)
def test_vectors_are_unit_and_go_back(lon: float, lat: float) -> None:
    vector = lonlat_to_vectors(lon, lat)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-15)
    back_lon, back_lat = vectors_to_lonlat(3.0 * vector)
    assert 0.0 <= back_lon < 360.0
    np.testing.assert_allclose(lonlat_to_vectors(back_lon, back_lat), vector, atol=1e-14)
    assert back_lat == pytest.approx(lat, abs=1e-12)


@pytest.mark.parametrize("y", [-1e-300, -1e-17, -0.0, 0.0])
def test_longitude_never_rounds_up_to_a_whole_turn(y: float) -> None:
    assert vectors_to_lonlat([1.0, y, 0.0])[0] == 0.0


@given(grids)
def test_cells_have_what_every_grid_has(grid: Grid) -> None:
    assert grid.n_cells == np.prod(grid.shape)
    lon, lat = grid.centre_lonlat
    assert lon.shape == lat.shape == grid.areas.shape == (grid.n_cells,)
    np.testing.assert_allclose(grid.centres, lonlat_to_vectors(lon, lat), atol=1e-14)
    assert (grid.areas >= 0).all()
    assert grid.areas.sum() <= 4 * np.pi * (1 + 1e-9)
    assert not isinstance(grid, LatLonGrid) or grid.largest_area == grid.areas.max()
    with pytest.raises(ValueError, match="read-only"):
        grid.centres[0] = 0.0


@given(st.one_of(healpix_grids(), lat_lon_grids()))
@example(LatLonGrid(np.linspace(0, 360, 13), np.linspace(90, -90, 7)))
@example(LatLonGrid(np.linspace(180, -180, 13), np.linspace(-90, 90, 8)))
def test_centres_are_inside_their_cells(grid: Any) -> None:
    found = grid.cells_at(*grid.centre_lonlat)
    expected = np.arange(grid.n_cells)
    if isinstance(grid, LatLonGrid) and grid.has_cyclic_column:
        expected = expected.reshape(grid.shape)
        expected[:, -1] = expected[:, 0]
    np.testing.assert_array_equal(found, expected.ravel())


@given(grids, grids)
def test_grids_are_equal_when_their_content_is(one: Grid, other: Grid) -> None:
    copy = pickle.loads(pickle.dumps(one))  # of our own making
    assert copy == one
    assert hash(copy) == hash(one)
    assert copy.__dask_tokenize__() == one.__dask_tokenize__()
    parts = [grid._definition() for grid in (one, other)]
    same = type(one) is type(other) and all(
        np.array_equal(parts[0][name], parts[1][name]) for name in parts[0]
    )
    assert (one == other) == same
    assert one != "a grid"
    for value in copy._definition().values():
        assert not (isinstance(value, np.ndarray) and value.flags.writeable)


def test_pickles_hold_the_definition_alone() -> None:
    grid = HealpixGrid(6)
    assert grid.centres.size
    assert len(pickle.dumps(grid)) < 500


def test_fingerprints_are_the_same_in_every_process(elsewhere: Any) -> None:
    code = (
        "from xsphere.grids import *;"
        "print(LatLonGrid([0, 90, 200], [5, -30]).fingerprint, HealpixGrid(3, 'ring').fingerprint)"
    )
    here = (LatLonGrid([0, 90, 200], [5, -30]), HealpixGrid(3, "ring"))
    assert elsewhere(code).split() == [grid.fingerprint for grid in here]


def test_the_sign_of_zero_means_nothing() -> None:
    lat = np.array([10.0, 0.0, -10.0])
    assert LatLonGrid([0.0, 90.0], -lat[::-1]) == LatLonGrid([-0.0, 90.0], lat)
    assert PointGrid([-0.0], [0.0]) == PointGrid([0.0], [-0.0])


def test_the_arrays_of_the_caller_stay_theirs() -> None:
    lon, lat = np.array([0.0, 90.0, 180.0]), np.array([10.0, -10.0])
    grid = LatLonGrid(lon, lat)
    lon[:], lat[:] = 7.0, 7.0
    np.testing.assert_array_equal(grid.lon, [0.0, 90.0, 180.0])
    assert lon.flags.writeable


@given(levels, schemes)
def test_healpix_is_that_of_healpy(level: int, scheme: Any) -> None:
    grid = HealpixGrid(level, scheme)
    lon, lat = healpy.pix2ang(grid.nside, grid.ids, nest=scheme == "nested", lonlat=True)
    np.testing.assert_allclose(grid.centre_lonlat, [lon, lat], rtol=0, atol=1e-12)
    assert grid.areas.sum() == pytest.approx(4 * np.pi)
    assert grid.is_global
    assert grid.is_natural


@given(healpix_grids())
def test_positions_undo_ids(grid: HealpixGrid) -> None:
    np.testing.assert_array_equal(grid.positions_of(grid.nested_ids), np.arange(grid.n_cells))
    absent = np.setdiff1d(np.arange(12 * 4**grid.level), grid.nested_ids)
    assert (grid.positions_of(absent) == -1).all()


@given(healpix_grids(), st.lists(st.tuples(longitudes, latitudes), min_size=1, max_size=9))
def test_healpix_cells_hold_their_points(grid: HealpixGrid, points: Any) -> None:
    lon, lat = np.array(points).T
    cells = grid.cells_at(lon, lat)
    expected = healpy.ang2pix(grid.nside, lon, lat, nest=True, lonlat=True)
    np.testing.assert_array_equal(grid.nested_ids[cells[cells >= 0]], expected[cells >= 0])
    assert not np.isin(expected[cells < 0], grid.nested_ids).any()


@given(healpix_grids(), levels)
def test_other_levels_cover_the_same_cells(grid: HealpixGrid, level: int) -> None:
    other = grid.at_level(level)
    assert other.level == level
    if level >= grid.level:
        assert other.areas.sum() == pytest.approx(grid.areas.sum())
    fine, coarse = (other, grid) if level >= grid.level else (grid, other)
    parents = fine.nested_ids >> 2 * (fine.level - coarse.level)
    np.testing.assert_array_equal(np.unique(parents), np.unique(coarse.nested_ids))


def test_the_whole_sphere_has_one_spelling() -> None:
    assert HealpixGrid(1, cell_ids=np.arange(48)) == HealpixGrid(1)
    shuffled = HealpixGrid(1, cell_ids=np.arange(48)[::-1])
    assert shuffled.is_global
    assert not shuffled.is_natural
    assert repr(shuffled) == "HealpixGrid(level=1, nested, 48 cells)"


@given(lat_lon_grids(), st.lists(st.tuples(longitudes, latitudes), min_size=1, max_size=30))
def test_boxes_hold_their_points(grid: LatLonGrid, points: Any) -> None:
    lon, lat = np.array(points).T
    for x, y, cell in zip(lon, lat, grid.cells_at(lon, lat), strict=True):
        assert grid.lon_bounds is not None
        assert grid.lat_bounds is not None
        off = np.array([np.mod(x - west, 360.0) for west, _ in grid.lon_bounds])
        widths = np.ptp(grid.lon_bounds, axis=-1)
        near = 1e-8
        in_columns = (off <= widths + near) | (off >= 360.0 - near)
        in_rows = (y >= grid.lat_bounds[:, 0] - near) & (y <= grid.lat_bounds[:, 1] + near)
        if cell >= 0:
            row, column = divmod(cell, grid.lon.size)
            assert in_columns[column]
            assert in_rows[row]
        else:
            deep = (off >= near) & (off <= widths - near)
            inside = (y >= grid.lat_bounds[:, 0] + near) & (y <= grid.lat_bounds[:, 1] - near)
            assert not (deep.any() and inside.any())


@given(longitudes, st.integers(2, 400))
def test_no_point_falls_through_the_seam(west: float, n_lon: int) -> None:
    grid = LatLonGrid(west + np.arange(n_lon) * 360.0 / n_lon, [45.0, -45.0])
    assert grid.periodic
    assert grid.lon_bounds is not None
    edges = np.concatenate([grid.lon_bounds.ravel(), grid.lon_bounds.ravel() + 360.0])
    for lon in (edges, np.nextafter(edges, -1e9), np.nextafter(edges, 1e9)):
        assert (grid.cells_at(lon, np.full(lon.size, 90.0)) >= 0).all()
    shifted = grid.cells_at(edges + 360.0, np.zeros(edges.size))
    np.testing.assert_array_equal(shifted, grid.cells_at(edges, np.zeros(edges.size)))


def test_points_that_are_not_on_the_sphere_are_in_no_cell() -> None:
    lon, lat = [np.nan, 0.0, np.inf, 0.0], [0.0, np.nan, 0.0, 91.0]
    for grid in (HealpixGrid(1), LatLonGrid([0, 90, 180, 270], [45, -45])):
        np.testing.assert_array_equal(grid.cells_at(lon, lat), [-1, -1, -1, -1])


@pytest.mark.parametrize("n_lat", [2, 5, 32, 64, 94])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_areas_of_gaussian_rows_are_the_quadrature(n_lat: int, dtype: Any) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(n_lat)
    lat = np.rad2deg(np.arcsin(nodes)).astype(dtype)
    for rows in (lat, lat[::-1]):
        grid = LatLonGrid([0.0, 120.0, 240.0], rows)
        areas = grid.areas.reshape(grid.shape)
        np.testing.assert_allclose(areas[:, 0], weights * 2 * np.pi / 3, rtol=1e-10)


@pytest.mark.parametrize(
    ("lat", "rows"),
    [
        (np.linspace(90, -90, 721), 721),
        (np.linspace(-89.5, 89.5, 180).astype(np.float32), 180),
        (np.linspace(-87.5, 87.5, 36), 36),
        (np.arange(90, -91, -2.5), 73),
    ],
)
def test_global_rows_reach_the_poles(lat: Floats, rows: int) -> None:
    grid = LatLonGrid([0.0, 90.0, 180.0, 270.0], lat)
    assert grid.shape == (rows, 4)
    assert grid.includes_poles == (True, True)
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)


def test_areas_near_a_pole_keep_their_precision() -> None:
    grid = LatLonGrid(
        [180.0], [89.9995, 90.0], [[0, 360]], [[89.999, 89.9999999], [89.9999999, 90]]
    )
    colatitude = np.deg2rad(1e-7)
    assert grid.areas[1] == pytest.approx(np.pi * colatitude**2, rel=1e-8)


@pytest.mark.parametrize(
    ("lon", "periodic"),
    [
        (np.arange(0, 360, 0.25), True),
        (np.arange(-180, 180, 2.5), True),
        (np.linspace(0, 360, 145), True),
        (np.arange(0, 360, 1.40625).astype(np.float32), True),
        (np.arange(359.5, 0, -1), True),
        (np.arange(-20, 41, 5), False),
    ],
)
def test_columns_know_whether_they_go_round(lon: Any, periodic: bool) -> None:
    grid = LatLonGrid(lon, [80.0, 40.0, 0.0])
    assert grid.periodic is periodic
    assert grid.lon_bounds is not None
    total = np.ptp(grid.lon_bounds, axis=-1).sum()
    assert total == pytest.approx(360.0 if periodic else 65.0, abs=1e-4)


def test_bounds_across_the_seam_find_their_centres() -> None:
    lon = np.arange(0.0, 360.0, 45.0)
    edges = np.stack([(lon - 22.5) % 360.0, (lon + 22.5) % 360.0], -1)
    grid = LatLonGrid(lon, [60.0, -60.0], lon_bounds=edges)
    assert grid == LatLonGrid(lon, [60.0, -60.0])
    halves = LatLonGrid([-180.0, 0.0], [60.0, -60.0], lon_bounds=[[90, 270], [270, 90]])
    np.testing.assert_array_equal(halves.lon_bounds, [[-270.0, -90.0], [-90.0, 90.0]])
    wide = LatLonGrid([100.0, 280.0], [60.0, -60.0], lon_bounds=[[0, 200], [200, 360]])
    np.testing.assert_array_equal(wide.lon_bounds, [[0.0, 200.0], [200.0, 360.0]])
    single = LatLonGrid([0.0], [60.0, -60.0], lon_bounds=[[350, 10]])
    np.testing.assert_array_equal(single.lon_bounds, [[-10.0, 10.0]])
    around = LatLonGrid([0.0], [60.0, -60.0], lon_bounds=[[0, 360]])
    np.testing.assert_array_equal(around.lon_bounds, [[0.0, 360.0]])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_repeated_column_has_no_area_whatever_its_bounds(sign: int) -> None:
    lon = np.linspace(0.0, 360.0, 13)[::sign]
    bounds = np.stack([lon - 15.0, lon + 15.0], -1)
    grid = LatLonGrid(lon, [45.0, -45.0], lon_bounds=bounds)
    assert grid.has_cyclic_column
    assert grid == LatLonGrid(lon, [45.0, -45.0])
    assert grid.areas.sum() == pytest.approx(4 * np.pi)
    halves = bounds.clip(0.0, 360.0)
    assert LatLonGrid(lon, [45.0, -45.0], lon_bounds=halves).areas.sum() == pytest.approx(4 * np.pi)


@given(st.integers(4, 60), st.integers(0, 99))
def test_areas_of_points_fill_the_sphere(n_points: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    lon, lat = (
        random.uniform(-180, 180, n_points),
        np.rad2deg(np.arcsin(random.uniform(-1, 1, n_points))),
    )
    grid = PointGrid(lon, lat)
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-6)
    doubled = PointGrid(np.append(lon, lon[0] + 360.0), np.append(lat, lat[0]))
    assert doubled.areas[0] == doubled.areas[-1] == pytest.approx(grid.areas[0] / 2, rel=1e-6)


@examples(300)
@given(point_grids())
@example(PointGrid([0.0, 10.0, 100.0, 170.0], [0.0, 0.0, 0.0, 0.0]))
@example(PointGrid([0, -1.5, 0, 328.5], [-5.960464477539063e-08, -40.9, 0, 1.587]))
def test_areas_of_any_points_fill_the_sphere(grid: PointGrid) -> None:
    assert (grid.areas > 0).all()
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-6)


def test_points_on_a_circle_share_the_sphere_by_longitude() -> None:
    for lat in (0.0, 60.0, -89.0):
        grid = PointGrid([0.0, 90.0, -135.0, 180.0], [lat] * 4)
        expected = np.deg2rad([90 + 135, 90 + 90, 45 + 135, 45 + 90])
        np.testing.assert_allclose(grid.areas, expected, rtol=1e-9)
    near = PointGrid([0.0, 90.0, -135.0, 180.0], [1e-4, -1e-4, 1e-4, -1e-4])
    np.testing.assert_allclose(near.areas, expected, rtol=1e-2)


def octants(**changes: Any) -> PointGrid:
    """Two octants that meet at the north pole, in opposite senses, with room for four corners."""
    parts: dict[str, Any] = {
        "lon": [45.0, 135.0],
        "lat": [35.0, 35.0],
        "lon_bounds": [[0, 90, 7, np.nan], [90, -99, 180, 180]],
        "lat_bounds": [[0, 0, 90, np.nan], [0, 90, 0, 0]],
    }
    return PointGrid(**{**parts, **changes})


def test_polygons_have_their_own_areas() -> None:
    grid = octants()
    assert grid.has_bounds
    assert repr(grid) == "PointGrid(2 cells of up to 4 corners)"
    np.testing.assert_allclose(grid.areas, np.pi / 2, rtol=1e-14)
    np.testing.assert_array_equal(grid.lon_bounds, [[0, 90, 7, 7], [90, -99, 180, 180]])
    assert not grid.lat_bounds.flags.writeable  # type: ignore[union-attr]


def test_small_polygons_have_the_areas_of_the_plane() -> None:
    from xsphere.grids.polygon_areas import polygon_areas

    east, north = tangent_vectors(50.0, 40.0)
    # 60 m on the Earth
    corners = lonlat_to_vectors(50.0, 40.0) + 1e-5 * (
        np.outer([1, 0, -1, 0], east) + np.outer([0, 2, 0, -2], north)
    )
    corners /= np.linalg.norm(corners, axis=-1, keepdims=True)
    np.testing.assert_allclose(polygon_areas(corners), 4e-10, rtol=1e-9)
    np.testing.assert_allclose(polygon_areas(corners[::-1]), -4e-10, rtol=1e-9)


def test_polygons_are_part_of_the_grid() -> None:
    grid, bare = octants(), PointGrid([45.0, 135.0], [35.0, 35.0])
    assert not bare.has_bounds
    assert grid != bare
    assert grid == octants(lon_bounds=[[0, 90, 7, 7], [90, -99, 180, np.nan]],
                           lat_bounds=[[0, 0, 90, 90], [0, 90, 0, np.nan]])  # fmt: skip
    assert grid != octants(lat_bounds=[[0, 0, 90, np.nan], [0, 90, 1, 1]])
    copy = pickle.loads(pickle.dumps(grid))
    assert copy == grid
    np.testing.assert_array_equal(copy.areas, grid.areas)
    assert pickle.loads(pickle.dumps(bare)).lon_bounds is None


@given(longitudes, latitudes, st.floats(0.01, 60), st.integers(3, 8), st.integers(0, 99))
def test_centroids_are_means_over_the_polygon(
    lon: float, lat: float, radius: float, n: int, seed: int
) -> None:
    from xsphere.grids.polygon_areas import polygon_areas, polygon_centroids

    turn = np.sort(np.random.default_rng(seed).uniform(0, 2 * np.pi, n))
    east, north = tangent_vectors(lon, lat)
    off = np.sin(np.deg2rad(radius))
    corners = (
        np.cos(np.deg2rad(radius)) * lonlat_to_vectors(lon, lat)
        + off * np.outer(np.cos(turn), east)
        + off * np.outer(np.sin(turn), north)
    )
    # the same from two parts, by their areas
    parts = [corners[:3], corners[[0, *range(2, n)]]]
    areas = [float(polygon_areas(part)) for part in parts]
    assert sum(areas) == pytest.approx(float(polygon_areas(corners)), rel=1e-9, abs=1e-14)
    centroid = polygon_centroids(corners)
    assert np.linalg.norm(centroid) == pytest.approx(1.0)
    np.testing.assert_allclose(polygon_centroids(corners[::-1]), centroid, atol=1e-9)
    angle = np.arccos(np.clip(corners @ centroid, -1, 1))
    assert angle.max() < np.deg2rad(2 * radius) + 1e-6


def test_centroid_of_a_square_is_its_middle_and_of_a_wedge_is_not() -> None:
    from xsphere.grids.polygon_areas import polygon_centroids

    square = lonlat_to_vectors([-3, 3, 3, -3], [-2, -2, 2, 2])
    np.testing.assert_allclose(polygon_centroids(square), [1, 0, 0], atol=1e-15)
    thin = lonlat_to_vectors([0.0, 0.3, 0.0], [0.0, 0.0, 0.9])
    lon, lat = vectors_to_lonlat(polygon_centroids(thin))
    # a third of the way, as on a plane
    np.testing.assert_allclose([lon, lat], [0.1, 0.3], rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HealpixGrid(30), ValueError, "level must be from 0 to 29, got 30"),
        (lambda: HealpixGrid(-1), ValueError, "level must be from 0 to 29, got -1"),
        (lambda: HealpixGrid(1.5), TypeError, "level must be an integer, got 1.5"),
        (lambda: HealpixGrid(True), TypeError, "level must be an integer, got True"),
        (lambda: HealpixGrid(1, "nest"), ValueError, "'nested' or 'ring', got 'nest'"),
        (lambda: HealpixGrid(0, cell_ids=[3, 12]), ValueError, "from 0 to 11, got 1 others, .* 12"),
        (lambda: HealpixGrid(0, cell_ids=[3, 3]), ValueError, "unique, got 1 repeated"),
        (lambda: HealpixGrid(0, cell_ids=[]), ValueError, r"non-empty 1-D array, got shape \(0,\)"),
        (lambda: HealpixGrid(1, cell_ids=[1.5]), TypeError, "cell_ids must be integers"),
        (lambda: level_from_nside(48), ValueError, "power of two from 1 to .*, got 48"),
        (lambda: level_from_nside(0), ValueError, "power of two .* got 0"),
        (lambda: LatLonGrid([0, 5, 3], [1, 2]), ValueError, "lon must increase or decrease"),
        (lambda: LatLonGrid([0, 1], [2, 9, 5]), ValueError, r"sort it .* ds.sortby\('lat'\)"),
        (lambda: LatLonGrid([0, 1], [2, 2]), ValueError, r"drop_duplicates\('lat'\)"),
        (lambda: LatLonGrid([0, 1e-6, 1], [2, 3]), ValueError, "lon must not hold .* by rounding"),
        (lambda: LatLonGrid([0, np.nan], [2, 91]), ValueError, "lon must be finite, got 1 values"),
        (lambda: LatLonGrid([0, 1], [2, 91]), ValueError, "within -90..90 degrees, got up to 91"),
        (lambda: LatLonGrid([0, 400], [2, 1]), ValueError, "at most 360 degrees, got 400"),
        (lambda: LatLonGrid([[0]], []), ValueError, r"lon must be .* \(1, 1\); lat must be a "),
        (
            lambda: LatLonGrid([0, 1], [2, 1], lat_bounds=[[1, 2, 3]]),
            ValueError,
            r"lat_bounds must have shape \(2, 2\), got \(1, 3\)",
        ),
        (
            lambda: LatLonGrid([0, 1], [2, 1], lat_bounds=[[1, 2], [np.nan, 1]]),
            ValueError,
            "lat_bounds must be finite",
        ),
        (
            lambda: LatLonGrid([0, 1], [2, 1], lat_bounds=[[3, 4], [0, 1]]),
            ValueError,
            r"lat_bounds must contain their centres, but 1 do not, such as \[3. 4.\] for 2",
        ),
        (
            lambda: LatLonGrid([0, 1], [2, 1], lat_bounds=[[0.5, 3], [0, 1.5]]),
            ValueError,
            "lat_bounds must not overlap, but 1 do, such as up to 1.5 and from 0.5",
        ),
        (
            lambda: LatLonGrid([0, 300], [2, 1], lon_bounds=[[-70, 10], [280, 320]]),
            ValueError,
            "lon_bounds must cover at most 360 degrees, got 390",
        ),
        (lambda: PointGrid([0, 1], [2]), ValueError, r"got shapes \(2,\) and \(1,\)"),
        (lambda: PointGrid([0, 1], [2, 95]), ValueError, r"1 points .* \(1, 95\) at 1; drop them"),
        (
            lambda: octants(lat_bounds=None),
            ValueError,
            r"shape \(n_cells, n_vertices\) with 2 cells, got \(2, 4\) and None; give both",
        ),
        (
            lambda: octants(lon=[1], lat=[2]),
            ValueError,
            r"with 1 cells, got \(2, 4\) and \(2, 4\); give both, transposed if need be",
        ),
        (
            lambda: octants(lat_bounds=[[0, 0, 91, np.nan], [0, np.inf, 0, 0]]),
            ValueError,
            "lat_bounds within -90..90 degrees, .* got 2 cells that are otherwise, at 0, 1; corr",
        ),
        (
            lambda: octants(lon_bounds=[[0, 90, 7, np.nan], [90, np.nan, 180, 180]],
                            lat_bounds=[[0, 0, 90, np.nan], [0, np.nan, 0, 0]]),
            ValueError,
            "NaN only after the last corner of a cell, got 1 cells that are otherwise, at 1;",
        ),
        (
            lambda: octants(lat_bounds=[[0, 0, np.nan, np.nan], [0, 90, 0, 0]]),
            ValueError,
            "must be finite, .* got 1 cells that are otherwise, at 0;",
        ),
        (
            lambda: octants(lon_bounds=[[0, 90, 0, 0], [90, 9, 180, 180]],
                            lat_bounds=[[0, 0, 0, 0], [0, 90, 0, 0]]),
            ValueError,
            "three corners or more at different places, got 1 cells that are otherwise, at 0; drop",
        ),
        (
            lambda: PointGrid([0], [90], [[0, 90, 180, 270]], [[-5, 5, -5, 5]]),
            ValueError,
            "every cell must lie within a hemisphere, got 1 cells that are otherwise, at 0; split",
        ),
        (
            lambda: octants(lon=[45.0, 13.0], lat=[35.0, -35.0]),
            ValueError,
            "must be near its centre, got 1 cells .* at 1; lon, lat and bounds must be in degrees",
        ),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
