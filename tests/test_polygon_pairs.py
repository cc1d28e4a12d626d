"""Polygons of two unstructured grids against each other, by oracles that know no clipping."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.test_polygons import TILINGS, cube, from_vectors, inside, octahedron, voronoi
from tests.tiers import examples
from xsphere.conventions import horizontal_grid
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.weights import conservative_weights, shares_areas
from xsphere.weights.polygon_pairs import polygon_areas_in_polygons

Floats = NDArray[np.float64]


def corners_of(grid: PointGrid) -> Floats:
    assert grid.lon_bounds is not None
    return lonlat_to_vectors(grid.lon_bounds, grid.lat_bounds)


def check_tilings(source: PointGrid, target: PointGrid, rounding: float = 1e-12) -> None:
    weights = conservative_weights(source, target)
    assert (weights.data > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=rounding)
    np.testing.assert_allclose(target.areas @ weights, source.areas, rtol=rounding)


NAMES = ["octahedron", "turned-cube", "cubed-sphere", "turned-cubed-sphere", "voronoi-9"]


@pytest.mark.parametrize("source", [*NAMES, "voronoi-2000"])
@pytest.mark.parametrize("target", [*NAMES, "voronoi-70"])
def test_means_are_kept_both_ways(source: str, target: str) -> None:
    check_tilings(TILINGS[source], TILINGS[target])


@examples(30)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 10**6))
def test_means_are_kept_between_any_voronoi_cells(n: int, m: int, seed: int) -> None:
    # small cells far between large ones lose digits to their own corners
    check_tilings(voronoi(n, seed)[0], voronoi(m, seed + 1)[0], 1e-10)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (PointGrid.icosahedral(3).with_voronoi_bounds(), PointGrid.cubed_sphere(16)),
        (PointGrid.cubed_sphere(8), PointGrid.cubed_sphere(16)),
        (PointGrid.cubed_sphere(40), PointGrid.icosahedral(2).with_voronoi_bounds()),
    ],
    ids=["icosahedral-cubed", "cubed-finer", "cubed-icosahedral"],
)
def test_means_are_kept_between_named_grids(source: PointGrid, target: PointGrid) -> None:
    check_tilings(source, target)
    check_tilings(target, source)


def test_a_cubed_sphere_of_twice_the_cells_nests() -> None:
    weights = conservative_weights(PointGrid.cubed_sphere(8), PointGrid.cubed_sphere(4))
    assert np.diff(weights.indptr).tolist() == [4] * 96
    np.testing.assert_array_equal(np.bincount(weights.indices), 1)


@pytest.mark.parametrize("name", TILINGS)
def test_the_same_grid_gives_the_identity(name: str) -> None:
    grid = TILINGS[name]
    weights = conservative_weights(grid, grid)
    np.testing.assert_array_equal(weights.indices, np.arange(grid.n_cells))
    np.testing.assert_array_equal(weights.indptr, np.arange(grid.n_cells + 1))
    np.testing.assert_allclose(weights.data, 1.0, rtol=1e-12)


def test_faces_of_a_cube_have_quarters_in_octants() -> None:
    shared, sizes = polygon_areas_in_polygons(cube(), octahedron())
    dense = shared.toarray()
    np.testing.assert_allclose(np.sort(dense, axis=1)[:, 4:], np.pi / 6, rtol=1e-13)
    np.testing.assert_array_equal(np.sort(dense, axis=1)[:, :4], 0.0)
    np.testing.assert_allclose(sizes, 4 * np.pi / 6, rtol=1e-13)


@pytest.mark.parametrize("pair", [("turned-cube", "voronoi-9"), ("voronoi-70", "octahedron")])
def test_areas_are_those_of_points_in_both(pair: tuple[str, str]) -> None:
    first, second = (TILINGS[name] for name in pair)
    points = PointGrid.fibonacci(200_000).centres
    within = [
        np.array([inside(points, corners) for corners in corners_of(grid)], float)
        for grid in (first, second)
    ]
    counted = within[0] @ within[1].T * 4 * np.pi / len(points)
    shared, _ = polygon_areas_in_polygons(first, second)
    # the border of a cell is long and points are 0.008 apart: hundreds of them are uncertain
    np.testing.assert_allclose(shared.toarray(), counted, rtol=0, atol=1e-3)


def test_areas_are_those_by_way_of_fine_healpix_cells() -> None:
    source, target = TILINGS["voronoi-70"], TILINGS["turned-cubed-sphere"]
    fine = HealpixGrid(8)
    over = conservative_weights(fine, target) @ conservative_weights(source, fine)
    difference = conservative_weights(source, target) - over
    # only cells of HEALPix on borders of both grids at once take part in the difference
    assert abs(difference).max() < 2e-3
    assert abs(difference.sum(axis=1)).max() < 1e-11


# --- polygons that are not convex


def chevrons(grid: PointGrid, bend: float) -> PointGrid:
    """Two cells for every quadrilateral, which meet in a bent line: one of them is concave."""
    a, b, c, d = corners_of(grid).transpose(1, 0, 2)
    middle = (1 - bend) * (a + b + c + d) / 4 + bend * a
    middle /= np.linalg.norm(middle, axis=-1, keepdims=True)
    halves = np.stack([np.stack([a, b, middle, d], 1), np.stack([b, c, d, middle], 1)], 1)
    return from_vectors(halves.reshape(-1, 4, 3))


def wound(points: Floats, corners: Floats) -> NDArray[np.bool_]:
    """Whether points are in a polygon, by the angle under which they see it turn round them."""
    near = points @ corners.sum(axis=0) > 0
    seen = np.zeros(len(points))
    following = np.roll(corners, -1, axis=0)
    for here, there in zip(corners, following, strict=True):
        across = np.einsum("ij,ij->i", points, np.cross(here, there)[None])
        along = here @ there - (points @ here) * (points @ there)
        seen += np.arctan2(across, along)
    return near & (np.abs(seen) > np.pi)


def test_concave_cells_share_what_points_say() -> None:
    concave, convex = chevrons(cube(5), 0.5), TILINGS["voronoi-9"]
    other = chevrons(cube(8), 0.4)
    points = PointGrid.fibonacci(100_000).centres
    within = {
        id(grid): np.array([wound(points, corners) for corners in corners_of(grid)], float)
        for grid in (concave, other)
    }
    within[id(convex)] = np.array([inside(points, c) for c in corners_of(convex)], float)
    for first, second in ((concave, convex), (convex, concave), (concave, other)):
        counted = within[id(first)] @ within[id(second)].T * 4 * np.pi / len(points)
        shared, _ = polygon_areas_in_polygons(first, second)
        np.testing.assert_allclose(shared.toarray(), counted, rtol=0, atol=2.5e-3)


@pytest.mark.parametrize("bend", [1e-9, 1e-3, 0.2, 0.6, 0.95])
def test_concave_cells_keep_means(bend: float) -> None:
    concave = chevrons(cube(n=4), bend)
    turned = chevrons(cube(3, n=3), bend)
    for other in (TILINGS["voronoi-70"], turned, PointGrid.cubed_sphere(7)):
        check_tilings(concave, other)
        check_tilings(other, concave)
    weights = conservative_weights(concave, concave)
    np.testing.assert_allclose(weights.toarray(), np.eye(concave.n_cells), atol=1e-12)


def test_the_first_corner_of_a_concave_cell_does_not_matter() -> None:
    concave, other = chevrons(cube(5), 0.5), chevrons(cube(2), 0.7)
    expected = polygon_areas_in_polygons(concave, other)[0].toarray()
    for shift in (1, 2, 3):
        assert concave.lon_bounds is not None
        assert concave.lat_bounds is not None
        rolled = PointGrid(
            *concave.centre_lonlat,
            np.roll(concave.lon_bounds, shift, axis=1),
            np.roll(concave.lat_bounds, shift, axis=1),
        )
        areas = polygon_areas_in_polygons(rolled, other)[0].toarray()
        np.testing.assert_allclose(areas, expected, atol=1e-13)


def test_a_cell_wound_as_a_spiral_keeps_its_area() -> None:
    angle = np.linspace(0, 4 * np.pi, 60)
    outer = 0.05 + 0.02 * angle / np.pi
    radius, turn = np.append(outer, outer[::-1] - 0.012), np.append(angle, angle[::-1])
    around = np.stack([np.ones(120), radius * np.cos(turn), radius * np.sin(turn)], -1)
    spiral = from_vectors(around[None] / np.linalg.norm(around, axis=-1, keepdims=True))
    for other in (PointGrid.cubed_sphere(31), TILINGS["voronoi-2000"], spiral):
        for pair in ((spiral, other), (other, spiral)):
            shared, _ = polygon_areas_in_polygons(*pair)
            assert shared.sum() == pytest.approx(spiral.areas[0], rel=1e-12)


def test_crossing_edges_are_refused_by_cell() -> None:
    square, tie = ([10, 20, 20, 10], [0, 0, 10, 10]), ([10, 20, 10, 20.5], [0, 0, 10, 10])
    lon, lat = zip(square, tie, strict=True)
    crossed = PointGrid([15, 15], [5, 5], lon, lat)
    good = PointGrid([15], [5], [square[0]], [square[1]])
    for source, target in ((crossed, good), (good, crossed)):
        with pytest.raises(
            ValueError, match=r"must not cross each other, got 1 cells .* at 1; giv"
        ):
            conservative_weights(source, target)


# --- small, partial, degenerate


def test_tiny_cells_keep_their_digits() -> None:
    size = 1e-5
    lon, lat = 40 + size * np.array([0, 1, 1, 0]), 30 + size * np.array([0, 0, 1, 1])
    tiny = PointGrid([40 + size / 2], [30 + size / 2], [lon], [lat])
    moved = PointGrid([40 + size * 0.75], [30 + size / 2], [lon + 0.25 * size], [lat])
    weights = conservative_weights(moved, tiny)
    np.testing.assert_allclose(weights.toarray(), 0.75, rtol=1e-6)


def patch(lon: Floats, lat: Floats) -> PointGrid:
    """Cells between lines of longitude and latitude, their edges great circles."""
    (west, south), (east, north) = (
        (axis.ravel() for axis in np.meshgrid(lon[part], lat[part]))
        for part in (slice(None, -1), slice(1, None))
    )
    bounds = np.stack([west, east, east, west], -1), np.stack([south, south, north, north], -1)
    return PointGrid((west + east) / 2, (south + north) / 2, *bounds)


@pytest.mark.parametrize("size", [0.3, 1e-2, 1e-4])
def test_edges_that_differ_by_rounding_share_nothing(size: float) -> None:
    rows = np.array([0.0, size])
    # the same meridians by other sums
    fine = patch(20 + np.arange(13) * (size / 12), rows)
    coarse = patch(np.linspace(20, 20 + size, 5), rows)
    weights = conservative_weights(fine, coarse)
    assert np.diff(weights.indptr).tolist() == [3] * 4
    np.testing.assert_array_equal(weights.indices, np.arange(12))
    # the northern edges are great circles, of the fine cells and the coarse
    np.testing.assert_allclose(weights.data, 1 / 3, rtol=1e-6)


def test_sense_and_repeats_of_corners_do_not_matter() -> None:
    grid, other = TILINGS["cubed-sphere"], TILINGS["voronoi-70"]
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    order = [3, 2, 2, 1, 0, 0]
    turned = PointGrid(*grid.centre_lonlat, grid.lon_bounds[:, order], grid.lat_bounds[:, order])
    difference = conservative_weights(other, grid) - conservative_weights(other, turned)
    assert np.abs(difference.data).max(initial=0.0) < 1e-13


def test_a_part_gets_the_weights_of_the_whole() -> None:
    whole, other = TILINGS["cubed-sphere"], TILINGS["voronoi-2000"]
    assert whole.lon_bounds is not None
    assert whole.lat_bounds is not None
    cells = np.array([200, 3, 4, 17, 120])
    lon, lat = whole.centre_lonlat
    part = PointGrid(lon[cells], lat[cells], whole.lon_bounds[cells], whole.lat_bounds[cells])
    expected = conservative_weights(other, whole)[cells]
    assert abs(conservative_weights(other, part) - expected).max() < 1e-13
    back = conservative_weights(part, other)
    assert abs(back - conservative_weights(whole, other)[:, cells]).max() < 1e-13
    sums = np.asarray(back.sum(axis=1))
    assert sums.min() == 0.0
    assert sums.max() <= 1 + 1e-12
    assert ((sums > 0.01) & (sums < 0.99)).any()


def test_cells_of_very_different_sizes_find_each_other() -> None:
    half, small = cube(), PointGrid.cubed_sphere(30)
    assert small.lon_bounds is not None
    assert small.lat_bounds is not None
    assert half.lon_bounds is not None
    assert half.lat_bounds is not None
    # one large face and the small cells of the others
    lon, lat = half.centre_lonlat
    face = int(np.argmax(half.centres @ [0, 0, 1]))
    rest = np.flatnonzero(np.arange(small.n_cells) // 900 != 4)
    pad = [
        np.concatenate([a[[face]], b[rest]])
        for a, b in zip(
            (lon, lat, half.lon_bounds, half.lat_bounds),
            (*small.centre_lonlat, small.lon_bounds, small.lat_bounds),
            strict=True,
        )
    ]
    mixed = PointGrid(*pad)
    check_tilings(mixed, TILINGS["voronoi-70"])
    check_tilings(TILINGS["voronoi-2000"], mixed)


def test_conservative_is_possible_between_points_with_edges() -> None:
    grid, bare = TILINGS["voronoi-9"], PointGrid([0.0], [0.0])
    assert shares_areas(grid, TILINGS["cube"])
    assert not shares_areas(grid, bare)
    assert not shares_areas(bare, grid)
    assert shares_areas(grid, LatLonGrid.equiangular(3))


# --- real meshes


def test_a_real_mesh_and_a_cubed_sphere_keep_means(test_data: Path) -> None:
    with xr.open_dataset(
        test_data / "other_grids" / "triangular_grid_ICON.nc", decode_times=False
    ) as ds:
        grid: Any = horizontal_grid(ds).grid
    cubed = PointGrid.cubed_sphere(16)
    check_tilings(grid, cubed)
    check_tilings(cubed, grid)
    np.testing.assert_array_equal(conservative_weights(grid, grid).indices, np.arange(20480))
