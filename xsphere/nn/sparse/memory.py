"""Memory on the processor: the same again where it is only for now, and in large pages."""

import math
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LINE = 64
# from here on NumPy asks for large pages, which need far fewer faults and look-ups
LARGE_BYTES = 1 << 22
# What a thread holds on to.
MOST_KEPT_BYTES = 1 << 26

_own = threading.local()


def fresh(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """New memory of whatever values, in large pages if it is large.

    Parameters
    ----------
    shape : tuple of int
        Of the tensor.
    dtype : torch.dtype
        Of its elements.

    Returns
    -------
    tensor
        On the CPU.

    Examples
    --------
    >>> fresh((2, 3), torch.float32).shape
    torch.Size([2, 3])
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes < LARGE_BYTES:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return _typed(_aligned(np.empty(n_bytes + LINE, np.uint8), n_bytes), shape, dtype)


def kept(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory of this thread for terms or products, the same at every call unless it is very large.

    Parameters
    ----------
    shape : tuple of int
        Of the tensor.
    dtype : torch.dtype
        Of its elements.

    Returns
    -------
    tensor
        Of whatever values; good until the next call in this thread.

    Examples
    --------
    >>> kept((2, 3), torch.float32).shape
    torch.Size([2, 3])
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > MOST_KEPT_BYTES:
        return fresh(shape, dtype)
    return _typed(_memory("kept", n_bytes), shape, dtype)


def scratch(n_bytes: int) -> int:
    """Address of memory of this thread for a block, the same at every call.

    Parameters
    ----------
    n_bytes : int
        Its size.

    Returns
    -------
    int
        Good until the next call in this thread.

    Examples
    --------
    >>> scratch(100) % LINE
    0
    """
    return int(_memory("scratch", n_bytes).ctypes.data)


def _memory(name: str, n_bytes: int) -> NDArray[np.uint8]:
    # fresh memory costs as much as the work
    memory = getattr(_own, name, None)
    if memory is None or len(memory) < n_bytes + LINE:
        memory = np.empty(n_bytes + LINE, np.uint8)
        setattr(_own, name, memory)
    return _aligned(memory, n_bytes)


def _aligned(memory: NDArray[np.uint8], n_bytes: int) -> NDArray[np.uint8]:
    start = -int(memory.ctypes.data) % LINE
    return memory[start : start + n_bytes]


def _typed(memory: NDArray[Any], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(memory).view(dtype).view(shape)
