"""What a map shows: its limits, its pixels, and the cell of a grid under each of them.

Every pixel is projected back to the sphere and falls in one cell or none, so a map costs what its
screen costs, on any grid and any projection, and has no seam. Drawing is left to
`xsphere.plotting.maps`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import (
    Grid,
    HealpixGrid,
    LatLonGrid,
    PointGrid,
    lonlat_to_vectors,
    vectors_to_lonlat,
)
from xsphere.grids.reach import nearest_within

Extent = tuple[float, float, float, float]
DOTS_PER_INCH = 200


@dataclass(frozen=True)
class Screen:
    """Pixels of a map.

    Parameters
    ----------
    extent : tuple of float
        West, east, south and north edge, in the units of the projection.
    x, y : array of float, shape (n_columns,) and (n_rows,)
        Pixel centres in the units of the projection, increasing.
    lon, lat : array of float, shape (n_rows, n_columns)
        Pixel centres in degrees; NaN outside the globe.
    """

    extent: Extent
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """Part of the sphere between two meridians and two parallels, in degrees.

    Parameters
    ----------
    lon : float
        Longitude of the middle.
    half_width : float
        Degrees of longitude from the middle to each side, at most 180.
    south, north : float
        Latitudes.
    """

    lon: float
    half_width: float
    south: float
    north: float


def region_of(grid: Grid) -> Region | None:
    """Smallest region that holds a grid, None for most of the sphere.

    Parameters
    ----------
    grid : Grid
        Any grid.

    Returns
    -------
    Region or None
        May lie across the date line. None where it would be over 300 degrees wide and 120 high.

    Examples
    --------
    >>> region_of(LatLonGrid(lon=[170, 175, 180, 185], lat=[10, 20, 30]))
    Region(lon=177.5, half_width=10.0, south=5.0, north=35.0)
    """
    if isinstance(grid, HealpixGrid) and grid.is_global:
        return None
    start, width, south, north = (
        _bounds_of_edges(grid) if isinstance(grid, LatLonGrid) else _bounds_of_centres(grid)
    )
    half_width = min(width, 360.0) / 2
    if half_width > 150.0 and north - south > 120.0:
        return None
    return Region(float(start + width / 2), float(half_width), float(south), float(north))


def _bounds_of_edges(grid: LatLonGrid) -> Extent:
    """First longitude, width, south and north of what the columns cover, over the seam too."""
    assert grid.lon_bounds is not None
    assert grid.lat_bounds is not None
    start, width = grid.lon_bounds.min(), np.ptp(grid.lon_bounds)
    if not grid.periodic:
        west = grid.lon_bounds[:, 0] % 360.0
        order = np.argsort(west)
        west, east = west[order], (west + np.ptp(grid.lon_bounds, axis=-1))[order]
        gaps = np.append(west[1:], west[0] + 360.0) - np.maximum.accumulate(east)
        start = west[(gaps.argmax() + 1) % west.size]
        width = 360.0 - gaps.max()
    return start, width, grid.lat_bounds.min(), grid.lat_bounds.max()


def _bounds_of_centres(grid: Grid) -> Extent:
    """First longitude, width, south and north, with half a cell to spare."""
    lon, lat = grid.centre_lonlat
    columns = np.unique(lon % 360.0)
    gaps = np.diff(columns, append=columns[0] + 360.0)
    start = columns[(gaps.argmax() + 1) % columns.size]
    spare = float(np.rad2deg(np.sqrt(grid.areas[0]))) if isinstance(grid, HealpixGrid) else 1.0
    south, north = max(-90.0, lat.min() - spare), min(90.0, lat.max() + spare)
    spare /= max(float(np.cos(np.deg2rad(np.abs(lat).max()))), 0.05)
    return start - spare, 360.0 - gaps.max() + 2 * spare, south, north


def default_projection(grid: Grid) -> Any:
    """Robinson about the date line, or plate carrée about the middle of a region.

    Parameters
    ----------
    grid : Grid
        Any grid.

    Returns
    -------
    cartopy.crs.Projection
        Few events of weather cross the meridian that a map about the date line is cut along.

    Examples
    --------
    >>> type(default_projection(HealpixGrid(0))).__name__
    'Robinson'
    """
    import cartopy.crs as ccrs

    region = region_of(grid)
    if region is None:
        return ccrs.Robinson(central_longitude=180.0)
    return ccrs.PlateCarree(central_longitude=(region.lon + 180.0) % 360.0 - 180.0)


def frame_of(projection: Any, grid: Grid) -> tuple[Extent, NDArray[np.float64] | None]:
    """Limits of a map of a whole grid, and its outline where the projection has no fitting one.

    Parameters
    ----------
    projection : cartopy.crs.Projection
        Projection of the map.
    grid : Grid
        What is to be shown.

    Returns
    -------
    extent : tuple of float
        West, east, south and north edge, in the units of the projection.
    outline : array of float, shape (n, 2), or None
        A circle 60 degrees about the centre of a stereographic projection of the whole sphere.

    Examples
    --------
    >>> import cartopy.crs as ccrs
    >>> frame_of(ccrs.PlateCarree(), HealpixGrid(0))
    ((-180.0, 180.0, -90.0, 90.0), None)
    """
    import cartopy.crs as ccrs

    region = region_of(grid)
    if region is not None:
        lon, lat = _mesh(region)
    elif isinstance(projection, ccrs.Stereographic):
        lon, lat = _circle(projection.proj4_params["lon_0"], projection.proj4_params["lat_0"])
    else:
        return _whole(projection), None
    x, y, _ = np.moveaxis(projection.transform_points(ccrs.PlateCarree(), lon, lat), -1, 0)
    inside = np.isfinite(x) & np.isfinite(y)
    if not inside.any():
        return _whole(projection), None
    x, y = x[inside], y[inside]
    extent = (float(x.min()), float(x.max()), float(y.min()), float(y.max()))
    return extent, np.stack([x, y], -1) if region is None else None


def _whole(projection: Any) -> Extent:
    west, east, south, north = (float(v) for v in (*projection.x_limits, *projection.y_limits))
    return west, east, south, north


def _mesh(region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # the far edge of a full turn is the near one
    half_width = min(region.half_width, 180.0 - 1e-6)
    lon = region.lon + np.linspace(-half_width, half_width, 65)
    meridians, parallels = np.meshgrid(lon, np.linspace(region.south, region.north, 65))
    return meridians, parallels


def _circle(lon: float, lat: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points 60 degrees from a point: farther out, a stereographic map mostly shows distortion."""
    angle = np.linspace(0.0, 2 * np.pi, 361)[:, None]
    centre, across = lonlat_to_vectors(lon, lat), lonlat_to_vectors(lon, lat + 90.0)
    ring = np.cos(angle) * across + np.sin(angle) * np.cross(centre, across)
    return vectors_to_lonlat(0.5 * centre + np.sqrt(0.75) * ring)


