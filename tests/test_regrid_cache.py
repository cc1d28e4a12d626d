"""The cache of regridded fields: the bits of to_healpix, each block once, never those of others."""

import os
import pickle
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from xsphere.cache import CacheWarning
from xsphere.config import set_options
from xsphere.housekeeping import cache_entries, clear_cache, damaged_entries, entries_text
from xsphere.regridding import node as regrid_node
from xsphere.regridding import to_healpix
from xsphere.regridding.node import RegridNode, VectorNode
from xsphere.sources import CacheFullError, MissingChunkError, cache_regridded
from xsphere.sources.field_store import FieldStore, block_sizes
from xsphere.sources.regrid_cache import cached_fields
from xsphere.sources.room import make_room

LEVEL = 2
KINDS = pytest.mark.parametrize("kind", ["lazy", "dask", "transformed", "memory", "netcdf"])


@pytest.fixture(autouse=True)
def own_cache(cache_folder: Path) -> Path:
    return cache_folder


def example(n_times: int = 6) -> xr.Dataset:
    rng = np.random.default_rng(3)
    lat, lon = np.linspace(-78.75, 78.75, 8), np.arange(15) * 24.0
    times = np.datetime64("2001-01-01", "ns") + np.arange(n_times) * np.timedelta64(1, "D")
    maps = (("time", "lat", "lon"), rng.normal(0, 9, (n_times, 8, 15)).astype("f4"))
    return xr.Dataset(
        {
            "u": (maps[0], maps[1], {"standard_name": "eastward_wind"}),
            "v": (maps[0], maps[1][::-1] * 2, {"standard_name": "northward_wind"}),
            # dimensions in another order, double precision
            "t": (("lat", "time", "lon"), rng.random((8, n_times, 15))),
            "land": (
                ("lat", "lon"),
                (rng.random((8, 15)) > 0.4).astype("u1"),
                {"flag_values": np.array([0, 1], "u1"), "flag_meanings": "sea land"},
            ),
            "count": ("time", np.arange(n_times)),
        },
        {"time": times, "lat": lat, "lon": lon},
    )


def written(path: Path, ds: xr.Dataset | None = None) -> Path:
    ds = example() if ds is None else ds
    sizes = {"time": 2, "lat": 8, "lon": 15}
    encoding = {n: {"chunks": tuple(sizes[d] for d in ds[n].dims)} for n in ds.data_vars}
    ds.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return path


def opened(path: Path, chunks: Any = None) -> xr.Dataset:
    return xr.open_zarr(path, chunks=chunks, consolidated=False)


def source(folder: Path, kind: str) -> xr.Dataset:
    match kind:
        case "memory":
            return example()
        case "netcdf":
            path = folder / "a.nc"
            if not path.exists():
                example().to_netcdf(path)
            return xr.open_dataset(path)
    path = folder / "a.zarr"
    if not path.exists():
        written(path)
    if kind == "transformed":
        ds = opened(path, {})
        return ds.assign(
            {name: ds[name].copy(data=ds[name].data * 1) for name in ("u", "v", "t", "land")}
        )
    return opened(path, None if kind == "lazy" else {})


class Counter:
    """How often fields were regridded."""

    def __init__(self) -> None:
        self.calls = 0


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


class NoComputing:
    """A scheduler that nothing may call."""

    def __call__(self, *_args: object, **_options: object) -> None:
        raise AssertionError("something was computed")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of the source's own chunks: three a variable."""
    monkeypatch.setattr("xsphere.sources.field_store.USUAL_BLOCK", 1)
    return


def block_files(folder: Path, name: str) -> list[Path]:
    # an entry holds one variable
    found = folder.glob(f"v1/regridded/*/*/data.zarr/{name}/c/**/*")
    return sorted(path for path in found if path.is_file())


# values


