"""How a network is trained, and what it learns from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xsphere.nn.losses import LOSSES

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
SCORES = ("iou", "recall", "f1")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a network is trained.

    Parameters
    ----------
    epochs, batch_size : int
        Passes through the data, and samples of one pass through the network in one process.
    accumulate : int
        Batches a step: their gradients are averaged.
    learning_rate, weight_decay : float
        Peak rate of AdamW, reached after a tenth of the steps and then lowered along a cosine to
        zero; and its decay of weights.
    losses : mapping of float
        Weights in the sum that is made small, by name in `xsphere.nn.LOSSES`.
    averaging : float
        Decay of a moving mean of the weights over the steps, which is then the network that is
        scored and kept; 0 for none.
    patience : int, optional
        Epochs without a better score after which the training stops; the weights of the best are
        kept. None to train all epochs and keep the last.
    score : {"iou", "recall", "f1"}
        Mean over the classes of events in the validation samples: what `patience` watches.
    seed : int
        Of weights, order and augmentation.
    checkpointing : bool
        Whether the network keeps little of what its gradients need and works the rest out again:
        less memory, more time, the same weights. `xsphere.fit` tells its network so.
    device : str
        A torch device; ``"auto"`` is a GPU, or else the CPU.
    precision : {"float32", "bfloat16"}
        Of the network's layers; weights, losses and their gradients are always float32.

    Raises
    ------
    ValueError
        If a number is out of range; all that are.

    Examples
    --------
    >>> TrainingOptions(epochs=2).batch_size
    4
    """

    epochs: int = 16
    batch_size: int = 4
    accumulate: int = 1
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    losses: Mapping[str, float] = field(
        default_factory=lambda: {"cross_entropy": 1.0, "jaccard": 1.0}
    )
    averaging: float = 0.0
    patience: int | None = None
    score: str = "iou"
    seed: int = 0
    checkpointing: bool = False
    device: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        low = {"epochs": 1, "batch_size": 1, "accumulate": 1, "learning_rate": 0, "weight_decay": 0}
        wrong = {name: getattr(self, name) for name in low if getattr(self, name) < low[name]}
        problems = []
        if wrong:
            problems.append(f"training options are below their least values {low}: {wrong}")
        if not set(self.losses) <= set(LOSSES) or not all(w > 0 for w in self.losses.values()):
            problems.append(
                f"losses must have positive weights for some of {list(LOSSES)}, got {self.losses}"
            )
        if not 0 <= self.averaging < 1:
            problems.append(f"averaging must be from 0 to below 1, got {self.averaging}")
        if self.patience is not None and self.patience < 1:
            problems.append(f"patience must be 1 or more, or None, got {self.patience}")
        if self.score not in SCORES:
            problems.append(f"score must be one of {list(SCORES)}, got {self.score!r}")
        if self.precision not in PRECISIONS:
            problems.append(f"precision must be one of {list(PRECISIONS)}, got {self.precision!r}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Where samples come from, and what their classes are.

    Parameters
    ----------
    n_samples, n_validation : int
        Number of samples to learn from, and to score.
    batch : callable
        Gives channels (batch, cells, channels) and targets (batch, cells, classes) of some training
        samples, changed at random by the generator.
    validation : callable
        Gives channels and target of one validation sample, unchanged.
    classes : tuple of str
        Names, the background first.
    class_weights : tuple of float
        Weights of the classes in the cross-entropy.
    fingerprint : str
        Of everything that the samples depend on; a checkpoint of another is refused.

    Examples
    --------
    >>> data = TrainingData(
    ...     n_samples=1, n_validation=1,
    ...     batch=lambda indices, rng: (np.zeros((1, 2, 1)), np.eye(2)[None]),
    ...     validation=lambda index: (np.zeros((2, 1)), np.eye(2)),
    ...     classes=("a", "b"), class_weights=(1.0, 1.0),
    ... )
    >>> data.fingerprint
    ''
    """

    n_samples: int
    n_validation: int
    batch: Callable[[NDArray[np.int64], np.random.Generator], Batch]
    validation: Callable[[int], Batch]
    classes: tuple[str, ...]
    class_weights: tuple[float, ...]
    fingerprint: str = ""
