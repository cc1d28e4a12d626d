"""Names, links and numbers in files that lie: refused before they do harm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.test_blocks import mask
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import (
    StoreError,
    open_mask,
    opened,
    repair_store,
    verify_store,
    write_blocks,
)
from xsphere.blocks.opened import read_books, write_books
from xsphere.locations import location
from xsphere.segmentation import segment


def tampered(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A store whose bookkeeping was edited, by somebody who knows how it is sealed."""
    write_blocks(mask(), path)
    bookkeeping = read_books(location(path))
    change(bookkeeping)
    write_books(location(path), bookkeeping)
    return path


def renamed(name: str) -> Callable[[dict[str, Any]], None]:
    def change(bookkeeping: dict[str, Any]) -> None:
        variables = bookkeeping["layout"]["variables"]
        variables[name] = variables.pop("mask")

    return change


def with_shape(*shape: int) -> Callable[[dict[str, Any]], None]:
    def change(bookkeeping: dict[str, Any]) -> None:
        bookkeeping["layout"]["variables"]["mask"]["shape"] = list(shape)

    return change


def with_block(size: object) -> Callable[[dict[str, Any]], None]:
    return lambda bookkeeping: bookkeeping["layout"].update(block=size)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed("../../outside"), "path '../../outside' is invalid"),
        (renamed("/etc/passwd"), "/etc/passwd"),
        (with_shape(10**15, 13), "claims 250000000000000 blocks, more than 10000000"),
        (with_shape(10**6, 13), "blocks: 3, not 250000"),
        (with_shape(10, 12), r"mask: \(\(10, 13\), 4\), not \(\(10, 12\), 4\)"),
        (with_block(0), "a length of 1 or more, got 0"),
        (with_block(-3), "a length of 1 or more, got -3"),
        (with_block("4"), "a length of 1 or more, got '4'"),
        (with_block(5), "blocks: 3, not 2"),
        (lambda bookkeeping: bookkeeping.update(blocks=2), "blocks: 2, not 3"),
        (lambda bookkeeping: bookkeeping.pop("run"), "KeyError"),
    ],
)
def test_29_bookkeeping_that_lies_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = tampered(tmp_path / "m.zarr", change)
    for action in (
        open_mask,
        verify_store,
        lambda path: write_blocks(mask(), path),
        lambda path: repair_store(path, mask()),
    ):
        # a store that is told to be of something else is another run for those who write
        with pytest.raises(StoreError, match=f"(?s)its metadata are damaged.*{words}|another run"):
            action(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_29_no_more_blocks_than_files_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blocks(mask(), tmp_path / "m.zarr")
    monkeypatch.setattr(opened, "MAX_BLOCKS", 2)
    with pytest.raises(StoreError, match="it claims 3 blocks, more than 2"):
        open_mask(tmp_path / "m.zarr")


def test_29_links_lead_nowhere_else(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "m.zarr"
    mine.mkdir()
    (mine / "data").write_text("precious")
    out.symlink_to(mine)
    result = segment(storm_dataset(2), storm_model())
    with pytest.raises(StoreError, match="is no store that was written block by block"):
        write_blocks(result, out)
    # replacing a link removes the link
    write_blocks(result, out, overwrite=True)
    assert not out.is_symlink()
    assert verify_store(out).ok
    assert [p.name for p in mine.iterdir()] == ["data"]
    assert (mine / "data").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.zarr", "mine"]
