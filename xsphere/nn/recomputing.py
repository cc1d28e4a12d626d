"""Activation checkpointing: memory for time, with the same gradients and the same statistics."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_state = threading.local()


def is_recomputing() -> bool:
    """Whether this thread works out again, for gradients, what was not kept.

    Returns
    -------
    bool
        Never outside of `recomputed`.

    Examples
    --------
    >>> is_recomputing()
    False
    """
    return bool(getattr(_state, "active", False))


def recomputed(function: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    """Result of a function whose intermediate values are worked out again for its gradients.

    Parameters
    ----------
    function : callable
        Gives the same at every call; batch normalisations in it ask `is_recomputing`.
    *args, **options
        What it takes.

    Returns
    -------
    Tensor
        What it gives.

    Examples
    --------
    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> recomputed(lambda x: x.exp().log(), x).backward()
    >>> round(float(x.grad), 6)
    1.0
    """
    # torch's compiler, which changes nothing twice, has ways of its own to work things out again
    contexts: Any = {} if torch.compiler.is_compiling() else {"context_fn": _contexts}
    # nothing is drawn at random, and to restore torch's generator would change it for all threads
    options |= {"use_reentrant": False, "preserve_rng_state": False}
    result: Tensor = checkpoint(function, *args, **contexts, **options)
    return result


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _again()


@contextmanager
def _again() -> Iterator[None]:
    _state.active = True
    try:
        yield
    finally:
        _state.active = False
