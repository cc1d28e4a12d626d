"""What readers of published files share: listing, names, checksums, one error for all problems."""

# mypy: allow-untyped-calls

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from xsphere.notices import shortened
from xsphere.paths import local_path

# by the length of their hexadecimal digits
ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}
# problems that a message names
LISTED = 40
# what reading a damaged NetCDF file may raise
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, AttributeError)
_of_one_thread = threading.Lock()
Checksums = Mapping[str, str] | str | Path


class LabelledFields(NamedTuple):
    """Fields and the labels at their times: ``fit(*found)``, ``fields, labels = found``.

    Parameters
    ----------
    fields : Dataset
        One variable for each channel, with units and standard name.
    labels : DataArray
        Classes, which attributes or a coordinate name.

    Examples
    --------
    >>> fields, labels = LabelledFields(xr.Dataset({"PSL": 1.0}), xr.DataArray(0))
    >>> list(fields)
    ['PSL']
    """

    fields: xr.Dataset
    labels: xr.DataArray


def folder_of(path: str | Path) -> Path:
    """The folder that a user means, once it is there."""
    folder = local_path(path, "the folder of the dataset").expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {shortened(str(folder))}; give the folder that holds the files"
        )
    return folder


def files_in(folders: Iterable[Path], ending: str, *, deep: bool = False) -> list[Path]:
    """Files of folders by their ending, in order; hidden ones are not meant."""
    pattern = f"**/*{ending}" if deep else f"*{ending}"
    found = (path for folder in folders for path in sorted(folder.glob(pattern)))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