@KINDS
def test_fields_have_the_bits_of_to_healpix(tmp_path: Path, kind: str, small_blocks: None) -> None:
    want = to_healpix(example(), LEVEL)
    for _ in range(2):
        fields = cache_regridded(source(tmp_path, kind), LEVEL)
        xr.testing.assert_identical(fields.compute(), want)
        assert {n: f.dtype for n, f in fields.items()} == {n: f.dtype for n, f in want.items()}
        assert {n: f.dims for n, f in fields.items()} == {n: f.dims for n, f in want.items()}
    found = cached_fields(source(tmp_path, kind), LEVEL)
    assert found is not None
    xr.testing.assert_identical(found.compute(), want)


@KINDS
def test_each_block_is_regridded_once(
    tmp_path: Path, kind: str, regridded: Counter, small_blocks: None
) -> None:
    # of winds, of t, and the land; nothing says how to part what is in memory or one file
    blocks = 2 * (6 if kind in ("memory", "netcdf") else 3) + 1
    cache_regridded(source(tmp_path, kind), LEVEL).compute(scheduler="sync")
    assert regridded.calls == blocks
    cache_regridded(source(tmp_path, kind), LEVEL).compute(scheduler="sync")
    assert regridded.calls == blocks


@KINDS
def test_half_a_cache_is_used(
    tmp_path: Path, kind: str, regridded: Counter, small_blocks: None
) -> None:
    fields = cache_regridded(source(tmp_path, kind), LEVEL, variables=["t"])
    fields.t.isel(time=slice(2, 4)).compute()
    before = regridded.calls
    again = cache_regridded(source(tmp_path, kind), LEVEL, variables=["t"])
    again.t.isel(time=slice(2, 4)).compute()
    assert regridded.calls == before > 0
    xr.testing.assert_identical(again.compute(), to_healpix(example()[["t", "count"]], LEVEL))
    assert regridded.calls > before


def test_blocks_that_came_since_are_read(
    tmp_path: Path, regridded: Counter, small_blocks: None
) -> None:
    want = to_healpix(example(), LEVEL)
    early, late = (cache_regridded(source(tmp_path, "lazy"), LEVEL) for _ in range(2))
    early.compute()
    before = regridded.calls
    xr.testing.assert_identical(late.compute(), want)
    assert regridded.calls == before


def test_maps_without_values_are_kept_too(
    tmp_path: Path, regridded: Counter, small_blocks: None
) -> None:
    ds = example()[["t"]]
    ds["t"][:, 2:4] = np.nan
    path = written(tmp_path / "a.zarr", ds)
    for _ in range(2):
        fields = cache_regridded(opened(path), LEVEL).compute()
        assert np.isnan(fields.t[2:4]).all()
        assert regridded.calls == 3


def test_both_parts_of_a_vector_are_kept_at_once(tmp_path: Path, regridded: Counter) -> None:
    fields = cache_regridded(source(tmp_path, "lazy"), LEVEL)
    fields.u.compute()
    before = regridded.calls
    fields.v.compute()
    assert regridded.calls == before


def test_nothing_is_computed_or_read_while_building(tmp_path: Path, regridded: Counter) -> None:
    path = written(tmp_path / "a.zarr")
    for file in path.glob("[uvt]/c/*/*/*"):
        file.write_bytes(b"")
    with dask.config.set(scheduler=NoComputing()):
        for chunks in (None, {}):
            fields = cache_regridded(opened(path, chunks), LEVEL)
            assert fields.u.chunks is not None
            assert cached_fields(opened(path, chunks), LEVEL) is not None
    assert regridded.calls == 0
    unread = cache_regridded(opened(path), LEVEL)
    assert len(unread.u.data.dask) == 1


def test_tasks_are_small(tmp_path: Path) -> None:
    fields = cache_regridded(source(tmp_path, "lazy"), LEVEL)
    many = example(3000)[["t"]]
    long = cache_regridded(opened(written(tmp_path / "b.zarr", many)), LEVEL)
    sizes = [len(pickle.dumps(ds.t.data.dask)) for ds in (fields, long)]
    assert max(sizes) < 12_000


def test_names_of_tasks_tell_the_fields(tmp_path: Path) -> None:
    names = {cache_regridded(source(tmp_path, "lazy"), LEVEL).u.data.name for _ in range(2)}
    assert len(names) == 1
    assert (
        len({cache_regridded(source(tmp_path, "dask"), LEVEL).u.data.name for _ in range(2)}) == 1
    )
    assert names.isdisjoint({cache_regridded(source(tmp_path, "lazy"), LEVEL).v.data.name})


