"""How long a test of faults may take: one that hangs fails, and says where it hung."""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])
# a hang is to be seen, not a busy machine
SECONDS = 1800.0
LONG = bool(os.environ.get("XSPHERE_LONG_TESTS"))


class TimeLimitError(AssertionError):
    """A test that takes too long."""


def time_limit(seconds: float) -> Callable[[Test], Test]:
    """Give a test another limit than the usual one."""

    def mark(test: Test) -> Test:
        test.time_limit = seconds  # type: ignore[attr-defined]
        return test

    return mark


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Fail with the stacks of all threads if what is inside takes longer; for the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
        raise TimeLimitError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # where no signal gets through, as in a library that never returns, the process ends
    faulthandler.dump_traceback_later(2 * seconds + 30, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
