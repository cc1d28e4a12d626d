"""Labelled fields on other grids: the right values, the right labels, nothing read too early."""

import pickle
from contextlib import contextmanager

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.tiers import examples
from xsphere.conventions import (
    INVALID,
    NOT_COMPUTED,
    classes_of,
    describe_healpix,
    horizontal_grid,
    mask_attributes,
)
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid
from xsphere.regridding import regrid, to_healpix, to_latlon
from xsphere.regridding.node import RegridNode, Rules

# a file of a test's cache is of no interest to the others
pytestmark = pytest.mark.usefixtures("cache_folder")

N_TIME, N_LAT, N_LON = 7, 9, 16
LAT = np.linspace(80.0, -80.0, N_LAT)
LON = np.arange(N_LON) * 22.5


@contextmanager
def no_computes():
    def refuse(graph, keys, **kwargs):
        raise AssertionError("computed while building")

    with dask.config.set(scheduler=refuse):
        yield


def field(dtype="f4", dims=("time", "lat", "lon"), **attrs):
    """A smooth field that differs along every dimension, so that no two can be mistaken."""
    sizes = {"time": N_TIME, "level": 2, "lat": N_LAT, "lon": N_LON}
    axes = {
        "time": np.arange(N_TIME) * 3.0,
        "level": np.array([100.0, 200.0]),
        "lat": 30 * np.sin(np.deg2rad(LAT)),
        "lon": 10 * np.cos(np.deg2rad(LON)),
    }
    values = sum(axes[dim].reshape([-1 if other == dim else 1 for other in dims]) for dim in dims)
    values = np.broadcast_to(values, [sizes[dim] for dim in dims])
    coords = {
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
        "time": ("time", np.arange("2001-01-01", "2001-01-08", dtype="M8[D]").astype("M8[ns]")),
        "level": ("level", [500, 850], {"units": "hPa"}),
        "season": "winter",
    }
    coords = {name: c for name, c in coords.items() if name == "season" or name in dims}
    return xr.DataArray(values.astype(dtype), coords, dims, "t", {"units": "K", **attrs})


def mask(classes=("cyclone", "river"), seed=0):
    labels = np.random.default_rng(seed).integers(0, 3, (N_TIME, N_LAT, N_LON)).astype("u1")
    template = field()
    return template.copy(data=labels).assign_attrs(mask_attributes(classes)).rename("mask")


def dataset():
    return xr.Dataset(
        {
            "t": field(),
            "mask": mask(),
            "area_mean": ("time", np.arange(7.0)),
            "u": field("f8", ("level", "lon", "lat"), standard_name="eastward_wind"),
            "v": field("f8", ("level", "lon", "lat"), standard_name="northward_wind") - 20.0,
        },
        attrs={"title": "test"},
    )


# --- values


def test_a_constant_stays_a_constant():
    for method in ("nearest", "bilinear", "conservative"):
        result = to_healpix(xr.ones_like(field("f8")) * 7, 3, method=method)
        np.testing.assert_allclose(result, 7.0, rtol=1e-14)


def test_conservative_keeps_the_area_mean():
    source = field("f8")
    grid = LatLonGrid(LON, LAT)
    expected = (source.values.reshape(N_TIME, -1) * grid.areas).sum(1) / (4 * np.pi)
    result = to_healpix(source, level=2, method="conservative")
    np.testing.assert_allclose(result.mean("cells"), expected, rtol=1e-12, atol=1e-12)


def test_bilinear_is_near_the_truth():
    lon, lat = HealpixGrid(3).centre_lonlat
    result = to_healpix(field("f8").isel(time=0), 3, method="bilinear")
    truth = 30 * np.sin(np.deg2rad(lat)) + 10 * np.cos(np.deg2rad(lon))
    inside = np.abs(lat) < 80
    np.testing.assert_allclose(result.values[inside], truth[inside], atol=0.7)


def test_the_order_of_dimensions_and_rows_makes_no_difference():
    source = field("f8").isel(time=0)
    expected = to_healpix(source, 3)
    for other in (
        source.transpose("lon", "lat"),
        source.isel(lat=slice(None, None, -1)),
        source.assign_coords(lon=(LON + 180) % 360 - 180).sortby("lon"),
    ):
        np.testing.assert_allclose(to_healpix(other, 3), expected, atol=1e-12)


def test_ring_order_holds_the_same_cells():
    import healpy

    nested = to_healpix(field("f8"), 3)
    ring = to_healpix(field("f8"), 3, indexing_scheme="ring")
    np.testing.assert_allclose(ring[:, healpy.nest2ring(8, np.arange(768))], nested, atol=1e-13)
    assert horizontal_grid(ring).grid == HealpixGrid(3, "ring")


