"""Regridding: what weights cost to build and to apply, against peers and the machine's limit.

``python benchmarks/regrid.py`` takes half a minute, most of it for peers; ``--big`` adds 0.25
degrees to level 8, ``--huge`` the peak memory of 0.25 degrees to level 10. Everything runs in one
thread. Times vary with the machine; ratios much less. Peers (``pip install healpix-resample
xarray-regrid skyborn-cdo``) are left out where they are not installed.
"""

import os

# before the libraries read them, and in no process that imports this
if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"
    os.environ["NUMBA_NUM_THREADS"] = "1"
    os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from contenders import (
    cdo_binary,
    cdo_grid,
    edges,
    entries_of,
    is_installed,
    run_cdo,
    write_fields,
    xsphere_methods,
)
from fields import latlon
from numpy.typing import NDArray
from scipy import sparse

import xsphere
from xsphere.config import set_options
from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.weights import apply_weights, conservative_weights, regridding_weights

# the row that all others are compared with
BASE = "xsphere conservative"
# healpix-resample builds in pure Python: more than this would take minutes
MOST_CELLS_IN_PYTHON = 64800
FIELDS_WHEN_HUGE = 4
COPIED_BYTES = 2**28


class Setting(NamedTuple):
    """A source, a target, fields to regrid (n_fields, n_source), and how often to time."""

    source: LatLonGrid
    target: HealpixGrid
    fields: NDArray[np.float32]
    repeat: int


class Cost(NamedTuple):
    """Seconds to build weights, seconds to apply them to one field, and a remark."""

    build: float | None
    apply: float | None
    remark: str = ""


