"""Latitude and longitude of a dataset: found by CF attributes or by name, read in degrees."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.angle_units import angle_unit
from xsphere.conventions.base import HorizontalGrid, at_all_times, related, variables_of
from xsphere.conventions.projections import CYLINDRICAL, LOST, Projection, projection_of
from xsphere.grids import LatLonGrid, PointGrid
from xsphere.grids.spacing import COORDINATE_TOLERANCE
from xsphere.notices import shortened

# Attribute of latitude: kilometres up to which points stand for what is nearest to them.
MAX_DISTANCE = "max_distance"

Rule = Callable[[str, xr.Variable], bool]

# coordinates of a rotated pole are degrees too, but neither latitude nor longitude
_ROTATED = {"rlat", "rlon", "grid_latitude", "grid_longitude"}
_AXES = {"X": "longitude", "Y": "latitude"}
_NAMES = {
    "latitude": ("lat", "latitude", "nav_lat", "lats", "latitudes", "clat"),
    "longitude": ("lon", "longitude", "long", "nav_lon", "lons", "longitudes", "clon"),
}


def _named(*names: str) -> Rule:
    return lambda name, variable: name.lower() in names and _is_angle(variable)


def _has_axis(axis: str) -> Rule:
    return lambda _, variable: variable.attrs.get("axis") == axis and _is_angle(variable)


def _has_standard_name(standard_name: str) -> Rule:
    return lambda _, variable: variable.attrs.get("standard_name") == standard_name


def _has_direction(axis: str) -> Rule:
    def rule(_: str, variable: xr.Variable) -> bool:
        angle = angle_unit(_units(variable))
        return angle is not None and angle.axis == axis

    return rule


def _is_position(name: str) -> Rule:
    """A bare x or y, unless it only counts columns or rows."""
    named = _named(name)

    def rule(name: str, variable: xr.Variable) -> bool:
        return named(name, variable) and (
            "units" in variable.attrs
            or not np.array_equal(variable.values, np.arange(variable.size))
        )

    return rule


_RULES: dict[str, tuple[Rule, ...]] = {
    axis: (
        _has_standard_name(axis),
        _has_direction(axis),
        _has_axis(letter),
        _named(*_NAMES[axis][: 3 if axis == "longitude" else 2]),
        _named(*_NAMES[axis]),
        _is_position(letter.lower()),
    )
    for letter, axis in sorted(_AXES.items(), reverse=True)
}


def geographic_grid(obj: xr.Dataset | xr.DataArray) -> HorizontalGrid | None:
    """Grid of an object that has latitude and longitude, or None."""
    variables = variables_of(obj)
    projection = projection_of(obj)
    names = _axis_names(obj, projection)
    if len(names) < 2:
        return None
    lat, lon = names["latitude"], names["longitude"]
    variables |= {name: at_all_times(name, variables) for name in (lat, lon)}
    shapes = {name: variables[name].dims for name in (lat, lon)}
    _check_said_once(variables, names)
    if any(len(dims) != 1 for dims in shapes.values()):
        dims = tuple(dict.fromkeys(dim for shape in shapes.values() for dim in shape))
        raise ValueError(
            f"expected 1-D latitude and longitude, got {shapes}: curvilinear grids are not "
            f"supported; treat the cells as points with obj.stack(points={shortened(dims)}), or "
            "give 1-D coordinates if the grid is rectilinear"
        )
    unlike = projection is not None and projection.kind not in {*CYLINDRICAL, LOST}
    if unlike and shapes[lat] != shapes[lon]:
        raise ValueError(
            f"expected one description of the grid, but {shortened(lat)} and {shortened(lon)} are "
            "said to be "
            f"latitude and longitude along {shapes[lat]} and {shapes[lon]}, and {projection} says "
            "that rows and columns follow others; correct or drop the attributes that are wrong"
        )
    try:
        if shapes[lat] == shapes[lon]:
            return _point_grid(variables, lat, lon)
        return _lat_lon_grid(variables, lat, lon)
    except ValueError as error:
        raise ValueError(
            f"coordinates {shortened(lat)} and {shortened(lon)} make no grid: {error}"
        ) from error


def missing_axes(obj: xr.Dataset | xr.DataArray) -> list[str]:
    """Which of latitude and longitude an object lacks."""
    found = _axis_names(obj, projection_of(obj))
    return [axis for axis in _RULES if axis not in found]


def near_misses(obj: xr.Dataset | xr.DataArray) -> Iterator[str]:
    """What looks like latitude or longitude, and why it is not taken for it."""
    projection = projection_of(obj)
    if projection is not None:
        yield projection.advice()
        return
    for name, variable in variables_of(obj).items():
        named = any(name.lower() in names for names in _NAMES.values())
        units = _units(variable)
        if not (named or variable.attrs.get("standard_name") in _NAMES) or not variable.ndim:
            continue
        if variable.dtype.kind not in "fiu":
            yield (
                f"{shortened(name)} holds {variable.dtype}, not numbers: convert it with "
                f"obj.assign_coords({name}=obj[{shortened(name)}].astype(float))"
            )
        elif angle_unit(units) is None:
            yield f"{shortened(name)} has the units {shortened(units)}, which are no angle"


def _check_said_once(variables: Mapping[str, xr.Variable], names: Mapping[str, str]) -> None:
    """Refuse coordinates that say of themselves that they are latitude and longitude."""
    problems = []
    for name in names.values():
        attrs, angle = variables[name].attrs, angle_unit(_units(variables[name]))
        said = {
            "standard_name": attrs.get("standard_name"),
            "units": angle.axis if angle else None,
            "axis": _AXES.get(attrs.get("axis", "")),
            "its name": next((a for a, known in _NAMES.items() if name.lower() in known), None),
        }
        known = {where: axis for where, axis in said.items() if axis in _NAMES}
        if len(set(known.values())) > 1:
            told = {where: f" {shortened(attrs[where])}" for where in known if where in attrs}
            each = (f"{axis} by {where}{told.get(where, '')}" for where, axis in known.items())
            problems.append(f"{shortened(name)} is {' and '.join(each)}")
        if angle is None:
            problems.append(
                f"{shortened(name)} has the units {shortened(_units(variables[name]))}, which are "
                "no angle"
            )
    if problems:
        raise ValueError(
            "expected one latitude and one longitude in units of angle, but "
            f"{'; '.join(problems)}; correct the attributes, or rename the coordinates"
        )


def lonlat_of(
    variables: Mapping[str, xr.Variable],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Longitude and latitude in degrees of two variables, or None if they are not these."""
    lon, lat = (_only_match(axis, variables) for axis in ("longitude", "latitude"))
    if lon is None or lat is None:
        return None
    _check_said_once(variables, {"longitude": lon, "latitude": lat})
    return _centres(variables, lon), at_most_pole(_centres(variables, lat))


