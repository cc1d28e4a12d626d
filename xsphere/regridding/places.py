"""Target grids with the dimensions and coordinates that their fields get."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import describe_healpix, horizontal_grid
from xsphere.conventions.base import variables_of
from xsphere.grids import (
    EARTH_RADIUS_KM,
    Ellipsoid,
    Grid,
    HealpixGrid,
    IndexingScheme,
    LatLonGrid,
    PointGrid,
    level_from_nside,
)
from xsphere.notices import shortened

# Level at which the part of the sphere that a region touches is found first.
COARSE_LEVEL = 5


@dataclass(frozen=True, kw_only=True)
class Place:
    """A target grid with its dimensions and a function that adds its coordinates."""

    grid: Grid
    dims: tuple[str, ...]
    describe: Callable[[Any], Any]


def place_on(grid: Grid) -> Place:
    """A grid with the names that xsphere gives."""
    match grid:
        case HealpixGrid():
            return Place(
                grid=grid, dims=("cells",), describe=lambda obj: describe_healpix(obj, grid)
            )
        case LatLonGrid() | PointGrid():
            dims = ("lat", "lon") if isinstance(grid, LatLonGrid) else ("points", "points")
            coords = {
                "lat": xr.Variable(dims[0], grid.lat, _axis_attributes("latitude", "north", "Y")),
                "lon": xr.Variable(dims[1], grid.lon, _axis_attributes("longitude", "east", "X")),
            }
            return Place(
                grid=grid,
                dims=tuple(dict.fromkeys(dims)),
                describe=lambda obj: _with_bounds(obj.assign_coords(coords), grid),
            )
    raise TypeError(
        "target must be a HealpixGrid, LatLonGrid or PointGrid, got "
        f"{type(grid).__name__}; horizontal_grid(obj).grid is the grid of an object"
    )


def place_like(like: xr.Dataset | xr.DataArray) -> Place:
    """The longitude-latitude grid of an object, with the names that the object gives."""
    found = horizontal_grid(like)
    if not isinstance(found.grid, LatLonGrid):
        raise ValueError(  # noqa: TRY004 - the object is right, its grid is not
            f"like must be on a longitude-latitude grid, got {found.grid}; use to_healpix() or "
            "regrid(obj, horizontal_grid(like).grid)"
        )
    variables = variables_of(like)
    coords = {name: variables[name] for name in found.coords}
    return Place(grid=found.grid, dims=found.dims, describe=lambda obj: obj.assign_coords(coords))


def _with_bounds(obj: Any, grid: Grid) -> Any:
    """A Dataset with the corners of unstructured cells; an array has no place for them."""
    if not (isinstance(obj, xr.Dataset) and isinstance(grid, PointGrid) and grid.has_bounds):
        return obj
    for axis, bounds in (("lat", grid.lat_bounds), ("lon", grid.lon_bounds)):
        obj = obj.assign_coords({f"{axis}_bounds": (("points", "vertices"), np.array(bounds))})
        obj[axis].attrs["bounds"] = f"{axis}_bounds"
    return obj


def _axis_attributes(name: str, direction: str, axis: str) -> dict[str, str]:
    return {"standard_name": name, "units": f"degrees_{direction}", "axis": axis}


def checked_level(level: int | None, nside: int | None, wish: str) -> int:
    """The level that a caller means by exactly one of the two."""
    if (level is None) == (nside is None):
        raise ValueError(
            f"{wish}() needs either level=<0 to 29> or nside=2**level, got "
            f"{'neither' if level is None else f'{level=!r:.60} and {nside=!r:.60}'}"
        )
    name, given = ("level", level) if nside is None else ("nside", nside)
    if isinstance(given, bool) or not isinstance(given, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {shortened(given)}")
    return int(given) if nside is None else level_from_nside(int(given))


def in_scheme(grid: HealpixGrid, scheme: IndexingScheme) -> HealpixGrid:
    """The same cells in the same order, numbered by a scheme."""
    if grid.indexing_scheme == scheme:
        return grid
    if scheme == "nested":
        return replace(grid, indexing_scheme=scheme, cell_ids=grid.nested_ids)
    import healpy

    ids = healpy.nest2ring(grid.nside, grid.nested_ids)
    return replace(grid, indexing_scheme=scheme, cell_ids=ids)


def covered_cells(source: Grid, level: int, ellipsoid: Ellipsoid | None = None) -> HealpixGrid:
    """Nested cells of a level whose centres a regional source covers."""
    coarse = HealpixGrid(min(level, COARSE_LEVEL), ellipsoid=ellipsoid)
    touched = np.flatnonzero(_touched(source, coarse))
    fine = replace(coarse, cell_ids=touched).at_level(level)
    inside = _covered(source, fine)
    if not inside.any():
        raise ValueError(
            f"{source} covers the centre of no cell at level {level}; choose a finer level, or "
            "extent='global'"
        )
    return replace(fine, cell_ids=fine.nested_ids[inside])


def _touched(source: Grid, coarse: HealpixGrid) -> NDArray[np.bool_]:
    """Cells of which the source may cover a part."""
    from xsphere.weights import conservative_weights

    if isinstance(source, PointGrid) and not source.has_bounds:
        # no cell reaches farther from its centre than half as far again as the edge of a square
        radius = float(source.reach.max()) + 1.5 * np.sqrt(4 * np.pi / (12 * 4**coarse.level))
        wider = PointGrid(source.lon, source.lat, max_distance=radius * EARTH_RADIUS_KM)
        return np.asarray(wider.cells_at(*coarse.centre_lonlat) >= 0)
    return np.asarray(np.diff(conservative_weights(source, coarse).indptr) > 0)


def _covered(source: Grid, fine: HealpixGrid) -> NDArray[np.bool_]:
    """Cells whose centres the source covers."""
    from xsphere.weights import conservative_weights, regridding_weights

    if isinstance(source, PointGrid) and source.has_bounds:
        # cells of polygons are found by their overlaps: half of a cell is its centre, nearly
        return np.asarray(conservative_weights(source, fine).sum(axis=1) >= 0.5)
    if isinstance(source, PointGrid):
        return np.diff(regridding_weights(source, fine, method="nearest").indptr) > 0
    return source.cells_at(*fine.centre_lonlat) >= 0


def equiangular(resolution: float) -> LatLonGrid:
    """Square cells of a size in degrees, from the south pole and the meridian of Greenwich."""
    if isinstance(resolution, bool) or not isinstance(resolution, numbers.Real):
        raise TypeError(
            f"resolution must be one number of degrees, got {shortened(resolution)}; for cells of "
            "another height than width give like=LatLonGrid(lon, lat)"
        )
    n_lat = round(180.0 / resolution) if resolution > 0 else 0
    if n_lat < 1 or abs(n_lat * resolution - 180.0) > 1e-6:
        raise ValueError(
            f"resolution must divide 180 degrees, got {shortened(resolution)}; for other grids "
            "give like=LatLonGrid(lon, lat)"
        )
    step = 180.0 / n_lat
    middles = (np.arange(2 * n_lat, dtype=np.float64) + 0.5) * step
    return LatLonGrid(lon=middles, lat=middles[:n_lat] - 90.0)
