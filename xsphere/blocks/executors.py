"""Who computes the blocks: threads of this process, or the workers of a Dask cluster.

There is one loop: it hands out tasks as there is room, so that there are never more than a few, and
hands back what is left of each block. A block that fails is handed back as a failure; the others go
on.
"""

import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from dask.system import cpu_count

from xsphere.blocks.errors import BlockFailure
from xsphere.blocks.silence import Watch
from xsphere.blocks.task import BlockResult, BlockTask, brought_here, futures_in, run_task
from xsphere.notices import shortened

Outcome = BlockResult | BlockFailure
Outcomes = Generator[Outcome, None, None]
Executor = Callable[[Iterator[BlockTask]], Outcomes]
# tasks in hand for each thread of a cluster, so that none waits for the next
WINDOW = 4
# seconds after which a cluster is asked again how large it is
RESIZE = 10.0
# seconds between looks at who is silent
PAUSE = 0.5


def chosen_executor(workers: int | None, client: Any, *, shared: bool = True) -> Executor:
    """Threads or a cluster, by what was asked for and what there is: from tasks to outcomes.

    Raises
    ------
    ValueError
        If both are given, `workers` is no positive integer, the client is asynchronous, or its
        workers do not see what this process writes.
    """
    if workers is not None and client is not None:
        raise ValueError("expected workers (threads) or client (a cluster), got both; give one")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ValueError(f"workers must be a positive integer, got {shortened(workers)}")
    if workers is None:
        client = client or _active_client()
    if client is None:
        return partial(outcomes, pool=lambda: _Threads(workers or cpu_count()))
    if client.asynchronous:
        raise ValueError(
            f"client must not be asynchronous, got {client!r}; make it with asynchronous=False"
        )
    if not shared:
        raise ValueError(
            "a store in the memory of this process cannot be written by the workers of a cluster; "
            "say workers=1, or give a path or the URL of an object store"
        )
    return partial(outcomes, pool=lambda: _Cluster(client))


def _active_client() -> Any:
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def outcomes(tasks: Iterator[BlockTask], pool: Callable[[], Any]) -> Outcomes:
    """Outcomes of tasks as they come; closed early, blocks in hand are still written.

    Where workers died, Dask blames all blocks that they had in hand. Those are run again alone, so
    that only a block that kills its worker by itself fails. Blocks of a worker that gives no sign
    of life for a minute are given to others, with a warning; if it goes on, it writes the same.
    """
    hand = _Hand(pool())
    try:
        yield from hand.run(tasks, hand.pool.room)
        suspects, hand.suspects = hand.suspects, None
        yield from hand.run(iter(suspects or ()), 1)
    finally:
        hand.pool.close(hand.running)


class _Hand:
    """The tasks in hand of a pool, which has room for some, whose futures may be lost, and ends."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.running: dict[Any, BlockTask] = {}
        self.finished: SimpleQueue[Any] = SimpleQueue()
        # blocks that may have killed their workers; None once each is run alone
        self.suspects: list[BlockTask] | None = []

    def run(self, tasks: Iterator[BlockTask], room: int) -> Iterator[Outcome]:
        """Outcomes of tasks, of which as many are in hand as there is room for."""
        while True:
            while len(self.running) < room and (task := next(tasks, None)) is not None:
                self.submit(task)
            if not self.running:
                return
            if (outcome := self.next_outcome()) is not None:
                yield outcome
            del outcome
            for future in self.pool.lost(self.running):
                self.submit(self.running.pop(future))
            room = 1 if self.suspects is None else self.pool.room

    def submit(self, task: BlockTask) -> None:
        """Begin a task."""
        future = self.pool.submit(task)
        self.running[future] = task
        future.add_done_callback(self.finished.put)

    def next_outcome(self) -> Outcome | None:
        """What came of a task, or None: nothing yet, or it is run again, alone or elsewhere."""
        try:
            future = self.finished.get(timeout=PAUSE)
        except Empty:
            return None
        task = self.running.pop(future, None)
        if task is None:
            return None
        outcome = _outcome(task, future.result)
        if self.suspects is not None and _is_suspect(outcome):
            self.suspects.append(task)
            return None
        return outcome


def _is_suspect(outcome: Outcome) -> bool:
    """Whether a block was in the hands of workers that died, maybe of another one."""
    return isinstance(outcome, BlockFailure) and type(outcome.error).__name__ == "KilledWorker"


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


class _Threads:
    """Threads of this process, each with one block at a time.

    They are daemons, unlike those of `concurrent.futures`, so that a second Ctrl-C leaves at once:
    every write is whole or not at all.
    """

    def __init__(self, n_threads: int) -> None:
        # one more, so that no thread waits for the making of its next task
        self.room = n_threads + 1
        self.queue: SimpleQueue[tuple[Future[Any], BlockTask] | None] = SimpleQueue()
        self.threads = [
            threading.Thread(target=self._work, daemon=True, name=f"xsphere-block-{i}")
            for i in range(n_threads)
        ]
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        while (found := self.queue.get()) is not None:
            future, task = found
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(brought_here(task)())
                # whatever ends a block is for the loop to judge
                except BaseException as error:
                    future.set_exception(error)
            del found, future, task

    def submit(self, task: BlockTask) -> Any:
        future: Future[Any] = Future()
        self.queue.put((future, task))
        return future

    def lost(self, _: Iterable[Any]) -> list[Any]:
        return []

    def close(self, running: Iterable[Any]) -> None:
        for future in running:
            future.cancel()
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join()


class _Cluster:
    """Workers of a Dask cluster, which may come, go and die."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"xsphere-block-{uuid.uuid4().hex[:8]}"
        self.window, self.asked, self.n_submitted = 0, -RESIZE, 0
        self.watch = Watch(client)

    @property
    def room(self) -> int:
        if time.monotonic() - self.asked > RESIZE:
            self.window = WINDOW * max(1, sum(self.client.nthreads().values()))
            self.asked = time.monotonic()
        return self.window

    def submit(self, task: BlockTask) -> Any:
        self.n_submitted += 1
        # preferred while others are silent, or the task would wait for one of those
        where = {"workers": self.watch.live, "allow_other_workers": True}
        # errors are tried again within the task, which knows those that cannot pass
        return self.client.submit(
            run_task,
            task,
            futures_in(task),
            key=f"{self.name}-{task.block.index}-{self.n_submitted}",
            pure=False,
            retries=0,
            **(where if self.watch.live else {}),
        )

    def lost(self, running: Iterable[Any]) -> list[Any]:
        if not self.watch.is_due():
            return []
        keys = self.watch.held_by_silent()
        found = [future for future in running if future.key in keys]
        if found:
            self.client.cancel(found)
        return found

    def close(self, running: Iterable[Any]) -> None:
        self.client.cancel(list(running))
