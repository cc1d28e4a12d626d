"""What many tests share: one cluster, one kind of worker for the tests that use it."""

from collections.abc import Iterator
from typing import Any

import dask
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests of the cluster to one process of pytest-xdist: there is one cluster then."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture
def cluster(all_workers: Any) -> Any:
    """A client of a cluster of two processes, with both of them: a test before may kill one."""
    all_workers.wait_for_workers(2, timeout=600)
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
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as made,
        # not the default: other tests are run in this process
        Client(made, set_as_default=False) as client,
    ):
        yield client
