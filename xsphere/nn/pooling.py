"""Pooling between levels: by reshape where cells are nested, else by weights."""

from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from xsphere.nn.operator import SparseOperator

Pooling = Literal["max", "mean"]

# A fine cell that weighs less than this part of the heaviest one is no part of a maximum.
NEGLIGIBLE = 0.1


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
