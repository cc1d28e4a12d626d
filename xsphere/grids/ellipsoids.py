"""Ellipsoids, by the one latitude of theirs that keeps areas: authalic."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Series in the third flattening n, from n to n**6, of sin(2 l lat) for l = 1, 2, ...
_TO_AUTHALIC = (
    (-4 / 3, -4 / 45, 88 / 315, 538 / 4725, 20824 / 467775, -44732 / 2837835),
    (0, 34 / 45, 8 / 105, -2482 / 14175, -37192 / 467775, -12467764 / 212837625),
    (0, 0, -1532 / 2835, -898 / 14175, 54968 / 467775, 100320856 / 1915538625),
    (0, 0, 0, 6007 / 14175, 24496 / 467775, -5884124 / 70945875),
    (0, 0, 0, 0, -23356 / 66825, -839792 / 19348875),
    (0, 0, 0, 0, 0, 570284222 / 1915538625),
)
_TO_GEODETIC = (
    (4 / 3, 4 / 45, -16 / 35, -2582 / 14175, 60136 / 467775, 28112932 / 212837625),
    (0, 46 / 45, 152 / 945, -11966 / 14175, -21016 / 51975, 251310128 / 638512875),
    (0, 0, 3044 / 2835, 3802 / 14175, -94388 / 66825, -8797648 / 10945935),
    (0, 0, 0, 6059 / 4725, 41072 / 93555, -1472637812 / 638512875),
    (0, 0, 0, 0, 768272 / 467775, 455935736 / 638512875),
    (0, 0, 0, 0, 0, 4210684958 / 1915538625),
)
# The series are exact to rounding up to here.
_ROUNDEST, _FLATTEST = 1e6, 100.0


@dataclass(frozen=True, kw_only=True, repr=False)
class Ellipsoid:
    """A figure of the Earth that is flattened at the poles.

    Two are equal if they are flattened alike: the places of cells depend on nothing else.

    Parameters
    ----------
    inverse_flattening : float
        ``a / (a - b)``, from 100 to a million.
    semi_major_axis : float
        ``a`` in metres.
    name : str, optional
        As PROJ knows it, such as ``"WGS84"``.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Karney (2024), On auxiliary latitudes, https://doi.org/10.1080/00396265.2023.2217604

    Examples
    --------
    >>> wgs84 = Ellipsoid.named("WGS84")
    >>> wgs84.authalic(45.0).round(4)
    np.float64(44.8717)
    >>> wgs84.geodetic(wgs84.authalic(45.0)).round(9)
    np.float64(45.0)
    """

    inverse_flattening: float
    semi_major_axis: float = field(default=6378137.0, compare=False)
    name: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        given = float(self.inverse_flattening), float(self.semi_major_axis)
        if not (_FLATTEST <= given[0] <= _ROUNDEST and 0 < given[1] < np.inf):
            raise ValueError(
                f"an ellipsoid must have an inverse_flattening from {_FLATTEST:g} to "
                f"{_ROUNDEST:g} and a positive semi_major_axis, got {given[0]:g} and {given[1]:g}"
            )
        # the same in every source, to a tenth of a micrometre on the Earth
        object.__setattr__(self, "inverse_flattening", round(given[0], 9))
        object.__setattr__(self, "semi_major_axis", given[1])

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The ellipsoid of a name that PROJ or EPSG know; None for a sphere.

        Parameters
        ----------
        name : str
            Such as ``"WGS84"``, ``"WGS 84"``, ``"GRS 1980"`` or ``"sphere"``.

        Returns
        -------
        Ellipsoid or None
            With the name that PROJ gives it.

        Raises
        ------
        ValueError
            If there is no ellipsoid of that name.

        Examples
        --------
        >>> Ellipsoid.named("WGS 84") == Ellipsoid.named("WGS84")
        True
        """
        if "sphere" in name.lower():
            return None
        import pyproj
        from pyproj.crs.crs import Ellipsoid as EllipsoidOfProj  # type: ignore[attr-defined]

        known: dict[str, dict[str, Any]] = pyproj.get_ellps_map()
        short = {key.lower(): key for key in known}.get(name.replace(" ", "").lower())
        if short is not None:
            return cls._of(known[short], short)
        try:
            found = EllipsoidOfProj.from_name(name)
        except pyproj.exceptions.CRSError as error:
            raise ValueError(
                f"expected the name of an ellipsoid, such as 'WGS84' or 'GRS80', got {name!r}"
            ) from error
        if not found.inverse_flattening:
            return None
        made = cls(
            inverse_flattening=found.inverse_flattening, semi_major_axis=found.semi_major_metre
        )
        alike = (other for key in known if (other := cls._of(known[key], key)) == made)
        return next(alike, made)

    @classmethod
    def _of(cls, parameters: dict[str, Any], name: str) -> Self | None:
        major = float(parameters["a"])
        minor = float(parameters.get("b", major))
        flattening = parameters.get("rf", major / (major - minor) if major > minor else 0.0)
        if not flattening:
            return None
        return cls(inverse_flattening=flattening, semi_major_axis=major, name=name)

    @cached_property
    def _series(self) -> tuple[Floats, Floats]:
        flattening = 1.0 / self.inverse_flattening
        powers = (flattening / (2.0 - flattening)) ** np.arange(1, 7)
        return np.array(_TO_AUTHALIC) @ powers, np.array(_TO_GEODETIC) @ powers

    def authalic(self, lat: ArrayLike) -> Floats:
        """Latitude on the sphere of the same areas, of geodetic latitudes; both in degrees."""
        return _shifted(lat, self._series[0])

    def geodetic(self, lat: ArrayLike) -> Floats:
        """Geodetic latitude, of latitudes on the sphere of the same areas; both in degrees."""
        return _shifted(lat, self._series[1])

    def __repr__(self) -> str:
        return f"Ellipsoid(inverse_flattening={self.inverse_flattening!r})"


def _shifted(lat: ArrayLike, series: Floats) -> Floats:
    degrees = np.asarray(lat, np.float64)
    twice = 2 * np.deg2rad(degrees)
    shift = sum(term * np.sin(n * twice) for n, term in enumerate(series, 1))
    # a pole is one to the last bit
    return np.where(np.abs(degrees) >= 90.0, degrees, degrees + np.rad2deg(shift))[()]
