"""The cache as its owner sees it."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from xsphere.cache import CacheWarning, cached_arrays, content_key, entry_path
from xsphere.config import set_options
from xsphere.housekeeping import cache_entries, clear_cache, damaged_entries, entries_text

pytestmark = pytest.mark.usefixtures("cache_folder")


def filled(kind: str, number: int, about: str = "") -> Path:
    key = content_key(kind, number)
    cached_arrays(kind, key, lambda: {"x": np.full(1000, number, float)}, about=about)
    folder = entry_path(kind, key)
    assert folder is not None
    return folder


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_entries_tell_what_they_are() -> None:
    filled("weights", 1, about="one grid to another")
    filled("graphs", 2)
    graph, weights = cache_entries()
    assert (graph.kind, weights.kind) == ("graphs", "weights")
    assert weights.about == "one grid to another"
    assert weights.complete
    assert 8000 < weights.n_bytes < 9000
    text = entries_text([graph, weights])
    assert "one grid to another" in text
    assert re.search(r"2 entries, 1\d\.\d KiB$", text)


def test_no_cache_holds_nothing() -> None:
    filled("weights", 1)
    with set_options(cache_dir=""):
        assert cache_entries() == []
    with set_options(cache_dir="/nowhere/at/all"):
        assert cache_entries() == []


@pytest.mark.parametrize("name", ["x.npy", "manifest.json"])
def test_every_damaged_byte_is_found(name: str) -> None:
    good, bad = filled("weights", 1), filled("weights", 2)
    assert damaged_entries() == []
    flip_a_bit(bad / name)
    assert [entry.path for entry in damaged_entries()] == [bad]
    assert good.exists()


def test_what_was_put_aside_is_damaged_and_goes() -> None:
    folder = filled("weights", 1)
    flip_a_bit(folder / "x.npy")
    os.utime(folder / "manifest.json", ns=(1, 1))  # as another process sees it
    with pytest.warns(CacheWarning, match="corrupt"):
        filled("weights", 1)
    (aside,) = damaged_entries()
    assert not aside.complete
    assert "leftover" in entries_text([aside])
    clear_cache()
    assert cache_entries() == []


def test_clearing_keeps_other_kinds_and_younger_entries() -> None:
    weights, graph = filled("weights", 1), filled("graphs", 2)
    assert [entry.path for entry in clear_cache(["weights"])] == [weights]
    assert graph.exists()
    assert clear_cache(older_than=1.0) == []
    two_days_ago = time.time() - 2 * 86_400
    os.utime(graph, (two_days_ago, two_days_ago))
    assert [entry.path for entry in clear_cache(older_than=1.0)] == [graph]


def test_an_entry_that_is_being_built_is_left_alone() -> None:
    building = filled("weights", 1).parent / "tmp-0123"
    building.mkdir()
    clear_cache()
    assert building.exists()
    long_ago = time.time() - 3 * 86_400
    os.utime(building, (long_ago, long_ago))
    clear_cache()
    assert not building.exists()


def test_an_unknown_kind_is_refused() -> None:
    filled("weights", 1)
    with pytest.raises(
        ValueError, match=r"nothing of the kinds \['wights'\]; it has \['weights'\]"
    ):
        clear_cache(["wights"])


def test_arrays_outlive_their_entry() -> None:
    key = content_key("kept")
    arrays = cached_arrays("weights", key, lambda: {"x": np.arange(100_000)})
    clear_cache()
    assert arrays["x"].sum() == 4_999_950_000


def test_what_is_not_ours_stays_whatever_is_cleared(cache_folder: Path) -> None:
    entry = filled("weights", 1)
    for name in ("v1/weights/ab/mine", "v1/my/own/folder", "v1/weights/notes/ab12"):
        (cache_folder / name).mkdir(parents=True)
    assert [removed.path for removed in clear_cache()] == [entry]
    assert (cache_folder / "v1/weights/ab/mine").exists()
    assert (cache_folder / "v1/my/own/folder").exists()
    assert (cache_folder / "v1/weights/notes/ab12").exists()
