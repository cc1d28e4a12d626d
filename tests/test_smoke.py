"""Each layer once, with whatever versions are installed: what `make bounds` runs with the oldest.

Nothing here needs the tools of developers, so that it runs wherever the package does.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.graph import SphereGraph
from xsphere.grids import HealpixGrid, PointGrid
from xsphere.weights import regridding_weights

has_torch = pytest.mark.skipif(find_spec("torch") is None, reason="there is no torch")


def test_graphs_and_their_spectrum() -> None:
    graph = SphereGraph(HealpixGrid(3), k=8)
    # harmonics of degree 1 are eigenvectors of the consistent Laplacian, with eigenvalue 2
    x, y, z = graph.grid.centres.T
    for harmonic in (x, y, z):
        np.testing.assert_allclose(graph.laplacian @ harmonic, 2 * harmonic, atol=0.03)
    assert SphereGraph(PointGrid.fibonacci(300), k=6, weights="gaussian").laplacian.nnz > 1500


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
def test_weights_keep_constants(method: str) -> None:
    grid = storm_dataset(1).sphere.grid.grid
    weights = regridding_weights(grid, HealpixGrid(3), method=method)  # type: ignore[arg-type]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


def test_lazy_regridding_there_and_back_through_files(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    expected = ds.sphere.to_healpix(level=3, method="conservative2")
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    ds.to_netcdf(tmp_path / "x.nc")
    for opened in (
        xr.open_zarr(tmp_path / "x.zarr", consolidated=False).chunk(time=2),
        xr.open_dataset(tmp_path / "x.nc", chunks={"time": 2}),
    ):
        with opened:
            lazy = opened.sphere.to_healpix(level=3, method="conservative2")
            assert lazy.PSL.chunks is not None
            np.testing.assert_array_equal(lazy.PSL, expected.PSL)
    expected.to_zarr(tmp_path / "y.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "y.zarr", consolidated=False)
    assert back.sphere.grid.grid == HealpixGrid(3)
    assert back.sphere.to_latlon(resolution=10.0).PSL.shape == (4, 18, 36)
    xsphere.write_pyramid(ds, tmp_path / "pyramid.zarr", levels=[3, 2])
    assert xr.open_zarr(tmp_path / "pyramid.zarr" / "2", consolidated=False).sizes["cells"] == 192


def test_filters_and_derivatives() -> None:
    ds = storm_dataset(n_times=2).chunk(time=1)
    hp = ds.sphere.to_healpix(level=3, method="conservative")
    smooth = hp.PSL.sphere.filter("heat", scale=2000)
    assert float(smooth.std()) < float(hp.PSL.std())
    assert hp.PSL.sphere.power_spectrum().sizes["degree"] > 4
    assert ds.sphere.vorticity().attrs["units"] == "s-1"


def test_blocks_are_written_found_damaged_and_repaired(tmp_path: Path) -> None:
    fields = storm_dataset(n_times=6).chunk(time=2).sphere.to_healpix(level=2).PSL
    path = tmp_path / "psl.zarr"
    assert xsphere.write_blocks(fields, path, workers=2).written == 3
    assert xsphere.verify_store(path).ok
    chunk = path / "PSL" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-7])
    assert list(xsphere.verify_store(path).damaged) == [1]
    assert xsphere.repair_store(path, fields).written == 1
    np.testing.assert_array_equal(xsphere.open_mask(path), fields)


def test_a_cluster_in_this_process_writes_the_same(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    fields = storm_dataset(n_times=4).chunk(time=2).sphere.to_healpix(level=2).PSL
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(processes=False, **options) as local, Client(local) as client:
        xsphere.write_blocks(fields, tmp_path / "psl.zarr", client=client)
    np.testing.assert_array_equal(xsphere.open_mask(tmp_path / "psl.zarr"), fields.compute())


@has_torch
def test_models_are_saved_and_segment_from_anywhere(tmp_path: Path) -> None:
    model = xsphere.Model.load(storm_model().save(tmp_path / "model.safetensors"))
    ds = storm_dataset(n_times=4)
    expected = ds.sphere.segment(model)
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    for mask in (
        xsphere.segment(tmp_path / "x.zarr", model),
        ds.chunk(time=2).sphere.segment(model),
    ):
        assert mask.chunks is not None
        np.testing.assert_array_equal(mask, expected)
    mask.sphere.to_zarr(tmp_path / "mask.zarr")
    np.testing.assert_array_equal(xsphere.open_mask(tmp_path / "mask.zarr"), expected)


@has_torch
def test_training() -> None:
    ds = storm_dataset(n_times=4)
    labels = (ds.U850 > 10).astype("u1")
    labels.attrs = {"flag_values": [0, 1], "flag_meanings": "background gale"}
    options = {"architecture": {"features": (4,), "depths": (0,), "kernel_size": 2}, "level": 2}
    options |= {"variables": ("PSL", "U850", "V850"), "validation": 0.5, "progress": False}
    model = xsphere.fit(ds, labels, options=_one_epoch(), **options)
    assert len(model.spec.training["history"]) == 1
    assert ds.sphere.segment(model).attrs["flag_meanings"].startswith("background gale ")


def _one_epoch() -> object:
    from xsphere.nn.training import TrainingOptions

    return TrainingOptions(epochs=1, batch_size=2)


def _labelled() -> xr.DataArray:
    from xsphere.conventions import describe_healpix, mask_attributes

    grid = HealpixGrid(3)
    values = (grid.centre_lonlat[1] > 60).astype("u1")[None]
    return describe_healpix(
        xr.DataArray(
            values,
            {"time": np.array(["2001-01-01"], "M8[ns]")},
            ("time", "cells"),
            name="mask",
            attrs=mask_attributes(["cap"]),
        ),
        grid,
    )


def test_events_of_a_mask(tmp_path: Path) -> None:
    mask = _labelled()
    found = mask.sphere.events()
    area = 4 * np.pi * 6371.0**2 * float(mask.mean())
    np.testing.assert_allclose(found["area"], [area], rtol=1e-3)
    xsphere.events_to_csv(found, tmp_path / "events.csv")
    assert "cap" in (tmp_path / "events.csv").read_text()


def test_a_map(tmp_path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    _labelled().isel(time=0).sphere.plot()
    plt.savefig(tmp_path / "map.png")
    plt.close("all")
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xsphere.cli import main

    storm_dataset(2).to_netcdf(tmp_path / "x.nc")
    for arguments in (
        ["regrid", tmp_path / "x.nc", tmp_path / "y.zarr", "--level", "2"],
        ["doctor"],
        ["segment", "--help"],
    ):
        monkeypatch.setattr(sys, "argv", ["xsphere", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr()
    assert xr.open_zarr(tmp_path / "y.zarr", consolidated=False).sizes["cells"] == 192
