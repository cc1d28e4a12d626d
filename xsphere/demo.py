"""The main job from end to end: real weather maps in; mask, events and a picture out."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.paths import local_path
from xsphere.reports import class_shares, events_text, shares_text

MIN_AREA = 1e5  # km2: three cells of level 5
MAX_PANELS = 4


def run_demo(source: str | Path | None, out: str | Path, model_name: str = "tc-ar") -> None:
    """Regrid, segment, list and draw a dataset, and say what was found.

    Parameters
    ----------
    source : str or Path, optional
        NetCDF file or Zarr store with the model's inputs; the package's sample if not given.
    out : str or Path
        Folder for ``mask.zarr``, ``events.csv`` and ``map.png``, which are replaced.
    model_name : str
        A bundled model or a model file.

    Raises
    ------
    ValueError
        If the dataset cannot be read by the model, or would be replaced by the results.

    Examples
    --------
    >>> import tempfile
    >>> run_demo(None, Path(tempfile.mkdtemp()))  # doctest: +ELLIPSIS
    input    two weather maps ...
    """
    import xsphere
    from xsphere.outputs import output_path
    from xsphere.store import open_lazily

    read = () if source is None else (source,)
    stored, table, picture = (
        output_path(local_path(out) / name, *read)
        for name in ("mask.zarr", "events.csv", "map.png")
    )
    model = xsphere.Model.load(model_name)
    if source is None:
        ds = xsphere.sample_dataset().chunk(time=1)
        title = "two weather maps of 2011, NOAA Global Forecast System"
    else:
        ds, title = open_lazily(source), str(source)
    _say("input", title)
    _say("model", f"{model!r}")
    mask = xsphere.segment(ds, model)
    xsphere.write_blocks(mask, stored, overwrite=True, progress="segmenting")
    mask = open_lazily(stored)["mask"]
    shares = class_shares(mask)
    fields = _fields(ds, model)
    events = xsphere.events(mask, fields, min_area=MIN_AREA)
    xsphere.events_to_csv(events, table, overwrite=True)
    _draw(fields, mask, picture)
    _say("cells", shares_text(shares))
    _say("found", f"{events.sizes['event']} events of at least {MIN_AREA:,.0f} km2")
    print(events_text(events))
    _say("written", f"{stored}, {table}, {picture}")


def _say(what: str, text: str) -> None:
    print(f"{what:<9}{text}")


def _fields(ds: xr.Dataset, model: Any) -> xr.Dataset:
    """The model's inputs on its grid, in its units, with wind speed where there are winds."""
    from xsphere.conventions.horizontal import common_grid
    from xsphere.model.inputs import matched_variables
    from xsphere.regridding.labelled import regridded
    from xsphere.regridding.node import Rules
    from xsphere.regridding.places import place_on

    arrays = {}
    matches = matched_variables(ds, model.spec)
    source = common_grid(ds, [match.array.name for match in matches])
    for variable, match in zip(model.spec.variables, matches, strict=True):
        attrs = match.array.attrs | {"units": variable.units}
        converted = match.array * match.factor + match.offset
        arrays[variable.name] = converted.assign_attrs(attrs)
    rules = Rules(method="conservative")
    fields = regridded(xr.Dataset(arrays), source, place_on(model.grid), rules)
    if {"U850", "V850"} <= set(fields):
        speed: xr.DataArray = xr.apply_ufunc(
            np.hypot, fields["U850"], fields["V850"], dask="allowed"
        )
        speed.attrs = {"long_name": "wind speed at 850 hPa", "units": "m s-1"}
        speed.attrs["grid_mapping"] = fields["U850"].attrs.get("grid_mapping", "crs")
        fields = fields.drop_vars(["U850", "V850"]).assign(wind_speed_850=speed)
    return fields


def _draw(fields: xr.Dataset, mask: xr.DataArray, path: Path) -> None:
    from xsphere.plotting import plot
    from xsphere.plotting.pictures import write_figure

    background = fields[next(iter(fields.data_vars))]
    options: dict[str, Any] = {}
    if "time" in mask.dims:
        few = slice(MAX_PANELS)
        background, mask = background.isel(time=few), mask.isel(time=few)
        if background.sizes["time"] > 1:
            options = {"col": "time", "col_wrap": 1 if background.sizes["time"] < 3 else 2}
        else:
            background, mask = background.isel(time=0), mask.isel(time=0)
    axes = plot(background, contours=mask, **options)
    write_figure(np.ravel(axes)[0].figure, path, bbox_inches="tight")
