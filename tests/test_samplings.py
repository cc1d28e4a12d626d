"""Named samplings against what is known of them, Voronoi cells, and subsets well spread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import SphericalVoronoi, cKDTree

from tests.tiers import examples
from xsphere.grids import (
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    coarsened_points,
    lonlat_to_vectors,
)
from xsphere.grids.samplings import cubed_sphere_cells, icosahedral_vertices
from xsphere.grids.voronoi import distinct_places

Floats = NDArray[np.float64]


def distances(points: Floats, k: int = 1) -> Floats:
    """Angles to the k nearest other points, in radians."""
    chords = cKDTree(points).query(points, k=k + 1)[0][:, 1:]
    return np.asarray(2 * np.arcsin(chords / 2))


# --- icosahedral


@pytest.mark.parametrize("level", range(6))
def test_icosahedral_levels_have_their_vertices_once(level: int) -> None:
    points = icosahedral_vertices(level)
    assert points.shape == (10 * 4**level + 2, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-15)
    # the edges of an icosahedron are 63.43 degrees; halving them on the sphere keeps them alike
    nearest = distances(points)
    edge = np.arctan(2.0) / 2**level
    assert 0.85 * edge < nearest.min() <= nearest.max() < 1.2 * edge


def test_icosahedral_vertices_of_the_level_below_come_first() -> None:
    coarse, fine = icosahedral_vertices(2), icosahedral_vertices(3)
    np.testing.assert_array_equal(fine[: len(coarse)], coarse)
    # each other one is the middle of two neighbours in the level below, at equal distance
    near, ids = cKDTree(coarse).query(fine[len(coarse) :], k=2)
    np.testing.assert_allclose(near[:, 0], near[:, 1], rtol=1e-12)
    middles = coarse[ids].sum(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    np.testing.assert_allclose(middles, fine[len(coarse) :], atol=1e-14)


def test_icosahedral_vertices_have_six_neighbours_and_twelve_five() -> None:
    cells: Any = SphericalVoronoi(icosahedral_vertices(3), threshold=1e-10)
    n_corners = np.array([len(region) for region in cells.regions])
    assert np.flatnonzero(n_corners == 5).tolist() == list(range(12))
    assert (n_corners[12:] == 6).all()


def test_icosahedral_vertices_are_symmetric() -> None:
    points = icosahedral_vertices(4)
    turn, half = np.deg2rad(72.0), np.deg2rad(36.0)
    for angle, sign in ((turn, 1.0), (half, -1.0)):
        c, s = np.cos(angle), np.sin(angle)
        turned = points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, sign]]).T
        assert cKDTree(points).query(turned)[0].max() < 1e-14
    # the mean of x x' of anything with the symmetry of the icosahedron
    np.testing.assert_allclose(points.T @ points / len(points), np.eye(3) / 3, atol=1e-13)


def test_a_real_mesh_of_the_same_level_is_as_fine(test_data: Path) -> None:
    with xr.open_dataset(
        test_data / "other_grids" / "triangular_grid_ICON.nc", decode_times=False
    ) as ds:
        corners = [np.rad2deg(ds[name].values) for name in ("clon_vertices", "clat_vertices")]
    # twenty triangles, divided in four 5 times, then turned and relaxed
    vertices = np.unique(lonlat_to_vectors(*corners).reshape(-1, 3).round(8), axis=0)
    ours = icosahedral_vertices(5)
    assert len(vertices) == len(ours)
    assert distances(vertices).mean() == pytest.approx(distances(ours).mean(), rel=0.05)


# --- cubed sphere


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_cubed_sphere_fills_the_sphere_with_symmetric_cells(n: int) -> None:
    grid = PointGrid.cubed_sphere(n)
    assert grid.n_cells == 6 * n**2
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-13)
    faces = grid.areas.reshape(6, n, n)
    np.testing.assert_allclose(faces.sum(axis=(1, 2)), 4 * np.pi / 6)
    for other in (faces[:, ::-1], faces[:, :, ::-1], faces.transpose(0, 2, 1), faces[::-1]):
        np.testing.assert_allclose(faces, other, rtol=1e-12)
    # Ronchi et al. (1996): areas differ by less than a factor of sqrt(2)
    assert faces.max() / faces.min() < np.sqrt(2)


def test_cubed_sphere_cells_are_at_equal_angles() -> None:
    n = 4
    grid = PointGrid.cubed_sphere(n)
    lon, lat = (axis[: n * n].reshape(n, n) for axis in grid.centre_lonlat)
    np.testing.assert_allclose(lon[0], [326.25 - 360 + 360, 348.75, 11.25, 33.75])
    # along the middle of a face the angle is the latitude; elsewhere that of the gnomonic view
    slope = np.tan(np.deg2rad(lat)) / np.cos(np.deg2rad(lon))
    np.testing.assert_allclose(np.rad2deg(np.arctan(slope))[:, 0], [-33.75, -11.25, 11.25, 33.75])
    assert (np.diff(lat, axis=0) > 0).all()


def test_cubed_sphere_faces_meet_in_equal_corners() -> None:
    _, corners = cubed_sphere_cells(6)
    # a closed mesh of quadrilaterals has two corners more than cells
    assert len(np.unique(corners.reshape(-1, 3).round(14) + 0.0, axis=0)) == 6 * 36 + 2
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
    assert (np.einsum("ij,ij->i", crossed, corners.mean(axis=1)) > 0).all()


# --- others


@given(st.integers(1, 3000))
@examples(20)
def test_fibonacci_is_one_point_in_every_zone_of_equal_area(n: int) -> None:
    grid = PointGrid.fibonacci(n)
    zones = np.floor((1 - grid.centres[:, 2]) * n / 2 + 1e-9).astype(int)
    assert zones.tolist() == list(range(n))
    np.testing.assert_allclose(grid.lat, -grid.lat[::-1], atol=1e-6)


def test_fibonacci_is_evenly_spaced() -> None:
    grid = PointGrid.fibonacci(4000)
    # packed at most as hexagons, 1.0746 * sqrt(area of a cell)
    spacing = distances(grid.centres)[:, 0] / np.sqrt(4 * np.pi / 4000)
    assert 0.7 < spacing.min() <= spacing.max() < 1.08
    assert grid.areas.std() < 0.05 * grid.areas.mean()


def test_random_points_are_uniform() -> None:
    points = PointGrid.random(20_000, seed=3).centres
    counts = np.bincount(HealpixGrid(1).cells_at(*PointGrid.random(20_000, seed=3).centre_lonlat))
    expected = len(points) / 48
    # chi-squared of 47 degrees of freedom: beyond 95 once in 20,000 seeds
    assert 15 < ((counts - expected) ** 2 / expected).sum() < 95
    assert PointGrid.random(20) != PointGrid.random(20, seed=1)


@pytest.mark.parametrize(("n", "count"), [(1, 40), (32, 5248), (80, 28_480), (320, 421_120)])
def test_reduced_gaussian_has_the_points_of_the_ecmwf(n: int, count: int) -> None:
    assert 4 * n * (n + 9) == count
    if n > 80:
        return
    grid = PointGrid.reduced_gaussian(n)
    assert grid.n_cells == count
    lat, sizes = np.unique(-grid.lat, return_counts=True)
    np.testing.assert_allclose(
        np.sort(np.sin(np.deg2rad(lat))), np.polynomial.legendre.leggauss(2 * n)[0]
    )
    assert sizes.tolist() == [4 * i + 16 for i in [*range(1, n + 1), *range(n, 0, -1)]]
    steps = np.diff(grid.lon[grid.lat == grid.lat[0]])
    assert grid.lon[0] == 0.0
    np.testing.assert_allclose(steps, 18.0)


def test_reduced_gaussian_rows_of_o32_are_where_the_ecmwf_has_them() -> None:
    lat = np.unique(PointGrid.reduced_gaussian(32).lat)[::-1]
    # the N32 latitudes that the ECMWF publishes
    np.testing.assert_allclose(lat[:4], [87.8638, 85.0965, 82.3129, 79.5256], atol=5e-5)


# --- latitude and longitude


def test_equiangular_rows() -> None:
    b = 5
    grid = LatLonGrid.equiangular(2 * b, 2 * b)
    colatitude = np.deg2rad(90.0 - grid.lat)
    np.testing.assert_allclose(colatitude, np.pi * (2 * np.arange(2 * b) + 1) / (4 * b))
    north = LatLonGrid.equiangular(2 * b, 2 * b, poles="north")
    np.testing.assert_allclose(np.deg2rad(90.0 - north.lat), np.pi * np.arange(2 * b) / (2 * b))
    both = LatLonGrid.equiangular(181, 360, poles="both")
    np.testing.assert_array_equal(both.lat, np.arange(90.0, -91, -1))
    np.testing.assert_array_equal(both.lon, np.arange(360.0))


@pytest.mark.parametrize("poles", ["none", "north", "both"])
@pytest.mark.parametrize("shape", [(2, None), (3, 1), (7, 12), (64, 128)])
def test_equiangular_grids_cover_the_sphere(poles: Any, shape: tuple[int, int | None]) -> None:
    grid = LatLonGrid.equiangular(*shape, poles=poles)
    assert grid.shape == (shape[0], 2 * shape[0] if shape[1] is None else shape[1])
    assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-13)
    assert grid.periodic
    assert grid.includes_poles == (True, True)
    assert grid.cells_at(*grid.centre_lonlat).tolist()[-1] == grid.n_cells - 1


@pytest.mark.parametrize("n_lat", [1, 2, 5, 64])
def test_gaussian_rows_are_nodes_and_areas_weights(n_lat: int) -> None:
    grid = LatLonGrid.gaussian(n_lat)
    nodes, weights = np.polynomial.legendre.leggauss(n_lat)
    np.testing.assert_allclose(np.sin(np.deg2rad(grid.lat)), nodes[::-1], atol=1e-15)
    np.testing.assert_allclose(grid.areas.reshape(grid.shape).sum(axis=1), 2 * np.pi * weights)
    assert grid.shape == (n_lat, 2 * n_lat)
    assert LatLonGrid.gaussian(n_lat, 7).shape == (n_lat, 7)


# --- Voronoi


@pytest.mark.parametrize(
    "grid",
    [
        PointGrid.icosahedral(3),
        PointGrid.fibonacci(500),
        PointGrid.random(300),
        PointGrid.reduced_gaussian(6),
        PointGrid(*LatLonGrid.equiangular(9).centre_lonlat),
        PointGrid(*HealpixGrid(3).centre_lonlat),
        PointGrid.cubed_sphere(5),
    ],
    ids=repr,
)
def test_voronoi_cells_fill_the_sphere_and_hold_what_is_nearest(grid: PointGrid) -> None:
    cells = grid.with_voronoi_bounds()
    np.testing.assert_array_equal(cells.centres, grid.centres)
    assert cells.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    if not grid.has_bounds:
        np.testing.assert_allclose(cells.areas, grid.areas, rtol=1e-7)
    assert cells.lon_bounds is not None
    corners = lonlat_to_vectors(cells.lon_bounds, cells.lat_bounds)
    own = np.linalg.norm(corners - grid.centres[:, None], axis=-1)
    nearest = cKDTree(grid.centres).query(corners)[0]
    np.testing.assert_allclose(own, nearest, atol=1e-9)


def test_voronoi_cells_on_circles_have_no_repeated_corners() -> None:
    cells = PointGrid(*LatLonGrid.equiangular(16).centre_lonlat).with_voronoi_bounds()
    assert cells.lon_bounds is not None
    assert cells.lon_bounds.shape[1] == 4


def test_voronoi_cells_share_their_edges_alike_with_healpy_neighbours() -> None:
    grid = HealpixGrid(3)
    cells = PointGrid(*grid.centre_lonlat).with_voronoi_bounds()
    # twice the length from centre to corner reaches over at least one of healpy's neighbours
    ids = healpy.get_all_neighbours(grid.nside, np.arange(grid.n_cells), nest=True)
    chords = np.where(
        ids.T < 0, np.inf, np.linalg.norm(grid.centres[ids.T] - grid.centres[:, None], axis=-1)
    )
    assert cells.lon_bounds is not None
    corners = lonlat_to_vectors(cells.lon_bounds, cells.lat_bounds)
    reach = np.linalg.norm(corners - grid.centres[:, None], axis=-1).max(axis=1)
    assert (2 * reach > chords.min(axis=1)).all()
    np.testing.assert_allclose(cells.areas, grid.areas, rtol=0.35)


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        (PointGrid([0, 10, 0, 20], [5, 5, 5, 80]), "different places, got 2 .* at 0, 2; drop the"),
        (PointGrid([0, 120, 240], [0, 0, 0]), "no hemisphere empty, got 3 that do; give"),
        (PointGrid(np.arange(0, 360, 30), np.full(12, 50.0)), "no hemisphere empty, got 12"),
        (PointGrid(np.arange(0, 360, 30), np.zeros(12)), "no hemisphere empty, got 12"),
        (PointGrid([5, 9, 7, 6, 12], [41, 44, 47, 43, 46]), "no hemisphere empty, got 5"),
        (PointGrid([5], [41]), "no hemisphere empty, got 1 "),
    ],
)
def test_points_without_polygons_are_refused(grid: PointGrid, problem: str) -> None:
    with pytest.raises(ValueError, match=f"Voronoi cells need points .*{problem}"):
        grid.with_voronoi_bounds()


@given(st.floats(0.0, 2e-7), st.integers(2, 5))
@examples(25)
def test_points_that_share_a_place_are_found_however_coordinates_round(y: float, n: int) -> None:
    # 6 cm apart in a row, and one 600 km off
    lon = np.rad2deg(y + np.append(1e-8 * np.arange(n), 0.1))
    first, place = distinct_places(PointGrid(lon, np.zeros(n + 1)).centres)
    assert first.size == 2
    assert set(place[:n]) == {place[0]}
    assert place[n] != place[0]
    np.testing.assert_array_equal(place[first], [0, 1])


# --- subsets


@given(st.integers(1, 60), st.integers(0, 5))
@examples(25)
def test_coarsened_points_are_as_far_apart_as_from_the_rest(n_cells: int, seed: int) -> None:
    grid = PointGrid.random(60, seed=9)
    coarse = coarsened_points(grid, n_cells, seed=seed)
    lonlat = list(zip(*grid.centre_lonlat, strict=True))
    kept = [lonlat.index(place) for place in zip(*coarse.centre_lonlat, strict=True)]
    assert kept == sorted(set(kept))
    assert len(kept) == n_cells
    if 1 < n_cells < 60:
        # Gonzalez: no point left out is farther from those chosen than they are from each other
        rest = cKDTree(coarse.centres).query(grid.centres)[0].max()
        assert rest <= distances(coarse.centres).min() * 1.0001 + 1e-12 or n_cells == 2
        chords = cKDTree(coarse.centres).query(coarse.centres, k=2)[0][:, 1]
        assert rest <= chords.min() + 1e-12
    assert coarse == coarsened_points(grid, n_cells, seed=seed)


def test_fewer_points_are_a_part_of_more() -> None:
    grid = PointGrid.random(200)
    few, more = (coarsened_points(grid, n, seed=4) for n in (20, 50))
    assert set(few.lon) < set(more.lon)
    assert coarsened_points(HealpixGrid(2), 10).n_cells == 10


def test_clusters_are_thinned_and_repeats_left_out() -> None:
    crowd = np.random.default_rng(1).normal([10.0, 50.0], 0.1, (300, 2))
    spread = PointGrid.fibonacci(50)
    grid = PointGrid(np.append(crowd[:, 0], spread.lon), np.append(crowd[:, 1], spread.lat))
    coarse = coarsened_points(grid, 50)
    assert (np.hypot(coarse.lon - 10, coarse.lat - 50) < 2).sum() <= 2
    twice = PointGrid([1.0, 2.0, 1.0], [3.0, 3.0, 3.0])
    assert set(coarsened_points(twice, 2).lon) == {1.0, 2.0}
    with pytest.raises(ValueError, match="n_cells must be from 1 to 2, got 3"):
        coarsened_points(twice, 3)


# --- input


COUNTED: list[tuple[str, Callable[[Any], Any], int]] = [
    ("level", PointGrid.icosahedral, -1),
    ("level", PointGrid.icosahedral, 13),
    ("n", PointGrid.cubed_sphere, 0),
    ("n", PointGrid.fibonacci, 0),
    ("n", PointGrid.random, 0),
    ("n", PointGrid.reduced_gaussian, 0),
    ("n_lat", LatLonGrid.equiangular, 0),
    ("n_lat", LatLonGrid.gaussian, 0),
    ("n_lon", lambda n: LatLonGrid.gaussian(3, n), 0),
    ("n_lon", lambda n: LatLonGrid.equiangular(3, n), -2),
    ("seed", lambda seed: PointGrid.random(4, seed), -1),
    ("seed", lambda seed: coarsened_points(PointGrid.random(4), 2, seed=seed), -1),
    ("n_cells", lambda n: coarsened_points(PointGrid.random(4), n), 0),
]


@pytest.mark.parametrize(("name", "make", "wrong"), COUNTED)
def test_numbers_are_integers_in_range(name: str, make: Callable[[Any], Any], wrong: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be (at least|from) .*got {wrong}"):
        make(wrong)
    for value in (2.0, "2", True):
        with pytest.raises(TypeError, match=f"{name} must be an integer, got {value!r}"):
            make(value)


def test_poles_are_known_and_need_two_rows() -> None:
    with pytest.raises(
        ValueError, match=r"poles must be one of \['both', 'none', 'north'\], got 'so"
    ):
        LatLonGrid.equiangular(4, poles="south")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_lat must be at least 2, got 1"):
        LatLonGrid.equiangular(1, poles="both")
