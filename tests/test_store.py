"""Files in and out: whole or not at all; masks that no reader takes for something else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.sources import MissingChunkError, UnreadableFileError
from xsphere.store import open_lazily, write_whole


@pytest.fixture
def mask() -> xr.DataArray:
    ds = storm_dataset()
    ds["PSL"][0, 3:9] = np.nan
    return xsphere.segment(ds.chunk(time=1), storm_model())


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_mask_round_trip(tmp_path: Path, mask: xr.DataArray, ending: str) -> None:
    path = write_whole(mask, tmp_path / f"mask{ending}")
    read = open_lazily(path)["mask"]
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask.compute())
    assert (read == 254).any()
    assert read.attrs["flag_meanings"] == mask.attrs["flag_meanings"]
    assert read.sphere.grid.grid == storm_model().grid


def test_missing_block_of_a_mask_is_not_background(tmp_path: Path, mask: xr.DataArray) -> None:
    path = write_whole(mask, tmp_path / "mask.zarr")
    chunk = next(file for file in (path / "mask" / "c").rglob("*") if file.is_file())
    chunk.unlink()
    with pytest.raises(MissingChunkError, match="variable 'mask'"):
        open_lazily(path)["mask"].values  # noqa: B018
    read = open_lazily(path, missing_chunks="fill")["mask"].values
    lost = (read == 255).all(axis=1)
    assert lost.sum() == 1
    np.testing.assert_array_equal(read[~lost], mask.values[~lost])


def test_flipped_bit_of_a_mask_is_an_error(tmp_path: Path, mask: xr.DataArray) -> None:
    path = write_whole(mask, tmp_path / "mask.zarr")
    chunk = next(file for file in (path / "mask" / "c").rglob("*") if file.is_file())
    content = bytearray(chunk.read_bytes())
    for position in range(0, len(content), max(1, len(content) // 20)):
        content[position] ^= 16
        chunk.write_bytes(content)
        with pytest.raises((RuntimeError, ValueError), match=r"Zstd|Zstandard"):
            open_lazily(path)["mask"].values  # noqa: B018
        content[position] ^= 16


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    write_whole(xr.DataArray([1], name="x"), path)
    with pytest.raises(FileExistsError, match="is there already"):
        write_whole(xr.DataArray([2], name="x"), path)
    write_whole(xr.DataArray([3], name="x"), path, overwrite=True)
    assert open_lazily(path)["x"].values.tolist() == [3]


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_failure_leaves_what_was_there(tmp_path: Path, ending: str) -> None:
    import dask
    import dask.array

    def fail() -> Any:
        raise RuntimeError("lost")

    path = tmp_path / f"x{ending}"
    write_whole(xr.DataArray([1], name="x"), path)
    bad = xr.DataArray(dask.array.from_delayed(dask.delayed(fail)(), (1,), float), name="x")
    with pytest.raises(RuntimeError, match="lost"):
        write_whole(bad, path, overwrite=True)
    assert open_lazily(path)["x"].values.tolist() == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in '\.zarr' or '\.nc'"):
        write_whole(xr.DataArray([1], name="x"), tmp_path / "x.grib")


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        open_lazily("nowhere.nc")


@pytest.mark.parametrize("name", ["text.nc", "folder"])
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_text("not a dataset")
    with pytest.raises(UnreadableFileError, match="cannot be read as a dataset"):
        open_lazily(path)


def test_stores_split_in_space_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    storm_dataset().chunk(lat=5, lon=9, time=1).to_zarr(path, consolidated=False)
    ds = open_lazily(path)
    assert len(ds.chunksizes["lat"]) == len(ds.chunksizes["lon"]) == 1
    np.testing.assert_array_equal(
        xsphere.segment(ds, storm_model()), xsphere.segment(storm_dataset(), storm_model())
    )


@pytest.mark.parametrize("name", ["PSL", "U850"])
def test_variables_may_be_stored_in_other_chunks(tmp_path: Path, name: str) -> None:
    ds = storm_dataset(n_times=4)
    other = ds[name].chunk(time=4)
    ds.chunk(time=2).assign({name: other}).to_zarr(tmp_path / "x.zarr", consolidated=False)
    read = open_lazily(tmp_path / "x.zarr")
    xr.testing.assert_equal(read.compute(), ds)
    xr.testing.assert_allclose(xsphere.to_healpix(read, 1), xsphere.to_healpix(ds, 1))


def test_what_is_said_of_a_file_is_short(tmp_path: Path) -> None:
    folder = write_whole(storm_dataset().PSL, tmp_path / "x.zarr") / "PSL" / "zarr.json"
    folder.write_text(folder.read_text().replace("float32", "float" * 10**5))
    for entry in folder.parent.parent.glob("zarr.json"):
        entry.unlink()
        entry.write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(UnreadableFileError, match="cannot be read as a dataset") as caught:
        open_lazily(folder.parent.parent)
    assert len(str(caught.value)) < 1000
