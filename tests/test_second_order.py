"""Second-order conservative regridding: exact where it must be, bounded, second order."""

from functools import lru_cache
from typing import Any

import healpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from tests.test_weights import (
    LATLON,
    REGIONAL,
    equiangular,
    from_edges,
    harmonic,
    lat_lon_grids,
    polar,
    radians,
    sinusoid,
    smooth,
    vortex,
    with_poles,
)
from tests.tiers import examples
from xsphere.grids import (
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    lonlat_to_vectors,
    tangent_vectors,
    vectors_to_lonlat,
)
from xsphere.weights.apply import apply_weights
from xsphere.weights.conservative import conservative_weights
from xsphere.weights.second_order import (
    SecondOrderWeights,
    apply_second_order,
    second_order_weights,
)
from xsphere.weights.slopes import cell_centroids, surrounding_cells

Floats = NDArray[np.float64]
FIELDS = (sinusoid, harmonic, vortex, smooth, polar)
SOME_IDS = np.random.default_rng(3).permutation(192)[:70]
PAIRS: dict[str, tuple[Grid, Grid]] = {
    **{f"{name} to cells": (grid, HealpixGrid(2)) for name, grid in LATLON.items()},
    **{f"cells to {name}": (HealpixGrid(2), grid) for name, grid in LATLON.items()},
    **{f"{name} to cells": (grid, HealpixGrid(2)) for name, grid in REGIONAL.items()},
    **{f"cells to {name}": (HealpixGrid(3), grid) for name, grid in REGIONAL.items()},
    "fine cells": (equiangular(30.0), HealpixGrid(4, "ring")),
    "fine boxes": (HealpixGrid(1, "ring"), equiangular(7.5)),
    "boxes to some cells": (LATLON["equiangular"], HealpixGrid(2, "ring", SOME_IDS)),
    "some cells to boxes": (HealpixGrid(2, "nested", SOME_IDS), LATLON["era5-like"]),
    "boxes to boxes": (LATLON["irregular"], LATLON["era5-like"]),
    "boxes to cyclic boxes": (LATLON["gaussian"], LATLON["cyclic"]),
    "cyclic boxes to boxes": (LATLON["cyclic-descending"], LATLON["gaussian"]),
    "boxes to a region": (LATLON["equiangular"], REGIONAL["seam"]),
    "refine": (HealpixGrid(1), HealpixGrid(3, "ring")),
    "refine some": (HealpixGrid(2, "ring", SOME_IDS), HealpixGrid(3, "nested", 4 * SOME_IDS + 1)),
    "coarsen": (HealpixGrid(3, "ring"), HealpixGrid(1)),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
global_pairs = pytest.mark.parametrize(
    "pair",
    [pair for pair in PAIRS.values() if all(abs(g.areas.sum() - 4 * np.pi) < 1e-9 for g in pair)],
)


@lru_cache(64)
def weights_of(source: Grid, target: Grid) -> SecondOrderWeights:
    return second_order_weights(source, target)


def regridded(source: Grid, target: Grid, values: Any, **options: Any) -> NDArray[Any]:
    return apply_second_order(weights_of(source, target), values, **options)


def noise(n_cells: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(n_cells)


def box_net(grid: LatLonGrid, n: int) -> Floats:
    """Unit vectors of n x n points in every box, equally spaced in area, (n_cells, n * n, 3)."""
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    part = (np.arange(n) + 0.5) / n
    sines = np.sin(np.deg2rad(grid.lat_bounds))
    lon = grid.lon_bounds[:, :1] + part * np.diff(grid.lon_bounds, axis=-1)
    lat = np.rad2deg(np.arcsin(sines[:, :1] + part * np.diff(sines, axis=-1)))
    lons, lats = np.broadcast_arrays(lon[None, :, None, :], lat[:, None, :, None])
    return lonlat_to_vectors(lons, lats).reshape(grid.n_cells, n * n, 3)


def reference(weights: SecondOrderWeights, values: Floats, missing: str, least: float) -> Floats:
    """One field, cell by cell in plain float64."""
    n_target = weights.shape[0]
    total, valid_part, part = (np.zeros(n_target + 1) for _ in range(3))
    for row, cell in enumerate(weights.sources):
        pieces = slice(weights.starts[row], weights.starts[row + 1])
        targets, share = weights.targets[pieces], weights.weights[pieces]
        part[targets] += share
        if not np.isfinite(values[cell]):
            continue
        around = values[weights.neighbours[row]]
        gradient = np.zeros(2)
        if np.isfinite(around).all():
            gradient = (around - values[cell]) @ weights.slopes[row]
        change = weights.offsets[pieces] @ gradient
        room_up = max([values[cell], *around]) - values[cell] if gradient.any() else 0.0
        room_down = min([values[cell], *around]) - values[cell] if gradient.any() else 0.0
        limits = [1.0]
        limits += [room_up / step for step in change if step > 0]
        limits += [room_down / step for step in change if step < 0]
        total[targets] += share * (values[cell] + min(limits) * change)
        valid_part[targets] += share
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total / valid_part)[:-1]
    if missing == "propagate":
        good = (valid_part == part) & (np.abs(part - 1) < 1e-9)
    else:
        good = (valid_part >= least - 1e-6) & (valid_part > 0)
    return np.where(good[:-1], mean, np.nan)


@every_pair
def test_pieces_add_up_to_the_conservative_weights(pair: tuple[Grid, Grid]) -> None:
    weights = weights_of(*pair)
    n_target, n_source = weights.shape
    columns = np.repeat(weights.sources, np.diff(weights.starts))
    entries = (weights.weights, (weights.targets, columns))
    found = sparse.coo_array(entries, shape=(n_target + 1, n_source)).toarray()[:-1]
    assert np.abs(found - conservative_weights(*pair).toarray()).max() < 1e-14
    pair_numbers = (columns.astype(int) * n_target + weights.targets)[weights.targets < n_target]
    assert np.unique(pair_numbers).size == pair_numbers.size
    assert np.isin(weights.sources, columns[weights.targets < n_target]).all()


@pytest.mark.quick("irregular", "polar", "seam", "box", "huge")
@pytest.mark.parametrize("name", [*LATLON, *REGIONAL])
def test_centroids_of_boxes_are_means_of_their_points(name: str) -> None:
    grid = {**LATLON, **REGIONAL}[name]
    inside = grid.areas > 0
    sampled = box_net(grid, 200).mean(axis=1)
    assert np.abs(cell_centroids(grid) - sampled)[inside].max() < 5e-5


@pytest.mark.parametrize("level", [0, 1, 3])
def test_centroids_of_cells_are_means_of_their_points(level: int) -> None:
    grid = HealpixGrid(level, "ring")
    fine = np.stack(healpy.pix2vec(2 ** (level + 6), np.arange(grid.n_cells * 4**6), nest=True), -1)
    sampled = fine.reshape(grid.n_cells, 4**6, 3).mean(axis=1)[grid.nested_ids]
    assert np.abs(cell_centroids(grid) - sampled).max() < 4e-4 / 2**level


@pytest.mark.quick("irregular", "polar")
@pytest.mark.parametrize("name", ["era5-like", "irregular", "polar", "gaussian"])
def test_offsets_lead_to_the_middle_of_the_overlap(name: str) -> None:
    grid, healpix = {**LATLON, **REGIONAL}[name], HealpixGrid(2)
    points = box_net(grid, 160)
    cells = healpix.cells_at(*vectors_to_lonlat(points))
    weights = weights_of(grid, healpix)
    for row, box in enumerate(weights.sources):
        centroid = points[box].mean(axis=0)
        east, north = tangent_vectors(*vectors_to_lonlat(centroid))
        for piece in range(weights.starts[row], weights.starts[row + 1]):
            inside = points[box][cells[box] == weights.targets[piece]]
            if len(inside) > 1000:
                way = inside.mean(axis=0) - centroid
                found = weights.offsets[piece]
                assert np.abs(found - [way @ east, way @ north]).max() < 3e-3 * np.ptp(points[box])


@pytest.mark.parametrize("field", FIELDS)
@global_pairs
def test_integral_is_kept(pair: tuple[Grid, Grid], field: Any) -> None:
    source, target = pair
    values = field(*radians(source)) + 1e-3 * noise(source.n_cells)
    before, after = values @ source.areas, regridded(source, target, values) @ target.areas
    assert abs(after - before) < 1e-12 * (np.abs(values) @ source.areas)


@every_pair
def test_constant_stays(pair: tuple[Grid, Grid]) -> None:
    result = regridded(*pair, np.full(pair[0].n_cells, 0.7))
    assert np.nanmax(np.abs(result - 0.7)) < 1e-14
    assert np.isfinite(result).any()


@every_pair
@examples(8)
@given(seed=st.integers(0, 99), kind=st.sampled_from(["noise", "bits", "board", "spike"]))
def test_no_new_extremes(pair: tuple[Grid, Grid], seed: int, kind: str) -> None:
    n_cells = pair[0].n_cells
    values = {
        "noise": noise(n_cells, seed),
        "bits": (noise(n_cells, seed) > 0).astype(float),
        "board": (np.arange(n_cells) + seed) % 2.0,
        "spike": (np.arange(n_cells) == seed % n_cells).astype(float),
    }[kind]
    result = regridded(*pair, values, min_valid_fraction=0.0)
    result = result[np.isfinite(result)]
    eps = 1e-14 * np.abs(values).max()
    assert values.min() - eps <= result.min()
    assert result.max() <= values.max() + eps


@examples(15)
@given(grid=lat_lon_grids(), to_cells=st.booleans(), seed=st.integers(0, 99))
def test_any_grid_keeps_integral_and_range(grid: LatLonGrid, to_cells: bool, seed: int) -> None:
    source, target = (grid, HealpixGrid(1)) if to_cells else (HealpixGrid(1), grid)
    values = noise(source.n_cells, seed)
    result = apply_second_order(second_order_weights(source, target), values)
    assert abs(result @ target.areas - values @ source.areas) < 1e-12 * 4 * np.pi
    assert values.min() - 1e-13 <= result.min()
    assert result.max() <= values.max() + 1e-13


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("to cells", 0.015), ("to boxes", 0.25), ("boxes to boxes", 0.04), ("refine", 0.55)],
)
def test_linear_field_comes_out_to_second_order(kind: str, bound: float) -> None:
    direction = np.array([0.5, -0.3, 0.8])
    for level in (2, 3, 4, 5):
        boxes, cells = with_poles(8 * 2**level // 2 + 1, 8 * 2**level), HealpixGrid(level)
        source, target = {
            "to cells": (boxes, HealpixGrid(level, "ring")),
            "to boxes": (cells, boxes),
            "boxes to boxes": (boxes, equiangular(360.0 / (10 * 2**level))),
            "refine": (cells, HealpixGrid(level + 2)),
        }[kind]
        result = regridded(source, target, cell_centroids(source) @ direction)
        # in units of the squared size of cells; the first order's error grows in them
        assert np.abs(result - cell_centroids(target) @ direction).max() * 4**level < bound


def true_means(field: Any, level: int) -> Floats:
    """Means of 8 x 8 points in every cell."""
    ids = np.arange(12 * 4 ** (level + 3))
    lon, lat = healpy.pix2ang(2 ** (level + 3), ids, nest=True, lonlat=True)
    return field(np.deg2rad(lon), np.deg2rad(lat)).reshape(-1, 64).mean(axis=1)


@pytest.mark.parametrize("field", [sinusoid, vortex, smooth])
def test_error_falls_with_the_second_order(field: Any) -> None:
    errors = []
    for level in (3, 4, 5):
        source, target = equiangular(360.0 / (45 * 2 ** (level - 3))), HealpixGrid(level)
        values, truth = field(*radians(source)), true_means(field, level)
        first = apply_weights(conservative_weights(source, target), values)
        error, first_error = (
            np.abs(result - truth).mean() for result in (regridded(source, target, values), first)
        )
        assert error < 0.9 * first_error
        errors.append(error)
    assert np.log2(errors[0] / errors[2]) / 2 > 1.6


def test_error_falls_with_the_second_order_towards_boxes() -> None:
    errors = []
    for level in (3, 4, 5):
        target = equiangular(360.0 / (45 * 2 ** (level - 3)))
        points = box_net(target, 8)
        lon, lat = np.deg2rad(vectors_to_lonlat(points))
        truth, values = smooth(lon, lat).mean(axis=1), true_means(smooth, level)
        found = regridded(HealpixGrid(level), target, values)
        errors.append(np.abs(found - truth) @ target.areas)
    assert np.log2(errors[0] / errors[2]) / 2 > 1.7


def on_grid(grid: LatLonGrid) -> Floats:
    """Rough, and the same at the same place on every grid."""
    lon, lat = radians(grid)
    return vortex(lon, lat) + np.sin(13 * lon) * np.cos(lat) + np.sin(29 * np.sin(lat))


@pytest.mark.parametrize("n_lon", [24, 25])
def test_same_answer_however_the_grid_is_laid_out(n_lon: int) -> None:
    cells = HealpixGrid(3)
    grid = with_poles(13, n_lon)
    expected = regridded(grid, cells, on_grid(grid))
    lon = np.sort(np.where(grid.lon >= 180.0, grid.lon - 360.0, grid.lon))
    for other in (LatLonGrid(grid.lon, grid.lat[::-1]), LatLonGrid(lon, grid.lat)):
        assert np.abs(regridded(other, cells, on_grid(other)) - expected).max() < 1e-13
    ring = HealpixGrid(3, "ring")
    in_rings = regridded(grid, ring, on_grid(grid))
    assert np.abs(in_rings[healpy.nest2ring(8, np.arange(768))] - expected).max() < 1e-13
    back = regridded(cells, grid, expected)
    assert np.abs(regridded(ring, grid, in_rings) - back).max() < 1e-13
    flipped = regridded(cells, LatLonGrid(grid.lon, grid.lat[::-1]), expected)
    assert np.abs(flipped.reshape(grid.shape)[::-1].ravel() - back).max() < 1e-13


def test_quarter_turn_turns_the_answer() -> None:
    grid, cells = with_poles(13, 24), HealpixGrid(3)
    values = noise(grid.n_cells)
    turned = np.roll(values.reshape(grid.shape), 6, axis=1).ravel()
    result = regridded(grid, cells, values).reshape(12, 64)
    found = regridded(grid, cells, turned).reshape(12, 64)
    faces = [3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10]
    assert np.abs(found - result[faces]).max() < 1e-13


def test_mirrored_field_gives_the_mirrored_answer() -> None:
    source, target = with_poles(12, 15), equiangular(20.0)
    values = noise(source.n_cells).reshape(source.shape)
    result = regridded(source, target, values.ravel()).reshape(target.shape)
    mirrored = regridded(source, target, values[::-1].ravel()).reshape(target.shape)
    assert np.abs(mirrored[::-1] - result).max() < 1e-13


@pytest.mark.parametrize("missing", ["renormalize", "propagate"])
@every_pair
def test_missing_values_agree_with_a_plain_reference(pair: tuple[Grid, Grid], missing: str) -> None:
    weights = weights_of(*pair)
    n_cells = pair[0].n_cells
    fields = np.stack([noise(n_cells, seed) for seed in range(5)])
    fields[1, ::3] = np.nan
    fields[2, 1::5] = -np.inf
    fields[3, 0] = np.nan
    fields[4] = np.nan
    for least in (0.0, 0.5, 1.0):
        options: Any = {"missing": missing, "min_valid_fraction": least}
        found = apply_second_order(weights, fields, **options)
        single = apply_second_order(weights, fields.astype(np.float32), **options)
        expected = np.stack([reference(weights, field, missing, least) for field in fields])
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        assert np.nanmax(np.abs(found - expected), initial=0.0) < 1e-13
        assert single.dtype == np.float32
        assert np.array_equal(np.isnan(single), np.isnan(expected))
        assert np.nanmax(np.abs(single - expected), initial=0.0) < 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", ["renormalize", "propagate"])
def test_fields_do_not_know_of_each_other(missing: Any, dtype: Any) -> None:
    weights = weights_of(LATLON["era5-like"], HealpixGrid(3))
    fields = np.stack([noise(13 * 24, seed) for seed in range(21)]).astype(dtype)
    fields[3, 5], fields[17, ::4], fields[18] = np.nan, np.inf, np.nan
    together = apply_second_order(weights, fields, missing=missing)
    for n in (1, 2, 7, 16):
        parts = [
            apply_second_order(weights, fields[start : start + n], missing=missing)
            for start in range(0, 21, n)
        ]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_cells_beside_a_missing_one_fall_back_to_first_order() -> None:
    source, target = HealpixGrid(2), HealpixGrid(4)
    values = noise(source.n_cells)
    values[100] = np.nan
    around = surrounding_cells(source)[100]
    result = regridded(source, target, values).reshape(source.n_cells, 16)
    assert np.isnan(result[100]).all()
    assert np.abs(result[around] - values[around, None]).max() < 1e-15
    others = np.setdiff1d(np.arange(192), [100, *around])
    assert np.median(np.ptp(result[others], axis=1)) > 0.01


def test_part_of_the_sphere_gets_what_the_whole_gets() -> None:
    source = LATLON["irregular"]
    values = noise(source.n_cells)
    whole = regridded(source, HealpixGrid(3, "ring"), values)
    ids = np.random.default_rng(1).permutation(768)[:150]
    part = regridded(source, HealpixGrid(3, "ring", ids), values)
    assert np.abs(part - whole[ids]).max() < 1e-13
    patch = np.arange(20000, 20300)
    whole = regridded(source, HealpixGrid(6), values)[patch]
    part = regridded(source, HealpixGrid(6, cell_ids=patch), values)
    assert np.abs(part - whole).max() < 1e-13
    parents = noise(48)
    refined = regridded(HealpixGrid(1), HealpixGrid(3, "ring"), parents)
    part = regridded(HealpixGrid(1), HealpixGrid(3, "ring", ids), parents)
    assert np.abs(part - refined[ids]).max() < 1e-13


@pytest.mark.parametrize("source", [HealpixGrid(4), equiangular(4.8)], ids=["cells", "boxes"])
def test_region_gets_what_the_whole_gets_where_nothing_is_limited(source: Grid) -> None:
    globe = from_edges(np.arange(0.0, 361.0, 4.0), np.arange(-90.0, 91.0, 3.0))
    region = from_edges(np.arange(20.0, 121.0, 4.0), np.arange(-9.0, 70.0, 3.0))
    lon, lat = radians(source)
    values = np.sin(lat) + 0.3 * np.cos(lat) * np.cos(lon + 0.5)
    whole = regridded(source, globe, values).reshape(globe.shape)
    found = regridded(source, region, values).reshape(region.shape)
    assert np.abs(found - whole[27:53, 5:30]).max() < 1e-9


def test_coarsening_is_that_of_the_first_order() -> None:
    source, target = HealpixGrid(3, "ring"), HealpixGrid(1)
    values = noise(source.n_cells)
    first = apply_weights(conservative_weights(source, target), values)
    assert weights_of(source, target).neighbours.shape == (768, 0)
    assert np.abs(regridded(source, target, values) - first).max() < 1e-15


@pytest.mark.parametrize(
    "grid",
    [
        LATLON["one-box"],
        from_edges([0, 30, 70, 150], [-20, 40]),
        LatLonGrid([90, 270], [60, 0, -60]),  # all in the plane of one meridian
    ],
)
def test_cells_on_a_line_have_no_gradient(grid: LatLonGrid) -> None:
    target = HealpixGrid(2)
    values = noise(grid.n_cells)
    first = apply_weights(conservative_weights(grid, target), values)
    assert not weights_of(grid, target).slopes.any()
    assert np.allclose(regridded(grid, target, values), first, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize("name", [*LATLON, *REGIONAL])
def test_gradients_are_weighted_least_squares(name: str) -> None:
    grid = {**LATLON, **REGIONAL}[name]
    weights = weights_of(grid, HealpixGrid(4))
    centroids = cell_centroids(grid)
    for row, cell in enumerate(weights.sources):
        around = weights.neighbours[row]
        here = np.flatnonzero(around != cell)
        ways = centroids[around[here]] - centroids[cell]
        lengths = np.linalg.norm(ways, axis=1)
        if not weights.slopes[row].any():
            assert here.size < 3 or name in ("one-box", "huge-boxes", "tiny")
            continue
        east, north = tangent_vectors(*vectors_to_lonlat(centroids[cell]))
        scaled = np.stack([ways @ east, ways @ north], -1) / lengths[:, None]
        expected = np.linalg.pinv(scaled) / lengths
        assert np.allclose(weights.slopes[row][here].T, expected, rtol=1e-9, atol=1e-9)


def test_neighbours_go_round_the_seam_and_across_the_poles() -> None:
    around = surrounding_cells(LatLonGrid(np.arange(0, 360, 60), [80, 0, -80]))
    assert set(around[0]) == {2, 3, 4, 11, 6, 7, 5, 1}
    assert set(around[8]) == {1, 2, 3, 7, 9, 13, 14, 15}
    odd = surrounding_cells(LatLonGrid(np.arange(0, 360, 72), [45, -45]))
    assert sorted(odd[0]) == [-1, 1, 2, 3, 4, 5, 6, 9]
    cyclic = surrounding_cells(LatLonGrid(np.linspace(0, 360, 7), [45, -45]))
    assert (cyclic[[6, 13]] == -1).all()
    assert not np.isin([6, 13], cyclic).any()
    assert sorted(cyclic[0]) == [1, 2, 3, 4, 5, 7, 8, 12]


def test_no_cell_is_its_own_neighbour() -> None:
    for grid in (*LATLON.values(), *REGIONAL.values(), HealpixGrid(0), HealpixGrid(2, "ring")):
        assert not (surrounding_cells(grid) == np.arange(grid.n_cells)[:, None]).any()


def test_neighbours_end_at_the_rim_of_a_region() -> None:
    around = surrounding_cells(LatLonGrid([10, 20, 30], [50, 40]))
    assert sorted(around[0][around[0] >= 0]) == [1, 3, 4]
    some = HealpixGrid(1, "ring", [9, 4, 5, 20])
    expected = healpy.get_all_neighbours(2, 4)
    found = some.ids[surrounding_cells(some)[1][surrounding_cells(some)[1] >= 0]]
    assert set(found) == set(expected) & {9, 5, 20}


def test_repeated_column_is_that_of_the_first() -> None:
    target = LATLON["cyclic"]
    result = regridded(LATLON["gaussian"], target, noise(9 * 16)).reshape(target.shape)
    assert np.array_equal(result[:, -1], result[:, 0])


def test_source_column_without_area_is_ignored() -> None:
    source = LATLON["cyclic"]
    values = noise(source.n_cells).reshape(source.shape)
    plain = LatLonGrid(source.lon[:-1], source.lat)
    expected = regridded(plain, HealpixGrid(3), values[:, :-1].ravel())
    values[:, -1] = np.nan
    found = regridded(source, HealpixGrid(3), values.ravel(), missing="propagate")
    assert np.abs(found - expected).max() < 1e-14


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(np.int16, np.float32), (np.int32, np.float64), (bool, np.float32), (np.float32, np.float32)],
)
def test_types_and_shapes(dtype: Any, result: Any) -> None:
    weights = weights_of(HealpixGrid(1), HealpixGrid(2))
    values = (np.arange(2 * 3 * 48).reshape(2, 3, 48) % 5 > 1).astype(dtype)
    before = values.copy()
    found = apply_second_order(weights, values)
    assert found.shape == (2, 3, 192)
    assert found.dtype == result
    assert np.array_equal(values, before)
    wide = apply_second_order(weights, values.astype(np.float64))
    assert np.abs(found - wide).max() < 1e-6


