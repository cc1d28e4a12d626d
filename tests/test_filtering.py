"""Filters, derivatives and spectra of fields: healpy's numbers, the right labels, lazily."""

import pickle
import warnings
from contextlib import contextmanager

import cloudpickle
import dask
import dask.array as da
import healpy
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from xsphere.conventions import describe_healpix, horizontal_grid
from xsphere.filtering import Kernel, divergence, filter, gradient, power_spectrum, vorticity
from xsphere.filtering.filter_tasks import DerivativeNode, FilterNode, SpectrumNode
from xsphere.graph import SphereGraph
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid

# a file of a test's cache is of no interest to the others
pytestmark = pytest.mark.usefixtures("shared_cache")

LEVEL = 4
NSIDE = 2**LEVEL
KERNELS = {
    "heat": {"scale": 900.0},
    "tikhonov": {"scale": 700.0},
    "mexican_hat": {"scale": 900.0},
    "low_pass": {"degree": 11},
    "high_pass": {"degree": 11},
    "band_pass": {"degree": (6, 14)},
}
X = np.arange(3 * NSIDE) * (np.arange(3 * NSIDE) + 1.0)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    with xsphere.set_options(cache_dir=str(tmp_path_factory.mktemp("cache"))):
        yield


@contextmanager
def no_computes():
    def refuse(graph, keys, **kwargs):
        raise AssertionError("computed while building")

    with dask.config.set(scheduler=refuse):
        yield


def alm(seed=0, last=3 * NSIDE - 1):
    """Harmonics of a red field, no degree empty."""
    rng = np.random.default_rng(seed)
    degree, order = healpy.Alm.getlm(last)
    parts = rng.normal(size=(2, degree.size)) / (1.0 + degree)
    return parts[0] + 1j * np.where(order > 0, parts[1], 0.0)


def on(grid, coefficients):
    """The field of some harmonics on any HEALPix grid."""
    ring = healpy.alm2map(coefficients, grid.nside)
    return ring[healpy.nest2ring(grid.nside, grid.nested_ids)]


def labelled(values, grid, name="t", **attrs):
    dims = ("time", "cells")[-np.ndim(values) :]
    array = xr.DataArray(values, dims=dims, name=name, attrs={"units": "K", **attrs})
    if "time" in dims:
        array = array.assign_coords(time=np.arange(len(values)) * 6.0)
    return describe_healpix(array, grid)


def field(n_times=5, level=2, dtype="f4"):
    values = np.random.default_rng(0).normal(280, 9, (n_times, 12 * 4**level))
    return labelled(values.astype(dtype), HealpixGrid(level))


def chunked(source, *times):
    """Lazy along time; coordinates stay in memory, as they are in files."""
    whole = source.sizes["cells"]
    return source.copy(data=da.from_array(source.values, chunks=(times, whole)))


def rms(values):
    return float(np.sqrt((np.asarray(values, float) ** 2).mean()))


def double(eigenvalues):
    return np.exp(-eigenvalues / 80)


# --- values of filters


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("scheme", ["nested", "ring"])
def test_filters_are_those_of_spherical_harmonics_within_two_percent(name, scheme):
    grid = HealpixGrid(LEVEL, scheme)
    kernel = Kernel(name=name, **KERNELS[name])
    found = filter(labelled(on(grid, alm()), grid), name, **KERNELS[name])
    exact = on(grid, healpy.almxfl(alm(), kernel(X)))
    # k=20: 0.4 to 0.9 % of what passes, 1.4 % of what passes a band
    assert rms(found - exact) < 0.015 * rms(exact - exact.mean())


def test_heat_is_the_gaussian_of_healpy():
    grid, sigma = HealpixGrid(5, "ring"), 500.0
    source = on(grid, alm(1))
    exact = healpy.smoothing(source, sigma=sigma / 6371.0)
    found = filter(labelled(source, grid), "heat", scale=sigma)
    assert rms(found - exact) < 0.005 * rms(exact - exact.mean())
    one_percent_wider = healpy.smoothing(source, sigma=1.05 * sigma / 6371.0)
    assert rms(found - exact) < 0.5 * rms(one_percent_wider - exact)


@pytest.mark.parametrize("k", [8, 20])
def test_a_scale_means_the_same_on_every_graph(k):
    grid = HealpixGrid(LEVEL)
    source = labelled(on(grid, alm()), grid)
    for weights in ("gaussian", "perraudin2019")[: 2 if k == 8 else 1]:
        graph = SphereGraph(grid, k=k, weights=weights)
        found = filter(source, "heat", scale=900.0, graph=graph)
        exact = on(grid, healpy.almxfl(alm(), Kernel(name="heat", scale=900.0)(X)))
        assert rms(found - exact) < 0.1 * rms(exact - exact.mean())


