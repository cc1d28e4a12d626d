"""Layers and networks: how long ours take beside their peers, and how near the limit they are.

``python benchmarks/network.py`` takes some ten minutes on two cores; ``--only`` chooses sections,
``--full`` measures every combination of sizes, which takes hours. All contenders are called in
turn in one process with the same samples, weights and Laplacian (the published graph of Gaussian
weights, which all of them can take), and before they are timed their outputs are compared. The
median of ``--repeat`` calls counts. The limit is the dense product of a layer alone: the terms of
all channels, laid out beforehand, times the weights.

deepsphere-pytorch is found where it is installed or in a checkout that ``--deepsphere`` names,
else blocks of its formula stand in for it. PyTorch Geometric (``pip install torch_geometric``) is
left out where it is not installed. It has no place for a Laplacian: it is given the edges, and
scales at every call.
"""

import argparse
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from archive import LAYOUTS
from contenders import is_installed
from convolutions import (
    CSR,
    GEOMETRIC,
    OURS,
    PRODUCT,
    Case,
    contenders,
    errors,
    interleaved,
    made,
    peer_blocks,
    with_gradients,
)
from dask.system import cpu_count
from networks import PEER, compared, memory_of, pair_of, report_memory
from straightforward import Blocks

SECTIONS = ("layers", "unet", "memory", "gpu")
NSIDES, NEIGHBOURS = (32, 64, 128), (8, 20)
CHANNELS, BATCHES, TERMS = (16, 32, 64, 128), (2, 4, 16), (3, 4, 5)
# numbers that come in: cases of the shorter design have no more
MOST_VALUES = 2**26
# from here on a layer should be ruled by its product
WIDE = 64
# outputs that differ by more are not of the same layer
TOLERANCE = 1e-3
AIMS = {"layers": 8.0, "product": 1.6, "forward": 6.0, "training": 4.0, "memory": 0.6}
Row = tuple[Any, ...]
# sizes, milliseconds by name, and the largest error
Measured = tuple[Case, dict[str, float], float]


def say(text: str) -> None:
    """Tell how far things are, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def print_table(title: str, heads: Row, rows: list[Row]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def short_design() -> list[Case]:
    """24 of the 216 cases: all of nside x k x channels, with batches and K in turn.

    Every two sizes meet, but for large batches of many samples, which have more than `MOST_VALUES`
    numbers.
    """
    cases = []
    for (i, nside), (j, k), (c, channels) in product(
        enumerate(NSIDES), enumerate(NEIGHBOURS), enumerate(CHANNELS)
    ):
        planned, kernel_size = BATCHES[(i + 2 * j + c) % 3], TERMS[(i + 2 * c) % 3]
        candidates = [
            Case(nside, k, channels, batch, kernel_size) for batch in BATCHES if batch <= planned
        ]
        cases.append([case for case in candidates if case.n_values <= MOST_VALUES][-1])
    return cases


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """Cases of the command line, of every combination, or of the short design."""
    given = (options.nside, options.k, options.channels, options.batches, options.kernel_sizes)
    if options.full or any(given):
        defaults = (NSIDES, NEIGHBOURS, CHANNELS, BATCHES, TERMS)
        sizes = (chosen or default for chosen, default in zip(given, defaults, strict=True))
        return [Case(*case) for case in product(*sizes)]
    return short_design()


def room() -> float:
    """Bytes that a contender may take: half of what is free, where the system tells."""
    found = Path("/proc/meminfo")
    if not found.exists():
        return math.inf
    lines = dict(line.split(":") for line in found.read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0]) / 2


def geometric_mean(ratios: list[float]) -> float:
    """Geometric mean, NaN of none."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def print_layers(options: argparse.Namespace) -> None:
    """Print what layers of all sizes cost, forward and, if asked for, back as well."""
    blocks = peer_blocks(options.deepsphere)
    names = [OURS, blocks.name, GEOMETRIC, CSR, PRODUCT]
    if options.weights == "consistent":
        print(f"{GEOMETRIC} is left out: it takes symmetric weights only; use --weights gaussian")
        names.remove(GEOMETRIC)
    elif not is_installed("torch_geometric", "torch_geometric"):
        names.remove(GEOMETRIC)
    tables: dict[str, list[Measured]] = {}
    for case in chosen_cases(options):
        for direction, found in measured(case, blocks, options).items():
            tables.setdefault(direction, []).append(found)
    for direction, rows in tables.items():
        print_layer_table(direction, names, rows, options)


