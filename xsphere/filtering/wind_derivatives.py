"""Gradient of a field, divergence and vorticity of a wind, on any grid."""

from typing import Any, Literal

import numpy as np
import xarray as xr

from xsphere.conventions import HorizontalGrid, horizontal_grid
from xsphere.conventions.base import horizontal_variables
from xsphere.conventions.horizontal import on_its_own
from xsphere.filtering.filter_tasks import DerivativeNode
from xsphere.filtering.filtered_variables import (
    check_fields,
    float_dtype,
    kept_attributes,
    on_the_grid,
)
from xsphere.grids import EARTH_RADIUS_KM
from xsphere.model.units import UnitsError, unit_conversion
from xsphere.model.vector_names import component_pairs
from xsphere.notices import shortened

_STANDARD_NAMES = {
    "divergence": "divergence_of_wind",
    "vorticity": "atmosphere_relative_vorticity",
}


def gradient(obj: xr.DataArray, *, k: int = 8, radius: float = EARTH_RADIUS_KM) -> xr.Dataset:
    """Derivatives of a field towards the east and the north, per metre, lazily.

    By quadratics fitted to neighbours (`xsphere.graph.gradient_matrices`): the error falls with the
    square of the cell size. Nothing special happens at the poles or the date line, save that at a
    pole east is east of the longitude that the grid gives for the cell.

    Parameters
    ----------
    obj : DataArray
        On any grid that `xsphere.conventions.horizontal_grid` finds; the horizontal dimensions in
        one chunk. Left as it was.
    k : int
        Number of neighbours, at least 5.
    radius : float
        Of the sphere, in kilometres.

    Returns
    -------
    Dataset
        ``eastward_derivative`` and ``northward_derivative``, with the units of the field per metre.
        NaN in a field makes the cells around it NaN. Floats keep their type.

    Raises
    ------
    TypeError
        If `obj` is no DataArray, or holds no numbers.
    ValueError
        If no grid is found, horizontal dimensions are split into chunks, or an option is out of
        range.

    Examples
    --------
    >>> from xsphere.conventions import describe_healpix
    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=4)
    >>> field = xr.DataArray(grid.centres[:, 2], dims="cells", attrs={"units": "K"})
    >>> slopes = gradient(describe_healpix(field, grid))
    >>> slopes.northward_derivative.attrs["units"]
    'K m-1'

    The sine of latitude grows fastest at the equator, by 1 in 6371 km:

    >>> bool(abs(slopes.northward_derivative.max() * 6371e3 - 1) < 0.001)
    True
    """
    if not isinstance(obj, xr.DataArray):
        raise TypeError(
            f"gradient() is of one field, a DataArray, got {type(obj).__name__}; choose a variable "
            "such as ds['t']"
        )
    found = horizontal_grid(obj)
    check_fields({obj.name: obj}, found, "gradient")
    node = _node("gradient", found, k, radius, float_dtype(obj.dtype))
    names = [f"{way}ward_derivative" for way in ("east", "north")]
    results = on_the_grid(node, [obj], found, 2, node.dtype)
    for name, result in zip(names, results, strict=True):
        result.attrs = _gradient_attributes(obj, name)
    # as variables, since the name of an array may be that of one of its coordinates
    return xr.Dataset(
        {name: r.variable for name, r in zip(names, results, strict=True)}, obj.coords
    )


def divergence(
    obj: xr.Dataset,
    *,
    u: Any = None,
    v: Any = None,
    k: int = 8,
    radius: float = EARTH_RADIUS_KM,
) -> xr.DataArray:
    """Divergence of a wind, per second for winds in m s-1, lazily.

    Parameters
    ----------
    obj : Dataset
        On any grid that `xsphere.conventions.horizontal_grid` finds; the horizontal dimensions in
        one chunk. Left as it was.
    u, v : str, optional
        Names of the components towards the east and the north. By default the one pair that
        `xsphere.model.vector_names.component_pairs` finds, such as ``eastward_wind`` and
        ``northward_wind``.
    k : int
        Number of neighbours, at least 5.
    radius : float
        Of the sphere, in kilometres.

    Returns
    -------
    DataArray
        ``divergence``, see `gradient`.

    Raises
    ------
    TypeError
        If `obj` is no Dataset, or a component holds no numbers.
    ValueError
        If the components are not found, do not fit, or as for `gradient`.

    Examples
    --------
    The wind of a solid rotation does not diverge:

    >>> from xsphere.conventions import describe_healpix
    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(level=4)
    >>> east = xr.DataArray(np.cos(np.deg2rad(grid.centre_lonlat[1])), dims="cells")
    >>> wind = describe_healpix(xr.Dataset({"u": east, "v": 0 * east}), grid)
    >>> bool(abs(divergence(wind, u="u", v="v")).max() < 1e-9)
    True
    """
    return _of_wind("divergence", obj, (u, v), k, radius)


def vorticity(
    obj: xr.Dataset,
    *,
    u: Any = None,
    v: Any = None,
    k: int = 8,
    radius: float = EARTH_RADIUS_KM,
) -> xr.DataArray:
    """Relative vorticity of a wind, per second for winds in m s-1, lazily.

    Parameters
    ----------
    obj : Dataset
        On any grid that `xsphere.conventions.horizontal_grid` finds; the horizontal dimensions in
        one chunk. Left as it was.
    u, v : str, optional
        Names of the components towards the east and the north. By default the one pair that
        `xsphere.model.vector_names.component_pairs` finds, such as ``eastward_wind`` and
        ``northward_wind``.
    k : int
        Number of neighbours, at least 5.
    radius : float
        Of the sphere, in kilometres.

    Returns
    -------
    DataArray
        ``vorticity``, positive where the wind turns as the Earth does seen from above the north
        pole; see `gradient`.

    Raises
    ------
    TypeError
        If `obj` is no Dataset, or a component holds no numbers.
    ValueError
        If the components are not found, do not fit, or as for `gradient`.

    Examples
    --------
    >>> import xsphere
    >>> xsphere.sample_dataset().pipe(vorticity, u="U850", v="V850").attrs["units"]
    's-1'
    """
    return _of_wind("vorticity", obj, (u, v), k, radius)


