"""Regridding weights: partitions of area, linear interpolation, and their application."""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, get_args

import healpy
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

import xsphere
from tests.tiers import examples
from xsphere.config import set_options
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.weights import (
    FieldMethod,
    RegridMethod,
    apply_mode,
    apply_weights,
    bilinear_weights,
    conservative_weights,
    method_table,
    nearest_weights,
    regrid_fields,
    regridding_weights,
)
from xsphere.weights.apply import MISSING, MissingPolicy

Floats = NDArray[np.float64]
METHODS: dict[str, Callable[[Grid, Grid], sparse.csr_array]] = {
    "nearest": nearest_weights,
    "bilinear": bilinear_weights,
    "conservative": conservative_weights,
}


def equiangular(step: float, *, west: float = 0.0) -> LatLonGrid:
    return LatLonGrid(west + np.arange(0.0, 360.0, step), np.arange(90.0 - step / 2, -90.0, -step))


def with_poles(n_lat: int, n_lon: int) -> LatLonGrid:
    return LatLonGrid(np.arange(n_lon) * 360.0 / n_lon, np.linspace(90.0, -90.0, n_lat))


def gaussian(n_lat: int, n_lon: int) -> LatLonGrid:
    nodes = np.polynomial.legendre.leggauss(n_lat)[0]
    return LatLonGrid(np.arange(n_lon) * 360.0 / n_lon, np.rad2deg(np.arcsin(nodes)))


def from_edges(lon_edges: Any, lat_edges: Any) -> LatLonGrid:
    lon, lat = (np.asarray(edges, float) for edges in (lon_edges, lat_edges))
    bounds = [np.stack([edges[:-1], edges[1:]], -1) for edges in (lon, lat)]
    return LatLonGrid(bounds[0].mean(-1), bounds[1].mean(-1), *bounds)


LATLON = {
    "equiangular": equiangular(15.0, west=7.5),
    "era5-like": with_poles(13, 24),
    "gaussian": gaussian(9, 16),
    "0..180..-180": LatLonGrid(np.arange(-180.0, 180.0, 24.0), np.arange(-80.0, 81.0, 20.0)),
    "descending-lon": LatLonGrid(np.arange(330.0, -1.0, -30.0), np.arange(-85.0, 86.0, 10.0)),
    "cyclic": LatLonGrid(np.linspace(0.0, 360.0, 13), np.arange(81.0, -82.0, -18.0)),
    "cyclic-descending": LatLonGrid(np.linspace(180.0, -180.0, 10), np.arange(-81.0, 82.0, 18.0)),
    "tiny": LatLonGrid([0, 90, 180, 270], [45, -45]),
    "huge-boxes": from_edges([-70.0, 130.0, 230.0, 290.0], [-90.0, -60.0, 50.0, 90.0]),
    "one-box": from_edges([11.0, 371.0], [-90.0, 90.0]),
    "irregular": from_edges(
        [-3.3, 1.7, 20.0, 88.1, 90.0, 180.0, 300.1, 356.7], [-90, -89.7, -41.8, 0.3, 41.9, 88, 90]
    ),
}
REGIONAL = {
    "box": LatLonGrid(np.arange(-20.0, 41.0, 4.0), np.arange(70.0, 29.0, -3.0)),
    "seam": LatLonGrid(np.arange(340.0, 391.0, 5.0), np.arange(-12.0, 13.0, 4.0)),
    "polar": from_edges(np.linspace(100.0, 250.0, 7), np.linspace(60.0, 90.0, 6)),
}


@st.composite
def lat_lon_grids(draw: st.DrawFn, *, periodic: bool = True) -> LatLonGrid:
    """Global grids with cells of any widths and heights, in either order of latitude."""

    def parts(largest: int) -> Floats:
        sizes = draw(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=largest))
        return np.concatenate([[0.0], np.cumsum(sizes)]) / np.sum(sizes)

    west = draw(st.floats(-180.0, 180.0))
    turn = 360.0 if periodic else draw(st.floats(20.0, 300.0))
    grid = from_edges(west + turn * parts(7), -90.0 + 180.0 * parts(6))
    if draw(st.booleans()):
        return LatLonGrid(grid.lon, grid.lat[::-1], grid.lon_bounds, grid.lat_bounds[::-1])
    return grid


def sampled_overlaps(grid: LatLonGrid, healpix: HealpixGrid, n: int = 160) -> Floats:
    """Areas of overlap from a net of n x n points in every box, equally spaced in area."""
    lon_bounds, lat_bounds = grid.lon_bounds, grid.lat_bounds
    assert lon_bounds is not None
    assert lat_bounds is not None
    part = (np.arange(n) + 0.5) / n
    sines = np.sin(np.deg2rad(lat_bounds))
    lon = lon_bounds[:, :1] + part * np.diff(lon_bounds, axis=-1)
    lat = np.rad2deg(np.arcsin(sines[:, :1] + part * np.diff(sines, axis=-1)))
    overlaps = np.zeros((healpix.n_cells, grid.n_cells))
    for box in range(grid.n_cells):
        row, column = divmod(box, grid.lon.size)
        cells = healpix.cells_at(*np.meshgrid(lon[column], lat[row])).ravel()
        counts = np.bincount(cells[cells >= 0], minlength=healpix.n_cells)
        overlaps[:, box] = counts / n**2 * grid.areas[box]
    return overlaps


