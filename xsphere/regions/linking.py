"""Regions linked through time, one step after the other: what continues, splits, merges and pauses.

Only a few steps are held at a time, so the length of a series does not matter.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import EARTH_RADIUS_KM, Grid, lonlat_to_vectors

OverlapOf = Literal["smaller", "union"]
# a step of the series that is so much longer than usual is a gap in the data
LONG_STEP = 1.5


@dataclass(frozen=True, kw_only=True)
class LinkRules:
    """When a region is the same as one of an earlier step.

    Parameters
    ----------
    max_gap : float
        Hours that a region may be missing.
    max_speed : float, optional
        Kilometres an hour between the centres of regions that share no cell; no such links if not
        given.
    min_overlap : float
        Least shared area, as a part of that of the smaller region or of both together.
    overlap_of : {"smaller", "union"}
        Which of the two.

    Examples
    --------
    >>> LinkRules(max_speed=100.0).min_overlap
    0.0
    """

    max_gap: float = 0.0
    max_speed: float | None = None
    min_overlap: float = 0.0
    overlap_of: OverlapOf = "smaller"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is linked of one step.

    Parameters
    ----------
    hours : float
        Its time.
    first : int
        Number of its first region in the table of all regions.
    cells, region : array of int, shape (n,)
        Cells of its regions in order, and which region each is in, from 0.
    classes, area, lon, lat : array, shape (n regions,)
        Of its regions; area in km2.
    """

    hours: float
    first: int
    cells: NDArray[np.int64]
    region: NDArray[Any]
    classes: NDArray[np.uint8]
    area: NDArray[np.float64]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    # by number of the region: whether it has a link to a later step
    continued: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "continued", np.zeros(self.classes.size, bool))


@dataclass(frozen=True)
class Links:
    """Links between regions, by their numbers in the table of all regions.

    Parameters
    ----------
    earlier, later : array of int, shape (n,)
        Regions.
    shared : array of float, shape (n,)
        Area that they share, in km2; minus their distance in km where they share none.

    Examples
    --------
    >>> Links(np.array([0]), np.array([1]), np.array([2.0])).shared
    array([2.])
    """

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]
    shared: NDArray[np.float64]


