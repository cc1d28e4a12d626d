"""The operator against the plain product; layers and networks against what they promise."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from tests.dense import dense_product
from tests.tiers import examples
from xsphere.graph import SphereGraph
from xsphere.grids import HealpixGrid
from xsphere.nn import (
    PRESETS,
    ChebConv,
    ConvBlock,
    SparseOperator,
    SphereUNet,
    UNetLayout,
    jaccard_loss,
    normalize_layout,
    pool,
    soft_cross_entropy,
    unpool,
)

SMALL = UNetLayout(features=(3, 5), depths=(0, 1), kernel_size=3)


def laplacians(level: int, n_levels: int) -> list[sparse.csr_array]:
    return [SphereGraph(HealpixGrid(level - i), k=8).scaled_laplacian for i in range(n_levels)]


def random_matrix(shape: tuple[int, int], seed: int = 0, density: float = 0.3) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array(sparse.random_array(shape, density=density, rng=rng))


@examples(25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4))
def test_operator_is_the_matrix_product(n: int, m: int, batch: int, channels: int) -> None:
    matrix = random_matrix((n, m), seed=n * 10 + m)
    x = torch.randn(batch, m, channels)
    expected = dense_product(matrix, x)
    assert torch.allclose(SparseOperator(matrix)(x).double(), expected, atol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_operator_gradients(symmetric: bool) -> None:
    matrix = random_matrix((6, 6))
    matrix = sparse.csr_array(matrix + matrix.T) if symmetric else matrix
    operator = SparseOperator(matrix).double()
    assert operator.is_symmetric == symmetric
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator, x)
    assert torch.autograd.gradgradcheck(operator, x)


def test_operator_is_no_part_of_a_checkpoint() -> None:
    assert not SparseOperator(random_matrix((4, 4))).state_dict()


def dense_chebyshev(laplacian: np.ndarray, x: np.ndarray, layer: ChebConv) -> np.ndarray:
    """The formula itself, in float64, by the coefficients and powers of each polynomial."""
    weight = layer.weight.detach().double().numpy()
    y = np.zeros((*x.shape[:2], weight.shape[2]))
    for order, w in enumerate(weight):
        coefficients = np.polynomial.chebyshev.cheb2poly([0] * order + [1])
        powers = (np.linalg.matrix_power(laplacian, p) for p in range(order + 1))
        y += sum(c * power for c, power in zip(coefficients, powers, strict=True)) @ x @ w
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()


@pytest.mark.parametrize("weights", ["gaussian", "consistent"])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
@pytest.mark.parametrize("grad", [True, False])
def test_chebconv_is_its_formula(kernel_size: int, grad: bool, weights: str) -> None:
    matrix = SphereGraph(HealpixGrid(1), k=8, weights=weights).scaled_laplacian
    # both the operators with a transpose of their own and those that are their own are met
    assert SparseOperator(matrix).is_symmetric == (weights == "gaussian")
    layer = ChebConv(3, 4, kernel_size, SparseOperator(matrix))
    x = torch.randn(2, 48, 3)
    with torch.set_grad_enabled(grad):
        y = layer(x)
    expected = dense_chebyshev(matrix.toarray(), x.double().numpy(), layer)
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=2e-5)


def test_permuting_cells_and_graph_permutes_the_output() -> None:
    matrix = laplacians(2, 1)[0]
    order = np.random.default_rng(0).permutation(192)
    layer = ChebConv(3, 4, 4, SparseOperator(matrix))
    permuted = copy.deepcopy(layer)
    permuted.laplacian = SparseOperator(sparse.csr_array(matrix[order][:, order]))
    x = torch.randn(2, 192, 3)
    torch.testing.assert_close(layer(x)[:, order], permuted(x[:, order]))


def test_permuting_the_hierarchy_permutes_the_output_of_the_network() -> None:
    fine, coarse = laplacians(2, 2)
    rng = np.random.default_rng(1)
    parents = rng.permutation(48)
    children = np.concatenate([4 * parent + rng.permutation(4) for parent in parents])
    network = SphereUNet(3, 2, [fine, coarse], SMALL).eval()
    moved = [
        sparse.csr_array(matrix[order][:, order])
        for matrix, order in ((fine, children), (coarse, parents))
    ]
    other = SphereUNet(3, 2, moved, SMALL).eval()
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 192, 3)
    # in double precision, where the order of sums means nothing whatever the random weights
    network, other, x = network.double(), other.double(), x.double()
    torch.testing.assert_close(network(x)[:, children], other(x[:, children]))


def test_turning_the_sphere_by_a_quarter_turns_the_output() -> None:
    import healpy

    level, n = 3, 768
    lon, lat = healpy.pix2ang(8, np.arange(n), nest=True, lonlat=True)
    turned = healpy.ang2pix(8, (lon + 90) % 360, lat, nest=True, lonlat=True)
    # the graph of touching cells has the symmetry of the grid; nearest neighbours break ties
    graphs = [SphereGraph(HealpixGrid(level - i), weights="perraudin2019") for i in range(2)]
    network = SphereUNet(2, 3, [g.scaled_laplacian for g in graphs], SMALL).eval()
    x = torch.randn(1, n, 2)
    torch.testing.assert_close(network(x)[:, turned], network(x[:, turned]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_pooling_undoes_unpooling(how: str) -> None:
    x = torch.randn(2, 12, 3)
    assert torch.equal(pool(unpool(x), how), x)  # type: ignore[arg-type]


def test_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = SphereUNet(16, 3, [sparse.csr_array((1, 1))] * 6, "deepsphere")
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert n_parameters == 12_933_123  # 12.93 M


def test_small_network_is_small() -> None:
    with torch.device("meta"):
        network = SphereUNet(16, 3, [sparse.csr_array((1, 1))] * 4, "small")
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000


def test_results_do_not_depend_on_the_batch() -> None:
    network = SphereUNet(3, 2, laplacians(3, 4), "small").eval()
    x = torch.randn(5, 768, 3)
    with torch.inference_mode():
        together = network(x)
        alone = torch.cat([network(sample[None]) for sample in x])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_training_and_inference_paths_agree() -> None:
    network = SphereUNet(3, 2, laplacians(2, 2), SMALL).eval()
    x = torch.randn(2, 192, 3)
    with torch.no_grad():
        fast = network(x)
    torch.testing.assert_close(network(x), fast, atol=1e-5, rtol=1e-5)


def test_every_parameter_learns() -> None:
    network = SphereUNet(3, 2, laplacians(2, 2), SMALL)
    network(torch.randn(2, 192, 3)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_state_dict_round_trip() -> None:
    first, second = (SphereUNet(3, 2, laplacians(2, 2), SMALL).eval() for _ in range(2))
    x = torch.randn(1, 192, 3)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


def test_block_normalises_and_rectifies() -> None:
    block = ConvBlock(3, 4, 2, SparseOperator(laplacians(1, 1)[0]))
    y = block(5 + 3 * torch.randn(8, 48, 3))
    assert float(y.detach().min()) == 0.0
    # half a standard normal has the mean square of one half
    assert float(y.detach().square().mean()) == pytest.approx(0.5, abs=0.05)


def test_soft_cross_entropy_of_hard_targets_is_that_of_torch() -> None:
    logits, classes = torch.randn(2, 7, 3), torch.randint(0, 3, (2, 7))
    weights = torch.tensor([1.0, 5.0, 2.0])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), classes.flatten(), weights)
    target = torch.nn.functional.one_hot(classes, 3).float()
    torch.testing.assert_close(soft_cross_entropy(logits, target, weights), expected)


def test_jaccard_loss_of_certain_predictions_is_that_of_sets() -> None:
    target = torch.tensor([[0, 0, 1, 1, 1, 0]])
    predicted = torch.tensor([[0, 1, 1, 1, 0, 0]])
    one_hot = torch.nn.functional.one_hot
    loss = jaccard_loss(100.0 * one_hot(predicted, 2), one_hot(target, 2).float(), smooth=0.0)
    assert float(loss) == pytest.approx(1 - (2 / 4 + 2 / 4) / 2, abs=1e-6)


def test_losses_ignore_cells_without_target() -> None:
    logits = torch.randn(1, 6, 2)
    target = torch.eye(2).repeat(3, 1)[None].clone()
    target[0, 4:] = 0
    changed = logits.clone()
    changed[0, 4:] += 100 * torch.randn(2, 2)
    weights = torch.ones(2)
    for loss in (
        lambda x: soft_cross_entropy(x, target, weights),
        lambda x: jaccard_loss(x, target),
    ):
        torch.testing.assert_close(loss(logits), loss(changed))


def test_layout_names_everything_wrong() -> None:
    with pytest.raises(ValueError, match=r"features must be .*; depths must be as many.*"):
        UNetLayout(features=(0,), depths=(0, 1))
    with pytest.raises(ValueError, match="depths must start at 0"):
        UNetLayout(features=(4, 4), depths=(0, 2))
    with pytest.raises(ValueError, match=r"kernel_size must be .*pooling must be"):
        UNetLayout(features=(4,), depths=(0,), kernel_size=0, pooling="sum")  # type: ignore[arg-type]


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="presets are"):
        normalize_layout("big")
    assert normalize_layout("small") is PRESETS["small"]


def test_number_of_laplacians_is_checked() -> None:
    with pytest.raises(ValueError, match="one Laplacian for each of its 4 levels, got 1"):
        SphereUNet(1, 1, [sparse.csr_array((1, 1))], "small")


def test_sizes_of_a_convolution_are_checked() -> None:
    with pytest.raises(ValueError, match="kernel_size"):
        ChebConv(1, 1, 0, SparseOperator(sparse.csr_array((1, 1))))
