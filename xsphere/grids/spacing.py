"""Where an axis of centres has cells and where it has gaps, from its steps alone."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Coordinates stored as float32 are off by up to 1e-5 degrees.
COORDINATE_TOLERANCE = 1e-4
# A step so many times the usual one near it leaves a gap.
LARGER = 1.5
# So much larger than all that are shorter, it leaves one whatever is near it.
FAR_LARGER = 5.0
# Steps on either side that say what is usual.
NEAR = 2


def gaps_of(steps: Floats, *, circular: bool = False) -> NDArray[np.bool_]:
    """Which steps between neighbouring rows or columns hold no data, rather than larger cells.

    A step is a gap if it is more than 1.5 times the usual one near it: the median of the step
    itself and two on either side (of four on a circle the second). It is one, too, if it and all
    that are longer are more than 5 times the next shorter step (the shortest quarter of the steps
    apart). So spacing that changes by and by, or from one zone to another, has no gaps, and a
    missing row is one.

    Parameters
    ----------
    steps : array of float, shape (n,)
        Distances between neighbours, positive.
    circular : bool
        Whether the last step leads to the first.

    Returns
    -------
    array of bool, shape (n,)
        True for gaps. The shortest step never is one.

    Examples
    --------
    >>> gaps_of(np.array([1.0, 1.0, 30.0, 1.0, 1.1, 1.3])).nonzero()[0]
    array([2])
    """
    if steps.size == 0 or steps.max() <= LARGER * steps.min():
        return np.zeros(steps.size, bool)
    n = steps.size
    beside = np.arange(n)[:, None] + np.arange(-NEAR, NEAR + 1)
    if circular:
        # no step twice
        beside = beside[:, : min(n, 2 * NEAR + 1)] % n
    near = np.where((beside >= 0) & (beside < n), steps[beside % n], np.nan)
    usual = np.nanquantile(near, 0.5, axis=1, method="lower" if circular else "linear")
    ordered = np.sort(steps)[(n - 1) // 4 :]
    jumps = np.flatnonzero(ordered[1:] > FAR_LARGER * ordered[:-1])
    longest = ordered[jumps[0]] if jumps.size else np.inf
    return np.asarray((steps > LARGER * usual) | (steps > longest))


def cell_edges(centres: Floats, *, around: float | None = None) -> Floats:
    """Edges of cells halfway between their centres, but for gaps.

    Parameters
    ----------
    centres : array of float, shape (n,)
        Increasing, two or more.
    around : float, optional
        Length of the circle that they lie on, if they do.

    Returns
    -------
    array of float, shape (n, 2)
        Lower and upper edges. Beside a gap and at the ends, a cell reaches half a step beyond its
        centre: its own on the other side, or the usual one where there is none.

    Examples
    --------
    >>> cell_edges(np.array([0.0, 1.0, 2.0, 10.0, 12.0]))[2:]
    array([[ 1.5,  2.5],
           [ 9. , 11. ],
           [11. , 13. ]])
    """
    steps = np.diff(centres)
    middles = (centres[:-1] + centres[1:]) / 2
    if around is None:
        gaps = np.append(gaps_of(steps), True)
        steps = np.append(steps, np.inf)
        first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    else:
        steps = np.append(steps, around - (centres[-1] - centres[0]))
        gaps = gaps_of(steps, circular=True)
        half_first, half_last = (steps[[-1, -1]] if not gaps[-1] else steps[[0, -2]]) / 2
        first, last = centres[0] - half_first, centres[-1] + half_last
    lower, upper = np.append(first, middles), np.append(middles, last)
    if not gaps[:-1].any():
        return np.stack([lower, upper], -1)
    usual, before, gap_before = np.median(steps[~gaps]), np.roll(steps, 1), np.roll(gaps, 1)
    own = np.where(~gap_before, before, np.where(~gaps, steps, usual))
    lower = np.where(gap_before, centres - np.minimum(own, before) / 2, lower)
    own = np.where(~gaps, steps, np.where(~gap_before, before, usual))
    upper = np.where(gaps, centres + np.minimum(own, steps) / 2, upper)
    return np.stack([lower, upper], -1)


def sharing_edges(
    centres: Floats, bounds: Floats, *, around: float | None = None
) -> NDArray[np.bool_]:
    """Whether cells of an axis and those that follow share an edge.

    Parameters
    ----------
    centres : array of float, shape (n,)
        Increasing or decreasing.
    bounds : array of float, shape (n, 2)
        Lower and upper edges of the cells.
    around : float, optional
        Length of the circle that they lie on, if they do.

    Returns
    -------
    array of bool, shape (n - 1,), or (n,) on a circle
        Edges may differ by rounding, or by a hundredth of a cell.

    Examples
    --------
    >>> sharing_edges(np.array([1.0, 2.0, 9.0]), np.array([[0.5, 1.5], [1.5, 2.5], [8.5, 9.5]]))
    array([ True, False])
    """
    ahead, behind = bounds.T[::-1] if centres[0] <= centres[-1] else bounds.T
    apart, widths = np.roll(behind, -1) - ahead, np.ptp(bounds, axis=-1)
    crack = np.maximum(COORDINATE_TOLERANCE, 0.01 * np.minimum(widths, np.roll(widths, -1)))
    if around is None:
        return np.asarray(np.abs(apart) <= crack)[:-1]
    return np.asarray(np.abs((apart + around / 2) % around - around / 2) <= crack)


def longitude_bounds(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges halfway between columns, none over a gap; a repeated cyclic column gets no width."""
    sign = np.sign(lon[1] - lon[0])
    x = sign * lon
    repeated = abs(x[-1] - x[0] - 360.0) < COORDINATE_TOLERANCE
    x = x[:-1] if repeated else x
    bounds = sign * cell_edges(x, around=360.0)
    if repeated:
        bounds = np.concatenate([bounds, [[bounds[-1, 1]] * 2]])
    return np.sort(bounds, axis=-1)


