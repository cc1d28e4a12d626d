"""Winds: regridded in space, so that the poles are places like any other."""

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask._task_spec import Alias
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers import examples
from xsphere.grids import (
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    lonlat_to_vectors,
    tangent_vectors,
)
from xsphere.regridding import LoneComponentWarning, regrid, to_healpix, to_latlon
from xsphere.weights import regrid_fields, regrid_vectors, regridding_weights

ERA5 = LatLonGrid(np.arange(48) * 7.5, np.linspace(90.0, -90.0, 25))
CENTRED = LatLonGrid(np.arange(48) * 7.5, np.linspace(-86.25, 86.25, 24))
METHODS = ("nearest", "bilinear", "conservative", "conservative2")


def rotation(grid: Grid, axis: tuple[float, float] = (40.0, 25.0)) -> tuple[np.ndarray, np.ndarray]:
    """Eastward and northward components of a solid rotation about an axis given in degrees."""
    velocity = np.cross(lonlat_to_vectors(*axis), grid.centres)
    east, north = tangent_vectors(*grid.centre_lonlat)
    return (velocity * east).sum(-1), (velocity * north).sum(-1)


def winds(grid: LatLonGrid = ERA5, n_times: int = 3, dtype: str = "f4") -> xr.Dataset:
    u, v = (part.reshape(grid.shape) for part in rotation(grid))
    factor = np.arange(1, n_times + 1)[:, None, None]
    coords = {
        "lat": ("lat", grid.lat, {"units": "degrees_north"}),
        "lon": ("lon", grid.lon, {"units": "degrees_east"}),
        "time": np.arange(n_times),
    }
    attrs = {"units": "m s-1"}
    names = {"u": (u, "eastward_wind"), "v": (v, "northward_wind")}
    return xr.Dataset(
        {
            name: (
                ("time", "lat", "lon"),
                (factor * part).astype(dtype),
                attrs | {"standard_name": standard},
            )
            for name, (part, standard) in names.items()
        },
        coords,
    )


@pytest.mark.parametrize("source", [ERA5, CENTRED], ids=["poles", "centred"])
@pytest.mark.parametrize("method", ["bilinear", "conservative2"])
def test_a_rotation_stays_one_at_the_poles_too(source: LatLonGrid, method) -> None:
    target = HealpixGrid(4)
    truth = np.stack(rotation(target))
    vectors = np.stack(regrid_vectors(*rotation(source), source, target, method=method))
    scalars = np.stack(
        [regrid_fields(part, source, target, method=method) for part in rotation(source)]
    )
    polar = np.abs(target.centre_lonlat[1]) > 80
    assert np.abs(vectors - truth).max() < 0.03
    if source is CENTRED:  # beyond its last row the components of scalars mean nothing
        assert (
            np.abs(scalars - truth)[:, polar].max() > 10 * np.abs(vectors - truth)[:, polar].max()
        )


@pytest.mark.parametrize("method", METHODS)
def test_components_in_space_are_regridded_one_by_one(method) -> None:
    rng = np.random.default_rng(0)
    source, target = CENTRED, HealpixGrid(3, "ring")
    u, v = rng.normal(size=(2, 7, source.n_cells))
    frames = [np.stack(tangent_vectors(*grid.centre_lonlat)) for grid in (source, target)]
    space = u[..., None] * frames[0][0] + v[..., None] * frames[0][1]
    moved = np.stack(
        [regrid_fields(space[..., axis], source, target, method=method) for axis in range(3)], -1
    )
    east, north = regrid_vectors(u, v, source, target, method=method)
    np.testing.assert_allclose(east, (moved * frames[1][0]).sum(-1), atol=1e-13)
    np.testing.assert_allclose(north, (moved * frames[1][1]).sum(-1), atol=1e-13)


def test_a_turn_of_the_sphere_turns_the_winds() -> None:
    """About the axis by a quarter: the same numbers, a quarter further on."""
    source = ERA5
    u, v = (part.reshape(source.shape) for part in rotation(source))
    target = HealpixGrid(3)
    lon, lat = target.centre_lonlat
    turned = target.cells_at(lon - 90.0, lat)
    plain = np.stack(regrid_vectors(u.ravel(), v.ravel(), source, target, method="conservative"))
    moved = [np.roll(part, 12, axis=1).ravel() for part in (u, v)]
    result = np.stack(regrid_vectors(*moved, source, target, method="conservative"))
    np.testing.assert_allclose(result, plain[:, turned], atol=1e-12)


def test_a_vector_is_missing_where_a_component_is() -> None:
    u, v = (part.copy() for part in rotation(CENTRED))
    u[100], v[700] = np.nan, np.nan
    east, north = regrid_vectors(u, v, CENTRED, HealpixGrid(3), method="nearest")
    np.testing.assert_array_equal(np.isnan(east), np.isnan(north))
    weights = regridding_weights(CENTRED, HealpixGrid(3), method="nearest")
    np.testing.assert_array_equal(np.isnan(east), np.isin(weights.indices, [100, 700]))
    assert np.isnan(east).sum() == np.isin(weights.indices, [100, 700]).sum() > 0


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(48,\) and \(2, 48\)"):
        regrid_vectors(
            np.zeros(48), np.zeros((2, 48)), HealpixGrid(1), HealpixGrid(0), method="nearest"
        )


# --- labelled


def test_winds_are_found_by_standard_name() -> None:
    ds = winds()
    result = to_healpix(ds, 3, method="bilinear")
    east, north = regrid_vectors(
        *(ds[name].values.reshape(3, -1) for name in "uv"), ERA5, HealpixGrid(3), method="bilinear"
    )
    np.testing.assert_array_equal(result["u"], east)
    np.testing.assert_array_equal(result["v"], north)
    assert result["u"].dtype == np.float32
    assert result["u"].attrs["cell_methods"] == (
        "area: point (bilinear vector regridding to HEALPix level 3)"
    )
    assert result["v"].attrs["standard_name"] == "northward_wind"
    assert list(result.data_vars) == ["u", "v"]


