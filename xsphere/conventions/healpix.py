"""HEALPix metadata: CF 1.13, xdggs, easygems and Zarr DGGS read; one form written for them all.

Cells are on the sphere. Metadata that names an ellipsoid is refused: on WGS 84 almost half of the
cells of a fine grid lie elsewhere, so mixing the two would go wrong without a sign.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.base import HorizontalGrid, Labelled, variables_of
from xsphere.grids import HealpixGrid, IndexingScheme, level_from_nside
from xsphere.notices import warn_user

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

_DIMS = ("cells", "cell", "healpix_index", "value", "values")
_SCHEMES: dict[str, IndexingScheme] = {"nested": "nested", "nest": "nested", "ring": "ring"}
_LEVEL_KEYS = ("refinement_level", "level", "depth", "order", "resolution")
_NSIDE_KEYS = ("healpix_nside", "nside")
_SCHEME_KEYS = ("indexing_scheme", "healpix_order")


class GuessedGridWarning(UserWarning):
    """A grid was taken for HEALPix from the size of a dimension alone.

    Examples
    --------
    >>> import warnings
    >>> from xsphere.conventions import horizontal_grid
    >>> with warnings.catch_warnings():  # doctest: +ELLIPSIS
    ...     warnings.simplefilter("error", GuessedGridWarning)
    ...     horizontal_grid(xr.DataArray(np.zeros(12), dims="cells"))
    Traceback (most recent call last):
    xsphere.conventions.healpix.GuessedGridWarning: ...12...
    """


def healpix_info(grid: HealpixGrid) -> dict[str, Any]:
    """Description of a HEALPix grid in the words of xdggs.

    Parameters
    ----------
    grid : HealpixGrid
        The grid.

    Returns
    -------
    dict
        ``grid_name``, ``level``, ``indexing_scheme``.

    Examples
    --------
    >>> healpix_info(HealpixGrid(level=3))
    {'grid_name': 'healpix', 'level': 3, 'indexing_scheme': 'nested'}
    """
    return {
        "grid_name": "healpix",
        "level": grid.level,
        "indexing_scheme": grid.indexing_scheme,
    }


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
    ids = np.array(grid.ids, np.int64)
    coords = {
        MAPPING: xr.Variable((), np.int32(0), mapping),
        INDEX: xr.Variable((dim,), ids, healpix_info(grid)),
        CF_INDEX: xr.Variable((dim,), ids.copy(), {"standard_name": CF_INDEX}),
    }
    return xr.Coordinates(coords, indexes={})


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
            f"expected a dimension {dim!r} of {grid.n_cells} cells for {grid}, got dimensions "
            f"{dict(obj.sizes)}"
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


def healpix_grid(obj: xr.Dataset | xr.DataArray) -> HorizontalGrid | None:
    """HEALPix grid that the metadata of an object describe, or None if they describe none."""
    variables = variables_of(obj)
    statements = dict(_statements(obj, variables))
    if not statements:
        return None
    for where, attrs in statements.items():
        _refuse_other_kinds(where, attrs)
    level = _agreed("level", {where: _level(attrs) for where, attrs in statements.items()})
    scheme = _agreed(
        "indexing_scheme", {where: _scheme(attrs) for where, attrs in statements.items()}
    )
    index = _index_name(obj, variables)
    dim = _cells_dim(obj, level) if index is None else str(variables[index].dims[0])
    ids = None if index is None else _ids(index, variables[index])
    mappings = tuple(name for name, v in variables.items() if _is_mapping(v.attrs))
    return HorizontalGrid(
        grid=HealpixGrid(level, _SCHEMES[scheme], ids),
        dims=(dim,),
        coords=(*mappings, *(() if index is None else (index,))),
    )


def guessed_healpix_grid(obj: xr.Dataset | xr.DataArray) -> HorizontalGrid | None:
    """Whole nested HEALPix sphere, if a dimension has a usual name and a possible size."""
    levels = {12 * 4**level: level for level in range(30)}
    dims = [dim for dim in _DIMS if obj.sizes.get(dim) in levels]
    if len(dims) != 1:
        return None
    grid = HealpixGrid(levels[obj.sizes[dims[0]]])
    warn_user(
        f"dimension {dims[0]!r} of {grid.n_cells} is taken for the whole HEALPix sphere at level "
        f"{grid.level}, nested; say so with xsphere.conventions.describe_healpix(obj, grid, "
        f"dim={dims[0]!r})",
        GuessedGridWarning,
    )
    return HorizontalGrid(grid=grid, dims=(dims[0],), coords=())


def _is_mapping(attrs: Mapping[Any, Any]) -> bool:
    return attrs.get("grid_mapping_name") == "healpix" or "healpix_nside" in attrs


def _statements(
    obj: xr.Dataset | xr.DataArray, variables: Mapping[str, xr.Variable]
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Everything that describes the grid, by where it stands: CF, xdggs, easygems, Zarr DGGS."""
    for name, variable in variables.items():
        if _is_mapping(variable.attrs) or variable.attrs.get("grid_name") == "healpix":
            yield name, variable.attrs
    for name, index in obj.xindexes.items():
        # the index of xdggs, known by what it offers, so that xdggs need not be installed
        info = getattr(index, "grid_info", None)
        if info is not None and info.to_dict().get("grid_name") == "healpix":
            yield f"index of {name}", info.to_dict()
    dggs = obj.attrs.get("dggs")
    if isinstance(dggs, Mapping) and dggs.get("name") == "healpix":
        yield "dggs", dggs


