"""Data that are odd, wrong or written another way: the same mask, invalid cells, or an error."""

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from xarray.backends import BackendArray
from xarray.core.indexing import LazilyIndexedArray

import xsphere
from tests.faults.runs import stored
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import open_mask, write_blocks
from xsphere.model.inputs import InputsError
from xsphere.segmentation import UnlikelyInputWarning, segment

MEAN_PRESSURE = 101000.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_14_cells_beside_bad_ones_are_as_if_those_had_the_mean(tmp_path: Path, bad: float) -> None:
    # on the model's own grid: nothing is regridded, so that every bit can be compared
    model = storm_model()
    cells = xsphere.to_healpix(storm_dataset(4), model.level, method="conservative")
    harmed, filled = cells.copy(deep=True), cells.copy(deep=True)
    where = np.zeros((4, 192), bool)
    where[1, 40:55], where[2, 7], where[3] = True, True, True
    harmed["PSL"] = cells.PSL.copy(data=np.where(where, np.float32(bad), cells.PSL.values))
    filled["PSL"] = cells.PSL.copy(
        data=np.where(where, np.float32(MEAN_PRESSURE), cells.PSL.values)
    )
    result = segment(harmed.chunk(time=1), model)
    report = write_blocks(result, tmp_path / "m.zarr", workers=1)
    written = open_mask(tmp_path / "m.zarr").values
    np.testing.assert_array_equal(written == 254, where)
    np.testing.assert_array_equal(written[~where], segment(filled, model).values[~where])
    assert report.counts["mask"]["invalid_input"] == where.sum()


def rolled(ds: xr.Dataset) -> xr.Dataset:
    """Longitudes from -180 to 180."""
    lon = ds.lon.copy(data=(ds.lon.values + 180) % 360 - 180)
    return ds.assign_coords(lon=lon).sortby("lon")


def repeated(ds: xr.Dataset, lon: float) -> xr.Dataset:
    """The first meridian once more, at the end."""
    first = ds.isel(lon=[0]).assign_coords(lon=("lon", [lon], ds.lon.attrs))
    return xr.concat([ds, first], "lon")


