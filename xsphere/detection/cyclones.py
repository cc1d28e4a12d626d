"""Rules for tropical cyclones, as functions of the fields of one step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.detection.contours import cells_within, closed_contour, regions_of
from xsphere.graph.derivative_cache import derivative_matrices
from xsphere.grids import EARTH_RADIUS_KM, Grid

Fields = Mapping[str, NDArray[Any]]


def tempest_cyclone(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Closed lows with a warm core, by the thickness of the upper troposphere."""
    pressure = _known(fields["PSL"], np.inf)
    thickness = _known(fields["Z300"].astype(float) - fields["Z500"], -np.inf)
    touching = regions_of(grid).adjacency
    rows = np.repeat(np.arange(grid.n_cells), np.diff(touching.indptr))
    lower = np.full(grid.n_cells, np.inf)
    np.minimum.at(lower, rows, pressure[touching.indices])
    found: list[tuple[float, int, NDArray[np.int64]]] = []
    for cell in np.flatnonzero(pressure < lower).tolist():
        contour = closed_contour(
            pressure, cell, grid, s["pressure_distance"], s["min_pressure_rise"]
        )
        if contour is None:
            continue
        near = cells_within(grid, cell, s["core_distance"])
        core = int(near[np.argmax(thickness[near])])
        falls = closed_contour(
            -thickness, core, grid, s["thickness_distance"], s["min_thickness_fall"]
        )
        if falls is not None:
            found.append((float(pressure[cell]), cell, contour))
    inside = np.zeros(grid.n_cells, bool)
    # the deepest of those that are near each other
    kept: list[int] = []
    for _, cell, contour in sorted(found, key=lambda low: low[:2]):
        beside = cells_within(grid, cell, s["merge_distance"])
        if not set(kept) & set(beside.tolist()):
            kept.append(cell)
            inside[contour] = True
    return inside


def gfdl_cyclone(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Closed lows beside a maximum of vorticity, with two measures of a warm core."""
    vorticity = cyclonic_vorticity(fields["U850"], fields["V850"], grid)
    pressure = _known(fields["PSL"], np.inf)
    warmth = _known((fields["T500"].astype(float) + fields["T200"]) / 2, -np.inf)
    thickness = _known(fields["Z200"].astype(float) - fields["Z1000"], -np.inf)
    inside = np.zeros(grid.n_cells, bool)
    for cell in np.flatnonzero(vorticity >= s["min_vorticity"]).tolist():
        around = cells_within(grid, cell, s["vorticity_window"] / 2)
        # of equal ones the first
        if around[np.argmax(vorticity[around])] != cell:
            continue
        near = cells_within(grid, cell, s["low_distance"])
        low = int(near[np.argmin(pressure[near])])
        contour = closed_contour(
            pressure, low, grid, s["pressure_distance"], s["min_pressure_rise"]
        )
        cores = (
            (warmth, s["core_distance"], s["warmth_distance"], s["min_warmth_fall"]),
            (thickness, s["core_distance"], s["thickness_distance"], s["min_thickness_fall"]),
        )
        if contour is not None and all(_is_core(*core, low, grid) for core in cores):
            inside[contour] = True
    return inside


def _is_core(
    values: NDArray[np.float64], offset: float, distance: float, fall: float, cell: int, grid: Grid
) -> bool:
    """Whether values fall all around from their maximum near a cell."""
    near = cells_within(grid, cell, offset)
    top = int(near[np.argmax(values[near])])
    return closed_contour(-values, top, grid, distance, fall) is not None


def _known(values: NDArray[Any], unknown: float) -> NDArray[np.float64]:
    """Values with an infinite one where nothing is known, so that it is never the extreme."""
    found: NDArray[np.float64] = np.where(np.isnan(values), unknown, values.astype(float))
    return found


def cyclonic_vorticity(u: NDArray[Any], v: NDArray[Any], grid: Grid) -> NDArray[np.float64]:
    """Vorticity in s-1, positive for cyclones of either hemisphere; 0 where it has no value."""
    of_u, of_v = derivative_matrices("vorticity", grid)
    found = (of_u @ u.astype(float) + of_v @ v.astype(float)) / (1e3 * EARTH_RADIUS_KM)
    cyclonic: NDArray[np.float64] = np.nan_to_num(found * np.sign(grid.centre_lonlat[1]))
    return cyclonic
