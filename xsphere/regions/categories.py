"""Scales that name how strong storms and rivers are."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.model.units import unit_conversion
from xsphere.notices import shortened
from xsphere.regions.track_tables import TimeAxis

Averaging = Literal["1min", "10min"]
# lower ends of the categories from tropical storm (0) to 5, 1-minute winds in knots
SAFFIR_SIMPSON = (34.0, 64.0, 83.0, 96.0, 113.0, 137.0)
# a wind that rounding took from a bound still reaches it
ROUNDING_KNOTS = 1e-3
# of a 10-minute mean to the 1-minute mean over sea
TEN_MINUTES = 0.93
UNKNOWN = -5
# lower ends of the ranks 1 to 5, in kg m-1 s-1
RIVER_RANKS = (250.0, 500.0, 750.0, 1000.0, 1250.0)
SHORT_HOURS, LONG_HOURS = 24.0, 48.0
IVT_UNITS = "kg m-1 s-1"


def saffir_simpson(
    wind: xr.DataArray, *, units: str | None = None, averaging: Averaging = "1min"
) -> xr.DataArray:
    """Category of tropical cyclones on the Saffir-Simpson scale, by their maximum wind.

    Parameters
    ----------
    wind : DataArray
        Maximum sustained wind at 10 m, such as ``tracks.wind_max``; lazy or not.
    units : str, optional
        Of the wind, where it has no attribute ``units``.
    averaging : {"1min", "10min"}
        Time over which the wind is a mean. The scale is one of 1-minute means; 10-minute means are
        divided by 0.93, as the WMO recommends over sea [2]_. The wind of a model is a mean over its
        cells and steps, nearer to a 10-minute mean than to a 1-minute one: categories of coarse
        fields are lower bounds.

    Returns
    -------
    DataArray of int8
        -1 for a depression (below 34 knots), 0 for a tropical storm, 1 to 5 for hurricanes, as
        IBTrACS has them; -5 where the wind is missing. A wind at a bound is in the higher category.

    Raises
    ------
    TypeError
        If `wind` is not a DataArray.
    ValueError
        If units are missing, contradict each other or cannot be converted to knots, or `averaging`
        is unknown.

    References
    ----------
    .. [1] https://www.nhc.noaa.gov/aboutsshws.php
    .. [2] Harper, Kepert and Ginger (2010), WMO/TD-No. 1555

    Examples
    --------
    >>> wind = xr.DataArray([15.0, 30.0, 70.0, np.nan], attrs={"units": "m s-1"})
    >>> saffir_simpson(wind).values
    array([-1,  0,  4, -5], dtype=int8)
    """
    _check_array(wind, "saffir_simpson", "wind")
    if averaging not in get_args(Averaging):
        raise ValueError(f"averaging must be '1min' or '10min', got {shortened(averaging)}")
    factor = _factor(wind, units, "knot", "the wind")
    one_minute = factor if averaging == "1min" else factor / TEN_MINUTES
    bounds = (np.array(SAFFIR_SIMPSON) - ROUNDING_KNOTS) / one_minute
    names = ["unknown", "depression", "tropical_storm", *(f"category_{n}" for n in range(1, 6))]
    attrs = {
        "long_name": "category on the Saffir-Simpson scale",
        "flag_values": np.array([UNKNOWN, -1, 0, 1, 2, 3, 4, 5], np.int8),
        "flag_meanings": " ".join(names),
    }
    found: xr.DataArray = xr.apply_ufunc(
        _Category(tuple(bounds.tolist())),
        wind,
        dask="parallelized",
        output_dtypes=[np.int8],
        keep_attrs=False,
    )
    return found.rename("saffir_simpson").assign_attrs(attrs)


@dataclass(frozen=True)
class _Category:
    """Which of the bounds values reach, one less than their number."""

    bounds: tuple[float, ...]
    __name__ = "xsphere_saffir_simpson"

    def __call__(self, wind: NDArray[Any]) -> NDArray[np.int8]:
        reached = np.searchsorted(np.array(self.bounds), wind, side="right") - 1
        return np.where(np.isnan(wind), UNKNOWN, reached).astype(np.int8)


def river_rank(ivt: Any, hours: Any) -> Any:
    """Rank of atmospheric rivers at a place, by the largest transport and how long it lasts.

    Parameters
    ----------
    ivt : array-like or DataArray of float
        Largest integrated vapour transport while it is at least 250, in kg m-1 s-1.
    hours : array-like or DataArray of float
        How long it is at least 250 at the place, in hours.

    Returns
    -------
    array or DataArray of int8
        1 to 5 from 250, 500, 750, 1000 and 1250 kg m-1 s-1 on; one less if it lasts less than 24
        hours, one more, but at most 5, if more than 48. 0 for what has no rank, or is missing.

    Notes
    -----
    The scale is one of places, where a river passes. The life of a track is longer than it is at
    any of them: of ``tracks.IVT_lifetime_max`` and ``tracks.duration``, it is an upper bound. For
    the highest rank that a track has at any place, see `river_scale`.

    References
    ----------
    .. [1] Ralph et al. (2019), https://doi.org/10.1175/BAMS-D-18-0023.1

    Examples
    --------
    >>> river_rank([240.0, 300.0, 300.0, 800.0, 1300.0], [60, 12, 24, 60, 72])
    array([0, 0, 1, 4, 5], dtype=int8)
    """
    found: Any = xr.apply_ufunc(
        _rank, ivt, hours, dask="parallelized", output_dtypes=[np.int8], keep_attrs=False
    )
    return found


def _rank(ivt: Any, hours: Any) -> NDArray[np.int8]:
    ivt, hours = np.broadcast_arrays(np.asarray(ivt, float), np.asarray(hours, float))
    by_ivt = np.searchsorted(RIVER_RANKS, ivt, side="right")
    rank = (by_ivt + (hours > LONG_HOURS) - (hours < SHORT_HOURS)).clip(0, 5)
    known = (by_ivt > 0) & ~np.isnan(ivt) & ~np.isnan(hours)
    return np.where(known, rank, 0).astype(np.int8)


def river_scale(ivt: xr.DataArray, *, units: str | None = None) -> xr.DataArray:
    """Rank of the atmospheric river that is at each place at each time, on the scale of Ralph.

    Parameters
    ----------
    ivt : DataArray
        Integrated vapour transport on any grid, in one chunk along its times; lazy or not.
    units : str, optional
        Of `ivt`, where it has no attribute ``units``.

    Returns
    -------
    DataArray of int8
        As `ivt`: 0 to 5, the rank of the spell of at least 250 kg m-1 s-1 that a time belongs to,
        see `river_rank`; 0 outside of them. ``.max("time")`` is a map of the highest ranks.

    Raises
    ------
    TypeError
        If `ivt` is not a DataArray.
    ValueError
        If units are missing, contradict each other or cannot be converted, times are missing, not
        in order or too few to tell their step, or they are in several chunks.

    Notes
    -----
    Each time stands for a usual step, so that a spell of n times lasts n steps. Missing values and
    gaps of the data (steps half as long again as usual) end a spell. The ranks of a track at the
    places it passes are those of ``ivt.where(xsphere.track_mask(mask, tracks) == number)``.

    References
    ----------
    .. [1] Ralph et al. (2019), https://doi.org/10.1175/BAMS-D-18-0023.1

    Examples
    --------
    >>> import pandas as pd
    >>> time = pd.date_range("2001-01-01", periods=8, freq="12h")
    >>> values = [100.0, 600, 800, 700, 600, 300, 100, 300]
    >>> ivt = xr.DataArray(values, {"time": time}, "time", attrs={"units": "kg m-1 s-1"})
    >>> river_scale(ivt).values
    array([0, 4, 4, 4, 4, 4, 0, 0], dtype=int8)
    """
    _check_array(ivt, "river_scale", "transport")
    factor = _factor(ivt, units, IVT_UNITS, "the transport")
    axis = _times(ivt)
    spells = _Spells(factor, axis.step, tuple(np.flatnonzero(axis.begins_anew).tolist()))
    found: xr.DataArray = xr.apply_ufunc(
        spells,
        ivt,
        input_core_dims=[[axis.dim]],
        output_core_dims=[[axis.dim]],
        dask="parallelized",
        output_dtypes=[np.int8],
        keep_attrs=False,
    )
    attrs = {
        "long_name": "rank of the atmospheric river",
        "flag_values": np.arange(6, dtype=np.int8),
        "flag_meanings": "none weak moderate strong extreme exceptional",
    }
    kept = {key: ivt.attrs[key] for key in ("grid_mapping",) if key in ivt.attrs}
    return found.transpose(*ivt.dims).rename("river_scale").assign_attrs(attrs | kept)


@dataclass(frozen=True)
class _Spells:
    """Ranks of the spells of series (..., time)."""

    factor: float
    step: float
    # the first time, and those after gaps of the data
    anew: tuple[int, ...]
    __name__ = "xsphere_river_scale"

    def __call__(self, ivt: NDArray[Any]) -> NDArray[np.int8]:
        values = ivt.astype(float) * self.factor
        wet = values >= RIVER_RANKS[0]
        begins = wet.copy()
        begins[..., 1:] &= ~wet[..., :-1]
        begins[..., list(self.anew)] = wet[..., list(self.anew)]
        # each series has its own spells: those of one never go on in the next
        spell = np.cumsum(begins.ravel())[wet.ravel()]
        inside = values[wet]
        strongest = np.zeros(int(spell.max(initial=0)) + 1)
        np.maximum.at(strongest, spell, inside)
        ranks = _rank(strongest, np.bincount(spell, minlength=strongest.size) * self.step)
        found = np.zeros(values.shape, np.int8)
        found[wet] = ranks[spell]
        return found


def _times(ivt: xr.DataArray) -> TimeAxis:
    """The dimension of times, which no block may have a part of."""
    axis = TimeAxis.of(ivt, "river_scale")
    if axis.hours.size < 2:
        raise ValueError(
            f"river_scale() needs two times or more to tell their step, got {axis.hours.size}"
        )
    chunks = ivt.chunksizes.get(axis.dim, (1,))
    if len(chunks) > 1:
        raise ValueError(
            f"river_scale() needs {axis.dim!r} in one chunk, got {len(chunks)}; call "
            f".chunk({{{axis.dim!r}: -1}}) first"
        )
    return axis


def _check_array(array: Any, function: str, what: str) -> None:
    if not isinstance(array, xr.DataArray):
        raise TypeError(f"{function}() needs the {what} as a DataArray, got {type(array).__name__}")


def _factor(array: xr.DataArray, units: str | None, target: str, what: str) -> float:
    """What brings an array to the units wanted."""
    given = array.attrs.get("units", units)
    if given is None:
        raise ValueError(
            f"{what} needs units that convert to {target!r}, but {shortened(array.name)} has none; "
            "give units="
        )
    if units not in (None, given):
        raise ValueError(
            f"{what} has the units {shortened(given)}, but units={shortened(units)} was given; "
            "leave units out, or correct the attribute"
        )
    return unit_conversion(str(given), target)[0]
