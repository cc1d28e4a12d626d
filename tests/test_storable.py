"""Labels of any kind are written in a form that reads back, or refused before any work."""

import re
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsphere.blocks import repair_store, verify_store, write_blocks
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.grids import HealpixGrid
from xsphere.locations import location
from xsphere.pyramids import write_levels, write_pyramid
from xsphere.store import write_whole

DAYS = pd.date_range("2001-01-01", periods=3, freq="D")
# labels, and what they read back as (themselves if not given)
WRITTEN: dict[str, tuple[Any, Any]] = {
    "times": (DAYS, None),
    "zone": (DAYS.tz_localize("Europe/Paris"), DAYS - np.timedelta64(1, "h")),
    "utc": (DAYS.tz_localize("UTC"), DAYS),
    "timestamps": (pd.Index(list(DAYS.tz_localize("UTC")), dtype=object), DAYS),
    "dates": (pd.Index([day.date() for day in DAYS], dtype=object), DAYS),
    "cftime": (xr.date_range("2001-02-28", periods=3, calendar="360_day", use_cftime=True), None),
    "lags": (pd.timedelta_range("1h", periods=3), None),
    "categories": (pd.CategoricalIndex(["b", "a", "b"]), ["b", "a", "b"]),
    "numbers_in_categories": (pd.CategoricalIndex([3, 1, 3]), [3, 1, 3]),
    "times_in_categories": (pd.CategoricalIndex(DAYS), DAYS),
    "Int64": (pd.Index([3, 1, 2], dtype="Int64"), [3, 1, 2]),
    "Int64_with_gaps": (pd.Index(pd.array([3, None, 2], dtype="Int64")), [3.0, np.nan, 2.0]),
    "Float64": (pd.Index(pd.array([0.5, None, 2], dtype="Float64")), [0.5, np.nan, 2.0]),
    "boolean": (pd.Index(pd.array([True, False, True], dtype="boolean")), [True, False, True]),
    "bool": (np.array([True, False, True]), None),
    "string": (pd.Index(["x", "ä", ""], dtype="string"), ["x", "ä", ""]),
    "U": (np.array(["x", "yy", "ä"]), None),
    "StringDType": (np.array(["x", "yy", "ä"], np.dtypes.StringDType()), ["x", "yy", "ä"]),
    "objects": (np.array(["x", "yy", "ä"], object), None),
    "int8": (np.array([3, 1, 2], "i1"), None),
}
REFUSED: dict[str, tuple[Any, str]] = {
    "period": (pd.period_range("2001-01", periods=3, freq="M"), r"\.to_timestamp\(\)"),
    "interval": (pd.interval_range(0, 3), r"indexes\['NAME'\]\.mid"),
    "bins": (pd.IntervalIndex.from_breaks(pd.date_range("2001", periods=4)), r"\]\.mid"),
    "mixed": (pd.Index(["a", 1, 2.5], dtype=object), r"kinds \['float', 'int', 'str'\]"),
    "gaps_in_texts": (pd.Index(["a", None, "b"], dtype=object), r"kinds \['NoneType', 'str'\]"),
}


def field(labels: dict[str, Any], *, lazy: bool = True) -> xr.Dataset:
    """A field on HEALPix, with labels along its time and as indices of dimensions of their own."""
    values = np.arange(36, dtype="f4").reshape(3, 12)
    p = da.from_array(values, chunks=(1, 12)) if lazy else values
    coords = {name: ("time", array) for name, array in labels.items()}
    coords |= {f"index_{name}": (f"index_{name}", array) for name, array in labels.items()}
    ds = xr.Dataset({"p": (("time", "cells"), p)}, {"time": np.arange(3)} | coords)
    return describe_healpix(ds, HealpixGrid(0))


def written(ds: xr.Dataset, path: Path, how: str) -> xr.Dataset:
    match how:
        case "blocks":
            write_blocks(ds, path / "x.zarr", workers=1)
            # a second look at what is there
            assert write_blocks(ds, path / "x.zarr", workers=1).written == 0
            assert repair_store(path / "x.zarr", ds, workers=1).written == 0
            assert verify_store(path / "x.zarr").ok
            return xr.open_zarr(path / "x.zarr").load()
        case "pyramid":
            return xr.open_zarr(write_pyramid(ds, path / "x.zarr"), group="0").load()
    with xr.open_dataset(write_whole(ds, path / how)) as read:
        return read.load()


