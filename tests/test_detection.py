"""Published rules: what they say, on fields made for it and on real ones."""

import os
import re
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.spatial import ConvexHull

import xsphere
from tests.test_region_shapes import DEGREE, band
from tests.test_regions import cells_within
from xsphere.conventions import describe_healpix, horizontal_grid
from xsphere.detection.rules import RULES
from xsphere.grids import (
    EARTH_RADIUS_KM,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    lonlat_to_vectors,
    tangent_vectors,
)

GRIDS = {
    "healpix": HealpixGrid(5),
    "latlon": LatLonGrid(np.arange(0, 360, 2.0), np.arange(-90, 91, 2.0)),
}
on_grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
RIVER = "atmospheric_river"


def on(grid, **fields):
    """Fields of one step as a dataset."""
    units = {"IVT_u": "kg m-1 s-1", "IVT_v": "kg m-1 s-1", "TMQ": "kg m-2", "PSL": "Pa"}
    units |= {"Z300": "m", "Z500": "m", "Z200": "m", "Z1000": "m", "T200": "K", "T500": "K"}
    units |= {"U850": "m s-1", "V850": "m s-1"}
    arrays = {
        name: (("time", "cells"), values[None].astype(np.float32), {"units": units[name]})
        for name, values in fields.items()
    }
    ds = xr.Dataset(arrays, {"time": [np.datetime64("2001-01-01", "ns")]})
    if isinstance(grid, HealpixGrid):
        return describe_healpix(ds, grid)
    shaped = {
        name: (("time", "lat", "lon"), array.values.reshape(1, *grid.shape), array.attrs)
        for name, array in ds.items()
    }
    lon, lat = ("lon", grid.lon), ("lat", grid.lat)
    return xr.Dataset(shaped, {"time": ds.time, "lon": lon, "lat": lat})


def found(ds, *rule, **settings):
    return xsphere.detect(ds, *rule, **settings).values.ravel()


@on_grids
def test_thresholds_and_shapes_decide(grid):
    long, _ = band(grid, 200, 20, 240, 45, 6)
    short, _ = band(grid, 20, -30, 30, -30, 6)
    wide = np.zeros(grid.n_cells, bool)
    wide[cells_within(grid, 100, 0, 20)] = True
    strength = 50 + 400 * (long | short | wide)
    vapour = 5 + 30 * (long | short | wide)
    ds = on(grid, IVT_u=strength, IVT_v=0 * strength, TMQ=vapour)
    ralph = found(ds, RIVER, "ralph")
    assert (ralph == long).all()
    # these have no limit of width
    assert (found(ds, RIVER, "rutz") == (long | wide)).all()
    assert (found(ds, RIVER, "gershunov") == (long | short | wide)).all()
    assert (found(ds, RIVER, "gershunov", min_length=2000) == (long | wide)).all()
    assert (found(ds, RIVER, "rutz", min_length=500) == (long | short | wide)).all()
    assert not found(ds, RIVER, "rutz", min_transport=500).any()
    dry = ds.assign(TMQ=ds.TMQ * 0 + 10).assign(TMQ=lambda d: d.TMQ.assign_attrs(units="kg m-2"))
    assert not found(dry, RIVER, "gershunov").any()


@on_grids
def test_guan_waliser_wants_flow_along_and_poleward(grid):
    river, _ = band(grid, 200, 20, 240, 45, 6)
    ways = {"along": (300, 300), "across": (300, -300), "equatorward": (-300, -300)}
    results = {}
    for name, (east, north) in ways.items():
        ds = on(grid, IVT_u=east * river, IVT_v=north * river)
        results[name] = found(ds, RIVER, "guan_waliser", threshold=150.0)
    assert (results["along"] == river).all()
    assert not results["across"].any()
    assert not results["equatorward"].any()
    ds = on(grid, IVT_u=300 * river, IVT_v=300 * river)
    assert not found(ds, RIVER, "guan_waliser", threshold=500.0).any()
    field = (ds.IVT_u[0] * 0 + 500).drop_vars("time")
    assert not found(ds, RIVER, "guan_waliser", threshold=field).any()