@pytest.mark.parametrize(
    "grid",
    [
        LatLonGrid(np.arange(96) * 3.75, np.linspace(-90, 90, 49)),
        LatLonGrid(np.arange(96) * 3.75 - 180, np.arange(88.125, -90, -3.75)),
        PointGrid(
            (np.arange(4000) * 222.4922359) % 360.0,
            np.rad2deg(np.arcsin((2 * np.arange(4000) + 1) / 4000 - 1)),
        ),
    ],
)
@pytest.mark.parametrize("name", ["heat", "low_pass"])
def test_other_grids_filter_alike(grid, name):
    lon, lat = grid.centre_lonlat
    source = np.zeros(grid.n_cells)
    exact = np.zeros(grid.n_cells)
    kernel = Kernel(name=name, **KERNELS[name])
    rng = np.random.default_rng(2)
    from scipy.special import sph_harm_y

    for degree in range(12):
        part = sum(
            (rng.normal() - 1j * rng.normal())
            * sph_harm_y(degree, m, np.deg2rad(90 - lat), np.deg2rad(lon))
            for m in range(degree + 1)
        ).real / (degree + 1)
        source, exact = source + part, exact + part * kernel(X[degree : degree + 1])
    is_points = isinstance(grid, PointGrid)
    dims = ("points",) if is_points else ("lat", "lon")
    coords = {"lat": (dims[0], grid.lat), "lon": (dims[-1], grid.lon)}
    array = xr.DataArray(source.reshape(grid.shape), coords, dims)
    error = filter(array, name, **KERNELS[name]).values.ravel() - exact
    spread = np.sqrt((grid.areas * (exact - exact.mean()) ** 2).sum())
    assert np.sqrt((grid.areas * error**2).sum()) < (0.03 if is_points else 0.01) * spread
    assert np.abs(error).max() < 0.05 * np.ptp(exact)


def test_low_band_and_high_pass_add_up():
    source = field(dtype="f8")
    low = filter(source, "low_pass", degree=2, order=2)
    band = filter(source, "band_pass", degree=(2, 3.5), order=2)
    high = filter(source, "high_pass", degree=3.5, order=2)
    np.testing.assert_allclose(low + band + high, source, rtol=1e-5)
    assert float(band.std()) > 0.5
    assert float(high.std()) > 0.5


@pytest.mark.parametrize("name", KERNELS)
def test_constants_are_scaled_by_the_factor_of_degree_zero(name):
    source = xr.full_like(field(dtype="f8"), 7.0)
    expected = 7.0 if name in ("heat", "tikhonov", "low_pass") else 0.0
    found = filter(source, name, **KERNELS[name])
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_function_of_ones_own_is_a_function_of_l_times_l_plus_one():
    source = field(dtype="f8")
    expected = filter(source, "heat", scale=np.sqrt(2 / 80), radius=1.0)
    np.testing.assert_allclose(filter(source, double), expected, rtol=1e-9)
    assert filter(source, double).attrs["filter"] == "double"


def test_only_the_ratio_of_scale_and_radius_counts():
    source = field()
    expected = filter(source, "heat", scale=2000.0)
    np.testing.assert_array_equal(
        filter(source, "heat", scale=2000.0 / 6371.0, radius=1.0), expected
    )
    degrees = filter(source, "heat", scale=np.rad2deg(2000.0 / 6371.0), radius=180 / np.pi)
    np.testing.assert_allclose(degrees, expected, rtol=1e-6)


def test_a_part_of_the_sphere_is_filtered_as_the_whole_away_from_its_border():
    # twice the distance of the cells: a filter that they resolve ends where its formula does
    whole, scale = HealpixGrid(LEVEL), 700.0
    part = HealpixGrid(LEVEL, "nested", np.arange(4 * NSIDE**2))
    values = on(whole, alm())
    expected = filter(labelled(values, whole), "heat", scale=scale)[: part.n_cells]
    found = filter(labelled(values[: part.n_cells], part), "heat", scale=scale)
    rest = whole.centres[part.n_cells :]
    away = (part.centres @ rest.T).max(axis=1) < np.cos(4 * scale / 6371.0)
    assert 50 < away.sum() < 600
    np.testing.assert_allclose(found[away], expected[away], atol=2e-3)
    np.testing.assert_allclose(found.mean(), values[: part.n_cells].mean(), atol=0.02)


def test_kernels_are_the_formulas_they_say():
    x = np.array([0.0, 2.0, 20.0, 110.0])
    np.testing.assert_allclose(Kernel(name="heat", scale=637.1)(x), np.exp(-0.01 * x / 2))
    np.testing.assert_allclose(Kernel(name="tikhonov", scale=637.1)(x), 1 / (1 + 0.01 * x))
    hat = Kernel(name="mexican_hat", scale=637.1)
    np.testing.assert_allclose(hat(np.array([0.0, 200.0])), [0.0, 1.0])
    assert hat(np.array([199.0]))[0] < 1 > hat(np.array([201.0]))[0]
    low, high = Kernel(name="low_pass", degree=10), Kernel(name="high_pass", degree=10)
    np.testing.assert_allclose(low(x), 2.0 ** -((x / 110) ** 4))
    np.testing.assert_allclose(low(x) + high(x), 1.0)
    wide = Kernel(name="low_pass", degree=1000)(np.array([800 * 801.0, 1200 * 1201.0]))
    np.testing.assert_allclose(wide, [0.89, 0.05], atol=0.005)
    sharp = Kernel(name="low_pass", degree=10, order=32)
    np.testing.assert_allclose(
        sharp(np.array([90.0, 110.0, 132.0, 1e9])), [1, 0.5, 0, 0], atol=2e-3
    )


