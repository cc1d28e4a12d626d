"""Masks whose regions are wanted: what they must be, and which of their classes are meant."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from xsphere.conventions import INVALID, classes_of, event_classes_of
from xsphere.conventions.base import check_known_sizes
from xsphere.conventions.masks import has_flags, holds_classes
from xsphere.conventions.values import declared_fills
from xsphere.notices import shortened


def check_is_mask(mask: Any, wish: str) -> None:
    """Refuse what is no array, holds no classes, or has chunks of unknown size."""
    if not isinstance(mask, xr.DataArray):
        raise TypeError(
            f"{wish}() needs a mask as a DataArray, got {type(mask).__name__}; choose one, such as "
            "ds['mask']"
        )
    if mask.dtype.kind == "f" and not has_flags(mask):
        one = "share.sel({'class': 'NAME'})" if "class" in mask.dims else "share"
        raise ValueError(
            f"{wish}() needs classes or booleans, but {shortened(mask.name)} is {mask.dtype} "
            "without flag_values: of shares and probabilities choose a threshold first, such as "
            f"{wish}({one} > 0.5)"
        )
    check_known_sizes({mask.name: mask.variable.chunksizes})


def wanted_classes(
    mask: xr.DataArray, classes: str | int | Sequence[str | int] | None
) -> dict[int, str]:
    """Value and name of every class to look for."""
    if mask.dtype.kind in "iu" and has_flags(mask) and not holds_classes(mask):
        raise no_classes(mask)
    known = event_classes_of(mask)
    if not known or min(known) < 1 or max(known) >= INVALID:
        raise ValueError(
            f"the classes of a mask must have flag_values from 1 to {INVALID - 1}, got {known}"
        )
    if classes is None:
        return known
    asked = [classes] if isinstance(classes, str | int) else list(classes)
    unknown = [name for name in asked if name not in known and name not in known.values()]
    if unknown:
        raise ValueError(
            f"classes must be names or values of {known}, got also {shortened(unknown)}"
        )
    return {value: name for value, name in known.items() if value in asked or name in asked}


def known_values(mask: xr.DataArray) -> tuple[Any, ...]:
    """Values that a mask may have beside background, invalid and not computed."""
    return (*classes_of(mask), *declared_fills(mask))


def check_certain(mask: xr.DataArray) -> None:
    """Refuse floats that may be shares rather than classes."""
    if mask.dtype.kind == "f" and not holds_classes(mask):
        raise no_classes(mask)


def no_classes(mask: xr.DataArray) -> ValueError:
    """What to say of an array with the flags of a mask, and other values."""
    return ValueError(
        "regions are of booleans, or integers of the type of their flag_values, but "
        f"{shortened(mask.name)} "
        f"is {mask.dtype}: its flags may be those of what it was made of. Where its values are "
        "classes, call .fillna(254).astype('uint8') first; else compare, such as share > 0.5"
    )
