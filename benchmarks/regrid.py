"""Regridding to HEALPix: what weights cost to build and to apply, and how near the limit that is.

Run ``python benchmarks/regrid.py [--big]``. Times vary with the machine; ratios much less. The
limit of an application is the bare sparse product of SciPy on columns that lie ready in memory.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.weights import apply_weights, bilinear_weights, conservative_weights, nearest_weights

N_FIELDS = 24


def seconds(call: Callable[[], Any], repeat: int = 3) -> float:
    """Least time of some calls."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def latlon(step: float) -> LatLonGrid:
    """Global grid with cells between the poles."""
    return LatLonGrid(np.arange(0, 360, step), np.arange(-90 + step / 2, 90, step))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--big", action="store_true", help="also 0.25 degrees to level 8")
    cases = [(2.0, 5), (1.0, 6)] + ([(0.25, 8)] if parser.parse_args().big else [])
    makers = {
        "nearest": nearest_weights,
        "bilinear": bilinear_weights,
        "conservative": conservative_weights,
    }
    conservative_weights(latlon(10.0), HealpixGrid(1))  # compiles
    print(f"{'grid':<22}{'method':<14}{'build s':>9}{'weights':>10}{'apply ms':>10}{'/ bare':>8}")
    for step, level in cases:
        source, target = latlon(step), HealpixGrid(level)
        fields = np.random.default_rng(0).normal(size=(N_FIELDS, source.n_cells)).astype("f4")
        for name, make in makers.items():
            build = seconds(lambda make=make, s=source, t=target: make(s, t))
            matrix = make(source, target)
            matrix.data.flags.writeable = False
            apply = seconds(lambda m=matrix, f=fields: apply_weights(m, f)) / N_FIELDS
            single, columns = matrix.astype(np.float32), np.ascontiguousarray(fields.T)
            bare = seconds(lambda m=single, c=columns: m @ c) / N_FIELDS
            print(
                f"{f'{step:g} deg to level {level}':<22}{name:<14}{build:>9.3f}{matrix.nnz:>10}"
                f"{apply * 1e3:>10.2f}{apply / bare:>8.1f}"
            )


if __name__ == "__main__":
    main()
