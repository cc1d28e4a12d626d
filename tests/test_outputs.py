"""No output replaces what is read, or what is not ours; no URL becomes a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import StoreError, open_mask, write_blocks
from xsphere.plotting.curves import write_curves
from xsphere.store import open_lazily, write_whole

URL = "s3://bucket/x"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, in_shell: Callable[..., CompletedProcess[str]], tmp_path: Path
):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        done = in_shell(*arguments)
        return done.returncode, done.stderr

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return storm_model().save(tmp_path / "model.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a mask of it, made once and copied into the folder of each test."""
    folder, ds = tmp_path_factory.mktemp("made"), storm_dataset(2).chunk(time=1)
    ds.to_zarr(folder / "data.zarr", consolidated=False)
    write_blocks(xsphere.segment(ds, storm_model()), folder / "mask.zarr", workers=1)
    return folder


@pytest.fixture
def data(tmp_path: Path, made: Path) -> Path:
    path = shutil.copytree(made / "data.zarr", tmp_path / "in" / "data.zarr")
    (tmp_path / "in" / "notes.txt").write_text("precious")
    return path


@pytest.fixture
def mask(tmp_path: Path, made: Path) -> Path:
    return shutil.copytree(made / "mask.zarr", tmp_path / "in" / "mask.zarr")


def content(folder: Path) -> dict[str, Any]:
    links = {str(p): p.readlink() for p in folder.rglob("*") if p.is_symlink()}
    return links | {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- URLs


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "DATA", f"{URL}.nc", "--model", "MODEL"),
        ("regrid", "DATA", f"{URL}.nc", "--level", 1),
        ("pyramid", "DATA", f"{URL}.nc", "--level", 1),
        ("events", "MASK", f"{URL}.csv"),
        ("plot", "DATA", "--out", f"{URL}.png"),
        ("equivariance", "--level", 1, "--plot", f"{URL}.png"),
        ("demo", "DATA", "--model", "MODEL", "--out", URL),
    ],
)
def test_files_are_written_on_this_machine_alone(
    run, tmp_path, data, mask, model, arguments
) -> None:
    before = content(tmp_path)
    places = {"DATA": data, "MASK": mask, "MODEL": model}
    code, errors = run(*(places.get(a, a) for a in arguments))
    assert code == 1
    assert "must be on this machine, got the URL 's3://bucket/x" in errors
    assert content(tmp_path) == before
    assert not (tmp_path / "s3:").exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda ds, mask, to: xsphere.events_to_csv(mask.sphere.events(), to("x.csv")),
        lambda ds, mask, to: write_whole(ds, to("x.nc")),
        lambda ds, mask, to: write_curves({}, to("x.png")),
        lambda ds, mask, to: storm_model().save(to("x.safetensors")),
        lambda ds, mask, to: xsphere.Model.load(to("x.safetensors")),
        lambda ds, mask, to: xsphere.segment(ds, to("x.safetensors")),
        lambda ds, mask, to: ds.sphere.fit(mask, level=1, checkpoint=to("x.safetensors")),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_no_path_to_write(tmp_path, monkeypatch, data, mask, write, kind) -> None:
    monkeypatch.chdir(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ValueError, match="got the URL 's3://bucket/x"):
        write(open_lazily(data), open_mask(mask), lambda name: kind(f"s3://bucket/{name}"))
    assert content(tmp_path) == before


def test_a_place_is_refused_before_any_work(tmp_path, monkeypatch, data) -> None:
    """Fields in memory are regridded at once: not where nothing can be written."""
    monkeypatch.setattr("xsphere.regridding.onto_grids.regridded", None)
    monkeypatch.setattr("xsphere.blocks.writing.Target", None)
    loaded = storm_dataset(1)
    for name in ("s4://bucket/x.zarr", "https://host/x.zarr", "x.nc", ""):
        with pytest.raises(ValueError, match=r"must|the output is the URL"):
            loaded.sphere.to_pyramid(name, levels=[1])
        with pytest.raises(ValueError, match=r"must|the output is the URL"):
            loaded.sphere.to_zarr(name)