def _gaussian_bounds(lat: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Cells whose areas are the quadrature weights, if these are Gaussian latitudes."""
    # the first zero of the Bessel function J0 says where the first row is: quickly found out
    first = np.rad2deg(2.404825557695773) / (lat.size + 0.5)
    if abs(90.0 - lat.max() - first) > 0.02 * first:
        return None
    nodes, weights = np.polynomial.legendre.leggauss(lat.size)
    if lat.size < 2 or np.abs(np.rad2deg(np.arcsin(nodes)) - np.sort(lat)).max() > 1e-3:
        return None
    sines = np.concatenate([[-1.0], -1.0 + np.cumsum(weights)[:-1], [1.0]])
    edges = np.rad2deg(np.arcsin(sines))
    bounds = np.stack([edges[:-1], edges[1:]], -1)
    return bounds if lat[0] < lat[-1] else bounds[::-1]


def is_gaussian(lat: NDArray[np.float64]) -> bool:
    """Whether latitudes are the nodes of a Gaussian quadrature."""
    return _gaussian_bounds(lat) is not None


def latitude_bounds(lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges halfway between rows, clipped at the poles; the quadrature's own for Gaussian rows."""
    gaussian = _gaussian_bounds(lat)
    if gaussian is not None:
        return gaussian
    sign = np.sign(lat[1] - lat[0])
    return np.sort(sign * _at_most_pole(cell_edges(sign * lat)), axis=-1)


def _at_most_pole(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    # half a float32 rounding short of the pole is the pole
    near = np.abs(np.abs(edges) - 90.0) < COORDINATE_TOLERANCE
    return np.where(near, np.sign(edges) * 90.0, edges).clip(-90.0, 90.0)


def bounds_beside(
    name: str, centre: float, other: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Edges of a single row or column: as wide in degrees as the cells are the other way."""
    if other is None:
        raise ValueError(
            "a single row and a single column do not tell the size of their cell; give lon_bounds "
            "and lat_bounds (a Dataset holds them as CF bounds), or more rows or columns"
        )
    widths = np.ptp(other, axis=-1)
    half = float(np.median(widths[widths > 0])) / 2
    edges = centre + np.array([[-half, half]])
    return edges if name == "lon" else _at_most_pole(edges)
