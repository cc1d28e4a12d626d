"""Functions of Laplacians: the right polynomial, the right eigenvalues, one field at a time."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from scipy import sparse
from scipy.special import sph_harm_y

from tests.tiers import examples
from xsphere.cache import cache_dir
from xsphere.graph import (
    SphereGraph,
    divergence_matrices,
    gradient_matrices,
    vorticity_matrices,
)
from xsphere.graph import derivative_cache as cached
from xsphere.graph.derivative_cache import derivative_matrices
from xsphere.graph.filters import ChebyshevWarning, chebyshev_coefficients, filtered
from xsphere.graph.latlon_laplacian import has_latlon_laplacian, latlon_laplacian
from xsphere.graph.response import degree_response, spectral_response
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid

FUNCTIONS = {
    "heat": lambda x: np.exp(-x / 7),
    "inverse": lambda x: 1 / (1 + x / 3),
    "wave": np.cos,
    "narrow": lambda x: np.exp(-((x - 20.0) ** 2)),
}


def series(coefficients, x, lambda_max):
    return chebyshev.chebval(2 * x / lambda_max - 1, coefficients)


def digraph(n_cells=30, seed=0):
    """A Laplacian that is not symmetric, with real eigenvalues: D**-1 (D - W)."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.uniform(0, 1, (n_cells, n_cells)) * (rng.random((n_cells,) * 2) < 0.2), 1)
    weights += (
        weights.T + np.diag(np.full(n_cells - 1, 0.1), 1) + np.diag(np.full(n_cells - 1, 0.1), -1)
    )
    sums = weights.sum(1)
    return sparse.csr_array(np.diag(rng.uniform(1, 3, n_cells) / sums) @ (np.diag(sums) - weights))


def harmonics(grid, degree):
    """All real harmonics of a degree at the centres of a grid, shape (2 degree + 1, n_cells)."""
    lon, lat = np.deg2rad(grid.centre_lonlat)
    found = [sph_harm_y(degree, m, np.pi / 2 - lat, lon) for m in range(degree + 1)]
    root = np.sqrt(2)
    return np.array(
        [found[0].real, *(root * part(f) for f in found[1:] for part in (np.real, np.imag))]
    )


# --- coefficients


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_the_error_is_within_the_tolerance_and_no_term_is_idle(name, tolerance):
    function, x = FUNCTIONS[name], np.linspace(0, 50, 3001)
    found = chebyshev_coefficients(function, 50.0, tolerance=tolerance)
    largest = np.abs(function(x)).max()
    assert np.abs(series(found, x, 50.0) - function(x)).max() <= 1.01 * tolerance * largest
    full = chebyshev.chebinterpolate(lambda z: function(25 * (z + 1)), 300)
    assert np.abs(full[found.size - 1 :]).sum() > 0.9 * tolerance * largest


@examples(20)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.1, 1e5))
def test_polynomials_come_back(terms, lambda_max):
    terms = np.array([*terms, 1.0])
    found = chebyshev_coefficients(
        lambda x: series(terms, x, lambda_max), lambda_max, tolerance=1e-12
    )
    np.testing.assert_allclose(found, terms, atol=1e-10)


def test_as_many_terms_as_asked():
    function = FUNCTIONS["heat"]
    expected = chebyshev.chebinterpolate(lambda z: function(25 * (z + 1)), 200)
    for n_terms in (1, 2, 5, 40):
        found = chebyshev_coefficients(function, 50.0, n_terms)
        np.testing.assert_allclose(found, expected[:n_terms], atol=1e-12)


def test_constants_and_zero_cost_one_term():
    np.testing.assert_allclose(chebyshev_coefficients(lambda x: 3.0, 2.0), [3.0])
    np.testing.assert_array_equal(chebyshev_coefficients(np.zeros_like, 2.0), [0.0])


