"""Derivatives by direction: exact formulas on the sphere, symmetries, regions, what is refused."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from xsphere.config import set_options
from xsphere.graph import SphereGraph, gradient_matrices
from xsphere.graph.directions import directional_matrices
from xsphere.graph.neighbours import nearest_neighbours
from xsphere.grids import (
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    tangent_vectors,
    vectors_to_lonlat,
)

# plane waves through space, whose derivatives on the sphere are known everywhere
WAVES = np.array([[1.3, -0.4, 2.1], [0.3, 1.9, -0.8], [-1.1, 0.9, 0.5]])
PHASES = np.array([0.3, 1.1, -0.7])


def waves(grid: Grid) -> np.ndarray:
    return np.sin(grid.centres @ WAVES.T + PHASES).sum(axis=-1)


def derivatives(grid: Grid) -> np.ndarray:
    """All five derivatives of `waves`, per radian: second ones along great circles."""
    angles = grid.centres @ WAVES.T + PHASES
    slope, curvature = np.cos(angles), -np.sin(angles)
    east, north = (vectors @ WAVES.T for vectors in tangent_vectors(*grid.centre_lonlat))
    # along a great circle the place x itself accelerates by -x
    inwards = -(slope * (grid.centres @ WAVES.T)).sum(axis=-1)
    ee = (curvature * east**2).sum(axis=-1) + inwards
    nn = (curvature * north**2).sum(axis=-1) + inwards
    en = (curvature * east * north).sum(axis=-1)
    first = [(slope * along).sum(axis=-1) for along in (east, north)]
    return np.stack([*first, ee - nn, 2 * en, ee + nn])


def found(grid: Grid, field: np.ndarray, spacing: Any, k: int = 8) -> np.ndarray:
    """The same of a field by the matrices, per radian."""
    orders = np.array([1, 1, 2, 2, 2])
    scaled = np.stack([matrix @ field for matrix in directional_matrices(grid, k)])
    return np.asarray(scaled / np.power.outer(np.asarray(spacing), orders).T.reshape(5, -1))


def healpix_spacing(level: int) -> float:
    return float(np.sqrt(4 * np.pi / (12 * 4**level)))


def fibonacci(n: int) -> PointGrid:
    i = np.arange(n) + 0.5
    return PointGrid((i * 360 / ((1 + 5**0.5) / 2)) % 360, np.rad2deg(np.arcsin(1 - 2 * i / n)))


def scattered(n: int, seed: int = 3) -> PointGrid:
    return PointGrid(*vectors_to_lonlat(np.random.default_rng(seed).normal(size=(n, 3))))


def latlon(n_lat: int, *, at_poles: bool = False) -> LatLonGrid:
    edge = 0 if at_poles else 90 / n_lat
    return LatLonGrid(np.arange(2 * n_lat) * 180 / n_lat, np.linspace(-90 + edge, 90 - edge, n_lat))


def permuted(matrix: sparse.csr_array, cells: np.ndarray) -> np.ndarray:
    """Entry (i, j) for the cells that stand at i and j."""
    return np.asarray(matrix.tocsr()[cells][:, cells].toarray())


@pytest.mark.parametrize("k", [8, 20])
def test_derivatives_converge_to_those_of_the_sphere(k: int) -> None:
    errors = []
    for level in (3, 4, 5):
        grid = HealpixGrid(level)
        truth = derivatives(grid)
        difference = found(grid, waves(grid), healpix_spacing(level), k) - truth
        errors.append(np.abs(difference).max(axis=1) / truth.std(axis=1))
        root_mean = np.sqrt((difference**2).mean(axis=1)) / truth.std(axis=1)
    for coarse, fine in pairwise(errors):
        # second order for slopes and first for curvatures, at the worst cell
        assert (coarse / fine > [3.3, 3.3, 1.7, 1.7, 1.7]).all()
    assert (root_mean < [0.004, 0.004, 0.01, 0.01, 0.01]).all()


@pytest.mark.parametrize("make", [latlon, lambda n: latlon(n, at_poles=True)])
def test_derivatives_converge_on_latitudes_and_longitudes(make) -> None:
    errors = []
    for n_lat in (24, 48):
        grid = make(n_lat)
        truth = derivatives(grid)
        # a harmonic says what the spacing is: the Laplacian of z is -2 z
        z = grid.centres[:, 2]
        squares = -(directional_matrices(grid)[4] @ z)[np.abs(z) > 0.5] / (2 * z[np.abs(z) > 0.5])
        spacing = np.sqrt(np.median(squares))
        assert 0.7 < spacing / np.deg2rad(180 / n_lat) < 1.5
        difference = found(grid, waves(grid), spacing) - truth
        errors.append(np.abs(difference).max(axis=1) / truth.std(axis=1))
    assert (errors[0] / errors[1] > [3, 3, 1.7, 1.7, 1.7]).all()
    assert (errors[1] < [0.02, 0.02, 0.1, 0.3, 0.1]).all()


def test_slopes_are_healpys_and_harmonics_are_eigenfunctions() -> None:
    rng, level, degree = np.random.default_rng(2), 5, 4
    alm = np.zeros(healpy.Alm.getsize(degree), complex)
    order = np.arange(degree + 1)
    alm[healpy.Alm.getidx(degree, degree, order)] = rng.normal(size=(2, degree + 1)).T @ [1, 1j]
    alm[degree] = alm[degree].real
    field, south, east = healpy.alm2map_der1(alm, 2**level, lmax=degree)
    result = found(HealpixGrid(level, "ring"), field, healpix_spacing(level))
    assert np.abs(result[0] - east).max() < 0.01 * np.abs(east).max()
    assert np.abs(result[1] + south).max() < 0.01 * np.abs(south).max()
    expected = -degree * (degree + 1) * field
    assert np.abs(result[4] - expected).max() < 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("k", [8, 13])
def test_slopes_are_those_of_the_gradient_where_both_fit_a_quadratic(k: int) -> None:
    grid = fibonacci(700)
    for mine, other in zip(directional_matrices(grid, k), gradient_matrices(grid, k), strict=False):
        scale = np.abs(mine).sum(axis=1) / np.abs(other).sum(axis=1)
        difference = mine - sparse.diags_array(scale) @ other
        assert np.abs(difference.data).max() < 1e-10


GRIDS: list[Grid] = [
    HealpixGrid(0),
    HealpixGrid(1, "ring"),
    HealpixGrid(3),
    HealpixGrid(4, cell_ids=np.random.default_rng(0).permutation(600)[:400]),
    latlon(12, at_poles=True),
    LatLonGrid(np.arange(0, 361, 10.0), np.linspace(80, -70, 14)),
    LatLonGrid(np.arange(17) * 0.5, np.arange(11) * 0.5 + 84.5),
    scattered(150),
    PointGrid([10, 10, 20, 30, 40, 50, 60, 12, 13, 14], [0, 0, 0, 1, 2, 3, 9, 5, 6, 7]),
]


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("k", [5, 8])
def test_matrices_share_one_pattern_and_rows_sum_to_zero(grid: Grid, k: int) -> None:
    matrices = directional_matrices(grid, k)
    assert len(matrices) == 5
    for matrix in matrices:
        assert matrix.shape == (grid.n_cells, grid.n_cells)
        assert matrix.dtype == np.float64
        assert matrix.indices.dtype == np.int32
        assert np.array_equal(matrix.indptr, matrices[0].indptr)
        assert np.array_equal(matrix.indices, matrices[0].indices)
        assert np.isfinite(matrix.data).all()
        # bounded whatever the neighbours: nothing is divided by what is nearly zero
        assert np.abs(matrix.data).max() < 200
        np.testing.assert_allclose(matrix @ np.ones(grid.n_cells), 0, atol=1e-12)
    rows = np.repeat(np.arange(grid.n_cells), np.diff(matrix.indptr))
    steps = np.diff(rows * grid.n_cells + matrix.indices)
    assert (steps > 0).all()
    assert (rows == matrix.indices).sum() == grid.n_cells


@pytest.mark.parametrize("k", [5, 8, 20])
def test_neighbours_on_healpix_are_those_of_the_graph(k: int) -> None:
    matrix, laplacian = directional_matrices(HealpixGrid(3), k)[2], SphereGraph(HealpixGrid(3), k)
    assert np.array_equal(matrix.indptr, laplacian.laplacian.indptr)
    assert np.array_equal(matrix.indices, laplacian.laplacian.indices)
    ids, _ = nearest_neighbours(HealpixGrid(3), k)
    counts = np.diff(matrix.indptr)
    assert counts.min() >= k + 1
    assert counts.mean() < 1.2 * (k + 1)
    for cell in (0, 63, 100, 700):
        row = matrix.indices[matrix.indptr[cell] : matrix.indptr[cell + 1]]
        assert set(ids[cell]) <= set(row)


def test_other_grids_have_k_neighbours_or_a_block() -> None:
    assert set(np.diff(directional_matrices(scattered(150), 7)[0].indptr).tolist()) == {8}
    assert set(np.diff(directional_matrices(latlon(20), 8)[0].indptr).tolist()) == {9}


# how the directions change: (east, north, ee - nn, 2 en, Laplacian)
SYMMETRIES = [
    pytest.param(lambda lon, lat: (lon + 90, lat), [1, 1, 1, 1, 1], id="quarter turn"),
    pytest.param(lambda lon, lat: (lon + 180, lat), [1, 1, 1, 1, 1], id="half turn"),
    pytest.param(lambda lon, lat: (-lon, lat), [-1, 1, 1, -1, 1], id="mirrored east and west"),
    pytest.param(lambda lon, lat: (lon, -lat), [1, -1, 1, -1, 1], id="mirrored north and south"),
]


@pytest.mark.parametrize(("change", "signs"), SYMMETRIES)
@pytest.mark.parametrize("k", [5, 8, 20])
@pytest.mark.parametrize("scheme", ["nested", "ring"])
def test_symmetries_of_healpix_permute_the_matrices(change, signs, k: int, scheme: Any) -> None:
    grid = HealpixGrid(2, scheme)
    image = grid.cells_at(*change(*grid.centre_lonlat))
    for matrix, sign in zip(directional_matrices(grid, k), signs, strict=True):
        np.testing.assert_allclose(permuted(matrix, image), sign * matrix.toarray(), atol=1e-11)


@given(st.floats(-180, 180))
def test_turns_about_the_axis_change_nothing_on_points(angle: float) -> None:
    grid = scattered(60)
    lon, lat = grid.centre_lonlat
    with set_options(cache_dir=None):
        matrices = directional_matrices(grid, 7)
        turned = directional_matrices(PointGrid(lon + angle, lat), 7)
    for one, other in zip(matrices, turned, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_allclose(one.data, other.data, atol=1e-9)


def test_a_turn_about_another_axis_turns_the_directions() -> None:
    """Slopes as vectors, the pair of curvatures by twice the angle, the Laplacian not at all."""
    grid = scattered(120)
    rotation = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    other = PointGrid(*vectors_to_lonlat(grid.centres @ rotation.T))
    before, after = (
        np.stack([m.toarray() for m in directional_matrices(g, 8)]) for g in (grid, other)
    )
    old_east, _ = tangent_vectors(*grid.centre_lonlat)
    new_east, new_north = tangent_vectors(*other.centre_lonlat)
    moved = old_east @ rotation.T
    turn = ((moved * new_east).sum(-1) + 1j * (moved * new_north).sum(-1))[:, None]
    np.testing.assert_allclose(
        after[0] + 1j * after[1], turn * (before[0] + 1j * before[1]), atol=1e-8
    )
    np.testing.assert_allclose(
        after[2] + 1j * after[3], turn**2 * (before[2] + 1j * before[3]), atol=1e-8
    )
    np.testing.assert_allclose(after[4], before[4], atol=1e-8)


@pytest.mark.quick("8")
@pytest.mark.parametrize("k", [8, 20])
def test_entries_are_of_one_size_at_all_levels(k: int) -> None:
    norms = [
        [np.sqrt(matrix.power(2).sum(axis=1).mean()) for matrix in directional_matrices(grid, k)]
        for grid in (HealpixGrid(2), HealpixGrid(4), HealpixGrid(6))
    ]
    assert np.ptp(np.log(norms), axis=0).max() < 0.15
    assert 0.2 < np.min(norms) < np.max(norms) < 5
    dense, sparse_points = (
        np.abs(directional_matrices(fibonacci(n), k)[0].data).max() for n in (300, 3000)
    )
    assert 0.5 < dense / sparse_points < 2


def test_wind_of_a_rotating_body_has_its_vorticity() -> None:
    level = 5
    grid, h = HealpixGrid(level, "ring"), healpix_spacing(level)
    axis = np.array([0.3, -0.5, 0.8])
    velocity = np.cross(axis, grid.centres)
    u, v = ((velocity * d).sum(-1) for d in tangent_vectors(*grid.centre_lonlat))
    east, north, *_ = directional_matrices(grid)
    lat = np.deg2rad(grid.centre_lonlat[1])
    vorticity = (east @ v - north @ u) / h + u * np.tan(lat)
    divergence = (east @ u + north @ v) / h - v * np.tan(lat)
    away = np.abs(lat) < np.deg2rad(60)
    np.testing.assert_allclose(vorticity[away], (2 * grid.centres @ axis)[away], atol=0.01)
    np.testing.assert_allclose(divergence[away], 0, atol=0.01)


def test_tilts_of_fronts_are_told_apart() -> None:
    grid = HealpixGrid(5)
    lon, lat = np.deg2rad(grid.centre_lonlat)
    near = (np.abs(lat) < 0.3) & (np.abs(np.rad2deg(lon) - 180) < 20)
    number, matrices = 12.0, directional_matrices(grid)

    def mean_response(direction: float, matrix: sparse.csr_array) -> float:
        angle = np.deg2rad(direction)
        wave = np.sin(number * (np.cos(angle) * (lon - np.pi) + np.sin(angle) * lat))
        return float((matrix @ wave)[near] @ wave[near] / (wave[near] @ wave[near]))

    curvature = number**2 * healpix_spacing(5) ** 2
    tilts = (0, 45, 90, 135)
    stretching = [mean_response(tilt, matrices[2]) / curvature for tilt in tilts]
    shearing = [mean_response(tilt, matrices[3]) / curvature for tilt in tilts]
    np.testing.assert_allclose(stretching, [-1, 0, 1, 0], atol=0.12)
    np.testing.assert_allclose(shearing, [0, -1, 0, 1], atol=0.12)
    isotropic = [mean_response(tilt, matrices[4]) / curvature for tilt in tilts]
    np.testing.assert_allclose(isotropic, -1, atol=0.1)


def test_a_part_has_the_rows_of_the_whole_and_exact_slopes_at_its_border() -> None:
    whole = HealpixGrid(4)
    ids = np.random.default_rng(6).permutation(np.arange(300, 900))
    part = HealpixGrid(4, cell_ids=ids)
    matrices, of_whole = directional_matrices(part), directional_matrices(whole)
    counts = np.diff(matrices[0].indptr)
    complete = counts == np.diff(of_whole[0].indptr)[ids]
    assert 300 < complete.sum() < 580
    for matrix, other in zip(matrices, of_whole, strict=True):
        expected = permuted(other, ids)[complete]
        np.testing.assert_allclose(matrix.toarray()[complete], expected, atol=1e-12)
    # a height above a tangent plane is linear in the plane: no cell sees its curvature but twice
    east, north = tangent_vectors(*part.centre_lonlat)
    border = np.flatnonzero(~complete)
    h = healpix_spacing(4)
    for cell in border[counts[border] > 4]:
        for direction, matrix in zip((east, north), matrices, strict=False):
            slope = (matrix @ (part.centres @ direction[cell]))[cell]
            assert abs(slope / h - 1) < 1e-9
        assert abs((matrices[0] @ (part.centres @ north[cell]))[cell]) < 1e-9


def test_a_quadratic_is_exact_where_neighbours_determine_it() -> None:
    grid = LatLonGrid(np.arange(9) * 1.0 + 20, np.arange(8) * 1.0 + 40)
    matrices = [matrix.toarray() for matrix in directional_matrices(grid)]
    east, north = tangent_vectors(*grid.centre_lonlat)
    # corners are the hardest: all neighbours lie in one quadrant
    for cell in (0, 8, 35, 63, 71):
        x, y = grid.centres @ east[cell], grid.centres @ north[cell]
        step = (matrices[0] @ x)[cell]
        field = 0.7 * x - 0.2 * y + 1.1 * x**2 - 0.4 * x * y + 0.3 * y**2
        expected = [0.7 * step, -0.2 * step, *(step**2 * np.array([1.6, -0.8, 2.8]))]
        result = [(matrix @ field)[cell] for matrix in matrices]
        np.testing.assert_allclose(result, expected, atol=1e-9)


def test_what_neighbours_do_not_determine_is_zero() -> None:
    # stations along a line that climbs to the north-east at the equator
    slanted = np.arange(-10, 11) * 0.3
    grid = PointGrid(slanted, slanted)
    east, north, stretching, shearing, _ = directional_matrices(grid)
    along = grid.centres @ (np.array([0.0, 1.0, 1.0]) / np.sqrt(2))
    across = grid.centres @ [0.0, 1.0, -1.0]
    middle = 10
    slopes = np.array([(east @ along)[middle], (north @ along)[middle]])
    assert slopes[0] > 0.005
    # all that is known lies along the line
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-3)
    assert abs((east @ across)[middle]) < 1e-3 * slopes[0]
    assert abs((stretching @ along**2)[middle]) < 1e-3 * abs((shearing @ along**2)[middle])
    # cells without neighbours, and with a single one to the north-west
    lonely = HealpixGrid(5, cell_ids=[0, 5000, 5001])
    matrices = directional_matrices(lonely)
    assert matrices[0].nnz == 5
    for matrix in matrices:
        assert np.abs(matrix.toarray()[0]).max() == 0
    assert np.abs(matrices[1].toarray()[1]).max() > 0.1


def test_poles_are_places_like_any_other() -> None:
    grid = latlon(24, at_poles=True)
    east, north = tangent_vectors(*grid.centre_lonlat)
    pole = np.flatnonzero(np.abs(grid.centre_lonlat[1]) == 90)
    assert pole.size == 96
    direction = np.array([0.4, -0.7, 0.2])
    field = grid.centres @ direction
    to_east, to_north = (matrix @ field for matrix in directional_matrices(grid)[:2])
    step = np.hypot(to_east[pole], to_north[pole]) / np.hypot(0.4, 0.7)
    assert np.ptp(step) < 1e-3 * step.mean()
    # east of the longitude that the grid gives for the cell
    np.testing.assert_allclose(to_east[pole] / step, east[pole] @ direction, atol=2e-3)
    np.testing.assert_allclose(to_north[pole] / step, north[pole] @ direction, atol=2e-3)


@given(st.integers(0, 10_000), st.floats(0, 4), st.integers(5, 9))
def test_any_points_have_finite_bounded_rows(seed: int, flatness: float, k: int) -> None:
    """However nearly they lie on a line, and wherever some of them coincide."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(40, 2)) * [10, 10 ** (1 - flatness)]
    spread[:4] = spread[4:8]
    grid = PointGrid(spread[:, 0], spread[:, 1])
    with set_options(cache_dir=None):
        matrices = directional_matrices(grid, k)
    for matrix in matrices:
        assert np.isfinite(matrix.data).all()
        assert np.abs(matrix @ np.ones(40)).max() < 1e-9
        assert np.sqrt(matrix.power(2).sum(axis=1)).max() < 1000


