"""Pooling layers and U-Nets on grids of any kind, alone and mixed."""

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.dense import dense_product
from xsphere.graph import SphereGraph
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid, coarsened_points
from xsphere.nn import SphereUNet, UNetLayout, WeightedPool, pool, unpool
from xsphere.weights import pooling_matrix, unpooling_matrix

STATIONS = PointGrid.random(150, seed=2)
REGION = PointGrid(*np.random.default_rng(5).uniform([[5.0], [44.0]], [[16.0], [55.0]], (2, 60)))
GRIDS: dict[str, tuple[Grid, Grid]] = {
    "lat-lon": (LatLonGrid.equiangular(10), LatLonGrid.gaussian(5)),
    "stations": (STATIONS, coarsened_points(STATIONS, 40)),
    "region": (REGION, coarsened_points(REGION, 15)),
    "icosahedral": (PointGrid.icosahedral(2), PointGrid.icosahedral(1)),
    "cubed": (PointGrid.cubed_sphere(6), PointGrid.cubed_sphere(3)),
    "mixed": (HealpixGrid(2), LatLonGrid.equiangular(5)),
    "ring": (HealpixGrid(2, "ring"), HealpixGrid(1, "ring")),
    "part": (HealpixGrid(2, cell_ids=np.arange(32)), HealpixGrid(1, cell_ids=np.arange(8))),
}
OPTIONS = {"weights": "gaussian"}


def layout(how: str = "mean", kernel_size: int = 3) -> UNetLayout:
    return UNetLayout(
        features=(3, 5),
        depths=(0, 1),
        kernel_size=kernel_size,
        pooling=how,  # type: ignore[arg-type]
    )


def network(grids: tuple[Grid, ...], how: str = "mean") -> SphereUNet:
    return SphereUNet.on_grids(3, 2, grids, layout(how), k=6, **OPTIONS)


# --- layers


