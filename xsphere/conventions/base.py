"""What the readers of conventions share: the value they return and how variables are reached."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd
import xarray as xr
from xarray.indexes import PandasIndex

from xsphere.conventions.angle_units import angle_unit
from xsphere.grids import Grid
from xsphere.notices import shortened

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)

# attributes that name what says where the values of a variable are
PLACE_KEYS = ("grid_mapping", "bounds", "coordinates", "mesh")
PLACE_ENDINGS = ("_coordinates", "_connectivity")


@dataclass(frozen=True, kw_only=True)
class HorizontalGrid:
    """The grid of a labelled object, and the names by which the object knows it.

    Parameters
    ----------
    grid : Grid
        The cells, in the order of the data when laid out as `dims`.
    dims : tuple of str
        Horizontal dimensions in the order of ``grid.shape``: latitude before longitude whatever
        the order in the data; one dimension for HEALPix and points.
    coords : tuple of str
        Variables that hold the grid: latitude and longitude with their bounds, or cell ids and
        grid mapping.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> HorizontalGrid(grid=HealpixGrid(1), dims=("cells",), coords=("cell_ids", "crs"))
    HorizontalGrid(grid=HealpixGrid(level=1, nested), dims=('cells',), coords=('cell_ids', 'crs'))
    """

    grid: Grid
    dims: tuple[str, ...]
    coords: tuple[str, ...]


def variables_of(obj: xr.Dataset | xr.DataArray) -> dict[str, xr.Variable]:
    """Every variable by name: coordinates, then the data variables of a Dataset."""
    # one by one they would be made arrays, each of which looks at all others for its coordinates
    variables = obj.variables if isinstance(obj, xr.Dataset) else obj.coords.variables
    names = [*obj.coords, *(obj.data_vars if isinstance(obj, xr.Dataset) else ())]
    return {str(name): variables[name] for name in names}


def related(variable: xr.Variable, key: str) -> Any:
    """An attribute that names another variable, which xarray may have moved to the encoding."""
    return variable.attrs.get(key, variable.encoding.get(key))


def at_all_times(name: str, variables: Mapping[str, xr.Variable]) -> xr.Variable:
    """A variable of the grid, where `xr.open_mfdataset` gave it the dimension of the files too."""
    variable = variables[name]
    times = [dim for dim in variable.dims if _is_time(str(dim), variables)]
    if not times or variable.ndim == 1:
        return variable
    first = variable.isel(dict.fromkeys(times, 0))
    if not bool(((variable == first) | (variable.isnull() & first.isnull())).all()):
        raise ValueError(
            f"{shortened(name)} must be the same everywhere along {times}, but it changes; choose "
            f"one with ds.assign({name}=ds[{shortened(name)}].isel({times[0]}=0)), or select "
            "the part that has one grid"
        )
    return first


def _is_time(dim: str, variables: Mapping[str, xr.Variable]) -> bool:
    label = variables.get(dim)
    return dim.lower() == "time" or (label is not None and label.dtype.kind == "M")


def data_of(obj: xr.Dataset | xr.DataArray) -> list[xr.Variable]:
    """The data variables of a Dataset, or the one of an array."""
    if isinstance(obj, xr.DataArray):
        return [obj.variable]
    variables = obj.variables
    return [variables[name] for name in obj.data_vars]


def mappings_of(obj: xr.Dataset | xr.DataArray) -> tuple[list[str], list[str]]:
    """Names of grid mappings that the data refer to: those that are present, and those lost."""
    present: dict[str, None] = {}
    lost: dict[str, None] = {}
    names = set(map(str, obj.coords if isinstance(obj, xr.DataArray) else obj.variables))
    for variable in data_of(obj):
        words = str(related(variable, "grid_mapping") or "").split()
        # "crs" alone, or "crs: x y other: lat lon"
        chosen = [word[:-1] for word in words if word.endswith(":")] or words[:1]
        for word in chosen:
            (present if word in names else lost)[word] = None
    return list(present), list(lost)


def placed(ds: xr.Dataset, names: Sequence[Hashable]) -> xr.Dataset:
    """Some variables of a Dataset, with everything that may say where their values are.

    What a selection such as ``ds[name]`` loses is kept: bounds, grid mappings with a dimension of
    their own, meshes, attributes of the Dataset.
    """
    variables = ds.variables
    dims = {dim for name in names for dim in variables[name].dims}
    # a field in units other than angles says nothing about places
    kept = dict.fromkeys(
        name
        for name, v in variables.items()
        if name in names
        or {"grid_mapping_name", "healpix_nside"} & set(v.attrs)
        or (
            set(v.dims) <= dims
            and (v.ndim < 2 or angle_unit(str(v.attrs.get("units", ""))) is not None)
        )
    )
    pending = list(kept)
    while pending:
        found = [n for n in _references(variables[pending.pop()]) if n in variables]
        pending += [name for name in found if name not in kept]
        kept |= dict.fromkeys(found)
    return ds[list(kept)]


def _references(variable: xr.Variable) -> Iterator[str]:
    """Every variable that says where another one is, by the attributes of that one."""
    for key, value in {**variable.encoding, **variable.attrs}.items():
        if key in PLACE_KEYS or str(key).endswith(PLACE_ENDINGS):
            yield from str(value).replace(":", " ").split()


def pandas_indexes(obj: xr.Dataset | xr.DataArray) -> dict[Hashable, pd.Index]:
    """Labels along dimensions; an index of another kind, such as that of xdggs, has none."""
    indexes = obj.xindexes
    return {name: i.index for name, i in indexes.items() if isinstance(i, PandasIndex)}


def horizontal_variables(obj: xr.Dataset, found: HorizontalGrid) -> dict[Any, xr.DataArray]:
    """Data variables of a Dataset that have its horizontal dimensions."""
    return {name: obj[name] for name in horizontal_names(obj, found)}


def horizontal_names(obj: xr.Dataset, found: HorizontalGrid) -> list[Any]:
    """Names of the data variables of a Dataset that have its horizontal dimensions."""
    variables = {name: obj.variables[name] for name in obj.data_vars}
    chosen = [
        name
        for name, variable in variables.items()
        if set(found.dims) <= set(variable.dims)
        and name not in found.coords
        and "cf_role" not in variable.attrs
    ]
    if not chosen:
        raise ValueError(
            f"expected a variable with the horizontal dimensions {found.dims}, got "
            f"{ {name: variable.dims for name, variable in variables.items()} }"
        )
    return chosen


def check_one_chunk(variables: Mapping[Any, xr.DataArray], dims: tuple[str, ...]) -> None:
    """Refuse variables whose horizontal dimensions are split, naming the call that joins them.

    So are chunks whose sizes are not known.
    """
    chunks = {name: variable.variable.chunksizes for name, variable in variables.items()}
    check_known_sizes(chunks)
    split = {
        name: counts
        for name, sizes in chunks.items()
        if (counts := {d: n for d in dims if (n := len(sizes.get(d, ()))) > 1})
    }
    if split:
        raise ValueError(
            f"horizontal dimensions must be in one chunk, got chunks {split}; call "
            f".chunk({dict.fromkeys(dims, -1)}) first"
        )


def check_known_sizes(chunks: Mapping[Any, Mapping[Any, tuple[int, ...]]]) -> None:
    """Refuse chunks whose sizes only computing them would tell, naming the call that does."""
    unknown = {
        name: dims
        for name, sizes in chunks.items()
        if (dims := [str(dim) for dim, lengths in sizes.items() if any(map(math.isnan, lengths))])
    }
    if unknown:
        raise ValueError(
            f"sizes of chunks must be known, but those along {shortened(unknown)} are not, as "
            "after dask selected by values; compute them first: "
            "ds[name].data.compute_chunk_sizes(), or select by positions or labels"
        )
