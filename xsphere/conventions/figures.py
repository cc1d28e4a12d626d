"""The figure of the Earth that metadata state: a sphere, an ellipsoid, or nothing."""

from collections.abc import Mapping
from typing import Any, Literal

from xsphere.grids import Ellipsoid
from xsphere.notices import shortened

Figure = Ellipsoid | Literal["sphere"]

# Axes are written with fewer digits than tell the ellipsoids of one size apart.
_KNOWN, _ROUNDED = ("WGS84", "GRS80"), 1e-3
_KEYS = {
    "semimajor_axis": "semi_major_axis",
    "semiminor_axis": "semi_minor_axis",
    "radius": "earth_radius",
    "name": "reference_ellipsoid_name",
}


def stated_figure(where: str, attrs: Mapping[Any, Any]) -> Figure | None:
    """The figure that attributes of CF or xdggs state; None if they state none."""
    ellipsoid = attrs.get("ellipsoid")
    words = {_KEYS.get(str(key), str(key)): value for key, value in attrs.items() if key != "name"}
    if isinstance(ellipsoid, Mapping):
        words |= {_KEYS.get(str(key), str(key)): value for key, value in ellipsoid.items()}
    elif ellipsoid is not None:
        words["reference_ellipsoid_name"] = ellipsoid
    try:
        by_name, by_numbers = _by_name(words), _by_numbers(words)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"the ellipsoid that {shortened(where)} states is none: {error}"
        ) from error
    if by_name is not None and by_numbers is not None and not _alike(by_name, by_numbers):
        raise ValueError(
            f"expected one ellipsoid, but the attributes of {shortened(where)} contradict each "
            f"other: {shortened(by_name)} by name, {shortened(by_numbers)} by numbers; correct the "
            "wrong one"
        )
    return by_name or by_numbers


def _by_name(words: Mapping[str, Any]) -> Figure | None:
    if "reference_ellipsoid_name" in words:
        return Ellipsoid.named(str(words["reference_ellipsoid_name"])) or "sphere"
    text = words.get("crs_wkt", words.get("spatial_ref"))
    if not isinstance(text, str) or not text:
        return None
    import pyproj

    try:
        found = pyproj.CRS.from_user_input(text).ellipsoid
    except pyproj.exceptions.CRSError as error:
        raise ValueError(shortened(error)) from error
    return None if found is None else Ellipsoid.named(found.name) or "sphere"


def _by_numbers(words: Mapping[str, Any]) -> Figure | None:
    major = float(words.get("semi_major_axis", 6378137.0))
    if "inverse_flattening" in words:
        inverse = float(words["inverse_flattening"])
        return _named_alike(inverse, major, 1e-9 * inverse) if inverse else "sphere"
    if "flattening" in words:
        flattening = float(words["flattening"])
        return _named_alike(1 / flattening, major, 1e-6) if flattening else "sphere"
    if "semi_minor_axis" in words:
        difference = major - float(words["semi_minor_axis"])
        return _named_alike(major / difference, major, _ROUNDED) if difference else "sphere"
    return "sphere" if "earth_radius" in words else None


def _named_alike(inverse: float, major: float, tolerance: float) -> Ellipsoid:
    """The known ellipsoid that numbers mean, give or take their digits."""
    for name in _KNOWN:
        known = Ellipsoid.named(name)
        if known is not None and abs(known.inverse_flattening - inverse) < tolerance:
            return known
    return Ellipsoid(inverse_flattening=inverse, semi_major_axis=major)


def _alike(one: Figure, other: Figure) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one.inverse_flattening - other.inverse_flattening) < _ROUNDED
