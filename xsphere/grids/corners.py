"""Checks of the corners of cells: what `PointGrid` asks of the polygons that it is given."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids.grid import frozen_array, lonlat_to_vectors

# Corners nearer than this are one, in radii of the sphere.
SAME_PLACE = 1e-9


def checked_corners(
    lon_bounds: Any, lat_bounds: Any, n_cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of every cell, filled up by the last one where a cell has fewer than others."""
    shapes = [None if bounds is None else np.shape(bounds) for bounds in (lon_bounds, lat_bounds)]
    first = shapes[0]
    if shapes[0] != shapes[1] or first is None or len(first) != 2 or first[0] != n_cells:
        raise ValueError(
            f"lon_bounds and lat_bounds must both have shape (n_cells, n_vertices) with {n_cells} "
            f"cells, got {shapes[0]} and {shapes[1]}; give both, transposed if need be, or none"
        )
    lon, lat = np.array(lon_bounds, np.float64), np.array(lat_bounds, np.float64)
    given = ~(np.isnan(lon) & np.isnan(lat))
    n_given = given.sum(axis=1)
    gaps = given != (np.arange(lon.shape[1]) < n_given[:, None])
    wrong = (~np.isfinite(lon) | ~np.isfinite(lat) | (np.abs(lat) > 90)) & given
    _refuse(
        (gaps | wrong).any(axis=1),
        "lon_bounds and lat_bounds must be finite, lat_bounds within -90..90 degrees, and NaN only "
        "after the last corner of a cell",
        "correct them, or leave the bounds out",
    )
    last = np.minimum(np.arange(lon.shape[1]), (n_given - 1).clip(min=0)[:, None])
    lon, lat = np.take_along_axis(lon, last, axis=1), np.take_along_axis(lat, last, axis=1)
    corners = lonlat_to_vectors(lon, lat)
    steps = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=-1)
    _refuse(
        ~((steps > SAME_PLACE).sum(axis=1) >= 3),
        "every cell must have three corners or more at different places",
        "drop the cells, or leave the bounds out",
    )
    return frozen_array(lon), frozen_array(lat)


def check_places(centres: NDArray[np.float64], corners: NDArray[np.float64]) -> None:
    """Refuse polygons that no hemisphere holds or that are far from their centres."""
    sums = corners.sum(axis=1)
    lengths = np.linalg.norm(sums, axis=-1, keepdims=True)
    middles = sums / np.where(lengths > 0, lengths, 1.0)
    _refuse(
        ~_fit_hemispheres(corners, middles),
        "every cell must lie within a hemisphere",
        "split the cells, or leave the bounds out",
    )
    radii = np.linalg.norm(corners - middles[:, None], axis=-1).max(axis=1)
    _refuse(
        # on the other side of the sphere, however large the cell
        np.linalg.norm(centres - middles, axis=-1) > np.minimum(2 * radii + 1e-6, np.sqrt(2)),
        "every cell must be near its centre",
        "lon, lat and bounds must be in degrees and in one order",
    )


def _fit_hemispheres(
    corners: NDArray[np.float64], middles: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether all corners of each polygon lie on one side of some plane through the centre."""
    fit = np.zeros(len(corners), bool)
    rest, directions = np.arange(len(corners)), middles
    # a perceptron: most need one step, and none that matter hundreds
    for _ in range(500):
        heights = (corners[rest] * directions[:, None]).sum(axis=-1)
        done = heights.min(axis=1) > 0
        fit[rest[done]] = True
        rest, directions, lowest = rest[~done], directions[~done], heights[~done].argmin(axis=1)
        if not rest.size:
            break
        directions = directions + corners[rest, lowest]
    return fit


def _refuse(bad: NDArray[np.bool_], expected: str, remedy: str) -> None:
    if bad.any():
        cells = np.flatnonzero(bad)
        others = ", ..." if cells.size > 5 else ""
        raise ValueError(
            f"{expected}, got {cells.size} cells that are otherwise, at "
            f"{', '.join(map(str, cells[:5]))}{others}; {remedy}"
        )
