"""HEALPix: equal-area cells in rings, nested so that four children fill their parent."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.grids.ellipsoids import Ellipsoid
from xsphere.grids.grid import Grid, frozen_array, vectors_to_lonlat
from xsphere.notices import shortened

IndexingScheme = Literal["nested", "ring"]
MAX_LEVEL = 29


def level_from_nside(nside: int) -> int:
    """Refinement level of a HEALPix grid given by its ``nside``.

    Parameters
    ----------
    nside : int
        Cells along an edge of a base cell: a power of two.

    Returns
    -------
    int
        ``log2(nside)``.

    Raises
    ------
    ValueError
        If `nside` is not a power of two between 1 and 2**29.

    Examples
    --------
    >>> level_from_nside(64)
    6
    """
    if int(nside) != nside or nside < 1 or int(nside) & (int(nside) - 1) or nside > 2**MAX_LEVEL:
        raise ValueError(
            f"nside must be a power of two from 1 to 2**{MAX_LEVEL}, got {shortened(nside)}"
        )
    return int(nside).bit_length() - 1


@dataclass(frozen=True, eq=False, repr=False)
class HealpixGrid(Grid):
    """Cells of the HEALPix sphere at one refinement level.

    Parameters
    ----------
    level : int
        Refinement level: the sphere has ``12 * 4**level`` cells.
    indexing_scheme : {"nested", "ring"}
        How cells are numbered.
    cell_ids : array_like of int, shape (n_cells,), optional
        The cells present, for a part of the sphere, in the order of the data. The whole sphere if
        not given.
    ellipsoid : str or Ellipsoid, optional
        Figure of the Earth, such as ``"WGS84"``: cells are those of the sphere of equal areas
        (authalic), and latitudes are geodetic. A sphere if not given.

    Raises
    ------
    TypeError
        If the level or the ids are not integers, or the ellipsoid is none.
    ValueError
        If the level is not between 0 and 29, the scheme or the ellipsoid unknown, or the ids are
        out of range or repeated.

    References
    ----------
    .. [1] Górski et al. (2005), https://doi.org/10.1086/427976

    Examples
    --------
    >>> grid = HealpixGrid(level=2)
    >>> grid.n_cells, grid.nside
    (192, 4)
    >>> bool(np.isclose(grid.areas.sum(), 4 * np.pi))
    True
    >>> HealpixGrid(level=2, ellipsoid="WGS84").centre_lonlat[1][:2].round(2)
    array([ 9.64, 19.55])
    """

    level: int
    indexing_scheme: IndexingScheme = "nested"
    cell_ids: NDArray[np.int64] | None = None
    ellipsoid: str | Ellipsoid | None = None

    def __post_init__(self) -> None:
        if isinstance(self.level, bool) or int(self.level) != self.level:
            raise TypeError(f"level must be an integer, got {shortened(self.level)}")
        if not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"level must be from 0 to {MAX_LEVEL}, got {shortened(self.level)}")
        if self.indexing_scheme not in ("nested", "ring"):
            raise ValueError(
                f"indexing_scheme must be 'nested' or 'ring', got {self.indexing_scheme!r}"
            )
        if isinstance(self.ellipsoid, str):
            object.__setattr__(self, "ellipsoid", Ellipsoid.named(self.ellipsoid))
        elif not isinstance(self.ellipsoid, Ellipsoid | None):
            raise TypeError(
                f"ellipsoid must be a name, such as 'WGS84', or an Ellipsoid, got "
                f"{self.ellipsoid!r}"
            )
        object.__setattr__(self, "level", int(self.level))
        if self.cell_ids is not None:
            object.__setattr__(self, "cell_ids", self._checked_ids(self.cell_ids))

    def _checked_ids(self, cell_ids: ArrayLike) -> NDArray[np.int64] | None:
        given = np.asarray(cell_ids)
        whole = np.isfinite(given) & (given == np.floor(given)) if given.dtype.kind == "f" else True
        if given.dtype.kind not in "iuf" or not np.all(whole):
            raise TypeError(f"cell_ids must be integers, got {given.dtype}, such as {given[:3]}")
        ids = frozen_array(given, np.int64)
        n_sphere = 12 * 4**self.level
        outside = ids[(ids < 0) | (ids >= n_sphere)]
        if ids.ndim != 1 or ids.size == 0:
            raise ValueError(f"cell_ids must be a non-empty 1-D array, got shape {ids.shape}")
        if outside.size:
            raise ValueError(
                f"cell_ids at level {self.level} must be from 0 to {n_sphere - 1}, "
                f"got {outside.size} others, such as {outside[0]}"
            )
        steps = np.diff(ids)
        if not np.all(steps > 0):
            steps = np.diff(np.sort(ids))
            if not np.all(steps > 0):
                n_repeated = int((steps == 0).sum())
                raise ValueError(f"cell_ids must be unique, got {n_repeated} repeated")
            return ids
        # the whole sphere in its natural order has one spelling
        return None if ids.size == n_sphere else ids

    @property
    def nside(self) -> int:
        """Cells along an edge of a base cell: ``2**level``."""
        return 1 << self.level

    @property
    def is_global(self) -> bool:
        """Whether every cell of the sphere is present (in whatever order)."""
        return bool(self.n_cells == 12 * 4**self.level)

    @property
    def is_natural(self) -> bool:
        """Whether the cells are the whole sphere, in the order of their ids."""
        return self.cell_ids is None

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_cells,)``."""
        return (12 * 4**self.level if self.cell_ids is None else self.cell_ids.size,)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Cell ids in the order of the data, shape (n_cells,)."""
        return np.arange(self.n_cells) if self.cell_ids is None else self.cell_ids

    @cached_property
    def nested_ids(self) -> NDArray[np.int64]:
        """Cell ids in the nested scheme, in the order of the data, shape (n_cells,)."""
        if self.indexing_scheme == "nested":
            return frozen_array(self.ids, np.int64)
        import healpy

        return frozen_array(healpy.ring2nest(self.nside, self.ids), np.int64)

    @property
    def figure(self) -> Ellipsoid | None:
        """The ellipsoid; None for a sphere."""
        assert not isinstance(self.ellipsoid, str)
        return self.ellipsoid

    @property
    def on_sphere(self) -> "HealpixGrid":
        """The same cells on the sphere of equal areas: itself, unless there is an ellipsoid."""
        return self if self.figure is None else replace(self, ellipsoid=None)

    @cached_property
    def centre_lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of every cell, in degrees, each of shape (n_cells,)."""
        import healpy

        lon, lat = healpy.pix2ang(self.nside, self.nested_ids, nest=True, lonlat=True)
        return frozen_array(lon), frozen_array(self._geodetic(lat))

    def corner_lonlat(self, step: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners of every cell, and points between them on its edges.

        Parameters
        ----------
        step : int
            Parts of each edge.

        Returns
        -------
        lon, lat : arrays of float64, shape (n_cells, 4 * step)
            Degrees, counterclockwise from the northern corner.

        Examples
        --------
        >>> HealpixGrid(0).corner_lonlat()[1][0].round(2)
        array([90.  , 41.81,  0.  , 41.81])
        """
        import healpy

        found = healpy.boundaries(self.nside, self.nested_ids, step=step, nest=True)
        lon, lat = vectors_to_lonlat(np.moveaxis(found.reshape(self.n_cells, 3, -1), 1, -1))
        return lon, self._geodetic(lat)

    def lonlat_of(self, vectors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and geodetic latitude, in degrees, of vectors beside those of `centres`."""
        lon, lat = vectors_to_lonlat(vectors)
        return lon, self._geodetic(lat)

    def _geodetic(self, lat: NDArray[np.float64]) -> NDArray[np.float64]:
        return lat if self.figure is None else self.figure.geodetic(lat)

    def lat_on_sphere(self, lat: ArrayLike) -> NDArray[np.float64]:
        """Latitude on the sphere of equal areas, of geodetic latitudes; both in degrees."""
        return np.asarray(lat, float) if self.figure is None else self.figure.authalic(lat)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Unit vectors of the cell centres on the sphere of equal areas, shape (n_cells, 3)."""
        import healpy

        return frozen_array(np.stack(healpy.pix2vec(self.nside, self.nested_ids, nest=True), -1))

    @property
    def areas(self) -> NDArray[np.float64]:
        """Area of every cell in steradian, all equal, shape (n_cells,)."""
        return np.full(self.n_cells, 4 * np.pi / (12 * 4**self.level))

    def positions_of(self, nested_ids: ArrayLike) -> NDArray[np.int64]:
        """Where cells given by nested id stand in this grid's data.

        Parameters
        ----------
        nested_ids : array_like of int
            Nested ids at this grid's level.

        Returns
        -------
        array of int64, same shape
            Positions from 0 to ``n_cells - 1``; -1 for a cell that is absent.

        Examples
        --------
        >>> HealpixGrid(1, cell_ids=[7, 5]).positions_of([5, 6, 7])
        array([ 1, -1,  0])
        """
        wanted = np.asarray(nested_ids, np.int64)
        if self.is_natural and self.indexing_scheme == "nested":
            return wanted
        order = np.argsort(self.nested_ids)
        slot = np.searchsorted(self.nested_ids, wanted, sorter=order).clip(max=self.n_cells - 1)
        found = order[slot]
        return np.where(self.nested_ids[found] == wanted, found, -1)

    def cells_at(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.int64]:
        """Position of the cell that holds each point.

        Parameters
        ----------
        lon, lat : array_like of float
            Degrees, of equal shape.

        Returns
        -------
        array of int64, same shape
            Positions in this grid's data; -1 where the point is in no cell of it or not finite.

        Examples
        --------
        >>> HealpixGrid(0).cells_at([45.0, 45.0], [60.0, -60.0])
        array([0, 8])
        """
        import healpy

        lon_deg, lat_deg = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
        inside = np.isfinite(lon_deg) & np.isfinite(lat_deg) & (np.abs(lat_deg) <= 90)
        ids = healpy.ang2pix(
            self.nside,
            np.where(inside, lon_deg, 0.0),
            self.lat_on_sphere(np.where(inside, lat_deg, 0.0)),
            nest=True,
            lonlat=True,
        )
        return np.where(inside, self.positions_of(ids), -1)

    def at_level(self, level: int) -> "HealpixGrid":
        """The grid at another level that covers the same cells, numbered the same way.

        Parameters
        ----------
        level : int
            Level of the new grid. A coarser grid holds every cell that this one touches.

        Returns
        -------
        HealpixGrid
            The whole sphere for the whole sphere; else the parents or children in nested order.

        Examples
        --------
        >>> HealpixGrid(2, cell_ids=[0, 1, 2, 3]).at_level(1).ids
        array([0])
        """
        if self.is_natural:
            return replace(self, level=level)
        ids = np.unique(self.nested_ids)
        if level <= self.level:
            ids = np.unique(ids >> (2 * (self.level - level)))
        else:
            n_children = 4 ** (level - self.level)
            ids = (ids[:, None] * n_children + np.arange(n_children)).ravel()
        return HealpixGrid(level, "nested", ids, self.ellipsoid)

    def _definition(self) -> dict[str, Any]:
        definition = {
            "level": self.level,
            "indexing_scheme": self.indexing_scheme,
            "cell_ids": self.cell_ids,
        }
        return definition if self.figure is None else definition | {"ellipsoid": self.figure}

    def __repr__(self) -> str:
        part = "" if self.cell_ids is None else f", {self.n_cells} cells"
        figure = "" if self.figure is None else f", {self.figure.name or self.figure}"
        return f"HealpixGrid(level={self.level}, {self.indexing_scheme}{part}{figure})"