def test_level_and_nside_mean_the_same():
    xr.testing.assert_identical(to_healpix(field(), 3), to_healpix(field(), nside=8))


def test_healpix_to_a_coarser_level_is_the_mean_of_the_children():
    grid = HealpixGrid(3)
    values = np.random.default_rng(0).normal(size=(2, 768))
    source = describe_healpix(xr.DataArray(values, dims=("time", "cells")), grid)
    result = to_healpix(source, level=2)
    np.testing.assert_allclose(result, values.reshape(2, 192, 4).mean(-1), rtol=1e-12)
    assert "conservative" in result.attrs["cell_methods"]
    assert "bilinear" in to_healpix(source, level=4).attrs["cell_methods"]


def test_a_part_of_healpix_stays_a_part():
    grid = HealpixGrid(2, "nested", [8, 9, 10, 11, 20, 21, 22, 23])
    source = describe_healpix(xr.DataArray(np.arange(8.0), dims="cells"), grid)
    coarse = to_healpix(source, 1)
    np.testing.assert_array_equal(coarse["cell_ids"], [2, 5])
    np.testing.assert_allclose(coarse, [1.5, 5.5])
    ring = to_healpix(source, 1, indexing_scheme="ring")
    assert horizontal_grid(ring).grid.indexing_scheme == "ring"
    np.testing.assert_allclose(ring, coarse)


def test_to_latlon_by_resolution_and_like():
    source = to_healpix(field("f8"), 4)
    for result in (to_latlon(source, 45.0), to_latlon(source, like=to_latlon(source, 45.0))):
        assert result.dims == ("time", "lat", "lon")
        np.testing.assert_array_equal(result["lat"], [-67.5, -22.5, 22.5, 67.5])
        np.testing.assert_array_equal(result["lon"], np.arange(8) * 45.0 + 22.5)
        assert horizontal_grid(result).grid == LatLonGrid(result["lon"], result["lat"])
        assert not {"cell_ids", "healpix_index", "crs", "cells"} & set(result.coords)
        assert "grid_mapping" not in result.attrs
    back = to_latlon(source, like=field().transpose("lon", "time", "lat"))
    assert back.dims == ("time", "lat", "lon")
    inner = slice(1, -1)
    np.testing.assert_allclose(back[:, inner], field("f8")[:, inner], atol=2.0)


def test_to_latlon_takes_names_and_bounds_of_like():
    like = xr.Dataset(
        {"z": (("latitude", "longitude"), np.zeros((2, 4)))},
        {
            "latitude": ("latitude", [-30.0, 45.0], {"bounds": "b", "units": "degrees_north"}),
            "longitude": ("longitude", [0.0, 90.0, 180.0, 270.0]),
            "b": (("latitude", "nv"), [[-90.0, 10.0], [10.0, 90.0]]),
        },
    )
    result = to_latlon(to_healpix(field(), 3).to_dataset(), like=like)
    assert result["t"].dims == ("time", "latitude", "longitude")
    assert result["latitude"].attrs == like["latitude"].attrs
    assert horizontal_grid(result).grid == horizontal_grid(like).grid


def test_to_latlon_takes_a_grid():
    grid = LatLonGrid([10.0, 20.0, 30.0], [5.0, 0.0])
    assert horizontal_grid(to_latlon(to_healpix(field(), 3), like=grid)).grid == grid


def test_points_get_the_value_of_the_cell_they_are_in():
    grid = PointGrid([10.0, 200.0], [50.0, -30.0])
    source = describe_healpix(xr.DataArray(np.arange(48.0), dims="cells"), HealpixGrid(1))
    result = regrid(source, grid, method="nearest")
    np.testing.assert_array_equal(result, HealpixGrid(1).cells_at(grid.lon, grid.lat))
    assert horizontal_grid(result).grid == grid
    assert "bilinear" in regrid(source, grid).attrs["cell_methods"]


def test_from_points_the_nearest_is_taken():
    grid = HealpixGrid(1)
    lon, lat = grid.centre_lonlat
    source = xr.DataArray(
        np.arange(96).reshape(48, 2) * 1.0,
        {"lat": ("station", lat), "lon": ("station", lon)},
        ("station", "run"),
    )
    result = to_healpix(source, 1)
    assert result.dims == ("run", "cells")
    np.testing.assert_array_equal(result, source.values.T)
    assert "nearest" in result.attrs["cell_methods"]


def test_a_stacked_grid_is_regridded():
    source = field().stack(points=("lat", "lon"))
    assert to_healpix(source, 1).sizes == {"time": N_TIME, "cells": 48}


# --- missing values