# --- missing values


def test_missing_cells_never_pass_for_background():
    source = field(dtype="f8")
    source[1, 20] = np.nan
    found = filter(source, "heat", scale=2000.0)
    assert np.isnan(found[1, 20])
    assert np.isnan(found[1]).sum() > 50
    # other fields have the bits that they have without it
    expected = filter(field(dtype="f8"), "heat", scale=2000.0)
    assert found[[0, 2, 3, 4]].values.tobytes() == expected[[0, 2, 3, 4]].values.tobytes()


def test_renormalized_filters_keep_constants_and_fill_gaps():
    source = xr.full_like(field(level=3, dtype="f8"), 5.0)
    source[1, 40:46] = np.nan
    source[2, :600] = np.nan
    source[3] = np.nan
    found = filter(source, "heat", scale=900.0, missing="renormalize")
    np.testing.assert_allclose(found[:2], 5.0, rtol=1e-9)
    assert np.isnan(found[3]).all()
    assert 400 < np.isnan(found[2]).sum() < 650
    np.testing.assert_allclose(found[2].values[~np.isnan(found[2])], 5.0, rtol=1e-9)
    more = filter(source, "heat", scale=900.0, missing="renormalize", min_valid_fraction=0.1)
    less = filter(source, "heat", scale=900.0, missing="renormalize", min_valid_fraction=0.9)
    counts = [int(np.isnan(result[2]).sum()) for result in (more, found, less)]
    assert counts == sorted(counts)
    assert len(set(counts)) == 3


def test_a_renormalized_value_is_the_weighted_mean_of_what_is_valid():
    grid = HealpixGrid(2)
    kernel = Kernel(name="heat", scale=2000.0)
    impulses = labelled(np.eye(192), grid)
    weights = filter(impulses, "heat", scale=2000.0).values.T
    source = field(n_times=3, dtype="f8")
    mask = np.random.default_rng(1).random((3, 192)) < 0.8
    expected = np.where(mask, source, 0) @ weights.T / (mask @ weights.T)
    found = filter(source.where(mask), "heat", scale=2000.0, missing="renormalize")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert kernel(np.zeros(1)) == 1


def test_renormalized_fields_do_not_depend_on_their_company():
    source = field(dtype="f4")
    source[1, 5:20] = np.nan
    source[3, 5:20] = np.nan
    together = filter(source, "low_pass", degree=4, missing="renormalize")
    for time in range(5):
        alone = filter(source[time], "low_pass", degree=4, missing="renormalize")
        assert alone.values.tobytes() == together[time].values.tobytes()
    plain = filter(source, "low_pass", degree=4)
    assert together[0].values.tobytes() == plain[0].values.tobytes()


@pytest.mark.parametrize("name", ["high_pass", "band_pass", "mexican_hat"])
def test_what_takes_constants_away_cannot_be_renormalized(name):
    with pytest.raises(ValueError, match=rf"keeps constants, but {name}.* makes them 0; subtract"):
        filter(field(), name, missing="renormalize", **KERNELS[name])


# --- labels


def test_labels_are_kept_and_the_filter_is_named():
    source = field()
    source.attrs |= {"valid_range": [200, 300], "standard_name": "air_temperature"}
    before = source.copy(deep=True)
    found = filter(source, "band_pass", degree=(2, 5))
    xr.testing.assert_identical(source, before)
    assert found.attrs["filter"] == "band_pass, degree 2 to 5, order 4"
    assert found.attrs["standard_name"] == "air_temperature"
    assert "valid_range" not in found.attrs
    xr.testing.assert_identical(found.coords.to_dataset(), source.coords.to_dataset())
    assert found.name == "t"
    assert horizontal_grid(found).grid == HealpixGrid(2)


def test_dimensions_keep_their_order():
    grid = LatLonGrid(np.arange(12) * 30.0, np.linspace(-75, 75, 6))
    values = np.random.default_rng(0).normal(size=(12, 3, 6))
    source = xr.DataArray(values, {"lat": grid.lat, "lon": grid.lon}, ("lon", "time", "lat"))
    found = filter(source, "heat", scale=3000.0)
    assert found.dims == source.dims
    expected = filter(source.transpose("time", "lat", "lon"), "heat", scale=3000.0)
    xr.testing.assert_identical(found.transpose("time", "lat", "lon"), expected)


def test_a_dataset_keeps_what_has_no_cells():
    ds = xr.Dataset({"t": field(), "q": field(dtype="f8"), "mean": ("time", np.arange(5.0))})
    found = filter(ds, "heat", scale=2000.0)
    xr.testing.assert_identical(found["mean"], ds["mean"])
    xr.testing.assert_identical(found["t"], filter(ds["t"], "heat", scale=2000.0))
    assert list(found) == ["t", "q", "mean"]
    assert (found["t"].dtype, found["q"].dtype) == (np.float32, np.float64)
    assert found["t"].dims == ("time", "cells")