class Problems:
    """What is wrong with files, by file; raised at once.

    Parameters
    ----------
    folder : Path
        Where the files are.

    Examples
    --------
    >>> problems = Problems(Path("data"))
    >>> problems.add(Path("data/train/a.nc"), "damaged: it is empty")
    >>> problems.check()
    Traceback (most recent call last):
    ValueError: the files in 'data' are not as published:
      - train/a.nc: damaged: it is empty
    Get these files again, and move away what does not belong there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: dict[str, str] = {}

    def add(self, file: Path | str, reason: str) -> None:
        """Keep what is wrong with a file; what was said of it first counts."""
        path = Path(file)
        inside = path.is_relative_to(self.folder)
        name = path.relative_to(self.folder) if inside else path
        self.lines.setdefault(name.as_posix(), reason)

    def without(self, files: Iterable[Path]) -> list[Path]:
        """The files of which nothing is said."""
        return [f for f in files if f.relative_to(self.folder).as_posix() not in self.lines]

    def check(self) -> None:
        """Raise `ValueError` if there are any."""
        if not self.lines:
            return
        told = [f"  - {name}: {reason}" for name, reason in [*self.lines.items()][:LISTED]]
        more = len(self.lines) - len(told)
        raise ValueError(
            f"the files in {shortened(str(self.folder))} are not as published:\n"
            + "\n".join(told)
            + (f"\n  and {more} more" if more else "")
            + "\nGet these files again, and move away what does not belong there."
        )


def named(
    files: Sequence[Path], pattern: re.Pattern[str], example: str, problems: Problems
) -> dict[Path, re.Match[str]]:
    """Files whose names have the published form; the others are problems."""
    found = {}
    for path in files:
        match = pattern.fullmatch(path.name)
        if match and _has_time(match):
            found[path] = match
        else:
            problems.add(path, f"extra: names are as {example}")
    return found


def time_of(match: re.Match[str]) -> pd.Timestamp:
    """The time that a name says: a date and a step of three hours, from 0 to 7."""
    step = int(match["step"])
    if step >= 8:
        raise ValueError(f"a day has 8 steps, got {step}")
    day = pd.Timestamp(int(match["year"]), int(match["month"]), int(match["day"]))
    return day + pd.Timedelta(3 * step, "h")


def _has_time(match: re.Match[str]) -> bool:
    try:
        time_of(match)
    except ValueError:
        return False
    return True


def check_sums(
    files: Sequence[Path],
    everywhere: Iterable[Path],
    checksums: Checksums | None,
    problems: Problems,
) -> None:
    """Compare files with a list of checksums: what differs, is not listed or not there is added.

    Parameters
    ----------
    files : sequence of Path
        Files to read.
    everywhere : iterable of Path
        All that are there: a file of the list may be in a part that is not asked for.
    checksums : mapping, path or None
        Hexadecimal digests by name, or a file as `md5sum` writes it.
    problems : Problems
        What is wrong is added to these.
    """
    if checksums is None:
        return
    expected = dict(checksums) if isinstance(checksums, Mapping) else dict(_read_sums(checksums))
    bad = [f"{name} {digest}" for name, digest in expected.items() if not _is_digest(digest)]
    if bad:
        raise ValueError(
            f"checksums must be hexadecimal digests of md5, sha1 or sha256, got {shortened(bad)}"
        )
    for name in sorted(expected.keys() - {path.name for path in everywhere}):
        problems.add(problems.folder / name, "missing: it is in the list of checksums")
    for path in files:
        if path.name not in expected:
            problems.add(path, "extra: it is not in the list of checksums")
            continue
        digest = expected[path.name].lower()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, ALGORITHMS[len(digest)]).hexdigest()
        if found != digest:
            problems.add(path, f"damaged: its checksum is {found}, not {digest}")


def _read_sums(place: str | Path) -> Iterator[tuple[str, str]]:
    path = local_path(place, "the list of checksums").expanduser()
    for line in path.read_text().splitlines():
        digest, _, name = line.strip().partition(" ")
        if digest:
            # md5sum writes an asterisk before names of binary files
            yield Path(name.strip().removeprefix("*")).name, digest


def _is_digest(text: Any) -> bool:
    return len(str(text)) in ALGORITHMS and re.fullmatch(r"[0-9a-fA-F]+", str(text)) is not None


def opened(path: Path, problems: Problems, *, decode_times: bool) -> xr.Dataset | None:
    """A NetCDF file, each variable as one lazy block; None, and a problem, if it cannot be read.

    The file does not stay open: of thousands, few could, and HDF5 is of one thread.
    """
    read = delayed(_read, pure=True)
    try:
        with _of_one_thread, _dataset(path, decode_times=decode_times) as ds:
            state = path.stat()
            stamp = (state.st_size, state.st_mtime_ns)
            lazy = {
                name: da.from_delayed(
                    read(str(path), stamp, name, decode_times=decode_times),
                    array.shape,
                    array.dtype,
                )
                for name, array in ds.data_vars.items()
            }
            return (
                ds.coords.to_dataset()
                .load()
                .assign(
                    {name: (ds[name].dims, values, ds[name].attrs) for name, values in lazy.items()}
                )
            )
    except UNREADABLE as error:
        problems.add(path, f"damaged: {shortened(error)}")
        return None


def _dataset(path: str | Path, *, decode_times: bool) -> xr.Dataset:
    return xr.open_dataset(
        path, engine="netcdf4", decode_times=decode_times, decode_timedelta=False, cache=False
    )


def _read(path: str, stamp: tuple[int, int], name: str, *, decode_times: bool) -> NDArray[Any]:
    """Values of a variable; the stamp is for the name of the task alone."""
    del stamp
    try:
        with _of_one_thread, _dataset(path, decode_times=decode_times) as ds:
            return ds[name].values
    except UNREADABLE as error:
        raise ValueError(f"{shortened(path)} is damaged: {shortened(error)}") from error


def check_same_grid(
    datasets: Mapping[Path, xr.Dataset], names: Sequence[str], problems: Problems
) -> None:
    """Compare the coordinates of all files with those of the first."""
    first = next(iter(datasets.values()), None)
    for path, ds in datasets.items():
        absent = [name for name in names if name not in ds.variables]
        if absent:
            problems.add(path, f"damaged: it lacks the coordinates {shortened(absent)}")
        elif first is not None and any(
            name in first.variables and not np.array_equal(first[name].values, ds[name].values)
            for name in names
        ):
            problems.add(path, f"its {' and '.join(names)} are not those of the other files")


def described_axes(ds: xr.Dataset, lat: str, lon: str) -> xr.Dataset:
    """With CF attributes of latitude and longitude, and of time."""
    north = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    east = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
    clock = {"standard_name": "time", "axis": "T"}
    axes = {lat: north, lon: east, "time": clock}
    return ds.assign_coords({n: ds[n].assign_attrs(a) for n, a in axes.items() if n in ds.coords})
