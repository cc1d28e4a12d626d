"""Commands of tracks: what the functions give, and errors in one line."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.test_tracks import series


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    steps = [[(1, 20 + 6 * n, 10, 10), (2, 200, 40, 12)] for n in range(4)]
    xsphere.write_blocks(series(steps), tmp_path / "mask.zarr")
    return tmp_path / "mask.zarr"


def test_tracks_are_written_and_scored(mask, tmp_path, in_shell):
    out = tmp_path / "tracks.csv"
    done = in_shell("track", mask, out, "--class", "storm", "--min-duration", "6h", "--shape")
    assert done.returncode == 0, done.stderr
    assert "1 tracks of 4 regions" in done.stdout
    tracks = xsphere.read_tracks(out)
    expected = xsphere.track(xsphere.open_mask(mask), classes="storm", shape=True)
    np.testing.assert_allclose(tracks.length, expected.length, rtol=1e-5)
    before = out.read_bytes()
    assert "is there already" in in_shell("track", mask, out).stderr
    assert out.read_bytes() == before
    done = in_shell("score", out, "--reference", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:4] == ["all", "1", "0", "0"]
    (tmp_path / "tracks.nc").write_text("old")
    assert in_shell("track", mask, tmp_path / "tracks.nc", "--overwrite").returncode == 0
    done = in_shell("score", out, "--reference", tmp_path / "tracks.nc", "--by", "basin")
    assert done.stdout.splitlines()[1].split()[:4] == ["all", "1", "1", "0"]


def test_rules_write_masks(tmp_path, in_shell):
    xsphere.sample_dataset().to_netcdf(tmp_path / "in.nc")
    out = tmp_path / "rivers.zarr"
    command = ["detect", tmp_path / "in.nc", out, "--event", "atmospheric_river"]
    done = in_shell(*command, "--rule", "ralph", "--set", "min_length=1500")
    assert done.returncode == 0, done.stderr
    expected = xsphere.detect(
        xsphere.sample_dataset(), "atmospheric_river", "ralph", min_length=1500.0
    )
    with xr.open_zarr(out) as written:
        np.testing.assert_array_equal(written["mask"], expected)
    assert "is there already" in in_shell(*command, "--rule", "ralph").stderr


def test_outlines_are_written(mask, tmp_path, in_shell):
    done = in_shell("events", mask, tmp_path / "o.geojson")
    assert done.returncode == 0, done.stderr
    expected = xsphere.write_outlines(xsphere.open_mask(mask), tmp_path / "e.geojson")
    assert (tmp_path / "o.geojson").read_bytes() == expected.read_bytes()
    assert "leave them out" in in_shell("events", mask, tmp_path / "p.geojson", "--shape").stderr
    for name in ("o.geojson", "o.csv"):
        (tmp_path / name).write_text("old")
        assert "is there already" in in_shell("events", mask, tmp_path / name).stderr
        assert (tmp_path / name).read_text() == "old"
        assert in_shell("events", mask, tmp_path / name, "--overwrite").returncode == 0
        assert (tmp_path / name).read_text() != "old"


def test_frequencies_are_written(mask, tmp_path, in_shell):
    done = in_shell("frequency", mask, tmp_path / "f.nc", "--by", "season", "--class", "storm")
    assert done.returncode == 0, done.stderr
    expected = xsphere.frequency(xsphere.open_mask(mask), "season", classes="storm")
    with xr.open_dataset(tmp_path / "f.nc") as written:
        assert written.sizes["season"] == 1
        np.testing.assert_array_equal(written.frequency, expected.frequency)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["track", "mask.zarr", "out.xlsx"], "must end in one of"),
        (["detect", "in.nc", "out.zarr", "--event", "storm"], "there is no file"),
        (["score", "none.csv", "--reference", "none.csv"], "there is no file"),
    ],
)
def test_errors_are_one_line(arguments, words, in_shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = in_shell(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_settings_are_numbers(in_shell, tmp_path):
    xsphere.sample_dataset().to_netcdf(tmp_path / "in.nc")
    command = ["detect", tmp_path / "in.nc", tmp_path / "o.zarr", "--event", "atmospheric_river"]
    assert "NAME=NUMBER" in in_shell(*command, "--set", "min_length").stderr
    assert "has the settings" in in_shell(*command, "--rule", "ralph", "--set", "far=1").stderr
