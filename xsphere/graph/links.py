"""Which cells a row of a consistent Laplacian may use, and how cells of HEALPix are found fast."""

import numpy as np
from numpy.typing import NDArray

from xsphere.graph.ties import TIE_TOLERANCE
from xsphere.grids import HealpixGrid
from xsphere.threads import in_parts

# a cell with these many neighbours also has those that touch it
TOUCHING = 8
# times nside, the distance of two touching cells: it grows to 2.138 with the level
FARTHEST_TOUCHING = 2.14


def healpix_nearest(level: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The `k` nearest cells of every cell of the whole sphere, as `nearest_neighbours`.

    Found on the rings, without a search tree: identical, and about ten times as fast.
    """
    from xsphere.graph.near_cells import nearest_cells

    sphere = _Rings(level)
    ids = np.empty((sphere.n_cells, k), np.int32)
    distances = np.empty((sphere.n_cells, k))

    def fill(rows: slice) -> None:
        cells, centres, nested = sphere.ring_of_nested[rows], sphere.centres, sphere.nested_of_ring
        nearest_cells(sphere.nside, k, cells, centres, nested, ids[rows], distances[rows])

    in_parts(fill, sphere.n_cells)
    return ids, distances


class HealpixLinks:
    """Links of the cells of the whole sphere, found for some rows at a time.

    Two cells are linked where one is as near as the k-th nearest of the other (all that are
    equally near included) and, for `k` of at least 8, where they touch. Links go both ways and
    have every symmetry of HEALPix.
    """

    def __init__(self, level: int, k: int) -> None:
        self.sphere, self.k = _Rings(level), k
        self.reaches = self.sphere.reaches(k)
        touching = (FARTHEST_TOUCHING / self.sphere.nside) ** 2 if k >= TOUCHING else 0.0
        self.largest = float(max(self.reaches.max(), touching))

    def of_rows(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Numbers of links of some nested cells, and the nested ids linked to, sorted in a row."""
        from xsphere.graph.near_cells import linked_cells

        sphere = self.sphere
        cells = sphere.ring_of_nested[rows]
        touching = np.empty((cells.size, 0), np.int64)
        if self.k >= TOUCHING:
            touching = sphere.touching(rows)
        counts = np.empty(cells.size, np.int64)
        ids = np.empty(cells.size * (2 * self.k + 16), np.int32)
        places, reaches = (sphere.centres, sphere.nested_of_ring), (self.largest, self.reaches)
        n_links = linked_cells(sphere.nside, cells, *places, reaches, touching, counts, ids)
        assert n_links <= ids.size
        return counts, ids[:n_links].copy()


class _Rings:
    """The whole sphere at a level, in the ring scheme beside the nested one."""

    def __init__(self, level: int) -> None:
        import healpy

        self.grid = HealpixGrid(level)
        self.nside, self.n_cells = self.grid.nside, self.grid.n_cells
        self.nested_of_ring = np.empty(self.n_cells, np.int64)
        self.ring_of_nested = np.empty(self.n_cells, np.int64)
        self.centres = np.empty((self.n_cells, 3))
        centres = self.grid.centres

        def fill(rows: slice) -> None:
            cells = np.arange(rows.start, rows.stop)
            self.ring_of_nested[rows] = healpy.nest2ring(self.nside, cells)
            self.nested_of_ring[rows] = healpy.ring2nest(self.nside, cells)
            np.take(centres, self.nested_of_ring[rows], axis=0, out=self.centres[rows])

        in_parts(fill, self.n_cells)

    def reaches(self, k: int) -> NDArray[np.float64]:
        """Squared distance of the k-th nearest of every cell, all equal ones included, by ring."""
        from xsphere.graph.near_cells import nearest_cells

        squares = np.empty(self.n_cells)

        def fill(rows: slice) -> None:
            cells = np.arange(rows.start, rows.stop)
            ids, lengths = np.empty((cells.size, k), np.int32), np.empty((cells.size, k))
            nearest_cells(self.nside, k, cells, self.centres, self.nested_of_ring, ids, lengths)
            squares[rows] = (lengths[:, -1] * (1 + TIE_TOLERANCE)) ** 2

        in_parts(fill, self.n_cells)
        return squares

    def touching(self, rows: slice) -> NDArray[np.int64]:
        """Nested ids of the cells that touch those at some nested ids, -1 where there is none."""
        import healpy

        cells = np.arange(rows.start, rows.stop)
        touching: NDArray[np.int64] = healpy.get_all_neighbours(self.nside, cells, nest=True).T
        return touching
