"""Equivariance: brute force and healpy as oracles, operators whose error is known, bad input."""

from math import comb
from typing import Any

import healpy
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.transform import Rotation
from torch import nn

from xsphere.equivariance import EquivarianceError, equivariance_error
from xsphere.equivariance.exact import exact_squares
from xsphere.equivariance.graph_errors import degrees_of_text, errors_text, graph_errors
from xsphere.equivariance.random_fields import HealpixFields, PlaneFields
from xsphere.equivariance.sampled import Sampling, confidence_interval
from xsphere.graph import SphereGraph
from xsphere.graph.directions import directional_matrices
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.nn import ChebConv, SparseOperator
from xsphere.plotting.curves import plot_equivariance, write_curves

RNG = np.random.default_rng(7)


def some_points(n: int, spread: float = 1.0, seed: int = 1) -> PointGrid:
    """Points all over the sphere, most of them near one place if the spread is small."""
    vectors = np.random.default_rng(seed).standard_normal((n, 3))
    vectors[8:] = [1.0, 0.2, 0.1] + spread * vectors[8:]
    x, y, z = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    return PointGrid(np.rad2deg(np.arctan2(y, x)), np.rad2deg(np.arcsin(z)))


def random_rows(grid: Grid, k: int, total: float, seed: int = 2) -> sparse.csr_array:
    """Rows of k random weights on random cells, with a given sum."""
    rng = np.random.default_rng(seed)
    n_cells = grid.n_cells
    columns = np.concatenate([rng.choice(n_cells, k, replace=False) for _ in range(n_cells)])
    weights = rng.standard_normal((n_cells, k))
    weights += (total - weights.sum(axis=1, keepdims=True)) / k
    starts = np.arange(0, k * n_cells + 1, k)
    return sparse.csr_array((weights.ravel(), columns, starts), shape=(n_cells, n_cells))


def brute_force(matrix: sparse.csr_array, grid: Grid, degree: int) -> tuple[float, float]:
    """Squared error and response from all covariances, in extended precision."""
    points = grid.centres.astype(np.longdouble)
    u = ((points[:, None] - points) ** 2).sum(-1) / 2
    # Murphy's formula: P_l - 1 as a polynomial in u
    legendre_less_one = sum(
        comb(degree, k) * comb(degree + k, k) * (-u / 2) ** k for k in range(1, degree + 1)
    ) + np.zeros_like(u)
    weights = matrix.toarray().astype(np.longdouble)
    sums, areas = weights.sum(axis=1), np.asarray(grid.areas, np.longdouble)
    power = ((weights @ legendre_less_one) * weights).sum(axis=1) + sums**2
    aligned = (weights * legendre_less_one).sum(axis=1) + sums
    response = areas @ aligned / areas.sum()
    residual = areas @ (power - 2 * response * aligned + response**2)
    return float(residual / (areas @ power)), float(response)


