"""HEALPix metadata as they are read: CF 1.13, xdggs, easygems and Zarr DGGS.

Cells are on the sphere unless something names an ellipsoid: on WGS 84 almost half of the cells of a
fine grid lie elsewhere, so mixing the two would go wrong without a sign.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.base import HorizontalGrid, at_all_times, mappings_of, variables_of
from xsphere.conventions.figures import stated_figure
from xsphere.conventions.written import CF_INDEX, INDEX
from xsphere.grids import HealpixGrid, IndexingScheme, level_from_nside
from xsphere.notices import shortened, warn_user

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
    xsphere.conventions.healpix_cells.GuessedGridWarning: ...12...
    """


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
    figures = {where: stated_figure(where, attrs) for where, attrs in statements.items()}
    figure = _agreed("ellipsoid", figures) if any(figures.values()) else None
    if INDEX in variables:
        variables[INDEX] = at_all_times(INDEX, variables)
    index = _index_name(obj, variables)
    dim = _cells_dim(obj, level) if index is None else str(variables[index].dims[0])
    ids = None if index is None else _ids(index, variables[index])
    mappings = tuple(name for name, v in variables.items() if _is_mapping(v.attrs))
    return HorizontalGrid(
        grid=HealpixGrid(level, _SCHEMES[scheme], ids, None if figure == "sphere" else figure),
        dims=(dim,),
        coords=(*mappings, *(() if index is None else (index,))),
    )


def guessed_healpix_grid(obj: xr.Dataset | xr.DataArray) -> HorizontalGrid | None:
    """Whole nested HEALPix sphere, if a dimension has a usual name and a possible size."""
    levels = {12 * 4**level: level for level in range(30)}
    dims = [dim for dim in _DIMS if obj.sizes.get(dim) in levels]
    if len(dims) != 1:
        return None
    _refuse_lost_statements(obj, dims[0])
    grid = HealpixGrid(levels[obj.sizes[dims[0]]])
    warn_user(
        f"dimension {shortened(dims[0])} of {grid.n_cells} is taken for the whole HEALPix sphere "
        f"at level {grid.level}, nested; say so with xsphere.conventions.describe_healpix(obj, "
        f"grid, dim={shortened(dims[0])})",
        GuessedGridWarning,
    )
    return HorizontalGrid(grid=grid, dims=(dims[0],), coords=())


def _refuse_lost_statements(obj: xr.Dataset | xr.DataArray, dim: str) -> None:
    """Refuse to guess where something says more than the size of a dimension."""
    lost = mappings_of(obj)[1]
    if lost:
        raise ValueError(
            f"expected HEALPix metadata for the dimension {shortened(dim)}, but the data refer to "
            f"the grid mapping {lost}, which is not with them: a variable that is selected from a "
            "dataset loses it where it has a dimension of its own; select from "
            f"ds.squeeze({shortened(lost[0])}), or label the data with "
            "xsphere.conventions.describe_healpix(obj, grid)"
        )
    variables = variables_of(obj)
    index = _index_name(obj, variables)
    if index is not None and not np.array_equal(variables[index].values, np.arange(obj.sizes[dim])):
        raise ValueError(
            f"expected the HEALPix level and indexing_scheme of the cells that {shortened(index)} "
            "numbers, got neither; say them with xsphere.conventions.describe_healpix(obj, grid)"
        )


def _is_mapping(attrs: Mapping[Any, Any]) -> bool:
    return attrs.get("grid_mapping_name") == "healpix" or "healpix_nside" in attrs


def _statements(
    obj: xr.Dataset | xr.DataArray, variables: Mapping[str, xr.Variable]
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Everything that describes the grid, by where it stands: CF, xdggs, easygems, Zarr DGGS."""
    meant = mappings_of(obj)[0]
    for name, variable in variables.items():
        mapping = _is_mapping(variable.attrs) and (name in meant or not meant)
        if mapping or variable.attrs.get("grid_name") == "healpix":
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
            f"expected HEALPix cells of one level, but {shortened(where)} says indexing_scheme "
            f"{shortened(scheme)}, "
            "which mixes levels; convert the ids to 'nested' at one level first"
        )


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
                raise ValueError(
                    f"{key} must be one of {shortened(sorted(_SCHEMES))}, got "
                    f"{shortened(attrs[key])}"
                )
            return _SCHEMES[stated]
    if "nest" in attrs:
        return "nested" if attrs["nest"] else "ring"
    return None


def _agreed(what: str, stated: Mapping[str, Any]) -> Any:
    """The one value that all statements which make one agree on."""
    known = {where: value for where, value in stated.items() if value is not None}
    if not known:
        raise ValueError(
            f"expected the HEALPix {what} in the attributes of {shortened(list(stated))}, got "
            "none; set refinement_level and indexing_scheme there"
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
                f"expected one coordinate of HEALPix cell ids, got {shortened(names)}; drop the "
                f"others first, for example obj.drop_vars({names[1:]})"
            )
        if names:
            return names[0]
    return None


def _cells_dim(obj: xr.Dataset | xr.DataArray, level: int) -> str:
    """Dimension of the whole sphere, where no coordinate holds the cell ids."""
    n_sphere = 12 * 4**level
    dims = [str(dim) for dim, size in obj.sizes.items() if size == n_sphere]
    dggs = obj.attrs.get("dggs")
    declared = dggs.get("spatial_dimension") if isinstance(dggs, Mapping) else None
    named = [dim for dim in dims if dim == declared] or [dim for dim in dims if dim in _DIMS]
    if len(named or dims) != 1:
        raise ValueError(
            f"expected one dimension of the {n_sphere} cells of HEALPix level {level}, or a "
            "coordinate of cell ids with standard_name 'healpix_index', got "
            f"{shortened(dict(obj.sizes))}; "
            "add the coordinate with xsphere.conventions.describe_healpix(obj, grid)"
        )
    return (named or dims)[0]


def _ids(name: str, variable: xr.Variable) -> NDArray[np.int64]:
    values = variable.values
    if values.dtype.kind not in "iu" and not (
        values.dtype.kind == "f" and np.array_equal(values, np.round(values))
    ):
        raise ValueError(
            f"HEALPix cell ids {shortened(name)} must be integers, got {values.dtype} {values[:3]}"
        )
    return np.asarray(values).astype(np.int64)
