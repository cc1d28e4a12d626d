"""Who computes the blocks: threads of this process, or the workers of a Dask cluster.

Both take tasks from an iterator as they get free, so that there are never more than a few, and hand
back what is left of each block. A block that fails is handed back as a failure; the others go on.
"""

import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from functools import partial
from queue import SimpleQueue
from typing import Any

from dask.system import CPU_COUNT

from xsphere.blocks.errors import BlockFailure
from xsphere.blocks.silence import Watch
from xsphere.blocks.task import BlockResult, BlockTask, run_task
from xsphere.notices import shortened

Outcome = BlockResult | BlockFailure
Outcomes = Generator[Outcome, None, None]
Executor = Callable[[Iterator[BlockTask]], Outcomes]
# tasks in hand for each thread of a cluster, so that none waits for the next
WINDOW = 4
# seconds after which a cluster is asked again how large it is
RESIZE = 10.0
# seconds between looks for finished tasks: a worker has its next ones in hand
PAUSE = 0.02


def chosen_executor(workers: int | None, client: Any) -> Executor:
    """Threads or a cluster, by what was asked for and what there is.

    Parameters
    ----------
    workers : int, optional
        Number of threads.
    client : distributed.Client, optional
        The cluster. If neither is given, the active one, else a thread for each core.

    Returns
    -------
    callable
        From tasks to outcomes, as they come.

    Raises
    ------
    ValueError
        If both are given, `workers` is no positive integer, or the client is asynchronous.

    Examples
    --------
    >>> list(chosen_executor(2, None)(iter([])))
    []
    """
    if workers is not None and client is not None:
        raise ValueError("expected workers (threads) or client (a cluster), got both; give one")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ValueError(f"workers must be a positive integer, got {shortened(workers)}")
    if workers is None:
        client = client or _active_client()
    if client is None:
        return partial(in_threads, workers=workers or CPU_COUNT)
    if client.asynchronous:
        raise ValueError(
            f"client must not be asynchronous, got {client!r}; make it with asynchronous=False"
        )
    return partial(on_cluster, client=client)