def unstructured(kind):
    """A place for fields: triangles of a UGRID mesh without centres, or points of a region."""
    points = PointGrid.fibonacci(4000)
    if kind == "mesh":
        mesh = {"cf_role": "mesh_topology", "topology_dimension": 2}
        mesh |= {"node_coordinates": "x y", "face_node_connectivity": "corners"}
        corners = ConvexHull(points.centres).simplices
        return xr.Dataset(
            {
                "mesh": ((), 0, mesh),
                "corners": (("cells", "corner"), corners, {"start_index": 0}),
                "x": ("node", points.lon, {"standard_name": "longitude"}),
                "y": ("node", points.lat, {"standard_name": "latitude"}),
            }
        )
    inside = (points.lat > -10) & (points.lat < 70) & (points.lon > 120) & (points.lon < 280)
    lon, lat = ("cells", points.lon[inside]), ("cells", points.lat[inside])
    return xr.Dataset(coords={"lon": lon, "lat": lat})


@pytest.mark.parametrize("kind", ["mesh", "region"])
def test_rules_find_the_same_on_unstructured_grids(kind):
    place = unstructured(kind)
    grid = horizontal_grid(place).grid
    long, _ = band(grid, 200, 20, 240, 45, 6)
    short, _ = band(grid, 160, 30, 170, 30, 6)
    low, core = storm(grid, 140, 15, 2000, 60)
    cold, chill = storm(grid, 200, 45, 2000, -60)
    fields = {"IVT_u": 50 + 400.0 * (long | short), "IVT_v": 0.0 * long, "Z500": 5500 + 0 * low}
    fields |= {"PSL": 101000 + low + cold, "Z300": 9000 + core + chill}
    units = {"IVT_u": "kg m-1 s-1", "IVT_v": "kg m-1 s-1", "PSL": "Pa", "Z300": "m", "Z500": "m"}
    attrs = {"mesh": "mesh", "location": "face"} if kind == "mesh" else {}
    ds = place.assign(
        {n: (("time", "cells"), f[None], {"units": units[n]} | attrs) for n, f in fields.items()}
    ).assign_coords(time=[np.datetime64("2001-01-01", "ns")])
    rivers = xsphere.detect(ds.chunk(time=1), RIVER, "rutz")
    np.testing.assert_array_equal(rivers.values[0], long)
    (river,) = xsphere.events(rivers).area.values
    assert river == pytest.approx((grid.areas @ long) * EARTH_RADIUS_KM**2, rel=0.02)
    cyclones = xsphere.track(xsphere.detect(ds, "tropical_cyclone"))
    assert cyclones.sizes["event"] == 1
    assert _apart(cyclones.lon.item(), cyclones.lat.item(), 140, 15) < 200


@on_grids
def test_the_laplacian_is_that_of_harmonics(grid):
    """The Laplacian of a spherical harmonic of degree n is -n (n + 1) times the harmonic."""
    from xsphere.detection.rivers import _cells_around

    x = grid.centres
    field = x[:, 0] ** 2 - x[:, 1] ** 2
    around = field[_cells_around(grid, 10 * DEGREE)].mean(axis=1)
    laplacian = 4 * (around - field) / np.deg2rad(10) ** 2
    # of nearest cells, as in the original: these are up to a degree off
    assert np.abs(laplacian + 6 * field).max() < 0.25 * 6
    assert np.sqrt(np.mean((laplacian + 6 * field) ** 2)) < 0.08 * 6
    distance = np.linalg.norm(x[_cells_around(grid, 10 * DEGREE)] - x[:, None], axis=-1)
    assert np.rad2deg(2 * np.arcsin(distance / 2)).mean() == pytest.approx(10, abs=0.3)


@on_grids
def test_tempest_finds_ridges_of_transport_away_from_the_equator(grid):
    river, _ = band(grid, 200, 25, 240, 45, 6)
    tropics, _ = band(grid, 60, 0, 100, 0, 6)
    ds = on(grid, IVT_u=800.0 * (river | tropics), IVT_v=0.0 * river)
    mask = found(ds, RIVER, "tempest")
    assert mask[river == 1].mean() > 0.9
    assert not mask[tropics == 1].any()
    assert found(ds, RIVER, "tempest", min_latitude=0)[tropics == 1].mean() > 0.9
    assert not found(ds, RIVER, "tempest", min_area=1e8).any()


