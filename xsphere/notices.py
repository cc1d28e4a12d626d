"""Warnings that point at the user's line, however deep in the package they arise."""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# with the separator, so that a folder whose name goes on is not taken for it
PACKAGE = str(Path(__file__).parent) + os.sep


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line of code that is not in this package.

    Parameters
    ----------
    message : str
        What was expected, what came, what to do.
    category : type
        A subclass of UserWarning.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     warn_user("look", UserWarning)
    >>> str(seen[0].message)
    'look'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def without_warnings(*messages: str) -> Iterator[None]:
    """Ignore some warnings of others, in any number of threads at once.

    `warnings.catch_warnings` restores what there was when it began: where two threads use it at
    once, the filters of the one can stay for good. Here each context takes away what it brought.

    Parameters
    ----------
    *messages : str
        Regular expressions that messages begin with.

    Examples
    --------
    >>> with without_warnings("beware"):
    ...     warnings.warn("beware of the dog")
    """
    filters: list[Any] = [
        ("ignore", re.compile(message, re.IGNORECASE), Warning, None, 0) for message in messages
    ]
    current: list[Any] = warnings.filters  # type: ignore[assignment]
    current[:0] = filters
    try:
        yield
    finally:
        for entry in filters:
            with suppress(ValueError):  # somebody reset all filters meanwhile
                current.remove(entry)