def test_winds_may_be_told_or_denied() -> None:
    ds = winds()
    told = ds.map(lambda v: v.drop_attrs()).assign(t=ds["u"].drop_attrs())
    xr.testing.assert_equal(
        to_healpix(told, 3, vectors=[("u", "v")])[["u", "v"]], to_healpix(ds, 3)
    )
    scalar = to_healpix(ds["u"].drop_attrs(), 3)
    np.testing.assert_array_equal(to_healpix(ds, 3, vectors=None)["u"], scalar)
    np.testing.assert_array_equal(to_healpix(told, 3, vectors=[("u", "v")])["t"], scalar)
    assert np.abs(to_healpix(ds, 3)["u"] - scalar).max() > 1e-3


def test_many_pairs_are_told_apart() -> None:
    ds = winds()
    names = {
        "U850": ds["u"],
        "U200": 2 * ds["u"],
        "V200": 2 * ds["v"],
        "V850": ds["v"],
    }
    with xr.set_options(keep_attrs=True):
        many = xr.Dataset({name: array * 1 for name, array in names.items()})
    for name, array in many.items():
        array.attrs["standard_name"] = ("east" if "U" in name else "north") + "ward_wind"
    result = to_healpix(many, 3)
    expected = to_healpix(ds, 3)
    np.testing.assert_allclose(result["U200"], 2 * expected["u"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result["V850"], expected["v"], rtol=1e-6, atol=1e-6)


def test_other_vectors_than_winds_are_found() -> None:
    ds = winds().rename(u="ivt_x", v="ivt_y")
    for name, way in (("ivt_x", "eastward"), ("ivt_y", "northward")):
        ds[name].attrs["standard_name"] = f"{way}_atmosphere_water_transport_across_unit_distance"
    assert "vector" in to_healpix(ds, 2)["ivt_y"].attrs["cell_methods"]


def test_a_lone_component_near_a_pole_is_warned_of() -> None:
    ds = winds()
    with pytest.warns(
        LoneComponentWarning, match=r"\['u'\] are components.*near the poles"
    ) as seen:
        to_healpix(ds["u"], 2)
    assert seen[0].filename == __file__
    with pytest.warns(LoneComponentWarning, match=r"\['v'\]") as seen:
        regrid(ds[["v"]], HealpixGrid(2))
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_healpix(ds["u"], 2, vectors=None)
        to_healpix(ds["u"].sel(lat=slice(60, -60)), 2)


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        ([("u", "w")], ValueError, r"'w' is not among the variables to regrid \['u', 'v', 't'\]"),
        ([("u", "v"), ("t", "v")], ValueError, "'v' is named more than once"),
        ([("u", "t")], ValueError, "'u' has dimensions .* 't' "),
        (["uv", "t"], TypeError, r"pairs of names such as \[\('u', 'v'\)\]"),
        ("u", ValueError, "must be 'auto', None or pairs"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(vectors, error, message) -> None:
    ds = winds()
    with pytest.raises(error, match=message):
        to_healpix(ds.assign(t=ds["u"].isel(time=0).drop_attrs()), 2, vectors=vectors)


def test_classes_are_no_vectors() -> None:
    with pytest.raises(ValueError, match="'mode' is for classes, not for vectors"):
        to_healpix(winds().round(), 2, method="mode", vectors=[("u", "v")])
    to_healpix(winds().round(), 2, method="mode")


def test_winds_go_back_to_longitude_and_latitude() -> None:
    truth = winds(dtype="f8")
    back = to_latlon(to_healpix(truth, 5), like=truth, method="bilinear")
    for name in "uv":
        assert np.abs(back[name] - truth[name]).max() < 0.05


def test_stations_get_winds() -> None:
    stations = PointGrid([12.0, 300.0], [89.9, -70.0])
    result = regrid(winds(dtype="f8").isel(time=0), stations, method="bilinear")
    for name, truth in zip("uv", rotation(stations), strict=True):
        np.testing.assert_allclose(result[name], truth, atol=0.01)


@examples(10)
@given(chunk=st.integers(1, 3), other=st.integers(1, 3))
def test_lazy_winds_have_the_same_bits(chunk: int, other: int) -> None:
    ds = winds()
    ds["u"][1, 3, 4] = np.nan
    eager = to_healpix(ds, 3)
    lazy = to_healpix(ds.assign(u=ds["u"].chunk(time=chunk), v=ds["v"].chunk(time=other)), 3)
    for name in "uv":
        assert lazy[name].compute().values.tobytes() == eager[name].values.tobytes()


def test_a_pair_costs_few_tasks() -> None:
    blocks = [
        da.from_delayed(dask.delayed(np.zeros)((1, 25, 48), "f4"), (1, 25, 48), "f4")
        for _ in range(10)
    ]
    source = da.concatenate(blocks)
    ds = winds(n_times=10)
    lazy = ds.copy(data={"u": source, "v": source + 1})
    calls = []

    def refuse(graph, keys, **kwargs):
        calls.append(keys)
        raise AssertionError("computed while building")

    with dask.config.set(scheduler=refuse):
        result = to_healpix(lazy, 3)
    assert not calls
    assert result["u"].chunks == ((1,) * 10, (768,))
    count = [
        sum(not isinstance(task, Alias) for task in dict(found.__dask_graph__()).values())
        for found in dask.optimize(lazy, result)
    ]
    # a block of both components is one task, and two more take them apart
    assert count[1] - count[0] <= 3 * 10
