"""Work of the processor shared between as many threads as torch was given.

Torch's own threads work inside one of its operations; the blocks of a convolution go through
several, and through compiled loops, so each thread takes whole blocks. Where torch has one thread,
as in tasks that run side by side, everything happens in the caller's.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

Work = Callable[[range], None]

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def share_out(work: Work, n_items: int) -> None:
    """Do all items, each thread one after another of those that no other has taken.

    Parameters
    ----------
    work : callable
        Takes a range of items. Must not need gradients.
    n_items : int
        Number of items.

    Examples
    --------
    >>> done = []
    >>> share_out(done.extend, 5)
    >>> sorted(done)
    [0, 1, 2, 3, 4]
    """
    n_threads = min(torch.get_num_threads(), n_items)
    if n_threads <= 1:
        with torch.no_grad():
            work(range(n_items))
        return
    inference = torch.is_inference_mode_enabled()
    # threads may be of different speed, or be kept from their work for a while
    untaken = iter(range(n_items))

    def run() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for number in untaken:
                work(range(number, number + 1))

    pool = _pool(torch.get_num_threads())
    futures = [pool.submit(run) for _ in range(n_threads - 1)]
    try:
        run()
    finally:
        # threads know memory by its address: whatever happens, it must outlive them
        deque(untaken, maxlen=0)
        for future in futures:
            future.cancel()
        wait(futures)
    for future in futures:
        if not future.cancelled():
            future.result()


def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Of this process: threads do not survive a fork."""
    key = os.getpid(), n_threads
    with _pools_lock:
        if key not in _pools:
            _pools[key] = _started(n_threads)
        return _pools[key]


def _started(n_threads: int) -> ThreadPoolExecutor:
    """Threads that each use one of torch's, besides the caller's own."""
    n_others = n_threads - 1
    pool = ThreadPoolExecutor(n_others, "xsphere-convolution", torch.set_num_threads, (1,))
    # all of them begin now: the number that they set is also what later threads begin with
    together = threading.Barrier(n_others)
    wait([pool.submit(together.wait) for _ in range(n_others)])
    restored = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
    restored.start()
    restored.join()
    return pool