def seconds(call: Callable[[], Any], repeat: int) -> float:
    """Least time of some calls."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def seconds_a_field(call: Callable[[], Any], setting: Setting) -> float:
    """Least time of some calls that treat all fields, divided by their number."""
    return seconds(call, setting.repeat) / len(setting.fields)


def noise(n_fields: int, n_cells: int) -> NDArray[np.float32]:
    """Fields to regrid: the time does not depend on what is in them."""
    return np.random.default_rng(0).normal(size=(n_fields, n_cells)).astype(np.float32)


def copy_bandwidth() -> float:
    """Bytes that one thread moves in a second, reading and writing both counted."""
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source), 5)


def least_bytes(matrix: sparse.csr_array, n_fields: int) -> float:
    """Bytes a field that any program must move: fields once, weights once for all fields."""
    n_target, n_source = matrix.shape
    weights = matrix.nnz * (4 + 4) + (n_target + 1) * 4
    return 4 * (n_source + n_target) + weights / n_fields


def warm_up() -> None:
    """Have everything compiled that is timed later."""
    source, target = latlon(10.0), HealpixGrid(1)
    for regridder in xsphere_methods().values():
        regridder.apply(regridder.build(source, target), noise(1, source.n_cells))


def xsphere_costs(setting: Setting) -> dict[str, Cost]:
    """Every method of xsphere."""
    costs = {}
    for method, regridder in xsphere_methods().items():
        build = partial(regridder.build, setting.source, setting.target)
        built = build()
        entries_of(built).flags.writeable = False  # as those from the cache are
        apply = partial(regridder.apply, built, setting.fields)
        costs[f"xsphere {method}"] = Cost(
            seconds(build, setting.repeat),
            seconds_a_field(apply, setting),
            f"{entries_of(built).size} weights",
        )
    return costs


def scipy_costs(matrix: sparse.csr_array, setting: Setting) -> dict[str, Cost]:
    """The bare product with the conservative weights of xsphere, without any regard to NaN."""
    single = matrix.astype(np.float32)
    columns = np.ascontiguousarray(setting.fields.T)

    def from_rows() -> NDArray[np.float32]:
        return np.ascontiguousarray((single @ np.ascontiguousarray(setting.fields.T)).T)

    bare = seconds_a_field(lambda: single @ columns, setting)
    rows = seconds_a_field(from_rows, setting)
    return {
        "SciPy product, columns": Cost(None, bare, "fields lie ready as columns"),
        "SciPy product, rows": Cost(None, rows, "copied to columns and back"),
    }


def healpix_resample_costs(matrix: sparse.csr_array, setting: Setting) -> dict[str, Cost]:
    """The exact class of healpix-resample."""
    if not is_installed("healpix_resample", "healpix-resample"):
        return {}
    if setting.source.n_cells > MOST_CELLS_IN_PYTHON:
        return {}
    from healpix_resample import OverlapConservativeResampler

    bounds = edges(setting.source.lon_bounds), edges(setting.source.lat_bounds)
    start = time.perf_counter()
    resampler = OverlapConservativeResampler(*bounds, setting.target.level)
    build = time.perf_counter() - start
    fields = setting.fields
    apply = seconds_a_field(lambda: [resampler.resample(field) for field in fields], setting)
    other = resampler.resample(fields[0]).cell_data
    difference = np.abs(other - matrix @ fields[0].astype(np.float64)).max()
    remark = f"exact too: results differ by {difference:.0e}"
    return {"healpix-resample overlap": Cost(build, apply, remark)}


def cdo_costs(setting: Setting) -> dict[str, Cost]:
    """CDO through files: the start of the program, reading and writing are included."""
    cdo = cdo_binary()
    if cdo is None:
        return {}
    grid = cdo_grid(setting.target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, many = folder / "one.nc", folder / "many.nc"
        write_fields(one, setting.source, {"field": setting.fields[0]})
        write_fields(many, setting.source, {"field": setting.fields})
        weights, result = folder / "weights.nc", folder / "result.nc"
        # the slowest by far: once is enough
        build = seconds(lambda: run_cdo(cdo, f"gencon,{grid}", one, weights), 1)
        whole = seconds(lambda: run_cdo(cdo, f"remapcon,{grid}", one, result), 1)
        apply = partial(run_cdo, cdo, f"remap,{grid},{weights}", many, result)
        costs = Cost(build, seconds_a_field(apply, setting), "not exact; files included")
    return {"CDO gencon, remap": costs, "CDO remapcon": Cost(whole, None, "one field, files")}


def print_costs(costs: dict[str, Cost]) -> None:
    """Print a table with ratios to the conservative weights of xsphere."""
    base = costs[BASE]
    print(f"  {'':<26}{'build s':>10}{'ratio':>8}{'ms/field':>10}{'ratio':>8}")
    for name, cost in costs.items():
        built, applied = " " * 18, " " * 18
        if cost.build is not None:
            built = f"{cost.build:>10.3f}{cost.build / base.build:>8.2f}"
        if cost.apply is not None:
            applied = f"{cost.apply * 1e3:>10.3f}{cost.apply / base.apply:>8.2f}"
        print(f"  {name:<26}{built}{applied}  {cost.remark}")


def compare(step: float, level: int, bandwidth: float, options: argparse.Namespace) -> None:
    """Print the costs of one case, and the limit."""
    source = latlon(step)
    fields = noise(options.fields, source.n_cells)
    setting = Setting(source, HealpixGrid(level), fields, options.repeat)
    print(f"\n{step:g} deg to level {level}, {len(fields)} float32 fields at once")
    costs = xsphere_costs(setting)
    matrix = conservative_weights(source, setting.target)
    costs |= scipy_costs(matrix, setting)
    costs |= healpix_resample_costs(matrix, setting)
    costs |= cdo_costs(setting)
    print_costs(costs)
    moved = least_bytes(matrix, len(fields))
    limit = moved / bandwidth
    print(
        f"  limit of the machine: {moved / 1e6:.2f} MB a field at {bandwidth / 1e9:.1f} GB/s are "
        f"{limit * 1e3:.3f} ms; xsphere conservative takes {costs[BASE].apply / limit:.1f} times "
        "that"
    )


def latlon_calls(array: xr.DataArray, target: LatLonGrid) -> dict[str, Callable[..., xr.DataArray]]:
    """What regrids an array, by name; the first is xsphere."""
    calls = {BASE: partial(xsphere.regrid, array, target, method="conservative")}
    if is_installed("xarray_regrid", "xarray-regrid"):
        import xarray_regrid  # noqa: F401  gives arrays their .regrid

        like = xr.Dataset(coords={"lat": target.lat, "lon": target.lon})
        peer = partial(array.regrid.conservative, like, latitude_coord="lat")
        calls["xarray-regrid conservative"] = peer
        calls["xarray-regrid, skipna=False"] = partial(peer, skipna=False)
    return calls


def compare_latlon(fine: float, coarse: float, options: argparse.Namespace) -> None:
    """Print what the same DataArray costs with xarray-regrid, and with xsphere."""
    source, target = latlon(fine), latlon(coarse)
    values = noise(options.fields, source.n_cells).reshape(-1, *source.shape)
    coords = {"lat": source.lat, "lon": source.lon}
    array = xr.DataArray(values, coords, ("time", "lat", "lon"), name="field")
    print(f"\n{fine:g} deg to {coarse:g} deg, a DataArray of {len(values)} float32 fields in NumPy")
    print(f"  {'':<28}{'first call s':>14}{'ratio':>8}{'later, ms/field':>18}{'ratio':>8}")
    base: tuple[float, float, NDArray[Any]] | None = None
    for name, call in latlon_calls(array, target).items():
        with set_options(cache_dir=""):
            first = seconds(call, 1)
        later = seconds(call, options.repeat) / len(values)
        result = call().to_numpy()
        base = base or (first, later, result)
        rows = np.abs(result - base[2]).max(axis=(0, 2))
        print(
            f"  {name:<28}{first:>14.3f}{first / base[0]:>8.2f}{later * 1e3:>18.3f}"
            f"{later / base[1]:>8.2f}  results differ by {rows[1:-1].max():.0e}, in the rows at "
            f"the poles by {rows[[0, -1]].max():.0e}"
        )


def in_new_process(option: str, step: float, level: int, cache: str) -> dict[str, float]:
    """What this script reports about itself when it does one thing only, and its whole time."""
    command = [sys.executable, __file__, option, f"{step:g}:{level}"]
    environment = {**os.environ, "XSPHERE_CACHE_DIR": cache}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, float] = json.loads(done.stdout)
    return {**report, "process": time.perf_counter() - start}


def peak_memory() -> float:
    """Most memory in GiB that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # on Linux the figure of getrusage begins with that of the process that started this one
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) / 2**20
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def report_first_field(step: float, level: int) -> None:
    """Print, for `in_new_process`, how long weights and one field took."""
    source = latlon(step)
    field = noise(1, source.n_cells)
    start = time.perf_counter()
    matrix = regridding_weights(source, HealpixGrid(level), method="conservative")
    built = time.perf_counter()
    apply_weights(matrix, field)
    print(json.dumps({"weights": built - start, "field": time.perf_counter() - built}))


