"""Plans: counts and bytes against what a run really does, arithmetic by hand, and a trial apart."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.runs import LISTEN
from tests.stores import counted
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import WriteReport, write_blocks
from xsphere.model import Model
from xsphere.planning import Plan, plan
from xsphere.planning.trial import Pieces, Trial, TrialError, measured, peak_bytes
from xsphere.segmentation import segment
from xsphere.sources import MissingChunkError

NAMES = ("PSL", "U850", "V850")
MIB = 2**20


@pytest.fixture(scope="module")
def model() -> Model:
    return storm_model()


@pytest.fixture
def tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials in this process, which start at once."""
    monkeypatch.setattr("xsphere.planning.planned.tried", _measured_here)


def _measured_here(warm: Pieces, pieces: Pieces) -> Trial:
    with tempfile.TemporaryDirectory() as folder:
        return measured(warm, pieces, folder)


def stored(ds: xr.Dataset, path: Path, steps: int = 2, **encoding: Any) -> Path:
    """The dataset in a Zarr store, with so many steps in a chunk and one more variable."""
    ds = ds.assign(other=ds.PSL * 2)
    chunks = {
        name: tuple(steps if dim == "time" else size for dim, size in array.sizes.items())
        for name, array in ds.data_vars.items()
    }
    each = {name: {"chunks": chunks[name]} | encoding for name in ds.data_vars}
    ds.to_zarr(path, mode="w", consolidated=False, encoding=each)
    return path


def size_of(path: Path, names: Sequence[str] = NAMES) -> int:
    return sum(
        file.stat().st_size
        for name in names
        for file in (path / name / "c").rglob("*")
        if file.is_file()
    )


def made(**changes: Any) -> Plan:
    """A plan of round numbers: 1000 steps in 50 blocks, a second a step."""
    basis = Plan(
        model="m",
        source="/data/x.zarr",
        n_steps=1000,
        n_samples=1000,
        n_blocks=50,
        block_steps=20,
        bytes_read=2 * 10**6,
        bytes_decoded=4 * 10**6,
        reads_per_chunk=2.0,
        bytes_result=10**5,
        bytes_written=None,
        memory_base=100 * MIB,
        memory_thread=50 * MIB,
        seconds={"read": 0.25, "regrid": 0.125, "infer": 0.5, "write": 0.125},
        efficiency=0.5,
    )
    return replace(basis, **changes)


# what is counted


@examples(12)
@given(
    n=st.integers(3, 9),
    steps=st.integers(1, 5),
    block=st.sampled_from([None, 1, 2, 3, 7]),
    batch=st.integers(1, 4),
)
def test_bytes_are_those_that_the_run_reads(
    tmp_path_factory: pytest.TempPathFactory, n: int, steps: int, block: int | None, batch: int
) -> None:
    path = stored(storm_dataset(n), tmp_path_factory.mktemp("store") / "x.zarr", steps)
    options: dict[str, Any] = {"block_size": block, "batch_size": batch}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xsphere.planning.planned.tried", _measured_here)
        found = plan(path, storm_model(), **options)
    ds, seen = counted(path)
    segment(ds, storm_model(), **options).compute(scheduler="sync")
    decoded = [min(steps, n - steps * int(key.split("/")[2])) * 19 * 36 * 4 for key in seen]
    assert found.bytes_decoded == sum(decoded)
    assert found.reads_per_chunk == pytest.approx(sum(decoded) / (3 * n * 19 * 36 * 4))
    # chunks compress differently, the last one best
    read = sum((path / key).stat().st_size for key in seen)
    assert read / 1.5 < found.bytes_read < 1.5 * read  # type: ignore[operator]
    assert list(found.seconds) == ["read", "regrid", "infer", "compute", "write"]
    assert all(seconds > 0 for seconds in found.seconds.values())


@pytest.mark.usefixtures("tried_here")
def test_a_run_in_one_block_reads_what_its_trial_reads(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(9), tmp_path / "x.zarr", 2)
    assert plan(path, model, block_size=9).bytes_read == size_of(path)
    shards = stored(storm_dataset(8), tmp_path / "s.zarr", 2, shards=(8, 19, 36))
    found = plan(shards, model, block_size=8)
    assert found.bytes_read == pytest.approx(size_of(shards), rel=0.05)
    assert found.bytes_decoded == 3 * 8 * 19 * 36 * 4


