"""Seconds that the stages of some work take, added up where somebody asks for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Clock:
    """Seconds by stage of one thread; of stages within others, the innermost counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.names: list[str] = []
        self.since = 0.0

    def enter(self, name: str) -> None:
        """Begin a stage; the one around it pauses."""
        self._count()
        self.names.append(name)
        self.seconds.setdefault(name, 0.0)

    def leave(self) -> None:
        """End the innermost stage; the one around it goes on."""
        self._count()
        self.names.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self.names:
            self.seconds[self.names[-1]] += now - self.since
        self.since = now


_clock: ContextVar[_Clock | None] = ContextVar("xsphere_stages", default=None)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds by stage of what this thread does inside, in the order in which stages begin.

    Yields
    ------
    dict of str to float
        Filled as stages end.

    Examples
    --------
    >>> with timed() as seconds:
    ...     with stage("read"):
    ...         pass
    >>> list(seconds)
    ['read']
    """
    clock = _Clock()
    token = _clock.set(clock)
    try:
        yield clock.seconds
    finally:
        _clock.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the seconds inside to a stage, if anybody asked.

    Parameters
    ----------
    name : str
        Of the stage. Within another one, its seconds are not the other's.

    Examples
    --------
    >>> with stage("read"):
    ...     pass
    """
    clock = _clock.get()
    if clock is None:
        yield
        return
    clock.enter(name)
    try:
        yield
    finally:
        clock.leave()
