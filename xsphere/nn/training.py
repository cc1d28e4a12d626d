"""The training loop: arrays in, weights out, resumable at every epoch with the same result."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xsphere.metrics import class_scores, confusion_counts
from xsphere.nn.checkpoints import resumed, save
from xsphere.nn.losses import LOSSES
from xsphere.nn.parallel import n_processes, process_number, share_gradients, total
from xsphere.nn.training_options import SCORES, Batch, TrainingData, TrainingOptions

__all__ = ["TrainingData", "TrainingOptions", "train"]

# steps whose batches are made before they are needed
AHEAD = 2


def train(
    network: nn.Module,
    data: TrainingData,
    *,
    options: TrainingOptions,
    checkpoint: Path | None = None,
    progress: bool = True,
    report: Callable[[list[dict[str, Any]]], object] | None = None,
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
    report : callable, optional
        Called after every epoch with the records of all so far.

    Returns
    -------
    list of dict
        Loss and validation scores of every epoch.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another training, or is damaged; if there are fewer samples
        than processes and batches of a step need.
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
    run = _Run(network, data, options)
    history = resumed(checkpoint, run.tensors(), run.optimizer, run.key)
    first = process_number() == 0
    with run.bar(len(history), shown=progress and first) as bar:
        while len(history) < options.epochs and not _has_stopped(history, options):
            record = run.epoch(len(history), bar.update)
            history.append(record)
            bar.set_postfix_str(_summary(record, data.classes))
            if _best(history, options) == len(history) - 1:
                run.keep_best()
            if checkpoint is not None and first:
                save(checkpoint, run.tensors(), run.optimizer, run.key, history)
            if report is not None and first:
                report(history)
    run.finish()
    return history


class _Run:
    """A network in training: its optimiser, the mean of its weights, the best of them."""

    def __init__(self, network: nn.Module, data: TrainingData, options: TrainingOptions) -> None:
        self.data, self.options = data, options
        self.device = _device(options.device)
        self.network = network.to(self.device)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        # tensors that training changes: of graphs it does not
        learned = {name for name, _ in network.named_parameters()}
        self.now = {
            name: values
            for name, values in network.state_dict().items()
            if name in learned or "norm." in name
        }
        self.mean = self._copy() if options.averaging else self.now
        self.best = self._copy() if options.patience is not None else self.now
        self.parts = options.accumulate * n_processes()
        self.n_steps = -(-data.n_samples // (options.batch_size * self.parts))
        if data.n_samples // self.n_steps < self.parts:
            raise ValueError(
                f"{data.n_samples} samples are too few for {options.accumulate} batches a step on "
                f"each of {n_processes()} processes; lower accumulate"
            )
        self.weights = torch.tensor(data.class_weights, dtype=torch.float32, device=self.device)

    @property
    def key(self) -> str:
        """Everything that the weights depend on."""
        values = asdict(self.options)
        # how much is kept in memory, and where, changes nothing but rounding
        del values["checkpointing"], values["device"]
        values["processes"] = n_processes()
        return json.dumps([values, self.data.fingerprint, self.data.class_weights], sort_keys=True)

    def tensors(self) -> dict[str, Tensor]:
        """All that must be kept to go on, by name, to read and to write."""
        kept = {"network": self.now}
        if self.options.averaging:
            kept["mean"] = self.mean
        if self.options.patience is not None:
            kept["best"] = self.best
        return {f"{part}/{name}": v for part, of in kept.items() for name, v in of.items()}

    def bar(self, n_done: int, *, shown: bool) -> Any:
        """Progress over all steps."""
        from tqdm.auto import tqdm

        return tqdm(
            total=self.options.epochs * self.n_steps,
            initial=n_done * self.n_steps,
            disable=not shown,
            unit="step",
            desc="training",
        )

    def epoch(self, epoch: int, advance: Callable[[], object]) -> dict[str, Any]:
        """Record of one pass through the data."""
        self.network.train()
        losses = []
        for step, batches in enumerate(self._prefetched(epoch)):
            self._set_rate(epoch * self.n_steps + step)
            losses.append(self._step(batches))
            advance()
        with torch.no_grad(), self._with(self.mean):
            return {"epoch": epoch, "loss": float(np.mean(losses))} | self._scores()

    def keep_best(self) -> None:
        """Keep the weights that were just scored, if the best are wanted."""
        if self.options.patience is not None:
            _copy_into(self.best, self.mean)

    def finish(self) -> None:
        """Leave the chosen weights in the network."""
        _copy_into(self.now, self.best if self.options.patience is not None else self.mean)
        self.network.eval()

    def _copy(self) -> dict[str, Tensor]:
        return {name: values.clone() for name, values in self.now.items()}

    @contextmanager
    def _with(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """The network with other weights for a while."""
        if weights is self.now:
            yield
            return
        own = self._copy()
        _copy_into(self.now, weights)
        try:
            yield
        finally:
            _copy_into(self.now, own)

    def _prefetched(self, epoch: int) -> Iterator[list[Batch]]:
        """Batches of each step; a thread makes the next ones, one after the other."""
        with ThreadPoolExecutor(1) as thread:
            made = self._batches(epoch)
            waiting = [thread.submit(next, made, None) for _ in range(AHEAD)]
            while (batches := waiting.pop(0).result()) is not None:
                waiting.append(thread.submit(next, made, None))
                yield batches

    def _batches(self, epoch: int) -> Iterator[list[Batch]]:
        # every epoch has its own generator, so that a resumed run draws the same numbers
        rng = np.random.default_rng([self.options.seed, epoch])
        order, number = rng.permutation(self.data.n_samples), process_number()
        if number:
            rng = np.random.default_rng([self.options.seed, epoch, number])
        for step in np.array_split(order, self.n_steps):
            mine = np.array_split(step, self.parts)[number :: n_processes()]
            yield [self.data.batch(indices, rng) for indices in mine]

    def _step(self, batches: list[Batch]) -> float:
        """Loss of a step, after it was made."""
        self.optimizer.zero_grad(set_to_none=True)
        sum_of_losses = 0.0
        for batch in batches:
            x, target = (torch.from_numpy(part).to(self.device) for part in batch)
            logits = self._logits(x)
            parts = [
                weight * LOSSES[name](logits, target, self.weights)
                for name, weight in self.options.losses.items()
            ]
            loss = torch.stack(parts).sum() / len(batches)
            if not torch.isfinite(loss):
                raise FloatingPointError("the loss is not finite; lower the learning rate")
            loss.backward()  # type: ignore[no-untyped-call]
            sum_of_losses += loss.item()
        share_gradients(self.network)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self._follow()
        return sum_of_losses

    def _logits(self, x: Tensor) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"
        ):
            logits: Tensor = self.network(x)
        return logits.float()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the mean of the weights towards those of now."""
        if not self.options.averaging:
            return
        for name, values in self.now.items():
            if values.is_floating_point():
                self.mean[name].lerp_(values, 1 - self.options.averaging)
            else:
                self.mean[name].copy_(values)

    def _set_rate(self, step: int) -> None:
        n_steps = self.options.epochs * self.n_steps
        warm_up = max(1, n_steps // 10)
        if step < warm_up:
            share = (step + 1) / warm_up
        else:
            share = 0.5 * (1 + np.cos(np.pi * (step - warm_up) / max(1, n_steps - warm_up)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * share

    def _scores(self) -> dict[str, Any]:
        """Scores of the most likely class against the most likely target."""
        self.network.eval()
        n_classes = len(self.data.classes)
        counts = np.zeros((n_classes, n_classes))
        for index in range(process_number(), self.data.n_validation, n_processes()):
            channels, target = self.data.validation(index)
            logits = self._logits(torch.from_numpy(channels)[None].to(self.device))[0]
            known = target.sum(-1) > 0.5
            true = np.where(known, target.argmax(-1), n_classes)
            counts += confusion_counts(true, logits.argmax(-1).cpu().numpy(), n_classes)
        counts = total(torch.from_numpy(counts).to(self.device)).cpu().numpy()
        scores = class_scores(counts)
        return {
            name: {
                key: round(float(value), 4)
                for key, value in zip(self.data.classes, scores[name], strict=True)
            }
            for name in SCORES
        }


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    n_gpus = torch.cuda.device_count()
    return torch.device(f"cuda:{process_number() % n_gpus}" if n_gpus else "cpu")


@torch.no_grad()
def _copy_into(target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    for name, values in target.items():
        values.copy_(source[name])


def _score(record: dict[str, Any], options: TrainingOptions) -> float:
    """Mean over the classes of events; those that are nowhere count nothing."""
    values = list(record[options.score].values())[1:]
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else -np.inf


def _best(history: list[dict[str, Any]], options: TrainingOptions) -> int:
    """The first epoch with the best score."""
    return int(np.argmax([_score(record, options) for record in history]))


def _has_stopped(history: list[dict[str, Any]], options: TrainingOptions) -> bool:
    if options.patience is None or not history:
        return False
    return len(history) - 1 - _best(history, options) >= options.patience


def _summary(record: dict[str, Any], classes: Sequence[str]) -> str:
    ious = ", ".join(f"IoU {name} {record['iou'][name]:.3f}" for name in classes[1:])
    return f"loss {record['loss']:.3f}, {ious}"
