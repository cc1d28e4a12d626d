"""Loops over blocks and their kernels as functions of C. Imports numba: import it inside functions.

Any thread can call them, whether Python knows of it or not.
"""

from functools import cache
from typing import Any

import torch

from xsphere.compiled import compiled_for_c
from xsphere.nn.sparse import loops, rows


@cache
def loop(name: str) -> Any:
    """A loop, compiled when it is first asked for.

    Parameters
    ----------
    name : str
        Of one of the functions of `xsphere.nn.sparse.loops` that take a call.

    Returns
    -------
    CFunc
        Takes the address of a call.
    """
    return compiled_for_c(getattr(loops, name))


@cache
def kernel(name: str, dtype: torch.dtype) -> Any:
    """A kernel, compiled when it is first asked for.

    Parameters
    ----------
    name : {"weigh_rows", "sum_children", "multiply"}
        One of `xsphere.nn.sparse.rows`.
    dtype : torch.dtype
        float32 or float64, of all elements.

    Returns
    -------
    CFunc
        Takes 64-bit integers.
    """
    return compiled_for_c(getattr(rows, f"{name}_{str(dtype).removeprefix('torch.')}"))