HOW = ["blocks", "pyramid", "x.zarr", "x.nc"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("chunked", [False, True])
def test_labels_read_back(tmp_path: Path, chunked: bool, how: str) -> None:
    ds = field({kind: labels for kind, (labels, _) in WRITTEN.items()})
    if chunked:
        # as `ds.chunk` leaves texts and objects
        for kind in ("U", "objects", "cftime", "int8", "bool"):
            ds = ds.assign_coords({kind: ds[kind].variable.chunk(time=2)})
    before = ds.copy()
    read = written(ds, tmp_path, how)
    for kind, (labels, expected) in WRITTEN.items():
        right = np.asarray(labels if expected is None else expected)
        for name in (kind, f"index_{kind}"):
            found = read[name].values
            plain = found.astype(object) if found.dtype.kind in "UT" else found
            np.testing.assert_array_equal(plain, right, err_msg=name)
            assert ds[name].dtype == before[name].dtype
    np.testing.assert_array_equal(read.p, ds.p)


def refusing(labels: dict[str, Any]) -> xr.Dataset:
    """A field that must not be computed."""

    def fail(block: Any) -> Any:
        raise AssertionError

    ds = field(labels)
    data = ds.p.data.map_blocks(fail, dtype="f4", meta=np.empty((0, 0), "f4"))
    return ds.assign(p=ds.p.copy(data=data))


@pytest.mark.parametrize("how", HOW)
def test_other_labels_are_refused_before_any_work(tmp_path: Path, how: str) -> None:
    """All of them at once."""
    pairs = pd.MultiIndex.from_product([["a", "b", "c"], [1]], names=["one", "two"])
    ds = refusing({kind: labels for kind, (labels, _) in REFUSED.items()})
    ds = ds.assign_coords(xr.Coordinates.from_pandas_multiindex(pairs, "pairs"))
    with pytest.raises(ValueError, match="these labels cannot be written") as refused:
        written(ds, tmp_path, how)
    for kind, (_, words) in REFUSED.items():
        for name in (kind, f"index_{kind}"):
            assert re.search(f"'{name}' .*{words.replace('NAME', name)}", str(refused.value))
    assert ".reset_index('pairs')" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


# --- bounds


@pytest.mark.parametrize("key", ["bounds", "climatology"])
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("coordinate", [True, False])
def test_bounds_are_written_with_their_coordinate(
    tmp_path: Path, key: str, lazy: bool, coordinate: bool
) -> None:
    ds = field({}, lazy=lazy).assign_coords(time=DAYS)
    ends = np.stack([DAYS.to_numpy(), DAYS.to_numpy() + np.timedelta64(6, "h")], -1)
    ds["ends"] = (("time", "bnds"), da.from_array(ends, chunks=(1, 2)) if lazy else ends)
    ds.time.attrs[key] = "ends"
    ds = ds.set_coords("ends") if coordinate else ds
    read = written(ds, tmp_path, "blocks")
    np.testing.assert_array_equal(read.ends, ends)


def test_lazy_times_are_not_to_become_small_integers(tmp_path: Path) -> None:
    ds = field({})
    ds["when"] = ds.p.astype("M8[ns]")
    with pytest.raises(ValueError, match=r"'when': 'datetime64\[ns\]'.*\.load\(\)"):
        write_blocks(ds, tmp_path / "x.zarr")
    ds["when"] = ds.p > 3
    with pytest.raises(ValueError, match=r"'when': 'bool'.*\.astype\('uint8'\)"):
        write_blocks(ds, tmp_path / "x.zarr")


# --- what others do with our stores


@pytest.mark.parametrize("how", ["blocks", "whole"])
def test_what_open_zarr_gives_is_saved_as_netcdf(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.zarr"
    ds = field({"label": ["a", "b", "c"], "day": [True, False, True]}).assign_coords(time=DAYS)
    ds["mask"] = (ds.p % 3).astype("u1").assign_attrs(mask_attributes(["cyclone", "river"]))
    match how:
        case "blocks":
            write_blocks(ds, path, workers=1)
        case _:
            write_whole(ds, path)
    read = xr.open_zarr(path)
    read.to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc") as again:
        np.testing.assert_array_equal(again.p, ds.p)
        np.testing.assert_array_equal(again.label, ds.label)
        assert again.sphere.grid.grid == HealpixGrid(0)
        assert again.mask.dtype == np.uint8


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_any_zarr_format_holds_is_written_in_ours(tmp_path: Path, zarr_format: Any) -> None:
    hours = pd.date_range("2001-01-01", periods=2, freq="h")
    fields = xr.Dataset({"t": (("time", "cells"), np.ones((2, 48)))}, {"time": hours})
    grid = HealpixGrid(level=1)
    described = describe_healpix(fields, grid).chunk(time=1)
    described.to_zarr(tmp_path / "in.zarr", zarr_format=zarr_format, consolidated=False)
    read = xr.open_zarr(tmp_path / "in.zarr", consolidated=False)
    before = {name: dict(variable.encoding) for name, variable in read.variables.items()}
    whole = write_whole(read.chunk(time=2), tmp_path / "whole.zarr")
    levels = write_levels({1: read.chunk(time=2)}, location(tmp_path / "levels.zarr"))
    with xr.open_zarr(whole) as one, xr.open_zarr(levels, group="1") as other:
        for written in (one, other):
            xr.testing.assert_equal(written.t.load(), described.t.load())
    assert before == {name: variable.encoding for name, variable in read.variables.items()}