@pytest.mark.parametrize(
    ("dtype", "expected"), [("f2", "f2"), (">f4", "f4"), ("i2", "f4"), ("i4", "f8"), ("?", "f4")]
)
def test_types_of_results(dtype, expected):
    source = field(n_times=1).astype(dtype)
    for made in (source, source.chunk()):
        found = filter(made, "heat", scale=2000.0)
        assert found.dtype == np.dtype(expected)
        assert found.compute().dtype == np.dtype(expected)


# --- laziness


def all_of(source):
    """One of everything there is, by name."""
    wind = xr.Dataset({"u": source, "v": source[..., ::-1].drop_vars(source.coords)})
    return {
        "filter": filter(source, "heat", scale=2000.0),
        "renormalized": filter(source, "heat", scale=2000.0, missing="renormalize"),
        "gradient": gradient(source).eastward_derivative,
        "vorticity": vorticity(wind, u="u", v="v"),
        "divergence": divergence(wind, u="u", v="v"),
        "spectrum": power_spectrum(source, 5),
    }


def test_nothing_is_computed_and_no_matrix_built_while_building(monkeypatch):
    import xsphere.filtering.filter_tasks as nodes

    def refuse(*args):
        raise AssertionError("a matrix was built")

    monkeypatch.setattr(nodes, "operator_of", refuse)
    monkeypatch.setattr(nodes, "derivative_matrices", refuse)
    with no_computes():
        for result in all_of(chunked(field(), 2, 2, 1)).values():
            assert result.chunks[0] == (2, 2, 1)


@examples(5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    chunks=st.lists(st.integers(1, 3), min_size=2, max_size=5).filter(lambda c: sum(c) == 5),
    scheduler=st.sampled_from(["synchronous", "threads"]),
)
def test_any_chunking_gives_the_same_bits(chunks, scheduler):
    source = field()
    source[3, 7:9] = np.nan
    eager, lazy = all_of(source), all_of(chunked(source, *chunks))
    for name, result in lazy.items():
        with dask.config.set(scheduler=scheduler):
            found = result.compute()
        xr.testing.assert_identical(found, eager[name])
        assert found.values.tobytes() == eager[name].values.tobytes(), name


@pytest.mark.slow
def test_dask_processes_give_the_same_bits(processes):
    eager, lazy = all_of(field()), all_of(chunked(field(), 3, 2))
    with dask.config.set(processes):
        found = dask.compute(lazy)[0]
    for name, result in found.items():
        assert result.values.tobytes() == eager[name].values.tobytes(), name


def test_a_block_is_one_task():
    block = da.from_delayed(dask.delayed(np.zeros)((1, 192)), (1, 192), float)
    stacked = da.concatenate([block] * 5)
    (before,) = dask.optimize(stacked)
    source = labelled(np.zeros((5, 192)), HealpixGrid(2)).copy(data=stacked)
    for result in (filter(source, "heat", scale=900.0), power_spectrum(source)):
        (after,) = dask.optimize(result.data)
        assert len(dict(after.dask)) <= len(dict(before.dask)) + 5


def test_equal_work_has_equal_keys_and_other_work_others():
    source = chunked(field(), 2, 2, 1)

    def key(kernel="heat", **options):
        options = {"scale": 900.0} | options if kernel in ("heat", "tikhonov") else options
        return filter(source, kernel, **options).data.name

    assert key() == key()
    assert key(double) == key(double)
    different = {
        key(),
        key("tikhonov"),
        key(scale=800.0),
        key(k=8),
        key(graph=SphereGraph(HealpixGrid(2), k=20, weights="gaussian", kernel_width=0.3)),
        key(missing="renormalize"),
        key(missing="renormalize", min_valid_fraction=0.1),
        key("low_pass", degree=5),
        key("low_pass", degree=5, order=3),
        key(double),
    }
    assert len(different) == 10
    others = {
        gradient(source).eastward_derivative.data.name,
        gradient(source, k=9).eastward_derivative.data.name,
        gradient(source, radius=3.0).eastward_derivative.data.name,
        power_spectrum(source).data.name,
        power_spectrum(source, 4).data.name,
        power_spectrum(source, missing="pseudo").data.name,
    }
    assert len(others) == 6


def test_nodes_travel_without_matrices_and_keep_their_keys():
    grid = HealpixGrid(2)
    spec = tuple(SphereGraph(grid).spec().items())
    kernel = Kernel(name="heat", scale=900.0)
    nodes = [
        FilterNode(grid=grid, spec=spec, kernel=kernel, dtype=np.dtype("f4")),
        DerivativeNode(grid=grid, derivative="gradient", k=8, radius=1.0, dtype=np.dtype("f4")),
        SpectrumNode(grid=grid, max_degree=4),
    ]
    for node in nodes:
        node(np.ones((1, 192), "f4"))
        copies = [pickle.loads(pickle.dumps(node)), cloudpickle.loads(cloudpickle.dumps(node))]
        assert {tokenize(copy) for copy in copies} == {tokenize(node)}
        assert len(pickle.dumps(node)) < 2000


