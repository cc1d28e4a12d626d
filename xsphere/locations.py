"""Where a store lies: a folder of this machine, an object store by its URL, or a store of Zarr.

A folder is made beside its place and renamed. Object stores have no rename: one object is replaced
in one step, and what says that a store is complete is written last.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from xsphere.compat import done_by_zarr
from xsphere.notices import cut_text
from xsphere.paths import is_url, source_path

T = TypeVar("T")
# drivers of URLs that are extras of the package
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
# requests at a time
AT_ONCE = 64


@dataclass(frozen=True)
class Location:
    """The place of a Zarr store, as workers can be told of it.

    Parameters
    ----------
    text : str
        An absolute path, a URL, or what Zarr calls a store that was given.
    options : mapping
        For fsspec, as `storage_options` of xarray.
    given : zarr.abc.store.Store, optional
        The store that was given.

    Examples
    --------
    >>> location("memory://m.zarr").local is None
    True
    """

    text: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    given: Any = field(default=None, repr=False, hash=False)

    def __str__(self) -> str:
        return self.text

    @property
    def local(self) -> Path | None:
        """The folder on this machine, if it is one."""
        if self.given is not None:
            root = getattr(self.given, "root", None)
            return root if isinstance(root, Path) else None
        return None if is_url(self.text) else Path(self.text)

    @property
    def path(self) -> Path | str:
        """The folder, else the URL."""
        return self.local or self.text

    @property
    def shared(self) -> bool:
        """Whether other processes see what is written there."""
        return not self.text.startswith("memory://")

    def store(self, *, read_only: bool = False) -> Any:
        """The store of Zarr."""
        from zarr.storage import FsspecStore, LocalStore

        if self.given is not None:
            read_only |= self.given.read_only
            return self.given.with_read_only(read_only) if read_only else self.given
        if self.local is not None:
            return LocalStore(self.local, read_only=read_only)
        options = dict(self.options) or None
        return FsspecStore.from_url(self.text, storage_options=options, read_only=read_only)

    def read(self, key: str) -> bytes | None:
        """An object, or None if it is not there."""
        from zarr.buffer import default_buffer_prototype

        try:
            # a store that may be written to makes its folder
            store = self.store(read_only=True)
            found = self._done(store.get(key, default_buffer_prototype()), "read")
        except FileNotFoundError:
            return None
        return None if found is None else bytes(found.to_bytes())

    def write(self, key: str, content: bytes) -> None:
        """Write an object, in one step."""
        from zarr.buffer.cpu import Buffer

        self._done(self.store().set(key, Buffer.from_bytes(content)), "written")

    def delete(self, *keys: str) -> None:
        """Remove objects, whether they are there or not."""
        store = self.store()

        async def removed() -> None:
            for start in range(0, len(keys), AT_ONCE):
                await asyncio.gather(*map(store.delete, keys[start : start + AT_ONCE]))

        self._done(removed(), "written")

    def names(self, folder: str = "") -> set[str]:
        """Names of all objects in a folder of the store."""
        store = self.store(read_only=True)
        if (files := getattr(store, "fs", None)) is not None:
            # other processes write there, too
            files.invalidate_cache()

        async def listed() -> set[str]:
            try:
                return {key async for key in store.list_prefix(folder)}
            except FileNotFoundError:
                return set()

        return self._done(listed(), "read")

    def exists(self) -> bool:
        """Whether anything is there."""
        if self.local is not None:
            return self.local.exists()
        return self.read("zarr.json") is not None or bool(self.names())

    def has(self, folder: str, names: Sequence[str]) -> list[bool]:
        """Which objects of a folder are there; a disk that cannot tell is an error."""
        if self.local is not None:
            return [_is_file(f"{self.local}/{folder}/{name}") for name in names]
        found = self.names(f"{folder}/")
        return [f"{folder}/{name}" in found for name in names]

    def clear(self, but: str) -> None:
        """Remove all objects but one."""
        self.delete(*sorted(self.names() - {but}))

    def overlaps(self, other: str) -> bool:
        """Whether a source, as `contents_read` or a user names it, is here, above or within."""
        here, there = _root(self.text), _root(other)
        if here is None or there is None:
            return False
        return here.is_relative_to(there) or there.is_relative_to(here)

    @contextmanager
    def errors(self, what: Literal["read", "written"]) -> Iterator[None]:
        """Say of an error of a remote store which one it was, whatever its driver raises."""
        try:
            yield
        except Exception as error:
            if self.local is not None or not _is_of_a_driver(error):
                raise
            denied = isinstance(error, PermissionError)
            lost = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EIO
            # its kind is that of its number
            raise OSError(
                errno.EACCES if denied else getattr(error, "errno", None) or lost,
                f"{self.text} cannot be {what} ({type(error).__name__}: {cut_text(str(error))}); "
                f"check the {'credentials' if denied else 'address, the network'} and "
                "storage_options=",
            ) from error

    def _done(self, work: Coroutine[Any, Any, T], what: Literal["read", "written"]) -> T:
        with self.errors(what):
            return done_by_zarr(work)


def location(
    place: Any,
    what: str = "the output",
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Location:
    """Where a user means a store to lie.

    Parameters
    ----------
    place : str, path-like, zarr.abc.store.Store or Location
        A path or URL that ends in ``.zarr``, or a store.
    what : str
        What it is of, for errors.
    storage_options : mapping, optional
        For fsspec, where `place` is a URL.

    Returns
    -------
    Location
        The same in every process, whatever folder it runs in.

    Raises
    ------
    TypeError
        If it is no path, or there are options for what is no URL.
    ValueError
        If the name has another ending, or the scheme of the URL is unknown or only for reading.
    ImportError
        If the driver of the URL is not installed.

    Examples
    --------
    >>> str(location("s4://bucket/m.zarr"))
    Traceback (most recent call last):
    ValueError: the output is the URL 's4://bucket/m.zarr', but ... no protocol 's4'; ...
    """
    if isinstance(place, Location):
        return place
    if hasattr(place, "list_prefix") and hasattr(place, "with_read_only"):
        root = getattr(place, "root", None)
        text = os.path.abspath(root) if isinstance(root, Path) else store_name(place)
        made = Location(text, given=place)
    else:
        text = source_path(place, what)
        if PurePosixPath(text).suffix != ".zarr":
            raise ValueError(f"the output must end in '.zarr', got {text!r}")
        made = Location(text if is_url(text) else os.path.abspath(text), storage_options or {})
        if is_url(text):
            _check_driver(made, what)
    if storage_options and (made.given is not None or made.local is not None):
        raise TypeError(f"storage_options are for URLs, and {what} is {made}; leave them out")
    return made


def _check_driver(made: Location, what: str) -> None:
    scheme = made.text.partition(":")[0].lower()
    if scheme in ("http", "https") or "::" in made.text:
        raise ValueError(
            f"{what} is the URL {made.text!r}, which can be neither listed nor written to; give a "
            "local path or a URL of an object store, such as s3:// (xarray.open_zarr reads it)"
        )
    try:
        made.store(read_only=True)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        how = f'pip install "xsphere[{extra}]"' if extra else str(error)
        raise ImportError(f"{what} is the URL {made.text!r}, whose driver is missing: {how}") from (
            error
        )
    except ValueError as error:
        if "not known" not in str(error):
            raise
        raise ValueError(
            f"{what} is the URL {made.text!r}, but fsspec knows no protocol {scheme!r}; s3://, "
            "gs:// and memory:// are some that it knows, file:// and plain paths are local"
        ) from error


def _is_of_a_driver(error: Exception) -> bool:
    """Whether an error is of a file system or network, not of what is stored."""
    theirs = ("botocore", "aiohttp", "aiobotocore", "s3fs", "gcsfs", "google", "fsspec", "obstore")
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in theirs


def store_name(store: Any) -> str:
    """The URL of a store of Zarr, else what it calls itself."""
    files = getattr(store, "fs", None)
    return str(store) if files is None else str(files.unstrip_protocol(store.path))


def _root(text: str) -> PurePosixPath | None:
    """Bucket and path of a URL."""
    return PurePosixPath(text.partition("//")[2].strip("/")) if "//" in text else None


def _is_file(path: str) -> bool:
    """As `os.path.isfile`, but a disk that cannot tell is an error."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