def brute_max(matrix: sparse.csr_array, x: torch.Tensor) -> torch.Tensor:
    dense = torch.tensor(matrix.toarray())
    rows = [x[:, row >= 0.1 * row.max()].amax(1) for row in dense]
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("name", GRIDS)
def test_pooling_is_its_definition(name: str) -> None:
    fine, coarse = GRIDS[name]
    matrix = pooling_matrix(fine, coarse)
    x = torch.randn(2, fine.n_cells, 3)
    assert torch.equal(WeightedPool(matrix, "max")(x), brute_max(matrix, x))
    mean = WeightedPool(matrix, "mean")(x)
    torch.testing.assert_close(mean.double(), dense_product(matrix, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_weights_of_nested_cells_are_the_reshape(how: str) -> None:
    fine, coarse = HealpixGrid(2), HealpixGrid(1)
    x = torch.randn(2, 192, 3)
    weighted = WeightedPool(pooling_matrix(fine, coarse), how)(x)  # type: ignore[arg-type]
    torch.testing.assert_close(weighted, pool(x, how), atol=1e-6, rtol=0)  # type: ignore[arg-type]


def test_slivers_are_no_part_of_a_maximum_and_missing_values_are() -> None:
    matrix = sparse.csr_array([[0.9, 0.0899, 0.0101], [0.0, 0.08, 0.92], [0.5, 0.05, 0.45]])
    x = torch.tensor([[[1.0], [9.0], [5.0]]])
    assert WeightedPool(matrix, "max")(x).flatten().tolist() == [1.0, 5.0, 9.0]
    x[0, 0] = torch.nan
    pooled = WeightedPool(matrix, "max")(x).flatten()
    assert torch.isnan(pooled).tolist() == [True, False, True]


def test_maxima_of_negative_values_are_negative() -> None:
    matrix = pooling_matrix(*GRIDS["stations"])
    assert (WeightedPool(matrix, "max")(-torch.ones(1, 150, 2)) == -1).all()


@pytest.mark.quick("mean")
@pytest.mark.parametrize("how", ["mean", "max"])
def test_gradients_of_pooling(how: str) -> None:
    layer = WeightedPool(pooling_matrix(STATIONS, HealpixGrid(0)), how).double()  # type: ignore[arg-type]
    x = torch.randn(2, 150, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_pooling_is_no_part_of_a_checkpoint() -> None:
    for how in ("mean", "max"):
        assert not WeightedPool(pooling_matrix(*GRIDS["cubed"]), how).state_dict()  # type: ignore[arg-type]


def test_pooling_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="how must be 'max' or 'mean', got 'sum'"):
        WeightedPool(sparse.csr_array((1, 1)), "sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 have none, such as the cell at position 1"):
        WeightedPool(sparse.csr_array([[1.0], [0.0]]), "max")


# --- networks


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("name", GRIDS)
def test_networks_run_and_learn_on_any_grids(name: str, how: str) -> None:
    grids = GRIDS[name]
    net = network(grids, how)
    y = net(torch.randn(2, grids[0].n_cells, 3))
    assert y.shape == (2, grids[0].n_cells, 2)
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("name", ["lat-lon", "stations", "mixed"])
def test_results_do_not_depend_on_the_batch(name: str, how: str) -> None:
    net = network(GRIDS[name], how).eval()
    x = torch.randn(4, GRIDS[name][0].n_cells, 3)
    with torch.inference_mode():
        together = net(x)
        alone = torch.cat([net(sample[None]) for sample in x])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("name", ["lat-lon", "stations", "mixed"])
def test_training_computes_what_inference_does(name: str, how: str) -> None:
    net = network(GRIDS[name], how).eval().double()
    x = torch.randn(4, GRIDS[name][0].n_cells, 3, dtype=torch.float64)
    with torch.inference_mode():
        expected = net(x)
    # in double precision: single rounds differently the more, the larger the random weights
    torch.testing.assert_close(net(x), expected, atol=1e-10, rtol=1e-10)


def test_what_a_coarse_cell_sees_reaches_its_fine_cells_only_by_the_matrices() -> None:
    fine, coarse = GRIDS["icosahedral"]
    x = torch.zeros(1, fine.n_cells, 1)
    changed = x.clone()
    changed[0, 100] = 5.0
    seen = unpooling_matrix(coarse, fine) @ pooling_matrix(fine, coarse)[:, [100]]
    n_moved = []
    # of some random weights nothing passes the rectifiers
    for _ in range(10):
        net = SphereUNet.on_grids(1, 1, (fine, coarse), layout(kernel_size=1), **OPTIONS).eval()
        moved = (net(changed) - net(x)).abs().detach()[0, :, 0] > 0
        assert set(np.flatnonzero(moved)) <= {100, *np.flatnonzero(seen.toarray()[:, 0])}
        n_moved.append(int(moved.sum()))
    assert max(n_moved) > 1


@pytest.mark.parametrize("how", ["mean", "max"])
def test_permuting_stations_permutes_the_output(how: str) -> None:
    rng = np.random.default_rng(3)
    fine, coarse = GRIDS["stations"]
    orders = rng.permutation(fine.n_cells), rng.permutation(coarse.n_cells)
    moved = tuple(
        PointGrid(grid.centre_lonlat[0][order], grid.centre_lonlat[1][order])
        for grid, order in zip((fine, coarse), orders, strict=True)
    )
    net, other = network((fine, coarse), how).eval(), network(moved, how).eval()
    other.load_state_dict(net.state_dict())
    net, other = net.double(), other.double()
    x = torch.randn(2, fine.n_cells, 3).double()
    torch.testing.assert_close(net(x)[:, orders[0]], other(x[:, orders[0]]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_nested_cells_keep_the_reshape_to_the_bit(how: str) -> None:
    grids = (HealpixGrid(2), HealpixGrid(1))
    graphs = [SphereGraph(grid, k=6, **OPTIONS) for grid in grids]  # type: ignore[arg-type]
    before = SphereUNet(3, 2, [g.scaled_laplacian for g in graphs], layout(how)).eval()
    net = network(grids, how).eval()
    assert list(net.state_dict()) == list(before.state_dict())
    net.load_state_dict(before.state_dict())
    x = torch.randn(2, 192, 3)
    assert torch.equal(net(x), before(x))
    # as written out by hand, with nothing but the layers
    fine, coarse = before.encoder
    up, top = before.decoder
    middle = pool(fine(x), how)  # type: ignore[arg-type]
    below = up(coarse(middle), middle)
    assert torch.equal(net(x), before.head(top(below, x, spread=True)))
    torch.testing.assert_close(net(x), before.head(top(unpool(below), x)), atol=1e-5, rtol=1e-5)


def test_names_and_sizes_of_parameters_are_the_same_on_all_grids() -> None:
    shapes = {
        name: {key: tuple(value.shape) for key, value in network(grids).state_dict().items()}
        for name, grids in GRIDS.items()
    }
    assert len({str(sizes) for sizes in shapes.values()}) == 1
    assert not any(key.startswith(("down", "up")) for key in shapes["ring"])


@pytest.mark.parametrize("how", ["mean", "max"])
def test_ring_order_is_nested_order_permuted(how: str) -> None:
    nested, ring = (HealpixGrid(2), HealpixGrid(1)), GRIDS["ring"]
    net, other = network(nested, how).eval(), network(ring, how).eval()
    other.load_state_dict(net.state_dict())
    x = torch.randn(1, 192, 3)
    order = np.array(ring[0].nested_ids)  # type: ignore[attr-defined]
    torch.testing.assert_close(net(x)[:, order], other(x[:, order]), atol=1e-4, rtol=1e-4)


def test_graphs_of_few_cells_have_fewer_neighbours() -> None:
    grids = (STATIONS, coarsened_points(STATIONS, 20), coarsened_points(STATIONS, 4))
    deep = UNetLayout(features=(2, 2, 2), depths=(0, 1, 2))
    net = SphereUNet.on_grids(1, 1, grids, deep, k=8, **OPTIONS)
    assert net.encoder[2].laplacian.shape == (4, 4)
    assert net(torch.randn(1, 150, 1)).shape == (1, 150, 1)


def test_wrong_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="one grid for each of its 2 levels, got 1"):
        network((STATIONS,))
    with pytest.raises(ValueError, match=r"single cell \[PointGrid\(1 points\)\]"):
        network((STATIONS, PointGrid([0.0], [0.0])))
    identity = sparse.csr_array(sparse.eye_array(8))
    half = sparse.csr_array((4, 8))
    with pytest.raises(ValueError, match="each of the 1 steps between levels, got 2"):
        SphereUNet(1, 1, [identity, identity], layout(), poolings=[None, None])
    with pytest.raises(ValueError, match="got None at step 0 from 8 to 8 cells, not a quarter"):
        SphereUNet(1, 1, [identity, identity], layout(), poolings=[None])
    with pytest.raises(ValueError, match=r"shapes \[\(4, 8\), \(4, 8\)\] at step 0, not"):
        SphereUNet(1, 1, [identity, identity], layout(), poolings=[(half, half)])