@pytest.mark.parametrize(
    "grid",
    [
        some_points(60),
        LatLonGrid(np.arange(0, 360, 36.0), [-80, -30, 10, 50]),
        HealpixGrid(2, "ring", cell_ids=[5, 3, 90, 91, 92, 150, 40, 41]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("total", [0.0, 1.5])
def test_exact_expectations_are_those_of_all_pairs(grid: Grid, total: float) -> None:
    matrix = random_rows(grid, 5, total)
    degrees = np.array([3, 1, 2, 6])
    squared, response = exact_squares(matrix, grid, degrees)
    expected = np.array([brute_force(matrix, grid, degree) for degree in degrees])
    assert np.allclose(squared, expected[:, 0], rtol=1e-11)
    assert np.allclose(response, expected[:, 1], rtol=1e-11, atol=1e-13)


def test_exact_expectations_hold_for_crowded_cells() -> None:
    # the plain sum of weights times P_l would cancel to one part in 1e16
    grid = LatLonGrid(10 + np.arange(9) * 0.002, 30 + np.arange(7) * 0.002)
    second = sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(9, 9)).tolil()
    second[[0, -1]] = 0
    inside = sparse.diags_array([0.0, *[1.0] * 5, 0.0])
    matrix = sparse.csr_array(sparse.kron(inside, second))
    squared, response = exact_squares(matrix, grid, np.array([2, 5]))
    expected = np.array([brute_force(matrix, grid, degree) for degree in (2, 5)])
    assert np.allclose(squared, expected[:, 0], rtol=1e-6)
    assert np.allclose(response, expected[:, 1], rtol=1e-6)


def test_exact_expectations_hold_for_narrow_rows_at_high_degrees() -> None:
    # few terms of the series are kept, and they hold as far as the widest pair
    grid = HealpixGrid(3, cell_ids=np.arange(150))
    matrix = SphereGraph(grid, k=8, weights="gaussian").laplacian
    degrees = np.array([23, 11])
    squared, response = exact_squares(matrix, grid, degrees)
    expected = np.array([brute_force(matrix, grid, degree) for degree in degrees])
    assert np.allclose(squared, expected[:, 0], rtol=1e-8)
    assert np.allclose(response, expected[:, 1], rtol=1e-8)


def test_small_departures_from_a_scalar_are_not_lost() -> None:
    grid = some_points(60)
    matrix = sparse.csr_array(sparse.eye_array(60) + 1e-7 * random_rows(grid, 5, 0.5))
    squared, _ = exact_squares(matrix, grid, np.array([3]))
    assert np.isclose(squared[0], brute_force(matrix, grid, 3)[0], rtol=1e-3)
    assert squared[0] < 1e-13


def test_exact_expectations_are_those_of_many_random_fields() -> None:
    level, degree = 3, 9
    matrix = SphereGraph(HealpixGrid(level, "ring"), k=8, weights="gaussian").laplacian
    rng, squares = np.random.default_rng(5), np.zeros(3)
    for _ in range(400):
        alm = np.zeros(healpy.Alm.getsize(degree), complex)
        places = healpy.Alm.getidx(degree, degree, np.arange(degree + 1))
        alm[places] = rng.standard_normal(degree + 1) + 1j * rng.standard_normal(degree + 1)
        alm[places[0]] = np.sqrt(2) * alm[places[0]].real
        f = healpy.alm2map(alm, 2**level, lmax=degree)
        g = matrix @ f
        squares += g @ g, f @ g, f @ f
    found = equivariance_error(matrix, HealpixGrid(level, "ring"), degree)
    assert found.response is not None
    assert np.isclose(found.response[0], squares[1] / squares[2], rtol=1e-2)
    expected = 1 - squares[1] ** 2 / (squares[0] * squares[2])
    assert np.isclose(found.squared_error[0], expected, rtol=0.1)
    assert np.isclose(found.error[0], np.sqrt(expected), rtol=0.05)


def test_a_projection_on_one_degree_is_equivariant_where_quadrature_is_exact() -> None:
    latitudes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(12)[0]))
    grid, degree = LatLonGrid(np.arange(0, 360, 15.0), latitudes), 4
    kernel = np.polynomial.legendre.Legendre.basis(degree)(grid.centres @ grid.centres.T)
    matrix = sparse.csr_array(kernel * grid.areas * (2 * degree + 1) / (4 * np.pi))
    found = equivariance_error(matrix, grid, degree)
    assert found.error[0] < 2e-6
    assert found.response is not None
    assert np.isclose(found.response[0], 1)
    with pytest.raises(ValueError, match=r"maps degrees \[3\] to zero"):
        equivariance_error(matrix, grid, [3, degree])


