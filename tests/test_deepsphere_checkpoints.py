"""Weights of deepsphere-pytorch do in our layers what they did there, in every mode."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import sparse
from torch import Tensor, nn

from tests.tiers import examples
from xsphere.nn import ChebConv, ConvBlock, SparseOperator, SphereUNet, UNetLayout, pool
from xsphere.nn.deepsphere import (
    DeepsphereUNet,
    deepsphere_encoder_state,
    deepsphere_layer_state,
    from_deepsphere_weight,
)

Array = NDArray[np.float64]
State = dict[str, Tensor]
N_CELLS = tuple(4**level for level in (5, 4, 3, 2, 1, 0))
# in, out of every layer by its name in the published network, in an order of its forward pass
SIZES = {
    "encoder.enc_l5.spherical_cheb_bn_1": (2, 3),
    "encoder.enc_l5.spherical_cheb_bn_2": (3, 5),
    "encoder.enc_l4.spherical_cheb_bn": (5, 4),
    "encoder.enc_l3.spherical_cheb_bn": (4, 6),
    "encoder.enc_l2.spherical_cheb_bn": (6, 7),
    "encoder.enc_l1.spherical_cheb_bn": (7, 3),
    "encoder.enc_l0": (3, 4),
    "decoder.dec_l1.spherical_cheb_bn_pool.spherical_cheb_bn": (4, 6),
    "decoder.dec_l1.spherical_cheb_bn": (6 + 3, 6),
    "decoder.dec_l2.spherical_cheb_bn_pool.spherical_cheb_bn": (6, 2),
    "decoder.dec_l2.spherical_cheb_bn": (2 + 7, 2),
    "decoder.dec_l3.spherical_cheb_bn_pool.spherical_cheb_bn": (2, 5),
    "decoder.dec_l3.spherical_cheb_bn": (5 + 6, 5),
    "decoder.dec_l4.spherical_cheb_bn_pool.spherical_cheb_bn": (5, 3),
    "decoder.dec_l4.spherical_cheb_bn": (3 + 4, 3),
    "decoder.dec_l5.spherical_cheb_bn_pool.spherical_cheb_bn": (3, 4),
    "decoder.dec_l5": (4, 3),
}
LINEAR = ("encoder.enc_l0", "decoder.dec_l5")
KERNEL_SIZE = 3
FIRST = "encoder.enc_l5.spherical_cheb_bn_1.spherical_cheb.chebconv.weight"
MEAN = "encoder.enc_l4.spherical_cheb_bn.batchnorm.running_mean"


def random_laplacian(n_cells: int, seed: int = 0) -> sparse.csr_array:
    """Not symmetric, of norm 1, with values that single precision holds."""
    rng = np.random.default_rng([n_cells, seed])
    density = min(1.0, 6 / n_cells)
    matrix = sparse.random_array((n_cells, n_cells), density=density, rng=rng, format="csr")
    matrix = sparse.csr_array(matrix - 0.5 * sparse.eye_array(n_cells))
    matrix /= max(abs(matrix).sum(axis=1).max(), abs(matrix).sum(axis=0).max())
    return matrix.astype(np.float32).astype(np.float64)


def polynomials(laplacian: sparse.csr_array, kernel_size: int) -> list[Array]:
    """Chebyshev polynomials of a matrix from its powers, not by the recursion."""
    dense = laplacian.toarray()
    factors = [np.polynomial.chebyshev.cheb2poly(unit) for unit in np.eye(kernel_size)]
    powers = [np.linalg.matrix_power(dense, power) for power in range(kernel_size)]
    return [sum(f * p for f, p in zip(row, powers, strict=False)) for row in factors]


def published_product(weight: Array, terms: list[Array], x: Array) -> Array:
    """Terms of all channels side by side, in the published order, times the rows of the weight."""
    kernel_size, n_in, n_out = weight.shape
    n_batch, n_cells, _ = x.shape
    stacked = np.zeros((kernel_size, n_cells, n_in, n_batch))
    for order, term in enumerate(terms):
        for channel in range(n_in):
            stacked[order, :, channel] = term @ x[:, :, channel].T
    rows = stacked.transpose(3, 1, 2, 0).reshape(n_batch * n_cells, n_in * kernel_size)
    product = rows @ weight.reshape(n_in * kernel_size, n_out)
    return product.reshape(n_batch, n_cells, n_out)


class Published:
    """The published network in double precision, from its description; statistics change."""

    def __init__(self, state: State, laplacians: list[sparse.csr_array]) -> None:
        self.values = {name: value.double().numpy().copy() for name, value in state.items()}
        self.terms = [polynomials(matrix, KERNEL_SIZE) for matrix in laplacians]

    def convolved(self, layer: str, depth: int, x: Array) -> Array:
        weight, bias = (
            self.values[f"{layer}.spherical_cheb.chebconv.{name}"] for name in ("weight", "bias")
        )
        return published_product(weight, self.terms[depth], x) + bias

    def activated(self, layer: str, depth: int, x: Array, training: bool) -> Array:
        y = self.convolved(layer, depth, x)
        scale, shift, mean, var = (
            self.values[f"{layer}.batchnorm.{name}"]
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        if training:
            mean += 0.1 * (y.mean(axis=(0, 1)) - mean)
            var += 0.1 * (y.var(axis=(0, 1), ddof=1) - var)
            mean, var = y.mean(axis=(0, 1)), y.var(axis=(0, 1))
        return np.maximum((y - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)

    def __call__(self, x: Array, training: bool = False) -> tuple[Array, Array]:
        """Scores, and what leaves the encoder."""
        encoder = [layer for layer in SIZES if layer.startswith("encoder")]
        x = self.activated(encoder[0], 0, x, training)
        x = self.activated(encoder[1], 0, x, training)
        skips = []
        for depth in range(1, 5):
            x = halved(x)
            x = self.activated(encoder[depth + 1], depth, x, training)
            skips.append(x)
        x = coarsest = self.convolved(encoder[-1], 5, halved(x))
        for stage, depth in enumerate((4, 3, 2, 1), 1):
            name = f"decoder.dec_l{stage}.spherical_cheb_bn"
            x = np.repeat(x, 4, axis=1)
            x = self.activated(f"{name}_pool.spherical_cheb_bn", depth, x, training)
            x = np.concatenate([x, skips[depth - 1]], axis=2)
            x = self.activated(name, depth, x, training)
        name = "decoder.dec_l5.spherical_cheb_bn_pool.spherical_cheb_bn"
        x = self.activated(name, 0, np.repeat(x, 4, axis=1), training)
        return self.convolved("decoder.dec_l5", 0, x), coarsest


def halved(x: Array) -> Array:
    return x.reshape(x.shape[0], -1, 4, x.shape[2]).mean(axis=2)


def random_layer(rng: np.random.Generator, n_in: int, n_out: int, normalised: bool) -> State:
    def drawn(*shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    state = {
        "spherical_cheb.chebconv.weight": drawn(KERNEL_SIZE, n_in, n_out) / np.sqrt(n_in),
        "spherical_cheb.chebconv.bias": drawn(n_out),
    }
    if normalised:
        scale = drawn(n_out)
        scale[0] = 0.0  # and about half of the others are negative
        state |= {
            "batchnorm.weight": scale,
            "batchnorm.bias": drawn(n_out),
            "batchnorm.running_mean": drawn(n_out),
            "batchnorm.running_var": drawn(n_out).square() + 0.2,
            "batchnorm.num_batches_tracked": torch.tensor(7),
        }
    return state


@pytest.fixture
def state() -> State:
    rng = np.random.default_rng(5)
    return {
        f"{layer}.{name}": value
        for layer, (n_in, n_out) in SIZES.items()
        for name, value in random_layer(rng, n_in, n_out, layer not in LINEAR).items()
    }


@pytest.fixture(scope="module")
def laplacians() -> list[sparse.csr_array]:
    return [random_laplacian(n_cells) for n_cells in N_CELLS]


def assert_close(found: Tensor, expected: Array, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    error = np.abs(found.detach().double().numpy() - expected).max()
    assert error <= tolerance * np.abs(expected).max()


@examples(20)
@given(
    kernel_size=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=2, unique=True),
    seed=st.integers(0, 2**20),
)
def test_convolution_is_the_published_formula(
    kernel_size: int, sizes: list[int], seed: int
) -> None:
    n_in, n_out = (size if size != kernel_size else 10 + i for i, size in enumerate(sizes))
    rng = np.random.default_rng(seed)
    laplacian = random_laplacian(21, seed)
    weight = rng.normal(size=(kernel_size, n_in, n_out)).astype(np.float32)
    x = rng.normal(size=(2, 21, n_in)).astype(np.float32)
    layer = ChebConv(n_in, n_out, kernel_size, SparseOperator(laplacian), bias=False)
    layer.load_state_dict({"weight": from_deepsphere_weight(torch.from_numpy(weight))})
    expected = published_product(
        weight.astype(float), polynomials(laplacian, kernel_size), x.astype(float)
    )
    assert_close(layer(torch.from_numpy(x)), expected)


@given(st.tuples(*[st.integers(1, 6)] * 3))
def test_weight_of_a_channel_and_order_is_its_published_row(shape: tuple[int, int, int]) -> None:
    weight = torch.arange(float(np.prod(shape))).reshape(shape)
    kept = weight.clone()
    found = from_deepsphere_weight(weight)
    rows = weight.reshape(-1, shape[2])
    for order in range(shape[0]):
        for channel in range(shape[1]):
            assert found[order, channel].equal(rows[channel * shape[0] + order])
    found.zero_()
    assert weight.equal(kept)


def test_weight_of_an_array_keeps_its_precision() -> None:
    weight = np.arange(6.0).reshape(2, 3, 1)
    weight.flags.writeable = False
    assert from_deepsphere_weight(weight).dtype == torch.float64
    half = torch.ones(2, 3, 1, dtype=torch.bfloat16, requires_grad=True)
    found = from_deepsphere_weight(half)
    assert found.dtype == torch.bfloat16
    assert not found.requires_grad


@pytest.mark.parametrize("shape", [(12, 5), (4,), (2, 3, 4, 5), (0, 3, 5), (4, 3, 0)])
def test_weights_of_other_layouts_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(kernel_size, in_channels, out_channels\).*got \("):
        from_deepsphere_weight(torch.ones(shape))


def test_weights_that_are_no_real_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"weight must be of real numbers.*torch\.int64"):
        from_deepsphere_weight(torch.ones(2, 3, 4, dtype=torch.int64))
    with pytest.raises(TypeError, match="weight must be a tensor or an array, got <class 'str'>"):
        from_deepsphere_weight("weight")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["", "chebconv.", "spherical_cheb.chebconv."])
@pytest.mark.parametrize("prefix", ["", "a.b", "a.b."])
def test_linear_layer_is_a_convolution_wherever_it_stands(path: str, prefix: str) -> None:
    rng, laplacian = np.random.default_rng(0), random_laplacian(20)
    layer = random_layer(rng, 2, 4, normalised=False)
    start = f"{prefix.rstrip('.')}." if prefix else ""
    named = {f"{start}{path}{name.rpartition('.')[2]}": value for name, value in layer.items()}
    others = {"other.weight": torch.ones(1), f"{start}{path}laplacian": torch.eye(2)}
    given_state = named | others if prefix else named
    convolution = ChebConv(2, 4, KERNEL_SIZE, SparseOperator(laplacian))
    convolution.load_state_dict(deepsphere_layer_state(given_state, prefix))
    x = rng.normal(size=(3, 20, 2)).astype(np.float32)
    weight = named[f"{start}{path}weight"].double().numpy()
    expected = published_product(weight, polynomials(laplacian, KERNEL_SIZE), x.astype(float))
    expected += named[f"{start}{path}bias"].double().numpy()
    assert_close(convolution(torch.from_numpy(x)), expected)


def test_layer_without_bias_has_none() -> None:
    weight = {"chebconv.weight": torch.ones(2, 3, 4)}
    assert list(deepsphere_layer_state(weight)) == ["weight"]
    norm = {f"batchnorm.{name}": torch.ones(4) for name in ("weight", "bias", "running_var")}
    norm["batchnorm.running_mean"] = torch.arange(4.0)
    found = deepsphere_layer_state(weight | norm)
    assert found["norm.running_mean"].equal(torch.arange(4.0))
    assert found["norm.num_batches_tracked"] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_states_keep_the_precision_of_the_checkpoint(state: State, dtype: torch.dtype) -> None:
    changed = {name: v.to(dtype) if v.is_floating_point() else v for name, v in state.items()}
    for found in (
        deepsphere_encoder_state(changed),
        deepsphere_layer_state(changed, "encoder.enc_l0"),
        deepsphere_layer_state(changed, "encoder.enc_l1.spherical_cheb_bn"),
    ):
        counts = {name for name in found if name.endswith("num_batches_tracked")}
        assert {found[name].dtype for name in set(found) - counts} == {dtype}
        assert all(found[name].dtype == torch.int64 for name in counts)


def test_normalised_layer_of_any_scale_is_a_block_in_evaluation(state: State) -> None:
    name, depth = "encoder.enc_l3.spherical_cheb_bn", 2
    laplacian = random_laplacian(N_CELLS[depth])
    scales = state[f"{name}.batchnorm.weight"]
    assert scales.min() < 0 < scales.max()
    block = ConvBlock(*SIZES[name], KERNEL_SIZE, SparseOperator(laplacian))
    block.load_state_dict(deepsphere_layer_state(state, name))
    block.eval()
    x = np.random.default_rng(1).normal(size=(2, N_CELLS[depth], 4)).astype(np.float32)
    published = Published(state, [laplacian] * 3)
    expected = published.activated(name, depth, x.astype(float), training=False)
    assert expected.max() > 0
    assert_close(block(torch.from_numpy(x)), expected)
    assert block.norm.num_batches_tracked == 7


def test_network_is_the_published_one_in_evaluation_and_in_training(
    state: State, laplacians: list[sparse.csr_array]
) -> None:
    x = np.random.default_rng(2).normal(size=(3, N_CELLS[0], 2)).astype(np.float32)
    kept = {name: value.clone() for name, value in state.items()}
    network = DeepsphereUNet.from_checkpoint(state, laplacians)
    published = Published(state, laplacians)
    assert not network.training
    assert_close(network(torch.from_numpy(x)), published(x.astype(float))[0])
    network.train()
    y = x[::-1].copy() * 2
    assert_close(network(torch.from_numpy(y)), published(y.astype(float), training=True)[0], 2e-4)
    # the statistics of that batch are the same too
    network.eval()
    assert_close(network(torch.from_numpy(x)), published(x.astype(float))[0])
    assert all(value.equal(kept[name]) for name, value in state.items())


def test_vanishing_scales_leave_the_shift(state: State, laplacians: list[sparse.csr_array]) -> None:
    x = np.random.default_rng(3).normal(size=(2, N_CELLS[0], 2)).astype(np.float32)
    for name, value in state.items():
        if name.endswith("batchnorm.weight"):
            value[-1] = -1e-41
            value[1] = 1e-9
    network = DeepsphereUNet.from_checkpoint(state, laplacians)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert_close(network(torch.from_numpy(x)), Published(state, laplacians)(x.astype(float))[0])


def test_encoder_of_our_network_is_the_published_one(
    state: State, laplacians: list[sparse.csr_array]
) -> None:
    x = np.random.default_rng(4).normal(size=(2, N_CELLS[0], 2)).astype(np.float32)
    features = [n_out for name, (_, n_out) in SIZES.items() if name.startswith("encoder")]
    layout = UNetLayout(features=features, depths=(0, 0, 1, 2, 3, 4, 5), kernel_size=KERNEL_SIZE)
    network = SphereUNet(2, 3, laplacians, layout)
    missing, unexpected = network.load_state_dict(deepsphere_encoder_state(state), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"decoder", "head"}
    for training in (True, False):
        network.train(training)
        y = torch.from_numpy(x)
        for layer, stage in enumerate(network.encoder):
            y = stage(pool(y) if layer > 1 else y)
        expected = Published(state, laplacians)(x.astype(float), training)[1]
        assert_close(y, expected, 2e-4)
        network.load_state_dict(deepsphere_encoder_state(state), strict=False)


def test_checkpoints_come_from_files_arrays_and_several_devices(
    state: State, laplacians: list[sparse.csr_array], tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    arrays = {f"module.{name}": value.numpy() for name, value in state.items()}
    arrays["module.encoder.enc_l0.spherical_cheb.laplacian"] = np.eye(2)
    expected = DeepsphereUNet.from_checkpoint(state, laplacians).state_dict()
    for checkpoint in (path, str(path), arrays):
        found = DeepsphereUNet.from_checkpoint(checkpoint, laplacians).state_dict()
        assert all(value.equal(expected[name]) for name, value in found.items())


def test_network_has_the_published_sizes_by_default(
    laplacians: list[sparse.csr_array],
) -> None:
    network = DeepsphereUNet(16, 3, laplacians)
    features = [block.conv.weight.shape[2] for block in network.encoder[:-1]]
    assert features == [32, 64, 128, 256, 512, 512]
    widths = [(block.conv.weight.shape[1], block.conv.weight.shape[2]) for block in network.up]
    assert widths == [(512, 512), (512, 256), (256, 128), (128, 64), (64, 32)]
    joined = [(block.conv.weight.shape[1], block.conv.weight.shape[2]) for block in network.join]
    assert joined == [(1024, 512), (768, 256), (384, 128), (192, 64)]
    assert network.head.weight.shape == (4, 32, 3)


Change = Callable[[State], object]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            lambda s: (s.pop("decoder.dec_l5.spherical_cheb.chebconv.bias"), s.pop(FIRST)),
            [f"missing '{FIRST}'", "missing 'decoder.dec_l5.spherical_cheb.chebconv.bias'"],
        ),
        (
            lambda s: s.update({f"lstm_l0.{n}": torch.ones(2, 2) for n in ("weight", "bias")}),
            ["not expected 'lstm_l0.weight'", "not expected 'lstm_l0.bias'"],
        ),
        (
            lambda s: s.update({FIRST: torch.ones(6, 3), MEAN: torch.ones(9)}),
            [
                rf"'{FIRST}' of shape \(6, 3\), not \(kernel_size",
                r"running_mean' of shape \(9,\), not \(4,\)",
            ],
        ),
        (
            lambda s: s.update({FIRST: torch.ones(3, 2, 8)}),
            ["of 3 channels where 8 arrive", r"batchnorm.bias' of shape \(3,\), not \(8,\)"],
        ),
        (
            lambda s: s.update({FIRST: torch.ones(4, 2, 3)}),
            [r"several kernel sizes \[3, 4\]"],
        ),
        (
            lambda s: s.update(
                {
                    f"decoder.dec_l2.spherical_cheb_bn.{name}": value
                    for name, value in random_layer(
                        np.random.default_rng(0), 9, 3, normalised=True
                    ).items()
                }
            ),
            ["2 channels of 'decoder.dec_l2.*_pool.*' but 3 of", "of 2 channels where 3 arrive"],
        ),
    ],
)
def test_all_entries_that_do_not_fit_are_named(
    state: State, laplacians: list[sparse.csr_array], change: Change, messages: list[str]
) -> None:
    change(state)
    for message in messages:
        with pytest.raises(ValueError, match=f"not the state dict of a U-Net.*{message}"):
            DeepsphereUNet.from_checkpoint(state, laplacians)


def test_layers_that_do_not_fit_are_refused(state: State) -> None:
    with pytest.raises(ValueError, match=r"one of the entries \['weight', .*give the prefix"):
        deepsphere_layer_state(state)
    part = "encoder.enc_l4.spherical_cheb_bn"
    del state[f"{part}.batchnorm.running_var"], state[f"{part}.batchnorm.bias"]
    missing = (
        rf"a layer .*missing '{part}\.batchnorm\.bias'; missing '{part}\.batchnorm\.running_var'"
    )
    with pytest.raises(ValueError, match=missing):
        deepsphere_layer_state(state, part)
    other = {"weight": torch.ones(2, 3, 4), "bias": torch.ones(4), "linear.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"not expected 'linear\.weight'"):
        deepsphere_layer_state(other)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'model\.pt'; pickles are not read, torch\.load with weights_only"
    ):
        deepsphere_layer_state("model.pt")
    with pytest.raises(TypeError, match=r"a mapping of names to tensors.*got Linear"):
        deepsphere_layer_state(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"give one of its parts \['optimizer', 'unet'\]"):
        deepsphere_layer_state({"unet": {}, "optimizer": {}, "epoch": 3})
    with pytest.raises(TypeError, match="weight must be a tensor or an array, got <class 'str'>"):
        deepsphere_layer_state({"weight": "a"})
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="is no sound safetensors file"):
        deepsphere_layer_state(path)
    with pytest.raises(FileNotFoundError):
        deepsphere_layer_state(tmp_path / "b.safetensors")


def test_networks_of_impossible_sizes_are_refused(laplacians: list[sparse.csr_array]) -> None:
    with pytest.raises(
        ValueError, match=r"a quarter of the cells.*features must be 7 .*got \(4,\)"
    ):
        DeepsphereUNet(2, 3, laplacians[:5], features=(4,), decoder_features=(4,) * 5)
    with pytest.raises(ValueError, match=r"decoder_features must be 5 numbers from 1, got \(0,"):
        DeepsphereUNet(2, 3, laplacians, features=(4,) * 7, decoder_features=(0,) * 5)
    with pytest.raises(ValueError, match="6 square matrices"):
        DeepsphereUNet(2, 3, [], features=(4,) * 7)