def measured(case: Case, blocks: Blocks, options: argparse.Namespace) -> dict[str, Measured]:
    """What a layer costs all that there is room for, by direction."""
    problem = made(case, options.weights)
    calls = contenders(problem, blocks, room() / (3 if options.backward else 1))
    if not {OURS, PRODUCT} <= set(calls):
        say(f"  {case}: no room")
        return {}
    with torch.inference_mode():
        error = checked(case, errors(problem, calls))
        timed = {name: partial(call, problem.x) for name, call in calls.items()}
        found = {"forward": (case, interleaved(timed, options.repeat), error)}
    if options.backward:
        steps = {name: with_gradients(problem, call) for name, call in calls.items()}
        for step in steps.values():
            step()
        found["forward and back"] = case, interleaved(steps, options.repeat), error
    for direction, (_, times, _) in found.items():
        say(f"  {case} {direction}: {rounded(times)}")
    return found


def rounded(times: dict[str, float]) -> str:
    """Milliseconds of some names."""
    return ", ".join(f"{name} {ms:.3g} ms" for name, ms in times.items())


def checked(case: Case, found: dict[str, float]) -> float:
    """Largest error of the outputs; ends the run where they are not of the same layer."""
    wrong = {name: error for name, error in found.items() if not error < TOLERANCE}
    if wrong:
        sys.exit(f"outputs differ for {case}: relative errors {wrong}")
    return max(found.values())


def print_layer_table(
    direction: str,
    names: list[str],
    rows: list[Measured],
    options: argparse.Namespace,
) -> None:
    """Print ratios first, then milliseconds; geometric means at the end."""
    peers = [name for name in names if name not in (OURS, PRODUCT)]
    shown = []
    ratios: dict[str, list[float]] = {name: [] for name in names}
    wide = []
    for case, found, error in rows:
        ratio = {name: found[name] / found[OURS] for name in peers if name in found}
        ratio[PRODUCT] = found[OURS] / found[PRODUCT]
        for name, value in ratio.items():
            ratios[name].append(value)
        wide += [ratio[PRODUCT]] if case.channels >= WIDE else []
        shown.append(
            (
                *case,
                *(f"{ratio[name]:.2f}" if name in ratio else "-" for name in [*peers, PRODUCT]),
                *(f"{found[name]:.3g}" if name in found else "-" for name in names),
                f"{error:.0e}",
            )
        )
    means = [f"{geometric_mean(ratios[name]):.2f}" for name in [*peers, PRODUCT]]
    shown.append(("geometric mean", *[""] * 4, *means, *[""] * (len(names) + 1)))
    heads = (
        *("nside", "k", "channels", "batch", "K"),
        *(f"{name} / {OURS}" for name in peers),
        f"{OURS} / {PRODUCT}",
        *(f"ms: {name}" for name in names),
        "largest error",
    )
    print_table(
        f"**Layers, {direction}**, {options.threads} threads, float32, {options.weights} weights: "
        f"how many times longer the peers take (aim: {peers[0]} at least {AIMS['layers']:g}), how "
        f"many times longer ours than the product (aim: at most {AIMS['product']:g} from {WIDE} "
        "channels)",
        heads,
        shown,
    )
    if wide:
        print(f"\nFrom {WIDE} channels: {geometric_mean(wide):.2f} times the product alone.")


def print_networks(options: argparse.Namespace) -> None:
    """Print what whole networks cost, in use and in training."""
    rows = []
    for layout, batch in product(options.networks, options.batches or [1, 4]):
        pair = pair_of(layout, options.level, batch, options.deepsphere)
        found = compared(pair, options.repeat)
        if not max(found.error, found.loss_error) < TOLERANCE:
            sys.exit(f"networks differ: outputs {found.error:.1e}, losses {found.loss_error:.1e}")
        say(f"  {layout}, batch {batch}: {rounded(found.forward)}; {rounded(found.training)}")
        ratios = (times[PEER] / times[OURS] for times in (found.forward, found.training))
        times = (
            f"{times[name]:.4g}" for times in (found.forward, found.training) for name in times
        )
        rows.append(
            (layout, batch, *(f"{ratio:.2f}" for ratio in ratios), *times, f"{found.error:.0e}")
        )
    heads = (
        *("layout", "batch", "forward", "training step"),
        *(f"ms: {name}, {what}" for what in ("forward", "step") for name in (OURS, pair.name)),
        "largest error",
    )
    print_table(
        f"**U-Net** at level {options.level}, {options.threads} threads: how many times longer it "
        f"takes with layers of {pair.name} (aims: forward {AIMS['forward']:g}, training step "
        f"{AIMS['training']:g})",
        heads,
        rows,
    )


