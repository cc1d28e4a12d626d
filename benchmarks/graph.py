"""Graphs: what they cost to build, to load and to filter with, from level to level.

``python benchmarks/graph.py`` takes two minutes; ``--big`` adds level 10, with 12.6 million cells.
Graphs are built with as many threads as there are processors, or ``--threads``. Filters and
spherical-harmonic transforms of the same map run in one thread; a transform is an analysis and a
synthesis up to degree 3 nside - 1. A graph is built in one new process and used in another; imports
and compilation are not counted, and the files were written a moment ago. Times vary with the
machine; ratios and exponents much less. A peer (``pip install ducc0``) is left out where it is not
installed.
"""

import os

# before the libraries read them, and in no process that imports this
if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from contenders import is_installed
from dask.system import cpu_count
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from xsphere.config import set_options
from xsphere.graph import SphereGraph
from xsphere.graph.filters import filtered
from xsphere.grids import HealpixGrid

BIG_LEVEL = 10
# the published construction needs four times the memory of ours
LAST_LEVEL_OF_PEER = 9
TERMS = (5, 15)
# no call is repeated once this many seconds are spent
ENOUGH_SECONDS = 3.0
# small levels are ruled by what each call costs whatever the size
LEVELS_FITTED = 3
# headings of the tables, and the figure below each
GRAPH_COLUMNS = (
    ("build s", "build_s"),
    ("CPU s", "build_cpu_s"),
    ("s/Mcell", "build_s_per_Mcell"),
    ("GiB", "build_GiB"),
    ("load s", "load_s"),
    ("s/Mcell", "load_s_per_Mcell"),
    ("GiB", "load_GiB"),
    ("k-d tree s", "kdtree_s"),
    ("CPU s", "kdtree_cpu_s"),
    ("GiB", "kdtree_GiB"),
)
FILTER_COLUMNS = (
    *((f"{n} x {bits}", f"filter{n}_float{bits}_s") for n in TERMS for bits in (64, 32)),
    ("healpy", "healpy_s"),
    ("ducc0", "ducc0_s"),
)
RATIO_COLUMNS = tuple(
    (f"{peer}/{n}x{bits}", f"{peer}_over_filter{n}_float{bits}")
    for peer in ("healpy", "ducc0")
    for n in TERMS
    for bits in (64, 32)
)
Figures = dict[str, float]


def seconds(call: Callable[[], Any], repeat: int) -> float:
    """Least time that a processor works on a call in one thread; fewer calls where they are long.

    Not the time that passes: others may be at work on this machine.
    """
    times: list[float] = []
    while len(times) < repeat and sum(times) < ENOUGH_SECONDS:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def timed(call: Callable[[], Any], name: str) -> Figures:
    """Seconds that pass, seconds of all processors, and peak memory so far, of one call."""
    # not at the top: it sets the threads of numba, which a test that imports this may have running
    from regrid import peak_memory

    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {
        f"{name}_s": time.perf_counter() - wall,
        f"{name}_cpu_s": time.process_time() - cpu,
        f"{name}_GiB": peak_memory(),
    }


def warm_up(level: int, k: int) -> None:
    """Have everything compiled that is timed later, on another graph."""
    with set_options(cache_dir=""):
        whole = SphereGraph(HealpixGrid(2 if level != 2 else 3), k)
        filtered(whole.laplacian, whole.lambda_max, [1.0, 1.0], np.ones(whole.n_cells))


def report_build(level: int, k: int, _repeat: int) -> Figures:
    """Cost of a graph that the cache does not have, written into it."""
    warm_up(level, k)
    found = timed(lambda: SphereGraph(HealpixGrid(level), k).laplacian, "build")
    return {**found, "entries": SphereGraph(HealpixGrid(level), k).laplacian.nnz}


def report_use(level: int, k: int, repeat: int) -> Figures:
    """Cost of a graph that the cache has, checksums included, of filters and of transforms."""
    warm_up(level, k)
    graph = SphereGraph(HealpixGrid(level), k)
    found = timed(lambda: graph.laplacian, "load")
    field = np.random.default_rng(0).normal(size=graph.n_cells)
    single = field.astype(np.float32)
    scaled = graph.scaled_laplacian.astype(np.float32)
    for n in TERMS:
        terms = np.ones(n)
        calls = {
            64: partial(filtered, graph.laplacian, graph.lambda_max, terms, field),
            32: partial(in_float32, scaled, terms.astype(np.float32), single),
        }
        for bits, call in calls.items():
            found[f"filter{n}_float{bits}_s"] = seconds(call, repeat)
    return found | transform_costs(2**level, field, repeat)


