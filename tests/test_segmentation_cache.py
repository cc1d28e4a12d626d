"""Fields that were regridded before are read by the next run: no bit and no block changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.model import Model
from xsphere.nn.training import TrainingOptions
from xsphere.regridding.node import RegridNode, VectorNode
from xsphere.segmentation import device_regridding, segment
from xsphere.sources import UncheckedChunksWarning, cache_regridded
from xsphere.sources.inputs import kept_inputs
from xsphere.sources.regrid_cache import cached_fields
from xsphere.stages import stage, timed

KINDS = pytest.mark.parametrize("kind", ["path", "unread", "chunked", "transformed"])
LEVEL = 2


@pytest.fixture(autouse=True)
def own_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # blocks of the source's own chunks
    monkeypatch.setattr("xsphere.sources.field_store.USUAL_BLOCK", 1)
    return cache_folder


@pytest.fixture
def model() -> Model:
    return storm_model(LEVEL)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    ds = storm_dataset(n_times=7)
    ds["PSL"] = ds.PSL.astype("f8")
    ds["PSL"].attrs |= {"units": "hPa"}
    ds["PSL"] /= 100
    ds["PSL"].attrs = {"standard_name": "air_pressure_at_mean_sea_level", "units": "hPa"}
    ds["U850"][3, 5:9] = np.nan
    ds.to_zarr(
        path, encoding={name: {"chunks": (2, 19, 36)} for name in ds.data_vars}, consolidated=False
    )
    return path


def opened(store: Path, kind: str) -> Any:
    match kind:
        case "path":
            return store
        case "unread":
            return xr.open_zarr(store, chunks=None, consolidated=False)
        case "chunked":
            return xr.open_zarr(store, chunks={"time": 4}, consolidated=False)
    ds = xr.open_zarr(store, chunks={}, consolidated=False)
    return ds.assign({name: ds[name].copy(data=ds[name].data * 1) for name in ds.data_vars})


def source(store: Path, kind: str) -> xr.Dataset:
    found: xr.Dataset = xsphere.open(store) if kind == "path" else opened(store, kind)
    return found


class Work:
    """How many maps were regridded, by the cache and by segment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = self.moved = 0
        for kind in (RegridNode, VectorNode):
            call = kind.__call__

            def counting(node: Any, *values: Any, call: Any = call) -> Any:
                self.kept += values[0].size > 0
                return call(node, *values)

            monkeypatch.setattr(kind, "__call__", counting)
        on_cpu = device_regridding._on_cpu

        def moving(*arguments: Any) -> Any:
            self.moved += 1
            return on_cpu(*arguments)

        monkeypatch.setattr(device_regridding, "_on_cpu", moving)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@KINDS
@pytest.mark.parametrize(
    "options", [{}, {"output": "probability", "grid": "source"}, {"grid": "source"}]
)
def test_the_cache_changes_neither_bits_nor_blocks(
    store: Path, model: Model, kind: str, options: dict[str, Any], work: Work
) -> None:
    plain = segment(opened(store, kind), model, **options)
    want = plain.compute()
    assert work.moved > 0
    cache_regridded(source(store, kind), LEVEL, method=model.spec.regridding)
    work.moved = 0
    # empty at first: what is missing is made and kept
    for made in (True, False):
        kept = segment(opened(store, kind), model, **options)
        assert kept.chunks == plain.chunks
        before = work.kept
        xr.testing.assert_identical(kept.compute(), want)
        assert (work.kept > before) == made or kind == "transformed"
        assert work.moved == 0


def test_blocks_asked_for_stay_what_they_are(store: Path, model: Model) -> None:
    want = segment(store, model, block_size=3)
    cache_regridded(source(store, "path"), LEVEL, method=model.spec.regridding)
    kept = segment(store, model, block_size=3)
    assert kept.chunks == want.chunks == ((3, 3, 1), (192,))
    xr.testing.assert_identical(kept.compute(), want.compute())