def test_horizontally_chunked_stores_are_regridded_whole(tmp_path: Path) -> None:
    ds = example()[["t"]]
    ds.to_zarr(
        tmp_path / "a.zarr", consolidated=False, zarr_format=3,
        encoding={"t": {"chunks": (3, 4, 5)}},
    )  # fmt: skip
    fields = cache_regridded(opened(tmp_path / "a.zarr"), LEVEL)
    xr.testing.assert_identical(fields.compute(), to_healpix(ds, LEVEL))


def test_empty_and_constant_variables(tmp_path: Path) -> None:
    ds = example()[["t", "land"]]
    empty = cache_regridded(ds.isel(time=slice(0, 0)), LEVEL).compute()
    assert empty.t.shape == (0, 12 * 4**LEVEL)
    land = cache_regridded(ds[["land"]], LEVEL).compute()
    xr.testing.assert_identical(land, to_healpix(ds[["land"]], LEVEL))


def test_more_leading_dimensions(tmp_path: Path, small_blocks: None) -> None:
    members = xr.concat([example()[["t"]] + n for n in range(3)], "member")
    want = to_healpix(members, LEVEL)
    for ds in (members, members.chunk(member=1, time=4) + 0):
        fields = cache_regridded(ds, LEVEL)
        fields.isel(time=slice(3, 5), member=1).compute()
        xr.testing.assert_identical(fields.compute(), want)
        xr.testing.assert_identical(cache_regridded(ds, LEVEL).compute(), want)


# keys


