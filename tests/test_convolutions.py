"""Layers and networks of convolutions: their formulas, and what torch does with modules."""

import copy
import gc
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

from tests.dense import dense_convolution, dense_terms
from tests.toys import storm_spec
from xsphere.equivariance import equivariance_error
from xsphere.graph import SphereGraph, directional_matrices
from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.model import Model
from xsphere.model.network import build_network, expected_shapes
from xsphere.nn import ChebConv, ConvBlock, SparseOperator, SphereUNet, UNetLayout, unpool
from xsphere.nn.convolution import DirectionalConv, DirectionalOperator, graph_conv
from xsphere.nn.sparse import plans

GRIDS = [HealpixGrid(2), HealpixGrid(1)]
LAYOUT = UNetLayout(features=(3, 4, 6), depths=(0, 0, 1), kernel_size=3)
DIRECTIONAL = replace(LAYOUT, directional=True)


def laplacian(grid: HealpixGrid, weights: str = "consistent") -> sparse.csr_array:
    # not symmetric
    return SphereGraph(grid, k=8, weights=weights).scaled_laplacian


def matrices(grid: HealpixGrid, directional: bool) -> list[sparse.csr_array]:
    return [*(directional_matrices(grid)[:4] if directional else []), laplacian(grid)]


def operator(grid: HealpixGrid, directional: bool) -> Any:
    *directions, last = matrices(grid, directional)
    return DirectionalOperator(last, directions) if directional else SparseOperator(last)


def unet(layout: UNetLayout = LAYOUT, seed: int = 0, **options: Any) -> SphereUNet:
    torch.manual_seed(seed)
    directions = [directional_matrices(grid)[:4] for grid in GRIDS] if layout.directional else None
    network = SphereUNet(
        2, 3, [laplacian(grid) for grid in GRIDS], layout, directions=directions, **options
    )
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d):  # statistics that are not those of new layers
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return network


def samples(batch: int = 2, channels: int = 2, level: int = 2) -> Tensor:
    return torch.randn(batch, 12 * 4**level, channels, generator=torch.Generator().manual_seed(3))


def gradients(network: nn.Module, *xs: Tensor) -> list[Tensor]:
    loss = network(*xs).square().sum()
    return [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]


def assert_equal_bits(some: list[Tensor], others: list[Tensor]) -> None:
    assert all(torch.equal(*pair) for pair in zip(some, others, strict=True))


@pytest.fixture(autouse=True)
def _threads_are_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def dense_layer(layer: Any, x: Tensor, grid: HealpixGrid, spread: bool = False) -> Tensor:
    """A convolution as its formula says."""
    directional = isinstance(layer, DirectionalConv)
    n_terms, children = len(layer.weight), "spread" if spread else "none"
    terms = dense_terms(matrices(grid, directional), n_terms, children, not directional)
    y = dense_convolution(terms, x, layer.weight)
    return y if layer.bias is None else y + layer.bias


def dense_block(block: ConvBlock, x: Tensor, grid: HealpixGrid, spread: bool = False) -> Tensor:
    """A block in evaluation, as its formula says."""
    y = dense_layer(block.conv, x, grid, spread)
    variance = block.norm.running_var + block.norm.eps
    return ((y - block.norm.running_mean) / variance.sqrt() + block.bias).relu()


def dense_unet(network: Any, x: Tensor) -> Tensor:
    """A network of `LAYOUT`, with copies, concatenations and all."""
    fine, coarse = GRIDS
    first = dense_block(network.encoder[0], x, fine)
    second = dense_block(network.encoder[1], first, fine)
    pooled = second.unflatten(1, (-1, 4)).mean(2)
    x = dense_layer(network.encoder[2], pooled, coarse)
    for stage, grid, skip in zip(
        network.decoder, (coarse, fine, fine), (pooled, first, samples().double()), strict=True
    ):
        x = x if x.shape[1] == skip.shape[1] else unpool(x)
        up = dense_layer(stage.up, x, grid)
        x = dense_block(stage.join, torch.cat([up, skip], 2), grid)
    return x @ network.head.weight[0] + network.head.bias


