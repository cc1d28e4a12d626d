"""What the readers of conventions share: the value they return and how variables are reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import xarray as xr

from xsphere.grids import Grid

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


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
    labelled = dict(obj.coords.items())
    if isinstance(obj, xr.Dataset):
        labelled |= dict(obj.data_vars.items())
    return {str(name): variable.variable for name, variable in labelled.items()}


def related(variable: xr.Variable, key: str) -> Any:
    """An attribute that names another variable, which xarray may have moved to the encoding."""
    return variable.attrs.get(key, variable.encoding.get(key))


def horizontal_variables(obj: xr.Dataset, found: HorizontalGrid) -> dict[Any, xr.DataArray]:
    """Data variables of a Dataset that have its horizontal dimensions."""
    chosen = {
        name: variable
        for name, variable in obj.data_vars.items()
        if set(found.dims) <= set(variable.dims)
        and name not in found.coords
        and "cf_role" not in variable.attrs
    }
    if not chosen:
        raise ValueError(
            f"expected a variable with the horizontal dimensions {found.dims}, got "
            f"{ {name: variable.dims for name, variable in obj.data_vars.items()} }"
        )
    return chosen


def check_one_chunk(variables: Mapping[Any, xr.DataArray], dims: tuple[str, ...]) -> None:
    """Refuse variables whose horizontal dimensions are split, naming the call that joins them."""
    split = {
        name: counts
        for name, variable in variables.items()
        if (counts := {d: n for d in dims if (n := len(variable.chunksizes.get(d, ()))) > 1})
    }
    if split:
        raise ValueError(
            f"horizontal dimensions must be in one chunk, got chunks {split}; call "
            f".chunk({dict.fromkeys(dims, -1)}) first"
        )
