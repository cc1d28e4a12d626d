"""A vortex in gradient-wind balance, and what a grid of cells sees of it.

Holland's profile of the wind; the pressure follows from it. Distances are along great circles, in
kilometres; winds in m s-1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsphere.augmentation.base import grid_of
from xsphere.grids import EARTH_RADIUS_KM, lonlat_to_vectors, tangent_vectors

Floats = NDArray[np.float64]

EARTH_ROTATION = 7.2921e-5  # s-1
AIR_DENSITY = 1.15  # kg m-3, as in Holland (1980)
# Of the tabulated profile, and of the points that stand for a cell: 16, down to some 25 km.
PROFILE_STEPS = 1500
FINER_BY, FINEST_LEVEL = 2, 8


@dataclass(frozen=True, kw_only=True)
class Vortex:
    """A round vortex: its wind by Holland's profile, its pressure in balance with that.

    Parameters
    ----------
    lon, lat : float
        Degrees; the sense of rotation is cyclonic in that hemisphere.
    wind : float
        Largest gradient wind.
    radius : float
        Where it blows.
    shape : float
        Holland's B: how steeply the wind falls off outside, as ``r ** (-B / 2)``.
    outer : float
        Where the wind begins to fall short of the profile, which has no end, to vanish at twice
        that distance.

    References
    ----------
    .. [1] Holland (1980), https://doi.org/10.1175/1520-0493(1980)108<1212:AAMOTW>2.0.CO;2

    Examples
    --------
    >>> vortex = Vortex(lon=140.0, lat=20.0, wind=40.0, radius=40.0, shape=1.5, outer=400.0)
    >>> vortex.speed(np.array([40.0, 200.0, 800.0])).round(1)
    array([40. , 18.9,  0. ])
    >>> vortex.deficit(np.array([0.0, 800.0])).round(-2) / 100
    array([38.,  0.])
    """

    lon: float
    lat: float
    wind: float
    radius: float
    shape: float
    outer: float

    @property
    def centre(self) -> Floats:
        """Unit vector."""
        return lonlat_to_vectors(self.lon, self.lat)

    @property
    def edge(self) -> float:
        """Where the wind vanishes."""
        return 2.0 * self.outer

    def speed(self, distance: Floats) -> Floats:
        """Gradient wind at some distances."""
        x = (self.radius / np.maximum(distance, 1e-3)) ** self.shape
        # beyond 700 nothing is left, and the exponential would be of no use
        profile = self.wind * np.sqrt(x * np.exp(1.0 - np.minimum(x, 700.0)))
        share = ((self.edge - distance) / self.outer).clip(0.0, 1.0)
        # without a kink at either end
        speed: Floats = profile * share**2 * (3.0 - 2.0 * share)
        return speed

    def deficit(self, distance: Floats) -> Floats:
        """How many Pa the pressure is below that outside.

        Its slope times 1 / density holds the centrifugal and the Coriolis force of the wind.
        """
        r = np.linspace(1.0, self.edge, PROFILE_STEPS)
        speed = self.speed(r)
        coriolis = 2.0 * EARTH_ROTATION * np.sin(np.deg2rad(abs(self.lat)))
        slope = AIR_DENSITY * (speed**2 / (1e3 * r) + coriolis * speed)
        steps = 0.5 * (slope[1:] + slope[:-1]) * np.diff(1e3 * r)
        inwards = np.append(steps[::-1].cumsum()[::-1], 0.0)
        deficit: Floats = np.interp(distance, r, inwards)
        return deficit

    def core(self, distance: Floats) -> Floats:
        """How much of the flow is the vortex's own: 1 up to the largest wind, 0 at the edge."""
        share = self.speed(np.maximum(distance, self.radius)) / self.wind
        return np.asarray(share)


@dataclass(frozen=True)
class CellsOfAVortex:
    """Cells that a vortex reaches, and the points in them that its means are taken of.

    Parameters
    ----------
    cells : array of int, shape (n,)
        Nested cells.
    distance : array of float, shape (n, n_points)
        Of points in each cell from the centre.
    around, inward : array of float, shape (n, n_points, 3)
        Unit vectors: the cyclonic direction, and towards the centre.

    Examples
    --------
    >>> vortex = Vortex(lon=140.0, lat=20.0, wind=40.0, radius=40.0, shape=1.5, outer=400.0)
    >>> found = CellsOfAVortex.of(vortex, 4, vortex.edge)
    >>> found.distance.shape
    (18, 16)
    """

    cells: NDArray[np.int64]
    distance: Floats
    around: Floats
    inward: Floats

    @classmethod
    def of(cls, vortex: Vortex, level: int, reach: float) -> "CellsOfAVortex":
        """Cells of a level with any of their points within some kilometres."""
        grid = grid_of(level)
        fine = grid_of(max(level, min(level + FINER_BY, FINEST_LEVEL)))
        n_points = 4 ** (fine.level - level)
        # no cell is wider than twice its mean width
        wide = 2.0 * EARTH_RADIUS_KM * np.sqrt(4 * np.pi / grid.n_cells)
        near = grid.centres @ vortex.centre > np.cos(min((reach + wide) / EARTH_RADIUS_KM, np.pi))
        cells = np.flatnonzero(near)
        points = fine.centres.reshape(grid.n_cells, n_points, 3)[cells]
        along = points @ vortex.centre
        distance = EARTH_RADIUS_KM * np.arccos(along.clip(-1.0, 1.0))
        some = (distance < reach).any(axis=1)
        points, along = points[some], along[some]
        inward = vortex.centre - along[..., None] * points
        inward /= np.maximum(np.linalg.norm(inward, axis=-1, keepdims=True), 1e-12)
        around = np.sign(vortex.lat) * np.cross(inward, points)
        return cls(cells[some], distance[some], around, inward)

    def flow(self, speed: Floats, angle: float) -> Floats:
        """Mean wind of each cell in space, by the speed at its points, turned inwards."""
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        flow: Floats = (speed[..., None] * (cos * self.around + sin * self.inward)).mean(axis=1)
        return flow


def as_seen(vortex: Vortex, spacing: float) -> Vortex:
    """A vortex as data of a coarser spacing have it: the same wind outside, a wider, weaker core.

    Examples
    --------
    >>> vortex = Vortex(lon=140.0, lat=20.0, wind=40.0, radius=30.0, shape=1.5, outer=400.0)
    >>> as_seen(vortex, 0.0) == vortex
    True
    >>> seen = as_seen(vortex, 40.0)
    >>> seen.radius, round(seen.wind, 1)
    (50.0, 27.3)
    """
    radius = float(np.hypot(vortex.radius, spacing))
    wind = vortex.wind * (vortex.radius / radius) ** (vortex.shape / 2)
    return Vortex(
        lon=vortex.lon,
        lat=vortex.lat,
        wind=float(wind),
        radius=radius,
        shape=vortex.shape,
        outer=max(vortex.outer, radius),
    )


def horizontal(vectors: Floats, lon: float, lat: float) -> Floats:
    """Components of vectors in space towards the east and the north of a place, shape (..., 2)."""
    found: Floats = vectors @ np.stack(tangent_vectors(lon, lat), axis=-1)
    return found
