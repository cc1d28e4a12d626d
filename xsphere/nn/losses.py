"""Losses for dense classification with rare classes: a new one is a function and an entry here."""

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional


def soft_cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy against class probabilities, each class weighted.

    Parameters
    ----------
    logits : tensor of float, shape (batch, cells, classes)
        Scores before the softmax.
    target : tensor of float, shape (batch, cells, classes)
        Probabilities that sum to 1 over the classes; all zero where a cell is not to be learned.
    class_weights : tensor of float, shape (classes,)
        Weight of each class; the loss is the weighted mean.

    Returns
    -------
    tensor of float, scalar
        The mean over cells, weighted by the class weights of their targets.

    Examples
    --------
    >>> certain = torch.tensor([[[50.0, 0.0]]])
    >>> float(soft_cross_entropy(certain, torch.tensor([[[1.0, 0.0]]]), torch.ones(2))) < 1e-6
    True
    """
    weighted = target * class_weights
    return -(weighted * functional.log_softmax(logits, dim=-1)).sum() / weighted.sum()


def jaccard_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft intersection over union, averaged over the classes.

    The union counts each class over the whole batch, so that a rare class weighs as much as a
    common one [1]_. Targets may be probabilities: then ``|p - t|`` measures the disagreement, so
    that the loss is 0 exactly where prediction and target agree.

    Parameters
    ----------
    logits : tensor of float, shape (batch, cells, classes)
        Scores before the softmax.
    target : tensor of float, shape (batch, cells, classes)
        Probabilities; all zero where a cell is not to be learned.
    smooth : float
        Cells added to intersection and union, for classes that are absent.

    Returns
    -------
    tensor of float, scalar
        From 0 (perfect) to 1.

    References
    ----------
    .. [1] Wang et al. (2023), Jaccard metric losses, https://arxiv.org/abs/2302.05666

    Examples
    --------
    >>> certain = torch.tensor([[[50.0, 0.0]]])
    >>> float(jaccard_loss(certain, torch.tensor([[[1.0, 0.0]]]))) < 1e-6
    True
    """
    known = target.sum(-1, keepdim=True)
    predicted = torch.softmax(logits, dim=-1) * known
    difference = (predicted - target).abs().sum(dim=(0, 1))
    both = (predicted + target).sum(dim=(0, 1))
    intersection = (both - difference) / 2
    union = (both + difference) / 2
    return 1 - ((intersection + smooth) / (union + smooth)).mean()


# each takes scores, targets and the weights of the classes
LOSSES = MappingProxyType[str, Callable[[Tensor, Tensor, Tensor], Tensor]](
    {
        "cross_entropy": soft_cross_entropy,
        "jaccard": lambda logits, target, _weights: jaccard_loss(logits, target),
    }
)
