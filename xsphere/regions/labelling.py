"""Connected regions of a mask, numbered in each step, on the mask's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from xsphere.conventions import horizontal_grid
from xsphere.conventions.base import check_one_chunk
from xsphere.conventions.masks import BACKGROUND, check_flags
from xsphere.graph import adjacency
from xsphere.grids import EARTH_RADIUS_KM, Grid
from xsphere.grids.travel import Travelling
from xsphere.notices import shortened
from xsphere.regions.masks import check_certain, check_is_mask, known_values, wanted_classes

HALF_ROUND_KM = np.pi * EARTH_RADIUS_KM


@dataclass(frozen=True, kw_only=True)
class Labelling(Travelling):
    """What makes numbers of regions of the classes of one step; the same whoever calls it.

    Parameters
    ----------
    grid : Grid
        Of the mask.
    wanted : tuple of int
        Classes whose regions are wanted.
    known : tuple
        All values that a mask may have.
    name : str
        Of the mask, for errors.
    min_area, max_hole_area, merge_distance : float
        As for `label`.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> find = Labelling(grid=HealpixGrid(0), wanted=(1,), known=(0, 1), name="mask")
    >>> find(np.array([1] + 9 * [0] + [1, 0], np.uint8))
    array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0], dtype=int32)
    """

    # dask names its tasks by it
    __name__ = "xsphere_label"

    grid: Grid
    wanted: tuple[int, ...]
    known: tuple[Any, ...]
    name: str
    min_area: float = 0.0
    max_hole_area: float = 0.0
    merge_distance: float = 0.0

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        sizes = (self.min_area, self.max_hole_area, self.merge_distance)
        return ("xsphere.label", self.grid.fingerprint, self.wanted, self.known, *sizes)

    def __call__(self, codes: NDArray[Any]) -> NDArray[np.int32]:
        """Numbers (..., *horizontal) of the regions of every step."""
        steps = codes.reshape(-1, self.grid.n_cells)
        labels = np.zeros(steps.shape, np.int32)
        for number, step in enumerate(steps):
            cells, region, _ = self.regions(step)
            labels[number, cells] = region + 1
        return labels.reshape(codes.shape)

    def step(self, codes: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Numbers of the regions of one step, 0 where there is none, and the class of each."""
        cells, region, classes = self.regions(codes)
        return self.labels(cells, region), classes

    def labels(self, cells: NDArray[Any], region: NDArray[Any]) -> NDArray[np.int32]:
        """Numbers from 1 on the whole grid of regions from 0 of some cells."""
        labels = np.zeros(self.grid.n_cells, np.int32)
        labels[cells] = region + 1
        return labels

    def regions(
        self, codes: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Cells of the regions of one step in order, the region of each, the class of each region.

        Regions count from 0, in the order of class and first cell.
        """
        codes = self._without_holes(codes) if self.max_hole_area else codes
        # few cells are other than background, which is soon seen
        cells = np.flatnonzero(codes != BACKGROUND)
        values = codes[cells]
        check_flags(values, self.known, self.name)
        wanted = np.isin(values, self.wanted)
        cells, classes = cells[wanted], values[wanted].astype(np.uint8)
        region, number = _connected(self.adjacency, cells, classes)
        if self.merge_distance and number > 1:
            region = self._merged(cells, classes, region)
        area = np.bincount(region, self.grid.covered_areas[cells], number) * EARTH_RADIUS_KM**2
        # a repeated cyclic column on its own has no area
        chosen = np.flatnonzero((area > 0) & (area >= self.min_area))
        class_of = np.zeros(number, np.uint8)
        class_of[region] = classes
        chosen = chosen[np.argsort(class_of[chosen], kind="stable")]
        rank = np.full(number, -1)
        rank[chosen] = np.arange(chosen.size)
        region = rank[region]
        kept = region >= 0
        return cells[kept], region[kept], class_of[chosen]

    @property
    def adjacency(self) -> sparse.csr_array:
        """Which cells touch."""
        return _shared_adjacency(self.grid)

    def _without_holes(self, codes: NDArray[Any]) -> NDArray[Any]:
        """The step with small holes in regions as parts of them.

        A hole is background that touches cells of one class and nothing else.
        """
        empty = np.flatnonzero(codes == BACKGROUND)
        hole, number = _connected(self.adjacency, empty, np.zeros(empty.size, np.uint8))
        area = np.bincount(hole, self.grid.covered_areas[empty], number) * EARTH_RADIUS_KM**2
        small = area[hole] <= self.max_hole_area
        cells, hole = empty[small], hole[small]
        links = self.adjacency[cells].tocoo()
        around = np.nan_to_num(codes[links.col].astype(float), nan=-1.0)
        outside = around != BACKGROUND
        of, around = hole[links.row[outside]], around[outside]
        least, most = np.full(number, np.inf), np.full(number, -np.inf)
        np.minimum.at(least, of, around)
        np.maximum.at(most, of, around)
        closed = (least == most) & np.isin(least, self.wanted)
        filled = codes.copy()
        filled[cells[closed[hole]]] = least[hole[closed[hole]]].astype(codes.dtype)
        return filled

    def _merged(
        self, cells: NDArray[Any], classes: NDArray[np.uint8], region: NDArray[Any]
    ) -> NDArray[Any]:
        """Numbers of regions, equal for those of one class that are near each other."""
        links = self.adjacency[cells]
        # inner cells are never nearest to another region
        inside = np.zeros(self.grid.n_cells, bool)
        inside[cells] = True
        rim = np.asarray(links @ (~inside).astype(np.int64)) > 0
        chord = 2 * np.sin(min(self.merge_distance, HALF_ROUND_KM) / EARTH_RADIUS_KM / 2)
        pairs = [np.empty((0, 2), np.int64)]
        for value in np.unique(classes):
            chosen = np.flatnonzero(rim & (classes == value))
            near = cKDTree(self.grid.centres[cells[chosen]]).query_pairs(
                chord, output_type="ndarray"
            )
            pairs.append(region[chosen[near]])
        one, other = np.concatenate(pairs).T
        size = int(region.max()) + 1
        graph = sparse.coo_array((np.ones(one.size, bool), (one, other)), (size, size))
        joined: NDArray[Any] = connected_components(graph, directed=False)[1][region]
        return joined


@lru_cache(maxsize=4)
def _shared_adjacency(grid: Grid) -> sparse.csr_array:
    """Which cells touch, found once for all tasks and rules of a process."""
    return adjacency(grid)


def _connected(
    graph: sparse.csr_array, cells: NDArray[Any], classes: NDArray[np.uint8]
) -> tuple[NDArray[Any], int]:
    """Number of the region of each of some cells, and how many there are."""
    from xsphere.regions.connected import connected_cells

    found: tuple[NDArray[Any], int] = connected_cells(graph.indptr, graph.indices, cells, classes)
    return found


def is_number(value: Any) -> bool:
    """Whether an option is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def labelling(
    mask: xr.DataArray,
    classes: str | int | Sequence[str | int] | None,
    *,
    min_area: float,
    max_hole_area: float,
    merge_distance: float,
    wish: str,
) -> Labelling:
    """What labels a mask, once mask and options are known to make sense."""
    check_is_mask(mask, wish)
    sizes = {
        "min_area": (min_area, "km2"),
        "max_hole_area": (max_hole_area, "km2"),
        "merge_distance": (merge_distance, "km"),
    }
    wrong = [
        f"{name} must be a number of {unit}, zero or more, got {shortened(value)}"
        for name, (value, unit) in sizes.items()
        if not is_number(value) or not value >= 0
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
    return Labelling(
        grid=horizontal_grid(mask).grid,
        wanted=tuple(wanted_classes(mask, classes)),
        known=known_values(mask),
        name=str(mask.name),
        min_area=float(min_area),
        max_hole_area=float(max_hole_area),
        merge_distance=float(merge_distance),
    )


def label(
    mask: xr.DataArray,
    *,
    classes: str | int | Sequence[str | int] | None = None,
    min_area: float = 0.0,
    max_hole_area: float = 0.0,
    merge_distance: float = 0.0,
) -> xr.DataArray:
    """Number the connected regions of each class of a mask, step by step.

    Cells of one class that share an edge or a corner belong to one region, across the date line
    and the poles. Cells that are background, invalid (254) or not computed (255) belong to none.

    Parameters
    ----------
    mask : DataArray of int or bool
        As for `xsphere.events`, in one chunk along the horizontal dimensions.
    classes : str, int or sequence of them, optional
        Names or values of the classes to look for. All if not given.
    min_area : float
        Regions smaller than this are left out, in km2.
    max_hole_area : float
        Background within a region, of at most this area, is part of it, in km2. Background that
        touches a cell of another class, or one that is unknown, is no hole.
    merge_distance : float
        Regions of one class with cells whose centres are at most this far apart are one, in km.

    Returns
    -------
    DataArray of int32
        On the grid of `mask`, with its dimensions and labels; lazy if `mask` is. 0 where there is
        no region. In each step regions count from 1, in the order of class and first cell: the
        numbers of a step depend on that step alone.

    Raises
    ------
    TypeError
        If `mask` is not a DataArray.
    ValueError
        If `mask` has no classes or other values than its flags (when it is computed), it is split
        along the horizontal dimensions, `classes` are unknown, or a size is negative.

    See Also
    --------
    xsphere.events : The same regions as a table.
    xsphere.track : The same regions followed through time.

    Examples
    --------
    >>> import xsphere
    >>> mask = xsphere.segment(xsphere.sample_dataset(), "tc-ar")
    >>> regions = label(mask, classes="tropical_cyclone")
    >>> regions.dtype, regions.dims
    (dtype('int32'), ('time', 'cells'))
    >>> regions.max("cells").values.tolist() == [
    ...     int((xsphere.events(mask, classes="tropical_cyclone").time == t).sum())
    ...     for t in mask.time
    ... ]
    True
    """
    node = labelling(
        mask,
        classes,
        min_area=min_area,
        max_hole_area=max_hole_area,
        merge_distance=merge_distance,
        wish="label",
    )
    check_certain(mask)
    dims = horizontal_grid(mask).dims
    check_one_chunk({mask.name: mask}, dims)
    labels: xr.DataArray = xr.apply_ufunc(
        node,
        mask,
        input_core_dims=[list(dims)],
        output_core_dims=[list(dims)],
        dask="parallelized",
        output_dtypes=[np.int32],
        keep_attrs=False,
    )
    found = labels.transpose(*mask.dims).rename("label")
    kept = {key: mask.attrs[key] for key in ("grid_mapping",) if key in mask.attrs}
    words = "number of the region, 0 where there is none"
    return found.assign_attrs({"long_name": words} | kept)
