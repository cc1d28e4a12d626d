"""Plans: counts and bytes against what a run really does, arithmetic by hand, and no reading."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tests.stores import counted
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model, storm_spec
from xsphere.blocks import WriteReport, write_blocks
from xsphere.model import Model
from xsphere.planning import Plan, compared, plan, volumes
from xsphere.planning.memory import activation_bytes, peak_bytes, resident_bytes
from xsphere.segmentation import segment
from xsphere.store import open_unread

NAMES = ("PSL", "U850", "V850")
MIB = 2**20


@pytest.fixture(scope="module")
def model() -> Model:
    return storm_model()


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


def real_tasks(array: xr.DataArray) -> int:
    (optimised,) = dask.optimize(array.data)
    return sum(type(task).__name__ == "Task" for task in dict(optimised.__dask_graph__()).values())


def made(**changes: Any) -> Plan:
    """A plan of round numbers: 1000 steps in 50 blocks, a second a step."""
    basis = Plan(
        model="m",
        places=("/data/x.zarr/a", "/data/x.zarr/b"),
        n_steps=1000,
        n_samples=1000,
        n_blocks=50,
        block_steps=20,
        n_tasks=50,
        bytes_stored=10**6,
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


@examples(15)
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
    ds, seen = counted(path)
    options: dict[str, Any] = {"block_size": block, "batch_size": batch}
    found = plan(ds, storm_model(), trial=False, **options)
    assert not seen
    segment(ds, storm_model(), **options).compute(scheduler="sync")
    assert found.bytes_read == sum((path / key).stat().st_size for key in seen)
    assert found.bytes_stored == sum((path / key).stat().st_size for key in set(seen))
    assert found.bytes_stored == size_of(path)
    assert found.bytes_decoded == len(seen) * steps * 19 * 36 * 4
    assert found.reads_per_chunk == pytest.approx(len(seen) / len(set(seen)))
    assert (found.n_steps, found.n_samples) == (n, n)


def test_only_what_is_selected_counts(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(9), tmp_path / "x.zarr", 2)
    ds, seen = counted(path)
    chosen = ds.isel(time=[0, 5, 6]).rename(time="when")
    found = plan(chosen, model, trial=False, block_size=3)
    segment(chosen, model, block_size=3).compute(scheduler="sync")
    assert len(seen) == 3 * 3
    assert found.bytes_read == sum((path / key).stat().st_size for key in seen)


def test_members_and_fixed_fields(model: Model, tmp_path: Path) -> None:
    base = storm_dataset(4)
    ds = xr.concat([base, base + 1, base - 1], "member", join="outer").transpose("time", ...)
    ds = ds.assign(PSL=base.PSL.isel(time=0, drop=True))
    for name in NAMES:
        ds[name].attrs = base[name].attrs
    path = stored(ds, tmp_path / "x.zarr", 1)
    opened, seen = counted(path)
    found = plan(opened, model, trial=False, block_size=2, batch_size=3)
    segment(opened, model, block_size=2, batch_size=3).compute(scheduler="sync")
    assert (found.n_steps, found.n_samples) == (4, 12)
    assert found.bytes_read == sum((path / key).stat().st_size for key in seen)
    # the field without time is read with every part
    assert found.bytes_read > found.bytes_stored == size_of(path)  # type: ignore[operator]


def test_chunks_of_a_shard_count_for_themselves(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 2, shards=(8, 19, 36))
    whole = plan(path, model, trial=False, block_size=2)
    assert whole.bytes_stored == whole.bytes_read == pytest.approx(size_of(path), abs=3)
    assert whole.bytes_decoded == 3 * 8 * 19 * 36 * 4
    half = plan(
        xr.open_zarr(path, chunks=None, consolidated=False).isel(time=slice(4)), model, trial=False
    )
    assert half.bytes_read == pytest.approx(size_of(path) / 2, abs=3)


def test_other_kinds_of_sources(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(6)
    ds.to_netcdf(tmp_path / "x.nc")
    whole = plan(tmp_path / "x.nc", model, trial=False)
    size = (tmp_path / "x.nc").stat().st_size
    assert 0.9 * size < whole.bytes_stored <= size  # type: ignore[operator]
    assert whole.places == (str(tmp_path / "x.nc"),)
    store = MemoryStore()
    ds.to_zarr(store, consolidated=False)
    found = plan(xr.open_zarr(store, chunks=None, consolidated=False), model, trial=False)
    objects = {key: len(value) for key, value in store._store_dict.items()}
    expected = sum(size for key, size in objects.items() if key.split("/c/")[0] in NAMES)
    assert found.bytes_stored == expected


def test_points_of_unknown_size(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(4), tmp_path / "x.zarr")
    ds = xr.open_zarr(path, chunks=None, consolidated=False)
    points = ds.isel(
        time=xr.DataArray([0, 1, 3], dims="pick"), lat=xr.DataArray([3, 4, 5], dims="pick")
    )
    found = volumes.volume(points.PSL.variable, "pick", [slice(0, 2)])
    assert found.stored is None
    assert found.decoded == 2 * 36 * 4


def test_sizes_of_some_chunks_stand_for_all(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(storm_dataset(40), tmp_path / "x.zarr", 1)
    exact = plan(path, model, trial=False)
    monkeypatch.setattr(volumes, "MOST_FILES", 8)
    found = plan(path, model, trial=False)
    assert found.bytes_read != exact.bytes_read
    assert found.bytes_read == pytest.approx(exact.bytes_read, rel=0.02)
    assert any("estimated from the sizes of some" in note for note in found.notes)
    assert not exact.notes


def test_missing_chunks_are_told_of(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 2)
    (path / "U850" / "c" / "1" / "0" / "0").unlink()
    found = plan(path, model, trial=False)
    assert found.bytes_read == size_of(path)
    assert any(note.startswith("1 chunks are not in the store") for note in found.notes)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_tasks_are_those_of_the_graph(model: Model, tmp_path: Path, block: int) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 1)
    found = plan(path, model, trial=False, block_size=block)
    assert found.n_tasks == real_tasks(segment(path, model, block_size=block)) == -(-8 // block)
    assert (found.n_blocks, found.block_steps) == (-(-8 // block), block)
    chunked = xr.open_dataset(path, engine="zarr", chunks={"time": block}, consolidated=False)
    found = plan(chunked, model, trial=False)
    assert found.n_tasks == real_tasks(segment(chunked, model)) == -(-8 // block)
    assert found.bytes_read == size_of(path)
    found = plan(worked_with(chunked), model)
    assert found.n_tasks == real_tasks(segment(worked_with(chunked), model)) == 4 * -(-8 // block)


def test_many_blocks_are_counted_by_some(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(150, 5, 8), tmp_path / "x.zarr", 50)
    assert plan(path, model, trial=False, block_size=1).n_tasks == 150


def test_options_are_those_of_segment(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(4), tmp_path / "x.zarr")
    options: dict[str, Any] = {"output": "probability", "grid": "source", "block_size": 2}
    found = plan(path, model, trial=False, **options)
    assert found.bytes_result == segment(path, model, **options).nbytes == 4 * 3 * 19 * 36 * 4
    with pytest.raises(ValueError, match="output must be 'mask' or 'probability', got 'classes'"):
        plan(path, model, output="classes")


def test_a_single_map(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(1).isel(time=0, drop=True)
    path = stored(ds, tmp_path / "x.zarr")
    found = plan(path, model)
    assert (found.n_steps, found.n_blocks, found.block_steps, found.trial) == (1, 1, 1, (0, 1))
    assert found.bytes_read == size_of(path)
    report = write_blocks(segment(path, model), tmp_path / "mask.zarr", workers=1)
    text = compared(found, report)
    assert f"{1 / report.seconds:.3g}" in text.splitlines()[1]


# nothing is read that should not be


def worked_with(ds: xr.Dataset) -> xr.Dataset:
    """The same values, by tasks that do more than read."""
    return ds.map(lambda array: array * 1, keep_attrs=True)


def test_without_a_trial_nothing_is_read_or_computed(model: Model, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    ds, seen = counted(stored(storm_dataset(6), tmp_path / "x.zarr"))
    with dask.config.set(scheduler=fail):
        for source in (ds, ds.chunk(time=2)):
            found = plan(source, model, trial=False)
            assert (found.seconds, found.trial, found.hours()) == ({}, None, None)
        # a graph of the user's own is not computed unless asked
        assert plan(worked_with(ds.chunk(time=2)), model).trial is None
        assert plan(ds, model, rates={"infer": 1.0}).trial is None
    assert not seen


@examples(6)
@given(steps=st.integers(1, 4), block=st.sampled_from([None, 2, 5]), batch=st.integers(1, 3))
def test_a_trial_reads_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, steps: int, block: int | None, batch: int
) -> None:
    path = stored(storm_dataset(9), tmp_path_factory.mktemp("store") / "x.zarr", steps)
    ds, seen = counted(path)
    found = plan(ds, storm_model(), block_size=block, batch_size=batch)
    assert found.trial is not None
    chunks = range(found.trial[0] // steps, (found.trial[1] - 1) // steps + 1)
    assert sorted(seen) == sorted(f"{name}/c/{chunk}/0/0" for name in NAMES for chunk in chunks)
    assert list(found.seconds) == ["read", "regrid", "infer", "compute", "write"]
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.hours() > 0  # type: ignore[operator]


def test_a_trial_is_a_part_of_a_block_in_the_middle(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(storm_dataset(40), tmp_path / "x.zarr", 10)
    monkeypatch.setattr("xsphere.planning.trial.TRIAL_SECONDS", 1e9)
    assert plan(path, model, block_size=10).trial == (20, 30)
    # a network that takes long is tried on less
    monkeypatch.setattr("xsphere.planning.trial.TRIAL_SECONDS", 0.0)
    assert plan(path, model, block_size=10).trial == (20, 21)


def test_reading_counts_chunks_as_a_whole(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ten_seconds(work: Any) -> Any:
        return {"read": 10.0, "regrid": 4.0, "infer": 6.0, "compute": 0.0}, work()

    monkeypatch.setattr("xsphere.planning.trial._timed", ten_seconds)
    monkeypatch.setattr("xsphere.planning.trial.TRIAL_SECONDS", 0.0)
    path = stored(storm_dataset(40), tmp_path / "x.zarr", 10)
    # one step was tried, for which chunks of ten were decoded
    seconds = plan(path, model, block_size=10).seconds
    assert [seconds[name] for name in ("read", "regrid", "infer")] == [1.0, 4.0, 6.0]
    # in halves, each chunk is decoded twice
    cut = plan(path, model, block_size=5, batch_size=1)
    assert cut.seconds["read"] == 2.0
    assert cut.reads_per_chunk == 2.0
    assert any("each chunk is decoded 2.0 times" in note for note in cut.notes)


def test_a_trial_of_a_chunked_dataset_is_a_block(model: Model, tmp_path: Path) -> None:
    ds, seen = counted(stored(storm_dataset(8), tmp_path / "x.zarr", 2))
    found = plan(worked_with(ds.chunk(time=2)), model, trial=True)
    assert found.trial == (4, 6)
    assert sorted(seen) == sorted(f"{name}/c/2/0/0" for name in NAMES)
    assert list(found.seconds) == ["regrid", "infer", "compute", "write"]


def test_a_trial_leaves_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = plan(stored(storm_dataset(4), tmp_path / "x.zarr"), model, output="probability")
    assert not list((tmp_path / "temporary").iterdir())
    # random probabilities of float32 hardly get smaller
    assert 0.5 * found.bytes_result < found.bytes_written <= 1.1 * found.bytes_result  # type: ignore[operator]


def test_rates_replace_what_was_measured(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(4), tmp_path / "x.zarr")
    found = plan(path, model, trial=True, rates={"infer": 0.01})
    assert found.seconds["infer"] == 100.0
    assert 0 < found.seconds["read"] < 100.0
    assert found.limiting_stage == "infer"
    paper = plan(path, model, rates={"write": 8.0, "read": 4.0})
    assert paper.seconds == {"read": 0.25, "write": 0.125}


# memory


@pytest.mark.parametrize("n_layers", [1, 12])
def test_activations_are_what_the_network_allocates(n_layers: int) -> None:
    # of many layers, the decoder waits for all that the encoder was given
    sizes = {"features": (8,) * n_layers, "depths": (0,) * n_layers, "kernel_size": 3}
    spec = replace(storm_spec(3), network={"architecture": "unet"} | sizes)
    model = Model.untrained(spec, 0)
    network = model.network()
    x = torch.zeros(1, model.grid.n_cells, 4)
    with torch.inference_mode():
        network(x)
        with torch.profiler.profile(profile_memory=True) as profile:
            network(x)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    peak = max(np.cumsum(sizes))
    assert peak <= activation_bytes(model) <= 1.7 * peak


def test_memory_is_what_is_held(model: Model, tmp_path: Path) -> None:
    ds, options = storm_dataset(16, 91, 180), {"trial": False, "batch_size": 1}
    part, cells = 8 * 91 * 180 * 4, 192
    path = stored(ds, tmp_path / "x.zarr", 8)
    found = plan(path, model, block_size=16, **options)  # type: ignore[arg-type]
    # two fields held and two of the group before, a chunk, what is regridded, the block's result
    # of sixteen steps, which are regridded together
    held = 5 * 2 * part + 3 * 16 * cells * 4 + 16 * cells
    assert found.memory_thread == 48 * MIB + held
    chunked = xr.open_dataset(path, engine="zarr", chunks={}, consolidated=False)
    found = plan(worked_with(chunked), model, **options)  # type: ignore[arg-type]
    # all three fields, sixteen that are regridded together, one step of what comes of it
    beside = 16 * part // 8
    assert found.memory_thread == 48 * MIB + 3 * part + beside + 3 * cells * 4 + 8 * cells


def test_unpacking_takes_memory(model: Model, tmp_path: Path) -> None:
    ds = storm_dataset(16, 91, 180)
    plain = plan(stored(ds, tmp_path / "x.zarr", 8), model, trial=False, batch_size=1)
    packing = {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -32768}
    packed = plan(stored(ds, tmp_path / "p.zarr", 8, **packing), model, trial=False, batch_size=1)
    opened = open_unread(tmp_path / "p.zarr")
    values = 8 * 91 * 180
    wide = opened.PSL.dtype.itemsize
    # a chunk and the packed values beside five fields of the unpacked type
    assert packed.memory_thread - plain.memory_thread == values * (2 + 2 + 5 * wide - 5 * 4)
    assert packed.bytes_decoded == plain.bytes_decoded / 2


def test_workers_hold_a_process_and_its_threads() -> None:
    assert made(threads_per_worker=3, workers=7).memory == 250 * MIB
    assert 0 < resident_bytes() <= 1.1 * peak_bytes()


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
    found = plan(path, model, rates={"infer": 2.0}, workers=2, block_size=1)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["hours"] == found.hours() == 4 / (2 * 2 * 0.9) / 3600
    assert (data["memory"], data["limiting_stage"]) == (found.memory, "infer")
    assert data["places"] == [str(path / name) for name in NAMES]
    assert data["seconds"] == {"infer": 0.5}


# words


def test_a_plan_in_words() -> None:
    text = str(made(workers=2, trial=(20, 40), notes=("look here",), n_samples=3000))
    for expected in (
        "plan of 'm' on /data/x.zarr\n",
        "1,000, 3,000 maps in 50 blocks of 20, 50 tasks",
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
    assert "of unknown size in the store" in str(made(bytes_read=None))
    assert "1.5 KiB/s from the store" in str(made(read_bandwidth=1536.0, gpu=True))
    assert "on a.zarr, b.zarr\n" in str(made(places=("a.zarr", "b.zarr")))


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
    rows = [line.split() for line in compared(made(), report(), peak_memory=75 * MIB).splitlines()]
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
    # of a run that went on, what it did itself
    rest = compared(made(), report(written=5, n_steps=100, seconds=50.0)).splitlines()
    assert rest[2].split() == ["hours", "0.0278", "0.0139"]
    assert "nothing was computed" in compared(made(), report(written=0, n_steps=0))
    # of other processes this one knows nothing
    assert compared(made(workers=2), report()).splitlines()[-1].split()[-2:] == ["150.0", "MiB"]
    assert len(compared(made(), report()).splitlines()[-1].split()) == 5


def test_notes_say_what_to_do(model: Model, tmp_path: Path) -> None:
    path = stored(storm_dataset(8), tmp_path / "x.zarr", 2)
    (few,) = plan(path, model, trial=False, block_size=4, workers=3).notes
    assert "2 blocks for 3 threads leave some idle" in few
    (fast,) = plan(path, model, rates={"infer": 1e9}, block_size=2).notes
    assert "the scheduler is the limit" in fast
    chunked = xr.open_zarr(path, consolidated=False)
    graph = plan(worked_with(chunked), model).notes
    assert any("trial=True measures by computing one block" in note for note in graph)
    unknown = plan(worked_with(chunked), model, trial=False)
    assert unknown.bytes_read is None
    assert any("bytes in the store are not known" in note for note in unknown.notes)


# what is refused


def test_what_cannot_be_planned(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['PSL', 'U850', 'V850'\] are in memory"):
        plan(storm_dataset(), model)
    with pytest.raises(TypeError, match="expected an xarray Dataset or the path of one, got Data"):
        plan(storm_dataset().PSL, model)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        plan(tmp_path / "none.zarr", model)


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
