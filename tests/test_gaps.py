"""A region stays a region: no values, masks or events where rows, columns or points are far."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere import (
    events,
    filter,
    gradient,
    horizontal_grid,
    regrid,
    segment,
    to_healpix,
    to_latlon,
    vorticity,
)
from xsphere.conventions import mask_attributes, with_max_distance
from xsphere.graph import SphereGraph, adjacency
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.grids.reach import spread_of
from xsphere.grids.spacing import gaps_of
from xsphere.weights import (
    conservative_weights,
    regrid_fields,
    regridding_weights,
    second_order_weights,
)
from xsphere.weights.slopes import surrounding_cells

Floats = NDArray[np.float64]
STEP = 5.0
LEVEL = 3


@st.composite
def gapped(draw: st.DrawFn, first: float, last: float, most: int) -> tuple[Floats, NDArray[Any]]:
    """Centres in runs of one step, with gaps of three steps or more between, and their runs."""
    centres, runs, at = [], [], first
    for run in range(draw(st.integers(1, 3))):
        n = draw(st.integers(3, most))
        if at + n * STEP > last:
            break
        centres.append(at + STEP * np.arange(n))
        runs.append(np.full(n, run))
        at += STEP * (n + draw(st.integers(2, 8)))
    if not centres:
        return gapped_default(first)
    return np.concatenate(centres), np.concatenate(runs)


def gapped_default(first: float) -> tuple[Floats, NDArray[Any]]:
    return first + STEP * np.arange(3), np.zeros(3, int)


@st.composite
def gapped_grids(draw: st.DrawFn) -> tuple[LatLonGrid, NDArray[Any]]:
    """Grids with gaps, and the part between gaps that each cell is in."""
    start = draw(st.sampled_from([0.0, -180.0, -177.5, 100.0]))
    lon, lon_runs = draw(gapped(start, start + 340.0, 12))
    if draw(st.booleans()):
        # over the seam: the last columns touch the first ones
        n = draw(st.integers(1, 4))
        lon = np.append(lon, start + 360.0 - STEP * np.arange(n, 0, -1))
        lon_runs = np.append(lon_runs, np.zeros(n, int))
    lat, lat_runs = draw(gapped(draw(st.sampled_from([-85.0, -60.0, 10.0])), 87.0, 8))
    if draw(st.booleans()):
        lon, lon_runs = lon[::-1], lon_runs[::-1]
    if draw(st.booleans()):
        lat, lat_runs = lat[::-1], lat_runs[::-1]
    return LatLonGrid(lon, lat), (10 * lat_runs[:, None] + lon_runs).ravel()


def off(grid: LatLonGrid, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Degrees from places to the nearest column and to the nearest row."""
    columns = np.abs((lon[:, None] - grid.lon + 180.0) % 360.0 - 180.0).min(axis=1)
    return columns, np.abs(lat[:, None] - grid.lat).min(axis=1)


