"""How loops become machine code here. Imports numba: import it, and what uses it, in functions."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code that releases the GIL, kept on disk where numba finds a place for it.

    Division by zero gives what IEEE 754 says, no error.

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
    # a check for zero at every division would keep loops from becoming vector instructions
    options: Any = {"nogil": True, "error_model": "numpy"}
    try:
        machine_code: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor a user's can be written
        machine_code = numba.njit(**options)(function)
    return machine_code
