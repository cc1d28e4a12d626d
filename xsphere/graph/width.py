"""Width of the Gaussian kernel that makes a graph of k neighbours filter like the sphere."""

import numpy as np

from xsphere.graph.neighbours import check_neighbour_count, nearest_neighbours
from xsphere.grids import Grid, HealpixGrid, LatLonGrid

# sigma^2 / cell area = FLOOR + SLOPE k, by least squares of the relative error over 16 widths
FLOOR, SLOPE = 0.2844, 0.0370


def kernel_width(grid: Grid, k: int) -> float:
    """Width sigma, in radians, of the Gaussian weights ``exp(-ln2 d**2 / sigma**2)``.

    ``sigma = c_k sqrt(A)`` with ``c_k**2 = 0.2844 + 0.0370 k`` and A the typical area of a cell:
    the square of the width grows with the area that the k neighbours take up. The law fits the
    16 published widths [1]_ (k = 8, 20, 40, 60 at levels 5 to 8) with a root mean square error of
    2.1 % and a largest error of 4.4 %; these widths are themselves points of a search grid
    with steps of 27 %.

    A is ``4 pi / n_cells`` of the whole sphere for HEALPix, so that a part of the sphere has
    the width of the whole; the mean area of the cells for longitude-latitude grids; and for points
    the median over the cells of ``2 pi sum(d**2) / (k + 1)**2``, with d the distances of the
    neighbours, which does not depend on where a network of stations ends.

    Parameters
    ----------
    grid : Grid
        Any grid.
    k : int
        Number of neighbours, from 1 to ``n_cells - 1``.

    Returns
    -------
    float
        The distance, in radians, at which a weight has fallen to one half.

    Raises
    ------
    ValueError
        If the grid has no more than `k` cells, or most of its points coincide with their
        neighbours.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000

    Examples
    --------
    >>> round(kernel_width(HealpixGrid(level=5), k=20), 4)
    0.0324
    """
    check_neighbour_count(grid, k)
    return float(np.sqrt((FLOOR + SLOPE * k) * _typical_area(grid, k)))


def _typical_area(grid: Grid, k: int) -> float:
    match grid:
        case HealpixGrid():
            return float(4 * np.pi / (12 * 4**grid.level))
        case LatLonGrid():
            # a repeated cyclic column has no area and is no cell of its own
            return float(grid.areas[grid.areas > 0].mean())
        case _:
            _, distances = nearest_neighbours(grid, k)
            area = float(np.median((distances**2).sum(axis=1))) * 2 * np.pi / (k + 1) ** 2
            if area == 0:
                raise ValueError(
                    f"more than half of the points of {grid!r} coincide with all their {k} "
                    "neighbours; drop the duplicates, choose a larger k or give kernel_width"
                )
            return area
