"""Plans made: the lazy result is built, counted, and tried on a few steps."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.model import Model
from xsphere.model.inputs import matched_variables
from xsphere.planning.memory import (
    activation_bytes,
    loaded_bytes,
    on_gpu,
    resident_bytes,
    thread_bytes,
)
from xsphere.planning.plans import Plan
from xsphere.planning.trial import Trial, measured
from xsphere.planning.volumes import Volume, volume
from xsphere.planning.work import Work
from xsphere.segmentation import segment
from xsphere.segmentation.checks import dataset_of
from xsphere.segmentation.jobs import is_unread
from xsphere.sources import places_of

STAGES = ("read", "regrid", "infer", "compute", "write")
EFFICIENCY = 0.9
# how often a chunk may be decoded on average before it is said
OFTEN = 1.05


def plan(
    ds: xr.Dataset | str | Path,
    model: str | Path | Model,
    *,
    workers: int = 1,
    threads_per_worker: int = 1,
    trial: bool | None = None,
    rates: Mapping[str, float] | None = None,
    read_bandwidth: float | None = None,
    efficiency: float = EFFICIENCY,
    **options: Any,
) -> Plan:
    """Tasks, bytes, memory and hours that `xsphere.segment` and `xsphere.write_blocks` will take.

    The lazy result is built as for the run, so that all is checked that the run checks. A trial
    reads and computes a few steps of it.

    Parameters
    ----------
    ds : Dataset, str or Path
        As for `xsphere.segment`, but not in memory.
    model : str, Path or Model
        As for `xsphere.segment`.
    workers : int
        Processes that will work on it.
    threads_per_worker : int
        Blocks that each works on at a time, each with a processor.
    trial : bool, optional
        Whether to measure: one read of the data and its network, and a block written to a
        temporary folder, in this thread. By default where nothing was given to go by instead and
        the dataset is not chunked. Of a chunked one, a trial computes a whole block.
    rates : mapping of str to float, optional
        Steps a second of one thread by stage, in place of measured ones: ``read`` (with decoding),
        ``regrid``, ``infer``, ``write``, and ``compute`` for what is none of them. With GPUs,
        ``infer`` is the rate of a GPU. Without a trial, a stage that is not given takes no time.
    read_bandwidth : float, optional
        Bytes that the store gives to all workers together in a second.
    efficiency : float
        Part of its speed that a thread keeps beside others, from 0 to 1.
    **options
        As for `xsphere.segment`: `output`, `grid`, `block_size`, `batch_size`, `device` and others.

    Returns
    -------
    Plan
        To print; with ``trial=False`` and no rates it has no hours.

    Raises
    ------
    TypeError
        If `ds` is neither a Dataset nor a path.
    ValueError
        If the fields are in memory, an option is out of range, or as `xsphere.segment`.

    Notes
    -----
    Stages of a thread follow each other, so it makes ``1 / sum(seconds of a step)`` steps a second.
    A worker's GPU serves one thread at a time while the others read, so that it makes at most as
    many steps as its network. N workers reach at most N times that, as far as there are blocks for
    all and times the efficiency; no more than the store's bandwidth by the bytes of a step; and no
    more than a scheduler allows with 1 ms a block.

    Memory is added up from the sizes of what is held at a time; what a worker has to begin with is
    what this process has. Both assume that the memory of the trial is that of the run. What a trial
    reads may be read faster in the run, from memory of the system.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> rates = {"read": 40.0, "regrid": 25.0, "infer": 2.0}
    >>> found = plan(SAMPLE, "tc-ar", block_size=1, workers=2, rates=rates)
    >>> found.n_blocks, found.limiting_stage, round(found.rate(), 2)
    (2, 'infer', 3.19)
    """
    _check(workers, threads_per_worker, rates, read_bandwidth, efficiency)
    ds, model = dataset_of(ds), Model.load(model)
    work = _work(ds, model, options)
    reading = _reading(work)
    if trial is None:
        trial = rates is None and work.source is not None
    tried = measured(work, model, reading) if trial else None
    seconds = {} if tried is None else dict(tried.seconds)
    seconds |= {name: 1.0 / rate for name, rate in (rates or {}).items()}
    made = Plan(
        **_counts(work, reading, tried),
        **_memory(work, model, tried),
        model=model.spec.name,
        places=_places(work),
        workers=workers,
        threads_per_worker=threads_per_worker,
        gpu=on_gpu(work.node.inference.device),
        seconds={name: seconds[name] for name in STAGES if name in seconds},
        efficiency=efficiency,
        read_bandwidth=read_bandwidth,
        trial=None if tried is None else (tried.steps.start, tried.steps.stop),
    )
    return replace(made, notes=tuple(_notes(made, work, reading)))


def _work(ds: xr.Dataset, model: Model, options: Mapping[str, Any]) -> Work:
    arrays = tuple(match.array for match in matched_variables(ds, model.spec))
    if not any(array.chunks is not None or is_unread(array) for array in arrays):
        raise ValueError(
            f"expected data that are not read yet, but {[str(a.name) for a in arrays]} are in "
            "memory, where segment() works through them at once; give the path of the store, or "
            "cut them with ds.chunk(time=...)"
        )
    return Work(segment(ds, model, **options), arrays)


def _counts(work: Work, reading: Volume, tried: Trial | None) -> dict[str, Any]:
    return {
        "n_steps": work.n_steps,
        "n_samples": work.n_samples,
        "n_blocks": len(work.blocks),
        "block_steps": work.block_steps,
        "n_tasks": work.n_tasks,
        "bytes_stored": _whole(reading.stored),
        "bytes_read": _whole(reading.read),
        "bytes_decoded": reading.decoded,
        "reads_per_chunk": reading.decoded / max(1, reading.needed),
        "bytes_result": work.result.nbytes,
        "bytes_written": None if tried is None else round(tried.written * work.n_steps),
    }


def _places(work: Work) -> tuple[str, ...]:
    """Files and stores that are read, which may be a cache of the dataset."""
    found = {place for v in work.variables for place in places_of(xr.DataArray(v))}
    return tuple(sorted(found))


def _memory(work: Work, model: Model, tried: Trial | None) -> dict[str, Any]:
    inference = work.node.inference
    device = inference.batch_size * activation_bytes(model) if on_gpu(inference.device) else 0
    others = work.n_samples // work.n_steps
    read = work.block_steps if work.source is None else work.source.layout.read
    sizes = {"block": others * min(work.block_steps, work.n_steps), "part": others * read}
    base = resident_bytes() + loaded_bytes(work.node, model) if tried is None else tried.resident
    return {
        "memory_base": base,
        "memory_thread": thread_bytes(work.node, model, work.variables, sizes),
        "memory_device": device,
    }


def _check(
    workers: int,
    threads: int,
    rates: Mapping[str, float] | None,
    read_bandwidth: float | None,
    efficiency: float,
) -> None:
    counts = {"workers": workers, "threads_per_worker": threads}
    problems = [
        f"{name} must be a positive integer, got {count!r}"
        for name, count in counts.items()
        if type(count) is not int or count < 1
    ]
    unknown = sorted(set(rates or {}) - set(STAGES))
    if unknown:
        problems.append(f"rates must be of the stages {list(STAGES)}, got {unknown}")
    wrong = {name: rate for name, rate in (rates or {}).items() if not _is_positive(rate)}
    if wrong or rates == {}:
        problems.append(f"rates must be positive numbers of steps a second, got {wrong or rates}")
    if read_bandwidth is not None and not _is_positive(read_bandwidth):
        problems.append(f"read_bandwidth must be bytes a second, got {read_bandwidth!r}")
    if not (_is_positive(efficiency) and efficiency <= 1):
        problems.append(f"efficiency must be above 0 and at most 1, got {efficiency!r}")
    if problems:
        raise ValueError("; ".join(problems))


def _is_positive(number: Any) -> bool:
    return isinstance(number, int | float) and math.isfinite(number) and number > 0


def _reading(work: Work) -> Volume:
    parts = work.parts
    nothing = Volume(stored=0.0, read=0.0, needed=0, decoded=0)
    return sum((volume(variable, work.dim, parts) for variable in work.variables), nothing)


def _whole(n_bytes: float | None) -> int | None:
    return None if n_bytes is None else round(n_bytes)


def _notes(made: Plan, work: Work, reading: Volume) -> list[str]:
    notes = []
    threads = made.workers * made.threads_per_worker
    if made.reads_per_chunk > OFTEN:
        notes.append(
            f"each chunk is decoded {made.reads_per_chunk:.1f} times, since blocks or reads end "
            "within chunks: choose block_size in whole chunks, or copy the store with fewer steps "
            "in a chunk"
        )
    if reading.n_missing:
        notes.append(
            f"{reading.n_missing:,} chunks are not in the store; what becomes of them is chosen "
            "by missing_chunks"
        )
    if reading.sampled:
        notes.append("bytes in the store are estimated from the sizes of some chunks")
    if reading.stored is None:
        notes.append("bytes in the store are not known: only their reading would tell")
    if made.n_blocks < threads:
        notes.append(
            f"{made.n_blocks} blocks for {threads} threads leave some idle: choose a smaller "
            "block_size"
        )
    if made.limiting_stage == "scheduler":
        notes.append("the scheduler is the limit: choose a larger block_size")
    if work.source is None and made.trial is None:
        notes.append(
            "the dataset is chunked; trial=True measures by computing one block of its graph, and "
            "a path instead of it makes each block one task"
        )
    return notes
