"""Every test of this folder has a time limit; they share one cluster of two processes."""

from collections.abc import Iterator
from typing import Any

import dask
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


@pytest.fixture
def cluster(all_workers: Any) -> Any:
    """The cluster, with all its workers: a test before may have killed one."""
    all_workers.wait_for_workers(2, timeout=120)
    return all_workers


@pytest.fixture(scope="session")
def all_workers() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 1,
                # a killed worker that is slow to come back would be given up for good
                "distributed.deploy.lost-worker-timeout": "10 minutes",
            }
        ),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as made,
        # not the default: other tests are run in this process
        Client(made, set_as_default=False) as client,
    ):
        yield client