def test_empty_axes_give_empty_results():
    for name, result in all_of(field().isel(time=slice(0))).items():
        assert result.shape == (0, 6 if name == "spectrum" else 192)
    for name, result in all_of(field().chunk().isel(time=slice(0))).items():
        assert result.compute().shape == (0, 6 if name == "spectrum" else 192)


def test_split_cells_are_refused_with_the_call_that_helps():
    source = field().chunk(cells=100)
    wind = xr.Dataset({"u": source, "v": source})
    for call in (
        lambda: filter(source, "heat", scale=900.0),
        lambda: gradient(source),
        lambda: vorticity(wind, u="u", v="v"),
        lambda: power_spectrum(source),
    ):
        with pytest.raises(ValueError, match=r"one chunk.* call \.chunk\(\{'cells': -1\}\) first"):
            call()


# --- derivatives


def test_a_gradient_is_per_metre_and_named_as_cf_says():
    grid = HealpixGrid(4)
    z = grid.centres[:, 2]
    source = labelled(np.stack([z, 3 * grid.centres[:, 0]]), grid, long_name="temperature")
    source.attrs |= {"standard_name": "air_temperature", "valid_min": -3.0}
    found = gradient(source)
    lon, lat = np.deg2rad(grid.centre_lonlat)
    expected = {
        "eastward_derivative": np.stack([0 * z, -3 * np.sin(lon)]),
        "northward_derivative": np.stack([np.cos(lat), -3 * np.sin(lat) * np.cos(lon)]),
    }
    assert list(found) == list(expected)
    for name, truth in expected.items():
        np.testing.assert_allclose(found[name] * 6371e3, truth, atol=0.005)
        assert found[name].attrs["units"] == "K m-1"
        assert found[name].attrs["standard_name"] == f"{name}_of_air_temperature"
        assert found[name].attrs["long_name"] == f"{name.replace('_', ' ')} of temperature"
        assert "valid_min" not in found[name].attrs
        assert horizontal_grid(found[name]).grid == grid
    np.testing.assert_array_equal(found["time"], source["time"])
    assert horizontal_grid(found).grid == grid
    on_mars = gradient(source, radius=3389.5)
    xr.testing.assert_allclose(on_mars * 3389.5, found * 6371.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("units", "expected"), [("K", "K m-1"), ("1", "m-1"), ("", "m-1"), (None, None)]
)
def test_units_of_a_gradient(units, expected):
    source = field()
    source.attrs = {} if units is None else {"units": units}
    assert gradient(source).eastward_derivative.attrs.get("units") == expected


def test_missing_cells_spread_to_the_cells_around_them():
    source = field(dtype="f8")
    source[1, 30], source[2, 31] = np.nan, np.inf
    found, whole = gradient(source), gradient(field(dtype="f8"))
    for name in found:
        missing = np.isnan(found[name].values)
        assert missing.sum(axis=1).tolist() == [0, missing[1].sum(), missing[2].sum(), 0, 0]
        assert missing[1, 30]
        assert 5 < missing[1].sum() < 15
        np.testing.assert_array_equal(found[name].values[~missing], whole[name].values[~missing])


def winds(grid, axis=(0.2, -0.5, 0.8), **attrs):
    """A rotation about an axis, and a flow away from it, each in m s-1."""
    from xsphere.grids import tangent_vectors

    east, north = tangent_vectors(*grid.centre_lonlat)
    turning = np.cross(axis, grid.centres)
    leaving = np.asarray(axis) - grid.centres * (grid.centres @ axis)[:, None]
    both = np.stack([turning, leaving])
    components = [(both * way).sum(-1) for way in (east, north)]
    dims = {HealpixGrid: ("cells",), LatLonGrid: ("lat", "lon"), PointGrid: ("points",)}[type(grid)]
    ds = xr.Dataset(
        {
            name: (("time", *dims), part.reshape(2, *grid.shape), {"units": "m s-1"} | attrs)
            for name, part in zip("uv", components, strict=True)
        }
    )
    if isinstance(grid, HealpixGrid):
        return describe_healpix(ds, grid)
    return ds.assign_coords(lat=(dims[0], grid.lat), lon=(dims[-1], grid.lon))


@pytest.mark.parametrize(
    "grid",
    [
        HealpixGrid(4, "ring"),
        LatLonGrid(np.arange(72) * 5.0, np.linspace(90, -90, 37)),
        PointGrid(
            (np.arange(3000) * 222.4922359) % 360.0,
            np.rad2deg(np.arcsin((2 * np.arange(3000) + 1) / 3000 - 1)),
        ),
    ],
)
def test_rotations_have_vorticity_and_outflow_has_divergence(grid):
    axis = np.array([0.2, -0.5, 0.8])
    ds = winds(grid, axis)
    along = 2 * grid.centres @ axis
    for function, expected in ((vorticity, [along, 0 * along]), (divergence, [0 * along, -along])):
        found = function(ds, u="u", v="v")
        np.testing.assert_allclose(found.values.reshape(2, -1) * 6371e3, expected, atol=0.02)
        assert found.name == function.__name__
        assert found.attrs["units"] == "s-1"
        assert found.dims == ds["u"].dims
    assert vorticity(ds, u="u", v="v").attrs["standard_name"] == "atmosphere_relative_vorticity"
    assert divergence(ds, u="u", v="v").attrs["standard_name"] == "divergence_of_wind"


