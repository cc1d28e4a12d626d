"""Which variables are angles that go round: directions, and phases or longitudes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

_DEGREES = re.compile(
    r"(arc)?deg(ree)?s?([ _.-]*(t|true|true north|from[ _]north|clockwise.*|compass))?|°"
    r"|degrees?_?(e|east)"
)
_RADIANS = re.compile(r"rad(ian)?s?")
# how far values lie apart is no direction, nor is an angle that does not go round
_LINEAR = re.compile(
    r"(?<![a-z])(spread(ing)?|widths?|deviation|variance|shear|zenith|elevation|latitudes?"
    r"|inclination|slopes?|tilt|incidence|change|tendency|rate)(?![a-z])"
)
_FROM_NORTH = re.compile(r"direction|azimuth|bearing|heading|course|aspect")
_NAMES_FROM_NORTH = re.compile(
    r"dir|^m?wd(?![a-z])|^(dd|ddd|drct)\d*$|^(md(ts|ww)|dw(i|ps|ww))\d*$"
)
_ROUND = re.compile(r"phase|longitude")
_NAMES_ROUND = re.compile(r"phase|^lon(?![a-z])|^xlong")


@dataclass(frozen=True)
class Angle:
    """What an angle that goes round is measured in, and from.

    Parameters
    ----------
    turn : float
        Once round: 360 or 2 pi.
    from_north : bool
        Whether it is clockwise from the north of its place, which is another at each place.

    Examples
    --------
    >>> Angle(turn=360.0, from_north=True).turn
    360.0
    """

    turn: float
    from_north: bool


def angle_of(variable: xr.DataArray) -> Angle | None:
    """What kind of angle a variable is, or None if its values are numbers that can be averaged.

    Parameters
    ----------
    variable : DataArray
        Directions are told by ``standard_name``, such as ``wind_from_direction``, or by units of
        angle with a name or ``long_name`` that says so, such as ``mwd``, "Mean wave direction".

    Returns
    -------
    Angle or None

    Examples
    --------
    >>> wind = xr.DataArray([350.0, 10.0], attrs={"standard_name": "wind_from_direction"})
    >>> angle_of(wind)
    Angle(turn=360.0, from_north=True)
    >>> angle_of(xr.DataArray([280.0], attrs={"units": "K"})) is None
    True
    """
    if variable.dtype.kind not in "fiu":
        return None
    attrs, name = variable.attrs, str(variable.name).lower()
    standard_name = str(attrs.get("standard_name", "")).lower()
    words = f"{standard_name} {attrs.get('long_name', '')}".lower()
    turn = _turn(attrs.get("units"), standard_name)
    if turn is None or _LINEAR.search(f"{words} {name}"):
        return None
    # what the file says in words is more than what a name looks like
    for from_north, in_words, in_names in (
        (True, _FROM_NORTH, _NAMES_FROM_NORTH),
        (False, _ROUND, _NAMES_ROUND),
    ):
        if in_words.search(words) or in_names.search(name):
            return Angle(turn, from_north)
    return None


def _turn(units: object, standard_name: str) -> float | None:
    text = "" if units is None else str(units).strip().lower()
    if _RADIANS.fullmatch(text):
        return 2 * np.pi
    # directions have degrees as the canonical units of CF
    if _DEGREES.fullmatch(text) or (not text and standard_name.endswith("_direction")):
        return 360.0
    return None


def check_no_angles(arrays: Iterable[xr.DataArray], wish: str) -> None:
    """Refuse angles where values are averaged as numbers.

    Parameters
    ----------
    arrays : iterable of DataArray
        The variables.
    wish : str
        What is to be done to them, for the message.

    Raises
    ------
    ValueError
        With the names of all of them.

    Examples
    --------
    >>> wind = xr.DataArray([350.0], attrs={"standard_name": "wind_from_direction"}, name="wd")
    >>> check_no_angles([wind], "filter()")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: filter() is for numbers, but ['wd'] are angles that go round: ...
    """
    angles = [str(array.name) for array in arrays if angle_of(array) is not None]
    if angles:
        raise ValueError(
            f"{wish} is for numbers, but {angles} are angles that go round: 350 and 10 degrees are "
            "neighbours; leave them out, or make components of them first, np.sin(np.deg2rad(a)) "
            "and np.cos(np.deg2rad(a))"
        )
