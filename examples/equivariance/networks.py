"""How equivariant whole networks are on Gaussian and on consistent graphs, with random weights.

``python examples/equivariance/networks.py`` measures U-Nets and networks without pooling on
HEALPix level 4, by rotations. It takes about a minute.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from xsphere import HealpixGrid
from xsphere.equivariance import EquivarianceError, equivariance_error
from xsphere.nn import SphereUNet, UNetLayout

LAYOUTS = {
    "one convolution": UNetLayout(features=(8,), depths=(0,)),
    "three convolutions": UNetLayout(features=(16, 16, 16), depths=(0, 0, 0)),
    "two levels": UNetLayout(features=(16, 16, 16), depths=(0, 0, 1)),
    "four levels": UNetLayout(features=(16, 16, 32, 32, 32), depths=(0, 0, 1, 2, 3)),
}
GRAPHS = [(weights, k) for k in (8, 20) for weights in ("gaussian", "consistent")]
# At level 4; in proportion at others.
DEGREES = np.array([2, 5, 10, 20, 30])
CHANNELS = 2
Values = NDArray[np.float64]


def degrees_at(level: int) -> NDArray[np.int64]:
    """Degrees that cells of a level resolve as those of level 4 do theirs."""
    return np.unique(np.maximum(DEGREES * 2.0 ** (level - 4), 1).astype(int))


def varying_output(network: SphereUNet) -> Callable[[Values], Values]:
    """The network without the mean of its output, which no rotation changes."""

    def apply(values: Values) -> Values:
        with torch.no_grad():
            found = network(torch.tensor(values, dtype=torch.float32)[None])[0].double().numpy()
        return np.asarray(found - found.mean(axis=0))

    return apply


def network_error(
    layout: UNetLayout, weights: str, k: int, level: int, seed: int
) -> EquivarianceError:
    """Errors of one random network; the parameters are the same on all graphs."""
    torch.manual_seed(seed)
    grids = [HealpixGrid(level - depth) for depth in range(layout.n_levels)]
    network = SphereUNet.on_grids(CHANNELS, 3, grids, layout, k=k, weights=weights).eval()
    return equivariance_error(
        varying_output(network),
        grids[0],
        degrees_at(level),
        method="rotations",
        n_channels=CHANNELS,
        n_signals=2,
        n_rotations=2,
        seed=seed,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=int, default=4)
    parser.add_argument("--networks", type=int, default=5, help="random networks of each kind")
    arguments = parser.parse_args()
    degrees = degrees_at(arguments.level)
    columns = " | ".join(f"l={degree}" for degree in degrees)
    print(f"| network | graph | {columns} | mean | (std of networks) |")
    print("|---" * (degrees.size + 4) + "|")
    for name, layout in LAYOUTS.items():
        for weights, k in GRAPHS:
            errors = np.array(
                [
                    network_error(layout, weights, k, arguments.level, seed).error
                    for seed in range(arguments.networks)
                ]
            )
            shown = " | ".join(f"{error:.3f}" for error in errors.mean(axis=0))
            means = errors.mean(axis=1)
            print(
                f"| {name} | {weights} k={k} | {shown} | {means.mean():.3f} | {means.std():.3f} |"
            )


if __name__ == "__main__":
    main()
