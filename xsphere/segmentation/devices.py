"""Work on a device that others use too: one at a time, and no more than its memory holds."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from xsphere.notices import warn_user

if TYPE_CHECKING:
    import torch

Work = Callable[[slice], NDArray[Any]]

_gates: dict[str, threading.BoundedSemaphore] = {}
_gates_lock = threading.Lock()
# samples that went through at once after a device had run out of memory
_fitting: dict[tuple[str, str], int] = {}


class DeviceMemoryError(RuntimeError):
    """A device has too little memory for a single sample."""


class DeviceWarning(UserWarning):
    """Work was done on another device than the one asked for."""


def in_batches(
    work: Work, n_samples: int, *, device: "torch.device", batch_size: int, purpose: str
) -> tuple[list[NDArray[Any]], str]:
    """Results of work on samples, in batches that are halved until the device can hold them.

    Only one thread of a process is on a device at a time; the others read and regrid meanwhile.
    """
    key = (purpose, str(device))
    size = min(batch_size, _fitting.get(key, batch_size))
    results: list[NDArray[Any]] = []
    start = 0
    while start < n_samples:
        stop = min(start + size, n_samples)
        result, shortage = _attempted(work, slice(start, stop), device)
        if result is not None:
            results.append(result)
            start = stop
        elif stop - start > 1:
            size = _fitting[key] = (stop - start) // 2
        else:
            return results, shortage
    return results, ""


def without_device(problem: str, *, allowed: bool) -> None:
    """Say that the CPU takes over where a device cannot hold one sample, or refuse."""
    if not allowed:
        raise DeviceMemoryError(
            f"{problem}; free the device of other programs, choose precision='bfloat16', or run "
            "on the CPU with device='cpu' or, only where it must be, allow_cpu_fallback=True"
        )
    warn_user(f"{problem}; the CPU takes over", DeviceWarning)


def _attempted(work: Work, part: slice, device: "torch.device") -> tuple[NDArray[Any] | None, str]:
    """The result, or None and the reason if the device ran out of memory."""
    with _gate(device):
        try:
            return work(part), ""
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            shortage = str(error).partition("\n")[0]
        # only here: while the error lives, its traceback holds the tensors that did not fit
        _release(device)
    return None, shortage


def _gate(device: "torch.device") -> threading.BoundedSemaphore:
    """Of this process and device."""
    with _gates_lock:
        return _gates.setdefault(str(device), threading.BoundedSemaphore(1))


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    # cuBLAS and drivers have words of their own for it
    words = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _release(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
