"""What values mean: classes or numbers, missing or data, whatever attributes arithmetic kept."""

import warnings

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.conventions.masks import check_no_classes, holds_classes
from xsphere.conventions.values import (
    WELL_KNOWN,
    Reading,
    ReadingNode,
    ValidRangeWarning,
    reading_of,
    without_well_known,
)
from xsphere.grids import HealpixGrid

GRID = HealpixGrid(2)
CLASSES = ["tropical_cyclone", "atmospheric_river"]


def on_healpix(values, grid=GRID, **attrs) -> xr.DataArray:
    values = values if isinstance(values, dask.array.Array) else np.asarray(values)
    dims = ("time", "cells")[-values.ndim :]
    return describe_healpix(xr.DataArray(values, dims=dims, attrs=attrs, name="mask"), grid)


def mask(n_times=5, seed=0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, 2, 254], size=(n_times, GRID.n_cells), p=[0.4, 0.3, 0.2, 0.1])
    return on_healpix(values.astype("u1"), **mask_attributes(CLASSES))


# --- classes only where values can be classes

FIELDS = {
    "share": lambda m: (m == 1).mean("time"),
    "count": lambda m: (m == 1).sum("time"),
    "number": lambda m: m.count("time"),
    "deviation": lambda m: (m == 2).std("time"),
    "any float": lambda m: (m == 1) * 1.0,
}


@pytest.mark.parametrize("kept", list(FIELDS), ids=str)
def test_what_arithmetic_makes_of_a_mask_is_a_field(kept) -> None:
    with xr.set_options(keep_attrs=True):
        field = FIELDS[kept](mask())
    assert "flag_values" in field.attrs
    bare = field.drop_attrs(deep=False).assign_attrs(grid_mapping="crs").astype("f8")
    one = field if field.ndim == 1 else field.isel(time=0)
    plain = bare if bare.ndim == 1 else bare.isel(time=0)
    for call in (
        lambda f: xsphere.to_latlon(f, 15.0),
        lambda f: xsphere.coarsen(f, 1),
        lambda f: xsphere.refine(f, 3),
        lambda f: xsphere.filter(f, "heat", scale=2000.0),
        lambda f: xsphere.gradient(f).northward_derivative,
        lambda f: xsphere.power_spectrum(f, 5),
    ):
        result = call(one)
        np.testing.assert_allclose(result, call(plain), rtol=1e-5, atol=1e-6)
        assert "flag_values" not in result.attrs


@pytest.mark.parametrize("call", [lambda m: m == 2, lambda m: m > 0, lambda m: m.isin([1, 2])])
def test_booleans_are_what_is_true(call) -> None:
    with xr.set_options(keep_attrs=True):
        chosen = call(mask())
    found = xsphere.events(chosen)
    assert set(found.class_name.values.tolist()) == {"true"}
    bare = chosen.drop_attrs(deep=False).assign_attrs(grid_mapping="crs")
    xr.testing.assert_identical(found, xsphere.events(bare))
    coarse = xsphere.coarsen(chosen, 1)
    assert coarse.dtype == bool
    assert not {"flag_values", "flag_meanings"} & set(coarse.attrs)
    shares = xsphere.regrid(chosen, HealpixGrid(1), method="conservative")
    np.testing.assert_allclose(shares, chosen.values.reshape(5, -1, 4).mean(-1), atol=1e-6)


def test_integers_that_are_flags_stay_classes() -> None:
    for classes in (mask(), mask().astype("i4"), mask().max("time")):
        assert holds_classes(classes)
    back = xsphere.coarsen(mask().astype("i2", keep_attrs=True), 1)
    np.testing.assert_array_equal(back, xsphere.coarsen(mask(), 1))
    untyped = mask().astype("i8").assign_attrs(flag_values=[0, 1], flag_meanings="a b")
    assert holds_classes(untyped)


def test_classes_of_a_file_with_a_fill_value_stay_classes(tmp_path) -> None:
    stored = mask().rename("m").to_dataset()
    stored["m"].encoding["_FillValue"] = np.uint8(255)
    stored.to_netcdf(tmp_path / "m.nc")
    read = xr.open_dataset(tmp_path / "m.nc").m
    assert read.dtype.kind == "f"
    assert holds_classes(read)
    np.testing.assert_array_equal(xsphere.coarsen(read, 1), xsphere.coarsen(mask(), 1))
    assert xsphere.events(read).equals(xsphere.events(mask()))
    with pytest.raises(ValueError, match="hold classes"):
        xsphere.filter(read, "heat", scale=1000.0)


DOUBTFUL = {
    "where": lambda m: m.where(m > 0),
    "float": lambda m: m.astype(float),
    "times one": lambda m: m * 1.0,
    "int64": lambda m: m.astype("int64"),
}