def test_tilde_is_home_everywhere(run, tmp_path, monkeypatch, data, model) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    (home / "in").mkdir(parents=True)
    data.rename(home / "in" / "data.zarr")
    ds = xsphere.open("~/in/data.zarr")
    result = xsphere.segment("~/in/data.zarr", model)
    write_blocks(result, "~/mask.zarr", workers=1)
    assert open_mask("~/mask.zarr").sizes["time"] == 2
    assert write_whole(ds, "~/x.nc") == home / "x.nc"
    xsphere.events_to_csv(open_mask("~/mask.zarr").sphere.events(), "~/events.csv")
    assert run("plot", "~/x.nc", "--out", "~/map.png")[0] == 0
    assert {p.name for p in home.iterdir()} == {"in", "mask.zarr", "x.nc", "events.csv", "map.png"}
    assert not (tmp_path / "~").exists()


def test_file_urls_are_paths(tmp_path, data) -> None:
    write_whole(open_lazily(f"file://{data}"), f"file://{tmp_path}/x.zarr")
    xr.testing.assert_identical(
        xsphere.open(tmp_path / "x.zarr").load().drop_attrs(), storm_dataset(2).drop_attrs()
    )


# --- what is read, and what is not ours


@pytest.mark.parametrize("command", ["segment", "regrid", "pyramid"])
@pytest.mark.parametrize("where", ["same", "above", "within", "link", "link to above", "dotted"])
def test_what_is_read_is_never_replaced(run, tmp_path, data, model, command, where) -> None:
    folder = tmp_path / "in.zarr"
    data.parent.rename(folder)
    data, link = folder / "data.zarr", tmp_path / "link.zarr"
    link.symlink_to(folder if where == "link to above" else data)
    out = {
        "same": data,
        "above": folder,
        "within": data / "PSL" / "x.zarr",
        "dotted": f"{folder}/../in.zarr/data.zarr/",
    }.get(where, link)
    options = {"segment": ("--model", model)}.get(command, ("--level", 1))
    before = content(tmp_path)
    code, errors = run(command, data, out, *options, "--overwrite")
    assert code == 1
    assert "what is read" in errors
    assert content(tmp_path) == before


@pytest.mark.parametrize("command", ["events", "plot", "demo"])
def test_tables_and_pictures_are_no_other_way_in(run, tmp_path, mask, model, command) -> None:
    before = content(tmp_path)
    match command:
        case "events":
            link = tmp_path / "x.csv"
            link.symlink_to(mask)
            calls = [("events", mask, mask), ("events", mask, link), ("events", mask, "x.nc")]
        case "plot":
            link = tmp_path / "x.png"
            link.symlink_to(mask)
            calls = [("plot", mask, "--out", link), ("plot", mask, "--out", mask / "x.png")]
        case _:
            link = tmp_path / "none"
            calls = [("demo", mask, "--model", model, "--out", mask.parent)]
    for call in calls:
        code, errors = run(*call)
        assert code == 1
        assert "what is read" in errors or "must end in '.csv'" in errors
    link.unlink(missing_ok=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask,
        lambda mask: (mask == 1).astype("f4").rename("storm"),
        lambda mask: mask.isel(time=slice(1)).chunk(cells=-1),
    ],
)
@pytest.mark.parametrize("kind", ["zarr", "nc", "pyramid", "link"])
def test_a_result_does_not_replace_what_it_is_computed_from(tmp_path, mask, change, kind) -> None:
    """The API knows by the graph what will be read, whatever was done to it."""
    target = mask
    if kind == "nc":
        target = write_whole(open_mask(mask), mask.with_suffix(".nc"))
        result = change(open_lazily(target)["mask"])
    else:
        result = change(open_mask(mask))
    if kind == "link":
        target = tmp_path / "link.zarr"
        target.symlink_to(mask)
    before = content(tmp_path)
    write: Any = {"nc": write_whole, "pyramid": xsphere.write_pyramid}.get(kind, write_blocks)
    with pytest.raises(ValueError, match="what is read"):
        write(result, target, overwrite=True)
    assert content(tmp_path) == before


def test_what_is_loaded_may_replace_its_source(mask) -> None:
    loaded = open_mask(mask).load()
    write_blocks(loaded + np.uint8(0), mask, overwrite=True, workers=1)
    np.testing.assert_array_equal(open_mask(mask), loaded)


