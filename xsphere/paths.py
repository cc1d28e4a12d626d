"""Paths as users give them: on this machine only, or of anything that can be read."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

# of two letters or more, since one letter and a colon name a drive. `Path` makes one slash of two.
_URL = re.compile(r"[a-z][a-z0-9+.\-]+(::|:/)", re.IGNORECASE)
_OF_WINDOWS = re.compile(r"[a-z]:[\\/]|\\\\", re.IGNORECASE)


def local_path(path: str | os.PathLike[str], what: str = "the output") -> Path:
    """The place on this machine that a user means.

    Parameters
    ----------
    path : str or path-like
        ``~`` is the user's home, and ``file://`` is understood.
    what : str
        What the path is of, for the error.

    Returns
    -------
    Path
        Relative if `path` is.

    Raises
    ------
    TypeError
        If `path` is no path.
    ValueError
        If it is empty, a URL, or a path of Windows on another system.

    Examples
    --------
    >>> local_path("file:///data/mask.zarr").as_posix()
    '/data/mask.zarr'
    >>> local_path("s3://bucket/mask.zarr")
    Traceback (most recent call last):
    ValueError: the output must be on this machine, got the URL 's3://bucket/mask.zarr'; ...
    """
    text = source_path(path, what)
    if is_url(text):
        raise ValueError(
            f"{what} must be on this machine, got the URL {text!r}; give a local path, and copy "
            "it when it is complete"
        )
    return Path(text)


def is_url(text: str) -> bool:
    """Whether a text is a URL, of a place that may be elsewhere."""
    return _URL.match(text) is not None


def source_path(path: str | os.PathLike[str], what: str = "the input") -> str:
    """What a user means by a path or URL to read.

    Parameters
    ----------
    path : str or path-like
        A URL stays as it is, but for ``file://``; of a path ``~`` is the user's home.
    what : str
        What the path is of, for the error.

    Returns
    -------
    str
        A URL, or a path on this machine.

    Raises
    ------
    TypeError
        If `path` is no path.
    ValueError
        If it is empty, or a path of Windows on another system.

    Examples
    --------
    >>> from pathlib import PurePosixPath
    >>> source_path("https://host/era5.zarr")
    'https://host/era5.zarr'
    >>> source_path(PurePosixPath("https://host/era5.zarr"))
    'https://host/era5.zarr'
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a path, got {path!r} ({type(path).__name__})")
    if not text.strip() or "\0" in text:
        raise ValueError(f"{what} must be the name of a file or folder, got {text!r}")
    if os.name != "nt" and _OF_WINDOWS.match(text):
        raise ValueError(f"{what} is a path of Windows, {text!r}, and this is another system")
    if text.lower().startswith("file:/"):
        text = _path_of_url(text, what)
    elif _URL.match(text):
        # two slashes again, where `Path` left one
        return re.sub(r"(?<=\w):/(?!/)", "://", text) if "::" not in text else text
    if text.startswith("~"):
        text = _with_home(text, what)
    return text


def _path_of_url(url: str, what: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(
            f"{what} must be on this machine, got {url!r} on {parts.netloc!r}; file:// URLs have "
            "three slashes"
        )
    return unquote(url[len("file:") :].removeprefix(f"//{parts.netloc}"))


def _with_home(text: str, what: str) -> str:
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise ValueError(
            f"{what} is {text!r}, but there is no such home ({error}); write ./{text} for a folder "
            "of that name"
        ) from error
