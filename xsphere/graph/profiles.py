"""What rows of a consistent Laplacian are fitted to: a response and a weight for every degree.

Both are functions of ``x = sqrt(l (l + 1) A)`` alone, with l the degree and A the area of a cell,
found once for some numbers of neighbours by ``training/consistent_profiles.py``.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

Floats = NDArray[np.float64]
N_PIECES, N_COEFFICIENTS = 64, 10
# more degrees than this would take minutes; cells of 10 m on the Earth need as many
MOST_DEGREES = 1 << 21
# of a number that something is divided by
SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Targets of a fit by degree: of the eigenvalue ``l (l + 1)`` as much as a stencil resolves.

    Parameters
    ----------
    x : array of float64, shape (n_knots,)
        ``sqrt(l (l + 1) A)``, increasing from 0.
    log_weights : array of float64, shape (n_knots,)
        Logarithm of the weight of the relative error.
    response : array of float64, shape (n_knots,)
        Target eigenvalue over ``l (l + 1)``: 1 at 0, falling.

    Examples
    --------
    >>> float(profile_for(8).response[0])
    1.0
    """

    x: Floats
    log_weights: Floats
    response: Floats

    def at_degrees(self, area: float, kernel_width: float | None = None) -> tuple[Floats, Floats]:
        """Weights a_l of squared errors and targets c_l, for l = 1, 2, ... of cells of an area.

        With a kernel width, the targets are those of the heat kernel of half that width at half
        its height: ``(1 - exp(-t l (l + 1))) / t`` with ``t = kernel_width**2 / (4 ln 2)``.
        """
        n_degrees = int(np.sqrt(self.x[-1] ** 2 / area + 0.25) - 0.5)
        degrees = np.arange(1.0, min(max(n_degrees, 3), MOST_DEGREES) + 1)
        eigenvalues = degrees * (degrees + 1)
        x = np.sqrt(eigenvalues * area).clip(max=self.x[-1])
        if kernel_width is None:
            targets = eigenvalues * np.interp(x, self.x, self.response)
        else:
            decay = np.maximum(kernel_width**2 / (4 * np.log(2)) * eigenvalues, SMALLEST)
            targets = eigenvalues * (-np.expm1(-decay) / decay)
        return np.exp(np.interp(x, self.x, self.log_weights)) / targets**2, targets


def profile_for(k: int) -> Profile:
    """The profile of stencils of `k` neighbours, between those that were searched for."""
    known = _searched()
    ks = sorted(known)
    at = float(np.clip(k, ks[0], ks[-1]))
    above = next(i for i, one in enumerate(ks) if one >= at)
    below = max(above - 1, 0)
    one, other = known[ks[below]], known[ks[above]]
    part = 0.0 if below == above else np.log(at / ks[below]) / np.log(ks[above] / ks[below])
    return Profile(
        x=one.x,
        log_weights=(1 - part) * one.log_weights + part * other.log_weights,
        response=(1 - part) * one.response + part * other.response,
    )


@cache
def profiles_digest() -> str:
    """SHA-256 of the profiles, a part of what a consistent graph depends on."""
    return hashlib.sha256(_file().encode()).hexdigest()


def _file() -> str:
    return (resources.files("xsphere") / "data" / "graph" / "consistent.json").read_text()


@cache
def _searched() -> dict[int, Profile]:
    content = json.loads(_file())
    x = np.array(content["x"])
    return {
        entry["k"]: Profile(
            x=x,
            log_weights=np.array(entry["log_weights"]),
            response=np.array(entry["response"]),
        )
        for entry in content["profiles"]
    }


def kernel_pieces(weights: Floats, largest: float, n_pieces: int = N_PIECES) -> Floats:
    """Polynomials of the squared distance s that give ``sum_l weights_l (1 - P_l) / s``.

    For l = 1, 2, ..., P_l the Legendre polynomials of the cosine of the angle, on equal pieces of
    [0, largest], each in the variable that goes from -1 to 1; shape (n_pieces, degree + 1).
    """
    nodes = chebyshev.chebpts1(N_COEFFICIENTS)
    squares = (np.arange(n_pieces)[:, None] + (nodes + 1) / 2) * (largest / n_pieces)
    values = legendre_deficits(weights, squares.ravel()).reshape(squares.shape)
    to_powers = np.linalg.inv(np.vander(nodes, increasing=True))
    return np.ascontiguousarray(values @ to_powers.T)


def legendre_deficits(weights: Floats, squares: Floats) -> Floats:
    """``sum_l weights_l (1 - P_l) / s`` at squared chord lengths s, for l = 1, 2, ..."""
    cosines = 1 - squares / 2
    # (1 - P_l) / (1 - x): the recursion of P_l with the 1 taken off, so that no digits are lost
    before, now = np.zeros_like(squares), np.ones_like(squares)
    total = np.zeros_like(squares)
    for degree, weight in enumerate(weights, 1):
        total += weight * now
        following = (2 * degree + 1) * (cosines * now + 1) - degree * before
        before, now = now, following / (degree + 1)
    return total / 2
