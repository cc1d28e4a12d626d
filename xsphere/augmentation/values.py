"""Values of maps changed where they are: stronger, noisier, smoother; labels stay."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xsphere.augmentation.base import (
    Array,
    Augmentation,
    AugmentationError,
    Range,
    check_ranges,
    from_space,
    grid_of,
    in_space,
    within_ranges,
)
from xsphere.conventions import describe_healpix
from xsphere.filtering import filter as filtered
from xsphere.model import ModelSpec
from xsphere.notices import shortened
from xsphere.weights.vectors import local_frame


@dataclass(frozen=True, kw_only=True)
class Amplify(Augmentation):
    """Departures from the mean of each parallel, of all fields alike, times a factor.

    Parameters
    ----------
    factor : (float, float)
        Smallest and largest factor, drawn evenly for each sample.

    Raises
    ------
    AugmentationError
        If the factors are negative or do not rise.

    Notes
    -----
    Values go no further than the valid ranges of the model's variables.

    Examples
    --------
    >>> Amplify(factor=(1.0, 1.5)).to_dict()
    {'name': 'Amplify', 'factor': [1.0, 1.5]}
    """

    factor: Range = (0.75, 1.35)

    def __post_init__(self) -> None:
        check_ranges(self, least=0.0, factor=self.factor)

    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """See `Augmentation`."""
        factors = generator.uniform(*self.factor, len(fields)).astype(np.float32)
        # cells of a ring share their latitude
        sines = grid_of(spec.level).centres[:, 2].round(9)
        _, ring = np.unique(sines, return_inverse=True)
        background = np.empty_like(fields)
        for sample, variable in np.ndindex(len(fields), fields.shape[-1]):
            values = fields[sample, :, variable]
            valid = np.isfinite(values)
            sums = np.bincount(ring, np.where(valid, values, 0.0))
            counts = np.maximum(np.bincount(ring, valid), 1)
            background[sample, :, variable] = (sums / counts)[ring]
        changed = background + factors[:, None, None] * (fields - background)
        return within_ranges(changed, spec), targets.copy()


@dataclass(frozen=True, kw_only=True)
class Noise(Augmentation):
    """Normal noise in every cell, as large as a share of the field's spread over the map.

    Parameters
    ----------
    share : (float, float)
        Smallest and largest standard deviation, by that of the field; drawn evenly for each
        sample.

    Raises
    ------
    AugmentationError
        If the shares are negative or do not rise.

    Notes
    -----
    Values go no further than the valid ranges of the model's variables.

    Examples
    --------
    >>> Noise(share=(0.0, 0.05)).share
    (0.0, 0.05)
    """

    share: Range = (0.0, 0.1)

    def __post_init__(self) -> None:
        check_ranges(self, least=0.0, share=self.share)

    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """See `Augmentation`."""
        shares = generator.uniform(*self.share, len(fields)).astype(np.float32)
        valid = np.isfinite(fields)
        spread = np.std(fields, axis=1, keepdims=True, where=valid, mean=_means(fields, valid))
        noise = generator.standard_normal(fields.shape, dtype=np.float32)
        changed = fields + shares[:, None, None] * np.nan_to_num(spread) * noise
        return within_ranges(changed, spec), targets.copy()


def _means(fields: Array, valid: np.ndarray) -> Array:
    counts = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    means: Array = np.sum(fields, axis=1, keepdims=True, where=valid) / counts
    return means.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Smooth(Augmentation):
    """Fields as a coarser model has them: by a Gaussian on the sphere (`xsphere.filter`, "heat").

    Vectors are smoothed in space, which is right at the poles. What is missing stays so, and is
    left out of the means around it.

    Parameters
    ----------
    scales : tuple of float
        Standard deviations in kilometres, 0 for none; one is drawn for each sample.

    Raises
    ------
    AugmentationError
        If there is none, or one is negative.

    Examples
    --------
    >>> Smooth(scales=(0.0, 200.0)).scales
    (0.0, 200.0)
    """

    scales: tuple[float, ...] = (0.0, 100.0, 200.0)

    def __post_init__(self) -> None:
        if not self.scales or not all(0 <= scale < np.inf for scale in self.scales):
            raise AugmentationError(
                "Smooth: scales must be some kilometres, each 0 or more, got "
                f"{shortened(self.scales)}"
            )

    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """See `Augmentation`."""
        grid = grid_of(spec.level)
        east, north = np.moveaxis(local_frame(grid, np.dtype(np.float32)), 1, 2)
        changed = fields.copy()
        drawn = generator.choice(self.scales, len(fields))
        for index in np.flatnonzero(drawn):
            values = xr.DataArray(in_space(fields[index], spec).T, dims=("field", "cells"))
            smooth = filtered(
                describe_healpix(values, grid),
                "heat",
                scale=float(drawn[index]),
                missing="renormalize",
                min_valid_fraction=0.0,
            )
            changed[index] = from_space(smooth.values.T, spec, east, north)
        changed[np.isnan(fields)] = np.nan
        return changed, targets.copy()
