"""Places of named samplings of the sphere.

Plain arrays in, plain arrays out: `PointGrid` and `LatLonGrid` make grids of them by classmethods.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids.grid import vectors_to_lonlat
from xsphere.notices import shortened

Floats = NDArray[np.float64]
Places = tuple[Floats, Floats]

# Degrees between neighbours of the lattice: the golden part of a turn.
GOLDEN_ANGLE = 180.0 * (3.0 - np.sqrt(5.0))
MAX_ICOSAHEDRAL_LEVEL = 12


def whole_number(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """An integer as given, once it is one and within its range.

    Parameters
    ----------
    name : str
        What the user calls it.
    value : int
        What came.
    lowest, highest : int
        Its range, both included; no upper end if None.

    Returns
    -------
    int
        The value.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is out of range.

    Examples
    --------
    >>> whole_number("level", 3, 0)
    3
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {shortened(value)}")
    if value < lowest or (highest is not None and value > highest):
        within = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise ValueError(f"{name} must be {within}, got {value}")
    return int(value)


def icosahedral_vertices(level: int) -> Floats:
    """Vertices of an icosahedron whose triangles were divided in four, `level` times.

    Parameters
    ----------
    level : int
        Number of divisions, from 0 to 12.

    Returns
    -------
    array of float64, shape (10 * 4**level + 2, 3)
        Unit vectors. The vertices of the level below come first; the others are the midpoints of
        its edges on the sphere. Two of the first twelve are the poles.

    Raises
    ------
    TypeError, ValueError
        If the level is no integer, or out of range.

    References
    ----------
    .. [1] Baumgardner and Frederickson (1985), https://doi.org/10.1137/0722066

    Examples
    --------
    >>> icosahedral_vertices(5).shape
    (10242, 3)
    """
    level = whole_number("level", level, 0, MAX_ICOSAHEDRAL_LEVEL)
    vertices, faces = _icosahedron()
    for _ in range(level):
        vertices, faces = _divided(vertices, faces)
    return vertices


def _icosahedron() -> tuple[Floats, NDArray[np.int64]]:
    turn = np.deg2rad(72.0 * np.arange(5))
    high, wide = 1 / np.sqrt(5.0), 2 / np.sqrt(5.0)
    upper = np.stack([wide * np.cos(turn), wide * np.sin(turn), np.full(5, high)], -1)
    half = np.deg2rad(36.0)
    lower = np.stack(
        [wide * np.cos(turn + half), wide * np.sin(turn + half), np.full(5, -high)], -1
    )
    vertices = np.concatenate([[[0.0, 0.0, 1.0]], upper, lower, [[0.0, 0.0, -1.0]]])
    i, j = np.arange(5), (np.arange(5) + 1) % 5
    corners = [
        (np.zeros(5, int), 1 + i, 1 + j),
        (1 + i, 6 + i, 1 + j),
        (1 + j, 6 + i, 6 + j),
        (6 + i, np.full(5, 11), 6 + j),
    ]
    return vertices, np.concatenate([np.stack(face, -1) for face in corners])


