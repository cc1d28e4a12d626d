"""Workers for the command: threads here, processes here, or a cluster elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SETTINGS = {
    # of each task that was ever run, Dask would keep a hundred thousand lines
    "distributed.admin.low-level-log-length": 1000,
    # arrays of up to 32 MiB, the most that glibc accepts, go into memory that was used before, and
    # 256 MiB of it are kept: Dask's own setting makes every array fault its pages in anew. What the
    # environment says comes before these
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 28,
}
# any free port of this machine alone: two runs do not clash, and nobody else can reach them
LOOPBACK = "127.0.0.1"
# how long a scheduler may take to answer
PATIENCE = "30s"


@contextmanager
def cluster(workers: int | None, scheduler: str | None) -> Iterator[dict[str, Any]]:
    """Options of `xsphere.write_blocks` for the workers asked for; they end with the context.

    Parameters
    ----------
    workers : int, optional
        Processes on this machine, each with one thread.
    scheduler : str, optional
        Address of a Dask scheduler, which goes on when the context ends.

    Yields
    ------
    dict
        Empty for threads of this process.

    Raises
    ------
    ValueError
        If both are given, or `workers` is not positive.
    OSError
        If there is no scheduler at the address.

    Examples
    --------
    >>> with cluster(None, None) as options:
    ...     options
    {}
    """
    if workers is not None and scheduler is not None:
        raise ValueError("expected --workers or --scheduler, got both; give one of them")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1 process, got {workers}")
    if workers is None and scheduler is None:
        yield {}
        return
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        with Client(scheduler, timeout=PATIENCE) as client:  # type: ignore[no-untyped-call]
            yield {"client": client}
        return
    options = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",
        "worker_dashboard_address": f"{LOOPBACK}:0",
    }
    with (
        dask.config.set(SETTINGS),
        LocalCluster(**options) as local,  # type: ignore[no-untyped-call]
        Client(local) as client,  # type: ignore[no-untyped-call]
    ):
        yield {"client": client}


def workforce(options: Mapping[str, Any]) -> dict[str, Any]:
    """How many workers of how many threads will do what `cluster` gave the options of.

    Parameters
    ----------
    options : mapping
        As `cluster` yields them.

    Returns
    -------
    dict
        Options of `xsphere.plan`. Of workers with different numbers of threads, the least counts.

    Examples
    --------
    >>> workforce({})["workers"]
    1
    """
    from dask.system import cpu_count

    client = options.get("client")
    if client is None:
        return {"workers": 1, "threads_per_worker": cpu_count()}
    threads = client.nthreads().values()
    return {"workers": max(1, len(threads)), "threads_per_worker": min(threads, default=1)}
