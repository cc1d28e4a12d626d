"""Work of the processor shared between as many threads as torch was given.

Where it can be, these are torch's own threads of OpenMP: after each operation they wait for the
next one without a pause, for milliseconds, and would keep any others from the processor. Else they
are threads of Python. Where torch has one thread, as in tasks that run side by side, everything
happens in the caller's.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()
# GNU's OpenMP hangs in a process that was forked from one in which it had threads.
_PROCESS = os.getpid()
# Number of an item that no loop has.
NO_MORE = 1 << 62


def share_out(loop: Any, call: NDArray[np.int64], n_threads: int) -> None:
    """Run a loop in several threads, which take its items from one counter.

    Threads may be of different speed, or be kept from their work for a while.

    Parameters
    ----------
    loop : CFunc
        One of `xsphere.nn.sparse.entries`.
    call : array of int64
        What it takes, which begins with the number of the next item.
    n_threads : int
        Threads that run it, whether there are items for all of them or not: OpenMP would end those
        that it has too many.
    """
    address = call.ctypes.data
    if n_threads <= 1:
        loop.ctypes(address)
        return
    in_parallel = _openmp() if os.getpid() == _PROCESS else None
    if in_parallel is None:
        _in_threads(loop, call, n_threads)
    else:
        in_parallel(loop.address, address, n_threads, 0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch in the calling thread alone; no other thread, present or future, is changed.

    `torch.set_num_threads` would also change the default of the whole process. OpenMP and MKL keep
    a number for each thread, and that alone is set here. Does nothing where torch's libraries
    cannot be called, as on Windows.

    Examples
    --------
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    # a thread's first question makes torch set its number, which would undo what is set here
    before = torch.get_num_threads()
    set_openmp, set_mkl = (
        _of_torch(name) for name in ("omp_set_num_threads", "MKL_Set_Num_Threads_Local")
    )
    if set_openmp is None or before == 1:
        yield
        return
    set_openmp(1)
    # MKL tells what it had; 0 means as many as OpenMP
    before_mkl = set_mkl(1) if set_mkl else 0
    try:
        yield
    finally:
        set_openmp(before)
        if set_mkl:
            set_mkl(before_mkl)


@cache
def _openmp() -> Any:
    """The function of GNU's OpenMP by which torch itself starts threads, if it has it.

    That of LLVM and of Intel has it too, on Linux.
    """
    start = _of_torch("GOMP_parallel")
    if start is not None:
        start.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        start.restype = None
    return start


@cache
def _of_torch(name: str) -> Any:
    """A function of torch's library or of those that it was linked with, or None."""
    for library in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        path = Path(torch.__file__).with_name("lib") / library
        try:
            return getattr(ctypes.CDLL(str(path)), name)
        except (OSError, AttributeError):
            continue
    return None


def _in_threads(loop: Any, call: NDArray[np.int64], n_threads: int) -> None:
    pool = _pool(n_threads)
    futures = [pool.submit(loop.ctypes, call.ctypes.data) for _ in range(n_threads - 1)]
    try:
        loop.ctypes(call.ctypes.data)
    finally:
        # threads know memory by its address: whatever happens, it must outlive them
        call[0] = NO_MORE
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
            _pools[key] = ThreadPoolExecutor(n_threads - 1, "xsphere-convolution")
        return _pools[key]