@given(st.integers(0, 1000), st.floats(-3, 3), st.sampled_from([1e-20, -2.0, 1e15]))
def test_errors_are_relative_and_responses_scale(seed: int, total: float, scale: float) -> None:
    grid = HealpixGrid(1, cell_ids=[3, 1, 40, 20, 22, 9, 30])
    matrix = random_rows(grid, 3, total, seed)
    one = equivariance_error(matrix, grid, [1, 4])
    other = equivariance_error(matrix * scale, grid, [1, 4])
    assert one.response is not None
    assert other.response is not None
    assert np.all((one.error >= 0) & (one.error <= 1))
    assert np.array_equal(one.squared_error, one.error**2) or np.allclose(
        one.squared_error, one.error**2
    )
    assert np.allclose(one.error, other.error, rtol=1e-9, atol=1e-12)
    assert np.allclose(one.response * scale, other.response, rtol=1e-9, atol=abs(scale) * 1e-12)


def test_order_and_scheme_of_cells_change_nothing() -> None:
    order = np.random.default_rng(3).permutation(192)
    grids = HealpixGrid(2), HealpixGrid(2, "ring"), HealpixGrid(2, "ring", cell_ids=order)
    for method in ("schur", "rotations"):
        first, *others = (
            equivariance_error(
                SphereGraph(grid, k=8, weights="gaussian").laplacian,
                grid,
                [2, 7],
                method=method,
                n_signals=2,
                n_rotations=2,
            ).error
            for grid in grids
        )
        for other in others:
            assert np.allclose(first, other, rtol=1e-9)


def test_callables_agree_with_the_exact_expectation() -> None:
    grid = some_points(300)
    matrix = SphereGraph(grid, k=6, weights="gaussian").laplacian
    exact = equivariance_error(matrix, grid, [1, 5])
    sampled = equivariance_error(lambda f: matrix @ f, grid, [1, 5], n_signals=60)
    assert exact.response is not None
    assert sampled.response is not None
    assert np.allclose(sampled.response, exact.response, rtol=0.1)
    assert np.allclose(sampled.error, exact.error, rtol=0.15)
    assert np.all((sampled.low < sampled.error) & (sampled.error < sampled.high))
    assert np.all(sampled.squared_error > sampled.error**2)
    assert not exact.sampled
    assert np.array_equal(exact.low, exact.high)


def test_a_filter_of_several_orders_responds_with_its_polynomial() -> None:
    grid = HealpixGrid(3)
    matrix = SphereGraph(grid, k=20, weights="gaussian").scaled_laplacian

    def chebyshev(f: Any) -> Any:
        return f - 0.5 * (matrix @ f) + 0.25 * (2 * matrix @ (matrix @ f) - f)

    found = equivariance_error(chebyshev, grid, [4, 10])
    eigenvalues = equivariance_error(matrix, grid, [4, 10]).response
    assert eigenvalues is not None
    expected = np.polynomial.chebyshev.chebval(eigenvalues, [1, -0.5, 0.25])
    assert np.allclose(found.response, expected, rtol=1e-2)
    assert np.all(found.error < 0.05)


def test_channels_respond_with_a_matrix() -> None:
    grid, mix = HealpixGrid(2), np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    found = equivariance_error(lambda f: f @ mix.T, grid, [3, 1], n_channels=2)
    assert found.response is not None
    assert np.allclose(found.response, [mix, mix])
    assert np.all(found.error < 1e-12)
    # more unknowns than fields: any operator would fit
    with pytest.raises(ValueError, match="n_signals must be more than"):
        equivariance_error(lambda f: f, grid, [0], n_channels=5, n_signals=5)