@pytest.mark.parametrize("max_terms", [20, 64])
def test_a_cap_warns_with_the_error_that_is_left(max_terms):
    def step(x):
        return np.where(x < 20.3, 1.0, 0.0)

    with pytest.warns(ChebyshevWarning, match=f"{max_terms} Chebyshev terms leave an error of"):
        found = chebyshev_coefficients(step, 50.0, max_terms=max_terms)
    assert found.size == max_terms
    with pytest.warns(ChebyshevWarning) as seen:
        found = chebyshev_coefficients(FUNCTIONS["wave"], 50.0, max_terms=max_terms // 4)
    named = float(str(seen[0].message).split("error of ")[1].split(" ")[0])
    x = np.linspace(0, 50, 1001)
    actual = np.abs(series(found, x, 50.0) - FUNCTIONS["wave"](x)).max()
    assert 0.1 * actual < named
    assert actual < 1.1 * named


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (np.exp, {"lambda_max": 0.0}, ValueError, "lambda_max must be positive"),
        (np.exp, {"lambda_max": np.inf}, ValueError, "lambda_max must be positive"),
        (np.exp, {"tolerance": 0.0}, ValueError, "tolerance must lie between"),
        (np.exp, {"n_terms": 0}, ValueError, "n_terms must be a positive integer, got 0"),
        (np.exp, {"max_terms": 1.5}, ValueError, "max_terms must be a positive integer"),
        (np.exp, {"n_terms": -1, "tolerance": 2}, ValueError, "tolerance .*; n_terms"),
        (lambda x: x[:3], {}, ValueError, r"one value for each of \(32,\).*shape \(3,\)"),
        (lambda x: np.where(x > 1, np.nan, 1), {}, ValueError, "must be finite on"),
        (lambda x: x + 1j, {}, TypeError, "must give real numbers"),
    ],
)
def test_wrong_functions_and_options_are_refused(function, options, error, message):
    with pytest.raises(error, match=message):
        chebyshev_coefficients(function, **({"lambda_max": 2.0} | options))


# --- fields


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_filter_is_the_function_of_each_eigenvalue(name):
    laplacian = 8 * digraph()
    eigenvalues, vectors = np.linalg.eig(laplacian.toarray())
    assert np.abs(eigenvalues.imag).max() < 1e-9
    exact = (vectors * FUNCTIONS[name](eigenvalues.real)) @ np.linalg.inv(vectors)
    fields = np.random.default_rng(1).normal(size=(2, 3, 30))
    coefficients = chebyshev_coefficients(FUNCTIONS[name], 50.0, tolerance=1e-12)
    assert eigenvalues.real.max() < 50
    found = filtered(laplacian, 50.0, coefficients, fields)
    np.testing.assert_allclose(found, fields @ exact.real.T, atol=1e-9)


@examples(20)
@given(st.integers(1, 40), st.integers(0, 39), st.sampled_from(["f4", "f8"]))
def test_a_field_does_not_depend_on_its_company(n_fields, which, dtype):
    which = min(which, n_fields - 1)
    fields = np.random.default_rng(n_fields).normal(size=(n_fields, 30)).astype(dtype)
    fields[:which] *= 1e30
    fields[which + 1 :, 3] = np.nan
    terms = np.array([0.3, -0.2, 0.7, 0.1])
    alone = filtered(digraph(), 6.0, terms, fields[which])
    assert filtered(digraph(), 6.0, terms, fields)[which].tobytes() == alone.tobytes()