def radians(grid: Grid) -> tuple[Floats, Floats]:
    lon, lat = grid.centre_lonlat
    return np.deg2rad(lon), np.deg2rad(lat)


def sinusoid(lon: Floats, lat: Floats) -> Floats:
    return 2 - np.cos(np.arccos((np.cos(lon) * np.cos(lat)).clip(-1, 1)) / 1.2)


def harmonic(lon: Floats, lat: Floats) -> Floats:
    return 2 + np.sin(2 * lat) ** 16 * np.cos(16 * lon)


def vortex(lon: Floats, lat: Floats) -> Floats:
    along = np.cos(lat) * np.cos(lon - 5.5)
    x, y = np.sin(0.2) * along - np.cos(0.2) * np.sin(lat), np.cos(lat) * np.sin(lon - 5.5)
    z = np.sin(0.2) * np.sin(lat) + np.cos(0.2) * along
    rho = 3 * np.cos(np.arcsin(z.clip(-1, 1)))
    speed = 1.5 * np.sqrt(3) / np.cosh(rho) ** 2 * np.tanh(rho)
    turning = np.divide(speed, rho, out=np.zeros_like(rho), where=rho > 0)
    return 2 * (1 + np.tanh(rho / 5 * np.sin(np.arctan2(y, x) - 6 * turning)))


def smooth(lon: Floats, lat: Floats) -> Floats:
    return 2 + np.cos(lat) ** 2 * np.cos(2 * lon)


def polar(lon: Floats, lat: Floats) -> Floats:
    return np.exp(-(((np.pi / 2 - lat) / np.deg2rad(3.0)) ** 2) / 2)


FUNCTIONS = {f.__name__: f for f in (sinusoid, harmonic, vortex, smooth, polar)}


@lru_cache
def cell_means(name: str, level: int) -> Floats:
    lon, lat = healpy.pix2ang(2 ** (level + 2), np.arange(12 * 4 ** (level + 2)), True, True)
    values = FUNCTIONS[name](np.deg2rad(lon), np.deg2rad(lat))
    return np.asarray(values.reshape(-1, 16).mean(-1))


def relative_l1(method: Any, name: str, step: float, level: int) -> float:
    source, truth = equiangular(step), cell_means(name, level)
    matrix = regridding_weights(source, HealpixGrid(level), method=method)
    values = matrix @ FUNCTIONS[name](*radians(source))
    return float(np.abs(values - truth).sum() / np.abs(truth).sum())


def assert_canonical(matrix: sparse.csr_array) -> None:
    assert matrix.dtype == np.float64
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    fresh = sparse.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    assert fresh.has_canonical_format
    assert (matrix.data > 0).all()


@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("name", ["huge-boxes", "tiny", "era5-like", "irregular"])
def test_overlaps_are_those_of_sampled_boxes(name: str, level: int) -> None:
    grid, healpix = LATLON[name], HealpixGrid(level)
    expected = sampled_overlaps(grid, healpix)
    shared = conservative_weights(grid, healpix).toarray() * healpix.areas[:, None]
    assert np.abs(shared - expected).max() < 0.05 * healpix.areas[0]
    assert np.abs(shared - expected).sum() < 0.01 * 4 * np.pi
    back = conservative_weights(healpix, grid).toarray() * grid.areas[:, None]
    np.testing.assert_allclose(back.T, shared, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", LATLON)
@pytest.mark.parametrize("level", [0, 2, 5])
def test_conservative_weights_are_a_partition(name: str, level: int) -> None:
    for source, target in (
        (LATLON[name], HealpixGrid(level)),
        (HealpixGrid(level, "ring"), LATLON[name]),
        (LATLON[name], LATLON["irregular"]),
        (LATLON["irregular"], LATLON[name]),
    ):
        matrix = conservative_weights(source, target)
        assert_canonical(matrix)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(target.areas @ matrix, source.areas, rtol=1e-9, atol=1e-16)


@examples(60)
@given(lat_lon_grids(), lat_lon_grids(), st.integers(0, 4))
@example(LATLON["huge-boxes"], LATLON["one-box"], 0)
def test_any_global_grids_share_all_area(a: LatLonGrid, b: LatLonGrid, level: int) -> None:
    healpix = HealpixGrid(level)
    for source, target in ((a, healpix), (healpix, a), (a, b)):
        matrix = conservative_weights(source, target)
        assert_canonical(matrix)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-11)
        np.testing.assert_allclose(target.areas @ matrix, source.areas, rtol=1e-9)


