"""Labelling and tracking: steps a second, memory, and peers in the same run.

``python benchmarks/events.py`` follows a synthetic year of six-hourly masks of storms and rivers on
HEALPix level 6 and on half-degree longitude-latitude; ``--years 10`` is a decade, ``--resolution
0.25`` finer. Memory is the peak of a process of its own, for the whole series and a quarter of it:
equal if it does not grow with length. Beside it, where installed: `scipy.ndimage.label` (which cuts
regions at the seam: see the counts), tobac, ConTrack and marEx on the same longitude-latitude masks
of one class, some of which need the series in memory. Processor time: other load matters little.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import xarray as xr

import xsphere
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, lonlat_to_vectors

STEPS_A_DAY = 4
# alive at a time
N_STORMS, N_RIVERS = 12, 8
BLOCK = 40


def positions(n_steps: int, seed: int = 0) -> list[list[tuple[int, float, float, float]]]:
    """Discs (class, lon, lat, degrees) of each step, which come, move, grow and go."""
    rng = np.random.default_rng(seed)
    alive: list[list[float]] = []
    steps = []
    for _ in range(n_steps):
        alive = [disc for disc in alive if disc[6] > 0]
        while len(alive) < N_STORMS + N_RIVERS:
            kind = 1 if sum(disc[0] == 1 for disc in alive) < N_STORMS else 2
            lat = rng.uniform(5, 25) if kind == 1 else rng.uniform(30, 60)
            speed = rng.uniform(0.5, 1.5) if kind == 1 else rng.uniform(2, 4)
            size = rng.uniform(1.5, 4) if kind == 1 else rng.uniform(5, 10)
            sign = rng.choice([-1, 1])
            alive.append([kind, rng.uniform(0, 360), sign * lat, size, speed, sign * 0.2,
                          rng.integers(8, 40)])  # fmt: skip
        for disc in alive:
            disc[1] += disc[4] * (-1 if disc[0] == 1 else 1)
            disc[2] = float(np.clip(disc[2] + disc[5], -85, 85))
            disc[6] -= 1
        steps.append([(int(d[0]), d[1] % 360, d[2], d[3]) for d in alive])
    return steps


def drawn(grid: Grid, steps: list[list[tuple[int, float, float, float]]]) -> np.ndarray:
    """The mask (steps, cells) of some discs."""
    values = np.zeros((len(steps), grid.n_cells), np.uint8)
    for step, discs in zip(values, steps, strict=True):
        for kind, lon, lat, size in discs:
            near = grid.centres @ lonlat_to_vectors(lon, lat) >= np.cos(np.deg2rad(size))
            step[near] = kind
    return values


def write_mask(grid: Grid, n_steps: int, path: Path) -> None:
    """A store of the mask, written piece by piece."""
    times = pd.date_range("2001-01-01", periods=n_steps, freq="6h")
    steps = positions(n_steps)
    for start in range(0, n_steps, BLOCK):
        values = drawn(grid, steps[start : start + BLOCK])
        ds = _labelled(grid, values, times[start : start + BLOCK])
        chunks = {"mask": {"chunks": (BLOCK, *ds["mask"].shape[1:])}}
        where: dict[str, Any] = (
            {"append_dim": "time"} if start else {"mode": "w", "encoding": chunks}
        )
        ds.to_zarr(path, consolidated=False, **where)


def _labelled(grid: Grid, values: np.ndarray, times: Any) -> xr.Dataset:
    attrs = mask_attributes(["storm", "river"])
    if isinstance(grid, LatLonGrid):
        shaped = values.reshape(-1, *grid.shape)
        coords = {"time": times, "lat": grid.lat, "lon": grid.lon}
        return xr.Dataset({"mask": (("time", "lat", "lon"), shaped, attrs)}, coords)
    ds = xr.Dataset({"mask": (("time", "cells"), values, attrs)}, {"time": times})
    return describe_healpix(ds, grid)


def one_class(path: Path) -> xr.DataArray:
    """The rivers as booleans, in memory."""
    with xr.open_zarr(path, consolidated=False) as ds:
        return (ds["mask"] == 2).load()


def tracked(path: Path, workers: int) -> dict[str, Any]:
    """Tracks of both classes."""
    mask = xsphere.open(path, chunks={}, missing_chunks="fill")["mask"]
    with dask.config.set(scheduler="threads", num_workers=workers):
        tracks = xsphere.track(mask, max_speed=100.0)
    return {"objects": tracks.sizes["event"], "tracks": tracks.sizes["track"]}


def tracked_rivers(path: Path, workers: int) -> dict[str, Any]:
    """Tracks of the class that the peers have."""
    mask = xsphere.open(path, chunks={}, missing_chunks="fill")["mask"]
    with dask.config.set(scheduler="threads", num_workers=workers):
        tracks = xsphere.track(mask, classes="river", max_speed=100.0)
    return {"objects": tracks.sizes["event"], "tracks": tracks.sizes["track"]}


def labelled(path: Path, workers: int) -> dict[str, Any]:
    """Regions of the rivers, step by step."""
    mask = xsphere.open(path, chunks={}, missing_chunks="fill")["mask"]
    numbers = xsphere.label(mask, classes="river").max([d for d in mask.dims if d != "time"])
    with dask.config.set(scheduler="threads", num_workers=workers):
        return {"objects": int(numbers.sum())}


def scipy_labels(path: Path, _: int) -> dict[str, Any]:
    """Regions of the rivers on the array, cut at its seam."""
    from scipy import ndimage

    around = np.ones((3, 3))
    steps = one_class(path).values
    return {"objects": sum(int(ndimage.label(step, around)[1]) for step in steps)}


def tobac_tracks(path: Path, _: int) -> dict[str, Any]:
    """Rivers as features, linked by trackpy."""
    import tobac

    field = one_class(path).astype(float).rename("rivers")
    place = {"threshold": 0.5, "position_threshold": "center", "PBC_flag": "hdim_2"}
    features = tobac.feature_detection_multithreshold(field, dxy=5e4, **place)
    tracks = tobac.linking_trackpy(
        features, field, dt=21600, dxy=5e4, v_max=30, PBC_flag="hdim_2", min_h1=0,
        max_h1=field.sizes["lat"], min_h2=0, max_h2=field.sizes["lon"],
    )  # fmt: skip
    return {"objects": len(features), "tracks": int(tracks["cell"].nunique())}


def contrack_tracks(path: Path, _: int) -> dict[str, Any]:
    """Rivers that share cells."""
    from contrack import contrack

    block = contrack()
    field = one_class(path).astype(float).rename("rivers").to_dataset()
    field = field.rename(lat="latitude", lon="longitude")
    block.read_xarray(field)
    block.set_up(force=True)
    block.run_contrack(
        variable="rivers", threshold=0.5, gorl=">=", overlap=0.01, persistence=1, twosided=True
    )
    return {"tracks": int(len(np.unique(block.ds["flag"].values)) - 1)}


def marex_tracks(path: Path, _: int) -> dict[str, Any]:
    """Rivers as objects that split and merge."""
    import marEx
    from distributed import Client

    mask = one_class(path).chunk(time=BLOCK, lat=-1, lon=-1)
    tracker = marEx.tracker(
        mask, xr.ones_like(mask.isel(time=0, drop=True)), R_fill=0, area_filter_quartile=0.0,
        T_fill=0, allow_merging=True, nn_partitioning=False, overlap_threshold=0.01,
        coordinate_units="degrees", grid_resolution=float(mask.lat[1] - mask.lat[0]),
    )  # fmt: skip
    # it works on a cluster of Dask alone
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
        found = tracker.run()
    return {"tracks": int(found.ID.max())}


RUNS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], str | None]] = {
    "xsphere.track": (tracked, None),
    "xsphere.track, rivers": (tracked_rivers, None),
    "xsphere.label": (labelled, None),
    "scipy.ndimage.label": (scipy_labels, None),
    "tobac": (tobac_tracks, "tobac"),
    "ConTrack": (contrack_tracks, "contrack"),
    "marEx": (marex_tracks, "marEx"),
}


def measured(name: str, path: Path, workers: int = 1) -> dict[str, Any]:
    """Processor seconds and peak memory of one run in a process of its own."""
    command = [sys.executable, __file__, "--run", name, str(path), "--workers", str(workers)]
    # one thread each: what runs side by side would be counted as work
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | threads
    )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason given"])[-1][:120]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_one(name: str, path: Path, workers: int) -> None:
    """Run, and print what it took."""
    warnings.simplefilter("ignore")
    run = RUNS[name][0]
    before, began = time.process_time(), time.perf_counter()
    found = run(path, workers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = {"cpu": time.process_time() - before, "wall": time.perf_counter() - began}
    print(json.dumps(found | seconds | {"peak": peak}))


def row(grid: str, name: str, n_steps: int, path: Path, short: Path, workers: int) -> str:
    """A row of the table."""
    whole = measured(name, path, workers)
    if "failed" in whole:
        return f"| {grid} | {name} | {whole['failed']} |"
    part = measured(name, short, workers)
    # without imports and compilation, which both have
    n_part = n_steps // 4
    step = (whole["cpu"] - part.get("cpu", 0.0)) / (n_steps - n_part)
    cells = [
        f"{1e3 * step:.2f}",
        f"{1 / step:.0f}" if step > 0 else "",
        f"{part.get('peak', np.nan):.0f}, {whole['peak']:.0f}",
        str(whole.get("objects", "")),
        str(whole.get("tracks", "")),
        f"{whole['wall']:.1f}",
    ]
    return f"| {grid} | {name}, {workers} worker(s) | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=float, default=1.0)
    parser.add_argument("--level", type=int, default=6)
    parser.add_argument("--resolution", type=float, default=0.5)
    parser.add_argument("--run", nargs=2)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.run:
        run_one(options.run[0], Path(options.run[1]), options.workers)
        return
    n_steps = max(8, int(options.years * 365 * STEPS_A_DAY))
    step = options.resolution
    latlon = LatLonGrid(np.arange(0, 360, step), np.arange(-90 + step / 2, 90, step))
    grids = {f"level {options.level}": HealpixGrid(options.level), f"{step:g} degrees": latlon}
    head = ["grid", "what", "ms of processor a step", "steps/s", "peak MB, quarter and whole",
            "regions", "tracks", "s"]  # fmt: skip
    print(f"{n_steps} steps of about {N_STORMS + N_RIVERS} regions\n")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for label, grid in grids.items():
            path, short = Path(folder, f"{label}.zarr"), Path(folder, f"{label} short.zarr")
            write_mask(grid, n_steps, path)
            write_mask(grid, n_steps // 4, short)
            for name, (_, package) in RUNS.items():
                if not name.startswith("xsphere") and not isinstance(grid, LatLonGrid):
                    continue
                if package and importlib.util.find_spec(package) is None:
                    print(f"| {label} | {name} | not installed |")
                    continue
                for workers in (1, 2) if name == "xsphere.track" else (1,):
                    print(row(label, name, n_steps, path, short, workers), flush=True)


if __name__ == "__main__":
    main()
