"""Share what is slow to start, a cluster and another interpreter, and the command."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest

from tests.tiers import leave_combinations

ROOT = Path(__file__).parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start once what tests share: one process of pytest-xdist runs them all.

    Leave most combinations of parameters to the slow tier.
    """
    leave_combinations(items)
    for item in items:
        for shared in ("cluster", "elsewhere", "processes"):
            if shared in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture
def cluster(all_workers: Any) -> Any:
    """A client of a cluster of two processes, with both of them: a test before may kill one."""
    all_workers.wait_for_workers(2, timeout=1800)
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


ELSEWHERE = """
import contextlib, io, json, sys, traceback

for line in sys.stdin:
    code, *arguments = json.loads(line)
    sys.argv, told, error = ["-c", *arguments], io.StringIO(), None
    try:
        with contextlib.redirect_stdout(told):
            exec(code, {"__name__": "__main__"})
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([told.getvalue(), error]), flush=True)
"""


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Callable[..., str]]:
    """Runs code in another interpreter and gives what it prints; one interpreter for all tests.

    Its hashes have another seed than any other process, and its loops one thread.
    """
    environment = {"PYTHONHASHSEED": "7", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(code: str, *arguments: object) -> str:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps([code, *map(str, arguments)]) + "\n")
        process.stdin.flush()
        told, error = json.loads(process.stdout.readline())
        assert error is None, error
        return str(told)

    yield run
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def processes() -> Iterator[dict[str, Any]]:
    """Options for Dask to compute in another process, one for all tests."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {"scheduler": "processes", "pool": pool}


@pytest.fixture
def in_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command as of a shell, in this process."""
    from xsphere.cli import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["xsphere", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return subprocess.CompletedProcess(sys.argv, code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """One server for all tests, started where one asks for it."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from tests.s3 import served

    with served() as server:
        yield server


@pytest.fixture
def s3(s3_server: Any) -> Iterator[Any]:
    """The server, without faults."""
    yield s3_server
    s3_server.faults.refused, s3_server.faults.refuse = 0, lambda method, path: 0
