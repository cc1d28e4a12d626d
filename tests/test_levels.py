"""HEALPix fields at other levels: exact means, their pyramids in one store."""

import json

import dask
import numpy as np
import pytest
import xarray as xr
import xdggs
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset
from xsphere.conventions import classes_of, describe_healpix, horizontal_grid, mask_attributes
from xsphere.grids import HealpixGrid
from xsphere.pyramids import write_pyramid
from xsphere.regridding import coarsen, refine, to_healpix

REGION = HealpixGrid(3, "nested", np.arange(100, 180))


def field(grid: HealpixGrid, n_times: int = 3, seed: int = 0, **attrs: object) -> xr.DataArray:
    values = np.random.default_rng(seed).normal(size=(n_times, grid.n_cells))
    array = xr.DataArray(values, {"time": range(n_times)}, ("time", "cells"), "t", attrs)
    return describe_healpix(array, grid)


@given(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["nested", "ring"]))
@examples(20)
def test_a_coarse_cell_is_the_mean_of_its_children(level: int, steps: int, scheme: str) -> None:
    import healpy

    grid = HealpixGrid(level + steps, scheme)
    source = field(grid)
    nested = source.values[:, healpy.nest2ring(grid.nside, np.arange(grid.n_cells))]
    expected = (source.values if scheme == "nested" else nested).reshape(3, -1, 4**steps).mean(-1)
    result = coarsen(source, level)
    found = horizontal_grid(result).grid
    assert found == HealpixGrid(level, scheme)
    np.testing.assert_allclose(result.values[:, found.positions_of(found.nested_ids)], result)
    order = np.argsort(found.nested_ids)
    np.testing.assert_allclose(result.values[:, order], expected, rtol=1e-12, atol=1e-12)


def test_refining_and_coarsening_gives_the_field_back() -> None:
    source = field(HealpixGrid(2, "ring"))
    for method in ("conservative", "conservative2", "nearest"):
        fine = refine(source, 4, method=method)
        assert horizontal_grid(fine).grid == HealpixGrid(4, "ring")
        np.testing.assert_allclose(coarsen(fine, 2), source, atol=1e-12)
    assert "bilinear" in refine(source, 3).attrs["cell_methods"]


def test_the_same_level_is_the_same_field() -> None:
    for grid in (HealpixGrid(2), HealpixGrid(2, "ring"), REGION):
        source = field(grid)
        np.testing.assert_array_equal(coarsen(source, grid.level), source)
        np.testing.assert_array_equal(refine(source, nside=grid.nside, method="nearest"), source)


