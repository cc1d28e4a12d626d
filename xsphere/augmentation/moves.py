"""Maps moved on the sphere: turned, tilted, mirrored, zoomed; vectors go with them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.augmentation.base import (
    Array,
    Augmentation,
    AugmentationError,
    Range,
    check_numbers,
    check_ranges,
    from_space,
    grid_of,
    in_space,
    mean_targets,
)
from xsphere.grids import HealpixGrid, PointGrid, vectors_to_lonlat
from xsphere.model import ModelSpec
from xsphere.weights.interpolation import bilinear_weights
from xsphere.weights.vectors import local_frame

Vectors = NDArray[np.float64]
# Smaller weights are rounding: they would spread what is missing.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Frame:
    """Points, and what is east and north there: unit vectors, each of shape (n, 3).

    Examples
    --------
    >>> Frame(*np.eye(3)[:, None]).transformed(-np.eye(3)).points.tolist() == [[-1, 0, 0]]
    True
    """

    points: Vectors
    east: Vectors
    north: Vectors

    def transformed(self, matrix: Vectors) -> "Frame":
        """All of it by an orthogonal matrix."""
        return Frame(*(part @ matrix.T for part in (self.points, self.east, self.north)))


# From where each point comes, and which directions became its east and north
Source = Callable[[Frame], Frame]


class Move(Augmentation):
    """An augmentation that takes maps from place to place; a subclass draws from where.

    Where a map is moved by all of a cell's width, values are interpolated between the centres of
    cells (`bilinear_weights`), once for moves in a row. Vectors move in space, so they are right
    at the poles, and so are their components. Fields that change their sign in a mirror, those
    with ``vorticity`` in their standard name, do so.

    Examples
    --------
    >>> isinstance(Turn(), Move)
    True
    """

    @abstractmethod
    def drawn(self, generator: np.random.Generator) -> Source | None:
        """A move at random; None to leave a map as it is."""

    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """See `Augmentation`."""
        return moved([self], fields, targets, generator, spec)

    def problems(self, spec: ModelSpec) -> list[str]:
        """See `Augmentation`."""
        paired = {index for pair in spec.vectors for index in pair}
        lone = [
            variable.name
            for index, variable in enumerate(spec.variables)
            if index not in paired
            and any(word in (variable.standard_name or "") for word in ("eastward", "northward"))
        ]
        return [f"{lone} are components of vectors without the other one"] if lone else []


def moved(
    moves: Sequence[Move],
    fields: Array,
    targets: Array,
    generator: np.random.Generator,
    spec: ModelSpec,
) -> tuple[Array, Array]:
    """Samples after some moves, in their order, interpolated once."""
    drawn = [[move.drawn(generator) for _ in fields] for move in moves]
    fields, targets = fields.copy(), targets.copy()
    for index, sources in enumerate(zip(*drawn, strict=True)):
        taken = [source for source in sources if source is not None]
        if taken:
            fields[index], targets[index] = _moved(taken, fields[index], targets[index], spec)
    return fields, targets


def _moved(
    sources: Sequence[Source], fields: Array, targets: Array, spec: ModelSpec
) -> tuple[Array, Array]:
    grid = grid_of(spec.level)
    east, north = np.moveaxis(local_frame(grid, np.dtype(np.float64)), 1, 2)
    frame = Frame(grid.centres, east, north)
    # what the last move asks for, the one before it takes from elsewhere
    for source in reversed(sources):
        frame = source(frame)
    weights = _weights(grid, frame.points)
    found = from_space(
        weights @ in_space(fields, spec),
        spec,
        frame.east.astype(np.float32),
        frame.north.astype(np.float32),
    )
    if np.cross(frame.east[0], frame.north[0]) @ frame.points[0] < 0:
        found[:, _change_sign(spec)] *= -1
    return found, mean_targets(targets, weights)


def _weights(grid: HealpixGrid, points: Vectors) -> sparse.csr_array:
    weights = bilinear_weights(grid, PointGrid(*vectors_to_lonlat(points)))
    weights.data[weights.data < LEAST_WEIGHT] = 0.0
    weights.eliminate_zeros()
    weights.data /= np.repeat(weights.sum(axis=1), np.diff(weights.indptr))
    return weights.astype(np.float32)


def _change_sign(spec: ModelSpec) -> list[int]:
    """Which variables change their sign in a mirror, other than components of vectors."""
    names = [variable.standard_name or "" for variable in spec.variables]
    return [index for index, name in enumerate(names) if "vorticity" in name]


@dataclass(frozen=True, kw_only=True)
class Turn(Move):
    """Maps turned about the Earth's axis: weather elsewhere on the same parallels.

    Parameters
    ----------
    angle : float
        Degrees to the east or to the west, at most, each as likely.

    Raises
    ------
    AugmentationError
        If the angle is not from 0 to 180.

    Notes
    -----
    Land and sea stay behind, which is right for models that do not see them.

    Examples
    --------
    >>> Turn(angle=30.0).to_dict()
    {'name': 'Turn', 'angle': 30.0}
    """

    angle: float = 180.0

    def __post_init__(self) -> None:
        check_numbers(self, low=0.0, high=180.0, angle=self.angle)

    def drawn(self, generator: np.random.Generator) -> Source | None:
        """See `Move`."""
        angle = np.deg2rad(generator.uniform(-self.angle, self.angle))
        cos, sin = np.cos(angle), np.sin(angle)
        back = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        return lambda frame: frame.transformed(back)


@dataclass(frozen=True, kw_only=True)
class Tilt(Move):
    """Maps turned so that the pole comes to a place drawn at random from a cap around it.

    ``[Turn(), Tilt(angle=180.0)]`` draws from all rotations of the sphere, each as likely (SO(3)).

    Parameters
    ----------
    angle : float
        Degrees from the pole to the edge of the cap.

    Raises
    ------
    AugmentationError
        If the angle is not from 0 to 180.

    Notes
    -----
    The Earth's rotation stays behind: large angles are for fields on a sphere without an axis.
    Where winds, pressure or the latitude matter, a few degrees are true enough.

    Examples
    --------
    >>> Tilt(angle=5.0).angle
    5.0
    """

    angle: float

    def __post_init__(self) -> None:
        check_numbers(self, low=0.0, high=180.0, angle=self.angle)

    def drawn(self, generator: np.random.Generator) -> Source | None:
        """See `Move`."""
        height = generator.uniform(np.cos(np.deg2rad(self.angle)), 1.0)
        towards = generator.uniform(0.0, 2 * np.pi)
        x, y, sin = np.cos(towards), np.sin(towards), np.sqrt(max(1.0 - height**2, 0.0))
        # about the horizontal axis across the way that the pole goes, by Rodrigues' formula
        axis = np.array([-y, x, 0.0])
        cross = np.cross(np.eye(3), -axis)
        matrix = np.eye(3) + sin * cross + (1.0 - height) * cross @ cross
        return lambda frame: frame.transformed(matrix.T)


@dataclass(frozen=True, kw_only=True)
class Mirror(Move):
    """Hemispheres swapped: northward components and vorticity change their sign.

    Cyclones stay cyclones. No value is interpolated: cells lie in pairs about the equator.

    Parameters
    ----------
    probability : float
        Share of the samples.

    Raises
    ------
    AugmentationError
        If the probability is not from 0 to 1.

    Examples
    --------
    >>> Mirror().probability
    0.5
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_numbers(self, low=0.0, high=1.0, probability=self.probability)

    def drawn(self, generator: np.random.Generator) -> Source | None:
        """See `Move`."""
        if generator.random() >= self.probability:
            return None
        return lambda frame: frame.transformed(np.diag([1.0, 1.0, -1.0]))


