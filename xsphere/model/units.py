"""Linear conversion of units, refused where it would change the meaning of a field."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.model.unit_text import UnitTextError, parsed_units
from xsphere.notices import shortened

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
# of pint: their zeros are not those of other units
OFFSETS = ("degree_Celsius", "degree_Fahrenheit")
# no text of a product of units, whatever the case of its letters
DIMENSIONLESS = frozenset(
    (
        "",
        "-",
        "~",
        "0-1",
        "(0 - 1)",
        "(0-1)",
        "fraction",
        "ratio",
        "proportion",
        "numeric",
        "unitless",
        "dimensionless",
        "none",
        "non-dim",
        "nondimensional",
    )
)
# what meteorologists mean, where pint knows another unit of that name or none
NAMES = {
    # geopotential metres are metres wherever gravity is standard
    "gpm": "meter",
    "gpdm": "decameter",
    "mb": "millibar",
    "mbs": "millibar",
    "kts": "knot",
    "%": "percent",
}


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

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    for definition in DEFINITIONS:
        registry.define(definition)
    return registry


class _Unit(NamedTuple):
    scale: float
    unit: Any

    @property
    def dimensionality(self) -> Any:
        return self.unit.dimensionality


@lru_cache(256)
def _parsed(text: str) -> _Unit:
    if text.strip().lower() in DIMENSIONLESS:
        return _Unit(1.0, _registry().Unit(""))
    try:
        scale, factors = parsed_units(text)
        # degrees of temperature in a product are differences
        alone = factors[1:] == [] and all(power == 1 for _, power in factors)
        unit = _registry().Unit("")
        for name, power in factors:
            unit *= _registry().Unit(_known_name(name, difference=not alone)) ** power
    except UnitTextError as error:
        raise UnitsError(f"units {shortened(text)} cannot be read ({error})") from error
    return _Unit(scale, unit)


def _known_name(word: str, *, difference: bool) -> str:
    """Name that pint has for a unit: its symbol as it is written, or its name in any case."""
    ureg, name = _registry(), NAMES.get(word, word)
    known = ureg.parse_unit_name(name) or _spelled_out(name.lower())
    if not known:
        raise UnitTextError(f"{word!r} is not known")
    prefix, unit, _ = known[0]
    return f"delta_{unit}" if difference and unit in OFFSETS else f"{prefix}{unit}"


def _spelled_out(word: str) -> list[tuple[str, str, str]]:
    """Readings of a word in small letters as names: small letters change what symbols mean."""
    ureg = _registry()
    return [
        (prefix, unit, suffix)
        for prefix, unit, suffix in ureg.parse_unit_name(word)
        if word.startswith(prefix)
        and (rest := word.removeprefix(prefix).removesuffix(suffix))
        and (rest == unit or (len(rest) > 2 and rest != ureg.get_symbol(unit)))
    ]


@lru_cache(256)
def unit_conversion(source: str, target: str) -> tuple[float, float]:
    """Factor and offset that bring values from one unit to another.

    Symbols are read as they are written (``"mPa"`` is no ``"MPa"``), names in any case, singular or
    plural. Besides units of one dimension, geopotential and geopotential height are converted by
    the standard gravity, and depths and rates of water to mass by its density.

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
    given, wanted = _parsed(source), _parsed(target)
    if given.dimensionality == wanted.dimensionality:
        return _linear(given, wanted)
    for a, b, factor in EQUIVALENT:
        from_unit, to_unit = _parsed(a), _parsed(b)
        if (
            given.dimensionality == from_unit.dimensionality
            and wanted.dimensionality == to_unit.dimensionality
        ):
            before, _ = _linear(given, from_unit)
            after, _ = _linear(to_unit, wanted)
            return before * factor * after, 0.0
    raise UnitsError(f"units {shortened(source)} cannot be converted to {shortened(target)}")


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


def _linear(given: _Unit, wanted: _Unit) -> tuple[float, float]:
    ureg = _registry()

    def taken(value: float) -> float:
        found = ureg.Quantity(value * given.scale, given.unit).to(wanted.unit).magnitude
        return float(found) / wanted.scale

    zero, one = taken(0.0), taken(1.0)
    # 1 - 0 loses digits where the offset is large: ten thousand keeps them
    factor = one if zero == 0.0 else round((taken(1e4) - zero) / 1e4, 12)
    return factor, zero