def holds(grid: LatLonGrid, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
    """Whether places are at most half a step from a row and a column."""
    columns, rows = off(grid, lon, lat)
    return (columns <= STEP / 2) & (rows <= STEP / 2)


def on_edge(grid: LatLonGrid, lon: Floats, lat: Floats) -> NDArray[np.bool_]:
    return (np.abs(np.stack(off(grid, lon, lat)) - STEP / 2) < 1e-6).any(axis=0)


def labelled(grid: LatLonGrid, values: Any, **kwargs: Any) -> xr.DataArray:
    coords = {"lat": ("lat", grid.lat), "lon": ("lon", grid.lon)}
    return xr.DataArray(np.reshape(values, grid.shape), coords, ("lat", "lon"), **kwargs)


def mask_of(grid: LatLonGrid, cells: NDArray[np.bool_]) -> xr.DataArray:
    return labelled(grid, cells.astype(np.uint8), attrs=mask_attributes(["storm"]))


# --- which steps are gaps


@pytest.mark.parametrize(
    ("steps", "gaps"),
    [
        ([1, 1, 1, 1], []),
        ([1, 1, 2, 1, 1], [2]),  # a missing row
        ([2.5] * 12 + [300] + [2.5] * 12, [12]),
        ([10, 10, 80, 100, 10, 10], [2, 3]),  # a row between two gaps
        ([29, 1, 29], [0, 2]),
        ([1, 30], [1]),
        ([10, 10, 10, 5, 5, 5, 5, 10, 10], []),  # zones
        (1.2 ** np.arange(20), []),  # stretched
        (np.diff(np.rad2deg(np.arcsin(np.tanh(np.linspace(-3, 3, 61))))), []),  # Mercator
        ([1, 1, 0.25, 0.75, 1, 1], []),  # a row too many
        ([40], []),
        ([], []),
    ],
)
def test_a_step_is_a_gap_if_it_is_unlike_those_near_it(steps: Any, gaps: list[int]) -> None:
    for turned in (False, True):
        found = gaps_of(np.asarray(steps, float)[:: -1 if turned else 1])
        assert found[:: -1 if turned else 1].nonzero()[0].tolist() == gaps


@examples(60)
@given(gapped_grids(), st.integers(0, 9))
def test_cells_end_half_a_step_beyond_their_centres(found: Any, seed: int) -> None:
    grid, _ = found
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 360, 500), rng.uniform(-90, 90, 500)
    cells = grid.cells_at(lon, lat)
    np.testing.assert_array_equal(cells >= 0, holds(grid, lon, lat))
    centre_lon, centre_lat = (axis[cells[cells >= 0]] for axis in grid.centre_lonlat)
    assert (np.abs(lat[cells >= 0] - centre_lat) <= STEP / 2).all()
    assert (np.abs((lon[cells >= 0] - centre_lon + 180) % 360 - 180) <= STEP / 2).all()
    heights = np.sin(np.deg2rad(grid.lat + STEP / 2)) - np.sin(np.deg2rad(grid.lat - STEP / 2))
    np.testing.assert_allclose(grid.areas.sum(), heights.sum() * np.deg2rad(STEP) * grid.lon.size)


@pytest.mark.parametrize(
    ("lon", "lat", "width", "height"),
    [
        (np.arange(0, 360, 2.5), [10.0], 2.5, 2.5),
        ([100.0], np.arange(-60, 61, 2.0), 2.0, 2.0),
        ([0.0, 1.0], [89.9], 1.0, 0.6),
    ],
)
def test_a_single_row_or_column_is_as_wide_as_the_others(
    lon: Any, lat: Any, width: float, height: float
) -> None:
    grid = LatLonGrid(lon, lat)
    np.testing.assert_allclose(np.ptp(grid.lon_bounds, axis=-1), width)
    np.testing.assert_allclose(np.ptp(grid.lat_bounds, axis=-1), height)
    assert not grid.is_global


def test_bounds_win_and_a_single_cell_needs_them() -> None:
    zonal = LatLonGrid([180.0], [45.0, -45.0], lon_bounds=[[0, 360]])
    assert zonal.is_global
    wide = LatLonGrid([0.0, 100.0], [0.0], [[-50, 50], [50, 150]], [[-90, 90]])
    assert wide.joined_columns.tolist() == [True, False]
    assert wide.includes_poles == (True, True)
    cell = LatLonGrid([10.0], [50.0], [[9, 11]], [[49, 51]])
    assert cell.cells_at([10.9, 11.1], [50.0, 50.0]).tolist() == [0, -1]
    with pytest.raises(ValueError, match=r"single row and a single column .*; give lon_bounds and"):
        LatLonGrid([10.0], [50.0])


def test_a_grid_without_a_row_is_not_global() -> None:
    lon, lat = np.arange(0, 360, 5.0), np.arange(-87.5, 90, 5.0)
    assert LatLonGrid(lon, lat).is_global
    assert not LatLonGrid(lon, np.delete(lat, 20)).is_global
    assert not LatLonGrid(np.delete(lon, 20), lat).is_global
    assert not LatLonGrid(lon, lat[1:]).is_global
    assert LatLonGrid(np.linspace(0, 360, 73), lat).is_global


