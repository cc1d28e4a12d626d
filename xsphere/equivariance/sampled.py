"""Measures from random fields: Schur's for linear functions, rotations for anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.equivariance.operators import Apply
from xsphere.equivariance.random_fields import Fields, HealpixFields

Floats = NDArray[np.float64]
N_RESAMPLED = 1000
# Outputs below this part of what noise gives are zero but for rounding.
VANISHING = 1e-12
# Of the norm: networks in float32 are linear to some 1e-6, a bias or an activation is far above.
LINEAR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is drawn, and from which seed: every degree has random numbers of its own.

    Parameters
    ----------
    n_signals : int
        Fields of each degree.
    n_rotations : int
        Rotations of each field.
    n_channels : int
        Channels of each field.
    seed : int
        Non-negative.
    confidence : float
        Of the intervals.
    about_axis : bool
        Whether rotations are turns about the Earth's axis, by any angle; else any rotation.

    Examples
    --------
    >>> sampling = Sampling(n_signals=5, n_rotations=5)
    >>> float(sampling.rng(3).random()) == float(sampling.rng(3).random())
    True
    """

    n_signals: int
    n_rotations: int
    n_channels: int = 1
    seed: int = 0
    confidence: float = 0.95
    about_axis: bool = False

    def rng(self, degree: int, purpose: int = 0) -> np.random.Generator:
        """Random numbers that depend on the seed, a degree and a purpose alone.

        Parameters
        ----------
        degree : int
            Degree of the fields.
        purpose : int
            Another number for independent random numbers.

        Returns
        -------
        Generator
            At its start.

        Examples
        --------
        >>> sampling = Sampling(n_signals=1, n_rotations=1)
        >>> float(sampling.rng(3).random()) == float(sampling.rng(3, purpose=1).random())
        False
        """
        return np.random.default_rng((self.seed, degree, purpose))


def schur_ratios(
    apply: Apply, fields: Fields, areas: Floats, degree: int, sampling: Sampling
) -> tuple[Floats, Floats]:
    """Unsquared ratio ``|L f - C f| / |L f|`` of random fields, and the scalar or matrix C.

    Parameters
    ----------
    apply : callable
        The linear operator.
    fields : Fields
        Where fields come from.
    areas : array of float64, shape (n_cells,)
        Weights of the cells in every norm.
    degree : int
        Degree of the fields.
    sampling : Sampling
        How many fields.

    Returns
    -------
    ratios : array of float64, shape (n_signals, 1)
        NaN where the operator maps the degree to zero.
    response : array of float64, shape (n_out_channels, n_channels)
        By least squares over all fields together.

    Examples
    --------
    >>> from xsphere.equivariance.random_fields import fields_on
    >>> from xsphere.grids import HealpixGrid
    >>> grid, sampling = HealpixGrid(2), Sampling(n_signals=2, n_rotations=1)
    >>> ratios, response = schur_ratios(np.negative, fields_on(grid), grid.areas, 3, sampling)
    >>> bool(np.allclose(ratios, 0)), response.round(12)
    (True, array([[-1.]]))
    """
    rng = sampling.rng(degree)
    root = np.sqrt(areas / areas.sum())[:, None]
    given, found = [], []
    for _ in range(sampling.n_signals):
        values = fields.values(fields.drawn(degree, sampling.n_channels, rng))
        given.append(root * values)
        found.append(root * apply(values))
    scalar = np.linalg.lstsq(np.concatenate(given), np.concatenate(found), rcond=None)[0]
    noise = np.linalg.norm(root * apply(rng.standard_normal((areas.size, sampling.n_channels))))
    ratios = [
        _ratio(np.linalg.norm(after - before @ scalar), np.linalg.norm(after), noise)
        for before, after in zip(given, found, strict=True)
    ]
    return np.array(ratios)[:, None], scalar.T


