"""Largest overlap of classes, as a compiled loop. Imports numba: import it inside functions."""

# mypy: allow-untyped-defs

import numba
import numpy as np

from xsphere.compiled import compiled

# Classes whose overlaps differ by less than this are tied.
TIE_TOLERANCE = 1e-9


@numba.njit(nogil=True)
def _largest(overlaps, n_classes):
    """Code of the largest overlap; all are set back to zero."""
    largest = 0.0
    for code in range(n_classes):
        largest = max(largest, overlaps[code])
    found = n_classes
    for code in range(n_classes, -1, -1):
        if code < n_classes and largest > 0.0 and overlaps[code] >= largest - TIE_TOLERANCE:
            found = code
        overlaps[code] = 0.0
    return found


@compiled
def largest_overlaps(starts, sources, weights, codes, n_classes):
    """Code of the class that covers most of every target cell.

    Parameters
    ----------
    starts, sources, weights : arrays, shapes (n_target + 1,), (n,), (n,)
        A matrix (target, source) in compressed rows.
    codes : array of int, shape (n_source, n_fields)
        Classes from 0 to ``n_classes - 1``; ``n_classes`` where there is none.
    n_classes : int
        Number of classes.

    Returns
    -------
    array of int64, shape (n_target, n_fields)
        The lowest of tied codes; ``n_classes`` for a cell that no class touches.
    """
    n_target, n_fields = starts.size - 1, codes.shape[1]
    result = np.empty((n_target, n_fields), np.int64)
    overlaps = np.zeros((n_fields, n_classes + 1))
    for target in range(n_target):
        for entry in range(starts[target], starts[target + 1]):
            source, weight = sources[entry], weights[entry]
            for field in range(n_fields):
                overlaps[field, codes[source, field]] += weight
        for field in range(n_fields):
            result[target, field] = _largest(overlaps[field], n_classes)
    return result
