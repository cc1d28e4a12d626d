"""Vapour that winds carry, integrated over the height of the atmosphere."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import horizontal_grid
from xsphere.conventions.horizontal import on_its_own
from xsphere.model.inputs import InputsError, MatchedVariable, found_variables, pressure_levels
from xsphere.model.spec_parts import Variable
from xsphere.notices import shortened
from xsphere.regions.measures import COMPONENTS as COMPONENTS  # noqa: PLC0414 - read by the rules

GRAVITY = 9.80665
# in hPa: levels that leave out more of the moist air than these give no transport
LOWEST_LEVEL, HIGHEST_LEVEL = 850.0, 500.0
_OF_LEVELS = (
    Variable(
        name="q",
        units="1",
        standard_name="specific_humidity",
        aliases=("hus", "Q", "SHUM", "shum", "specific_humidity"),
    ),
    Variable(
        name="u",
        units="m s-1",
        standard_name="eastward_wind",
        aliases=("ua", "U", "u_component_of_wind"),
    ),
    Variable(
        name="v",
        units="m s-1",
        standard_name="northward_wind",
        aliases=("va", "V", "v_component_of_wind"),
    ),
)
_SURFACE = Variable(
    name="PS",
    units="hPa",
    standard_name="surface_air_pressure",
    aliases=("ps", "sp", "surface_pressure"),
)


def integrated_vapour_transport(ds: xr.Dataset) -> xr.Dataset:
    """Integrate the transport of water vapour over the pressure levels of a dataset, lazily.

    Parameters
    ----------
    ds : Dataset
        On any horizontal grid, with the components of the transport; or with specific humidity and
        wind on pressure levels, found by standard name, name or alias. Levels may be in any order,
        in hPa or Pa. Where there is a surface pressure, what lies below the ground is left out.

    Returns
    -------
    Dataset
        ``IVT_u``, ``IVT_v`` and their magnitude ``IVT``, in kg m-1 s-1, in float32 or what the
        input is wider. NaN where a level above the ground is; without a surface pressure, where any
        is.

    Raises
    ------
    ValueError
        If neither is there, units cannot be converted, or the levels leave out too much of the
        moist air: they must reach from 850 hPa or below to 500 hPa or above.

    Notes
    -----
    ``1/g`` times the integral of humidity times wind over pressure, by trapezoids between the
    levels, and to the surface where it lies between two of them.

    Examples
    --------
    >>> levels = ("level", [1000.0, 500.0], {"units": "hPa"})
    >>> cells = {"lat": [0.0, 10.0], "lon": [0.0, 10.0]}
    >>> dims = ("level", "lat", "lon")
    >>> ones = np.ones((2, 2, 2))
    >>> ds = xr.Dataset(
    ...     {
    ...         "q": (dims, 0.01 * ones, {"units": "kg kg-1"}),
    ...         "u": (dims, 3 * ones, {"units": "m s-1"}),
    ...         "v": (dims, 4 * ones, {"units": "m s-1"}),
    ...     },
    ...     {"level": levels, **cells},
    ... )
    >>> float(integrated_vapour_transport(ds).IVT[0, 0].round(1))
    254.9
    """
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"expected a Dataset, got {type(ds).__name__}; use .to_dataset()")
    try:
        matches = found_variables(ds, COMPONENTS, "the transport of vapour")
        east, north = (_converted(match) for match in matches)
    except InputsError as error:
        east, north = _integrated(ds, error)
    total: Any = np.hypot(east, north)
    horizontal, results = horizontal_grid(ds), {}
    for array, variable, words in zip(
        (east, north, total), (*COMPONENTS, None), ("eastward", "northward", "magnitude of"),
        strict=True,
    ):  # fmt: skip
        attrs = {"units": "kg m-1 s-1", "long_name": f"{words} integrated vapour transport"}
        if variable is not None:
            attrs["standard_name"] = str(variable.standard_name)
        name = "IVT" if variable is None else variable.name
        results[name] = on_its_own(array.assign_attrs(attrs).rename(name), ds, horizontal)
    return xr.Dataset(results)


def _converted(match: MatchedVariable) -> xr.DataArray:
    plain = match.array.drop_attrs(deep=False)
    if (match.factor, match.offset) == (1.0, 0.0):
        return plain
    # Python's numbers leave float32 as it is
    return plain * float(match.factor) + float(match.offset)


def _integrated(ds: xr.Dataset, absent: InputsError) -> tuple[xr.DataArray, xr.DataArray]:
    """Components of the transport, from levels."""
    on_levels = ds[[name for name in ds.data_vars if pressure_levels(ds[name]) is not None]]
    try:
        matches = found_variables(on_levels, _OF_LEVELS, "the transport of vapour")
    except InputsError as error:
        raise InputsError(f"{absent}\nNor are there levels to integrate over: {error}") from None
    found = [pressure_levels(match.array) for match in matches]
    dims = {level[0] for level in found if level is not None}
    levels = [level[1] for level in found if level is not None]
    same = len(dims) == 1 and all(np.array_equal(levels[0], other) for other in levels)
    if not same or np.unique(levels[0]).size < levels[0].size:
        raise InputsError(
            "humidity and wind must be on the same pressure levels, each once, got "
            f"{shortened({m.array.name: p.tolist() for m, p in zip(matches, levels, strict=True)})}"
        )
    if levels[0].max() < LOWEST_LEVEL or levels[0].min() > HIGHEST_LEVEL:
        raise InputsError(
            f"the levels must reach from {LOWEST_LEVEL:g} hPa or below to {HIGHEST_LEVEL:g} hPa or "
            f"above, got {shortened(sorted(levels[0].tolist()))} hPa: most of the moist air is "
            "left out"
        )
    surface = _surface_pressure(ds)
    arrays = [_converted(match) for match in matches]
    (dim,) = dims
    node = _Integral(tuple(levels[0].tolist()), with_surface=surface is not None)
    results: Any = xr.apply_ufunc(
        node,
        *arrays,
        *([] if surface is None else [surface]),
        input_core_dims=[[dim]] * 3 + [[]] * (surface is not None),
        output_core_dims=[[], []],
        join="exact",
        dask="parallelized",
        output_dtypes=[np.result_type(np.float32, *arrays)] * 2,
        # levels that are split are few
        dask_gufunc_kwargs={"allow_rechunk": True},
        keep_attrs=False,
    )
    east, north = results
    return east, north


def _surface_pressure(ds: xr.Dataset) -> xr.DataArray | None:
    try:
        return _converted(found_variables(ds, [_SURFACE], "the transport of vapour")[0])
    except InputsError:
        return None


@dataclass(frozen=True)
class _Integral:
    """Sums over levels (..., level) of one block."""

    pressures: tuple[float, ...]
    with_surface: bool

    __name__ = "xsphere_transport"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("xsphere.transport", self.pressures, self.with_surface)

    def __call__(
        self,
        humidity: NDArray[Any],
        east: NDArray[Any],
        north: NDArray[Any],
        surface: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        order = np.argsort(self.pressures)
        pressure = np.asarray(self.pressures)[order]
        layers = np.diff(pressure) * 100 / GRAVITY
        dtype = np.result_type(np.float32, humidity, east, north)
        sums = []
        for wind in (east, north):
            flux = humidity[..., order].astype(float) * wind[..., order]
            above, below = flux[..., :-1], flux[..., 1:]
            share: Any = 1.0
            if surface is not None:
                # of a layer that the ground cuts, what lies above it
                share = (surface[..., None] - pressure[:-1]) / np.diff(pressure)
                share = np.clip(share, 0.0, 1.0)
                below = np.where(np.isnan(below) & (share < 1), above, below)
                below = above + (below - above) * share
            means = np.where(share == 0, 0.0, (above + below) / 2 * share)
            sums.append((means @ layers).astype(dtype))
        return sums[0], sums[1]
