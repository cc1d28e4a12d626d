"""Values that no field can have on Earth: found before they are averaged with their neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Grid
from xsphere.model.units import UnitsError, unit_conversion
from xsphere.notices import OncePerRun, shortened, warn_user
from xsphere.weights import METHODS, FieldMethod, regrid_fields

Bounds = tuple[float, float]

# By standard name, in these units: wider than anything ever observed, so that what lies beyond is
# no weather but a value that stands for something else, or another unit.
VALID_RANGES: dict[str, tuple[str, float, float]] = {
    # 870 hPa in typhoon Tip, 1085 hPa in Mongolia
    "air_pressure_at_mean_sea_level": ("Pa", 80_000.0, 120_000.0),
    "air_pressure_at_sea_level": ("Pa", 80_000.0, 120_000.0),
    # 330 hPa on mount Everest
    "surface_air_pressure": ("Pa", 30_000.0, 120_000.0),
    # 80 kg m-2 over warm oceans; interpolation may undershoot zero a little
    "atmosphere_mass_content_of_water_vapor": ("kg m-2", -1.0, 150.0),
    # jet streams have up to 120 m s-1, tornadoes 140
    "eastward_wind": ("m s-1", -200.0, 200.0),
    "northward_wind": ("m s-1", -200.0, 200.0),
    "wind_speed": ("m s-1", -1.0, 300.0),
    # 180 K at the mesopause in summer, less in single soundings; 330 K in deserts
    "air_temperature": ("K", 100.0, 400.0),
    "sea_surface_temperature": ("K", 200.0, 350.0),
    "specific_humidity": ("1", -0.01, 0.1),
    "relative_humidity": ("1", -0.5, 3.0),
}


class InvalidInputWarning(UserWarning):
    """Inputs hold values that no field can have; they count as missing.

    Examples
    --------
    >>> import warnings
    >>> found = Beyond(["PSL"], [(80000.0, 120000.0)], OncePerRun())
    >>> _ = found.taken_out([0], [np.array([[101325.0, -9999.0]])])
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     found.tell()
    >>> seen[0].category.__name__
    'InvalidInputWarning'
    """


def usual_bounds(standard_name: str | None, units: str) -> Bounds | None:
    """Bounds of a variable in some units, by its standard name.

    Parameters
    ----------
    standard_name : str, optional
        CF standard name.
    units : str
        Units of the bounds.

    Returns
    -------
    (float, float) or None
        Lowest and highest value; None for other variables and units.

    Examples
    --------
    >>> usual_bounds("air_pressure_at_mean_sea_level", "hPa")
    (800.0, 1200.0)
    """
    if standard_name not in VALID_RANGES:
        return None
    own, low, high = VALID_RANGES[standard_name]
    try:
        factor, offset = unit_conversion(own, units)
    except UnitsError:
        return None
    return factor * low + offset, factor * high + offset


def source_bounds(bounds: Bounds | None, factor: float, offset: float) -> Bounds | None:
    """Bounds of values that ``factor * value + offset`` brings into the units of the bounds.

    Parameters
    ----------
    bounds : (float, float), optional
        Lowest and highest value; None if there are none.
    factor, offset : float
        Of the units.

    Returns
    -------
    (float, float) or None
        A little wider, so that rounding excludes no value.

    Examples
    --------
    >>> low, high = source_bounds((80000.0, 120000.0), 100.0, 0.0)
    >>> round(low, 1), round(high, 1)
    (800.0, 1200.0)
    """
    if bounds is None:
        return None
    low, high = sorted((bound - offset) / factor for bound in bounds)
    margin = 1e-7 * max(abs(low), abs(high))
    return low - margin, high + margin


def beyond(values: NDArray[Any], bounds: Bounds | None) -> NDArray[np.bool_] | None:
    """Which values lie beyond some bounds.

    Parameters
    ----------
    values : array of real numbers, shape (n, ...)
        One map a row. NaN lies nowhere; infinities are missing values already.
    bounds : (float, float), optional
        Lowest and highest value.

    Returns
    -------
    array of bool, shape (n, ...), or None
        None if there is none, which is soon found.

    Examples
    --------
    >>> beyond(np.array([[1.0, np.nan, -9999.0]]), (0.0, 2.0))
    array([[False, False,  True]])
    >>> beyond(np.array([[1.0, np.nan]]), (0.0, 2.0)) is None
    True
    """
    if bounds is None:
        return None
    low, high = bounds
    # map by map: what is compared stays in the processor's cache
    found = [index for index, row in enumerate(values) if _any_beyond(row, low, high)]
    if not found:
        return None
    result = np.zeros(values.shape, bool)
    for index in found:
        row = values[index].astype(np.float64)
        result[index] = ((row < low) | (row > high)) & np.isfinite(row)
    return result if result.any() else None


def _any_beyond(row: NDArray[Any], low: float, high: float) -> bool:
    if row.dtype == np.float16:
        row = row.astype(np.float32)  # bounds may be more than it can hold
    # NaN is neither; numpy compares in the type of the values
    return bool((row < low).any() or (row > high).any())


class Beyond:
    """Values of some fields that lie beyond their bounds, counted over the parts of a block.

    Parameters
    ----------
    names : sequence of str
        Names of the fields.
    bounds : sequence of (float, float) or None
        Lowest and highest value of each, in its own units.
    run : OncePerRun
        Whoever has said it already.

    Examples
    --------
    >>> found = Beyond(["t"], [(0.0, 1.0)], OncePerRun())
    >>> found.taken_out([0], [np.array([[0.5, 7.0]])])[0]
    [array([[0.5, nan]])]
    """

    def __init__(
        self, names: Sequence[str], bounds: Sequence[Bounds | None], run: OncePerRun
    ) -> None:
        self.names, self.bounds, self.run = names, bounds, run
        self.counts: dict[int, int] = {}
        self.ends: dict[int, Bounds] = {}

    def taken_out(
        self, group: Sequence[int], fields: Sequence[NDArray[Any]]
    ) -> tuple[list[NDArray[Any]], NDArray[np.bool_] | None]:
        """Fields without values beyond their bounds, and where any of them had one.

        Parameters
        ----------
        group : sequence of int
            Which fields.
        fields : sequence of array, shape (n, n_cells)
            Their values; not changed.

        Returns
        -------
        fields : list of array
            NaN instead; the same arrays where there is nothing to do.
        where : array of bool, shape (n, n_cells), or None
            None if there is none.
        """
        taken, where = list(fields), None
        for position, (index, values) in enumerate(zip(group, fields, strict=True)):
            bad = beyond(values, self.bounds[index])
            if bad is None:
                continue
            self._count(index, values[bad])
            kind = np.result_type(values.dtype, np.float32)
            taken[position] = np.where(bad, kind.type(np.nan), values.astype(kind, copy=False))
            where = bad if where is None else where | bad
        return taken, where

    def _count(self, index: int, values: NDArray[Any]) -> None:
        low, high = float(values.min()), float(values.max())
        before = self.ends.get(index, (low, high))
        self.ends[index] = min(low, before[0]), max(high, before[1])
        self.counts[index] = self.counts.get(index, 0) + values.size

    def tell(self) -> None:
        """Warn of what was found, once a run."""
        new = [i for i in sorted(self.counts) if self.run.first(f"beyond {self.names[i]}")]
        if not new:
            return
        found = [
            f"{self.counts[i]} of {shortened(self.names[i])} ({self.ends[i][0]:.5g} to "
            f"{self.ends[i][1]:.5g}; valid are {self.bounds[i][0]:.5g} to {self.bounds[i][1]:.5g})"  # type: ignore[index]
            for i in new
        ]
        warn_user(
            f"values that no such field can have count as invalid input: {', '.join(found)}; say "
            "what stands for missing values (attribute _FillValue), or check the units attribute",
            InvalidInputWarning,
        )


def touched_cells(
    where: NDArray[np.bool_], source: Grid, target: Grid, method: FieldMethod
) -> NDArray[np.bool_]:
    """Cells of another grid that some source cells have any part in.

    Parameters
    ----------
    where : array of bool, shape (n, source cells)
        The source cells.
    source, target : Grid
        Grids.
    method : str
        As for `xsphere.weights.regrid_fields`.

    Returns
    -------
    array of bool, shape (n, target cells)
        True where a marked source cell has a weight.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> marks = np.arange(48) == 7
    >>> found = touched_cells(marks[None], HealpixGrid(1), HealpixGrid(0), "conservative")
    >>> np.flatnonzero(found[0])
    array([1])
    """
    if source == target:
        return where
    # cells with no source at all are NaN, which is not more than 0
    linear: FieldMethod = method if METHODS[method].is_matrix else "conservative"
    share = regrid_fields(where.astype(np.float32), source, target, method=linear)
    return np.asarray(share > 0.0)