def test_a_part_of_the_sphere_keeps_its_missing_children() -> None:
    source = field(REGION)
    result = coarsen(source, 1, min_valid_fraction=0.0)
    parents = np.unique(np.arange(100, 180) // 16)
    np.testing.assert_array_equal(result["cell_ids"], parents)
    first = source.values[:, : 112 - 100].mean(-1)
    np.testing.assert_allclose(result[:, 0], first)
    strict = coarsen(source, 1, missing="propagate")
    np.testing.assert_array_equal(np.isnan(strict[0]), np.isin(parents, [100 // 16, 179 // 16]))


def test_classes_go_by_majority_and_winds_by_direction() -> None:
    grid = HealpixGrid(1)
    labels = np.tile(np.array([1, 2, 2, 0], "u1"), 12)
    mask = describe_healpix(
        xr.DataArray(labels, dims="cells", attrs=mask_attributes(["a", "b"])), grid
    )
    coarse = coarsen(mask, 0)
    assert coarse.dtype == np.uint8
    assert set(coarse.values) == {2}
    assert classes_of(coarse) == classes_of(mask)
    np.testing.assert_array_equal(refine(mask, 2), np.repeat(labels, 4))
    u = field(grid, standard_name="eastward_wind")
    ds = xr.Dataset({"u": u, "v": u.assign_attrs(standard_name="northward_wind")})
    assert "vector" in coarsen(ds, 0)["u"].attrs["cell_methods"]


def test_levels_that_cannot_be_are_refused() -> None:
    source = field(HealpixGrid(2))
    with pytest.raises(ValueError, match=r"coarsen\(\) needs at most the level 2.*got 3.*refine"):
        coarsen(source, 3)
    with pytest.raises(ValueError, match=r"refine\(\) needs at least the level 2.*got 1.*coarsen"):
        refine(source, 1)
    with pytest.raises(ValueError, match=r"coarsen\(\) needs either level"):
        coarsen(source)
    with pytest.raises(ValueError, match=r"on a HEALPix grid, got LatLonGrid.*to_healpix\(2\)"):
        coarsen(storm_dataset(), 2)


def test_nothing_is_computed_while_building() -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    grid = HealpixGrid(2)
    source = describe_healpix(field(grid).chunk(time=1), grid)
    with dask.config.set(scheduler=refuse):
        coarse, fine = coarsen(source, 1), refine(source, 3)
    assert coarse.chunks == ((1, 1, 1), (48,))
    np.testing.assert_array_equal(fine, refine(source.compute(), 3))


# --- pyramids


def test_a_pyramid_holds_every_level(tmp_path) -> None:
    ds = storm_dataset().chunk(time=1)
    path = write_pyramid(ds, tmp_path / "p.zarr", levels=[1, 3, 2])
    finest = to_healpix(ds, 3)
    tree = xr.open_datatree(path, engine="zarr")
    assert sorted(tree.children) == ["1", "2", "3"]
    xr.testing.assert_allclose(tree["3"].to_dataset(), finest)
    for level in (2, 1):
        read = xr.open_zarr(path, group=str(level))
        xr.testing.assert_allclose(read, coarsen(finest, level))
        assert horizontal_grid(read).grid == HealpixGrid(level)
        decoded = xdggs.decode(read, name="cell_ids", convention="zarr")
        assert decoded.dggs.grid_info.level == level
        assert read.chunksizes["time"] == (1, 1, 1)
    # NetCDF holds no nested attributes: without them the grid is still described
    read.drop_attrs(deep=False).to_netcdf(tmp_path / "level.nc")
    with xr.open_dataset(tmp_path / "level.nc") as saved:
        xr.testing.assert_equal(saved, read)
        assert horizontal_grid(saved).grid == HealpixGrid(1)
    layout = tree.attrs["multiscales"]["layout"]
    assert [entry["asset"] for entry in layout] == ["3", "2", "1"]
    assert [entry["transform"]["scale"] for entry in layout] == [[1.0], [2.0], [4.0]]
    assert [entry.get("derived_from") for entry in layout] == [None, "3", "3"]


def test_coarse_levels_are_means_of_the_finest_not_of_each_other(tmp_path) -> None:
    source = field(HealpixGrid(2), n_times=1)
    source[0, :3] = np.nan  # one of four children valid, then one of sixteen
    source[0, 4:16] = np.nan
    path = write_pyramid(source, tmp_path / "p.zarr", min_valid_fraction=0.05)
    coarsest = xr.open_zarr(path, group="0")["t"].values[0, 0]
    assert coarsest == source.values[0, 3]
    assert sorted(xr.open_datatree(path, engine="zarr").children) == ["0", "1", "2"]


def test_the_source_is_read_once(tmp_path) -> None:
    import dask.array as da

    reads = []

    def read(block: np.ndarray, block_info: object = None) -> np.ndarray:
        reads.append(block_info)
        return block

    ds = storm_dataset()[["PSL"]].chunk(time=1)
    counted = ds["PSL"].copy(
        data=da.map_blocks(read, ds["PSL"].data, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    )
    with dask.config.set(scheduler="synchronous"):
        write_pyramid(counted, tmp_path / "p.zarr", levels=[3, 2, 1, 0])
    assert len(reads) == 3


def test_masks_keep_what_was_not_computed(tmp_path) -> None:
    mask = describe_healpix(
        xr.DataArray(np.zeros(48, "u1"), dims="cells", name="m", attrs=mask_attributes(["a"])),
        HealpixGrid(1),
    )
    path = write_pyramid(mask, tmp_path / "p.zarr")
    metadata = json.loads((path / "0" / "m" / "zarr.json").read_text())
    assert metadata["fill_value"] == 255


def test_a_pyramid_is_there_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    source = field(HealpixGrid(1))
    path = write_pyramid(source, tmp_path / "p.zarr")
    with pytest.raises(FileExistsError, match="there already"):
        write_pyramid(source, path)
    before = sorted(file.name for file in tmp_path.rglob("*"))

    def fail(block: np.ndarray) -> np.ndarray:
        raise OSError("disk full")

    broken = source.chunk(time=1)
    broken = broken.copy(data=broken.data.map_blocks(fail, dtype=float, meta=np.empty((0, 0))))
    with pytest.raises(OSError, match="disk full"):
        write_pyramid(broken, path, overwrite=True)
    assert sorted(file.name for file in tmp_path.rglob("*")) == before
    write_pyramid(source, path, levels=[0], overwrite=True)
    assert sorted(xr.open_datatree(path, engine="zarr").children) == ["0"]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "different integers"),
        ([1, 1], "different integers"),
        ([-1], "different integers"),
        ([1.0], "different integers"),
        ([2, 3], r"at most 2, the level of the data, got \[2, 3\]; call refine"),
    ],
)
def test_levels_of_a_pyramid_that_cannot_be_are_refused(tmp_path, levels, message) -> None:
    with pytest.raises(ValueError, match=message):
        write_pyramid(field(HealpixGrid(2)), tmp_path / "p.zarr", levels=levels)
    assert not list(tmp_path.iterdir())


def test_a_pyramid_needs_levels_and_a_zarr_name(tmp_path) -> None:
    with pytest.raises(ValueError, match="needs levels="):
        write_pyramid(storm_dataset(), tmp_path / "p.zarr")
    with pytest.raises(ValueError, match=r"must end in '\.zarr'"):
        write_pyramid(field(HealpixGrid(1)), tmp_path / "p.nc")


def test_accessors_are_the_functions(tmp_path) -> None:
    source = field(HealpixGrid(2))
    xr.testing.assert_identical(source.sphere.coarsen(1), xsphere.coarsen(source, 1))
    xr.testing.assert_identical(
        source.sphere.refine(nside=8, method="nearest"), xsphere.refine(source, 3, method="nearest")
    )
    target = xsphere.LatLonGrid([0.0, 120.0, 240.0], [-45.0, 45.0])
    xr.testing.assert_identical(source.sphere.regrid(target), xsphere.regrid(source, target))
    assert source.sphere.to_pyramid(tmp_path / "p.zarr").name == "p.zarr"