# --- weights


@examples(25)
@given(gapped_grids())
def test_every_method_leaves_out_what_no_cell_holds(found: Any) -> None:
    source, _ = found
    target = HealpixGrid(LEVEL)
    lon, lat = target.centre_lonlat
    inside, sure = holds(source, lon, lat), ~on_edge(source, lon, lat)
    for method in ("nearest", "bilinear", "inverse_distance"):
        rows = regridding_weights(source, target, method=method)  # type: ignore[arg-type]
        np.testing.assert_array_equal((np.diff(rows.indptr) > 0)[sure], inside[sure])
        np.testing.assert_allclose(rows.sum(axis=1)[inside & sure], 1.0)
    shares = conservative_weights(source, target).sum(axis=1)
    area = 4 * np.pi / target.n_cells
    assert shares.sum() * area == pytest.approx(source.areas.sum(), rel=1e-9)
    pieces = second_order_weights(source, target).weights
    assert pieces.sum() * area == pytest.approx(source.areas.sum(), rel=1e-9)


@examples(25)
@given(gapped_grids())
def test_no_value_comes_from_beyond_a_gap(found: Any) -> None:
    source, parts = found
    for target in (HealpixGrid(LEVEL), LatLonGrid(np.arange(1, 360, 4.0), np.arange(-88, 90, 4.0))):
        nearest = regrid_fields(parts * 1.0, source, target, method="nearest")
        values = regrid_fields(parts * 1.0, source, target, method="bilinear")
        np.testing.assert_allclose(values, nearest, atol=1e-12)
    around = surrounding_cells(source)
    rows, slots = np.nonzero(around >= 0)
    same = parts[rows] == parts[around[rows, slots]]
    # over a pole cells of all columns meet
    assert same[np.abs(source.centre_lonlat[1][rows]) < 85].all()


@pytest.mark.parametrize("method", ["nearest", "bilinear", "conservative", "conservative2"])
def test_a_region_over_the_date_line_is_one_in_either_convention(method: Any) -> None:
    lat, east = np.arange(-30, 31, 2.5), np.arange(150, 211, 2.5)
    west = np.sort((east + 180) % 360 - 180)
    field = np.random.default_rng(0).normal(size=(lat.size, east.size))
    order = np.argsort((east + 180) % 360 - 180)
    one, other = LatLonGrid(east, lat), LatLonGrid(west, lat)
    for target in (HealpixGrid(LEVEL), LatLonGrid(np.arange(0, 360, 3.0), np.arange(-60, 61, 3.0))):
        expected = regrid_fields(field.ravel(), one, target, method=method)
        found = regrid_fields(field[:, order].ravel(), other, target, method=method)
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert np.isnan(found).mean() > 0.5


def test_a_part_of_healpix_ends_for_every_method() -> None:
    part = HealpixGrid(2, cell_ids=[3, 40, 41])
    for target in (HealpixGrid(2), LatLonGrid(np.arange(0, 360, 10.0), np.arange(-85, 90, 10.0))):
        inside = part.cells_at(*target.centre_lonlat) >= 0
        for method in ("nearest", "inverse_distance"):
            rows = regridding_weights(part, target, method=method)  # type: ignore[arg-type]
            np.testing.assert_array_equal(np.diff(rows.indptr) > 0, inside)


# --- graphs and derivatives


