"""The same bits wherever blocks are computed, and no process that waits for what cannot come."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.runs import start, stored
from tests.test_blocks import classes_at, files, mask
from tests.toys import storm_model
from xsphere.blocks import open_mask, write_blocks
from xsphere.blocks.creation import Plan
from xsphere.segmentation import segment


def test_27_cluster_writes_the_same_bytes(tmp_path: Path, cluster: Any) -> None:
    report = write_blocks(mask(n=30, block=2), tmp_path / "c.zarr", client=cluster)
    assert report.written == 15
    write_blocks(mask(n=30, block=2), tmp_path / "t.zarr", workers=2)
    assert files(tmp_path / "c.zarr") == files(tmp_path / "t.zarr")


def test_27_active_client_is_used_and_persisted_data_are_read_where_they_are(
    tmp_path: Path, cluster: Any
) -> None:
    here = os.getpid()
    where = mask(lambda index: classes_at(index) * 0 + np.uint8(1 + (os.getpid() != here)))
    with cluster.as_current():
        write_blocks(where, tmp_path / "w.zarr")
        result = cluster.persist(mask())
        write_blocks(result, tmp_path / "p.zarr")
    assert (open_mask(tmp_path / "w.zarr").compute(scheduler="sync") == 2).all()
    write_blocks(result, tmp_path / "t.zarr", workers=2)
    np.testing.assert_array_equal(open_mask(tmp_path / "p.zarr"), mask().compute(scheduler="sync"))
    np.testing.assert_array_equal(open_mask(tmp_path / "t.zarr"), mask().compute(scheduler="sync"))


@pytest.mark.parametrize("output", ["mask", "probability"])
def test_27_same_bytes_in_threads_on_a_cluster_and_without_dask(
    tmp_path: Path, cluster: Any, output: Any
) -> None:
    ds = stored(tmp_path / "x.zarr", 6)
    expected = segment(ds, storm_model(), output=output).values.tobytes()
    result = segment(tmp_path / "x.zarr", storm_model(), output=output, block_size=2)
    chunked = segment(ds.chunk(time=2), storm_model(), output=output)
    stores = {}
    for name, made, options in (
        ("one", result, {"workers": 1}),
        ("threads", result, {"workers": 3}),
        ("cluster", result, {"client": cluster}),
        ("chunked", chunked, {"workers": 2}),
    ):
        path = tmp_path / f"{name}.zarr"
        write_blocks(made, path, **options)
        assert open_mask(path).values.tobytes() == expected
        chunks = [p for p in (path / output / "c").rglob("*") if p.is_file()]
        stores[name] = {p.relative_to(path): p.read_bytes() for p in chunks}
    assert len(stores["one"]) == 3
    assert stores["one"] == stores["threads"] == stores["cluster"] == stores["chunked"]


FORK = """
import multiprocessing, sys
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import open_mask, write_blocks
from xsphere.segmentation import segment

def work(name):
    mask = segment(sys.argv[1], storm_model(), block_size=1)
    path = f"{sys.argv[2]}/{name}.zarr"
    write_blocks(mask, path, workers=2)
    assert open_mask(path).compute(scheduler="sync").equals(mask.compute(scheduler="sync"))
    return mask.compute(scheduler="sync").values.tobytes()

class Steps:
    def __len__(self):
        return 3
    def __getitem__(self, step):
        mask = segment(sys.argv[1], storm_model(), block_size=1)
        return mask.isel(time=step).compute(scheduler="sync").values

def child(queue):
    try:
        queue.put(work("child"))
    except BaseException as error:
        queue.put(repr(error))
        raise

expected = work("parent")
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,), daemon=True)
process.start()
assert queue.get(timeout=600) == expected, "another result"
process.join(600)
assert process.exitcode == 0
from torch.utils.data import DataLoader
loader = DataLoader(Steps(), num_workers=2, multiprocessing_context="fork", timeout=600)
assert b"".join(step.numpy().tobytes() for step in loader) == expected
print("all the same")
"""


def test_28_forked_after_use_gives_the_same_and_never_hangs(tmp_path: Path) -> None:
    stored(tmp_path / "x.zarr", 3)
    process = start(FORK, tmp_path / "x.zarr", tmp_path)
    try:
        shown, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert shown == "all the same\n"


def test_26_names_and_identities_are_the_same_in_every_interpreter(
    tmp_path: Path, elsewhere: Any
) -> None:
    stored(tmp_path / "x.zarr", 2)
    code = """
import sys
from tests.toys import storm_model
from xsphere.blocks.creation import Plan
from xsphere.segmentation import segment
mask = segment(sys.argv[1], storm_model(), block_size=1)
print(mask.data.name, mask.attrs["xsphere_run"], Plan(mask).identity)
"""
    told = elsewhere(code, tmp_path / "x.zarr")
    mask = segment(tmp_path / "x.zarr", storm_model(), block_size=1)
    name, run = mask.data.name, mask.attrs["xsphere_run"]
    assert told == f"{name} {run} {Plan(mask).identity}\n"
