"""From a Zarr archive to a store of masks: rates by stage and end to end, memory, tasks, scale.

``python benchmarks/pipeline.py`` takes two to three minutes on two cores: an archive like ERA5 at
0.25 degrees with 16 variables is made in a temporary folder, and a model with random weights reads
it. ``--only`` chooses sections; ``--full`` measures memory up to 10,000 steps and on a cluster.
The archive is read from memory, not from a disk. Times that pass vary with what else the machine
does: the least of ``--repeat`` rounds counts. Times that processors work vary less.

The straightforward way is measured in the same run; for its network, give the folder of a checkout
of https://github.com/deepsphere/deepsphere-pytorch with ``--deepsphere``.
"""

import os

# before the libraries read them, and in no process that imports this
if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"
    os.environ["NUMBA_NUM_THREADS"] = "1"

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from archive import COMPRESSORS, LAYOUTS, stored_share, untrained, write_archive
from dask.system import cpu_count
from paper import print_scale
from stage_rates import STAGES, Cost, Pipeline, best

import xsphere
from xsphere.clusters import cluster

SECTIONS = ("stages", "scaling", "straightforward", "memory", "graph", "paper")
# grid, level and variables where only the number of steps matters
SMALL = {"step": 15.0, "level": 2, "n_variables": 2}
SMALL_BLOCK = 24
# the aims that the project has set itself
SLOPE_AIM, GRAPH_AIM, RATIO_AIM, SHARE_AIM = 1.0, 5.0, 4.0, 0.8
Figures = dict[str, float]