def in_float32(
    scaled: sparse.csr_array, terms: NDArray[np.float32], field: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The recursion of `filtered` as a network does it: in single precision throughout."""
    before, last = field, scaled @ field
    total = terms[0] * before + terms[1] * last
    for term in terms[2:]:
        following = scaled @ last
        following *= 2
        following -= before
        total += term * following
        before, last = last, following
    return total


def transform_costs(nside: int, field: NDArray[np.float64], repeat: int) -> Figures:
    """Analysis and synthesis of one map by healpy, and by ducc0 if it is there; one thread each."""
    # no iterations, and rings as they lie: the least that smoothing a map takes
    smooth = partial(healpy.smoothing, field, fwhm=4 / nside, iter=0)
    found = {"healpy_s": seconds(smooth, repeat)}
    if is_installed("ducc0", "ducc0"):
        found["ducc0_s"] = seconds(partial(ducc0_round_trip, nside, field), repeat)
    return found


def ducc0_round_trip(nside: int, field: NDArray[np.float64]) -> NDArray[np.float64]:
    """A map analysed and synthesised."""
    import ducc0

    rings = ducc0.healpix.Healpix_Base(nside, "RING").sht_info()
    options = {"spin": 0, "lmax": 3 * nside - 1, "nthreads": 1, **rings}
    coefficients = ducc0.sht.adjoint_synthesis(map=field[None], **options)
    coefficients *= 4 * np.pi / field.size
    back: NDArray[np.float64] = ducc0.sht.synthesis(alm=coefficients, **options)
    return back[0]


def report_kdtree(level: int, k: int, _repeat: int) -> Figures:
    """Cost of the graph as published: a general search, Gaussian weights, no bound, no file."""
    return timed(partial(published_laplacian, level, k), "kdtree")


def published_laplacian(level: int, k: int) -> sparse.csr_array:
    """``D - W`` of the k nearest by a k-d tree, made symmetric by union."""
    grid = HealpixGrid(level)
    distances, ids = cKDTree(grid.centres).query(grid.centres, k + 1, workers=cpu_count())
    values = np.exp(-np.log(2) * (distances[:, 1:] / distances[:, -1].mean()) ** 2).ravel()
    rows = np.repeat(np.arange(grid.n_cells), k)
    directed = sparse.csr_array((values, (rows, ids[:, 1:].ravel())), shape=(grid.n_cells,) * 2)
    weights = directed.maximum(directed.T.tocsr())
    return sparse.csr_array(sparse.diags_array(weights.sum(axis=1)) - weights)


REPORTS = {"build": report_build, "use": report_use, "kdtree": report_kdtree}


def in_new_process(report: str, level: int, options: argparse.Namespace, cache: str) -> Figures:
    """What this script reports about itself when it does one thing only."""
    numbers = ("--levels", level, "--k", options.k, "--repeat", options.repeat)
    command = [sys.executable, __file__, "--report", report, *map(str, numbers)]
    environment = {**os.environ, "XSPHERE_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    # the last line: before it may stand which peers are missing
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def costs(level: int, options: argparse.Namespace) -> Figures:
    """All figures of a level."""
    n_cells = 12 * 4**level
    found: Figures = {"level": level, "cells": n_cells}
    with tempfile.TemporaryDirectory() as cache:
        for report in ("build", "use"):
            found |= in_new_process(report, level, options, cache)
    if level <= LAST_LEVEL_OF_PEER:
        found |= in_new_process("kdtree", level, options, "")
    for name in ("build", "load"):
        found[f"{name}_s_per_Mcell"] = found[f"{name}_s"] / n_cells * 1e6
    for _, name in RATIO_COLUMNS:
        peer, own = name.split("_over_")
        if f"{peer}_s" in found:
            found[name] = found[f"{peer}_s"] / found[f"{own}_s"]
    return found


def print_table(title: str, columns: tuple[tuple[str, str], ...], rows: list[Figures]) -> None:
    """Print some figures of all levels, and below them how they grow."""
    print(f"\n{title}")
    print(f"{'level':>8}{'cells':>10}" + "".join(f"{name:>14}" for name, _ in columns))
    for row in rows:
        cells = (f"{row[key]:>14.4g}" if key in row else f"{'-':>14}" for _, key in columns)
        print(f"{row['level']:>8.0f}{row['cells']:>10.0f}" + "".join(cells))
    times = [key if key.endswith("_s") else "" for _, key in columns]
    if any(times):
        print(f"{'exponent':>18}" + "".join(f"{exponent(key, rows):>14}" for key in times))


def exponent(key: str, rows: list[Figures]) -> str:
    """Power of the number of cells that a figure grows with, from the largest levels."""
    known = [(row["cells"], row[key]) for row in rows if key in row][-LEVELS_FITTED:]
    if len(known) < 2:
        return ""
    cells, figures = np.log(known).T
    return f"{np.polyfit(cells, figures, 1)[0]:.2f}"


def print_all(rows: list[Figures], k: int) -> None:
    """Print the tables."""
    built = (
        f"Consistent graph, k = {k}: built in {cpu_count()} threads and written to the cache, "
        "then loaded from it; beside it the published construction, by a k-d tree, not written"
    )
    print_table(built, GRAPH_COLUMNS, rows)
    used = (
        "Processor seconds, in one thread, of a filter of one map (terms x bits) and of a "
        "spherical-harmonic analysis and synthesis"
    )
    print_table(used, FILTER_COLUMNS, rows)
    print_table("How many times longer the transforms take than the filters", RATIO_COLUMNS, rows)
    print(f"\nExponents: powers of the number of cells, over the last {LEVELS_FITTED} levels.")


def write_csv(path: Path, rows: list[Figures]) -> None:
    """Write all figures, a line a level."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--levels", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--big", action="store_true", help=f"also level {BIG_LEVEL}")
    parser.add_argument("--k", type=int, default=8, help="neighbours")
    parser.add_argument("--threads", type=int, help="processors to use; all by default")
    parser.add_argument("--repeat", type=int, default=3, help="the least time of so many counts")
    parser.add_argument("--csv", type=Path, help="file for all figures")
    parser.add_argument("--report", choices=REPORTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads must be at least 1, got {options.threads}")
    if options.threads and not hasattr(os, "sched_setaffinity"):
        parser.error("--threads needs a system where processors can be chosen, such as Linux")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, or one report for `in_new_process`."""
    options = parsed(arguments)
    if options.report:
        figures = REPORTS[options.report](options.levels[0], options.k, options.repeat)
        print(json.dumps(figures))
        return
    if options.threads:
        # inherited by the processes that do the work
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    is_installed("ducc0", "ducc0")
    levels = sorted({*options.levels, *([BIG_LEVEL] if options.big else [])})
    rows = [costs(level, options) for level in levels]
    print_all(rows, options.k)
    if options.csv:
        write_csv(options.csv, rows)


if __name__ == "__main__":
    main()
