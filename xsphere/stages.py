"""What some work tells of itself where somebody asks: seconds, devices, bytes."""

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


_devices: ContextVar[set[str] | None] = ContextVar("xsphere_devices", default=None)


@contextmanager
def devices_noted() -> Iterator[set[str]]:
    """Kinds of devices that this thread uses inside, as far as they change the bits of a result.

    Yields
    ------
    set of str
        Filled by `note_device`.

    Examples
    --------
    >>> with devices_noted() as devices:
    ...     note_device("network", "cpu")
    >>> devices
    {'network on cpu'}
    """
    devices: set[str] = set()
    token = _devices.set(devices)
    try:
        yield devices
    finally:
        _devices.reset(token)


def note_device(work: str, kind: str) -> None:
    """Tell which kind of device some work is done on, if anybody asked.

    Parameters
    ----------
    work : str
        What is done there.
    kind : str
        As torch names it: devices of one kind give the same bits.

    Examples
    --------
    >>> note_device("network", "cuda")
    """
    devices = _devices.get()
    if devices is not None:
        devices.add(f"{work} on {kind}")


_bytes_read = 0


def note_read(n_bytes: int) -> None:
    """Tell that so many bytes of a chunk came from a store.

    Parameters
    ----------
    n_bytes : int
        As they were stored.

    Examples
    --------
    >>> before = bytes_read()
    >>> note_read(10)
    >>> bytes_read() - before
    10
    """
    global _bytes_read  # noqa: PLW0603
    _bytes_read += n_bytes


def bytes_read() -> int:
    """Bytes of chunks that this process was told to have read, by all of its threads.

    Returns
    -------
    int
        Since it began.

    Examples
    --------
    >>> bytes_read() >= 0
    True
    """
    return _bytes_read
