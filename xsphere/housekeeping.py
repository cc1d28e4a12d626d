"""What lies in the cache: listed, verified, cleared. `xsphere.cache` fills and reads it."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xsphere.atomic import remove_whole
from xsphere.cache import FORMAT, cache_dir
from xsphere.entries import manifest_of, sound
from xsphere.notices import bytes_text

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One entry of the cache.

    Parameters
    ----------
    kind : str
        What is stored, such as ``"weights"``.
    key : str
        Its name: the hash of what it depends on, with an ending if it is a leftover.
    path : Path
        Its folder.
    n_bytes : int
        Size on disk.
    age_seconds : float
        Since it was written.
    about : str
        What it is, in words.
    complete : bool
        Whether it can be used. Others are leftovers: put aside as corrupt, or never finished.

    Examples
    --------
    >>> entry = CacheEntry(
    ...     kind="weights", key="ab", path=Path("x"), n_bytes=8, age_seconds=1.0, about="",
    ...     complete=True,
    ... )
    >>> entry.n_bytes
    8
    """

    kind: str
    key: str
    path: Path
    n_bytes: int
    age_seconds: float
    about: str
    complete: bool


def cache_entries() -> list[CacheEntry]:
    """Everything in the cache, by kind, the newest first.

    Returns
    -------
    list of CacheEntry
        Empty where there is no cache.

    Examples
    --------
    >>> from xsphere.config import set_options
    >>> with set_options(cache_dir=""):
    ...     cache_entries()
    []
    """
    found = [entry for path in _folders() if (entry := _entry(path)) is not None]
    return sorted(found, key=lambda entry: (entry.kind, entry.age_seconds))


def damaged_entries() -> list[CacheEntry]:
    """Entries whose files differ from their checksums; every byte of the cache is read.

    Returns
    -------
    list of CacheEntry
        Complete entries that would be put aside when used, and those that have been.

    Examples
    --------
    >>> from xsphere.config import set_options
    >>> with set_options(cache_dir=""):
    ...     damaged_entries()
    []
    """
    return [
        entry
        for entry in cache_entries()
        if (not sound(entry.path) if entry.complete else ".corrupt-" in entry.key)
    ]


def clear_cache(kinds: Sequence[str] = (), *, older_than: float = 0.0) -> list[CacheEntry]:
    """Remove entries, and leftovers that nobody is working on.

    A process that has read an entry keeps what it has read; one that needs it again builds it.

    Parameters
    ----------
    kinds : sequence of str
        Kinds to remove, such as ``"weights"``; all if empty.
    older_than : float
        Days since an entry was written: younger ones stay.

    Returns
    -------
    list of CacheEntry
        What was removed.

    Raises
    ------
    ValueError
        If there is nothing of a kind, with those there are.

    Examples
    --------
    >>> from xsphere.config import set_options
    >>> with set_options(cache_dir=""):
    ...     clear_cache()
    []
    """
    entries = cache_entries()
    unknown = sorted(set(kinds) - {entry.kind for entry in entries})
    if unknown:
        present = sorted({entry.kind for entry in entries})
        raise ValueError(f"the cache holds nothing of the kinds {unknown}; it has {present}")
    chosen = [
        entry
        for entry in entries
        if (not kinds or entry.kind in kinds) and _removable(entry, older_than)
    ]
    for entry in chosen:
        with suppress(OSError):
            remove_whole(entry.path)
    return [entry for entry in chosen if not os.path.lexists(entry.path)]


def entries_text(entries: Sequence[CacheEntry]) -> str:
    """Entries as a table for the screen.

    Parameters
    ----------
    entries : sequence of CacheEntry
        From `cache_entries`.

    Returns
    -------
    str
        A line each, and the sum.

    Examples
    --------
    >>> entries_text([])
    '0 entries, 0 bytes'
    """
    lines = [
        f"{entry.kind:<10}{bytes_text(entry.n_bytes):>12}  {_age_text(entry.age_seconds):>8}  "
        f"{entry.about if entry.complete else 'leftover'} ({entry.key[:12]})".replace("  (", "  ")
        for entry in entries
    ]
    total = bytes_text(sum(entry.n_bytes for entry in entries))
    return "\n".join([*lines, f"{len(entries)} entries, {total}"])


def _age_text(seconds: float) -> str:
    for size, unit in ((DAY, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _removable(entry: CacheEntry, older_than: float) -> bool:
    # what a process that died was building is nobody's any more after a day
    abandoned = DAY if entry.key.startswith("tmp-") or entry.key.endswith(".tmp") else 0.0
    return entry.age_seconds >= max(DAY * older_than, abandoned)


def _folders() -> Iterator[Path]:
    root = cache_dir()
    if root is None:
        return
    for path in (root / FORMAT).glob("*/*/*"):
        # by its name, since somebody may keep the cache in a folder that has others
        if path.name.lstrip(".").startswith((path.parent.name, "tmp-")) and _is_short(path.parent):
            yield path


def _is_short(folder: Path) -> bool:
    return re.fullmatch("[0-9a-f]{2}", folder.name) is not None


def _entry(path: Path) -> CacheEntry | None:
    """None if it vanished meanwhile."""
    complete = len(path.name) == 64
    try:
        return CacheEntry(
            kind=path.parent.parent.name,
            key=path.name,
            path=path,
            n_bytes=_n_bytes(path),
            age_seconds=max(0.0, time.time() - path.lstat().st_mtime),
            about=_about(path) if complete else "",
            complete=complete,
        )
    except FileNotFoundError:
        return None


def _n_bytes(path: Path) -> int:
    """Size of all that can be seen of an entry."""
    total = 0
    for file in (path, *path.rglob("*")):
        with suppress(OSError):  # removed meanwhile, or not ours to see
            total += 0 if file.is_dir() else file.lstat().st_size
    return total


def _about(path: Path) -> str:
    try:
        return str(manifest_of(path)["about"])
    # damaged in one of many ways: `damaged_entries` will say so
    except Exception:
        return ""
