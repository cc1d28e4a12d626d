"""Loops over blocks as functions of C. Imports numba: import it inside functions.

Any thread can call them, with the address of a call, whether Python knows of it or not. Numba keeps
a function on disk only if it stands in a file by itself, so there is one for each loop and type.
"""

from functools import cache
from typing import Any

import numpy as np

from xsphere.compiled import compiled_for_c
from xsphere.nn.sparse import loops

# Digest of loops.py, for the same reason as the digest in rows.py.
MACHINE_CODE = "0aee93425db8b99e"


@cache
def entry(loop: str, dtype: str) -> Any:
    """The function of C for a loop, compiled when it is first asked for.

    Parameters
    ----------
    loop : str
        Name of one of the loops in `xsphere.nn.sparse.loops` that take a call.
    dtype : {"float32", "float64"}
        Of all elements.

    Returns
    -------
    numba.core.ccallback.CFunc
        Takes the address of a call.
    """
    return compiled_for_c(globals()[f"_{loop}_{dtype}"])


def _convolve_blocks_float32(call: int) -> None:
    loops.convolve_blocks(call, np.float32(1))


def _convolve_blocks_float64(call: int) -> None:
    loops.convolve_blocks(call, np.float64(1))


def _adjoin_blocks_float32(call: int) -> None:
    loops.adjoin_blocks(call, np.float32(1))


def _adjoin_blocks_float64(call: int) -> None:
    loops.adjoin_blocks(call, np.float64(1))


def _correlate_blocks_float32(call: int) -> None:
    loops.correlate_blocks(call, np.float32(1))


def _correlate_blocks_float64(call: int) -> None:
    loops.correlate_blocks(call, np.float64(1))


def _contract_blocks_float32(call: int) -> None:
    loops.contract_blocks(call, np.float32(1))


def _contract_blocks_float64(call: int) -> None:
    loops.contract_blocks(call, np.float64(1))


def _expand_samples_float32(call: int) -> None:
    loops.expand_samples(call, np.float32(1))


def _expand_samples_float64(call: int) -> None:
    loops.expand_samples(call, np.float64(1))


def _multiply_parts_float32(call: int) -> None:
    loops.multiply_parts(call, np.float32(1))


def _multiply_parts_float64(call: int) -> None:
    loops.multiply_parts(call, np.float64(1))


def _weigh_samples_float32(call: int) -> None:
    loops.weigh_samples(call, np.float32(1))


def _weigh_samples_float64(call: int) -> None:
    loops.weigh_samples(call, np.float64(1))