@pytest.mark.usefixtures("tried_here")
def test_members_and_fixed_fields(model: Model, tmp_path: Path) -> None:
    base = storm_dataset(4)
    ds = xr.concat([base, base + 1, base - 1], "member", join="outer").transpose("time", ...)
    ds = ds.assign(PSL=base.PSL.isel(time=0, drop=True))
    for name in NAMES:
        ds[name].attrs = base[name].attrs
    path = stored(ds, tmp_path / "x.zarr", 1)
    found = plan(path, model, block_size=2, batch_size=3)
    opened, seen = counted(path)
    segment(opened, model, block_size=2, batch_size=3).compute(scheduler="sync")
    assert (found.n_steps, found.n_samples) == (4, 12)
    assert found.bytes_read == pytest.approx(
        sum((path / key).stat().st_size for key in seen), rel=0.05
    )
    # the field without time is read with every block
    assert found.bytes_read > size_of(path)  # type: ignore[operator]


@pytest.mark.usefixtures("tried_here")
def test_files_do_not_tell_what_is_read_of_them(model: Model, tmp_path: Path) -> None:
    storm_dataset(6).to_netcdf(tmp_path / "x.nc")
    found = plan(tmp_path / "x.nc", model)
    assert found.bytes_read is None
    assert found.source == str(tmp_path / "x.nc")
    assert any("bytes in the store are not known" in note for note in found.notes)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_blocks_are_those_of_the_run(model: Model, tmp_path: Path, block: int) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 1)
    chunked = xr.open_dataset(path, engine="zarr", chunks={"time": block}, consolidated=False)
    for found in (
        plan(path, model, trial=False, block_size=block),
        plan(chunked, model, trial=False),
        plan(worked_with(chunked), model, trial=False),
    ):
        assert (found.n_blocks, found.block_steps) == (-(-8 // block), block)
        assert found.bytes_decoded == 3 * 8 * 19 * 36 * 4
        assert found.bytes_read is None


def test_options_are_those_of_segment(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(4), tmp_path / "x.zarr")
    options: dict[str, Any] = {"output": "probability", "grid": "source", "block_size": 2}
    found = plan(path, model, trial=False, **options)
    assert found.bytes_result == segment(path, model, **options).nbytes == 4 * 3 * 19 * 36 * 4
    with pytest.raises(ValueError, match=r"output must be one of .*, got 'classes'"):
        plan(path, model, output="classes")


@pytest.mark.usefixtures("tried_here")
def test_a_single_map(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(1).isel(time=0, drop=True)
    path = stored(ds, tmp_path / "x.zarr")
    found = plan(path, model)
    assert (found.n_steps, found.n_blocks, found.block_steps, found.trial) == (1, 1, 1, (0, 1))
    assert found.bytes_read == size_of(path)
    report = write_blocks(segment(path, model), tmp_path / "mask.zarr", workers=1)
    assert f"{1 / report.seconds:.3g}" in found.compare(report).splitlines()[1]


# nothing is read that should not be


def worked_with(ds: xr.Dataset) -> xr.Dataset:
    """The same values, by tasks that do more than read."""
    return ds.map(lambda array: array * 1, keep_attrs=True)


def test_without_a_trial_nothing_is_read_or_computed(model: Model, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    ds, seen = counted(stored(storm_dataset(6), tmp_path / "x.zarr"))
    with dask.config.set(scheduler=fail):
        for source in (ds, ds.chunk(time=2), worked_with(ds.chunk(time=2))):
            found = plan(source, model, trial=False)
            assert (found.seconds, found.trial, found.hours()) == ({}, None, None)
            assert found.memory is None
    assert not seen


@pytest.mark.usefixtures("tried_here")
def test_a_trial_is_a_block_in_the_middle(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(storm_dataset(40), tmp_path / "x.zarr", 10)
    monkeypatch.setattr("xsphere.planning.trial.TRIAL_SECONDS", 1e9)
    assert plan(path, model, block_size=10).trial == (20, 30)
    ds, seen = counted(path)
    found = plan(worked_with(ds.chunk(time=10)), model)
    assert found.trial == (20, 30)
    assert list(found.seconds) == ["regrid", "infer", "compute", "write"]
    # another block to warm up, whose chunks the system may then have in memory
    assert sorted(set(seen)) == sorted(
        f"{name}/c/{chunk}/0/0" for name in NAMES for chunk in (1, 2)
    )
    # of one that takes long, less is tried
    monkeypatch.setattr("xsphere.planning.trial.TRIAL_SECONDS", 0.0)
    few = plan(path, model, block_size=10)
    assert few.trial == (20, 21)
    assert any("1 steps were tried, since a block takes long" in note for note in few.notes)


def test_reading_counts_chunks_as_a_whole(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"read": 10.0, "regrid": 4.0, "infer": 6.0}
    trial = Trial(n_steps=1, seconds=seconds, read=500, written=30)
    monkeypatch.setattr("xsphere.planning.planned.tried", lambda *_: trial)
    path = stored(storm_dataset(40), tmp_path / "x.zarr", 10)
    # one step was tried, for which chunks of ten were decoded
    found = plan(path, model, block_size=10)
    assert found.seconds == {"read": 1.0, "regrid": 4.0, "infer": 6.0}
    assert (found.bytes_read, found.bytes_written) == (2000, 1200)
    # in halves, each chunk is decoded twice
    cut = plan(path, model, block_size=5, batch_size=1)
    assert (cut.seconds["read"], cut.bytes_read, cut.reads_per_chunk) == (2.0, 4000, 2.0)
    assert any("each chunk is decoded 2.0 times" in note for note in cut.notes)


def test_rates_replace_what_was_measured(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(n_steps=2, seconds={"read": 1.0, "infer": 1.0}, read=1, written=1)
    monkeypatch.setattr("xsphere.planning.planned.tried", lambda *_: trial)
    path = stored(storm_dataset(4), tmp_path / "x.zarr")
    found = plan(path, model, rates={"infer": 0.01}, block_size=2)
    assert found.seconds == {"read": 0.5, "infer": 100.0}
    assert found.limiting_stage == "infer"
    paper = plan(path, model, trial=False, rates={"write": 8.0, "read": 4.0})
    assert paper.seconds == {"read": 0.25, "write": 0.125}


# a process of its own


GUEST = """
import glob, os, pathlib, sys, tempfile, threading
import xsphere
from xsphere.planning import trial, planned
from xsphere.segmentation import segment

path, model, folder, cache = sys.argv[1:]
tempfile.tempdir = folder
model = xsphere.Model.load(pathlib.Path(model))

def state():
    # those of Zarr's pool come as it reads
    threads = {t.name for t in threading.enumerate() if not t.name.startswith("asyncio_")}
    return set(sys.modules), threads, dict(os.environ), list(sys.path)

with xsphere.set_options(cache_dir=cache):
    segment(path, model)  # what building takes
    before = state()
    found = xsphere.plan(path, model, output="probability", block_size=2)
    after = state()
new = {name.partition(".")[0] for name in after[0] - before[0]}
left = glob.glob(folder + "/xsphere-*")
print(sorted({"torch", "numba", "zarr", "triton"} & new), after[1:] == before[1:], left)
print(found.memory_base > 0, found.memory == found.memory_base + found.memory_thread)
print(found.bytes_read, found.bytes_written / found.bytes_result, found.trial, found.notes)
"""


@pytest.mark.slow
def test_a_trial_leaves_this_process_as_it_is(model: Model, tmp_path: Path, elsewhere: Any) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr")
    model.save(tmp_path / "model.safetensors")
    (tmp_path / "temporary").mkdir()
    arguments = (path, tmp_path / "model.safetensors", tmp_path / "temporary", tmp_path / "cache")
    code = [sys.executable, "-W", "ignore", "-c", GUEST, *map(str, arguments)]
    done = subprocess.run(code, stdout=subprocess.PIPE, text=True, check=True)
    guest, memory, rest = done.stdout.splitlines()
    assert guest == "[] True []"
    assert memory == "True True"
    read, share, trial = rest.split(maxsplit=2)
    assert int(read) == pytest.approx(size_of(path), rel=0.05)
    # random probabilities of float32 hardly get smaller
    assert 0.5 < float(share) < 1.2
    assert trial == "(4, 6) ()"
    # where the options of this process say
    assert any((tmp_path / "cache").rglob("*"))


@pytest.mark.slow
def test_what_fails_in_a_trial_is_raised_here(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 2)
    (path / "U850" / "c" / "2" / "0" / "0").unlink()
    with pytest.raises(MissingChunkError, match="U850"):
        plan(path, model, block_size=2)

    def end(_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    chunked = storm_dataset(4).chunk(time=1)
    data = chunked.PSL.data.map_blocks(end, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    deadly = chunked.assign(PSL=chunked.PSL.copy(data=data))
    with pytest.raises(TrialError, match="ended with -9"):
        plan(deadly, model)
    assert not list((tmp_path / "temporary").glob("xsphere-*"))


def test_what_cannot_be_handed_over_is_tried_here(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # which changes a process
    monkeypatch.delattr("xsphere.planning.trial._forget_peak")
    lock = threading.Lock()

    def locked(values: Any) -> Any:
        with lock:
            return values

    chunked = storm_dataset(4).chunk(time=2)
    data = chunked.PSL.data.map_blocks(locked, dtype=chunked.PSL.dtype)
    found = plan(chunked.assign(PSL=chunked.PSL.copy(data=data)), model)
    assert found.hours() > 0  # type: ignore[operator]
    assert (found.memory, found.bytes_read) == (None, None)
    assert "memory     not known" in str(found)
    assert any("tried in this process" in note and "lock" in note for note in found.notes)


STOPPED = """
import pathlib, sys, tempfile, time
import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model

begun, tempfile.tempdir = sys.argv[1:]

def slow(values):
    pathlib.Path(begun).write_text("")
    time.sleep(600)

ds = storm_dataset(4).chunk(time=1)
ds["PSL"] = ds.PSL.copy(data=ds.PSL.data.map_blocks(slow, dtype="f4", meta=ds.PSL.data._meta))
xsphere.plan(ds, storm_model())
"""


@pytest.mark.slow
def test_ctrl_c_ends_a_trial(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    arguments = [str(tmp_path / "begun"), str(tmp_path / "temporary")]
    command = [sys.executable, "-c", LISTEN + STOPPED, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        # the pipe ends with the last process that holds it
        _, said = process.communicate()
    assert said.count("KeyboardInterrupt") == 1
    assert not list((tmp_path / "temporary").glob("xsphere-*"))


def test_workers_hold_a_process_and_its_threads() -> None:
    assert made(threads_per_worker=3, workers=7).memory == 250 * MIB
    assert peak_bytes() > 0  # type: ignore[operator]


# arithmetic


def test_hours_by_hand() -> None:
    one = made()
    assert one.rate() == 1.0
    assert one.hours() == 1000 / 3600
    assert one.limiting_stage == "infer"
    # 50 blocks for 4 threads take 13 rounds
    assert one.rate(4) == pytest.approx(0.5 * 50 / 13)
    assert made(workers=2, threads_per_worker=2).rate() == one.rate(4)
    # no more threads than blocks have work
    assert one.rate(50) == one.rate(1000) == 25.0
    assert made(n_blocks=1).rate(8) == 1.0


def test_a_gpu_serves_one_thread_at_a_time() -> None:
    gpu = made(gpu=True, efficiency=1.0, n_blocks=1000)
    # alone, a thread reads while the GPU waits
    assert gpu.rate() == 1.0
    assert replace(gpu, threads_per_worker=2).rate() == 2.0
    eight = replace(gpu, threads_per_worker=8)
    assert (eight.rate(), eight.limiting_stage) == (2.0, "infer")
    assert eight.rate(5) == 10.0
    assert made(gpu=True, n_blocks=1, threads_per_worker=8).rate(5) == 1.0
    # what has nobody beside it keeps its speed
    assert made(gpu=True, n_blocks=1, efficiency=0.1).rate(4) == 1.0


def test_a_store_and_a_scheduler_limit_all() -> None:
    # 2000 bytes a step
    shared = made(read_bandwidth=6000.0)
    assert (shared.rate(), shared.limiting_stage) == (1.0, "infer")
    assert (shared.rate(50), shared.limit(50)) == (3.0, "store bandwidth")
    small = made(n_blocks=1000, seconds={"read": 1e-6})
    assert (small.rate(), small.limiting_stage) == (1000.0, "scheduler")
    assert made(read_bandwidth=1.0, bytes_read=None).limiting_stage == "infer"


@given(
    seconds=st.dictionaries(
        st.sampled_from(["read", "infer", "write"]), st.floats(1e-6, 1e3), min_size=1
    ),
    workers=st.integers(1, 100),
    threads=st.integers(1, 8),
    gpu=st.booleans(),
    blocks=st.integers(1, 1000),
)
def test_more_workers_are_never_slower(
    seconds: dict[str, float], workers: int, threads: int, gpu: bool, blocks: int
) -> None:
    one = made(
        seconds=seconds, threads_per_worker=threads, gpu=gpu, n_blocks=blocks, efficiency=1.0
    )
    rate = one.rate(workers)
    assert rate is not None
    assert one.rate(workers + 1) >= rate * (1 - 1e-12)  # type: ignore[operator]
    assert rate <= workers * one.rate(1) * (1 + 1e-12)  # type: ignore[operator]
    assert one.limit(workers) in {*seconds, "scheduler"}


def test_plans_are_plain_data(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(4), tmp_path / "x.zarr")
    found = plan(path, model, trial=False, rates={"infer": 2.0}, workers=2, block_size=1)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["hours"] == found.hours() == 4 / (2 * 2 * 0.9) / 3600
    assert (data["memory"], data["limiting_stage"]) == (found.memory, "infer")
    assert data["source"] == str(path)
    assert data["seconds"] == {"infer": 0.5}


# words


def test_a_plan_in_words() -> None:
    text = str(made(workers=2, trial=(20, 40), notes=("look here",), n_samples=3000))
    for expected in (
        "plan of 'm' on /data/x.zarr\n",
        "1,000, 3,000 maps in 50 blocks of 20\n",
        "1.9 MiB from the store, 3.8 MiB decoded",
        "150.0 MiB a worker of 1 thread: 100.0 MiB and 50.0 MiB a thread",
        "seconds    1 a step and thread, measured on steps 20 to 39",
        "  infer           0.5   50 %",
        "2                  1      0.278   infer  <- asked for",
        "64                25     0.0111   infer",
        "note       look here",
    ):
        assert expected in text
    assert "not known: nothing was measured" in str(made(seconds={}))
    assert "an unknown size from the store" in str(made(bytes_read=None))
    assert "1.5 KiB/s from the store" in str(made(read_bandwidth=1536.0, gpu=True))


def report(**changes: Any) -> WriteReport:
    basis = WriteReport(
        path=Path("m.zarr"),
        n_blocks=50,
        written=50,
        n_steps=1000,
        n_bytes=1,
        seconds=2000.0,
        stages={"read": 100.0, "infer": 1500.0, "compute": 10.0},
    )
    return replace(basis, **changes)


def test_achieved_beside_planned() -> None:
    rows = [line.split() for line in made().compare(report(), peak_memory=75 * MIB).splitlines()]
    assert rows == [
        ["planned", "achieved"],
        ["steps/s", "1", "0.5"],
        ["hours", "0.278", "0.556"],
        ["read", "0.25", "0.1", "s", "a", "step"],
        ["regrid", "0.125", "s", "a", "step"],
        ["infer", "0.5", "1.5", "s", "a", "step"],
        ["write", "0.125", "s", "a", "step"],
        ["compute", "0.01", "s", "a", "step"],
        ["memory", "150.0", "MiB", "75.0", "MiB"],
    ]
    # of a run that was resumed, what it did itself
    rest = made().compare(report(written=5, n_steps=100, seconds=50.0)).splitlines()
    assert rest[2].split() == ["hours", "0.0278", "0.0139"]
    assert rest[-1].split() == ["memory", "150.0", "MiB"]
    assert "nothing was computed" in made().compare(report(written=0, n_steps=0))


def test_notes_say_what_to_do(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 2)
    (few,) = plan(path, model, trial=False, block_size=4, workers=3).notes
    assert "2 blocks for 3 threads leave some idle" in few
    (fast,) = plan(path, model, trial=False, rates={"infer": 1e9}, block_size=2).notes
    assert "the scheduler is the limit" in fast


# what is refused


def test_what_cannot_be_planned(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its fields are in memory"):
        plan(storm_dataset(), model)
    with pytest.raises(TypeError, match="expected an xarray Dataset or the path of one, got Data"):
        plan(storm_dataset().PSL, model)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        plan(tmp_path / "none.zarr", model)
    uneven = storm_dataset(4).chunk(time=(1, 3))
    with pytest.raises(ValueError, match="all chunks along 'time' must be equal"):
        plan(uneven, model, trial=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be a positive integer, got 0"),
        ({"threads_per_worker": True}, "threads_per_worker must be a positive integer, got True"),
        ({"rates": {"decode": 1.0}}, r"rates must be of the stages \['read', .*got \['decode'\]"),
        ({"rates": {"read": 0.0}}, r"rates must be positive numbers .*got \{'read': 0.0\}"),
        ({"rates": {}}, r"rates must be positive numbers of steps a second, got \{\}"),
        ({"read_bandwidth": -1.0}, "read_bandwidth must be bytes a second, got -1.0"),
        ({"efficiency": 1.5}, "efficiency must be above 0 and at most 1, got 1.5"),
        ({"efficiency": np.nan, "workers": -1}, "workers must be .*; efficiency must be"),
    ],
)
def test_options_out_of_range(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan("nowhere", model, **options)