def storm(grid, lon, lat, depth, warm, radius=3.0):
    """A low of so many Pa with a core that is so many m thicker."""
    centre = grid.centres[grid.cells_at(np.array([lon]), np.array([lat]))[0]]
    away = np.rad2deg(np.arccos(np.clip(grid.centres @ centre, -1, 1)))
    shape = np.exp(-((away / radius) ** 2))
    return -depth * shape, warm * shape


@on_grids
@pytest.mark.parametrize("lon", [0.0, 359.0, 140.0])
def test_a_warm_low_is_a_cyclone_and_a_cold_one_is_not(grid, lon):
    low, core = storm(grid, lon, 15, 2000, 60)
    cold, chill = storm(grid, 220, 45, 2000, -60)
    weak, warm = storm(grid, 80, -15, 150, 60)
    ds = on(
        grid,
        PSL=101000 + low + cold + weak,
        Z300=9600 + core + chill + warm,
        Z500=np.full(grid.n_cells, 5800.0),
    )
    events = xsphere.events(xsphere.detect(ds, "tropical_cyclone"))
    assert events.sizes["event"] == 1
    assert events.lat.item() == pytest.approx(15, abs=2)
    assert (events.lon.item() - lon + 180) % 360 - 180 == pytest.approx(0, abs=2)
    radius = np.sqrt(events.area.item() / np.pi)
    assert 100 < radius < 5.5 * DEGREE
    # an open contour: pressure that falls on to one side for ever
    slope = 3000 * (grid.centres[:, 1] - 1)
    open_low = ds.assign(PSL=ds.PSL + 20 * slope.reshape(ds.PSL.shape).astype(np.float32))
    open_low.PSL.attrs["units"] = "Pa"
    assert xsphere.events(xsphere.detect(open_low, "tropical_cyclone")).sizes["event"] == 0


def test_of_lows_near_each_other_the_deepest_counts():
    grid = GRIDS["healpix"]
    one, core = storm(grid, 100, 15, 2500, 60, radius=1.6)
    other, second = storm(grid, 104.5, 15, 2000, 60, radius=1.6)
    fields = {"Z300": 9600 + core + second, "Z500": np.full(grid.n_cells, 5800.0)}
    ds = on(grid, PSL=101000 + one + other, **fields)
    options = {"min_pressure_rise": 1000.0, "pressure_distance": 400.0}
    together = xsphere.events(xsphere.detect(ds, "tropical_cyclone", **options))
    assert together.lon.values.round(-1).tolist() == [100]
    apart = xsphere.detect(ds, "tropical_cyclone", merge_distance=100.0, **options)
    assert xsphere.events(apart).sizes["event"] == 2


def vortex(grid, lon, lat, speed, radius=2.5):
    """Winds that turn cyclonically around a place, fastest at so many degrees from it."""
    centre = grid.centres[grid.cells_at(np.array([lon]), np.array([lat]))[0]]
    away = np.rad2deg(np.arccos(np.clip(grid.centres @ centre, -1, 1)))
    around = np.cross(centre, grid.centres) * np.sign(lat)
    size = np.linalg.norm(around, axis=-1, keepdims=True)
    ways = np.divide(around, size, out=np.zeros_like(around), where=size > 1e-9)
    profile = speed * away / radius * np.exp((1 - (away / radius) ** 2) / 2)
    east, north = tangent_vectors(*grid.centre_lonlat)
    return tuple(profile * (ways * way).sum(-1) for way in (east, north))


