"""Training: samples a second and memory, ours and a peer's network in the same loop.

``python benchmarks/training.py`` prints a Markdown table. Samples are random, of the bundled
model's inputs; every row trains in a process of its own, on one thread, for the same steps. The
share of loading is by how much longer it takes when samples are normalised and augmented as `fit`
does it than when they lie ready. Two processes train on one batch together.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import OURS, PEER
from straightforward import PlainUNet
from torch import distributed

from xsphere.augmentation import Amplify, Mirror, Turn, Zoom, augmented
from xsphere.model import Model
from xsphere.nn.training import TrainingData, TrainingOptions, train

AUGMENT = [Amplify(), Zoom(), Turn(), Mirror()]
ROWS = (
    ("{ours}, samples ready", OURS, "ready", 1),
    ("{ours}, augmented", OURS, "augmented", 1),
    ("{ours}, two processes", OURS, "ready", 2),
    ("{peer}, samples ready", PEER, "ready", 1),
)


def data_of(model: Model, n: int, kind: str) -> TrainingData:
    """Random samples, ready for the network or as `xsphere.fit` keeps them."""
    rng = np.random.default_rng(0)
    shape = (n, model.grid.n_cells)
    means = np.array([channel.mean for channel in model.spec.channels[:4]], np.float32)
    stds = np.array([channel.std for channel in model.spec.channels[:4]], np.float32)
    fields = means + stds * rng.standard_normal((*shape, 4), np.float32)
    targets = rng.dirichlet((50, 1, 5), shape).astype(np.float32)

    def channels(values: np.ndarray) -> np.ndarray:
        return model.channels(*np.moveaxis(values, -1, 0))[0]

    ready = channels(fields)

    def batch(indices: np.ndarray, generator: np.random.Generator) -> Any:
        if kind == "ready":
            return ready[indices], targets[indices]
        changed = augmented(AUGMENT, fields[indices], targets[indices], generator, model.spec)
        return channels(changed[0]), changed[1]

    return TrainingData(
        n_samples=n,
        n_validation=0,
        batch=batch,
        validation=lambda index: (ready[index], targets[index]),
        classes=("background", *model.classes),
        class_weights=(1.0, 10.0, 3.0),
    )


def run(who: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of a training after a short one that warms up."""
    torch.set_num_threads(1)
    model = Model.load("tc-ar")
    from convolutions import peer_blocks

    blocks = peer_blocks(options.deepsphere)
    network = model.network() if who == OURS else PlainUNet(model, blocks)
    size = options.batch // options.processes
    training = TrainingOptions(epochs=1, batch_size=size, device="cpu")
    train(network, data_of(model, options.batch, kind), options=training, progress=False)
    before = memory()
    data = data_of(model, options.samples, kind)
    start, used = time.perf_counter(), time.process_time()
    train(network, data, options=training, progress=False)
    return {
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - used,
        "peak": memory(),
        "before": before,
        "peer": blocks.name,
    }


def memory() -> float:
    """The most that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_processes(who: str, kind: str, n: int, options: argparse.Namespace) -> dict[str, Any]:
    """The run in a process of its own, or in several that train together."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--samples", str(options.samples)]
        command += ["--batch", str(options.batch), "--processes", str(n)]
        command += ["--store", str(Path(folder, "store")), "--run", who, kind]
        if options.deepsphere:
            command += ["--deepsphere", str(options.deepsphere)]
        # on one machine; else its name is looked up
        environment = os.environ | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})
        started = [
            subprocess.Popen(
                [*command, "--rank", str(rank)],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in range(n)
        ]
        answers = [process.communicate()[0] for process in started]
    found: dict[str, Any] = json.loads(answers[0].splitlines()[-1])
    return found


def main() -> None:
    """Print the table, or run one row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--deepsphere", type=Path, help="checkout of deepsphere-pytorch")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        if options.processes > 1:
            store = distributed.FileStore(options.store, options.processes)
            distributed.init_process_group(
                "gloo", store=store, rank=options.rank, world_size=options.processes
            )
        print(json.dumps(run(*options.run, options)))
        if options.processes > 1:
            distributed.destroy_process_group()
        return
    print("| training | samples/s | by the first | processor s a sample | peak MB |")
    print("|---|---|---|---|---|", flush=True)
    first = None
    for text, who, kind, n in ROWS:
        found = in_processes(who, kind, n, options)
        rate = options.samples / found["seconds"]
        first = first or rate
        name = text.format(ours=OURS, peer=found["peer"])
        each = found["processor"] / options.samples * n
        print(
            f"| {name} | {rate:.2f} | {rate / first:.2f} | {each:.3f} | {found['peak']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