def _axis_names(obj: xr.Dataset | xr.DataArray, projection: Projection | None) -> dict[str, str]:
    """Name of the variable for each axis found; data variables only where no coordinate serves."""
    variables = variables_of(obj)
    bounds = {related(variable, "bounds") for variable in variables.values()}
    eligible = {
        name: variable
        for name, variable in variables.items()
        if name not in bounds
        and _is_eligible(name, variable)
        # on a projection, coordinates in degrees or called lat may be those of the projection
        and (projection is None or _is_explicit(variable))
    }
    coords = {name: variable for name, variable in eligible.items() if name in obj.coords}
    found: dict[str, str] = {}
    for pool in (coords, eligible):
        found = {axis: name for axis in _RULES if (name := _only_match(axis, pool)) is not None}
        if len(found) == 2:
            break
    return found


def _only_match(axis: str, variables: Mapping[str, xr.Variable]) -> str | None:
    for rule in _RULES[axis]:
        names = [name for name, variable in variables.items() if rule(name, variable)]
        if len(names) > 1:
            raise ValueError(
                f"expected one {axis}, got the candidates {shortened(names)}; drop the others "
                f"first, for example obj.drop_vars({names[1:]}), or select variables of one grid"
            )
        if names:
            return names[0]
    return None


def _is_eligible(name: str, variable: xr.Variable) -> bool:
    return (
        variable.ndim > 0
        and variable.dtype.kind in "fiu"
        and name.lower() not in _ROTATED
        and variable.attrs.get("standard_name", "") in ("", *_NAMES)
        and "rotated" not in str(variable.attrs.get("long_name", "")).lower()
    )


def _is_explicit(variable: xr.Variable) -> bool:
    """Whether attributes leave no doubt that this is a geographic coordinate."""
    angle = angle_unit(_units(variable))
    return variable.attrs.get("standard_name") in _NAMES or bool(angle and angle.axis)


def _units(variable: xr.Variable) -> str:
    return str(variable.attrs.get("units", ""))


def _is_angle(variable: xr.Variable) -> bool:
    return angle_unit(_units(variable)) is not None


