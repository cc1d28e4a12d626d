"""Random fields of one degree that rotate exactly, and rotations of whole HEALPix maps.

A field is held by what it is made of, not by its values, so that a rotated field is as exact as
the field itself. The fields are Gaussian or nearly so, isotropic, of mean square one.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Grid, HealpixGrid

Floats = NDArray[np.float64]
CELLS_AT_ONCE = 8192
# More waves make a field no more random, only slower.
MOST_WAVES = 101


class Fields(Protocol):
    """Random fields of one degree on the cells of a grid, by whichever way.

    Examples
    --------
    >>> fields: Fields = PlaneFields(HealpixGrid(1))
    """

    def drawn(self, degree: int, n_channels: int, rng: np.random.Generator) -> Any:
        """Draw independent fields, in the form that `rotated` and `values` take."""

    def rotated(self, fields: Any, rotation: Floats) -> Any:
        """Rotate fields by an orthogonal matrix."""

    def values(self, fields: Any) -> Floats:
        """Evaluate fields at the cell centres, shape (n_cells, n_channels)."""


class PlaneFields:
    """Fields ``sum_j g_j P_l(x . u_j)`` with random directions u_j, for any grid.

    Parameters
    ----------
    grid : Grid
        Any grid, whole or a part.

    Examples
    --------
    >>> fields = PlaneFields(HealpixGrid(2))
    >>> fields.values(fields.drawn(3, 2, np.random.default_rng(0))).shape
    (192, 2)
    """

    def __init__(self, grid: Grid) -> None:
        self._points = grid.centres

    def drawn(
        self, degree: int, n_channels: int, rng: np.random.Generator
    ) -> tuple[int, Floats, Floats]:
        """Degree, directions (n_channels, n_waves, 3) and amplitudes (n_channels, n_waves)."""
        n_waves = min(2 * degree + 1, MOST_WAVES)
        directions = rng.standard_normal((n_channels, n_waves, 3))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        amplitudes = rng.standard_normal((n_channels, n_waves))
        return degree, directions, amplitudes * np.sqrt((2 * degree + 1) / n_waves)

    def rotated(
        self, fields: tuple[int, Floats, Floats], rotation: Floats
    ) -> tuple[int, Floats, Floats]:
        """The same waves along rotated directions."""
        degree, directions, amplitudes = fields
        return degree, directions @ rotation.T, amplitudes

    def values(self, fields: tuple[int, Floats, Floats]) -> Floats:
        """Values at the cell centres, shape (n_cells, n_channels)."""
        degree, directions, amplitudes = fields
        result = np.empty((self._points.shape[0], directions.shape[0]))
        for first in range(0, result.shape[0], CELLS_AT_ONCE):
            part = slice(first, first + CELLS_AT_ONCE)
            for channel, waves in enumerate(directions):
                cosines = self._points[part] @ waves.T
                result[part, channel] = _legendre(degree, cosines) @ amplitudes[channel]
        return result


class HealpixFields:
    """Fields synthesised from spherical-harmonic coefficients on a whole HEALPix sphere.

    Parameters
    ----------
    grid : HealpixGrid
        A whole sphere, its cells in any order.

    Examples
    --------
    >>> fields = HealpixFields(HealpixGrid(2))
    >>> fields.values(fields.drawn(3, 2, np.random.default_rng(0))).shape
    (192, 2)
    """

    def __init__(self, grid: HealpixGrid) -> None:
        import healpy

        self.nside = grid.nside
        self._ring_ids = healpy.nest2ring(grid.nside, grid.nested_ids)

    def drawn(self, degree: int, n_channels: int, rng: np.random.Generator) -> list[Floats]:
        """Coefficients of every channel, up to the degree, of which the others vanish."""
        import healpy

        order = np.arange(degree + 1)
        places = healpy.Alm.getidx(degree, degree, order)
        # real for order 0, where the imaginary part has the variance of the others' halves
        scale = np.sqrt(4 * np.pi / (2 * degree + 1) / np.where(order == 0, 1, 2))
        channels = []
        for _ in range(n_channels):
            real, imaginary = rng.standard_normal((2, degree + 1))
            coefficients = np.zeros(healpy.Alm.getsize(degree), complex)
            coefficients[places] = scale * (real + 1j * np.where(order == 0, 0.0, imaginary))
            channels.append(coefficients)
        return channels

    def rotated(self, fields: list[Floats], rotation: Floats) -> list[Floats]:
        """Coefficients of the rotated fields."""
        import healpy

        copies = [coefficients.copy() for coefficients in fields]
        for coefficients in copies:
            healpy.rotate_alm(coefficients, matrix=rotation)
        return copies

    def values(self, fields: list[Floats]) -> Floats:
        """Values at the cell centres, shape (n_cells, n_channels)."""
        import healpy

        maps = [
            healpy.alm2map(coefficients, self.nside, lmax=healpy.Alm.getlmax(coefficients.size))
            for coefficients in fields
        ]
        values: Floats = np.stack(maps, axis=-1)[self._ring_ids]
        return values

    def turned(self, values: Floats, rotation: Floats) -> Floats:
        """Values (n_cells, n_channels) turned about the axis, each ring by its Fourier series.

        Nothing is assumed of latitudes, so that jumps at the poles, as components of vectors have,
        stay. Exact for the orders that rings resolve: below half their number of cells.
        """
        import healpy

        angle = np.arctan2(rotation[1, 0], rotation[0, 0])
        rings = np.empty_like(values)
        rings[self._ring_ids] = values
        starts, sizes, *_ = healpy.ringinfo(self.nside, np.arange(1, 4 * self.nside))
        for start, size in zip(starts, sizes, strict=True):
            orders = np.arange(size // 2 + 1)[:, None]
            waves = np.fft.rfft(rings[start : start + size], axis=0) * np.exp(-1j * angle * orders)
            rings[start : start + size] = np.fft.irfft(waves, size, axis=0)
        turned: Floats = rings[self._ring_ids]
        return turned

    def of_values(self, values: Floats, iterations: int = 3) -> list[Floats]:
        """Coefficients up to ``3 nside - 1`` of values (n_cells, n_channels).

        They are not exact, which sets the floor; iterations bring them nearer.
        """
        import healpy

        rings = np.empty_like(values)
        rings[self._ring_ids] = values
        return [
            healpy.map2alm(np.ascontiguousarray(channel), lmax=3 * self.nside - 1, iter=iterations)
            for channel in rings.T
        ]


def fields_on(grid: Grid) -> Fields:
    """Random fields on a grid, the faster way where it is a whole HEALPix sphere.

    Parameters
    ----------
    grid : Grid
        Any grid.

    Returns
    -------
    HealpixFields or PlaneFields
        The same in what they can do.

    Examples
    --------
    >>> type(fields_on(HealpixGrid(2, cell_ids=[3, 1]))).__name__
    'PlaneFields'
    """
    if isinstance(grid, HealpixGrid) and grid.is_global:
        return HealpixFields(grid)
    return PlaneFields(grid)


def _legendre(degree: int, cosines: Floats) -> Floats:
    previous, current = np.ones_like(cosines), np.ones_like(cosines)
    for below in range(degree):
        following = ((2 * below + 1) * cosines * current - below * previous) / (below + 1)
        previous, current = current, following
    return current