def test_arrays_make_the_weights_again() -> None:
    weights = weights_of(HealpixGrid(1), LATLON["tiny"])
    arrays = {name: array.copy() for name, array in weights.to_arrays().items()}
    for array in arrays.values():
        array.flags.writeable = False
    again = SecondOrderWeights.from_arrays(arrays)
    values = noise(48)
    expected = apply_second_order(weights, values)
    for _ in range(2):
        assert np.array_equal(apply_second_order(again, values), expected)


def test_wrong_input_is_refused() -> None:
    points = PointGrid([0.0, 10.0], [0.0, 5.0])
    with pytest.raises(ValueError, match="no second-order conservative weights from PointGrid"):
        second_order_weights(points, HealpixGrid(0))
    weights = weights_of(HealpixGrid(1), LATLON["tiny"])
    with pytest.raises(ValueError, match=r"must have the 48 source cells .* got shape \(47,\)"):
        apply_second_order(weights, np.zeros(47))
    with pytest.raises(TypeError, match="values must be real numbers"):
        apply_second_order(weights, np.zeros(48, complex))
    with pytest.raises(ValueError, match="missing must be one of"):
        apply_second_order(weights, np.zeros(48), missing="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_valid_fraction must be from 0 to 1"):
        apply_second_order(weights, np.zeros(48), min_valid_fraction=1.5)
