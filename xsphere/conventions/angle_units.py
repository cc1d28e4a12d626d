"""Units of latitude and longitude as UDUNITS spells them: how many degrees, and which way."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_DEGREES = {
    "deg degs degree degrees arcdeg arc_degree arc_degrees angular_degree angular_degrees °": 1.0,
    "rad rads radian radians": 180.0 / np.pi,
    "arcmin arcmins arcminute arcminutes arc_minute arc_minutes angular_minute": 1 / 60,
    "arcsec arcsecs arcsecond arcseconds arc_second arc_seconds angular_second": 1 / 3600,
    "gon gons grad grads grade grades": 0.9,
}
_FACTORS = {word: factor for words, factor in _DEGREES.items() for word in words.split()}
_WAYS = {
    "n": (1, "latitude"),
    "s": (-1, "latitude"),
    "e": (1, "longitude"),
    "w": (-1, "longitude"),
    "t": (1, None),
}
_SPELLINGS = (
    # degreeS is south, degrees are many
    re.compile(r"(.*[a-z°])([NSEWT])"),
    re.compile(r"(.+)()"),
    re.compile(r"(.+?)[ _]?(north|south|east|west|true)", re.IGNORECASE),
    re.compile(r"(.+?)[ _]?([nsewt])", re.IGNORECASE),
)


class AngleUnit(NamedTuple):
    """What a unit of angle means.

    Parameters
    ----------
    degrees : float
        Towards the east or north in one unit: negative for units towards the west and south.
    axis : str or None
        ``"latitude"`` or ``"longitude"``, where the unit says a direction.

    Examples
    --------
    >>> angle_unit("degrees_west")
    AngleUnit(degrees=-1.0, axis='longitude')
    """

    degrees: float
    axis: str | None


def angle_unit(units: str) -> AngleUnit | None:
    """What units of angle mean, or None if they are none; no units are degrees."""
    text = units.strip()
    return next(_readings(text), None) if text else AngleUnit(1.0, None)


def _readings(text: str) -> Iterator[AngleUnit]:
    for spelling in _SPELLINGS:
        match = spelling.fullmatch(text)
        factor = _FACTORS.get(match[1].lower().replace(" ", "_")) if match else None
        if match and factor is not None:
            sign, axis = _WAYS[match[2][0].lower()] if match[2] else (1, None)
            yield AngleUnit(sign * factor, axis)