@pytest.mark.parametrize("kind", list(DOUBTFUL), ids=str)
@pytest.mark.parametrize("lazy", [False, True])
def test_classes_in_the_type_of_numbers_are_never_averaged(kind, lazy) -> None:
    with xr.set_options(keep_attrs=True):
        classes = DOUBTFUL[kind](mask().chunk(time=1) if lazy else mask())
    for call in (
        lambda f: xsphere.coarsen(f, 1),
        lambda f: xsphere.to_latlon(f, 30.0),
        lambda f: xsphere.filter(f, "heat", scale=2000.0),
    ):
        with pytest.raises(ValueError, match=r"'mask' are flag_values.*uint8.*delete attrs"):
            call(classes).compute()
    # floats with values beyond 1 that are flags can be nothing else
    if kind == "int64":
        with pytest.raises(ValueError, match=r"booleans, or integers .*'mask' is int64"):
            xsphere.events(classes)
    elif kind != "where":
        xr.testing.assert_equal(xsphere.events(classes), xsphere.events(mask()))
    again = classes.fillna(254).astype("uint8")
    assert holds_classes(again)
    xsphere.events(again)


def test_events_of_shares_are_refused() -> None:
    with xr.set_options(keep_attrs=True):
        share, sure = (mask() == 1).mean("time"), (mask(1) == 2).mean("time")
    with pytest.raises(ValueError, match="'mask' must hold 0 or its flag_values"):
        xsphere.events(share)
    with pytest.raises(
        ValueError, match=r"booleans, or integers .*'mask' is float64.*share > 0\.5"
    ):
        xsphere.events(sure)


@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, np.nan]), min_size=1, max_size=20),
)
def test_shares_are_no_classes(values) -> None:
    check_no_classes(np.array(values), [0, 1, 2, 254, 255], "share")


def test_values_that_are_no_flags_are_named() -> None:
    with xr.set_options(keep_attrs=True):
        wrong = mask().where(mask() < 254, 0).astype("u1") + np.uint8(5)
    assert wrong.dtype == np.uint8
    for call in (
        xsphere.events,
        lambda m: xsphere.coarsen(m, 1),
        lambda m: xsphere.to_latlon(m, 30.0),
        lambda m: m.isel(time=0).sphere.plot(pixels=30),
    ):
        with pytest.raises(ValueError, match=r"or its flag_values .*got also \[5, 6, 7\]"):
            call(wrong)


def test_maps_of_shares_and_classes() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    with xr.set_options(keep_attrs=True):
        share, doubtful = (
            (mask() == 1).mean("time"),
            mask().isel(time=0).where(GRID.centres[:, 2] > 0),
        )
        river = mask().isel(time=0) == 2
    assert share.sphere.plot(pixels=30).get_legend() is None
    legend = doubtful.sphere.plot(pixels=30).get_legend()
    assert [t.get_text() for t in legend.get_texts()][:2] == [
        "tropical cyclone",
        "atmospheric river",
    ]
    outlined = share.sphere.plot(contours=river, pixels=30).get_legend()
    assert [t.get_text() for t in outlined.get_texts()] == ["true"]
    with pytest.raises(ValueError, match="'mask' must hold 0 or its flag_values"):
        share.sphere.plot(contours=share, pixels=30)
    plt.close("all")


# --- missing values


def numbers(dtype="f4") -> np.ndarray:
    return (np.arange(GRID.n_cells) % 7 + 270).astype(dtype)


MISSING = {
    "_FillValue": ("f4", -999.0, {"_FillValue": np.float32(-999.0)}),
    "missing_value": ("f8", 1e15, {"missing_value": 1e15}),
    "both": ("f4", -9.0, {"_FillValue": np.float32(-9), "missing_value": np.float32(-8)}),
    "list": ("f4", -8.0, {"missing_value": np.array([-9.0, -8.0], "f4")}),
    "integers": ("i2", -32767, {"_FillValue": np.int16(-32767)}),
    "valid_range": ("f4", 400.0, {"valid_range": np.array([200.0, 350.0], "f4")}),
    "valid_max": ("f8", 1e4, {"valid_max": 350.0}),
    "valid_min": ("i4", -1, {"valid_min": np.int32(0)}),
    "UNSEEN": ("f8", -1.6375e30, {}),
    "UNSEEN, single": ("f4", -1.6375e30, {}),
    "CMIP": ("f4", 1e20, {}),
    "CMIP, widened": ("f8", float(np.float32(1e20)), {}),
    "netCDF": ("f4", 9.969209968386869e36, {}),
}


