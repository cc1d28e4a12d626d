"""U-Net on HEALPix or any other grids: the published layout, a small one, and any in between."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from xsphere.graph import SphereGraph
from xsphere.grids import Grid, HealpixGrid
from xsphere.nn.layers import ChebConv, ConvBlock, Pooling, WeightedPool, pool, unpool
from xsphere.nn.operator import SparseOperator
from xsphere.weights import pooling_matrix, unpooling_matrix

# Matrices of a step between two levels, (coarse, fine) and (fine, coarse); None for a reshape.
PoolingPair = tuple[sparse.csr_array, sparse.csr_array]

MAX_LAYERS = 24
MAX_FEATURES = 4096
MAX_KERNEL_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class UNetLayout:
    """Sizes of a `SphereUNet`.

    Parameters
    ----------
    features : tuple of int
        Output channels of the encoder's convolutions; the decoder mirrors them.
    depths : tuple of int
        How many levels below the input each of them works: starts at 0, grows by 0 or 1.
    kernel_size : int
        Polynomial terms of all convolutions but the last, which has one.
    pooling : {"mean", "max"}
        What a coarse cell keeps of its fine ones: on nested HEALPix a parent of its four children,
        elsewhere as `xsphere.nn.WeightedPool` says.

    Raises
    ------
    ValueError
        If sizes are absurd or do not fit together; everything wrong is named.

    Examples
    --------
    >>> UNetLayout(features=(8, 16), depths=(0, 1)).n_levels
    2
    """

    features: tuple[int, ...]
    depths: tuple[int, ...]
    kernel_size: int = 4
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "depths", tuple(self.depths))
        problems = self._problems()
        if problems:
            raise ValueError("unusable U-Net layout: " + "; ".join(problems))

    def _problems(self) -> list[str]:
        problems = []
        features, depths = self.features, self.depths
        if not 1 <= len(features) <= MAX_LAYERS or not all(
            type(size) is int and 1 <= size <= MAX_FEATURES for size in features
        ):
            problems.append(
                f"features must be 1 to {MAX_LAYERS} integers from 1 to {MAX_FEATURES}, "
                f"got {features!r}"
            )
        if len(depths) != len(features):
            problems.append(
                f"depths must be as many as features, got {len(depths)} and {len(features)}"
            )
        elif depths[:1] != (0,) or not all(b - a in (0, 1) for a, b in pairwise(depths)):
            problems.append(f"depths must start at 0 and grow by 0 or 1, got {depths!r}")
        if type(self.kernel_size) is not int or not 1 <= self.kernel_size <= MAX_KERNEL_SIZE:
            problems.append(
                f"kernel_size must be from 1 to {MAX_KERNEL_SIZE}, got {self.kernel_size!r}"
            )
        if self.pooling not in ("max", "mean"):
            problems.append(f"pooling must be 'max' or 'mean', got {self.pooling!r}")
        return problems

    @property
    def n_levels(self) -> int:
        """Refinement levels in use, the finest included."""
        return self.depths[-1] + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model file."""
        return asdict(self)


PRESETS = {
    # Defferrard et al. (2020): the network behind table 3 of the paper
    "deepsphere": UNetLayout(
        features=(32, 64, 128, 256, 512, 512, 512), depths=(0, 0, 1, 2, 3, 4, 5)
    ),
    "small": UNetLayout(features=(32, 32, 64, 96, 128), depths=(0, 0, 1, 2, 3)),
}


def normalize_layout(layout: UNetLayout | str) -> UNetLayout:
    """Layout given as itself or by the name of a preset.

    Parameters
    ----------
    layout : UNetLayout or {"deepsphere", "small"}
        A layout or a preset's name.

    Returns
    -------
    UNetLayout
        The layout.

    Raises
    ------
    ValueError
        If no preset has that name.

    Examples
    --------
    >>> normalize_layout("small").n_levels
    4
    """
    if isinstance(layout, UNetLayout):
        return layout
    if layout not in PRESETS:
        raise ValueError(f"unknown U-Net layout {layout!r}; presets are {sorted(PRESETS)}")
    return PRESETS[layout]


class _DecoderStage(nn.Module):
    """Convolve, join what the mirrored encoder layer was given, convolve again."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        laplacian: SparseOperator,
    ) -> None:
        super().__init__()
        self.up = ChebConv(in_channels, out_channels, kernel_size, laplacian)
        self.join = ConvBlock(out_channels + skip_channels, out_channels, kernel_size, laplacian)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.join(torch.cat([self.up(x), skip], dim=-1))
        return joined


class _Children(nn.Module):
    """Pooling of the four children of nested cells."""

    def __init__(self, how: Pooling) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return pool(x, self.how)


class _Copies(nn.Module):
    """Copies for the four children of nested cells."""

    def forward(self, x: Tensor) -> Tensor:
        return unpool(x)


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

    Raises
    ------
    ValueError
        If the layout is unknown, or the Laplacians are not one for each of its levels, or the
        poolings not one for each step between them, of their sizes.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000

    Examples
    --------
    >>> from xsphere.graph import SphereGraph
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
    ) -> None:
        super().__init__()
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
        operators = [SparseOperator(laplacian) for laplacian in laplacians]
        widths = [in_channels, *layout.features]
        self.encoder = nn.ModuleList()
        for layer, (depth, (a, b)) in enumerate(zip(layout.depths, pairwise(widths), strict=True)):
            # the coarsest layer is linear, as published
            block = ChebConv if 0 < layer == len(layout.depths) - 1 else ConvBlock
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
                    laplacian=operators[depth],
                )
            )
            below = width
        self.head = ChebConv(below, out_channels, 1, operators[0])

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
        return cls(in_channels, out_channels, laplacians, layout, poolings=poolings)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes: (batch, cells, in_channels) to (batch, cells, out_channels)."""
        depth, skips = 0, []
        for stage, its_depth in zip(self.encoder, self.layout.depths, strict=True):
            if its_depth > depth:
                x, depth = self.down[depth](x), its_depth
            skips.append(x)
            x = stage(x)
        for stage, its_depth in zip(self.decoder, reversed(self.layout.depths), strict=True):
            if its_depth < depth:
                x, depth = self.up[its_depth](x), its_depth
            x = stage(x, skips.pop())
        logits: Tensor = self.head(x)
        return logits


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