def cyclone_fields(grid, lat=18, depth=3000, radius=3.0):
    """A cyclone that both rules find."""
    low, core = storm(grid, 140, lat, depth, 120, radius)
    u, v = vortex(grid, 140, lat, 45)
    return {
        "U850": u,
        "V850": v,
        "PSL": 101000 + low,
        "T200": 220 + core / 30,
        "T500": 265 + core / 30,
        "Z200": 12000 + core,
        "Z300": 9600 + core,
        "Z500": np.full(grid.n_cells, 5800.0),
        "Z1000": np.full(grid.n_cells, 100.0),
    }


@on_grids
@pytest.mark.parametrize("rule", ["tempest", "gfdl"])
def test_a_hole_beside_a_storm_does_not_hide_it(grid, rule):
    fields = cyclone_fields(grid)
    rank = np.argsort(fields["PSL"])
    for nth in (3, 6, 12):
        holed = fields["PSL"].copy()
        holed[rank[nth]] = np.nan
        mask = found(on(grid, **fields | {"PSL": holed}), "tropical_cyclone", rule)
        assert mask[rank[nth]] == 254
        assert (mask == 1).sum() >= 1
        near = np.rad2deg(np.arccos(grid.centres[mask == 1] @ grid.centres[rank[0]]))
        assert near.max() < 8


@pytest.mark.parametrize("rule", ["tempest", "gfdl"])
def test_a_contour_is_not_closed_at_the_edge_of_a_region(rule):
    grid = GRIDS["latlon"]
    ds = on(grid, **cyclone_fields(grid, depth=1000, radius=5.0))
    for east, there in ((140, False), (142, False), (170, True)):
        part = ds.sel(lon=slice(100, east), lat=slice(-10, 50))
        assert (xsphere.detect(part, "tropical_cyclone", rule) == 1).any() == there
    # nor at a hole as large as that
    holed = ds.where((ds.lon < 142) | (ds.lon > 200))
    assert not (xsphere.detect(holed, "tropical_cyclone", rule) == 1).any()


@on_grids
def test_what_a_stencil_needs_is_never_made_up(grid):
    lat = grid.centre_lonlat[1]
    usual = 5900 - 800 * np.sin(np.deg2rad(lat)) ** 2
    usual[(lat > 20) & (lat < 40)] = np.nan
    assert not (found(on(grid, Z500=usual), "blocking", "gradient") == 1).any()
    river, _ = band(grid, 200, 25, 240, 45, 6)
    flow = np.where(river, 800.0, 300.0)
    flow[(lat > 50) & (lat < 70)] = np.nan
    mask = found(on(grid, IVT_u=flow, IVT_v=0 * flow), RIVER, "tempest")
    assert not (mask == 1)[~river].sum() > 0.1 * river.sum()


def test_a_region_has_the_blocks_of_the_globe_or_none():
    grid = GRIDS["latlon"]
    high, _ = storm(grid, 10, 60, -400, 0, radius=12)
    usual = 5900 - 800 * np.sin(np.deg2rad(grid.centre_lonlat[1])) ** 2
    ds = on(grid, Z500=usual + high)
    whole = xsphere.detect(ds, "blocking", "gradient") == 1
    part = xsphere.detect(ds.sel(lat=slice(50, 80)), "blocking", "gradient") == 1
    assert not (part & ~whole.sel(lat=slice(50, 80))).any()
    larger = xsphere.detect(ds.sel(lat=slice(20, 90)), "blocking", "gradient") == 1
    inner = {"lat": slice(36, 74)}
    np.testing.assert_array_equal(larger.sel(inner), whole.sel(inner))


@on_grids
@pytest.mark.parametrize("lat", [18, -18])
def test_gfdl_wants_vorticity_a_low_and_two_warm_cores(grid, lat):
    fields = cyclone_fields(grid, lat)
    low, core = fields["PSL"] - 101000, fields["Z200"] - 12000
    u, v = fields["U850"], fields["V850"]
    rule = ("tropical_cyclone", "gfdl")
    events = xsphere.events(xsphere.detect(on(grid, **fields), *rule))
    assert events.sizes["event"] == 1
    assert events.lon.item() == pytest.approx(140, abs=2)
    assert events.lat.item() == pytest.approx(lat, abs=2)
    lacking = [
        {"U850": -u, "V850": -v},
        {"PSL": 101000 + 0.1 * low},
        {"T200": 220 - core / 30, "T500": 265 - core / 30},
        {"Z200": 12000 + 0.3 * core},
    ]
    for change in lacking:
        assert not found(on(grid, **fields | change), *rule).any()


