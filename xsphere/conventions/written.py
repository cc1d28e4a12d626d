"""HEALPix metadata as it is written: one form that CF 1.13, xdggs, easygems and Zarr DGGS know."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions.base import Labelled
from xsphere.grids import Ellipsoid, HealpixGrid
from xsphere.notices import shortened

DIM = "cells"
INDEX = "cell_ids"
CF_INDEX = "healpix_index"
MAPPING = "crs"

DGGS_CONVENTION = {
    "uuid": "7b255807-140c-42ca-97f6-7a1cfecdbc38",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/dggs/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/dggs/blob/v1/README.md",
    "name": "dggs",
    "description": "Discrete Global Grid Systems convention for zarr",
}


def healpix_info(grid: HealpixGrid) -> dict[str, Any]:
    """Description of a HEALPix grid in the words of xdggs.

    Parameters
    ----------
    grid : HealpixGrid
        The grid.

    Returns
    -------
    dict
        ``grid_name``, ``level``, ``indexing_scheme``, and ``ellipsoid`` on one that has a name;
        nothing on one without.

    Examples
    --------
    >>> healpix_info(HealpixGrid(level=3))
    {'grid_name': 'healpix', 'level': 3, 'indexing_scheme': 'nested'}
    """
    info = {
        "grid_name": "healpix",
        "level": grid.level,
        "indexing_scheme": grid.indexing_scheme,
    }
    if grid.figure is None:
        return info
    # of an ellipsoid without a name NetCDF can hold nothing that xdggs reads
    return info | {"ellipsoid": grid.figure.name} if grid.figure.name else {}


def healpix_coords(grid: HealpixGrid, *, dim: str = DIM) -> xr.Coordinates:
    """Coordinates that say to every reader of HEALPix which cells these are.

    Parameters
    ----------
    grid : HealpixGrid
        The grid.
    dim : str
        Dimension of the cells.

    Returns
    -------
    Coordinates
        Scalar integer ``crs`` with the grid mapping of CF 1.13, which easygems reads too;
        ``healpix_index`` along `dim` with the CF ``standard_name``; ``cell_ids`` with the same
        numbers and the attributes of xdggs. Neither has any other: xdggs (0.6) refuses them.

    References
    ----------
    .. [1] CF conventions 1.13, appendix F: https://cfconventions.org

    Examples
    --------
    >>> coords = healpix_coords(HealpixGrid(level=1))
    >>> coords["crs"].attrs["grid_mapping_name"], coords["cell_ids"].sizes
    ('healpix', Frozen({'cells': 48}))
    """
    mapping = {
        "grid_mapping_name": "healpix",
        "indexing_scheme": grid.indexing_scheme,
        "refinement_level": grid.level,
    }
    if grid.figure is not None:
        mapping |= _figure_attributes(grid.figure)
    ids = np.array(grid.ids, np.int64)
    coords = {
        MAPPING: xr.Variable((), np.int32(0), mapping),
        INDEX: xr.Variable((dim,), ids, healpix_info(grid)),
        CF_INDEX: xr.Variable((dim,), ids.copy(), {"standard_name": CF_INDEX}),
    }
    return xr.Coordinates(coords, indexes={})


def _figure_attributes(figure: Ellipsoid) -> dict[str, Any]:
    """An ellipsoid in the words of CF."""
    return {
        **({"reference_ellipsoid_name": figure.name} if figure.name else {}),
        "semi_major_axis": figure.semi_major_axis,
        "inverse_flattening": figure.inverse_flattening,
    }


def _xdggs_figure(figure: Ellipsoid) -> dict[str, Any]:
    """An ellipsoid in the words of xdggs."""
    return {
        **({"name": figure.name} if figure.name else {}),
        "semimajor_axis": figure.semi_major_axis,
        "inverse_flattening": figure.inverse_flattening,
    }


def describe_healpix(
    obj: Labelled, grid: HealpixGrid, *, dim: str = DIM, dggs: bool = False
) -> Labelled:
    """The same data, labelled as HEALPix so that CF, xdggs and easygems readers know the grid.

    Parameters
    ----------
    obj : Dataset or DataArray
        With a dimension `dim` of ``grid.n_cells`` cells. It is left as it was.
    grid : HealpixGrid
        Where the cells are.
    dim : str
        Dimension of the cells.
    dggs : bool
        Whether to add the attributes of the Zarr DGGS convention [1]_ to a Dataset. NetCDF cannot
        hold them.

    Returns
    -------
    Dataset or DataArray
        With the coordinates of `healpix_coords`, and ``grid_mapping`` on every variable along
        `dim`.

    Raises
    ------
    ValueError
        If `obj` has no dimension `dim` of that many cells.

    References
    ----------
    .. [1] https://github.com/zarr-conventions/dggs

    Examples
    --------
    >>> field = xr.DataArray(np.zeros(48), dims="cells", name="t")
    >>> described = describe_healpix(field, HealpixGrid(level=1))
    >>> described.attrs["grid_mapping"], sorted(described.coords)
    ('crs', ['cell_ids', 'crs', 'healpix_index'])
    """
    if obj.sizes.get(dim) != grid.n_cells:
        raise ValueError(
            f"expected a dimension {shortened(dim)} of {grid.n_cells} cells for {grid}, got "
            f"dimensions {shortened(dict(obj.sizes))}"
        )
    described = obj.assign_coords(healpix_coords(grid, dim=dim))
    if isinstance(described, xr.DataArray):
        _set_grid_mapping(described.variable)
        return described
    for variable in described.data_vars.values():
        if dim in variable.dims:
            _set_grid_mapping(variable.variable)
    if dggs:
        described.attrs["dggs"] = {
            "name": "healpix",
            "refinement_level": grid.level,
            "indexing_scheme": grid.indexing_scheme,
            "spatial_dimension": dim,
            "coordinate": INDEX,
            "compression": "none",
            **({} if grid.figure is None else {"ellipsoid": _xdggs_figure(grid.figure)}),
        }
        attrs: dict[Any, Any] = without_dggs(described.attrs)
        described.attrs["zarr_conventions"] = [*attrs.get("zarr_conventions", ()), DGGS_CONVENTION]
    return described


def without_dggs(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes of a Dataset without those of the Zarr DGGS convention.

    Parameters
    ----------
    attrs : mapping
        Of a Dataset. Left as they were.

    Returns
    -------
    dict
        For a Dataset on another grid.

    Examples
    --------
    >>> without_dggs({"dggs": {"name": "healpix"}, "title": "winds"})
    {'title': 'winds'}
    """
    kept = {key: value for key, value in attrs.items() if key not in ("dggs", "zarr_conventions")}
    others = [
        convention
        for convention in attrs.get("zarr_conventions", ())
        if convention.get("uuid") != DGGS_CONVENTION["uuid"]
    ]
    return kept | ({"zarr_conventions": others} if others else {})


def _set_grid_mapping(variable: xr.Variable) -> None:
    """Set it in a variable of our own copy; in both attrs and encoding it could not be written."""
    variable.encoding = {k: v for k, v in variable.encoding.items() if k != "grid_mapping"}
    variable.attrs = {**variable.attrs, "grid_mapping": MAPPING}
