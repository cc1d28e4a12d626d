"""Grids that travel in tasks: small, exact, and found again on the other side."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from xsphere.config import set_options
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.grids.travel import PackedGrid, Travelling, _grids, _packed_grids, pack, unpack

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Each test as in a process that has seen no grid."""
    _grids._values.clear()
    _packed_grids._values.clear()


def elsewhere(packed: PackedGrid) -> Grid:
    """As another process unpacks it."""
    _grids._values.clear()
    return unpack(pickle.loads(pickle.dumps(packed)))


RNG = np.random.default_rng(0)
GRIDS = {
    "era5": LatLonGrid(np.arange(0, 360, 0.25), np.linspace(90, -90, 721)),
    "gaussian": LatLonGrid(
        np.arange(64) * 5.625, np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))
    ),
    "regional": LatLonGrid(np.arange(-20.0, 40.1, 0.1), np.arange(30.05, 70.0, 0.1)),
    "irregular": LatLonGrid(np.sort(RNG.uniform(0, 300, 50)), np.sort(RNG.uniform(-80, 80, 31))),
    "bounds": LatLonGrid([0.0, 120.0, 240.0], [-45.0, 45.0], None, [[-90.0, 1.0], [1.0, 90.0]]),
    "one row": LatLonGrid([180.0], [45.0, -45.0]),
    "healpix": HealpixGrid(9, "ring"),
    "region": HealpixGrid(9, "nested", np.arange(5000, 15_000)),
    "few points": PointGrid([0.0, 90.0, 180.0], [0.0, 10.0, -10.0]),
    "points": PointGrid(RNG.uniform(0, 360, 4000), RNG.uniform(-90, 90, 4000)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_what_arrives_is_what_was_sent(name: str) -> None:
    grid = GRIDS[name]
    arrived = elsewhere(pack(grid))
    assert arrived == grid
    assert type(arrived) is type(grid)
    np.testing.assert_array_equal(arrived.areas, grid.areas)


@pytest.mark.parametrize("name", GRIDS)
def test_tasks_stay_small(name: str) -> None:
    assert len(cloudpickle.dumps(pack(GRIDS[name]))) < 20_000
    if name in ("era5", "healpix", "points", "region"):
        assert len(cloudpickle.dumps(pack(GRIDS[name]))) < 700


def test_a_process_makes_each_grid_once() -> None:
    packed = pack(GRIDS["points"])
    assert elsewhere(packed) is unpack(packed)


def test_without_a_cache_everything_travels() -> None:
    with set_options(cache_dir=""):
        packed = pack(GRIDS["points"])
    assert packed.folder is None
    assert elsewhere(packed) == GRIDS["points"]


def test_an_entry_that_was_cleared_is_written_again(cache_folder: Path) -> None:
    import shutil

    pack(GRIDS["points"])
    shutil.rmtree(cache_folder)
    assert elsewhere(pack(GRIDS["points"])) == GRIDS["points"]


def test_a_cache_out_of_reach_is_named(cache_folder: Path, tmp_path: Path) -> None:
    packed = pack(GRIDS["points"])
    with set_options(cache_dir=str(tmp_path / "other")):
        # the sender's folder can be read: all is well
        assert elsewhere(packed) == GRIDS["points"]
        cache_folder.rename(tmp_path / "gone")
        with pytest.raises(FileNotFoundError, match="one shared folder"):
            elsewhere(packed)


def test_another_definition_is_refused() -> None:
    packed = pack(GRIDS["era5"])._replace(fingerprint="0" * 64)
    with pytest.raises(ValueError, match="same version of xsphere"):
        elsewhere(packed)


@dataclass(frozen=True)
class Node(Travelling):
    grid: Grid
    number: int
    other: Grid | None = None


def test_nodes_travel_with_their_grids_packed() -> None:
    node = Node(GRIDS["era5"], 3)
    copy = pickle.loads(pickle.dumps(node))
    assert copy == node
    assert len(pickle.dumps(node)) < 700


def test_another_process_unpacks_it(tmp_path: Path, elsewhere: Callable[..., str]) -> None:
    file = tmp_path / "packed"
    file.write_bytes(pickle.dumps(pack(GRIDS["points"])))
    code = (
        "import pickle, sys; from xsphere.grids.travel import unpack;"
        "print(unpack(pickle.loads(open(sys.argv[1], 'rb').read())).fingerprint)"
    )
    assert elsewhere(code, file).strip() == GRIDS["points"].fingerprint
