"""Areas and centres of polygons whose edges are great circles."""

import numpy as np
from numpy.typing import NDArray


def polygon_areas(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed areas of polygons of great circles in steradian.

    Parameters
    ----------
    vertices : array of float64, shape (..., n_vertices, 3)
        Unit vectors of the corners, all in one hemisphere. Repeated corners change nothing.

    Returns
    -------
    array of float64, shape (...)
        Positive where the corners go round counter-clockwise, seen from outside the sphere.

    References
    ----------
    .. [1] Eriksson (1990), On the measure of solid angles, https://doi.org/10.2307/2691141

    Examples
    --------
    >>> float(polygon_areas(np.eye(3))) == np.pi / 2
    True
    """
    first = vertices[..., :1, :]
    second, third = vertices[..., 1:-1, :], vertices[..., 2:, :]
    # from differences, since the product of three near vectors is lost in rounding
    volume = (first * np.cross(second - first, third - first)).sum(axis=-1)
    products = (first * second).sum(-1) + (second * third).sum(-1) + (third * first).sum(-1)
    return np.asarray(2.0 * np.arctan2(volume, 1.0 + products).sum(axis=-1))


def polygon_centroids(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres of mass of polygons of great circles, taken onto the sphere.

    Parameters
    ----------
    vertices : array of float64, shape (..., n_vertices, 3)
        Unit vectors of the corners, all in one hemisphere. Repeated corners change nothing.

    Returns
    -------
    array of float64, shape (..., 3)
        Unit vectors.

    References
    ----------
    .. [1] Brock (1975), https://doi.org/10.2307/1426186, the integral of the normal as one along
       the edges

    Examples
    --------
    >>> polygon_centroids(np.eye(3)).round(4)
    array([0.5774, 0.5774, 0.5774])
    """
    following = np.roll(vertices, -1, axis=-2)
    normals = np.cross(vertices, following - vertices)
    sines = np.linalg.norm(normals, axis=-1, keepdims=True)
    angles = np.arctan2(sines, (vertices * following).sum(axis=-1, keepdims=True))
    # angle / sine goes to 1 where an edge has no length
    sums = (np.divide(angles, sines, out=np.ones_like(sines), where=sines > 0) * normals).sum(-2)
    sums *= np.sign((sums * vertices.sum(axis=-2)).sum(axis=-1, keepdims=True))
    return np.asarray(sums / np.linalg.norm(sums, axis=-1, keepdims=True))
