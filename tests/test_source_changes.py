"""Sources that change while something is computed from them: nothing is declared complete."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import (
    IncompleteStoreError,
    OtherRunError,
    open_mask,
    verify_store,
    write_blocks,
)
from xsphere.model import Model
from xsphere.pyramids import write_pyramid
from xsphere.regridding import to_healpix
from xsphere.segmentation import segment
from xsphere.sources import SourceChangedError, contents_read, unchanged
from xsphere.store import write_whole


@pytest.fixture(scope="module")
def model() -> Model:
    return storm_model()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    ds = storm_dataset(n_times=4)
    chunks = {name: {"chunks": (1, *ds[name].shape[1:])} for name in ds.data_vars}
    ds.to_zarr(tmp_path / "x.zarr", encoding=chunks, consolidated=False)
    return tmp_path / "x.zarr"


def edit(source: Path) -> None:
    """Other values in the last step, in a file that is as large and as old as the one before."""
    array: Any = zarr.open_array(source / "PSL", mode="r+")
    array[3] = array[3] + 1


def opened(source: Path) -> xr.Dataset:
    return xr.open_zarr(source, consolidated=False)


WAYS: dict[str, Callable[[Path], Any]] = {
    "path": lambda source: source,
    "chunked": opened,
    "rechunked": lambda source: opened(source).chunk(time=2),
    "unchunked": lambda source: xr.open_zarr(source, chunks=None, consolidated=False),
    "computed": lambda source: opened(source).map(lambda a: a + 0, keep_attrs=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_masks_of_a_source_that_changed_are_not_complete(
    model: Model, source: Path, tmp_path: Path, way: str
) -> None:
    mask = segment(WAYS[way](source), model)
    out, done = tmp_path / "m.zarr", []

    def change(progress: Any) -> None:
        if not done:
            edit(source)
        done.append(progress)

    for error in (SourceChangedError, OtherRunError):
        # a second call does not make it right
        with pytest.raises(error, match=r"(?s)x\.zarr/PSL.*overwrite=True.*repaired_source"):
            write_blocks(mask, out, workers=1, progress=change)
        with pytest.raises(IncompleteStoreError):
            open_mask(out)
    again = segment(WAYS[way](source), model)
    with pytest.raises(OtherRunError, match="source"):
        write_blocks(again, out)
    assert write_blocks(again, out, repaired_source=True).written == 0
    write_blocks(again, out, overwrite=True)
    assert verify_store(out).ok
    np.testing.assert_array_equal(open_mask(out), again.compute())


def test_what_the_user_loads_is_no_change(model: Model, source: Path, tmp_path: Path) -> None:
    ds = xr.open_zarr(source, chunks=None, consolidated=False)
    mask = segment(ds, model)
    ds.load()
    edited = mask.isel(time=slice(0, 2))
    assert write_blocks(edited, tmp_path / "m.zarr").written


def test_what_is_read_of_a_result_is_what_its_part_reads(model: Model, source: Path) -> None:
    opened = xsphere.open(source)
    whole, part = segment(opened, model, block_size=3), opened.isel(time=slice(0, 2))
    assert sorted(contents_read(whole)) == [str(source / name) for name in sorted(opened)]
    assert contents_read(whole) == contents_read(segment(opened, model, block_size=1))
    assert contents_read(whole.isel(time=slice(0, 2))) == contents_read(segment(part, model))
    before, both = contents_read(part), contents_read(whole)
    edit(source)
    assert contents_read(part) == before
    assert contents_read(whole) != both
    # a part of a store that has grown is what it was
    later = storm_dataset(n_times=4)
    later = later.assign_coords(time=later.time + np.timedelta64(1, "D"))
    later.drop_vars(["lat", "lon"]).to_zarr(source, append_dim="time", consolidated=False)
    grown = segment(xsphere.open(source), model, block_size=3)
    assert grown.sizes["time"] == 8
    assert contents_read(grown.isel(time=slice(0, 2))) == before


def test_what_tasks_do_is_told(model: Model, source: Path, tmp_path: Path) -> None:
    write_blocks(segment(opened(source), model), tmp_path / "m.zarr")
    assert write_blocks(segment(opened(source), model), tmp_path / "m.zarr").written == 0
    changed = opened(source).map(lambda a: a + 1, keep_attrs=True)
    with pytest.raises(OtherRunError, match="source"):
        write_blocks(segment(changed, model), tmp_path / "m.zarr")


def test_fields_of_a_source_that_changed_are_not_complete(source: Path, tmp_path: Path) -> None:
    fields = to_healpix(opened(source)[["PSL"]], 2)
    write_blocks(fields, tmp_path / "f.zarr")
    with pytest.raises(SourceChangedError, match=r"x\.zarr/PSL"):
        write_blocks(fields, tmp_path / "g.zarr", workers=1, progress=lambda _: edit(source))
    with pytest.raises(OtherRunError, match="source"):
        write_blocks(fields, tmp_path / "f.zarr")


@pytest.mark.parametrize("name", ["f.zarr", "f.nc", "pyramid"])
def test_what_is_written_whole_is_left_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ds = opened(source)[["PSL"]]

    def changing(block: Any) -> Any:
        edit(source)
        return block

    changed = ds.map(lambda a: a.copy(data=a.data.map_blocks(changing, dtype=a.dtype)))
    write = partial(write_pyramid, levels=[2, 1]) if name == "pyramid" else write_whole
    with pytest.raises(SourceChangedError, match=r"x\.zarr/PSL.*not kept"):
        write(changed, tmp_path / name.replace("pyramid", "p.zarr"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr"]


def test_unchanged_sources_are_no_matter(source: Path) -> None:
    with unchanged(opened(source), xr.Dataset({"t": ("x", [1.0])})):
        opened(source).load()
    with pytest.raises(SourceChangedError), unchanged(opened(source)):
        edit(source)


def test_masks_of_files_joined_in_time_are_read_like_any_other(tmp_path: Path) -> None:
    """The tasks of arrays that dask has joined are plain tuples."""
    ds, model = storm_dataset(n_times=4), storm_model()
    parts = []
    for step in range(4):
        ds.isel(time=[step]).to_netcdf(tmp_path / f"{step}.nc")
        parts.append(xr.open_dataset(tmp_path / f"{step}.nc").sphere.segment(model))
    joined = xr.concat(parts, "time")
    whole = ds.sphere.segment(model).load()
    found = xsphere.evaluate(joined, whole)
    assert set(found.scores.iou.dropna("group").values) == {1.0}