@on_grids
def test_blocking_is_a_high_anomaly_or_reversed_gradient(grid):
    lat = grid.centre_lonlat[1]
    usual = 5900 - 800 * np.sin(np.deg2rad(lat)) ** 2
    high, _ = storm(grid, 10, 60, -400, 0, radius=12)
    tropical, _ = storm(grid, 200, 5, -400, 0, radius=12)
    ds = on(grid, Z500=usual + high + tropical)
    climatology = on(grid, Z500=usual).Z500.isel(time=0)
    anomaly = found(ds, "blocking", climatology=climatology)
    expected = (high >= 100) & (np.abs(lat) <= 75) & (np.abs(lat) >= 25)
    assert (anomaly == expected).all()
    larger = found(ds, "blocking", climatology=climatology, threshold=climatology * 0 + 200)
    assert (larger == expected & (high >= 200)).all()
    gradient = found(ds, "blocking", "gradient")
    assert 0 < (gradient & ~expected).sum() + gradient.sum() < 3 * expected.sum()
    blocked = np.flatnonzero(gradient)
    away = np.rad2deg(np.arccos(grid.centres[blocked] @ grid.centres[np.argmax(high)]))
    assert away.max() < 25
    assert not found(on(grid, Z500=usual), "blocking", "gradient").any()
    # a mirror image in the south
    mirrored, _ = storm(grid, 10, -60, -400, 0, radius=12)
    south = on(grid, Z500=usual + mirrored)
    assert found(south, "blocking", "gradient").sum() == pytest.approx(gradient.sum(), rel=0.05)


@on_grids
def test_several_numbers_give_the_share_that_finds_an_event(grid):
    long, _ = band(grid, 200, 20, 240, 45, 6)
    strength = 50 + 400.0 * long
    strength[np.flatnonzero(long)[0]] = np.nan
    ds = on(grid, IVT_u=strength, IVT_v=0 * strength)
    several = {"min_transport": (250, 300, 500), "min_length": (1000, 2000)}
    ensemble = xsphere.detect(ds.chunk(time=1), RIVER, "rutz", **several)
    assert ensemble.dtype == np.float32
    assert ensemble["class"].values.tolist() == ["background", RIVER]
    share = np.zeros(grid.n_cells)
    for transport in several["min_transport"]:
        for length in several["min_length"]:
            mask = found(ds, RIVER, "rutz", min_transport=transport, min_length=length)
            share += (mask == 1) / 6
    share[mask == 254] = np.nan
    np.testing.assert_allclose(ensemble.sel({"class": RIVER}).values.ravel(), share, rtol=1e-6)
    np.testing.assert_allclose(ensemble.sum("class", skipna=False).values.ravel(), share * 0 + 1)


@on_grids
def test_what_is_near_other_events_is_removed(grid):
    river, _ = band(grid, 200, 20, 240, 45, 6)
    values = np.tile(river.astype(np.uint8), (2, 1))
    values[:, np.flatnonzero(river)[-1]] = 254
    attrs = xsphere.conventions.mask_attributes([RIVER])
    ds = xr.concat([on(grid, TMQ=river), on(grid, TMQ=river)], "time")
    ds["time"] = np.array(["2001-01-01", "2001-01-02"], "M8[ns]")
    mask = ds.TMQ.copy(data=values.reshape(ds.TMQ.shape)).assign_attrs(attrs).astype("u1")
    tracks = xr.Dataset(
        {"lon": ("event", [200.0, 30.0]), "lat": ("event", [20.0, 0.0])},
        {"time": ("event", mask.time.values[[1, 1]])},
    )
    spot = np.argmax(grid.centres @ lonlat_to_vectors(200.0, 20.0))
    point = np.zeros_like(values)
    point[1, spot] = 1
    storms = mask.copy(data=point.reshape(mask.shape))
    for others, centre in ((tracks, lonlat_to_vectors(200.0, 20.0)), (storms, grid.centres[spot])):
        left = xsphere.remove_near(mask, others).values.reshape(2, -1)
        near = np.rad2deg(np.arccos(np.clip(grid.centres @ centre, -1, 1))) <= 8
        assert (left[0] == values[0]).all()
        assert (left[1] == np.where(near & (values[1] == 1), 0, values[1])).all()
        assert (left[1] == 0).sum() > (values[1] == 0).sum()
        lazy = xsphere.remove_near(mask.chunk(time=1), others)
        assert lazy.chunks is not None
        np.testing.assert_array_equal(lazy.values.reshape(2, -1), left)
    with pytest.raises(ValueError, match="no time of the tracks"):
        xsphere.remove_near(mask, tracks.assign_coords(time=tracks.time + np.timedelta64(1, "h")))
    with pytest.raises(TypeError, match="others must be a mask, or tracks"):
        xsphere.remove_near(mask, tracks.drop_vars("lon"))
    with pytest.raises(ValueError, match="needs masks with flag_values"):
        xsphere.remove_near(ds.TMQ, tracks)


