"""Coordinates never decide whether data can be read: labels of any kind, in any chunks."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.toys import storm_dataset, storm_model
from xsphere import plan
from xsphere.blocks import OtherRunError, write_blocks
from xsphere.model import Model
from xsphere.regions import events
from xsphere.regridded import cache_regridded
from xsphere.regridding import to_healpix
from xsphere.segmentation import segment

DAYS = pd.date_range("2001-01-01", periods=2)
LABELS: dict[str, Any] = {
    "zone": DAYS.tz_localize("UTC"),
    "period": DAYS.to_period("D"),
    "interval": pd.IntervalIndex.from_breaks(pd.date_range("2001-01-01", periods=3)),
    "category": pd.CategoricalIndex(["a", "b"]),
    "nullable": pd.Index(pd.array([1, 2], dtype="Int64")),
    "string": pd.Index(["a", "b"]).astype("string"),
    "U": np.array(["a", "b"]),
    "object": np.array(["a", "b"], dtype=object),
    "T": np.array(["a", "b"], dtype=np.dtypes.StringDType()),
    "cftime": xr.date_range("2001-01-01", periods=2, calendar="noleap", use_cftime=True),
    "bytes": np.array([b"a", b"b"]),
    "timedelta": pd.to_timedelta([1, 2], "D"),
}
OTHERS: dict[str, Any] = {
    "zone": DAYS.tz_localize("Europe/Paris"),
    "period": DAYS.to_period("M"),
    "interval": pd.IntervalIndex.from_breaks(pd.date_range("2001-01-02", periods=3)),
    "category": pd.CategoricalIndex(["a", "c"]),
    "nullable": pd.Index(pd.array([1, None], dtype="Int64")),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return storm_model()


@pytest.fixture(scope="module")
def plain() -> xr.Dataset:
    return storm_dataset(n_times=2)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind(
    model: Model, plain: xr.Dataset, cache_folder: Path, kind: str, chunked: bool
) -> None:
    ds = plain.assign_coords(time=("time", LABELS[kind]))
    given = ds.chunk(time=1) if chunked else ds
    mask = segment(given, model)
    np.testing.assert_array_equal(mask, segment(plain, model))
    assert mask.indexes["time"].equals(ds.indexes["time"])
    fields = to_healpix(given, 2)
    assert fields.indexes["time"].equals(ds.indexes["time"])
    assert "time" in events(mask.compute()).coords or not chunked


@pytest.mark.parametrize("kind", sorted(set(OTHERS) - {"period", "interval"}))
def test_a_store_is_not_resumed_under_other_labels(
    plain: xr.Dataset, tmp_path: Path, kind: str
) -> None:
    fields = to_healpix(plain.PSL, 0).chunk(time=1)
    ds, other = (fields.assign_coords(time=("time", k[kind])) for k in (LABELS, OTHERS))
    write_blocks(ds, tmp_path / "x.zarr", workers=1)
    with pytest.raises(OtherRunError, match=r"written whole\.time"):
        write_blocks(other, tmp_path / "x.zarr", workers=1)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*StringDType:UserWarning")
@pytest.mark.parametrize("fmt", [2, 3])
def test_members_in_stores_have_names(
    model: Model, plain: xr.Dataset, tmp_path: Path, cache_folder: Path, fmt: int
) -> None:
    members = {"member_id": ["r1i1p1f1", "r2i1p1f1"]}
    ds = plain.expand_dims(members).transpose("time", "member_id", ...)
    path = tmp_path / "x.zarr"
    ds.chunk(time=1).to_zarr(path, zarr_format=fmt, consolidated=False)
    lazy = xr.open_zarr(path, consolidated=False)
    want = segment(ds, model)
    for given in (lazy, path):
        np.testing.assert_array_equal(segment(given, model), want)
        assert plan(given, model, trial=False).n_samples == 4
    xr.testing.assert_allclose(
        cache_regridded(lazy, 2, tmp_path / "fields.zarr").compute(),
        to_healpix(ds, 2).transpose("time", "member_id", ...),
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_chunks_of_coordinates_are_no_matter(
    model: Model, tmp_path: Path, cache_folder: Path, steps: int
) -> None:
    ds = storm_dataset(n_times=4)
    hours = ("time", ds.time.values + np.timedelta64(6, "h"))
    ds = ds.assign_coords(valid_time=hours, expver=("time", np.array(["1", "1", "5", "5"], object)))
    names = {name: {"chunks": (steps, *ds[name].shape[1:])} for name in ds.data_vars}
    names |= {"valid_time": {"chunks": (3,)}}
    ds.to_zarr(tmp_path / "x.zarr", encoding=names, consolidated=False)
    lazy = xr.open_zarr(tmp_path / "x.zarr", consolidated=False)
    want = segment(ds, model)
    for given in (lazy, lazy.chunk(valid_time=1) if "valid_time" in lazy.dims else lazy + 0):
        kept = given.assign({n: given[n].assign_attrs(ds[n].attrs) for n in given.data_vars})
        mask = segment(kept, model)
        assert mask.chunks[0] == (steps,) * (4 // steps)
        np.testing.assert_array_equal(mask, want)
        np.testing.assert_array_equal(mask.valid_time, ds.valid_time)
        assert plan(kept, model, trial=False).n_steps == 4
    assert cache_regridded(lazy, 2, tmp_path / "fields.zarr").sizes["time"] == 4
    assert segment(lazy, model).sizes["time"] == 4
    assert to_healpix(lazy, 2).valid_time.dims == ("time",)


def test_chunks_of_unknown_size_are_refused_at_once(tmp_path: Path, cache_folder: Path) -> None:
    def never(block: Any) -> Any:
        raise AssertionError("computed")

    field = storm_dataset(n_times=2).PSL.chunk(time=1)
    data = field.data.map_blocks(never, dtype=field.dtype)[da.ones(2, chunks=1) > 0]
    coords = {name: field[name] for name in ("lat", "lon")}
    unknown = xr.DataArray(data, coords, field.dims, name="PSL", attrs=field.attrs)
    calls = (
        lambda: to_healpix(unknown, 2),
        lambda: cache_regridded(unknown.to_dataset(), 2, tmp_path / "x.zarr"),
        lambda: write_blocks(unknown, tmp_path / "x.zarr"),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"'PSL': \['time'\].*compute_chunk_sizes"):
            call()


def test_variables_that_are_not_read_are_not_looked_at(
    model: Model, plain: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {f"v{number}": plain.PSL.variable for number in range(30)}
    ds = plain.rename({}).assign(others).drop_attrs(deep=False)
    for name in others:
        ds[name].attrs = {}
    made: list[Any] = []
    construct = xr.Dataset._construct_dataarray

    def counted(self: xr.Dataset, name: Any) -> xr.DataArray:
        made.append(name)
        return construct(self, name)

    monkeypatch.setattr(xr.Dataset, "_construct_dataarray", counted)
    segment(ds.chunk(time=1), model)
    assert not set(made) & set(others)
