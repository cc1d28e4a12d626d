"""What the eigenvalues of a graph's Laplacian mean: the degree of the harmonics they stand for.

The Laplacian of the sphere has the eigenvalue l (l + 1) on every harmonic of degree l. That of a
graph has another scale and bends away at high degrees. Its response, measured on its own rows, is
what turns a function of l (l + 1) into the function of its eigenvalues that does the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from xsphere.grids import Grid

MAX_ROWS = 1024
MAX_DEGREES = 40
# Of the polynomial that straightens the response, found by trial on all kinds of graphs.
N_POWERS = 8


@dataclass(frozen=True)
class SpectralResponse:
    """The map from eigenvalues of a graph's Laplacian to those of the sphere, l (l + 1).

    Parameters
    ----------
    coefficients : tuple of float
        Of the powers of ``x / (x + bend)`` in the ratio of the two eigenvalues.
    bend : float
        Eigenvalue of the graph at the highest degree that it resolves.

    Examples
    --------
    A Laplacian of half the scale of the sphere's:

    >>> SpectralResponse((2.0,), bend=100.0)(np.array([1.0, 3.0]))
    array([2., 6.])
    """

    coefficients: tuple[float, ...]
    bend: float

    def __call__(self, eigenvalues: ArrayLike) -> NDArray[np.float64]:
        """Values of l (l + 1), per square radian, for eigenvalues of the graph."""
        found = np.asarray(eigenvalues, np.float64)
        ratio = np.polynomial.polynomial.polyval(
            found / (found + self.bend), np.array(self.coefficients)
        )
        return np.asarray(found * np.maximum(ratio, 0.0))


def degree_response(
    laplacian: sparse.csr_array, grid: Grid, degrees: ArrayLike
) -> NDArray[np.float64]:
    """What a Laplacian multiplies spherical harmonics of each degree by, on average.

    By the addition theorem the mean over random fields of degree l of ``f_i (L f)_i / f_i**2`` is
    ``sum_j L_ij P_l(cos angle_ij)``, P_l the Legendre polynomial: no field is drawn. It is averaged
    over cells by their area, of up to 1024 rows spread over the grid.

    Parameters
    ----------
    laplacian : sparse array of float, shape (n_cells, n_cells)
        (target, source).
    grid : Grid
        Its cells.
    degrees : array_like of int, shape (n,)
        Degrees l.

    Returns
    -------
    array of float64, shape (n,)
        ``l (l + 1)`` for the Laplacian of the sphere.

    Examples
    --------
    >>> from xsphere.graph import SphereGraph
    >>> from xsphere.grids import HealpixGrid
    >>> graph = SphereGraph(HealpixGrid(4), k=20, weights="gaussian")
    >>> one, two = degree_response(graph.laplacian, graph.grid, [1, 2])
    >>> bool(2.9 < two / one < 3.0)
    True
    """
    from scipy.special import eval_legendre

    rows = _spread(grid.n_cells)
    part = laplacian[rows].tocoo()
    away = grid.centres[part.col] - grid.centres[rows[part.row]]
    cosines = 1.0 - 0.5 * (away**2).sum(axis=-1)
    areas = grid.areas[rows]
    weights = part.data * (areas / areas.sum())[part.row]
    # less one, which rows that sum to zero do not see, so that nothing is lost to rounding
    sums = [(weights * (eval_legendre(l, cosines) - 1.0)).sum() for l in np.asarray(degrees)]  # noqa: E741
    return np.array(sums)


def spectral_response(
    laplacian: sparse.csr_array, grid: Grid, lambda_max: float
) -> SpectralResponse:
    """The map that turns eigenvalues of a Laplacian into l (l + 1), as a smooth function.

    Fitted to `degree_response` up to the degree that cells resolve, ``sqrt(3 n_cells) / 2`` (which
    is ``3 nside`` on HEALPix), or to where the response stops growing; beyond, eigenvalues keep
    the ratio that they have there.

    Parameters
    ----------
    laplacian : sparse array of float, shape (n_cells, n_cells)
        (target, source); rows sum to 0.
    grid : Grid
        Its cells.
    lambda_max : float
        Bound of the spectrum.

    Returns
    -------
    SpectralResponse
        Smooth, so that it costs few Chebyshev terms. Harmonics of one degree spread over several
        eigenvalues of a graph: the map is right for their mean.

    Raises
    ------
    ValueError
        If the response to degree 1 is not positive.

    Examples
    --------
    >>> from xsphere.graph import SphereGraph
    >>> from xsphere.grids import HealpixGrid
    >>> graph = SphereGraph(HealpixGrid(4), k=20, weights="gaussian")
    >>> response = spectral_response(graph.laplacian, graph.grid, graph.lambda_max)
    >>> response(degree_response(graph.laplacian, graph.grid, [3])).round(1)
    array([12.])
    """
    degrees = _degrees(grid.n_cells)
    found = degree_response(laplacian, grid, degrees)
    if not found[0] > 0:
        raise ValueError(
            f"the Laplacian must have a positive response to degree 1, got {found[0]:.3g}: it is "
            "no Laplacian of these cells"
        )
    growing = int(np.argmin(np.append(np.diff(found) > 0, False))) + 1
    degrees, found = degrees[:growing], found[:growing]
    ratio, bend = degrees * (degrees + 1.0) / found, float(found[-1])
    beyond = np.geomspace(bend, max(1.001 * bend, lambda_max), 8)[1:]
    points = np.concatenate([found, beyond])
    wanted = np.concatenate([ratio, np.full(beyond.size, ratio[-1])])
    powers = np.polynomial.polynomial.polyvander(
        points / (points + bend), min(N_POWERS, growing - 1)
    )
    # low degrees before high ones, where one degree has many eigenvalues, or nothing was measured
    importance = np.append(1.02 - (degrees / degrees[-1]) ** 2, np.full(beyond.size, 0.02)) / wanted
    fit, *_ = np.linalg.lstsq(powers * importance[:, None], wanted * importance, rcond=None)
    return SpectralResponse(tuple(fit.tolist()), bend)


def _degrees(n_cells: int) -> NDArray[np.int64]:
    """Degrees from 1 to the last that cells resolve, denser where they are low."""
    last = max(2, int(np.sqrt(0.75 * n_cells)) - 1)
    return np.unique(np.geomspace(1, last, MAX_DEGREES).round().astype(np.int64))


def _spread(n_cells: int) -> NDArray[np.int64]:
    """Up to `MAX_ROWS` cells, as evenly and as unlike a lattice as the golden ratio has it."""
    if n_cells <= MAX_ROWS:
        return np.arange(n_cells)
    turns = (np.arange(MAX_ROWS) * ((np.sqrt(5) - 1) / 2)) % 1.0
    return np.unique((turns * n_cells).astype(np.int64))