def test_missing_values_by_every_policy():
    source = field("f8")
    source[3] = np.nan  # all missing
    source[4:6, 2, 3] = np.nan  # one missing, and only in the middle of the series
    whole = to_healpix(field("f8"), 2, method="conservative")
    propagated = to_healpix(source, 2, method="conservative", missing="propagate")
    renormalized = to_healpix(source, 2, method="conservative", min_valid_fraction=0.0)
    strict = to_healpix(source, 2, method="conservative", min_valid_fraction=1.0)
    touched = np.isnan(propagated.values)
    assert touched[3].all()
    assert np.isnan(renormalized[3]).all()
    for time in (0, 1, 2, 6):
        assert not touched[time].any()
        np.testing.assert_array_equal(renormalized[time], whole[time])
    for time in (4, 5):
        assert 0 < touched[time].sum() < 20
        assert not np.isnan(renormalized[time]).any()
        np.testing.assert_array_equal(
            renormalized.values[time][~touched[time]], whole.values[time][~touched[time]]
        )
        assert (renormalized.values[time] != whole.values[time])[touched[time]].any()
    np.testing.assert_array_equal(np.isnan(strict), touched)


def test_cells_beyond_a_region_are_missing():
    region = field("f8").sel(lat=slice(40, -40), lon=slice(0, 180))
    result = to_healpix(region, 3, method="conservative")
    lon, lat = HealpixGrid(3).centre_lonlat
    outside = (np.abs(lat) > 60) | ((lon > 210) & (lon < 330))
    assert np.isnan(result.values[:, outside]).all()
    inside = (np.abs(lat) < 40) & (lon > 10) & (lon < 170)
    assert np.isfinite(result.values[:, inside]).all()


@pytest.mark.parametrize("level", [3, 7])
@pytest.mark.parametrize("scheme", ["nested", "ring"])
def test_a_region_may_have_its_own_cells_alone(level, scheme):
    region = field("f8").isel(time=[0, 1]).sel(lat=slice(70, -20)).isel(lon=slice(3, 9))
    whole = to_healpix(region, level, method="conservative", indexing_scheme=scheme)
    part = to_healpix(region, level, method="conservative", extent="source", indexing_scheme=scheme)
    grid, found = horizontal_grid(region).grid, horizontal_grid(part).grid
    assert found.indexing_scheme == scheme
    inside = grid.cells_at(*HealpixGrid(level, scheme).centre_lonlat) >= 0
    np.testing.assert_array_equal(np.sort(found.ids), np.flatnonzero(inside))
    np.testing.assert_allclose(part, whole.values[:, found.ids], atol=1e-12)
    if level == 7:
        assert np.isfinite(part).mean() > 0.99


def test_a_global_source_has_all_cells_in_any_extent():
    xr.testing.assert_identical(to_healpix(field(), 2, extent="source"), to_healpix(field(), 2))


def test_a_region_that_holds_no_centre_is_refused():
    small = field().sel(lat=[80.0, 60.0]).isel(lon=slice(1, 3))
    small = small.assign_coords(lat=[11.0, 10.99], lon=[20.0, 20.01])
    with pytest.raises(ValueError, match="covers the centre of no cell at level 0; choose a finer"):
        to_healpix(small, 0, extent="source")
    with pytest.raises(ValueError, match=r"extent must be one of .*, got 'all'"):
        to_healpix(field(), 0, extent="all")


# --- classes


def test_classes_are_never_averaged():
    labels = mask()
    labels[0, :3] = INVALID
    labels[1] = NOT_COMPUTED
    result = to_healpix(labels, 2)
    assert result.dtype == np.uint8
    assert set(np.unique(result)) == {0, 1, 2, INVALID, NOT_COMPUTED}
    assert (result[1] == NOT_COMPUTED).all()
    lat = HealpixGrid(2).centre_lonlat[1]
    assert (result.values[0, lat > 70] == INVALID).all()
    assert classes_of(result) == classes_of(labels)
    assert result.attrs["cell_methods"] == "area: mode (mode regridding to HEALPix level 2)"


def test_the_class_of_the_largest_part_wins():
    grid = HealpixGrid(1)
    labels = np.tile(np.array([1, 2, 2, 5], np.int16), 12)
    source = describe_healpix(xr.DataArray(labels, dims="cells"), grid)
    np.testing.assert_array_equal(to_healpix(source, 0, method="mode"), np.full(12, 2))
    declared = source.assign_attrs(flag_values=[1, 5], flag_meanings="one five")
    # two undeclared labels, more than any class, are missing
    assert not np.isin(to_healpix(declared, 0), [1, 5]).any()


