"""U-Net on HEALPix or any other grids."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from xsphere.graph import SphereGraph, directional_matrices
from xsphere.grids import Grid, HealpixGrid
from xsphere.nn.block import ConvBlock
from xsphere.nn.convolution import ChebConv, DirectionalOperator, graph_conv
from xsphere.nn.operator import SparseOperator
from xsphere.nn.pooling import Pooling, WeightedPool, pool
from xsphere.nn.recomputing import recomputed
from xsphere.nn.unet_layout import UNetLayout, normalize_layout
from xsphere.weights import pooling_matrix, unpooling_matrix

# Matrices of a step between two levels, (coarse, fine) and (fine, coarse); None for a reshape.
PoolingPair = tuple[sparse.csr_array, sparse.csr_array]


class _DecoderStage(nn.Module):
    """Convolve, join what the mirrored encoder layer was given, convolve again."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        operator: SparseOperator | DirectionalOperator,
    ) -> None:
        super().__init__()
        self.up = graph_conv(in_channels, out_channels, kernel_size, operator)
        self.join = ConvBlock(out_channels + skip_channels, out_channels, kernel_size, operator)

    def forward(self, x: Tensor, skip: Tensor, *, spread: bool = False) -> Tensor:
        joined: Tensor = self.join(self.up(x, spread=spread), skip)
        return joined


class _Children(nn.Module):
    """Pooling of the four children of nested cells."""

    def __init__(self, how: Pooling) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return pool(x, self.how)


class _Copies(nn.Module):
    """Stands for copies for the four children of nested cells, which convolutions do without."""


class SphereUNet(nn.Module):
    """Dense prediction on the nested HEALPix sphere, or on any other grids.

    An encoder of convolutions that pool to coarser levels, and a decoder that mirrors it: each
    stage convolves, joins what the encoder had at the same level, and convolves again. This is the
    network that segments climate events in [1]_, with any sizes. `on_grids` makes one for lat-lon
    grids, stations or any others; the parameters have the same names and sizes on all of them.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    laplacians : sequence of sparse arrays
        Scaled Laplacian of every level in use, the finest first; each has a quarter of the cells
        of the one before where they are nested.
    layout : UNetLayout or {"deepsphere", "small"}
        Sizes of the layers.
    poolings : sequence of pairs of sparse arrays, or None, optional
        For every step to the next level, the matrices that pool, (coarse, fine), and that unpool,
        (fine, coarse); None where cells are nested and four children stand side by side. By
        default all are.
    directions : sequence of sequences of sparse arrays, optional
        For every level, derivatives along east and north, such as the first four matrices of
        `xsphere.graph.directional_matrices`: for a layout that is ``directional``, and no other.
    checkpointing : bool
        Whether training keeps the input of every stage alone and works out the rest again for the
        gradients: less memory, more time, the same result. Can be set later too.

    Raises
    ------
    ValueError
        If the layout is unknown, or the Laplacians or directions are not one for each of its
        levels, or the poolings not one for each step between them, of their sizes.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000

    Examples
    --------
    >>> from xsphere.graph import SphereGraph, directional_matrices
    >>> from xsphere.grids import HealpixGrid
    >>> graphs = [SphereGraph(HealpixGrid(level), k=8) for level in (3, 2, 1, 0)]
    >>> network = SphereUNet(4, 3, [graph.scaled_laplacian for graph in graphs], "small")
    >>> network(torch.zeros(1, 768, 4)).shape
    torch.Size([1, 768, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        laplacians: Sequence[sparse.csr_array],
        layout: UNetLayout | str = "small",
        *,
        poolings: Sequence[PoolingPair | None] | None = None,
        directions: Sequence[Sequence[sparse.csr_array]] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.layout = layout = normalize_layout(layout)
        if len(laplacians) != layout.n_levels:
            raise ValueError(
                f"SphereUNet needs one Laplacian for each of its {layout.n_levels} levels, got "
                f"{len(laplacians)}"
            )
        if poolings is not None:
            _check_poolings(laplacians, poolings)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for pair in poolings or [None] * (layout.n_levels - 1):
            self.down.append(
                _Children(layout.pooling) if pair is None else WeightedPool(pair[0], layout.pooling)
            )
            self.up.append(_Copies() if pair is None else SparseOperator(pair[1]))
        operators = _operators(laplacians, directions, layout)
        widths = [in_channels, *layout.features]
        self.encoder = nn.ModuleList()
        for layer, (depth, (a, b)) in enumerate(zip(layout.depths, pairwise(widths), strict=True)):
            # the coarsest layer is linear, as published
            block = graph_conv if 0 < layer == len(layout.depths) - 1 else ConvBlock
            self.encoder.append(block(a, b, layout.kernel_size, operators[depth]))
        self.decoder = nn.ModuleList()
        below = widths[-1]
        for depth, (skip, width) in reversed(
            list(zip(layout.depths, pairwise(widths), strict=True))
        ):
            self.decoder.append(
                _DecoderStage(
                    below,
                    skip,
                    width,
                    kernel_size=layout.kernel_size,
                    operator=operators[depth],
                )
            )
            below = width
        # of one term, which needs no matrix
        nothing = SparseOperator(sparse.csr_array(laplacians[0].shape))
        self.head = ChebConv(below, out_channels, 1, nothing)

    @classmethod
    def on_grids(
        cls,
        in_channels: int,
        out_channels: int,
        grids: Sequence[Grid],
        layout: UNetLayout | str = "small",
        *,
        k: int = 8,
        **graph_options: Any,
    ) -> Self:
        """Network whose levels are grids of any kind.

        Parameters
        ----------
        in_channels, out_channels : int
            Channels of input and output.
        grids : sequence of Grid
            Grid of every level in use, the finest first. `xsphere.grids.coarsened_points` makes
            coarser levels of stations.
        layout : UNetLayout or {"deepsphere", "small"}
            Sizes of the layers.
        k : int
            Neighbours of a cell in the graphs; fewer where a grid has not so many others.
        **graph_options
            Passed to `xsphere.graph.SphereGraph`.

        Returns
        -------
        SphereUNet
            On nested HEALPix grids, one level apart, the same as from their Laplacians alone.

        Raises
        ------
        ValueError
            If the grids are not one for each level, a grid has a single cell, or there is no
            pooling between two of them.

        Examples
        --------
        >>> from xsphere.grids import LatLonGrid
        >>> grids = [LatLonGrid.equiangular(n) for n in (12, 6)]
        >>> network = SphereUNet.on_grids(4, 3, grids, UNetLayout(features=(8, 8), depths=(0, 1)))
        >>> network(torch.zeros(1, 288, 4)).shape
        torch.Size([1, 288, 3])
        """
        layout = normalize_layout(layout)
        if len(grids) != layout.n_levels:
            raise ValueError(
                f"SphereUNet needs one grid for each of its {layout.n_levels} levels, got "
                f"{len(grids)}"
            )
        single = [grid for grid in grids if grid.n_cells < 2]
        if single:
            raise ValueError(f"a cell needs neighbours, got grids of a single cell {single}")
        laplacians = [
            SphereGraph(grid, k=_possible(k, grid), **graph_options).scaled_laplacian
            for grid in grids
        ]
        poolings = [
            None
            if _nests(fine, coarse)
            else (pooling_matrix(fine, coarse), unpooling_matrix(coarse, fine))
            for fine, coarse in pairwise(grids)
        ]
        return cls(
            in_channels,
            out_channels,
            laplacians,
            layout,
            poolings=poolings,
            directions=_directions(grids, k) if layout.directional else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes: (batch, cells, in_channels) to (batch, cells, out_channels)."""
        depth, skips = 0, []
        for stage, its_depth in zip(self.encoder, self.layout.depths, strict=True):
            if its_depth > depth:
                x, depth = self.down[depth](x), its_depth
            skips.append(x)
            x = self._worked_out(stage, x)
        for stage, its_depth in zip(self.decoder, reversed(self.layout.depths), strict=True):
            spread = False
            if its_depth < depth:
                step, depth = self.up[its_depth], its_depth
                # copies for children are never made: a convolution takes its parents' channels
                spread = isinstance(step, _Copies)
                x = x if spread else step(x)
            x = self._worked_out(stage, x, skips.pop(), spread=spread)
        logits: Tensor = self.head(x)
        return logits

    def _worked_out(self, stage: nn.Module, *xs: Tensor, **options: bool) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return recomputed(stage, *xs, **options)
        y: Tensor = stage(*xs, **options)
        return y


