"""Which variables of a dataset are components of vectors: told, or found by what they are named."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import xarray as xr

from xsphere.grids import Grid
from xsphere.model.vector_names import component_pairs, lone_components, units_factor
from xsphere.notices import shortened, warn_user

Pairs = Sequence[tuple[Any, Any]]
Vectors = Literal["auto"] | Pairs | None

# Poleward of this the east of neighbouring cells differs noticeably.
POLEWARD = 75.0


class LoneComponentWarning(UserWarning):
    """One component of a vector was regridded without the other.

    Examples
    --------
    >>> import warnings
    >>> import xsphere
    >>> ds = xsphere.sample_dataset()
    >>> with warnings.catch_warnings():  # doctest: +ELLIPSIS
    ...     warnings.simplefilter("error", LoneComponentWarning)
    ...     ds[["U850"]].sphere.to_healpix(level=1)
    Traceback (most recent call last):
    xsphere.regridding.vector_pairs.LoneComponentWarning: ...U850...
    """


def vector_pairs(
    variables: Mapping[Any, xr.DataArray], vectors: Vectors, source: Grid, *, warn: bool = True
) -> list[tuple[Any, Any]]:
    """Names of components towards the east and the north that belong together.

    Parameters
    ----------
    variables : mapping of name to DataArray
        What is to be regridded.
    vectors : "auto", sequence of pairs, or None
        Pairs told, or ``"auto"``: see `xsphere.model.vector_names.component_pairs`.
    source : Grid
        Grid of the data.
    warn : bool
        Whether to warn of components that stay alone.

    Returns
    -------
    list of tuple
        Each variable at most once.

    Raises
    ------
    TypeError
        If the pairs are no pairs.
    ValueError
        If a pair names a variable that is not there, one twice, or two of different dimensions or
        units that do not convert.

    Warns
    -----
    LoneComponentWarning
        If a component stays alone and the grid comes near a pole.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> u, v = (
    ...     xr.DataArray([0.0], dims="x", attrs={"standard_name": f"{way}ward_wind"})
    ...     for way in ("east", "north")
    ... )
    >>> vector_pairs({"u": u, "v": v}, "auto", HealpixGrid(0))
    [('u', 'v')]
    """
    if vectors is None:
        return []
    if isinstance(vectors, str):
        if vectors != "auto":
            raise ValueError(
                f"vectors must be 'auto', None or pairs of names, got {shortened(vectors)}"
            )
        pairs = component_pairs(variables)
        if warn:
            _warn_of_lone_components(variables, pairs, source)
        return pairs
    return _checked(variables, vectors)


def check_vector_methods(pairs: list[tuple[Any, Any]], methods: Mapping[Any, str]) -> None:
    """Refuse components whose method is one of classes."""
    classes = [pair for pair in pairs if methods[pair[0]] == "mode"]
    if classes:
        raise ValueError(
            f"method 'mode' is for classes, not for vectors, but {classes} are vectors; choose "
            "another method, or say vectors=None"
        )


def _checked(variables: Mapping[Any, xr.DataArray], vectors: Pairs) -> list[tuple[Any, Any]]:
    given: Sequence[Any] = vectors
    pairs = [tuple(pair) if isinstance(pair, tuple | list) else (pair,) for pair in given]
    if any(len(pair) != 2 for pair in pairs):
        raise TypeError(
            f"vectors must be pairs of names such as [('u', 'v')], got {shortened(list(vectors))}"
        )
    names = [name for pair in pairs for name in pair]
    problems = [
        f"{shortened(name)} is not among the variables to regrid {shortened(list(variables))}"
        for name in dict.fromkeys(names)
        if name not in variables
    ]
    problems += [
        f"{shortened(n)} is named more than once"
        for n in dict.fromkeys(names)
        if names.count(n) > 1
    ]
    problems += [
        f"{shortened(east)} has dimensions {shortened(dict(variables[east].sizes))}, "
        f"{shortened(north)} {shortened(dict(variables[north].sizes))}"
        for east, north in pairs
        if {east, north} <= set(variables)
        and dict(variables[east].sizes) != dict(variables[north].sizes)
    ]
    problems += [
        f"{shortened(east)} is in {shortened(variables[east].attrs['units'])}, {shortened(north)} "
        f"in {shortened(variables[north].attrs['units'])}, which do not convert"
        for east, north in pairs
        if {east, north} <= set(variables)
        and units_factor(variables[east], variables[north]) is None
    ]
    if problems:
        raise ValueError(
            f"vectors must name components that belong together: {'; '.join(problems)}"
        )
    return [(east, north) for east, north in pairs]


def _warn_of_lone_components(
    variables: Mapping[Any, xr.DataArray], pairs: list[tuple[Any, Any]], source: Grid
) -> None:
    lone = lone_components(variables, pairs)
    if lone and _nears_a_pole(source):
        warn_user(
            f"{lone} are components of vectors whose other component was not found: regridded as "
            "scalars, they are wrong near the poles. Regrid both together in one Dataset, name "
            "them with vectors=[('u', 'v')], or say vectors=None",
            LoneComponentWarning,
        )


def _nears_a_pole(grid: Grid) -> bool:
    return bool(abs(grid.centre_lonlat[1]).max() > POLEWARD)
