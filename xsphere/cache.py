"""Arrays that cost time to build, kept in files named by a hash of everything they depend on.

An entry is a folder ``<cache>/v1/<kind>/<aa>/<sha256>/`` of ``.npy`` files and a manifest of their
checksums. It is built beside its place and renamed into it, so readers see all of it or nothing,
and two processes that build the same entry do no harm. An entry that does not verify is put aside
and rebuilt. A cache that cannot be written costs a warning, never an error.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.config import config
from xsphere.notices import warn_user

FORMAT = "v1"
FILES_AT_ONCE = 4
Arrays = Mapping[str, NDArray[Any]]


class CacheWarning(UserWarning):
    """The cache could not be used; results are right but will be built again."""


def cache_dir() -> Path | None:
    """Folder of the cache, or None where caching is off.

    Returns
    -------
    Path or None
        From `set_options`, else ``XSPHERE_CACHE_DIR``, else the user's cache folder.

    Examples
    --------
    >>> from xsphere.config import set_options
    >>> with set_options(cache_dir=""):
    ...     cache_dir() is None
    True
    """
    chosen = config.get("cache_dir")
    if chosen is None:
        import platformdirs

        return platformdirs.user_cache_path("xsphere")
    return Path(chosen).expanduser() if chosen else None


def content_key(*parts: Any) -> str:
    """SHA-256 of a sequence of plain values, the same in every process.

    Parameters
    ----------
    *parts
        Anything that JSON can hold.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> content_key("graph", 8) == content_key("graph", 8) != content_key("graph", 9)
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def entry_path(kind: str, key: str) -> Path | None:
    """Folder that an entry has or would have, or None where caching is off.

    Parameters
    ----------
    kind : str
        What is stored, such as ``"graphs"``.
    key : str
        64 hexadecimal digits, see `content_key`.

    Returns
    -------
    Path or None
        The folder, existing or not.

    Raises
    ------
    ValueError
        If the key is not a SHA-256.

    Examples
    --------
    >>> entry_path("graphs", content_key(1)).parent.parent.name
    'graphs'
    """
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError(f"key must be 64 hexadecimal digits, got {key!r}")
    root = cache_dir()
    return None if root is None else root / FORMAT / kind / key[:2] / key


def cached_arrays(
    kind: str, key: str, build: Callable[[], Arrays], *, about: str = ""
) -> dict[str, NDArray[Any]]:
    """Arrays of an entry, read from the cache or built and stored.

    Parameters
    ----------
    kind : str
        What is stored, such as ``"graphs"``.
    key : str
        Hash of everything the arrays depend on, see `content_key`.
    build : callable
        Makes the arrays by name where the cache has none.
    about : str
        What the arrays are, for people who look into the cache.

    Returns
    -------
    dict of array
        Read-only; memory-mapped where read from the cache.

    Examples
    --------
    >>> arrays = cached_arrays("doc", content_key("doc"), lambda: {"x": np.arange(3)})
    >>> arrays["x"]
    memmap([0, 1, 2])
    """
    folder = entry_path(kind, key)
    if folder is None:
        return _read_only(build())
    found = read_arrays(folder)
    if found is not None:
        return found
    arrays = build()
    try:
        _store(folder, arrays, about)
    except OSError as error:
        warn_user(
            f"cache folder {cache_dir()} cannot be written ({error}); going on without. Choose "
            "another with set_options(cache_dir=...) or XSPHERE_CACHE_DIR",
            CacheWarning,
        )
        return _read_only(arrays)
    return read_arrays(folder) or _read_only(arrays)


def read_arrays(folder: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays of an entry whose checksums are right; one that is damaged is put aside.

    Parameters
    ----------
    folder : Path
        See `entry_path`.

    Returns
    -------
    dict of array, or None
        Read-only and memory-mapped; None where there is no sound entry.

    Examples
    --------
    >>> read_arrays(Path("/nowhere")) is None
    True
    """
    manifest = folder / "manifest.json"
    if not manifest.exists():
        # asked again, since another process may just have renamed the entry into place
        if not folder.exists():
            return None
        if not manifest.exists():
            _put_aside(folder, "it has no manifest")
            return None
    try:
        modified = manifest.stat().st_mtime_ns
        if not _verified(folder, modified):
            _put_aside(folder, "its checksums differ")
            return None
        # by the manifest: of a folder that is being removed, a listing would be any part of it
        names = sorted(json.loads(manifest.read_text())["sha256"])
        return {
            Path(name).stem: np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in names
        }
    except (OSError, ValueError, KeyError) as error:
        if folder.exists():
            _put_aside(folder, str(error))
        return None


class SharedEntries:
    """What this process has read or built, so that it does so once, under one lock per entry."""

    def __init__(self, maxsize: int) -> None:
        self._lock = threading.Lock()
        self._locks = lru_cache(4 * maxsize)(lambda _key: threading.Lock())
        self._values: dict[str, Any] = {}
        self._maxsize = maxsize

    def fetch(self, key: str, make: Callable[[], Any]) -> Any:
        """The value of a key, made by one thread while the others that want it wait."""
        with self._lock:
            lock = self._locks(key)
        with lock:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            value = make()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self._maxsize:
                    self._values.pop(next(iter(self._values)))
            return value


def _read_only(arrays: Arrays) -> dict[str, NDArray[Any]]:
    views = {name: np.asarray(array).view() for name, array in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksums(paths: list[Path]) -> dict[str, str]:
    """Checksums by name of some files, read side by side."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return dict(zip((path.name for path in paths), pool.map(_sha256, paths), strict=True))


def sound(folder: Path) -> bool:
    """Whether every file of an entry is there with its recorded checksum.

    Parameters
    ----------
    folder : Path
        See `entry_path`.

    Returns
    -------
    bool
        All of it is read to know.

    Examples
    --------
    >>> sound(Path("/nowhere"))
    False
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        recorded: dict[str, str] = manifest["sha256"]
        return _checksums([folder / name for name in recorded]) == recorded
    except (OSError, ValueError, KeyError, TypeError):
        return False


@lru_cache(4096)
def _verified(folder: Path, _modified: int) -> bool:
    """As `sound`, asked once per process."""
    return sound(folder)


def _put_aside(folder: Path, reason: str) -> None:
    aside = folder.with_name(f"{folder.name}.corrupt-{uuid.uuid4().hex[:8]}")
    warn_user(
        f"cache entry {folder} is corrupt ({reason}); it is put aside as {aside.name} and rebuilt",
        CacheWarning,
    )
    try:
        folder.rename(aside)
    except OSError:
        return  # another process put it aside, or nothing can be written here


def _store(folder: Path, arrays: Arrays, about: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    building = folder.with_name(f"tmp-{uuid.uuid4().hex}")
    building.mkdir()
    try:
        for name, array in arrays.items():
            np.save(building / f"{name}.npy", array, allow_pickle=False)
        digests = _checksums(sorted(building.glob("*.npy")))
        (building / "manifest.json").write_text(
            json.dumps({"about": about, "sha256": digests}, indent=1)
        )
        os.replace(building, folder)
    except OSError:
        if not (folder / "manifest.json").exists():
            raise
        # another process was first: its entry has the same content
    finally:
        shutil.rmtree(building, ignore_errors=True)
