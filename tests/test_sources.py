"""Where data come from: told so that every edit is seen, read so that nothing is fooled."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import Blosc
from zarr.codecs import BloscCodec, ZstdCodec

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.segmentation import segment
from xsphere.sources import (
    CorruptChunkError,
    MissingChunkError,
    SourceError,
    UncheckedChunksWarning,
    UnreadableFileError,
    UnsafeSourceError,
    contents_read,
    opening,
)
from xsphere.sources.contents import _zarr_pieces
from xsphere.sources.opening import warn_of_unchecked
from xsphere.sources.reads import places_read
from xsphere.sources.zarr_store import codecs_of

# what is written, by a name: format, codec, shards
STORES: dict[str, tuple[int, dict[str, Any]]] = {
    "v2-blosc": (2, {"compressors": (Blosc(cname="lz4"),)}),
    "v3-zstd": (3, {"compressors": (ZstdCodec(level=1, checksum=True),)}),
    "v3-blosc": (3, {"compressors": (BloscCodec(cname="lz4"),)}),
    "v3-shards": (3, {"shards": (4, 5, 7), "compressors": (ZstdCodec(checksum=True),)}),
    "v3-shards-blosc": (3, {"shards": (4, 5, 7), "compressors": (BloscCodec(),)}),
}
CHUNKS = pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
KINDS = pytest.mark.parametrize("kind", STORES)


def example() -> xr.Dataset:
    rng = np.random.default_rng(1)
    times = np.datetime64("2000-01-01", "ns") + np.arange(8) * np.timedelta64(6, "h")
    return xr.Dataset(
        {
            "t": (("time", "lat", "lon"), rng.normal(280, 9, (8, 5, 7)).astype("f4")),
            "q": (("time", "lat", "lon"), rng.random((8, 5, 7)).astype("f4")),
        },
        {"time": times, "lat": np.linspace(-60, 60, 5), "lon": np.arange(7) * 50.0},
    )


def written(path: Path, kind: str = "v3-zstd", **encoding: Any) -> Path:
    fmt, own = STORES[kind]
    options = {"chunks": (2, 5, 7), **own, **encoding}
    ds = example()
    ds.to_zarr(
        path, zarr_format=fmt, consolidated=False, encoding={"t": options, "q": dict(options)}
    )
    return path


def opened(path: Path, chunks: Any = None, **options: Any) -> xr.Dataset:
    return xr.open_zarr(path, chunks=chunks, consolidated=False, **options)


def strictly(path: Any, chunks: Any = None, **options: Any) -> xr.Dataset:
    return xsphere.open(path, chunks=chunks, **options)


def chunk_file(path: Path, number: int, name: str = "t") -> Path:
    v2 = path / name / f"{number}.0.0"
    return v2 if v2.exists() else path / name / "c" / str(number) / "0" / "0"


def flip(file: Path, position: int, bit: int = 64) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= bit
    file.write_bytes(content)


class NoComputing:
    """A scheduler that nothing may call."""

    def __call__(self, *_args: object, **_options: object) -> None:
        raise AssertionError("something was computed")


def contents(ds: xr.Dataset) -> list[str]:
    """Digests of what is read, wherever it lies."""
    found = sorted(contents_read(ds).values())
    assert found
    return found


# what is read


@KINDS
@CHUNKS
def test_touching_nothing_changes_nothing(tmp_path: Path, kind: str, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr", kind)
    first = contents(opened(path, chunks))
    opened(path).load()
    assert first == contents(opened(path, chunks))


@KINDS
@CHUNKS
def test_an_edit_in_place_is_seen(tmp_path: Path, kind: str, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr", kind)
    before = contents_read(opened(path, chunks))
    array = zarr.open_array(path / "t", mode="r+")
    array[3] = array[3] + 1
    after = contents_read(opened(path, chunks))
    assert before.keys() == after.keys() == {str(path / name) for name in "qt"}
    assert {place for place in before if before[place] != after[place]} == {str(path / "t")}


def test_an_edit_in_place_is_seen_under_tasks(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    before = contents(opened(path, {}) * 2)
    array = zarr.open_array(path / "t", mode="r+")
    array[0] = 0.5
    assert contents(opened(path, {}) * 2) != before


def test_same_size_and_content_but_touched_is_another(tmp_path: Path) -> None:
    # whoever touches a chunk may have changed it: nothing is read to see
    path = written(tmp_path / "a.zarr")
    before = contents(opened(path))
    os.utime(chunk_file(path, 0), ns=(1, 1))
    assert contents(opened(path)) != before


def test_rechunked_data_are_known_by_what_they_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    for make in (lambda: opened(path, {}), lambda: opened(path, {"time": 4}).chunk(time=3)):
        assert contents(make()) == contents(make()) == contents(opened(path))


def test_a_store_is_the_same_by_any_path_and_when_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.zarr")
    first = contents(opened(path))
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert contents(opened(Path("../a.zarr"))) == first
    path.rename(tmp_path / "b.zarr")
    assert contents(opened(tmp_path / "b.zarr")) == first
    for chunks in (None, {}):
        found = places_read(opened(tmp_path / "b.zarr", chunks))
        assert found == {tmp_path / "b.zarr" / name for name in "qt"}


def test_fingerprints_are_equal_in_another_process(tmp_path: Path, elsewhere: Any) -> None:
    path = written(tmp_path / "a.zarr", "v2-blosc", dtype="i2", scale_factor=0.5, _FillValue=-1)
    code = (
        "import sys, json, xarray as xr; from xsphere.sources import contents_read;"
        "ds = xr.open_zarr(sys.argv[1], chunks=None, consolidated=False);"
        "parts = [ds, ds.isel(time=[1, 5]), ds.chunk(time=2) + 1];"
        "print(json.dumps([contents_read(part) for part in parts]))"
    )
    told = elsewhere(code, path)
    ds = opened(path)
    parts = [ds, ds.isel(time=[1, 5]), ds.chunk(time=2) + 1]
    assert json.loads(told) == [contents_read(part) for part in parts]


def test_what_is_selected_counts(tmp_path: Path) -> None:
    ds = opened(written(tmp_path / "a.zarr"))
    parts = [
        ds,
        ds.isel(time=slice(0, 4)),
        ds.isel(time=slice(4, 8)),
        ds.isel(time=slice(None, None, -1)),
        ds.isel(time=[0, 2]),
        ds.isel(lat=0),
        ds.isel(lat=slice(None, None, -1)),
    ]
    assert len({tuple(contents(part)) for part in parts}) == len(parts)


def test_only_the_chunks_of_a_selection_count(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    part = contents(opened(path).isel(time=slice(0, 4)))
    whole = contents(opened(path))
    os.utime(chunk_file(path, 3), ns=(1, 1))
    assert contents(opened(path).isel(time=slice(0, 4))) == part
    assert contents(opened(path)) != whole


def test_a_store_that_has_grown_is_the_same_for_what_was_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    first = contents(opened(path))
    later = example().assign_coords(time=example().time + np.timedelta64(2, "D"))
    later.to_zarr(path, append_dim="time", consolidated=False)
    assert contents(opened(path)) != first
    assert contents(opened(path).isel(time=slice(0, 8))) == first


def test_packing_and_units_count(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr", dtype="i2", scale_factor=0.5, _FillValue=-1)
    decoded, raw = opened(path), opened(path, mask_and_scale=False)
    assert contents(decoded) != contents(raw)
    group = zarr.open_group(path, mode="r+")
    before = contents(decoded)
    group["t"].attrs["scale_factor"] = 0.25
    assert contents(opened(path)) != before


def test_files_are_told_by_size_time_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    example().to_netcdf(path)
    with xr.open_dataset(path) as ds:
        first = contents(ds)
        assert contents(ds[["t"]]) != contents(ds[["q"]].rename(q="t"))
        assert places_read(ds) == {path}
    with xsphere.open(path) as ds:
        assert contents(ds) == first
    status = path.stat()
    flip(path, 20)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    flipped = path.read_bytes()
    flip(path, 20)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with xr.open_dataset(path) as ds:
        assert contents(ds) == first
        path.write_bytes(flipped)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert contents(ds) != first


def test_each_of_several_files_counts(tmp_path: Path) -> None:
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for path, part in zip(paths, (slice(0, 4), slice(4, 8)), strict=True):
        example().isel(time=part).to_netcdf(path)
    with xr.open_mfdataset(paths) as ds:
        first = contents(ds)
        assert places_read(ds) == {*paths}
    for path in paths:
        before = path.stat().st_mtime_ns
        os.utime(path, ns=(1, 1))
        with xr.open_mfdataset(paths) as ds:
            assert contents(ds) != first
        os.utime(path, ns=(before, before))


def test_building_and_asking_read_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.zarr")
    for number in range(4):
        # reading any of these would fail
        chunk_file(path, number).write_bytes(b"")
    with dask.config.set(scheduler=NoComputing()):
        for chunks in (None, {}):
            ds = strictly(path, chunks)
            assert places_read(ds)
            assert contents(ds.isel(time=slice(1, 3)) * 2 if chunks == {} else ds)


def test_remote_stores_are_told_by_their_listing() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    ds = example()
    ds.to_zarr("memory://xsphere-a.zarr", zarr_format=3, consolidated=False, mode="w")
    first = contents(xr.open_zarr("memory://xsphere-a.zarr", chunks=None, consolidated=False))
    again = contents(xr.open_zarr("memory://xsphere-a.zarr", chunks=None, consolidated=False))
    assert again == first
    key = next(name for name in memory.find("/xsphere-a.zarr/t") if "/c/" in name)
    memory.pipe_file(key, memory.cat_file(key))
    edited = contents(xr.open_zarr("memory://xsphere-a.zarr", chunks=None, consolidated=False))
    assert len(set(edited) & set(first)) == 1
    memory.rm("/xsphere-a.zarr", recursive=True)


def test_of_stores_that_list_nothing_nothing_is_told(tmp_path: Path) -> None:
    array = zarr.open_array(written(tmp_path / "a.zarr") / "t", mode="r")
    other = types.SimpleNamespace(store=types.SimpleNamespace(), path="t", metadata=array.metadata)
    other.shape, other.chunks, other.shards = array.shape, array.chunks, None
    assert _zarr_pieces(other, None) == []


def test_icechunk_is_told_by_its_snapshot(tmp_path: Path) -> None:
    array = zarr.open_array(written(tmp_path / "a.zarr") / "t", mode="r")
    session = types.SimpleNamespace(snapshot_id="VY76")
    other = types.SimpleNamespace(
        store=types.SimpleNamespace(session=session), path="t", metadata=array.metadata
    )
    other.shape, other.chunks, other.shards = array.shape, array.chunks, None
    assert _zarr_pieces(other, None) == ["t VY76"]


def test_stores_in_memory_and_zip_files(tmp_path: Path) -> None:
    store = zarr.storage.MemoryStore()
    example().to_zarr(store, zarr_format=3, consolidated=False)
    first = contents(xr.open_zarr(store, chunks=None, consolidated=False))
    array = zarr.open_array(store, path="t", mode="r+")
    array[0] = 1.0
    assert contents(xr.open_zarr(store, chunks=None, consolidated=False)) != first
    shutil.make_archive(str(tmp_path / "a"), "zip", written(tmp_path / "a.zarr"))
    with zarr.storage.ZipStore(tmp_path / "a.zip", mode="r") as zipped:
        before = contents(xr.open_zarr(zipped, chunks=None, consolidated=False))
        os.utime(tmp_path / "a.zip", ns=(1, 1))
        assert contents(xr.open_zarr(zipped, chunks=None, consolidated=False)) != before


@examples(30)
@given(
    start=st.integers(0, 7),
    stop=st.integers(1, 8),
    step=st.sampled_from([1, 2, 3]),
    touched=st.integers(0, 3),
)
def test_a_touched_chunk_counts_where_its_cells_are_selected(
    tmp_path_factory: pytest.TempPathFactory, start: int, stop: int, step: int, touched: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "shared.zarr"
    if not path.exists():
        written(path)
    chosen = range(start, stop, step)
    part = opened(path)[["t"]].isel(time=slice(start, stop, step))
    before = contents(part)
    file = chunk_file(path, touched)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert (contents(part) != before) == any(index // 2 == touched for index in chosen)


# strict reading


@KINDS
@CHUNKS
def test_checked_data_are_the_same_data(tmp_path: Path, kind: str, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr", kind)
    ds, strict = opened(path, chunks), strictly(path, chunks)
    if chunks is None:
        assert contents(strict) == contents(ds)
    assert {name: v.chunks for name, v in strict.items()} == {n: v.chunks for n, v in ds.items()}
    back = pickle.loads(pickle.dumps(strict))
    selections = [{}, {"time": slice(1, 6, 2)}, {"time": [5, 0], "lat": 2}, {"lon": slice(None, 2)}]
    for selection in selections:
        want = example().isel(selection)
        xr.testing.assert_identical(strict.isel(selection).drop_encoding().compute(), want)
        xr.testing.assert_identical(back.isel(selection).compute(), want)
    points = {"time": xr.DataArray([0, 7], dims="p"), "lat": xr.DataArray([1, 2], dims="p")}
    xr.testing.assert_identical(strict.isel(points).compute(), example().isel(points))


@KINDS
@CHUNKS
@pytest.mark.parametrize("harm", ["half", "empty", "one byte"])
def test_a_truncated_chunk_is_named(tmp_path: Path, kind: str, chunks: Any, harm: str) -> None:
    path = written(tmp_path / "a.zarr", kind)
    file = chunk_file(path, 1)
    keep = {"half": file.stat().st_size // 2, "empty": 0, "one byte": file.stat().st_size - 1}
    file.write_bytes(file.read_bytes()[: keep[harm]])
    ds = strictly(path, chunks)
    key = "t/1.0.0" if kind.startswith("v2") else "t/c/1/0/0"
    with pytest.raises(CorruptChunkError) as caught:
        ds.t.isel(time=slice(2, None)).compute()
    error = caught.value
    assert (error.variable, error.key) == ("t", key)
    first = 4 if "shards" in kind else 2
    assert error.where.startswith("time[")
    assert int(error.where[5]) >= first
    assert "2000-01-0" in error.where
    assert error.where in str(error)
    # what is whole can be read, and so can the other variable
    xr.testing.assert_equal(ds.q.compute(), example().q)
    intact = {"time": slice(0, first)}
    xr.testing.assert_equal(ds.t.isel(intact).compute(), example().t.isel(intact))


@CHUNKS
@pytest.mark.parametrize("kind", ["v3-zstd", "v3-shards"])
def test_flipped_bits_are_noticed_by_checksums(tmp_path: Path, kind: str, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr", kind)
    file = chunk_file(path, 1)
    for position in range(0, file.stat().st_size, 97):
        flip(file, position)
        with pytest.raises(CorruptChunkError, match="chunk 't/c/1/0/0'") as caught:
            strictly(path, chunks).t.compute()
        assert caught.value.variable == "t"
        flip(file, position)
    xr.testing.assert_equal(strictly(path, chunks).t.compute(), example().t)


def test_the_error_of_the_codec_is_the_cause(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    flip(chunk_file(path, 0), 30)
    with pytest.raises(CorruptChunkError, match="cannot be decoded") as caught:
        strictly(path).t.load()
    assert isinstance(caught.value.__cause__, RuntimeError | ValueError)


def test_every_truncation_of_blosc_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    # in a process of its own: decoding one of these can end it
    paths = [written(tmp_path / kind, kind) for kind in ("v2-blosc", "v3-blosc", "v3-shards-blosc")]
    code = """
