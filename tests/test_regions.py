"""Events: every foreground cell in exactly one, connected as a flood fill says."""

import re

import dask
import dask.array
import healpy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

from tests.tiers import examples
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid
from xsphere.regions import events, events_to_csv
from xsphere.regions.steps import RegionFinder

CLASSES = ["tropical_cyclone", "atmospheric_river"]
EARTH_KM2 = 4 * np.pi * 6371.0**2
LEVEL2 = HealpixGrid(2)


def labelled(values, grid, **kwargs) -> xr.DataArray:
    """Array of leading dimensions (member, time) and one axis of cells."""
    leading = ("member", "time")[3 - values.ndim :]
    coords = {}
    if "time" in leading:
        first = np.datetime64("2011-10-11T00:00", "ns")
        coords["time"] = first + np.arange(values.shape[-2]) * np.timedelta64(6, "h")
    if isinstance(grid, HealpixGrid):
        return describe_healpix(xr.DataArray(values, coords, (*leading, "cells"), **kwargs), grid)
    if isinstance(grid, PointGrid):
        coords |= {"lon": ("station", grid.lon), "lat": ("station", grid.lat)}
        return xr.DataArray(values, coords, (*leading, "station"), **kwargs)
    coords["lat"] = ("lat", grid.lat, {"units": "degrees_north"})
    coords["lon"] = ("lon", grid.lon, {"units": "degrees_east"})
    values = values.reshape(*values.shape[:-1], *grid.shape)
    return xr.DataArray(values, coords, (*leading, "lat", "lon"), **kwargs)


def mask_on(grid, cells_by_class) -> xr.DataArray:
    values = np.zeros(grid.n_cells, np.uint8)
    for value, cells in cells_by_class.items():
        values[cells] = value
    return labelled(values, grid, attrs=mask_attributes(CLASSES))


def cells_within(grid, lon, lat, degrees):
    """Cells whose centre is near a point."""
    point = healpy.ang2vec(lon, lat, lonlat=True)
    return np.flatnonzero(grid.centres @ point >= np.cos(np.deg2rad(degrees)))


GLOBAL_GRIDS = {
    "nested": HealpixGrid(4),
    "ring": HealpixGrid(4, "ring"),
    "0..360": LatLonGrid(np.arange(0, 360, 4.0), np.linspace(-90, 90, 37)),
    "-180..180, north first": LatLonGrid(np.arange(-178, 180, 4.0), np.linspace(88, -88, 45)),
    "cyclic": LatLonGrid(np.linspace(0, 360, 91), np.linspace(-90, 90, 37)),
}
on_global_grids = pytest.mark.parametrize(
    "grid", GLOBAL_GRIDS.values(), ids=list(GLOBAL_GRIDS.keys())
)


@on_global_grids
@pytest.mark.parametrize("lon", [0.0, 180.0, 37.0])
def test_a_region_across_any_meridian_is_one_event(grid, lon):
    inside = cells_within(grid, lon, 10, 12)
    found = events(mask_on(grid, {1: inside}))
    assert found.sizes == {"event": 1}
    # cells are 4 degrees wide
    assert (found.lon.item() - lon + 180) % 360 - 180 == pytest.approx(0, abs=1)
    assert found.lat.item() == pytest.approx(10, abs=1)
    assert 0 <= found.lon.item() < 360
    assert found.area.item() == pytest.approx(grid.areas[inside].sum() * 6371.0**2)
    assert found.area.item() == pytest.approx(
        EARTH_KM2 * (1 - np.cos(np.deg2rad(12))) / 2, rel=0.15
    )


@on_global_grids
@pytest.mark.parametrize("pole", [-90, 90])
def test_a_region_over_a_pole_is_one_event(grid, pole):
    inside = cells_within(grid, 0, pole, 15)
    found = events(mask_on(grid, {2: inside}))
    assert found.class_name.values.tolist() == ["atmospheric_river"]
    assert found.lat.item() == pytest.approx(pole, abs=0.1)


@on_global_grids
def test_a_ring_about_the_earth_has_its_centre_in_its_largest_cell(grid):
    lat = grid.centre_lonlat[1]
    found = events(mask_on(grid, {1: np.abs(lat) < 12}))
    assert found.sizes["event"] == 1
    (centre,) = grid.cells_at(found.lon.values, found.lat.values)
    assert abs(lat[centre]) < 12
    assert grid.areas[centre] == grid.areas[np.abs(lat) < 12].max()


