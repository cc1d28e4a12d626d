"""Tracking that was stopped goes on where it was, and gives what one run gives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.test_tracks import series, weather
from tests.tiers import examples
from xsphere.regions.steps import RegionFinder


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    steps = [[(1, 20 + 6 * n, 10, 10), (2, 200 - 3 * n, 40, 12)] for n in range(8)]
    xsphere.write_blocks(series(steps).chunk(time=2), tmp_path / "mask.zarr", workers=1)
    return tmp_path / "mask.zarr"


class Searched(list[int]):
    """First steps of the blocks that are searched; more than `limit` stop the run."""

    limit = 10**6


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Searched:
    done, call = Searched(), RegionFinder.__call__

    def counting(self, block, first):
        if len(done) >= done.limit:
            raise KeyboardInterrupt
        done.append(first[0])
        return call(self, block, first)

    monkeypatch.setattr(RegionFinder, "__call__", counting)
    return done


def opened(path: Path) -> xr.DataArray:
    return xsphere.open_mask(path).chunk(time=2)


def test_blocks_that_were_searched_are_not_searched_again(stored, tmp_path, searched):
    parts = tmp_path / "parts"
    expected = xsphere.track(opened(stored))
    searched.clear()
    searched.limit = 2
    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):
        xsphere.track(opened(stored), parts=parts)
    assert len(searched) == 2
    first = set(searched)
    searched.limit = 10**6
    searched.clear()
    xr.testing.assert_identical(xsphere.track(opened(stored), parts=parts), expected)
    assert first | set(searched) == {0, 2, 4, 6}
    assert len(searched) == 2
    searched.clear()
    # how regions are linked is asked afterwards
    linked = xsphere.track(opened(stored), parts=parts, min_overlap=0.9, max_speed=200)
    xr.testing.assert_identical(
        linked, xsphere.track(opened(stored), min_overlap=0.9, max_speed=200)
    )
    assert sorted(searched) == [0, 2, 4, 6]


def test_a_damaged_part_is_found_again(stored, tmp_path, searched):
    parts = tmp_path / "parts"
    expected = xsphere.track(opened(stored), parts=parts)
    for number, damage in enumerate((b"", b"PK\x03\x04 no archive", None)):
        file = sorted(parts.glob("*.npz"))[number]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 64
        file.write_bytes(content if damage is None else damage)
    searched.clear()
    xr.testing.assert_identical(xsphere.track(opened(stored), parts=parts), expected)
    assert len(searched) == 3


def test_parts_of_something_else_are_refused(stored, tmp_path):
    parts = tmp_path / "parts"
    xsphere.track(opened(stored), parts=parts)
    others = {
        "options": lambda: xsphere.track(opened(stored), parts=parts, min_area=1e6),
        "shape": lambda: xsphere.track(opened(stored), parts=parts, shape=True),
        "mask": lambda: xsphere.track(opened(stored).isel(time=slice(2, 8)), parts=parts),
    }
    for call in others.values():
        with pytest.raises(ValueError, match="keeps what was found in another mask"):
            call()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(ValueError, match="is there, but keeps no regions"):
        xsphere.track(opened(stored), parts=tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"
    chunk = stored / "mask" / "c" / "0" / "0"
    os.utime(chunk, ns=(1, 1))
    with pytest.raises(ValueError, match="keeps what was found in another mask"):
        xsphere.track(opened(stored), parts=parts)


def test_workers_of_other_folders_keep_parts_where_the_user_is(stored, tmp_path, monkeypatch):
    elsewhere, call = tmp_path / "elsewhere", RegionFinder.__call__
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)

    def moved(self, block, first):
        os.chdir(elsewhere)
        return call(self, block, first)

    monkeypatch.setattr(RegionFinder, "__call__", moved)
    with dask.config.set(scheduler="sync"):
        xsphere.track(opened(stored), parts="parts")
    assert len(list((tmp_path / "parts").glob("*.npz"))) == 4
    assert not list(elsewhere.iterdir())


def test_memory_is_kept_by_its_values(tmp_path):
    mask, fields = weather()
    expected = xsphere.track(mask, fields)
    for _ in range(2):
        xr.testing.assert_identical(xsphere.track(mask, fields, parts=tmp_path / "parts"), expected)
    with pytest.raises(ValueError, match="another mask"):
        xsphere.track(mask.isel(time=slice(None, None, 2)), parts=tmp_path / "parts")


@given(steps=st.integers(1, 7), members=st.integers(1, 2), lost=st.sets(st.integers(0, 13)))
@examples(20, deadline=None)
def test_any_chunks_and_any_parts_give_the_same(tmp_path_factory, steps, members, lost):
    mask, fields = weather()
    expected = xsphere.track(mask, fields, shape=True)
    folder = tmp_path_factory.mktemp("parts")
    chunked = mask.chunk(time=steps, member=members)
    with dask.config.set(scheduler="threads"):
        xsphere.track(chunked, fields, shape=True, parts=folder)
        for number, file in enumerate(sorted(folder.glob("*.npz"))):
            if number in lost:
                file.unlink()
        found = xsphere.track(chunked, fields, shape=True, parts=folder)
    xr.testing.assert_identical(found, expected)


KILLED = """
import os, sys, time
import dask, xsphere
from xsphere.regions.steps import RegionFinder
call = RegionFinder.__call__
def slowly(self, block, first):
    found = call(self, block, first)
    print(first[0], flush=True)
    time.sleep(0.3)
    return found
RegionFinder.__call__ = slowly
with dask.config.set(scheduler="sync"):
    xsphere.track(xsphere.open_mask(sys.argv[1]).chunk(time=2), parts=sys.argv[2])
"""


@pytest.mark.slow
def test_killed_and_resumed(stored, tmp_path, searched):
    parts = tmp_path / "parts"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(stored), str(parts)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    searched.clear()
    found = xsphere.track(opened(stored), parts=parts)
    # the third may have been written or not
    assert 1 <= len(searched) <= 2
    xr.testing.assert_identical(found, xsphere.track(opened(stored)))


def test_the_command_keeps_parts_until_it_is_done(stored, tmp_path, in_shell):
    out = tmp_path / "tracks.csv"
    done = in_shell("track", stored, out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.zarr", "tracks.csv"]
    assert np.isfinite(xsphere.read_tracks(out).area).all()