def test_a_run_goes_on_whether_there_is_a_cache_or_not(
    store: Path, model: Model, tmp_path: Path, own_cache: Path
) -> None:
    out = tmp_path / "mask.zarr"
    path_of = segment(store, model, block_size=2)
    xsphere.write_blocks(path_of, out)
    chunk = out / "mask" / "c" / "1" / "0"
    whole = chunk.read_bytes()
    chunk.unlink()
    cache_regridded(source(store, "path"), LEVEL, method=model.spec.regridding)
    report = xsphere.write_blocks(segment(store, model, block_size=2), out)
    assert report.written == 1
    assert chunk.read_bytes() == whole
    shutil.rmtree(own_cache / "v1" / "regridded")
    assert xsphere.write_blocks(segment(store, model, block_size=2), out).written == 0


def test_another_method_level_or_edit_is_not_used(store: Path, model: Model, work: Work) -> None:
    ds = source(store, "path")
    cache_regridded(ds, LEVEL, method="nearest")
    cache_regridded(ds, LEVEL + 1, method=model.spec.regridding)
    segment(store, model).compute()
    assert (work.kept, work.moved > 0) == (0, True)
    cache_regridded(ds, LEVEL, method=model.spec.regridding).compute()
    work.kept = work.moved = 0
    edited = storm_dataset(n_times=7, seed=5)
    edited.U850.astype("f4").to_dataset().to_zarr(store, mode="r+", consolidated=False)
    found = segment(store, model).compute()
    # winds were edited, the pressure was not: all or nothing is used
    assert (work.kept, work.moved > 0) == (0, True)
    fresh = segment(source(store, "unread").load(), model)
    np.testing.assert_array_equal(found, fresh)


def test_building_reads_and_computes_nothing(store: Path, model: Model) -> None:
    cache_regridded(source(store, "path"), LEVEL, method=model.spec.regridding)
    for file in store.glob("[PUV]*/*.0.0"):
        file.write_bytes(b"")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=never):
        for kind in ("path", "unread", "chunked", "transformed"):
            segment(opened(store, kind), model)


def test_keys_are_the_same_in_every_run(store: Path, model: Model) -> None:
    cache_regridded(source(store, "path"), LEVEL, method=model.spec.regridding)
    first, second = (segment(store, model) for _ in range(2))
    assert first.data.name == second.data.name
    assert tokenize(first) == tokenize(second)
    chunked = [segment(opened(store, "chunked"), model).data for _ in range(2)]
    assert chunked[0].name == chunked[1].name
    assert set(chunked[0].dask) == set(chunked[1].dask)


def test_the_record_of_the_run_is_that_of_the_source(store: Path, model: Model) -> None:
    plain = json.loads(segment(store, model).attrs["xsphere_run"])
    cache_regridded(source(store, "path"), LEVEL, method=model.spec.regridding)
    assert json.loads(segment(store, model).attrs["xsphere_run"]) == plain


@pytest.mark.parametrize("reason", ["half", "flags", "mixed", "memory", "grid"])
def test_what_would_have_other_bits_is_not_used(model: Model, reason: str, tmp_path: Path) -> None:
    ds = storm_dataset()
    match reason:
        case "half":
            ds["U850"], ds["V850"] = (ds[n].astype("f2") for n in ("U850", "V850"))
        case "flags":
            ds["PSL"].attrs |= {"flag_values": [0, 1], "flag_meanings": "low high"}
        case "mixed":
            ds["U850"] = ds.U850.astype("f8")
        case "grid":
            ds = ds.sphere.to_healpix(LEVEL)
    for name, units in (("PSL", "Pa"), ("U850", "m s-1"), ("V850", "m s-1")):
        ds[name].attrs["units"] = units
    lazy = ds if reason == "memory" else ds.chunk(time=1)
    from xsphere.model.inputs import matched_variables

    assert kept_inputs(lazy, model.spec, matched_variables(lazy, model.spec)) is None
    # else it would be: the same with nothing against it
    if reason == "memory":
        cache_regridded(ds.chunk(time=1), LEVEL, method=model.spec.regridding)
        chunked = ds.chunk(time=1)
        matches = matched_variables(chunked, model.spec)
        assert kept_inputs(chunked, model.spec, matches) is not None


