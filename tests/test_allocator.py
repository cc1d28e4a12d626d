"""What workers of Dask do with freed memory."""

import subprocess
import sys

import pytest

# pages of a large array are taken anew each time, or once
CODE = """
import resource
from xsphere.allocator import keep_freed_memory
kept = keep_freed_memory()
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**20)
before = faults()
for _ in range(20):
    np.ones(2**20)
print(kept, faults() - before)
"""


def run(threshold: str | None) -> tuple[str, int]:
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    if threshold is not None:
        environment["MALLOC_TRIM_THRESHOLD_"] = threshold
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_workers_use_freed_memory_again() -> None:
    kept, faults = run("65536")
    assert kept == "True"
    # 8 MiB are 2,048 pages: without it each of twenty arrays takes that many
    assert faults < 2048


@pytest.mark.parametrize("threshold", [None, "65537"])
def test_what_somebody_chose_stays(threshold: str | None) -> None:
    assert run(threshold)[0] == "False"


def test_dask_still_asks_for_it() -> None:
    import dask
    import distributed  # noqa: F401  (its configuration)

    from xsphere.allocator import NANNY

    asked = dask.config.get("distributed.nanny.pre-spawn-environ")
    assert str(asked["MALLOC_TRIM_THRESHOLD_"]) == NANNY
