"""Where an output may go: never in place of what is read, nor of a folder that is not ours."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from xsphere.atomic import check_free
from xsphere.paths import local_path, source_path
from xsphere.sources.reads import places_read

# what stores of ours have: a group of this name, or an attribute, which says so in words
OWN_GROUP, OWN_MARK, OWN_WORDS = "_xsphere", "xsphere", "written by xsphere"


def check_output(path: Path, read: Iterable[xr.Dataset], *, folder: bool, overwrite: bool) -> None:
    """Refuse an output that may not take its place, before any work.

    Parameters
    ----------
    path : Path
        Where something will be written.
    read : iterable of Dataset
        What it is computed from.
    folder : bool
        Whether a folder will be written, else a file.
    overwrite : bool
        Whether what is there may be replaced.

    Raises
    ------
    FileExistsError
        If something is there and `overwrite` is not set.
    IsADirectoryError
        If a file would replace a folder.
    ValueError
        If a folder would be replaced that xsphere did not write, or that is read.

    Examples
    --------
    >>> check_output(Path("/nowhere/x.nc"), [], folder=False, overwrite=False)
    """
    check_free(path, folder=folder, replace=overwrite)
    if not os.path.lexists(path):
        return
    _check_apart(path, sorted(place for ds in read for place in places_read(ds)))
    if path.is_dir() and not path.is_symlink() and not _is_own(path):
        raise ValueError(
            f"{path} is not a store that xsphere wrote, so it is not replaced; choose another "
            "output, or remove it yourself"
        )


def output_path(path: str | Path, *read: str | Path) -> Path:
    """The place of an output that is apart from what is read.

    Parameters
    ----------
    path : str or Path
        As the user gave it.
    *read : str or Path
        What is read.

    Returns
    -------
    Path
        On this machine.

    Raises
    ------
    TypeError, ValueError
        As `xsphere.paths.local_path`, or if it is what is read, holds it or lies within it,
        whatever links lead there.

    Examples
    --------
    >>> output_path("a/x.nc", "a/y.nc", "s3://bucket/a/x.nc").name
    'x.nc'
    >>> output_path("a", "a/../a/x.zarr")
    Traceback (most recent call last):
    ValueError: a is there already, and is or holds what is read (a/../a/x.zarr); ...
    """
    place = local_path(path)
    _check_apart(place, read)
    return place


def zarr_path(path: str | Path, what: str = "the output") -> Path:
    """The place of a Zarr store.

    Parameters
    ----------
    path : str or Path
        Ends in ``.zarr``.
    what : str
        What the path is of, for the error.

    Returns
    -------
    Path
        On this machine.

    Raises
    ------
    ValueError
        If the name has another ending, or as `xsphere.paths.local_path`.

    Examples
    --------
    >>> zarr_path("fields.zarr").name
    'fields.zarr'
    """
    place = local_path(path, what)
    if place.suffix != ".zarr":
        raise ValueError(f"the output must end in '.zarr', got {str(place)!r}")
    return place


def _check_apart(path: Path, read: Iterable[str | Path]) -> None:
    place = Path(os.path.realpath(path))
    for source in map(source_path, read):
        other = Path(os.path.realpath(source))
        if "://" in source or not (place.is_relative_to(other) or other.is_relative_to(place)):
            continue
        where = (
            "is there already, and is or holds" if other.is_relative_to(place) else "lies within"
        )
        raise ValueError(f"{path} {where} what is read ({source}); choose another output")


def _is_own(folder: Path) -> bool:
    """Whether a folder is a store that xsphere wrote, damaged or not, or an empty one."""
    if (folder / OWN_GROUP).is_dir() or not any(folder.iterdir()):
        return True
    try:
        return OWN_MARK in json.loads((folder / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
