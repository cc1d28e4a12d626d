"""Regridded fields that are kept: the bits of to_healpix, computed once, never those of others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import BlocksFailed, OtherRunError, verify_store
from xsphere.nn.training import TrainingOptions
from xsphere.regridded import cache_regridded
from xsphere.regridding import to_healpix
from xsphere.regridding.node import RegridNode, VectorNode
from xsphere.segmentation import segment
from xsphere.sources import MissingChunkError, UncheckedChunksWarning

LEVEL = 2
KINDS = pytest.mark.parametrize("kind", ["strict", "unread", "chunked", "transformed", "memory"])


def example() -> xr.Dataset:
    """Maps of a storm, a land mask without times, a series without a map."""
    ds = storm_dataset(n_times=5)
    ds["PSL"] = ds.PSL.astype("f8")
    ds["U850"][3, 5:9] = np.nan
    ds["land"] = (("lat", "lon"), (ds.PSL[0].values > 101200).astype("u1"))
    ds["land"].attrs = {"flag_values": np.array([0, 1], "u1"), "flag_meanings": "sea land"}
    return ds.assign(count=("time", np.arange(5)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    encoding = {name: {"chunks": (2, 19, 36)} for name in ("PSL", "U850", "V850")}
    example().to_zarr(path, encoding=encoding, consolidated=False)
    return path


def opened(store: Path, kind: str) -> xr.Dataset:
    match kind:
        case "strict":
            return xsphere.open(store)
        case "memory":
            return example()
    chunked = xr.open_zarr(store, chunks=None if kind == "unread" else {}, consolidated=False)
    if kind == "transformed":
        names = ("PSL", "U850", "V850")
        return chunked.assign({n: chunked[n].copy(data=chunked[n].data * 1) for n in names})
    return chunked


class Counter:
    """How often fields were regridded."""

    calls = 0


@pytest.fixture
def regridded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    for kind in (RegridNode, VectorNode):
        call = kind.__call__

        def counting(self: Any, *values: Any, call: Any = call) -> Any:
            counter.calls += bool(values[0].size)
            return call(self, *values)

        monkeypatch.setattr(kind, "__call__", counting)
    return counter


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the source's own chunks."""
    monkeypatch.setattr("xsphere.store.BLOCK_BYTES", 1)


@KINDS
def test_fields_have_the_bits_of_to_healpix_and_are_made_once(
    store: Path, tmp_path: Path, kind: str, small_blocks: None, regridded: Counter
) -> None:
    want = to_healpix(example(), LEVEL)
    regridded.calls = 0
    fields = cache_regridded(opened(store, kind), LEVEL, tmp_path / "x.zarr", workers=1)
    assert regridded.calls > 2
    xr.testing.assert_equal(fields.compute(), want)
    assert {n: (f.dtype, f.dims) for n, f in fields.items()} == {
        n: (f.dtype, f.dims) for n, f in want.items()
    }
    assert fields.sphere.grid.grid == want.sphere.grid.grid
    # of all the blocks of a store that is there, nothing is computed; maps without times are small
    regridded.calls = 0
    cache_regridded(opened(store, kind), LEVEL, tmp_path / "x.zarr", workers=1)
    assert regridded.calls == 1
    assert verify_store(tmp_path / "x.zarr").ok


def test_what_is_missing_is_computed(
    store: Path, tmp_path: Path, small_blocks: None, regridded: Counter
) -> None:
    path = tmp_path / "x.zarr"
    want = cache_regridded(xsphere.open(store), LEVEL, path, variables=["PSL"]).load()
    (path / "PSL" / "c" / "1" / "0").unlink()
    regridded.calls = 0
    again = cache_regridded(xsphere.open(store), LEVEL, path, variables=["PSL"])
    assert regridded.calls == 1
    xr.testing.assert_identical(again.load(), want)


def test_what_fails_is_resumed(
    store: Path, tmp_path: Path, small_blocks: None, regridded: Counter
) -> None:
    path, chunk = tmp_path / "x.zarr", store / "PSL" / "c" / "1" / "0" / "0"
    good = chunk.read_bytes()
    chunk.unlink()
    options: dict[str, Any] = {"variables": ["PSL"], "workers": 1, "retries": 0}
    with pytest.raises(BlocksFailed) as failed:
        cache_regridded(xsphere.open(store), LEVEL, path, **options)
    assert isinstance(failed.value.__cause__, MissingChunkError)
    chunk.write_bytes(good)
    regridded.calls = 0
    options["repaired_source"] = True
    fields = cache_regridded(xsphere.open(store), LEVEL, path, **options)
    assert regridded.calls == 1
    xr.testing.assert_equal(fields.PSL.load(), to_healpix(example(), LEVEL).PSL)


