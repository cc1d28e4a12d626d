"""What augmentations have in common, and how several are applied one after the other."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import HealpixGrid
from xsphere.model import ModelSpec
from xsphere.notices import shortened
from xsphere.weights.vectors import local_frame

Array = NDArray[np.float32]
Range = tuple[float, float]


@lru_cache(maxsize=8)
def grid_of(level: int) -> HealpixGrid:
    """The nested grid of a level, with its centres, once per process."""
    return HealpixGrid(level)


class AugmentationError(ValueError):
    """An augmentation with values out of range, or that a model cannot have.

    Examples
    --------
    >>> from xsphere.augmentation import Zoom
    >>> Zoom(factor=(0.0, 1.0))
    Traceback (most recent call last):
    ...
    xsphere.augmentation.base.AugmentationError: Zoom: factor must be ...
    """


class Augmentation(ABC):
    """A random change of maps: a frozen dataclass that is called with fields and targets.

    Examples
    --------
    >>> from xsphere.augmentation import Turn
    >>> from xsphere.model.network import example_spec
    >>> spec = example_spec()
    >>> n_cells, n_classes = 12 * 4**spec.level, len(spec.classes) + 1
    >>> fields = np.ones((2, n_cells, len(spec.variables)), np.float32)
    >>> targets = np.full((2, n_cells, n_classes), 1 / n_classes, np.float32)
    >>> fields, targets = Turn()(fields, targets, np.random.default_rng(0), spec)
    >>> fields.shape == (2, n_cells, len(spec.variables))
    True
    """

    @abstractmethod
    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """Changed copies of some samples.

        Parameters
        ----------
        fields : array of float32, shape (n, n_cells, n_variables)
            Variables of the model in its units, on its grid; NaN where nothing is known.
        targets : array of float32, shape (n, n_cells, 1 + n_classes)
            Probabilities, background first; all zero or NaN where nothing is known.
        generator : Generator
            Source of chance: the same for the same seed.
        spec : ModelSpec
            Says what grid, variables and classes these are.

        Returns
        -------
        fields, targets : arrays of float32
            Of the same shapes.
        """

    def problems(self, spec: ModelSpec) -> list[str]:  # noqa: ARG002
        """Why a model of some specification cannot have this; empty if it can."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Its name and plain values for JSON, for the record of a training."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload]
        return {"name": type(self).__name__} | values


def checked(augment: Any, spec: ModelSpec) -> tuple[Augmentation, ...]:
    """The same as a tuple, all refused together if the model cannot have some of them."""
    if isinstance(augment, Augmentation) or not isinstance(augment, Sequence):
        raise TypeError(f"augment must be a list of augmentations, got {shortened(augment)}")
    others = [entry for entry in augment if not isinstance(entry, Augmentation)]
    if others:
        raise TypeError(
            f"augment must hold augmentations such as xsphere.augmentation.Turn(), got "
            f"{shortened(others)}"
        )
    problems = [
        f"{type(entry).__name__}: {problem}"
        for entry in augment
        for problem in entry.problems(spec)
    ]
    if problems:
        raise AugmentationError("; ".join(problems))
    return tuple(augment)


def augmented(
    augment: Sequence[Augmentation],
    fields: Array,
    targets: Array,
    generator: np.random.Generator,
    spec: ModelSpec,
) -> tuple[Array, Array]:
    """Samples changed by several augmentations, in their order.

    Moves that follow each other are made as one, so that maps are interpolated once.

    Parameters
    ----------
    augment : sequence of Augmentation
        What to do.
    fields, targets, generator, spec
        As for `Augmentation`.

    Returns
    -------
    fields, targets : arrays of float32
        Of the same shapes; those given are left as they were.

    Raises
    ------
    AugmentationError
        If the model cannot have some of them.

    Examples
    --------
    >>> from xsphere.augmentation import Mirror, Turn
    >>> from xsphere.model.network import example_spec
    >>> spec = example_spec()
    >>> maps = np.ones((1, 768, len(spec.variables)), np.float32)
    >>> targets = np.ones((1, 768, len(spec.classes) + 1), np.float32)
    >>> maps, _ = augmented([Turn(), Mirror()], maps, targets, np.random.default_rng(0), spec)
    >>> bool(np.allclose(maps, 1))
    True
    """
    from xsphere.augmentation.moves import Move, moved

    for is_move, group in groupby(
        checked(augment, spec), key=lambda entry: isinstance(entry, Move)
    ):
        together = list(group)
        if is_move:
            fields, targets = moved(together, fields, targets, generator, spec)  # type: ignore[arg-type]
            continue
        for entry in together:
            fields, targets = entry(fields, targets, generator, spec)
    return fields, targets


