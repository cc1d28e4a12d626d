"""Runs that are killed, disks that are full, workers that die: what is written stays right."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.test_blocks import Counting, chunk, classes_at, damage, files, mask, row
from xsphere.blocks import (
    BlocksFailed,
    IncompleteStoreError,
    open_mask,
    repair_store,
    verify_store,
    write_blocks,
)

ROOT = Path(__file__).parent.parent
SLOW = """
import signal, sys, time
# as in a terminal: what a shell starts in the background is deaf to Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.test_blocks import classes_at, mask
from xsphere.blocks import write_blocks
def slowly(index):
    time.sleep(0.05)
    return classes_at(index)
slowly.__dask_tokenize__ = lambda: "slowly"
print("ready", flush=True)
write_blocks(mask(slowly, 30, 1), sys.argv[1], workers=2)
"""


def start(path: Path, code: str = SLOW) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def n_done(path: Path) -> int:
    return len(list((path / "_xsphere" / "ledger").glob("c.*")))


def wait_for(path: Path, n_blocks: int, process: Any) -> None:
    end = time.monotonic() + 60
    while n_done(path) < n_blocks and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def test_killed_again_and_again_until_done(tmp_path: Path) -> None:
    path, chance, done = tmp_path / "m.zarr", random.Random(3), [0]
    for _ in range(3):
        process = start(path)
        wait_for(path, done[-1] + chance.randint(2, 6), process)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        done.append(n_done(path))
        report = verify_store(path)
        assert not report.damaged
        assert len(report.not_computed) == 30 - done[-1]
        with pytest.raises(IncompleteStoreError, match="is not complete"):
            open_mask(path)
    assert done == sorted(set(done))
    counting = Counting()
    assert write_blocks(mask(counting, 30, 1), path).written == 30 - done[-1]
    assert len(counting.computed) == 30 - done[-1]
    write_blocks(mask(n=30, block=1), tmp_path / "once.zarr")
    assert files(path) == files(tmp_path / "once.zarr")
    np.testing.assert_array_equal(open_mask(path), mask(n=30, block=1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "m.zarr"
    process = start(path)
    wait_for(path, 3, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"of 30 blocks in {path}; call again with the same path" in errors
    left = 30 - n_done(path)
    assert 0 < left < 30
    assert write_blocks(mask(n=30, block=1), path).written == left


def test_full_disk(tmp_path: Path) -> None:
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
    process = start(path, code)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "StoreWriteError: [Errno 27] block 2 (time 4 to 5) cannot be written to" in errors
    assert str(path) in errors
    report = verify_store(path)
    assert (report.not_computed, report.damaged) == ((2, 3, 4), {})
    again = subprocess.run(
        [sys.executable, "-c", code, str(path), "free"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "5 blocks, 3 of them computed now" in again.stdout
    assert verify_store(path).ok


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as made,
        # not the default: other tests are run in this process
        Client(made, set_as_default=False) as client,
    ):
        yield client


class Deadly:
    """Kills its worker at some blocks: once, or every time."""

    def __init__(self, folder: Path, at: int, *, always: bool = False) -> None:
        self.mark, self.at, self.always = folder / "killed", at, always

    def __call__(self, index: Any) -> Any:
        if index[0] == self.at and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return classes_at(index)

    def __dask_tokenize__(self) -> str:
        return "deadly"


def test_cluster_writes_the_same_bytes(tmp_path: Path, cluster: Any) -> None:
    report = write_blocks(mask(n=30, block=2), tmp_path / "c.zarr", client=cluster)
    assert report.written == 15
    write_blocks(mask(n=30, block=2), tmp_path / "t.zarr", workers=2)
    assert files(tmp_path / "c.zarr") == files(tmp_path / "t.zarr")


def test_active_client_is_used_and_persisted_data_are_read_where_they_are(
    tmp_path: Path, cluster: Any
) -> None:
    here = os.getpid()
    where = mask(lambda index: classes_at(index) * 0 + np.uint8(1 + (os.getpid() != here)))
    with cluster.as_current():
        write_blocks(where, tmp_path / "w.zarr")
        result = cluster.persist(mask())
        write_blocks(result, tmp_path / "p.zarr")
    assert (open_mask(tmp_path / "w.zarr").compute(scheduler="sync") == 2).all()
    write_blocks(result, tmp_path / "t.zarr", workers=2)
    np.testing.assert_array_equal(open_mask(tmp_path / "p.zarr"), mask().compute(scheduler="sync"))
    np.testing.assert_array_equal(open_mask(tmp_path / "t.zarr"), mask().compute(scheduler="sync"))


def test_killed_worker_does_no_harm(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(Deadly(tmp_path, 7), 12, 1), path, client=cluster)
    assert (tmp_path / "killed").exists()
    assert verify_store(path).ok
    np.testing.assert_array_equal(open_mask(path), mask(n=12, block=1).compute(scheduler="sync"))


def test_only_the_block_that_kills_fails(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "m.zarr"
    deadly = Deadly(tmp_path, 5, always=True)
    with pytest.raises(BlocksFailed, match=r"1 of 12 blocks.*\n *block 5 .*KilledWorker"):
        write_blocks(mask(deadly, 12, 1), path, client=cluster)
    assert verify_store(path).not_computed == (5,)
    assert write_blocks(mask(n=12, block=1), path, workers=1).written == 1


def test_errors_of_blocks_come_back_from_a_cluster(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "m.zarr"
    with pytest.raises(BlocksFailed, match=r"1 of 3 blocks.*\n *block 1 .*RuntimeError: lost"):
        write_blocks(mask(Counting((4,))), path, client=cluster)
    assert write_blocks(mask(), path, client=cluster).written == 1
    assert verify_store(path).ok


class Writer(RuleBasedStateMachine):
    """A store and a dict of what must be in it, whatever is done to the store."""

    blocks = st.integers(0, 4)

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "m.zarr"
        self.state: dict[int, str] = {}
        self.complete = False

    def teardown(self) -> None:
        self.folder.cleanup()

    def values(self) -> Any:
        return classes_at(np.arange(9))

    @initialize(failing=st.sets(blocks))
    def begin(self, failing: set[int]) -> None:
        self.state = dict.fromkeys(range(5), "missing")
        self.write(failing)

    @rule(failing=st.sets(blocks))
    def write(self, failing: set[int]) -> None:
        """A run in which some blocks fail: what is done is not computed again."""
        counting = Counting(tuple(2 * block for block in failing))
        todo = {block for block, found in self.state.items() if found in ("missing", "lost")}
        if todo & failing:
            with pytest.raises(BlocksFailed):
                write_blocks(mask(counting, 9, 2), self.path, workers=1)
            self.complete = False
        else:
            write_blocks(mask(counting, 9, 2), self.path, workers=1)
            self.complete = True
        assert {start // 2 for start in counting.computed} == todo - failing
        self.state.update(dict.fromkeys(todo - failing, "good"))

    @precondition(lambda self: "good" in self.state.values())
    @rule(block=blocks, kind=st.sampled_from(["missing", "truncated", "flipped"]))
    def damage_chunk(self, block: int, kind: str) -> None:
        if self.state[block] == "good":
            damage(chunk(self.path, block), kind)
            self.state[block] = "lost" if kind == "missing" else "damaged"

    @rule(block=blocks)
    def kill_between_block_and_ledger(self, block: int) -> None:
        if self.state[block] == "good" and not self.complete:
            row(self.path, block).unlink()
            self.state[block] = "missing"

    @rule(block=blocks)
    def kill_while_writing_a_file(self, block: int) -> None:
        partial = chunk(self.path, block).with_suffix(".0123.partial")
        partial.parent.mkdir(exist_ok=True, parents=True)
        partial.write_bytes(b"half")

    @rule(failing=st.sets(blocks, max_size=2))
    def repair(self, failing: set[int]) -> None:
        counting = Counting(tuple(2 * block for block in failing))
        bad = {block for block, found in self.state.items() if found != "good"}
        before = {b: chunk(self.path, b).read_bytes() for b in set(range(5)) - bad}
        if bad & failing:
            with pytest.raises(BlocksFailed):
                repair_store(self.path, mask(counting, 9, 2), workers=1)
            self.complete = False
            self.state.update(dict.fromkeys(bad & failing, "missing"))
        else:
            repair_store(self.path, mask(counting, 9, 2), workers=1)
            self.complete = True
        assert {start // 2 for start in counting.computed} == bad - failing
        self.state.update(dict.fromkeys(bad - failing, "good"))
        for block, content in before.items():
            assert chunk(self.path, block).read_bytes() == content

    @invariant()
    def what_is_found_is_what_was_done(self) -> None:
        if not self.state:
            return
        report = verify_store(self.path, workers=1)
        found = {
            kind: {b for b, k in self.state.items() if k == kind} for kind in self.state.values()
        }
        assert set(report.damaged) == found.get("damaged", set()) | found.get("lost", set())
        assert set(report.not_computed) == found.get("missing", set())
        assert (report.status == "complete") == self.complete
        assert report.ok == (self.complete and set(self.state.values()) == {"good"})

    @invariant()
    def readers_see_what_was_computed_or_nothing(self) -> None:
        there = {block for block, kind in self.state.items() if kind in ("good", "damaged")}
        if not self.complete or there != set(self.state):
            with pytest.raises(IncompleteStoreError):
                open_mask(self.path)
        values, expected = open_mask(self.path, allow_incomplete=True), self.values()
        for block, kind in self.state.items():
            steps = slice(2 * block, 2 * block + 2)
            if kind == "good":
                np.testing.assert_array_equal(values[steps], expected[steps])
            elif kind == "lost":
                assert (values[steps] == 255).all()


def test_whatever_is_done_the_ledger_is_right() -> None:
    run_state_machine_as_test(
        Writer,
        settings=settings(
            max_examples=8,
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
