"""Tag files of ARTMIP: what xarray and netCDF4 read, and who must not be replaced."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.test_frequency import GRIDS, random_mask


def known(grid, **options):
    mask = random_mask(grid, **options)
    return mask.copy(data=np.where(mask.values > 2, 0, mask.values).astype(np.uint8))


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_a_file_a_year_reads_back(tmp_path, calendar):
    mask = known(GRIDS["latlon"], calendar=calendar).rename(lat="y", lon="x")
    mask = mask.transpose("x", "time", "y")
    paths = xsphere.to_artmip(
        mask.chunk(time=7), tmp_path, river="river", dataset="ERA5", scheme="Ours_v1"
    )
    first = mask.indexes["time"]
    assert [path.name for path in paths] == [
        f"ERA5.ar_tag.Ours_v1.192hourly.{first[first.year == year][0]:%Y%m%d}-"
        f"{first[first.year == year][-1]:%Y%m%d}.nc4"
        for year in (2001, 2002)
    ]
    coder = xr.coders.CFDatetimeCoder(use_cftime=calendar != "standard")
    parts = [xr.open_dataset(path, decode_times=coder) for path in paths]
    both = xr.concat([part.load() for part in parts], "time")
    expected = (mask == 2).transpose("time", "y", "x").values.astype("i1")
    assert both.ar_binary_tag.dtype == np.int8
    np.testing.assert_array_equal(both.ar_binary_tag, expected)
    assert (both.indexes["time"] == first).all()
    np.testing.assert_array_equal(both.lat, GRIDS["latlon"].lat)
    with netCDF4.Dataset(paths[0]) as file:
        assert sorted(file.variables) == ["ar_binary_tag", "lat", "lon", "time"]
        assert file["ar_binary_tag"].dimensions == ("time", "lat", "lon")
        assert file["ar_binary_tag"].scheme == "Ours_v1"
        assert file["time"].units.startswith("minutes since 2001-01-01")
        assert not any(hasattr(v, "_FillValue") for v in file.variables.values())


def test_healpix_is_regridded_by_the_commonest_class(tmp_path):
    mask = known(GRIDS["healpix"], n_times=3)
    (path,) = xsphere.to_artmip(mask, tmp_path / "{year}.nc", river=2, resolution=22.5)
    expected = xsphere.to_latlon(mask, 22.5, method="mode") == 2
    with xr.open_dataset(path) as ds:
        assert path.name == "2001.nc"
        np.testing.assert_array_equal(ds.ar_binary_tag, expected)


def test_unknown_cells_are_refused_or_said(tmp_path):
    mask = random_mask(GRIDS["latlon"])
    with pytest.raises(ValueError, match="cells that are invalid or not computed"):
        xsphere.to_artmip(mask.chunk(time=9), tmp_path, river="river")
    assert not list(tmp_path.iterdir())
    paths = xsphere.to_artmip(mask, tmp_path, river="river", unknown="background")
    with xr.open_dataset(paths[0]) as ds:
        assert "are 0" in ds.ar_binary_tag.attrs["comment"]
        np.testing.assert_array_equal(ds.ar_binary_tag, (mask == 2)[: ds.sizes["time"]])


def test_nothing_is_replaced_or_left_half(tmp_path):
    mask = known(GRIDS["latlon"])
    paths = xsphere.to_artmip(mask, tmp_path, river="river")
    before = {path: path.read_bytes() for path in paths}
    paths[1].unlink()
    with pytest.raises(FileExistsError, match="is there already"):
        xsphere.to_artmip(mask, tmp_path, river="river")
    assert {*tmp_path.iterdir()} == {paths[0]}
    broken = mask.copy(data=np.where(mask.time.dt.year.values[:, None, None] == 2002, 254, mask))
    with pytest.raises(ValueError, match="invalid or"):
        xsphere.to_artmip(broken, tmp_path, river="river", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {paths[0]: before[paths[0]]}
    xsphere.to_artmip(mask, tmp_path, river="river", overwrite=True)
    assert {*tmp_path.iterdir()} == {*paths}


def test_bad_input_is_refused(tmp_path):
    mask = known(GRIDS["healpix"])
    for options, words in (
        ({"resolution": 30}, r"classes must be names.*atmospheric_river"),
        ({"river": "river"}, "give resolution"),
        ({"river": "river", "unknown": "skip"}, "unknown must be one of"),
    ):
        with pytest.raises(ValueError, match=words):
            xsphere.to_artmip(mask, tmp_path, **options)
    with pytest.raises(ValueError, match=r"put \{year\} into"):
        xsphere.to_artmip(mask, tmp_path / "x.nc", river=2, resolution=30)
    with pytest.raises(ValueError, match=r"may hold \{year\}"):
        xsphere.to_artmip(mask, tmp_path / "{month}.nc", river=2, resolution=30)
    with pytest.raises(ValueError, match=r"no dimensions \['member'\]"):
        xsphere.to_artmip(mask.expand_dims(member=2), tmp_path, river=2, resolution=30)
    assert not list(tmp_path.iterdir())