def test_cells_that_share_a_corner_alone_are_one_event():
    around = healpy.get_all_neighbours(16, 1000, nest=True)  # sw w nw n ne e se s
    for corner in around[1::2]:
        assert events(mask_on(HealpixGrid(4), {1: [1000, corner]})).sizes["event"] == 1
    grid = LatLonGrid(np.arange(0, 360, 10.0), np.arange(-85, 90, 10.0))
    corner = [4 * 36 + 7, 5 * 36 + 8]
    assert events(mask_on(grid, {1: corner})).n_cells.values.tolist() == [2]
    apart = [4 * 36 + 7, 5 * 36 + 9]
    assert events(mask_on(grid, {1: apart})).n_cells.values.tolist() == [1, 1]


def test_touching_cells_of_two_classes_are_two_events():
    found = events(mask_on(LEVEL2, {1: [20, 21], 2: [22, 23]}))
    assert found.event_class.values.tolist() == [1, 2]
    assert found.n_cells.values.tolist() == [2, 2]


def test_invalid_and_not_computed_belong_to_no_event():
    mask = mask_on(LEVEL2, {1: [0, 1], 254: range(40, 80), 255: range(100, 120)})
    found = events(mask)
    assert found.n_cells.values.tolist() == [2]
    as_float = mask.astype(float).where(mask != 254).assign_attrs(mask.attrs)
    xr.testing.assert_identical(events(as_float), found)


def test_a_cyclic_column_counts_once():
    grid = GLOBAL_GRIDS["cyclic"]
    column = np.arange(grid.n_cells).reshape(grid.shape)
    both = column[10, [0, 90]]
    found = events(mask_on(grid, {1: both}))
    assert found.n_cells.values.tolist() == [1]
    assert found.area.item() == pytest.approx(grid.areas[both[0]] * 6371.0**2)
    assert events(mask_on(grid, {1: column[10, [90]]})).sizes["event"] == 0


def test_points_and_parts_of_the_sphere():
    octahedron = PointGrid([0, 90, 180, 270, 0, 0], [0, 0, 0, 0, 90, -90])
    assert events(mask_on(octahedron, {1: [0, 1]})).n_cells.values.tolist() == [2]
    assert events(mask_on(octahedron, {1: [0, 2]})).n_cells.values.tolist() == [1, 1]
    part = HealpixGrid(2, "ring", cell_ids=[50, 3, 2, 120])
    found = events(mask_on(part, {1: [0, 1, 2]}))
    assert sorted(found.n_cells.values.tolist()) == [1, 2]


def flooded(values, neighbours):
    """Sets of cells by flood fill, of one class each."""
    left = {cell for cell, value in enumerate(values) if value in (1, 2)}
    regions = []
    while left:
        region, front = set(), {left.pop()}
        while front:
            cell = front.pop()
            region.add(cell)
            front |= {n for n in neighbours(cell) if n in left and values[n] == values[cell]}
            left -= front
        regions.append((int(values[cell]), frozenset(region)))
    return regions


def healpix_neighbours(cell):
    return [n for n in healpy.get_all_neighbours(4, cell, nest=True).tolist() if n >= 0]


def latlon_neighbours(cell):
    """On 5 rows without poles and 8 columns all the way round."""
    row, column = divmod(cell, 8)
    return [
        i * 8 + j % 8
        for i in range(max(row - 1, 0), min(row + 2, 5))
        for j in (column - 1, column, column + 1)
        if i * 8 + j % 8 != cell
    ]


FLOODS = {
    "healpix": (LEVEL2, healpix_neighbours),
    "latlon": (LatLonGrid(np.arange(0, 360, 45.0), [-50, -25, 0, 25, 50]), latlon_neighbours),
}


@pytest.mark.parametrize("name", FLOODS)
@given(data=st.data())
@examples(40)
def test_events_are_those_of_a_flood_fill(name, data):
    grid, neighbours = FLOODS[name]
    values = np.array(
        data.draw(
            st.lists(
                st.sampled_from([0, 0, 0, 1, 1, 2, 254, 255]),
                min_size=grid.n_cells,
                max_size=grid.n_cells,
            )
        ),
        np.uint8,
    )
    field = np.linspace(-1.0, 1.0, grid.n_cells) ** 3
    found = events(
        labelled(values, grid, attrs=mask_attributes(CLASSES)),
        labelled(field, grid, name="a"),
    )
    rows = zip(
        found.event_class.values.tolist(),
        found.n_cells.values.tolist(),
        found.area.values.round(3).tolist(),
        found.a_max.values.tolist(),
        found.a_min.values.tolist(),
        found.a_mean.values.round(9).tolist(),
        strict=True,
    )
    expected = []
    for value, region in flooded(values, neighbours):
        cells = sorted(region)
        weight = grid.areas[cells]
        mean = float((weight * field[cells]).sum() / weight.sum())
        area = float((weight.sum() * 6371.0**2).round(3))
        inside = field[cells]
        expected.append((value, len(cells), area, inside.max(), inside.min(), round(mean, 9)))
    np.testing.assert_allclose(
        np.array(sorted(rows)).reshape(-1, 6), np.array(sorted(expected)).reshape(-1, 6), rtol=1e-6
    )