@examples(25)
@given(gapped_grids())
def test_cells_touch_within_parts_alone(found: Any) -> None:
    grid, parts = found
    matrix = adjacency(grid)
    n, part = connected_components(matrix, directed=False)
    reaches = grid.includes_poles
    if not any(reaches):
        assert n == np.unique(parts).size
        assert np.unique(np.stack([part, parts]), axis=1).shape[1] == n
    lon, lat = grid.centre_lonlat
    apart = np.abs((lon[:, None] - lon + 180) % 360 - 180)
    near = (apart < 1.01 * STEP) & (np.abs(lat[:, None] - lat) < 1.01 * STEP)
    np.fill_diagonal(near, val=False)
    away = np.abs(lat) < 85
    found_here = matrix.toarray()
    np.testing.assert_array_equal(found_here[away][:, away], near[away][:, away])
    if not (np.abs(lat) > 89).any():
        beside = SphereGraph(grid, 4, weights="khasanova2017").adjacency.toarray() > 0
        edge = near & ((apart < 0.01) | (np.abs(lat[:, None] - lat) < 0.01))
        np.testing.assert_array_equal(beside, edge)


@examples(20)
@given(gapped_grids())
def test_derivatives_and_filters_do_not_bridge_gaps(found: Any) -> None:
    grid, parts = found
    field = labelled(grid, 100.0 * parts)
    slopes = gradient(field)
    for name in slopes:
        values = slopes[name].values
        assert np.isfinite(values).any()
        np.testing.assert_allclose(values[np.isfinite(values)], 0.0, atol=1e-9)
    if grid.lat.size > 1 and grid.lon.size > 2:
        smooth = filter(field, "heat", scale=800.0)
        np.testing.assert_allclose(smooth, field, atol=1e-6)


def test_parts_too_small_for_a_derivative_have_none() -> None:
    lat = np.array([*np.arange(0, 21, 2.5), 40.0, 42.5])
    grid = LatLonGrid(np.arange(0, 31, 2.5), lat)
    slopes = gradient(labelled(grid, np.sin(np.deg2rad(grid.centre_lonlat[1])), name="t"))
    north = slopes.northward_derivative
    assert np.isnan(north.sel(lat=[40.0, 42.5])).all()
    expected = np.cos(np.deg2rad(lat[:9]))[:, None] * np.ones(13) / (EARTH_RADIUS_KM * 1e3)
    np.testing.assert_allclose(north.isel(lat=slice(9)), expected, rtol=1e-3)
    with pytest.raises(ValueError, match="need more rows and columns between gaps, got 26 cells"):
        SphereGraph(grid, 8).laplacian  # noqa: B018 - built when asked for
    with pytest.raises(ValueError, match="at least 3 rows and columns, got 2 x 13"):
        gradient(labelled(LatLonGrid(grid.lon, lat[-2:]), np.zeros(26), name="t"))


def test_winds_over_the_seam_turn_as_in_one_piece() -> None:
    lat, east = np.arange(-30, 31, 2.5), np.arange(150, 211, 2.5)
    u, v = np.random.default_rng(1).normal(size=(2, lat.size, east.size))
    ds = xr.Dataset({"u": (("lat", "lon"), u), "v": (("lat", "lon"), v)}, {"lat": lat, "lon": east})
    west = ds.assign_coords(lon=(ds.lon + 180) % 360 - 180).sortby("lon")
    expected = vorticity(ds, u="u", v="v")
    found = vorticity(west, u="u", v="v")
    found = found.assign_coords(lon=found.lon % 360).sortby("lon")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


# --- labelled data


def test_storms_on_either_side_of_a_gap_are_two() -> None:
    lon = np.append(np.arange(-180, -149, 2.5), np.arange(150, 180, 2.5))
    grid = LatLonGrid(lon, np.arange(-10, 11, 2.5))
    flags = np.abs(np.abs(grid.centre_lonlat[0]) - 155) <= 5
    found = events(mask_of(grid, flags))
    assert found.sizes["event"] == 2
    assert found.lon.values.round(6).tolist() in ([205.0, 155.0], [155.0, 205.0])
    areas = grid.areas[flags].sum() * EARTH_RADIUS_KM**2 / 2
    np.testing.assert_allclose(found.area, areas, rtol=1e-9)
    over = events(mask_of(grid, np.abs(grid.centre_lonlat[0]) >= 170))
    assert over.sizes["event"] == 1
    assert abs(over.lon.item() - 180) < 2