def check_ranges(augmentation: Any, *, least: float, **ranges: Range) -> None:
    """Refuse ranges that are not two rising numbers, from a least one on."""
    wrong = [
        f"{name} must be the lowest and the highest value, finite and from {least:g} on, got "
        f"{shortened(value)}"
        for name, value in ranges.items()
        if not (_are_two_numbers(value) and least <= value[0] <= value[1] < np.inf)
    ]
    if wrong:
        raise AugmentationError(f"{type(augmentation).__name__}: " + "; ".join(wrong))


def check_numbers(augmentation: Any, *, low: float, high: float, **numbers: Any) -> None:
    """Refuse numbers that are not between two others."""
    wrong = [
        f"{name} must be a number from {low:g} to {high:g}, got {shortened(value)}"
        for name, value in numbers.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high
    ]
    if wrong:
        raise AugmentationError(f"{type(augmentation).__name__}: " + "; ".join(wrong))


def _are_two_numbers(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(end, int | float) and not isinstance(end, bool) for end in value)
    )


def in_space(fields: Array, spec: ModelSpec) -> Array:
    """Fields of a map, shape (n_cells, n), with three Cartesian components of each vector added.

    Next to a pole, east is another direction in every cell: in space it is not.
    """
    frame = local_frame(grid_of(spec.level), np.dtype(np.float32))
    added = [
        fields[:, [east]] * frame[0].T + fields[:, [north]] * frame[1].T
        for east, north in spec.vectors
    ]
    return np.concatenate([fields, *added], axis=-1)


def from_space(values: Array, spec: ModelSpec, east: Array, north: Array) -> Array:
    """Fields of which `in_space` made `values`; components along directions, (n_cells, 3)."""
    n_fields = len(spec.variables)
    fields = values[:, :n_fields].copy()
    for index, (u, v) in enumerate(spec.vectors):
        vector = values[:, n_fields + 3 * index : n_fields + 3 * index + 3]
        fields[:, u], fields[:, v] = (vector * east).sum(-1), (vector * north).sum(-1)
    return fields


def mean_targets(targets: Array, weights: sparse.csr_array) -> Array:
    """Means of what is known of the targets; unknown as before where less than half of it is.

    Parameters
    ----------
    targets : array of float32, shape (n, 1 + n_classes)
        All zero, or NaN, where nothing is known.
    weights : sparse array, shape (n_cells, n)
        Rows sum to 1.
    """
    known = np.nan_to_num(targets).sum(-1) > 0
    unknown = np.float32(np.nan if np.isnan(targets[~known]).any() else 0.0)
    share = weights @ known.astype(np.float32)
    sums = weights @ np.where(known[:, None], targets, np.float32(0.0))
    enough = share >= 0.5
    found = np.full(sums.shape, unknown, np.float32)
    # shares of 1 leave every bit
    found[enough] = sums[enough] / np.where(share > 1 - 1e-6, 1.0, share)[enough, None]
    return found


def within_ranges(fields: Array, spec: ModelSpec) -> Array:
    """Fields, changed in place, no further than the valid ranges of the model's variables."""
    for index, variable in enumerate(spec.variables):
        if variable.valid_range is not None:
            np.clip(fields[..., index], *variable.valid_range, out=fields[..., index])
    return fields
