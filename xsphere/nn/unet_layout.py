"""Sizes of U-Nets: the published layout, a small one, and any in between."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from xsphere.nn.pooling import Pooling
from xsphere.notices import shortened

MAX_LAYERS = 24
MAX_FEATURES = 4096
MAX_KERNEL_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class UNetLayout:
    """Sizes of a `SphereUNet`.

    Parameters
    ----------
    features : tuple of int
        Output channels of the encoder's convolutions; the decoder mirrors them.
    depths : tuple of int
        How many levels below the input each of them works: starts at 0, grows by 0 or 1.
    kernel_size : int
        Polynomial terms of all convolutions but the last, which has one. Directional convolutions
        have six.
    pooling : {"mean", "max"}
        What a coarse cell keeps of its fine ones: on nested HEALPix a parent of its four children,
        elsewhere as `xsphere.nn.WeightedPool` says.
    directional : bool
        Whether convolutions tell east from north (`xsphere.nn.DirectionalConv`): they learn what
        turns with the wind, and no longer commute with other rotations than those about the axis.

    Raises
    ------
    ValueError
        If sizes are absurd or do not fit together; everything wrong is named.

    Examples
    --------
    >>> UNetLayout(features=(8, 16), depths=(0, 1)).n_levels
    2
    """

    features: tuple[int, ...]
    depths: tuple[int, ...]
    kernel_size: int = 4
    pooling: Pooling = "mean"
    directional: bool = False

    def __post_init__(self) -> None:
        for name in ("features", "depths"):
            sizes = getattr(self, name)
            if not isinstance(sizes, list | tuple | range):
                raise TypeError(f"{name} must be a list of integers, got {shortened(sizes)}")
            object.__setattr__(self, name, tuple(sizes))
        problems = self._problems()
        if problems:
            raise ValueError("unusable U-Net layout: " + "; ".join(problems))

    def _problems(self) -> list[str]:
        problems = []
        features, depths = self.features, self.depths
        if not 1 <= len(features) <= MAX_LAYERS or not all(
            type(size) is int and 1 <= size <= MAX_FEATURES for size in features
        ):
            problems.append(
                f"features must be 1 to {MAX_LAYERS} integers from 1 to {MAX_FEATURES}, "
                f"got {shortened(features)}"
            )
        if len(depths) != len(features):
            problems.append(
                f"depths must be as many as features, got {len(depths)} and {len(features)}"
            )
        elif not (
            all(type(depth) is int for depth in depths)
            and depths[:1] == (0,)
            and all(b - a in (0, 1) for a, b in pairwise(depths))
        ):
            problems.append(f"depths must start at 0 and grow by 0 or 1, got {shortened(depths)}")
        if type(self.kernel_size) is not int or not 1 <= self.kernel_size <= MAX_KERNEL_SIZE:
            problems.append(
                f"kernel_size must be from 1 to {MAX_KERNEL_SIZE}, "
                f"got {shortened(self.kernel_size)}"
            )
        if self.pooling not in ("max", "mean"):
            problems.append(f"pooling must be 'max' or 'mean', got {shortened(self.pooling)}")
        if type(self.directional) is not bool:
            problems.append(f"directional must be True or False, got {shortened(self.directional)}")
        return problems

    @property
    def n_levels(self) -> int:
        """Refinement levels in use, the finest included."""
        return self.depths[-1] + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model file."""
        return asdict(self)


PRESETS = {
    # Defferrard et al. (2020): the network behind table 3 of the paper
    "deepsphere": UNetLayout(
        features=(32, 64, 128, 256, 512, 512, 512), depths=(0, 0, 1, 2, 3, 4, 5)
    ),
    "small": UNetLayout(features=(32, 32, 64, 96, 128), depths=(0, 0, 1, 2, 3)),
}


def normalize_layout(layout: UNetLayout | str) -> UNetLayout:
    """Layout given as itself or by the name of a preset.

    Parameters
    ----------
    layout : UNetLayout or {"deepsphere", "small"}
        A layout or a preset's name.

    Returns
    -------
    UNetLayout
        The layout.

    Raises
    ------
    ValueError
        If no preset has that name.

    Examples
    --------
    >>> normalize_layout("small").n_levels
    4
    """
    if isinstance(layout, UNetLayout):
        return layout
    if layout not in PRESETS:
        raise ValueError(f"unknown U-Net layout {layout!r}; presets are {sorted(PRESETS)}")
    return PRESETS[layout]