def _divided(vertices: Floats, faces: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """The mesh with the midpoint of every edge as a new vertex, every triangle as four."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], -1), axis=-1)
    keys, inverse = np.unique(edges[..., 0] * len(vertices) + edges[..., 1], return_inverse=True)
    sums = vertices[keys // len(vertices)] + vertices[keys % len(vertices)]
    middles = sums / np.linalg.norm(sums, axis=-1, keepdims=True)
    a, b, c = faces.T
    ab, bc, ca = (len(vertices) + inverse.reshape(faces.shape)).T
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.concatenate([vertices, middles]), np.concatenate([np.stack(p, -1) for p in parts])


def cubed_sphere_cells(n: int) -> tuple[Floats, Floats]:
    """Centres and corners of the cells of an equiangular gnomonic cubed sphere.

    Parameters
    ----------
    n : int
        Cells along an edge of the cube, at least 1.

    Returns
    -------
    centres : array of float64, shape (6 * n**2, 3)
        Unit vectors: the four faces around the equator from longitude 0 eastward, then the north
        and the south one; in each, rows from its lower edge up and columns from left to right.
    corners : array of float64, shape (6 * n**2, 4, 3)
        Counter-clockwise. Great circles join them, which are the edges of the cells.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    References
    ----------
    .. [1] Ronchi et al. (1996), https://doi.org/10.1006/jcph.1996.0047

    Examples
    --------
    >>> cubed_sphere_cells(1)[0].round(9)[[0, 1, 4]]
    array([[ 1.,  0.,  0.],
           [-0.,  1.,  0.],
           [-0.,  0.,  1.]])
    """
    n = whole_number("n", n, 1)
    # the same number on both sides of 0, and 1 itself at the edges: faces meet in equal corners
    steps = np.arange(-n, n + 1)
    lines = np.sign(steps) * np.tan(np.pi / 4 * np.abs(steps) / n)
    lines[[0, -1]] = -1.0, 1.0
    edges, middles = lines[::2], lines[1::2]
    row, column = (index.ravel() for index in np.divmod(np.arange(n * n), n))
    around = [(0, 0), (1, 0), (1, 1), (0, 1)]
    corners = np.stack([_on_faces(edges[column + i], edges[row + j]) for i, j in around], axis=1)
    return _on_faces(middles[column], middles[row]), corners


def _on_faces(right: Floats, up: Floats) -> Floats:
    """Unit vectors of points given by where they are on a face of the cube, on all six of them."""
    one = np.ones_like(right)
    faces = [
        (one, right, up),
        (-right, one, up),
        (-one, -right, up),
        (right, -one, up),
        (-up, right, one),
        (up, right, -one),
    ]
    points = np.concatenate([np.stack(face, -1) for face in faces])
    return np.asarray(points / np.linalg.norm(points, axis=-1, keepdims=True))


def fibonacci_places(n: int) -> Places:
    """Longitudes and latitudes of a spherical Fibonacci lattice, from north to south.

    Parameters
    ----------
    n : int
        Number of points, at least 1.

    Returns
    -------
    lon, lat : arrays of float64, shape (n,)
        Degrees. The middles of `n` zones of equal area, each turned by the golden angle.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    References
    ----------
    .. [1] Swinbank and Purser (2006), https://doi.org/10.1256/qj.05.227

    Examples
    --------
    >>> fibonacci_places(3)[1].round(3)
    array([ 41.81,   0.  , -41.81])
    """
    steps = np.arange(whole_number("n", n, 1))
    return steps * GOLDEN_ANGLE % 360.0, np.rad2deg(np.arcsin(1.0 - (2 * steps + 1) / n))


def random_places(n: int, seed: int) -> Places:
    """Longitudes and latitudes of independent points, uniform on the sphere.

    Parameters
    ----------
    n : int
        Number of points, at least 1.
    seed : int
        At least 0. The same seed gives the same points.

    Returns
    -------
    lon, lat : arrays of float64, shape (n,)
        Degrees.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer, or out of range.

    Examples
    --------
    >>> random_places(5, seed=0)[0].shape
    (5,)
    """
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    return vectors_to_lonlat(rng.standard_normal((whole_number("n", n, 1), 3)))


def gaussian_latitudes(n: int) -> Floats:
    """Nodes of the Gaussian quadrature as latitudes in degrees, from north to south.

    Parameters
    ----------
    n : int
        Number of latitudes, at least 1.

    Returns
    -------
    array of float64, shape (n,)
        Degrees, symmetric about the equator.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    Examples
    --------
    >>> gaussian_latitudes(2).round(3)
    array([ 35.264, -35.264])
    """
    nodes, _ = np.polynomial.legendre.leggauss(whole_number("n_lat", n, 1))
    return np.rad2deg(np.arcsin(nodes[::-1]))


def octahedral_places(n: int) -> Places:
    """Longitudes and latitudes of an octahedral reduced Gaussian grid, O80 for n = 80.

    Parameters
    ----------
    n : int
        Rows between a pole and the equator, at least 1.

    Returns
    -------
    lon, lat : arrays of float64, shape (4 * n * (n + 9),)
        Degrees, row by row from north to south, each row eastward from longitude 0; row i from
        a pole, counted from 1, has ``4 i + 16`` points.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    References
    ----------
    .. [1] Malardel et al. (2016), https://doi.org/10.21957/zwdu9u5i

    Examples
    --------
    >>> octahedral_places(80)[0].size
    28480
    """
    half = 4 * np.arange(1, whole_number("n", n, 1) + 1) + 16
    counts = np.concatenate([half, half[::-1]])
    starts = np.cumsum(counts) - counts
    columns = np.arange(counts.sum()) - np.repeat(starts, counts)
    return columns * (360.0 / np.repeat(counts, counts)), np.repeat(
        gaussian_latitudes(2 * n), counts
    )