@given(seed=st.integers(0, 2**32 - 1), min_area=st.floats(0, 3e7))
@examples(25)
@example(seed=0, min_area=0.0)
def test_order_areas_and_lower_bound(seed, min_area):
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, 2, 254], size=(3, LEVEL2.n_cells), p=[0.6, 0.2, 0.15, 0.05])
    mask = labelled(values.astype(np.uint8), LEVEL2, attrs=mask_attributes(CLASSES))
    found = events(mask)
    assert (found.event == np.arange(found.sizes["event"])).all()
    keys = list(zip(found.time.values, found.event_class.values, -found.area.values, strict=True))
    assert keys == sorted(keys)
    for time in mask.time.values:
        for value in (1, 2):
            mine = found.area.where((found.time == time) & (found.event_class == value)).sum()
            cells = int((mask.sel(time=time) == value).sum())
            assert mine.item() == pytest.approx(cells * EARTH_KM2 / LEVEL2.n_cells)
    assert events(mask, min_area=found.area.max().item()).sizes["event"] > 0
    large = events(mask, min_area=min_area)
    xr.testing.assert_identical(
        large.drop_vars("event"), found.isel(event=found.area.values >= min_area).drop_vars("event")
    )


def weather(n_member=2, n_time=5, seed=3):
    """A mask and fields with gaps, members and times."""
    rng = np.random.default_rng(seed)
    shape = (n_member, n_time, LEVEL2.n_cells)
    values = rng.choice([0, 1, 2, 255], size=shape, p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    mask = labelled(values, LEVEL2, attrs=mask_attributes(CLASSES))
    wind = rng.normal(size=shape).astype(np.float32)
    wind[rng.random(shape) < 0.3] = np.nan
    fields = xr.Dataset(
        {
            "wind": labelled(wind, LEVEL2, attrs={"units": "m s-1", "long_name": "Wind"}),
            "height": labelled(rng.normal(size=LEVEL2.n_cells), LEVEL2),
            "count": labelled(rng.integers(0, 9, shape[1:]), LEVEL2),
        }
    )
    return mask, fields


def test_statistics_are_those_of_the_cells_of_each_event():
    mask, fields = weather()
    found = events(mask, fields, classes=["atmospheric_river"])
    assert (found.event_class == 2).all()
    assert found.indexes["event"].equals(pd.RangeIndex(found.sizes["event"]))
    keys = list(zip(found.time.values, found.member.values, -found.area.values, strict=True))
    assert keys == sorted(keys)
    for i in range(2):
        for j in range(5):
            codes = mask.values[i, j]
            here = found.isel(event=((found.member == i) & (found.time == mask.time[j])).values)
            regions = [r for value, r in flooded(codes, healpix_neighbours) if value == 2]
            assert here.sizes["event"] == len(regions)
            for name, field in (
                ("wind", fields.wind.values[i, j]),
                ("height", fields.height.values),
                ("count", fields["count"].values[j]),
            ):
                rows = []
                for region in regions:
                    inside = field[sorted(region)].astype(float)
                    inside = inside[~np.isnan(inside)]
                    rows.append(
                        (inside.max(), inside.min(), inside.mean())
                        if inside.size
                        else (np.nan,) * 3
                    )
                got = [here[f"{name}_{statistic}"].values for statistic in ("max", "min", "mean")]
                np.testing.assert_allclose(
                    np.sort(np.stack(got), axis=1), np.sort(np.array(rows).T, axis=1), rtol=1e-5
                )
    assert found.wind_mean.dtype == np.float32
    assert found.wind_max.attrs == {"long_name": "Maximum of Wind", "units": "m s-1"}
    assert found.count_mean.dtype == np.float64


def test_a_field_of_nan_gives_nan_without_a_warning():
    mask = mask_on(LEVEL2, {1: [0, 1, 2]})
    field = labelled(np.full(192, np.nan), LEVEL2)
    found = events(mask, field)
    assert found[["field_max", "field_min", "field_mean"]].isnull().all().to_array().all()


def test_mean_and_centre_are_weighted_by_area():
    grid = LatLonGrid(np.arange(0, 360, 90.0), [60, 0, -60])
    lat_bounds = np.deg2rad([90, 30, -30])
    weight = -np.diff(np.sin(lat_bounds))
    found = events(mask_on(grid, {1: [0, 4]}), labelled(np.arange(12.0), grid, name="a"))
    assert found.a_mean.item() == pytest.approx((weight * [0, 4]).sum() / weight.sum())
    x, z = weight @ [[0.5, np.sqrt(0.75)], [1.0, 0.0]]
    assert found.lat.item() == pytest.approx(np.rad2deg(np.arctan2(z, x)))
    assert found.lon.item() == pytest.approx(0)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "member": 1}, {"cells": 50}])