@pytest.mark.parametrize("kind", [PlaneFields, HealpixFields])
def test_fields_have_one_degree_and_rotate_as_vectors_do(kind: Any) -> None:
    grid = HealpixGrid(4, "ring")
    fields, rng = kind(grid), np.random.default_rng(8)
    rotation = Rotation.random(1, rng).as_matrix()[0]
    values = fields.values(fields.drawn(6, 40, rng))
    assert np.isclose((values**2).mean(), 1, rtol=0.2)
    spectrum = sum(healpy.anafast(channel, lmax=12, iter=3) for channel in values.T)
    assert spectrum.argmax() == 6
    assert np.delete(spectrum, 6).max() < 1e-6 * spectrum[6]
    # a field of degree 1 is a linear function of the place
    drawn = fields.drawn(1, 3, rng)
    before = np.linalg.lstsq(grid.centres, fields.values(drawn))[0]
    after = np.linalg.lstsq(grid.centres, fields.values(fields.rotated(drawn, rotation)))[0]
    assert np.allclose(after, rotation @ before, atol=1e-10)
    drawn = fields.drawn(6, 2, rng)
    turned = HealpixFields(grid).of_values(fields.values(drawn))
    expected = fields.values(fields.rotated(drawn, rotation))
    found = HealpixFields(grid).values(HealpixFields(grid).rotated(turned, rotation))
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


def test_the_floor_is_that_of_the_identity_for_what_must_be_rotated() -> None:
    grid, options = HealpixGrid(3), {"n_signals": 2, "n_rotations": 3, "seed": 5}
    identity = equivariance_error(sparse.eye_array(768), grid, [2, 20], method="rotations")
    assert np.all(identity.error < 1e-12)
    assert np.all(identity.floor < 1e-12)
    assert identity.response is None
    # a random sign in every cell leaves nothing of the field: all is rotated
    signs = np.random.default_rng(0).choice([-1.0, 1.0], 768)
    found = equivariance_error(
        sparse.diags_array(signs), grid, [2, 20], method="rotations", **options
    )
    assert np.all(found.error > 0.5)
    assert 1e-6 < found.floor[0] < 5e-3 < 1e-2 < found.floor[1] < 0.4
    part = sparse.diags_array(1 + 0.1 * signs)
    small = equivariance_error(part, grid, [2, 20], method="rotations", **options)
    assert np.allclose(small.floor / found.floor, 0.1, rtol=0.1)
    assert np.allclose(small.error / found.error, 0.1, rtol=0.1)


def test_rotations_tell_isotropic_smoothing_from_a_map_that_is_not() -> None:
    grid = HealpixGrid(3, "ring")

    def smoothed(f: Any) -> Any:
        return np.stack([healpy.smoothing(c, sigma=0.2, iter=3) for c in f.T], axis=1)

    options: dict[str, Any] = {"method": "rotations", "n_signals": 2, "n_rotations": 2}
    assert np.all(equivariance_error(smoothed, grid, [3, 8], **options).error < 5e-3)
    z = grid.centres[:, 2:]
    assert np.all(equivariance_error(lambda f: z * f, grid, [3, 8], **options).error > 0.5)


def test_turns_tell_operators_that_know_the_axis_from_those_that_know_places() -> None:
    grid = HealpixGrid(4, "ring", cell_ids=np.random.default_rng(1).permutation(3072))
    x, _, z = grid.centres.T[:, :, None]
    options: dict[str, Any] = {"n_signals": 2, "n_rotations": 3}

    def measured(operator: Any, method: Any) -> EquivarianceError:
        return equivariance_error(operator, grid, [3, 10], method=method, **options)

    assert np.all(measured(lambda f: z * f, "turns").error < 3e-3)
    assert np.all(measured(lambda f: z * f, "rotations").error > 0.5)
    assert np.all(measured(lambda f: x * f, "turns").error > 0.5)
    east, north, *_ = directional_matrices(grid)
    for matrix in (east, north):
        assert np.all(measured(matrix, "turns").error < 0.02)
        assert np.all(measured(matrix, "rotations").error > 0.5)
        rectified = measured(lambda f, m=matrix: np.maximum(m @ f, 0), "turns")
        assert np.all(rectified.error < 0.1)
    # signs that differ from ring to ring are beyond any band, and turn with their rings
    signs = np.random.default_rng(5).choice([-1.0, 1.0], 63)
    rings = healpy.pix2ring(16, grid.ids)[:, None] - 1
    found = measured(lambda f: signs[rings] * f, "turns")
    assert np.all(found.error < 0.1)
    assert np.all(measured(lambda f: signs[rings] * f, "rotations").error > 0.5)
    # an identity leaves nothing to be turned as values
    assert np.all(measured(sparse.eye_array(3072), "turns").error < 1e-12)


