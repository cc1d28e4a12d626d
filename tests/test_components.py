"""Components of vectors: found by what files call them, never taken for each other."""

import warnings

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.test_vectors import CENTRED, rotation
from xsphere.grids import HealpixGrid
from xsphere.model.vector_names import component_pairs, lone_components, units_factor
from xsphere.regridding import LoneComponentWarning

MS = {"units": "m s**-1"}
UNKNOWN = {"standard_name": "unknown"}


def named(*pairs) -> list[tuple[str, str, dict]]:
    return [(east, north, MS) for east, north in pairs]


PAIRS = [
    *named(("u", "v"), ("u10", "v10"), ("u100", "v100"), ("u10n", "v10n"), ("10u", "10v")),
    *named(("ua", "va"), ("uas", "vas"), ("ua850", "va850"), ("uo", "vo"), ("U", "V")),
    *named(("UBOT", "VBOT"), ("U850", "V850"), ("U_850", "V_850"), ("u_10m", "v_10m")),
    *named(("UGRD_10maboveground", "VGRD_10maboveground"), ("ugrd10m", "vgrd10m")),
    *named(("uwnd", "vwnd"), ("uwind", "vwind"), ("wind_u", "wind_v"), ("water_u", "water_v")),
    *named(("u_component_of_wind", "v_component_of_wind"), ("uvel", "vvel"), ("ssu", "ssv")),
    *named(("10m_u_component_of_wind", "10m_v_component_of_wind"), ("usi", "vsi")),
    *named(("zonal_wind", "meridional_wind"), ("eastward_wind", "northward_wind")),
    *named(("vozocrtx", "vomecrty"), ("U10M", "V10M")),
    ("UU", "VV", {"units": "knots"}),
    ("tauu", "tauv", {"units": "Pa"}),
    ("TAUX", "TAUY", {"units": "N m-2"}),
    ("sozotaux", "sometauy", {"units": "N/m2"}),
    ("ivte", "ivtn", {"units": "kg m**-1 s**-1"}),
    ("IVT_u", "IVT_v", {"units": "kg m-1 s-1"}),
    ("u", "v", {}),
    ("u10", "v10", UNKNOWN),
]


def field(**attrs) -> xr.DataArray:
    return xr.DataArray(np.zeros((2, 3)), dims=("y", "x"), attrs=attrs)


@pytest.mark.parametrize(("east", "north", "attrs"), PAIRS, ids=[f"{e} {n}" for e, n, _ in PAIRS])
def test_names_of_components(east, north, attrs) -> None:
    ds = {north: field(**attrs), "t": field(units="K"), east: field(**attrs)}
    assert component_pairs(ds) == [(east, north)]
    assert lone_components(ds, [(east, north)]) == []
    if "units" in attrs and east not in ("ivte", "ssu", "usi", "vozocrtx", "sozotaux", "IVT_u"):
        assert lone_components({east: ds[east], "t": ds["t"]}, []) in ([east], [])


LONG_NAMES = [
    ("10 metre U wind component", "10 metre V wind component"),
    ("U component of wind", "V component of wind"),
    ("u-component of wind @ Isobaric surface", "v-component of wind @ Isobaric surface"),
    ("Eastward wind at 10 m", "Northward wind at 10 m"),
    ("Zonal Velocity", "Meridional Velocity"),
    ("Eastward turbulent surface stress", "Northward turbulent surface stress"),
]


@pytest.mark.parametrize(("east", "north"), LONG_NAMES)
def test_long_names_of_components(east, north) -> None:
    ds = {
        f"var{131 + i}": field(long_name=name, **MS, **UNKNOWN)
        for i, name in enumerate((east, north))
    }
    assert component_pairs(ds) == [("var131", "var132")]
    assert lone_components({"var131": ds["var131"]}, []) == ["var131"]


UNRELATED = {
    "friction velocity": {"u": MS | {"long_name": "Friction velocity"}, "v": MS},
    "standard names win": {"u": MS | {"standard_name": "friction_velocity"}, "v": MS},
    "specific volume": {"u": MS, "v": {"units": "m3 kg-1", "long_name": "specific volume"}},
    "vorticity": {"uo": MS, "vo": {"units": "s**-1"}},
    "heights": {"u10": MS, "v100": MS},
    "heights, standard names": {
        "u10": MS | {"standard_name": "eastward_wind"},
        "v100": MS | {"standard_name": "northward_wind"},
    },
    "heights, long names": {
        "a": MS | {"long_name": "10 metre U wind component"},
        "b": MS | {"long_name": "100 metre V wind component"},
    },
    "temperatures": {"tx": {"units": "K"}, "ty": {"units": "K"}},
    "zonal mean": {"a": MS | {"long_name": "Zonal mean of speed"}, "b": MS},
    "wind and current": {
        "a": MS | {"standard_name": "eastward_wind"},
        "b": MS | {"standard_name": "northward_sea_water_velocity"},
    },
}


@pytest.mark.parametrize("attrs", UNRELATED.values(), ids=UNRELATED)
def test_unrelated_variables_are_no_pair(attrs) -> None:
    assert component_pairs({name: field(**a) for name, a in attrs.items()}) == []


