"""Regions and closed contours of the fields of one step, by distances in km."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from xsphere.graph.edges import cell_edges
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


def nearest_cells(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Nearest cell to each of some unit vectors (..., 3); -1 where none is there."""
    apart, cells = tree_of(grid).query(points)
    # half a cell and more from its centre, whatever its form
    reach = 1.5 * np.sqrt(grid.areas.max())
    found: NDArray[np.int64] = np.where(apart <= reach, cells, -1)
    return found


def values_at(values: NDArray[np.float64], cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values of cells, NaN where there is none."""
    return np.where(cells < 0, np.nan, values[cells])


@lru_cache(maxsize=4)
def rim_of(grid: Grid) -> NDArray[np.bool_]:
    """Cells at the edge of a region."""
    edges = None if grid.is_global else cell_edges(grid)
    if edges is None:
        return np.zeros(grid.n_cells, bool)
    outside = (edges.neighbours < 0) & (edges.lengths > 0)
    return np.asarray(outside.any(axis=1))


def closed_contour(
    values: NDArray[np.float64], cell: int, grid: Grid, distance: float, rise: float
) -> NDArray[np.int64] | None:
    """Cells within a contour that is so much higher than a cell, if it closes within a distance.

    Unknown values are infinite; see `xsphere.detect` for what holes and edges mean.
    """
    touching = regions_of(grid).adjacency
    near = cells_within(grid, cell, distance)
    below = near[values[near] < values[cell] + rise]
    place = np.searchsorted(below, cell)
    if place >= below.size or below[place] != cell:
        return None
    parts = connected_components(touching[below][:, below], directed=False)[1]
    basin: NDArray[np.int64] = below[parts == parts[place]]
    around = np.setdiff1d(touching[basin].indices, near)
    if (values[around] < values[cell] + rise).any() or rim_of(grid)[basin].any():
        return None
    return None if _is_open(np.isinf(values), basin, near, touching) else basin


def _is_open(
    unknown: NDArray[np.bool_],
    basin: NDArray[np.int64],
    near: NDArray[np.int64],
    touching: sparse.csr_array,
) -> bool:
    """Whether a basin lies at a hole that goes on beyond the cells that are near."""
    hole = np.unique(touching[basin].indices)
    hole = hole[unknown[hole]]
    while hole.size:
        if np.setdiff1d(hole, near).size:
            return True
        wider = np.unique(touching[hole].indices)
        wider = np.union1d(hole, wider[unknown[wider]])
        if wider.size == hole.size:
            return False
        hole = wider
    return False
