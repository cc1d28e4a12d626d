"""Regions and closed contours of the fields of one step, by distances in km."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from xsphere.grids import EARTH_RADIUS_KM, Grid
from xsphere.regions.labelling import Labelling

# a degree of a great circle, in which papers give lengths
DEGREE = EARTH_RADIUS_KM * np.pi / 180


@lru_cache(maxsize=4)
def regions_of(grid: Grid) -> Labelling:
    """What numbers the regions of a step, and knows which cells touch."""
    return Labelling(grid=grid, wanted=(1,), known=(0, 1), name="event")


@lru_cache(maxsize=4)
def tree_of(grid: Grid) -> cKDTree:
    """The centres of the cells, for searches."""
    return cKDTree(grid.centres)


def cells_within(grid: Grid, cell: int, distance: float) -> NDArray[np.int64]:
    """Cells whose centres are near that of a cell, in order."""
    chord = 2 * np.sin(min(distance / EARTH_RADIUS_KM, np.pi) / 2)
    return np.array(sorted(tree_of(grid).query_ball_point(grid.centres[cell], chord)), np.int64)


def closed_contour(
    values: NDArray[np.float64],
    cell: int,
    grid: Grid,
    touching: sparse.csr_array,
    distance: float,
    rise: float,
) -> NDArray[np.int64] | None:
    """Cells within a contour that is so much higher than a cell, if it closes within a distance."""
    near = cells_within(grid, cell, distance)
    below = near[values[near] < values[cell] + rise]
    place = np.searchsorted(below, cell)
    if place >= below.size or below[place] != cell:
        return None
    parts = connected_components(touching[below][:, below], directed=False)[1]
    basin: NDArray[np.int64] = below[parts == parts[place]]
    around = np.setdiff1d(touching[basin].indices, near)
    if (values[around] < values[cell] + rise).any():
        return None
    return basin
