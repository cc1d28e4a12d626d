"""Segmentation: lazy, the same bits everywhere, honest about what it could not know."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model, storm_spec
from xsphere.config import set_options
from xsphere.entries import CacheWarning
from xsphere.model import Model, ModelFileError
from xsphere.segmentation import ModelHandle, SegmentNode, segment


@pytest.fixture
def model() -> Model:
    return storm_model()


def counting(counts: list[int]) -> Any:
    """A scheduler that counts how often it is asked to compute."""

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        counts.append(1)
        return dask.get(graph, keys, **options)

    return get


def test_mask_is_labelled(model: Model) -> None:
    mask = segment(storm_dataset(), model)
    assert mask.dims == ("time", "cells")
    assert mask.dtype == np.uint8
    assert mask.name == "mask"
    assert mask.attrs["flag_meanings"] == "background cyclone river invalid_input not_computed"
    assert np.asarray(mask.attrs["flag_values"]).tolist() == [0, 1, 2, 254, 255]
    assert mask.sphere.grid.grid == model.grid
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert len(set(np.unique(mask))) > 1


def test_probability_is_labelled(model: Model) -> None:
    probability = segment(storm_dataset(), model, output="probability")
    assert probability.dims == ("time", "class", "cells")
    assert probability.dtype == np.float32
    assert probability["class"].values.tolist() == ["background", "cyclone", "river"]
    np.testing.assert_allclose(probability.sum("class"), 1.0, rtol=1e-5)
    mask = segment(storm_dataset(), model)
    np.testing.assert_array_equal(probability.values.argmax(1), mask)


def test_building_computes_nothing(model: Model) -> None:
    ds = storm_dataset().chunk(time=1)
    counts: list[int] = []
    with dask.config.set(scheduler=counting(counts)):
        mask = segment(ds, model)
        assert not counts
        mask.compute()
    assert len(counts) == 1


def test_building_reads_no_values(model: Model) -> None:
    def fail() -> Any:
        raise AssertionError("data were read")

    ds = storm_dataset()
    for name, array in ds.data_vars.items():
        lazy = dask.array.from_delayed(dask.delayed(fail)(), array.shape, array.dtype)
        ds[name] = array.copy(data=lazy)
    mask = segment(ds, model, output="probability", grid="source")
    assert mask.chunks is not None


@examples(8)
@given(st.integers(1, 4), st.integers(1, 5))
def test_neither_chunks_nor_batches_matter(chunk: int, batch_size: int) -> None:
    model, ds = storm_model(), storm_dataset(n_times=4)
    expected = segment(ds, model, output="probability")
    chunked = segment(ds.chunk(time=chunk), model, output="probability", batch_size=batch_size)
    with dask.config.set(scheduler="sync"):
        np.testing.assert_array_equal(chunked.values, expected.values)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_same_bits_on_every_scheduler(scheduler: str, tmp_path: Path) -> None:
    with dask.config.set(scheduler=scheduler, num_workers=2):
        check_bits(tmp_path)


@pytest.mark.slow
def test_same_bits_in_another_process(processes: Any, tmp_path: Path) -> None:
    with dask.config.set(processes):
        check_bits(tmp_path)


def test_same_bits_on_a_cluster(cluster: Any, tmp_path: Path) -> None:
    with dask.config.set(scheduler=cluster.get):
        check_bits(tmp_path)


def check_bits(tmp_path: Path) -> None:
    model, ds = storm_model(), storm_dataset(n_times=7)
    expected = segment(ds, model, output="probability").values.tobytes()
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    results = [segment(ds.chunk(time=2), model, output="probability")]
    results += [
        segment(tmp_path / "x.zarr", model, output="probability", block_size=block_size)
        for block_size in (1, 3, 7)
    ]
    for result in dask.compute(*results):
        assert result.values.tobytes() == expected


def test_one_sample_is_the_same_among_others(model: Model) -> None:
    ds = storm_dataset(n_times=4)
    alone = segment(ds.isel(time=[2]), model, output="probability")
    among = segment(ds, model, output="probability").isel(time=[2])
    assert alone.values.tobytes() == among.values.tobytes()


def test_number_of_threads_does_not_matter() -> None:
    import torch

    # level 4: large enough that torch would share the work among its threads
    model, ds = storm_model(level=4), storm_dataset(n_times=5)
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 4):
            torch.set_num_threads(n_threads)
            results.append(segment(ds, model, output="probability", batch_size=2).values)
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert results[0].tobytes() == results[1].tobytes()


def test_dataset_is_not_changed(model: Model) -> None:
    ds = storm_dataset()
    before = ds.copy(deep=True)
    segment(ds, model)
    xr.testing.assert_identical(ds, before)


@pytest.mark.parametrize("flip", ["lat", "lon", "order", "cyclic", "hPa", "names", "float64"])
def test_ways_to_write_the_same_data(model: Model, flip: str) -> None:
    ds = storm_dataset()
    expected = segment(ds, model, output="probability")
    if flip == "lat":
        ds = ds.isel(lat=slice(None, None, -1))
    elif flip == "lon":
        ds = ds.assign_coords(lon=(ds.lon + 180) % 360 - 180).sortby("lon")
        ds.lon.attrs["units"] = "degrees_east"
    elif flip == "order":
        ds = ds.transpose("lon", "time", "lat")
    elif flip == "cyclic":
        first = ds.isel(lon=[0]).assign_coords(lon=("lon", [360.0], ds.lon.attrs))
        ds = xr.concat([ds, first], "lon")
    elif flip == "hPa":
        attrs = ds.PSL.attrs | {"units": "hPa"}
        ds["PSL"] = (ds.PSL.astype(float) / 100).assign_attrs(attrs)
    elif flip == "names":
        ds = ds.rename(PSL="msl", lat="latitude", lon="longitude")
    else:
        ds = ds.astype(float)
    result = segment(ds, model, output="probability")
    np.testing.assert_allclose(result.transpose(*expected.dims), expected, atol=2e-5)


def test_healpix_input_is_taken_as_it_is(model: Model) -> None:
    ds = storm_dataset()
    hp = xsphere.to_healpix(ds, model.level, method="conservative")
    expected = segment(ds, model, output="probability")
    np.testing.assert_array_equal(segment(hp, model, output="probability"), expected)


def test_ring_order_is_sorted_out(model: Model) -> None:
    ds = storm_dataset()
    nested, ring = (
        xsphere.to_healpix(ds, model.level, method="conservative", indexing_scheme=scheme)
        for scheme in ("nested", "ring")
    )
    expected = segment(nested, model, output="probability")
    result = segment(ring, model, output="probability")
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_points_are_taken_by_the_nearest(model: Model) -> None:
    ds = storm_dataset().stack(point=("lat", "lon")).reset_index("point")
    assert segment(ds, model).sizes["cells"] == model.grid.n_cells


def test_extra_dimensions_are_kept(model: Model) -> None:
    ds = storm_dataset()
    members = xr.concat([ds, storm_dataset(seed=1)], "member")
    mask = segment(members, model)
    assert mask.dims == ("member", "time", "cells")
    np.testing.assert_array_equal(mask.isel(member=0), segment(ds, model))
    np.testing.assert_array_equal(mask.isel(member=1), segment(storm_dataset(seed=1), model))


def test_variables_without_a_dimension_are_broadcast(model: Model) -> None:
    ds = storm_dataset()
    ds["PSL"] = ds["PSL"].isel(time=0, drop=True)
    mask = segment(ds.chunk(time=2), model)
    assert mask.sizes["time"] == 3
    whole = ds.assign(PSL=ds["PSL"].expand_dims(time=ds.time).assign_attrs(ds["PSL"].attrs))
    np.testing.assert_array_equal(mask, segment(whole, model))


def test_a_single_map_has_no_time(model: Model) -> None:
    assert segment(storm_dataset().isel(time=0), model).dims == ("cells",)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunked", [False, True])
def test_invalid_input_is_never_background(model: Model, bad: float, chunked: bool) -> None:
    ds = storm_dataset()
    ds["PSL"][1, 3:8, 5:20] = bad
    mask = segment(ds.chunk(time=1) if chunked else ds, model).compute()
    probability = segment(ds, model, output="probability")
    grid = xsphere.LatLonGrid(ds.lon, ds.lat)
    weights = xsphere.regrid(
        xr.where(np.isfinite(ds["PSL"]), 1.0, 0.0), model.grid, method="conservative"
    )
    wholly = (weights < 1e-6).transpose("time", "cells").values
    assert wholly.any()
    assert (mask.values[wholly] == 254).all()
    assert np.isnan(probability.values.transpose(0, 2, 1)[wholly]).all()
    assert not (mask.isel(time=0) == 254).any()
    assert grid.n_cells == 19 * 36


@pytest.mark.filterwarnings("ignore:the input .* standard deviations away")
def test_overflow_in_the_network_is_never_background() -> None:
    spec = storm_spec()
    pressure = replace(spec.channels[0], std=0.1)
    model = Model.untrained(replace(spec, channels=(pressure, *spec.channels[1:])))
    ds = storm_dataset()
    # normalised it is still finite in float32, but its multiples are not
    ds["PSL"][1] = 3.3e37
    mask = segment(ds, model)
    assert (mask.isel(time=1) == 254).any()
    probability = segment(ds, model, output="probability")
    invalid = np.isnan(probability.values).any(axis=1)
    np.testing.assert_array_equal(invalid, mask.values == 254)


def test_what_overflows_float32_is_invalid(model: Model) -> None:
    ds = storm_dataset().astype(float)
    ds["PSL"][1] = 3.5e38
    assert (segment(ds, model).isel(time=1) == 254).all()


def test_step_that_is_nowhere_finite_is_invalid(model: Model) -> None:
    ds = storm_dataset()
    ds["U850"][1] = np.nan
    mask = segment(ds, model)
    assert (mask.isel(time=1) == 254).all()
    assert not (mask.isel(time=[0, 2]) == 254).any()


def test_result_on_the_source_grid(model: Model) -> None:
    ds = storm_dataset().transpose("lat", "time", "lon").isel(lat=slice(None, None, -1))
    mask = segment(ds, model, grid="source")
    assert mask.dims == ("time", "lat", "lon")
    xr.testing.assert_equal(mask.lat, ds.lat)
    cells = segment(ds, model)
    lon, lat = np.meshgrid(ds.lon, ds.lat)
    expected = cells.values[:, model.grid.cells_at(lon, lat)]
    np.testing.assert_array_equal(mask, expected)
    probability = segment(ds.chunk(time=1), model, grid="source", output="probability")
    assert probability.dims == ("time", "class", "lat", "lon")
    np.testing.assert_allclose(probability.sum("class"), 1.0, rtol=1e-5)


def test_graph_holds_no_weights(model: Model) -> None:
    mask = segment(storm_dataset(n_times=8).chunk(time=1), model)
    assert mask.data.npartitions == 8
    node = SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),) * 3)
    assert len(pickle.dumps(node)) < 2000


def test_names_depend_on_content_only(model: Model) -> None:
    ds = storm_dataset().chunk(time=1)
    again = segment(ds, storm_model()).data.name
    assert segment(ds, model).data.name == again
    assert segment(ds, storm_model(seed=1)).data.name != again
    assert segment(ds, model, batch_size=3).data.name == again


def test_model_travels_where_no_file_can_be_kept(model: Model) -> None:
    ds = storm_dataset().chunk(time=1)
    with set_options(cache_dir=""):
        mask = segment(ds, model)
        with dask.config.set(scheduler="sync"):
            np.testing.assert_array_equal(mask, segment(storm_dataset(), model))


def test_changed_model_file_is_refused(model: Model, cache_folder: Path) -> None:
    handle = ModelHandle.of(model)
    assert handle.path is not None
    storm_model(seed=5).save(handle.path)
    with pytest.raises(ModelFileError, match="was asked for: it was changed or damaged"):
        handle.load()
    Path(handle.path).unlink()
    with pytest.raises(FileNotFoundError, match="one shared folder"):
        handle.load()


def test_damaged_copy_of_a_model_is_replaced(model: Model, cache_folder: Path) -> None:
    handle = ModelHandle.of(model)
    assert handle.path is not None
    Path(handle.path).write_bytes(b"half a model")
    with pytest.warns(CacheWarning, match="is corrupt"):
        again = ModelHandle.of(model)
    assert again.load() == model


def test_no_grid(model: Model) -> None:
    ds = storm_dataset().rename(lat="row", lon="column").drop_vars(["row", "column"])
    with pytest.raises(ValueError, match=r"longitude|latitude|horizontal"):
        segment(ds, model)


def test_split_grid(model: Model) -> None:
    with pytest.raises(ValueError, match=r"call \.chunk\(\{'lat': -1, 'lon': -1\}\) first"):
        segment(storm_dataset().chunk(lat=5), model)


def test_missing_variables(model: Model) -> None:
    with pytest.raises(ValueError, match="V850: missing"):
        segment(storm_dataset().drop_vars("V850"), model)


def test_empty_time(model: Model) -> None:
    with pytest.raises(ValueError, match=r"nothing to segment: the dimensions \['time'\]"):
        segment(storm_dataset().isel(time=[]), model)


def test_fields_that_are_nowhere_finite(model: Model) -> None:
    ds = storm_dataset()
    ds["U850"] = ds["U850"] * np.nan
    ds["U850"].attrs = storm_dataset()["U850"].attrs
    with pytest.raises(ValueError, match=r"the fields \['U850'\] have no finite value"):
        segment(ds, model)


def test_inputs_on_several_grids(model: Model) -> None:
    ds = storm_dataset()
    other = storm_dataset(n_lat=10).rename(lat="y2", lon="x2")["PSL"]
    other = other.assign_coords(y2=("y2", other.y2.values, {"units": "degrees_north"}))
    with pytest.raises(ValueError, match=r"must be on one grid|candidates|several"):
        segment(ds.drop_vars("PSL").assign(PSL=other), model)


def test_options_are_checked_at_once(model: Model) -> None:
    with pytest.raises(ValueError, match=r"output must be .*; grid must be .*; batch_size must be"):
        segment(storm_dataset(), model, output="x", grid="y", batch_size=0)  # type: ignore[arg-type]


def test_accessor_is_the_function(model: Model) -> None:
    ds = storm_dataset()
    xr.testing.assert_identical(ds.sphere.segment(model), segment(ds, model))