def rotation_ratios(
    apply: Apply, fields: Fields, areas: Floats, degree: int, sampling: Sampling
) -> tuple[Floats, Floats]:
    """Unsquared ratio ``|R L f - L R f| / |L f|``, and what the measure itself adds to it.

    Inputs are rotated exactly. An output on the cells is split into ``C f``, with the C that comes
    nearest to it, whose rotation is ``C R f`` and exact as well; and a remainder, whose values are
    rotated by their spherical-harmonic coefficients up to ``3 nside - 1``, which is not exact near
    that degree; turns about the axis rotate what these miss ring by ring. An output without cells
    is compared as it is.

    Parameters
    ----------
    apply : callable
        The operator.
    fields : Fields
        Where fields come from: `HealpixFields` if outputs have cells.
    areas : array of float64, shape (n_cells,)
        Weights of the cells in every norm.
    degree : int
        Degree of the fields.
    sampling : Sampling
        How many fields and rotations; rotations are drawn from the Haar measure, of all or of
        those about the axis.

    Returns
    -------
    ratios : array of float64, shape (n_signals, n_rotations)
        NaN where the operator maps a field to zero.
    floors : array of float64, shape (n_signals, n_rotations)
        The ratio of the identity operator, its output all rotated as remainders are, times the part
        of the output that is remainder: about what rotating adds to the ratio.

    Examples
    --------
    >>> from xsphere.equivariance.random_fields import fields_on
    >>> from xsphere.grids import HealpixGrid
    >>> grid, sampling = HealpixGrid(2), Sampling(n_signals=1, n_rotations=2)
    >>> ratios, floors = rotation_ratios(np.negative, fields_on(grid), grid.areas, 3, sampling)
    >>> bool(ratios.max() < 1e-12), bool(floors.max() < 1e-12)
    (True, True)
    """
    rng = sampling.rng(degree)
    shape = (sampling.n_signals, sampling.n_rotations)
    ratios, floors = np.empty(shape), np.zeros(shape)
    noise = apply(rng.standard_normal((areas.size, sampling.n_channels)))
    for signal in range(sampling.n_signals):
        drawn = fields.drawn(degree, sampling.n_channels, rng)
        given = fields.values(drawn)
        found = apply(given)
        rotated_output = _output_rotations(fields, given, found, areas, sampling.about_axis)
        for turn, rotation in enumerate(_rotations(sampling, rng)):
            turned = fields.values(fields.rotated(drawn, rotation))
            after, floors[signal, turn] = rotated_output(rotation, turned)
            ratios[signal, turn] = _relative(apply(turned) - after, found, areas, noise)
    return ratios, floors


def check_linear(apply: Apply, fields: Fields, degree: int, sampling: Sampling) -> None:
    """Refuse an operator that is not linear.

    Parameters
    ----------
    apply : callable
        The operator.
    fields : Fields
        Where fields come from.
    degree : int
        Degree of the field on which it is tried, together with noise.
    sampling : Sampling
        Channels and seed.

    Raises
    ------
    ValueError
        If the operator does not map a sum to the sum.

    Examples
    --------
    >>> from xsphere.equivariance.random_fields import fields_on
    >>> from xsphere.grids import HealpixGrid
    >>> sampling = Sampling(n_signals=1, n_rotations=1)
    >>> check_linear(np.negative, fields_on(HealpixGrid(1)), 2, sampling)
    """
    rng = sampling.rng(degree, purpose=1)
    one = fields.values(fields.drawn(degree, sampling.n_channels, rng))
    other = rng.standard_normal(one.shape)
    parts = apply(one), -2.0 * apply(other)
    difference = np.linalg.norm(apply(one - 2.0 * other) - parts[0] - parts[1])
    size = np.linalg.norm(parts[0]) + np.linalg.norm(parts[1])
    if difference > LINEAR * size:
        raise ValueError(
            "operator must be linear for method='schur', got one that maps f - 2 g to something "
            f"else than L f - 2 L g by {difference / size:.1e} of their size (a bias or an "
            "activation does that); use method='rotations'"
        )


