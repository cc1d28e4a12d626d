"""A store grows with its source: the old part stays, and readers see one length or the other."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import xsphere
from tests.test_blocks import (
    Counting,
    books,
    chunk,
    classes_at,
    labelled,
    lazy,
    mask,
    row,
    times_changed,
)
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import (
    BlocksFailed,
    IncompleteStoreError,
    OtherRunError,
    open_mask,
    verify_store,
    write_blocks,
)
from xsphere.locations import Location, location


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A place where nothing is yet."""
    if request.param == "folder":
        return tmp_path / "m.zarr"
    return f"memory://{uuid.uuid4().hex}/m.zarr"


def test_only_the_new_steps_and_the_short_block_are_computed(place: Any) -> None:
    write_blocks(mask(), place, append=True)  # nothing is there: as ever
    counting = Counting()
    report = write_blocks(mask(counting, 18), place, append=True, workers=1)
    # the first and the last whole block are compared, the short one is made anew
    assert sorted(counting.computed) == [0, 4, 8, 12, 16]
    assert (report.n_blocks, report.written, report.n_steps) == (5, 3, 10)
    assert verify_store(place).ok
    xr.testing.assert_identical(open_mask(place).compute(), mask(n=18).compute())
    xr.testing.assert_equal(xr.open_zarr(place)["mask"].compute(), mask(n=18).compute())
    assert sum(report.counts["mask"].values()) == 18 * 13
    # by the same call nothing more
    assert write_blocks(mask(n=18), place, append=True).written == 0
    assert write_blocks(mask(n=18), place).written == 0


def test_old_blocks_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    before = times_changed(path)
    write_blocks(mask(n=12), path, append=True)
    after = times_changed(path)
    for index in (0, 1):
        for file in (chunk(path, index), row(path, index)):
            assert before[str(file)] == after[str(file)]
    assert before[str(chunk(path, 2))] != after[str(chunk(path, 2))]


def test_a_longer_result_is_not_taken_unasked(place: Any) -> None:
    write_blocks(mask(), place)
    with pytest.raises(OtherRunError, match=r"(?s)\[10, 13\] in the store, \[18, .*append=True"):
        write_blocks(mask(n=18), place)
    with pytest.raises(ValueError, match="append=True or overwrite=True, got both"):
        write_blocks(mask(n=18), place, append=True, overwrite=True)
    assert verify_store(place).ok


@pytest.mark.parametrize(
    ("longer", "words"),
    [
        (lambda: mask(n=8), r"shape: \[10, 13\] in .*\n.*append=True never makes a store shorter"),
        (lambda: mask(n=18, block=5), r"layout\.block: 4 in the store, 5 now"),
        (
            lambda: mask(n=18).assign_attrs(xsphere_run='{"model": "b2"}').astype("i2"),
            r"dtype: '\|u1' in the store, '<i2' now\n(.*\n)*.*run\.model: 'a1' in the store, 'b2'",
        ),
        (lambda: mask(n=18).assign_coords(lat=mask().lat + 1), r"written whole\.lat"),
        (
            lambda: mask(n=18).assign_coords(time=mask(n=18).time + np.timedelta64(1, "h")),
            r"written whole\.time: '10 int64, 0 to 54 hours",
        ),
        (lambda: mask(n=18).drop_vars("lat"), r"lat: .* in the store, nothing now"),
    ],
)
def test_all_that_differs_is_told(tmp_path: Path, longer: Any, words: str) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    before = times_changed(path)
    with pytest.raises(OtherRunError, match=f"(?s){words}"):
        write_blocks(longer(), path, append=True)
    assert times_changed(path) == before


def test_times_keep_the_units_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    write_blocks(mask(n=14), path, append=True)
    assert zarr.open_array(path / "time").attrs["units"].startswith("hours since 2001-01-01")
    # what the units cannot tell is refused
    times = list(mask(n=18).time.values)
    times[-1] += np.timedelta64(1, "m")
    with pytest.raises(OtherRunError, match=r"written whole\.time"):
        write_blocks(mask(n=18).assign_coords(time=times), path, append=True)
    xr.testing.assert_equal(open_mask(path).time, mask(n=14).time)