@pytest.mark.parametrize("directional", [True, False])
@pytest.mark.parametrize("spread", [True, False])
def test_layers_are_their_formula(directional: bool, spread: bool) -> None:
    torch.manual_seed(1)
    layer = graph_conv(5, 3, 4, operator(GRIDS[0], directional)).double()
    assert isinstance(layer, DirectionalConv if directional else ChebConv)
    x = samples(channels=5, level=1 if spread else 2).double()
    expected = dense_layer(layer, x, GRIDS[0], spread)
    torch.testing.assert_close(layer(x, spread=spread), expected, rtol=0, atol=1e-12)
    parts = [part.contiguous() for part in x.split([2, 3], dim=2)]
    torch.testing.assert_close(layer(*parts, spread=spread), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", [LAYOUT, DIRECTIONAL])
def test_network_in_float64_is_its_formula(layout: UNetLayout) -> None:
    network = unet(layout).eval().to(torch.float64)
    x = samples().double()
    expected = dense_unet(network, x).detach()
    scale = float(expected.abs().max())
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12 * scale)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12 * scale)


def test_pointwise_layers_take_spread_inputs_empty_batches_and_fixed_scales() -> None:
    layer = ChebConv(3, 2, 1, SparseOperator(laplacian(GRIDS[0])))
    x = samples(channels=3, level=1)
    torch.testing.assert_close(layer(x, spread=True), layer(unpool(x)))
    with torch.no_grad():
        assert layer(x[:0]).shape == (0, 48, 2)
        scale, shift = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
        y = layer.filtered([x[..., :1], x[..., 1:]], scale=scale, shift=shift, rectified=True)
    expected = (x @ layer.weight[0] * scale + shift).relu()
    torch.testing.assert_close(y, expected.detach())
    network = unet().eval()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert network(samples()[:0]).shape == (0, 192, 3)


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("sizes", [(2,), (3, 40, 1)])
def test_fused_evaluation_is_that_of_the_parts(spread: bool, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    block = ConvBlock(sum(sizes), 5, 3, operator(GRIDS[0], False)).eval()
    nn.init.normal_(block.norm.running_mean)
    nn.init.uniform_(block.norm.running_var, 0.5, 2)
    nn.init.normal_(block.bias)
    xs = samples(channels=sum(sizes), level=1 if spread else 2).split(sizes, dim=2)
    apart = block(*xs, spread=spread)
    with torch.no_grad():
        fused = block(*xs, spread=spread)
    assert fused.min() == 0
    torch.testing.assert_close(fused, apart.detach(), rtol=1e-5, atol=2e-5)
    expected = dense_block(block, torch.cat(xs, 2), GRIDS[0], spread).float()
    torch.testing.assert_close(fused, expected.detach(), rtol=1e-5, atol=2e-5)


def test_synchronised_normalisations_evaluate_the_same() -> None:
    network = unet().eval()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network)).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert torch.equal(converted(samples()), network(samples()))


def test_nan_stays_in_its_sample_and_within_the_rings() -> None:
    x = samples()
    x[1, 5, 0] = torch.nan
    block = ConvBlock(2, 3, 3, operator(GRIDS[0], False)).eval()
    near = abs(laplacian(GRIDS[0])) + sparse.eye_array(192)
    reached = (near @ near).toarray()[:, 5] > 0
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = block(x).isnan()
        assert not found[0].any()
        np.testing.assert_array_equal(found[1].numpy(), np.repeat(reached[:, None], 3, 1))