def _operators(
    laplacians: Sequence[sparse.csr_array],
    directions: Sequence[Sequence[sparse.csr_array]] | None,
    layout: UNetLayout,
) -> list[SparseOperator] | list[DirectionalOperator]:
    """What convolutions of each level are made with."""
    if not layout.directional:
        if directions is not None:
            raise ValueError("directions are for a layout with directional=True, and this has not")
        return [SparseOperator(laplacian) for laplacian in laplacians]
    if directions is None or len(directions) != len(laplacians):
        raise ValueError(
            f"a directional layout needs directions for each of its {layout.n_levels} levels, got "
            f"{None if directions is None else len(directions)}; directional_matrices(grid)[:4] "
            "makes those of a grid"
        )
    pairs = zip(laplacians, directions, strict=True)
    return [DirectionalOperator(laplacian, some) for laplacian, some in pairs]


def _directions(grids: Sequence[Grid], k: int) -> list[list[sparse.csr_array]]:
    return [directional_matrices(grid, _possible(k, grid))[:4] for grid in grids]


def _check_poolings(
    laplacians: Sequence[sparse.csr_array], poolings: Sequence[PoolingPair | None]
) -> None:
    sizes = [laplacian.shape[0] for laplacian in laplacians]
    if len(poolings) != len(sizes) - 1:
        raise ValueError(
            f"poolings must be one for each of the {len(sizes) - 1} steps between levels, got "
            f"{len(poolings)}"
        )
    problems = []
    for step, ((fine, coarse), pair) in enumerate(zip(pairwise(sizes), poolings, strict=True)):
        expected = [(coarse, fine), (fine, coarse)]
        if pair is None and fine != 4 * coarse:
            problems.append(f"None at step {step} from {fine} to {coarse} cells, not a quarter")
        elif pair is not None and [matrix.shape for matrix in pair] != expected:
            shapes = [matrix.shape for matrix in pair]
            problems.append(f"shapes {shapes} at step {step}, not {expected}")
    if problems:
        raise ValueError(
            "poolings must be (pool, unpool) of shapes (coarse, fine) and (fine, coarse), or None "
            f"where each cell has four children, got {'; '.join(problems)}"
        )


def _possible(k: int, grid: Grid) -> int:
    """As many neighbours as there are others in the grid, for HEALPix on the whole sphere."""
    n_cells = 12 * 4**grid.level if isinstance(grid, HealpixGrid) else grid.n_cells
    return min(k, n_cells - 1)


def _nests(fine: Grid, coarse: Grid) -> bool:
    """Whether four children of each coarse cell stand side by side, in the order of the parents."""
    if not (isinstance(fine, HealpixGrid) and isinstance(coarse, HealpixGrid)):
        return False
    if fine.level != coarse.level + 1:
        return False
    parents = np.repeat(coarse.nested_ids, 4)
    return np.array_equal(fine.nested_ids >> 2, parents)
