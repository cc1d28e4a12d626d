"""What is done to the output of a convolution while it is still in cache or in registers."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Epilogue:
    """``y * scale + shift``, and no less than zero where `rectify` says so.

    Parameters
    ----------
    scale, shift : tensors of float, shape (n_channels,), optional
        Of each channel: a batch normalisation with fixed statistics, or a bias.
    rectify : bool
        Whether negative values become zero.

    Examples
    --------
    >>> y = torch.tensor([[-2.0, 1.0]])
    >>> Epilogue(shift=torch.tensor([1.0, 1.0]), rectify=True).apply(y).tolist()
    [[0.0, 2.0]]
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    rectify: bool = False

    def apply(self, y: Tensor) -> Tensor:
        """Changes `y`, of shape (..., n_channels), in place, and returns it."""
        if self.scale is not None and self.shift is not None:
            torch.addcmul(self.shift, y, self.scale, out=y)
        elif self.scale is not None:
            y.mul_(self.scale)
        elif self.shift is not None:
            y.add_(self.shift)
        return y.relu_() if self.rectify else y

    def to(self, dtype: torch.dtype) -> "Epilogue":
        """The same in another type, contiguous."""
        scale, shift = (
            None if values is None else values.to(dtype).contiguous()
            for values in (self.scale, self.shift)
        )
        return Epilogue(scale, shift, self.rectify)