@pytest.mark.parametrize("layout", [LAYOUT, DIRECTIONAL])
def test_bits_depend_neither_on_threads_nor_on_the_batch(
    layout: UNetLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FEWEST_ROWS", 4)
    monkeypatch.setattr(plans, "MOST_ROWS", 40)
    network, x = unet(layout).eval(), samples(5)
    torch.set_num_threads(1)
    with torch.inference_mode():
        expected = network(x)
        assert torch.equal(torch.cat([network(sample[None]) for sample in x]), expected)
        torch.set_num_threads(2)
        assert torch.equal(network(x), expected)
        assert torch.equal(torch.cat([network(x[:2]), network(x[2:])]), expected)

        def called(sample: Tensor) -> Tensor:
            with torch.inference_mode():
                return network(sample[None])

        with ThreadPoolExecutor(4) as pool:
            assert torch.equal(
                torch.cat(list(pool.map(called, [*x] * 4))), expected.repeat(4, 1, 1)
            )


def test_copies_share_matrices_and_pickles_work_elsewhere(tmp_path: Path, elsewhere: Any) -> None:
    network = unet(DIRECTIONAL).eval()
    other = copy.deepcopy(network)
    for one, copied in zip(network.modules(), other.modules(), strict=True):
        if isinstance(one, (SparseOperator, DirectionalOperator)):
            assert copied.matrices is one.matrices
    with torch.no_grad():
        expected = network(samples())
    assert torch.equal(other(samples()).detach(), network(samples()).detach())
    (tmp_path / "network").write_bytes(pickle.dumps((network, samples(), expected)))
    code = (
        "import pickle, sys, torch\n"
        "network, x, expected = pickle.load(open(sys.argv[1], 'rb'))\n"
        "with torch.no_grad():\n"
        "    assert torch.equal(network(x), expected)\n"
    )
    elsewhere(code, tmp_path / "network")


def test_nothing_of_the_graph_is_in_the_state() -> None:
    for layout in (LAYOUT, DIRECTIONAL):
        network = unet(layout)
        names = {name.rpartition(".")[2] for name in network.state_dict()}
        statistics = {"running_mean", "running_var", "num_batches_tracked"}
        assert names == {"weight", "bias"} | statistics
        assert {name.rpartition(".")[2] for name, _ in network.named_buffers()} == statistics
        assert all(192 not in tensor.shape for tensor in network.state_dict().values())


def saved(network: nn.Module, *xs: Tensor, **options: Any) -> list[Tensor]:
    """Tensors that wait for the backward pass, each memory once."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        network(*xs, **options)
    return list({tensor.untyped_storage().data_ptr(): tensor for tensor in kept}.values())


def test_convolutions_keep_their_inputs_and_nothing_else() -> None:
    layer = ChebConv(5, 4, 4, operator(GRIDS[0], False))
    xs = [part.contiguous() for part in samples(channels=5, level=1).split([2, 3], dim=2)]
    kept = saved(layer, *xs, spread=True)
    expected = {tensor.data_ptr() for tensor in (*xs, layer.weight)}
    assert {tensor.data_ptr() for tensor in kept} == expected


def test_networks_keep_no_joined_or_unpooled_copies() -> None:
    network = unet()
    shapes = [tuple(tensor.shape) for tensor in saved(network, samples()) if tensor.ndim == 3]
    widths = {(shape[1], shape[2]) for shape in shapes if shape[0] == 2}
    # every width is that of a layer: 6 channels are on the coarse cells alone, joined ones nowhere
    assert widths <= {(192, 2), (192, 3), (192, 4), (48, 4), (48, 6)}
    assert (192, 3) in widths


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", [LAYOUT, DIRECTIONAL])
def test_checkpointing_changes_memory_alone(layout: UNetLayout, training: bool) -> None:
    plain, thrifty = (unet(layout, checkpointing=on).train(training) for on in (False, True))
    assert_equal_bits(gradients(plain, samples()), gradients(thrifty, samples()))
    assert_equal_bits(list(plain.buffers()), list(thrifty.buffers()))
    counts = {int(n.num_batches_tracked) for n in plain.modules() if isinstance(n, nn.BatchNorm1d)}
    assert counts == {1 if training else 0}
    sizes = [
        sum(tensor.nbytes for tensor in saved(network, samples())) for network in (plain, thrifty)
    ]
    assert sizes[1] < 0.6 * sizes[0]
    thrifty.checkpointing = False
    assert sum(tensor.nbytes for tensor in saved(thrifty, samples())) == sizes[0]


def test_frozen_normalisations_stay_frozen_when_worked_out_again() -> None:
    results = []
    for checkpointing in (False, True):
        network = unet(checkpointing=checkpointing)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        results.append([*gradients(network, samples()), *network.buffers()])
    assert_equal_bits(*results)


class _Counted(nn.SyncBatchNorm):
    """Stands for a normalisation of several processes, and counts its calls."""

    calls = 0

    def forward(self, rows: Tensor) -> Tensor:
        type(self).calls += 1
        return nn.functional.batch_norm(
            rows, self.running_mean, self.running_var, training=True, eps=self.eps
        )


def test_normalisations_are_asked_again_themselves() -> None:
    # those of several processes know more than one process's batch
    network = unet(checkpointing=True)
    network.encoder[0].norm = _Counted(3, affine=False)
    gradients(network, samples())
    assert _Counted.calls == 2


# that the other is compiled as well, test_compiled_checkpointing_counts_once asserts
@pytest.mark.slow
@pytest.mark.parametrize("layout", [LAYOUT, DIRECTIONAL])
def test_compiled_networks_are_the_networks(layout: UNetLayout) -> None:
    torch.compiler.reset()
    eager, other = unet(layout), unet(layout)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    for one, again in zip(gradients(eager, samples()), gradients(compiled, samples()), strict=True):
        torch.testing.assert_close(again, one, rtol=1e-4, atol=1e-4)
    for one, again in zip(eager.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(again, one)


def test_compiled_layers_know_their_own_matrices() -> None:
    torch.compiler.reset()
    whole = laplacian(GRIDS[0])
    layers = [
        ChebConv(2, 3, 3, SparseOperator(sparse.csr_array(factor * whole))) for factor in (1, 0.5)
    ]
    compiled = [torch.compile(layer, backend="aot_eager", fullgraph=True) for layer in layers]
    for layer, again in zip(layers, compiled, strict=True):
        assert torch.equal(again(samples()), layer(samples()))
    # also those that they are given later
    layers[0].laplacian = layers[1].laplacian
    assert torch.equal(compiled[0](samples()), layers[0](samples()))


def test_compiled_checkpointing_counts_once() -> None:
    torch.compiler.reset()
    eager, other = unet(checkpointing=True), unet(checkpointing=True)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    for one, again in zip(gradients(eager, samples()), gradients(compiled, samples()), strict=True):
        torch.testing.assert_close(again, one, rtol=1e-4, atol=1e-4)
    for one, again in zip(eager.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(again, one)


def test_autocast_makes_bfloat16_of_float32_alone() -> None:
    network, x = unet().eval(), samples()
    expected = network(x).detach()
    for grad in (True, False):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            found = network(x)
        assert found.dtype == torch.bfloat16
        # eight layers, each of which rounds to 8 bits
        assert float((found.detach() - expected).norm() / expected.norm()) < 0.03
    for n_terms in (1, 3):
        layer = ChebConv(2, 3, n_terms, operator(GRIDS[0], False)).double()
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x.double()).dtype == torch.float64


def test_fused_normalisation_in_bfloat16_moves_no_channel() -> None:
    torch.manual_seed(0)
    block, x = ConvBlock(2, 8, 3, operator(GRIDS[0], False)).eval(), samples()
    # far from the mean, where a rounded shift would be off by more than roundings of the result
    nn.init.normal_(block.norm.running_mean, std=50)
    expected = copy.deepcopy(block).double()(x.double()).detach()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = block(x)
    error = (found - expected).mean((0, 1)).abs()
    assert float((error / expected.mean((0, 1)).clamp(min=1)).max()) < 1e-3


def test_layers_know_shapes_on_no_device() -> None:
    network = unet(DIRECTIONAL).to("meta")
    assert network(samples().to("meta")).shape == (2, 192, 3)


def test_parameters_can_be_given_from_outside() -> None:
    one, other = unet(seed=1).eval(), unet(seed=2).eval()
    found = torch.func.functional_call(one, other.state_dict(), (samples(),))
    assert torch.equal(found, other(samples()))
    assert not torch.equal(found, one(samples()))


def test_data_parallel_training_has_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import distributed

    if sys.platform == "linux":
        # else the name of the machine is looked up, which may take minutes
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    expected = gradients(unet(), samples())
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    options: Any = {"rank": 0, "world_size": 1, "timeout": timedelta(seconds=1800)}
    distributed.init_process_group("gloo", store=store, **options)
    try:
        wrapped = nn.parallel.DistributedDataParallel(unet())
        loss = wrapped(samples()).square().sum()
        loss.backward()
        found = [loss.detach(), *(parameter.grad for parameter in wrapped.parameters())]
    finally:
        # as the last owner of the group, it would wait for its threads, and they for this one
        wrapped = loss = None
        gc.collect()
        distributed.destroy_process_group()
    assert_equal_bits(found, expected)


def winds(grid: HealpixGrid, seed: int) -> tuple[Tensor, Tensor]:
    """Winds of random vortices (1, cells, 2), of variance 1, and vorticity (1, cells, 1)."""
    rng = np.random.default_rng(seed)
    degree, order = healpy.Alm.getlm(10)
    alm = rng.normal(size=degree.size) + 1j * rng.normal(size=degree.size)
    alm *= (degree >= 4) / np.maximum(degree, 1.0) ** 2
    alm[order == 0] = alm[order == 0].real
    nside = 2**grid.level
    _, southwards, eastwards = healpy.alm2map_der1(alm, nside, 10)
    vorticity = healpy.alm2map(-degree * (degree + 1) * alm, nside, lmax=10)
    wind = np.stack([southwards, eastwards], axis=1)[healpy.nest2ring(nside, grid.ids)]
    vorticity = vorticity[healpy.nest2ring(nside, grid.ids)]
    return (
        torch.from_numpy(wind / wind.std())[None],
        torch.from_numpy(vorticity / vorticity.std())[None, :, None],
    )


def test_directional_layers_find_vorticity_and_isotropic_ones_do_not() -> None:
    grid = HealpixGrid(4)
    temperate = torch.from_numpy(np.abs(grid.centre_lonlat[1]) < 60)
    agreement = {}
    for directional in (True, False):
        layer = graph_conv(2, 1, 6, operator(grid, directional), bias=False).double()
        (x, vorticity), (other, truth) = winds(grid, 0), winds(grid, 1)
        # every term of every channel, as a layer of that many outputs has them
        terms = copy.deepcopy(layer)
        terms.weight = nn.Parameter(torch.eye(12, dtype=torch.float64).view(6, 2, 12))
        columns = terms(x).detach()[0, temperate]
        best = torch.linalg.lstsq(columns, vorticity[0, temperate]).solution
        layer.weight = nn.Parameter(best.view(6, 2, 1))
        found, truth = layer(other).detach()[0, temperate], truth[0, temperate]
        residual = float((found - truth).norm() / truth.norm())
        agreement[directional] = residual, float((found.sign() == truth.sign()).double().mean())
    assert agreement[True][0] < 0.2
    assert agreement[True][1] > 0.95
    assert agreement[False][0] > 0.9
    assert agreement[False][1] < 0.65


def test_directional_layers_commute_with_turns_about_the_axis_alone() -> None:
    grid = HealpixGrid(3)
    torch.manual_seed(0)
    layer = graph_conv(2, 2, 6, operator(grid, True)).double()
    nn.init.zeros_(layer.bias)
    options: dict[str, Any] = {"n_channels": 2, "n_signals": 2, "n_rotations": 3}

    def error(method: Any) -> float:
        return float(equivariance_error(layer, grid, [3], method=method, **options).error.max())

    turns, rotations = error("turns"), error("rotations")
    assert turns < 0.1
    assert rotations > 3 * turns
    assert rotations > 0.3


def test_directional_networks_are_made_on_any_grids() -> None:
    grids = [LatLonGrid.equiangular(12), LatLonGrid.equiangular(6)]
    network = SphereUNet.on_grids(2, 3, grids, DIRECTIONAL)
    assert network(torch.randn(1, 288, 2)).shape == (1, 288, 3)
    assert all(
        bool(gradient.abs().sum()) for gradient in gradients(network, torch.randn(1, 288, 2))
    )
    on_healpix = SphereUNet.on_grids(2, 3, GRIDS, DIRECTIONAL)
    assert isinstance(on_healpix.encoder[0].conv, DirectionalConv)
    assert on_healpix.encoder[0].conv.weight.shape == (6, 2, 3)


def test_directional_networks_are_models(tmp_path: Path) -> None:
    plain = storm_spec()
    spec = replace(plain, network={**plain.network, "directional": True})
    network = build_network(spec)
    shapes = expected_shapes(spec)
    assert shapes["encoder.0.conv.weight"] == (6, 4, 4)
    assert all(tuple(network.state_dict()[name].shape) == shapes[name] for name in shapes)
    model = Model.from_network(spec, network)
    again = Model.load(model.save(tmp_path / "model.safetensors"))
    assert again.digest == model.digest != Model.untrained(plain).digest
    x = torch.randn(1, 192, 4)
    with torch.no_grad():
        assert torch.equal(again.network()(x), model.network()(x))
        assert torch.equal(model.network()(x), network.eval()(x))


def test_what_is_wrong_with_directions_is_named() -> None:
    laplacians = [laplacian(grid) for grid in GRIDS]
    directions = [directional_matrices(grid)[:4] for grid in GRIDS]
    with pytest.raises(ValueError, match="directions are for a layout with directional=True"):
        SphereUNet(2, 3, laplacians, LAYOUT, directions=directions)
    for given in (None, directions[:1]):
        with pytest.raises(ValueError, match=r"directions for each of its 2 levels, got (None|1)"):
            SphereUNet(2, 3, laplacians, DIRECTIONAL, directions=given)
    with pytest.raises(ValueError, match="matrices must be of one shape"):
        SphereUNet(2, 3, laplacians, DIRECTIONAL, directions=directions[::-1])
    with pytest.raises(ValueError, match="directional must be True or False, got 1"):
        replace(LAYOUT, directional=1)  # type: ignore[arg-type]
    sizes = r"sizes of DirectionalConv must be at least 1, got \{'in_channels': 0\}"
    with pytest.raises(ValueError, match=sizes):
        DirectionalConv(0, 1, operator(GRIDS[0], True))
    with pytest.raises(ValueError, match=r"sizes of ChebConv.*'out_channels': 0"):
        ChebConv(1, 0, 1, operator(GRIDS[0], False))