def test_a_region_of_classes_has_a_flag_for_what_it_does_not_cover():
    labels = field().copy(data=np.ones((N_TIME, N_LAT, N_LON), np.int16))
    labels.attrs = {"flag_values": np.array([0, 1], np.int16), "flag_meanings": "sea land"}
    result = to_healpix(labels.sel(lat=slice(90, 5)), 2)
    (fill,) = set(classes_of(result)) - {0, 1}
    assert classes_of(result)[fill] == "not_computed"
    assert set(np.unique(result)) == {1, fill}
    assert to_healpix(labels, 2).attrs["flag_meanings"] == "sea land"
    region = to_healpix(mask().sel(lat=slice(90, 5)), 2)
    assert (region == NOT_COMPUTED).any()
    assert classes_of(region) == classes_of(mask())


def test_a_class_needs_its_share_of_a_cell():
    one_of_four = describe_healpix(
        xr.DataArray(np.array([1, 1], "u1"), dims="cells", attrs=mask_attributes(["storm"])),
        HealpixGrid(1, "nested", [0, 4]),
    )
    target = HealpixGrid(0, "nested", [0, 1])
    np.testing.assert_array_equal(regrid(one_of_four, target), [NOT_COMPUTED, NOT_COMPUTED])
    np.testing.assert_array_equal(regrid(one_of_four, target, min_valid_fraction=0.2), [1, 1])
    propagated = regrid(one_of_four, target, min_valid_fraction=0.2, missing="propagate")
    np.testing.assert_array_equal(propagated, [NOT_COMPUTED, NOT_COMPUTED])


def test_float_classes_miss_where_most_is_missing():
    labels = field().copy(data=np.ones((N_TIME, N_LAT, N_LON), np.float32))
    labels[:, : N_LAT // 2] = np.nan
    labels.attrs = {"flag_values": [0, 1], "flag_meanings": "sea land"}
    result = to_healpix(labels, 3)
    lat = HealpixGrid(3).centre_lonlat[1]
    assert result.dtype == np.float32
    assert np.isnan(result.values[:, lat > 30]).all()
    assert (result.values[:, lat < 0] == 1).all()


def test_booleans_stay_booleans_unless_something_is_missing():
    land = field() > 50
    land.attrs = {}
    result = to_healpix(land, 3)
    assert result.dtype == bool
    assert result.any()
    assert not result.all()
    region = to_healpix(land.sel(lat=slice(90, 5)), 3)
    assert region.dtype == np.float32
    assert set(np.unique(region)[:2]) <= {0.0, 1.0}
    assert np.isnan(region).any()
    fraction = to_healpix(land, 2, method="conservative")
    assert fraction.dtype == np.float32
    assert ((fraction > 0) & (fraction < 1)).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(144 * 10), r"is for classes, got 1440 different values"),
        (np.arange(1440) + 0.5, r"is for classes, got values that are no whole numbers.* 0\.5"),
    ],
)
def test_a_measurement_has_no_classes(values, message):
    values = values.reshape(10, N_LAT, N_LON)
    source = xr.DataArray(values, {"lat": LAT, "lon": LON}, ("n", "lat", "lon"))
    with pytest.raises(ValueError, match=message):
        to_healpix(source, 2, method="mode")


def test_flags_are_not_averaged_even_when_asked_for():
    with pytest.raises(ValueError, match=r"flags cannot be averaged, .* \['mask', 'other'\]"):
        to_healpix(dataset().assign(other=mask()), 2, method="conservative")


# --- the method


@pytest.mark.parametrize(
    ("attrs", "level", "method"),
    [
        ({}, 1, "conservative"),
        ({}, 2, "bilinear"),
        ({}, 3, "bilinear"),
        ({"cell_methods": "time: sum"}, 3, "conservative"),
        ({"cell_methods": "time: summer"}, 3, "bilinear"),
        ({"standard_name": "precipitation_flux"}, 3, "conservative"),
        ({"standard_name": "surface_downward_heat_flux_in_air"}, 3, "conservative"),
        ({"standard_name": "lwe_thickness_of_precipitation_amount"}, 3, "conservative"),
        ({"standard_name": "air_temperature"}, 3, "bilinear"),
    ],
)
def test_auto_chooses_by_meaning_and_resolution(attrs, level, method):
    source = field(**attrs)
    result = to_healpix(source, level)
    expected = to_healpix(source, level, method=method)
    xr.testing.assert_identical(result, expected)
    kept = attrs.get("cell_methods", "")
    cell_method = "mean" if method == "conservative" else "point"
    done = f"area: {cell_method} ({method} regridding to HEALPix level {level})"
    assert result.attrs["cell_methods"] == f"{kept} {done}".strip()


