"""What the package says to its users: of a bounded length, and pointing at their own line."""

import os
import re
import reprlib
import sys
import textwrap
import threading
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

# with the separator, so that a folder whose name goes on is not taken for it
PACKAGE = str(Path(__file__).parent) + os.sep


class _Bounded(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 120
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 20
        self.maxdict, self.maxlevel = 10, 3

    def repr1(self, x: Any, level: int) -> str:
        """As of the base class; a number or date of numpy as the plain one that it is."""
        if isinstance(x, np.generic):
            return str(x) if x.dtype.kind in "biufcmM" else repr(x.item())
        return super().repr1(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """As of the base class, in the order of the dict: sizes have one."""
        if x and level <= 0:
            return "{...}"
        pairs = ((self.repr1(key, level - 1), self.repr1(x[key], level - 1)) for key in x)
        parts = [f"{key}: {value}" for key, value in islice(pairs, self.maxdict)]
        return f"{{{', '.join([*parts, *['...'] * (len(x) > self.maxdict)])}}}"


_bounded = _Bounded()


def shortened(value: object) -> str:
    """As `repr`, of a bounded length: for what a user, a dataset or a file gave.

    Parameters
    ----------
    value : object
        Anything. Of an error its text is taken.

    Returns
    -------
    str
        The `repr` itself where it is short; else its ends, or the first entries.

    Examples
    --------
    >>> shortened(["TMQ", 1.5]), shortened(ValueError("too long"))
    ("['TMQ', 1.5]", 'too long')
    >>> shortened([np.float64(-87.5)])
    '[-87.5]'
    >>> len(shortened("x" * 10**6)), shortened(list(range(100)))[-9:]
    (120, ' 19, ...]')
    """
    if isinstance(value, BaseException):
        return cut_text(str(value))
    return _bounded.repr(value)


def cut_text(text: str, longest: int = 500) -> str:
    """A text itself where it is short; else its ends.

    Parameters
    ----------
    text : str
        Any.
    longest : int
        Most characters that are left as they are.

    Returns
    -------
    str
        Three dots stand for the rest.

    Examples
    --------
    >>> cut_text("abcdefgh", 4), cut_text("abc", 4)
    ('ab...gh', 'abc')
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


# what was said in the runs of late: many more than any process has at a time
_said: OrderedDict[tuple[str, str], None] = OrderedDict()
_said_lock = threading.Lock()
_MOST_SAID = 4096


@dataclass(frozen=True)
class OncePerRun:
    """What keeps the tasks of one run from saying the same thing again and again.

    Copies that travel to other processes count as the same run; each process speaks for itself.

    Parameters
    ----------
    run : str
        Name of the run, which no other has.

    Examples
    --------
    >>> once = OncePerRun()
    >>> once.first("look"), once.first("look"), OncePerRun().first("look")
    (True, False, True)
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def first(self, what: str) -> bool:
        """Whether this was not said in the run yet; from now on it was."""
        with _said_lock:
            if (self.run, what) in _said:
                return False
            _said[self.run, what] = None
            if len(_said) > _MOST_SAID:
                _said.popitem(last=False)
            return True


def bytes_text(n_bytes: float) -> str:
    """So many bytes in the largest unit of which there is one.

    Parameters
    ----------
    n_bytes : float
        Not negative.

    Returns
    -------
    str
        With one decimal.

    Examples
    --------
    >>> bytes_text(1000), bytes_text(1.5 * 2**30)
    ('1000 bytes', '1.5 GiB')
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = 0
    while n_bytes >= 1024 and power < len(units) - 1:
        n_bytes, power = n_bytes / 1024, power + 1
    return f"{n_bytes:.0f} bytes" if power == 0 else f"{n_bytes:.1f} {units[power]}"


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


class _Entry(Protocol):
    """An entry of a table of choices."""

    @property
    def summary(self) -> str:
        """A line for users."""


Documented = TypeVar("Documented", bound=Callable[..., Any])


def listing(
    table: Mapping[str, _Entry], mark: str = "<table>"
) -> Callable[[Documented], Documented]:
    """Decorator that lists the entries of a table in a docstring.

    Parameters
    ----------
    table : mapping
        Choices by name, each with a `summary`.
    mark : str
        What stands for the list.

    Returns
    -------
    callable
        Takes a function or class and gives it back.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> @listing({"near": SimpleNamespace(summary="the nearest")})
    ... def find(how):
    ...     '''<table>.'''
    >>> find.__doc__
    '``"near"``: the nearest.'
    """
    lines = "; ".join(f'``"{name}"``: {entry.summary}' for name, entry in table.items())
    text = textwrap.fill(lines, 98, initial_indent=" " * 8, subsequent_indent=" " * 8).lstrip()

    def listed(documented: Documented) -> Documented:
        if documented.__doc__:
            documented.__doc__ = documented.__doc__.replace(mark, text)
        return documented

    return listed


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


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first row its heads.

    Examples
    --------
    >>> print(markdown_table([["a", "b"], ["1", "2"]]))
    | a   | b   |
    |-----|-----|
    | 1   | 2   |
    """
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
