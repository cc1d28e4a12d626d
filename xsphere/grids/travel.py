"""Grids on their way to other processes: a few hundred bytes, or a name in the cache.

Tasks are sent to workers one by one. A grid that its axes describe goes with them as a few
numbers; the arrays of a large one lie in a file of the cache, and the task holds its name.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.cache import SharedEntries, cached, entry_path
from xsphere.entries import read_entry
from xsphere.grids.grid import Grid
from xsphere.grids.healpix import HealpixGrid
from xsphere.grids.latlon import LatLonGrid
from xsphere.grids.points import PointGrid
from xsphere.grids.spacing import is_gaussian, latitude_bounds, longitude_bounds

# Larger grids go by name.
EMBEDDED_BYTES = 8192

_KINDS: dict[str, type[Grid]] = {
    kind.__name__: kind for kind in (HealpixGrid, LatLonGrid, PointGrid)
}
_packed_grids = SharedEntries(64)
_grids = SharedEntries(64)


class PackedGrid(NamedTuple):
    """What stands for a grid in a task."""

    kind: str
    fingerprint: str
    definition: dict[str, Any]
    folder: str | None = None  # of the cache entry with the arrays


class Linear(NamedTuple):
    """An axis of equal steps."""

    start: float
    step: float
    size: int


class Travelling:
    """A frozen dataclass whose grids are packed when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        packed = {k: pack(v) if isinstance(v, Grid) else v for k, v in values.items()}
        return _arrived, (type(self), packed)


def pack(grid: Grid) -> PackedGrid:
    """What stands for a grid in a task.

    Parameters
    ----------
    grid : Grid
        Any grid. Its arrays are stored in the cache if they are large.

    Returns
    -------
    PackedGrid
        A few kilobytes at most, or everything where the cache cannot be used.

    Examples
    --------
    >>> grid = LatLonGrid(np.arange(0, 360, 0.25), np.linspace(90, -90, 721))
    >>> pack(grid).definition["lon"]
    Linear(start=0.0, step=0.25, size=1440)
    """
    packed: PackedGrid = _packed_grids.fetch(grid.fingerprint, lambda: _packed(grid))
    if packed.folder is not None and not Path(packed.folder).exists():
        return _packed(grid)  # the cache was cleared, or another one is in use
    return packed


def unpack(packed: PackedGrid) -> Grid:
    """The grid that was packed, made once per process.

    Parameters
    ----------
    packed : PackedGrid
        From `pack`, in this process or another.

    Returns
    -------
    Grid
        Equal to what was packed.

    Raises
    ------
    FileNotFoundError
        If it lies in a cache that this process cannot read.

    Examples
    --------
    >>> unpack(pack(HealpixGrid(3)))
    HealpixGrid(level=3, nested)
    """
    grid: Grid = _grids.fetch(packed.fingerprint, lambda: _unpacked(packed))
    return grid


def _arrived(kind: type, values: dict[str, Any]) -> Any:
    return kind(**{k: unpack(v) if isinstance(v, PackedGrid) else v for k, v in values.items()})


def _packed(grid: Grid) -> PackedGrid:
    kind, definition = type(grid).__name__, grid.__getstate__()
    if isinstance(grid, LatLonGrid):
        definition = _short_axes(definition)
    arrays = {k: v for k, v in definition.items() if isinstance(v, np.ndarray)}
    folder = entry_path("grids", grid.fingerprint)

    def same(found: dict[str, NDArray[Any]]) -> bool:
        if found.keys() != arrays.keys() or not all(
            np.array_equal(found[name], arrays[name]) for name in arrays
        ):
            raise ValueError("it is of another grid")
        return True

    if sum(array.nbytes for array in arrays.values()) > EMBEDDED_BYTES and folder is not None:
        cached("grids", grid.fingerprint, lambda: arrays, same, about=repr(grid))
        if folder.exists():
            rest = {k: v for k, v in definition.items() if k not in arrays}
            return PackedGrid(kind, grid.fingerprint, rest, str(folder))
    return PackedGrid(kind, grid.fingerprint, definition)


def _short_axes(definition: dict[str, Any]) -> dict[str, Any]:
    lon, lat = definition["lon"], definition["lat"]
    short: dict[str, Any] = {
        "lon": _as_linear(lon),
        "lat": _as_linear(lat),
        "lon_bounds": definition["lon_bounds"],
        "lat_bounds": definition["lat_bounds"],
    }
    if lon.size > 1 and np.array_equal(short["lon_bounds"], longitude_bounds(lon)):
        short["lon_bounds"] = None
    # those of Gaussian rows come from a library whose last bits may differ elsewhere
    derived = lat.size > 1 and np.array_equal(short["lat_bounds"], latitude_bounds(lat))
    if derived and not is_gaussian(lat):
        short["lat_bounds"] = None
    return short


def _as_linear(axis: NDArray[np.float64]) -> NDArray[np.float64] | Linear:
    """Start and step if they give every last bit of an axis, else the axis."""
    step = float(axis[1] - axis[0]) if axis.size > 1 else 0.0
    linear = Linear(float(axis[0]), step, axis.size)
    return linear if np.array_equal(_axis(linear), axis) else axis


def _axis(linear: Linear) -> NDArray[np.float64]:
    return np.asarray(linear.start + linear.step * np.arange(linear.size), np.float64)


def _unpacked(packed: PackedGrid) -> Grid:
    definition = packed.definition | _stored(packed)
    axes = {k: _axis(v) if isinstance(v, Linear) else v for k, v in definition.items()}
    grid = _KINDS[packed.kind](**axes)
    if grid.fingerprint != packed.fingerprint:
        raise ValueError(
            f"{grid} arrived with fingerprint {grid.fingerprint[:16]} instead of "
            f"{packed.fingerprint[:16]}; run the same version of xsphere in all processes"
        )
    return grid


def _stored(packed: PackedGrid) -> dict[str, Any]:
    if packed.folder is None:
        return {}
    own = entry_path("grids", packed.fingerprint)
    for folder in (own, Path(packed.folder)):
        arrays = None if folder is None else read_entry(folder, dict)
        if arrays is not None:
            return arrays
    raise FileNotFoundError(
        f"the grid of this task lies in {packed.folder}, which this process cannot read; point "
        "the cache of all workers at one shared folder (XSPHERE_CACHE_DIR), or turn it off with "
        "set_options(cache_dir='') so that grids travel with the tasks"
    )
