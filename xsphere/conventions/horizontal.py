"""One entry for every way that a dataset may say where its cells are."""

import xarray as xr

from xsphere.conventions.base import HorizontalGrid
from xsphere.conventions.coordinates import geographic_grid, missing_axes
from xsphere.conventions.healpix import guessed_healpix_grid, healpix_grid
from xsphere.conventions.ugrid import ugrid_grid


def horizontal_grid(obj: xr.Dataset | xr.DataArray) -> HorizontalGrid:
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
        its faces, which have edges, or all on its nodes, which are points without.

    Returns
    -------
    HorizontalGrid
        The grid, the dimensions in the order of its shape, the names of its coordinates.

    Raises
    ------
    TypeError
        If `obj` is not from xarray.
    ValueError
        If no grid is found, several are, or the grid is curvilinear, multi-resolution HEALPix,
        HEALPix on an ellipsoid or the edges of a mesh.

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
    found = (
        healpix_grid(obj) or ugrid_grid(obj) or geographic_grid(obj) or guessed_healpix_grid(obj)
    )
    if found is None:
        raise ValueError(
            "expected HEALPix metadata, or latitude and longitude coordinates (by standard_name, "
            f"units 'degrees_north' and 'degrees_east', or name), but no "
            f"{' and no '.join(missing_axes(obj))} was found among the coordinates "
            f"{sorted(map(str, obj.coords))} of dimensions {dict(obj.sizes)}; set units such as "
            "ds['y'].attrs['units'] = 'degrees_north', or assign_coords(lat=..., lon=...)"
        )
    return found
