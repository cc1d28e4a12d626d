"""Results written block by block: what is done stays done, what is wrong is found and refused."""

import json
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import (
    Block,
    BlockFailure,
    BlocksFailed,
    IncompleteStoreError,
    InterruptedRun,
    OtherRunError,
    Progress,
    SharedWorkWarning,
    StoreError,
    StoreWriteError,
    open_mask,
    repair_store,
    starting,
    verify_store,
    write_blocks,
)
from xsphere.blocks import task as task_module
from xsphere.blocks.graphs import BlockGraphs, block_tasks
from xsphere.blocks.layout import in_blocks
from xsphere.blocks.rows import ROWS, checksum
from xsphere.blocks.target import Target
from xsphere.conventions import mask_attributes
from xsphere.locations import location
from xsphere.sources import CorruptChunkError
from xsphere.store import write_whole

BOOKS = "_xsphere/zarr.json"
RUN = {"schema": 1, "model": "a1", "options": {"grid": "healpix", "threshold": 0.5}}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "PAUSE", 0.001)


def classes_at(index: Any) -> Any:
    """One step differs from the next, and no class is as frequent as another."""
    cells = np.arange(13)
    values = (index[:, None] * 5 + cells**2 + index[:, None] * cells) % 7
    return np.array([0, 0, 0, 0, 1, 2, 254], np.uint8)[values]


def lazy(
    compute: Callable[..., Any] = classes_at, n: int = 10, block: int = 4, dtype: str = "u1"
) -> Any:
    index = da.arange(n, chunks=block)
    return da.map_blocks(
        compute,
        index,
        new_axis=[1],
        chunks=(index.chunks[0], (13,)),
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
    )


def labelled(data: Any, name: str = "mask", run: Any = RUN) -> xr.DataArray:
    times = pd.date_range("2001-01-01", periods=data.shape[0], freq="6h")
    attrs = mask_attributes(["cyclone", "river"]) if data.dtype == np.uint8 else {}
    if run is not None:
        attrs["xsphere_run"] = json.dumps(run)
    coords = {"time": times, "lat": ("cells", np.linspace(-80, 70, 13))}
    return xr.DataArray(data, coords, ("time", "cells"), name=name, attrs=attrs)


def mask(compute: Callable[..., Any] = classes_at, n: int = 10, block: int = 4) -> xr.DataArray:
    return labelled(lazy(compute, n, block))


class Counting:
    """Computes blocks and remembers which, or fails at some."""

    def __init__(self, fail_at: tuple[int, ...] = (), error: Exception | None = None) -> None:
        self.fail_at = fail_at
        self.error = error or RuntimeError("lost")
        self.computed: list[int] = []

    def __call__(self, index: Any) -> Any:
        if index[0] in self.fail_at:
            raise self.error
        self.computed.append(int(index[0]))
        return classes_at(index)

    def __dask_tokenize__(self) -> str:
        return "counting"


def files(path: Path) -> dict[str, bytes]:
    """Everything but the times that a store was made and checked at."""
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    found.pop(BOOKS)
    kept = {key: value for key, value in books(path).items() if key not in ("created", "digest")}
    rows: Any = zarr.open_array(path / ROWS, mode="r")
    for name in [name for name in found if name.startswith(f"{ROWS}/c.")]:
        # but for the time that it was written at
        found[name] = rows[int(name.split(".")[-2]), 1:].tobytes()
    return found | {BOOKS: json.dumps(kept, sort_keys=True).encode()}


def books(path: Path) -> dict[str, Any]:
    """The bookkeeping of a store."""
    return json.loads((path / BOOKS).read_text())["attributes"]["xsphere"]


def chunk(path: Path, index: int, name: str = "mask") -> Path:
    return path / name / "c" / str(index) / "0"


def row(path: Path, index: int) -> Path:
    return path / ROWS / f"c.{index}.0"


def status(path: Path) -> Any:
    return books(path)["status"]


def times_changed(path: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}