def test_float32_loses_nothing_but_its_last_rounding():
    fields = np.random.default_rng(0).normal(1e5, 1, (3, 30)).astype("f4")
    terms = chebyshev_coefficients(FUNCTIONS["narrow"], 50.0)
    found = filtered(8 * digraph(), 50.0, terms, fields)
    exact = filtered(8 * digraph(), 50.0, terms, fields.astype("f8"))
    assert found.dtype == np.float32
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(found, exact.astype("f4"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("n_terms", [1, 2, 4])
def test_missing_cells_reach_as_far_as_the_polynomial(bad, n_terms):
    path = sparse.csr_array(np.diag([1.0, *[2.0] * 10, 1.0]) - np.eye(12, k=1) - np.eye(12, k=-1))
    field = np.random.default_rng(0).normal(size=12)
    terms = np.ones(n_terms)
    broken = field.copy()
    broken[4] = bad
    found, whole = filtered(path, 4.0, terms, broken), filtered(path, 4.0, terms, field)
    reached = np.abs(np.arange(12) - 4) < n_terms
    assert np.isnan(found[reached]).all()
    np.testing.assert_array_equal(found[~reached], whole[~reached])


def test_the_argument_is_left_alone_and_empty_is_fine():
    fields = np.random.default_rng(0).normal(size=(3, 30))
    fields[1, 2] = np.inf
    before = fields.copy()
    filtered(digraph(), 6.0, [1.0, 2.0], fields)
    np.testing.assert_array_equal(fields, before)
    assert filtered(digraph(), 6.0, [1.0], np.empty((0, 30), "f4")).shape == (0, 30)
    assert filtered(digraph(), 6.0, [2.0], np.ones(30, np.int8)).dtype == np.float32


@pytest.mark.parametrize(
    ("coefficients", "values", "error", "message"),
    [
        ([1.0], np.ones(29), ValueError, "30 cells of the Laplacian on their last axis"),
        ([1.0], 1.0, ValueError, r"got shape \(\)"),
        ([], np.ones(30), ValueError, "coefficients must be a non-empty 1-D array"),
        ([1.0], np.ones(30, complex), TypeError, "values must be real numbers, got complex128"),
    ],
)
def test_fields_that_do_not_fit_are_refused(coefficients, values, error, message):
    with pytest.raises(error, match=message):
        filtered(digraph(), 6.0, coefficients, values)


# --- what eigenvalues mean


@pytest.mark.parametrize("degree", [1, 4, 11])
def test_the_response_is_the_mean_over_all_harmonics_of_a_degree(degree):
    graph = SphereGraph(HealpixGrid(3, "ring"), k=8)
    fields = harmonics(graph.grid, degree)
    expected = (fields * (graph.laplacian @ fields.T).T).sum() / (fields**2).sum()
    found = degree_response(graph.laplacian, graph.grid, [degree])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_response_counts_cells_by_their_area():
    grid = LatLonGrid(np.arange(24) * 15.0, np.linspace(-90, 90, 13))
    laplacian = SphereGraph(grid, k=8, weights="gaussian").laplacian
    fields = harmonics(grid, 3)
    by_area = fields * grid.areas
    expected = (by_area * (laplacian @ fields.T).T).sum() / (by_area * fields).sum()
    np.testing.assert_allclose(degree_response(laplacian, grid, [3]), expected, rtol=1e-9)


@pytest.mark.parametrize("k", [8, 20])
@pytest.mark.parametrize("weights", ["gaussian", "perraudin2019"])
def test_the_map_of_eigenvalues_inverts_the_response(k, weights):
    graph = SphereGraph(HealpixGrid(5), k=8 if weights == "perraudin2019" else k, weights=weights)
    response = spectral_response(graph.laplacian, graph.grid, graph.lambda_max)
    degrees = np.arange(1, 60)
    found = response(degree_response(graph.laplacian, graph.grid, degrees))
    np.testing.assert_allclose(found, degrees * (degrees + 1), rtol=0.01)
    everywhere = response(np.linspace(0, graph.lambda_max, 500))
    assert everywhere[0] == 0
    assert (np.diff(everywhere) > 0).all()


def test_the_map_knows_the_scale_of_any_laplacian():
    graph = SphereGraph(HealpixGrid(4), k=20)
    one = spectral_response(graph.laplacian, graph.grid, graph.lambda_max)
    other = spectral_response(graph.laplacian * 17, graph.grid, graph.lambda_max * 17)
    x = np.linspace(0, graph.lambda_max, 50)
    np.testing.assert_allclose(other(17 * x), one(x), rtol=1e-6)


def test_what_is_no_laplacian_has_no_response():
    grid = HealpixGrid(2)
    with pytest.raises(ValueError, match="positive response to degree 1, got -"):
        spectral_response(-SphereGraph(grid).laplacian, grid, 2.0)


# --- longitude and latitude

GRIDS = {
    "poles": LatLonGrid(np.arange(72) * 5.0, np.linspace(90, -90, 37)),
    "no poles": LatLonGrid(np.arange(72) * 5.0 + 2.5, np.arange(-87.5, 90, 5.0)),
    "gaussian": LatLonGrid(
        np.arange(96) * 3.75, np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(48)[0]))
    ),
    "westward": LatLonGrid(180 - np.arange(90) * 4.0, np.linspace(-90, 90, 37)),
}


def noise(grid, degree, seed=0):
    """A field of one degree with random parts along all harmonics, no axis favoured."""
    values = harmonics(grid, degree)
    return np.random.default_rng(seed).normal(size=len(values)) @ values


@pytest.mark.parametrize("name", GRIDS)
def test_the_flux_laplacian_keeps_constants_and_area_means(name):
    grid = GRIDS[name]
    laplacian, lambda_max = latlon_laplacian(grid)
    assert np.abs(laplacian.sum(axis=1)).max() < 1e-12 * lambda_max
    assert np.abs(grid.areas @ laplacian).max() < 1e-12 * lambda_max * grid.areas.max()


def test_the_spectrum_is_real_within_its_bound_and_has_no_second_zero():
    grid = LatLonGrid(np.arange(24) * 15.0, np.linspace(-90, 90, 13))
    laplacian, lambda_max = latlon_laplacian(grid)
    root = np.sqrt(grid.areas)
    symmetric = root[:, None] * laplacian.toarray() / root
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-9)
    eigenvalues = np.linalg.eigvalsh(symmetric)
    assert eigenvalues[-1] <= lambda_max
    assert abs(eigenvalues[0]) < 1e-9
    np.testing.assert_allclose(eigenvalues[1:9], [2] * 3 + [6] * 5, rtol=0.08)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("degree", [1, 5, 9])
