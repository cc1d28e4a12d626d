"""Masks of classes: one uint8 a cell, with CF flags that say what each value means.

0 is background, 1 to n are the classes in order. A cell without valid input and a cell that was
never computed have values of their own, so that neither can pass for background.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.notices import shortened

BACKGROUND = 0
INVALID = 254
NOT_COMPUTED = 255

_RESERVED = {BACKGROUND: "background", INVALID: "invalid_input", NOT_COMPUTED: "not_computed"}
FLAG_ATTRIBUTES = ("flag_values", "flag_meanings", "flag_masks")


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
        raise TypeError(f"classes must be a sequence of names, got the string {shortened(classes)}")
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
            f"{shortened(sorted(_RESERVED.values()))}, got {bad}; write 'tropical_cyclone', for "
            "example"
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
        Booleans, or with attributes ``flag_values`` and ``flag_meanings``. Only labels are read.

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
        Booleans, or with attributes ``flag_values`` and ``flag_meanings``. Only labels are read.

    Returns
    -------
    dict of int to str
        Value to meaning, background and reserved values included, in the order of the file.
        Booleans are ``true`` or background, whatever the attributes say: a comparison such as
        ``mask == 2`` keeps those of the mask.

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
    if mask.dtype.kind == "b":
        return {0: "background", 1: "true"}
    absent = [name for name in ("flag_values", "flag_meanings") if name not in mask.attrs]
    if absent:
        raise ValueError(
            f"mask {shortened(mask.name)} must have the attributes flag_values and flag_meanings, "
            f"but {shortened(absent)} is missing; set them with "
            "mask.assign_attrs(mask_attributes(classes))"
        )
    values = np.atleast_1d(mask.attrs["flag_values"])
    meanings = str(mask.attrs["flag_meanings"]).split()
    if len(values) != len(meanings):
        raise ValueError(
            f"mask {shortened(mask.name)} must have one of flag_meanings for each of flag_values, "
            f"got {len(meanings)} for {len(values)}"
        )
    return {int(value): meaning for value, meaning in zip(values, meanings, strict=True)}


def has_flags(variable: xr.DataArray) -> bool:
    """Whether attributes name classes, whatever the values are."""
    return any(key in variable.attrs for key in FLAG_ATTRIBUTES)


def holds_classes(variable: xr.DataArray) -> bool:
    """Whether the values are flags of classes, as attributes and type together say.

    Arithmetic keeps attributes, so these alone say little. Integers are classes, unless they are
    64 bits wide and the flags are not: those are counts. Floats are a field, unless they were
    integers in the file that they were read from. Booleans are what is true.

    Parameters
    ----------
    variable : DataArray
        Any. Only labels are read.

    Returns
    -------
    bool

    Examples
    --------
    >>> mask = xr.DataArray(np.array([0, 1, 1], "u1"), attrs=mask_attributes(["cyclone"]))
    >>> holds_classes(mask), holds_classes((mask == 1).mean(keep_attrs=True))
    (True, False)
    """
    if not has_flags(variable):
        return False
    match variable.dtype.kind:
        case "i" | "u":
            return not (variable.dtype.itemsize == 8 and _flag_bytes(variable) < 8)
        case "f":
            packing = variable.encoding
            stored = np.dtype(packing.get("dtype", variable.dtype))
            return stored.kind in "iu" and "scale_factor" not in packing
    return False


def doubtful_classes(variable: xr.DataArray) -> tuple[int, ...]:
    """Flags of a field, for `check_no_classes`; none where there is no doubt."""
    doubtful = variable.dtype.kind in "iuf" and not holds_classes(variable)
    return flag_values(variable) if doubtful else ()


def flag_values(variable: xr.DataArray) -> tuple[int, ...]:
    """Values of the flags, in the order of the file; none if there are none."""
    return tuple(int(value) for value in np.atleast_1d(variable.attrs.get("flag_values", ())))


def check_no_classes(values: NDArray[Any], classes: Collection[int], name: str) -> None:
    """Refuse numbers that can only be classes: shares and counts are not all flags beyond 1.

    Parameters
    ----------
    values : array of numbers
        A field whose attributes name classes.
    classes : collection of int
        Values of the flags.
    name : str
        Of the variable.

    Raises
    ------
    ValueError
        If all values are flags, and not only 0 and 1.

    Examples
    --------
    >>> check_no_classes(np.array([0.0, 0.5, 1.0]), [0, 1, 2], "share")
    """
    found = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if found.size and found.max() > 1 and np.isin(found, list(classes)).all():
        raise ValueError(
            f"all values of {shortened(name)} are flag_values, but their type {values.dtype} is "
            "not that of classes: classes cannot be averaged. To keep classes, call .fillna(254) "
            "and .astype('uint8') first; of counts or other numbers, delete attrs['flag_values']"
        )


def check_flags(values: NDArray[Any], classes: Collection[float], name: Any) -> None:
    """Refuse values that are none of the flags, nor background, invalid, not computed or NaN.

    Parameters
    ----------
    values : array of numbers
        Of a mask.
    classes : collection of int
        Values of its flags.
    name : hashable
        Of the mask.

    Raises
    ------
    ValueError
        If there are others; the first of them are named.

    Examples
    --------
    >>> check_flags(np.array([0, 1, 255]), [0, 1], "mask")
    """
    # few cells are other than background, which is soon seen
    values = values[values != BACKGROUND]
    known = np.isin(values, [*classes, *_RESERVED])
    if values.dtype.kind == "f":
        known |= np.isnan(values)
    if not known.all():
        others = np.unique(values[~known])[:5].tolist()
        remedy = (
            "of shares and probabilities choose a threshold first, such as share > 0.5"
            if values.dtype.kind == "f"
            else "where they do not hold, delete attrs['flag_values'] and attrs['flag_meanings']"
        )
        raise ValueError(
            f"mask {shortened(name)} must hold 0 or its flag_values {shortened(sorted(classes))}, "
            f"got also {shortened(others)}; arithmetic keeps attributes: {remedy}"
        )


def _flag_bytes(variable: xr.DataArray) -> int:
    """Width of the flags' type; of lists, which have none, the widest but for our own masks."""
    flags = variable.attrs.get("flag_values", variable.attrs.get("flag_masks"))
    if isinstance(flags, np.ndarray | np.generic):
        return flags.dtype.itemsize
    ours = _RESERVED[NOT_COMPUTED] in str(variable.attrs.get("flag_meanings", "")).split()
    return 1 if ours else 8
