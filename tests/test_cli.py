"""The command, as a user types it: exit codes, one-line errors, files that can be read."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pandas as pd
import pytest
import xarray as xr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.cli.options import RegridOptions, SegmentOptions
from xsphere.store import write_whole
from xsphere.weights import regridding_weights


@pytest.fixture
def run(in_shell: Callable[..., CompletedProcess[str]]):
    def call(*arguments: object) -> tuple[int, str, str]:
        done = in_shell(*arguments)
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.nc"
    storm_dataset().to_netcdf(path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return storm_model().save(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("function", "options"), [(xsphere.segment, SegmentOptions), (xsphere.regrid, RegridOptions)]
)
def test_the_command_has_the_options_of_the_function(function: Any, options: type) -> None:
    parameters = inspect.signature(function).parameters
    only_here = {"model"} if function is xsphere.segment else set()
    for field in fields(options):
        assert field.name in only_here or field.default == parameters[field.name].default
    left_out = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert left_out - {field.name for field in fields(options)} <= {"vectors"}


def test_demo_does_the_whole_job(run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    code, text, errors = run("demo", "--out", out)
    assert code == 0, errors
    assert "segmenting: 100%" in errors
    mask = xr.open_zarr(out / "mask.zarr")["mask"]
    assert mask.sizes == {"time": 2, "cells": xsphere.Model.load("tc-ar").grid.n_cells}
    assert set(mask.values.ravel()) == {0, 1, 2}
    table = pd.read_csv(out / "events.csv")
    assert set(table["class"]) == {"tropical_cyclone", "atmospheric_river"}
    assert table["area_km2"].min() >= 1e5
    assert (out / "map.png").stat().st_size > 50_000
    assert "2011-10-11 00:00" in text
    assert "tropical_cyclone" in text


def test_demo_takes_other_data(run, tmp_path: Path, data: Path, model: Path) -> None:
    out = tmp_path / "o"
    write_whole(xsphere.segment(storm_dataset(), storm_model()), out / "mask.zarr")
    for _ in ("replaces what is there", "and what it wrote"):
        code, text, errors = run("demo", data, "--out", out, "--model", model)
        assert code == 0, errors
        mask = xsphere.open_mask(out / "mask.zarr")
        assert mask.equals(xsphere.segment(storm_dataset(), storm_model()))
    assert str(data) in text
    assert (out / "map.png").exists()


def test_demo_on_a_single_map(run, tmp_path: Path, model: Path) -> None:
    path = tmp_path / "one.zarr"
    storm_dataset().isel(time=0).to_zarr(path, consolidated=False)
    code, _, errors = run("demo", path, "--out", tmp_path / "o", "--model", model)
    assert code == 0, errors


def test_demo_of_nothing_finite_fails(run, tmp_path: Path, model: Path) -> None:
    ds = storm_dataset()
    ds["PSL"] = ds["PSL"] * float("nan")
    ds["PSL"].attrs = storm_dataset()["PSL"].attrs
    ds.to_netcdf(tmp_path / "nan.nc")
    code, _, errors = run("demo", tmp_path / "nan.nc", "--out", tmp_path / "o", "--model", model)
    assert code == 1
    assert "every cell of the mask is invalid input" in errors
    code, _, errors = run("segment", tmp_path / "nan.nc", tmp_path / "m.zarr", "--model", model)
    assert code == 1
    assert "every cell of the mask is invalid input" in errors


def test_segment_events_and_plot(run, tmp_path: Path, data: Path, model: Path) -> None:
    mask = tmp_path / "mask.zarr"
    code, text, errors = run("segment", data, mask, "--model", model)
    assert code == 0, errors
    assert text.startswith(f"{mask}: complete, ")
    assert "\nbackground " in text
    expected = xsphere.segment(storm_dataset(), storm_model())
    assert xr.open_zarr(mask)["mask"].equals(expected)
    code, text, errors = run(
        "events", mask, tmp_path / "e.csv", "--min-area", 1e6, "--shape", "--land"
    )
    assert code == 0, errors
    table = pd.read_csv(tmp_path / "e.csv")
    assert len(table) > 0
    assert {"perimeter", "land_share"} <= set(table)
    assert "million km2" in text
    picture = tmp_path / "m.png"
    code, _, errors = run("plot", mask, "--out", picture, "--time", "2001-01-01T07")
    assert code == 0, errors
    assert picture.stat().st_size > 10_000


def test_regrid(run, tmp_path: Path, data: Path) -> None:
    out = tmp_path / "hp.nc"
    code, _, errors = run("regrid", data, out, "--level", 3)
    assert code == 0, errors
    with xr.open_dataset(out) as ds:
        assert ds["PSL"].sizes == {"time": 3, "cells": 768}
        assert ds.sphere.grid.grid == xsphere.HealpixGrid(3)


def test_doctor(run) -> None:
    code, text, errors = run("doctor")
    assert code == 0, errors
    assert "tc-ar" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "nowhere.nc", "o.zarr"), "there is no file or folder 'nowhere.nc'"),
        (("segment", "DATA", "o.zarr", "--model", "none"), "neither a file nor one of the bundled"),
        (("segment", "DATA", "o.zarr"), "TMQ: missing"),
        (("segment", "DATA", "o.txt", "--model", "MODEL"), "must end in '.zarr' or '.nc'"),
        (("segment", "DATA", "DATA", "--model", "MODEL"), "is there already"),
        (("segment", "MODEL", "o.zarr"), "cannot be read as a dataset"),
        (("regrid", "DATA", "o.zarr", "--level", "77"), "level must be"),
        (("regrid", "DATA", "o.zarr"), "level"),
        (("events", "DATA", "o.csv"), "one variable with flag_meanings"),
        (("plot", "DATA", "--variable", "fog"), "there is no variable 'fog'"),
        (("plot", "DATA", "--out", "m.xyz"), "the picture must end in one of"),
        (("equivariance", "--plot", "m.xyz"), "the picture must end in one of"),
        (("equivariance", "--degrees", "5-"), "numbers and ranges such as"),
        (("equivariance", "--level", "2", "--degrees", "12"), "degrees must be from 0 to 11"),
        (("equivariance", "--weights", "fog"), "weights must be one of"),
    ],
)
def test_errors_are_one_line(
    run, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch, arguments, message: str
) -> None:
    monkeypatch.chdir(data.parent)
    before = set(data.parent.iterdir())
    names = {"DATA": data, "MODEL": model}
    code, text, errors = run(*(names.get(argument, argument) for argument in arguments))
    assert code == 1
    assert not text
    assert errors.startswith("xsphere: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert set(data.parent.iterdir()) == before


def test_usage_errors_have_their_own_code(run) -> None:
    code, _, errors = run("segment")
    assert code == 2
    assert "Missing argument" in errors


@pytest.mark.parametrize(
    "command", ["", "demo", "regrid", "segment", "events", "plot", "equivariance", "doctor"]
)
def test_every_command_explains_itself(run, command: str) -> None:
    code, text, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Usage" in text


def test_debug_shows_where(run) -> None:
    with pytest.raises(FileNotFoundError):
        run("--debug", "segment", "nowhere.nc", "o.zarr")


def test_installed_command() -> None:
    script = Path(sys.executable).parent / "xsphere"
    done = subprocess.run([script, "--help"], check=True, capture_output=True, text=True)
    assert "demo" in done.stdout


def test_equivariance_is_printed_and_drawn(run, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    options = ("--level", 2, "--weights", "gaussian", "--weights", "perraudin2019", "--k", 20)
    code, text, errors = run("equivariance", *options, "--degrees", "2,5-6", "--plot", picture)
    assert code == 0, errors
    lines = text.splitlines()
    assert "not squared" in lines[0]
    assert lines[1].split("  ")[1:] == ["gaussian k=20", "perraudin2019 k=8", "floor"]
    assert [line.split()[0] for line in lines[2:-1]] == ["2", "5", "6", "mean"]
    assert lines[-1] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    rotated = ("--method", "rotations", "--degrees", "5", "--k", 8, "--weights", "gaussian")
    seeds = [run("equivariance", "--level", 2, *rotated, "--seed", seed)[1] for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_cache_is_listed_verified_and_cleared(run, cache_folder: Path) -> None:
    grid = xsphere.HealpixGrid(2)
    regridding_weights(xsphere.LatLonGrid([0, 90, 180, 270], [45, -45]), grid, method="bilinear")
    code, text, _ = run("cache", "ls")
    assert code == 0
    assert str(cache_folder) in text
    assert "LatLonGrid(2 x 4" in text
    assert text.splitlines()[-1].startswith("1 entries")
    assert run("cache", "verify")[0] == 0
    (file,) = cache_folder.rglob("data.npy")
    file.write_bytes(file.read_bytes()[:-1])
    code, _, errors = run("cache", "verify")
    assert code == 1
    assert str(file.parent) in errors
    code, _, errors = run("cache", "clear", "graphs")
    assert code == 1
    assert "it has ['weights']" in errors
    assert run("cache", "clear", "weights")[1].startswith("1 entries removed")
    assert not file.exists()


def test_regridding_goes_both_ways_and_to_many_levels(run, tmp_path: Path, data: Path) -> None:
    code, text, errors = run(
        "regrid", data, tmp_path / "hp.zarr", "--level", 3, "--method", "conservative2"
    )
    assert code == 0, errors
    assert text.strip() == str(tmp_path / "hp.zarr")
    code, _, errors = run("regrid", tmp_path / "hp.zarr", tmp_path / "back.nc", "--resolution", 30)
    assert code == 0, errors
    with xr.open_dataset(tmp_path / "back.nc") as back:
        assert back.sizes == {"time": 3, "lat": 6, "lon": 12}
    code, _, errors = run("regrid", data, tmp_path / "x.nc", "--level", 3, "--resolution", 30)
    assert code == 1
    assert "got both" in errors
    code, _, errors = run(
        "pyramid", tmp_path / "hp.zarr", tmp_path / "p.zarr", "--level", 2, "--level", 0
    )
    assert code == 0, errors
    assert sorted(xr.open_datatree(tmp_path / "p.zarr").children) == ["0", "2"]
