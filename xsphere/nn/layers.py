"""Layers on the cells of a sphere: Chebyshev convolution, pooling by reshape or by weights."""

import math
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from xsphere.nn.operator import SparseOperator

Pooling = Literal["max", "mean"]

# A fine cell that weighs less than this part of the heaviest one is no part of a maximum.
NEGLIGIBLE = 0.1


class ChebConv(nn.Module):
    """Convolution by a polynomial of the graph Laplacian, linear in the number of cells.

    ``y = sum_k T_k(L) x W_k + b`` with the Chebyshev polynomials T_k [1]_: the filter is a function
    of the Laplacian's eigenvalues alone, so it commutes with rotations as far as the graph does.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size : int
        Number K of polynomial terms. 1 is a product with no neighbours.
    laplacian : SparseOperator
        Laplacian scaled to a spectrum in [-1, 1]; may be shared between layers. Ignored if
        `kernel_size` is 1.
    bias : bool
        Whether to add a constant to every output channel.

    Raises
    ------
    ValueError
        If a size is less than 1.

    References
    ----------
    .. [1] Defferrard et al. (2016), https://arxiv.org/abs/1606.09375

    Examples
    --------
    >>> from xsphere.graph import SphereGraph
    >>> from xsphere.grids import HealpixGrid
    >>> laplacian = SparseOperator(SphereGraph(HealpixGrid(1), k=8).scaled_laplacian)
    >>> layer = ChebConv(3, 5, kernel_size=4, laplacian=laplacian)
    >>> layer(torch.zeros(2, 48, 3)).shape
    torch.Size([2, 48, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        laplacian: SparseOperator,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        sizes = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": kernel_size,
        }
        wrong = {name: size for name, size in sizes.items() if size < 1}
        if wrong:
            raise ValueError(f"sizes of ChebConv must be at least 1, got {wrong}")
        self.laplacian = laplacian
        self.weight = nn.Parameter(torch.empty(kernel_size, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights that keep the variance of a signal through a ReLU."""
        kernel_size, in_channels, _ = self.weight.shape
        # the mean square of T_k over [-1, 1] is about one half for k > 0
        std = math.sqrt(2 / (in_channels * (kernel_size + 0.5) / 2))
        nn.init.normal_(self.weight, std=std)
        if self.bias is not None:
            nn.init.constant_(self.bias, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Filtered samples: (batch, cells, in_channels) to (batch, cells, out_channels)."""
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.stack([self._filtered_sample(sample) for sample in x])
        y = x @ self.weight[0]
        previous, current = x, x
        for order, weight in enumerate(self.weight[1:], 1):
            following = self.laplacian(current)
            if order > 1:
                following = 2 * following - previous
            previous, current = current, following
            y = y + current @ weight
        return y if self.bias is None else y + self.bias

    def _filtered_sample(self, x: Tensor) -> Tensor:
        # products of one sample's shape only, so that results do not depend on the batch
        y = x @ self.weight[0]
        previous, current = x, x
        for order, weight in enumerate(self.weight[1:], 1):
            following = self.laplacian.apply_to_sample(current)
            if order > 1:
                following = torch.sub(following.mul_(2), previous)
            previous, current = current, following
            y.addmm_(current, weight)
        return y if self.bias is None else y.add_(self.bias)

    def extra_repr(self) -> str:
        """What `repr` says of the sizes."""
        kernel_size, in_channels, out_channels = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={kernel_size}"


class ConvBlock(nn.Module):
    """Chebyshev convolution, batch normalisation over samples and cells, bias, ReLU.

    The normalisation has no scale of its own: the next filter does the same.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, laplacian
        As for `ChebConv`.

    Examples
    --------
    >>> from scipy import sparse
    >>> identity = SparseOperator(sparse.eye_array(12).tocsr())
    >>> float(ConvBlock(2, 4, 3, identity)(torch.randn(1, 12, 2)).detach().min()) >= 0
    True
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, laplacian: SparseOperator
    ) -> None:
        super().__init__()
        self.conv = ChebConv(in_channels, out_channels, kernel_size, laplacian, bias=False)
        self.norm = nn.BatchNorm1d(out_channels, affine=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Activations: (batch, cells, in_channels) to (batch, cells, out_channels)."""
        y = self.conv(x)
        # rows of (batch * cells, channels): channels stay last, nothing is permuted
        return functional.relu(self.norm(y.flatten(0, 1)).view_as(y) + self.bias)


def pool(x: Tensor, how: Pooling = "mean") -> Tensor:
    """Samples on the parents of nested HEALPix cells.

    Parameters
    ----------
    x : tensor of float, shape (batch, cells, channels)
        Samples in nested order: four children of a parent stand side by side.
    how : {"max", "mean"}
        What of the four children to keep.

    Returns
    -------
    tensor of float, shape (batch, cells // 4, channels)
        One level coarser.

    Examples
    --------
    >>> pool(torch.arange(8.0).reshape(1, 8, 1), "mean").flatten().tolist()
    [1.5, 5.5]
    """
    n_batch, n_cells, n_channels = x.shape
    children = x.view(n_batch, n_cells // 4, 4, n_channels)
    return children.amax(2) if how == "max" else children.mean(2)


def unpool(x: Tensor) -> Tensor:
    """Samples on the children of nested HEALPix cells, each a copy of its parent.

    Parameters
    ----------
    x : tensor of float, shape (batch, cells, channels)
        Samples in nested order.

    Returns
    -------
    tensor of float, shape (batch, 4 * cells, channels)
        One level finer.

    Examples
    --------
    >>> unpool(torch.tensor([[[1.0], [2.0]]])).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    """
    return x.repeat_interleave(4, dim=1)


class WeightedPool(nn.Module):
    """Pooling between any two grids, by a matrix of weights.

    Parameters
    ----------
    matrix : sparse array of float, shape (n_coarse, n_fine)
        Weights of the fine cells in every coarse one, such as `xsphere.weights.pooling_matrix`
        makes.
    how : {"max", "mean"}
        ``"mean"``: the sum by weights. ``"max"``: the largest value of the fine cells that weigh
        at least a tenth of the heaviest of their coarse cell; slivers of overlap do not count.

    Raises
    ------
    ValueError
        If `how` is unknown, or a coarse cell has no fine cell to take the maximum of.

    Examples
    --------
    >>> matrix = sparse.csr_array([[0.5, 0.49, 0.01], [0.0, 0.5, 0.5]])
    >>> x = torch.tensor([[[1.0], [2.0], [7.0]]])
    >>> WeightedPool(matrix, "max")(x).flatten().tolist()
    [2.0, 7.0]
    >>> WeightedPool(matrix, "mean")(x).flatten().tolist()
    [1.5500000715255737, 4.5]
    """

    def __init__(self, matrix: sparse.csr_array, how: Pooling = "mean") -> None:
        super().__init__()
        if how not in ("max", "mean"):
            raise ValueError(f"how must be 'max' or 'mean', got {how!r}")
        self.how = how
        self.mean = SparseOperator(matrix) if how == "mean" else None
        self.n_coarse = matrix.shape[0]
        if how == "max":
            rows, columns = _members(sparse.csr_array(matrix))
            # not persistent: made from the grids, and no part of a checkpoint
            self.register_buffer("rows", torch.tensor(rows), persistent=False)
            self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled samples: (batch, n_fine, channels) to (batch, n_coarse, channels)."""
        if self.mean is not None:
            mean: Tensor = self.mean(x)
            return mean
        values = x.index_select(1, self.get_buffer("columns"))
        rows = self.get_buffer("rows")[:, None].expand_as(values)
        pooled = x.new_zeros(x.shape[0], self.n_coarse, x.shape[2])
        return pooled.scatter_reduce(1, rows, values, "amax", include_self=False)

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return self.how


def _members(matrix: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries that are not negligible beside the largest of their row."""
    entries = matrix.tocoo()
    largest = np.zeros(matrix.shape[0])
    np.maximum.at(largest, entries.row, entries.data)
    empty = np.flatnonzero(largest <= 0)
    if empty.size:
        raise ValueError(
            f"a maximum needs fine cells of positive weight in every coarse cell, but {empty.size} "
            f"have none, such as the cell at position {empty[0]}; use pooling_matrix"
        )
    kept = entries.data >= NEGLIGIBLE * largest[entries.row]
    return entries.row[kept].astype(np.int64), entries.col[kept].astype(np.int64)
