"""Outlines of regions as GeoJSON, for geographic information systems."""

import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.atomic import built_beside
from xsphere.conventions import event_classes_of, horizontal_grid
from xsphere.grids import (
    EARTH_RADIUS_KM,
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    lonlat_to_vectors,
    vectors_to_lonlat,
)
from xsphere.notices import shortened
from xsphere.paths import local_path
from xsphere.regions.labelling import label
from xsphere.regions.steps import time_blocks
from xsphere.regions.track_masks import track_mask

# least parts of an edge that is no straight line in longitude and latitude, and of a quadrant
PARTS, PARTS_OF_QUADRANT = 8, 64
# degrees: a centimetre
PRECISION = 1e-7
POLE = 90 - 1e-6


def write_outlines(
    mask: xr.DataArray,
    path: str | Path,
    *,
    tracks: xr.Dataset | None = None,
    classes: str | int | Sequence[str | int] | None = None,
    min_area: float = 0.0,
    overwrite: bool = False,
) -> Path:
    """Write the outlines of the regions of a mask as GeoJSON, at each time.

    Parameters
    ----------
    mask : DataArray of int or bool
        As for `xsphere.label`. Dask arrays are computed block by block.
    path : str or Path
        File to write, ending in ``.geojson``.
    tracks : Dataset, optional
        From `xsphere.track` of this mask: what belongs to a track at a time is one outline, with
        its ``track_id``, by which the table of tracks is joined. If not given, each region is one.
    classes, min_area
        As for `xsphere.label`, where there are no `tracks`.
    overwrite : bool
        Whether to replace, in one step, what is there.

    Returns
    -------
    Path
        Where it is. Each feature of the collection [1]_ is a polygon or several, counterclockwise,
        with holes, cut at the antimeridian; its properties are ``label`` or ``track_id``, ``time``
        and other dimensions, ``class`` and ``area_km2``. Edges follow those of the cells to about
        a thousandth of their length (of polygons around a pole a hundredth); at a pole they follow
        the edge of the map.

    Raises
    ------
    TypeError
        If `mask` is not a DataArray.
    ValueError
        If the ending is another, the cells have no edges, `classes` or `min_area` are given with
        `tracks`, or as for `xsphere.label` and `xsphere.track_mask`.
    FileExistsError
        If something is there and `overwrite` is not set.

    References
    ----------
    .. [1] RFC 7946, https://www.rfc-editor.org/rfc/rfc7946

    Examples
    --------
    >>> import tempfile, xsphere
    >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
    >>> path = write_outlines(mask, tempfile.mkdtemp() + "/o.geojson", min_area=1e5)
    >>> features = json.loads(path.read_text())["features"]
    >>> len(features) == xsphere.events(mask, min_area=1e5).sizes["event"]
    True
    >>> list(features[0]["properties"])
    ['label', 'time', 'class', 'area_km2']
    """
    place = local_path(path, "the outlines")
    _check(place, tracks, classes, min_area)
    if tracks is None:
        numbers = label(mask, classes=classes, min_area=min_area)
    else:
        numbers = track_mask(mask, tracks)
    horizontal = horizontal_grid(mask)
    _check_edges(horizontal.grid)
    names = event_classes_of(mask)
    with built_beside(place, replace=overwrite) as beside, beside.open("w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        comma = "\n"
        for step in _steps(mask, numbers, horizontal.dims):
            for feature in _features(step, horizontal.grid, names, str(numbers.name)):
                file.write(comma + json.dumps(feature))
                comma = ",\n"
        file.write("\n]}\n")
    return place


def _check(place: Path, tracks: Any, classes: Any, min_area: Any) -> None:
    problems = []
    if place.suffix != ".geojson":
        problems.append(f"outlines must end in '.geojson', got {shortened(place.name)}")
    if tracks is not None and (classes is not None or min_area):
        problems.append("tracks have their own classes and min_area; leave these out")
    if problems:
        raise ValueError("; ".join(problems))


def _check_edges(grid: Grid) -> None:
    if isinstance(grid, PointGrid) and not grid.has_bounds:
        raise ValueError(
            "outlines need cells with edges, got points without; regrid the mask first, or give "
            "CF bounds, such as those of PointGrid.with_voronoi_bounds()"
        )


def _steps(mask: xr.DataArray, numbers: xr.DataArray, dims: Sequence[Hashable]) -> Iterator[Any]:
    """Each step in memory, with its labels."""
    leading = [dim for dim in mask.dims if dim not in dims]
    both = xr.Dataset({"code": mask, "number": numbers}).transpose(*leading, *dims)
    for block in time_blocks(both, leading):
        loaded = both.isel(block).compute()
        for offset in np.ndindex(*(loaded.sizes[dim] for dim in leading)):
            yield loaded.isel(dict(zip(leading, offset, strict=True))), leading


def _features(
    found: tuple[xr.Dataset, list[Hashable]], grid: Grid, names: dict[int, str], kind: str
) -> Iterator[dict[str, Any]]:
    """The features of a step, in the order of their numbers."""
    import shapely
    from shapely.geometry import mapping

    step, leading = found
    labels = {str(dim): _plain(step[dim].values) for dim in leading if dim in step.coords}
    codes, numbers = (step[name].values.ravel() for name in ("code", "number"))
    cells = np.flatnonzero(numbers)
    if not cells.size:
        return
    polygons = cell_polygons(grid, cells)
    for number in np.unique(numbers[cells]):
        chosen = numbers[cells] == number
        inside = codes[cells[chosen]]
        # holes that are filled are background
        value = int(inside[np.isin(inside, list(names))][0])
        outline = shapely.union_all(polygons[chosen], grid_size=PRECISION)
        area = grid.covered_areas[cells[chosen]].sum() * EARTH_RADIUS_KM**2
        properties = {
            kind: int(number),
            **labels,
            "class": names[value],
            "area_km2": round(area, 1),
        }
        yield {
            "type": "Feature",
            "properties": properties,
            "geometry": mapping(_counterclockwise(outline)),
        }


def _plain(value: Any) -> Any:
    """A label as JSON has it."""
    if value.dtype.kind == "M":
        return str(value.astype("datetime64[s]"))
    item = value.item()
    return item.isoformat() if hasattr(item, "isoformat") else item


def _counterclockwise(outline: Any) -> Any:
    from shapely import MultiPolygon
    from shapely.geometry.polygon import orient

    parts = [orient(part) for part in getattr(outline, "geoms", [outline]) if part.area]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def cell_polygons(grid: Grid, cells: NDArray[np.int64]) -> NDArray[Any]:
    """Polygons of some cells in degrees of longitude, from -180 to 180, and latitude.

    Parameters
    ----------
    grid : Grid
        HEALPix, longitude and latitude, or points with edges.
    cells : array of int, shape (n,)
        Their positions.

    Returns
    -------
    array of shapely geometries, shape (n,)
        Cut at the antimeridian; a cell at a pole reaches the edge of the map.

    Examples
    --------
    >>> grid = LatLonGrid([0.0, 90.0, 180.0, 270.0], [45.0, -45.0])
    >>> cell_polygons(grid, np.array([2]))[0].bounds
    (-180.0, 0.0, 180.0, 90.0)
    """
    import shapely

    if isinstance(grid, LatLonGrid):
        row, column = np.divmod(cells, grid.shape[1])
        (west, east), (south, north) = grid.lon_bounds[column].T, grid.lat_bounds[row].T  # type: ignore[index]
        west, east = np.minimum(west, east), np.maximum(west, east)
        polygons = shapely.box(west, np.minimum(south, north), east, np.maximum(south, north))
    else:
        rings = np.stack(_rings(grid, cells), axis=-1).round(9)
        polygons = np.array([shapely.Polygon(_unrolled(ring)) for ring in rings], dtype=object)
    return _cut(polygons)


def _rings(grid: Grid, cells: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Points along the edges of cells, (n, points)."""
    if isinstance(grid, HealpixGrid):
        return replace(grid, cell_ids=grid.ids[cells]).corner_lonlat(
            max(PARTS, PARTS_OF_QUADRANT // grid.nside)
        )
    assert isinstance(grid, PointGrid)
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    corners = lonlat_to_vectors(grid.lon_bounds[cells], grid.lat_bounds[cells])
    for k in range(1, corners.shape[1]):
        absent = np.isnan(corners[:, k, 0])
        corners[absent, k] = corners[absent, k - 1]
    share = np.arange(PARTS)[:, None] / PARTS
    points = corners[:, :, None] * (1 - share) + np.roll(corners, -1, axis=1)[:, :, None] * share
    return vectors_to_lonlat(points.reshape(cells.size, -1, 3))


def _unrolled(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring of (longitude, latitude) without jumps, by way of the pole where it is in the cell."""
    polar = np.abs(ring[:, 1]) > POLE
    if polar.any():
        # from the point after the pole to the one before it
        ring = np.roll(ring, -int(np.flatnonzero(polar)[-1]) - 1, axis=0)
        pole = np.sign(ring[-1, 1]) * 90
        ring = ring[np.abs(ring[:, 1]) <= POLE]
    lon = np.unwrap(np.append(ring[:, 0], ring[0, 0]), period=360)
    if not polar.any() and abs(lon[-1] - lon[0]) < 180:
        return np.column_stack([lon[:-1], ring[:, 1]])
    lat = np.append(ring[:, 1], ring[0, 1])
    if polar.any():
        lon, lat = lon[:-1], lat[:-1]
    else:
        pole = np.sign(lat.mean()) * 90
    return np.column_stack([[*lon, lon[-1], lon[0]], [*lat, pole, pole]])


def _cut(polygons: NDArray[Any]) -> NDArray[Any]:
    """Polygons between longitudes of -180 and 180 degrees."""
    import shapely
    from shapely.affinity import translate

    west, _, east, _ = shapely.bounds(polygons).T
    turns = np.floor((west + 180) / 360)
    whole = polygons.copy()
    for n in np.flatnonzero((turns != 0) | (east > 180)):
        moved = translate(polygons[n], -360.0 * turns[n])
        here = shapely.clip_by_rect(moved, -180, -90, 180, 90)
        beyond = shapely.clip_by_rect(translate(moved, -360.0), -180, -90, 180, 90)
        whole[n] = shapely.union_all([here, beyond])
    return whole