def test_same_values_dtype_labels_and_chunks_as_written_whole(tmp_path: Path) -> None:
    ds = storm_dataset(5)
    ds["PSL"][0, 3:9] = np.nan
    result = xsphere.segment(ds.chunk(time=2), storm_model())
    report = write_blocks(result, tmp_path / "m.zarr", workers=2)
    write_whole(result, tmp_path / "w.zarr")
    read = open_mask(tmp_path / "m.zarr")
    assert isinstance(read, xr.DataArray)
    assert read.dtype == np.uint8
    assert read.chunksizes["time"] == (2, 2, 1)
    whole = xr.open_zarr(tmp_path / "w.zarr")["mask"]
    xr.testing.assert_identical(read.compute(), whole.compute())
    for index in range(3):
        assert chunk(tmp_path / "m.zarr", index).read_bytes() == (
            chunk(tmp_path / "w.zarr", index).read_bytes()
        )
    assert (report.n_blocks, report.written, report.n_steps) == (3, 3, 5)
    assert sum(report.counts["mask"].values()) == result.size
    assert read.sphere.grid.grid == storm_model().grid


def test_other_readers_see_the_same(tmp_path: Path) -> None:
    write_blocks(mask(), tmp_path / "m.zarr")
    ds = xr.open_zarr(tmp_path / "m.zarr")
    assert set(ds.variables) == {"mask", "time", "lat"}
    assert ds["mask"].dtype == np.uint8
    assert ds["mask"].attrs["xsphere_run"] == json.dumps(RUN)
    assert zarr.open_group(tmp_path / "m.zarr/_xsphere").attrs["xsphere"]["run"] == RUN
    np.testing.assert_array_equal(ds["mask"], mask())


def test_dataset_of_floats_and_integers(tmp_path: Path) -> None:
    field = labelled(lazy(classes_at).astype("f4") / 7, "p", None)
    field[2] = np.nan
    field[4:8] = np.nan
    ds = xr.Dataset(
        {
            "p": field,
            "mask": mask(),
            "n": (field > 0.1).astype("i4"),
            "area": ("cells", np.arange(13.0)),
            "zero": ("cells", np.zeros(13, np.float32)),
        },
        {"class": ("class", np.array(["background", "cyclone"]))},
        {"title": "a", "xsphere_run": "{}"},
    )
    write_blocks(ds, tmp_path / "d.zarr", workers=1)
    read = open_mask(tmp_path / "d.zarr")
    assert isinstance(read, xr.Dataset)
    xr.testing.assert_identical(read.compute().drop_attrs(), ds.compute().drop_attrs())
    assert {name: read[name].dtype for name in ds.data_vars} == {
        name: ds[name].dtype for name in ds.data_vars
    }
    assert read.attrs["title"] == "a"
    assert chunk(tmp_path / "d.zarr", 1, "p").is_file()  # nothing but NaN, and yet there


def test_everything_has_a_checksum_and_blocks_are_chunks(tmp_path: Path) -> None:
    ds = xr.Dataset({"mask": mask(), "p": labelled(lazy().astype("f4"), "p")})
    write_blocks(ds, tmp_path / "m.zarr")
    group = zarr.open_group(tmp_path / "m.zarr", mode="r", use_consolidated=False)
    arrays = {name: group[name] for name in ("mask", "p", "time", "lat", ROWS)}
    for array in arrays.values():
        assert "'checksum': True" in str(array.metadata.to_dict()["codecs"])
    assert arrays["mask"].chunks == arrays["p"].chunks == (4, 13)
    assert arrays["mask"].fill_value == 255
    assert np.isnan(arrays["p"].fill_value)
    assert arrays[ROWS].chunks[0] == 1


def test_one_block_of_what_is_in_memory(tmp_path: Path) -> None:
    assert write_blocks(mask().compute(), tmp_path / "m.zarr").n_blocks == 1
    np.testing.assert_array_equal(open_mask(tmp_path / "m.zarr"), mask())


def test_no_times_at_all(tmp_path: Path) -> None:
    report = write_blocks(mask().isel(time=slice(0, 0)), tmp_path / "m.zarr")
    assert report.n_blocks == 0
    assert open_mask(tmp_path / "m.zarr").shape == (0, 13)
    assert verify_store(tmp_path / "m.zarr").ok


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars(tmp_path: Path, calendar: str) -> None:
    times = xr.date_range("2001-02-27", periods=10, calendar=calendar, use_cftime=True)
    result = mask().assign_coords(time=times)
    write_blocks(result, tmp_path / "m.zarr")
    xr.testing.assert_equal(open_mask(tmp_path / "m.zarr").compute(), result.compute())
    assert write_blocks(result, tmp_path / "m.zarr").written == 0


