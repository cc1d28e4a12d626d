"""Connected regions of one step, in numbers alone: where they are, how large, what is in them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.conventions.angles import Angle
from xsphere.grids import EARTH_RADIUS_KM, Grid, tangent_vectors
from xsphere.weights.vectors import angle_of_sums

STATISTICS = {"max": "Maximum", "min": "Minimum", "mean": "Area-weighted mean"}
# that of numbers, where one is NaN
_LARGER = {"max": np.fmax, "min": np.fmin}
EXTREMES = tuple(_LARGER)
Columns = dict[str, NDArray[Any]]


def measured_regions(
    cells: NDArray[np.int64],
    region: NDArray[np.int64],
    classes: NDArray[np.uint8],
    values: Columns,
    angles: Mapping[str, Angle],
    grid: Grid,
) -> Columns:
    """One row for each region of a step, in the order of their numbers from 0, by its cells."""
    n = classes.size
    if n == 0:
        return no_regions(values, angles)
    weight = grid.covered_areas[cells]
    lon, lat = grid.lonlat_of(_centres(grid.centres[cells], weight, region, n))
    columns: Columns = {
        "event_class": classes,
        "area": np.bincount(region, weight, n) * EARTH_RADIUS_KM**2,
        "n_cells": np.bincount(region, weight > 0, n).astype(np.int64),
        "lon": lon,
        "lat": lat,
    }
    for name, field in values.items():
        inside = field[cells].astype(_float_dtype(field.dtype), copy=False)
        if name in angles:
            frames = (grid.centre_lonlat[0][cells], grid.centre_lonlat[1][cells]), (lon, lat)
            mean = _mean_angle(inside, angles[name], weight, region, frames)
            columns[f"{name}_mean"] = mean.astype(inside.dtype)
            continue
        valid = ~np.isnan(inside)
        for kind, larger in _LARGER.items():
            extreme = np.full(n, np.nan, inside.dtype)
            larger.at(extreme, region, inside)
            columns[f"{name}_{kind}"] = extreme
        sums = np.bincount(region, np.where(valid, weight * inside, 0.0), n)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN where no value is valid
            mean = sums / np.bincount(region, weight * valid, n)
        columns[f"{name}_mean"] = mean.astype(inside.dtype)
    return columns


def no_regions(values: Mapping[str, Any], angles: Mapping[str, Angle]) -> Columns:
    """Columns of no rows."""
    dtypes = {
        "event_class": np.uint8,
        "area": float,
        "n_cells": np.int64,
        "lon": float,
        "lat": float,
    }
    for name, field in values.items():
        # of what goes round nothing is the largest
        kept = ("mean",) if name in angles else STATISTICS
        dtypes |= {f"{name}_{statistic}": _float_dtype(field.dtype) for statistic in kept}
    return {name: np.empty(0, dtype) for name, dtype in dtypes.items()}


def extreme_places(
    cells: NDArray[np.int64],
    region: NDArray[np.int64],
    columns: Columns,
    values: Columns,
    names: Iterable[str],
    grid: Grid,
) -> Columns:
    """Where in each region of a step some fields have the extremes that `columns` give.

    Centres of cells, the first of equal ones; NaN where there is no value.
    """
    found: Columns = {}
    for name in names:
        inside = values[name][cells]
        for kind in EXTREMES:
            extreme = columns[f"{name}_{kind}"]
            here = np.flatnonzero(inside == extreme[region])[::-1]
            lon, lat = np.full((2, extreme.size), np.nan)
            lon[region[here]] = grid.centre_lonlat[0][cells[here]] % 360
            lat[region[here]] = grid.centre_lonlat[1][cells[here]]
            found |= {f"{name}_{kind}_lon": lon, f"{name}_{kind}_lat": lat}
    return found


def _float_dtype(dtype: Any) -> Any:
    return dtype if dtype.kind == "f" else np.dtype(float)


def _mean_angle(
    values: NDArray[Any],
    angle: Angle,
    weight: NDArray[np.float64],
    region: NDArray[Any],
    places: tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]],
) -> NDArray[Any]:
    """Angle of the mean unit vector of each region, seen from its centre; of cells and centres."""
    (cell_lon, cell_lat), (lon, lat) = places
    radians = values.astype(np.float64) * (2 * np.pi / angle.turn)
    valid = np.isfinite(radians)
    parts = np.stack([np.sin(radians), np.cos(radians)], -1)
    if angle.from_north:
        east, north = tangent_vectors(cell_lon, cell_lat)
        parts = parts[:, :1] * east + parts[:, 1:] * north
    sums = np.stack(
        [np.bincount(region, np.where(valid, weight * p, 0.0), lon.size) for p in parts.T], -1
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN where no value is valid
        means = sums / np.bincount(region, weight * valid, lon.size)[:, None]
    if angle.from_north:
        means = np.stack([(means * way).sum(-1) for way in tangent_vectors(lon, lat)], -1)
    return angle_of_sums(means[:, 0], means[:, 1], angle.turn)


def _centres(
    vectors: NDArray[np.float64],
    weight: NDArray[np.float64],
    region: NDArray[Any],
    n: int,
) -> NDArray[np.float64]:
    """Mean vector of each region, or that of its largest cell, the first of equal ones."""
    sums = np.stack([np.bincount(region, weight * x, n) for x in vectors.T], -1, dtype=float)
    # a ring about the Earth has its centre in the Earth's
    nowhere = np.linalg.norm(sums, axis=-1) < 1e-6 * np.bincount(region, weight, n)
    for ring in np.flatnonzero(nowhere):
        sums[ring] = vectors[np.argmax(np.where(region == ring, weight, -1.0))]
    return sums