@pytest.mark.parametrize("name", REGIONAL)
def test_rows_sum_to_the_part_that_a_region_covers(name: str) -> None:
    region, fine = REGIONAL[name], HealpixGrid(8)
    lon, lat = fine.centre_lonlat
    inside = (region.cells_at(lon, lat) >= 0).reshape(-1, 4**5).mean(-1)
    matrix = conservative_weights(region, HealpixGrid(3))
    assert np.abs(matrix.sum(axis=1) - inside).max() < 0.02
    assert matrix.sum(axis=1).max() <= 1.0 + 1e-12
    np.testing.assert_allclose(HealpixGrid(3).areas @ matrix, region.areas, rtol=1e-9)
    back = conservative_weights(HealpixGrid(3), region)
    np.testing.assert_allclose(back.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    covered = conservative_weights(region, LATLON["equiangular"])
    areas = LATLON["equiangular"].areas @ covered
    np.testing.assert_allclose(areas, region.areas, rtol=1e-9)


@examples(25)
@given(lat_lon_grids(periodic=False), st.integers(0, 3))
def test_weights_of_a_part_are_those_of_the_whole(region: LatLonGrid, level: int) -> None:
    n_sphere = 12 * 4**level
    ids = np.random.default_rng(n_sphere).permutation(n_sphere)[: n_sphere // 2]
    for method in (nearest_weights, conservative_weights, bilinear_weights):
        whole = method(region, HealpixGrid(level, "ring")).toarray()
        part = method(region, HealpixGrid(level, "ring", ids)).toarray()
        np.testing.assert_array_equal(part, whole[ids])
        whole = method(HealpixGrid(level, "ring"), region).toarray()
        part = method(HealpixGrid(level, "ring", ids), region).toarray()
        np.testing.assert_array_equal(part, whole[:, ids])


def test_a_small_part_of_a_fine_sphere_has_the_weights_of_the_whole() -> None:
    source, whole = equiangular(3.0), HealpixGrid(7)
    ids = whole.cells_at(*np.meshgrid(np.linspace(80.0, 100.0, 30), np.linspace(80.0, 90.0, 30)))
    part = HealpixGrid(7, cell_ids=np.unique(ids)[::-1])
    expected = conservative_weights(source, whole)[part.ids]
    np.testing.assert_array_equal(conservative_weights(source, part).toarray(), expected.toarray())


def test_healpix_levels_nest() -> None:
    ids = np.array([40, 3, 2, 1, 191, 0])
    fine, coarse = HealpixGrid(2, cell_ids=ids), HealpixGrid(1, "ring")
    down = conservative_weights(fine, coarse)
    assert_canonical(down)
    parents = healpy.nest2ring(2, ids // 4)
    expected = np.zeros((48, 6))
    expected[parents, np.arange(6)] = 0.25
    np.testing.assert_array_equal(down.toarray(), expected)
    up = conservative_weights(coarse, fine)
    assert_canonical(up)
    np.testing.assert_array_equal(up.toarray(), 4 * expected.T)
    same = conservative_weights(HealpixGrid(1), coarse) @ np.arange(48.0)
    np.testing.assert_array_equal(same, healpy.reorder(np.arange(48.0), n2r=True))


def test_overlaps_of_boxes_are_products_of_intervals() -> None:
    source, target = from_edges([350, 370, 430, 500], [-30, 0, 30, 60]), REGIONAL["seam"]
    matrix = conservative_weights(source, target).toarray()
    for i, (south, north) in enumerate(target.lat_bounds):
        for j, (west, east) in enumerate(target.lon_bounds):
            for k, (s, n) in enumerate(source.lat_bounds):
                for m, (w, e) in enumerate(source.lon_bounds):
                    sines = np.sin(np.deg2rad([max(s, south), min(n, north), south, north]))
                    height = max(sines[1] - sines[0], 0.0) / (sines[3] - sines[2])
                    width = sum(
                        max(min(e + turn, east) - max(w + turn, west), 0.0)
                        for turn in (-360, 0, 360)
                    )
                    expected = height * width / (east - west)
                    found = matrix[i * target.lon.size + j, k * source.lon.size + m]
                    assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_integrals_are_kept(name: str) -> None:
    for source in (equiangular(3.0), with_poles(37, 72), gaussian(32, 64)):
        values = FUNCTIONS[name](*radians(source))
        integral = source.areas @ values
        for target in (HealpixGrid(5, "ring"), HealpixGrid(2), LATLON["irregular"]):
            regridded = conservative_weights(source, target) @ values
            assert target.areas @ regridded == pytest.approx(integral, rel=1e-12)
    values = FUNCTIONS[name](*radians(HealpixGrid(5)))
    regridded = conservative_weights(HealpixGrid(5), with_poles(37, 72)) @ values
    integral = HealpixGrid(5).areas @ values
    assert with_poles(37, 72).areas @ regridded == pytest.approx(integral, rel=1e-12)


@pytest.mark.parametrize(
    ("method", "name", "expected"),
    [
        ("conservative", "sinusoid", 1.42e-4),
        ("conservative", "harmonic", 5.99e-4),
        ("conservative", "vortex", 4.63e-4),
        ("bilinear", "sinusoid", 9.1e-6),
        ("bilinear", "harmonic", 3.1e-4),
        ("bilinear", "vortex", 1.8e-4),
        ("nearest", "sinusoid", 1.4e-3),
        ("nearest", "harmonic", 5.6e-3),
        ("nearest", "vortex", 3.4e-3),
    ],
)
def test_errors_from_1_degree_to_level_6_are_the_known_ones(
    method: str, name: str, expected: float
) -> None:
    tolerance = 0.02 if method == "conservative" else 0.04
    assert relative_l1(method, name, 1.0, 6) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("method", "order"), [("conservative", 1.0), ("bilinear", 2.0)])
def test_errors_fall_with_the_order_of_the_method(method: str, order: float) -> None:
    errors = [relative_l1(method, "smooth", 4.0 / 2**i, 4 + i) for i in range(3)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(orders - order).max() < 0.2


@examples(40)
@given(lat_lon_grids(), st.sampled_from(sorted(METHODS)), st.integers(0, 3))
def test_range_is_never_exceeded(grid: LatLonGrid, method: str, level: int) -> None:
    for source, target in ((grid, HealpixGrid(level)), (HealpixGrid(level), grid)):
        matrix = METHODS[method](source, target)
        assert_canonical(matrix)
        values = np.random.default_rng(level).normal(size=source.n_cells)
        low, high = values.min() - 1e-14, values.max() + 1e-14
        for dtype, slack in ((np.float64, 1e-14), (np.float32, 1e-6)):
            regridded = apply_weights(matrix, values.astype(dtype))
            assert low - slack <= regridded.min()
            assert regridded.max() <= high + slack


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [lambda: equiangular(5.0), lambda: with_poles(31, 48)])
class TestSymmetries:
    """The same answer whatever the order of the data is."""

    def test_latitude_may_be_flipped(self, method: str, make: Callable[[], LatLonGrid]) -> None:
        grid, healpix = make(), HealpixGrid(3)
        flipped = LatLonGrid(grid.lon, grid.lat[::-1])
        values = sinusoid(*radians(grid)).reshape(grid.shape)
        forth = METHODS[method](grid, healpix) @ values.ravel()
        other = METHODS[method](flipped, healpix) @ values[::-1].ravel()
        np.testing.assert_allclose(other, forth, rtol=0, atol=1e-14)
        back = (METHODS[method](healpix, grid) @ forth).reshape(grid.shape)
        other = (METHODS[method](healpix, flipped) @ forth).reshape(grid.shape)
        np.testing.assert_allclose(other[::-1], back, rtol=0, atol=1e-14)

    def test_longitude_may_begin_anywhere(
        self, method: str, make: Callable[[], LatLonGrid]
    ) -> None:
        grid, healpix = make(), HealpixGrid(3)
        half = grid.lon.size // 2
        moved = LatLonGrid(np.concatenate([grid.lon[half:] - 360.0, grid.lon[:half]]), grid.lat)
        values = vortex(*radians(grid)).reshape(grid.shape)
        forth = METHODS[method](grid, healpix) @ values.ravel()
        other = METHODS[method](moved, healpix) @ np.roll(values, -half, axis=1).ravel()
        np.testing.assert_allclose(other, forth, rtol=0, atol=1e-14)
        back = (METHODS[method](healpix, grid) @ forth).reshape(grid.shape)
        other = (METHODS[method](healpix, moved) @ forth).reshape(grid.shape)
        np.testing.assert_allclose(np.roll(other, half, axis=1), back, rtol=0, atol=1e-14)

    def test_quarter_turn_turns_the_result(
        self, method: str, make: Callable[[], LatLonGrid]
    ) -> None:
        grid, healpix = make(), HealpixGrid(3)
        lon, lat = healpix.centre_lonlat
        turned_cells = healpix.cells_at(lon + 90.0, lat)
        values = vortex(*radians(grid)).reshape(grid.shape)
        forth = METHODS[method](grid, healpix) @ values.ravel()
        turned = np.roll(values, grid.lon.size // 4, axis=1)
        other = METHODS[method](grid, healpix) @ turned.ravel()
        np.testing.assert_allclose(other[turned_cells], forth, rtol=0, atol=1e-14)

    def test_ring_and_nested_agree(self, method: str, make: Callable[[], LatLonGrid]) -> None:
        grid = make()
        values = vortex(*radians(grid))
        nested = METHODS[method](grid, HealpixGrid(3)) @ values
        ring = METHODS[method](grid, HealpixGrid(3, "ring")) @ values
        np.testing.assert_array_equal(healpy.reorder(nested, n2r=True), ring)
        back = METHODS[method](HealpixGrid(3), grid) @ nested
        other = METHODS[method](HealpixGrid(3, "ring"), grid) @ ring
        np.testing.assert_allclose(other, back, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["cyclic", "cyclic-descending"])
def test_repeated_column_counts_once(name: str) -> None:
    grid = LATLON[name]
    once = LatLonGrid(grid.lon[:-1], grid.lat)
    values = np.random.default_rng(0).normal(size=once.shape)
    repeated = np.concatenate([values, values[:, :1]], axis=1)
    for method in METHODS.values():
        matrix = method(grid, HealpixGrid(3))
        used = np.zeros(grid.n_cells, bool)
        used[matrix.indices] = True
        assert not used.reshape(grid.shape)[:, -1].any()
        expected = method(once, HealpixGrid(3)) @ values.ravel()
        np.testing.assert_allclose(matrix @ repeated.ravel(), expected, rtol=0, atol=1e-14)
        back = (method(HealpixGrid(3), grid) @ expected).reshape(grid.shape)
        np.testing.assert_allclose(back[:, -1], back[:, 0], rtol=0, atol=1e-12)


def test_nearest_takes_the_cell_that_holds_the_centre() -> None:
    source, target = HealpixGrid(3, "ring"), LATLON["irregular"]
    lon, lat = target.centre_lonlat
    matrix = nearest_weights(source, target)
    assert_canonical(matrix)
    np.testing.assert_array_equal(matrix.indices, healpy.ang2pix(8, lon, lat, lonlat=True))
    matrix = nearest_weights(REGIONAL["box"], HealpixGrid(3))
    inside = REGIONAL["box"].cells_at(*HealpixGrid(3).centre_lonlat) >= 0
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(matrix.sum(axis=1), inside)


def test_nearest_point_is_the_nearest_on_the_sphere() -> None:
    random = np.random.default_rng(5)
    points = PointGrid(random.uniform(-180, 360, 57), random.uniform(-90, 90, 57))
    target = HealpixGrid(2)
    angles = np.arccos((target.centres @ points.centres.T).clip(-1, 1))
    matrix = nearest_weights(points, target)
    assert_canonical(matrix)
    np.testing.assert_array_equal(matrix.indices, angles.argmin(axis=1))


def test_bilinear_is_exact_for_linear_fields_across_the_seam() -> None:
    source = equiangular(10.0, west=-175.0)
    random = np.random.default_rng(2)
    points = PointGrid(random.uniform(-180, 540, 400), random.uniform(-85, 85, 400))
    matrix = bilinear_weights(source, points)
    assert_canonical(matrix)
    lon, lat = source.centre_lonlat
    np.testing.assert_allclose(matrix @ lat, points.lat, atol=1e-12)
    # a tent in longitude is linear but at 5 and -175 degrees, where there are columns
    tent = np.abs((lon - 5.0 + 180.0) % 360.0 - 180.0)
    expected = np.abs((points.lon - 5.0 + 180.0) % 360.0 - 180.0)
    np.testing.assert_allclose(matrix @ tent, expected, atol=1e-11)


@pytest.mark.parametrize("name", ["equiangular", "gaussian", "irregular", "era5-like", "cyclic"])
def test_bilinear_knows_the_poles(name: str) -> None:
    grid = LATLON[name]
    values = np.random.default_rng(3).normal(size=grid.shape)
    width = np.ptp(grid.lon_bounds, axis=-1)
    for sign in (-1.0, 1.0):
        row = int((sign * grid.lat).argmax())
        mean = values[row] @ width / width.sum()
        halfway = (grid.lat[row] + sign * 90.0) / 2
        points = PointGrid([grid.lon[1], 12.3, grid.lon[1]], [sign * 90.0, sign * 90.0, halfway])
        matrix = bilinear_weights(grid, points)
        found = matrix @ values.ravel()
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-13)
        if abs(grid.lat[row]) == 90.0:
            assert found[0] == found[2] == values[row, 1]
        else:
            np.testing.assert_allclose(found[:2], mean, atol=1e-13)
            assert found[2] == pytest.approx((values[row, 1] + mean) / 2, abs=1e-13)


def test_bilinear_ends_at_the_edges_of_a_region() -> None:
    region = REGIONAL["box"]
    values = np.random.default_rng(4).normal(size=region.shape)
    points = PointGrid([41.9, 42.1, 339.0, 10.0, 10.0, 0.0], [40, 40, 31, 71.4, 71.6, 29.6])
    matrix = bilinear_weights(region, points)
    np.testing.assert_allclose(matrix.sum(axis=1), [1, 0, 1, 1, 0, 1], atol=1e-14)
    row = values[:, -1]
    expected = np.interp(40.0, region.lat[::-1], row[::-1])
    assert (matrix @ values.ravel())[0] == pytest.approx(expected, abs=1e-14)


def test_bilinear_between_healpix_cells_is_that_of_healpy() -> None:
    source, target = HealpixGrid(3, "ring"), equiangular(7.5)
    values = np.random.default_rng(6).normal(size=source.n_cells)
    matrix = bilinear_weights(source, target)
    assert_canonical(matrix)
    expected = healpy.get_interp_val(values, *target.centre_lonlat, lonlat=True)
    np.testing.assert_allclose(matrix @ values, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-14)


def test_methods_say_what_they_cannot_do() -> None:
    points = PointGrid([0.0, 1.0], [2.0, 3.0])
    with pytest.raises(ValueError, match=r"no bilinear weights from a PointGrid; .*'nearest'"):
        bilinear_weights(points, HealpixGrid(0))
    for source, target in ((points, HealpixGrid(0)), (HealpixGrid(0), points)):
        with pytest.raises(ValueError, match=r"without bounds; give .*'nearest'"):
            conservative_weights(source, target)
    with pytest.raises(ValueError, match=r"one of \['conservative', .*'inverse_distance'\], got"):
        regridding_weights(HealpixGrid(0), HealpixGrid(0), method="cubic")  # type: ignore[arg-type]


def test_weights_are_built_once_and_read_only(cache_folder: Any) -> None:
    source, target = equiangular(18.0, west=0.7), HealpixGrid(2)
    found: list[sparse.csr_array] = []

    def ask() -> None:
        found.append(regridding_weights(source, target, method="conservative"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    with set_options(cache_dir=str(cache_folder)):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({id(matrix) for matrix in found}) == 1
    assert_canonical(found[0])
    assert (found[0] != conservative_weights(source, target)).nnz == 0
    for array in (found[0].data, found[0].indices, found[0].indptr):
        assert not array.flags.writeable
    assert len(list(cache_folder.glob("v1/weights/*/*/manifest.json"))) == 1


def test_other_bounds_are_other_weights() -> None:
    lon, lat = np.arange(0.0, 360.0, 60.0), [60.0, 10.0, -60.0]
    one = LatLonGrid(lon, lat)
    other = LatLonGrid(lon, lat, lat_bounds=[[40, 90], [-20, 40], [-90, -20]])
    matrices = [regridding_weights(g, HealpixGrid(1), method="conservative") for g in (one, other)]
    assert np.abs(matrices[0] - matrices[1]).max() > 0.1


def dense_means(matrix: sparse.csr_array, field: Floats, least: float) -> Floats:
    """Weighted means of valid values, one target cell at a time."""
    result = np.full(matrix.shape[0], np.nan)
    for row, weights in enumerate(matrix.toarray()):
        valid = np.isfinite(field) & (weights > 0)
        part = weights[valid].sum()
        if part > 0 and part >= least - 1e-7:
            result[row] = weights[valid] @ field[valid] / part
    return result


@pytest.fixture(scope="module")
def region_matrix() -> sparse.csr_array:
    return regridding_weights(REGIONAL["box"], HealpixGrid(2), method="conservative")


def fields_with_gaps(n_fields: int, n_cells: int) -> Floats:
    """No, few, other, all and single missing values, in turn."""
    random = np.random.default_rng(n_fields)
    fields = random.normal(size=(n_fields, n_cells))
    fields[1::5, random.permutation(n_cells)[: n_cells // 3]] = np.nan
    fields[2::5, random.permutation(n_cells)[: n_cells // 2]] = np.inf
    fields[3::5] = np.nan
    fields[4::5, n_cells // 2] = -np.inf
    return fields


@pytest.mark.parametrize("least", [0.0, 0.3, 0.5, 1.0])
def test_missing_values_are_left_out(region_matrix: sparse.csr_array, least: float) -> None:
    fields = fields_with_gaps(23, region_matrix.shape[1])
    before = fields.copy()
    result = apply_weights(region_matrix, fields, min_valid_fraction=least)
    expected = [dense_means(region_matrix, field, least) for field in fields]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    single = apply_weights(region_matrix, fields.astype(np.float32), min_valid_fraction=least)
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(fields, before)


def test_missing_values_propagate(region_matrix: sparse.csr_array) -> None:
    fields = fields_with_gaps(7, region_matrix.shape[1])
    result = apply_weights(region_matrix, fields, missing="propagate")
    touched = (region_matrix.toarray()[None] > 0) & ~np.isfinite(fields)[:, None]
    covered = np.abs(region_matrix.sum(axis=1) - 1.0) <= 1e-9
    assert 0 < covered.sum() < covered.size
    good = covered & ~touched.any(axis=-1)
    np.testing.assert_array_equal(np.isfinite(result), good)
    filled = np.where(np.isfinite(fields), fields, 0.0)
    expected = np.where(good, filled @ region_matrix.T.toarray(), np.nan)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", ["renormalize", "propagate"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_field_does_not_depend_on_the_others(
    region_matrix: sparse.csr_array, dtype: Any, missing: Any
) -> None:
    fields = fields_with_gaps(41, region_matrix.shape[1]).astype(dtype)
    together = apply_weights(region_matrix, fields, missing=missing)
    alone = [apply_weights(region_matrix, field, missing=missing) for field in fields]
    np.testing.assert_array_equal(together, alone)
    order = np.random.default_rng(0).permutation(41)
    shuffled = apply_weights(region_matrix, fields[order], missing=missing)
    np.testing.assert_array_equal(shuffled, together[order])
    by_three = [
        apply_weights(region_matrix, fields[i : i + 3], missing=missing) for i in range(0, 41, 3)
    ]
    np.testing.assert_array_equal(np.concatenate(by_three), together)


@pytest.mark.parametrize("n_fields", [1, 2, 3, 16, 39])
@pytest.mark.parametrize("missing", ["renormalize", "propagate"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_masks_that_stay_come_and_go(n_fields: int, missing: Any, dtype: Any) -> None:
    """Against dense sums in float64; and each field alone, bit for bit."""
    rng = np.random.default_rng(5)
    source = equiangular(6.0)
    matrix = conservative_weights(source, HealpixGrid(4))
    fields = rng.normal(size=(n_fields, source.n_cells)).astype(dtype)
    land = np.abs(source.centre_lonlat[0] - 180.0) < 70.0
    fields[: n_fields // 2, land] = np.nan  # the same for half of the series
    fields[n_fields // 2 :: 3, rng.random(source.n_cells) < 0.1] = np.inf
    fields[-1, land & (rng.random(source.n_cells) < 0.5)] = np.nan
    valid = np.isfinite(fields)
    part = valid @ matrix.T
    expected = (np.where(valid, fields, 0.0).astype(float) @ matrix.T) / np.where(part, part, 1.0)
    enough = part >= 0.37 if missing == "renormalize" else (~valid @ matrix.T) == 0
    expected[~enough | (part == 0)] = np.nan
    result = apply_weights(matrix, fields, missing=missing, min_valid_fraction=0.37)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6 if dtype == "f4" else 1e-13)
    for field, alone in zip(fields, result, strict=True):
        again = apply_weights(matrix, field, missing=missing, min_valid_fraction=0.37)
        assert again.tobytes() == alone.tobytes()


@pytest.mark.parametrize("n_fields", [1, 6])
def test_rounding_of_many_entries_makes_nothing_missing(n_fields: int) -> None:
    one_box = from_edges([11.0, 371.0], [-90.0, 90.0])
    matrix = conservative_weights(HealpixGrid(4), one_box)
    fields = np.ones((n_fields, 3072), "f4")
    for missing in ("renormalize", "propagate"):
        result = apply_weights(matrix, fields, missing=missing, min_valid_fraction=1.0)
        np.testing.assert_allclose(result, 1.0, rtol=1e-6)
    fields[0, 5] = np.nan
    assert np.isnan(apply_weights(matrix, fields, min_valid_fraction=1.0)[0]).all()
    assert apply_weights(matrix, fields, min_valid_fraction=0.999)[0] == 1.0


@pytest.mark.parametrize("n_source", [70_000, 10])
def test_rows_may_be_long_or_empty(n_source: int) -> None:
    """More source cells than a tile holds, or short numbers count; rows without any."""
    rng = np.random.default_rng(0)
    dense = rng.random((5, n_source))
    dense[[1, 3]] = 0.0
    matrix = sparse.csr_array(dense / np.maximum(dense.sum(1, keepdims=True), 1e-300))
    fields = rng.normal(size=(7, n_source))
    result = apply_weights(matrix, fields)
    np.testing.assert_allclose(result[:, [0, 2, 4]], (fields @ matrix.T)[:, [0, 2, 4]], atol=1e-12)
    assert np.isnan(result[:, [1, 3]]).all()


def test_a_mask_may_change_in_the_middle() -> None:
    matrix = conservative_weights(equiangular(20.0), HealpixGrid(1))
    fields = np.random.default_rng(8).normal(size=(5, matrix.shape[1]))
    fields[2, 40:90] = np.nan
    result = apply_weights(matrix, fields)
    assert np.isfinite(result[[0, 1, 3, 4]]).all()
    expected = dense_means(matrix, fields[2], 0.5)
    assert 0 < np.isnan(expected).sum() < expected.size
    np.testing.assert_allclose(result[2], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("f2", "f4"), ("f4", "f4"), (">f4", "f4"), ("f8", "f8"), (">f8", "f8"),
        ("?", "f4"), ("i1", "f4"), ("u2", "f4"), ("i4", "f8"), ("u8", "f8"),
    ],
)  # fmt: skip
def test_floats_come_out(dtype: str, expected: str) -> None:
    matrix = conservative_weights(HealpixGrid(1), HealpixGrid(0))
    values = (np.arange(2 * 3 * 48).reshape(2, 3, 48) % 2).astype(dtype)
    result = apply_weights(matrix, values)
    assert result.dtype == np.dtype(expected)
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, np.full((2, 3, 12), 0.5))


def test_empty_batches_and_single_precision_matrices() -> None:
    matrix = conservative_weights(equiangular(20.0), HealpixGrid(1))
    assert apply_weights(matrix, np.empty((0, matrix.shape[1]))).shape == (0, 48)
    single = matrix.astype(np.float32)
    values = np.random.default_rng(0).normal(size=matrix.shape[1]).astype(np.float32)
    result = apply_weights(single, values, missing="propagate")
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(result, apply_weights(matrix, values))
    matrix.data[:] *= 2  # of its owner's own accord: nothing remembered may be used
    np.testing.assert_allclose(apply_weights(matrix, values), result, rtol=1e-6)
    assert np.isnan(apply_weights(matrix, values, missing="propagate")).all()


def test_application_refuses_what_does_not_fit() -> None:
    matrix = conservative_weights(HealpixGrid(1), HealpixGrid(0))
    with pytest.raises(ValueError, match=r"values must have the 48 source cells .* \(6, 8\)"):
        apply_weights(matrix, np.zeros((6, 8)))
    with pytest.raises(ValueError, match=r"labels must have the 48 source cells .* \(\)"):
        apply_mode(matrix, 3, classes=[1], fill=0)
    with pytest.raises(TypeError, match="values must be real numbers, got complex128"):
        apply_weights(matrix, np.zeros(48, complex))
    with pytest.raises(ValueError, match=r"one of \['renormalize', 'propagate'\], got 'skip'"):
        apply_weights(matrix, np.zeros(48), missing="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"min_valid_fraction must be from 0 to 1, got 50"):
        apply_weights(matrix, np.zeros(48), min_valid_fraction=50)
    with pytest.raises(TypeError, match="labels must be integers or booleans, got float64"):
        apply_mode(matrix, np.zeros(48), classes=[1], fill=0)
    with pytest.raises(ValueError, match="classes must name at least one class"):
        apply_mode(matrix, np.zeros(48, int), classes=[], fill=0)
    with pytest.raises(ValueError, match=r"within 0..255, .* uint8 labels, got \[256, -1\]"):
        apply_mode(matrix, np.zeros(48, np.uint8), classes=[1, 256], fill=-1)


@examples(30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.int16, np.int64]))
def test_mode_is_the_class_of_largest_overlap(seed: int, dtype: Any) -> None:
    matrix = conservative_weights(REGIONAL["box"], HealpixGrid(3))
    random = np.random.default_rng(seed)
    labels = random.choice(np.array([3, 0, 7, 99], dtype), size=(2, 9, matrix.shape[1]))
    result = apply_mode(matrix, labels, classes=[7, 0, 3], fill=55)
    overlaps = np.stack([(labels == c) @ matrix.T.toarray() for c in (0, 3, 7)])
    expected = np.where(overlaps.sum(0) > 0, np.array([0, 3, 7])[overlaps.argmax(0)], 55)
    assert result.dtype == dtype
    clear = np.ptp(np.sort(overlaps, axis=0)[1:], axis=0) > 1e-8
    assert clear.mean() > 0.01
    np.testing.assert_array_equal(result[clear], expected[clear])
    np.testing.assert_array_equal(result == 55, overlaps.sum(0) == 0)


def test_tied_classes_go_to_the_lowest() -> None:
    matrix = conservative_weights(HealpixGrid(1), HealpixGrid(0))
    labels = np.tile(np.array([9, 2, 9, 2], np.uint8), 12)
    assert (apply_mode(matrix, labels, classes=[9, 2], fill=255) == 2).all()
    thirds = sparse.csr_array([[0.1, 0.2, 0.3]])  # 0.1 + 0.2 > 0.3 in binary
    for labels in ([1, 1, 2], [2, 2, 1]):
        assert apply_mode(thirds, labels, classes=[1, 2], fill=0) == [1]
    flags = np.tile([True, False, True, False], 12)
    assert not apply_mode(matrix, flags, classes=[True, False], fill=True).any()


def test_centres_of_healpix_cells_lie_between_the_corners_of_their_boxes() -> None:
    source, target = equiangular(9.0), HealpixGrid(4)
    matrix = bilinear_weights(source, target)
    centres = matrix @ lonlat_to_vectors(*source.centre_lonlat)
    angles = np.arccos((centres * target.centres).sum(-1) / np.linalg.norm(centres, axis=-1))
    assert np.rad2deg(angles).max() < 0.5


def test_compiling_leaves_the_options_of_numba_alone() -> None:
    import numba

    from xsphere.compiled import compiled

    def function(x: Any) -> Any:
        return x + 1

    before = numba.config.SLP_VECTORIZE
    assert compiled(function)(np.int16(3)) == 4
    assert before == numba.config.SLP_VECTORIZE
    with pytest.raises(numba.TypingError):
        compiled(function)("no number")
    assert before == numba.config.SLP_VECTORIZE


def test_methods_have_one_entry_each():
    assert set(get_args(RegridMethod)) == {"auto", *method_table.METHODS}
    assert set(get_args(FieldMethod)) == {
        name for name, entry in method_table.METHODS.items() if entry.weights is not None
    }
    assert set(get_args(MissingPolicy)) == set(MISSING)
    documented = " ".join(str(xsphere.regrid.__doc__).split())
    for name, entry in {**method_table.METHODS, **MISSING}.items():
        assert f'``"{name}"``: {entry.summary}' in documented


@pytest.mark.parametrize("method", get_args(FieldMethod))
def test_every_method_keeps_constants_and_what_its_entry_says(method):
    source, target = equiangular(10.0), HealpixGrid(2)
    entry = method_table.METHODS[method]
    field = np.random.default_rng(0).standard_normal(source.n_cells)
    ones, made = (
        regrid_fields(values, source, target, method=method)
        for values in (np.ones(source.n_cells), field)
    )
    np.testing.assert_allclose(ones, 1.0, rtol=1e-12)
    assert made.min() >= field.min()
    assert made.max() <= field.max()
    assert entry.keeps_values == np.isin(made, field).all()
    kept = np.isclose((made * target.areas).sum(), (field * source.areas).sum(), rtol=1e-9)
    assert kept == (entry.cell_methods == "mean")
    if not entry.is_matrix:
        with pytest.raises(ValueError, match="are no matrix"):
            regridding_weights(source, target, method=method)
