"""How the values of a variable are to be read: what is missing, and what is no number to average.

All of it is found from attributes, encodings and types. What needs the values is done where they
are, in the task that reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.masks import check_no_classes, doubtful_classes
from xsphere.grids.travel import Travelling
from xsphere.notices import shortened, warn_user

# What only says how values are stored or which of them are valid: it never holds for a result.
STORAGE_ATTRIBUTES = (
    "_FillValue",
    "missing_value",
    "valid_range",
    "valid_min",
    "valid_max",
    "actual_range",
)
# Numbers that stand for missing wherever they are, declared or not: CMIP and GrADS.
WELL_KNOWN = (1e20, -1e20, 9.999e20)
# So does any finite number from here on: no field reaches it, but healpy's UNSEEN, Ferret, CESM,
# netCDF, ROMS, the largest floats and others do.
LARGEST = 1e30
_HUGE = 0.999e20
# Values that are looked at twice while they are in the cache of a processor.
_AT_ONCE = 2**17

# Part of every task's key: raise it when the same values are read in another way.
VERSION = 1


class ValidRangeWarning(UserWarning):
    """No value lies within the valid range that the attributes state.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     Reading(name="t", low=200.0, high=350.0)(np.array([10.0, 20.0]))
    array([nan, nan])
    >>> print(str(told[0].message).split(":")[0])
    no value of 't' is within its valid range, 200 to 350
    """


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a task does to the values of a variable before anything else.

    Parameters
    ----------
    name : str
        Of the variable, for messages.
    fills : tuple of float
        Values that stand for missing.
    low, high : float
        Values beyond are missing.
    classes : tuple of int
        Flags of a field that cannot be told from classes by its type: refused if the values are
        nothing but flags.
    factor : float
        Brings the values into the units of others, such as those of the other component.

    Examples
    --------
    >>> Reading(name="t", fills=(-999.0,))(np.array([-999.0, 280.0, 1e20]))
    array([ nan, 280.,  nan])
    """

    # the name of its tasks; dask cannot do with one that has a hyphen, as a repr may have
    __name__ = "xsphere_read"

    name: str
    fills: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    classes: tuple[int, ...] = ()
    factor: float = 1.0

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values, NaN where they are missing; integers become floats only if they may miss."""
        if self.fills or self.low > -np.inf or self.high < np.inf:
            values = np.where(self._missing(values), np.nan, _as_float(values))
        values = without_well_known(values)
        if self.classes:
            check_no_classes(values, self.classes, self.name)
        return values if self.factor == 1 else _as_float(values) * self.factor

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (VERSION, self.fills, self.low, self.high, self.classes, self.factor)

    def declared(self) -> dict[str, Any]:
        """What attributes say, as plain values for JSON; nothing where they say nothing."""
        bounds = {"low": self.low, "high": self.high}
        stated: dict[str, Any] = {key: b for key, b in bounds.items() if np.isfinite(b)}
        stated |= {"fills": list(self.fills)} if self.fills else {}
        return stated | ({"factor": self.factor} if self.factor != 1 else {})

    def _missing(self, values: NDArray[Any]) -> NDArray[Any]:
        missing = np.zeros(values.shape, np.bool_)
        for fill in self.fills:
            missing |= _equal(values, fill)
        if self.low == -np.inf and self.high == np.inf:
            return missing
        known = ~missing & np.isfinite(values)
        low, high = self.low, self.high
        if values.dtype.kind == "f":
            # a bound of 0.1 includes what 0.1 is among the values
            low, high = (float(values.dtype.type(bound)) for bound in (low, high))
        beyond = known & ((values < low) | (values > high))
        if known.any() and not (known & ~beyond).any():
            warn_user(
                f"no value of {shortened(self.name)} is within its valid range, {self.low:g} to "
                f"{self.high:g}: all are taken for missing. Arithmetic keeps attributes: drop "
                "valid_range, valid_min and valid_max where they do not hold",
                ValidRangeWarning,
            )
        missing |= beyond
        return missing


@dataclass(frozen=True, kw_only=True)
class ReadingNode(Travelling):
    """A node that reads its inputs by their rules first.

    Parameters
    ----------
    node : callable
        What tasks run.
    readings : tuple of Reading
        One for each of its inputs.

    Examples
    --------
    >>> ReadingNode(node=np.sqrt, readings=(Reading(name="t", fills=(-1.0,)),))(np.array([-1, 4]))
    array([nan,  2.])
    """

    node: Any
    readings: tuple[Reading, ...]

    @property
    def __name__(self) -> str:
        return str(self.node.__name__)

    def __call__(self, *fields: NDArray[Any]) -> Any:
        """What the node gives for inputs without what is missing."""
        read = (reading(field) for reading, field in zip(self.readings, fields, strict=True))
        return self.node(*read)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        rules = tuple(reading.__dask_tokenize__() for reading in self.readings)
        return ("xsphere.read", rules, self.node.__dask_tokenize__())


def reading_of(variable: xr.DataArray) -> Reading:
    """How the values of a variable are to be read.

    Parameters
    ----------
    variable : DataArray
        With ``_FillValue``, ``missing_value``, ``valid_range``, ``valid_min`` or ``valid_max``
        among its attributes, or not. Only labels are looked at.

    Returns
    -------
    Reading
        To be called where values are.

    Examples
    --------
    >>> variable = xr.DataArray([1.0], attrs={"valid_range": [0, 50], "missing_value": -1})
    >>> reading_of(variable)
    Reading(name='None', fills=(-1.0,), low=0.0, high=50.0, classes=(), factor=1.0)
    """
    low, high = _valid_range(variable)
    return Reading(
        name=str(variable.name),
        fills=declared_fills(variable),
        low=low,
        high=high,
        classes=doubtful_classes(variable),
    )


def declared_fills(variable: xr.DataArray) -> tuple[float, ...]:
    """Values that the attributes of a variable say are missing, without NaN."""
    found = [
        value
        for key in ("_FillValue", "missing_value")
        for value in _numbers(variable.attrs.get(key))
    ]
    return tuple(dict.fromkeys(value for value in found if not np.isnan(value)))


def check_unpacked(variables: Mapping[Any, xr.DataArray]) -> None:
    """Refuse variables whose attributes say that their values stand for others.

    Parameters
    ----------
    variables : mapping of name to DataArray
        Any.

    Raises
    ------
    ValueError
        If any is packed; all are named.

    Examples
    --------
    >>> packed = xr.DataArray(np.array([1], "i2"), attrs={"scale_factor": 0.01})
    >>> check_unpacked({"t": packed})
    Traceback (most recent call last):
    ...
    ValueError: variables ['t'] hold packed integers (their attributes have scale_factor, \
add_offset or _Unsigned); decode them with xr.decode_cf(ds), or open the file with \
mask_and_scale=True
    """
    packed = [name for name, variable in variables.items() if _is_packed(variable)]
    if packed:
        raise ValueError(
            f"variables {packed} hold packed integers (their attributes have scale_factor, "
            "add_offset or _Unsigned); decode them with xr.decode_cf(ds), or open the file with "
            "mask_and_scale=True"
        )


def without_well_known(values: NDArray[Any]) -> NDArray[Any]:
    """Floats with NaN for the numbers that stand for missing wherever they are.

    Parameters
    ----------
    values : array
        Not changed; what are no floats are returned as they are.

    Returns
    -------
    array
        The values themselves where there is nothing to do.

    Examples
    --------
    >>> without_well_known(np.array([1.0, -1.6375e30, 1e19], np.float32))
    array([1.e+00,    nan, 1.e+19], dtype=float32)
    """
    if values.dtype.kind != "f" or values.dtype.itemsize < 4 or not _any_huge(values):
        return values
    # as float32 has them, and as float64 has what was float32
    known = np.concatenate([np.array(WELL_KNOWN), np.array(WELL_KNOWN, "f4")])
    missing = np.isin(values, known.astype(values.dtype))
    missing |= (np.abs(values) >= values.dtype.type(LARGEST)) & np.isfinite(values)
    return np.where(missing, values.dtype.type(np.nan), values) if missing.any() else values


def _any_huge(values: NDArray[Any]) -> bool:
    flat = values.reshape(-1) if values.flags.c_contiguous else values.ravel(order="K")
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        # not the other way round: NaN alone is neither
        if np.fmax.reduce(part) > _HUGE or np.fmin.reduce(part) < -_HUGE:
            return True
    return False


def _as_float(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return values
    return values.astype(np.result_type(values.dtype, np.float32))


def _equal(values: NDArray[Any], fill: float) -> Any:
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values == values.dtype.type(fill)
    # a number that integers cannot hold is none of them
    return values == int(fill) if np.isfinite(fill) and fill == int(fill) else False


def _numbers(value: Any) -> list[float]:
    """Numbers of an attribute; none of one that holds none."""
    try:
        return [float(number) for number in np.atleast_1d(value).ravel()]
    except (TypeError, ValueError):
        return []


def _valid_range(variable: xr.DataArray) -> tuple[float, float]:
    attrs = variable.attrs
    pair = [attrs.get(key) for key in ("valid_min", "valid_max")]
    given = np.atleast_1d(attrs["valid_range"]) if "valid_range" in attrs else None
    if given is not None and given.size == 2:
        pair = list(given)
    bounds = (-np.inf, np.inf)
    low, high = (
        _bound(variable, value, nothing) for value, nothing in zip(pair, bounds, strict=True)
    )
    return min(low, high), max(low, high)


def _bound(variable: xr.DataArray, value: Any, nothing: float) -> float:
    """A bound in the units of the values, or what bounds nothing."""
    numbers = _numbers(value)
    if len(numbers) != 1 or np.isnan(numbers[0]):
        return nothing
    kind, packing = np.asarray(value).dtype, variable.encoding
    # CF: a bound in the type of what is stored speaks of that
    if variable.dtype.kind != "f" or kind.kind not in "iu":
        return numbers[0]
    if {"scale_factor", "add_offset"} & set(packing):
        scale, offset = packing.get("scale_factor", 1.0), packing.get("add_offset", 0.0)
        return float(numbers[0] * float(scale) + float(offset))
    # small integers of floats: their packing is no longer known
    return nothing if kind.itemsize < 4 else numbers[0]


def _is_packed(variable: xr.DataArray) -> bool:
    attrs = variable.attrs
    scaled = _numbers(attrs.get("scale_factor", 1.0)), _numbers(attrs.get("add_offset", 0.0))
    unsigned = variable.dtype.kind in "iu" and "_Unsigned" in attrs
    return unsigned or scaled != ([1.0], [0.0])
