"""Arrays that cost time to build, kept in files named by a hash of everything they depend on.

An entry is a folder ``<cache>/v1/<kind>/<aa>/<sha256>/``, see `xsphere.entries`. One that does not
verify is put aside and built again. A cache that cannot be written costs a warning, never an error.

Checksums find damage, not malice: whoever can write to a cache decides what those who read it get.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xsphere.config import config
from xsphere.entries import CacheWarning as CacheWarning  # noqa: PLC0414 - of the cache
from xsphere.entries import put_aside, read_entry, store_entry, usable
from xsphere.notices import warn_user
from xsphere.paths import local_path

FORMAT = "v1"
T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]


def cache_dir() -> Path | None:
    """Folder of the cache, or None where caching is off.

    Returns
    -------
    Path or None
        From `set_options`, else ``XSPHERE_CACHE_DIR``, else the user's cache folder.

    Raises
    ------
    TypeError, ValueError
        If what was chosen is no path on this machine.

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
    return None if chosen == "" else local_path(chosen, "the cache folder (cache_dir)")


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
    kind, key, build, about
        As for `cached`.

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
    return cached(kind, key, build, dict, about=about)


def cached(
    kind: str,
    key: str,
    build: Callable[[], Arrays],
    read: Callable[[dict[str, NDArray[Any]]], T],
    *,
    about: str = "",
) -> T:
    """What an entry of arrays stands for, read from the cache or built and stored.

    Parameters
    ----------
    kind : str
        What is stored, such as ``"graphs"``.
    key : str
        Hash of everything the arrays depend on, see `content_key`.
    build : callable
        Makes the arrays by name where the cache has none.
    read : callable
        Makes of the arrays, which are read-only, what is wanted. It checks what compiled loops rely
        on: an entry for which it raises an error is put aside and built again.
    about : str
        What the arrays are, for people who look into the cache.

    Returns
    -------
    Any
        What `read` returns.

    Examples
    --------
    >>> cached("doc", content_key("sum"), lambda: {"x": np.arange(3)}, lambda a: int(a["x"].sum()))
    3
    """
    folder = entry_path(kind, key)
    if folder is None:
        return read(_read_only(build()))
    found = read_entry(folder, read)
    if found is not None:
        return found
    arrays = _read_only(build())

    def write(beside: Path) -> None:
        for name, array in arrays.items():
            np.save(beside / f"{name}.npy", array, allow_pickle=False)

    try:
        store_entry(folder, write, about)
    except OSError as error:
        warn_unwritable(error)
        return read(arrays)
    found = read_entry(folder, read)
    return read(arrays) if found is None else found


def cached_file(kind: str, key: str, name: str, content: bytes, *, about: str = "") -> Path | None:
    """An entry that is one file, written where it is not there yet.

    Parameters
    ----------
    kind, key, about
        As for `cached`.
    name : str
        Of the file.
    content : bytes
        Of the file.

    Returns
    -------
    Path or None
        The file; None where caching is off.

    Raises
    ------
    OSError
        If it cannot be written.

    Examples
    --------
    >>> cached_file("doc", content_key("file"), "a.txt", b"a").read_bytes()
    b'a'
    """
    folder = entry_path(kind, key)
    if folder is None:
        return None
    path = folder / name
    if usable(folder):
        if path.is_file() and path.read_bytes() == content:
            return path
        put_aside(folder, "it has another content")
    store_entry(folder, lambda beside: (beside / name).write_bytes(content), about)
    return path


def warn_unwritable(error: OSError) -> None:
    """Say that the cache cannot be written, and how to choose another."""
    warn_user(
        f"cache folder {cache_dir()} cannot be written ({error}); going on without. Choose "
        "another with set_options(cache_dir=...) or XSPHERE_CACHE_DIR",
        CacheWarning,
    )


class SharedEntries:
    """What this process has read or built: once, however many threads ask at a time."""

    def __init__(self, maxsize: int) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._making: dict[str, Future[Any]] = {}
        self._maxsize = maxsize

    def fetch(self, key: str, make: Callable[[], Any]) -> Any:
        """The value of a key, made by one thread while the others that want it wait."""
        with self._lock:
            if key in self._values:
                return self._values[key]
            made_elsewhere = self._making.get(key)
            if made_elsewhere is None:
                made = self._making[key] = Future()
        if made_elsewhere is not None:
            # who failed was told so; this thread tries itself
            failed = made_elsewhere.exception() is not None
            return self.fetch(key, make) if failed else made_elsewhere.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            made.set_exception(error)
            raise
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._maxsize:
                self._values.pop(next(iter(self._values)))
            del self._making[key]
        made.set_result(value)
        return value


def _read_only(arrays: Arrays) -> dict[str, NDArray[Any]]:
    views = {name: np.asarray(array).view() for name, array in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return views