@pytest.fixture(params=list(MISSING), ids=str)
def with_missing(request) -> tuple[xr.DataArray, xr.DataArray]:
    """A field where some cells hold a number for missing, and one where these are NaN."""
    dtype, fill, attrs = MISSING[request.param]
    values = numbers(dtype)
    gaps = np.arange(GRID.n_cells) % 11 == 3
    stated = on_healpix(np.where(gaps, np.array(fill, dtype), values), **attrs)
    assert stated.dtype == dtype
    wide = np.result_type(dtype, np.float32)
    return stated, on_healpix(np.where(gaps, np.nan, values).astype(wide))


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_missing_is_averaged_nowhere(with_missing, lazy) -> None:
    stated, true = (a.chunk() if lazy else a for a in with_missing)
    u, v = ({"units": "m s-1", "standard_name": f"{way}ward_wind"} for way in ("east", "north"))
    before = stated.copy(deep=True)
    for call in (
        lambda f: xsphere.coarsen(f, 1),
        lambda f: xsphere.refine(f, 3, method="conservative2"),
        lambda f: xsphere.to_latlon(f, 30.0),
        lambda f: xsphere.filter(f, "heat", scale=1000.0, missing="renormalize"),
        lambda f: xsphere.gradient(f).eastward_derivative,
        lambda f: xsphere.power_spectrum(f, 5, missing="pseudo"),
        lambda f: xsphere.vorticity(xr.Dataset({"u": f.assign_attrs(u), "v": f.assign_attrs(v)})),
        lambda f: (
            xsphere.coarsen(xr.Dataset({"u": f.assign_attrs(u), "v": f.assign_attrs(v)}), 1).v
        ),
    ):
        result = call(stated)
        assert (result.chunks is not None) == lazy
        np.testing.assert_allclose(result, call(true), rtol=1e-5, atol=1e-9)
        assert not {"_FillValue", "missing_value", "valid_range", "valid_max"} & set(result.attrs)
    xr.testing.assert_identical(stated.compute(), before.compute())


def test_events_measure_what_is_there(with_missing) -> None:
    stated, true = (field.rename("t") for field in with_missing)
    storms = on_healpix(np.ones(GRID.n_cells, "u1"), **mask_attributes(["storm"]))
    for name in ("t_max", "t_min", "t_mean"):
        found, expected = (xsphere.events(storms, f.to_dataset())[name] for f in (stated, true))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_maps_show_what_is_there(with_missing) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    stated, true = (f.sphere.plot(pixels=40).images[0].get_array() for f in with_missing)
    np.testing.assert_array_equal(np.ma.getmaskarray(stated), np.ma.getmaskarray(true))
    np.testing.assert_array_equal(stated.compressed(), true.compressed())
    plt.close("all")


def test_segmentation_marks_what_is_declared_missing() -> None:
    ds, model = storm_dataset(n_times=2), storm_model()
    name = model.spec.variables[0].name
    gaps = np.zeros(ds[name].shape, bool)
    gaps[..., 5:20] = True
    dtype, fill, attrs = "f4", -999.0, {"_FillValue": -999.0}
    stated = ds.assign(
        {name: ds[name].where(~gaps, fill).astype(dtype).assign_attrs(attrs | ds[name].attrs)}
    )
    true = ds.assign({name: ds[name].where(~gaps)})
    for chunks in (None, {"time": 1}):
        one, other = (d if chunks is None else d.chunk(chunks) for d in (stated, true))
        found = xsphere.segment(one, model)
        np.testing.assert_array_equal(found, xsphere.segment(other, model))
    assert (found == 254).any()


def test_training_leaves_out_what_is_declared_missing() -> None:
    from tests.test_fitting import trained, windy_labels

    ds = storm_dataset(n_times=4)
    labels = windy_labels(ds)
    gaps = ds.PSL.quantile(0.8).item() < ds.PSL
    stated = ds.assign(
        PSL=ds.PSL.where(~gaps, -999.0).assign_attrs(ds.PSL.attrs, missing_value=-999.0)
    )
    true = ds.assign(PSL=ds.PSL.where(~gaps).assign_attrs(ds.PSL.attrs))
    for one, other in ((stated, true), (stated.chunk(time=1), true)):
        assert trained(one, labels) == trained(other, labels)


PACKED = {
    "scale_factor": {"scale_factor": 0.01},
    "add_offset": {"add_offset": 273.15},
    "_Unsigned": {"_Unsigned": "true"},
}


