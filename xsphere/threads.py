"""Work shared between the processors that this process was given."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
ROWS_AT_ONCE = 1 << 16


def in_parts(work: Callable[[slice], T], n_rows: int, at_once: int | None = None) -> list[T]:
    """Results of work on parts of the rows, done as many at a time as there are processors.

    Parameters
    ----------
    work : callable
        Takes a slice of rows; must release the GIL to gain from threads.
    n_rows : int
        Number of rows.
    at_once : int, optional
        Rows of a part, 65,536 if not given. The parts, and so the results, are the same for any
        number of threads.

    Returns
    -------
    list
        In the order of the rows.

    Examples
    --------
    >>> in_parts(lambda rows: rows.stop - rows.start, n_rows=5, at_once=2)
    [2, 2, 1]
    """
    from dask.system import cpu_count

    at_once = at_once or ROWS_AT_ONCE
    parts = [slice(first, min(first + at_once, n_rows)) for first in range(0, n_rows, at_once)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(work, parts))
