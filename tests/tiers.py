"""What the quick tier leaves to the tier `slow`: combinations of parameters, most random examples.

The slow tier repeats at length what quick tests assert.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

Values = frozenset[tuple[object, ...]]


def leave_combinations(items: Iterable[pytest.Item]) -> None:
    """Mark `slow` what is no part of a few combinations that hold each value of each parameter.

    A test marked ``quick(*ids)`` chooses itself: those whose identifier contains one of `ids`.
    """
    tests = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for test in tests.values():
        chosen = _chosen(test)
        for item in test:
            if item not in chosen:
                item.add_marker(pytest.mark.slow)


def _chosen(test: list[pytest.Function]) -> list[pytest.Function]:
    left = [item for item in test if not item.get_closest_marker("slow")]
    # the order of `test` is another in every run
    left.sort(key=lambda item: item.nodeid)
    quick = test[0].get_closest_marker("quick")
    if quick:
        return [item for item in left if any(part in item.callspec.id for part in quick.args)]
    values = {item: _values(item) for item in left}
    missing, chosen = set().union(*values.values()), []
    while missing:
        best = max(left, key=lambda item: len(missing & values[item]))
        missing -= values[best]
        chosen.append(best)
    return chosen


def _values(item: pytest.Function) -> Values:
    """The values that a test has of each of its parameters; of a list of tuples, the tuple."""
    together = [_names(mark.args[0]) for mark in item.iter_markers("parametrize")]
    marked = {name for names in together for name in names}
    parameters = item.callspec.params
    alone = [(name,) for name in parameters if name not in marked]
    # many values have no equality or no hash: each is one object for all tests
    return frozenset(
        (names, *(id(parameters[name]) for name in names)) for names in [*together, *alone]
    )


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (
        tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else tuple(given)
    )


def examples(thorough: int, **options: Any) -> settings:
    """That many examples of Hypothesis in the slow tier, a quarter of them in the quick one."""
    of_100 = settings().max_examples
    return settings(max_examples=max(min(thorough, 3), thorough * of_100 // 100), **options)
