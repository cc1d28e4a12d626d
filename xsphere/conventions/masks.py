"""Masks of classes: one uint8 a cell, with CF flags that say what each value means.

0 is background, 1 to n are the classes in order. A cell without valid input and a cell that was
never computed have values of their own, so that neither can pass for background.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

BACKGROUND = 0
INVALID = 254
NOT_COMPUTED = 255

_RESERVED = {BACKGROUND: "background", INVALID: "invalid_input", NOT_COMPUTED: "not_computed"}


def mask_attributes(classes: Sequence[str]) -> dict[str, Any]:
    """CF attributes of a mask of classes.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes 1, 2, ..., at most 253.

    Returns
    -------
    dict
        ``flag_values`` (uint8) and ``flag_meanings``: 0 background, 1 to n the classes, 254
        invalid_input, 255 not_computed.

    Raises
    ------
    TypeError
        If `classes` is a single string.
    ValueError
        If a name is repeated, reserved or not one word, or there are more than 253.

    References
    ----------
    .. [1] CF conventions, section 3.5, flags: https://cfconventions.org

    Examples
    --------
    >>> attributes = mask_attributes(["cyclone", "river"])
    >>> attributes["flag_meanings"]
    'background cyclone river invalid_input not_computed'
    >>> attributes["flag_values"]
    array([  0,   1,   2, 254, 255], dtype=uint8)
    """
    if isinstance(classes, str):
        raise TypeError(f"classes must be a sequence of names, got the string {classes!r}")
    names = list(classes)
    bad = [
        name
        for name in names
        if not re.fullmatch(r"[\w.+@-]+", str(name), re.ASCII)
        or name in _RESERVED.values()
        or names.count(name) > 1
    ]
    if bad:
        raise ValueError(
            "classes must be different single words of letters, digits and _ - . + @, other than "
            f"{sorted(_RESERVED.values())}, got {bad}; write 'tropical_cyclone', for example"
        )
    if len(names) >= INVALID:
        raise ValueError(f"classes must be at most {INVALID - 1}, got {len(names)}")
    flags = {BACKGROUND: "background", **dict(enumerate(names, 1)), **_RESERVED}
    return {
        "flag_values": np.array(sorted(flags), np.uint8),
        "flag_meanings": " ".join(flags[value] for value in sorted(flags)),
    }


def event_classes_of(mask: xr.DataArray) -> dict[int, str]:
    """Meaning of the values of a mask that are events, by value.

    Parameters
    ----------
    mask : DataArray
        With attributes ``flag_values`` and ``flag_meanings``. Only the attributes are read.

    Returns
    -------
    dict of int to str
        As `classes_of`, in the order of the values, without background, invalid and not computed.

    Raises
    ------
    ValueError
        If the attributes are missing or do not match.

    Examples
    --------
    >>> mask = xr.DataArray(np.zeros(2, "u1"), attrs=mask_attributes(["cyclone"]))
    >>> event_classes_of(mask)
    {1: 'cyclone'}
    """
    return {
        value: name for value, name in sorted(classes_of(mask).items()) if value not in _RESERVED
    }


def classes_of(mask: xr.DataArray) -> dict[int, str]:
    """Meaning of every value of a mask, from its CF flags.

    Parameters
    ----------
    mask : DataArray
        With attributes ``flag_values`` and ``flag_meanings``. Only the attributes are read.

    Returns
    -------
    dict of int to str
        Value to meaning, background and reserved values included, in the order of the file.

    Raises
    ------
    ValueError
        If the attributes are missing or do not match.

    Examples
    --------
    >>> mask = xr.DataArray(np.zeros(2, "u1"), attrs=mask_attributes(["cyclone"]))
    >>> classes_of(mask)
    {0: 'background', 1: 'cyclone', 254: 'invalid_input', 255: 'not_computed'}
    """
    absent = [name for name in ("flag_values", "flag_meanings") if name not in mask.attrs]
    if absent:
        raise ValueError(
            f"mask {mask.name!r} must have the attributes flag_values and flag_meanings, but "
            f"{absent} is missing; set them with mask.assign_attrs(mask_attributes(classes))"
        )
    values = np.atleast_1d(mask.attrs["flag_values"])
    meanings = str(mask.attrs["flag_meanings"]).split()
    if len(values) != len(meanings):
        raise ValueError(
            f"mask {mask.name!r} must have one of flag_meanings for each of flag_values, got "
            f"{len(meanings)} for {len(values)}"
        )
    return {int(value): meaning for value, meaning in zip(values, meanings, strict=True)}
