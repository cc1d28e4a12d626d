"""The examples run, and what they write can be read."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import sparse

from xsphere import HealpixGrid, Model, PointGrid, SphereGraph

# one process of pytest-xdist runs the example once
pytestmark = pytest.mark.xdist_group("examples")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("equivariance")
    script = EXAMPLES / "equivariance" / "run.py"
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "results.md").read_text() in done.stdout
    return out


GRAPHS = (
    "Khasanova k=4",
    "Perraudin k=8",
    "equal weights k=8",
    *(f"{kind} k={k}" for kind in ("Gaussian", "consistent") for k in (8, 20, 40)),
)


@pytest.mark.slow
def test_equivariance_measures_every_graph_both_ways(results: Path) -> None:
    with (results / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["graph"], row["method"]) for row in rows}
    expected = {
        (graph, method)
        for graph in GRAPHS
        for method in ("inexact rotations", "rotations", "schur")
    }
    assert expected - found == {
        ("Khasanova k=4", "inexact rotations"),
        ("Khasanova k=4", "rotations"),
    }
    assert found < expected
    for row in rows:
        assert float(row["error"]) > 0
        assert float(row["error"]) ** 2 == pytest.approx(float(row["squared_error"]), rel=1e-3)
        assert (float(row["floor"]) > 0) == (row["method"] == "rotations")
    every = [row["degree"] for row in rows if row["graph"] == "Khasanova k=4"]
    assert every == [str(degree) for degree in range(1, 24)]


def test_equivariance_tables_and_figure_are_written(results: Path) -> None:
    text = (results / "results.md").read_text()
    assert "NOT squared" in text
    for graph in GRAPHS[1:]:
        assert len(re.findall(rf"^\| {graph} (\| [\d.e-]+ )+\|$", text, re.M)) == 3, graph
    assert (results / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_equivariance_summary_is_that_of_the_table(results: Path) -> None:
    summary = (results / "results.md").read_text().split("## ")[1]
    rows = {line.split(" | ")[0][2:]: line.split("|")[2:-1] for line in summary.splitlines()[4:-1]}
    assert set(rows) == set(GRAPHS)
    with (results / "results.csv").open() as file:
        every = [row for row in csv.DictReader(file) if row["method"] == "schur"]
    for graph, shown in rows.items():
        errors = [float(row["error"]) for row in every if row["graph"] == graph]
        chosen = [errors[degree - 1] for degree in (1, 2, 5, 8, 11, 15)]
        assert float(shown[4]) == pytest.approx(sum(errors[4:]) / len(errors[4:]), rel=5e-3)
        assert float(shown[5]) == pytest.approx(sum(chosen) / 6, rel=5e-3)
        if not graph.startswith("consistent"):
            assert shown[6].strip() == ""
            continue
        k = graph.partition("=")[2]
        rival = [float(row["error"]) for row in every if row["graph"] == f"Gaussian k={k}"]
        ratios = [ours / theirs for ours, theirs in zip(errors, rival, strict=True)]
        assert float(shown[6]) == pytest.approx(max(ratios), rel=5e-3)
    equal, perraudin = (float(rows[f"{name} k=8"][4]) for name in ("equal weights", "Perraudin"))
    assert 1.3 < equal / perraudin < 1.6
    assert 8.0 < float(rows["Gaussian k=8"][0]) < float(rows["consistent k=8"][0]) < 8.5


def test_published_values_are_those_of_graphs_that_are_measured() -> None:
    lines = (EXAMPLES / "equivariance" / "published.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {row["graph"] for row in rows} <= set(GRAPHS)
    keys = [(row["graph"], row["nside"], row["degree"]) for row in rows]
    assert len(set(keys)) == len(keys) == 51
    assert all(0 < float(row["error"]) < 2 for row in rows)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / "equivariance" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_levels_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    example("levels").print_levels([2, 3])
    rows = table_rows(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [[level, k] for level in "23" for k in ("8", "20", "40")]
    assert all(float(gaussian) > 2 * float(ours) > 0 for *_, gaussian, ours, _, _ in rows)
    assert {row[-1] for row in rows} == {"0"}


def test_samplings_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    levels = example("levels")
    levels.print_samplings({"Fibonacci": lambda: PointGrid.fibonacci(800)})
    rows = table_rows(capsys.readouterr().out)
    assert [row[2:4] for row in rows] == [
        [k, weights] for k in ("8", "20", "40") for weights in ("gaussian", "consistent")
    ]
    for gaussian, ours in zip(rows[::2], rows[1::2], strict=True):
        assert float(gaussian[4]) > float(ours[4]) > 0
    assert float(rows[0][5]) > float(rows[1][5]) > 0
    for make in levels.constructed().values():
        assert 9_000 < make().n_cells < 13_000


def test_gaussian_rows_get_the_right_second_moment() -> None:
    levels = example("levels")
    grid = HealpixGrid(4)
    laplacian = SphereGraph(grid, 20, weights="gaussian").laplacian
    scaled = levels.with_right_second_moment(laplacian, grid)
    # each row by itself is off by its asymmetry, their mean is not
    heights = grid.centres[:, 2]
    assert (heights @ (scaled @ heights)) / (heights @ heights) == pytest.approx(2.0, rel=0.02)
    squares = ((grid.centres[:, None] - grid.centres) ** 2).sum(axis=-1)
    np.testing.assert_allclose((scaled.toarray() * squares).sum(axis=1), -4.0)


def test_rows_of_lonely_stations_are_left_out_or_scaled() -> None:
    levels = example("levels")
    grid = PointGrid([0, 1, 90, 91, 180, 183], [0, 0, 0, 0, 0, 0])
    weights = np.zeros((6, 6))
    weights[[0, 1, 2, 3], [1, 0, 3, 2]] = 1e-290, 1e-290, 1e-305, 1e-305
    laplacian = sparse.csr_array(np.diag(weights.sum(axis=1)) - weights)
    scaled = levels.with_right_second_moment(laplacian, grid).toarray()
    expected = np.zeros((6, 6))
    expected[:2, :2] = [[1, -1], [-1, 1]]
    np.testing.assert_allclose(scaled, expected / np.sin(np.radians(0.5)) ** 2, rtol=1e-12)


def test_cells_are_compared_with_the_eigenvalues() -> None:
    levels = example("levels")
    grid = HealpixGrid(4)
    laplacian = SphereGraph(grid, 20).laplacian
    lowest, *_, highest = levels.cell_errors(laplacian, grid)
    assert lowest < 0.02 < highest < 0.5
    assert levels.cell_errors(2 * laplacian, grid)[0] == pytest.approx(1.0, abs=0.02)


def test_degrees_follow_the_size_of_the_cells() -> None:
    levels = example("levels")
    for level, expected in ((5, [5, 10, 20, 30, 45, 60]), (6, [10, 20, 40, 60, 90, 120])):
        assert levels.scaled_degrees(HealpixGrid(level).n_cells).tolist() == expected
    assert levels.scaled_degrees(48).tolist() == [1, 2, 3, 4]
    assert example("networks").degrees_at(3).tolist() == [1, 2, 5, 10, 15]


def test_positions_of_files_are_degrees_in_either_unit(tmp_path: Path) -> None:
    levels = example("levels")
    folder = tmp_path / "stations"
    folder.mkdir()
    lon, lat = np.array([350.0, 10.0, 95.0]), np.array([-80.0, 10.0, 88.0])
    np.savez(folder / "ghcn_stations_2010-2014.npz", lon=lon, lat=lat)
    (name,) = found = levels.from_files(tmp_path)
    assert name == "GHCN stations"
    assert found[name]() == PointGrid(lon, lat)
    radians = {"lon": np.radians(lon), "lat": np.radians(lat)}
    np.testing.assert_allclose(levels._places(radians, "lon", "lat").lat, lat)


def test_networks_are_compared(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    networks = example("networks")
    monkeypatch.setattr(sys, "argv", ["networks.py", "--level", "2", "--networks", "1"])
    monkeypatch.setattr(networks, "GRAPHS", [("consistent", 8)])
    monkeypatch.setattr(networks, "LAYOUTS", dict([*networks.LAYOUTS.items()][:2]))
    networks.main()
    rows = table_rows(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["one convolution", "three convolutions"]
    assert all(0 < float(row[-2]) < 1 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif("XSPHERE_TEST_DATA" not in os.environ, reason="needs the data of the tests")
def test_climatenet_is_trained_and_scored_in_reduced_form(tmp_path: Path) -> None:
    script = EXAMPLES / "climatenet" / "run.py"
    data = Path(os.environ["XSPHERE_TEST_DATA"], "gcm")
    command = [sys.executable, str(script), str(data), "--reduced", "--out", str(tmp_path)]
    command += ["--level", "3", "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "average precision" in done.stdout
    with (tmp_path / "training.csv").open() as file:
        assert len([*csv.DictReader(file)]) == 2
    model = Model.load(tmp_path / "model.safetensors")
    assert (model.spec.level, model.classes) == (3, ("tropical_cyclone", "atmospheric_river"))
    scores = json.loads((tmp_path / "report" / "scores.json").read_text())["scores"]
    assert 0 < scores["iou"]["mean_of_all"]["value"] < 1
