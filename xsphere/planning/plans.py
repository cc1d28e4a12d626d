"""A plan: what was counted and measured, the arithmetic from there to hours, and both in words."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xsphere.blocks import WriteReport
from xsphere.notices import bytes_text

# seconds of a scheduler for each block
SCHEDULER_SECONDS = 1e-3
# workers of the small table
WORKERS = (1, 8, 64)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will take.

    Parameters
    ----------
    model : str
        Name of the model.
    source : str
        File or store that is read, as far as the dataset knows.
    n_steps, n_samples : int
        Length of the first dimension that is not horizontal, and maps in all.
    n_blocks, block_steps : int
        Tasks: pieces that are computed and written one by one, and steps in one.
    bytes_decoded : int
        Of the values that are read, a chunk as often as it is read.
    bytes_result : int
        Of the result, before compression.
    reads_per_chunk : float
        How often a chunk is read, on average.
    bytes_read : int or None
        Taken from the store, compressed; None where nothing counted them.
    bytes_written : int or None
        Of the compressed result; None without a trial.
    memory_base, memory_thread : int or None
        Bytes of a worker with model and code loaded, and what each of its threads adds at most;
        None where no process of its own was tried.
    memory_device : int
        The most bytes that were allocated on a GPU.
    workers, threads_per_worker : int
        What was asked for.
    gpu : bool
        Whether each worker has a GPU.
    seconds : dict of str to float
        Of one thread for one step, by stage; empty if not known.
    efficiency : float
        Part of its speed that a thread keeps beside others.
    read_bandwidth : float or None
        Bytes that the store gives all workers together in a second.
    trial : tuple of (int, int) or None
        First step that was tried, and the one after the last.
    notes : tuple of str
        What should be known before.

    Examples
    --------
    >>> plan = Plan(
    ...     model="m", source="x.zarr", n_steps=7200, n_samples=7200, n_blocks=300, block_steps=24,
    ...     bytes_decoded=10**9, bytes_result=10**7, seconds={"read": 0.25, "infer": 0.75},
    ... )
    >>> plan.hours(), plan.limiting_stage
    (2.0, 'infer')
    """

    model: str
    source: str
    n_steps: int
    n_samples: int
    n_blocks: int
    block_steps: int
    bytes_decoded: int
    bytes_result: int
    reads_per_chunk: float = 1.0
    bytes_read: int | None = None
    bytes_written: int | None = None
    memory_base: int | None = None
    memory_thread: int | None = None
    memory_device: int = 0
    workers: int = 1
    threads_per_worker: int = 1
    gpu: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    efficiency: float = 1.0
    read_bandwidth: float | None = None
    trial: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def memory(self) -> int | None:
        """The most bytes that a worker takes, all its threads together; None if not known."""
        if self.memory_base is None or self.memory_thread is None:
            return None
        return self.memory_base + self.threads_per_worker * self.memory_thread

    def limits(self, workers: int | None = None) -> dict[str, float]:
        """Steps a second that each thing allows for itself; empty if nothing was measured.

        The workers, their GPUs (``infer``, one thread at a time each), ``store bandwidth`` if it
        was given, and the ``scheduler``, for so many workers, or those of the plan.
        """
        total = sum(self.seconds.values())
        if not total:
            return {}
        n_workers = self.workers if workers is None else workers
        threads = n_workers * self.threads_per_worker
        # the last blocks keep some threads waiting
        busy = self.n_blocks / math.ceil(self.n_blocks / threads)
        limits = {"workers": self._kept(busy) * busy / total}
        if self.gpu and self.seconds.get("infer"):
            gpus = min(n_workers, busy)
            limits["infer"] = self._kept(gpus) * gpus / self.seconds["infer"]
        if self.read_bandwidth and self.bytes_read:
            limits["store bandwidth"] = self.read_bandwidth * self.n_steps / self.bytes_read
        limits["scheduler"] = self.n_steps / (SCHEDULER_SECONDS * self.n_blocks)
        return limits

    def _kept(self, n_busy: float) -> float:
        """Part of their speed that some keep that work side by side."""
        return 1.0 if n_busy <= 1 else self.efficiency

    def rate(self, workers: int | None = None) -> float | None:
        """Steps a second; None if nothing was measured."""
        return min(self.limits(workers).values(), default=None)

    def hours(self, workers: int | None = None) -> float | None:
        """Hours from the first block to the last; None if nothing was measured."""
        rate = self.rate(workers)
        return None if rate is None else self.n_steps / rate / 3600

    def limit(self, workers: int | None = None) -> str | None:
        """What allows no more steps a second: a stage, ``store bandwidth`` or ``scheduler``."""
        limits = self.limits(workers)
        if not limits:
            return None
        least = min(limits, key=lambda name: limits[name])
        if least != "workers":
            return least
        return max(self.seconds, key=lambda stage: self.seconds[stage])

    @property
    def limiting_stage(self) -> str | None:
        """What limits the workers of the plan."""
        return self.limit()

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it, with ``memory``, ``hours`` and ``limiting_stage``."""
        return asdict(self) | {
            "memory": self.memory,
            "rate": self.rate(),
            "hours": self.hours(),
            "limiting_stage": self.limiting_stage,
        }

    def compare(self, report: WriteReport, *, peak_memory: int | None = None) -> str:
        """What was planned beside what a run achieved, as a table.

        Parameters
        ----------
        report : WriteReport
            Of a run with the workers of the plan: hours are those of the blocks that it computed.
        peak_memory : int, optional
            The most bytes that a worker had.

        Returns
        -------
        str
            What the plan or the run does not tell of is left blank.

        Examples
        --------
        >>> from pathlib import Path
        >>> plan = Plan(
        ...     model="m", source="x.zarr", n_steps=100, n_samples=100, n_blocks=10, block_steps=10,
        ...     bytes_decoded=1, bytes_result=1, memory_base=2**30, memory_thread=2**30,
        ...     seconds={"read": 0.1, "infer": 0.4},
        ... )
        >>> report = WriteReport(
        ...     path=Path("m.zarr"), n_blocks=10, written=10, n_steps=100, n_bytes=1, seconds=40.0,
        ...     stages={"read": 8.0, "infer": 30.0, "write": 1.0},
        ... )
        >>> print(plan.compare(report, peak_memory=2**30))
                      planned   achieved
        steps/s             2        2.5
        hours          0.0139     0.0111
        read              0.1       0.08  s a step
        infer             0.4        0.3  s a step
        write                       0.01  s a step
        memory        2.0 GiB    1.0 GiB
        """
        if not report.written:
            return "nothing was computed, so there is nothing to compare with the plan"
        # where a result has no steps, its blocks are along its cells
        steps = self.n_steps if report.written == report.n_blocks else report.n_steps
        planned, hours = self.seconds, self.hours()
        share = None if hours is None else hours * steps / max(1, self.n_steps)
        achieved = {name: seconds / steps for name, seconds in report.stages.items()}
        rows = [
            ("", "planned", "achieved", ""),
            ("steps/s", _number(self.rate()), _number(steps / max(report.seconds, 1e-9)), ""),
            ("hours", _number(share), _number(report.seconds / 3600), ""),
            *(
                (name, _number(planned.get(name)), _number(achieved.get(name)), "s a step")
                for name in dict.fromkeys([*planned, *achieved])
            ),
            ("memory", _size(self.memory), _size(peak_memory), ""),
        ]
        return "\n".join(f"{a:<10}{b:>11}{c:>11}  {d}".rstrip() for a, b, c, d in rows)

    def __str__(self) -> str:
        lines = [f"plan of {self.model!r} on {self.source}", *self._counts()]
        if self.seconds:
            lines += [*self._stages(), *self._rates(), self._assumed()]
        else:
            lines.append("hours      not known: nothing was measured (trial=True) or given (rates)")
        return "\n".join([*lines, *(f"note       {note}" for note in self.notes)])

    def _counts(self) -> list[str]:
        maps = f", {self.n_samples:,} maps" if self.n_samples != self.n_steps else ""
        blocks = f"{self.n_blocks:,} block{'s' * (self.n_blocks != 1)} of {self.block_steps:,}"
        stored = _size(self.bytes_read) or "an unknown size"
        written = "" if self.bytes_written is None else f", {_size(self.bytes_written)} compressed"
        threads = f"{self.threads_per_worker:,} thread{'s' * (self.threads_per_worker != 1)}"
        device = f", {_size(self.memory_device)} on its GPU" if self.memory_device else ""
        memory = "not known: nothing was tried in a process of its own"
        if self.memory is not None:
            memory = (
                f"{_size(self.memory)} a worker of {threads}: {_size(self.memory_base)} and "
                f"{_size(self.memory_thread)} a thread{device}"
            )
        return [
            f"steps      {self.n_steps:,}{maps} in {blocks}",
            f"to read    {stored} from the store, {_size(self.bytes_decoded)} decoded",
            f"to write   {_size(self.bytes_result)}{written}",
            f"memory     {memory}",
        ]

    def _stages(self) -> list[str]:
        total = sum(self.seconds.values())
        how = "given"
        if self.trial is not None:
            how = f"measured on steps {self.trial[0]:,} to {self.trial[1] - 1:,}"
        return [
            f"seconds    {total:.3g} a step and thread, {how}",
            *(
                f"  {name:<9}{seconds:>10.3g} {100 * seconds / total:>4.0f} %"
                for name, seconds in self.seconds.items()
            ),
        ]

    def _rates(self) -> list[str]:
        lines = [f"{'workers':<11}{'steps/s':>9}{'hours':>11}   limit"]
        for workers in sorted({self.workers, *WORKERS}):
            rate, hours = _number(self.rate(workers)), _number(self.hours(workers))
            mark = "  <- asked for" if workers == self.workers else ""
            lines.append(f"{workers:<11,}{rate:>9}{hours:>11}   {self.limit(workers)}{mark}")
        return lines

    def _assumed(self) -> str:
        how = "stages of a thread follow each other"
        if self.gpu:
            how += ", and a GPU serves one thread at a time while others read"
        store = "a store as fast for all workers as for one"
        if self.read_bandwidth:
            store = f"{_size(self.read_bandwidth)}/s from the store for all workers"
        return (
            f"assumed    {how}; a processor for each thread; {100 * self.efficiency:.0f} % of its "
            f"speed beside others; {store}; {1e3 * SCHEDULER_SECONDS:.0f} ms of a scheduler a "
            "block; the start of workers not counted"
        )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _size(n_bytes: float | None) -> str:
    return "" if n_bytes is None else bytes_text(n_bytes)
