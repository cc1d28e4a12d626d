"""CAM5 on an icosahedral grid: the files of Jiang et al. that DeepSphere was scored on."""

# mypy: allow-untyped-calls

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from xsphere.datasets.channels import CHANNELS, CLASSES, label_attributes
from xsphere.datasets.published import (
    Checksums,
    LabelledFields,
    Problems,
    check_sums,
    described_axes,
    files_in,
    folder_of,
    named,
    time_of,
)
from xsphere.grids import PointGrid
from xsphere.grids.grid import vectors_to_lonlat
from xsphere.notices import shortened
from xsphere.paths import local_path

NAME = re.compile(
    r"data-(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-(?P<step>\d\d)-(?P<run>\d+)-mesh\.npz"
)
EXAMPLE = "data-2106-01-01-00-1-mesh.npz"
# files in one block
IN_BLOCK = 32
# lon, lat of Tibet, where no surface pressure at sea level can be; and of what lies 180 degrees off
TIBET = (80.0, 100.0, 30.0, 36.0)
HIGHLAND = 70_000.0
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def deepsphere_climate(
    path: str | Path,
    *,
    run: int | None = None,
    names: str | Path | Sequence[str] | None = None,
    grid: PointGrid | None = None,
    checksums: Checksums | None = None,
) -> LabelledFields:
    """Fields and labels of CAM5 on the icosahedral grid, from a folder of ``.npz`` files.

    Parameters
    ----------
    path : str or Path
        Folder of files named as ``data-2106-01-01-00-1-mesh.npz``: date, step of three hours, run.
        Each holds ``data`` (16, cells) and ``labels`` (3, cells), one for each class.
    run : int, optional
        Which run; needed where several have the same times.
    names : sequence of str or path, optional
        Files to take, or a text file with one name a line, such as the published
        ``train_split.txt``. That split is a shuffle: most test maps have a training map three
        hours away.
    grid : PointGrid, optional
        Where the cells are. By default the published mesh, checked with the first file: Tibet must
        be where its surface pressure says.
    checksums : mapping or path, optional
        As for `climatenet`.

    Returns
    -------
    LabelledFields
        Fields: 16 channels (time, cells) with coordinates ``lat`` and ``lon``, lazy, 32 maps a
        block. Labels: uint8 (time, cells), 0 background, 1 ``tropical_cyclone``, 2
        ``atmospheric_river``.

    Raises
    ------
    FileNotFoundError
        If the folder is not there, or holds no such file.
    ValueError
        If files are missing, damaged or extra (all are named), runs have the same times, or the
        cells are not those of the grid.

    Notes
    -----
    The mesh has no file of its own that is safe to read: its vertices are made again, in their
    order, each division sorted by the bytes of rounded midpoints.

    References
    ----------
    .. [1] Jiang et al. (2019), https://openreview.net/forum?id=Bkl-43C9FQ
    .. [2] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> data, labels = np.full((16, 12), 5e4, "f4"), np.eye(3, 12, dtype="f4")
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/{EXAMPLE}", data=data, labels=labels)
    ...     fields, labels = deepsphere_climate(folder, grid=PointGrid.icosahedral(0))
    ...     labels.values.tolist()
    [[0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    """
    folder = folder_of(path)
    problems = Problems(folder)
    everywhere = files_in([folder], ".npz")
    if not everywhere:
        raise FileNotFoundError(f"no file ends in .npz in {shortened(str(folder))}")
    files = _wanted(everywhere, names, problems)
    matches = named(files, NAME, EXAMPLE, problems)
    runs = sorted({int(match["run"]) for match in matches.values()})
    if run is not None:
        matches = {file: match for file, match in matches.items() if int(match["run"]) == run}
        if not matches and not problems.lines:
            raise ValueError(f"run must be one of {runs}, got {shortened(run)}")
    check_sums([*matches], everywhere, checksums, problems)
    sound = problems.without(matches)
    n_cells = _check_files(sound, problems)
    problems.check()
    times = {file: time_of(matches[file]) for file in sound}
    if len(set(times.values())) < len(times):
        raise ValueError(f"runs {runs} have the same times; choose one, run={runs[0]}")
    ordered = sorted(sound, key=lambda file: times[file])
    places = _grid_of(ordered[0], n_cells) if grid is None else grid
    if places.n_cells != n_cells:
        raise ValueError(f"grid must have the {n_cells} cells of the files, got {places!r}")
    return _together(ordered, [times[file] for file in ordered], places)


def _wanted(
    files: Sequence[Path], names: str | Path | Sequence[str] | None, problems: Problems
) -> list[Path]:
    if names is None:
        return [*files]
    if isinstance(names, str | Path):
        names = local_path(names, "the list of names").expanduser().read_text().split()
    known = {file.name: file for file in files}
    for name in names:
        if name not in known:
            problems.add(name, "missing: it is in the list of names")
    return [known[name] for name in dict.fromkeys(names) if name in known]


def _check_files(files: Iterable[Path], problems: Problems) -> int:
    """Compare files by what they hold, as far as their directories say; number of cells."""
    expected: dict[str, int] = {}
    n_cells = 0
    for file in files:
        try:
            with zipfile.ZipFile(file) as archive:
                sizes = {part.filename: part.file_size for part in archive.infolist()}
            if not expected:
                shapes = [_read(file, key, _stamp(file)).shape for key in ("data", "labels")]
                n_cells = shapes[0][-1]
                if shapes != [(len(CHANNELS), n_cells), (len(CLASSES) + 1, n_cells)]:
                    raise ValueError(f"data and labels must be (16, cells), (3, cells): {shapes}")
                expected = sizes
        except UNREADABLE as error:
            problems.add(file, f"damaged: {shortened(error)}")
            continue
        if sizes != expected:
            problems.add(file, f"damaged: it holds {sizes} bytes, others {expected}")
    return n_cells