@pytest.mark.parametrize("source", ["path", "unread", "chunked"])
def test_a_segmentation_does_not_replace_its_source(tmp_path, source) -> None:
    """Also where tasks hold what they read in objects of their own."""
    data = write_whole(storm_dataset(2).chunk(time=1), tmp_path / "data.zarr")
    ds: Any = {"path": data, "unread": xsphere.open(data)}.get(source, open_lazily(data))
    result = xsphere.segment(ds, storm_model())
    before = content(tmp_path)
    with pytest.raises(ValueError, match="what is read"):
        write_blocks(result, data, overwrite=True)
    assert content(tmp_path) == before


WRITERS = {
    "blocks": lambda ds, out: write_blocks(ds, out, overwrite=True, workers=1),
    "whole": lambda ds, out: write_whole(ds, out, overwrite=True),
    "pyramid": lambda ds, out: ds.sphere.to_pyramid(out, levels=[0], overwrite=True),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("theirs", ["folder", "zarr", "zarr2"])
def test_a_folder_that_is_not_ours_is_not_replaced(tmp_path, writer, theirs) -> None:
    out = tmp_path / "x.zarr"
    if theirs == "folder":
        out.mkdir()
        (out / "notes.txt").write_text("precious")
    else:
        format_ = 2 if theirs == "zarr2" else 3
        storm_dataset().to_zarr(out, zarr_format=format_, consolidated=False)
    before = content(out)
    with pytest.raises(ValueError, match="is not a store that xsphere wrote, so it is not"):
        WRITERS[writer](storm_dataset().sphere.to_healpix(0), out)
    assert content(out) == before


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("ours", [*WRITERS, "empty", "file", "link", "dangling"])
def test_what_is_ours_is_replaced(tmp_path, writer, ours) -> None:
    out, ds = tmp_path / "x.zarr", storm_dataset().sphere.to_healpix(0)
    match ours:
        case "empty":
            out.mkdir()
        case "file":
            out.write_text("old")
        case "link" | "dangling":
            out.symlink_to(tmp_path / ours)
            if ours == "link":
                write_whole(ds, tmp_path / "link.zarr").rename(tmp_path / "link")
        case _:
            WRITERS[ours](ds, out)
    WRITERS[writer](ds, out)
    group = "0" if writer == "pyramid" else None
    assert xr.open_zarr(out, group=group)["PSL"].sizes["cells"] == 12
    # of a link the link alone
    assert not out.is_symlink()
    assert (tmp_path / "link").exists() == (ours == "link")
    assert not (tmp_path / "dangling").exists()


@pytest.mark.parametrize("name", ["x.zarr", "x.nc"])
def test_a_link_that_leads_nowhere_is_something(tmp_path, name) -> None:
    """Neither followed nor replaced unasked."""
    out = tmp_path / name
    out.symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError, match="is there already"):
        write_whole(storm_dataset(), out)
    if name == "x.zarr":
        with pytest.raises(FileExistsError, match="is there already"):
            write_blocks(storm_dataset(), out)
    assert out.is_symlink()
    assert not (tmp_path / "gone").exists()


def test_a_table_is_written_whole(tmp_path) -> None:
    table = xsphere.segment(storm_dataset(1), storm_model()).sphere.events()
    for name in ("e.csv", "e.csv.gz"):
        out = tmp_path / name
        out.symlink_to(tmp_path / "gone")
        with pytest.raises(FileExistsError, match="is there already; choose another name or over"):
            xsphere.events_to_csv(table, out)
        assert out.is_symlink()
        xsphere.events_to_csv(table, out, overwrite=True)
        assert not out.is_symlink()
    assert (tmp_path / "e.csv.gz").read_bytes()[:2] == b"\x1f\x8b"
    with pytest.raises(IsADirectoryError, match="is a folder"):
        xsphere.events_to_csv(table, tmp_path, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {"e.csv", "e.csv.gz"}


def test_a_full_disk_is_called_so(tmp_path, monkeypatch) -> None:
    """HDF5 has other words, of which "Permission denied" are some."""
    import errno

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(Path, "open", full)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", refused)
    with pytest.raises(OSError, match=r"x\.nc cannot be written \(No space left on device\)"):
        write_whole(storm_dataset(), tmp_path / "x.nc")


def test_a_damaged_store_can_be_replaced(mask) -> None:
    (mask / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="metadata are damaged"):
        open_mask(mask)
    write_blocks(storm_dataset(), mask, overwrite=True)
