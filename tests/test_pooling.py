"""Pooling and unpooling between any two grids: means, integrals, copies where cells nest."""

import healpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers import examples
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid, coarsened_points
from xsphere.weights import conservative_weights, pooling_matrix, unpooling_matrix

STATIONS = PointGrid.random(300, seed=4)
REGION = PointGrid(*np.random.default_rng(5).uniform([[5.0], [44.0]], [[16.0], [55.0]], (2, 80)))
TRIANGLES = PointGrid.icosahedral(3)
CYCLIC = LatLonGrid(np.arange(0.0, 361, 15), np.linspace(90, -90, 13))
NESTED = [
    (HealpixGrid(3), HealpixGrid(1)),
    (HealpixGrid(2, "ring"), HealpixGrid(1)),
    (HealpixGrid(2), HealpixGrid(0, "ring")),
    (HealpixGrid(2), HealpixGrid(2, "ring")),
    (HealpixGrid(3, cell_ids=[5, 16, 17, 60]), HealpixGrid(1, cell_ids=[3, 0, 1])),
    (LatLonGrid.equiangular(12), LatLonGrid.equiangular(4)),
    (PointGrid.cubed_sphere(6), PointGrid.cubed_sphere(2)),
]
GLOBAL = [
    *NESTED[:4],
    *NESTED[5:],
    (LatLonGrid.equiangular(9), LatLonGrid.gaussian(4)),
    (STATIONS, coarsened_points(STATIONS, 75)),
    (TRIANGLES, PointGrid.icosahedral(2)),
    (HealpixGrid(3), LatLonGrid.equiangular(6)),
    (LatLonGrid.equiangular(16), HealpixGrid(1)),
    (PointGrid.cubed_sphere(8), PointGrid.icosahedral(1)),
    (STATIONS, LatLonGrid.equiangular(5)),
    (HealpixGrid(2, "ring"), coarsened_points(STATIONS, 40)),
    (PointGrid.reduced_gaussian(6), PointGrid.reduced_gaussian(3)),
]
OTHERS = [
    NESTED[4],
    (CYCLIC, LatLonGrid.equiangular(5)),
    (LatLonGrid.equiangular(24), CYCLIC),
    (REGION, coarsened_points(REGION, 20)),
    (REGION, PointGrid([7.0, 12.0], [46.0, 51.0])),
    (HealpixGrid(2), PointGrid([0.0, 120.0, 240.0], [0.0, 0.0, 0.0])),
]


@pytest.mark.parametrize(("fine", "coarse"), [*GLOBAL, *OTHERS], ids=repr)
def test_constants_stay_constant(fine: Grid, coarse: Grid) -> None:
    pool, unpool = pooling_matrix(fine, coarse), unpooling_matrix(coarse, fine)
    assert pool.shape == unpool.T.shape == (coarse.n_cells, fine.n_cells)
    for matrix in (pool, unpool):
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-14)
        assert (matrix.data > 0).all()
        assert matrix.has_sorted_indices
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


@pytest.mark.parametrize(("fine", "coarse"), GLOBAL, ids=repr)
def test_integrals_are_kept_on_the_sphere(fine: Grid, coarse: Grid) -> None:
    # Voronoi areas are those of the polygons to 1e-9; all else is rounding
    pool, unpool = pooling_matrix(fine, coarse), unpooling_matrix(coarse, fine)
    np.testing.assert_allclose(coarse.areas @ pool, fine.areas, rtol=1e-7)
    np.testing.assert_allclose(fine.areas @ unpool, coarse.areas, rtol=1e-7)