def _stamp(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


# several channels of a block are read one after the other
@lru_cache(maxsize=4 * IN_BLOCK)
def _read(file: Path, key: str, stamp: tuple[int, int]) -> NDArray[Any]:  # noqa: ARG001
    with np.load(file, allow_pickle=False) as archive:
        values: NDArray[Any] = archive[key]
    values.flags.writeable = False
    return values


def _fields(files: Sequence[tuple[Path, tuple[int, int]]], channel: int) -> NDArray[np.float32]:
    """One channel of a block of files."""
    return np.stack([_sound(file, "data", stamp)[channel] for file, stamp in files])


def _classes(files: Sequence[tuple[Path, tuple[int, int]]]) -> NDArray[np.uint8]:
    """Labels of a block of files: of the classes that are whole, the first; else background."""
    labels = np.stack([_sound(file, "labels", stamp) for file, stamp in files])
    classes: NDArray[np.uint8] = np.argmax(labels.astype(int), axis=1).astype(np.uint8)
    return classes


def _sound(file: Path, key: str, stamp: tuple[int, int]) -> NDArray[Any]:
    try:
        return _read(file, key, stamp)
    except UNREADABLE as error:
        raise ValueError(f"{shortened(str(file))} is damaged: {shortened(error)}") from error


def _together(
    files: Sequence[Path], times: Sequence[pd.Timestamp], grid: PointGrid
) -> LabelledFields:
    stamped = [(file, _stamp(file)) for file in files]
    blocks = [stamped[n : n + IN_BLOCK] for n in range(0, len(stamped), IN_BLOCK)]
    clock = pd.DatetimeIndex([*times]).as_unit("ns")
    coords = {"time": clock, "lat": ("cells", grid.lat), "lon": ("cells", grid.lon)}
    first, stamp = stamped[0]
    kind = _read(first, "data", stamp).dtype

    def lazy(function: Callable[..., Any], dtype: Any, *args: Any) -> da.Array:
        read = delayed(function, pure=True)
        parts = [
            da.from_delayed(read(block, *args), (len(block), grid.n_cells), dtype)
            for block in blocks
        ]
        joined: da.Array = da.concatenate(parts)
        return joined

    fields = xr.Dataset(
        {
            name: (("time", "cells"), lazy(_fields, kind, n), attrs)
            for n, (name, attrs) in enumerate(CHANNELS.items())
        },
        coords,
        {"Conventions": "CF-1.11", "source": "CAM5, regridded by Jiang et al."},
    )
    fields = described_axes(fields, "lat", "lon")
    labels = xr.DataArray(
        lazy(_classes, np.uint8), fields.coords, ("time", "cells"), "labels", label_attributes()
    )
    return LabelledFields(fields, labels)


def _grid_of(file: Path, n_cells: int) -> PointGrid:
    """The published mesh, with longitudes as the surface pressure of a file has them."""
    level = round(np.log2(max(n_cells - 2, 1) / 10) / 2)
    if n_cells != 10 * 4 ** max(level, 0) + 2:
        raise ValueError(
            f"{file.name} has {n_cells} cells, which no icosahedral grid has; give grid=..."
        )
    pressure = _read(file, "data", _stamp(file))[[*CHANNELS].index("PS")]
    lon, lat = vectors_to_lonlat(published_vertices(level))
    for shift in (0.0, 180.0):
        turned = np.mod(lon + shift, 360.0)
        west, east, south, north = TIBET
        inside = (turned > west) & (turned < east) & (lat > south) & (lat < north)
        if inside.any() and pressure[inside].mean() < HIGHLAND:
            return PointGrid(turned, lat)
    raise ValueError(
        f"surface pressure in {file.name} is not low where Tibet is on the published mesh: the "
        "cells are in another order; say where they are with grid=PointGrid(lon, lat)"
    )


def published_vertices(level: int) -> NDArray[np.float64]:
    """Vertices of the published icosahedral mesh, in its order.

    Parameters
    ----------
    level : int
        Number of divisions.

    Returns
    -------
    array of float64, shape (10 * 4**level + 2, 3)
        Unit vectors; those of the level below first.

    Examples
    --------
    >>> published_vertices(1)[12]
    array([0., 0., 1.])
    """
    golden = (1.0 + 5.0**0.5) / 2.0
    corners = np.array([(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)])
    vertices = np.concatenate([np.roll(corners, n, axis=1) for n in range(3)])
    vertices /= np.linalg.norm(vertices[0])
    for _ in range(level):
        tree = cKDTree(vertices)
        # edges are within a fifth of each other, the second neighbours far
        edge = np.min(np.asarray(tree.query(vertices, 2)[0])[:, 1])
        middles = vertices[tree.query_pairs(1.35 * edge, output_type="ndarray")].mean(axis=1)
        # the mesh was made with np.unique over rows of int32 as raw bytes, on a little-endian
        # machine; a millionth keeps halves from going either way
        rows = np.round(middles * 1e8 - 1e-6).astype("<i4").view(np.uint8)
        middles = middles[np.lexsort(rows.T[::-1])]
        middles /= np.linalg.norm(middles, axis=1, keepdims=True)
        vertices = np.concatenate([vertices, middles])
    return vertices
