"""Angles that go round: directions as vectors, phases by sine and cosine."""

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.conventions.angles import Angle, angle_of
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors, tangent_vectors
from xsphere.weights import regrid_fields
from xsphere.weights.vectors import regrid_angles

SOURCE = LatLonGrid(np.arange(72) * 5.0, np.linspace(-87.5, 87.5, 36))
METHODS = ("nearest", "bilinear", "conservative", "conservative2")
FROM_NORTH, ROUND = (
    {"units": "degree", "standard_name": "wind_from_direction"},
    {"units": "degrees"},
)


def on_latlon(values, name="d", **attrs) -> xr.DataArray:
    coords = {
        "lat": ("lat", SOURCE.lat, {"units": "degrees_north"}),
        "lon": ("lon", SOURCE.lon, {"units": "degrees_east"}),
    }
    return xr.DataArray(
        np.asarray(values).reshape(SOURCE.shape), coords, ("lat", "lon"), name, attrs=attrs
    )


def flow(grid, axis=(40.0, 25.0)) -> np.ndarray:
    """Direction in degrees of a solid rotation about an axis."""
    velocity = np.cross(lonlat_to_vectors(*axis), grid.centres)
    east, north = tangent_vectors(*grid.centre_lonlat)
    return np.degrees(np.arctan2((velocity * east).sum(-1), (velocity * north).sum(-1))) % 360


def apart(one, other) -> np.ndarray:
    return abs((np.asarray(one) - np.asarray(other) + 180) % 360 - 180)


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("values", [(350.0, 10.0), (0.0, 359.0), (180.0, 182.0)], ids=str)
def test_neighbouring_directions_have_their_middle(method, values) -> None:
    stripes = np.broadcast_to(np.resize(values, SOURCE.lon.size), SOURCE.shape)
    middle = values[0] + ((values[1] - values[0] + 180) % 360 - 180) / 2
    for attrs in (FROM_NORTH, {"units": "degrees", "long_name": "Mean wave direction"}):
        result = xsphere.to_healpix(on_latlon(stripes, **attrs), 3, method=method)
        here = abs(HealpixGrid(3).centre_lonlat[1]) < 45
        assert apart(result, middle)[here].max() <= 12
        assert result.min() >= 0
        assert result.max() < 360


@pytest.mark.parametrize("method", METHODS)
def test_a_flow_across_the_poles_keeps_its_direction(method) -> None:
    target = HealpixGrid(3)
    found = xsphere.to_healpix(on_latlon(flow(SOURCE), **FROM_NORTH), 3, method=method)
    slow = np.linalg.norm(np.cross(lonlat_to_vectors(40.0, 25.0), target.centres), axis=-1) < 0.35
    error = apart(found, flow(target))
    assert error[~slow].max() < (12 if method == "nearest" else 8)
    assert "direction regridding" in found.attrs["cell_methods"]


@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS), st.sampled_from([360.0, 2 * np.pi]))
@examples(10)
def test_phases_go_by_sine_and_cosine(seed, method, turn) -> None:
    source, target = HealpixGrid(2), HealpixGrid(1)
    values = np.random.default_rng(seed).uniform(-turn, 2 * turn, source.n_cells)
    found = regrid_angles(values, source, target, turn=turn, from_north=False, method=method)
    unit = np.exp(2j * np.pi * values / turn)
    parts = [regrid_fields(p, source, target, method=method) for p in (unit.real, unit.imag)]
    mean = parts[0] + 1j * parts[1]
    clear = abs(mean) > 1e-3
    np.testing.assert_allclose(
        np.exp(2j * np.pi * found / turn)[clear], (mean / abs(mean))[clear], atol=1e-9
    )
    assert ((found >= 0) & (found < turn)).all()


def test_opposite_directions_have_none_between_them() -> None:
    values = np.tile([0.0, 180.0, 0.0, 180.0], 12)
    grids = HealpixGrid(1), HealpixGrid(0)
    found = regrid_angles(values, *grids, turn=360.0, from_north=False, method="conservative")
    assert np.isnan(found).all()
    values[:4] = np.nan, 30.0, 30.0, 30.0
    found = regrid_angles(values, *grids, turn=360.0, from_north=False, method="conservative")
    assert found[0] == pytest.approx(30.0)


def test_types_laziness_and_the_same_grid() -> None:
    values = np.tile([350, 10, 350, 10], 12)
    for dtype in ("i2", "f4", "f8"):
        field = xr.DataArray(values.astype(dtype), dims="cells", attrs=FROM_NORTH, name="wd")
        field = describe_healpix(field, HealpixGrid(1))
        coarse = xsphere.coarsen(field, 0)
        assert coarse.dtype == np.result_type(dtype, "f4")
        assert apart(coarse, 0.0).max() < 25
        lazy = xsphere.coarsen(field.chunk(), 0)
        assert isinstance(lazy.data, dask.array.Array)
        np.testing.assert_array_equal(lazy, coarse)
        np.testing.assert_array_equal(xsphere.coarsen(field, 1), field)