def test_other_fields_are_refused(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    cache_regridded(xsphere.open(store), LEVEL, path, variables=["PSL"], method="nearest")
    others: list[dict[str, Any]] = [
        {"variables": ["PSL"], "method": "conservative"},
        {"variables": ["PSL"], "method": "nearest", "level": LEVEL + 1},
        {"variables": ["PSL", "U850", "V850"], "method": "nearest"},
    ]
    for options in others:
        with pytest.raises(OtherRunError):
            cache_regridded(xsphere.open(store), options.pop("level", LEVEL), path, **options)
    edited = storm_dataset(n_times=5, seed=5)[["PSL"]].astype("f8").drop_attrs()
    edited.to_zarr(store, mode="r+", consolidated=False)
    with pytest.raises(OtherRunError, match=r"source: .*PSL has changed"):
        cache_regridded(xsphere.open(store), LEVEL, path, variables=["PSL"], method="nearest")


def test_what_is_wrong_is_refused_before_any_work(store: Path, tmp_path: Path) -> None:
    ds, path = xsphere.open(store), tmp_path / "x.zarr"
    with pytest.raises(ValueError, match=r"no variables \['fog', 'count'\].*has .*'land'"):
        cache_regridded(ds, LEVEL, path, variables=["fog", "count", "PSL"])
    with pytest.raises(TypeError, match="expected a Dataset, got DataArray"):
        cache_regridded(ds.PSL, LEVEL, path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="what is read"):
        cache_regridded(ds, LEVEL, store, overwrite=True)
    assert not path.exists()


def test_models_read_what_is_kept(store: Path) -> None:
    model, ds = storm_model(LEVEL), xsphere.open(store)
    places: list[Any] = [zarr.storage.MemoryStore(), f"memory://{store.parent.name}.zarr"]
    for place in places:
        kept = cache_regridded(ds, LEVEL, place, workers=1)
        assert kept.PSL.chunks is None
        np.testing.assert_array_equal(segment(kept, model), segment(ds, model))


def test_fit_reads_what_is_kept(store: Path, tmp_path: Path) -> None:
    ds = xsphere.open(store)
    lows = (example().PSL < 100800.0).astype("uint8")
    lows.attrs = {"flag_values": [0, 1], "flag_meanings": "background deep_low"}
    options: dict[str, Any] = {
        "level": LEVEL,
        "variables": ["PSL", "U850", "V850"],
        "validation": 0.3,
        "progress": False,
        "architecture": {"features": (4,), "depths": (0,)},
        "options": TrainingOptions(epochs=1),
    }
    plain = xsphere.fit(ds, lows, **options)
    kept = cache_regridded(ds, LEVEL, tmp_path / "x.zarr")
    found = xsphere.fit(kept, lows, **options)
    assert found.tensors.keys() == plain.tensors.keys()
    for name, values in plain.tensors.items():
        np.testing.assert_allclose(found.tensors[name], values, rtol=1e-4, atol=1e-6)


def test_fit_refuses_chunks_that_are_missing(store: Path) -> None:
    ds = xsphere.open(store)
    labels = (ds.PSL < 100800.0).astype("uint8")
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
    with pytest.raises(MissingChunkError, match="low"):
        xsphere.fit(ds, stored, **options)
    (store / "PSL" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(MissingChunkError, match="PSL"):
        xsphere.fit(xsphere.open(store), labels.compute(), **options)
    labels.rename("low").to_dataset().compute().to_zarr(
        store.with_name("c.zarr"),
        consolidated=False,
        encoding={"low": {"fill_value": 0, "chunks": (1, 19, 36)}},
    )
    (store.with_name("c.zarr") / "low" / "c" / "4" / "0" / "0").unlink()
    filled = xr.open_zarr(store.with_name("c.zarr"), chunks=None, consolidated=False).low
    with pytest.warns(UncheckedChunksWarning, match="'low' was opened by xarray"):
        xsphere.fit(opened(store, "unread"), filled, **options)