def _refuse_other_kinds(where: str, attrs: Mapping[Any, Any]) -> None:
    scheme = attrs.get("indexing_scheme")
    if scheme in ("nuniq", "zuniq"):
        raise ValueError(
            f"expected HEALPix cells of one level, but {where!r} says indexing_scheme {scheme!r}, "
            "which mixes levels; convert the ids to 'nested' at one level first"
        )
    figure = _figure(attrs)
    if figure is not None:
        raise ValueError(
            f"expected HEALPix on the sphere, but {where!r} says {figure}: its cells lie "
            "elsewhere, and taking one for the other would be wrong without a sign; treat them "
            "as points by their latitude and longitude"
        )


def _figure(attrs: Mapping[Any, Any]) -> str | None:
    """What is said about an ellipsoid, or None for a sphere."""
    ellipsoid = attrs.get("ellipsoid", attrs.get("reference_ellipsoid_name"))
    flattening = attrs.get("inverse_flattening", 0.0)
    if isinstance(ellipsoid, Mapping):
        flattening = ellipsoid.get("inverse_flattening", ellipsoid.get("flattening", 0.0))
        if "radius" in ellipsoid or not float(flattening):
            return None
        return f"ellipsoid {dict(ellipsoid)}"
    if ellipsoid is not None and "sphere" not in str(ellipsoid).lower():
        return f"ellipsoid {ellipsoid!r}"
    major, minor = attrs.get("semi_major_axis"), attrs.get("semi_minor_axis")
    if minor is not None and major != minor:
        return f"semi axes {major} and {minor}"
    return f"inverse_flattening {flattening}" if float(flattening) else None


def _level(attrs: Mapping[Any, Any]) -> int | None:
    for key in _LEVEL_KEYS:
        if key in attrs:
            return int(attrs[key])
    for key in _NSIDE_KEYS:
        if key in attrs:
            return level_from_nside(int(attrs[key]))
    return None


def _scheme(attrs: Mapping[Any, Any]) -> str | None:
    for key in _SCHEME_KEYS:
        if key in attrs:
            stated = str(attrs[key]).lower()
            if stated not in _SCHEMES:
                raise ValueError(f"{key} must be one of {sorted(_SCHEMES)}, got {attrs[key]!r}")
            return _SCHEMES[stated]
    if "nest" in attrs:
        return "nested" if attrs["nest"] else "ring"
    return None


def _agreed(what: str, stated: Mapping[str, Any]) -> Any:
    """The one value that all statements which make one agree on."""
    known = {where: value for where, value in stated.items() if value is not None}
    if not known:
        raise ValueError(
            f"expected the HEALPix {what} in the attributes of {list(stated)}, got none; set "
            "refinement_level and indexing_scheme there"
        )
    if len(set(known.values())) > 1:
        raise ValueError(
            f"expected one HEALPix {what}, but the metadata contradict each other: {known}; "
            "correct the wrong one, or drop the variables of the other grid"
        )
    return next(iter(known.values()))


def _index_name(obj: xr.Dataset | xr.DataArray, variables: Mapping[str, xr.Variable]) -> str | None:
    """Name of the variable that holds the cell ids, or None."""
    along_cells = {name: v for name, v in variables.items() if v.ndim == 1}
    dggs = obj.attrs.get("dggs")
    declared = dggs.get("coordinate") if isinstance(dggs, Mapping) else None
    rules = (
        [n for n, v in along_cells.items() if v.attrs.get("standard_name") == CF_INDEX],
        [n for n, v in along_cells.items() if v.attrs.get("grid_name") == "healpix"],
        [n for n in along_cells if n == declared],
        [n for n in along_cells if n == INDEX],
        [n for n, v in along_cells.items() if n in _DIMS and n == v.dims[0]],
    )
    for names in rules:
        if len(names) > 1:
            raise ValueError(
                f"expected one coordinate of HEALPix cell ids, got {names}; drop the others "
                f"first, for example obj.drop_vars({names[1:]})"
            )
        if names:
            return names[0]
    return None


def _cells_dim(obj: xr.Dataset | xr.DataArray, level: int) -> str:
    """Dimension of the whole sphere, where no coordinate holds the cell ids."""
    n_sphere = 12 * 4**level
    dims = [str(dim) for dim, size in obj.sizes.items() if size == n_sphere]
    named = [dim for dim in dims if dim in _DIMS]
    if len(named or dims) != 1:
        raise ValueError(
            f"expected one dimension of the {n_sphere} cells of HEALPix level {level}, or a "
            f"coordinate of cell ids with standard_name 'healpix_index', got {dict(obj.sizes)}; "
            "add the coordinate with xsphere.conventions.describe_healpix(obj, grid)"
        )
    return (named or dims)[0]


def _ids(name: str, variable: xr.Variable) -> NDArray[np.int64]:
    values = variable.values
    if values.dtype.kind not in "iu" and not (
        values.dtype.kind == "f" and np.array_equal(values, np.round(values))
    ):
        raise ValueError(
            f"HEALPix cell ids {name!r} must be integers, got {values.dtype} {values[:3]}"
        )
    return np.asarray(values).astype(np.int64)
