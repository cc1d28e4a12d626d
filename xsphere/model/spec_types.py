"""Entries of specifications compared with the types that their dataclasses declare."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from itertools import islice
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from xsphere.notices import shortened

LARGEST = 1e30
LONGEST_TEXT = 10_000
DEEPEST = 16
# of those in one list: the first tell enough
MOST_PROBLEMS = 5

_KINDS: dict[type, str] = {
    str: f"text of at most {LONGEST_TEXT} characters",
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    dict: "a JSON object",
}


def name_problems(cls: type[Any], values: Any, where: str) -> list[str]:
    """What is wrong with the names of some entries: unknown and missing ones.

    Parameters
    ----------
    cls : type
        A dataclass.
    values : object
        Its entries by name, as JSON gives them.
    where : str
        What they describe.

    Returns
    -------
    list of str
        Empty if nothing is wrong.

    Examples
    --------
    >>> from xsphere.model import GraphSpec
    >>> name_problems(GraphSpec, {"j": 8}, "graph")
    ["graph has unknown entries ['j'] and lacks []"]
    """
    if not isinstance(values, Mapping):
        return [f"{where} must be a JSON object, got {shortened(values)}"]
    known = {entry.name: entry for entry in fields(cls)}
    unknown = sorted(set(values) - set(known), key=str)
    missing = sorted(
        name
        for name, entry in known.items()
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING
    )
    if unknown or missing:
        return [f"{where} has unknown entries {shortened(unknown)} and lacks {missing}"]
    return []


def check_types(part: Any, what: str, *, but: tuple[str, ...] = ()) -> None:
    """Refuse wrong types of a dataclass's entries, and make lists the tuples that are declared.

    Parameters
    ----------
    part : object
        A dataclass that is being made.
    what : str
        What it describes.
    but : tuple of str
        Entries that are left as they are.

    Raises
    ------
    ValueError
        If an entry has another type than is declared; all are named.

    Examples
    --------
    >>> from xsphere.model import GraphSpec
    >>> GraphSpec(k="8")
    Traceback (most recent call last):
    ...
    ValueError: unusable graph: k must be an integer, got '8'
    """
    names = [entry.name for entry in fields(part) if entry.name not in but]
    values = {name: getattr(part, name) for name in names}
    problems = type_problems(type(part), values)
    if problems:
        raise ValueError(f"unusable {what}: " + "; ".join(problems))
    for name, value in values.items():
        if isinstance(value, list):
            object.__setattr__(part, name, tuple(value))


def type_problems(cls: type[Any], values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the types of some entries.

    Parameters
    ----------
    cls : type
        A dataclass, whose annotations are compared with.
    values : dict
        Entries by name; unknown names are left to `name_problems`.

    Returns
    -------
    list of str
        Empty if nothing is wrong.

    Examples
    --------
    >>> from xsphere.model import GraphSpec
    >>> type_problems(GraphSpec, {"k": "8", "kernel_widths": [0.1, float("nan")]})
    ["k must be an integer, got '8'", 'kernel_widths[1] must be a finite number, got nan']
    """
    hints = get_type_hints(cls)
    return [
        problem
        for name, value in values.items()
        if name in hints
        for problem in _problems(value, hints[name], name)
    ]


def _problems(value: Any, hint: Any, where: str) -> list[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return [] if value is None else _problems(value, inner[0], where)
    if origin is tuple:
        return _list_problems(value, inner, where)
    if origin is dict and isinstance(value, Mapping):
        return list(islice(plain_problems(value, where), MOST_PROBLEMS))
    if origin is Literal:
        known = isinstance(value, str) and value in inner
        return [] if known else [f"unknown {where} {shortened(value)}; known are {inner}"]
    kind = dict if origin is dict else hint
    if _is_a(value, kind):
        return []
    return [f"{where} must be {_KINDS.get(kind, kind.__name__)}, got {shortened(value)}"]


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return is_number(value)
    if kind is str:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT
    return type(value) is kind


def is_number(value: Any) -> bool:
    """Whether a value is a finite number of a usual size, and no bool."""
    return (type(value) is int or isinstance(value, float)) and bool(abs(value) < LARGEST)


def _list_problems(value: Any, inner: tuple[Any, ...], where: str) -> list[str]:
    if not isinstance(value, list | tuple):
        return [f"{where} must be a list, got {shortened(value)}"]
    if inner[-1] is not Ellipsis and len(value) != len(inner):
        return [f"{where} must have {len(inner)} entries, got {shortened(value)}"]
    problems: list[str] = []
    for index, item in enumerate(value):
        problems += _problems(item, inner[0], f"{where}[{index}]")
        if len(problems) >= MOST_PROBLEMS:
            break
    return problems


def plain_problems(value: Any, where: str, depth: int = 0) -> Iterator[str]:
    """What JSON cannot hold of a value: objects, texts and numbers out of bounds.

    Parameters
    ----------
    value : object
        Anything.
    where : str
        How to name it.
    depth : int
        Objects and lists around it.

    Yields
    ------
    str
        One for each that is wrong.

    Examples
    --------
    >>> list(plain_problems({"iou": [0.5, float("nan")]}, "scores"))
    ["scores['iou'][1] must be a finite number, got nan; leave it out or say None"]
    """
    if depth > DEEPEST:
        yield f"{where[:80]}... is nested more than {DEEPEST} times"
    elif isinstance(value, Mapping):
        yield from (f"names in {where} must be text, got {shortened(n)}" for n in _no_texts(value))
        for name, item in value.items():
            yield from plain_problems(item, f"{where}[{shortened(name)}]", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from plain_problems(item, f"{where}[{index}]", depth + 1)
    else:
        yield from _value_problems(value, where)


def _value_problems(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, float) or type(value) is int:
        if not is_number(value):
            yield (
                f"{where} must be a finite number, got {shortened(value)}; leave it out or say None"
            )
    elif not (value is None or _is_a(value, bool) or _is_a(value, str)):
        yield f"{where} must be a plain value, got {shortened(value)}"


def _no_texts(values: Iterable[Any]) -> Iterator[Any]:
    return (value for value in values if not _is_a(value, str))
