"""Runs and workers that are killed, at any moment: what is written stays, what is not follows."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore, WrapperStore

from tests.faults.limits import LONG, time_limit
from tests.faults.runs import (
    COMMAND,
    ROOT,
    n_done,
    saved_model,
    seeded,
    start,
    start_held,
    stored,
    wait_for,
)
from tests.test_blocks import Counting, classes_at, files, mask
from tests.toys import storm_model
from xsphere.blocks import (
    BlocksFailed,
    IncompleteStoreError,
    open_mask,
    verify_store,
    write_blocks,
    writing,
)
from xsphere.segmentation import inference as inferences
from xsphere.segmentation import segment

THIRTY = """
import sys
from tests.test_blocks import classes_at, mask
from xsphere.blocks import write_blocks
write_blocks(mask(n=30, block=1), sys.argv[1], workers=2)
"""


@pytest.mark.slow
@time_limit(3600)
def test_01_command_killed_at_random_moments_until_it_is_done(tmp_path: Path) -> None:
    chance, out, n = seeded(1), tmp_path / "m.zarr", 2000 if LONG else 90
    stored(tmp_path / "x.zarr", n)
    arguments = ("segment", tmp_path / "x.zarr", out, "--model", saved_model(tmp_path))
    arguments += ("--block-size", "1")
    done = [0]
    for _ in range(20 if LONG else 3):
        process = start(COMMAND, *arguments)
        if chance.random() < 0.3:
            # any moment, before there is a store included
            time.sleep(chance.random() * 3)
        else:
            wait_for(out, min(n, done[-1] + chance.randint(1, n // 8)), process)
            time.sleep(chance.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done.append(n_done(out))
        if out.exists():
            report = verify_store(out)
            assert not report.damaged
            assert not report.damaged_variables
            assert len(report.not_computed) == n - done[-1]
    assert done == sorted(done)
    for path in (out, tmp_path / "once.zarr"):
        last = start(COMMAND, *arguments[:2], path, *arguments[3:])
        assert last.wait() == 0, last.communicate()
        last.communicate()
    assert verify_store(out).ok
    assert files(out) == files(tmp_path / "once.zarr")
    expected = segment(tmp_path / "x.zarr", tmp_path / "model.safetensors")
    np.testing.assert_array_equal(open_mask(out), expected)


@pytest.mark.quick("2")
@pytest.mark.parametrize("n_kills", [2, 5])
def test_01_writer_killed_again_and_again_until_done(tmp_path: Path, n_kills: int) -> None:
    path, chance, done = tmp_path / "m.zarr", seeded(3), [0]
    for _ in range(n_kills):
        done.append(done[-1] + chance.randint(2, 5))
        process = start_held(THIRTY, path, first=done[-1])
        wait_for(path, done[-1], process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert n_done(path) == done[-1]
        report = verify_store(path)
        assert not report.damaged
        assert len(report.not_computed) == 30 - done[-1]
        with pytest.raises(IncompleteStoreError, match="is not complete"):
            open_mask(path)
    counting = Counting()
    assert write_blocks(mask(counting, 30, 1), path).written == 30 - done[-1]
    assert len(counting.computed) == 30 - done[-1]
    write_blocks(mask(n=30, block=1), tmp_path / "once.zarr")
    assert files(path) == files(tmp_path / "once.zarr")
    np.testing.assert_array_equal(open_mask(path), mask(n=30, block=1))


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


def die_once(folder: Path) -> None:
    """Kill this process, if it is the first that comes here."""
    try:
        (folder / "killed").open("x").close()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyStore(WrapperStore[LocalStore]):
    """A store at which a process dies while it reads a chunk, once."""

    def __init__(self, store: LocalStore, folder: Path, key: str) -> None:
        super().__init__(store)
        self.folder, self.key = folder, key

    def _with_store(self, store: LocalStore) -> "DeadlyStore":
        return type(self)(store, self.folder, self.key)

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        if key == self.key:
            die_once(self.folder)
        return await super().get(key, *args, **options)


def die_while_inferring(folder: Path) -> None:
    """Let a worker die in its second forward pass."""
    forward, calls = inferences._forward, []

    def deadly(*args: Any) -> Any:
        calls.append(1)
        result = forward(*args)
        if len(calls) == 2:
            die_once(folder)
        return result

    inferences._forward = deadly


def die_while_writing(folder: Path, chunk: str) -> None:
    """Let a worker die between writing the bytes of a chunk and giving them their name."""
    replace = Path.replace

    def deadly(self: Path, target: Any) -> Path:
        if self.suffix == ".partial" and str(target).endswith(chunk):
            die_once(folder)
        return replace(self, target)

    Path.replace = deadly  # type: ignore[assignment,method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["reading", "inferring", "writing", "between two writes"])
def test_02_worker_killed_while(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    # what a dead worker was writing is removed, once it has lain still for a while
    monkeypatch.setattr(writing, "WRITING_SECONDS", 0)
    expected = segment(stored(tmp_path / "x.zarr", 8), storm_model())
    source: Any = tmp_path / "x.zarr"
    if moment == "reading":
        deadly = DeadlyStore(LocalStore(source), tmp_path, "U850/c/5/0/0")
        source = xr.open_dataset(deadly, engine="zarr", chunks=None, consolidated=False)
    elif moment == "inferring":
        cluster.run(die_while_inferring, tmp_path)
    else:
        chunk = "mask/c/5/0" if moment == "writing" else "_xsphere/blocks/c.5.0"
        cluster.run(die_while_writing, tmp_path, chunk)
    out = tmp_path / "m.zarr"
    write_blocks(segment(source, storm_model(), block_size=1), out, client=cluster)
    assert (tmp_path / "killed").exists()
    assert verify_store(out).ok
    assert not list(out.rglob("*.partial"))
    np.testing.assert_array_equal(open_mask(out), expected)
    alone = tmp_path / "alone.zarr"
    write_blocks(segment(tmp_path / "x.zarr", storm_model(), block_size=1), alone, workers=1)
    for chunk_file in (alone / "mask" / "c").rglob("*"):
        if chunk_file.is_file():
            assert (out / chunk_file.relative_to(alone)).read_bytes() == chunk_file.read_bytes()


@pytest.mark.slow
def test_02_killed_worker_does_no_harm(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(Deadly(tmp_path, 7), 12, 1), path, client=cluster)
    assert (tmp_path / "killed").exists()
    assert verify_store(path).ok
    np.testing.assert_array_equal(open_mask(path), mask(n=12, block=1).compute(scheduler="sync"))


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="set XSPHERE_LONG_TESTS for five minutes of killing workers")
@time_limit(3600)
def test_02_workers_killed_at_random_for_minutes(tmp_path: Path) -> None:
    import dask
    from distributed import Client, LocalCluster

    chance, stop, killed = seeded(2), threading.Event(), []

    def kill(client: Any) -> None:
        while not stop.wait(chance.uniform(1, 8)):
            pids = list(client.run(os.getpid, on_error="ignore").values())
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed.append(time.monotonic())

    expected = segment(stored(tmp_path / "x.zarr", 200), storm_model())
    end = time.monotonic() + 300
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
        Client(made, set_as_default=False) as client,
    ):
        killer = threading.Thread(target=kill, args=(client,))
        killer.start()
        try:
            for turn in range(10**6):
                out = tmp_path / f"{turn}.zarr"
                result = segment(tmp_path / "x.zarr", storm_model(), block_size=1)
                write_blocks(result, out, client=client)
                assert verify_store(out).ok
                np.testing.assert_array_equal(open_mask(out), expected)
                if time.monotonic() > end:
                    break
        finally:
            stop.set()
            killer.join()
    assert killed


@pytest.mark.slow
def test_03_only_the_block_that_kills_fails(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "m.zarr"
    deadly = Deadly(tmp_path, 5, always=True)
    with pytest.raises(BlocksFailed, match=r"1 of 12 blocks.*\n *block 5 .*KilledWorker"):
        write_blocks(mask(deadly, 12, 1), path, client=cluster)
    assert verify_store(path).not_computed == (5,)
    assert write_blocks(mask(n=12, block=1), path, workers=1).written == 1


@pytest.mark.slow
def test_03_command_whose_workers_segfault_at_a_block_fails_and_goes_on(tmp_path: Path) -> None:
    expected = segment(stored(tmp_path / "x.zarr", 4), storm_model())
    out = tmp_path / "m.zarr"
    arguments = ("segment", tmp_path / "x.zarr", out, "--model", saved_model(tmp_path))
    arguments += ("--block-size", "1")
    process = start(
        COMMAND,
        *arguments,
        "--workers",
        "1",
        DASK_DISTRIBUTED__WORKER__PRELOAD="tests.faults.segfaulting",
        DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0",
        PYTHONPATH=str(ROOT),
    )
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "1 of 4 blocks could not be computed" in errors
    assert "block 1 (time 2001-01-01T06:00" in errors
    assert verify_store(out).not_computed == (1,)
    again = start(COMMAND, *arguments)
    shown, errors = again.communicate()
    assert again.returncode == 0, errors
    assert "1 of them computed now" in shown
    np.testing.assert_array_equal(open_mask(out), expected)


def test_03_errors_of_blocks_come_back_from_a_cluster(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "m.zarr"
    with pytest.raises(BlocksFailed, match=r"1 of 3 blocks.*\n *block 1 .*RuntimeError: lost"):
        write_blocks(mask(Counting((4,))), path, client=cluster)
    assert write_blocks(mask(), path, client=cluster).written == 1
    assert verify_store(path).ok


@pytest.mark.quick("15")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_30_stopped_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "m.zarr"
    # what the command does, and what a program that calls `write_blocks` may do
    listen = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
    process = start_held(listen + THIRTY, path, first=3, until=tmp_path / "go")
    wait_for(path, 3, process)
    process.send_signal(number)
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=1800)
    assert process.returncode != 0
    assert f"of 30 blocks in {path}; call again with the same path" in errors
    left = 30 - n_done(path)
    assert 0 < left < 30
    assert not verify_store(path).damaged
    assert write_blocks(mask(n=30, block=1), path).written == left


def test_a_test_that_hangs_fails_with_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    from tests.faults.limits import TimeLimitError, limited

    within = signal.getitimer(signal.ITIMER_REAL)[0]
    assert within > 0
    waiting = threading.Event()
    with pytest.raises(TimeLimitError, match=r"not done after 0\.1 s"), limited(0.1):
        waiting.wait()
    assert "test_a_test_that_hangs" in capfd.readouterr().err


def test_processes_that_hang_are_given_up() -> None:
    process = start("import time; time.sleep(1000)")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.1)
    finally:
        process.kill()
        process.communicate()