def test_pairs_need_one_height_and_one_shape() -> None:
    u, v = field(**MS), field(**MS)
    assert component_pairs({"u": u.assign_coords(height=10.0), "v": v.assign_coords(height=10.0)})
    assert not component_pairs(
        {"u": u.assign_coords(height=10.0), "v": v.assign_coords(height=2.0)}
    )
    assert not component_pairs({"u": u, "v": v.isel(y=0)})
    many = {name: field(**MS) for name in ("v10", "u100", "u10", "v100", "u", "v")}
    assert component_pairs(many) == [("u100", "v100"), ("u10", "v10"), ("u", "v")]


def winds(names=("u10", "v10"), **attrs) -> xr.Dataset:
    coords = {
        "lat": ("lat", CENTRED.lat, {"units": "degrees_north"}),
        "lon": ("lon", CENTRED.lon, {"units": "degrees_east"}),
    }
    parts = (part.reshape(CENTRED.shape) for part in rotation(CENTRED))
    return xr.Dataset(
        {n: (("lat", "lon"), p, MS | attrs) for n, p in zip(names, parts, strict=True)}, coords
    )


@pytest.mark.parametrize(("east", "north", "attrs"), PAIRS[:8] + PAIRS[-6:])
def test_a_flow_across_the_pole_stays_one(east, north, attrs) -> None:
    ds = winds((east, north))
    for name in ds:
        ds[name].attrs = dict(attrs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hp = xsphere.to_healpix(ds, 3)
    truth = rotation(HealpixGrid(3))
    assert max(abs(hp[n] - t).max() for n, t in zip((east, north), truth, strict=True)) < 0.05
    xr.testing.assert_identical(
        hp, xsphere.to_healpix(ds, 3, vectors=[(east, north)]).transpose(*hp.dims)
    )


@pytest.mark.parametrize("name", ["u10", "v", "10u", "uas", "UGRD_10maboveground", "uwnd"])
def test_a_lone_component_by_its_name_is_warned_of(name) -> None:
    lone = winds((name, "other")).drop_vars("other")
    with pytest.warns(LoneComponentWarning, match=rf"\['{name}'\] are components"):
        xsphere.to_healpix(lone, 2)
    with pytest.warns(LoneComponentWarning, match=rf"\['{name}'\]"):
        xsphere.to_healpix(lone[name], 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xsphere.to_healpix(lone, 2, vectors=None)
        xsphere.to_healpix(lone.sel(lat=slice(-60, 60)), 2)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_components_in_different_units_are_turned_in_one(told, lazy) -> None:
    ds = winds()
    mixed = ds.assign(u10=(ds.u10 * 3.6).assign_attrs(units="km/h"))
    mixed = mixed.chunk() if lazy else mixed
    vectors = [("u10", "v10")] if told else "auto"
    hp, true = (xsphere.to_healpix(d, 3, vectors=vectors) for d in (mixed, ds))
    assert hp.u10.attrs["units"] == "km/h"
    np.testing.assert_allclose(hp.u10 / 3.6, true.u10, atol=1e-12)
    np.testing.assert_allclose(hp.v10, true.v10, atol=1e-12)
    assert units_factor(mixed.u10, mixed.v10) == pytest.approx(3.6)


def test_units_that_do_not_convert_are_refused() -> None:
    ds = winds()
    ds["v10"].attrs["units"] = "K"
    with pytest.raises(ValueError, match=r"'u10' is in 'm s\*\*-1', 'v10' in 'K', which do not"):
        xsphere.to_healpix(ds, 2, vectors=[("u10", "v10")])


def test_derivatives_of_winds_find_the_same_pair() -> None:
    ds = winds()
    told = xsphere.vorticity(ds, u="u10", v="v10")
    xr.testing.assert_identical(xsphere.vorticity(ds), told)
    xr.testing.assert_identical(
        xsphere.divergence(ds, u="u10", v="v10"), xsphere.divergence(ds.assign(t=ds.u10 * 0))
    )


def test_networks_get_winds_turned_in_one_unit() -> None:
    from tests.toys import storm_dataset, storm_model

    model = storm_model()
    ds = storm_dataset(n_times=2)
    names = [v.name for v in model.spec.variables if v.standard_name == "eastward_wind"]
    assert names
    mixed = ds.assign(
        {n: (ds[n] * 3.6).assign_attrs(ds[n].attrs | {"units": "km h-1"}) for n in names}
    )
    one, other = (xsphere.segment(d, model, output="probability") for d in (ds, mixed))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_training_on_winds_without_standard_names_is_warned_of() -> None:
    from tests.test_fitting import trained, windy_labels
    from tests.toys import storm_dataset

    ds = storm_dataset(n_times=4)
    labels = windy_labels(ds)
    bare = ds.rename(U850="u850", V850="v850")
    for name in ("u850", "v850"):
        bare[name].attrs = dict(MS) | UNKNOWN
    options = {"variables": ["PSL", "u850", "v850"], "derived": ()}
    with pytest.warns(LoneComponentWarning, match=r"\('u850', 'v850'\).*eastward_wind"):
        trained(bare, labels, **options)