def test_events_of_one_row() -> None:
    grid = LatLonGrid(np.arange(0, 360, 2.5), [10.0])
    found = events(mask_of(grid, np.arange(144) < 4))
    heights = np.sin(np.deg2rad(11.25)) - np.sin(np.deg2rad(8.75))
    expected = 4 * np.deg2rad(2.5) * heights * EARTH_RADIUS_KM**2
    assert found.area.item() == pytest.approx(expected)


REGIONS = {
    "bands": lambda ds: ds.sel(lat=ds.lat[abs(ds.lat) >= 45]),
    "row": lambda ds: ds.isel(lat=[5]),
    "column": lambda ds: ds.isel(lon=[5]),
    "hole": lambda ds: ds.sel(lon=ds.lon[(ds.lon < 60) | (ds.lon > 200)]),
}


@pytest.mark.filterwarnings("ignore:the input 'latitude'")
@pytest.mark.parametrize("name", REGIONS)
def test_masks_are_invalid_where_there_are_no_data(name: str) -> None:
    part = REGIONS[name](storm_dataset())
    grid = horizontal_grid(part).grid
    model = storm_model()
    mask = segment(part, model)
    inside = grid.cells_at(*model.grid.centre_lonlat) >= 0
    assert (mask.values[:, ~inside & _far(grid, model.grid)] == 254).all()
    source = segment(part, model, grid="source")
    assert source.sizes["lat"] == part.sizes["lat"]
    assert horizontal_grid(source).grid == grid


def _far(grid: Any, target: HealpixGrid) -> NDArray[np.bool_]:
    """Cells farther from all centres than a cell of the source and of the target."""
    near = (grid.centres @ target.centres.T).max(axis=0)
    return np.arccos(near.clip(-1, 1)) > 1.5 * np.sqrt(grid.areas.max() + target.areas[0])


# --- points


def curvilinear(lat: Floats, lon: Floats) -> xr.DataArray:
    """A rectilinear field given as a curvilinear one, stacked to points."""
    field = xr.DataArray(np.add.outer(lat, 0.01 * lon), dims=("y", "x"))
    field = field.assign_coords(lat=(("y", "x"), np.broadcast_to(lat[:, None], field.shape)))
    field = field.assign_coords(lon=(("y", "x"), np.broadcast_to(lon, field.shape)))
    return field.stack(points=("y", "x"))


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.arange(30, 61, 2.5), np.arange(0, 41, 2.5)),
        (np.arange(60, 88, 2.5), np.arange(0, 360, 2.5)),  # thin cells around a pole
        (np.arange(-20, 21, 2.5), np.append(np.arange(170, 180, 2.5), np.arange(-180, -150, 2.5))),
        (
            np.append(np.arange(-50, -29, 2.5), np.arange(30, 51, 2.5)),
            np.arange(0, 360, 2.5),
        ),
    ],
)
def test_a_stacked_region_is_no_larger_than_the_grid_it_was(lat: Floats, lon: Floats) -> None:
    points = curvilinear(lat, lon)
    assert not horizontal_grid(points).grid.is_global
    target = HealpixGrid(4)
    nearest = np.arccos((horizontal_grid(points).grid.centres @ target.centres.T).max(axis=0))
    target_lon, target_lat = target.centre_lonlat
    columns = np.abs((target_lon[:, None] - lon + 180) % 360 - 180).min(axis=1)
    rows = np.abs(target_lat[:, None] - lat).min(axis=1)
    for method in ("auto", "nearest", "inverse_distance"):
        found = to_healpix(points, 4, method=method).notnull().values
        # all that the cells of the grid hold, and nothing beyond their corners
        assert found[(columns < 1.24) & (rows < 1.24)].all()
        holding = np.zeros(target.n_cells, bool)
        holding[target.cells_at(*horizontal_grid(points).grid.centre_lonlat)] = True
        assert not found[(nearest > np.deg2rad(1.26 * np.sqrt(2))) & ~holding].any()


