"""Files and folders are there whole or not at all, whenever a process dies."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from xsphere import atomic
from xsphere.atomic import built_beside, leftovers, remove_leftovers, write_file


class Killed(BaseException):
    """As if the process were gone: no `except Exception` sees it."""


def made(path: Path, kind: str, text: str) -> None:
    match kind:
        case "file":
            path.write_text(text)
        case "folder":
            (path / "in").mkdir(parents=True)
            (path / "in" / "a").write_text(text)
        case "link":
            target = path.with_name("target")
            made(target, "folder", text)
            path.symlink_to(target)


def content(path: Path) -> str | None:
    if not path.exists():
        return None
    return (path / "in" / "a").read_text() if path.is_dir() else path.read_text()


@pytest.mark.parametrize("before", ["file", "folder", "link", "nothing"])
@pytest.mark.parametrize("after", ["file", "folder"])
@pytest.mark.parametrize("can_swap", [True, False])
def test_what_is_built_takes_the_place_of_what_was_there(
    tmp_path, monkeypatch, before, after, can_swap
):
    if not can_swap:
        monkeypatch.setattr(atomic, "_swapped", lambda *_: False)
    path = tmp_path / "x"
    made(path, before, "old")
    if (before, after) == ("folder", "file"):
        with pytest.raises(IsADirectoryError, match="is a folder, and a file is to be written"):
            write_file(path, b"new")
        assert content(path) == "old"
        return
    with built_beside(path, folder=after == "folder", replace=True) as beside:
        made(beside, after, "new")
        assert content(path) == (None if before == "nothing" else "old")
    assert content(path) == "new"
    assert not path.is_symlink()
    assert content(tmp_path / "target") == ("old" if before == "link" else None)
    assert {p.name for p in tmp_path.iterdir()} <= {"x", "target"}


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_nothing_is_replaced_unasked(tmp_path, kind):
    path = tmp_path / "x"
    made(path, kind, "old")
    if kind == "dangling":
        path.symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError, match="is there already"), built_beside(path) as beside:
        beside.write_text("new")
    assert content(path) == (None if kind == "dangling" else "old")
    assert not (tmp_path / "gone").exists()


def test_what_comes_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "x"

    def build():
        with built_beside(path) as beside:
            beside.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(FileExistsError, match="is there already"):
        build()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["theirs"]


def test_another_process_may_be_first(tmp_path, monkeypatch):
    path = tmp_path / "x"

    def build():
        with built_beside(path, folder=True) as beside:
            made(beside, "folder", "ours")
            made(path, "folder", "theirs")

    # after the last look at the place
    monkeypatch.setattr(atomic, "check_free", lambda *_, **__: None)
    with pytest.raises(FileExistsError, match="another process was first"):
        build()
    assert content(path) == "theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("can_swap", [True, False])
@pytest.mark.parametrize("step", range(8))
def test_death_at_any_step_loses_neither(tmp_path, monkeypatch, kind, can_swap, step):
    """Old and new are beside each other, or one of them is in its place: never is all lost."""
    path, steps = tmp_path / "x", iter(range(100))
    made(path, kind, "old")
    if not can_swap:
        monkeypatch.setattr(atomic, "_swapped", lambda *_: False)

    def dying(call):
        def called(*arguments):
            if next(steps) == step:
                raise Killed
            return call(*arguments)

        return called

    with monkeypatch.context() as patch, suppress(Killed):
        for name in ("rename", "replace", "unlink", "rmdir"):
            patch.setattr(os, name, dying(getattr(os, name)))
        # a process that is killed does not clean up
        patch.setattr(atomic, "remove_whole", dying(lambda _: None))
        with built_beside(path, folder=kind == "folder", replace=True) as beside:
            made(beside, kind, "new")
    found = {content(place) for place in tmp_path.iterdir()}
    in_place = content(path) in ("old", "new")
    assert in_place or (found == {"old", "new"} and not can_swap and kind == "folder")


def test_a_failed_rename_puts_back_what_was_there(tmp_path, monkeypatch):
    path, rename = tmp_path / "x", os.rename
    made(path, "folder", "old")
    monkeypatch.setattr(atomic, "_swapped", lambda *_: False)
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(5, "lost")
        rename(*arguments)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="lost"), built_beside(path, folder=True, replace=True) as b:
        made(b, "folder", "new")
    assert content(path) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_leftovers_are_those_of_this_name_and_old(tmp_path):
    path = tmp_path / "m[1]*.nc"
    beside = atomic._beside(path)
    beside.write_text("half")
    assert leftovers(path) == []
    os.utime(beside, (1e9, 1e9))
    assert leftovers(path) == [beside]
    assert leftovers(tmp_path / "m1x.nc") == []
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == []
