"""One entry for every way that a dataset may say where its cells are."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from xsphere.conventions.base import (
    PLACE_ENDINGS,
    PLACE_KEYS,
    HorizontalGrid,
    Labelled,
    placed,
    variables_of,
)
from xsphere.conventions.coordinates import (
    MAX_DISTANCE,
    geographic_grid,
    lonlat_of,
    missing_axes,
    near_misses,
)
from xsphere.conventions.healpix_cells import guessed_healpix_grid, healpix_grid
from xsphere.conventions.ugrid import ugrid_grid
from xsphere.conventions.written import describe_healpix
from xsphere.grids import HealpixGrid, PointGrid, lonlat_to_vectors
from xsphere.notices import shortened


def horizontal_grid(
    obj: xr.Dataset | xr.DataArray, variables: Sequence[Hashable] | None = None
) -> HorizontalGrid:
    """Horizontal grid of a Dataset or DataArray, with the names of its dimensions.

    HEALPix metadata is looked for first (CF 1.13 grid mapping, xdggs, easygems, Zarr DGGS), then
    a mesh of the UGRID conventions, then latitude and longitude (by ``standard_name``, ``units``,
    ``axis``, name), then the size of a dimension called ``cells``, ``cell``, ``healpix_index``,
    ``value`` or ``values``. Coordinates are read, data never.

    Parameters
    ----------
    obj : Dataset or DataArray
        Latitude and longitude may be 1-D on two dimensions (any order, either longitude
        convention, CF bounds used, degrees or radians) or 1-D on one dimension (points, with
        edges where CF bounds give three corners or more). Of a mesh, the variables must all be on
        its faces, which have edges, or all on its nodes, which are points without. A Dataset
        tells more than an array selected from it, which has lost bounds, meshes, attributes of
        the Dataset and grid mappings with a dimension of their own. Where there are no data, there
        are no cells: gaps between rows, columns and points are found by their spacing (see
        `LatLonGrid` and `PointGrid`). CF bounds say otherwise; of points without, an attribute
        ``max_distance`` of the latitude does, in km.
    variables : sequence of names, optional
        Variables of a Dataset whose grid is meant, where others may be on another.

    Returns
    -------
    HorizontalGrid
        The grid, the dimensions in the order of its shape, the names of its coordinates.

    Raises
    ------
    TypeError
        If `obj` is not from xarray.
    ValueError
        If no grid is found, several are, or the grid is curvilinear, multi-resolution HEALPix
        or the edges of a mesh; if what is said about it contradicts itself.

    Warns
    -----
    GuessedGridWarning
        If HEALPix is guessed from nothing but the size of a dimension.

    Examples
    --------
    >>> import numpy as np
    >>> coords = {"longitude": [0.0, 120.0, 240.0], "latitude": [45.0, -45.0]}
    >>> field = xr.DataArray(np.zeros((3, 2)), coords, ("longitude", "latitude"))
    >>> horizontal_grid(field).dims
    ('latitude', 'longitude')
    >>> horizontal_grid(field).grid
    LatLonGrid(2 x 3, lat 45..-45, lon 0..240)
    """
    if not isinstance(obj, xr.Dataset | xr.DataArray):
        raise TypeError(f"expected an xarray Dataset or DataArray, got {type(obj).__name__}")
    if variables is not None and isinstance(obj, xr.Dataset):
        obj = placed(obj, variables)
    found = (
        healpix_grid(obj) or ugrid_grid(obj) or geographic_grid(obj) or guessed_healpix_grid(obj)
    )
    if found is None:
        hints = "; ".join(near_misses(obj)) or (
            "set units such as ds['y'].attrs['units'] = 'degrees_north', or "
            "assign_coords(lat=..., lon=...)"
        )
        raise ValueError(
            "expected HEALPix metadata, or latitude and longitude coordinates (by standard_name, "
            "units 'degrees_north' and 'degrees_east', or name), but no "
            f"{' and no '.join(missing_axes(obj))} was found: {hints}; among the coordinates "
            f"{shortened(sorted(map(str, obj.coords)))} of dimensions {shortened(dict(obj.sizes))}"
        )
    if isinstance(found.grid, HealpixGrid):
        _check_places(obj, found.grid, found.dims[0])
    return found


def _check_places(obj: xr.Dataset | xr.DataArray, grid: HealpixGrid, dim: str) -> None:
    """Refuse HEALPix whose cells have longitudes and latitudes that are elsewhere."""
    few = np.unique(np.linspace(0, grid.n_cells - 1, 64).astype(int))
    beside = {
        name: v.isel({dim: few})
        for name, v in variables_of(obj).items()
        if v.dims == (dim,) and v.dtype.kind == "f"
    }
    try:
        found = lonlat_of(beside)
    except ValueError:
        return  # they are not needed
    if found is None:
        return
    chosen = replace(grid, cell_ids=grid.ids[few])
    away = np.linalg.norm(
        lonlat_to_vectors(*found) - lonlat_to_vectors(*chosen.centre_lonlat), axis=-1
    )
    far = away > np.sqrt(grid.areas[0])
    if far.any():
        raise ValueError(
            f"expected one description of the cells, but {grid!r} contradicts the longitudes and "
            f"latitudes along {dim!r}, elsewhere in {int(far.sum())} of {far.size} cells "
            "looked at; correct the level or indexing_scheme, or drop the coordinates"
        )


def common_grid(ds: xr.Dataset, variables: Sequence[Hashable]) -> HorizontalGrid:
    """The grid that some variables of a Dataset share."""
    names = list(dict.fromkeys(variables))
    groups: dict[object, list[Hashable]] = {}
    for name in names:
        groups.setdefault(_place(ds.variables[name]), []).append(name)
    (first, *rest) = (horizontal_grid(ds, alike[:1]) for alike in groups.values())
    others = [
        name
        for alike, found in zip([*groups.values()][1:], rest, strict=True)
        if found.dims != first.dims or found.grid != first.grid
        for name in alike
    ]
    if others:
        raise ValueError(
            f"all inputs must be on one grid, but {shortened(others)} are not on that of "
            f"{shortened(names[0])} "
            f"({shortened(first.grid)}); regrid them first, for example with .sphere.to_healpix()"
        )
    return first


def _place(variable: xr.Variable) -> object:
    """All that a variable of a Dataset says about where its values are: alike for many of them."""
    stated = {
        key: str(value)
        for key, value in {**variable.encoding, **variable.attrs}.items()
        if key in (*PLACE_KEYS, "location") or str(key).endswith(PLACE_ENDINGS)
    }
    return variable.dims, frozenset(stated.items())


def on_its_own(array: xr.DataArray, ds: xr.Dataset, found: HorizontalGrid) -> xr.DataArray:
    """An array on the grid of a Dataset, with what it needs to tell its grid without it."""
    # a mesh cannot be told by an array, which has no place for its corners: there are points
    variables = {name: ds.variables[name] for name in found.coords}
    meshes = [n for n, v in variables.items() if v.attrs.get("cf_role") == "mesh_topology"]
    lost = {
        name: variable
        for name, variable in variables.items()
        if name not in [*array.coords, *meshes] and set(variable.dims) <= set(array.dims)
    }
    array = array.drop_vars(meshes, errors="ignore").assign_coords(lost)
    if isinstance(found.grid, PointGrid) and missing_axes(array):
        dim = found.dims[0]
        lon = (dim, found.grid.lon, {"standard_name": "longitude", "units": "degrees_east"})
        lat = (dim, found.grid.lat, {"standard_name": "latitude", "units": "degrees_north"})
        return array.assign_coords(lon=lon, lat=lat)
    if not isinstance(found.grid, HealpixGrid):
        return array
    try:
        told = healpix_grid(array)
    except ValueError:
        told = None
    if told is not None and told.grid == found.grid:
        return array
    return describe_healpix(array, found.grid, dim=found.dims[0])


def selected(ds: xr.Dataset, name: Hashable) -> xr.DataArray:
    """A variable of a Dataset that tells its grid without the Dataset, where it is on one."""
    if name not in ds:
        raise ValueError(
            f"there is no variable {shortened(name)}; there are {shortened(list(ds.data_vars))}"
        )
    array = ds[name]
    try:
        return on_its_own(array, ds, horizontal_grid(ds, [name]))
    except ValueError:
        return array  # what needs a grid will say what is missing


def with_max_distance(obj: Labelled, max_distance: float | None) -> Labelled:
    """The same data on points that stand for what is nearest to them up to a distance.

    Parameters
    ----------
    obj : Dataset or DataArray
        On points without cell bounds. Left as it was.
    max_distance : float, optional
        Kilometres. If not given, the object comes back as it is.

    Returns
    -------
    Dataset or DataArray
        With an attribute ``max_distance`` of the latitude, which `horizontal_grid` reads.

    Raises
    ------
    ValueError
        If the cells have edges, or the distance is not positive.

    Examples
    --------
    >>> coords = {"lat": ("station", [50.0, 48.0]), "lon": ("station", [8.0, 11.0])}
    >>> field = xr.DataArray([1.0, 2.0], coords, ("station",))
    >>> horizontal_grid(with_max_distance(field, 300)).grid.max_distance
    300.0
    """
    if max_distance is None:
        return obj
    found = horizontal_grid(obj)
    limited = obj.copy(deep=False)
    if isinstance(found.grid, PointGrid) and not found.grid.has_bounds and found.coords:
        limited[found.coords[0]].attrs[MAX_DISTANCE] = max_distance
    if getattr(horizontal_grid(limited).grid, "max_distance", None) is None:
        raise ValueError(
            f"max_distance is for latitude and longitude of points without cell bounds, got "
            f"{found.grid}; leave it out: cells with edges stand for what is inside them"
        )
    return limited