def test_two_runs_of_one_store_have_the_same_bytes(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 3)):
        write_blocks(mask(), tmp_path / f"{name}.zarr", workers=workers)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


def test_building_computes_nothing_and_each_block_is_computed_once(tmp_path: Path) -> None:
    counting = Counting()
    result = mask(counting)
    target = Target(result)
    list(BlockGraphs(target).of(target.layout.blocks))
    assert counting.computed == []
    write_blocks(result, tmp_path / "m.zarr", workers=1)
    assert counting.computed == [0, 4, 8]


def test_user_selections_and_shared_inputs_are_computed_right(tmp_path: Path) -> None:
    storm_dataset(10).chunk(time=3).to_zarr(tmp_path / "s.zarr", consolidated=False)
    ds = xr.open_zarr(tmp_path / "s.zarr", chunks={}, consolidated=False).chunk(time=4)
    part = ds.isel(lat=slice(2, 9), lon=slice(None, None, -2), time=slice(1, None)).chunk(time=4)
    part["speed"] = np.hypot(part.U850, part.V850) - part.PSL.mean(("lat", "lon"))
    write_blocks(part, tmp_path / "o.zarr")
    xr.testing.assert_equal(open_mask(tmp_path / "o.zarr").compute(), part.compute())


def test_blocks_are_not_kept(tmp_path: Path) -> None:
    blocks: list[weakref.ref[Any]] = []
    most: list[int] = []

    def n_alive() -> int:
        return sum(block() is not None for block in blocks)

    def compute(index: Any) -> Any:
        values = classes_at(index)
        blocks.append(weakref.ref(values))
        most.append(n_alive())
        if index[0] % 3 == 0:
            raise RuntimeError("lost")
        return values

    # named, so that dask need not look into it
    compute.__dask_tokenize__ = lambda: "compute"  # type: ignore[attr-defined]
    with pytest.raises(BlocksFailed):
        write_blocks(mask(compute, 40, 1), tmp_path / "m.zarr", workers=2)
    assert len(most) == 40
    assert max(most) <= 4
    assert n_alive() == 0


def test_tasks_are_small_however_many_there_are(tmp_path: Path) -> None:
    sizes = []
    for n in (10, 4000):
        target = Target(mask(n=n, block=2))
        tasks = block_tasks(target, location(tmp_path / "x.zarr"), target.layout.blocks, retries=0)
        sizes.append(len(cloudpickle.dumps(next(tasks))))
    assert sizes[1] < sizes[0] + 100 < 10000