import sys, pathlib, xarray as xr
import xsphere
from xsphere.sources import SourceError
for path, name in zip(sys.argv[1::2], sys.argv[2::2]):
    file = pathlib.Path(name); whole = file.read_bytes()
    for length in range(0, len(whole), 61):
        file.write_bytes(whole[:length])
        try:
            xsphere.open(path).t.load()
        except SourceError as error:
            assert 'Blosc' in str(error) or 'shard' in str(error), error
            continue
        raise SystemExit(f'length {length} was read')
print('all refused')
"""
    arguments = [str(x) for path in paths for x in (path, chunk_file(path, 1))]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "all refused"), done.stderr


@pytest.mark.parametrize(
    ("position", "told"), [(12, "tells of"), (4, "bytes unpacked, expected 280")]
)
def test_a_blosc_header_must_be_right(tmp_path: Path, position: int, told: str) -> None:
    path = written(tmp_path / "a.zarr", "v2-blosc")
    flip(chunk_file(path, 2), position, bit=1)
    with pytest.raises(CorruptChunkError, match=told):
        strictly(path).t.load()


@KINDS
@CHUNKS
def test_a_missing_chunk_is_no_data(tmp_path: Path, kind: str, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr", kind)
    chunk_file(path, 1).unlink()
    ds = strictly(path, chunks)
    with pytest.raises(MissingChunkError, match="missing_chunks='fill'") as caught:
        ds.t.compute()
    assert caught.value.key in ("t/1.0.0", "t/c/1/0/0")
    assert "time[" in caught.value.where
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), MissingChunkError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    xr.testing.assert_equal(
        ds.t.isel(time=slice(0, 2)).compute(), example().t.isel(time=slice(0, 2))
    )


@CHUNKS
@pytest.mark.parametrize("kind", ["v2-blosc", "v3-zstd"])
def test_missing_may_mean_invalid_or_fill(tmp_path: Path, kind: str, chunks: Any) -> None:
    # neither the fill value nor what means missing is NaN in the store
    packed = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 200.0, "_FillValue": -9}
    path = written(tmp_path / "a.zarr", kind, **packed)
    zarr_fill = zarr.open_array(path / "t", mode="r").fill_value
    want = opened(path).t.values
    chunk_file(path, 1).unlink()
    want[2:4] = np.nan
    invalid = strictly(path, chunks, missing_chunks="invalid").t.compute()
    np.testing.assert_array_equal(invalid, want)
    filled = strictly(path, chunks, missing_chunks="fill").t.compute()
    np.testing.assert_array_equal(filled, opened(path).t.load())
    if kind == "v3-zstd":
        assert zarr_fill == 0
        assert (filled[2:4] == 200.0).all()


def test_floats_need_no_fill_value_to_be_invalid(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr", fill_value=0.0)
    chunk_file(path, 1).unlink()
    assert (opened(path).t.isel(time=2) == 0).all()
    invalid = strictly(path, missing_chunks="invalid").t.load()
    assert np.isnan(invalid[2:4]).all()
    assert np.isfinite(invalid[:2]).all()


def test_integers_without_a_value_for_missing_cannot_be_invalid(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    ds = (example() * 0).astype("i2") + 1
    ds.to_zarr(path, zarr_format=3, consolidated=False, encoding={"t": {"chunks": (2, 5, 7)}})
    strict = strictly(path, missing_chunks="invalid")
    xr.testing.assert_equal(strict.t[:2].load(), ds.t[:2])
    chunk_file(path, 1).unlink()
    with pytest.raises(MissingChunkError):
        strict.t.load()
    # not even where the file says so, if nothing decodes it
    group = zarr.open_group(path, mode="r+")
    group["t"].attrs["_FillValue"] = -1
    with pytest.raises(MissingChunkError):
        strictly(path, mask_and_scale=False, missing_chunks="invalid").t.load()


def test_a_chunk_that_a_shard_lacks_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    ds = example()
    ds["t"][2:4] = 0.0
    options = {"chunks": (2, 5, 7), "shards": (4, 5, 7), "fill_value": 0.0}
    ds.to_zarr(path, zarr_format=3, consolidated=False, encoding={"t": options})
    with pytest.raises(MissingChunkError, match=r"time\[2:4\] of 8 .*shard does not hold it"):
        strictly(path).t.load()
    filled = strictly(path, missing_chunks="fill").t.load()
    np.testing.assert_array_equal(filled, ds.t)
    assert np.isnan(strictly(path, missing_chunks="invalid").t[2:4]).all()


def test_selected_rechunked_and_computed_data_are_checked_too(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    names = {strictly(path, {}).t.data.name for _ in range(2)}
    assert len(names) == 1
    assert opened(path, {}).t.data.name not in names
    parts = {"time": slice(1, 7, 2), "lat": slice(None, None, -1)}
    several = [
        (strictly(path, {}, inline_array=True), example()),
        (strictly(path, {}).chunk(time=3, lat=2), example()),
        (strictly(path).chunk(time=3), example()),
        (strictly(path, {}).isel(parts).chunk(time=2, lon=3), example().isel(parts)),
        (strictly(path, {}) * 2 + 1, example() * 2 + 1),
        (strictly(path, {}).map(np.sqrt), np.sqrt(example())),
    ]
    for source, want in several:
        xr.testing.assert_allclose(source.compute(), want)
    chunk_file(path, 1).unlink()
    for source, _ in several:
        with pytest.raises(MissingChunkError):
            source.t.compute()


def original(block: Any) -> Any:
    return block + 1


def strict(block: Any) -> Any:
    return block + 1


def getter(block: Any, *_: Any) -> Any:
    return block + 1


def renamed(data: Any, name: str) -> Any:
    """A user's own layer, under the name of one of dask's or ours."""
    return da.map_blocks(lambda block: block + 1, data, name=f"{name}{data.name[-8:]}", dtype="f8")


COMPUTED = {
    "original": lambda data: data.map_blocks(original, dtype=data.dtype),
    "strict": lambda data: data.map_blocks(strict, dtype=data.dtype),
    "getter": lambda data: data.map_blocks(getter, dtype=data.dtype),
    "rechunked": lambda data: data.map_blocks(original, dtype=data.dtype).rechunk((3, 5, 7)),
    "delayed": lambda data: da.concatenate(
        [da.from_delayed(dask.delayed(original)(data[:4]), (4, 5, 7), data.dtype), data[4:] + 1]
    ),
    **{
        prefix: lambda data, prefix=prefix: renamed(data, prefix)
        for prefix in (
            "original-", "strict-", "xarray-", "open_dataset-", "rechunk-merge-", "rechunk-split-",
            "getitem-",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("how", COMPUTED)
def test_what_the_user_computes_is_kept_whatever_it_is_called(tmp_path: Path, how: str) -> None:
    path = written(tmp_path / "a.zarr")
    ds = opened(path, {})[["t"]]
    computed = ds.assign(t=ds.t.copy(data=COMPUTED[how](ds.t.data)))
    want = example()[["t"]] + 1
    xr.testing.assert_allclose(computed.compute(), want)
    assert contents(computed) == contents(ds)


def test_missing_chunks_of_what_xarray_opened_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.zarr", fill_value=0.0)
    several = [opened(path), opened(path, {}), opened(path, {}) * 2]
    for ds in several:
        warn_of_unchecked([ds.t, ds.q])
    chunk_file(path, 1).unlink()
    for ds in several:
        with pytest.warns(UncheckedChunksWarning, match=r"'t' .*'t/c/1/0/0'.* fill value") as told:
            warn_of_unchecked([ds.t, ds.q])
        assert len(told) == 1
    warn_of_unchecked([strictly(path).t, strictly(path, {}).t * 2])
    # of many chunks some are looked at
    monkeypatch.setattr(opening, "MOST_LOOKED_AT", 2)
    warn_of_unchecked([opened(path).t])
    # what reads as missing is no data
    for kind in ("v2-blosc", "v3-zstd"):
        plain = written(tmp_path / kind, kind, **({} if kind[1] == "2" else {"fill_value": np.nan}))
        chunk_file(plain, 1).unlink()
        monkeypatch.setattr(opening, "MOST_LOOKED_AT", 2**11)
        warn_of_unchecked([opened(plain).t])


def test_building_costs_the_same_whatever_the_number_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata of the store declare a million chunks, none of which exists."""
    model, calls, found = storm_model(), [], []
    for function in ("stat", "listdir", "scandir"):
        plain = getattr(os, function)

        def counting(*args: Any, plain: Any = plain, **options: Any) -> Any:
            calls.append(args)
            return plain(*args, **options)

        monkeypatch.setattr(os, function, counting)
    for n_times in (4, 10**6):
        path = tmp_path / f"{n_times}.zarr"
        ds = storm_dataset(n_times=1).drop_vars("time")
        lazy = {
            name: (
                ("time", "lat", "lon"),
                da.zeros((n_times, 19, 36), chunks=-1, dtype="f4"),
                a.attrs,
            )
            for name, a in ds.data_vars.items()
        }
        chunks = {name: {"chunks": (1, 19, 36)} for name in lazy}
        xr.Dataset(lazy, ds.coords).to_zarr(
            path, compute=False, encoding=chunks, consolidated=False
        )
        calls.clear()
        mask = segment(path, model)
        assert mask.sizes["time"] == n_times
        found.append(sum(str(path) in str(args[0]) for args in calls if args))
    assert max(found) < 50


