"""Entries of the cache: folders of files with a manifest of their checksums.

An entry is built beside its place and renamed into it, so readers see all of it or nothing, and two
processes that build the same entry do no harm. One that is not sound, whatever is wrong with it, is
put aside, so that it is built again.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xsphere.atomic import built_beside
from xsphere.notices import cut_text, warn_user

MANIFEST = "manifest.json"
FILES_AT_ONCE = 4
# the longest of ours has a few hundred bytes
LARGEST_MANIFEST = 2**20
# of a file below the folder
NAME = re.compile(r"(?!\.\.?/)[^/\\\0]+(/(?!\.\.?(/|$))[^/\\\0]+)*")
T = TypeVar("T")


class CacheWarning(UserWarning):
    """The cache could not be used; results are right but will be built again."""


def read_entry(folder: Path, read: Callable[[dict[str, NDArray[Any]]], T]) -> T | None:
    """What an entry stands for if it is sound; one that is not is put aside.

    Parameters
    ----------
    folder : Path
        See `xsphere.cache.entry_path`.
    read : callable
        As for `xsphere.cache.cached`.

    Returns
    -------
    Any
        What `read` makes of its arrays; None where there is no sound entry.

    Examples
    --------
    >>> read_entry(Path("/nowhere"), dict) is None
    True
    """
    if not usable(folder):
        return None
    try:
        # by the manifest: of a folder that is being removed, a listing would be any part of it
        arrays = {
            Path(name).stem: np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in sorted(manifest_of(folder)["sha256"])
        }
        return read(arrays)
    except MemoryError:
        raise
    # there is no end to what can be wrong with a file
    except Exception as error:
        if folder.exists():
            put_aside(folder, f"{type(error).__name__}: {error}")
        return None


def usable(folder: Path) -> bool:
    """Whether there is a sound entry, read whole once a process; one that is not is put aside."""
    with suppress(OSError):  # there is none, or something that cannot be looked into
        if _verified(folder, _stamp(folder)):
            return True
    # looked at again, since another process may just have renamed an entry into its place
    if os.path.lexists(folder) and not sound(folder):
        put_aside(folder, "its manifest or its checksums are wrong")
    return sound(folder)


def _sha256(path: Path) -> str:
    # a pipe would be waited for
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Checksums of files of a folder, by name, read side by side."""
    ordered = sorted(names)
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        digests = pool.map(_sha256, (folder / name for name in ordered))
        return dict(zip(ordered, digests, strict=True))


def sound(folder: Path) -> bool:
    """Whether every file of an entry is there with its recorded checksum; all is read."""
    try:
        recorded: dict[str, str] = manifest_of(folder)["sha256"]
        return _checksums(folder, recorded) == recorded
    except MemoryError:
        raise
    # there is no end to what can be wrong with a file
    except Exception:
        return False


def manifest_of(folder: Path) -> dict[str, Any]:
    """What an entry is about, and checksums by file; any error if it is damaged."""
    path = folder / MANIFEST
    # a pipe would be waited for, and nesting or length are not bounded by the reader
    if not path.is_file() or path.stat().st_size > LARGEST_MANIFEST:
        raise ValueError(f"{path} is no manifest")
    found = json.loads(path.read_text())
    about, recorded = str(found["about"]), dict(found["sha256"])
    if not all(NAME.fullmatch(name) for name in recorded):
        raise ValueError(f"{path} names files elsewhere")
    return {"about": about, "sha256": recorded}


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Sizes and times of what is in a folder: they change with the files."""
    with os.scandir(folder) as entries:
        stats = [(entry.name, entry.stat()) for entry in entries]
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@lru_cache(4096)
def _verified(folder: Path, _stamp: tuple[tuple[str, int, int], ...]) -> bool:
    """As `sound`, asked once per process."""
    return sound(folder)


def put_aside(folder: Path, reason: str) -> None:
    """Rename an entry that is of no use, and warn of the reason."""
    aside = folder.with_name(f"{folder.name}.corrupt-{uuid.uuid4().hex[:8]}")
    warn_user(
        f"cache entry {folder} is corrupt ({cut_text(reason)}); it is put aside as {aside.name} "
        "and rebuilt",
        CacheWarning,
    )
    try:
        folder.rename(aside)
    except OSError:
        return  # another process put it aside, or nothing can be written here


def store_entry(folder: Path, write: Callable[[Path], object], about: str) -> None:
    """Make an entry, all of it or nothing; one that another process made first stays.

    Parameters
    ----------
    folder : Path
        See `xsphere.cache.entry_path`.
    write : callable
        Writes the files into the folder it is given.
    about : str
        What they are, for people who look into the cache.

    Raises
    ------
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "a")
    >>> store_entry(folder, lambda beside: (beside / "a.txt").write_text("a"), "a letter")
    >>> sound(folder)
    True
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError), built_beside(folder, folder=True) as beside:
        beside.mkdir()
        write(beside)
        names = [p.relative_to(beside).as_posix() for p in beside.rglob("*") if p.is_file()]
        manifest = {"about": about, "sha256": _checksums(beside, names)}
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1))
