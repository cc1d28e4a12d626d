"""Which variables of a dataset a model reads, and how their units are brought to its own."""

from collections.abc import Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.model.spec import ModelSpec
from xsphere.model.spec_parts import Variable
from xsphere.model.units import UnitsError, unit_conversion
from xsphere.notices import cut_text, shortened

# variables of a dataset that a message names
LISTED = 40
PRESSURE_NAMES = ("level", "plev", "lev", "pressure_level", "isobaricInhPa", "pressure", "height")


class InputsError(ValueError):
    """A dataset that a model cannot read."""


@dataclass(frozen=True)
class MatchedVariable:
    """A variable of a dataset that serves as a model's.

    Parameters
    ----------
    array : DataArray
        The variable, at the pressure wanted; its values as they are in the dataset.
    factor, offset : float
        ``factor * array + offset`` is in the model's units.

    Examples
    --------
    >>> MatchedVariable(xr.DataArray([1010.0]), factor=100.0, offset=0.0).factor
    100.0
    """

    array: xr.DataArray
    factor: float
    offset: float


def matched_variables(ds: xr.Dataset, spec: ModelSpec) -> list[MatchedVariable]:
    """Variables of a dataset that a model reads, in its order.

    Each is looked for by its CF standard name, then by its name in the model and its aliases. Of
    several that fit, the one with the model's name is taken, then the first of the aliases.
    A field on a pressure surface is also taken from a variable with a vertical dimension. No data
    are read.

    Parameters
    ----------
    ds : Dataset
        Any dataset.
    spec : ModelSpec
        What the model reads.

    Returns
    -------
    list of MatchedVariable
        One for each of the model's variables.

    Raises
    ------
    InputsError
        If variables are missing, ambiguous, or in units that cannot be converted; all are named.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> attrs = {"standard_name": "air_pressure_at_mean_sea_level", "units": "hPa"}
    >>> ds = xr.Dataset({"msl": ("x", [1010.0], attrs)})
    >>> matched_variables(ds, example_spec())[0].factor
    100.0
    """
    return found_variables(ds, spec.variables, f"the model {shortened(spec.name)}")


def found_variables(
    ds: xr.Dataset, variables: Sequence[Variable], reader: str
) -> list[MatchedVariable]:
    """As `matched_variables`, for what anybody reads; `reader` says who, in errors."""
    matches, problems = [], []
    for variable in variables:
        try:
            array = _found(ds, variable, _names_of_others(variables, variable))
            matches.append(MatchedVariable(array, *_conversion(array, variable)))
        except (InputsError, UnitsError) as error:
            problems.append(f"  - {variable.name}: {error}")
    if problems:
        raise InputsError(
            f"{reader} cannot read this dataset:\n"
            + "\n".join(problems)
            + f"\nThe dataset has {_listing(ds)}. Rename variables or set their standard_name and "
            "units attributes to what they are."
        )
    return matches


def _listing(ds: xr.Dataset) -> str:
    described = [
        cut_text(
            f"{name} ({attrs.get('standard_name', 'no standard_name')}, "
            f"{attrs.get('units', 'no units')})",
            120,
        )
        for name, attrs in ((name, ds.variables[name].attrs) for name in [*ds.data_vars][:LISTED])
    ]
    more = len(ds.data_vars) - len(described)
    return (", ".join(described) or "no variables") + (f" and {more} more" if more else "")


def _conversion(array: xr.DataArray, variable: Variable) -> tuple[float, float]:
    units = array.attrs.get("units")
    if units is None:
        raise InputsError(
            f"{shortened(array.name)} has no units attribute; {shortened(variable.units)} or what "
            "converts to it is needed"
        )
    if not np.issubdtype(array.dtype, np.number):
        raise InputsError(f"{shortened(array.name)} must be numeric, got dtype {array.dtype}")
    if {"scale_factor", "add_offset"} & set(array.attrs):
        raise InputsError(
            f"{shortened(array.name)} holds packed integers (it has the attribute scale_factor or "
            "add_offset); open the file with mask_and_scale=True"
        )
    return unit_conversion(str(units), variable.units)