@pytest.mark.parametrize(("fine", "coarse"), NESTED, ids=repr)
def test_where_cells_nest_pooling_undoes_unpooling(fine: Grid, coarse: Grid) -> None:
    pool, unpool = pooling_matrix(fine, coarse), unpooling_matrix(coarse, fine)
    np.testing.assert_array_equal(np.diff(unpool.indptr), 1)
    np.testing.assert_allclose(unpool.data, 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose((pool @ unpool).toarray(), np.eye(coarse.n_cells), atol=1e-12)


def test_where_cells_do_not_nest_only_constants_come_back() -> None:
    fine, coarse = TRIANGLES, PointGrid.icosahedral(2)
    there = (pooling_matrix(fine, coarse) @ unpooling_matrix(coarse, fine)).toarray()
    assert 0.4 < there.diagonal().min() <= there.diagonal().max() < 0.9


@pytest.mark.parametrize("scheme", ["ring", "nested"])
def test_equals_healpy(scheme: str) -> None:
    field = np.random.default_rng(2).normal(size=768)
    order = {"ring": "RING", "nested": "NESTED"}[scheme]
    expected = healpy.ud_grade(field, 2, order_in=order, order_out="RING")
    pool = pooling_matrix(HealpixGrid(3, scheme), HealpixGrid(1, "ring"))
    np.testing.assert_allclose(pool @ field, expected)
    unpool = unpooling_matrix(HealpixGrid(1, "ring"), HealpixGrid(3, scheme))
    copied = healpy.ud_grade(expected, 8, order_in="RING", order_out=order)
    np.testing.assert_allclose(unpool @ expected, copied)


def test_nested_order_is_a_reshape() -> None:
    field = np.random.default_rng(1).normal(size=768)
    pooled = pooling_matrix(HealpixGrid(3), HealpixGrid(2)) @ field
    np.testing.assert_allclose(pooled, field.reshape(-1, 4).mean(axis=1))


def test_rows_and_columns_that_divide_are_block_means_by_area() -> None:
    fine, coarse = LatLonGrid.equiangular(12), LatLonGrid.equiangular(12, 8)
    # centres of the first columns are at 0: three fine columns around 0, from -22.5 to 22.5
    field = np.random.default_rng(3).normal(size=fine.shape)
    rolled = np.roll(field, 1, axis=1).reshape(12, 8, 3)
    pooled = (pooling_matrix(fine, coarse) @ field.ravel()).reshape(coarse.shape)
    np.testing.assert_allclose(pooled, rolled.mean(axis=2))


def test_icosahedral_cells_are_those_around_and_shares_of_the_next() -> None:
    pool = pooling_matrix(TRIANGLES, PointGrid.icosahedral(2))
    # a vertex of the level below comes first, and has the cells of its six neighbours cut in half
    own = pool.diagonal()
    assert (np.diff(pool.indptr)[12:] >= 7).all()
    assert (np.diff(pool.indptr)[:12] >= 6).all()
    assert ((own > 0.2) & (own < 0.3)).all()


def test_points_stand_for_their_voronoi_polygons() -> None:
    coarse = coarsened_points(STATIONS, 60)
    expected = conservative_weights(STATIONS.with_voronoi_bounds(), coarse.with_voronoi_bounds())
    np.testing.assert_allclose(
        pooling_matrix(STATIONS, coarse).toarray(), expected.toarray(), atol=1e-12
    )


@given(st.integers(4, 80), st.integers(0, 10**6))
@examples(15)
def test_any_stations_can_be_pooled(n_cells: int, seed: int) -> None:
    fine = PointGrid.random(80, seed)
    coarse = coarsened_points(fine, n_cells, seed=seed)
    for matrix in (pooling_matrix(fine, coarse), unpooling_matrix(coarse, fine)):
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_points_at_one_place_share_its_cell() -> None:
    order = np.append(np.arange(STATIONS.n_cells), [7, 7, 20])
    fine = PointGrid(STATIONS.lon[order], STATIONS.lat[order] + np.where(order == 20, 1e-9, 0))
    coarse = coarsened_points(STATIONS, 50)
    once = pooling_matrix(STATIONS, coarse).toarray()
    pool = pooling_matrix(fine, coarse).toarray()
    np.testing.assert_allclose(pool[:, [7, 300, 301]], np.repeat(once[:, [7]] / 3, 3, axis=1))
    np.testing.assert_allclose(pool[:, [20, 302]], np.repeat(once[:, [20]] / 2, 2, axis=1))
    unpool = unpooling_matrix(coarse, fine).toarray()
    np.testing.assert_allclose(unpool[300], unpool[7])
    # and coarse points at one place have one row twice
    twice = PointGrid(np.append(coarse.lon, coarse.lon[3]), np.append(coarse.lat, coarse.lat[3]))
    pool = pooling_matrix(STATIONS, twice).toarray()
    np.testing.assert_allclose(pool[50], pool[3])
    np.testing.assert_allclose(pool[:50], once, atol=1e-12)


def test_a_regional_network_goes_to_the_nearest_points() -> None:
    coarse = coarsened_points(REGION, 20)
    nearest = np.argmin(
        np.linalg.norm(REGION.centres[:, None] - coarse.centres[None], axis=-1), axis=1
    )
    field = np.random.default_rng(6).normal(size=80)
    expected = np.bincount(nearest, field) / np.bincount(nearest)
    np.testing.assert_allclose(pooling_matrix(REGION, coarse) @ field, expected)
    unpool = unpooling_matrix(coarse, REGION)
    np.testing.assert_array_equal(unpool.indices, nearest)
    np.testing.assert_array_equal(unpool.data, 1.0)
    both = pooling_matrix(REGION, coarse) @ unpool
    np.testing.assert_allclose(both.toarray(), np.eye(20), atol=1e-14)


def test_cells_of_a_grid_go_to_regional_points_by_area() -> None:
    fine = LatLonGrid(np.arange(5.0, 16), np.arange(44.0, 56))
    coarse = PointGrid([7.0, 14.0], [45.0, 54.0])
    nearest = np.argmin(
        np.linalg.norm(fine.centres[:, None] - coarse.centres[None], axis=-1), axis=1
    )
    field = np.random.default_rng(7).normal(size=fine.n_cells)
    expected = np.bincount(nearest, field * fine.areas) / np.bincount(nearest, fine.areas)
    np.testing.assert_allclose(pooling_matrix(fine, coarse) @ field, expected)


def test_a_network_within_boxes_ignores_what_is_outside() -> None:
    boxes = LatLonGrid([7.0, 13.0], [47.0, 51.0])
    pool = pooling_matrix(REGION, boxes)
    outside = boxes.cells_at(*REGION.centre_lonlat) < 0
    assert outside.any()
    assert not pool[:, outside].nnz
    with pytest.raises(ValueError, match=r"every cell of the fine PointGrid.* of the same region"):
        unpooling_matrix(boxes, REGION)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="must not have a higher level"):
        pooling_matrix(HealpixGrid(1), HealpixGrid(2))
    with pytest.raises(ValueError, match=r"47 have none.* position 1; take fine.at_level"):
        pooling_matrix(HealpixGrid(1, cell_ids=[0]), HealpixGrid(1, "nested"))
    with pytest.raises(ValueError, match="44 have none, such as the cell at position 4"):
        unpooling_matrix(HealpixGrid(0, cell_ids=[0]), HealpixGrid(1))
    few, many = LatLonGrid.equiangular(4), LatLonGrid.equiangular(9)
    for made in (lambda: pooling_matrix(few, many), lambda: unpooling_matrix(many, few)):
        with pytest.raises(ValueError, match=r"must not have more cells .*swap them, or choose"):
            made()
    south = LatLonGrid(np.arange(0.0, 360, 5), np.arange(-85.0, 0, 5))
    with pytest.raises(ValueError, match=r"the coarse LatLon.* but 16 have none.*at position 0"):
        pooling_matrix(south, few)


def test_the_arguments_stay_as_they_were() -> None:
    before = STATIONS.fingerprint
    pooling_matrix(STATIONS, HealpixGrid(0))
    assert STATIONS.fingerprint == before
    assert not STATIONS.has_bounds
