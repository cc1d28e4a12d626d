"""Linear conversion of units, refused where it would change the meaning of a field."""

import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

STANDARD_GRAVITY = 9.80665  # m s-2
WATER_DENSITY = 1000.0  # kg m-3

# (from, to): factor. The two are the same field in another measure.
EQUIVALENT = (
    ("m2 s-2", "m", 1 / STANDARD_GRAVITY),  # geopotential: geopotential height
    ("m", "m2 s-2", STANDARD_GRAVITY),
    ("m", "kg m-2", WATER_DENSITY),  # depth of water: its mass
    ("kg m-2", "m", 1 / WATER_DENSITY),
    ("m s-1", "kg m-2 s-1", WATER_DENSITY),  # rate of rain
    ("kg m-2 s-1", "m s-1", 1 / WATER_DENSITY),
)
# what CF writes otherwise than pint
DEFINITIONS = (
    "percent = 0.01 = %",
    "@alias meter = gpm",
    "year = 365.25 * day = yr",
    "@alias degC = C = deg_C = Celsius = degrees_Celsius",
    "@alias degK = deg_K",
    "@alias day = d",
    "@alias hour = h",
    "degrees_north = degree = degrees_north = degrees_N = degreesN = degree_north = degree_N",
    "degrees_east = degree = degrees_east = degrees_E = degreesE = degree_east = degree_E",
    "degrees = degree = degrees",
    "practical_salinity_unit = [] = psu = PSU",
)
# geopotential metres are metres wherever gravity is standard
SYNONYMS = {"gpm": "m", "(0 - 1)": "1", "": "1", "fraction": "1"}


class UnitsError(ValueError):
    """Units that cannot be read or converted.

    Examples
    --------
    >>> unit_conversion("K", "Pa")
    Traceback (most recent call last):
    ...
    xsphere.model.units.UnitsError: units 'K' cannot be converted to 'Pa'
    """


@lru_cache(1)
def _registry() -> Any:
    """Units of CF. Those of cf_xarray would become pint's for the whole process."""
    import pint

    # an exponent follows its unit at once: m s-2
    power = re.compile(r"(?<=[A-Za-z])(?![A-Za-z])(?<![0-9\-][eE])(?<![0-9\-])(?=[0-9\-])")
    registry: Any = pint.UnitRegistry(
        autoconvert_offset_to_baseunit=True,
        preprocessors=[
            lambda text: power.sub("**", text),
            lambda text: text.replace("%", "percent"),
        ],
    )
    for definition in DEFINITIONS:
        registry.define(definition)
    return registry


def _parsed(text: str) -> Any:
    plain = SYNONYMS.get(text.strip(), text.strip())
    try:
        return _registry().Unit(plain)
    # pint raises many kinds of error for text that is no unit
    except Exception as error:
        raise UnitsError(f"units {text!r} cannot be read ({error})") from error


@lru_cache(256)
def unit_conversion(source: str, target: str) -> tuple[float, float]:
    """Factor and offset that bring values from one unit to another.

    Besides units of one dimension, geopotential and geopotential height are converted by the
    standard gravity, and depths and rates of water to mass by its density.

    Parameters
    ----------
    source, target : str
        Units in CF notation, such as ``"hPa"`` or ``"kg m-2 s-1"``.

    Returns
    -------
    factor, offset : float
        ``target = factor * source + offset``.

    Raises
    ------
    UnitsError
        If a unit cannot be read or the two do not measure the same.

    Examples
    --------
    >>> unit_conversion("hPa", "Pa")
    (100.0, 0.0)
    >>> unit_conversion("degC", "K")
    (1.0, 273.15)
    """
    if source.strip() == target.strip():
        return 1.0, 0.0
    ureg, given, wanted = _registry(), _parsed(source), _parsed(target)
    if given.dimensionality == wanted.dimensionality:
        return _linear(ureg, given, wanted)
    for a, b, factor in EQUIVALENT:
        from_unit, to_unit = _parsed(a), _parsed(b)
        if (
            given.dimensionality == from_unit.dimensionality
            and wanted.dimensionality == to_unit.dimensionality
        ):
            before, _ = _linear(ureg, given, from_unit)
            after, _ = _linear(ureg, to_unit, wanted)
            return before * factor * after, 0.0
    raise UnitsError(f"units {source!r} cannot be converted to {target!r}")


def converted(values: NDArray[Any], factor: float, offset: float) -> NDArray[np.float32]:
    """Values in other units: what has more digits than float32 loses them last.

    Parameters
    ----------
    values : array of real numbers
        Not changed.
    factor, offset : float
        Of the units.

    Returns
    -------
    array of float32
        ``values * factor + offset``; the values themselves where there is nothing to do.

    Examples
    --------
    >>> converted(np.array([25.0, -1.5]), 1.0, 273.15)
    array([298.15, 271.65], dtype=float32)
    """
    if values.dtype == np.float32 and (factor, offset) == (1.0, 0.0):
        return values
    # Python numbers leave float32 what it is
    wide: NDArray[np.floating[Any]] = values.astype(
        np.float64 if values.dtype.itemsize > 4 else np.float32
    )
    with np.errstate(over="ignore"):
        # what overflows is infinite, and so invalid
        wide *= factor
        wide += offset
        result: NDArray[np.float32] = wide.astype(np.float32, copy=False)
    return result


def _linear(ureg: Any, given: Any, wanted: Any) -> tuple[float, float]:
    zero = float(ureg.Quantity(0.0, given).to(wanted).magnitude)
    one = float(ureg.Quantity(1.0, given).to(wanted).magnitude)
    # 1 - 0 loses digits where the offset is large: ten thousand keeps them
    many = float(ureg.Quantity(1e4, given).to(wanted).magnitude)
    factor = one if zero == 0.0 else round((many - zero) / 1e4, 12)
    return factor, zero