def test_a_stacked_globe_is_the_globe() -> None:
    points = curvilinear(np.arange(-87.5, 90, 5.0), np.arange(0, 360, 5.0))
    assert horizontal_grid(points).grid.is_global
    assert to_healpix(points, 2).notnull().all()
    assert to_healpix(points > 0, 2).dtype == bool
    assert (
        to_healpix(curvilinear(np.arange(0, 21, 5.0), np.arange(0, 21, 5.0)) > 0, 2).dtype == "f4"
    )


STATIONS = xr.DataArray(
    [1.0, 2.0, 3.0, 4.0],
    {"lat": ("station", [50.0, 48, 52, 51]), "lon": ("station", [8.0, 11, 13, 10])},
    ("station",),
    name="t",
)


@examples(30)
@given(
    st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=9),
    st.floats(50, 8000),
)
def test_max_distance_is_the_largest_distance(places: Any, distance: float) -> None:
    lon, lat = np.array(places).T
    field = xr.DataArray(np.arange(lon.size) * 1.0, {"lat": ("s", lat), "lon": ("s", lon)}, ("s",))
    target = HealpixGrid(2)
    cosines = lonlat_to_vectors(lon, lat) @ target.centres.T
    nearest = np.arccos(cosines.clip(-1, 1)).min(axis=0) * EARTH_RADIUS_KM
    holding = np.zeros(target.n_cells, bool)
    holding[target.cells_at(lon, lat)] = True
    for method in ("nearest", "inverse_distance"):
        found = to_healpix(field, 2, method=method, max_distance=distance)
        np.testing.assert_array_equal(found.notnull(), (nearest <= distance) | holding)


def test_stations_speak_for_what_is_near_them() -> None:
    found = to_healpix(STATIONS, 4)
    assert 0 < found.notnull().sum() < 12
    assert to_latlon(STATIONS, 1.0).notnull().mean() < 0.01
    one = to_healpix(STATIONS[:1], 4)
    cell = HealpixGrid(4).cells_at(8.0, 50.0)
    assert np.flatnonzero(one.notnull()).tolist() == [int(cell)]
    assert to_healpix(STATIONS, 2, max_distance=np.inf).notnull().all()
    part = to_healpix(STATIONS, 5, extent="source")
    assert part.notnull().all()
    assert part.sizes["cells"] == int(to_healpix(STATIONS, 5).notnull().sum())
    limited = STATIONS.assign_coords(lat=STATIONS.lat.assign_attrs(max_distance=50.0))
    xr.testing.assert_identical(to_healpix(limited, 4), to_healpix(STATIONS, 4, max_distance=50))
    assert "max_distance" not in STATIONS.lat.attrs
    assert regrid(STATIONS, PointGrid([8.1, 60.0], [50.0, 0.0])).isnull().values.tolist() == [
        False,
        True,
    ]


def test_max_distance_is_checked() -> None:
    with pytest.raises(ValueError, match="max_distance must be positive, in km, got -1"):
        to_healpix(STATIONS, 3, max_distance=-1)
    field = labelled(LatLonGrid([0, 120, 240], [45, -45]), np.zeros(6))
    with pytest.raises(ValueError, match="for latitude and longitude of points without cell bound"):
        to_healpix(field, 3, max_distance=100)
    assert with_max_distance(field, None) is field
    octant = {"lon_bounds": [[0, 90, 0]], "lat_bounds": [[0, 0, 90]]}
    with pytest.raises(ValueError, match="max_distance is for points without cell bounds, got 5 k"):
        PointGrid([45], [35], **octant, max_distance=5)
    one, two = PointGrid([1.0], [2.0]), PointGrid([1.0], [2.0], max_distance=5)
    assert one != two
    assert one.fingerprint != two.fingerprint


