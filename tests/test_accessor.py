"""``.sphere`` calls the functions, and hands over its object and options."""

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.toys import storm_dataset, storm_model


def test_dataset_methods_are_the_functions() -> None:
    ds = storm_dataset()
    xr.testing.assert_identical(ds.sphere.to_healpix(level=2), xsphere.to_healpix(ds, 2))
    hp = ds.sphere.to_healpix(nside=4, method="nearest")
    xr.testing.assert_identical(hp, xsphere.to_healpix(ds, nside=4, method="nearest"))
    xr.testing.assert_identical(hp.sphere.to_latlon(30.0), xsphere.to_latlon(hp, 30.0))
    assert ds.sphere.grid == xsphere.horizontal_grid(ds)


def test_array_methods_are_the_functions() -> None:
    ds = storm_dataset()
    mask = ds.sphere.segment(storm_model(), grid="source")
    expected = xsphere.events(mask, ds, min_area=1e6)
    xr.testing.assert_identical(mask.sphere.events(ds, min_area=1e6), expected)
    assert mask.sphere.grid.grid == ds.sphere.grid.grid
    xr.testing.assert_identical(
        ds.PSL.sphere.to_healpix(2, method="conservative"),
        xsphere.to_healpix(ds.PSL, 2, method="conservative"),
    )


def test_plot_draws() -> None:
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    axes = storm_dataset().PSL.sphere.plot(col="time", pixels=60)
    assert np.ravel(axes).size == 3
    plt.close("all")


def test_fit_trains() -> None:
    from xsphere.nn.training import TrainingOptions

    ds = storm_dataset(n_times=4)
    labels = (ds.PSL < 100000).astype(np.uint8)
    labels.attrs = {"flag_values": [0, 1], "flag_meanings": "background low"}
    model = ds.sphere.fit(
        labels,
        level=1,
        architecture={"features": (2,), "depths": (0,)},
        options=TrainingOptions(epochs=1),
        progress=False,
    )
    assert model.classes == ("low",)


@pytest.mark.parametrize("obj", [xr.Dataset(), xr.DataArray([1.0], dims="x")])
def test_objects_without_a_grid_say_so(obj: xr.Dataset | xr.DataArray) -> None:
    with pytest.raises(ValueError, match=r"latitude|longitude|horizontal"):
        obj.sphere.to_healpix(level=1)


def test_what_is_printed_helps() -> None:
    ds = xsphere.sample_dataset().chunk(time=1).assign(count=("time", [1, 2]))
    text = repr(ds.sphere)
    assert "LatLonGrid(73 x 144" in text
    assert "TMQ, PSL, U850, V850; 1 others without the grid" in text
    assert "time: 2 of up to 1" in text
    assert "segment" in text
    assert "plot" not in text
    hp = ds.PSL.sphere.to_healpix(level=3).sphere
    assert "HealpixGrid(level=3, nested) on cells" in repr(hp)
    assert "plot" in repr(hp)
    assert "<td style='text-align: left'>PSL</td>" in hp._repr_html_()
    assert max(map(len, repr(hp).splitlines())) <= 100


def test_printing_computes_nothing_and_never_fails() -> None:
    import dask

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    ds = xsphere.sample_dataset()
    uneven = ds.assign(a=ds.PSL.chunk(time=1), b=ds.PSL.chunk(time=2))
    lazy = ds.reset_index("lat").chunk().drop_indexes("lon").chunk()
    hostile = xr.Dataset({"<b>": ("x", [1.0])}, coords={"lat": ("x", ["a"])}, attrs={1: 2})
    guessed = xr.DataArray(np.zeros(768), dims="cells")
    objects = [uneven, lazy, hostile, guessed, xr.Dataset(), xr.DataArray(1.0), ds.isel(time=[])]
    with dask.config.set(scheduler=fail):
        for obj in objects:
            text, html = repr(obj.sphere), obj.sphere._repr_html_()
            assert "Grid" in text
            assert "<b><b>" not in html
            assert "Has" in html
    assert "HealpixGrid(level=3" in repr(guessed.sphere)
    assert "lat, lon are not computed yet" in repr(lazy.sphere)