class Linker:
    """Links the steps of one series, given in the order of time.

    Parameters
    ----------
    grid : Grid
        Of the mask.
    rules : LinkRules
        When regions are linked.
    step_hours : float
        Usual length of a step: beyond one and a half of it, the data have a gap.
    """

    def __init__(self, grid: Grid, rules: LinkRules, step_hours: float) -> None:
        self.rules, self.step_hours = rules, step_hours
        self._areas = grid.covered_areas * EARTH_RADIUS_KM**2
        self._earlier: deque[Step] = deque()

    def add(self, step: Step) -> Iterator[Links]:
        """Links of a step to those before it, the last first."""
        begun = np.zeros(step.classes.size, bool)
        after = step.hours
        for lag, earlier in enumerate(reversed(self._earlier)):
            first = after - earlier.hours
            # of a step that is longer than usual nothing is known but its ends
            usual = first if first <= LONG_STEP * self.step_hours else self.step_hours
            if step.hours - earlier.hours - usual <= self.rules.max_gap:
                yield from self._links(earlier, step, begun, later_only=lag > 0)
            after = earlier.hours
        self._earlier.append(step)
        longest = self.rules.max_gap + LONG_STEP * self.step_hours
        while step.hours - self._earlier[0].hours > longest:
            self._earlier.popleft()

    def _links(
        self, earlier: Step, later: Step, begun: NDArray[np.bool_], *, later_only: bool
    ) -> Iterator[Links]:
        """Links by shared cells, then by distance of what has none."""
        one, other, shared = self._overlaps(earlier, later)
        if later_only:
            # what was seen in between is no longer missing
            free = ~(earlier.continued[one] | begun[other])
            one, other, shared = one[free], other[free], shared[free]
            one, other, shared = _pairs(one, other, -shared)
            shared = -shared
        yield self._linked(earlier, later, begun, one, other, shared)
        if self.rules.max_speed is not None:
            one, other, distance = self._near(earlier, later, begun)
            yield self._linked(earlier, later, begun, one, other, -distance)

    def _linked(
        self,
        earlier: Step,
        later: Step,
        begun: NDArray[np.bool_],
        one: NDArray[Any],
        other: NDArray[Any],
        shared: NDArray[np.float64],
    ) -> Links:
        earlier.continued[one] = True
        begun[other] = True
        return Links(earlier.first + one, later.first + other, shared)

    def _overlaps(
        self, one: Step, other: Step
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """Pairs of regions of a class that share enough, and the area that they share."""
        from xsphere.regions.connected import shared_cells

        here, there = shared_cells(one.cells, other.cells)
        n = max(1, other.classes.size)
        code = one.region[here].astype(np.int64) * n + other.region[there]
        # asked for the first of each, numpy sorts by merging, which is quick where much is in order
        found, _, pair = np.unique(code, return_index=True, return_inverse=True)
        shared = np.bincount(pair, self._areas[one.cells[here]], found.size)
        i, j = found // n, found % n
        smaller = np.minimum(one.area[i], other.area[j])
        whole = smaller if self.rules.overlap_of == "smaller" else None
        if whole is None:
            whole = one.area[i] + other.area[j] - shared
        kept = (one.classes[i] == other.classes[j]) & (shared > 0)
        kept &= shared >= self.rules.min_overlap * whole
        return i[kept], j[kept], shared[kept]

    def _near(
        self, earlier: Step, later: Step, begun: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """Pairs of regions without a link whose centres are near enough, the nearest first."""
        one, other = np.flatnonzero(~earlier.continued), np.flatnonzero(~begun)
        assert self.rules.max_speed is not None
        limit = self.rules.max_speed * (later.hours - earlier.hours)
        distance = great_circle(
            earlier.lon[one, None], earlier.lat[one, None], later.lon[other], later.lat[other]
        )
        same = earlier.classes[one, None] == later.classes[other]
        i, j = np.nonzero(same & (distance <= limit))
        return _pairs(one[i], other[j], distance[i, j])


def _pairs(
    one: NDArray[Any], other: NDArray[Any], cost: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Pairs in which each is once: the cheapest first, then in the order of their numbers."""
    taken_one: set[int] = set()
    taken_other: set[int] = set()
    kept = []
    for number in np.lexsort((other, one, cost)):
        i, j = int(one[number]), int(other[number])
        if i not in taken_one and j not in taken_other:
            taken_one.add(i)
            taken_other.add(j)
            kept.append(number)
    return one[kept], other[kept], cost[kept]


def great_circle(
    lon: NDArray[Any], lat: NDArray[Any], other_lon: NDArray[Any], other_lat: NDArray[Any]
) -> NDArray[np.float64]:
    """Distance between points in km, along great circles; exact for near and far ones."""
    one, other = lonlat_to_vectors(lon, lat), lonlat_to_vectors(other_lon, other_lat)
    across = np.linalg.norm(np.cross(one, other), axis=-1)
    found: NDArray[np.float64] = EARTH_RADIUS_KM * np.arctan2(across, (one * other).sum(-1))
    return found


@dataclass(frozen=True)
class Identities:
    """Which track each region belongs to.

    Parameters
    ----------
    track : array of int, shape (n,)
        Number of the track of each region, from 0, in the order of their first regions.
    before : array of int, shape (n,)
        Region that each was before; -1 where there is none.
    parent, child : array of int, shape (n tracks,)
        Track that each split from or merged into; -1 where there is none.
    """

    track: NDArray[np.int64]
    before: NDArray[np.int64]
    parent: NDArray[np.int64]
    child: NDArray[np.int64]


def identities(number: int, links: Links, *, split_merge: bool) -> Identities:
    """Tracks of regions, by their links.

    Of several regions that one is linked to, that with which it shares most area is the same
    (of those without shared area the nearest; of equal ones the first). A region continues another
    if each is that of the other. The others are tracks of their own, with a parent or a child.

    Parameters
    ----------
    number : int
        How many regions there are, in the order of time.
    links : Links
        Their links.
    split_merge : bool
        Whether branches are tracks; else all that is linked is one.

    Returns
    -------
    Identities
        Of all regions.

    Examples
    --------
    Region 0 splits into 1 and 2, of which 2 shares more:

    >>> found = identities(3, Links(*np.array([[0, 0], [1, 2], [5, 7]])), split_merge=True)
    >>> found.track, found.parent
    (array([0, 1, 0]), array([-1,  0]))
    """
    forward = _best(number, links.earlier, links.later, links.shared)
    backward = _best(number, links.later, links.earlier, links.shared)
    if not split_merge:
        track = _components(number, links)
        none = np.full(int(track.max(initial=-1)) + 1, -1)
        return Identities(track, backward, none, none.copy())
    regions = np.arange(number)
    mutual = (backward >= 0) & (forward[backward] == regions)
    before = np.where(mutual, backward, -1)
    track = np.empty(number, np.int64)
    starts = np.flatnonzero(before < 0)
    track[starts] = np.arange(starts.size)
    for region in np.flatnonzero(before >= 0):
        # in the order of time: what it was before has its number
        track[region] = track[before[region]]
    parent = np.full(starts.size, -1)
    split = starts[backward[starts] >= 0]
    parent[track[split]] = track[backward[split]]
    child = np.full(starts.size, -1)
    merged = regions[(forward >= 0) & (before[forward] != regions)]
    child[track[merged]] = track[forward[merged]]
    return Identities(track, before, parent, child)


def _best(
    number: int, of: NDArray[np.int64], to: NDArray[np.int64], shared: NDArray[np.float64]
) -> NDArray[np.int64]:
    """For each region the one with which it shares most; -1 where there is none."""
    best = np.full(number, -1)
    order = np.lexsort((-to, shared))
    # the last one written stays: the largest, of equal ones the first
    best[of[order]] = to[order]
    return best


def _components(number: int, links: Links) -> NDArray[np.int64]:
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    pairs = (np.ones(links.earlier.size, bool), (links.earlier, links.later))
    graph = sparse.coo_array(pairs, (number, number))
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