def test_turned_values_are_those_of_the_turned_field() -> None:
    grid = HealpixGrid(3, "ring", cell_ids=np.random.default_rng(2).permutation(768))
    fields, rng = HealpixFields(grid), np.random.default_rng(3)
    drawn = fields.drawn(7, 2, rng)
    values = fields.values(drawn)
    rotation = Rotation.from_euler("z", [[1.234]]).as_matrix()[0]
    expected = fields.values(fields.rotated(drawn, rotation))
    difference = fields.turned(values, rotation) - expected
    assert np.linalg.norm(difference) < 1e-2 * np.linalg.norm(expected)
    # orders of a ring are turned exactly, jumps at the poles or not: here east of a fixed direction
    lon, lat = np.deg2rad(grid.centre_lonlat)
    jump = np.stack([np.cos(lon), np.sign(lat) * np.sin(lon)], axis=1)
    turned = np.stack([np.cos(lon - 1.234), np.sign(lat) * np.sin(lon - 1.234)], axis=1)
    assert np.allclose(fields.turned(jump, rotation), turned, atol=1e-12)
    # by a quarter, what stands anywhere arrives as it was
    noise = rng.standard_normal((768, 1))
    quarter = Rotation.from_euler("z", [[np.pi / 2]]).as_matrix()[0]
    before = grid.cells_at(np.rad2deg(lon) - 90, np.rad2deg(lat))
    assert np.allclose(fields.turned(noise, quarter), noise[before], atol=1e-12)


def test_outputs_without_cells_may_depend_on_latitude_but_not_on_longitude() -> None:
    options: dict[str, Any] = {"method": "turns", "output": "global", "n_signals": 2}
    x, _, z = WHOLE.centres.T
    assert np.all(equivariance_error(lambda f: z**2 @ f, WHOLE, [2], **options).error < 1e-10)
    assert np.all(equivariance_error(lambda f: x**2 @ f, WHOLE, [2], **options).error > 0.1)


def test_rotations_see_what_schur_sees_twice() -> None:
    # the part that is no scalar appears before and after the rotation, independently
    grid = HealpixGrid(4)
    matrix = SphereGraph(grid, k=20, weights="gaussian").laplacian
    # values of the last rotate with an error several times the operator's
    degrees = [5, 10, 20, 45]
    schur = equivariance_error(matrix, grid, degrees)
    rotations = equivariance_error(matrix, grid, degrees, method="rotations")
    assert np.allclose(rotations.error / schur.error, np.sqrt(2), rtol=0.2)
    assert np.all((rotations.low <= rotations.error) & (rotations.error <= rotations.high))
    assert np.allclose(np.sqrt(rotations.squared_error), rotations.error, rtol=0.2)
    assert np.all(rotations.floor < 0.3 * rotations.error)


class Network(nn.Module):
    """One convolution, batch norm frozen for good, dropout while training."""

    def __init__(self, grid: Grid, out: str = "cells", activation: Any = torch.relu) -> None:
        super().__init__()
        graph = SphereGraph(grid, k=8, weights="gaussian")
        operator = SparseOperator(graph.scaled_laplacian)
        torch.manual_seed(4)
        self.convolution = ChebConv(2, 3, 3, operator, bias=False)
        self.norm = nn.BatchNorm1d(3, affine=False).eval()
        self.dropout = nn.Dropout(0.5)
        self.out, self.activation = out, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        y = self.dropout(self.activation(self.convolution(x)))
        return {"cells": y, "mean": y.mean(dim=1), "first": y[:, 0]}[self.out]