def confidence_interval(ratios: Floats, degree: int, sampling: Sampling) -> tuple[float, float]:
    """Interval of the mean of ratios, by the bootstrap over signals and rotations.

    Signals are resampled, and within each of them its rotations.

    Parameters
    ----------
    ratios : array of float64, shape (n_signals, n_rotations)
        Unsquared ratios.
    degree : int
        Seeds the resampling, together with the seed.
    sampling : Sampling
        Seed and confidence.

    Returns
    -------
    low, high : float
        NaN if there is a single ratio.

    Examples
    --------
    >>> sampling = Sampling(n_signals=2, n_rotations=1)
    >>> confidence_interval(np.array([[1.0], [3.0]]), 5, sampling)
    (1.0, 3.0)
    """
    if ratios.size == 1:
        return np.nan, np.nan
    rng = sampling.rng(degree, purpose=2)
    n_signals, n_rotations = ratios.shape
    signals = rng.integers(n_signals, size=(N_RESAMPLED, n_signals, 1))
    turns = rng.integers(n_rotations, size=(N_RESAMPLED, n_signals, n_rotations))
    means = ratios[signals, turns].mean(axis=(1, 2))
    low, high = np.quantile(means, [(1 - sampling.confidence) / 2, (1 + sampling.confidence) / 2])
    return float(low), float(high)


def _rotations(sampling: Sampling, rng: np.random.Generator) -> Iterator[Floats]:
    from scipy.spatial.transform import Rotation

    if sampling.about_axis:
        angles = rng.uniform(0.0, 2 * np.pi, sampling.n_rotations)
        yield from Rotation.from_euler("z", angles[:, None]).as_matrix()
    else:
        yield from Rotation.random(sampling.n_rotations, rng).as_matrix()


def _output_rotations(
    fields: Any, given: Floats, found: Floats, areas: Floats, about_axis: bool
) -> Callable[[Floats, Floats], tuple[Floats, float]]:
    """Function of a rotation and the rotated input: the rotated output, and the floor."""
    if found.ndim < 2:
        return lambda *_: (found, 0.0)
    assert isinstance(fields, HealpixFields)
    root = np.sqrt(areas)[:, None]
    scalar = np.linalg.lstsq(root * given, root * found, rcond=None)[0]
    remainder = found - given @ scalar
    part = _relative(remainder, found, areas, np.zeros_like(found))
    rotate = _turned if about_axis else _rotated
    of_given, of_remainder = rotate(fields, given), rotate(fields, remainder)

    def rotated(rotation: Floats, turned: Floats) -> tuple[Floats, float]:
        identity = of_given(rotation) - turned
        output = turned @ scalar + of_remainder(rotation)
        return output, part * _relative(identity, given, areas, given)

    return rotated


def _turned(fields: HealpixFields, values: Floats) -> Callable[[Floats], Floats]:
    # the short rings at the poles hold few orders: they get only what no coefficient holds
    coefficients = fields.of_values(values)
    rest = values - fields.values(coefficients)

    def turned(rotation: Floats) -> Floats:
        smooth = fields.values(fields.rotated(coefficients, rotation))
        return smooth + fields.turned(rest, rotation)

    return turned


def _rotated(fields: HealpixFields, values: Floats) -> Callable[[Floats], Floats]:
    coefficients = fields.of_values(values)
    return lambda rotation: fields.values(fields.rotated(coefficients, rotation))


def _relative(difference: Floats, found: Floats, areas: Floats, noise: Floats) -> float:
    """Ratio of norms over the cells, if there are cells."""
    root = np.sqrt(areas / areas.sum())[:, None] if found.ndim == 2 else 1.0
    sizes = (float(np.linalg.norm(root * array)) for array in (difference, found, noise))
    return _ratio(*sizes)


def _ratio(difference: Any, size: Any, noise: Any) -> float:
    return float(difference / size) if size > VANISHING * noise else np.nan