@pytest.mark.parametrize("lazy_fields", [True, False])
def test_lazy_is_eager(chunks, lazy_fields):
    mask, fields = weather()
    expected = events(mask, fields)
    chunked = fields.chunk(time=3) if lazy_fields else fields
    xr.testing.assert_identical(events(mask.chunk(chunks), chunked), expected)
    xr.testing.assert_identical(
        events(mask, chunked.transpose("cells", "time", "member")), expected
    )
    xr.testing.assert_identical(events(mask.transpose("cells", "member", "time")), events(mask))


@pytest.mark.parametrize("of_mask", [2, 1])
def test_blocks_are_done_with_before_the_next_are_read(of_mask, monkeypatch):
    happened = []

    def noted(block, block_info=None):
        if block_info:
            happened.append(tuple(range(*block_info[0]["array-location"][0])))
        return block

    def lazy(array, step):
        data = dask.array.from_array(array.values, chunks=(step, -1))
        return array.copy(data=data.map_blocks(noted, dtype=array.dtype, meta=data._meta))

    def find(self, block, first, found=RegionFinder.__call__):
        happened.append("found")
        return found(self, block, first)

    monkeypatch.setattr(RegionFinder, "__call__", find)
    mask, fields = weather(n_member=1, n_time=6)
    mask, wind = mask.isel(member=0), fields.wind.isel(member=0)
    lazy_mask, lazy_wind = lazy(mask, of_mask), lazy(wind, 2)
    assert happened == []
    with dask.config.set(scheduler="sync"):
        found = events(lazy_mask, lazy_wind)
    # the larger chunks lead, so that none is computed twice
    groups = " ".join(map(str, happened)).split("found")
    assert sorted(sorted({int(n) for n in re.findall(r"\d+", group)}) for group in groups) == [
        [],
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    assert not groups[-1]
    assert len(happened) == 6 // of_mask + 3 + 3
    assert isinstance(lazy_mask.data, dask.array.Array)
    xr.testing.assert_identical(found, events(mask, wind))


def test_files_are_read_step_by_step(tmp_path):
    mask, _ = weather(n_member=1)
    mask = mask.isel(member=0, drop=True)
    mask.rename("mask").to_netcdf(tmp_path / "mask.nc")
    with xr.open_dataset(tmp_path / "mask.nc") as ds:
        xr.testing.assert_allclose(events(ds["mask"]), events(mask))
        assert not ds["mask"].variable._in_memory


def test_no_events_have_all_columns_and_their_types():
    mask, fields = weather()
    some = events(mask, fields)
    for none in (
        events(mask.where(mask == 255, 0).astype(np.uint8).assign_attrs(mask.attrs), fields),
        events(mask, fields, min_area=1e9),
        events(mask.isel(time=slice(0)), fields.isel(time=slice(0))),
    ):
        assert none.sizes == {"event": 0}
        assert list(none.variables) == list(some.variables)
        assert {n: v.dtype for n, v in none.variables.items()} == {
            n: v.dtype for n, v in some.variables.items()
        }
        assert none.area.attrs == {"long_name": "area", "units": "km2"}


def test_coordinates_of_the_mask_are_kept():
    mask, _ = weather()
    mask = mask.assign_coords(
        lead=("time", np.arange(5) * 6, {"units": "h"}),
        scenario=((), "ssp245"),
        name_of=(("time", "member"), np.arange(10).reshape(5, 2)),
    )
    found = events(mask)
    assert found.lead.attrs == {"units": "h"}
    hours = (found.time - mask.time[0]) / np.timedelta64(1, "h")
    np.testing.assert_array_equal(found.lead, hours)
    np.testing.assert_array_equal(found.name_of, found.lead // 6 * 2 + found.member)
    assert (found.scenario == "ssp245").all()
    assert not {"crs", "cell_ids"} & set(found.variables)
    found = events(mask.isel(time=2, member=0))
    assert (found.time == mask.time[2]).all()


def test_calendars_without_a_numpy_time():
    times = xr.date_range("2000-02-29", periods=5, calendar="360_day", use_cftime=True)
    mask = weather()[0].isel(member=0).assign_coords(time=times)
    found = events(mask)
    assert set(found.time.values) <= set(times)
    assert (events(mask.chunk(time=2)).time == found.time).all()


def test_classes_are_told_by_name_and_flags():
    mask = mask_on(LEVEL2, {1: [0], 2: [100, 101]})
    found = events(mask)
    assert found.class_name.values.tolist() == CLASSES
    assert found.event_class.dtype == np.uint8
    assert found.event_class.attrs["flag_values"].tolist() == [1, 2]
    assert found.event_class.attrs["flag_meanings"] == " ".join(CLASSES)
    for classes in ([2], ["atmospheric_river"], "atmospheric_river", 2, (2, "atmospheric_river")):
        assert events(mask, classes=classes).n_cells.values.tolist() == [2]
    assert events(mask, classes=[2, 1]).event_class.values.tolist() == [1, 2]


def test_fields_are_matched_by_the_labels_of_the_mask():
    mask, fields = weather(n_member=1)
    mask, fields = mask.isel(member=0), fields.isel(member=0)
    expected = events(mask.isel(time=[1, 3]), fields.isel(time=[1, 3]))
    xr.testing.assert_identical(events(mask.isel(time=[1, 3]), fields), expected)
    backwards = fields.isel(time=slice(None, None, -1))
    xr.testing.assert_identical(events(mask, backwards.chunk(time=2)), events(mask, fields))


def test_coordinates_rounded_to_float32_are_the_same_grid():
    grid = LatLonGrid(np.arange(0.1, 360, 40), [-60.1, -20.3, 20.7, 60.9])
    mask = mask_on(grid, {1: [3, 4]})
    field = labelled(np.arange(36.0), grid, name="a")
    rounded = field.assign_coords(
        lon=field.lon.astype(np.float32), lat=field.lat.astype(np.float32)
    )
    assert events(mask, rounded).a_max.item() == 4


def test_masks_and_variables_off_the_grid_are_not_measured():
    mask, fields = weather()
    fields = fields.assign(mask=mask, offset=("time", np.arange(5)), label="x")
    assert set(events(mask, fields)) == set(events(mask, fields[["wind", "height", "count"]]))


def test_input_is_left_as_it_was():
    mask, fields = weather()
    kept = mask.copy(deep=True), fields.copy(deep=True)
    events(mask, fields)
    xr.testing.assert_identical(mask, kept[0])
    xr.testing.assert_identical(fields, kept[1])


def test_table_reads_back(tmp_path):
    mask, fields = weather()
    found = events(mask.isel(member=0, drop=True), fields.isel(member=0, drop=True))
    events_to_csv(found, tmp_path / "events.csv")
    table = pd.read_csv(tmp_path / "events.csv")
    assert list(table)[:8] == [
        "track_id",
        "time",
        "class",
        "area_km2",
        "n_cells",
        "lon",
        "lat",
        "wind_max",
    ]
    assert table.time[0] == "2011-10-11T00:00:00"
    frame = found.to_dataframe().reset_index()
    renamed = frame.rename(columns={"event": "track_id", "class_name": "class", "area": "area_km2"})
    assert set(table) == set(renamed) - {"event_class"}
    assert (pd.to_datetime(table.time) == frame.time).all()
    assert (table["class"] == frame.class_name).all()
    np.testing.assert_allclose(table.area_km2, frame.area, atol=0.051)
    np.testing.assert_allclose(table[["lon", "lat"]], frame[["lon", "lat"]], atol=5.1e-4)
    np.testing.assert_allclose(table.wind_max, frame.wind_max, rtol=5.1e-6)
    text = (tmp_path / "events.csv").read_text()
    assert max(len(part) for part in text.split("\n")[1].split(",")) <= len("2011-10-11T00:00:00")


def test_tables_of_nothing_and_of_other_calendars(tmp_path):
    mask, _ = weather()
    times = xr.date_range("2000-02-29", periods=5, calendar="360_day", use_cftime=True)
    mask = mask.assign_coords(time=times)
    events_to_csv(events(mask), tmp_path / "some.csv")
    assert pd.read_csv(tmp_path / "some.csv").time[0] == "2000-02-29T00:00:00"
    events_to_csv(events(mask, min_area=1e9), tmp_path / "none.csv")
    heads = [(tmp_path / name).read_text().split("\n")[0] for name in ("some.csv", "none.csv")]
    assert heads[0] == heads[1]
    with pytest.raises(ValueError, match=r"table from events\(\), but .*'area'.* missing"):
        events_to_csv(xr.Dataset(), tmp_path / "wrong.csv")


def test_real_fields(test_data):
    path = test_data / "fields" / "gfs_2p5deg_2011-10-11T00.nc"
    with xr.open_dataset(path) as ds:
        wet = (ds.TMQ > 55).astype(np.uint8).assign_attrs(mask_attributes(["wet"]))
        found = events(wet, ds[["TMQ", "PSL"]], min_area=1e5)
    assert (found.TMQ_min > 55).all()
    assert found.sizes["event"] > 3
    assert (found.area >= 1e5).all()
    assert found.PSL_min.attrs["units"] == "Pa"


def wrong_calls():
    mask, fields = weather()
    one = mask.isel(member=0, time=0)
    coarse = labelled(np.zeros(48), HealpixGrid(1))
    latlon = LatLonGrid(np.arange(0, 360, 45.0), [-50, -25, 0, 25, 50])
    ring = labelled(np.zeros(192, np.uint8), HealpixGrid(2, "ring"), attrs=mask.attrs)
    point = PointGrid([0, 90, 180, 270, 0, 0], [0, 0, 0, 0, 90, -90])
    bare = fields.drop_vars("time")
    return {
        "dataset": (TypeError, "needs a mask as a DataArray, got Dataset", (fields,), {}),
        "a field": (ValueError, "choose a threshold first", (fields.wind,), {}),
        "no classes": (
            ValueError,
            "flag_values and flag_meanings",
            (fields.wind.fillna(0).astype(int),),
            {},
        ),
        "odd classes": (
            ValueError,
            r"flag_values from 1 to 253, got \{300: 'b'\}",
            (one.assign_attrs(flag_values=[0, 300], flag_meanings="a b"),),
            {},
        ),
        "area": (
            ValueError,
            "min_area must be a number of km2, zero or more, got -1",
            (one,),
            {"min_area": -1},
        ),
        "class": (
            ValueError,
            r"of \{1: 'tropical_cyclone'.*got also \['storm', 7\]",
            (one,),
            {"classes": ["storm", 1, 7]},
        ),
        "level": (
            ValueError,
            r"level=2, nested\), got .*level=1.*to_healpix\(fields, level=2\)",
            (one, coarse),
            {},
        ),
        "scheme": (
            ValueError,
            r"to_healpix\(fields, level=2, indexing_scheme='ring'\)",
            (ring, fields),
            {},
        ),
        "latlon": (
            ValueError,
            r"to_latlon\(fields, like=mask\)",
            (mask_on(latlon, {}), coarse),
            {},
        ),
        "points": (
            ValueError,
            r"regrid\(fields, xsphere.horizontal_grid\(mask\).grid\)",
            (mask_on(point, {}), coarse),
            {},
        ),
        "extra": (
            ValueError,
            r"mask lacks, got \['member', 'time'\]; .*member=0, time=0",
            (one, fields),
            {},
        ),
        "text": (
            TypeError,
            "fields of numbers, got wind",
            (mask, fields[["wind"]].astype(str)),
            {},
        ),
        "labels": (
            ValueError,
            "every time of mask once, but wind has 2 never or twice, such as .*2011-10-11 18:00",
            (mask, fields[["wind"]].isel(time=slice(3))),
            {},
        ),
        "twice": (
            ValueError,
            "but wind has 1 never or twice, such as .*2011-10-11 06:00",
            (mask, fields[["wind"]].isel(time=[0, 1, 1, 2, 3, 4])),
            {},
        ),
        "length": (
            ValueError,
            "as long as mask, got 3 along 'time' in wind for 5",
            (mask, bare.isel(time=slice(3))),
            {},
        ),
    }


@pytest.mark.parametrize("name", list(wrong_calls()))
def test_errors_say_what_to_do(name):
    error, words, arguments, options = wrong_calls()[name]
    with pytest.raises(error, match=words):
        events(*arguments, **options)