def test_one_degree_to_level_six_counts_as_equally_fine():
    lat, lon = np.arange(-90.0, 91.0), np.arange(360.0)
    values = da.zeros((181, 360), chunks=-1)
    source = xr.DataArray(values, {"lat": lat, "lon": lon}, ("lat", "lon"))
    assert "bilinear" in to_healpix(source, 6).attrs["cell_methods"]
    assert "conservative" in to_healpix(source, 5).attrs["cell_methods"]


def test_auto_chooses_for_every_variable_of_a_dataset():
    result = to_healpix(dataset(), 3)
    assert "bilinear" in result["t"].attrs["cell_methods"]
    assert "mode" in result["mask"].attrs["cell_methods"]


# --- labels


@pytest.mark.parametrize("chunked", [False, True])
def test_labels_are_kept(chunked):
    source = field(dims=("lat", "time", "lon", "level"), standard_name="air_temperature")
    source = source.chunk(time=2) if chunked else source
    result = to_healpix(source, 2)
    assert result.dims == ("time", "level", "cells")
    assert result.name == "t"
    assert result.attrs == source.attrs | {
        "cell_methods": "area: point (bilinear regridding to HEALPix level 2)",
        "grid_mapping": "crs",
    }
    for name in ("time", "level", "season"):
        xr.testing.assert_identical(
            result[name].drop_vars("crs").reset_coords(drop=True),
            source[name].reset_coords(drop=True),
        )
    assert set(result.coords) == {"time", "level", "season", "crs", "cell_ids", "healpix_index"}
    assert horizontal_grid(result).grid == HealpixGrid(2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("f2", "f2"),
        ("f4", "f4"),
        (">f4", "f4"),
        ("f8", "f8"),
        ("i1", "f4"),
        ("u1", "f4"),
        ("i2", "f4"),
        ("i4", "f8"),
        ("i8", "f8"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_float_types_are_kept_and_integers_become_floats(given, expected, chunked):
    source = field(given)
    result = to_healpix(source.chunk() if chunked else source, 1)
    assert result.dtype == np.dtype(expected)
    assert result.compute().dtype == np.dtype(expected)


def test_datasets_keep_what_is_not_horizontal():
    ds = dataset()
    ds.encoding = {"unlimited_dims": {"time"}, "source": "somewhere"}
    result = to_healpix(ds, 2)
    assert list(result.data_vars) == list(ds.data_vars)
    assert result.attrs == ds.attrs
    assert result.encoding == {"unlimited_dims": {"time"}}
    xr.testing.assert_identical(
        result["area_mean"].reset_coords(drop=True), ds["area_mean"].reset_coords(drop=True)
    )
    assert result["u"].dims == ("level", "cells")
    assert not {"lat", "lon"} & set(result.coords)
    for name in ("t", "mask"):
        alone = to_healpix(ds[name], 2)
        xr.testing.assert_identical(result[name].variable, alone.variable)


def test_zonal_variables_pass_through_with_their_latitude():
    ds = dataset().assign(weight=("lat", np.arange(9.0)))
    result = to_healpix(ds, 2)
    xr.testing.assert_identical(result["weight"].variable, ds["weight"].variable)
    assert "lat" in result.coords
    assert "lon" not in result.coords
    with pytest.raises(ValueError, match=r"needs the dimensions \('lat', 'lon'\).*'weight'"):
        to_latlon(ds, 45.0)


def test_bounds_and_grid_mappings_of_the_source_go():
    ds = dataset()
    ds["lat"].attrs["bounds"] = "lat_bnds"
    edges = np.append(90.0, np.append((LAT[1:] + LAT[:-1]) / 2, -90.0))
    ds["lat_bnds"] = (("lat", "nv"), np.stack([edges[:-1], edges[1:]], -1))
    ds["spatial_ref"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["t"].attrs |= {"grid_mapping": "spatial_ref", "cell_measures": "area: areacella"}
    result = to_healpix(ds, 2)
    assert not {"lat_bnds", "spatial_ref", "nv"} & {*result.variables, *result.dims}
    assert result["t"].attrs["grid_mapping"] == "crs"
    assert "cell_measures" not in result["t"].attrs
    at_points = to_healpix(ds.set_coords(["lat_bnds", "spatial_ref"])["t"], 2)
    assert set(at_points.coords) == {"time", "season", "crs", "cell_ids", "healpix_index"}


def test_the_description_of_the_old_healpix_grid_goes():
    ds = describe_healpix(xr.Dataset({"t": ("cells", np.arange(48.0))}), HealpixGrid(1), dggs=True)
    assert horizontal_grid(to_healpix(ds, 0)).grid == HealpixGrid(0)
    assert not to_latlon(ds, 90.0).attrs


def test_an_xdggs_dataset_is_regridded():
    import xdggs

    from xsphere.conventions import healpix_info

    grid = HealpixGrid(1)
    ds = describe_healpix(xr.Dataset({"t": ("cells", np.arange(48.0))}), grid)
    result = to_healpix(xdggs.decode(ds, healpix_info(grid)), 0)
    assert horizontal_grid(result).grid == HealpixGrid(0)


def test_packing_is_kept_and_chunks_are_not():
    source = field()
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 50.0, "_FillValue": -999}
    source.encoding = packing | {"chunks": (1, 9, 16), "preferred_chunks": {"time": 1}}
    assert to_healpix(source, 2).encoding == packing


@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [
        # missing values beyond the region could not be stored
        ({"dtype": "int16", "scale_factor": 0.01}, "f4"),
        # fractions could not be stored
        ({"dtype": "int16", "_FillValue": -999}, "f4"),
        ({"dtype": "int16"}, "i2"),
    ],
)
def test_a_packing_that_would_spoil_the_result_goes(encoding, dtype):
    region = field(dtype).sel(lat=slice(90, 5))
    region.encoding = encoding
    assert to_healpix(region, 2).encoding == {}


def test_booleans_that_become_floats_are_stored_as_floats():
    land = (field() > 50).sel(lat=slice(90, 5))
    land.encoding = {"dtype": "bool"}
    assert to_healpix(land, 2).encoding == {}


def test_results_can_be_written(tmp_path):
    result = to_healpix(dataset().drop_vars("season").chunk(time=3), 2)
    result.to_zarr(tmp_path / "x.zarr", consolidated=False)
    result.to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc") as read:
        xr.testing.assert_equal(read, result.compute())
        assert horizontal_grid(read).grid == HealpixGrid(2)


def test_the_input_is_left_as_it_was():
    ds = dataset()
    ds["t"].encoding = {"dtype": "int16", "chunks": (1, 9, 16)}
    before, encoding = ds.copy(deep=True), dict(ds["t"].encoding)
    to_healpix(ds, 2)
    to_healpix(ds["t"], 2)
    to_latlon(ds, like=ds["t"])
    xr.testing.assert_identical(ds, before)
    assert ds["t"].encoding == encoding


# --- laziness


@pytest.mark.parametrize("method", ["auto", "nearest", "bilinear", "conservative", "mode"])
def test_nothing_is_computed_while_building(method):
    ds = dataset().chunk(time=2)
    with no_computes():
        result = to_healpix(
            ds.drop_vars("mask") if method not in ("auto", "mode", "nearest") else ds,
            2,
            method=method,
        )
        to_latlon(result, 45.0, method="nearest")
    assert result["t"].chunks == ((2, 2, 2, 1), (192,))


def test_no_weights_are_built_while_building(monkeypatch):
    import xsphere.weights

    def refuse(*args, **kwargs):
        raise AssertionError("weights were built")

    monkeypatch.setattr(xsphere.weights, "regridding_weights", refuse)
    to_healpix(dataset().chunk(time=2), 2)


def test_a_graph_has_one_task_a_block_beside_the_source():
    values = da.from_delayed(dask.delayed(np.zeros)((1, N_LAT, N_LON)), (1, N_LAT, N_LON), float)
    stacked = da.concatenate([values] * 5)
    source = xr.DataArray(stacked, {"lat": LAT, "lon": LON}, ("time", "lat", "lon"))
    (optimized,) = dask.optimize(to_healpix(source, 2).data)
    (before,) = dask.optimize(stacked)
    assert len(dict(optimized.dask)) <= len(dict(before.dask)) + 5


@examples(15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    chunks=st.lists(st.integers(1, 3), min_size=3, max_size=7).filter(lambda c: sum(c) == N_TIME),
    level_chunk=st.integers(1, 2),
    scheduler=st.sampled_from(["synchronous", "threads"]),
    method=st.sampled_from(["bilinear", "conservative", "mode"]),
)
def test_any_chunking_gives_the_same_bits(chunks, level_chunk, scheduler, method):
    dims = ("time", "level", "lat", "lon")
    source = field(dims=dims).copy()
    source[2, 0, 3, 4] = np.nan
    source[5] = np.nan
    if method == "mode":
        source = (source // 60).fillna(200).astype("u1")
    eager = to_healpix(source, 2, method=method)
    lazy = to_healpix(source.chunk(time=tuple(chunks), level=level_chunk), 2, method=method)
    with dask.config.set(scheduler=scheduler):
        xr.testing.assert_identical(lazy.compute(), eager)
    # float equality lets a last bit pass: compare the bytes
    assert lazy.compute().values.tobytes() == eager.values.tobytes()


def test_an_empty_block_needs_no_weights(monkeypatch):
    import xsphere.weights

    monkeypatch.delattr(xsphere.weights, "regridding_weights")
    node = RegridNode(
        source=LatLonGrid(LON, LAT),
        target=HealpixGrid(1),
        rules=Rules(method="bilinear"),
        dtype=np.dtype("f4"),
    )
    assert node(np.empty((0, N_LAT, N_LON), "f4")).shape == (0, 48)
    # as dask calls it to learn the type
    assert node(np.empty((0, 0, 0), "f4")).shape == (0, 48)


def test_an_empty_time_axis_gives_an_empty_result():
    for source in (field(), mask(), field().chunk()):
        result = to_healpix(source.isel(time=slice(0)), 2).compute()
        assert result.shape == (0, 192)
        assert result.dtype == source.dtype


def test_a_single_field_needs_no_other_dimension():
    result = to_healpix(field().isel(time=0).chunk(), 2)
    assert result.dims == ("cells",)
    assert result["time"].ndim == 0
    assert result.compute().shape == (192,)


@pytest.mark.parametrize("chunks", [{"lat": 3}, {"lat": 3, "lon": 8}])
def test_split_horizontal_dimensions_are_refused_with_the_call_that_helps(chunks):
    with pytest.raises(
        ValueError, match=r"call \.chunk\(\{'lat': -1, 'lon': -1\}\) first"
    ) as error:
        to_healpix(dataset().chunk(chunks), 2)
    assert all(name in str(error.value) for name in ("'t'", "'mask'", "'u'"))


def test_equal_work_has_equal_keys_and_other_work_others():
    def key(level=2, **options):
        return to_healpix(source, level, **options).data.name

    source = field().chunk(time=2)
    assert key() == key()
    different = {
        key(),
        key(3),
        key(indexing_scheme="ring"),
        key(method="conservative"),
        key(missing="propagate"),
        key(min_valid_fraction=0.1),
    }
    assert len(different) == 6


def test_a_node_travels_without_weights_and_keeps_its_key():
    node = RegridNode(
        source=LatLonGrid(LON, LAT),
        target=HealpixGrid(4),
        rules=Rules(method="bilinear"),
        dtype=np.dtype("f4"),
    )
    node(np.ones((N_LAT, N_LON), "f4"))
    _ = node.source.areas, node.target.centres
    copies = [pickle.loads(pickle.dumps(node)), cloudpickle.loads(cloudpickle.dumps(node))]
    assert {tokenize(copy) for copy in copies} == {tokenize(node)}
    assert len(pickle.dumps(node)) < 4000


@pytest.mark.slow
def test_dask_processes_give_the_same(processes):
    source = field().chunk(time=4)
    lazy = to_healpix(source, 1)
    with dask.config.set(processes):
        np.testing.assert_array_equal(lazy.compute(), to_healpix(field(), 1))


# --- invalid input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "needs either level=.* or nside=.*, got neither"),
        ({"level": 3, "nside": 8}, ValueError, "got level=3 and nside=8"),
        ({"level": -1}, ValueError, "level must be from 0 to 29, got -1"),
        ({"level": 30}, ValueError, "level must be from 0 to 29, got 30"),
        ({"level": "six"}, TypeError, "level must be an integer, got 'six'"),
        ({"level": 2.5}, TypeError, "level must be an integer, got 2.5"),
        ({"level": True}, TypeError, "level must be an integer, got True"),
        ({"nside": 12}, ValueError, "nside must be a power of two"),
        ({"nside": "8"}, TypeError, "nside must be an integer, got '8'"),
        ({"level": 2, "method": "cubic"}, ValueError, "method must be one of .* got 'cubic'"),
        ({"level": 2, "missing": "drop"}, ValueError, "missing must be one of .* got 'drop'"),
        ({"level": 2, "min_valid_fraction": 2}, ValueError, "min_valid_fraction must be from 0"),
        ({"level": 2, "indexing_scheme": "nest"}, ValueError, "must be 'nested' or 'ring'"),
    ],
)
def test_wrong_options_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        to_healpix(field(), **arguments)


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a"] * 144),
        np.zeros(144, "M8[ns]"),
        np.zeros(144, complex),
        np.array([None] * 144),
    ],
)
def test_only_numbers_are_regridded(values):
    ds = dataset().assign(bad=(("lat", "lon"), values.reshape(N_LAT, N_LON)))
    with pytest.raises(TypeError, match=r"numbers and booleans.*'bad'.*drop_vars\(\['bad'\]\)"):
        to_healpix(ds, 2)


