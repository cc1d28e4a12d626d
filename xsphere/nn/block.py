"""Convolution, normalisation and ReLU in one block."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from xsphere.nn.convolution import DirectionalOperator, graph_conv
from xsphere.nn.operator import SparseOperator
from xsphere.nn.parallel import SharedBatchNorm
from xsphere.nn.recomputing import is_recomputing


class ConvBlock(nn.Module):
    """Graph convolution, batch normalisation over samples and cells, bias, ReLU.

    The normalisation has no scale of its own: the next filter does the same.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, operator
        As for `xsphere.nn.graph_conv`.

    Examples
    --------
    >>> from scipy import sparse
    >>> identity = SparseOperator(sparse.eye_array(12).tocsr())
    >>> float(ConvBlock(2, 4, 3, identity)(torch.randn(1, 12, 2)).detach().min()) >= 0
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        operator: SparseOperator | DirectionalOperator,
    ) -> None:
        super().__init__()
        self.conv = graph_conv(in_channels, out_channels, kernel_size, operator, bias=False)
        self.norm = SharedBatchNorm(out_channels, affine=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, *xs: Tensor, spread: bool = False) -> Tensor:
        """Activations: (batch, cells, in_channels) to (batch, cells, out_channels).

        Several inputs and `spread` are as for `GraphConv`.
        """
        if not self.training and not torch.is_grad_enabled():
            scale, shift = self._fixed()
            return self.conv.filtered(xs, spread=spread, scale=scale, shift=shift, rectified=True)
        y = self.conv(*xs, spread=spread)
        # rows of (batch * cells, channels): channels stay last, nothing is permuted; the norm
        # needs its input again, not its output, which may thus be changed in place
        return self._normalised(y.flatten(0, 1)).add_(self.bias).relu_().view_as(y)

    def _fixed(self) -> tuple[Tensor, Tensor]:
        """Factor and summand of each channel that normalise by the running statistics."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = torch.rsqrt(variance + self.norm.eps)
        return scale, torch.addcmul(self.bias, mean, scale, value=-1)

    def _normalised(self, rows: Tensor) -> Tensor:
        if not is_recomputing():
            normalised: Tensor = self.norm(rows)
            return normalised
        # what is worked out again must not count twice in the running statistics
        copies = {name: values.clone() for name, values in self.norm.named_buffers()}
        again: Tensor = functional_call(self.norm, copies, (rows,))
        return again
