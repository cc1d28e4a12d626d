"""Disks that are full, fail or lie: the store stays readable, and what is lost is made again."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from tests.faults.runs import start
from tests.test_blocks import Counting, chunk, files, mask
from xsphere import atomic
from xsphere.blocks import (
    StoreError,
    StoreWriteError,
    open_mask,
    repair_store,
    task,
    verify_store,
    write_blocks,
    writing,
)


def test_04_full_disk(tmp_path: Path, elsewhere: Callable[..., str]) -> None:
    # 4 kB for each file, as if the disk were full: blocks of noise do not fit
    code = """
import resource, signal, sys
import numpy as np
from tests.test_blocks import labelled, lazy
from xsphere.blocks import write_blocks
import dask.array as da, xarray as xr
index = da.arange(10, chunks=2)
def values(index):
    made = np.random.default_rng(int(index[0])).random((len(index), 900)).astype("f4")
    return made if index[0] >= 4 else np.zeros_like(made)
data = da.map_blocks(values, index, new_axis=[1], chunks=(index.chunks[0], (900,)), dtype="f4",
                     meta=np.empty((0, 0), "f4"))
result = xr.DataArray(data, dims=("time", "x"), name="p", attrs={"xsphere_run": "{}"})
if sys.argv[2:] != ["free"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
print(write_blocks(result, sys.argv[1], workers=1, retries=2))
"""
    path = tmp_path / "p.zarr"
    process = start(code, path)
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert "StoreWriteError: [Errno 27] block 2 (time 4 to 5) cannot be written to" in errors
    assert str(path) in errors
    report = verify_store(path)
    assert (report.not_computed, report.damaged) == ((2, 3, 4), {})
    assert not list(path.rglob("*.partial"))
    assert "5 blocks, 3 of them computed now" in elsewhere(code, path, "free")
    assert verify_store(path).ok


class Failing:
    """In place of a store's writing: fails at a chunk so many times, or is slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key: str, times: float = 0) -> None:
        self.key, self.left, self.tried = key, times, 0
        put = LocalStore.set

        async def set_or_fail(store: LocalStore, key: str, value: Any) -> None:
            if key.endswith(self.key):
                await asyncio.sleep(0.05)
                self.tried += 1
                if self.tried <= self.left:
                    raise OSError(5, "Input/output error")
            await put(store, key, value)

        monkeypatch.setattr(LocalStore, "set", set_or_fail)


@pytest.mark.parametrize("key", ["mask/c/1/0", "_xsphere/blocks/c.1.0"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_05_store_that_is_slow_or_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, times: int
) -> None:
    pauses: list[float] = []
    counting = Counting()
    write_blocks(mask(), tmp_path / "sound.zarr")
    with monkeypatch.context() as patch:
        failing = Failing(patch, key, times)
        patch.setattr(task.time, "sleep", pauses.append)
        write_blocks(mask(counting), tmp_path / "m.zarr", workers=1)
    assert failing.tried == times + 1
    # longer after each attempt; what was computed is kept for the next
    assert pauses == [task.PAUSE * 4**attempt for attempt in range(times)]
    assert counting.computed == [0, 4, 8]
    assert files(tmp_path / "m.zarr") == files(tmp_path / "sound.zarr")


@pytest.mark.parametrize("key", ["mask/c/1/0", "_xsphere/blocks/c.1.0"])
def test_05_store_that_fails_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    path = tmp_path / "m.zarr"
    with monkeypatch.context() as patch:
        failing = Failing(patch, key, np.inf)
        with pytest.raises(
            StoreWriteError, match=r"block 1 \(time 2001-01-02T00:00.*m\.zarr \(Input/output err"
        ):
            write_blocks(mask(), path, workers=1, retries=3)
    assert failing.tried == 4
    report = verify_store(path)
    assert 1 in report.not_computed
    assert not report.damaged
    assert write_blocks(mask(), path).written == len(report.not_computed)
    write_blocks(mask(), tmp_path / "sound.zarr")
    assert files(path) == files(tmp_path / "sound.zarr")


def test_05_metadata_that_cannot_be_written_stop_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    with monkeypatch.context() as patch:
        Failing(patch, "zarr.json", np.inf)
        with pytest.raises(OSError, match="Input/output error"):
            write_blocks(mask(counting), tmp_path / "m.zarr")
    assert counting.computed == []
    assert list(tmp_path.iterdir()) == []


def test_08_block_of_another_place_or_shape_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    whole = files(path)
    # sound by its own checksum, and yet another block's
    chunk(path, 0).write_bytes(chunk(path, 2).read_bytes())
    chunk(path, 1).write_bytes(b"")
    assert list(verify_store(path).damaged) == [0, 1]
    # what has a row counts as done for a run that goes on; only repair reads it all
    assert write_blocks(mask(), path).written == 0
    counting = Counting()
    assert repair_store(path, mask(counting), workers=1).written == 2
    assert counting.computed == [0, 4]
    assert files(path) == whole


def test_09_killed_while_a_store_was_made(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from tests.test_blocks import mask
from xsphere import atomic
from xsphere.blocks import starting, write_blocks
def killed(location, books, frame):
    location.write("zarr.json", frame["zarr.json"])
    os.kill(os.getpid(), signal.SIGKILL)
starting.write_frame = killed
write_blocks(mask(), sys.argv[1])
"""
    path = tmp_path / "m.zarr"
    process = start(code, path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not path.exists()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.endswith(".tmp")
    with pytest.raises(FileNotFoundError, match="there is no store at"):
        open_mask(path)
    assert write_blocks(mask(), path).written == 3
    assert verify_store(path).ok
    # it may be that of a live process, until it is a day old
    assert leftover.exists()
    assert leftover not in verify_store(path).stale
    os.utime(leftover, (1e9, 1e9))
    assert verify_store(path).stale == (leftover,)
    write_blocks(mask(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_09_store_made_half_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["xsphere"] = {"status": "writing"}
    with pytest.raises(StoreError, match=r"or its metadata are damaged .*overwrite=True"):
        write_blocks(mask(), path)
    assert write_blocks(mask(), path, overwrite=True).written == 3


def test_09_partial_files_are_no_chunks_and_go_with_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    partial = chunk(path, 1).with_suffix(".0f.partial")
    partial.write_bytes(b"half")
    assert verify_store(path).ok
    np.testing.assert_array_equal(open_mask(path), mask())
    os.utime(partial, (1e9, 1e9))
    assert write_blocks(mask(), path).written == 0
    assert not partial.exists()


def test_09_what_another_run_takes_away_meanwhile_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    # listed, but gone when looked at: as what another run has just given its name
    (path / "mask" / "c" / "1" / "0.0f.partial").symlink_to(tmp_path / "gone")
    (tmp_path / ".m.zarr.0123abcd.tmp").symlink_to(tmp_path / "gone")
    assert atomic.leftovers(path) == []
    assert writing.partial_files(path, np.inf) == []
    assert verify_store(path).ok
    assert write_blocks(mask(), path).written == 0


def test_09_leftovers_that_cannot_be_removed_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / ".m.zarr.0123abcd.tmp"
    old.mkdir()
    os.utime(old, (1e9, 1e9))

    def gone(path: Path) -> None:
        raise FileNotFoundError(2, "another run was faster", str(path))

    monkeypatch.setattr(atomic, "remove_whole", gone)
    atomic.remove_leftovers(tmp_path / "m.zarr")
    assert old.exists()