def _active_client() -> Any:
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def in_threads(tasks: Iterator[BlockTask], workers: int) -> Outcomes:
    """Outcomes of tasks run in threads, each computing one block at a time.

    Parameters
    ----------
    tasks : iterator of BlockTask
        Asked for the next as a thread gets free.
    workers : int
        Number of threads; as many blocks are in memory.

    Yields
    ------
    BlockResult or BlockFailure
        As they come. When closed early, blocks that are being computed are still written.

    Examples
    --------
    >>> list(in_threads(iter([]), 2))
    []
    """
    outcomes: SimpleQueue[Outcome | BaseException | None] = SimpleQueue()
    stop, lock = threading.Event(), threading.Lock()

    def work() -> None:
        try:
            while not stop.is_set():
                with lock:
                    task = next(tasks, None)
                if task is None:
                    break
                outcomes.put(_outcome(task, partial(_run_here, task)))
        # the making of a task failed: nothing can go on
        except BaseException as error:
            outcomes.put(error)
        outcomes.put(None)

    # daemons, so that a second Ctrl-C leaves at once: every write is whole or not at all
    threads = [
        threading.Thread(target=work, daemon=True, name=f"xsphere-block-{i}")
        for i in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _until_all_are_done(outcomes, workers)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _until_all_are_done(
    outcomes: "SimpleQueue[Outcome | BaseException | None]", workers: int
) -> Iterator[Outcome]:
    while workers:
        found = outcomes.get()
        if found is None:
            workers -= 1
        elif isinstance(found, BaseException):
            raise found
        else:
            yield found


def _outcome(task: BlockTask, result: Callable[[], BlockResult]) -> Outcome:
    try:
        return result()
    except (Exception, CancelledError) as error:
        _forget_values(error)
        return BlockFailure(task.block.index, task.label, error)


def _forget_values(error: BaseException | None) -> None:
    """Drop the local variables that an error keeps: whole blocks would stay in memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _futures(task: BlockTask) -> dict[Any, Any]:
    """Values of a graph that are on a cluster, as after ``.persist()``."""
    if "distributed" not in sys.modules:
        return {}
    from distributed import Future

    found = {key: getattr(value, "value", value) for key, value in task.graph.items()}
    return {key: value for key, value in found.items() if isinstance(value, Future)}


def _run_here(task: BlockTask) -> BlockResult:
    return run_task(task, {key: future.result() for key, future in _futures(task).items()})


def on_cluster(tasks: Iterator[BlockTask], client: Any) -> Outcomes:
    """Outcomes of tasks run by the workers of a Dask cluster, each computed and written in one.

    Parameters
    ----------
    tasks : iterator of BlockTask
        Asked for the next as a worker gets free.
    client : distributed.Client
        The cluster; workers may come, go and die.

    Yields
    ------
    BlockResult or BlockFailure
        As they come. When closed early, tasks that have not begun are cancelled.

    Notes
    -----
    Where workers died, Dask blames all blocks that they had in hand. Those are run again alone, so
    that only a block that kills its worker by itself fails. Blocks of a worker that gives no sign
    of life for a minute are given to others, with a warning; if it goes on, it writes the same
    bytes.

    Examples
    --------
    See `write_blocks`.
    """
    from distributed import as_completed

    cluster = _Cluster(tasks, client)
    try:
        completed: Any = as_completed(loop=client.loop)  # type: ignore[no-untyped-call]
        cluster.fill(completed)
        for future in cluster.finished(completed):
            outcome = cluster.outcome(future)
            cluster.fill(completed)
            if outcome is not None:
                yield outcome
            del future, outcome
        yield from cluster.outcomes_of_suspects(completed)
    finally:
        client.cancel(list(cluster.running))


class _Cluster:
    """Tasks that a cluster has in hand."""

    def __init__(self, tasks: Iterator[BlockTask], client: Any) -> None:
        self.tasks, self.client = tasks, client
        self.running: dict[Any, BlockTask] = {}
        self.suspects: list[BlockTask] = []
        self.name = f"xsphere-block-{uuid.uuid4().hex[:8]}"
        self.window, self.asked = 0, -RESIZE
        self.watch, self.n_moved = Watch(client), 0

    def fill(self, completed: Any) -> None:
        """Hand out tasks until the window is full."""
        if time.monotonic() - self.asked > RESIZE:
            self.window = WINDOW * max(1, sum(self.client.nthreads().values()))
            self.asked = time.monotonic()
        while len(self.running) < self.window:
            task = next(self.tasks, None)
            if task is None:
                return
            completed.add(self.submit(task))

    def submit(self, task: BlockTask, suffix: str = "") -> Any:
        # preferred while others are silent, or the task would wait for one of those
        where = {"workers": self.watch.live, "allow_other_workers": True}
        # errors are tried again within the task, which knows those that cannot pass
        future = self.client.submit(
            run_task,
            task,
            _futures(task),
            key=f"{self.name}-{task.block.index}{suffix}",
            pure=False,
            retries=0,
            **(where if self.watch.live else {}),
        )
        self.running[future] = task
        return future

    def finished(self, completed: Any) -> Iterator[Any]:
        """Futures as they come; tasks of workers that fall silent are given to others."""
        while not completed.is_empty():
            if completed.has_ready():
                yield next(completed)
                continue
            time.sleep(PAUSE)
            if self.watch.is_due():
                self.move(self.watch.held_by_silent(), completed)

    def move(self, keys: set[str], completed: Any) -> None:
        """Hand out tasks anew; what they were before counts no more."""
        moved = [future for future in self.running if future.key in keys]
        for future in moved:
            self.n_moved += 1
            completed.add(self.submit(self.running.pop(future), suffix=f"-moved-{self.n_moved}"))
        if moved:
            self.client.cancel(moved)

    def outcome(self, future: Any) -> Outcome | None:
        """What came of a task, or None if it is run again, alone or by another worker."""
        from distributed import KilledWorker

        task = self.running.pop(future, None)
        if task is None:
            return None
        outcome = _outcome(task, future.result)
        if isinstance(outcome, BlockFailure) and isinstance(outcome.error, KilledWorker):
            self.suspects.append(task)
            return None
        return outcome

    def outcomes_of_suspects(self, completed: Any) -> Iterator[Outcome]:
        for task in self.suspects:
            completed.add(self.submit(task, suffix="-alone"))
            for future in self.finished(completed):
                if (ran := self.running.pop(future, None)) is not None:
                    yield _outcome(ran, future.result)
