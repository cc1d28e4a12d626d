"""Plans made: the lazy result is built as for the run, and one block of it is tried."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.blocks.layout import in_blocks
from xsphere.model import Model
from xsphere.planning.plans import Plan
from xsphere.planning.trial import Trial, tried
from xsphere.segmentation import Segmentation, job

STAGES = ("read", "regrid", "infer", "compute", "write")
EFFICIENCY = 0.9
# how often a chunk may be decoded on average before it is said
OFTEN = 1.05
# steps to warm up, and to try where a block takes too long: as many as take the way of many
FEW = 8


def plan(
    ds: xr.Dataset | str | Path,
    model: str | Path | Model,
    *,
    workers: int = 1,
    threads_per_worker: int = 1,
    trial: bool = True,
    rates: Mapping[str, float] | None = None,
    read_bandwidth: float | None = None,
    efficiency: float = EFFICIENCY,
    **options: Any,
) -> Plan:
    """Blocks, bytes, memory and hours that `xsphere.segment` and `xsphere.write_blocks` will take.

    The lazy result is built as for the run, so that all is checked that the run checks. A trial
    reads, computes and writes one block of it in a process of its own.

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
    trial : bool
        Whether to measure. A block in the middle is written to a temporary folder; of one that
        takes longer than half a minute, fewer steps.
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
    Exception
        What the trial raises, such as `MissingChunkError`.

    Notes
    -----
    Stages of a thread follow each other, so it makes ``1 / sum(seconds of a step)`` steps a second.
    A worker's GPU serves one thread at a time while the others read, so that it makes at most as
    many steps as its network. N workers reach at most N times that, as far as there are blocks for
    all and times the efficiency; no more than the store's bandwidth by the bytes of a step; and no
    more than a scheduler allows with 1 ms a block.

    Chunks are decoded as a whole, which counts where blocks end within them. What was read a short
    time ago may lie in the memory of the system, and be read faster in the trial than in the run.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> rates = {"read": 40.0, "regrid": 25.0, "infer": 2.0}
    >>> found = plan(SAMPLE, "tc-ar", block_size=1, workers=2, trial=False, rates=rates)
    >>> found.n_blocks, found.limiting_stage, round(found.rate(), 2)
    (2, 'infer', 3.19)
    """
    _check(workers, threads_per_worker, rates, read_bandwidth, efficiency)
    work = job(ds, model, **options)
    if not (work.is_unread or work.is_chunked):
        raise ValueError(
            "expected data that are not read yet, but its fields are in memory, where segment() "
            "works through them at once; give the path of the store, or cut them with "
            "ds.chunk(time=...)"
        )
    result, blocks = work.lazy(), work.blocks
    in_blocks(result)  # refuses what cannot be written
    n_steps, step = work.n_steps, blocks[0].stop
    read = work.layout.read if work.is_unread else step
    decoded = _decoded(work, slice(0, n_steps), step, read)
    found = _tried(work, blocks) if trial else None
    measured = {} if found is None else _measured(work, *found, decoded, read)
    seconds = measured.pop("seconds", {})
    seconds |= {name: 1.0 / rate for name, rate in (rates or {}).items()}
    made = Plan(
        model=str(result.attrs["xsphere_model"]),
        source=str(ds.encoding.get("source", "a dataset") if isinstance(ds, xr.Dataset) else ds),
        n_steps=n_steps,
        n_samples=work.n_samples,
        n_blocks=len(blocks),
        block_steps=step,
        bytes_decoded=round(decoded),
        reads_per_chunk=decoded / _decoded(work, slice(0, n_steps), n_steps, n_steps),
        bytes_result=result.nbytes,
        workers=workers,
        threads_per_worker=threads_per_worker,
        gpu=_is_gpu(work.node.inference.device),
        seconds={name: seconds[name] for name in STAGES if name in seconds},
        efficiency=efficiency,
        read_bandwidth=read_bandwidth,
        **measured,
    )
    return replace(made, notes=tuple(_notes(made, None if found is None else found[0])))


def _is_gpu(device: str | None) -> bool:
    """Whether the network runs on a GPU, as far as this process can tell of the workers."""
    import torch

    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type != "cpu"


def _tried(work: Segmentation, blocks: Sequence[slice]) -> tuple[Trial, slice]:
    """A trial of the block in the middle, or of its first steps, and which steps these are."""
    # another one to warm up, whose chunks the system may keep in memory
    other, block = blocks[len(blocks) // 2 - 1], blocks[len(blocks) // 2]
    found = tried(_pieces(work, other, FEW), _pieces(work, block, block.stop - block.start))
    return found, slice(block.start, block.start + found.n_steps)


def _pieces(work: Segmentation, block: slice, most: int) -> dict[int, xr.DataArray]:
    """Lazy results of the first steps of a block, by how many they are."""
    most = min(most, block.stop - block.start)
    return {
        n: work.steps(slice(block.start, block.start + n)).lazy()
        for n in sorted({1, min(FEW, most), most})
    }


def _measured(
    work: Segmentation, trial: Trial, steps: slice, decoded: float, read: int
) -> dict[str, Any]:
    """What a trial of some steps tells of a run that decodes so many bytes."""
    # chunks come whole, however few of their steps are wanted
    share = decoded / _decoded(work, steps, trial.n_steps, read)
    seconds = {name: spent / trial.n_steps for name, spent in trial.seconds.items()}
    if "read" in seconds:
        seconds["read"] = trial.seconds["read"] * share / work.n_steps
    return {
        "seconds": seconds,
        "bytes_read": round(trial.read * share) or None,
        "bytes_written": round(trial.written * work.n_steps / trial.n_steps),
        "memory_base": trial.base,
        "memory_thread": trial.added,
        "memory_device": trial.device,
        "trial": (steps.start, steps.stop),
    }


def _decoded(work: Segmentation, steps: slice, block: int, read: int) -> float:
    """Bytes of the chunks that hold some steps, each as often as parts of blocks are in it."""
    first = np.arange(steps.start, steps.stop, block)[:, None]
    starts = first + np.arange(0, block, read)
    stops = np.minimum(starts + read, np.minimum(first + block, steps.stop))
    starts, stops = starts[starts < stops], stops[starts < stops]
    total = 0.0
    for variable in work.variables:
        if (dim := work.layout.first) not in variable.dims:
            total += variable.nbytes * starts.size
            continue
        size = variable.sizes[dim]
        chunk = (variable.encoding.get("preferred_chunks") or {}).get(dim, 1)
        ends = np.minimum(-(-stops // chunk) * chunk, size)
        total += variable.nbytes / size * float((ends - starts // chunk * chunk).sum())
    return total


def _notes(made: Plan, trial: Trial | None) -> list[str]:
    notes = []
    threads = made.workers * made.threads_per_worker
    if made.reads_per_chunk > OFTEN:
        notes.append(
            f"each chunk is decoded {made.reads_per_chunk:.1f} times, since blocks or reads end "
            "within chunks: choose block_size in whole chunks, or copy the store with fewer steps "
            "in a chunk"
        )
    if made.n_blocks < threads:
        notes.append(
            f"{made.n_blocks} blocks for {threads} threads leave some idle: choose a smaller "
            "block_size"
        )
    if made.limiting_stage == "scheduler":
        notes.append("the scheduler is the limit: choose a larger block_size")
    if trial is None:
        return notes
    if made.bytes_read is None:
        notes.append("bytes in the store are not known: nothing counts them as they are read")
    if trial.n_steps < made.block_steps:
        notes.append(
            f"{trial.n_steps} steps were tried, since a block takes long: a whole one may take "
            "more memory"
        )
    if trial.shared:
        notes.append(
            "a block was tried in this process, since it could not be handed to another "
            f"({trial.shared}): memory is not known"
        )
    return notes


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