def test_store_without_the_metadata_of_an_array(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    (path / "lat" / "zarr.json").unlink()
    assert "lat: it cannot be read" in str(verify_store(path))
    repair_store(path, mask())
    assert verify_store(path).ok
    (path / "mask" / "zarr.json").unlink()
    for action in (open_mask, verify_store):
        with pytest.raises(StoreError, match="or its metadata are damaged"):
            action(path)


def test_graphs_of_many_blocks_are_made_piece_by_piece() -> None:
    target = Target(mask(n=1200, block=2))
    made = BlockGraphs(target).of(target.layout.blocks)
    sizes = [len(graph) for graph, _ in made]
    assert len(sizes) == 600
    assert max(sizes) <= 3


def test_shared_work_is_told(tmp_path: Path) -> None:
    result = labelled(lazy(lambda i: classes_at(i).astype("f4"), 20, 2, "f4"), "x")
    with pytest.warns(SharedWorkWarning, match=r"each of the 10 blocks .* \.persist\(\)"):
        write_blocks(result - result.mean("time"), tmp_path / "x.zarr")
    write_blocks(result, tmp_path / "y.zarr")


def test_resume_computes_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    with pytest.raises(BlocksFailed, match=r"1 of 3 blocks .*only what is\s+missing") as caught:
        write_blocks(mask(Counting((4,))), path)
    assert caught.value.failures[0].index == 1
    assert "2001-01-02T00:00 to 2001-01-02T18:00" in str(caught.value)
    assert str(caught.value.__cause__) == "lost"
    assert status(path) == "writing"
    before = times_changed(path)
    counting = Counting()
    assert write_blocks(mask(counting), path).written == 1
    assert counting.computed == [4]
    assert status(path) == "complete"
    for index in (0, 2):
        assert before[str(chunk(path, index))] == chunk(path, index).stat().st_mtime_ns
    write_blocks(mask(), tmp_path / "once.zarr")
    assert files(path) == files(tmp_path / "once.zarr")


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    write_blocks(mask(), tmp_path / "m.zarr")
    before = times_changed(tmp_path / "m.zarr")
    counting = Counting()
    report = write_blocks(mask(counting), tmp_path / "m.zarr")
    assert (report.written, counting.computed) == (0, [])
    assert "all there before" in str(report)
    assert times_changed(tmp_path / "m.zarr") == before


def test_block_that_is_in_the_ledger_only_is_redone(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    chunk(path, 1).unlink()
    counting = Counting()
    assert write_blocks(mask(counting), path).written == 1
    assert counting.computed == [4]
    assert verify_store(path).ok


def test_ledger_comes_after_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    put = task_module._put

    def recorded(array: Any, steps: slice, values: Any) -> None:
        order.append(array.name.strip("/"))
        put(array, steps, values)

    monkeypatch.setattr(task_module, "_put", recorded)
    write_blocks(mask(), tmp_path / "m.zarr", workers=1)
    assert order == ["mask", ROWS] * 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda m: m.assign_attrs(xsphere_run=json.dumps(RUN | {"model": "b2"})),
            r"run\.model: 'a1' in the store, 'b2' now",
        ),
        (
            lambda m: m.assign_attrs(xsphere_run=json.dumps({**RUN, "options": {"grid": "x"}})),
            r"run\.options\.grid: 'healpix' in the store, 'x' now\n"
            r" *run\.options\.threshold: 0\.5 in the store, nothing now",
        ),
        (lambda m: m.chunk(time=5), r"layout\.block: 4 in the store, 5 now"),
        (lambda m: m.isel(time=slice(0, 8)), r"shape: \[10, 13\] in the store, \[8, 13\] now"),
        (lambda m: m.astype("i2"), r"dtype: '\|u1' in the store, '<i2' now"),
        (
            lambda m: m.assign_attrs(mask_attributes(["river", "cyclone"])),
            r"layout\.variables\.mask\.flags\.1: 'cyclone' in the store, 'river' now",
        ),
        (
            lambda m: m.assign_coords(time=m.time + np.timedelta64(1, "h")),
            r"written whole\.time: '10 int64, 0 to 54 hours since 2001-01-01 00",
        ),
        (lambda m: m.assign_coords(lat=m.lat + 1e-12), r"written whole\.lat"),
        (lambda m: m.drop_vars("lat"), r"written whole\.lat: .* in the store, nothing now"),
        (lambda m: m.rename("other"), r"layout\.variables\.other\.dims: nothing in the store"),
    ],
)
def test_other_run_is_refused(tmp_path: Path, change: Any, expected: str) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    before = files(path)
    other = change(mask())
    with pytest.raises(OtherRunError, match=f"(?s){expected}.*overwrite=True"):
        write_blocks(other, path)
    with pytest.raises(OtherRunError, match=f"(?s){expected}"):
        repair_store(path, other)
    assert files(path) == before
    write_blocks(other, path, overwrite=True)
    np.testing.assert_array_equal(open_mask(path), other)


def test_runs_without_a_description_are_told_apart_by_their_graphs(tmp_path: Path) -> None:
    plain = labelled(lazy(), run=None)
    write_blocks(plain, tmp_path / "m.zarr")
    assert write_blocks(labelled(lazy(), run=None), tmp_path / "m.zarr").written == 0
    with pytest.raises(OtherRunError, match=r"run\.mask\.graph|run\.graph"):
        write_blocks(labelled(lazy(lambda i: classes_at(i + 1)), run=None), tmp_path / "m.zarr")


@pytest.mark.parametrize("text", ["{", "[1, 2, 3]", 7])
def test_description_of_the_run_must_be_json(tmp_path: Path, text: Any) -> None:
    with pytest.raises(ValueError, match="'xsphere_run' of 'mask' must be the text of a JSON"):
        write_blocks(mask().assign_attrs(xsphere_run=text), tmp_path / "m.zarr")


