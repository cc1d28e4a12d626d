"""Sources that are damaged, incomplete or changed: never taken for background, never mixed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tests.faults.runs import stored
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import (
    BlocksFailed,
    OtherRunError,
    open_mask,
    repair_store,
    verify_store,
    write_blocks,
)
from xsphere.segmentation import node as nodes
from xsphere.segmentation import segment
from xsphere.sources import CorruptChunkError, MissingChunkError


def chunk(path: Path, step: int, name: str = "U850") -> Path:
    return path / name / "c" / str(step) / "0" / "0"


def lazy(path: Path, **options: Any) -> Any:
    return segment(path, storm_model(), block_size=1, **options)


@pytest.mark.parametrize("harm", ["truncated", "empty", "flipped"])
def test_06_corrupt_chunk_fails_its_block_alone(tmp_path: Path, harm: str) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    ds = storm_dataset(4)
    codec = {"compressors": (zarr.codecs.ZstdCodec(checksum=True),)}
    ds.to_zarr(
        source,
        consolidated=False,
        encoding={name: {"chunks": (1, 19, 36)} | codec for name in ds.data_vars},
    )
    file = chunk(source, 2)
    content = bytearray(file.read_bytes())
    if harm == "truncated":
        del content[len(content) // 2 :]
    elif harm == "empty":
        content.clear()
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        BlocksFailed, match=r"1 of 4 blocks.*\n *block 2 .*CorruptChunkError.*'U850'"
    ) as caught:
        write_blocks(lazy(source), out)
    error = caught.value.failures[0].error
    assert isinstance(error, CorruptChunkError)
    assert (error.variable, error.key) == ("U850", "U850/c/2/0/0")
    assert "2001-01-01T12" in error.where
    assert verify_store(out).not_computed == (2,)
    there = [0, 1, 3]
    np.testing.assert_array_equal(
        open_mask(out, allow_incomplete=True)[there], segment(ds, storm_model())[there]
    )


def test_07_missing_source_chunk_fails_its_block_alone(tmp_path: Path) -> None:
    source, out, away = tmp_path / "x.zarr", tmp_path / "m.zarr", tmp_path / "away"
    expected = segment(stored(source, 4), storm_model())
    result = lazy(source)
    shutil.copy2(chunk(source, 1), away)
    chunk(source, 1).unlink()
    with pytest.raises(
        BlocksFailed, match=r"1 of 4 blocks.*\n *block 1 .*MissingChunkError"
    ) as caught:
        write_blocks(result, out)
    assert isinstance(caught.value.failures[0].error, MissingChunkError)
    assert (open_mask(out, allow_incomplete=True)[1] == 255).all()
    # the source is what it was when the writing began, or it was mended
    shutil.copy2(away, chunk(source, 1))
    with pytest.raises(OtherRunError, match="repaired_source=True"):
        write_blocks(lazy(source), out)
    assert write_blocks(lazy(source), out, repaired_source=True).written == 1
    np.testing.assert_array_equal(open_mask(out), expected)


def test_06_a_source_that_was_mended_is_gone_on_with_where_said_so(tmp_path: Path) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    expected = segment(stored(source, 4), storm_model())
    content = chunk(source, 1).read_bytes()
    chunk(source, 1).write_bytes(content[: len(content) // 2])
    with pytest.raises(BlocksFailed, match="where the source was repaired, repaired_source=True"):
        write_blocks(lazy(source), out)
    before = {file: file.read_bytes() for file in (out / "mask" / "c").glob("*/0")}
    # the same bytes, but of now
    chunk(source, 1).write_bytes(content)
    with pytest.raises(OtherRunError, match="only repaired, resume with repaired_source=True"):
        write_blocks(lazy(source), out)
    other = segment(source, storm_model(seed=1), block_size=1)
    with pytest.raises(OtherRunError, match=r"run\.model") as refused:
        write_blocks(other, out, repaired_source=True)
    assert "repaired_source" not in str(refused.value)
    assert write_blocks(lazy(source), out, repaired_source=True).written == 1
    assert all(file.read_bytes() == kept for file, kept in before.items())
    np.testing.assert_array_equal(open_mask(out), expected)
    attributes = zarr.open_group(out / "_xsphere", mode="r").attrs["xsphere"]
    assert len(attributes["earlier sources"]) == 1
    assert attributes["earlier sources"][0] != attributes["source"]
    # from now on it is of the mended source
    assert write_blocks(lazy(source), out).written == 0


def test_08_a_store_is_repaired_from_a_source_that_was_mended(tmp_path: Path) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    expected = segment(stored(source, 4), storm_model())
    write_blocks(lazy(source), out)
    (out / "mask" / "c" / "2" / "0").write_bytes(b"")
    chunk(source, 1).touch()
    with pytest.raises(OtherRunError, match="repaired_source=True"):
        repair_store(out, lazy(source))
    assert repair_store(out, lazy(source), repaired_source=True).written == 1
    np.testing.assert_array_equal(open_mask(out), expected)


def test_07_missing_source_chunk_may_mean_invalid(tmp_path: Path) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    expected = segment(stored(source, 4), storm_model())
    chunk(source, 1).unlink()
    report = write_blocks(lazy(source, missing_chunks="invalid"), out)
    written = open_mask(out)
    assert (written[1] == 254).all()
    np.testing.assert_array_equal(written[[0, 2, 3]], expected[[0, 2, 3]])
    assert report.counts["mask"]["invalid_input"] == 192


def test_12_source_edited_between_two_runs_is_not_gone_on_with(tmp_path: Path) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    ds = stored(source, 4)
    result = lazy(source)
    write_blocks(result.isel(time=slice(0, 4)), out)
    (out / "mask" / "c" / "3" / "0").unlink()
    array = zarr.open_array(source / "PSL", mode="r+")
    array[3] = 95000.0
    with pytest.raises(OtherRunError, match=r"source: .*x\.zarr/PSL has changed since"):
        write_blocks(lazy(source), out)
    # what was written of the former source is still there, and nothing of the new one
    np.testing.assert_array_equal(
        open_mask(out, allow_incomplete=True)[:3], segment(ds, storm_model())[:3]
    )
    write_blocks(lazy(source), out, overwrite=True)
    ds.PSL[3] = 95000.0
    np.testing.assert_array_equal(open_mask(out), segment(ds, storm_model()))


def test_13_other_code_model_or_options_are_refused_with_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "x.zarr", tmp_path / "m.zarr"
    stored(source, 2)
    write_blocks(lazy(source), out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr("xsphere.segmentation.record.VERSION", nodes.VERSION + 1)
        newer = lazy(source)
    changes = {
        r"run\.options\.version(\.0)?: ": newer,
        r"run\.model: ": segment(source, storm_model(seed=1), block_size=1),
        r"run\.options\.missing_chunks: 'raise' in the store, 'fill' now": lazy(
            source, missing_chunks="fill"
        ),
        r"run\.options\.output: 'mask' in the store, 'probability' now": lazy(
            source, output="probability"
        ),
        r"run\.grid\.target: ": lazy(source, grid="source"),
    }
    for words, other in changes.items():
        with pytest.raises(OtherRunError, match=f"(?s)holds another run.*{words}.*overwrite=True"):
            write_blocks(other, out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    # how it is run is not what it is
    assert write_blocks(lazy(source, batch_size=1), out, workers=1).written == 0
