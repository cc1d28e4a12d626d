"""The way one would do it at first: read a step, multiply, run a network of plain PyTorch, collect.

The network has the layers, sizes, graph and weights of the model that it is compared with, in
blocks of deepsphere-pytorch where a checkout of it is at hand, else in blocks of the same formula
written here.
"""

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from xsphere.graph import SphereGraph
from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.model import Model
from xsphere.nn import UNetLayout
from xsphere.weights import conservative_weights


class Blocks(NamedTuple):
    """What a network is made of: convolutions, with normalisation and ReLU or without, pooling."""

    name: str
    convolution: Callable[[int, int, Tensor, int], nn.Module]
    normalised: Callable[[int, int, Tensor, int], nn.Module]
    pool: nn.Module
    unpool: nn.Module
    convolution_of: Callable[[nn.Module], Any]


class PlainConv(nn.Module):
    """Chebyshev convolution: terms by a sparse product, stacked, then one dense product."""

    def __init__(self, n_in: int, n_out: int, laplacian: Tensor, kernel_size: int) -> None:
        super().__init__()
        self.register_buffer("laplacian", laplacian)
        self.weight = nn.Parameter(torch.zeros(kernel_size, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Filtered samples (batch, cells, channels)."""
        n_batch, n_cells, n_in = x.shape
        kernel_size, _, n_out = self.weight.shape
        terms = [x.permute(1, 2, 0).reshape(n_cells, n_in * n_batch)]
        for order in range(1, kernel_size):
            following = torch.sparse.mm(self.get_buffer("laplacian"), terms[-1])
            terms.append(following if order == 1 else 2 * following - terms[-2])
        basis = torch.stack(terms).view(kernel_size, n_cells, n_in, n_batch)
        rows = basis.permute(3, 1, 2, 0).reshape(n_batch * n_cells, n_in * kernel_size)
        product = rows @ self.weight.reshape(n_in * kernel_size, n_out)
        return product.view(n_batch, n_cells, n_out) + self.bias


class PlainNormalised(nn.Module):
    """Chebyshev convolution, batch normalisation, ReLU."""

    def __init__(self, n_in: int, n_out: int, laplacian: Tensor, kernel_size: int) -> None:
        super().__init__()
        self.convolution = PlainConv(n_in, n_out, laplacian, kernel_size)
        self.batchnorm = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Activations (batch, cells, channels)."""
        x = self.batchnorm(self.convolution(x).permute(0, 2, 1))
        return functional.relu(x.permute(0, 2, 1))


class PlainPool(nn.Module):
    """Mean of four children."""

    def forward(self, x: Tensor) -> Tensor:
        """Samples on the next coarser level."""
        return functional.avg_pool1d(x.permute(0, 2, 1), 4).permute(0, 2, 1)


class PlainUnpool(nn.Module):
    """Four copies of a parent."""

    def forward(self, x: Tensor) -> Tensor:
        """Samples on the next finer level."""
        finer = functional.interpolate(x.permute(0, 2, 1), scale_factor=4, mode="nearest")
        return finer.permute(0, 2, 1)


def plain_blocks() -> Blocks:
    """Blocks of the published formula, written here."""
    name = "plain PyTorch (torch.sparse)"
    convolution_of = lambda block: getattr(block, "convolution", block)  # noqa: E731
    return Blocks(name, PlainConv, PlainNormalised, PlainPool(), PlainUnpool(), convolution_of)


def deepsphere_blocks(checkout: Path) -> Blocks:
    """Blocks of deepsphere-pytorch, from a folder that holds its package."""
    if not (checkout / "deepsphere").is_dir():
        raise FileNotFoundError(f"there is no folder deepsphere in {checkout}")
    sys.path.insert(0, str(checkout))
    from deepsphere.layers.chebyshev import SphericalChebConv
    from deepsphere.layers.samplings.healpix_pool_unpool import Healpix
    from deepsphere.models.spherical_unet.utils import SphericalChebBN

    sampling = Healpix("average")

    def convolution_of(block: Any) -> Any:
        return getattr(block, "spherical_cheb", block).chebconv

    blocks = (SphericalChebConv, SphericalChebBN, sampling.pooling, sampling.unpooling)
    return Blocks("deepsphere-pytorch", *blocks, convolution_of)


class PlainUNet(nn.Module):
    """The network of a model, weights included, made of other blocks."""

    def __init__(self, model: Model, blocks: Blocks) -> None:
        super().__init__()
        sizes = {k: v for k, v in model.spec.network.items() if k != "architecture"}
        self.layout, self.blocks = UNetLayout(**sizes), blocks
        self.pool, self.unpool = blocks.pool, blocks.unpool
        k, depths = self.layout.kernel_size, self.layout.depths
        laplacians = [_laplacian(model, depth) for depth in range(self.layout.n_levels)]
        widths = [len(model.spec.channels), *self.layout.features]
        self.encoder, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for layer, (depth, (a, b)) in enumerate(zip(depths, pairwise(widths), strict=True)):
            linear = 0 < layer == len(depths) - 1
            block = blocks.convolution if linear else blocks.normalised
            self.encoder.append(block(a, b, laplacians[depth], k))
        below = widths[-1]
        for depth, (skip, width) in reversed(list(zip(depths, pairwise(widths), strict=True))):
            self.up.append(blocks.convolution(below, width, laplacians[depth], k))
            self.join.append(blocks.normalised(width + skip, width, laplacians[depth], k))
            below = width
        # of one term: the published layer needs two
        self.head = nn.Linear(below, len(model.classes) + 1)
        self._load(model)
        self.eval()

    def _load(self, model: Model) -> None:
        """Take the weights of a model."""
        tensors = {name: torch.from_numpy(value.copy()) for name, value in model.tensors.items()}
        for i, block in enumerate(self.encoder):
            _fill(block, f"encoder.{i}", tensors, self.blocks)
        for i, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            _fill(up, f"decoder.{i}.up", tensors, self.blocks)
            _fill(join, f"decoder.{i}.join", tensors, self.blocks)
        self.head.weight.data = tensors["head.weight"][0].T.contiguous()
        self.head.bias.data = tensors["head.bias"]

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes (batch, cells, classes)."""
        depth, skips = 0, []
        for stage, its_depth in zip(self.encoder, self.layout.depths, strict=True):
            if its_depth > depth:
                x, depth = self.pool(x), its_depth
            skips.append(x)
            x = stage(x)
        depths = reversed(self.layout.depths)
        for up, join, its_depth in zip(self.up, self.join, depths, strict=True):
            if its_depth < depth:
                x, depth = self.unpool(x), its_depth
            x = join(torch.cat([up(x), skips.pop()], dim=-1))
        scores: Tensor = self.head(x)
        return scores


def _laplacian(model: Model, depth: int) -> Tensor:
    """Scaled Laplacian of a level of the model, as coordinates."""
    grid = HealpixGrid(model.level - depth)
    graph = SphereGraph(grid, min(model.spec.graph.k, grid.n_cells - 1))
    entries = graph.scaled_laplacian.tocoo()
    places = torch.tensor(np.stack([entries.row, entries.col]), dtype=torch.int64)
    values = torch.tensor(entries.data, dtype=torch.float32)
    return torch.sparse_coo_tensor(places, values, entries.shape, check_invariants=True).coalesce()


def _fill(block: Any, prefix: str, tensors: dict[str, Tensor], blocks: Blocks) -> None:
    """Put the weights of one of our layers into another; their columns are in another order."""
    convolution = blocks.convolution_of(block)
    within = f"{prefix}.conv" if f"{prefix}.conv.weight" in tensors else prefix
    weight = tensors[f"{within}.weight"]
    convolution.weight.data = weight.permute(1, 0, 2).reshape(weight.shape).contiguous()
    bias = tensors.get(f"{within}.bias")
    convolution.bias.data = torch.zeros(weight.shape[2]) if bias is None else bias
    if within != prefix:
        norm = block.batchnorm
        norm.running_mean, norm.running_var = (
            tensors[f"{prefix}.norm.running_{name}"] for name in ("mean", "var")
        )
        norm.bias.data = tensors[f"{prefix}.bias"]


def matrix_of(path: Path, model: Model) -> sparse.csr_array:
    """Weights of the archive's grid to the model's, in single precision."""
    with xr.open_zarr(path, consolidated=False, chunks=None) as ds:
        grid = LatLonGrid(ds.lon.to_numpy(), ds.lat.to_numpy())
    return conservative_weights(grid, model.grid).astype(np.float32)


def masks_in_a_loop(
    path: Path, out: Path, model: Model, network: PlainUNet, matrix: sparse.csr_array, n_steps: int
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Masks of some steps, one after another, written at the end; seconds by part."""
    channels = model.spec.channels
    mean = np.array([channel.mean for channel in channels], np.float32)
    std = np.array([channel.std for channel in channels], np.float32)
    seconds = dict.fromkeys(("decode", "regrid", "infer", "write"), 0.0)
    ds, masks = xr.open_zarr(path, consolidated=False, chunks=None), []
    for number in range(n_steps):
        times = [time.perf_counter()]
        step = ds.isel(time=number).load()
        times.append(time.perf_counter())
        fields = [matrix @ step[c.sources[0]].to_numpy().ravel() for c in channels]
        times.append(time.perf_counter())
        x = torch.from_numpy((np.stack(fields, axis=-1) - mean) / std)
        with torch.no_grad():
            masks.append(network(x[None])[0].argmax(-1).numpy().astype(np.uint8))
        times.append(time.perf_counter())
        for part, (start, stop) in zip(seconds, pairwise(times), strict=False):
            seconds[part] += stop - start
    start, values = time.perf_counter(), np.stack(masks)
    mask = xr.DataArray(values, {"time": ds.time[:n_steps]}, ("time", "cells"), name="mask")
    mask.to_dataset().to_zarr(out, mode="w", consolidated=False, zarr_format=3)
    seconds["write"] = time.perf_counter() - start
    return values, seconds
