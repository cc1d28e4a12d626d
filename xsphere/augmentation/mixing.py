"""Parts of maps put into others."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from xsphere.augmentation.base import (
    Array,
    Augmentation,
    Range,
    check_numbers,
    check_ranges,
    grid_of,
    mean_targets,
)
from xsphere.grids import EARTH_RADIUS_KM
from xsphere.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class CutMix(Augmentation):
    """A cap of a map replaced by the same place of another sample of the batch, labels and all.

    Parameters
    ----------
    radius : (float, float)
        Smallest and largest radius in kilometres, drawn evenly; the place is any.
    rim : float
        Kilometres inside the edge over which one map goes over into the other, so that the edge is
        no front; labels are shares there.
    probability : float
        Share of the samples.

    Raises
    ------
    AugmentationError
        If numbers are out of range.

    References
    ----------
    .. [1] Yun et al. (2019), https://arxiv.org/abs/1905.04899

    Examples
    --------
    >>> CutMix(radius=(2000.0, 3000.0)).rim
    500.0
    """

    radius: Range = (1500.0, 5000.0)
    rim: float = 500.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, least=0.0, radius=self.radius)
        check_numbers(self, low=0.0, high=20_000.0, rim=self.rim)
        check_numbers(self, low=0.0, high=1.0, probability=self.probability)

    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """See `Augmentation`."""
        n_samples, changed, labels = len(fields), fields.copy(), targets.copy()
        centres = grid_of(spec.level).centres
        for index in range(n_samples):
            chance, radius = generator.random(), generator.uniform(*self.radius)
            other = (index + generator.integers(1, max(n_samples, 2))) % n_samples
            place = generator.normal(size=3)
            if other == index or chance >= self.probability:
                continue
            place /= np.linalg.norm(place)
            distance = EARTH_RADIUS_KM * np.arccos((centres @ place).clip(-1, 1))
            share = ((radius - distance) / max(self.rim, 1e-9)).clip(0, 1).astype(np.float32)
            inside = np.flatnonzero(share)
            weight, n = share[inside], len(inside)
            own, its = fields[index, inside], fields[other, inside]
            mixed = (1 - weight)[:, None] * own + weight[:, None] * its
            # what has no part in it may be missing
            changed[index, inside] = np.where((weight == 1)[:, None], its, mixed)
            both = sparse.hstack([sparse.diags_array(1 - weight), sparse.diags_array(weight)])
            stacked = np.concatenate([targets[index, inside], targets[other, inside]])
            labels[index, inside] = mean_targets(stacked, both.tocsr()) if n else stacked[:0]
        return changed, labels