def test_a_dataset_needs_a_horizontal_variable():
    with pytest.raises(
        ValueError, match=r"a variable with the horizontal dimensions \('lat', 'lon'\)"
    ):
        to_healpix(dataset()[["area_mean"]].assign_coords(lat=LAT, lon=LON), 2)


def test_dimensions_of_the_result_must_be_free():
    with pytest.raises(
        ValueError, match=r"needs the dimensions \('cells',\).*\{'t': \['cells'\]\}"
    ):
        to_healpix(field().rename(time="cells"), 2)


def test_impossible_methods_are_refused_before_anything_is_built():
    points = xr.DataArray(
        da.zeros(3, chunks=-1), {"lat": ("p", [0.0, 1, 2]), "lon": ("p", [0.0, 1, 2])}, "p"
    )
    with pytest.raises(ValueError, match="'bilinear' is not possible from PointGrid"):
        to_healpix(points, 1, method="bilinear")
    with pytest.raises(ValueError, match="'conservative' needs cells with edges"):
        to_healpix(points, 1, method="conservative")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs either resolution=.* got neither"),
        ({"resolution": 1.0, "like": LatLonGrid([0, 90, 180, 270], [45, -45])}, "got both"),
        ({"resolution": 0.7}, "resolution must divide 180 degrees, got 0.7"),
        ({"resolution": -1.0}, "resolution must divide 180 degrees, got -1"),
    ],
)
def test_wrong_options_of_to_latlon_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        to_latlon(to_healpix(field(), 1), **arguments)


