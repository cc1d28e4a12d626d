"""What the C library does with freed memory in worker processes of Dask."""

import ctypes
import functools
import os
import sys

# what Dask's nanny asks of glibc for its workers
NANNY = "65536"
# arrays up to this are taken from memory that was used before; the most that glibc accepts
MMAP_BYTES = 1 << 25
TRIM_BYTES = 1 << 28

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@functools.cache
def keep_freed_memory() -> bool:
    """Whether this process was told to use freed memory again instead of giving it back at once.

    The setting of Dask's nanny makes every array of some size fault its pages in anew, which can
    take a worker more time than its work. Where somebody chose another value for
    ``MALLOC_TRIM_THRESHOLD_``, it stays.

    Returns
    -------
    bool
        False outside of such workers, and where the C library is not glibc.

    Examples
    --------
    >>> keep_freed_memory() in (True, False)
    True
    """
    if sys.platform != "linux" or os.environ.get("MALLOC_TRIM_THRESHOLD_") != NANNY:
        return False
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        return False
    return bool(change(_M_MMAP_THRESHOLD, MMAP_BYTES) and change(_M_TRIM_THRESHOLD, TRIM_BYTES))