def test_edited_coordinate_is_refused_and_repaired(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    zarr.open_array(path / "time", mode="r+")[3] = 5
    with pytest.raises(OtherRunError, match=r"was changed since it was written:\n *time: it was"):
        write_blocks(mask(), path)
    report = verify_store(path)
    assert not report.ok
    assert "time: it was written as" in str(report)
    repair_store(path, mask())
    assert verify_store(path).ok
    xr.testing.assert_equal(open_mask(path).compute(), mask().compute())


def test_store_replaced_in_the_middle_is_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"

    def replace(index: Any) -> Any:
        if index[0] == 4:
            shifted = mask(n=40).assign_coords(time=mask(n=40).time + np.timedelta64(1, "h"))
            write_blocks(shifted, path, overwrite=True, workers=1)
        return classes_at(index)

    with pytest.raises(OtherRunError, match="holds another run since this one began"):
        write_blocks(mask(replace, 40, 4), path, workers=1)
    assert verify_store(path).ok


def test_what_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    with pytest.raises(FileExistsError, match="resume=True"):
        write_blocks(mask(), path, resume=False)
    for other in (tmp_path / "folder.zarr", tmp_path / "file.zarr", tmp_path / "whole.zarr"):
        if other.stem == "whole":
            write_whole(mask(), other)
        elif other.stem == "folder":
            other.mkdir()
        else:
            other.write_text("mine")
        with pytest.raises(StoreError, match="is no store that was written block by block"):
            write_blocks(mask(), other)
        write_blocks(mask(), other, overwrite=True)
        assert verify_store(other).ok
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "file.zarr",
        "folder.zarr",
        "m.zarr",
        "whole.zarr",
    ]


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    old, young = tmp_path / ".m.zarr.0123abcd.tmp", tmp_path / ".m.zarr.4567abcd.tmp"
    for folder in (old, young, tmp_path / ".n.zarr.0123abcd.tmp"):
        (folder / "time").mkdir(parents=True)
    os.utime(old, (1e9, 1e9))
    with pytest.raises(BlocksFailed):
        write_blocks(mask(Counting((4,))), path)
    assert not old.exists()
    assert young.exists()
    partial = path / "mask" / "c" / "0" / "0.0f.partial"
    partial.write_bytes(b"half")
    os.utime(partial, (1e9, 1e9))
    assert verify_store(path).stale == (partial,)
    assert "left over, harmless" in str(verify_store(path))
    write_blocks(mask(), path)
    assert not partial.exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_store_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(starting, "write_frame", fail)
    with pytest.raises(OSError, match="No space left"):
        write_blocks(mask(), tmp_path / "m.zarr")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_make_a_store_at_once_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write_frame = tmp_path / "m.zarr", starting.write_frame
    first = True

    def late(*arguments: Any) -> Any:
        nonlocal first
        books = write_frame(*arguments)
        if first:
            first = False
            write_blocks(mask(Counting((8,)), 10, 4), path, retries=0)
        return books

    monkeypatch.setattr(starting, "write_frame", late)
    counting = Counting()
    with pytest.raises(BlocksFailed):
        write_blocks(mask(counting), path)
    assert write_blocks(mask(counting), path).written == 1
    assert counting.computed == [8]


