"""Whole U-Nets: ours, and one of the same layers, sizes and weights in blocks of a peer."""

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from archive import untrained
from convolutions import OURS, interleaved, peer_blocks
from straightforward import PlainUNet
from torch import Tensor, nn
from torch.nn import functional

N_CHANNELS, N_CLASSES = 16, 3
PEER = "peer"
# of the steps that memory is measured over; the first makes what the optimiser keeps
N_STEPS = 2


class Pair(NamedTuple):
    """The same network twice, by who made it."""

    name: str
    networks: dict[str, nn.Module]
    x: Tensor
    labels: Tensor


def network_of(who: str, layout: str, level: int, checkout: Path | None) -> tuple[str, nn.Module]:
    """Who made it, in full, and a network in evaluation mode."""
    model = untrained(level, N_CHANNELS, layout)
    if who == OURS:
        return OURS, model.network()
    blocks = peer_blocks(checkout)
    return blocks.name, PlainUNet(model, blocks)


def samples(level: int, batch: int) -> tuple[Tensor, Tensor]:
    """Random samples and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 12 * 4**level, N_CHANNELS, generator=generator)
    return x, torch.randint(N_CLASSES, x.shape[:2], generator=generator)


def pair_of(layout: str, level: int, batch: int, checkout: Path | None) -> Pair:
    """Both networks and what they are given."""
    name, peer = network_of(PEER, layout, level, checkout)
    networks = {OURS: network_of(OURS, layout, level, None)[1], PEER: peer}
    return Pair(name, networks, *samples(level, batch))


def forward(network: nn.Module, x: Tensor) -> Tensor:
    """Scores, as they are computed for use."""
    with torch.inference_mode():
        scores: Tensor = network(x)
        return scores


def training_step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], float]:
    """A call that trains once and returns the loss before."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(network(x).flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


class Figures(NamedTuple):
    """Milliseconds of ours and of the peer, forward and in training, and how far they differ."""

    forward: dict[str, float]
    training: dict[str, float]
    error: float
    loss_error: float


def compared(pair: Pair, repeat: int) -> Figures:
    """What both cost, once it is sure that they do the same."""
    ours, peer = (forward(network, pair.x) for network in pair.networks.values())
    error = float((ours - peer).abs().max() / ours.abs().max())
    calls: dict[str, Callable[[], Any]] = {
        name: lambda network=network: forward(network, pair.x)
        for name, network in pair.networks.items()
    }
    passed = interleaved(calls, repeat)
    steps = {
        name: training_step(network, pair.x, pair.labels) for name, network in pair.networks.items()
    }
    losses = [step() for step in steps.values()]
    loss_error = abs(losses[0] - losses[1]) / abs(losses[0])
    return Figures(passed, interleaved(steps, repeat), error, loss_error)


def memory_of(
    who: str, layout: str, level: int, batch: int, checkout: Path | None
) -> dict[str, float]:
    """MiB that training adds to a new process at most, and what of it is kept between steps."""
    command = [sys.executable, str(Path(__file__).with_name("network.py")), "--report", who]
    sizes = {"networks": layout, "level": level, "batches": batch}
    sizes["threads"] = torch.get_num_threads()
    command += [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    command += ["--deepsphere", str(checkout)] if checkout else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report_memory(
    who: str, layout: str, level: int, batch: int, checkout: Path | None
) -> dict[str, float]:
    """For `memory_of`: figures of this process."""
    # everything imported and compiled, and the optimiser too
    small = network_of(who, "tiny", 1, checkout)[1]
    training_step(small, *samples(1, batch))()
    del small
    gc.collect()
    before = forget_peak()
    network = network_of(who, layout, level, checkout)[1]
    step = training_step(network, *samples(level, batch))
    for _ in range(N_STEPS):
        step()
    peak = memory("VmHWM") - before
    # itself, its gradient, and the two means of Adam
    return {"peak": peak, "kept": 4 * sum(p.nbytes for p in network.parameters()) / 2**20}


def forget_peak() -> float:
    """MiB held now; what was held before no longer counts as the peak, where that can be."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists() and os.access(clear, os.W_OK):
        clear.write_text("5")
    return memory("VmRSS")


def memory(name: str) -> float:
    """MiB that the kernel reports of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(rf"{name}:\s*(\d+) kB", status.read_text())[0]) / 1024
    import resource

    # there is a peak only: figures are of all that grew since the process began
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
