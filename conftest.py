"""Every test writes its cache into a folder of its own run."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# tests run side by side: threads of their own would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
# set before xsphere reads the environment; never the user's own cache. Workers share it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XSPHERE_CACHE_DIR"] = tempfile.mkdtemp(prefix="xsphere-test-cache-")
    atexit.register(shutil.rmtree, os.environ["XSPHERE_CACHE_DIR"], ignore_errors=True)

# the same examples in every run; machines are shared, so time proves nothing
for name, max_examples in (("quick", 25), ("thorough", 100)):
    settings.register_profile(
        name,
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("quick")


@pytest.fixture
def test_data() -> Path:
    """Folder of real data, where this machine has it."""
    folder = os.environ.get("XSPHERE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set XSPHERE_TEST_DATA to the folder of test data")
    return Path(folder)


@pytest.fixture
def cache_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty cache of one test's own."""
    from xsphere.config import set_options

    with set_options(cache_dir=str(tmp_path / "cache")):
        yield tmp_path / "cache"