@pytest.mark.parametrize("resolution", [(2.0, 3.0), "2", True, [2.0]])
def test_a_resolution_is_one_number(resolution):
    with pytest.raises(TypeError, match=r"resolution must be one number of degrees, got .*like="):
        to_latlon(to_healpix(field(), 1), resolution)


def test_like_must_be_on_a_longitude_latitude_grid():
    with pytest.raises(ValueError, match="like must be on a longitude-latitude grid, got Healpix"):
        to_latlon(field(), like=to_healpix(field(), 1))


def test_a_target_must_be_a_grid():
    with pytest.raises(TypeError, match="target must be a HealpixGrid, LatLonGrid or PointGrid"):
        regrid(field(), "level 6")


# --- real files


@pytest.mark.parametrize(
    ("file", "name", "low", "high"),
    [
        ("gfs_2p5deg_2011-10-11T00.nc", "TREFHT", 280, 295),
        ("gfs_2p5deg_2011-10-11T00.nc", "PSL", 1.005e5, 1.015e5),
        ("era5_tl31_19590102T00.nc", "temperature", 230, 260),
        ("cfs_t62_flux_2006-04-01.nc", "PS", 9.8e4, 9.9e4),
        ("ecmwf_0p4deg_msl_2022-08-17_19.nc", "msl", 1.005e5, 1.015e5),
        ("ecmwf_0p4deg_uvt850_2022-08-17_19.nc", "T850", 275, 290),
        ("eraint_uvz.nc", "z", 4e4, 7e4),
    ],
)
def test_means_of_real_fields_are_kept(test_data, file, name, low, high):
    # nan is no fill value of packed integers: a flaw of one file
    with pytest.warns() if file.startswith("eraint") else nothing():
        ds = xr.open_dataset(test_data / "fields" / file, chunks={})
    with ds:
        result = to_healpix(ds[[name]], 3, method="conservative")[name].compute()
        found = horizontal_grid(ds)
        source = ds[name].transpose(..., *found.dims).values
    areas = found.grid.areas
    expected = (source.reshape(*source.shape[:-2], -1) * areas).sum(-1) / areas.sum()
    np.testing.assert_allclose(result.mean("cells", dtype="f8"), expected, rtol=2e-6)
    assert low < float(result.mean()) < high
    assert np.isfinite(result).all()
    assert result.dims[-1] == "cells"


@contextmanager
def nothing():
    yield


def test_the_sea_surface_stays_missing_over_land(test_data):
    with xr.open_dataset(test_data / "fields" / "gfs_2p5deg_2011-10-11T00.nc") as ds:
        source = ds["TS"].where(ds["LSM"] < 0.5).isel(time=0).load()
        areas = horizontal_grid(ds).grid.areas.reshape(source.shape)
    result = to_healpix(source, 3)
    land = float(areas[np.isnan(source.values)].sum() / areas.sum())
    assert 0.2 < land < 0.4
    assert abs(float(np.isnan(result).mean()) - land) < 0.03
    assert float(result.max()) <= float(source.max())
    assert float(result.min()) >= float(source.min())


def test_unstructured_points_of_a_real_model_are_regridded(test_data):
    with xr.open_dataset(test_data / "other_grids" / "camse_unstructured_grid.nc") as ds:
        result = to_healpix(ds, 4)
        mean = float(ds["T850"].mean())
    assert list(result.data_vars) == ["T850"]
    assert abs(float(result["T850"].mean()) - mean) < 5
    assert result["T850"].attrs["cell_methods"].startswith("time: mean area: point (nearest")
