"""What was found of each block of a mask, kept in a folder so that a long search can be resumed."""

import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import xarray as xr

from xsphere.atomic import write_file
from xsphere.compat import is_unread
from xsphere.paths import local_path
from xsphere.regions.steps import RegionFinder, StepRegions, found_in_blocks
from xsphere.sources import contents_read, unchanged

# of the files: raise it when what they hold changes
SCHEMA = 1
RUN = "xsphere_track.json"
_OF_STEPS = ("position", "n_regions", "n_cells", "uncertain")


@dataclass(frozen=True, kw_only=True)
class KeptFinder:
    """Finds the regions of each step of a block, or reads what was found of it before.

    Parameters
    ----------
    finder : RegionFinder
        What finds them.
    folder : str
        Where files are kept, one a block; all workers must see it.
    """

    finder: RegionFinder
    folder: str

    def __call__(self, block: xr.Dataset, first: Sequence[int]) -> list[StepRegions]:
        """As of the finder."""
        file = self._file(block, first)
        found = _read(file)
        if found is None:
            found = self.finder(block, first)
            write_file(file, _content(found))
        return found

    def kept(self, block: xr.Dataset, first: Sequence[int]) -> list[StepRegions] | None:
        """What was found of a block before; None if nothing, or the file is damaged."""
        return _read(self._file(block, first))

    def _file(self, block: xr.Dataset, first: Sequence[int]) -> Path:
        lengths = (block.sizes[dim] for dim in self.finder.leading)
        parts = (f"{start}-{start + n}" for start, n in zip(first, lengths, strict=True))
        return Path(self.folder, "_".join(parts) + ".npz")


def resumed_regions(
    together: xr.Dataset, finder: RegionFinder, folder: str | Path | None
) -> Iterator[StepRegions]:
    """Regions of every step in order, those that a folder keeps without any work.

    Raises
    ------
    ValueError
        If something else is in the folder, or regions of other data or options.
    SourceChangedError
        If what is read changed meanwhile.
    """
    if folder is None:
        yield from found_in_blocks(together, finder, finder.leading)
        return
    kept = _kept_finder(finder, together, folder)
    with unchanged(together):
        yield from found_in_blocks(together, kept, finder.leading, kept.kept)


def _kept_finder(finder: RegionFinder, together: xr.Dataset, folder: str | Path) -> KeptFinder:
    # workers may have been started in another folder
    place = local_path(folder, "parts").absolute()
    run = {"schema": SCHEMA, "finder": _token(finder), "data": _told(together)}
    text = json.dumps(run, sort_keys=True)
    file = place / RUN
    if file.is_file():
        if file.read_text() != text:
            raise ValueError(
                f"{place} keeps what was found in another mask, other fields, other chunks or with "
                "other options; choose another folder, or remove it"
            )
    elif place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ValueError(f"{place} is there, but keeps no regions; choose another folder")
    else:
        place.mkdir(parents=True, exist_ok=True)
        write_file(file, text.encode())
    return KeptFinder(finder=finder, folder=str(place))


def _token(finder: RegionFinder) -> str:
    from dask.base import tokenize

    parts = (finder.labelling, finder.leading, finder.readings, finder.angles, finder.measures)
    return str(tokenize(*parts))


def _told(together: xr.Dataset) -> str:
    """What is searched and measured: names of tasks, values in memory, and what is read."""
    sha = hashlib.sha256()
    for name, array in sorted(together.data_vars.items(), key=lambda pair: str(pair[0])):
        variable = array.variable
        sha.update(f"{name} {variable.dims} {variable.shape} {variable.dtype.str} ".encode())
        if variable.chunks is not None:
            sha.update(f"{variable.data.name} {variable.chunks}".encode())
        elif not is_unread(variable):
            sha.update(np.ascontiguousarray(variable.values).data)
    sha.update(json.dumps(contents_read(together), sort_keys=True).encode())
    return sha.hexdigest()


def _content(steps: Sequence[StepRegions]) -> bytes:
    """The steps of a block as one file of arrays, each with a checksum of its own."""
    names = list(steps[0].columns)
    arrays: dict[str, Any] = {
        "position": np.array([step.position for step in steps], np.int64),
        "n_regions": np.array([step.columns["label"].size for step in steps]),
        "n_cells": np.array([step.cells.size for step in steps]),
        "uncertain": np.array([step.uncertain for step in steps]),
        "cells": np.concatenate([step.cells for step in steps]),
        "labels": np.concatenate([step.labels for step in steps]),
    }
    for name in names:
        arrays[f"column {name}"] = np.concatenate([step.columns[name] for step in steps])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _read(file: Path) -> list[StepRegions] | None:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        position, n_regions, n_cells, uncertain = (arrays.pop(name) for name in _OF_STEPS)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None  # not there, or damaged: it is found again
    of_cells = {name: _split(arrays.pop(name), n_cells) for name in ("cells", "labels")}
    columns = {n.removeprefix("column "): _split(a, n_regions) for n, a in arrays.items()}
    return [
        StepRegions(
            position=tuple(position[n].tolist()),
            columns={name: parts[n] for name, parts in columns.items()},
            cells=of_cells["cells"][n],
            labels=of_cells["labels"][n],
            uncertain=bool(uncertain[n]),
        )
        for n in range(len(position))
    ]


def _split(values: Any, lengths: Any) -> list[Any]:
    return np.split(values, np.cumsum(lengths)[:-1])