WAYS = {
    "descending": lambda ds: ds.isel(lat=slice(None, None, -1)),
    "-180..180": rolled,
    "another seam": lambda ds: ds.roll(lon=7, roll_coords=True),
    "0 and 360": lambda ds: repeated(ds, 360.0),
    "0 and 0": lambda ds: repeated(ds, 0.0),
    "latitude": lambda ds: ds.rename(lat="latitude", lon="longitude"),
    "lon first": lambda ds: ds.transpose("lon", "time", "lat"),
    "float32": lambda ds: ds.assign_coords(lon=ds.lon.astype("f4"), lat=ds.lat.astype("f4")),
    "jitter": lambda ds: ds.assign_coords(
        lon=ds.lon.copy(data=ds.lon + 1e-6 * np.sin(np.arange(36)))
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_16_17_the_same_mask_however_the_grid_is_written(way: str) -> None:
    ds, model = storm_dataset(4), storm_model()
    expected = segment(ds, model)
    np.testing.assert_array_equal(segment(WAYS[way](ds), model), expected)
    # not all of one class
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("way", ["descending", "-180..180", "another seam"])
def test_16_sorted_again_not_a_bit_differs(way: str) -> None:
    ds, model = storm_dataset(2), storm_model()
    again = WAYS[way](ds).assign_coords(lon=lambda ds: ds.lon % 360).sortby(["lat", "lon"])
    one, other = (segment(data, model, output="probability") for data in (ds, again))
    assert one.values.tobytes() == other.values.tobytes()


@pytest.mark.parametrize("dim", ["lat", "lon"])
def test_16_shuffled_coordinates_are_refused_with_the_remedy(dim: str) -> None:
    ds = storm_dataset(2)
    shuffled = ds.isel({dim: np.random.default_rng(0).permutation(ds.sizes[dim])})
    with pytest.raises(ValueError, match=rf"must increase or decrease.*ds\.sortby\('{dim}'\)"):
        segment(shuffled, storm_model())
    np.testing.assert_array_equal(
        segment(shuffled.sortby(dim), storm_model()), segment(ds, storm_model())
    )


def test_15_winds_whose_names_were_swapped_are_not_taken_for_each_other() -> None:
    swapped = storm_dataset(1).rename(U850="V850", V850="U850")
    with pytest.raises(InputsError, match=r"(?s)U850: missing.*V850: missing.*U850 \(northward_w"):
        segment(swapped, storm_model())
    # where a coordinate tells the surface, the standard names alone decide
    told = swapped.assign_coords(pressure=((), 850.0, {"units": "hPa"}))
    np.testing.assert_array_equal(
        segment(told, storm_model()), segment(storm_dataset(1), storm_model())
    )


def test_15_values_that_belie_their_units_are_said_once() -> None:
    ds, model = storm_dataset(4), storm_model()
    ds.PSL[:, 3:7] = np.nan
    # as it should be, and where most of a map is missing: not a word
    segment(ds, model)
    segment(ds.where(ds.lat > 60), model)
    wrong = ds.assign(PSL=(ds.PSL / 100).assign_attrs(ds.PSL.attrs))
    message = r"'PSL' .* 100 standard deviations .* about 1010, while they had 1.01e\+05"
    with pytest.warns(UnlikelyInputWarning, match=message) as seen:
        segment(wrong, model)
    # once, or a cluster's logs would be full of it
    assert len(seen) == 1


@pytest.mark.parametrize("units", ["Pa s-1", "K", None])
def test_15_other_quantities_and_no_units_are_refused(units: str | None) -> None:
    ds = storm_dataset(1)
    ds.PSL.attrs["units"] = units
    if units is None:
        del ds.PSL.attrs["units"]
    words = "cannot be converted" if units else "no units attribute"
    with pytest.raises(InputsError, match=f"PSL: .*{words}"):
        segment(ds, storm_model())


def test_20_times_that_repeat_go_back_or_are_missing(tmp_path: Path) -> None:
    first = np.datetime64("2001-01-01", "ns")
    times = np.array([first, "NaT", first, first - np.timedelta64(1, "D")], "M8[ns]")
    ds = storm_dataset(4)
    result = segment(ds.assign_coords(time=times).chunk(time=3), storm_model())
    write_blocks(result, tmp_path / "m.zarr")
    written = open_mask(tmp_path / "m.zarr")
    np.testing.assert_array_equal(written.time.values, times)
    np.testing.assert_array_equal(written, segment(ds, storm_model()))
    assert write_blocks(result, tmp_path / "m.zarr").written == 0


def test_20_one_step(tmp_path: Path) -> None:
    stored(tmp_path / "x.zarr", 1)
    result = segment(tmp_path / "x.zarr", storm_model())
    assert write_blocks(result, tmp_path / "m.zarr").n_blocks == 1
    np.testing.assert_array_equal(
        open_mask(tmp_path / "m.zarr"), segment(storm_dataset(1), storm_model())
    )


def test_21_coordinates_without_a_dimension_or_with_one_of_length_one(tmp_path: Path) -> None:
    ds = storm_dataset(2)
    expected = segment(ds, storm_model())
    odd = ds.assign_coords(step=((), 6), number=((), 0)).expand_dims(expver=[1])
    mask = segment(odd.chunk(time=1), storm_model()).transpose("time", "expver", "cells")
    write_blocks(mask, tmp_path / "m.zarr")
    written = open_mask(tmp_path / "m.zarr")
    assert written.dims == ("time", "expver", "cells")
    assert (int(written.step), int(written.number)) == (6, 0)
    np.testing.assert_array_equal(written.isel(expver=0), expected)


def test_22_irregular_and_split_chunks_are_refused_with_the_remedy(tmp_path: Path) -> None:
    ds = storm_dataset(6)
    with pytest.raises(ValueError, match=r"call \.chunk\(\{'lat': -1, 'lon': -1\}\) first"):
        segment(ds.chunk(lat=7), storm_model())
    uneven = segment(ds.chunk(time=(1, 3, 2)), storm_model())
    with pytest.raises(ValueError, match=r"must be equal.*call \.chunk\(time=3\)"):
        write_blocks(uneven, tmp_path / "m.zarr")
    assert write_blocks(uneven.chunk(time=3), tmp_path / "m.zarr").n_blocks == 2


class NeverRead(BackendArray):
    """A stored array of a million steps."""

    shape, dtype = (10**6, 19, 36), np.dtype("f4")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("data were read")


def test_22_25_a_million_chunks_are_few_tasks_and_nothing_is_read() -> None:
    ds = storm_dataset(1).drop_vars("time")
    million = xr.Dataset(
        {
            name: (("time", "lat", "lon"), LazilyIndexedArray(NeverRead()), array.attrs)
            for name, array in ds.data_vars.items()
        },
        ds.coords,
    )
    for array in million.values():
        array.encoding["preferred_chunks"] = {"time": 1}

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=fail):
        mask = segment(million, storm_model())
    assert mask.shape == (10**6, 192)
    # a task for a block, and what they share
    assert len(mask.data.dask) <= mask.data.npartitions + 1 <= 10**6 // 40