def _names_of_others(variables: Sequence[Variable], variable: Variable) -> set[str | None]:
    """Standard names that no such variable has: those of the others."""
    return {other.standard_name for other in variables} - {variable.standard_name, None}


def _found(ds: xr.Dataset, variable: Variable, of_others: AbstractSet[str | None]) -> xr.DataArray:
    """The one variable that fits; rules are tried in turn, and the first that finds any decides."""
    names = [variable.name, *variable.aliases]
    # winds whose names were swapped are not taken for each other
    named: list[Hashable] = [
        name
        for name in names
        if name in ds.data_vars and ds.variables[name].attrs.get("standard_name") not in of_others
    ]
    for candidates in (_by_standard_name(ds, variable), named):
        usable = [name for name in candidates if _on_surface(ds[name], variable) is not None]
        if len(usable) > 1:
            # several fields of one standard name: the one with a known name is meant
            usable = [name for name in named if name in usable][:1] or usable
        if len(usable) > 1:
            raise InputsError(
                f"several variables fit: {shortened(usable)}; keep one of them, or name it "
                f"{shortened(variable.name)}"
            )
        if usable:
            array = _on_surface(ds[usable[0]], variable)
            assert array is not None
            return array
    wanted = (
        f"standard_name {shortened(variable.standard_name)} or " if variable.standard_name else ""
    )
    surface = f" on the {variable.pressure:g} hPa surface" if variable.pressure else ""
    raise InputsError(f"missing: nothing has {wanted}a name in {shortened(names)}{surface}")


def _by_standard_name(ds: xr.Dataset, variable: Variable) -> list[Hashable]:
    if variable.standard_name is None:
        return []
    return [
        name
        for name, stored in ds.variables.items()
        if stored.attrs.get("standard_name") == variable.standard_name and name in ds.data_vars
    ]


def _on_surface(array: xr.DataArray, variable: Variable) -> xr.DataArray | None:
    """The array at the variable's pressure; None if it is not there."""
    if variable.pressure is None:
        return array
    for coord, factor in _pressure_coords(array):
        values = np.atleast_1d(coord.values) * factor
        close = np.flatnonzero(np.isclose(values, variable.pressure, rtol=1e-4))
        if not close.size:
            return None
        return array.isel({coord.dims[0]: int(close[0])}, drop=True) if coord.ndim else array
    # no vertical coordinate: only the name can tell the surface
    return array if array.name in (variable.name, *variable.aliases) else None


def pressure_levels(array: xr.DataArray) -> tuple[Hashable, NDArray[np.float64]] | None:
    """The dimension of pressure levels of a field, and the levels in hPa; None if it has none."""
    for coord, factor in _pressure_coords(array):
        if coord.ndim == 1 and coord.dims[0] in array.dims and np.isfinite(factor):
            return coord.dims[0], np.asarray(coord.values, float) * factor
    return None


@lru_cache(64)
def _hectopascals(units: str) -> float:
    """Factor that makes units hPa; 0 where they are none of pressure."""
    try:
        return unit_conversion(units, "hPa")[0] if units else 0.0
    except UnitsError:
        return 0.0


def _pressure_coords(array: xr.DataArray) -> Iterator[tuple[xr.DataArray, float]]:
    """Vertical coordinates, with the factor that makes them hPa."""
    for name, coord in array.coords.items():
        # labels may be of a type of pandas
        if coord.ndim > 1 or not isinstance(coord.dtype, np.dtype) or coord.dtype.kind not in "iuf":
            continue
        units = str(coord.attrs.get("units", ""))
        factor = _hectopascals(units)
        if factor:
            yield coord, factor
        elif name in PRESSURE_NAMES:
            # ECMWF and NCEP files often give hPa without saying so; metres match no surface
            unstated = (not units or units in ("1", "level", "hPa")) and name != "height"
            yield coord, 1.0 if unstated else np.nan
