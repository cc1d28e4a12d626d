"""The network's part of a task: where it runs, in what precision, how many samples at a time.

All that torch keeps for a thread (its number of threads, inference mode, autocast) is set here, for
the thread that runs the task alone. What belongs to the whole process is left as it is.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xsphere.model import Model
from xsphere.segmentation.devices import in_batches, without_device
from xsphere.stages import note_device

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a network is run: nothing here but `precision` changes what its answers mean.

    Parameters
    ----------
    batch_size : int
        Samples that a GPU takes at a time; halved while it runs out of memory. A CPU takes one:
        more gain nothing there, and so no bit of a sample's result can depend on others.
    device : str, optional
        A torch device. By default a GPU if the process that runs the task has one, else the CPU.
    precision : {"float32", "bfloat16", "float16"}
        Of the products inside the network, by torch's autocast: less than float32 on GPUs only.
    allow_cpu_fallback : bool
        Whether the CPU takes over, in float32 and with a warning, where a GPU cannot hold one
        sample.

    Examples
    --------
    >>> Inference(device="cpu").chosen_device()
    device(type='cpu')
    """

    batch_size: int = 8
    device: str | None = None
    precision: Precision = "float32"
    allow_cpu_fallback: bool = False

    def chosen_device(self) -> "torch.device":
        """Where this process runs the network: a client may have a GPU and its workers not."""
        import torch

        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "cuda" and device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
        return device

    def samples_at_once(self) -> int:
        """Number of samples that the device takes together."""
        return 1 if self.chosen_device().type == "cpu" else self.batch_size


def probabilities(
    model: Model, channels: NDArray[np.float32], options: Inference
) -> NDArray[np.float32]:
    """Probability of each class in each cell, one forward pass at a time on a GPU."""
    device = options.chosen_device()
    note_device("network", device.type)
    if options.precision != "float32" and device.type == "cpu":
        raise ValueError(
            f"precision={options.precision!r} is for GPUs, and this process runs on the CPU; leave "
            "precision='float32'"
        )
    from xsphere.nn.sparse.workers import one_thread

    # the same bits however many cores there are
    with one_thread():
        if device.type == "cpu":
            return _forward(model, channels, device, options.precision)
        return _in_batches(model, channels, device, options)


def _in_batches(
    model: Model, channels: NDArray[np.float32], device: "torch.device", options: Inference
) -> NDArray[np.float32]:
    """As `probabilities`, in batches that are halved until the device can hold them."""

    def run(part: slice) -> NDArray[np.float32]:
        return _forward(model, channels[part], device, options.precision)

    parts, shortage = in_batches(
        run, len(channels), device=device, batch_size=options.batch_size, purpose=model.digest
    )
    n_done = sum(map(len, parts))
    if shortage:
        parts += _without_device(model, channels[n_done:], device, options, shortage)
    return np.concatenate(parts)


def _without_device(
    model: Model,
    channels: NDArray[np.float32],
    device: "torch.device",
    options: Inference,
    shortage: str,
) -> list[NDArray[np.float32]]:
    """What is left to do when a device cannot hold one sample."""
    import torch

    problem = (
        f"the model {model.spec.name!r} runs out of memory on the device '{device}' with a batch "
        f"of 1 sample ({model.grid.n_cells:,} cells; {shortage})"
    )
    without_device(problem, allowed=options.allow_cpu_fallback)
    cpu = torch.device("cpu")
    return [_forward(model, channels[i : i + 1], cpu, "float32") for i in range(len(channels))]


def _forward(
    model: Model, channels: NDArray[np.float32], device: "torch.device", precision: Precision
) -> NDArray[np.float32]:
    import torch

    # made outside of inference mode, which would leave its mark on what all users of it share
    network = model.shared_network(str(device))
    with torch.inference_mode():
        with _autocast(device, precision):
            logits = network(torch.from_numpy(channels).to(device))
        # of full precision again: only the products inside the network were asked for in less
        logits = logits.to(torch.float32)
        if model.temperature != 1.0:
            logits = logits / model.temperature
        chances = logits.softmax(-1).transpose(1, 2)
        probability: NDArray[np.float32] = chances.cpu().numpy()
    return probability


def _autocast(device: "torch.device", precision: Precision) -> AbstractContextManager[Any]:
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
