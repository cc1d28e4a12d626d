"""Random changes of training samples that keep their labels true: turned, mirrored, resized fields.

Weather on a turned or mirrored Earth is still weather, and a storm half the size is still a storm.
Winds turn with the map. The oceans stay behind, which is right for inputs that do not know them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import HealpixGrid, tangent_vectors, vectors_to_lonlat

Array = NDArray[np.float32]
Vectors = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of random changes of a sample.

    Parameters
    ----------
    rotate : bool
        Turn the map about the Earth's axis by any angle.
    reflect : bool
        Swap the hemispheres half of the time; northward winds change sign.
    zoom : tuple of float
        Smallest and largest factor by which structures grow around a random point (a conformal
        map: shapes are kept).
    amplitude : tuple of float
        Smallest and largest factor of the departure from the mean of each parallel.

    Examples
    --------
    >>> Augmentation(zoom=(0.5, 1.0)).rotate
    True
    """

    rotate: bool = True
    reflect: bool = True
    zoom: tuple[float, float] = (1.0, 1.0)
    amplitude: tuple[float, float] = (1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a training record."""
        return asdict(self)


def zoomed_points(points: Vectors, centre: Vectors, factor: float) -> Vectors:
    """Where the structures at some points came from, when all grow by a factor around a centre.

    Parameters
    ----------
    points : array of float, shape (n, 3)
        Unit vectors.
    centre : array of float, shape (3,)
        Unit vector of the fixed point.
    factor : float
        Growth at the centre: a stereographic dilation, which keeps angles.

    Returns
    -------
    array of float, shape (n, 3)
        Unit vectors.

    Examples
    --------
    >>> zoomed_points(np.array([[1.0, 0.0, 0.0]]), np.array([0.0, 0.0, 1.0]), 1.0).round(9)
    array([[1., 0., 0.]])
    """
    along = points @ centre
    across = points - along[:, None] * centre
    length = np.linalg.norm(across, axis=-1, keepdims=True)
    direction = across / np.maximum(length, 1e-12)
    angle = 2 * np.arctan(np.tan(np.arctan2(length[:, 0], along) / 2) / factor)
    moved: Vectors = np.cos(angle)[:, None] * centre + np.sin(angle)[:, None] * direction
    return moved


def _bearing(points: Vectors, centre: Vectors) -> NDArray[np.float64]:
    """Angle from east of the direction away from the centre, in radian."""
    east, north = tangent_vectors(*vectors_to_lonlat(points))
    away = (points @ centre)[:, None] * points - centre
    bearing: Vectors = np.arctan2((away * north).sum(-1), (away * east).sum(-1))
    return bearing


def augmented(
    grid: HealpixGrid,
    fields: Array,
    target: Array,
    *,
    winds: Sequence[tuple[int, int]],
    options: Augmentation,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """A sample changed at random.

    Parameters
    ----------
    grid : HealpixGrid
        Grid of the sample: the whole sphere, nested.
    fields : array of float32, shape (n_cells, n_variables)
        Variables in physical units.
    target : array of float32, shape (n_cells, n_classes)
        Probabilities of the classes.
    winds : sequence of (int, int)
        Positions of eastward and northward components among the variables.
    options : Augmentation
        What to change, and how far.
    rng : Generator
        Source of chance.

    Returns
    -------
    fields, target : arrays of float32
        New arrays of the same shapes.

    Examples
    --------
    >>> grid = HealpixGrid(2)
    >>> sample = np.ones((192, 1), np.float32), np.ones((192, 1), np.float32)
    >>> rng = np.random.default_rng(0)
    >>> fields, target = augmented(grid, *sample, winds=(), options=Augmentation(), rng=rng)
    >>> bool(np.allclose(fields, 1))
    True
    """
    fields = _amplified(grid, fields, rng.uniform(*options.amplitude))
    points = grid.centres
    sources, turn = points, np.zeros(len(points))
    factor = np.exp(rng.uniform(*np.log(options.zoom)))
    if factor != 1.0:
        centre = rng.normal(size=3)
        centre /= np.linalg.norm(centre)
        sources = zoomed_points(points, centre, factor)
        # a conformal map turns winds as it turns the direction away from its centre
        turn = _bearing(points, centre) - _bearing(sources, centre)
    lon, lat = vectors_to_lonlat(sources)
    if options.rotate:
        lon = lon + rng.uniform(0.0, 360.0)
    mirrored = options.reflect and rng.random() < 0.5
    if mirrored:
        lat = -lat
    ids, weights = _interpolation(grid, lon, lat)
    fields = np.einsum("kn,knv->nv", weights, fields[ids])
    target = np.einsum("kn,knc->nc", weights, target[ids])
    for u, v in winds:
        east, north = fields[:, u], -fields[:, v] if mirrored else fields[:, v]
        cos, sin = np.cos(turn, dtype=np.float32), np.sin(turn, dtype=np.float32)
        fields[:, u], fields[:, v] = cos * east - sin * north, sin * east + cos * north
    return fields, target


def _interpolation(
    grid: HealpixGrid, lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Array]:
    import healpy

    ids, weights = healpy.get_interp_weights(grid.nside, lon, lat, nest=True, lonlat=True)
    return ids, weights.astype(np.float32)


def _amplified(grid: HealpixGrid, fields: Array, factor: float) -> Array:
    """Departures from the mean of each ring of cells, multiplied."""
    if factor == 1.0:
        return fields
    # cells of a ring share their latitude
    _, ring = np.unique(grid.centres[:, 2].round(9), return_inverse=True)
    counts = np.bincount(ring)
    means = np.stack([np.bincount(ring, column) / counts for column in fields.T], -1)
    background = means[ring].astype(np.float32)
    return background + np.float32(factor) * (fields - background)