def test_other_data_are_read_as_they_are(tmp_path: Path) -> None:
    example().to_netcdf(tmp_path / "a.nc")
    with strictly(tmp_path / "a.nc") as ds:
        xr.testing.assert_identical(ds.load(), example())
    selections = [{"time": slice(1, 6, 2)}, {"time": [5, 0], "lat": 2}, {"lon": slice(None, 2)}]
    for selection in selections:
        with strictly(tmp_path / "a.nc") as ds:
            xr.testing.assert_identical(ds.isel(selection).load(), example().isel(selection))
    words = example().assign(word=("time", np.array(["x"] * 8)))
    words.to_zarr(tmp_path / "w.zarr", zarr_format=2, consolidated=False)
    assert (strictly(tmp_path / "w.zarr").word == "x").all()


@CHUNKS
def test_stores_are_opened_wherever_zarr_finds_them(tmp_path: Path, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr")
    store, remote = zarr.storage.LocalStore(path), "memory://xsphere-open.zarr"
    example().to_zarr(remote, zarr_format=3, consolidated=False, mode="w")
    example().to_zarr(tmp_path / "g.zarr", group="deep/er", zarr_format=3, consolidated=False)
    several = [
        strictly(store, chunks),
        xsphere.open(remote, chunks=chunks),
        xsphere.open(tmp_path / "g.zarr", group="deep/er", chunks=chunks),
        xsphere.open(path, chunks=chunks, engine="zarr", drop_variables="q").assign(q=example().q),
    ]
    for ds in several:
        xr.testing.assert_equal(ds.compute(), example())
    import fsspec

    fsspec.filesystem("memory").rm("/xsphere-open.zarr", recursive=True)


@pytest.fixture(params=["s3", "http"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store by its URL, and what removes an object of it."""
    if request.param == "s3":
        import s3fs

        place = f"{request.getfixturevalue('s3').bucket()}/a.zarr"
        example().to_zarr(f"s3://{place}", zarr_format=3, encoding={"t": {"chunks": (2, 5, 7)}})
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        yield f"s3://{place}", lambda key: files.rm_file(f"{place}/{key}")
        return
    path = tmp_path / "a.zarr"
    example().to_zarr(path, zarr_format=3, encoding={"t": {"chunks": (2, 5, 7)}})
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/a.zarr", lambda key: (path / key).unlink()
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing of it."""

    def log_message(self, *_: Any) -> None:
        """Not told."""


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_remote_stores_are_opened_strictly(remote: Any) -> None:
    url, remove = remote
    xr.testing.assert_equal(strictly(url).load(), example())
    before = contents_read(strictly(url)[["t"]].isel(time=slice(2, 4)))
    assert list(before) == [f"{url}/t"]
    remove("t/c/1/0/0")
    with pytest.raises(MissingChunkError, match=r"'t', time\[2:4\] of 8 .*'t/c/1/0/0'"):
        strictly(url).t.load()
    xr.testing.assert_equal(strictly(url).t[:2].load(), example().t[:2])
    if url.startswith("s3://"):
        assert contents_read(strictly(url)[["t"]].isel(time=slice(2, 4))) != before
    with pytest.raises(UnreadableFileError, match=r"nothing\.zarr' cannot be read as a dataset"):
        strictly(url.replace("a.zarr", "nothing.zarr"))


def test_coordinates_may_be_nothing_but_zero(tmp_path: Path) -> None:
    """Zarr leaves out chunks of nothing but the fill value: such as those of a first member."""
    ds = example().expand_dims(member=[0]).assign_coords(surface=0, number=("member", [0]))
    encoding = {name: {"fill_value": 0} for name in ("member", "surface", "number")}
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False, encoding=encoding)
    assert not list((tmp_path / "a.zarr" / "member").glob("c*"))
    xr.testing.assert_equal(strictly(tmp_path / "a.zarr").load(), ds)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    noise = np.random.default_rng(0).random((4, 9000)).astype("f4")
    ds = xr.Dataset({"t": (("time", "x"), noise)})
    ds.to_netcdf(path, encoding={"t": {"zlib": True, "chunksizes": (1, 9000)}})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(bytes(content))
    with xr.open_dataset(path) as damaged, strictly(path) as strict:
        assert contents(strict) == contents(damaged)
        with pytest.raises(CorruptChunkError, match=r"variable 't', t at .*a\.nc.*cannot be read"):
            strict.t.load()


def test_disks_and_networks_keep_their_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = strictly(written(tmp_path / "a.zarr"))

    async def failing(*_args: object, **_options: object) -> None:
        raise OSError("the cable is out")

    monkeypatch.setattr(zarr.storage.LocalStore, "get", failing)
    with pytest.raises(OSError, match="the cable is out"):
        ds.t.load()


def test_absurd_sizes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=3)
    for name, chunk in (("bomb", 10**5), ("t", 10)):
        root.create_array(
            name, shape=(10**7, 10**8), chunks=(chunk, chunk), dtype="f4",
            dimension_names=("y", "x"),
        )  # fmt: skip
    with pytest.raises(
        UnsafeSourceError, match=r"'bomb' has chunks .* of 38147 MiB, the limit .*drop_variables"
    ):
        strictly(path)
    only: dict[str, Any] = {"drop_variables": ["bomb"]}
    with pytest.raises(UnsafeSourceError, match=r"one read of variable 't' would take .* GiB"):
        strictly(path, **only).t.load()
    small = strictly(path, max_read_bytes=100, missing_chunks="fill", **only)
    with pytest.raises(UnsafeSourceError, match="raise max_read_bytes"):
        small.t[:10, :10].load()
    assert small.t[:5, :5].load().shape == (5, 5)


def test_codecs_that_run_code_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v2 = {".zarray": {"filters": [{"id": "pickle"}], "compressor": {"id": "blosc"}}}
    v3 = {"zarr.json": {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}}
    told = {".zattrs": {"name": "pickle"}, "zarr.json": {"attributes": {"name": "pickle"}}}
    assert "pickle" in set(codecs_of(v2))
    assert "numcodecs.pickle" in set(codecs_of(v3))
    assert not list(codecs_of(told))
    path = written(tmp_path / "a.zarr")
    monkeypatch.setattr("xsphere.sources.zarr_store.zarr_metadata", lambda _array: v2)
    with pytest.raises(UnsafeSourceError, match=r"'q' is stored with the codecs \['pickle'\].*'t'"):
        strictly(path)


def test_options_are_strictly() -> None:
    with pytest.raises(ValueError, match=r"missing_chunks must be one of \['raise', .* got 'no'"):
        strictly(Path("/nowhere"), missing_chunks="no")


def test_axes_without_even_times_are_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    ds = example().isel(time=[0, 1, 2, 5, 6, 7])
    ds.to_zarr(path, zarr_format=3, consolidated=False, encoding={"t": {"chunks": (2, 5, 7)}})
    chunk_file(path, 1).unlink()
    with pytest.raises(MissingChunkError) as caught:
        strictly(path).t.load()
    assert caught.value.where == "time[2:4] of 6"
    with pytest.raises(MissingChunkError) as caught:
        strictly(path).isel(time=[2, 4, 5]).t.load()
    assert caught.value.where == "time[2:4] of 6"
    assert issubclass(MissingChunkError, SourceError)


def test_copies_do_not_share_what_they_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    ds = strictly(path)
    strict = ds.copy()
    ds.t.load()
    shutil.rmtree(path / "t" / "c")
    with pytest.raises(MissingChunkError):
        strict.t.load()


def test_a_transposed_array_is_read_within_the_limit(tmp_path: Path) -> None:
    ds = xr.Dataset({"t": (("time", "member", "x"), np.arange(2.0 * 3 * 500).reshape(2, 3, 500))})
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    path = tmp_path / "x.zarr"
    # indices of a transposed array are those of points: not as many as their product
    turned = strictly(path, max_read_bytes=8 * 3000).transpose("x", "member", "time")
    np.testing.assert_array_equal(turned.t, ds.t.transpose("x", "member", "time"))
    with pytest.raises(UnsafeSourceError, match="one read of variable 't' would take"):
        strictly(path, max_read_bytes=8 * 2999).transpose("x", "member", "time").t.load()


def test_chunks_of_no_length_are_refused(tmp_path: Path) -> None:
    ds = xr.Dataset({"t": (("time", "x"), np.ones((4, 3)))})
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    document = tmp_path / "a.zarr" / "t" / "zarr.json"
    metadata = json.loads(document.read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"][0] = 0
    document.write_text(json.dumps(metadata))
    for chunks in (None, {"time": 2}):
        with pytest.raises(
            ValueError, match="'t' has chunks of length 0: its metadata are damaged"
        ):
            strictly(tmp_path / "a.zarr", chunks)
