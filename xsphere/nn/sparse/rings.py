"""Cells around blocks of cells, compiled. Imports numba: import it inside functions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.compiled import compiled


@compiled
def with_rings(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    values: NDArray[Any],
    start: int,
    stop: int,
    n_rings: int,
    places: NDArray[np.int32],
) -> tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[Any]
]:
    """Cells of a range and the rings around it, how many up to each ring, and their rows.

    `places` is -1 for every cell, before and after.
    """
    ids = np.empty(places.size, np.int32)
    counts = np.empty(n_rings + 1, np.int32)
    n = 0
    for cell in range(start, stop):
        ids[n], places[cell] = cell, n
        n += 1
    counts[0] = n
    done = 0
    for ring in range(n_rings):
        reached = n
        for place in range(done, reached):
            for entry in range(indptr[ids[place]], indptr[ids[place] + 1]):
                cell = indices[entry]
                if places[cell] < 0:
                    ids[n], places[cell] = cell, n
                    n += 1
        # cells near each other stay near each other in memory
        ids[reached:n] = np.sort(ids[reached:n])
        for place in range(reached, n):
            places[ids[place]] = place
        done = reached
        counts[ring + 1] = n
    result = _local_rows(indptr, indices, values, ids, counts[max(n_rings - 1, 0)], places)
    for place in range(n):
        places[ids[place]] = -1
    return ids[:n].copy(), counts, *result


@compiled
def _local_rows(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    values: NDArray[Any],
    ids: NDArray[np.int32],
    n_rows: int,
    places: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any]]:
    """Rows of the first cells, their columns by their places."""
    pointers = np.zeros(n_rows + 1, np.int32)
    for place in range(n_rows):
        pointers[place + 1] = pointers[place] + indptr[ids[place] + 1] - indptr[ids[place]]
    columns = np.empty(pointers[n_rows], np.int32)
    entries = np.empty((len(values), pointers[n_rows]), values.dtype)
    for place in range(n_rows):
        first = indptr[ids[place]]
        for entry in range(first, indptr[ids[place] + 1]):
            target = pointers[place] + entry - first
            columns[target] = places[indices[entry]]
            entries[:, target] = values[:, entry]
    return pointers, columns, entries