def test_winds_are_found_by_their_standard_names():
    ds = winds(HealpixGrid(2))
    for name, way in (("u", "east"), ("v", "north")):
        ds[name].attrs["standard_name"] = f"{way}ward_wind"
    expected = vorticity(ds, u="u", v="v")
    xr.testing.assert_identical(vorticity(ds), expected)
    xr.testing.assert_identical(vorticity(ds.assign(t=2 * ds["u"].drop_attrs())), expected)
    more = ds.assign(u10=ds["u"], v10=ds["v"])
    with pytest.raises(ValueError, match=r"one pair of variables.*\('u', 'v'\).*name the comp"):
        vorticity(more)
    xr.testing.assert_identical(vorticity(more, u="u", v="v"), expected)
    plain = ds.rename(u="a", v="b").drop_attrs(deep=True)
    with pytest.raises(ValueError, match="one pair of variables"):
        divergence(plain.pipe(describe_healpix, HealpixGrid(2)))


@pytest.mark.parametrize(
    ("units", "expected"),
    [("m s-1", "s-1"), ("m/s", "s-1"), ("m s**-1", "s-1"), ("knot", "knot m-1"), ("kg", "kg m-1")],
)
def test_units_of_a_vorticity(units, expected):
    ds = winds(HealpixGrid(1), units=units)
    assert vorticity(ds, u="u", v="v").attrs["units"] == expected


def test_stress_is_no_wind():
    ds = winds(HealpixGrid(1), units="Pa", standard_name="surface_downward_eastward_stress")
    assert "standard_name" not in vorticity(ds, u="u", v="v").attrs


def test_components_of_different_types_and_orders_meet():
    grid = LatLonGrid(np.arange(12) * 30.0, np.linspace(-75, 75, 6))
    ds = winds(grid)
    expected = vorticity(ds, u="u", v="v")
    mixed = ds.assign(u=ds["u"].transpose("lon", "time", "lat"), v=ds["v"].astype("f4"))
    found = vorticity(mixed, u="u", v="v")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.transpose(*expected.dims), expected, atol=1e-12)


# --- spectra


@pytest.mark.parametrize(
    "grid",
    [
        HealpixGrid(3),
        HealpixGrid(3, "ring"),
        HealpixGrid(3, "nested", np.random.default_rng(0).permutation(768)),
    ],
)
@pytest.mark.parametrize("last", [None, 7, 0])
def test_spectra_are_those_of_healpy(grid, last):
    coefficients = [alm(seed, 23) for seed in range(2)]
    values = np.stack([on(grid, c) for c in coefficients])
    found = power_spectrum(labelled(values, grid), last)
    maps = [healpy.alm2map(c, 8) for c in coefficients]
    lmax = 23 if last is None else last
    expected = [healpy.anafast(m, lmax=lmax, iter=3) for m in maps]
    np.testing.assert_allclose(found, expected, rtol=0.02)
    # a mean leaks a little into even degrees, so the figures are those of healpy without it
    expected = [healpy.anafast(m - m.mean(), lmax=lmax, iter=3) for m in maps]
    np.testing.assert_allclose(found[:, 1:], np.array(expected)[:, 1:], rtol=1e-9)
    np.testing.assert_array_equal(found["degree"], np.arange(found.sizes["degree"]))
    truth = healpy.alm2cl(coefficients[0])
    np.testing.assert_allclose(found[0], truth[: found.sizes["degree"]], rtol=0.1, atol=3e-4)


def test_the_spectrum_sums_to_the_variance():
    grid = HealpixGrid(4)
    values = on(grid, alm(3, grid.nside))
    power = power_spectrum(labelled(values, grid))
    parts = (2 * power.degree + 1) * power / (4 * np.pi)
    np.testing.assert_allclose(parts.sum(), (values**2).mean(), rtol=1e-3)
    np.testing.assert_allclose(parts[1:].sum(), values.var(), rtol=1e-3)


def test_a_large_mean_does_not_leak_into_the_spectrum():
    grid = HealpixGrid(4)
    values = on(grid, alm(3))
    power = power_spectrum(labelled(np.stack([values, values + 1e5]), grid))
    np.testing.assert_allclose(power[1, 1:], power[0, 1:], rtol=1e-6)
    np.testing.assert_allclose(power[1, 0], 4 * np.pi * (values.mean() + 1e5) ** 2, rtol=1e-6)


def test_labels_of_a_spectrum():
    source = field().assign_coords(season="winter")
    found = power_spectrum(source)
    assert found.dims == ("time", "degree")
    assert set(found.coords) == {"time", "season", "degree"}
    assert found.attrs == {"long_name": "angular power spectrum of t", "units": "K2"}
    units = {"": "1", "1": "1", "m s-1": "(m s-1)2"}
    for given_units, expected in units.items():
        assert power_spectrum(source.assign_attrs(units=given_units)).attrs["units"] == expected
    assert (
        "units"
        not in power_spectrum(source.drop_attrs().pipe(describe_healpix, HealpixGrid(2))).attrs
    )


