"""The training loop: arrays in, weights out, resumable at every epoch with the same result."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xsphere.atomic import write_file
from xsphere.metrics import Confusion
from xsphere.nn.losses import LOSSES
from xsphere.tensorfiles import TensorFileError, packed, read_header, read_tensors

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a network is trained.

    Parameters
    ----------
    epochs, batch_size : int
        Passes through the data, and samples a step.
    learning_rate, weight_decay : float
        Peak rate of AdamW, reached after a tenth of the steps and then lowered along a cosine to
        zero; and its decay of weights.
    losses : mapping of float
        Weights in the sum that is made small, by name in `xsphere.nn.LOSSES`.
    seed : int
        Of weights, order and augmentation.
    checkpointing : bool
        Whether the network keeps little of what its gradients need and works the rest out again:
        less memory, more time, the same weights. `xsphere.fit` tells its network so.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> TrainingOptions(epochs=2).batch_size
    4
    """

    epochs: int = 16
    batch_size: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    losses: Mapping[str, float] = field(
        default_factory=lambda: {"cross_entropy": 1.0, "jaccard": 1.0}
    )
    seed: int = 0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        low = {"epochs": 1, "batch_size": 1, "learning_rate": 0, "weight_decay": 0}
        wrong = {name: getattr(self, name) for name in low if getattr(self, name) < low[name]}
        if wrong:
            raise ValueError(f"training options are below their least values {low}: {wrong}")
        if not set(self.losses) <= set(LOSSES) or not all(w > 0 for w in self.losses.values()):
            raise ValueError(
                f"losses must have positive weights for some of {list(LOSSES)}, got {self.losses}"
            )


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


def train(
    network: nn.Module,
    data: TrainingData,
    *,
    options: TrainingOptions,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Record of a training that leaves the network trained, in evaluation mode.

    Parameters
    ----------
    network : Module
        Takes (batch, cells, channels), gives scores (batch, cells, classes). Changed.
    data : TrainingData
        Samples and classes.
    options : TrainingOptions
        How to train.
    checkpoint : Path, optional
        File to write after each epoch, and to go on from if it exists.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    list of dict
        Loss and validation scores of every epoch.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another training, or is damaged.
    FloatingPointError
        If the loss is not finite.

    Examples
    --------
    >>> network = nn.Linear(1, 2)
    >>> x = np.array([[[-1.0], [1.0]]], np.float32)
    >>> target = np.eye(2, dtype=np.float32)[None]
    >>> data = TrainingData(
    ...     n_samples=8, n_validation=1,
    ...     batch=lambda indices, rng: (x[[0] * len(indices)], target[[0] * len(indices)]),
    ...     validation=lambda index: (x[0], target[0]),
    ...     classes=("a", "b"), class_weights=(1.0, 1.0),
    ... )
    >>> options = TrainingOptions(epochs=20, learning_rate=0.1)
    >>> history = train(network, data, options=options, progress=False)
    >>> history[-1]["iou"]["b"]
    1.0
    """
    from tqdm.auto import tqdm

    n_steps = -(-data.n_samples // options.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    run_key = _run_key(options, data)
    history = _resumed(checkpoint, network, optimizer, run_key)
    bar = tqdm(
        total=options.epochs * n_steps,
        initial=len(history) * n_steps,
        disable=not progress,
        unit="step",
        desc="training",
    )
    for epoch in range(len(history), options.epochs):
        loss = _epoch(network, optimizer, data, options, epoch, bar.update)
        history.append({"epoch": epoch, "loss": loss} | _scores(network, data))
        bar.set_postfix_str(_summary(history[-1], data.classes))
        if checkpoint is not None:
            _save(checkpoint, network, optimizer, run_key, history)
    bar.close()
    network.eval()
    return history


def _run_key(options: TrainingOptions, data: TrainingData) -> str:
    """Everything that the weights depend on."""
    values = asdict(options)
    # how much is kept in memory changes no bit of them
    del values["checkpointing"]
    return json.dumps([values, data.fingerprint, data.class_weights], sort_keys=True)


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    options: TrainingOptions,
    epoch: int,
    advance: Callable[[], object],
) -> float:
    """Mean loss of one pass through the data."""
    network.train()
    weights = torch.tensor(data.class_weights, dtype=torch.float32)
    # every epoch has its own generator, so that a resumed run draws the same numbers
    rng = np.random.default_rng([options.seed, epoch])
    n_steps = -(-data.n_samples // options.batch_size)
    total = 0.0
    for step, indices in enumerate(np.array_split(rng.permutation(data.n_samples), n_steps)):
        _set_rate(optimizer, options, epoch * n_steps + step, options.epochs * n_steps)
        x, target = (torch.from_numpy(part) for part in data.batch(indices, rng))
        logits = network(x)
        parts = [w * LOSSES[name](logits, target, weights) for name, w in options.losses.items()]
        loss = torch.stack(parts).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is not finite; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        advance()
    return total / n_steps


def _set_rate(
    optimizer: torch.optim.Optimizer, options: TrainingOptions, step: int, n_steps: int
) -> None:
    warm_up = max(1, n_steps // 10)
    if step < warm_up:
        share = (step + 1) / warm_up
    else:
        share = 0.5 * (1 + np.cos(np.pi * (step - warm_up) / max(1, n_steps - warm_up)))
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * share


def _scores(network: nn.Module, data: TrainingData) -> dict[str, Any]:
    """Scores of the most likely class against the most likely target."""
    network.eval()
    confusion = Confusion(data.classes)
    with torch.inference_mode():
        for index in range(data.n_validation):
            channels, target = data.validation(index)
            predicted = network(torch.from_numpy(channels)[None])[0].argmax(-1).numpy()
            known = target.sum(-1) > 0.5
            true = np.where(known, target.argmax(-1), len(data.classes))
            confusion.add(true, predicted)
    return {
        name: {key: round(float(value), 4) for key, value in scores.items()}
        for name, scores in (("iou", confusion.iou()), ("recall", confusion.recall()))
    }


def _summary(record: dict[str, Any], classes: Sequence[str]) -> str:
    ious = ", ".join(f"IoU {name} {record['iou'][name]:.3f}" for name in classes[1:])
    return f"loss {record['loss']:.3f}, {ious}"


def _save(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    run_key: str,
    history: list[dict[str, Any]],
) -> None:
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
    metadata = {"run": run_key, "history": json.dumps(history)}
    write_file(path, packed({n: value.cpu().numpy() for n, value in tensors.items()}, metadata))


def _resumed(
    path: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer, run_key: str
) -> list[dict[str, Any]]:
    """Restore a checkpoint into network and optimizer; its history, empty if there is none."""
    if path is None or not path.exists():
        return []
    try:
        metadata = read_header(path).metadata
        tensors = {name: torch.from_numpy(value) for name, value in read_tensors(path).items()}
    except TensorFileError as error:
        raise ValueError(
            f"the checkpoint {path} cannot be used: {error}; delete it to start anew, or give "
            "another path"
        ) from error
    if metadata.get("run") != run_key:
        raise ValueError(
            f"the checkpoint {path} belongs to a training with other data or options; delete "
            "it to start anew, or give another path"
        )
    prefix = "network/"
    network.load_state_dict(
        {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    )
    state = optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(state)
    history: list[dict[str, Any]] = json.loads(metadata["history"])
    return history
