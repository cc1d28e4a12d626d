"""How loops become machine code here. Imports numba: import it, and what uses it, in functions."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code that releases the GIL, kept on disk where numba finds a place for it.

    Parameters
    ----------
    function : callable
        In the part of Python that numba compiles.

    Returns
    -------
    callable
        Compiled at its first call for each set of types.

    Examples
    --------
    >>> from xsphere.weights.majority import largest_overlaps
    >>> bool(largest_overlaps.targetoptions["nogil"])
    True
    """
    try:
        machine_code: Callable[..., Any] = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor a user's can be written
        machine_code = numba.njit(nogil=True)(function)
    return machine_code