# which warnings are hidden is one setting of all threads
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_two_writers_at_once_write_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"

    def slowly(index: Any) -> Any:
        time.sleep(0.01)
        return classes_at(index)

    others = [
        threading.Thread(
            target=write_blocks, args=(mask(slowly, 12, 1), path), kwargs={"workers": 2}
        )
        for _ in range(3)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert verify_store(path).ok
    write_blocks(mask(slowly, 12, 1), tmp_path / "alone.zarr")
    assert files(path) == files(tmp_path / "alone.zarr")


def damage(path: Path, kind: str) -> None:
    if kind == "missing":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[len(content) // 2 :]
    elif kind == "empty":
        content.clear()
    else:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["missing", "truncated", "empty", "flipped"])
def test_damaged_blocks_are_found_and_only_they_are_repaired(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    whole, before = files(path), times_changed(path)
    damage(chunk(path, 1), kind)
    report = verify_store(path)
    assert not report.ok
    assert list(report.damaged) == [1]
    assert "mask: it" in report.damaged[1]
    counting = Counting()
    assert repair_store(path, mask(counting)).written == 1
    assert counting.computed == [4]
    assert files(path) == whole
    assert verify_store(path).ok
    after = times_changed(path)
    touched = {name for name in after if after[name] != before[name]}
    assert touched == {str(chunk(path, 1)), str(row(path, 1)), str(path / BOOKS)}


@pytest.mark.quick("7")
@pytest.mark.parametrize("step", [1, 7])
def test_every_flipped_bit_is_found(tmp_path: Path, step: int) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(xr.Dataset({"mask": mask(), "p": labelled(lazy().astype("f4"), "p")}), path)
    expected, unseen = open_mask(path).compute(), 0
    for file in (chunk(path, 2), chunk(path, 0, "p"), path / "lat" / "c" / "0"):
        content = bytearray(file.read_bytes())
        for position in range(0, len(content), step):
            content[position] ^= 1 << position % 8
            file.write_bytes(content)
            # some bits of a header mean nothing: what counts is that no wrong value passes
            if verify_store(path, workers=1).ok:
                xr.testing.assert_identical(open_mask(path).compute(), expected)
                unseen += 1
            content[position] ^= 1 << position % 8
        file.write_bytes(content)
    assert verify_store(path).ok
    assert unseen <= 6


def test_chunk_of_another_content_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    shutil.copy(chunk(path, 0), chunk(path, 1))
    assert verify_store(path).damaged == {1: "mask: its values are not those that were written"}
    repair_store(path, mask())
    assert verify_store(path).ok


@pytest.mark.parametrize("kind", ["truncated", "empty", "missing"])
def test_damaged_ledger_is_repaired(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    whole = files(path)
    damage(row(path, 2), kind)
    report = verify_store(path)
    assert report.not_computed == ((2,) if kind == "missing" else ())
    assert report.damaged == ({} if kind == "missing" else {2: "its row is damaged"})
    assert repair_store(path, mask()).written == 1
    assert files(path) == whole


def test_stopped_repair_is_no_complete_store(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    damage(chunk(path, 1), "flipped")
    with pytest.raises(BlocksFailed):
        repair_store(path, mask(Counting((4,))))
    with pytest.raises(IncompleteStoreError, match="2 of 3 blocks are there"):
        open_mask(path)
    assert write_blocks(mask(), path).written == 1


def test_killed_repair_is_no_complete_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xsphere.blocks import verification

    def die(*_: Any, **__: Any) -> None:
        raise SystemError("killed")

    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    damage(chunk(path, 1), "flipped")
    with monkeypatch.context() as patch:
        patch.setattr(verification, "run_blocks", die)
        with pytest.raises(SystemError):
            repair_store(path, mask())
    assert status(path) == "writing"
    assert write_blocks(mask(), path).written == 1
    assert verify_store(path).ok


def test_done_with_a_checksum_of_zero_is_not_undone() -> None:
    # four bytes whose CRC-32 is 0
    assert checksum(np.frombuffer(bytes.fromhex("9d0ad96d"), np.uint8)) == 0
    assert checksum(np.array([1.5, 2.5], ">f4")) == checksum(np.array([1.5, 2.5], "<f4"))
    assert checksum(np.array([[1, 2], [3, 4]]).T) == checksum(np.array([[1, 3], [2, 4]]))


def test_incomplete_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    with pytest.raises(BlocksFailed):
        write_blocks(mask(Counting((4,))), path)
    with pytest.raises(IncompleteStoreError, match="is not complete: 2 of 3 blocks are there"):
        open_mask(path)
    read = open_mask(path, allow_incomplete=True)
    assert read.dtype == np.uint8
    assert (read[4:8] == 255).all()
    np.testing.assert_array_equal(read[:4], mask()[:4])
    assert verify_store(path).not_computed == (1,)
    assert not verify_store(path).ok


def test_lost_chunk_of_a_complete_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    chunk(path, 2).unlink()
    with pytest.raises(IncompleteStoreError, match=r"1 of 3 blocks are lost \(\[2\]\)"):
        open_mask(path)
    assert (open_mask(path, allow_incomplete=True)[8:] == 255).all()


def test_flipped_bit_is_an_error_when_read(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    damage(chunk(path, 1), "flipped")
    with pytest.raises(CorruptChunkError, match=r"'mask', time\[4:8\].*Zstd decompression error"):
        open_mask(path).compute()


@pytest.mark.parametrize("path", ["nowhere.zarr", "text.zarr"])
def test_stores_that_are_none(tmp_path: Path, path: str) -> None:
    (tmp_path / "text.zarr").mkdir()
    error, words = (
        (FileNotFoundError, "there is no store") if path[0] == "n" else (StoreError, "is no store")
    )
    for action in (open_mask, verify_store, lambda p: repair_store(p, mask())):
        with pytest.raises(error, match=words):
            action(tmp_path / path)


@pytest.mark.parametrize(
    ("path", "words"),
    [("s4://a/b.zarr", "no protocol 's4'"), ("a.nc", r"end in '\.zarr'")],
)
def test_paths_that_cannot_be_written(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_blocks(mask(), path)


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (
            lambda: mask().chunk(cells=5),
            r"others too: \{'mask': \['cells'\]\}; call .chunk\(cells=-1\)",
        ),
        (
            lambda: mask().chunk(time=(3, 5, 2)),
            r"got \{'mask': \(3, 5, 2\)\}; call .chunk\(time=5\)",
        ),
        (lambda: mask().chunk(time=(3, 3, 4)), r"call .chunk\(time=4\)"),
        (
            lambda: xr.Dataset({"a": mask(), "b": mask().chunk(time=5)}),
            r"\{'a': \(4, 4, 2\), 'b': \(5, 5\)\}; call .chunk\(time=5\)",
        ),
        (
            lambda: xr.Dataset({"a": mask(), "b": mask().transpose()}),
            r"same first dimension, got \{'a': 'time', 'b': 'cells'\}",
        ),
        (lambda: mask() > 1, r"integers or floats.*got \{'mask': 'bool'\}"),
        (lambda: mask().rename(None), r"must have a name.*\.rename\('mask'\)"),
        (lambda: xr.Dataset({"a": mask(), "b": mask().sum()}), r"\['b'\] have no dimension.*load"),
        (
            lambda: xr.Dataset({"a": 3}),
            r"a variable with a dimension to cut into blocks, got \['a'\]",
        ),
    ],
)
def test_results_that_have_no_blocks(tmp_path: Path, obj: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_blocks(obj(), tmp_path / "m.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (lambda i: classes_at(i) + (i[:, None] == 5) * np.uint8(3), r"\[3, 4, 5\].*not computed"),
        (lambda i: np.where(i[:, None] == 5, 255, classes_at(i)).astype("u1"), r"values \[255\]"),
        (lambda i: classes_at(i).astype("f4") + 300 * (i[:, None] == 5), "must be uint8 of shape"),
        (
            lambda i: classes_at(i)[:, :12] if i[0] == 4 else classes_at(i),
            r"\(4, 13\), got uint8 of",
        ),
    ],
)
def test_values_that_are_no_classes_are_refused(tmp_path: Path, compute: Any, words: str) -> None:
    with pytest.raises(BlocksFailed, match=words) as caught:
        write_blocks(mask(compute), tmp_path / "m.zarr")
    assert 1 in [failure.index for failure in caught.value.failures]
    assert 1 in verify_store(tmp_path / "m.zarr").not_computed


def test_errors_that_cannot_be_read_here_are_not_shown_as_bytes() -> None:
    # what a client of dask gives for them
    failure = BlockFailure(1, "block 1", Exception(b"\x80\x05 raw"))
    text = str(BlocksFailed(Path("m.zarr"), [failure], 2))
    assert "block 1: an error that this process cannot read" in text
    assert "raw" not in text


def test_integers_that_mean_not_computed_are_refused(tmp_path: Path) -> None:
    values = lazy(lambda i: np.where(classes_at(i) == 0, -(2**15), 1).astype("i2"), dtype="i2")
    with pytest.raises(BlocksFailed, match=r"\[-32768\], but each must be any other"):
        write_blocks(labelled(values, "n"), tmp_path / "m.zarr")


class Flaky:
    """An error of the network that passes."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.calls = times, error, 0

    def __call__(self, index: Any) -> Any:
        self.calls += 1
        if index[0] == 4 and self.left:
            self.left -= 1
            raise self.error
        return classes_at(index)

    def __dask_tokenize__(self) -> str:
        return "flaky"


def test_errors_that_pass_are_tried_again(tmp_path: Path) -> None:
    flaky = Flaky(2, ConnectionError("gone"))
    write_blocks(mask(flaky), tmp_path / "m.zarr", retries=2)
    assert flaky.calls == 5
    assert verify_store(tmp_path / "m.zarr").ok


@pytest.mark.parametrize(("error", "calls"), [(ConnectionError("gone"), 4), (ValueError("bad"), 3)])
def test_errors_that_stay_are_told(tmp_path: Path, error: Exception, calls: int) -> None:
    flaky = Flaky(99, error)
    with pytest.raises(BlocksFailed, match=r"gone|bad"):
        write_blocks(mask(flaky), tmp_path / "m.zarr", retries=1)
    assert flaky.calls == calls


def test_errors_of_writing_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, counting = task_module._put, Counting()
    tried: list[int] = []

    def full(array: Any, steps: slice, values: Any) -> None:
        if steps.start == 4:
            tried.append(4)
            raise OSError(28, "No space left on device")
        put(array, steps, values)

    monkeypatch.setattr(task_module, "_put", full)
    words = r"block 1 \(time 2001-01-02T00:00 .*m\.zarr \(No space left"
    with pytest.raises(StoreWriteError, match=words) as caught:
        write_blocks(mask(counting, 40, 4), tmp_path / "m.zarr", workers=1)
    assert caught.value.errno == 28
    assert tried == [4]
    assert len(counting.computed) <= 3
    monkeypatch.undo()
    assert write_blocks(mask(counting, 40, 4), tmp_path / "m.zarr").written >= 8


def test_ctrl_c_leaves_a_store_that_is_gone_on_with(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    path, counting = tmp_path / "m.zarr", Counting()
    with pytest.raises(InterruptedRun, match=r"stopped with \d+ of 10 blocks in .*call again"):
        write_blocks(mask(counting, 40, 4), path, workers=1, progress=interrupt)
    assert isinstance(InterruptedRun(), KeyboardInterrupt)
    assert len(counting.computed) < 10
    assert status(path) == "writing"
    left = Counting()
    write_blocks(mask(left, 40, 4), path)
    assert sorted(counting.computed + left.computed) == list(range(0, 40, 4))


def test_progress_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Progress] = []
    with pytest.raises(BlocksFailed):
        write_blocks(mask(Counting((4,))), tmp_path / "m.zarr", progress=told.append)
    write_blocks(mask(), tmp_path / "m.zarr", progress=told.append)
    assert [now.done for now in told] == [1, 2, 3]
    assert sum(told[-1].shares["mask"].values()) == pytest.approx(1)
    expected = float((mask()[4:8] == 1).mean())
    assert told[-1].shares["mask"]["cyclone"] == pytest.approx(expected)
    write_blocks(mask(), tmp_path / "bar.zarr", progress="segmenting")
    shown = capsys.readouterr().err
    assert "segmenting: 100%" in shown
    assert "steps/s, background" in shown


def test_counts_are_those_of_the_mask(tmp_path: Path) -> None:
    report = write_blocks(mask(), tmp_path / "m.zarr")
    values = mask().values
    assert report.counts["mask"] == {
        "background": (values == 0).sum(),
        "cyclone": (values == 1).sum(),
        "river": (values == 2).sum(),
        "invalid_input": (values == 254).sum(),
    }
    assert books(tmp_path / "m.zarr")["counts"] == report.counts


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1.5}, {"workers": True}])
def test_number_of_workers(tmp_path: Path, options: Any) -> None:
    with pytest.raises(ValueError, match="workers must be a positive integer"):
        write_blocks(mask(), tmp_path / "m.zarr", **options)


def test_options_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got both"):
        write_blocks(mask(), tmp_path / "m.zarr", workers=1, client=object())
    with pytest.raises(ValueError, match="retries must be an integer of 0 or more, got -1"):
        write_blocks(mask(), tmp_path / "m.zarr", retries=-1)


def test_blocks_are_the_chunks() -> None:
    _, layout = in_blocks(mask())
    assert layout.blocks == (Block(0, 0, 4), Block(1, 4, 8), Block(2, 8, 10))


def test_arguments_are_left_as_they_are(tmp_path: Path) -> None:
    result = mask()
    result.time.encoding["units"] = "hours since 1999-01-01"
    before = result.copy(deep=True)
    write_blocks(result, tmp_path / "m.zarr")
    xr.testing.assert_identical(result, before)
    assert result.chunks == before.chunks
    assert result.time.encoding == {"units": "hours since 1999-01-01"}
    assert dask.is_dask_collection(result)