def test_a_pyramid_and_stations_get_directions(tmp_path) -> None:
    field = on_latlon(flow(SOURCE), **FROM_NORTH)
    path = xsphere.write_pyramid(field, tmp_path / "p.zarr", levels=[2, 1])
    with xr.open_zarr(path, group="2") as written:
        assert np.median(apart(written.d, flow(HealpixGrid(2)))) < 2
    stations = PointGrid([12.0, 300.0], [89.9, -70.0])
    found = xsphere.regrid(field, stations, method="bilinear")
    assert apart(found, flow(stations)).max() < 5


ANGLES = {
    "wind_to_direction": ("x", {"standard_name": "wind_to_direction"}, True),
    "wave": ("mwd", {"units": "Degree true"}, True),
    "GRIB": ("wdir", {"units": "degree true"}, True),
    "GFS": ("WDIR_10maboveground", {"units": "degrees"}, True),
    "METAR": ("drct", {"units": "deg"}, True),
    "azimuth": ("x", {"standard_name": "solar_azimuth_angle", "units": "degree"}, True),
    "aspect": ("x", {"long_name": "aspect of the slope's normal", "units": "rad"}, None),
    "radians": ("wind_direction", {"units": "radian"}, True),
    "phase": ("pha", {"long_name": "Phase of M2", "units": "degrees"}, False),
    "longitude": ("x", {"standard_name": "longitude", "units": "degrees_east"}, False),
    "zenith": ("x", {"standard_name": "solar_zenith_angle", "units": "degree"}, None),
    "spread": ("x", {"long_name": "wave directional spread", "units": "degree"}, None),
    "latitude": ("x", {"standard_name": "latitude", "units": "degrees_north"}, None),
    "temperature": ("x", {"long_name": "in wind direction", "units": "degC"}, None),
    "period": ("mwp", {"units": "s"}, None),
}


@pytest.mark.parametrize("case", ANGLES.values(), ids=ANGLES)
def test_angles_are_told_from_numbers(case) -> None:
    name, attrs, from_north = case
    turn = 2 * np.pi if str(attrs.get("units", "")).startswith("rad") else 360.0
    expected = None if from_north is None else Angle(turn, from_north)
    assert angle_of(xr.DataArray([1.0], attrs=attrs, name=name)) == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda f: xsphere.filter(f, "heat", scale=2000.0),
        xsphere.gradient,
        lambda f: xsphere.power_spectrum(xsphere.to_healpix(f, 2)),
    ],
)
def test_what_is_for_numbers_refuses_directions(call) -> None:
    with pytest.raises(ValueError, match=r"\['d'\] are angles that go round.*np.sin"):
        call(on_latlon(flow(SOURCE), **FROM_NORTH))


def test_no_network_learns_from_directions() -> None:
    ds = xsphere.sample_dataset()[["PSL"]]
    ds["wd"] = (ds.PSL * 0).assign_attrs(FROM_NORTH)
    lows = (ds.PSL < 99000.0).astype("u1").assign_attrs(mask_attributes(["low"]))
    with pytest.raises(ValueError, match=r"\['wd'\] are angles that go round"):
        xsphere.fit(ds, lows, level=3, validation=0.5, progress=False)


@pytest.mark.parametrize("lat", [0.0, 89.0, -60.0])
@pytest.mark.parametrize("attrs", [FROM_NORTH, ROUND | {"long_name": "phase"}], ids=["N", "phase"])
def test_events_have_the_mean_of_unit_vectors(lat, attrs) -> None:
    grid = HealpixGrid(4)
    near = grid.centres @ lonlat_to_vectors(100.0, lat) > np.cos(np.deg2rad(12))
    storms = xr.DataArray(near.astype("u1"), dims="cells", attrs=mask_attributes(["storm"]))
    constant = "standard_name" not in attrs
    rng = np.random.default_rng(0)
    values = (357.0 if constant else flow(grid)) + rng.uniform(-5, 5, grid.n_cells)
    values[np.flatnonzero(near)[0]] = np.nan
    fields = xr.Dataset({"d": ("cells", values % 360, attrs), "t": ("cells", values)})
    found = xsphere.events(describe_healpix(storms, grid), describe_healpix(fields, grid))
    here = PointGrid(found.lon.values, found.lat.values)
    assert apart(found.d_mean, 357.0 if constant else flow(here)).max() < 3
    assert {"t_max", "t_min"} <= set(found)
    assert not {"d_max", "d_min"} & set(found)
    empty = xsphere.events(
        describe_healpix(storms, grid), describe_healpix(fields, grid), min_area=1e9
    )
    assert set(empty) == set(found)
