"""Every test of this folder has a time limit."""

from collections.abc import Iterator

import pytest

from tests.faults.limits import SECONDS, limited
from xsphere.blocks import task


@pytest.fixture(autouse=True)
def within_the_time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    with limited(getattr(request.function, "time_limit", SECONDS)):
        yield


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "PAUSE", 0.001)