def _degrees(variable: xr.Variable, units: str) -> NDArray[np.float64]:
    angle = angle_unit(units)
    if angle is None:
        raise ValueError(
            f"expected units of angle, such as 'degrees_north', got {shortened(units)}"
        )
    values = np.asarray(variable.values, np.float64)
    return values if angle.degrees == 1.0 else values * angle.degrees


def _centres(variables: Mapping[str, xr.Variable], name: str) -> NDArray[np.float64]:
    return _degrees(variables[name], _units(variables[name]))


def _bounds(variables: Mapping[str, xr.Variable], name: str) -> NDArray[np.float64] | None:
    """CF bounds in degrees, shape (n, n_vertices), where the object has them."""
    coordinate = variables[name]
    bounds = variables.get(str(related(coordinate, "bounds")))
    if bounds is None:
        return None
    # bounds have the units of their coordinate unless they say otherwise
    units = str(bounds.attrs.get("units", _units(coordinate)))
    if coordinate.dims[0] in bounds.dims:
        bounds = at_all_times(str(related(coordinate, "bounds")), variables)
        bounds = bounds.transpose(coordinate.dims[0], ...)
    return _degrees(bounds, units)


def _point_grid(variables: Mapping[str, xr.Variable], lat: str, lon: str) -> HorizontalGrid:
    lon_bounds, lat_bounds = _bounds(variables, lon), _bounds(variables, lat)
    # two bounds are sides of a box or of an interval in time, not corners
    if (
        lon_bounds is None
        or lat_bounds is None
        or min(lon_bounds.shape[1], lat_bounds.shape[1]) < 3
    ):
        lon_bounds = lat_bounds = None
    max_distance = variables[lat].attrs.get(MAX_DISTANCE) if lon_bounds is None else None
    return HorizontalGrid(
        grid=PointGrid(
            _centres(variables, lon),
            at_most_pole(_centres(variables, lat)),
            lon_bounds,
            None if lat_bounds is None else at_most_pole(lat_bounds),
            max_distance,
        ),
        dims=(str(variables[lat].dims[0]),),
        coords=_with_bounds(variables, lat, lon),
    )


def _refuse_unsaid_radians(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
    """Refuse a whole sphere in radians that is said, or taken for want of units, to be degrees."""
    turn, pole = 2 * np.pi, np.pi / 2
    step = np.ptp(lon) / max(1, lon.size - 1)
    if (
        lat.size > 3
        and lon.size > 3
        and np.abs(lat).max() < pole + 1e-6
        and np.ptp(lat) * lat.size / (lat.size - 1) > 0.9 * np.pi
        and abs(np.ptp(lon) + step - turn) < min(0.01, step / 2)
    ):
        raise ValueError(
            "latitude and longitude must be in degrees, or have units of radians, but they go "
            f"to {np.abs(lat).max():.6g} and {np.abs(lon).max():.6g}, as a whole sphere does in "
            "radians; set ds['lat'].attrs['units'] = ds['lon'].attrs['units'] = 'radian'"
        )


def at_most_pole(lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Latitudes, where a pole in float32 radians, a little beyond the pole, is the pole."""
    beyond = (np.abs(lat_deg) > 90.0) & (np.abs(lat_deg) < 90.0 + COORDINATE_TOLERANCE)
    return np.where(beyond, np.sign(lat_deg) * 90.0, lat_deg)


def _lat_lon_grid(variables: Mapping[str, xr.Variable], lat: str, lon: str) -> HorizontalGrid:
    lon_deg, lat_deg = _centres(variables, lon), _centres(variables, lat)
    _refuse_unsaid_radians(lon_deg, lat_deg)
    grid = LatLonGrid(
        lon=_unbroken(lon_deg),
        lat=lat_deg,
        lon_bounds=_bounds(variables, lon),
        lat_bounds=_bounds(variables, lat),
    )
    dims = (str(variables[lat].dims[0]), str(variables[lon].dims[0]))
    return HorizontalGrid(grid=grid, dims=dims, coords=_with_bounds(variables, lat, lon))


def _unbroken(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes of either convention that jump by a turn somewhere, as one sequence."""
    steps = np.diff(lon)
    if (steps > 0).all() or (steps < 0).all():
        return lon
    return np.unwrap(lon, period=360.0)


def _with_bounds(variables: Mapping[str, xr.Variable], *names: str) -> tuple[str, ...]:
    bounds = (str(related(variables[name], "bounds")) for name in names)
    return (*names, *(name for name in bounds if name in variables))