def test_a_field_with_gaps_has_no_spectrum_but_a_pseudo_spectrum():
    grid = HealpixGrid(4)
    whole = np.stack([on(grid, alm(seed)) + 40 for seed in range(2)])
    source = labelled(whole.copy(), grid)
    north = grid.centre_lonlat[1] > -20
    source[1] = np.where(north, source[1], np.nan)
    plain, pseudo = power_spectrum(source), power_spectrum(source, missing="pseudo")
    assert np.isfinite(plain[0]).all()
    assert np.isnan(plain[1]).all()
    np.testing.assert_allclose(pseudo[0], plain[0], rtol=1e-6)
    truth = power_spectrum(labelled(whole, grid))[1]
    degrees = slice(6, 30)
    ratio = pseudo[1, degrees].sum() / truth[degrees].sum()
    assert 0.7 < ratio < 1.4
    np.testing.assert_allclose(pseudo[1, 0], 4 * np.pi * whole[1, north].mean() ** 2, rtol=1e-3)
    part = labelled(whole[1, north], HealpixGrid(4, "nested", grid.ids[north]))
    np.testing.assert_array_equal(power_spectrum(part, missing="pseudo"), pseudo[1])
    with pytest.raises(ValueError, match=r"needs the whole sphere, got 2\d+ of 3072.*'pseudo'"):
        power_spectrum(part)


# --- invalid input


@pytest.mark.parametrize(
    ("kernel", "options", "error", "message"),
    [
        ("boxcar", {"scale": 1.0}, ValueError, "kernel must be one of .* got 'boxcar'"),
        (3, {}, TypeError, "kernel must be a name from .* got 3"),
        ("heat", {}, ValueError, "'heat' needs scale= .* and no degree=, got scale=None"),
        ("heat", {"degree": 3}, ValueError, "needs scale="),
        ("heat", {"scale": 1.0, "degree": 3}, ValueError, "no degree=, got scale=1.0, degree=3"),
        ("low_pass", {"scale": 3}, ValueError, "'low_pass' needs degree= .* and no scale="),
        ("heat", {"scale": "wide"}, TypeError, "scale must be a number, got 'wide'"),
        ("heat", {"scale": -1.0}, ValueError, "scale must be positive and finite, got -1.0"),
        ("heat", {"scale": np.nan}, ValueError, "scale must be positive and finite, got nan"),
        (
            "heat",
            {"scale": 0, "radius": 0},
            ValueError,
            "scale must be .*; radius must be positive",
        ),
        ("low_pass", {"degree": 0}, ValueError, "degree must be a positive number"),
        ("low_pass", {"degree": (2, 3)}, ValueError, "degree must be a positive number"),
        ("band_pass", {"degree": 3}, ValueError, "degree must be two rising degrees"),
        ("band_pass", {"degree": [5, 3]}, ValueError, r"two rising degrees .* got \(5, 3\)"),
        ("low_pass", {"degree": 3, "order": 0}, ValueError, "order must be an integer of at least"),
        (double, {"scale": 3.0}, ValueError, "belong to kernels by name.*got scale=3.0"),
        (double, {"missing": "drop"}, ValueError, "missing must be one of .* got 'drop'"),
        (double, {"min_valid_fraction": 2}, ValueError, "min_valid_fraction must be from 0 to 1"),
        (double, {"graph": 3}, TypeError, "graph must be a SphereGraph, got 3"),
        (double, {"graph": SphereGraph(HealpixGrid(1))}, ValueError, "graph must be of the grid"),
        (double, {"graph": SphereGraph(HealpixGrid(2)), "k": 8}, ValueError, "k= or graph="),
        (
            double,
            {"graph": SphereGraph(HealpixGrid(2), weights="gaussian", laplacian_type="normalized")},
            ValueError,
            "laplacian_type='combinatorial'.* got 'normalized'",
        ),
        (double, {"k": 0}, ValueError, "k must be at least 1"),
    ],
)
def test_wrong_options_are_refused(kernel, options, error, message):
    with pytest.raises(error, match=message):
        filter(field(), kernel, **options)


