"""Shape of elongated regions: their axis, and how long and wide they are along it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from xsphere.grids import EARTH_RADIUS_KM, Grid, tangent_vectors, vectors_to_lonlat

# links of a path that its axis passes over: a path along cells is a zigzag
SMOOTHED = 3
Columns = dict[str, NDArray[Any]]


def region_shapes(
    labels: NDArray[np.int32],
    number: int,
    grid: Grid,
    adjacency: sparse.csr_array,
    flux: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> Columns:
    """Length, width and direction of each region of a step, and what it carries along.

    Parameters
    ----------
    labels : array of int, shape (n_cells,)
        Numbers of the regions from 1, 0 where there is none.
    number : int
        How many there are.
    grid : Grid
        Of the labels.
    adjacency : sparse array of bool, shape (n_cells, n_cells)
        Which cells touch.
    flux : pair of arrays of float, shape (n_cells,), optional
        Eastward and northward transport of vapour, in kg m-1 s-1.

    Returns
    -------
    dict of str to array, shape (number,)
        ``length``: of the axis in km, the longest of the shortest ways between two cells of the
        region, and half a cell at each end. ``width``: area over length. ``orientation``: of the
        line between its ends, half-way, in degrees clockwise from north, from 0 to 180; NaN for
        single cells. ``axis_start_lon``, ``axis_start_lat``, ``axis_end_lon``, ``axis_end_lat``:
        its ends, the western one first. With `flux`, ``transport``: of vapour along the axis in
        kg/s, the mean over all cross-sections of what passes through them: the integral of the
        component along the axis over the area, by the length. The total transport of Ralph et al.
        [1]_ is that of one cross-section. Whichever way along the axis, it is positive. Cells
        without a value add nothing; NaN for single cells.

    References
    ----------
    .. [1] Ralph et al. (2017), https://doi.org/10.1175/JHM-D-17-0036.1

    Examples
    --------
    >>> from xsphere.graph import adjacency
    >>> from xsphere.grids import LatLonGrid
    >>> grid = LatLonGrid(np.arange(0, 360, 2.0), np.arange(-89, 90, 2.0))
    >>> labels = np.zeros(grid.shape, np.int32)
    >>> labels[45, 10:30] = 1  # 20 cells of 2 degrees near the equator
    >>> shape = region_shapes(labels.ravel(), 1, grid, adjacency(grid))
    >>> shape["length"].round(-1), shape["orientation"].round()
    (array([4450.]), array([90.]))
    """
    cells = np.flatnonzero(labels)
    region = labels[cells] - 1
    links = _lengths(adjacency[cells][:, cells].tocoo(), grid.centres[cells], region)
    first = np.zeros(number, np.int64)
    first[region[::-1]] = np.arange(region.size)[::-1]
    # twice to what is farthest: the ends of the longest of the shortest ways, but for loops
    starts = _farthest(links, first, region, number)
    ends, back = _farthest(links, starts, region, number, with_way=True)
    areas = np.bincount(region, grid.covered_areas[cells], number) * EARTH_RADIUS_KM**2
    half = np.sqrt(grid.areas[cells])[:, None] * EARTH_RADIUS_KM / 2
    columns: Columns = {name: np.full(number, np.nan) for name in SHAPE_ATTRIBUTES}
    axes = []
    for n in range(number):
        axis = _way(back, int(starts[n]), int(ends[n]))
        places = _smoothed(grid.centres[cells[axis]])
        axes.append(places)
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
        along = float((2 * np.arcsin(np.minimum(steps / 2, 1))).sum()) * EARTH_RADIUS_KM
        columns["length"][n] = along + float(half[axis[0], 0] + half[axis[-1], 0])
        lon, lat = vectors_to_lonlat(places[[0, -1]])
        if len(places) > 1:
            columns["orientation"][n] = _direction(places)
        west = 0 if (lon[1] - lon[0] + 180) % 360 - 180 >= 0 else 1
        for which, name in ((west, "start"), (1 - west, "end")):
            columns[f"axis_{name}_lon"][n] = lon[which] % 360
            columns[f"axis_{name}_lat"][n] = lat[which]
    columns["width"] = areas / columns["length"]
    if flux is not None:
        carried = _carried(axes, flux, cells, region, grid) * EARTH_RADIUS_KM**2 * 1e3
        columns["transport"] = carried / columns["length"]
    return columns


# in the order of the columns
SHAPE_ATTRIBUTES: dict[str, dict[str, str]] = {
    "length": {"long_name": "length of the axis", "units": "km"},
    "width": {"long_name": "area over length", "units": "km"},
    "orientation": {"long_name": "direction of the axis from north", "units": "degree"},
    "axis_start_lon": {"long_name": "longitude of the western end", "units": "degrees_east"},
    "axis_start_lat": {"long_name": "latitude of the western end", "units": "degrees_north"},
    "axis_end_lon": {"long_name": "longitude of the eastern end", "units": "degrees_east"},
    "axis_end_lat": {"long_name": "latitude of the eastern end", "units": "degrees_north"},
}
TRANSPORT_ATTRIBUTES = {
    "transport": {"long_name": "transport of water vapour along the axis", "units": "kg s-1"}
}


def _carried(
    axes: list[NDArray[np.float64]],
    flux: tuple[NDArray[Any], NDArray[Any]],
    cells: NDArray[np.int64],
    region: NDArray[Any],
    grid: Grid,
) -> NDArray[np.float64]:
    """Integral over the area of each region, in steradian, of the flux along its axis."""
    centres = grid.centres[cells]
    ways = tangent_vectors(*(place[cells] for place in grid.centre_lonlat))
    vectors = sum(f[cells, None].astype(float) * way for f, way in zip(flux, ways, strict=True))
    vectors = np.nan_to_num(vectors) * grid.covered_areas[cells, None]
    order = np.argsort(region, kind="stable")
    members = np.split(order, np.searchsorted(region[order], np.arange(1, len(axes))))
    found = np.full(len(axes), np.nan)
    for n, (places, inside) in enumerate(zip(axes, members, strict=False)):
        if np.ptp(places, axis=0).any():
            # of each place, the direction from the one before to the one after
            directions = np.gradient(places, axis=0)[np.argmax(centres[inside] @ places.T, axis=1)]
            up = (directions * centres[inside]).sum(-1, keepdims=True) * centres[inside]
            level = directions - up
            along = (vectors[inside] * level).sum(-1) / np.linalg.norm(level, axis=-1)
            found[n] = abs(along.sum())
    return found


def _lengths(
    links: sparse.coo_array, centres: NDArray[np.float64], region: NDArray[Any]
) -> sparse.csr_array:
    """Great-circle lengths of the links between cells of one region."""
    same = region[links.row] == region[links.col]
    row, col = links.row[same], links.col[same]
    chord = np.linalg.norm(centres[row] - centres[col], axis=1)
    # cells at one place are linked all the same
    length = np.maximum(2 * np.arcsin(np.minimum(chord / 2, 1)), 1e-12)
    return sparse.csr_array((length, (row, col)), links.shape)


def _farthest(
    links: sparse.csr_array,
    starts: NDArray[np.int64],
    region: NDArray[Any],
    number: int,
    *,
    with_way: bool = False,
) -> Any:
    """The cell of each region that is farthest from its start, and the ways to all cells."""
    if not number:
        none = np.empty(0, np.int64)
        return (none, none) if with_way else none
    distance, back, _ = dijkstra(
        links, directed=False, indices=starts, return_predecessors=True, min_only=True
    )
    order = np.lexsort((-np.arange(distance.size), distance, region))
    last = np.searchsorted(region[order], np.arange(number), side="right") - 1
    farthest = order[last]
    return (farthest, back) if with_way else farthest


def _way(back: NDArray[Any], start: int, end: int) -> list[int]:
    way = [end]
    while way[-1] != start:
        way.append(int(back[way[-1]]))
    return way[::-1]


def _smoothed(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every third place of a way and its ends: between them it goes straight."""
    if len(places) <= SMOOTHED:
        return places[[0, -1]] if len(places) > 1 else places[[0, 0]]
    kept = np.unique([*range(0, len(places) - 1, SMOOTHED), len(places) - 1])
    few: NDArray[np.float64] = places[kept]
    return few


def _direction(places: NDArray[np.float64]) -> float:
    """Direction of the chord of an axis, at its middle, in degrees from north."""
    chord, middle = places[-1] - places[0], places[0] + places[-1]
    if min(np.linalg.norm(chord), np.linalg.norm(middle)) < 1e-9:
        return float("nan")
    lon, lat = vectors_to_lonlat(middle / np.linalg.norm(middle))
    east, north = tangent_vectors(lon, lat)
    return float(np.rad2deg(np.arctan2(chord @ east, chord @ north)) % 180)