def frame_axes(axes: Sequence[Any], grid: Grid) -> None:
    """Set the limits of maps to show a whole grid.

    Parameters
    ----------
    axes : sequence of GeoAxes
        Maps of one projection.
    grid : Grid
        What is to be shown.

    Examples
    --------
    >>> import cartopy.crs as ccrs
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().add_subplot(projection=ccrs.PlateCarree())
    >>> frame_axes([ax], LatLonGrid(lon=[2, 4, 6], lat=[10, 20]))
    >>> ax.get_xlim()
    (np.float64(1.0), np.float64(7.0))
    """
    from matplotlib.path import Path

    (west, east, south, north), outline = frame_of(axes[0].projection, grid)
    for ax in axes:
        ax.set_xlim(west, east)
        ax.set_ylim(south, north)
        if outline is not None:
            ax.set_boundary(Path(outline), transform=ax.transData)


def screen_of(ax: Any, pixels: int | None = None) -> Screen:
    """Pixels of a map at its present limits.

    Parameters
    ----------
    ax : GeoAxes
        The map.
    pixels : int, optional
        Pixels along its longer side. By default 200 an inch.

    Returns
    -------
    Screen
        Square pixels, or nearly.

    Examples
    --------
    >>> import cartopy.crs as ccrs
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().add_subplot(projection=ccrs.PlateCarree())
    >>> screen_of(ax, pixels=4).lon[0]
    array([-135.,  -45.,   45.,  135.])
    """
    import cartopy.crs as ccrs

    (west, east), (south, north) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    if pixels is None:
        box = ax.get_window_extent().transformed(ax.get_figure().dpi_scale_trans.inverted())
        pixels = int(np.ceil(DOTS_PER_INCH * max(box.width, box.height)))
    step = max(east - west, north - south) / pixels
    x, y = _middles(west, east, step), _middles(south, north, step)
    points = np.broadcast_arrays(x, y[:, None])
    geodetic = ccrs.PlateCarree()
    lon, lat, _ = np.moveaxis(geodetic.transform_points(ax.projection, *points), -1, 0)
    back = ax.projection.transform_points(geodetic, lon, lat)
    # outside the globe, the inverse of many projections answers all the same
    on_globe = np.hypot(back[..., 0] - points[0], back[..., 1] - points[1]) < 1e-3 * step
    lon, lat = np.where(on_globe, lon, np.nan), np.where(on_globe, lat, np.nan)
    return Screen((west, east, south, north), x, y, lon, lat)


def _middles(first: float, last: float, step: float) -> NDArray[np.float64]:
    n = max(1, round((last - first) / step))
    edges = np.linspace(first, last, n + 1)
    return np.asarray((edges[:-1] + edges[1:]) / 2, np.float64)


def cells_under(screen: Screen, grid: Grid) -> NDArray[np.int64]:
    """Position of the cell under every pixel.

    Parameters
    ----------
    screen : Screen
        Pixels of a map.
    grid : Grid
        Points stand for the part of the sphere nearest to them, within the region they span, and
        not over gaps between them.

    Returns
    -------
    array of int64, shape (n_rows, n_columns)
        Positions in the flattened data of the grid; -1 where no cell is.

    Examples
    --------
    >>> import cartopy.crs as ccrs
    >>> from matplotlib.figure import Figure
    >>> screen = screen_of(Figure().add_subplot(projection=ccrs.PlateCarree()), pixels=4)
    >>> cells_under(screen, LatLonGrid(lon=[45, 135, 225, 315], lat=[-45, 45]))
    array([[2, 3, 0, 1],
           [6, 7, 4, 5]])
    """
    if not isinstance(grid, PointGrid) or grid.has_gaps:
        return grid.cells_at(screen.lon, screen.lat)
    inside = np.isfinite(screen.lon)
    region = region_of(grid)
    if region is not None:
        away = np.abs((screen.lon - region.lon + 180.0) % 360.0 - 180.0)
        inside &= away <= region.half_width
        inside &= (screen.lat >= region.south) & (screen.lat <= region.north)
    cells = np.full(screen.lon.shape, -1)
    points = lonlat_to_vectors(screen.lon[inside], screen.lat[inside])
    cells[inside] = nearest_within(grid.centres, points, None)
    return cells
