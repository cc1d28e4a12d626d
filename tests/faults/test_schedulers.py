"""The same bits wherever blocks are computed, and no process that waits for what cannot come."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.runs import start, stored
from tests.test_blocks import classes_at, files, mask
from tests.toys import storm_model
from xsphere.blocks import open_mask, write_blocks
from xsphere.blocks.silence import SilentWorkerWarning, Watch
from xsphere.blocks.target import Target
from xsphere.segmentation import segment


@pytest.mark.slow
def test_27_cluster_writes_the_same_bytes(tmp_path: Path, cluster: Any) -> None:
    report = write_blocks(mask(n=30, block=2), tmp_path / "c.zarr", client=cluster)
    assert report.written == 15
    write_blocks(mask(n=30, block=2), tmp_path / "t.zarr", workers=2)
    assert files(tmp_path / "c.zarr") == files(tmp_path / "t.zarr")


def test_27_active_client_is_used_and_persisted_data_are_read_where_they_are(
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


@pytest.mark.quick("probability")
@pytest.mark.parametrize("output", ["mask", "probability"])
def test_27_same_bytes_in_threads_on_a_cluster_and_without_dask(
    tmp_path: Path, cluster: Any, output: Any
) -> None:
    ds = stored(tmp_path / "x.zarr", 6)
    expected = segment(ds, storm_model(), output=output).values.tobytes()
    result = segment(tmp_path / "x.zarr", storm_model(), output=output, block_size=2)
    chunked = segment(ds.chunk(time=2), storm_model(), output=output)
    stores = {}
    for name, made, options in (
        ("one", result, {"workers": 1}),
        ("threads", result, {"workers": 3}),
        ("cluster", result, {"client": cluster}),
        ("chunked", chunked, {"workers": 2}),
    ):
        path = tmp_path / f"{name}.zarr"
        write_blocks(made, path, **options)
        assert open_mask(path).values.tobytes() == expected
        chunks = [p for p in (path / output / "c").rglob("*") if p.is_file()]
        stores[name] = {p.relative_to(path): p.read_bytes() for p in chunks}
    assert len(stores["one"]) == 3
    assert stores["one"] == stores["threads"] == stores["cluster"] == stores["chunked"]


FORK = """
import multiprocessing, sys
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import open_mask, write_blocks
from xsphere.segmentation import segment

def work(name):
    mask = segment(sys.argv[1], storm_model(), block_size=1)
    path = f"{sys.argv[2]}/{name}.zarr"
    write_blocks(mask, path, workers=2)
    assert open_mask(path).compute(scheduler="sync").equals(mask.compute(scheduler="sync"))
    return mask.compute(scheduler="sync").values.tobytes()

class Steps:
    def __len__(self):
        return 3
    def __getitem__(self, step):
        mask = segment(sys.argv[1], storm_model(), block_size=1)
        return mask.isel(time=step).compute(scheduler="sync").values

def child(queue):
    try:
        queue.put(work("child"))
    except BaseException as error:
        queue.put(repr(error))
        raise

expected = work("parent")
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,), daemon=True)
process.start()
assert queue.get(timeout=1800) == expected, "another result"
process.join(1800)
assert process.exitcode == 0
from torch.utils.data import DataLoader
loader = DataLoader(Steps(), num_workers=2, multiprocessing_context="fork", timeout=1800)
assert b"".join(step.numpy().tobytes() for step in loader) == expected
print("all the same")
"""


@pytest.mark.slow
def test_28_forked_after_use_gives_the_same_and_never_hangs(tmp_path: Path) -> None:
    stored(tmp_path / "x.zarr", 3)
    process = start(FORK, tmp_path / "x.zarr", tmp_path)
    try:
        shown, errors = process.communicate(timeout=1800)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert shown == "all the same\n"


def test_26_names_and_identities_are_the_same_in_every_interpreter(
    tmp_path: Path, elsewhere: Any
) -> None:
    stored(tmp_path / "x.zarr", 2)
    code = """
import sys
from tests.toys import storm_model
from xsphere.blocks.target import Target
from xsphere.blocks.silence import SilentWorkerWarning, Watch
from xsphere.segmentation import segment
mask = segment(sys.argv[1], storm_model(), block_size=1)
print(mask.data.name, mask.attrs["xsphere_run"], Target(mask).identity)
"""
    told = elsewhere(code, tmp_path / "x.zarr")
    mask = segment(tmp_path / "x.zarr", storm_model(), block_size=1)
    name, run = mask.data.name, mask.attrs["xsphere_run"]
    assert told == f"{name} {run} {Target(mask).identity}\n"


class Workers:
    """Stands for a client of a cluster: what its scheduler says of workers and their tasks."""

    def __init__(self) -> None:
        self.seen = {"tcp://a": 1.0, "tcp://b": 1.0}

    def scheduler_info(self, n_workers: int) -> Any:
        workers = {a: {"last_seen": seen, "name": a[-1]} for a, seen in self.seen.items()}
        return {"workers": workers}

    def processing(self, workers: list[str]) -> Any:
        return {address: (f"task-{address[-1]}",) for address in workers}


def test_a_silent_worker_is_told_by_changes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    client = Workers()
    watch = Watch(client)
    assert not watch.is_due()
    # the scheduler's clock is another one, and slow
    for _ in range(3):
        clock[0] += 50
        client.seen["tcp://b"] += 1e-3
        assert watch.is_due()
        if clock[0] < 1150:
            assert watch.held_by_silent() == set()
            assert watch.live == []
    with pytest.warns(SilentWorkerWarning, match=r"worker a \(tcp://a\).*computed elsewhere"):
        assert watch.held_by_silent() == {"task-a"}
    assert watch.live == ["tcp://b"]
    # told once; nobody is left when both are silent
    assert watch.held_by_silent() == {"task-a"}
    clock[0] += 70
    with pytest.warns(SilentWorkerWarning, match=r"worker b .*there is no other"):
        assert watch.held_by_silent() == set()
    # both are back
    client.seen = dict.fromkeys(client.seen, 99.0)
    assert watch.held_by_silent() == set()
    assert watch.live == []


@pytest.mark.filterwarnings("ignore::xsphere.blocks.silence.SilentWorkerWarning")
def test_03_a_stopped_worker_holds_up_nothing(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a worker that is only slow may be taken for silent, which changes no byte
    monkeypatch.setattr("xsphere.blocks.silence.SILENT_SECONDS", 2.0)
    monkeypatch.setattr("xsphere.blocks.silence.LOOK_SECONDS", 0.2)
    write_blocks(mask(n=6, block=1), tmp_path / "t.zarr", workers=1)
    stopped = min(cluster.run(os.getpid).values())
    os.kill(stopped, signal.SIGSTOP)
    try:
        report = write_blocks(mask(n=6, block=1), tmp_path / "m.zarr", client=cluster)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert report.written == 6
    assert files(tmp_path / "m.zarr") == files(tmp_path / "t.zarr")