def test_values_that_are_others_now_are_found(place: Any) -> None:
    """Where dask's names are all that tells of a run, its blocks do."""
    write_blocks(labelled(lazy(), run=None), place)
    other = labelled(lazy(lambda i: 2 - classes_at(i) % 3, 18), run=None)
    with pytest.raises(OtherRunError, match=r"is not extended: block 0 .* has other values now"):
        write_blocks(other, place, append=True)
    assert open_mask(place).shape == (10, 13)
    assert write_blocks(labelled(lazy(n=18), run=None), place, append=True).written == 3
    assert verify_store(place).ok


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.quick("folder-3", "folder-8", "memory-5")
@pytest.mark.parametrize("after", range(12))
def test_killed_while_it_grows(place: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    write_blocks(mask(), place)
    write, written = Location.write, []

    def write_or_die(self: Location, key: str, content: bytes) -> None:
        if len(written) == after:
            raise Killed
        written.append(key)
        write(self, key, content)

    died = False
    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", write_or_die)
        try:
            write_blocks(mask(n=18), place, append=True, workers=1)
        except Killed:
            died = True
    if not died:
        pytest.skip("it was done before")
    if not written:
        assert open_mask(place).shape == (10, 13)
    else:
        with pytest.raises(IncompleteStoreError):
            open_mask(place)
    # others see the old length or the new one, and the old values
    seen = xr.open_zarr(place)["mask"]
    assert seen.shape in ((10, 13), (18, 13))
    xr.testing.assert_equal(seen[:10].compute(), mask().compute())
    write_blocks(mask(n=22), place, append=True)
    assert verify_store(place).ok
    xr.testing.assert_identical(open_mask(place).compute(), mask(n=22).compute())


def test_a_run_that_fails_is_gone_on_with(place: Any) -> None:
    write_blocks(mask(), place)
    with pytest.raises(BlocksFailed, match="1 of 5 blocks"):
        write_blocks(mask(Counting((12,)), 18), place, append=True)
    with pytest.raises(IncompleteStoreError, match="4 of 5 blocks are there"):
        open_mask(place)
    counting = Counting()
    assert write_blocks(mask(counting, 18), place, append=True).written == 1
    assert counting.computed == [12]


def test_variables_of_many_kinds_grow(place: Any) -> None:
    def made(n: int) -> xr.Dataset:
        times = pd.date_range("2001-01-01", periods=n, freq="6h")
        ds = xr.Dataset({"mask": mask(n=n), "p": labelled(lazy(n=n).astype("f4"), "p")})
        ds["bounds"] = (("time", "side"), np.arange(2 * n).reshape(n, 2))
        return ds.assign_coords(month=("time", [str(t.month) for t in times]))

    write_blocks(made(10), place)
    write_blocks(made(30), place, append=True)
    assert verify_store(place).ok
    xr.testing.assert_identical(
        open_mask(place).compute().drop_attrs(), made(30).compute().drop_attrs()
    )


def test_a_month_more_from_the_shell(tmp_path: Path, in_shell: Any) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    model = storm_model().save(tmp_path / "model.safetensors")
    whole = storm_dataset(9)
    chunks = {name: {"chunks": (1, 19, 36)} for name in whole.data_vars}
    whole.isel(time=slice(0, 5)).to_zarr(source, encoding=chunks, consolidated=False)
    command = ("segment", source, out, "--model", model, "--block-size", 2)
    assert in_shell(*command).returncode == 0
    whole.isel(time=slice(5, 9)).to_zarr(source, append_dim="time", consolidated=False)
    refused = in_shell(*command)
    assert refused.returncode == 1
    assert "append=True" in refused.stderr
    done = in_shell(*command, "--append")
    assert done.returncode == 0, done.stderr
    assert "3 of them computed now" in done.stdout
    np.testing.assert_array_equal(open_mask(out), xsphere.segment(whole, storm_model()))
    assert in_shell("verify", out).returncode == 0
    assert in_shell(*command).returncode == 0


def test_an_old_part_that_was_edited_is_found(tmp_path: Path) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    whole = storm_dataset(9)
    chunks = {name: {"chunks": (1, 19, 36)} for name in whole.data_vars}
    whole.isel(time=slice(0, 6)).to_zarr(source, encoding=chunks, consolidated=False)
    write_blocks(xsphere.segment(source, storm_model(), block_size=1), out)
    whole.isel(time=slice(6, 9)).to_zarr(source, append_dim="time", consolidated=False)
    array: Any = zarr.open_array(source / "PSL", mode="r+")
    array[3] = array[3]  # of now, in the middle
    longer = xsphere.segment(source, storm_model(), block_size=1)
    with pytest.raises(OtherRunError, match=r"is not extended: the source .*PSL.*repaired_source"):
        write_blocks(longer, out, append=True)
    assert open_mask(out).sizes["time"] == 6
    assert write_blocks(longer, out, append=True, repaired_source=True).written == 3
    np.testing.assert_array_equal(open_mask(out), xsphere.segment(whole, storm_model()))


def test_what_is_known_of_blocks_is_an_array_for_all(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    write_blocks(mask(), path)
    known = xr.open_zarr(path, group="_xsphere", consolidated=False)["blocks"]
    table = pd.DataFrame(known.values, columns=known.attrs["columns"])
    assert table["steps"].tolist() == [4, 4, 2]
    written = pd.to_datetime(table["written (microseconds since 1970)"], unit="us")
    assert (abs(written - pd.Timestamp.now("UTC").tz_localize(None)) < pd.Timedelta("1h")).all()
    assert table["mask: cyclone"].sum() == books(path)["counts"]["mask"]["cyclone"]
    assert json.loads((path / "zarr.json").read_text())["attributes"]["Conventions"] == "CF-1.13"
    assert location(path).names("_xsphere/blocks")
