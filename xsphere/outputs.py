"""Where an output may go: never in place of what is read, nor of a folder that is not ours."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from xsphere.atomic import check_free
from xsphere.locations import Location, location
from xsphere.paths import local_path, source_path
from xsphere.sources.reads import contents_read, places_read

# what stores of ours have: a group of this name, or an attribute, which says so in words
OWN_GROUP, OWN_MARK, OWN_WORDS = "_xsphere", "xsphere", "written by xsphere"
# of that group: the bookkeeping of blocks, or the words
BOOKS = f"{OWN_GROUP}/zarr.json"


def check_output(
    place: Path | Location, read: Iterable[xr.Dataset], *, folder: bool, overwrite: bool
) -> None:
    """Refuse an output that may not take its place, before any work.

    Parameters
    ----------
    place : Path or Location
        Where something will be written.
    read : iterable of Dataset
        What it is computed from.
    folder : bool
        Whether a store will be written, else a file.
    overwrite : bool
        Whether what is there may be replaced.

    Raises
    ------
    FileExistsError
        If something is there and `overwrite` is not set.
    IsADirectoryError
        If a file would replace a folder.
    ValueError
        If a store would be replaced that xsphere did not write, or that is read.

    Examples
    --------
    >>> check_output(Path("/nowhere/x.nc"), [], folder=False, overwrite=False)
    """
    path = place if isinstance(place, Path) else place.local
    if path is not None:
        check_free(path, folder=folder, replace=overwrite)
        there = os.path.lexists(path)
        own = not (there and path.is_dir() and not path.is_symlink()) or _is_own(
            Location(str(path))
        )
        if there:
            _check_apart(path, sorted(at for ds in read for at in places_read(ds)))
    else:
        assert isinstance(place, Location)
        there, own = place.exists(), True
        if there and not overwrite:
            raise FileExistsError(f"{place} is there already; choose another name or overwrite it")
        if there:
            own = _is_own(place)
            _check_url_apart(place, (at for ds in read for at in contents_read(ds)))
    if not own:
        raise ValueError(
            f"{place} is not a store that xsphere wrote, so it is not replaced; choose another "
            "output, or remove it yourself"
        )


def output_path(path: str | Path, *read: str | Path) -> Path:
    """The place of an output file or folder that is apart from what is read.

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


def store_or_file(path: str | Path, *read: str | Path) -> Path | Location:
    """As `output_path`, but the location of a store where the name ends in ``.zarr``.

    Examples
    --------
    >>> str(store_or_file("memory://a.zarr", "b.zarr"))
    'memory://a.zarr'
    """
    if not source_path(path, "the output").rstrip("/").endswith(".zarr"):
        file = output_path(path, *read)
        if file.suffix != ".nc":
            raise ValueError(f"the output must end in '.zarr' or '.nc', got {str(path)!r}")
        return file
    place = location(path)
    if place.local is None:
        _check_url_apart(place, map(str, read))
    else:
        _check_apart(place.local, read)
    return place


def replace_remote(place: Location) -> None:
    """Empty an object store: what says that it is complete goes first, that it is ours stays."""
    mark_own(place, "being replaced")
    place.clear(but=BOOKS)


def mark_own(place: Location, words: str = OWN_WORDS) -> None:
    """Say in a store that it is ours."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"status": words}}
    place.write(BOOKS, json.dumps(document).encode())


def _check_url_apart(place: Location, read: Iterable[str]) -> None:
    for source in read:
        if place.overlaps(source):
            raise ValueError(
                f"{place} is or holds what is read, or lies within ({source}); choose another "
                "output"
            )


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


def _is_own(place: Location) -> bool:
    """Whether a store is one that xsphere wrote, damaged or not, or an empty folder."""
    if place.local is not None:
        if (place.local / OWN_GROUP).is_dir() or not any(place.local.iterdir()):
            return True
    elif place.read(BOOKS) is not None or place.names(OWN_GROUP):
        return True
    try:
        return OWN_MARK in json.loads(place.read("zarr.json") or b"")["attributes"]
    except (ValueError, KeyError, TypeError):
        return False