def report_peak(step: float, level: int) -> None:
    """Print, for `in_new_process`, the peak memory in GiB after each step."""
    source = latlon(step)
    warm_up()
    peaks = {"imports": peak_memory()}
    start = time.perf_counter()
    matrix = conservative_weights(source, HealpixGrid(level))
    peaks |= {"seconds": time.perf_counter() - start, "build": peak_memory(), "weights": matrix.nnz}
    apply_weights(matrix, noise(FIELDS_WHEN_HUGE, source.n_cells))
    print(json.dumps({**peaks, "apply": peak_memory()}))


def print_second_run(step: float, level: int) -> None:
    """Print what a program costs the first and the second time that it is run."""
    print(f"\n{step:g} deg to level {level}, conservative, one field, each in a new process")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cache empty", "cache filled"):
            took = in_new_process("--first-field", step, level, cache)
            print(
                f"  {name:<14}weights {took['weights']:.3f} s, first field {took['field']:.3f} s, "
                f"whole process {took['process']:.2f} s"
            )


def print_peak(step: float, level: int) -> None:
    """Print the peak memory of a process that builds weights and applies them."""
    with tempfile.TemporaryDirectory() as cache:
        found = in_new_process("--peak", step, level, cache)
    print(
        f"\n{step:g} deg to level {level}, conservative: {found['weights']:.0f} weights in "
        f"{found['seconds']:.1f} s; peak memory {found['imports']:.2f} GiB before, "
        f"{found['build']:.2f} GiB built, {found['apply']:.2f} GiB applied to {FIELDS_WHEN_HUGE} "
        "float32 fields"
    )


def pair(text: str) -> tuple[float, float]:
    """Two numbers with a colon between, such as 0.25:8."""
    first, second = text.split(":")
    return float(first), float(second)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--big", action="store_true", help="also 0.25 degrees to level 8")
    parser.add_argument("--huge", action="store_true", help="also memory of 0.25 deg to level 10")
    parser.add_argument("--case", type=pair, action="append", help="STEP:LEVEL instead of 1:6")
    parser.add_argument("--latlon", type=pair, default=(0.25, 1.0), help="FINE:COARSE in degrees")
    parser.add_argument("--fields", type=int, default=24, help="fields regridded at once")
    parser.add_argument("--repeat", type=int, default=3, help="the least time of so many counts")
    parser.add_argument("--first-field", type=pair, help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=pair, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, or one report for `in_new_process`."""
    options = parsed(arguments)
    for report, case in (
        (report_first_field, options.first_field),
        (report_peak, options.peak),
    ):
        if case:
            report(case[0], int(case[1]))
            return
    warm_up()
    bandwidth = copy_bandwidth()
    cases = (options.case or [(1.0, 6)]) + ([(0.25, 8)] if options.big else [])
    for step, level in cases:
        compare(step, int(level), bandwidth, options)
    compare_latlon(*options.latlon, options)
    for step, level in cases:
        print_second_run(step, int(level))
    if options.huge:
        print_peak(0.25, 10)


if __name__ == "__main__":
    main()