def print_memory(options: argparse.Namespace) -> None:
    """Print the peak memory of training, each in a process of its own."""
    rows = []
    for layout, batch in product(options.networks, options.batches or [1, 4]):
        found = [
            memory_of(who, layout, options.level, batch, options.deepsphere) for who in (OURS, PEER)
        ]
        say(f"  {layout}, batch {batch}: {found}")
        peaks, kept = ([figures[name] for figures in found] for name in ("peak", "kept"))
        step = [peak - held for peak, held in zip(peaks, kept, strict=True)]
        ratios = (f"{ours / peer:.2f}" for ours, peer in (peaks, step))
        rows.append((layout, batch, *ratios, *(f"{mib:.0f}" for mib in (*peaks, *step))))
    name = peer_blocks(options.deepsphere).name
    heads = (
        *("layout", "batch", "peak", "peak but for what is kept"),
        *(f"MiB: {who}{what}" for what in ("", ", not kept") for who in (OURS, name)),
    )
    print_table(
        f"**Memory** that training adds to a process at level {options.level}, as part of what it "
        f"adds with layers of {name} (aim: at most {AIMS['memory']:g}); parameters, gradients "
        "and the two means of Adam are kept from step to step",
        heads,
        rows,
    )


def print_gpu(options: argparse.Namespace) -> None:
    """Print what layers cost on a GPU, or that there is none."""
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("\n**GPU**: no GPU here")
        return
    from network_gpu import gpu_rows

    sizes = (
        options.nside or [256, 1024],
        options.k or [8],
        options.channels or [32, 64],
        options.batches or [1],
        options.kernel_sizes or [4],
    )
    cases = [Case(*case) for case in product(*sizes)]
    title, heads, rows = gpu_rows(cases, peer_blocks(options.deepsphere), options)
    print_table(title, heads, rows)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--full", action="store_true", help="layers in every combination of sizes")
    parser.add_argument("--deepsphere", type=Path, help="checkout of deepsphere-pytorch")
    for name, default in (
        ("--nside", NSIDES),
        ("--k", NEIGHBOURS),
        ("--channels", CHANNELS),
        ("--batches", BATCHES),
        ("--kernel-sizes", TERMS),
    ):
        parser.add_argument(name, type=int, nargs="+", help=f"instead of {default}")
    parser.add_argument("--weights", choices=("gaussian", "consistent"), default="gaussian")
    parser.add_argument("--backward", action="store_true", help="layers back as well")
    parser.add_argument("--networks", nargs="+", choices=LAYOUTS, default=["small", "deepsphere"])
    parser.add_argument("--level", type=int, default=5, help="HEALPix level of the networks")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--repeat", type=int, default=5, help="the median of so many calls")
    parser.add_argument("--device", default="cuda", help="of the GPU section")
    parser.add_argument("--report", choices=(OURS, PEER), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(SECTIONS)
    unknown = sorted(set(options.only) - set(SECTIONS))
    if unknown:
        parser.error(f"--only takes {','.join(SECTIONS)}, got {','.join(unknown)}")
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, got {options.threads}")
    if any(nside < 1 or nside & (nside - 1) for nside in options.nside or []):
        parser.error(f"--nside takes powers of 2, got {options.nside}")
    if min(options.kernel_sizes or TERMS) < 2:
        parser.error("--kernel-sizes takes numbers from 2: with one term there is no Laplacian")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, or one report for `memory_of`."""
    options = parsed(arguments)
    # all libraries go by what the process may use
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    # of PyTorch, that sparse tensors may change
    warnings.filterwarnings("ignore", "Sparse")
    if options.report:
        (layout,), (batch,) = options.networks, options.batches
        found = report_memory(options.report, layout, options.level, batch, options.deepsphere)
        print(json.dumps(found))
        return
    sections: dict[str, Callable[[argparse.Namespace], None]] = {
        "layers": print_layers,
        "unet": print_networks,
        "memory": print_memory,
        "gpu": print_gpu,
    }
    for section in SECTIONS:
        if section in options.only:
            start = time.perf_counter()
            say(section)
            sections[section](options)
            say(f"  {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