@on_grids
def test_unknown_cells_are_invalid(grid):
    river, _ = band(grid, 200, 20, 240, 45, 6)
    ds = on(grid, IVT_u=400.0 * river, IVT_v=0.0 * river)
    hole = np.flatnonzero(river)[:3]
    values = ds.IVT_u.values.copy()
    values.reshape(-1)[hole] = np.nan
    mask = found(ds.assign(IVT_u=ds.IVT_u.copy(data=values)), RIVER, "rutz")
    assert (np.flatnonzero(mask == 254) == hole).all()
    assert (mask == 1).sum() == river.sum() - 3


def test_lazy_is_eager_and_nothing_is_computed_before():
    grid = GRIDS["latlon"]
    rng = np.random.default_rng(0)
    steps = [
        on(grid, IVT_u=400.0 * band(grid, 200 + 10 * n, 20, 240, 45, 6)[0],
           IVT_v=rng.normal(0, 20, grid.n_cells))
        .assign_coords(time=[np.datetime64("2001-01-01", "ns") + np.timedelta64(6 * n, "h")])
        for n in range(4)
    ]  # fmt: skip
    ds = xr.concat(steps, "time")
    expected = xsphere.detect(ds, RIVER, "rutz")

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy = ds.chunk(time=1).sphere.detect(RIVER, "rutz")
    xr.testing.assert_identical(lazy.compute(scheduler="sync"), expected)
    tracks = xsphere.track(expected)
    assert tracks.sizes["track"] == 1
    assert tracks.n_events.item() == 4


def test_units_are_converted():
    grid = GRIDS["latlon"]
    low, core = storm(grid, 100, 15, 2000, 60)
    ds = on(grid, PSL=101000 + low, Z300=9600 + core, Z500=np.full(grid.n_cells, 5800.0))
    hpa = ds.assign(PSL=(ds.PSL / 100).assign_attrs(units="hPa"))
    np.testing.assert_array_equal(found(hpa, "tropical_cyclone"), found(ds, "tropical_cyclone"))


