"""Processes that train one network together, each on its part of every batch.

Where ``torch.distributed`` has a group of processes (as from ``torchrun``), sums over a batch are
sums over all of them, in losses and in normalisations: the weights are those of one process with
the whole batch, to rounding. Without a group nothing is shared, and nothing of it is imported.
"""

import torch
from torch import Tensor, nn


def n_processes() -> int:
    """How many processes train together: 1 where there is no group.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> n_processes()
    1
    """
    distributed = torch.distributed
    grouped = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if grouped else 1


def process_number() -> int:
    """Number of this process in the group, from 0.

    Returns
    -------
    int
        Of the first, 0: it alone writes files.

    Examples
    --------
    >>> process_number()
    0
    """
    return torch.distributed.get_rank() if n_processes() > 1 else 0


def total(values: Tensor) -> Tensor:
    """Sum over all processes, through which gradients pass.

    Parameters
    ----------
    values : tensor
        Of one shape in all processes.

    Returns
    -------
    tensor
        The same in all of them.

    Examples
    --------
    >>> total(torch.ones(2))
    tensor([1., 1.])
    """
    if n_processes() == 1:
        return values
    summed: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return summed


class _Total(torch.autograd.Function):
    """A sum over processes; each has the sum, so gradients of all of them come to each."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:  # noqa: ARG004
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # noqa: ARG004
        summed = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed


def share_gradients(network: nn.Module) -> None:
    """Give every process the gradients of the whole batch.

    A loss made of `total` is the same in every process, and each has its gradients as often as
    there are processes: their mean is the gradient of the loss.

    Parameters
    ----------
    network : Module
        After ``backward``; its gradients are changed in place.

    Examples
    --------
    >>> share_gradients(nn.Linear(1, 1))
    """
    n = n_processes()
    if n == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    parts = torch.split(flat / n, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows over all processes; on one process that of torch, to the bit.

    Examples
    --------
    >>> SharedBatchNorm(2, affine=False)(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).round(decimals=3)
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """

    def forward(self, rows: Tensor) -> Tensor:  # noqa: D102 - as in torch
        if not self.training or n_processes() == 1:
            return super().forward(rows)
        rows = rows.float()
        sums = torch.stack([rows.sum(0), torch.full_like(rows[0], len(rows))])
        sums, count = total(sums)
        mean = sums / count
        # about the mean, not by the difference of two large numbers
        variance = total(((rows - mean) ** 2).sum(0)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum or 0.1)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased, self.momentum or 0.1)
        normalised: Tensor = (rows - mean) * torch.rsqrt(variance + self.eps)
        return normalised
