"""Datasets that are opened and not read: one task a block, which reads, regrids and infers."""

import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from hypothesis import given
from hypothesis import strategies as st
from xarray.backends import BackendArray
from xarray.core.indexing import LazilyIndexedArray

import xsphere
from tests.stores import counted
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.compat import is_unread
from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.model import Model
from xsphere.segmentation import ChunksWarning, ModelHandle, SegmentNode, job, segment
from xsphere.segmentation import layout as layouts
from xsphere.segmentation.jobs import Segmentation, bare
from xsphere.segmentation.layout import Layout
from xsphere.sources import MissingChunkError, UnreadableFileError

NAMES = ("PSL", "U850", "V850")


@pytest.fixture(scope="module")
def model() -> Model:
    return storm_model()


def stored(ds: xr.Dataset, path: Path, steps: int = 2, **encoding: Any) -> Path:
    """The dataset in a Zarr store, with so many steps in a chunk."""
    chunks = {
        name: tuple(steps if dim == "time" else size for dim, size in array.sizes.items())
        for name, array in ds.data_vars.items()
    }
    ds.to_zarr(
        path,
        mode="w",
        consolidated=False,
        encoding={name: {"chunks": chunks[name]} | encoding for name in ds.data_vars},
    )
    return path


class Inaccessible(BackendArray):
    """A stored array that must not be read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, np.dtype("f4")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("data were read")


def unreadable(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(
        {
            name: (array.dims, LazilyIndexedArray(Inaccessible(array.shape)), array.attrs)
            for name, array in ds.data_vars.items()
        }
    )


def real_tasks(array: xr.DataArray) -> int:
    """Tasks after optimisation that do something: neither literals nor other names."""
    (optimised,) = dask.optimize(array.data)
    graph = dict(optimised.__dask_graph__())
    return sum(type(task).__name__ == "Task" for task in graph.values())


@examples(12)
@given(
    block_size=st.sampled_from([None, 1, 3, 7]), steps=st.integers(1, 5), batch=st.integers(1, 4)
)
def test_no_way_of_reading_matters(
    tmp_path_factory: pytest.TempPathFactory, block_size: int | None, steps: int, batch: int
) -> None:
    ds, model = storm_dataset(n_times=7), storm_model()
    path = stored(ds, tmp_path_factory.mktemp("store") / "x.zarr", steps)
    expected = segment(ds, model, output="probability")
    lazy = segment(path, model, output="probability", block_size=block_size, batch_size=batch)
    chunked = segment(ds.chunk(time=steps), model, output="probability")
    for result in (lazy, chunked):
        assert result.chunks is not None
        with dask.config.set(scheduler="sync"):
            xr.testing.assert_identical(result.drop_attrs().compute(), expected.drop_attrs())
    if block_size is not None:
        full, rest = divmod(7, block_size)
        assert lazy.chunks is not None
        assert lazy.chunks[0] == (block_size,) * full + (rest,) * (rest > 0)


@pytest.mark.parametrize("grid", ["healpix", "source"])
@pytest.mark.parametrize("output", ["mask", "probability"])
def test_labels_are_those_of_data_in_memory(
    model: Model, tmp_path: Path, grid: Any, output: Any
) -> None:
    ds = storm_dataset(n_times=4)
    ds = ds.assign_coords(step=("time", np.arange(4)), run=7).transpose("lon", "time", "lat")
    path = stored(ds, tmp_path / "x.zarr")
    expected = segment(ds, model, grid=grid, output=output)
    result = segment(path, model, grid=grid, output=output, block_size=3)
    assert result.dtype == expected.dtype
    # they were read from elsewhere, and are the same in all else
    assert result.attrs.pop("xsphere_run") != expected.attrs.pop("xsphere_run")
    xr.testing.assert_identical(result.compute(), expected)


@pytest.mark.parametrize("chunks", [None, {"time": 3}, {"time": (1, 4, 2), "member": 1}])
def test_a_job_is_what_its_result_is_made_of(model: Model, tmp_path: Path, chunks: Any) -> None:
    members = xr.concat([storm_dataset(n_times=7, seed=s) for s in range(2)], "member")
    path = stored(members.transpose("time", "member", "lat", "lon"), tmp_path / "x.zarr")
    options: dict[str, Any] = {"output": "probability", "grid": "source"}
    ds = xsphere.open(path) if chunks is None else members.transpose("time", ...).chunk(chunks)
    found = job(ds, model, **options)
    assert (found.n_steps, found.n_samples) == (7, 14)
    assert (found.is_unread, found.is_chunked) == (chunks is None, chunks is not None)
    lazy = found.lazy()
    xr.testing.assert_identical(lazy, segment(ds, model, **options))
    assert lazy.chunks is not None
    assert tuple(part.stop - part.start for part in found.blocks) == lazy.chunks[0]
    want = lazy.compute()
    for index, part in enumerate(found.blocks):
        np.testing.assert_array_equal(found.block(index), want[part])
    part = found.steps(slice(2, 6))
    assert part.n_steps == 4
    # computed together, each has tasks of its own
    other = found.steps(slice(0, 4)).lazy()
    for made, steps in zip(dask.compute(part.lazy(), other), (slice(2, 6), slice(4)), strict=True):
        xr.testing.assert_identical(made, want[steps])


@pytest.mark.parametrize("kind", ["str", "Path", "netcdf", "cached", "uncached"])
def test_ways_to_give_what_is_not_read(model: Model, tmp_path: Path, kind: str) -> None:
    ds = storm_dataset(n_times=4)
    path = stored(ds, tmp_path / "x.zarr")
    ds.to_netcdf(tmp_path / "x.nc")
    source: Any
    if kind in ("cached", "uncached"):
        options: Any = {"engine": "zarr", "consolidated": False, "cache": kind == "cached"}
        source = xr.open_dataset(path, chunks=None, **options)
    else:
        source = {"str": str(path), "Path": path, "netcdf": tmp_path / "x.nc"}[kind]
    result = segment(source, model)
    assert result.chunks is not None
    np.testing.assert_array_equal(result, segment(ds, model))


def test_data_in_memory_are_computed_at_once(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(), tmp_path / "x.zarr")
    assert segment(xsphere.open(path).load(), model).chunks is None


def test_each_block_is_one_task(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(n_times=7), tmp_path / "x.zarr")
    mask = segment(path, model, block_size=2)
    assert mask.data.npartitions == 4
    assert real_tasks(mask) == 4
    assert real_tasks(mask.isel(time=slice(2, 4))) <= 2  # and a slice


def test_chunked_data_take_a_task_for_each_variable(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(n_times=8), tmp_path / "x.zarr")
    for ds in (
        xr.open_zarr(path, consolidated=False, chunks={}),
        xr.open_zarr(path, consolidated=False, chunks={"time": 4}),
        storm_dataset(n_times=8).chunk(time=2),
    ):
        mask = segment(ds, model)
        assert real_tasks(mask) <= mask.data.npartitions * (len(NAMES) + 2)


def test_stored_arrays_are_in_the_graph_once(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(n_times=1000, n_lat=4, n_lon=8), tmp_path / "x.zarr", 50)
    mask = segment(path, model, block_size=1)
    (optimised,) = dask.optimize(mask.data)
    for graph in (mask.data.__dask_graph__(), optimised.__dask_graph__()):
        sizes = sorted(len(pickle.dumps(task)) for task in dict(graph).values())
        assert len(sizes) == 1001
        assert sizes[-1] < 8000  # the stored arrays
        assert sizes[-2] < 1500  # a block
        assert len(pickle.dumps(dict(graph))) < 300_000


def test_what_the_user_loads_does_not_travel(model: Model, tmp_path: Path) -> None:
    ds = xr.open_dataset(
        stored(storm_dataset(n_times=50), tmp_path / "x.zarr"), engine="zarr", consolidated=False
    )
    mask = segment(ds, model, block_size=5)
    ds.load()
    assert len(pickle.dumps(mask.data.__dask_graph__())) < 10_000 < ds.nbytes


def test_building_reads_no_chunk(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the model was run")

    ds, seen = counted(stored(storm_dataset(n_times=6), tmp_path / "x.zarr"))
    with monkeypatch.context() as patch:
        patch.setattr(Model, "network", fail)
        patch.setattr(Model, "shared_network", fail)
        patch.setattr(Model, "channels", fail)
        with dask.config.set(scheduler=fail):
            mask = segment(ds, model, output="probability", grid="source")
            chunked = segment(ds.chunk(time=2), model)
    assert seen == []
    assert mask.chunks is not None
    mask.compute()
    # each chunk once, and nothing is kept
    assert len(seen) == len(set(seen)) == 3 * 3
    chunked.compute()
    assert len(seen) == 2 * 3 * 3


def test_building_with_data_that_cannot_be_read(model: Model) -> None:
    ds = unreadable(storm_dataset())
    assert segment(ds, model).chunks == ((1, 1, 1), (192,))
    assert segment(ds.isel(time=slice(1, 3)), model, grid="source").shape == (2, 19, 36)
    assert segment(ds.isel(time=0), model, output="probability").dims == ("class", "cells")


def test_nothing_of_a_block_is_kept(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = xr.open_dataset(
        stored(storm_dataset(n_times=60), tmp_path / "x.zarr"), engine="zarr", consolidated=False
    )
    arrays = [ds[name] for name in NAMES]
    node = SegmentNode(ModelHandle.of(model), ds.sphere.grid.grid, ((1.0, 0.0),) * 3)
    layout = Layout.of(arrays, ("lat", "lon"), node, 2)
    source = Segmentation(
        node=node, variables=tuple(bare(a.variable) for a in arrays), layout=layout
    )
    read, values = Segmentation._read, []

    def remembered(*arguments: Any) -> Any:
        found = whole = read(*arguments)
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        values.append(weakref.ref(whole))
        return found

    monkeypatch.setattr(Segmentation, "_read", remembered)
    for index in range(5):
        source.block(index)
    gc.collect()
    assert len(values) == 5 * len(NAMES)
    assert not [array for array in values if array() is not None]


def test_members_are_kept_whole(model: Model, tmp_path: Path) -> None:
    members = xr.concat([storm_dataset(n_times=4, seed=s) for s in range(3)], "member")
    expected = segment(members, model)
    path = stored(members.transpose("time", "member", "lat", "lon"), tmp_path / "x.zarr")
    lazy = segment(path, model, block_size=3)
    assert lazy.dims == ("time", "member", "cells")
    assert lazy.chunks == ((3, 1), (3,), (192,))
    np.testing.assert_array_equal(lazy.transpose(*expected.dims), expected)
    # blocks follow the first dimension, whichever it is
    first = segment(xsphere.open(path).transpose("member", "time", ...), model, block_size=2)
    assert first.chunks == ((2, 1), (4,), (192,))
    np.testing.assert_array_equal(first, expected)


def test_variables_without_time_are_read_with_every_block(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    ds["PSL"] = ds["PSL"].isel(time=0, drop=True)
    mask = segment(stored(ds, tmp_path / "x.zarr"), model, block_size=3)
    np.testing.assert_array_equal(mask, segment(ds, model))


def test_a_single_unread_map(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    path = stored(ds, tmp_path / "x.zarr")
    lazy = segment(xsphere.open(path).isel(time=2), model)
    assert lazy.chunks == ((192,),)
    np.testing.assert_array_equal(lazy, segment(ds.isel(time=2), model))


def test_a_pressure_surface_is_chosen_without_reading(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    level = ("level", [1000.0, 850.0], {"units": "hPa"})
    for name in ("U850", "V850"):
        both = xr.concat([ds[name] * 0 - 1, ds[name]], "level").assign_coords(level=level)
        ds[name] = both.transpose("time", "level", ...).assign_attrs(ds[name].attrs)
    assert "level" in ds["U850"].dims
    lazy, seen = counted(stored(ds, tmp_path / "x.zarr"))
    mask = segment(lazy, model)
    assert not seen
    np.testing.assert_array_equal(mask, segment(storm_dataset(n_times=4), model))


def test_parts_may_be_selected(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=9)
    lazy = xsphere.open(stored(ds, tmp_path / "x.zarr", 4))
    for chosen in (slice(1, 8), slice(None, None, 3), [5, 1, 1], slice(None, None, -2)):
        result = segment(lazy.isel(time=chosen), model, block_size=2)
        np.testing.assert_array_equal(result, segment(ds.isel(time=chosen), model))


def test_unread_chunked_and_loaded_may_be_mixed(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=5)
    lazy = xsphere.open(stored(ds, tmp_path / "x.zarr"))
    expected = segment(ds, model)
    loaded = lazy.assign(PSL=ds.PSL)
    assert segment(loaded, model, block_size=3).chunks == ((3, 2), (192,))
    np.testing.assert_array_equal(segment(loaded, model, block_size=3), expected)
    mixed = loaded.assign(U850=ds.U850.chunk(time=3))
    result = segment(mixed, model)
    assert result.chunks == ((3, 2), (192,))
    np.testing.assert_array_equal(result, expected)
    uneven = ds.assign(PSL=ds.PSL.chunk(time=3), U850=ds.U850.chunk(time=2))
    np.testing.assert_array_equal(segment(uneven, model), expected)


def laid_out(
    steps: int, *, n_times: int = 10_000, shape: tuple[int, int] = (19, 36), **options: Any
) -> Layout:
    """Layout of variables that are stored with so many steps in a chunk."""
    grid = LatLonGrid(np.arange(shape[1]) * 360 / shape[1], np.linspace(-90, 90, shape[0]))
    node = SegmentNode(ModelHandle("0" * 64, 2, 3), grid, ((1.0, 0.0),) * 3)
    field = xr.DataArray(
        xr.Variable(("time", "lat", "lon"), LazilyIndexedArray(Inaccessible((n_times, *shape))))
    )
    field.encoding["preferred_chunks"] = {"time": steps}
    return Layout.of([field], ("lat", "lon"), node, **options)


def test_blocks_are_whole_chunks_of_the_store() -> None:
    assert laid_out(1).block == layouts.BLOCK_SAMPLES
    assert laid_out(7).block == 42
    assert laid_out(30).block == 30
    assert laid_out(60).block == 60
    assert laid_out(60, n_times=50).block == 50
    assert laid_out(7, block_size=5).block == 5


def test_short_series_are_shared_by_many_workers() -> None:
    assert laid_out(1, n_times=320).block == 10
    assert laid_out(3, n_times=320).block == 9
    assert laid_out(1, n_times=20).block == 1
    assert laid_out(8, n_times=20).block == 8


def test_blocks_are_read_in_whole_chunks() -> None:
    assert laid_out(1).read == 16
    assert laid_out(7).read == 21
    assert laid_out(30).read == 30


@given(n=st.integers(1, 40), block=st.integers(1, 12), read=st.integers(1, 12))
def test_every_step_is_in_one_part_of_one_block(n: int, block: int, read: int) -> None:
    layout = Layout(leading=(("time", n),), core=(), block=block, read=read)
    (sizes,) = layout.chunks
    met: list[int] = []
    for index, size in enumerate(sizes):
        steps = [i for part in layout.parts(index) for i in range(part.start, part.stop)]
        assert len(steps) == size
        met += steps
    assert met == list(range(n))


def test_chunks_that_memory_cannot_hold_are_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    step = 19 * 36 * 4
    monkeypatch.setattr(layouts, "READ_BYTES", 2 * step * 10)
    layout = laid_out(24)
    assert (layout.block, layout.read) == (48, 8)
    with pytest.warns(ChunksWarning, match=r"100 steps along 'time'.*decoded 10 times"):
        assert laid_out(100).read == 10
    monkeypatch.setattr(layouts, "BLOCK_BYTES", 10 * 192)
    assert laid_out(24).block == 8
    assert laid_out(4).block == 8


def test_names_tell_of_edits_in_the_store(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    path = stored(ds, tmp_path / "x.zarr")
    name = segment(path, model).data.name
    assert name.startswith("xsphere-segment-")
    assert segment(str(path), model).data.name == name
    assert segment(path, model, batch_size=3).data.name == name
    others = [
        segment(path, model, block_size=1),
        segment(path, model, output="probability"),
        segment(path, model, grid="source"),
        segment(path, storm_model(seed=1)),
        segment(xsphere.open(path).isel(time=slice(1, 4)), model),
    ]
    stored(ds + 1, path)
    others.append(segment(path, model))
    assert len({name, *(other.data.name for other in others)}) == 1 + len(others)


def test_the_run_is_recorded(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    attrs = ds.PSL.attrs | {"units": "hPa"}
    ds["PSL"] = (ds.PSL / 100).assign_attrs(attrs)
    path = stored(ds, tmp_path / "x.zarr")
    mask = segment(path, model)
    text = mask.attrs["xsphere_run"]
    record = json.loads(text)
    assert text == json.dumps(record, sort_keys=True)
    assert set(record) == {"schema", "model", "grid", "inputs", "options"}
    assert record["schema"] == 2
    assert record["inputs"]["dims"] == [["time", "lat", "lon"]] * 3
    assert record["inputs"]["dtypes"] == ["<f4"] * 3
    assert record["model"] == model.digest
    grid = ds.sphere.grid.grid
    assert record["grid"] == {"source": grid.fingerprint, "target": HealpixGrid(2).fingerprint}
    assert record["options"]["variables"] == list(NAMES)
    assert record["options"]["conversions"] == [[100.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    assert record["options"]["output"] == "mask"
    assert record["options"]["precision"] == "float32"
    assert record["options"]["missing_chunks"] == "raise"
    # how it is run is not what it is
    assert segment(path, model, block_size=1, batch_size=2).attrs["xsphere_run"] == text
    others = [
        segment(path, storm_model(seed=1)),
        segment(path, model, output="probability"),
        segment(path, model, grid="source"),
        segment(path, model, missing_chunks="fill"),
        segment(xsphere.open(path).astype("f8", keep_attrs=True), model),
    ]
    for other in others:
        assert other.attrs["xsphere_run"] != text


def original(block: Any) -> Any:
    """A user's own function, named like a layer of dask's."""
    return block + 3000.0


@pytest.mark.parametrize("rechunked", [False, True])
def test_what_was_computed_with_is_segmented_as_it_is(
    model: Model, tmp_path: Path, rechunked: bool
) -> None:
    plain = storm_dataset(n_times=4)
    ds = xr.open_zarr(stored(plain, tmp_path / "x.zarr"), consolidated=False)
    data = ds.PSL.data.map_blocks(original)
    changed = ds.assign(PSL=ds.PSL.copy(data=data.rechunk((1, -1, -1)) if rechunked else data))
    result = segment(changed, model, output="probability")
    shifted = (plain.PSL + 3000.0).assign_attrs(plain.PSL.attrs)
    want = segment(plain.assign(PSL=shifted), model, output="probability")
    xr.testing.assert_allclose(result.compute(), want)


def edited(path: Path, change: Callable[[xr.Dataset], xr.Dataset]) -> xr.Dataset:
    """A changed dataset that was stored and is not read."""
    return xsphere.open(stored(change(storm_dataset(n_times=4)), path))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cells_that_are_not_finite(model: Model, tmp_path: Path, bad: float) -> None:
    ds = storm_dataset(n_times=4)
    ds["PSL"][1, 3:8, 5:20] = bad
    ds["U850"][3] = np.nan
    path = stored(ds, tmp_path / "x.zarr")
    mask = segment(path, model).compute()
    np.testing.assert_array_equal(mask, segment(ds, model))
    assert (mask.isel(time=3) == 254).all()
    assert 0 < (mask.isel(time=1) == 254).sum() < 192
    assert not (mask.isel(time=[0, 2]) == 254).any()
    probability = segment(path, model, output="probability").compute()
    np.testing.assert_array_equal(np.isnan(probability).any("class"), mask == 254)


def test_unread_data_without_a_finite_value_are_invalid(model: Model, tmp_path: Path) -> None:
    ds = edited(tmp_path / "x.zarr", lambda ds: ds.assign(U850=ds.U850.where(False)))
    assert (segment(tmp_path / "x.zarr", model, missing_chunks="invalid") == 254).all()
    with pytest.raises(ValueError, match="missing_chunks='invalid' is decided where a store is op"):
        segment(ds, model, missing_chunks="invalid")
    # chunks of nothing but the fill value are not in the store: that is said, not assumed
    with pytest.raises(MissingChunkError, match="missing_chunks='invalid' makes its cells missing"):
        segment(ds, model).compute()


def test_a_land_mask_is_invalid_where_it_is(model: Model, tmp_path: Path) -> None:
    land = np.zeros((19, 36), bool)
    land[5:12, 8:16] = True
    ds = storm_dataset(n_times=4)
    ds["PSL"] = ds.PSL.where(~xr.DataArray(land, dims=("lat", "lon"))).assign_attrs(ds.PSL.attrs)
    mask = segment(stored(ds, tmp_path / "x.zarr"), model).compute()
    invalid = mask == 254
    assert invalid.any()
    assert (invalid == invalid.isel(time=0)).all()
    lon, lat = model.grid.centre_lonlat
    near = (lon > 60) & (lon < 175) & (lat > -60) & (lat < 45)
    assert not invalid.values[:, ~near].any()


@pytest.mark.parametrize("how", ["descending", "lon180", "cyclic", "float32", "jitter", "names"])
def test_ways_to_write_the_grid(model: Model, tmp_path: Path, how: str) -> None:
    def change(ds: xr.Dataset) -> xr.Dataset:
        match how:
            case "descending":
                return ds.isel(lat=slice(None, None, -1))
            case "lon180":
                lon = ds.lon.copy(data=(ds.lon.values + 180) % 360 - 180)
                return ds.assign_coords(lon=lon).sortby("lon")
            case "cyclic":
                first = ds.isel(lon=[0]).assign_coords(lon=("lon", [360.0], ds.lon.attrs))
                return xr.concat([ds, first], "lon", data_vars="all")
            case "float32":
                return ds.assign_coords(lon=ds.lon.astype("f4"), lat=ds.lat.astype("f4"))
            case "jitter":
                shift = 1e-6 * np.random.default_rng(0).standard_normal(36)
                return ds.assign_coords(lon=ds.lon.copy(data=ds.lon.values + shift))
        return ds.rename(lat="latitude", lon="longitude", PSL="msl")

    expected = segment(storm_dataset(n_times=4), model, output="probability")
    result = segment(edited(tmp_path / "x.zarr", change), model, output="probability")
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "packed"])
def test_ways_to_write_the_values(model: Model, tmp_path: Path, dtype: str) -> None:
    ds = storm_dataset(n_times=4)
    path = tmp_path / "x.zarr"
    if dtype == "packed":
        packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1e5, "_FillValue": -32768}
        winds = packing | {"add_offset": 0.0}
        encoding = {"PSL": packing | {"scale_factor": 0.5}, "U850": winds, "V850": winds}
        ds.to_zarr(path, consolidated=False, encoding=encoding)
    elif dtype == "f2":
        attrs = ds.PSL.attrs | {"units": "hPa"}
        stored(ds.assign(PSL=(ds.PSL / 100).assign_attrs(attrs)).astype("f2"), path)
    else:
        stored(ds.astype(dtype), path)
    lazy = xsphere.open(path)
    if dtype == "packed":
        assert lazy.PSL.dtype == np.float64
    result = segment(lazy, model, output="probability")
    assert result.dtype == np.float32
    # the same bits as in memory, and close to what was written
    np.testing.assert_array_equal(
        result, segment(xsphere.open(path).load(), model, output="probability")
    )
    tolerance = 0.3 if dtype == "f2" else 5e-3
    np.testing.assert_allclose(result, segment(ds, model, output="probability"), atol=tolerance)


def test_packed_data_that_are_not_decoded_are_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    packing = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 1e5, "_FillValue": -32768}
    storm_dataset().to_zarr(path, consolidated=False, encoding={"PSL": packing})
    raw = xr.open_dataset(path, engine="zarr", consolidated=False, mask_and_scale=False)
    with pytest.raises(ValueError, match=r"'PSL' holds packed integers.*mask_and_scale=True"):
        segment(raw, model)


def test_times_may_repeat_and_be_in_any_order(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4).isel(time=[2, 0, 0, 3, 1])
    mask = segment(stored(ds, tmp_path / "x.zarr"), model, block_size=2)
    np.testing.assert_array_equal(mask.time, ds.time)
    np.testing.assert_array_equal(mask, segment(storm_dataset(n_times=4), model)[[2, 0, 0, 3, 1]])


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars(model: Model, tmp_path: Path, calendar: str) -> None:
    times = xr.date_range("2001-02-27", periods=4, calendar=calendar, use_cftime=True)
    ds = storm_dataset(n_times=4).assign_coords(time=times)
    mask = segment(stored(ds, tmp_path / "x.zarr"), model, block_size=3)
    assert list(mask.time.values) == list(times)
    np.testing.assert_array_equal(mask, segment(storm_dataset(n_times=4), model))


def test_empty_time(model: Model, tmp_path: Path) -> None:
    ds = xsphere.open(stored(storm_dataset(), tmp_path / "x.zarr"))
    with pytest.raises(ValueError, match=r"nothing to segment: the dimensions \['time'\]"):
        segment(ds.isel(time=[]), model)


def test_more_variables_in_another_order(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    other = xr.Dataset({"T2": ds.PSL * 0, "V850": ds.V850, "U850": ds.U850, "PSL": ds.PSL})
    lazy, seen = counted(stored(other, tmp_path / "x.zarr"))
    np.testing.assert_array_equal(segment(lazy, model), segment(ds, model))
    assert not any(key.startswith("T2/") for key in seen)
    with pytest.raises(ValueError, match="U850: missing"):
        segment(lazy.drop_vars("U850"), model)


def test_nothing_where_the_path_says(model: Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        segment(tmp_path / "none.zarr", model)
    (tmp_path / "x.nc").write_text("no dataset")
    with pytest.raises(UnreadableFileError, match="cannot be read as a dataset"):
        segment(tmp_path / "x.nc", model)


def test_what_is_no_dataset(model: Model) -> None:
    with pytest.raises(TypeError, match=r"expected an xarray Dataset or the path of one, got Data"):
        segment(storm_dataset().PSL, model)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunked", [False, True])
def test_blocks_are_chosen_only_where_there_are_some(model: Model, chunked: bool) -> None:
    ds = storm_dataset().chunk(time=1) if chunked else storm_dataset()
    with pytest.raises(ValueError, match=r"block_size=2 is for datasets that are neither"):
        segment(ds, model, block_size=2)
    with pytest.raises(ValueError, match=r"block_size must be a positive integer, got 0"):
        segment(ds, model, block_size=0)


def test_what_counts_as_unread(tmp_path: Path) -> None:
    ds = xr.open_dataset(
        stored(storm_dataset(), tmp_path / "x.zarr"), engine="zarr", consolidated=False
    )
    assert is_unread(ds.PSL.variable)
    assert is_unread(ds.PSL.isel(time=0).transpose("lon", "lat").variable)
    assert not is_unread(ds.PSL.chunk().variable)
    assert not is_unread(ds.time.variable)
    ds.PSL.load()
    assert not is_unread(ds.PSL.variable)


def test_size_zero_needs_no_model() -> None:
    handle = ModelHandle("0" * 64, level=2, n_classes=3, path="/nowhere")
    grid = LatLonGrid(np.arange(36) * 10.0, np.linspace(-90, 90, 19))
    conversions = ((1.0, 0.0),) * 3
    node = SegmentNode(handle, grid, conversions)
    assert node(*np.empty((3, 0, 19, 36), "f4")).shape == (0, 192)
    assert node(*np.empty((3, 0, 0, 0), "f4")).shape == (0, 192)
    chances = SegmentNode(handle, grid, conversions, output="probability", target=grid)
    empty = chances(*np.empty((3, 4, 0, 19, 36), "f4"))
    assert (empty.shape, empty.dtype) == ((4, 0, 3, 19, 36), np.float32)


def test_units_have_a_factor_and_an_offset(model: Model) -> None:
    handle, grid = ModelHandle.of(model), model.grid
    plain = SegmentNode(handle, grid, ((1.0, 0.0),) * 3, output="probability")
    node = SegmentNode(handle, grid, ((2.0, 1e5), (1.0, 0.0), (0.5, -3.0)), output="probability")
    # on the model's grid: nothing is regridded, and the order of operations plays no part
    given = np.random.default_rng(0).integers(-20, 20, (3, 4, grid.n_cells)).astype("f4")
    given[0] += 500
    wanted = [given[0] * 2 + 1e5, given[1], given[2] * 0.5 - 3]
    np.testing.assert_array_equal(node(*given), plain(*np.asarray(wanted, "f4")))


def test_fields_are_regridded_in_their_own_units(model: Model) -> None:
    """As `to_healpix` makes and caches keep them: then the units change no bit of them."""
    ds = storm_dataset()
    ds["PSL"] = (ds.PSL.astype("f8") - 1e5).astype("f4").assign_attrs(ds.PSL.attrs)
    handle, conversions = ModelHandle.of(model), ((2.0, 1e5), (1.0, 0.0), (0.5, -3.0))
    node = SegmentNode(handle, ds.sphere.grid.grid, conversions, output="probability")
    there = SegmentNode(handle, model.grid, conversions, output="probability")
    on_grid = ds.sphere.to_healpix(model.level, method=model.spec.regridding)
    np.testing.assert_array_equal(
        node(*(ds[name].values for name in ds)), there(*(on_grid[name].values for name in ds))
    )


def test_node_of_a_large_grid_is_small(model: Model) -> None:
    grid = LatLonGrid(np.arange(1440) * 0.25, np.linspace(90, -90, 721))
    node = SegmentNode(ModelHandle.of(model), grid, ((1.0, 0.0),) * 16, target=grid)
    assert len(pickle.dumps(node)) < 4000
    assert pickle.loads(pickle.dumps(node)) == node
    assert tokenize(pickle.loads(pickle.dumps(node))) == tokenize(node)


def test_graphs_are_made_of_public_parts(model: Model, tmp_path: Path) -> None:
    mask = segment(stored(storm_dataset(), tmp_path / "x.zarr"), model, block_size=1)
    assert isinstance(mask.data.dask, HighLevelGraph)
    both = xr.Dataset({"a": mask, "b": mask == 0}).compute()
    np.testing.assert_array_equal(both.b, both.a == 0)


def test_blocks_may_be_computed_by_many_threads(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(n_times=16)
    mask = segment(stored(ds, tmp_path / "x.zarr"), model, block_size=1)
    before = threading.active_count()
    with dask.config.set(scheduler="threads", num_workers=8):
        result = mask.compute()
    np.testing.assert_array_equal(result, segment(ds, model))
    assert threading.active_count() >= before