def say(text: str) -> None:
    """Tell how far things are, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def print_table(title: str, heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


def rounds(calls: dict[str, Callable[[], Cost]], repeat: int) -> dict[str, Cost]:
    """Best cost of every call; all are called in each round, so that others slow down all alike."""
    found: dict[str, list[Cost]] = {name: [] for name in calls}
    for number in range(repeat):
        for name, call in calls.items():
            found[name].append(call())
            say(f"  round {number + 1}: {name} {found[name][-1].rate:.2f} steps/s")
    return {name: best(costs) for name, costs in found.items()}


def stage_costs(pipeline: Pipeline, options: argparse.Namespace) -> dict[str, Cost]:
    """Cost of every stage by itself, of all together, and of reading without checks."""
    workers = options.workers
    for stage in STAGES:
        getattr(pipeline, stage)(workers)  # compiled, and in memory
    calls: dict[str, Callable[[], Cost]] = {
        stage: partial(getattr(pipeline, stage), workers) for stage in STAGES
    }
    calls["decode, unchecked"] = partial(pipeline.decode_unchecked, workers)
    calls["end to end"] = lambda: pipeline.whole(workers=workers)[0]
    return rounds(calls, options.repeat)


def print_stages(pipeline: Pipeline, costs: dict[str, Cost], options: argparse.Namespace) -> None:
    """Print rates by stage, and the share of them that is left end to end."""
    whole, alone = costs["end to end"], {stage: costs[stage] for stage in STAGES}
    slowest = max(alone, key=lambda stage: alone[stage].wall)
    ideal = Cost(*(sum(parts) for parts in zip(*alone.values(), strict=True)))
    rows = [
        (
            name,
            f"{cost.rate:.2f}",
            f"{cost.rate * pipeline.step_bytes / 1e9:.2f}",
            f"{cost.cpu * 1e3:.1f}",
            f"{cost.wall / whole.wall:.0%}",
        )
        for name, cost in [*costs.items(), ("ideal, 1 / sum(1 / rate)", ideal)]
    ]
    heads = ("stage", "steps/s", "GB/s decoded", "processor ms/step", "of the time end to end")
    share = f"{stored_share(pipeline.path):.2f}"
    title = (
        f"**Stages**, each alone in {options.workers} threads: {options.step:g} degrees, "
        f"{len(pipeline.names)} variables ({pipeline.step_bytes / 1e6:.1f} MB a step, stored in "
        f"{share} of it by {options.compressor}), level {options.level}, network "
        f"{options.network!r}, {pipeline.n_steps} steps in blocks of {pipeline.block}"
    )
    print_table(title, heads, rows)
    print(
        f"\nEnd to end at {alone[slowest].wall / whole.wall:.0%} of the rate of the slowest stage "
        f"({slowest}) alone (aim: {SHARE_AIM:.0%}). The stages share the same cores, so no more "
        f"than {alone[slowest].wall / ideal.wall:.0%} is possible here; of the ideal rate it is "
        f"{ideal.wall / whole.wall:.0%} by time that passed, {ideal.cpu / whole.cpu:.0%} by "
        "processor time (which also counts what is done once, before and after the blocks)."
    )


def print_scaling(pipeline: Pipeline, options: argparse.Namespace) -> None:
    """Print how much faster several workers are than one, in threads and in processes."""
    counts = (1, options.workers)
    threads: dict[str, Callable[[int], Cost]] = {
        "network alone, in threads": pipeline.infer,
        "threads": lambda n: pipeline.whole(workers=n)[0],
    }
    calls: dict[str, Callable[[], Cost]] = {
        f"{kind} {n}": partial(call, n) for kind, call in threads.items() for n in counts
    }
    found = rounds(calls, options.repeat)
    for n in counts:
        found[f"processes {n}"] = in_cluster(pipeline, n, options.repeat)
        say(f"  processes {n}: {found[f'processes {n}'].rate:.2f} steps/s")
    rows = []
    for kind in (*threads, "processes"):
        one, more = (found[f"{kind} {n}"] for n in counts)
        rates = (f"{one.rate:.2f}", f"{more.rate:.2f}", f"{more.rate / one.rate:.2f}")
        rows.append((kind, *rates, *(f"{cost.cpu * 1e3:.0f}" for cost in (one, more))))
    heads = (
        *("end to end in", *(f"{n}: steps/s" for n in counts), "ratio"),
        *(f"{n}: processor ms/step" for n in counts),
    )
    print_table("**Workers** (aim: 2 at least 1.8 times 1)", heads, rows)
    print(
        "\nThe network alone shows what the machine gives at that moment: its threads share "
        "nothing but memory. Where others are at work too, look at the time of processors. "
        "One worker is more than one core: Zarr unpacks in threads of its own."
    )


def in_cluster(pipeline: Pipeline, n_workers: int, repeat: int) -> Cost:
    """Best cost end to end in processes, once they have the model and compiled loops."""
    with cluster(n_workers, None) as where:
        pipeline.whole(**where)
        return best([pipeline.whole(**where)[0] for _ in range(repeat)])


def print_straightforward(pipeline: Pipeline, whole: Cost, options: argparse.Namespace) -> None:
    """Print what a loop with SciPy and plain PyTorch costs, beside ours."""
    import torch
    from straightforward import (
        PlainUNet,
        deepsphere_blocks,
        masks_in_a_loop,
        matrix_of,
        plain_blocks,
    )

    blocks = deepsphere_blocks(options.deepsphere) if options.deepsphere else plain_blocks()
    network, matrix = PlainUNet(pipeline.model, blocks), matrix_of(pipeline.path, pipeline.model)
    rows, n_steps = [], min(options.loop_steps, pipeline.n_steps)
    for threads in sorted({1, options.workers}):
        torch.set_num_threads(threads)
        found: list[tuple[Cost, Figures]] = []
        for number in range(options.repeat):
            with pipeline.place() as out:
                begin, cpu = time.perf_counter(), time.process_time()
                masks, parts = masks_in_a_loop(
                    pipeline.path, out, pipeline.model, network, matrix, n_steps
                )
                passed = time.perf_counter() - begin, time.process_time() - cpu
            found.append((Cost(*(seconds / n_steps for seconds in passed)), parts))
            say(f"  round {number + 1}: loop, {threads} threads, {found[-1][0].rate:.2f} steps/s")
        cost, (_, parts) = best([one for one, _ in found]), min(found, key=lambda one: one[0].wall)
        shown = ", ".join(f"{name} {s / n_steps * 1e3:.0f}" for name, s in parts.items())
        ratios = f"{cost.wall / whole.wall:.1f}", f"{cost.cpu / whole.cpu:.1f}"
        rows.append((f"{blocks.name}, {threads} threads", f"{cost.rate:.2f}", *ratios, shown))
    rows.insert(0, (f"xsphere, {options.workers} threads", f"{whole.rate:.2f}", "1.0", "1.0", ""))
    heads = ("", "steps/s", "times longer", "times more processor time", "ms a step")
    print_table(
        f"**The straightforward way**: xarray in a loop of {n_steps} steps, SciPy weights, the same"
        f" network (layers, K, k, weights) in {blocks.name} (aim: at least {RATIO_AIM:g} times "
        "longer)",
        heads,
        rows,
    )
    ours = xsphere.segment(pipeline.path, pipeline.model).isel(time=slice(n_steps)).to_numpy()
    print(f"\nThe masks agree in {(ours == masks).mean():.3%} of the cells.")


def print_memory(options: argparse.Namespace) -> None:
    """Print the peak memory of runs of several lengths, each in processes of their own."""
    lengths = options.memory_steps or ([100, 1000, 10000] if options.full else [100, 1000])
    kinds = ["threads", "cluster"] if options.full else ["threads"]
    rows = []
    for kind in kinds:
        found = []
        for n_steps in lengths:
            found.append(in_new_process(kind, n_steps))
            say(f"  {kind}, {n_steps} steps: {found[-1]}")
        for process in (name for name in found[0] if name != "seconds"):
            peaks = [figures[process] for figures in found]
            slopes = np.diff(peaks) * 2**20 / np.diff(lengths)
            shown = (f"{peak * 1024:.1f}" for peak in peaks)
            rows.append((f"{kind}: {process}", *shown, " / ".join(f"{s:.2f}" for s in slopes)))
        rows.append((f"{kind}: seconds", *(f"{figures['seconds']:.0f}" for figures in found), ""))
    heads = ("peak, MiB", *(f"{n:,} steps" for n in lengths), "kiB a step")
    print_table(
        f"**Memory** of runs from archive to store, {SMALL['step']:g} degrees, "
        f"{SMALL['n_variables']} variables, level {SMALL['level']}, blocks of {SMALL_BLOCK} (aim: "
        f"slope under {SLOPE_AIM:g} kB a step)",
        heads,
        rows,
    )


def in_new_process(kind: str, n_steps: int) -> Figures:
    """What this script reports when it does one run only."""
    command = [sys.executable, __file__, "--report", kind, "--steps", str(n_steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def report_memory(kind: str, n_steps: int) -> Figures:
    """Peak memory in GiB of a run, by process, and its seconds."""
    # not at the top: it sets the threads of numba, which a test that imports this may have running
    from regrid import peak_memory

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_archive(
            folder / "in.zarr", n_steps, step=SMALL["step"], n_variables=int(SMALL["n_variables"])
        )
        model = untrained(int(SMALL["level"]), int(SMALL["n_variables"]), "tiny")
        begin = time.perf_counter()
        mask = xsphere.segment(path, model, block_size=SMALL_BLOCK)
        if kind == "threads":
            xsphere.write_blocks(mask, folder / "out.zarr", workers=2)
            peaks = {"process": peak_memory()}
        else:
            with cluster(1, None) as where:
                xsphere.write_blocks(mask, folder / "out.zarr", **where)
                client = where["client"]
                peaks = {"client": peak_memory(), "worker": max(client.run(peak_memory).values())}
        return {**peaks, "seconds": time.perf_counter() - begin}


def print_graph(options: argparse.Namespace, folder: Path) -> None:
    """Print how long graphs of many blocks take to build, to optimise and to cut into tasks."""
    from graphs import graph_costs

    say(f"  an archive of {options.blocks} small steps")
    n_variables = options.variables
    path = write_archive(folder / "many.zarr", options.blocks, step=30.0, n_variables=n_variables)
    rows = []
    for name, figures in graph_costs(
        path, untrained(1, n_variables, "tiny"), full=options.full
    ).items():
        say(f"  {name}: {figures}")
        total = figures["build"] + figures["optimise"]
        rows.append(
            (
                name,
                *(f"{figures[key]:.2f}" for key in ("source", "build", "optimise")),
                f"{total:.2f}",
                f"{figures['tasks'] / options.blocks:.2f}",
                f"{figures['cut']:.2f}",
            )
        )
    heads = (
        "dataset",
        "s: chunks listed",
        "s: graph built",
        "s: optimised",
        "s: both",
        "tasks a block",
        "s: cut into blocks by write_blocks",
    )
    print_table(
        f"**Task graphs** of {options.blocks:,} blocks, {n_variables} variables (aim: built and "
        f"optimised in under {GRAPH_AIM:g} s for 20,000)",
        heads,
        rows,
    )


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--full", action="store_true", help="memory up to 10,000 steps, cluster")
    parser.add_argument("--step", type=float, default=0.25, help="degrees between grid points")
    parser.add_argument("--variables", type=int, default=16, help="1 to 16")
    parser.add_argument("--compressor", choices=COMPRESSORS, default=COMPRESSORS[0])
    parser.add_argument("--level", type=int, default=6, help="HEALPix level of the model")
    parser.add_argument("--network", choices=LAYOUTS, default="small")
    parser.add_argument(
        "--steps", type=int, help="of the archive; by default a block for each worker"
    )
    parser.add_argument("--block", type=int, default=16, help="steps in a task")
    parser.add_argument("--workers", type=int, default=cpu_count(), help="threads, processes")
    parser.add_argument("--repeat", type=int, default=2, help="rounds; the least time counts")
    parser.add_argument("--loop-steps", type=int, default=4, help="of the straightforward way")
    parser.add_argument("--deepsphere", type=Path, help="checkout of deepsphere-pytorch")
    parser.add_argument("--memory-steps", type=int, nargs="+", help="lengths of runs")
    parser.add_argument("--blocks", type=int, default=20000, help="in the task graphs")
    parser.add_argument("--folder", type=Path, help="where the archive is made; temporary")
    parser.add_argument("--report", choices=("threads", "cluster"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.steps = options.steps or options.block * max(2, options.workers)
    options.only = options.only.split(",") if options.only else list(SECTIONS)
    unknown = sorted(set(options.only) - set(SECTIONS))
    if unknown:
        parser.error(f"--only takes {','.join(SECTIONS)}, got {','.join(unknown)}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, or one report for `in_new_process`."""
    options = parsed(arguments)
    if options.report:
        print(json.dumps(report_memory(options.report, options.steps)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        run_sections(options, Path(name))


def run_sections(options: argparse.Namespace, folder: Path) -> None:
    """Print the tables that were asked for."""
    chosen = options.only
    if {"stages", "scaling", "straightforward", "paper"} & set(chosen):
        say(f"an archive of {options.steps} steps")
        path = write_archive(
            folder / "in.zarr",
            options.steps,
            step=options.step,
            n_variables=options.variables,
            compressor=options.compressor,
        )
        model = untrained(options.level, options.variables, options.network)
        pipeline = Pipeline(path, folder, model, options.steps, options.block)
    if {"stages", "straightforward", "paper"} & set(chosen):
        say("stages")
        costs = stage_costs(pipeline, options)
    sections: dict[str, Callable[[], None]] = {
        "stages": lambda: print_stages(pipeline, costs, options),
        "scaling": lambda: print_scaling(pipeline, options),
        "straightforward": lambda: print_straightforward(pipeline, costs["end to end"], options),
        "memory": lambda: print_memory(options),
        "graph": lambda: print_graph(options, folder),
        "paper": lambda: print_scale(pipeline, costs, print_table),
    }
    for section in SECTIONS:
        if section in chosen:
            say(section)
            sections[section]()


if __name__ == "__main__":
    main()