def test_a_heat_filter_on_longitude_and_latitude_is_exact_within_a_percent(name, degree):
    grid = GRIDS[name]
    laplacian, lambda_max = latlon_laplacian(grid)
    response = spectral_response(laplacian, grid, lambda_max)
    field, t = noise(grid, degree), 0.02
    terms = chebyshev_coefficients(lambda x: np.exp(-t * response(x)), lambda_max)
    error = (
        filtered(laplacian, lambda_max, terms, field) - np.exp(-t * degree * (degree + 1)) * field
    )
    norm = np.sqrt((grid.areas * field**2).sum())
    assert np.sqrt((grid.areas * error**2).sum()) < 0.007 * norm
    assert np.abs(error).max() < 0.04 * np.abs(field).max()


def test_a_column_that_repeats_the_first_changes_nothing():
    lat = np.linspace(-90, 90, 37)
    once, again = LatLonGrid(np.arange(72) * 5.0, lat), LatLonGrid(np.arange(73) * 5.0, lat)
    field = np.random.default_rng(0).normal(size=(37, 72))
    twice = np.concatenate([field, field[:, :1]], axis=1)
    expected = (latlon_laplacian(once)[0] @ field.ravel()).reshape(37, 72)
    found = (latlon_laplacian(again)[0] @ twice.ravel()).reshape(37, 73)
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(found[:, -1], found[:, 0])


def test_a_region_is_as_the_whole_away_from_its_edge():
    whole = LatLonGrid(np.arange(360) * 1.0, np.arange(-89.5, 90))
    region = LatLonGrid(np.arange(20.0, 61.0), np.arange(30.5, 60))
    field = noise(whole, 6).reshape(180, 360)
    laplacian, _ = latlon_laplacian(whole)
    expected = (laplacian @ field.ravel()).reshape(180, 360)[120:150, 20:61]
    part, _ = latlon_laplacian(region)
    found = (part @ field[120:150, 20:61].ravel()).reshape(30, 41)
    inside = (slice(1, -1), slice(3, -3))
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-4, atol=1e-2)
    assert np.abs(part.sum(axis=1)).max() < 1e-6


@pytest.mark.parametrize(
    "grid",
    [
        HealpixGrid(1),
        LatLonGrid([0.0, 10.0, 30.0], [0.0, 10.0]),
        LatLonGrid([0.0, 120.0, 240.0], [10.0]),
        LatLonGrid([0.0, 1.0], [10.0, 20.0]),
    ],
)
def test_other_grids_need_a_graph(grid):
    assert not has_latlon_laplacian(grid)
    if isinstance(grid, LatLonGrid):
        with pytest.raises(ValueError, match=r"evenly spaced, got LatLonGrid.*SphereGraph"):
            latlon_laplacian(grid)


# --- matrices of derivatives, kept


@pytest.mark.parametrize(
    "grid",
    [
        HealpixGrid(2, "ring"),
        LatLonGrid(np.arange(12) * 30.0, np.linspace(-90, 90, 7)),
        PointGrid(*np.random.default_rng(0).uniform(-80, 80, (2, 50))),
    ],
)
@pytest.mark.usefixtures("cache_folder")
def test_kept_matrices_are_those_that_are_built(grid):
    makers = {
        "gradient": gradient_matrices,
        "divergence": divergence_matrices,
        "vorticity": vorticity_matrices,
    }
    for name, make in makers.items():
        for _ in range(2):
            cached._pairs._values.clear()
            for found, built in zip(derivative_matrices(name, grid, 9), make(grid, 9), strict=True):
                assert found.data.tobytes() == built.data.tobytes()
                np.testing.assert_array_equal(found.indices, built.indices)
                np.testing.assert_array_equal(found.indptr, built.indptr)
                assert found.has_sorted_indices
                with pytest.raises(ValueError, match="read-only"):
                    found.data[0] = 1.0


@pytest.mark.usefixtures("cache_folder")
def test_a_machine_builds_once_and_other_options_are_other_entries(monkeypatch):
    counts = []

    def counted(grid, k):
        counts.append(k)
        return gradient_matrices(grid, k)

    monkeypatch.setitem(cached._MAKERS, "gradient", counted)
    threads = [
        threading.Thread(target=derivative_matrices, args=("gradient", HealpixGrid(1)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cached._pairs._values.clear()
    derivative_matrices("gradient", HealpixGrid(1))
    assert counts == [8]
    derivative_matrices("gradient", HealpixGrid(1), 9)
    derivative_matrices("gradient", HealpixGrid(1, "ring"))
    assert counts == [8, 9, 8]
    assert len(list((cache_dir() / "v1" / "derivatives").glob("*/*"))) == 3


def test_unknown_derivatives_are_refused():
    with pytest.raises(ValueError, match=r"derivative must be one of .* got 'curl'"):
        derivative_matrices("curl", HealpixGrid(1))