def test_networks_are_measured_in_evaluation_mode_and_left_as_they_were() -> None:
    grid = HealpixGrid(3)
    network = Network(grid).train()
    network.norm.eval()
    options: dict[str, Any] = {"method": "rotations", "n_channels": 2, "n_signals": 2}
    found = equivariance_error(network, grid, [2, 4], **options)
    assert [network.training, network.norm.training, network.dropout.training] == [
        True,
        False,
        True,
    ]
    again = equivariance_error(network, grid, [2, 4], **options)
    assert np.array_equal(found.error, again.error)
    assert np.all((found.error > found.floor) & (found.error < 0.3))
    with pytest.raises(ValueError, match="must be linear for method='schur'"):
        equivariance_error(network, grid, [2], n_channels=2)


def test_outputs_without_cells_are_compared() -> None:
    options: dict[str, Any] = {"method": "rotations", "output": "global", "n_channels": 2}
    for grid in (HealpixGrid(3), some_points(400)):
        mean = equivariance_error(Network(grid, "mean"), grid, [3], **options)
        first = equivariance_error(Network(grid, "first"), grid, [3], **options)
        assert mean.error[0] < 0.2 < 0.4 < first.error[0]
        assert mean.floor[0] == 0


def test_a_linear_layer_is_measured_by_schur() -> None:
    grid = HealpixGrid(3)
    network = Network(grid, activation=lambda x: x)
    found = equivariance_error(network, grid, [3, 6], n_channels=2)
    assert found.response is not None
    assert found.response.shape == (2, 3, 2)
    assert np.all((found.error > 1e-4) & (found.error < 0.2))


def test_seeds_and_degrees_say_what_is_drawn() -> None:
    grid = HealpixGrid(2)
    matrix = SphereGraph(grid, k=8, weights="gaussian").laplacian

    def measured(degrees: Any, seed: int) -> EquivarianceError:
        return equivariance_error(
            matrix, grid, degrees, method="rotations", seed=seed, n_signals=2, n_rotations=2
        )

    one, same, other = measured([2, 5], 1), measured([5], 1), measured([5], 2)
    assert one.error[1] == same.error[0] != other.error[0]
    assert (one.low[1], one.high[1]) == (same.low[0], same.high[0])
    assert same.to_table() == str(same)
    sampling = Sampling(n_signals=1, n_rotations=1)
    assert sampling.rng(2).random() != sampling.rng(3).random()


def test_confidence_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(0), 0
    for trial in range(200):
        signals = rng.normal(3, 0.5, (20, 1))
        ratios = signals + rng.normal(0, 0.2, (20, 5))
        sampling = Sampling(n_signals=20, n_rotations=5, seed=trial, confidence=0.9)
        low, high = confidence_interval(ratios, 3, sampling)
        covered += low < 3 < high
    assert 0.82 < covered / 200 < 0.97
    many = rng.normal(3, 0.5, (2000, 1))
    low, high = confidence_interval(many, 3, Sampling(n_signals=1, n_rotations=1, confidence=0.9))
    error = many.std() / np.sqrt(many.size)
    assert np.allclose([many.mean() - low, high - many.mean()], 1.645 * error, rtol=0.12)
    single = confidence_interval(np.ones((1, 1)), 3, Sampling(n_signals=1, n_rotations=1))
    assert np.isnan(single).all()