def test_what_is_no_field_is_refused():
    ds = xr.Dataset({"t": field(), "s": field().astype(str)})
    with pytest.raises(TypeError, match=r"is for numbers, got variables \{'s'.*drop_vars\(\['s'\]"):
        filter(ds, double)
    mask = field().astype("u1").assign_attrs(flag_values=[0, 1])
    with pytest.raises(ValueError, match=r"\['mask'\] hold classes .*mask == 1"):
        filter(xr.Dataset({"mask": mask}), double)
    with pytest.raises(ValueError, match="expected a variable with the horizontal dimensions"):
        filter(ds[["t"]].mean("cells", keep_attrs=True).assign_coords(cells=ds.cells), double)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (gradient, TypeError, "gradient.. is of one field.*got Dataset"),
        (lambda ds: gradient(ds["u"], k=4), ValueError, "k must be .* at least 5 .* got 4"),
        (lambda ds: gradient(ds["u"], k=2.5, radius=0), ValueError, "k must .*; radius must be"),
        (lambda ds: vorticity(ds["u"]), TypeError, "needs a Dataset with both .*got DataArray"),
        (lambda ds: vorticity(ds, u="u"), ValueError, "v=None; among .* there is no None"),
        (lambda ds: vorticity(ds, u="a", v="b"), ValueError, "there is no 'a' and no 'b'"),
        (
            lambda ds: divergence(ds.assign(v=ds["v"][0]), u="u", v="v"),
            ValueError,
            "the same dimensions, got 'u' .*'time': 2",
        ),
        (
            lambda ds: vorticity(ds.assign(v=ds["v"].assign_attrs(units="knot")), u="u", v="v"),
            ValueError,
            "the same units, got 'u' in 'm s-1' and 'v' in 'knot'",
        ),
        (power_spectrum, TypeError, "is of one field.*got Dataset"),
        (lambda ds: power_spectrum(ds["u"], 2.5), TypeError, "max_degree must be an integer"),
        (
            lambda ds: power_spectrum(ds["u"], 12),
            ValueError,
            "from 0 to 3 nside - 1 = 11 .* got 12",
        ),
        (lambda ds: power_spectrum(ds["u"], -1), ValueError, "max_degree must be from 0"),
        (
            lambda ds: power_spectrum(ds["u"], missing="zero"),
            ValueError,
            "missing must be 'propagate' or 'pseudo', got 'zero'",
        ),
        (
            lambda ds: power_spectrum(xsphere.sample_dataset()["PSL"]),
            ValueError,
            "is for fields on HEALPix, got LatLonGrid.*to_healpix",
        ),
    ],
)
def test_wrong_objects_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(winds(HealpixGrid(2)))


# --- accessors and real data


def test_accessors_call_the_functions():
    source, ds = field(), winds(HealpixGrid(2))
    xr.testing.assert_identical(
        source.sphere.filter("heat", scale=900.0), filter(source, "heat", scale=900.0)
    )
    xr.testing.assert_identical(
        ds.sphere.filter("low_pass", degree=3), filter(ds, "low_pass", degree=3)
    )
    xr.testing.assert_identical(source.sphere.gradient(k=9), gradient(source, k=9))
    xr.testing.assert_identical(source.sphere.power_spectrum(4), power_spectrum(source, 4))
    for name in ("vorticity", "divergence"):
        expected = getattr(xsphere, name)(ds, u="u", v="v")
        xr.testing.assert_identical(getattr(ds.sphere, name)(u="u", v="v"), expected)


@pytest.fixture
def era_interim(test_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with xr.open_dataset(test_data / "fields" / "eraint_uvz.nc") as ds:
            return ds.isel(month=0).load()


def test_vorticity_of_real_winds_is_that_of_centred_differences(era_interim):
    ds = era_interim
    lat = np.deg2rad(ds.latitude.astype("f8"))
    cosine = np.cos(lat)
    radian, radius = np.deg2rad(0.75), 6371e3
    east = (ds.v.roll(longitude=-1) - ds.v.roll(longitude=1)) / (2 * radian)
    north = (ds.u * cosine).differentiate("latitude") * np.rad2deg(1)
    expected = (east - north) / (radius * cosine)
    found = ds.sphere.vorticity()
    assert found.attrs["units"] == "s-1"
    inner = {"latitude": slice(80, -80)}
    expected, found = expected.sel(inner), found.sel(inner)
    error = float(((found - expected) ** 2).weighted(cosine).mean() ** 0.5)
    spread = float((expected**2).weighted(cosine).mean() ** 0.5)
    assert 1e-6 < spread < 1e-4
    assert error < 0.1 * spread
    assert float(xr.corr(found, expected)) > 0.995


def test_the_variance_of_a_real_field_is_in_its_spectrum(era_interim):
    z = era_interim.z.sel(level=500).sphere.to_healpix(level=6).astype("f8")
    power = z.sphere.power_spectrum()
    parts = (2 * power.degree + 1) * power / (4 * np.pi)
    np.testing.assert_allclose(parts[1:].sum(), z.var(), rtol=1e-3)
    smooth = z.sphere.filter("low_pass", degree=20)
    kept = Kernel(name="low_pass", degree=20)(np.asarray(power.degree * (power.degree + 1.0)))
    np.testing.assert_allclose(smooth.var(), (parts * kept**2)[1:].sum(), rtol=1e-3)


def test_a_polynomial_that_grows_on_complex_eigenvalues_is_refused():
    grid = PointGrid.random(1500, seed=1)
    field = xr.Dataset(
        {"t": ("stations", np.ones(grid.n_cells))},
        {"lon": ("stations", grid.lon), "lat": ("stations", grid.lat)},
    )
    field.lon.attrs["units"], field.lat.attrs["units"] = "degrees_east", "degrees_north"
    smooth = xsphere.filter(field, "heat", scale=1500.0, k=8)
    np.testing.assert_allclose(smooth.t, 1.0, atol=1e-6)
    with pytest.raises(ValueError, match=r"low_pass.* makes noise on PointGrid\(1500 points\) .*"):
        xsphere.filter(field, "low_pass", degree=4, k=8)
