"""The benchmarks run, print every row, and do without the peers; their scores are what they say."""

import csv
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import healpy
import numpy as np
import pytest
import xarray as xr
from scipy import integrate

from xsphere.graph import SphereGraph
from xsphere.graph.filters import filtered
from xsphere.grids import HealpixGrid
from xsphere.weights import Method

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PEERS = {
    "healpix_resample": "healpix-resample",
    "xarray_regrid": "xarray-regrid",
    "skyborn_cdo": "skyborn-cdo",
    "ducc0": "ducc0",
    "deepsphere": "deepsphere-pytorch",
    "torch_geometric": "torch_geometric",
}
REGRIDDERS = ("healpix-resample", "xarray-regrid", "skyborn-cdo")
FIELDS = ("sinusoid", "harmonic", "vortex", "smooth", "polar")


def output_of(script: str, *options: str) -> str:
    """What a script prints in a process of its own, where no peer is found."""
    code = (
        "import importlib.util as u, runpy, sys\n"
        f"found, sys.argv = u.find_spec, {[script, *options]}\n"
        f"u.find_spec = lambda name, *a: None if name in {list(PEERS)} else found(name, *a)\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        f"runpy.run_path({str(BENCHMARKS / script)!r}, run_name='__main__')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CDO"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script as a module."""

    def imported(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"benchmark_{name}", BENCHMARKS / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    # scripts import each other, and set the threads of libraries
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")
        yield imported


@pytest.fixture(scope="module")
def fields(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("fields")


@pytest.mark.slow
def test_costs_are_printed_for_every_method_without_peers() -> None:
    options = ("--case", "18:1", "--latlon", "10:30", "--fields", "2", "--repeat", "1")
    printed = output_of("regrid.py", *options)
    for method in get_args(Method):
        assert re.search(rf"^  xsphere {method} +\d+\.\d+ +\d+\.\d+ +\d+\.\d+", printed, re.M)
    for row in ("SciPy product, columns", "SciPy product, rows", "limit of the machine"):
        assert row in printed
    for row in ("10 deg to 30 deg", "cache empty", "cache filled"):
        assert row in printed
    for package in REGRIDDERS:
        assert f"pip install {package}" in printed


@pytest.mark.slow
def test_memory_is_reported_by_a_process_of_its_own() -> None:
    printed = output_of("regrid.py", "--peak", "18:1")
    assert re.fullmatch(r'\{"imports": .*"weights": \d+, "apply": .*\}\n', printed)


@pytest.mark.slow
def test_errors_are_printed_for_every_method_and_field(tmp_path: Path) -> None:
    picture = tmp_path / "errors.png"
    printed = output_of("regrid_errors.py", "--case", "9:3", "--plot", str(picture))
    for direction in ("9 deg to level 3", "level 3 to 9 deg"):
        for field in FIELDS:
            for method in get_args(Method):
                row = rf"^\| {direction} \| {field} \| xsphere {method} (\| \S+ ){{6}}\|$"
                assert re.search(row, printed, re.M), (direction, field, method)
    assert "L1, 36 deg to 1 | L1, 18 deg to 2 | L1, 9 deg to 3 | order" in printed
    assert "pip install skyborn-cdo" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_graphs_are_timed_at_every_level_in_one_table_and_in_a_file(tmp_path: Path) -> None:
    figures = tmp_path / "graph.csv"
    options = ("--levels", "3", "2", "--k", "6", "--repeat", "1", "--threads", "1")
    printed = output_of("graph.py", *options, "--csv", str(figures))
    assert "pip install ducc0" in printed
    assert "Consistent graph, k = 6: built in 1 threads" in printed
    number = r" +(\d[\d.e+-]*|inf|nan)"
    for columns, n_figures in (
        (r"build s +CPU s +s/Mcell +GiB +load s +s/Mcell +GiB +k-d tree s +CPU s +GiB", 10),
        (r"5 x 64 +5 x 32 +15 x 64 +15 x 32 +healpy +ducc0", 5),
        (r"healpy/5x64 +healpy/5x32 +healpy/15x64 +healpy/15x32 +ducc0/5x64 .*", 4),
    ):
        rows = rf"2 +192({number}){{{n_figures}}}[ -]*\n +3 +768({number}){{{n_figures}}}[ -]*"
        assert re.search(rf"^ +level +cells +{columns}\n +{rows}$", printed, re.M), columns
    assert len(re.findall(r"^ +exponent +-?\d", printed, re.M)) == 2
    with figures.open() as file:
        low, high = csv.DictReader(file)
    assert (low["level"], high["level"]) == ("2", "3")
    for row in (low, high):
        graph = SphereGraph(HealpixGrid(int(row["level"])), 6)
        assert int(row["entries"]) == graph.laplacian.nnz
        per_million = float(row["build_s"]) / graph.n_cells * 1e6
        assert np.isclose(float(row["build_s_per_Mcell"]), per_million)
        ratio = float(row["healpy_s"]) / float(row["filter5_float64_s"])
        assert np.isclose(float(row["healpy_over_filter5_float64"]), ratio)


def test_recursion_in_float32_is_the_filter(script: Callable[[str], ModuleType]) -> None:
    graph = SphereGraph(HealpixGrid(2))
    field, terms = np.random.default_rng(0).normal(size=graph.n_cells), np.array([0.5, -1.0, 0.25])
    expected = filtered(graph.laplacian, graph.lambda_max, terms, field)
    scaled = graph.scaled_laplacian.astype(np.float32)
    found = script("graph").in_float32(scaled, terms.astype(np.float32), field.astype(np.float32))
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)


def test_published_construction_is_the_gaussian_graph(script: Callable[[str], ModuleType]) -> None:
    found = script("graph").published_laplacian(3, 8)
    graph = SphereGraph(HealpixGrid(3), 8, weights="gaussian")
    assert abs(found - found.T).max() < 1e-14
    assert np.allclose(found.sum(axis=1), 0, atol=1e-12)
    # ties are broken otherwise by a tree
    assert abs(found.nnz - graph.laplacian.nnz) < 0.02 * found.nnz


def test_growth_is_the_power_of_the_number_of_cells(script: Callable[[str], ModuleType]) -> None:
    rows = [{"cells": 12 * 4**level, "a_s": 3.0 * 8**level} for level in range(2, 6)]
    rows[0]["a_s"] = 100.0  # not among the last three
    assert script("graph").exponent("a_s", rows) == "1.50"
    assert script("graph").exponent("a_s", rows[:1]) == ""


SMALL = (
    *("--step", "15", "--level", "2", "--network", "tiny", "--variables", "4"),
    *("--steps", "8", "--block", "4", "--workers", "2", "--repeat", "1"),
)


def rows_of(printed: str) -> dict[str, list[str]]:
    """Cells of the rows of all tables, by the first."""
    rows = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.slow
def test_pipeline_is_measured_by_stage_and_against_a_loop_with_the_same_masks() -> None:
    printed = output_of("pipeline.py", *SMALL, "--only", "stages,straightforward,paper")
    rows = rows_of(printed)
    stages = ("decode", "regrid", "infer", "write")
    for name in (*stages, "decode, unchecked", "end to end", "ideal, 1 / sum(1 / rate)"):
        rate, *_, share = rows[name]
        assert float(rate) > 0
        assert share.endswith("%")
    ideal = 1 / sum(1 / float(rows[stage][0]) for stage in stages)
    assert np.isclose(float(rows["ideal, 1 / sum(1 / rate)"][0]), ideal, rtol=0.01)
    for threads in (1, 2):
        rate, ratio, work, parts = rows[f"plain PyTorch (torch.sparse), {threads} threads"]
        times = float(rows["xsphere, 2 threads"][0]) / float(rate)
        assert np.isclose(float(ratio), times, rtol=0.05, atol=0.06)
        assert float(work) > 0
        assert re.fullmatch(r"decode \d+, regrid \d+, infer \d+, write \d+", parts)
    # the winds next to the poles are vectors for us and two fields for the loop
    (agreement,) = re.findall(r"masks agree in ([\d.]+)% of the cells", printed)
    assert float(agreement) > 99
    assert all(len(cells) == 10 for name, cells in rows.items() if "core" in name)
    assert "not measured" in printed


@pytest.mark.slow
def test_pipeline_is_measured_in_memory_and_tasks() -> None:
    options = (*SMALL, "--only", "memory,graph", "--memory-steps", "24", "48", "--blocks", "30")
    rows = rows_of(output_of("pipeline.py", *options))
    peaks = [float(peak) for peak in rows["threads: process"][:2]]
    slope = (peaks[1] - peaks[0]) * 1024 / 24
    assert abs(float(rows["threads: process"][2]) - slope) < 5
    # one a block, and the source; of chunks that xarray opened also one for each of four variables
    # and what dask puts between
    assert rows["path"][4] == "1.03"
    assert float(rows["opened in chunks"][4]) >= 5


@pytest.mark.slow
def test_pipeline_is_measured_with_more_workers() -> None:
    rows = rows_of(output_of("pipeline.py", *SMALL, "--only", "scaling"))
    for kind in ("threads", "processes", "network alone, in threads"):
        one, two, ratio, *work = (float(cell) for cell in rows[kind])
        assert min(work) > 0
        assert np.isclose(ratio, two / one, rtol=0.01, atol=0.01)


def test_pipeline_refuses_an_unknown_section(script: Callable[[str], ModuleType]) -> None:
    with pytest.raises(SystemExit):
        script("pipeline").parsed(["--only", "stages,speed"])


TINY_LAYERS = (
    *("--nside", "4", "--k", "8", "--channels", "8", "64", "--batches", "2"),
    *("--kernel-sizes", "3", "4", "--threads", "1", "--repeat", "1"),
)


def columns_of(printed: str) -> list[dict[str, str]]:
    """Rows of all Markdown tables, by their heads."""
    heads: list[str] = []
    rows = []
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
        elif line.startswith("| "):
            rows.append(dict(zip(heads, cells, strict=True)))
    return rows


@pytest.mark.slow
def test_layers_are_timed_beside_peers_and_the_product_alone() -> None:
    printed = output_of("network.py", *TINY_LAYERS, "--only", "layers,gpu", "--backward")
    assert "pip install torch_geometric" in printed
    assert "Give a checkout of https://github.com/deepsphere/deepsphere-pytorch" in printed
    assert "no GPU here" in printed
    rows = columns_of(printed)
    cases = [row for row in rows if row["nside"] == "4"]
    assert len(cases) == 8  # of 2 by 2 sizes, forward and with gradients
    for row in cases:
        for peer in ("plain PyTorch (torch.sparse)", "torch CSR"):
            times = float(row[f"ms: {peer}"]) / float(row["ms: xsphere"])
            assert np.isclose(float(row[f"{peer} / xsphere"]), times, rtol=0.02, atol=0.01)
        limit = float(row["ms: xsphere"]) / float(row["ms: product alone"])
        assert np.isclose(float(row["xsphere / product alone"]), limit, rtol=0.02, atol=0.01)
        assert float(row["largest error"]) < 1e-5
    forward, _ = (row for row in rows if row["nside"] == "geometric mean")
    ratios = [float(row["torch CSR / xsphere"]) for row in cases[:4]]
    mean = np.exp(np.mean(np.log(ratios)))
    assert np.isclose(float(forward["torch CSR / xsphere"]), mean, rtol=0.05, atol=0.02)
    assert len(re.findall(r"^From 64 channels: \d", printed, re.M)) == 2


@pytest.mark.slow
def test_networks_are_timed_and_their_memory_measured() -> None:
    options = ("--networks", "tiny", "--level", "2", "--batches", "2", "--repeat", "1")
    printed = output_of("network.py", *options, "--threads", "1", "--only", "unet,memory")
    timed, memory = columns_of(printed)
    peer = "plain PyTorch (torch.sparse)"
    for name, what in (("forward", "forward"), ("training step", "step")):
        times = float(timed[f"ms: {peer}, {what}"]) / float(timed[f"ms: xsphere, {what}"])
        assert np.isclose(float(timed[name]), times, rtol=0.02, atol=0.01)
    assert float(timed["largest error"]) < 1e-5
    assert {timed["layout"], memory["layout"]} == {"tiny"}
    assert float(memory[f"MiB: {peer}"]) >= 0


@pytest.mark.slow
def test_gpu_table_is_made_on_any_device() -> None:
    options = ("--nside", "4", "--channels", "8", "--repeat", "1", "--threads", "1")
    (row,) = columns_of(output_of("network.py", *options, "--only", "gpu", "--device", "cpu"))
    assert row["of the copy's bandwidth: at least"].endswith("%")
    assert float(row["error: xsphere"]) < 1e-5
    assert float(row["error: xsphere bf16"]) < 0.05


def test_every_two_sizes_meet_in_the_short_design(script: Callable[[str], ModuleType]) -> None:
    network = script("network")
    cases = network.short_design()
    assert len(set(cases)) == 24
    sizes = (
        *(network.NSIDES, network.NEIGHBOURS, network.CHANNELS),
        *(network.BATCHES, network.TERMS),
    )
    for one, another in itertools.combinations(range(5), 2):
        met = {(case[one], case[another]) for case in cases}
        assert met == set(itertools.product(sizes[one], sizes[another]))


def test_a_network_of_other_weights_is_noticed(script: Callable[[str], ModuleType]) -> None:
    with pytest.raises(SystemExit, match=r"outputs differ .*'b': nan"):
        script("network").checked(None, {"a": 1e-7, "b": float("nan")})


@pytest.mark.parametrize(
    "wrong", [["--only", "speed"], ["--nside", "6"], ["--kernel-sizes", "1"], ["--threads", "0"]]
)
def test_network_refuses_options_without_meaning(
    script: Callable[[str], ModuleType], wrong: list[str]
) -> None:
    with pytest.raises(SystemExit):
        script("network").parsed(wrong)


def test_hours_on_paper(script: Callable[[str], ModuleType]) -> None:
    hours = script("paper")._hours
    # 1000 steps of 1 GB at 10 a second are 100 s; of the rates of 8 workers 0.9 are left
    assert hours(1e12, 10.0, 1, 10**9, 0.1) == f"{100 / 3600:.3g}"
    assert hours(1e12, 10.0, 8, 10**9, 0.1) == f"{1000 / 72 / 3600:.3g}"
    # 25 Gbit/s are 3.125 GB/s for one worker; 100 GB/s for all
    assert hours(1e12, 10.0, 1, 10**9, 0.9) == f"{1000 / (3.125 / 0.9) / 3600:.3g}"
    assert hours(1e15, 1e-3, 1, 10**9, 0.9) == "277,778"
    assert hours(1e12, 10.0, 64, 10**9, 0.9) == f"{1000 * 0.9 / 100 / 3600:.3g}*"


@pytest.mark.parametrize("compressor", ["blosc-lz4", "blosc-zstd", "zstd", "none"])
def test_archive_is_read_as_it_was_made_whatever_its_length(
    script: Callable[[str], ModuleType], tmp_path: Path, compressor: str
) -> None:
    made = script("archive")
    path = made.write_archive(
        tmp_path / "in.zarr", 6, step=9.0, n_variables=2, compressor=compressor
    )
    assert made.step_bytes(path) == 2 * 21 * 40 * 4
    assert (made.stored_share(path) < 1) == (compressor != "none")
    with xr.open_zarr(path, consolidated=False, chunks=None) as ds:
        assert ds.sizes == {"time": 6, "lat": 21, "lon": 40}
        field = made.FIELDS["PSL"]
        assert abs(float(ds.PSL.mean()) - field.mean) < 2 * field.std
        assert (ds.PSL[4] == ds.PSL[0]).all()
        assert (ds.PSL[1] != ds.PSL[0]).any()


@pytest.fixture(scope="module")
def means_over_boxes(fields: ModuleType) -> dict[str, np.ndarray]:
    return fields.true_means(fields.latlon(2.0))


@pytest.mark.parametrize("name", FIELDS)
def test_true_means_over_boxes_are_integrals(
    fields: ModuleType, means_over_boxes: dict[str, np.ndarray], name: str
) -> None:
    grid, cell = fields.latlon(2.0), 89 * 180 + 5  # touches the north pole
    field: Callable[..., float] = fields.FIELDS[name]
    total = integrate.dblquad(
        lambda lat, lon: float(field(np.array(lon), np.array(lat))) * np.cos(lat),
        *np.deg2rad(grid.lon_bounds[5]),
        *np.deg2rad(grid.lat_bounds[89]),
    )[0]
    assert np.isclose(means_over_boxes[name][cell], total / grid.areas[cell], rtol=1e-3)


def test_true_means_over_healpix_cells_are_means_of_finer_ones(fields: ModuleType) -> None:
    found = fields.true_means(HealpixGrid(3, "ring"))
    lon, lat = np.deg2rad(healpy.pix2ang(2**8, np.arange(12 * 4**8), lonlat=True))
    for name, field in fields.FIELDS.items():
        expected = healpy.ud_grade(field(lon, lat), 8)
        assert np.allclose(found[name], expected, rtol=2e-3, atol=1e-5), name


def test_scores_of_a_shifted_field(fields: ModuleType) -> None:
    source, target = fields.latlon(30.0), HealpixGrid(1)
    given, truth = np.full(source.n_cells, 1.0), np.full(target.n_cells, 2.0)
    given[source.n_cells // 2 :] = 4.0  # the northern half: 2.5 in the mean
    result = truth.copy()
    result[:2], result[2] = 5.0, -1.0
    score = fields.scores(result, truth, given, source, target)
    assert np.isclose(score.conservation, (2.5 - (2 + (3 + 3 - 3) / 48)) / 2)
    assert np.isclose(score.l1, 9 / 48 / 2)
    assert np.isclose(score.l2, np.sqrt(27 / (48 * 4)))
    assert np.isclose(score.linf, 1.5)
    assert np.isclose(score.overshoot, 1 / 3)
    assert np.isclose(score.undershoot, 2 / 3)


def test_a_step_that_leaves_a_gap_is_refused(fields: ModuleType) -> None:
    with pytest.raises(ValueError, match="step must divide 180 degrees, got 7"):
        fields.latlon(7.0)


@pytest.mark.slow
def test_tracking_is_measured_beside_scipy() -> None:
    text = output_of("events.py", "--years", "0.02", "--level", "2", "--resolution", "10")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    names = [row[1].split(",")[0] for row in rows]
    ours = ["xsphere.track"] * 3 + ["xsphere.label"]
    assert names == [*ours, *ours, "scipy.ndimage.label", "tobac", "ConTrack", "marEx"]
    counted = {row[1]: int(row[5]) for row in rows if len(row) > 6 and row[5].isdigit()}
    assert counted["xsphere.label, 1 worker(s)"] <= counted["scipy.ndimage.label, 1 worker(s)"]
