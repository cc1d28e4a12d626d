"""One sparse operator: a fixed matrix applied to the cells of every sample and channel.

The matrix is data, not a parameter: it is a buffer that follows the module to its device and never
enters a checkpoint. `torch.nn.functional.embedding_bag` does the gather-and-weigh; it is several
times faster than PyTorch's sparse product and runs on every device.
"""

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional


def apply_reference(matrix: sparse.csr_array, x: Tensor) -> Tensor:
    """Product of a matrix with the cells of every sample, the plain way.

    What the faster implementations are tested against.

    Parameters
    ----------
    matrix : sparse array, shape (n_target, n_source)
        Any real matrix.
    x : tensor of float, shape (batch, n_source, channels)
        Samples.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels)
        ``matrix @ x[b]`` for every sample.

    Examples
    --------
    >>> swap = sparse.csr_array([[0.0, 1.0], [1.0, 0.0]])
    >>> apply_reference(swap, torch.tensor([[[1.0], [2.0]]])).tolist()
    [[[2.0], [1.0]]]
    """
    dense = torch.as_tensor(matrix.toarray(), dtype=x.dtype, device=x.device)
    return torch.einsum("ts,bsc->btc", dense, x)


def _gather(indptr: Tensor, indices: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    return functional.embedding_bag(
        indices,
        x,
        indptr,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )


class _Apply(torch.autograd.Function):
    """Matrix times samples; its backward is the transposed matrix times gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: "SparseOperator", transposed: bool) -> Tensor:
        ctx.operator, ctx.transposed = operator, transposed
        # one sample after another: its rows stay in cache, and its bits depend on no other sample
        return torch.stack([operator.apply_to_sample(sample, transposed) for sample in x])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        back = _Apply.apply(gradient, ctx.operator, not ctx.transposed)  # type: ignore[no-untyped-call]
        return back, None, None


class SparseOperator(nn.Module):
    """A fixed sparse matrix that acts on the cells of its input.

    Parameters
    ----------
    matrix : sparse array, shape (n_target, n_source)
        Any real matrix, symmetric or not.
    differentiable : bool
        Whether to keep the transposed matrix as well, which gradients need.

    Examples
    --------
    >>> swap = SparseOperator(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]))
    >>> swap(torch.tensor([[[1.0], [2.0]]])).tolist()
    [[[2.0], [1.0]]]
    >>> list(swap.state_dict())
    []
    """

    def __init__(self, matrix: sparse.csr_array, *, differentiable: bool = True) -> None:
        super().__init__()
        forward = sparse.csr_array(matrix)
        forward.sum_duplicates()
        self.shape = forward.shape
        self.is_symmetric = False
        if not differentiable:
            self._register("forward", forward)
            return
        backward = sparse.csr_array(forward.T)
        backward.sum_duplicates()
        self._register("forward", forward)
        self.is_symmetric = bool(
            np.array_equal(forward.indptr, backward.indptr)
            and np.array_equal(forward.indices, backward.indices)
            and np.array_equal(forward.data, backward.data)
        )
        if not self.is_symmetric:
            self._register("backward", backward)

    def _register(self, name: str, matrix: sparse.csr_array) -> None:
        for part, array, dtype in (
            ("indptr", matrix.indptr, np.int32),
            ("indices", matrix.indices, np.int32),
            ("weights", matrix.data, np.float32),
        ):
            # torch.tensor follows the default device, which may be "meta" while shapes are asked
            buffer = torch.tensor(np.ascontiguousarray(array, dtype))
            self.register_buffer(f"{name}_{part}", buffer, persistent=False)

    def apply_to_sample(self, x: Tensor, transposed: bool = False) -> Tensor:
        """Product with one sample.

        Parameters
        ----------
        x : tensor of float, shape (n_source, channels)
            One sample.
        transposed : bool
            Whether to apply the transposed matrix.

        Returns
        -------
        tensor of float, shape (n_target, channels)
            Of the dtype of `x`.

        Examples
        --------
        >>> double = SparseOperator(sparse.csr_array([[2.0]]))
        >>> double.apply_to_sample(torch.ones(1, 3)).tolist()
        [[2.0, 2.0, 2.0]]
        """
        name = "backward" if transposed and not self.is_symmetric else "forward"
        return _gather(
            self.get_buffer(f"{name}_indptr"),
            self.get_buffer(f"{name}_indices"),
            self.get_buffer(f"{name}_weights").to(x.dtype),
            x.contiguous(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Product with every sample: (batch, n_source, channels) to (batch, n_target, channels)."""
        result: Tensor = _Apply.apply(x, self, False)  # type: ignore[no-untyped-call]
        return result

    def extra_repr(self) -> str:
        """What `repr` says of the matrix."""
        return f"shape={self.shape}"