def test_polygons_are_a_region_too() -> None:
    cells = PointGrid.cubed_sphere(12)
    chosen = cells.lat_bounds.min(axis=1) > 10  # type: ignore[union-attr]
    part = PointGrid(
        cells.lon[chosen], cells.lat[chosen], cells.lon_bounds[chosen], cells.lat_bounds[chosen]
    )  # type: ignore[index]
    assert cells.is_global
    assert not part.is_global
    target = HealpixGrid(3)
    shares = conservative_weights(part, target).sum(axis=1)
    for method in ("nearest", "inverse_distance"):
        rows = np.diff(regridding_weights(part, target, method=method).indptr) > 0  # type: ignore[arg-type]
        assert rows[shares > 0.999].all()
        assert not rows[target.centre_lonlat[1] < 4].any()
    south = PointGrid(
        *(np.concatenate([a, s * a]) for a, s in ((part.lon, 1), (part.lat, -1))),
        *(np.concatenate([a, s * a]) for a, s in ((part.lon_bounds, 1), (part.lat_bounds, -1))),
    )
    n, _ = connected_components(adjacency(south), directed=False)
    assert n == 2


@pytest.mark.parametrize("seed", range(3))
def test_points_stand_for_areas_that_are_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = PointGrid(rng.uniform(0, 40, 200), rng.uniform(0, 40, 200))
    fine = HealpixGrid(7)
    inside = grid.cells_at(*fine.centre_lonlat)
    expected = np.bincount(inside[inside >= 0], minlength=200) * fine.areas[0]
    np.testing.assert_allclose(grid.covered_areas, expected, atol=12 * fine.areas[0])
    assert grid.covered_areas.sum() == pytest.approx(expected.sum(), rel=0.01)
    assert expected.sum() < 0.6
    assert grid.areas.sum() == pytest.approx(4 * np.pi)


def test_clusters_of_points_do_not_touch() -> None:
    lat, lon = np.arange(0, 21, 2.5), np.append(np.arange(0, 21, 2.5), np.arange(60, 81, 2.5))
    points = curvilinear(lat, lon)
    grid = horizontal_grid(points).grid
    assert connected_components(adjacency(grid), directed=False)[0] == 2
    flags = (points.lon.values >= 20) & (points.lon.values <= 60)
    mask = xr.DataArray(
        flags.astype(np.uint8), points.coords, points.dims, attrs=mask_attributes(["storm"])
    )
    found = events(mask)
    assert found.sizes["event"] == 2
    cell = np.deg2rad(2.5) ** 2 * EARTH_RADIUS_KM**2
    assert (found.area < 9 * cell * 1.5).all()
    slopes = gradient(xr.DataArray(np.where(grid.lon > 40, 9.0, 1.0), points.coords, points.dims))
    assert abs(slopes.eastward_derivative).max() < 1e-12
    few = PointGrid([0, 1, 0, 1, 0.5, 60, 61, 60, 61], [0, 0, 1, 1, 2, 0, 0, 1, 1])
    field = xr.DataArray(
        np.zeros(9), {"lat": ("s", few.lat), "lon": ("s", few.lon)}, ("s",), name="t"
    )
    assert gradient(field, k=5).eastward_derivative.isnull().all()


@pytest.mark.parametrize("n", [12, 60, 1000, 5000])
def test_scattered_points_have_no_gaps(n: int) -> None:
    for grid in (PointGrid.random(n, seed=n), PointGrid.fibonacci(n)):
        spread = spread_of(grid.centres)
        assert not spread.has_gaps
        assert spread.whole.all() or n < 100


@example(n=4, size=1.0)
@examples(30)
@given(st.integers(1, 40), st.floats(0.5, 30.0))
def test_points_of_a_region_are_never_the_globe(n: int, size: float) -> None:
    rng = np.random.default_rng(n)
    lon, lat = rng.uniform(0, size, n), rng.uniform(0, size, n)
    grid = PointGrid(lon, lat)
    assert not grid.is_global
    away = grid.cells_at(*HealpixGrid(2).centre_lonlat) >= 0
    middle = lonlat_to_vectors(size / 2, size / 2)
    assert (HealpixGrid(2).centres[away] @ middle > np.cos(np.deg2rad(2 * size))).all()
