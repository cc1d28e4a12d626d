"""No bit of a store can change unnoticed, and what is noticed can be mended."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from zarr.storage import LocalStore

from tests.tiers import examples
from xsphere.blocks import (
    IncompleteStoreError,
    OtherRunError,
    StoreError,
    open_mask,
    repair_store,
    verify_store,
    write_blocks,
)
from xsphere.blocks.opened import open_store, read_books, write_books
from xsphere.blocks.rows import ROWS
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.grids import HealpixGrid
from xsphere.locations import location
from xsphere.sources import MissingChunkError

NAMES = ("zarr.json", "mask/zarr.json", "time/zarr.json", "month/c/0", f"{ROWS}/zarr.json")


def result() -> xr.Dataset:
    """Masks, floats and coordinates of all kinds."""
    values = (np.arange(36).reshape(3, 12) % 4 % 3).astype(np.uint8)
    ds = describe_healpix(xr.Dataset({"mask": (("time", "cells"), values)}), HealpixGrid(0))
    ds["mask"].attrs |= mask_attributes(["cyclone", "river"])
    ds["p"] = ds["mask"].astype("f4").assign_attrs(units="1") / 7
    coords = {
        "time": pd.date_range("2001-01-01", periods=3, freq="6h"),
        "month": ("time", ["Jan", "Feb", "Mär"]),
        "day": ("time", [True, False, True]),
    }
    return ds.assign_coords(coords).chunk(time=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "m.zarr"
    write_blocks(result(), path, workers=1)
    return path


def files(path: Path) -> list[Path]:
    return sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())


def opened(path: Path) -> list[xr.Dataset]:
    """As all readers see it: ours, and others with and without metadata in one place."""
    return [open_mask(path).load(), *(xr.open_zarr(path, consolidated=c).load() for c in (0, 1))]


def notices(path: Path) -> bool:
    try:
        return not verify_store(path).ok
    except StoreError:
        return True


@examples(120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_changes_unnoticed(whole: Path, tmp_path: Path, data: Any) -> None:
    path = tmp_path / "m.zarr"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    assert not notices(path)
    file = path / data.draw(st.sampled_from(files(path)))
    content = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    if not notices(path):
        for now, before in zip(opened(path), opened(whole), strict=True):
            xr.testing.assert_identical(now, before)


def test_no_bit_of_the_bookkeeping_is_anybodys(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    shutil.copytree(whole, path)
    file = path / "_xsphere" / "zarr.json"
    content = bytearray(file.read_bytes())
    expected = read_books(location(path))
    for bit in range(0, 8 * len(content), 11):
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        # white space means nothing
        with suppress(StoreError):
            assert read_books(location(path)) == expected
        content[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_what_is_wrong_is_told_and_mended(whole: Path, tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "m.zarr"
    shutil.copytree(whole, path)
    content = (path / name).read_bytes()
    if how == "gone":
        (path / name).unlink()
    else:
        changed = content.replace(b'"units"', b'"unitz"').replace(b"flag_values", b"flag_walues")
        (path / name).write_bytes(changed if changed != content else content + b" ")
    if how == "gone" and name not in ("time/zarr.json", "month/c/0"):
        # nothing to go by
        with pytest.raises(StoreError, match="or its metadata are damaged"):
            verify_store(path)
        return
    report = verify_store(path)
    assert not report.ok
    assert not report.damaged
    assert str(Path(name).parent if "/c/" in name else name).removesuffix("/c") in str(report)
    if name.endswith(".json"):
        with pytest.raises(StoreError, match=f"(?s)the metadata .* are damaged.*{name}.*repair"):
            open_mask(path)
    with pytest.raises(OtherRunError, match=r"(?s)was changed since it was written.*repair_store"):
        write_blocks(result(), path)
    assert repair_store(path, result()).written == 0
    assert (path / name).read_bytes() == content
    assert verify_store(path).ok
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_schema_and_counts_are_checked(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    shutil.copytree(whole, path)
    books = dict(open_store(location(path)).books)
    assert sum(books["counts"]["mask"].values()) == 36
    write_books(location(path), books | {"counts": {"mask": {"background": 36}}})
    assert "counts: they are {'mask': {'background': 36}}" in str(verify_store(path))
    repair_store(path, result())
    assert open_store(location(path)).books["counts"] == books["counts"]
    assert verify_store(path).ok
    write_books(location(path), books | {"schema": 99})
    with pytest.raises(StoreError, match=r"has the schema 99, not .* another version of xsphere"):
        open_mask(path)


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), MemoryError("no room")]
)
@pytest.mark.parametrize("part", ["_xsphere/blocks", "mask", "time"])
def test_a_disk_that_fails_says_nothing_of_what_is_stored(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    """Nothing is computed again, and nothing is called damaged: the run stops."""
    path = tmp_path / "m.zarr"
    shutil.copytree(whole, path)
    get = LocalStore.get

    async def failing(self: Any, key: str, *arguments: Any, **options: Any) -> Any:
        if part in key and not key.endswith("zarr.json"):
            raise error
        return await get(self, key, *arguments, **options)

    monkeypatch.setattr(LocalStore, "get", failing)
    calls: list[Any] = [lambda: verify_store(path), lambda: repair_store(path, result(), workers=1)]
    if part != "mask":
        # what has a row is not read again
        calls.append(lambda: write_blocks(result(), path, workers=1))
    for call in calls:
        with pytest.raises(type(error), match=str(error.args[-1])):
            call()
    monkeypatch.undo()
    assert verify_store(path).ok


def test_a_folder_that_cannot_be_looked_into_is_not_empty(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = os.stat

    def failing(path: Any, *arguments: Any, **options: Any) -> Any:
        if "/mask/c/" in str(path):
            raise OSError(errno.EIO, "Input/output error")
        return looked(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(OSError, match="Input/output error"):
        open_mask(whole)


def test_blocks_that_vanish_after_opening_are_an_error(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    shutil.copytree(whole, path)
    ds = open_mask(path)
    (path / "mask" / "c" / "1" / "0").unlink()
    assert ds["mask"][:2].load().shape == (2, 12)
    with pytest.raises(MissingChunkError, match="mask"):
        ds["mask"].load()
    with pytest.raises(IncompleteStoreError, match="1 of 2 blocks are lost"):
        open_mask(path)
    assert (open_mask(path, allow_incomplete=True)["mask"][2] == 255).all()
