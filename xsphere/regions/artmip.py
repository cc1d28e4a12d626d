"""Tag files of ARTMIP, the intercomparison of methods that find atmospheric rivers."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.atomic import built_beside, check_free
from xsphere.conventions import event_classes_of, horizontal_grid
from xsphere.conventions.masks import BACKGROUND, check_flags
from xsphere.grids import LatLonGrid
from xsphere.notices import shortened
from xsphere.paths import local_path
from xsphere.regions.masks import check_certain, check_is_mask, known_values, wanted_classes
from xsphere.regions.track_tables import TimeAxis

Unknown = Literal["raise", "background"]
RIVER = "atmospheric_river"
NAME = "{dataset}.ar_tag.{scheme}.{step}.{start}-{end}.nc4"
# of a single time no step is known
STEPS = {0.0: "once", 1.0: "hourly", 24.0: "daily"}
_AXES = {
    "lat": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
}


def to_artmip(
    mask: xr.DataArray,
    path: str | Path,
    *,
    river: str | int | None = None,
    resolution: float | None = None,
    like: xr.Dataset | xr.DataArray | LatLonGrid | None = None,
    unknown: Unknown = "raise",
    dataset: str = "data",
    scheme: str = "xsphere",
    version: str = "1",
    overwrite: bool = False,
) -> list[Path]:
    """Write tags of atmospheric rivers as ARTMIP exchanges them, a file for each year.

    Parameters
    ----------
    mask : DataArray of int or bool
        As for `xsphere.events`, with times in order, of any calendar, and no dimensions beside
        those of its grid. Lazy masks are computed chunk by chunk while a year is written.
    path : str or Path
        A folder; or the name of the files, in which ``{year}``, ``{start}`` and ``{end}``
        (``YYYYMMDD``), ``{step}`` (such as ``3hourly``), ``{dataset}`` and ``{scheme}`` are filled
        in. In a folder they are called ``{dataset}.ar_tag.{scheme}.{step}.{start}-{end}.nc4`` [1]_.
    river : str or int, optional
        The class that is tagged. If not given, ``atmospheric_river``, or the only one.
    resolution, like
        As for `xsphere.to_latlon`: the longitude-latitude grid, which is needed where that of
        `mask` is another. Each cell has the class that covers most of it.
    unknown : {"raise", "background"}
        Tags have no missing value. What is invalid (254) or not computed (255) is an error, or is
        0, as the file then says.
    dataset, scheme, version : str
        The data in which rivers were looked for, the method, and its version.
    overwrite : bool
        Whether to replace files that are there.

    Returns
    -------
    list of Path
        The files, one a year: ``ar_binary_tag(time, lat, lon)`` (byte, 1 in rivers and 0
        elsewhere), ``lat``, ``lon``, ``time`` and nothing else. They take their places when all of
        them are written.

    Raises
    ------
    TypeError
        If `mask` is not a DataArray.
    ValueError
        If `mask` has no such class, other dimensions or unknown cells, a grid is needed, or one
        file would hold two years.
    FileExistsError
        If a file is there and `overwrite` is not set.

    References
    ----------
    .. [1] Shields et al. (2018), https://doi.org/10.5194/gmd-11-2455-2018

    Examples
    --------
    >>> import tempfile, xsphere
    >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
    >>> name = tempfile.mkdtemp() + "/{dataset}.ar_tag.{scheme}.{year}.nc"
    >>> (path,) = to_artmip(mask, name, resolution=2.5, dataset="GFS")
    >>> path.name
    'GFS.ar_tag.xsphere.2011.nc'
    """
    check_is_mask(mask, "to_artmip")
    value = _river(mask, river)
    check_certain(mask)
    found = horizontal_grid(mask)
    axis = TimeAxis.of(mask, "to_artmip", found.dims)
    _check(mask, axis, found.dims, unknown)
    years = np.asarray(mask.indexes[axis.dim].year)
    words = {"dataset": dataset, "scheme": scheme, "step": _step_name(axis.step)}
    steps = {int(year): np.flatnonzero(years == year) for year in np.unique(years)}
    places = {
        year: _place(path, mask.indexes[axis.dim][chosen], words) for year, chosen in steps.items()
    }
    if len(set(places.values())) < len(places):
        raise ValueError(
            f"each year needs a file of its own, got one name for {list(places)}; put {{year}} "
            f"into {shortened(path)}"
        )
    for place in places.values():
        check_free(place, replace=overwrite)
    tags = _tags(_on_lonlat(mask, found, resolution, like), value, unknown, axis.dim)
    about = {"scheme": scheme, "version": version}
    with ExitStack() as built:
        for year, chosen in steps.items():
            beside = built.enter_context(built_beside(places[year], replace=overwrite))
            _write(tags.isel({axis.dim: chosen}), beside, about, unknown)
    return list(places.values())


def _river(mask: xr.DataArray, river: str | int | None) -> int:
    known = wanted_classes(mask, None)
    if river is None and len(known) > 1:
        river = RIVER
    chosen = wanted_classes(mask, None if river is None else river)
    return next(iter(chosen))


def _check(mask: xr.DataArray, axis: TimeAxis, dims: tuple[Any, ...], unknown: Any) -> None:
    problems = []
    if unknown not in get_args(Unknown):
        problems.append(f"unknown must be one of {list(get_args(Unknown))}, got {unknown!r}")
    others = [dim for dim in mask.dims if dim not in (axis.dim, *dims)]
    if others:
        problems.append(f"tags have no dimensions {others}; choose one entry of each with .isel()")
    if mask.sizes[axis.dim] == 0:
        problems.append("mask must have at least one time")
    elif not hasattr(mask.indexes[axis.dim], "year"):
        problems.append(f"tags need dates along {axis.dim!r}, got {mask[axis.dim].dtype}")
    if problems:
        raise ValueError("; ".join(problems))


def _step_name(hours: float) -> str:
    return STEPS.get(hours, f"{hours:g}hourly")


def _place(path: str | Path, times: Any, words: dict[str, str]) -> Path:
    text = str(path)
    pattern = text if text.endswith((".nc", ".nc4")) else f"{text}/{NAME}"
    start, end = (time.strftime("%Y%m%d") for time in (times[0], times[-1]))
    try:
        name = pattern.format(year=f"{times[0].year:04d}", start=start, end=end, **words)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            "the name of tag files may hold {year}, {start}, {end}, {step}, {dataset} and "
            f"{{scheme}}, got {shortened(text)}"
        ) from error
    return local_path(name, "the tags")


def _on_lonlat(mask: xr.DataArray, found: Any, resolution: Any, like: Any) -> xr.DataArray:
    """The mask with dimensions ``lat`` and ``lon``, which are those of its grid if it can be."""
    from xsphere.regridding import to_latlon

    if resolution is not None or like is not None:
        mask = to_latlon(mask, resolution, like=like, method="mode")
        found = horizontal_grid(mask)
    if not isinstance(found.grid, LatLonGrid):
        raise ValueError(  # noqa: TRY004 - the type of a value within
            f"tags are on longitude and latitude, got {shortened(found.grid)}; give resolution=1.0 "
            "or like=<dataset>"
        )
    grid, dims = found.grid, found.dims
    bare = mask.transpose(..., *dims).drop_vars(
        [c for c in mask.coords if set(mask[c].dims) & {*dims}]
    )
    named = bare.rename(dict(zip(dims, ("lat", "lon"), strict=True)))
    return named.assign_coords(lat=grid.lat, lon=grid.lon)


def _tags(mask: xr.DataArray, value: int, unknown: Unknown, dim: Any) -> xr.DataArray:
    node = partial(
        _tagged, value, (*known_values(mask),), (*event_classes_of(mask), BACKGROUND), unknown
    )
    tags: xr.DataArray = xr.apply_ufunc(
        node, mask, dask="parallelized", output_dtypes=[np.int8], keep_attrs=False
    )
    kept = tags.drop_vars([name for name in tags.coords if name not in ("lat", "lon", dim)])
    return kept if dim == "time" else kept.rename({dim: "time"})


def _tagged(
    value: int,
    known: tuple[Any, ...],
    valid: tuple[int, ...],
    unknown: Unknown,
    codes: NDArray[Any],
) -> NDArray[np.int8]:
    check_flags(codes, known, "mask")
    missing = ~np.isin(codes, valid)
    if unknown == "raise" and missing.any():
        raise ValueError(
            f"tags have no missing value, but mask has {missing.sum()} cells that are invalid or "
            "not computed; unknown='background' makes them 0"
        )
    tags: NDArray[np.int8] = (codes == value).astype(np.int8)
    return tags


def _write(tags: xr.DataArray, path: Path, about: dict[str, str], unknown: Unknown) -> None:
    index = tags.indexes["time"]
    bare: dict[str, Any] = {"_FillValue": None}
    encoding: dict[str, dict[str, Any]] = {
        "ar_binary_tag": {"dtype": "i1", "zlib": True, "complevel": 1, **bare},
        "time": {"units": f"minutes since {index[0].year:04d}-01-01 00:00:00", **bare},
        "lat": bare,
        "lon": bare,
    }
    attrs = {"description": "binary indicator of atmospheric river", **about}
    if unknown == "background":
        attrs["comment"] = "cells that are invalid or not computed are 0"
    ds = tags.assign_attrs(attrs).to_dataset(name="ar_binary_tag")
    for name, words in _AXES.items():
        ds[name].attrs = {"long_name": words["standard_name"], **words}
    ds["time"].attrs = {"standard_name": "time", "long_name": "time", "axis": "T"}
    ds["time"].encoding = {}
    ds.assign_attrs(Conventions="CF-1.13", title="Tags of atmospheric rivers").to_netcdf(
        path, format="NETCDF4", engine="netcdf4", encoding=encoding
    )