IDENTITY = sparse.eye_array(192)
WHOLE = HealpixGrid(2)
PART = HealpixGrid(2, cell_ids=np.arange(100))
LATLON = LatLonGrid(np.arange(0, 360, 30.0), np.arange(-75, 90, 30.0))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((IDENTITY, WHOLE, 12), {}, ValueError, r"from 0 to 11 .* 1 others: \[12\]"),
        ((IDENTITY, WHOLE, [2, -1]), {}, ValueError, r"1 others: \[-1\]"),
        ((IDENTITY, WHOLE, [2.0]), {}, TypeError, "degrees must be integers, got float64"),
        ((IDENTITY, WHOLE, [True]), {}, TypeError, "degrees must be integers, got bool"),
        ((IDENTITY, WHOLE, []), {}, ValueError, "degrees must be a number or a non-empty list"),
        ((IDENTITY, LATLON, [9]), {}, ValueError, "degrees must be from 0 to 7"),
        ((IDENTITY, 192, [2]), {}, TypeError, "grid must be a Grid"),
        ((IDENTITY, PART, [2]), {}, ValueError, r"shape \(100, 100\).* got \(192, 192\)"),
        ((np.eye(192), WHOLE, [2]), {}, TypeError, "operator must be a sparse matrix"),
        ((SphereGraph(WHOLE), WHOLE, [2]), {}, TypeError, "give the laplacian of a graph"),
        ((IDENTITY * np.nan, WHOLE, [2]), {}, ValueError, "finite weights, got 192"),
        ((IDENTITY, WHOLE, [2]), {"method": "euler"}, ValueError, "method must be one of"),
        ((IDENTITY, WHOLE, [2]), {"output": "cell"}, ValueError, "output must be one of"),
        (
            (IDENTITY, WHOLE, [2]),
            {"n_signals": 0, "n_rotations": 1.5, "seed": -1, "confidence": 1},
            ValueError,
            "n_signals must be .* got 0; n_rotations must .* got 1.5; seed .* -1; confidence",
        ),
        ((IDENTITY, WHOLE, [2]), {"n_channels": 2}, ValueError, "a callable for several channels"),
        (
            (np.negative, WHOLE, [2]),
            {"output": "global"},
            ValueError,
            "output='global' needs method='rotations' or 'turns'",
        ),
        (
            (sparse.eye_array(100), PART, [2]),
            {"method": "rotations"},
            ValueError,
            "whole sphere, .* lacks 47.9%.* use method='schur'",
        ),
        (
            (np.negative, LATLON, [2]),
            {"method": "rotations"},
            ValueError,
            "on a HealpixGrid only, .* or output='global'",
        ),
        (
            (np.negative, LATLON, [2]),
            {"method": "turns"},
            ValueError,
            "method='turns' rotates outputs on a HealpixGrid only",
        ),
        (
            (sparse.eye_array(100), PART, [2]),
            {"method": "turns"},
            ValueError,
            "method='turns' needs a whole sphere",
        ),
        ((np.abs, WHOLE, [2]), {}, ValueError, "must be linear .* use method='rotations'"),
        ((lambda f: f + 1, WHOLE, [2]), {}, ValueError, "must be linear"),
        ((lambda f: f[:5], WHOLE, [2]), {}, ValueError, r"shape \(192, n_out_channels\), got"),
        ((lambda f: f[:, 0], WHOLE, [2]), {}, ValueError, "use output='global'"),
        (
            (lambda f: f, WHOLE, [2]),
            {"method": "rotations", "output": "global"},
            ValueError,
            r"one vector \(n_out_channels,\) .* use output='cells'",
        ),
        (
            (lambda f: np.full_like(f, np.nan), WHOLE, [2]),
            {},
            ValueError,
            "finite values, got 192 of 192",
        ),
        (
            (SphereGraph(WHOLE).laplacian, WHOLE, [0]),
            {"method": "rotations"},
            ValueError,
            r"maps degrees \[0\] to zero",
        ),
        (
            (SphereGraph(WHOLE).laplacian.__matmul__, WHOLE, [0]),
            {},
            ValueError,
            r"maps degrees \[0\] to zero",
        ),
        ((SphereGraph(WHOLE).laplacian, WHOLE, [3, 0]), {}, ValueError, r"maps degrees \[0\]"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        equivariance_error(*arguments, **options)


def test_nothing_is_applied_before_the_checks() -> None:
    calls: list[int] = []
    with pytest.raises(ValueError, match="degrees must be from 0 to 11"):
        equivariance_error(lambda f: calls.append(1), WHOLE, [2, 99], method="rotations")
    assert not calls


def test_inputs_stay_as_they_were() -> None:
    matrix = SphereGraph(WHOLE).laplacian.copy()
    matrix.indices[:2] = matrix.indices[1::-1]  # unsorted
    matrix.data[:2] = matrix.data[1::-1]
    before = matrix.data.copy(), matrix.indices.copy()
    equivariance_error(matrix, WHOLE, [3])
    assert np.array_equal(matrix.data, before[0])
    assert np.array_equal(matrix.indices, before[1])

    def greedy(f: Any) -> Any:
        result = 2 * f
        f[:] = np.nan
        return result

    assert equivariance_error(greedy, WHOLE, [3]).error[0] < 1e-12


def test_tables_name_what_they_show() -> None:
    found = equivariance_error(SphereGraph(WHOLE).laplacian, WHOLE, [2, 7])
    lines = found.to_table().splitlines()
    assert "not squared" in lines[0]
    assert lines[1].split() == ["degree", "error", "low", "high", "squared", "floor", "c(l)"]
    assert [float(x) for x in lines[3].split()] == pytest.approx(
        [7, *[found.error[1]] * 3, found.squared_error[1], 0, found.response[1]],  # type: ignore[index]
        rel=5e-3,
    )
    assert float(lines[-1].split()[1]) == pytest.approx(found.error.mean(), rel=5e-3)


def test_graphs_are_compared_in_one_table() -> None:
    errors = graph_errors(WHOLE, [3, 6], neighbours=[8, 20], weights=["gaussian", "perraudin2019"])
    assert list(errors) == ["gaussian k=8", "gaussian k=20", "perraudin2019 k=8"]
    lines = errors_text(errors).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["3", "6", "mean"]
    assert [float(x) for x in lines[2].split()[1:]] == pytest.approx(
        [*(found.error[0] for found in errors.values()), 0], rel=5e-3
    )
    assert degrees_of_text("3, 5-7,2", WHOLE).tolist() == [3, 5, 6, 7, 2]
    for text in ("3,", "a-4", "3-", "-1", "2.5"):
        with pytest.raises(ValueError, match="numbers and ranges such as"):
            degrees_of_text(text, WHOLE)


def test_curves_show_errors_bands_and_the_floor(tmp_path: Any) -> None:
    matrix = SphereGraph(WHOLE).laplacian
    options: dict[str, Any] = {"n_signals": 2, "n_rotations": 2}
    rotated = equivariance_error(matrix, WHOLE, [7, 2], method="rotations", **options)
    exact = equivariance_error(matrix, WHOLE, [7, 2])
    ax = plot_equivariance({"by rotations": rotated, "exact": exact}, title="graphs")
    assert ax.get_yscale() == "log"
    assert np.array_equal(ax.lines[0].get_xdata(), [2, 7])
    assert np.array_equal(ax.lines[0].get_ydata(), rotated.error[::-1])
    assert np.array_equal(ax.lines[1].get_ydata(), rotated.floor[::-1])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["by rotations", "exact", "floor of the measure"]
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert np.isclose(heights.max(), rotated.high.max())
    assert np.isclose(heights.min(), rotated.low.min())
    (label,) = plot_equivariance({"exact": exact}).get_legend().get_texts()
    assert label.get_text() == "exact"
    with pytest.raises(ValueError, match="at least one EquivarianceError"):
        plot_equivariance({})
    with pytest.raises(ValueError, match="the picture must end in one of"):
        write_curves({"exact": exact}, tmp_path / "picture.xyz")
