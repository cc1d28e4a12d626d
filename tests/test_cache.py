"""The cache: complete entries or none, corrupt ones rebuilt, no folder no harm."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xsphere.cache import (
    CacheWarning,
    SharedEntries,
    cache_dir,
    cached_arrays,
    content_key,
    entry_path,
)
from xsphere.config import set_options

KEY = content_key("test")


def arrays() -> dict[str, np.ndarray]:
    return {"a": np.arange(5), "b": np.eye(2)}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("the cache has it")


def test_second_call_reads_what_the_first_built(cache_folder: Path) -> None:
    cached_arrays("k", KEY, arrays)
    again = cached_arrays("k", KEY, never)
    assert again["a"].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(again["b"], np.eye(2))


def test_arrays_cannot_be_changed(cache_folder: Path) -> None:
    first = cached_arrays("k", KEY, arrays)
    with pytest.raises(ValueError, match="read-only"):
        first["a"][0] = 9


@pytest.mark.parametrize("damage", ["truncate", "flip", "manifest", "missing"])
def test_corrupt_entry_is_put_aside_and_rebuilt(cache_folder: Path, damage: str) -> None:
    cached_arrays("k", KEY, arrays)
    folder = entry_path("k", KEY)
    assert folder is not None
    file = folder / "a.npy"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "flip":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "manifest":
        (folder / "manifest.json").unlink()
    else:
        file.unlink()
    with pytest.warns(CacheWarning, match="is corrupt"):
        again = cached_arrays("k", KEY, arrays)
    assert again["a"].tolist() == [0, 1, 2, 3, 4]
    assert list(folder.parent.glob("*.corrupt-*"))
    cached_arrays("k", KEY, never)


def test_unwritable_cache_costs_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with (
        set_options(cache_dir=str(blocked)),
        pytest.warns(CacheWarning, match="cannot be written"),
    ):
        assert cached_arrays("k", KEY, arrays)["a"].tolist() == [0, 1, 2, 3, 4]


def test_no_cache_builds_each_time() -> None:
    with set_options(cache_dir=""):
        assert cache_dir() is None
        assert cached_arrays("k", KEY, arrays)["a"].size == 5
        with pytest.raises(AssertionError):
            cached_arrays("k", KEY, never)


def test_many_writers_leave_one_sound_entry(cache_folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: cached_arrays("k", KEY, arrays), range(16)))
    assert all(np.array_equal(result["b"], np.eye(2)) for result in results)
    folder = entry_path("k", KEY)
    assert folder is not None
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.slow
def test_many_processes_leave_one_sound_entry(cache_folder: Path) -> None:
    code = (
        "import sys; from xsphere.config import set_options; set_options(cache_dir=sys.argv[1]);"
        "from xsphere.grids import *; from xsphere.weights import regridding_weights;"
        "matrix = regridding_weights(HealpixGrid(5), HealpixGrid(2), method='conservative');"
        "print(matrix.sum())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(cache_folder)], stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    sums = [float(process.communicate(timeout=1800)[0]) for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sums == [192.0] * 4
    (entry,) = cache_folder.glob("v1/weights/*/*")
    assert (entry / "manifest.json").exists()


def test_an_entry_that_appears_meanwhile_is_no_corrupt_one(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look for the manifest and one for the folder, another process may be done."""
    folder = entry_path("k", KEY)
    assert folder is not None
    looks = []
    scan = os.scandir

    def scan_before_it_appears(path: Path) -> Any:
        if path == folder and not looks:
            looks.append(path)
            cached_arrays("k", KEY, arrays)
            raise FileNotFoundError
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_before_it_appears)
    assert cached_arrays("k", KEY, never)["a"].tolist() == [0, 1, 2, 3, 4]
    assert looks


def test_shared_entry_is_made_once_by_many_threads() -> None:
    entries, made = SharedEntries(4), []
    with ThreadPoolExecutor(8) as pool:
        values = list(
            pool.map(lambda _: entries.fetch("x", lambda: made.append(1) or 7), range(50))
        )
    assert values == [7] * 50
    assert len(made) == 1


def test_shared_entry_is_made_once_though_many_others_are_made_meanwhile() -> None:
    entries, made = SharedEntries(1), []
    begun, go = threading.Event(), threading.Event()

    def slow() -> int:
        made.append(1)
        begun.set()
        assert go.wait(60)
        return 7

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(entries.fetch, "x", slow)
        assert begun.wait(60)
        # more keys than are kept or ever asked for at once
        for number in range(50):
            entries.fetch(str(number), lambda: None)
        others = [pool.submit(entries.fetch, "x", slow) for _ in range(2)]
        go.set()
        assert [future.result() for future in (first, *others)] == [7] * 3
    assert len(made) == 1


def test_shared_entry_that_fails_is_tried_by_the_next() -> None:
    entries, tries = SharedEntries(2), []

    def make() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("once")
        return 7

    with pytest.raises(OSError, match="once"):
        entries.fetch("x", make)
    assert entries.fetch("x", make) == entries.fetch("x", make) == 7
    assert len(tries) == 2


def test_threads_that_wait_for_one_that_fails_try_themselves() -> None:
    entries, begun, go = SharedEntries(2), threading.Event(), threading.Event()

    def fail() -> int:
        begun.set()
        assert go.wait(60)
        raise OSError("once")

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(entries.fetch, "x", fail)
        assert begun.wait(60)
        others = [pool.submit(entries.fetch, "x", lambda: 7) for _ in range(2)]
        # so that they wait by then; where they do not, they make it at once
        wait(others, timeout=0.1)
        go.set()
        assert [other.result(60) for other in others] == [7, 7]
        with pytest.raises(OSError, match="once"):
            first.result()


def test_shared_entries_forget_the_oldest() -> None:
    entries, made = SharedEntries(2), []
    for key in "abca":
        entries.fetch(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "a"]


def test_bad_key_is_refused() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        entry_path("k", "../../etc")


def test_unknown_option_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown options"):
        set_options(cach_dir="x")