class TestTransport:
    levels = np.array([1000.0, 925, 850, 700, 500, 300, 200])

    def dataset(self, order=slice(None), units="hPa"):
        rng = np.random.default_rng(0)
        lat, lon = np.linspace(-60, 60, 5), np.arange(0, 360, 45.0)
        shape = (2, self.levels.size, lat.size, lon.size)
        dims = ("time", "level", "lat", "lon")
        scale = 100 if units == "Pa" else 1
        ds = xr.Dataset(
            {
                "q": (dims, rng.uniform(0, 0.02, shape), {"units": "kg kg-1"}),
                "u": (dims, rng.normal(0, 10, shape), {"units": "m s-1"}),
                "v": (dims, rng.normal(0, 10, shape), {"units": "m s-1"}),
                "U850": (("time", "lat", "lon"), rng.normal(0, 1, (2, 5, 8)), {"units": "m s-1"}),
            },
            {"level": ("level", scale * self.levels, {"units": units}), "lat": lat, "lon": lon},
        )
        return ds.isel(level=order)

    def test_is_the_trapezoid_of_numpy_for_any_order_and_unit(self):
        ds = self.dataset()
        expected = -np.trapezoid(ds.q * ds.u, 100 * self.levels, axis=1) / 9.80665
        for other in (ds, self.dataset(slice(None, None, -1)), self.dataset([3, 0, 6, 1, 2, 5, 4]),
                      self.dataset(units="Pa")):  # fmt: skip
            found = xsphere.integrated_vapour_transport(other)
            np.testing.assert_allclose(found.IVT_u, expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(found.IVT, np.hypot(found.IVT_u, found.IVT_v), rtol=1e-6)

    def test_what_lies_below_the_ground_is_left_out(self):
        ds = self.dataset()
        surface = xr.full_like(ds.U850, 60000.0).assign_attrs(units="Pa")
        found = xsphere.integrated_vapour_transport(ds.assign(PS=surface))
        flux = (ds.q * ds.u).sel(level=[700, 500, 300, 200]).values
        at_ground = flux[:, 1] + (flux[:, 0] - flux[:, 1]) / 2
        column = np.stack([at_ground, flux[:, 1], flux[:, 2], flux[:, 3]], 1)
        expected = -np.trapezoid(column, 100 * np.array([600.0, 500, 300, 200]), axis=1) / 9.80665
        np.testing.assert_allclose(found.IVT_u, expected, rtol=1e-6, atol=1e-6)
        # what is missing there does no harm, nor what is absurd further down
        buried = ds.where(ds.level < 700).assign(PS=surface, U850=ds.U850)
        for name in ("q", "u", "v"):
            buried[name].attrs = ds[name].attrs
        assert np.isfinite(xsphere.integrated_vapour_transport(buried).IVT).all()
        without = xsphere.integrated_vapour_transport(buried.drop_vars("PS"))
        assert np.isnan(without.IVT).all()

    def test_components_that_are_there_are_taken(self):
        ds = self.dataset()
        own = xr.full_like(ds.U850, 3.0).assign_attrs(units="kg m-1 s-1")
        other = (own * 4 / 3).assign_attrs(units="kg m-1 s-1")
        found = xsphere.integrated_vapour_transport(ds.assign(viwve=own, viwvn=other))
        np.testing.assert_allclose(found.IVT, 5.0)

    def test_is_lazy(self):
        def refuse(*args, **kwargs):
            raise AssertionError("computed")

        ds = self.dataset().chunk(time=1, level=2)
        with dask.config.set(scheduler=refuse):
            lazy = xsphere.integrated_vapour_transport(ds)
        expected = xsphere.integrated_vapour_transport(self.dataset())
        xr.testing.assert_allclose(lazy.compute(scheduler="sync"), expected)

    def test_what_cannot_be_integrated_is_refused(self):
        ds = self.dataset()
        with pytest.raises(ValueError, match="Nor are there levels to integrate over"):
            xsphere.integrated_vapour_transport(ds.drop_vars("q"))
        with pytest.raises(ValueError, match="most of the moist air is left out"):
            xsphere.integrated_vapour_transport(ds.sel(level=slice(500, 200)))
        with pytest.raises(ValueError, match="units"):
            xsphere.integrated_vapour_transport(ds.assign(q=ds.q.assign_attrs(units="m")))


@pytest.mark.parametrize(
    ("rule", "settings", "words"),
    [
        (("storm",), {}, "event must be one of"),
        ((RIVER, "mine"), {}, r"the rules for atmospheric_river are \['gershunov'"),
        ((RIVER, "rutz"), {"min_vapour": 3.0}, r"'rutz' has the settings .*, not \['min_vapour'\]"),
        ((RIVER, "rutz"), {"min_length": "far"}, "min_length must be a number, or several"),
        ((RIVER, "guan_waliser"), {}, "needs threshold=: the 85th percentile"),
        (("blocking",), {}, "needs climatology=: the usual height"),
        (("blocking", "gradient"), {"climatology": 5500.0}, "'gradient' takes no climatology"),
        ((RIVER, "rutz"), {"min_length": [1e3, "far"]}, "min_length must be a number, or several"),
        ((RIVER, "rutz"), {"min_length": []}, "min_length must be a number, or several"),
        ((RIVER, "rutz"), {"threshold": 3.0}, "'rutz' takes no threshold"),
    ],
)
def test_rules_that_are_none_are_refused(rule, settings, words):
    zeros = np.zeros(180 * 91)
    ds = on(GRIDS["latlon"], IVT_u=zeros, IVT_v=zeros, Z500=zeros)
    with pytest.raises(ValueError, match=words):
        xsphere.detect(ds, *rule, **settings)


@pytest.mark.parametrize(("event", "rule"), [(e, r) for e in RULES for r in RULES[e]])
def test_all_that_a_rule_lacks_is_named_at_once(event, rule):
    other = on(GRIDS["latlon"], V850=np.zeros(180 * 91)).rename(V850="fog")
    other["fog"].attrs = {"units": "m"}
    with pytest.raises(ValueError, match="cannot read this dataset") as error:
        xsphere.detect(other, event, rule, min_fog=2.0)
    lines = str(error.value)
    lacking = [variable.name for variable in RULES[event][rule].variables]
    assert [name for name in lacking if f"\n  - {name}: missing" not in lines] == []
    assert all(f"{rule!r} needs {name}=" in lines for name in RULES[event][rule].needs)
    assert "not ['min_fog']" in lines


def test_the_table_of_rules_is_true():
    """Rules, arguments, defaults (whole km) and papers as the documentation states them."""
    text = (Path(__file__).parents[1] / "docs" / "tracks.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    assert [row[:2] for row in rows] == [(e, r) for e in RULES for r in RULES[e]]
    for event, rule, reads, arguments, paper in rows:
        known = RULES[event][rule]
        written = dict(re.findall(r"`(\w+)=([-.\de]+)`", arguments))
        assert list(written) == list(known.settings)
        for name, value in known.settings.items():
            assert float(written[name]) == (round(value) if value % 1 and value > 100 else value)
        assert re.findall(r"`(\w+)=`", reads) == [*known.needs, *known.takes]
        assert known.reference.startswith(f"{paper}, ")


def test_missing_variables_are_named():
    ds = on(GRIDS["latlon"], PSL=np.full(180 * 91, 1e5))
    with pytest.raises(ValueError, match=r"'tempest' for tropical_cyclone.*\n.*Z300.*\n.*Z500"):
        xsphere.detect(ds, "tropical_cyclone")


@pytest.mark.skipif("XSPHERE_TEST_DATA" not in os.environ, reason="needs the data of the tests")
def test_named_storms_of_a_real_map_are_found():
    data = Path(os.environ["XSPHERE_TEST_DATA"])
    with xr.open_dataset(data / "fields" / "gfs_2p5deg_2011-10-11T00.nc") as ds:
        cyclones = xsphere.events(xsphere.detect(ds.load(), "tropical_cyclone"))
        rivers = xsphere.detect(ds, RIVER, "tempest")
    storms = xsphere.read_ibtracs(data / "labels" / "ibtracs_jtwc_1980_2024.csv.gz")
    now = storms.isel(event=storms.time.values == np.datetime64("2011-10-11"))
    places = list(zip(now.lon.values, now.lat.values, strict=True))
    hits = {
        name
        for name, (lon, lat) in zip(now.track_id.values.tolist(), places, strict=True)
        for other in zip(cyclones.lon.values, cyclones.lat.values, strict=True)
        if _apart(lon, lat, *other) < 400
    }
    # Irwin and Jova; Banyan and a depression are too weak for 2.5 degrees
    assert hits == {"2011278N12248", "2011279N10257"}
    assert 0.02 < float((rivers == 1).mean()) < 0.1


def _apart(lon, lat, to_lon, to_lat):
    from xsphere.regions.linking import great_circle

    return great_circle(*(np.array([x], float) for x in (lon, lat, to_lon, to_lat)))[0]
