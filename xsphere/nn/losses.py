"""Losses for dense classification with rare classes: a new one is a function and an entry here."""

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from xsphere.nn.parallel import total


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
    loss = total((weighted * functional.log_softmax(logits, dim=-1)).sum())
    return -loss / total(weighted.sum())


def focal_loss(logits: Tensor, target: Tensor, class_weights: Tensor, focus: float = 2.0) -> Tensor:
    """Cross-entropy in which what is well predicted counts little [1]_.

    Parameters
    ----------
    logits, target, class_weights
        As for `soft_cross_entropy`.
    focus : float
        Power of the probability that is missing; 0 makes it the cross-entropy.

    Returns
    -------
    tensor of float, scalar
        The mean over cells, weighted by the class weights of their targets.

    References
    ----------
    .. [1] Lin et al. (2017), https://arxiv.org/abs/1708.02002

    Examples
    --------
    >>> logits, target = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]])
    >>> round(float(focal_loss(logits, target, torch.ones(2))), 4)  # 0.5 ** 2 * log(2)
    0.1733
    """
    weighted = target * class_weights
    logs = functional.log_softmax(logits, dim=-1)
    loss = total((weighted * (1 - logs.exp()) ** focus * logs).sum())
    return -loss / total(weighted.sum())


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
    return tversky_loss(logits, target, false_alarms=1.0, misses=1.0, smooth=smooth)


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    *,
    false_alarms: float = 0.3,
    misses: float = 0.7,
    smooth: float = 1.0,
) -> Tensor:
    """One minus the soft Tversky index, averaged over the classes [1]_.

    The index is hits by the sum of hits, false alarms and misses, the latter two with weights. With
    weights of 1 it is the intersection over union. Hits are the lesser of probability and target,
    so that the loss is 0 exactly where both agree.

    Parameters
    ----------
    logits, target, smooth
        As for `jaccard_loss`.
    false_alarms, misses : float
        Weights of what is predicted beyond the target, and of what is left of it.

    Returns
    -------
    tensor of float, scalar
        From 0 (perfect) to 1.

    References
    ----------
    .. [1] Salehi et al. (2017), https://arxiv.org/abs/1706.05721

    Examples
    --------
    >>> certain = torch.tensor([[[50.0, 0.0]]])
    >>> float(tversky_loss(certain, torch.tensor([[[1.0, 0.0]]]))) < 1e-6
    True
    """
    known = target.sum(-1, keepdim=True)
    predicted = torch.softmax(logits, dim=-1) * known
    over = (predicted - target).clamp(min=0).sum(dim=(0, 1))
    hits, over, of = total(
        torch.stack([predicted.sum(dim=(0, 1)) - over, over, target.sum((0, 1))])
    )
    weighted = hits + false_alarms * over + misses * (of - hits)
    index: Tensor = (hits + smooth) / (weighted + smooth)
    return 1 - index.mean()


# each takes scores, targets and the weights of the classes
LOSSES = MappingProxyType[str, Callable[[Tensor, Tensor, Tensor], Tensor]](
    {
        "cross_entropy": soft_cross_entropy,
        "focal": focal_loss,
        "jaccard": lambda logits, target, _weights: jaccard_loss(logits, target),
        "tversky": lambda logits, target, _weights: tversky_loss(logits, target),
    }
)