@examples(30)
@given(st.data())
def test_kept_fields_can_be_indexed_like_any_other(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "kept-index"
    with xsphere.set_options(cache_dir=str(folder / "cache")):
        if not folder.exists():
            folder.mkdir()
            storm_dataset(n_times=7)[["PSL"]].to_zarr(
                folder / "a.zarr", encoding={"PSL": {"chunks": (3, 19, 36)}}, consolidated=False
            )
        ds = source(folder / "a.zarr", "unread")
        cache_regridded(ds, 0)
        kept = cached_fields(ds, 0)
        assert kept is not None
        want = ds.sphere.to_healpix(0).PSL
        index = {}
        for dim, size in want.sizes.items():
            numbers = st.integers(-size, size - 1)
            # xarray itself stumbles over empty slices that go backwards
            slices = st.slices(size).filter(lambda s, n=size: len(range(n)[s]) or (s.step or 1) > 0)
            index[dim] = data.draw(st.one_of(numbers, slices, st.lists(numbers, max_size=5)))
        found = kept.PSL.isel(index)
        xr.testing.assert_equal(found, want.isel(index))


def test_fit_reads_what_is_kept(store: Path, work: Work) -> None:
    ds = source(store, "unread")
    # read from another object: xarray keeps what it has read
    lows = (source(store, "unread").PSL < 1008.0).astype("uint8").compute()
    lows.attrs = {"flag_values": [0, 1], "flag_meanings": "background deep_low"}
    options: dict[str, Any] = {
        "level": LEVEL,
        # a store is not always listed in the same order
        "variables": ["PSL", "U850", "V850"],
        "validation": 0.3,
        "progress": False,
        "architecture": {"features": (4,), "depths": (0,)},
        "options": TrainingOptions(epochs=1),
    }
    plain = xsphere.fit(ds, lows, **options)
    cache_regridded(ds, LEVEL, method=plain.spec.regridding).compute()
    work.kept = 0
    assert xsphere.fit(source(store, "unread"), lows, **options) == plain
    # labels are regridded, fields are not
    assert work.kept == 1


def test_fit_refuses_chunks_that_are_missing(store: Path) -> None:
    ds = source(store, "path")
    labels = (ds.PSL < 1008.0).astype("uint8")
    labels.attrs = {"flag_values": [0, 1], "flag_meanings": "background deep_low"}
    labels.rename("low").to_dataset().to_zarr(store.with_name("b.zarr"), consolidated=False)
    stored = xsphere.open(store.with_name("b.zarr")).low
    options: dict[str, Any] = {
        "level": LEVEL,
        "variables": ["PSL"],
        "progress": False,
        "architecture": {"features": (4,), "depths": (0,)},
        "options": TrainingOptions(epochs=1),
    }
    next(
        file for file in (store.with_name("b.zarr") / "low" / "c").rglob("0") if file.is_file()
    ).unlink()
    with pytest.raises(xsphere.sources.MissingChunkError, match="low"):
        xsphere.fit(ds, stored, **options)
    (store / "PSL" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(xsphere.sources.MissingChunkError, match="PSL"):
        xsphere.fit(source(store, "path"), labels.compute(), **options)
    labels.rename("low").to_dataset().compute().to_zarr(
        store.with_name("c.zarr"),
        consolidated=False,
        encoding={"low": {"fill_value": 0, "chunks": (1, 19, 36)}},
    )
    (store.with_name("c.zarr") / "low" / "c" / "6" / "0" / "0").unlink()
    filled = xr.open_zarr(store.with_name("c.zarr"), chunks=None, consolidated=False).low
    with pytest.warns(UncheckedChunksWarning, match="'low' was opened by xarray"):
        xsphere.fit(source(store, "unread"), filled, **options)


def test_stages_within_stages_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 13.0])
    monkeypatch.setattr("xsphere.stages.time.perf_counter", lambda: next(now))
    with timed() as seconds:
        with stage("read"), stage("regrid"):
            pass
        with stage("read"):
            pass
    assert seconds == {"read": 1.0 + 3.0 + 3.0, "regrid": 2.0}


@pytest.mark.slow
def test_a_plan_counts_what_is_read_from_the_cache(store: Path, model: Model) -> None:
    cache_regridded(source(store, "path"), LEVEL, method=model.spec.regridding).compute()
    planned = xsphere.plan(store, model, block_size=2)
    assert planned.n_blocks == 4
    # fields of the model's grid, each step of each variable once
    assert planned.bytes_decoded == 7 * 192 * (8 + 4 + 4)
    assert set(planned.seconds) >= {"read", "infer", "write"}
