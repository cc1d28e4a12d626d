"""A plan: what was counted and measured, and the arithmetic from there to hours."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

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
    places : tuple of str
        Files and stores that are read.
    n_steps, n_samples : int
        Length of the first dimension that is not horizontal, and maps in all.
    n_blocks, block_steps : int
        Pieces that are computed and written one by one, and steps in one.
    n_tasks : int
        Of the whole result, as dask optimises it: what a scheduler is given if it is computed at
        once rather than written block by block.
    bytes_stored : int or None
        Of the chunks that are read, each once, as they lie in the store.
    bytes_read : int or None
        The same, each as often as it is read; None where nothing tells.
    bytes_decoded : int
        The same after decoding.
    reads_per_chunk : float
        How often a chunk is decoded, on average.
    bytes_result : int
        Of the result, before compression.
    bytes_written : int or None
        After it, as far as a trial tells.
    memory_base, memory_thread : int
        The most bytes of a worker: to begin with, and for each of its threads.
    memory_device : int
        The most bytes on a GPU for activations, 0 on a CPU.
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
        First step that was computed to measure, and the one after the last.
    notes : tuple of str
        What should be known before.

    Examples
    --------
    >>> plan = Plan(
    ...     model="m", places=(), n_steps=7200, n_samples=7200, n_blocks=300, block_steps=24,
    ...     n_tasks=300, bytes_stored=10**9, bytes_read=10**9, bytes_decoded=10**9,
    ...     reads_per_chunk=1.0, bytes_result=10**7, bytes_written=None, memory_base=10**8,
    ...     memory_thread=10**8, seconds={"read": 0.25, "infer": 0.75},
    ... )
    >>> plan.hours(), plan.limiting_stage
    (2.0, 'infer')
    """

    model: str
    places: tuple[str, ...]
    n_steps: int
    n_samples: int
    n_blocks: int
    block_steps: int
    n_tasks: int
    bytes_stored: int | None
    bytes_read: int | None
    bytes_decoded: int
    reads_per_chunk: float
    bytes_result: int
    bytes_written: int | None
    memory_base: int
    memory_thread: int
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
    def memory(self) -> int:
        """The most bytes that a worker takes, all its threads together."""
        return self.memory_base + self.threads_per_worker * self.memory_thread

    def limits(self, workers: int | None = None) -> dict[str, float]:
        """Steps a second that each thing allows for itself; the least is what is reached.

        Parameters
        ----------
        workers : int, optional
            Number of workers; that of the plan if not given.

        Returns
        -------
        dict of str to float
            ``workers``; ``infer`` if GPUs run the network, each for one thread at a time;
            ``store bandwidth`` if it was given; ``scheduler``. Empty if nothing was measured.
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
        """What allows no more steps a second; of workers, the stage that takes them longest.

        Parameters
        ----------
        workers : int, optional
            Number of workers; that of the plan if not given.

        Returns
        -------
        str or None
            A stage (``read``, ``regrid``, ``infer``, ``compute``, ``write``), ``store bandwidth``
            or ``scheduler``; None if nothing was measured.
        """
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
        derived = {
            "memory": self.memory,
            "rate": self.rate(),
            "hours": self.hours(),
            "limiting_stage": self.limiting_stage,
        }
        fields = asdict(self) | {"seconds": dict(self.seconds), "places": list(self.places)}
        trial = None if self.trial is None else list(self.trial)
        return fields | {"trial": trial, "notes": list(self.notes)} | derived

    def __str__(self) -> str:
        from xsphere.planning.table import plan_text

        return plan_text(self)
