"""Whatever becomes of the files of a cache, results are those without one."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.cache import CacheWarning, cache_dir
from xsphere.cli import app
from xsphere.compressed import compressed_rows
from xsphere.config import set_options
from xsphere.entries import manifest_of, store_entry
from xsphere.graph import SphereGraph, derivative_cache, directional_matrices, directions
from xsphere.graph import sphere_graph as graphs
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid, travel
from xsphere.housekeeping import cache_entries, clear_cache, damaged_entries
from xsphere.model import derived
from xsphere.weights import regridding, regridding_pieces, regridding_weights
from xsphere.weights import second_order as pieces

GRID, COARSE = LatLonGrid(np.arange(8) * 45.0, [-60.0, 0.0, 60.0]), HealpixGrid(1)
POINTS = PointGrid(*np.random.default_rng(0).uniform(0, 80, (2, 3000)))
MEMORIES = (
    *(graphs._shared, directions._shared, derivative_cache._pairs, regridding._matrices),
    *(pieces._prepared_weights, travel._grids, travel._packed_grids, derived._matrices),
)


def numbers(matrix: Any) -> bytes:
    return b"".join(np.asarray(a).tobytes() for a in (matrix.data, matrix.indices, matrix.indptr))


RESULTS: dict[str, Callable[[], bytes]] = {
    "conservative": lambda: numbers(regridding_weights(GRID, COARSE, method="conservative")),
    "nearest": lambda: numbers(regridding_weights(GRID, COARSE, method="nearest")),
    "pieces": lambda: b"".join(
        array.tobytes() for array in regridding_pieces(GRID, COARSE).to_arrays().values()
    ),
    "graph": lambda: numbers(SphereGraph(COARSE, k=8).laplacian),
    "directions": lambda: b"".join(map(numbers, directional_matrices(COARSE))),
    "gradient": lambda: b"".join(
        map(numbers, derivative_cache.derivative_matrices("gradient", COARSE))
    ),
    "grid": lambda: bytes(travel.unpack(travel.pack(POINTS)).lon),
    "model": lambda: bytes(storm_dataset(1).sphere.segment(storm_model(level=1)).values),
}


def forget() -> None:
    """As in a new process."""
    for memory in MEMORIES:
        memory._values.clear()


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    with set_options(cache_dir=""):
        forget()
        return {name: make() for name, make in RESULTS.items()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("filled")
    with set_options(cache_dir=str(folder)):
        forget()
        for make in RESULTS.values():
            make()
        yield folder
    forget()


def nested(file: Path) -> None:
    file.write_text("[" * 100_000)


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[len(content) // 3] ^= 4
    file.write_bytes(content)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "x").write_text("x")


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_dead_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere/at/all")


DAMAGES: tuple[Callable[[Path], Any], ...] = (
    flipped,
    truncated,
    nested,
    a_folder,
    a_pipe,
    a_dead_link,
    Path.unlink,
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + b"9" * 70_000),
    *(
        lambda file, text=text: file.write_text(text)
        for text in (
            "[]",
            "null",
            "NaN",
            "{}",
            '{"about": 1, "sha256": []}',
            '{"about": "", "sha256": {"../../x": "0"}}',
            '{"about": "", "sha256": {"x.npy": NaN}}',
            '{"about": "", "sha256": {}}',
        )
    ),
)


@pytest.mark.filterwarnings("ignore::xsphere.entries.CacheWarning")
@examples(60, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(RESULTS)),
    number=st.integers(0, 10**6),
    damage=st.sampled_from(DAMAGES),
)
def test_damage_to_a_file_changes_nothing(
    filled: Path,
    expected: dict[str, bytes],
    name: str,
    number: int,
    damage: Callable[[Path], Any],
) -> None:
    files = sorted(
        path for path in filled.rglob("*") if path.is_file() and ".corrupt-" not in str(path)
    )
    damage(files[number % len(files)])
    forget()
    assert RESULTS[name]() == expected[name]


@pytest.mark.filterwarnings("ignore::xsphere.entries.CacheWarning")
@pytest.mark.parametrize("damage", [truncated, a_folder, nested, Path.unlink])
def test_all_is_made_anew_and_then_sound(
    filled: Path, expected: dict[str, bytes], damage: Callable[[Path], Any]
) -> None:
    for manifest in filled.rglob("manifest.json"):
        if ".corrupt-" not in str(manifest) and manifest.is_file():
            damage(manifest)
    forget()
    assert {name: make() for name, make in RESULTS.items()} == expected
    for entry in cache_entries():
        if not entry.complete:
            shutil.rmtree(entry.path)
    assert damaged_entries() == []
    # what is sound is read, not made again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xsphere.cache.store_entry", None)
        forget()
        assert {name: make() for name, make in RESULTS.items()} == expected


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_the_place_of_an_entry(cache_folder: Path, kind: str) -> None:
    forget()
    before = RESULTS["nearest"]()
    (entry,) = cache_entries()
    clear_cache()
    if kind == "file":
        entry.path.write_text("x")
    else:
        entry.path.symlink_to("/nowhere/at/all")
    forget()
    with pytest.warns(CacheWarning, match="is corrupt"):
        assert RESULTS["nearest"]() == before
    assert sum(entry.complete for entry in cache_entries()) == 1
    clear_cache()
    assert cache_entries() == []


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("indices", lambda a: a + 10**6),
        ("indices", lambda a: a - 1),
        ("indices", lambda a: a[::-1]),
        ("indices", lambda a: a.astype(float)),
        ("indptr", lambda a: a * 2),
        ("indptr", lambda a: a[:-1]),
        ("indptr", lambda a: np.where(np.arange(a.size) == 3, 10**8, a)),
        ("data", lambda a: a[:-1]),
        ("data", lambda a: a * np.nan),
        ("data", lambda a: a.astype(np.float32)),
        ("data", None),
    ],
)
def test_indices_that_lead_nowhere_are_refused_though_checksums_are_right(
    cache_folder: Path, file: str, change: Callable[[Any], Any] | None
) -> None:
    forget()
    before = RESULTS["conservative"]()
    (entry,) = cache_entries()
    arrays = {path.stem: np.load(path) for path in entry.path.glob("*.npy")}
    about = manifest_of(entry.path)["about"]
    shutil.rmtree(entry.path)
    if change is None:
        del arrays[file]
    else:
        arrays[file] = change(arrays[file])

    def write(beside: Path) -> None:
        for name, array in arrays.items():
            np.save(beside / f"{name}.npy", array)

    store_entry(entry.path, write, about)
    forget()
    with pytest.warns(CacheWarning, match=r"is corrupt \((ValueError|KeyError)"):
        assert RESULTS["conservative"]() == before
    assert damaged_entries()


@pytest.mark.parametrize("name", ["sources", "starts", "targets", "neighbours", "slopes"])
def test_second_order_weights_are_checked(name: str) -> None:
    # no entry that another test has damaged
    with set_options(cache_dir=""):
        made = regridding_pieces(GRID, COARSE)
    made.check(made.shape)
    arrays = made.to_arrays()
    arrays[name] = arrays[name] + 10**6 if name != "slopes" else arrays[name][:-1]
    with pytest.raises(ValueError, match=f"{name} must"):
        pieces.SecondOrderWeights.from_arrays(arrays).check(made.shape)


def test_rows_are_those_of_the_arrays() -> None:
    arrays = {
        "indptr": np.array([0, 2, 2, 3], np.int32),
        "indices": np.array([0, 2, 1], np.int32),
        "data": np.array([1.0, 2.0, 3.0]),
    }
    matrix = compressed_rows(arrays, (3, 3))
    assert matrix.toarray().tolist() == [[1, 0, 2], [0, 0, 0], [0, 3, 0]]


@pytest.mark.filterwarnings("ignore::xsphere.entries.CacheWarning")
def test_the_command_finds_sound_entries_sound(filled: Path) -> None:
    forget()
    clear_cache()
    for make in RESULTS.values():
        make()
    kinds = {entry.kind for entry in cache_entries()}
    assert {"weights", "graphs", "directions", "derivatives", "grids", "models"} <= kinds
    assert len(kinds) == 6
    done = CliRunner().invoke(app, ["cache", "verify"])
    assert (done.exit_code, done.output.strip()) == (0, "every entry is as it was written")
    (model,) = filled.glob("v1/models/*/*/*.safetensors")
    flipped(model)
    done = CliRunner().invoke(app, ["cache", "verify"])
    assert done.exit_code == 1
    assert {str(model.parent)} == {
        line.split()[-1] for line in done.output.splitlines() if line.startswith("damaged")
    }


@pytest.mark.parametrize("text", ["2024", "1e5", "[1, 2]", "None", "True", "{'a': 1}", "0x10"])
def test_the_environment_is_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from xsphere import config

    monkeypatch.setenv("XSPHERE_CACHE_DIR", text)
    monkeypatch.setattr("xsphere.cache.config", config._configured())
    assert cache_dir() == Path(text)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2024, TypeError),
        ([], TypeError),
        (["a"], TypeError),
        (True, TypeError),
        (b"a", TypeError),
        (" ", ValueError),
        ("s3://bucket/cache", ValueError),
        ("~nobody-of-this-name/x", ValueError),
        ("a\0b", ValueError),
    ],
)
def test_what_is_no_folder_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="cache"):
        set_options(cache_dir=value)


def test_home_and_paths_are_understood(tmp_path: Path) -> None:
    with set_options(cache_dir="~/x"):
        assert cache_dir() == Path.home() / "x"
    with set_options(cache_dir=tmp_path):
        assert cache_dir() == tmp_path


def test_a_bad_environment_is_told_when_the_cache_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from xsphere import config

    monkeypatch.setenv("XSPHERE_CACHE_DIR", "s3://bucket/cache")
    monkeypatch.setattr("xsphere.cache.config", config._configured())
    with pytest.raises(ValueError, match=r"cache folder .* must be on this machine.*s3://bucket"):
        cache_dir()


def test_manifests_are_text_for_people(cache_folder: Path) -> None:
    forget()
    RESULTS["nearest"]()
    (entry,) = cache_entries()
    assert "nearest" in json.loads((entry.path / "manifest.json").read_text())["about"]