def _of_wind(
    derivative: Literal["divergence", "vorticity"],
    obj: xr.Dataset,
    names: tuple[Any, Any],
    k: int,
    radius: float,
) -> xr.DataArray:
    if not isinstance(obj, xr.Dataset):
        raise TypeError(
            f"{derivative}() needs a Dataset with both components of a wind, got "
            f"{type(obj).__name__}; join them with xr.Dataset({{'u': u, 'v': v}})"
        )
    found = horizontal_grid(obj)
    east, north = _components(derivative, horizontal_variables(obj, found), names)
    check_fields({east.name: east, north.name: north}, found, derivative)
    dtype = np.result_type(float_dtype(east.dtype), float_dtype(north.dtype))
    node = _node(derivative, found, k, radius, dtype)
    (result,) = on_the_grid(node, [east, north], found, 1, dtype)
    kept = {key: east.attrs[key] for key in ("grid_mapping", "cell_methods") if key in east.attrs}
    words = {"long_name": f"{derivative} of ({east.name}, {north.name})"}
    if "wind" in str(east.attrs.get("standard_name", "wind")):
        words["standard_name"] = _STANDARD_NAMES[derivative]
    result.attrs = words | _wind_units(east, north) | kept
    return on_its_own(result.rename(derivative), obj, found)


def _node(
    derivative: Literal["gradient", "divergence", "vorticity"],
    found: HorizontalGrid,
    k: int,
    radius: float,
    dtype: np.dtype[Any],
) -> DerivativeNode:
    problems = []
    if isinstance(k, bool) or int(k) != k or k < 5:
        problems.append(f"k must be an integer of at least 5 neighbours, got {shortened(k)}")
    if not 0 < radius < np.inf:
        problems.append(f"radius must be positive and finite, in km, got {shortened(radius)}")
    if problems:
        raise ValueError("; ".join(problems))
    return DerivativeNode(
        grid=found.grid, derivative=derivative, k=int(k), radius=float(radius), dtype=dtype
    )


def _components(
    wish: str, variables: dict[Any, xr.DataArray], names: tuple[Any, Any]
) -> tuple[xr.DataArray, xr.DataArray]:
    """The two components named, or the one pair that names tell."""
    u, v = names
    if u is None and v is None:
        u, v = _only_pair(wish, variables)
    missing = [repr(name) for name in (u, v) if name not in variables]
    if missing:
        raise ValueError(
            f"{wish}() needs the names of both components, u=<eastward> and v=<northward>, got "
            f"u={shortened(u)}, v={shortened(v)}; among the fields {shortened(list(variables))} "
            f"there is no {' and no '.join(missing)}"
        )
    east, north = variables[u], variables[v]
    if dict(east.sizes) != dict(north.sizes):
        raise ValueError(
            f"components of a wind must have the same dimensions, got {shortened(u)} "
            f"{shortened(dict(east.sizes))} and {shortened(v)} {shortened(dict(north.sizes))}"
        )
    return east, north


def _only_pair(wish: str, variables: dict[Any, xr.DataArray]) -> tuple[Any, Any]:
    pairs = component_pairs(variables)
    if len(pairs) != 1:
        raise ValueError(
            f"{wish}() needs one pair of variables with standard_name such as 'eastward_wind' and "
            f"'northward_wind', got {pairs or list(variables)}; name the components with u= and v="
        )
    return pairs[0]


def _gradient_attributes(variable: xr.DataArray, name: str) -> dict[str, str]:
    """Names as the CF guidelines make them, and units per metre."""
    attributes = {
        key: value
        for key, value in kept_attributes(variable).items()
        if key in ("grid_mapping", "cell_methods")
    }
    for key, join in (("standard_name", "{}_of_{}"), ("long_name", "{} of {}")):
        if key in variable.attrs:
            plain = name if key == "standard_name" else name.replace("_", " ")
            attributes[key] = join.format(plain, variable.attrs[key])
    return attributes | _per_metre(variable.attrs.get("units"))


def _per_metre(units: str | None) -> dict[str, str]:
    if units is None:
        return {}
    return {"units": "m-1" if units in ("", "1") else f"{units} m-1"}


def _wind_units(east: xr.DataArray, north: xr.DataArray) -> dict[str, str]:
    """Units of a derivative of two components, which must have the same."""
    one, other = (component.attrs.get("units") for component in (east, north))
    if one != other and not _same_units(one, other):
        raise ValueError(
            f"components of a wind must have the same units, got {shortened(east.name)} in "
            f"{shortened(one)} and {shortened(north.name)} in {shortened(other)}; convert one, or "
            "set its attrs['units']"
        )
    # else some other vector, or a spelling of its own
    return {"units": "s-1"} if _same_units(one, "m s-1") else _per_metre(one)


def _same_units(one: Any, other: Any) -> bool:
    """Whether two texts are the same units; not if one is missing or cannot be read."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    try:
        return unit_conversion(one, other) == (1.0, 0.0)
    except UnitsError:
        return False