def test_other_sources_levels_and_methods_are_other_fields(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    ds = opened(path)
    cache_regridded(ds, LEVEL).compute()
    assert cached_fields(ds, LEVEL) is not None
    assert cached_fields(ds, LEVEL + 1) is None
    assert cached_fields(ds, LEVEL, method="nearest") is None
    assert cached_fields(ds, LEVEL, vectors=None) is None
    assert cached_fields(ds, LEVEL, missing="propagate") is None
    assert cached_fields(xsphere.open(path), LEVEL) is None
    assert cached_fields(ds.isel(time=slice(0, 4)), LEVEL) is None
    assert cached_fields(ds.isel(lat=slice(None, None, -1)), LEVEL) is None
    assert cached_fields(ds, LEVEL, variables=["t"]) is not None
    with pytest.raises(ValueError, match=r"no variables \['x'\] with the dimensions"):
        cached_fields(ds, LEVEL, variables=["x"])


def test_sources_are_not_looked_at_where_nothing_of_a_level_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = source(tmp_path, "lazy")
    cache_regridded(ds, LEVEL)

    def never(*_: Any) -> None:
        raise AssertionError("the source was looked at")

    monkeypatch.setattr("xsphere.sources.regrid_plan.source_of", never)
    assert cached_fields(ds, LEVEL + 1) is None
    with pytest.raises(AssertionError, match="looked at"):
        cached_fields(ds, LEVEL)


def test_a_new_version_of_regridding_makes_other_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = source(tmp_path, "lazy")
    cache_regridded(ds, LEVEL)
    monkeypatch.setattr(regrid_node, "VERSION", regrid_node.VERSION + 1)
    assert cached_fields(ds, LEVEL) is None


@pytest.mark.parametrize("chunks", [None, {}])
def test_an_edited_source_is_another(tmp_path: Path, chunks: Any) -> None:
    path = written(tmp_path / "a.zarr")
    cache_regridded(opened(path, chunks), LEVEL).compute()
    array = zarr.open_array(path / "t", mode="r+")
    array[:, 3] = 5.0
    assert cached_fields(opened(path, chunks), LEVEL) is None
    fields = cache_regridded(opened(path, chunks), LEVEL).compute()
    np.testing.assert_allclose(fields.t.isel(time=3), 5.0)
    # the wind was not edited: one entry each, two of t
    assert [entry.about.split()[0] for entry in cache_entries() if entry.kind == "regridded"].count(
        "t"
    ) == 2


def test_what_changes_after_the_dataset_was_made_is_not_kept(
    tmp_path: Path, own_cache: Path
) -> None:
    path = written(tmp_path / "a.zarr")
    fields = cache_regridded(opened(path), LEVEL, variables=["t"])
    array = zarr.open_array(path / "t", mode="r+")
    array[:, :2] = 5.0
    future = time.time_ns() + 10**9
    for file in (path / "t" / "c").rglob("*"):
        os.utime(file, ns=(future, future))
    with pytest.warns(CacheWarning, match="source of 't' has changed since"):
        fields.t.compute(scheduler="sync")
    assert not block_files(own_cache, "t")


@examples(15)
@given(st.permutations(["u", "v", "t", "land"]), st.integers(1, 4))
def test_entries_serve_any_choice_of_variables(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], n: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-choice"
    with set_options(cache_dir=str(folder / "cache")):
        if not folder.exists():
            cache_regridded(example(), LEVEL)
        names = [name for name in ("u", "v", "t", "land") if name in order[:n]]
        # a component alone is another field than one of a vector
        lone = len({"u", "v"} & set(names)) == 1
        found = cached_fields(example(), LEVEL, variables=names, vectors=None if lone else "auto")
        assert (found is None) == lone


# damage


@pytest.mark.parametrize("harm", ["truncate", "flip", "delete", "empty"])
def test_damaged_blocks_are_made_again(
    tmp_path: Path, own_cache: Path, harm: str, small_blocks: None
) -> None:
    want = to_healpix(example(), LEVEL).t
    cache_regridded(source(tmp_path, "lazy"), LEVEL).compute()
    file = block_files(own_cache, "t")[1]
    content = file.read_bytes()
    match harm:
        case "truncate":
            file.write_bytes(content[: len(content) // 2])
        case "flip":
            file.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
        case "empty":
            file.write_bytes(b"")
        case _:
            file.unlink()
    fields = cache_regridded(source(tmp_path, "lazy"), LEVEL)
    if harm == "delete":
        xr.testing.assert_identical(fields.t.compute(), want)
    else:
        with pytest.warns(CacheWarning, match="cannot be read .* made again"):
            xr.testing.assert_identical(fields.t.compute(scheduler="sync"), want)
    assert file.read_bytes() == content


def test_a_block_that_vanishes_under_transformed_data_is_told(
    tmp_path: Path, own_cache: Path, small_blocks: None
) -> None:
    cache_regridded(source(tmp_path, "transformed"), LEVEL).compute()
    fields = cache_regridded(source(tmp_path, "transformed"), LEVEL)
    block_files(own_cache, "t")[1].unlink()
    with pytest.raises(FileNotFoundError, match="ask for the cached fields again"):
        fields.t.compute()
    again = cache_regridded(source(tmp_path, "transformed"), LEVEL)
    xr.testing.assert_identical(again.t.compute(), to_healpix(example(), LEVEL).t)


def test_a_cache_cleared_in_between_costs_a_warning(tmp_path: Path) -> None:
    fields = cache_regridded(source(tmp_path, "lazy"), LEVEL, variables=["t"])
    clear_cache(["regridded"])
    with pytest.warns(CacheWarning, match="cannot be written"):
        got = fields.t.compute(scheduler="sync")
    xr.testing.assert_identical(got, to_healpix(example(), LEVEL).t)


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        set_options(cache_dir=str(tmp_path / "file" / "cache")),
        pytest.warns(CacheWarning, match="regridded without keeping them"),
    ):
        fields = cache_regridded(source(tmp_path, "lazy")[["t"]], LEVEL)
    with set_options(cache_dir=str(tmp_path / "other")):
        xr.testing.assert_identical(fields.compute(), to_healpix(example()[["t"]], LEVEL))


def test_writers_at_once_do_no_harm(tmp_path: Path, own_cache: Path, small_blocks: None) -> None:
    ds = source(tmp_path, "lazy")
    want, results = to_healpix(example(), LEVEL), []

    def fill() -> None:
        results.append(cache_regridded(ds, LEVEL).compute(scheduler="threads", num_workers=2))

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        xr.testing.assert_identical(result, want)
    assert not list(own_cache.glob("**/tmp-*"))


def test_missing_chunks_of_the_source_do_not_get_into_the_cache(
    tmp_path: Path, own_cache: Path, small_blocks: None
) -> None:
    path = written(tmp_path / "a.zarr")
    (path / "t" / "c" / "0" / "1" / "0").unlink()
    fields = cache_regridded(xsphere.open(path), LEVEL)
    with pytest.raises(MissingChunkError):
        fields.t.compute()
    xr.testing.assert_equal(
        fields.t.isel(time=slice(0, 2)).compute(),
        to_healpix(example(), LEVEL).t.isel(time=slice(0, 2)),
    )
    invalid = cache_regridded(xsphere.open(path, missing_chunks="invalid"), LEVEL)
    assert np.isnan(invalid.t.isel(time=slice(2, 4)).compute()).all()


# a store of one's own


@KINDS
def test_a_store_at_a_path_holds_the_fields(tmp_path: Path, kind: str, regridded: Counter) -> None:
    path = tmp_path / "own" / "fields.zarr"
    want = to_healpix(example(), LEVEL)
    xr.testing.assert_identical(
        cache_regridded(source(tmp_path, kind), LEVEL, path=path).compute(), want
    )
    before = regridded.calls
    again = cache_regridded(source(tmp_path, kind), LEVEL, path=path)
    xr.testing.assert_identical(again.compute(), want)
    assert regridded.calls == before
    plain = xr.open_zarr(path, consolidated=False, mask_and_scale=False).compute()
    np.testing.assert_array_equal(plain.t, want.t)
    np.testing.assert_array_equal(plain.time, want.time)
    assert [entry.kind for entry in cache_entries()].count("regridded") == 0


def test_a_path_works_without_a_cache(tmp_path: Path) -> None:
    ds = source(tmp_path, "lazy")
    with set_options(cache_dir=""):
        with pytest.raises(ValueError, match="the cache is off; give path="):
            cache_regridded(ds, LEVEL)
        assert cached_fields(ds, LEVEL) is None
        fields = cache_regridded(ds, LEVEL, path=tmp_path / "x")
        xr.testing.assert_identical(fields.compute(), to_healpix(example(), LEVEL))


def test_another_store_at_the_path_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fields.zarr"
    cache_regridded(example()[["t"]], LEVEL, path=path)
    with pytest.raises(ValueError, match=r"\['t'\] differ, \[\] are not there"):
        cache_regridded(example()[["t"]] + 1, LEVEL, path=path)
    with pytest.raises(ValueError, match=r"\[\] differ, \['land'\] are not there"):
        cache_regridded(example()[["t", "land"]], LEVEL, path=path)
    with pytest.raises(ValueError, match="holds no regridded fields"):
        cache_regridded(example(), LEVEL, path=written(tmp_path / "a.zarr"))
    with pytest.raises(ValueError, match="path must be on this machine, got the URL"):
        cache_regridded(example(), LEVEL, path="s3://bucket/x")
    with pytest.raises(CacheFullError, match="but max_bytes is 10"):
        cache_regridded(example(), LEVEL, path=tmp_path / "new", max_bytes=10)


# invalid and unknown


def test_unknown_data_need_a_version(monkeypatch: pytest.MonkeyPatch, regridded: Counter) -> None:
    monkeypatch.setattr("xsphere.sources.fingerprints.MEMORY_LIMIT", 10)
    ds = example()[["t"]]
    with pytest.raises(ValueError, match=r"nothing tells .* say version="):
        cache_regridded(ds, LEVEL)
    assert cached_fields(ds, LEVEL) is None
    fields = cache_regridded(ds, LEVEL, version="mine, of May").compute()
    xr.testing.assert_identical(fields, to_healpix(ds, LEVEL))
    assert cached_fields(ds, LEVEL, version="mine, of May") is not None
    assert cached_fields(ds, LEVEL, version="mine, of June") is None
    part = ds.isel(time=slice(1, 5))
    assert cached_fields(part, LEVEL, version="mine, of May") is None
    cache_regridded(part, LEVEL, version="mine, of May")
    assert cached_fields(ds.isel(time=slice(2, 6)), LEVEL, version="mine, of May") is None


def test_data_whose_edits_go_unnoticed_need_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = dask.delayed(np.zeros)((8, 15))
    data = dask.array.from_delayed(lazy, (8, 15), "f8")
    ds = example()[["land"]].assign(x=(("lat", "lon"), data))
    with pytest.raises(ValueError, match="so that an edit is noticed"):
        cache_regridded(ds, LEVEL)


def test_only_datasets_are_cached() -> None:
    with pytest.raises(TypeError, match="expected a Dataset, got DataArray"):
        cache_regridded(example().t, LEVEL)  # type: ignore[arg-type]


# room


def test_entries_are_listed_verified_and_cleared(tmp_path: Path) -> None:
    cache_regridded(source(tmp_path, "lazy"), LEVEL).compute()
    text = entries_text([e for e in cache_entries() if e.kind == "regridded"])
    assert re.search(
        r"regridded +[0-9.]+ (bytes|KiB) .* t \{'time': 6, 'cells': 192\} .*HEALPix level 2", text
    )
    assert not damaged_entries()
    assert len(clear_cache(["regridded"])) == 4
    assert cached_fields(source(tmp_path, "lazy"), LEVEL) is None


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    for used in folder.glob("v1/regridded/*/*/used"):
        os.utime(used, (then, then))


def test_what_was_used_longest_ago_makes_room(own_cache: Path) -> None:
    size = 6 * 192 * 8
    old, new = example()[["t"]], example()[["t"]] + 1
    cache_regridded(old, LEVEL).compute()
    age(own_cache, 9000)
    cache_regridded(new, LEVEL).compute()
    age_of_new = 5000
    for used in own_cache.glob("v1/regridded/*/*/used"):
        if time.time() - used.stat().st_mtime < 1000:
            os.utime(used, (time.time() - age_of_new,) * 2)
    cache_regridded(example()[["t"]] + 2, LEVEL, max_bytes=int(2.9 * size))
    assert cached_fields(old, LEVEL) is None
    assert cached_fields(new, LEVEL) is not None


def test_what_is_in_use_stays(own_cache: Path) -> None:
    first = example()[["t"]]
    cache_regridded(first, LEVEL).compute()
    with pytest.raises(
        CacheFullError, match=r"others are in use, but the cache may hold .*raise max"
    ):
        cache_regridded(first + 1, LEVEL, max_bytes=6 * 192 * 8 + 10)
    assert cached_fields(first, LEVEL) is not None
    # its own entry does not stand in its way
    cache_regridded(first, LEVEL, max_bytes=6 * 192 * 8 + 10).compute()
    fields = cache_regridded(first, LEVEL)
    age(own_cache, 9000)
    fields.t.isel(time=0).compute()
    with pytest.raises(CacheFullError):
        make_room(10**6, [], 10**6)
    shutil.rmtree(own_cache)
    assert make_room(10**6, [], 10**6) == []


@given(st.integers(1, 5000), st.integers(1, 60), st.integers(1, 400), st.integers(1, 2**24))
def test_blocks_are_whole_chunks_of_a_bearable_size(
    n_times: int, n_levels: int, chunk: int, cell_bytes: int
) -> None:
    sizes = {"time": n_times, "level": n_levels}
    blocks = block_sizes(sizes, {"time": chunk}, cell_bytes)
    assert all(1 <= block <= size for block, size in zip(blocks, sizes.values(), strict=True))
    n_bytes = blocks[0] * blocks[1] * cell_bytes
    assert n_bytes <= 2**28
    stored = min(chunk, n_times)
    if stored * cell_bytes <= 2**28:
        assert blocks[0] == n_times or blocks[0] % stored == 0


def test_a_store_that_is_not_there_has_no_blocks(tmp_path: Path) -> None:
    assert FieldStore(str(tmp_path), "t").read((0, 0)) is None