@pytest.mark.parametrize("attrs", PACKED.values(), ids=PACKED)
def test_packed_data_are_refused_everywhere(attrs) -> None:
    packed = on_healpix(numbers("i2"), **attrs)
    storms = on_healpix(np.ones(GRID.n_cells, "u1"), **mask_attributes(["storm"]))
    for call in (
        lambda f: xsphere.coarsen(f, 1),
        lambda f: xsphere.to_latlon(f, 30.0),
        lambda f: xsphere.filter(f, "heat", scale=1000.0),
        xsphere.gradient,
        xsphere.power_spectrum,
        lambda f: xsphere.events(storms, f.to_dataset(name="mask")),
        lambda f: f.sphere.plot(pixels=30),
        lambda f: xsphere.cache_regridded(f.to_dataset(name="mask"), 1, "none.zarr"),
    ):
        with pytest.raises(
            ValueError, match=r"variables \['mask'\] hold packed integers.*decode_cf"
        ):
            call(packed)
    plain = on_healpix(numbers(), scale_factor=1.0, add_offset=0.0)
    xsphere.coarsen(plain, 1)


def test_a_valid_range_of_stored_integers_is_unpacked(tmp_path) -> None:
    values = numbers("f8")
    values[3] = 400.0
    ds = on_healpix(values, valid_range=np.array([-5000, 5000], "i2")).to_dataset(name="t")
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 300.0, "_FillValue": -32768}
    ds["t"].encoding = packing
    ds.to_netcdf(tmp_path / "t.nc")
    with xr.open_dataset(tmp_path / "t.nc") as read:
        coarse = xsphere.coarsen(read.t, 1, missing="propagate")
    assert np.flatnonzero(np.isnan(coarse)).tolist() == [0]


def test_a_range_that_holds_for_nothing_is_told() -> None:
    anomaly = on_healpix(numbers() - 270.0, valid_range=[200.0, 350.0])
    with pytest.warns(ValidRangeWarning, match=r"'mask' is within its valid range, 200 to 350"):
        assert np.isnan(xsphere.coarsen(anomaly, 1)).all()


@given(
    value=st.sampled_from(WELL_KNOWN)
    | st.sampled_from([-1.6375e30, 9.96921e36, 9.969209968386869e36, 1e30, -9.99e33, 3.4028235e38]),
    dtype=st.sampled_from(["f4", "f8"]),
    size=st.sampled_from([1, 100, 2**15 + 3]),
    data=st.data(),
)
@examples(30)
def test_numbers_that_always_stand_for_missing(value, dtype, size, data) -> None:
    at = data.draw(st.integers(0, size - 1))
    values = np.full(size, 3.0, dtype)
    values[-1] = np.nan
    values[at] = value
    read = without_well_known(values)
    assert np.isnan(read[at])
    expected = np.full(size, 3.0, dtype)
    expected[[at, -1]] = np.nan
    np.testing.assert_array_equal(read, expected)
    assert values[at] == np.array(value, dtype)


@given(
    st.lists(st.floats(-(2.0**90), 2.0**99, width=32), min_size=1), st.sampled_from(["f4", "f8"])
)
def test_other_large_numbers_are_data(values, dtype) -> None:
    known = {*WELL_KNOWN, *np.array(WELL_KNOWN, "f4").astype(float)}
    array = np.array([v for v in values if v not in known], dtype)
    assert without_well_known(array) is array


def test_reading_is_part_of_a_tasks_name_and_costs_no_layer() -> None:
    lazy = on_healpix(dask.array.from_array(numbers(), chunks=-1))
    plain, filled = (
        xsphere.coarsen(lazy, 1),
        xsphere.coarsen(lazy.assign_attrs(_FillValue=275.0), 1),
    )
    assert plain.data.name != filled.data.name
    assert len(plain.data.dask.layers) == len(filled.data.dask.layers)
    assert filled.data.name == xsphere.coarsen(lazy.assign_attrs(_FillValue=275.0), 1).data.name


def test_a_reading_node_is_its_node() -> None:
    node = ReadingNode(node=np.add, readings=(Reading(name="a"), Reading(name="b", fills=(1.0,))))
    assert node.__name__ == "add"
    np.testing.assert_array_equal(node(np.array([1.0, 2]), np.array([1.0, 2])), [np.nan, 4])


def test_attributes_that_are_no_numbers_say_nothing() -> None:
    odd = on_healpix(numbers(), _FillValue="none", valid_range="0 to 1", missing_value=np.nan)
    assert reading_of(odd) == Reading(name="mask")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(reading_of(odd)(odd.values), odd.values)


def test_integer_classes_keep_their_type_and_their_fill() -> None:
    values = np.where(np.arange(GRID.n_cells) % 16 < 9, -1, 1).astype("i2")
    labels = on_healpix(
        values, flag_values=np.array([0, 1], "i2"), flag_meanings="a b", _FillValue=np.int16(-1)
    )
    coarse = xsphere.coarsen(labels, 1)
    assert coarse.dtype == np.int16
    assert set(np.unique(coarse)) == {-1, 1}
    assert coarse.attrs["_FillValue"] == -1
