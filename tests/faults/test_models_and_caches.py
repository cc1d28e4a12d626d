"""Model files that are not sound, and caches that are damaged, shared, read-only or gone."""

import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from tests.faults.runs import start, stored
from tests.test_model import edited, edited_spec
from tests.toys import storm_dataset, storm_model
from xsphere.cache import CacheWarning, cached_arrays, content_key, entry_path
from xsphere.config import set_options
from xsphere.model import ModelFileError
from xsphere.model.file import to_bytes
from xsphere.segmentation import segment

KEY = content_key("faults")


def bad_model(path: Path, kind: str) -> Path:
    model = storm_model()
    model.save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "another network":
        network = {"architecture": "unet", "features": [5, 6], "depths": [0, 1], "kernel_size": 3}
        edited_spec(path, network=network)
    elif kind == "not finite":
        tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
        tensors["head.bias"][1] = np.inf
        path.write_bytes(to_bytes(model.spec.to_dict(), tensors))
    elif kind == "a header of a petabyte":
        path.write_bytes((10**15).to_bytes(8, "little") + path.read_bytes()[8:])
    else:
        edited(path, lambda header: header["head.bias"].update(shape=[10**15]))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "another network",
        "not finite",
        "a header of a petabyte",
        "a tensor of a petabyte",
    ],
)
def test_10_bad_model_is_refused_before_anything_is_read_or_kept(
    tmp_path: Path, cache_folder: Path, kind: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("something was computed")

    stored(tmp_path / "x.zarr", 2)
    path = bad_model(tmp_path / "bad.safetensors", kind)
    with (
        dask.config.set(scheduler=fail),
        pytest.raises(ModelFileError, match=r"bad\.safetensors.* is refused: "),
    ):
        segment(tmp_path / "x.zarr", path)
    assert not list(cache_folder.rglob("*.safetensors"))


def test_10_a_flipped_bit_of_the_weights_is_refused(tmp_path: Path) -> None:
    path = storm_model().save(tmp_path / "m.safetensors")
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"do not match its digest: .* damaged"):
        segment(storm_dataset(1), path)


def test_11_processes_that_die_while_building_leave_no_entry(cache_folder: Path) -> None:
    code = """
import os, signal, sys, numpy as np
from xsphere import cache
from xsphere.config import set_options
set_options(cache_dir=sys.argv[1])
os.replace = os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cache.cached_arrays("k", sys.argv[2], lambda: {"a": np.arange(5)})
"""
    process = start(code, cache_folder, KEY)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    folder = entry_path("k", KEY)
    assert folder is not None
    assert not folder.exists()
    assert len(list(folder.parent.glob(".*.tmp"))) == 1
    made = cached_arrays("k", KEY, lambda: {"a": np.arange(5)})
    assert made["a"].tolist() == [0, 1, 2, 3, 4]
    assert cached_arrays("k", KEY, dict)["a"].tolist() == [0, 1, 2, 3, 4]


# an entry that vanishes while it is looked at may be told of: it is built again
@pytest.mark.filterwarnings("ignore::xsphere.cache.CacheWarning")
def test_11_readers_never_see_half_an_entry(cache_folder: Path) -> None:
    expected = {"a": np.arange(20_000), "b": np.eye(30)}
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            found = cached_arrays("k", KEY, lambda: expected)
            if list(found) != ["a", "b"] or not np.array_equal(found["b"], expected["b"]):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(4)]
    folder = entry_path("k", KEY)
    assert folder is not None
    for reader in readers:
        reader.start()
    try:
        for number in range(20):
            cached_arrays("k", KEY, lambda: expected)
            with suppress(OSError):
                if number % 2:
                    os.rename(folder, cache_folder / f"away-{number}")
                else:
                    shutil.rmtree(folder)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong


def test_11_a_cache_that_vanishes_between_building_and_computing(
    tmp_path: Path, cache_folder: Path
) -> None:
    expected = segment(stored(tmp_path / "x.zarr", 2), storm_model(seed=23)).values
    result = segment(tmp_path / "x.zarr", storm_model(seed=23), block_size=1)
    shutil.rmtree(cache_folder)
    # weights are what no task can make anew; all else is
    with pytest.raises(FileNotFoundError, match="XSPHERE_CACHE_DIR"):
        result.compute(scheduler="sync")
    again = segment(tmp_path / "x.zarr", storm_model(seed=23), block_size=1)
    np.testing.assert_array_equal(again.compute(scheduler="sync"), expected)


def test_11_runs_go_on_without_a_cache_that_can_be_written(tmp_path: Path) -> None:
    expected = segment(stored(tmp_path / "x.zarr", 2), storm_model(seed=24)).values
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with set_options(cache_dir=str(blocked)):
        with pytest.warns(CacheWarning, match="the model travels inside the task graph"):
            result = segment(tmp_path / "x.zarr", storm_model(seed=24), block_size=1)
        np.testing.assert_array_equal(result.compute(scheduler="sync"), expected)
    assert blocked.read_text() == "no folder"


def test_11_there_are_no_locks_to_go_stale(cache_folder: Path) -> None:
    folder = entry_path("k", KEY)
    assert folder is not None
    folder.parent.mkdir(parents=True)
    for name in (f"{folder.name}.lock", "tmp-0123", f"{folder.name}.corrupt-0123"):
        (folder.parent / name).mkdir()
    assert cached_arrays("k", KEY, lambda: {"a": np.arange(5)})["a"].size == 5
    assert cached_arrays("k", KEY, dict)["a"].size == 5
