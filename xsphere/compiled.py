"""How loops become machine code here. Imports numba: import it, and what uses it, in functions."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

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
    >>> from xsphere.graph.near_cells import nearest_cells
    >>> bool(nearest_cells.targetoptions["nogil"])
    True
    """
    # a check for zero at every division would keep loops from becoming vector instructions
    options: Any = {"nogil": True, "error_model": "numpy"}
    return cast("Callable[..., Any]", _kept(partial(numba.njit, **options), function))


def compiled_for_c(function: Callable[..., None]) -> Any:
    """Machine code that C can call, kept as that of `compiled`.

    Parameters
    ----------
    function : callable
        Of any number of 64-bit integers, in the part of Python that numba compiles.

    Returns
    -------
    numba.core.ccallback.CFunc
        With the address of the machine code, and a function of ctypes that calls it. It must be
        kept, for the machine code to stay.

    Examples
    --------
    >>> from xsphere.nn.sparse.entries import loop
    >>> loop("multiply_parts").address > 0
    True
    """
    integers = ", ".join(["int64"] * len(inspect.signature(function).parameters))
    signature = f"void({integers})"
    options: Any = {"error_model": "numpy"}
    return _kept(partial(numba.cfunc, signature, **options), function)


def _kept(compiler: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """What a compiler of numba's makes, kept on disk if it can be."""
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor a user's can be written
        return compiler()(function)