def test_matrices_are_kept_read_only_and_lists_are_not_shared(cache_folder: Path) -> None:
    grid = HealpixGrid(1)
    first = directional_matrices(grid, 6)
    kept = first[0].toarray()
    first.clear()
    second = directional_matrices(grid, 6)
    np.testing.assert_array_equal(second[0].toarray(), kept)
    for part in (second[3].data, second[3].indices, second[3].indptr):
        assert not part.flags.writeable
    entries = list((cache_folder / "v1" / "directions").glob("*/*"))
    directional_matrices(grid, 11)
    assert len(list((cache_folder / "v1" / "directions").glob("*/*"))) == len(entries) + 1


@pytest.mark.parametrize(
    ("grid", "k", "error", "message"),
    [
        (12, 8, TypeError, r"grid must be a Grid, such as HealpixGrid\(6\), got 12"),
        (HealpixGrid(1), 8.0, TypeError, "k must be an integer, got 8.0"),
        (
            HealpixGrid(1),
            4,
            ValueError,
            "k must be at least 5 neighbours to fit a quadratic, got 4",
        ),
        (HealpixGrid(0), 12, ValueError, "k must be less than the number of cells, got k=12"),
        (scattered(8), 8, ValueError, "k must be less than the number of cells, got k=8 for 8"),
        (PointGrid([0] * 5 + [1, 2, 3], [0] * 8), 6, ValueError, "number of distinct cells, got"),
        (LatLonGrid(np.arange(8.0), [1, 2]), 8, ValueError, "at least 3 rows and columns, got 2"),
    ],
)
def test_what_has_no_derivatives_is_refused(grid, k, error, message: str) -> None:
    with pytest.raises(error, match=message):
        directional_matrices(grid, k)
