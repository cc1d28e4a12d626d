"""Files and folders that are there whole or not at all: built beside their place, then renamed.

A process that dies leaves what was there before, and beside it a hidden leftover that says by its
name what it was to become.
"""

import ctypes
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# what is older than this was left by a process that died: nothing is built for so long
LEFTOVER_SECONDS = 24 * 3600
# of Linux: relative to the working directory; swap two names
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def built_beside(path: Path, *, folder: bool = False, replace: bool = False) -> Iterator[Path]:
    """A place beside `path` to build at; what is built there takes its place if all goes well.

    Parameters
    ----------
    path : Path
        Where the file or folder belongs. Missing parents are made.
    folder : bool
        Whether a folder is built, else a file.
    replace : bool
        Whether to replace what is there, in one step. Of a link the link alone is replaced.

    Yields
    ------
    Path
        Where nothing is yet.

    Raises
    ------
    FileExistsError
        If something is there (or came there meanwhile) and `replace` is not set.
    IsADirectoryError
        If a file would replace a folder.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "x.txt")
    >>> with built_beside(path) as beside:
    ...     _ = beside.write_text("whole")
    >>> path.read_text(), beside.exists()
    ('whole', False)
    """
    check_free(path, folder=folder, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        yield beside
        check_free(path, folder=folder, replace=replace)
        if replace:
            _put(beside, path)
        else:
            _put_first(beside, path)
    finally:
        remove_whole(beside)


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it.

    Parameters
    ----------
    path : Path
        Where to write; replaced if it exists.
    content : bytes
        What to write.

    Raises
    ------
    IsADirectoryError
        If a folder is there.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> write_file(path, b"abc")
    >>> path.read_bytes()
    b'abc'
    """
    with built_beside(path, replace=True) as beside, beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def check_free(path: Path, *, folder: bool = False, replace: bool = False) -> None:
    """Refuse a place where something is that may not be replaced.

    Parameters
    ----------
    path, folder, replace
        As for `built_beside`.

    Raises
    ------
    FileExistsError, IsADirectoryError
        As for `built_beside`.

    Examples
    --------
    >>> check_free(Path("/"))
    Traceback (most recent call last):
    FileExistsError: / is there already; choose another name or overwrite it
    """
    # a link that leads nowhere is there, too: who writes to it would write elsewhere
    if os.path.lexists(path) and not replace:
        raise FileExistsError(f"{path} is there already; choose another name or overwrite it")
    if not folder and path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f"{path} is a folder, and a file is to be written; choose another")


def remove_whole(path: Path) -> None:
    """Remove a file or a folder with all in it; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_away(path: Path) -> None:
    """Remove a file or folder, such that a reader never sees half of it."""
    away = _beside(path)
    os.rename(path, away)
    remove_whole(away)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _put_first(built: Path, path: Path) -> None:
    """Give something its place, unless another process was first."""
    try:
        # of folders only an empty one is replaced
        os.rename(built, path)
    except OSError as error:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} is there already: another process was first") from error
        raise


def _put(built: Path, path: Path) -> None:
    """Give something its place, whatever is there."""
    folders = [place.is_dir() and not place.is_symlink() for place in (built, path)]
    if not any(folders) or not os.path.lexists(path):
        os.replace(built, path)
    elif not _swapped(built, path):
        # for a moment neither is there, and both are beside
        away = _beside(path)
        os.rename(path, away)
        try:
            os.rename(built, path)
        except OSError:
            os.rename(away, path)
            raise
        built = away
    # what was there before: the new one is in its place, whether the old one can be removed or not
    with suppress(OSError):
        remove_whole(built)


def _swapped(one: Path, other: Path) -> bool:
    """Whether two names were swapped in one step, which not every system and disk can do."""
    if sys.platform != "linux":
        return False
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return swap is not None and swap(*names, _RENAME_EXCHANGE) == 0


def leftovers(path: Path) -> list[Path]:
    """What was being built for `path` when its process died."""
    found = path.parent.glob(f".{_escaped(path.name)}.????????.tmp")
    return older(found, time.time() - LEFTOVER_SECONDS)


def remove_leftovers(path: Path) -> None:
    """Remove what dead processes left beside `path`."""
    for other in leftovers(path):
        # another run may be removing the same, and what stays does no harm
        with suppress(OSError):
            remove_whole(other)


def older(files: Iterable[Path], before: float) -> list[Path]:
    """Those that were changed last before a time, in seconds since 1970, and are still there."""
    return [file for file in files if _last_change(file) < before]


def _last_change(path: Path) -> float:
    try:
        return path.stat().st_mtime
    # another run writes to the same place, and has just put this file where it belongs
    except FileNotFoundError:
        return math.inf


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