@dataclass(frozen=True, kw_only=True)
class Zoom(Move):
    """Structures grown or shrunk around a place: a conformal map, which keeps their shapes.

    Parameters
    ----------
    factor : (float, float)
        Smallest and largest growth at the place, drawn evenly by its logarithm; about the
        antipode structures shrink by as much.

    Raises
    ------
    AugmentationError
        If the factors are not positive and rising.

    Notes
    -----
    A stereographic dilation. Values stay: a storm half as large has the same wind, and so twice the
    vorticity where that is derived from the wind, but not where it is a variable.

    Examples
    --------
    >>> Zoom(factor=(0.5, 1.0)).factor
    (0.5, 1.0)
    """

    factor: Range = (0.6, 1.2)

    def __post_init__(self) -> None:
        check_ranges(self, least=0.0, factor=self.factor)
        if self.factor[0] == 0.0:
            raise AugmentationError(f"Zoom: factor must be positive, got {self.factor}")

    def drawn(self, generator: np.random.Generator) -> Source | None:
        """See `Move`."""
        factor = float(np.exp(generator.uniform(*np.log(self.factor))))
        centre = generator.normal(size=3)
        centre /= np.linalg.norm(centre)
        return lambda frame: dilated(frame, centre, 1.0 / factor)


def dilated(frame: Frame, centre: Vectors, factor: float) -> Frame:
    """Points and their directions after a stereographic dilation around a place.

    Parameters
    ----------
    frame : Frame
        Points.
    centre : array of float, shape (3,)
        Unit vector of the place that stays.
    factor : float
        Growth there.

    Returns
    -------
    Frame
        Unit vectors.

    Examples
    --------
    >>> frame = dilated(Frame(*np.eye(3)[:, None]), np.array([0.0, 0.0, 1.0]), 1.0)
    >>> frame.points.round(9)
    array([[1., 0., 0.]])
    """
    along = frame.points @ centre
    across = frame.points - along[:, None] * centre
    length = np.linalg.norm(across, axis=-1)
    before = np.arctan2(length, along)
    after = 2 * np.arctan(np.tan(before / 2) * factor)
    # at the centre itself any direction will do, as nothing moves
    away = across / np.maximum(length, 1e-12)[:, None]
    away[length < 1e-12] = frame.east[length < 1e-12]
    across_from = np.cross(centre, away)
    points = np.cos(after)[:, None] * centre + np.sin(after)[:, None] * away
    # every direction keeps its angle to the great circle from the centre
    outward = [np.cos(a)[:, None] * away - np.sin(a)[:, None] * centre for a in (before, after)]

    def turned(direction: Vectors) -> Vectors:
        parts = [(direction * axis).sum(-1)[:, None] for axis in (outward[0], across_from)]
        result: Vectors = parts[0] * outward[1] + parts[1] * across_from
        return result

    return Frame(points, turned(frame.east), turned(frame.north))
