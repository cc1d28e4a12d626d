"""Rectilinear longitude-latitude grids: equiangular, Gaussian, irregular, global or regional."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsphere.grids.axes import axis_problems
from xsphere.grids.grid import Grid, frozen_array
from xsphere.grids.samplings import gaussian_latitudes, whole_number
from xsphere.grids.spacing import (
    COORDINATE_TOLERANCE,
    bounds_beside,
    latitude_bounds,
    longitude_bounds,
    sharing_edges,
)

# A tenth of a millimetre on the Earth: edges of neighbours that differ by rounding leave no gap.
EDGE_TOLERANCE = 1e-9


# Steps from the north pole to the first row, and steps of all rows but their number.
_POLES = {"none": (0.5, 0), "north": (0.0, 0), "both": (0.0, -1)}


def _columns(n_lat: int, n_lon: int | None) -> dict[str, NDArray[np.float64]]:
    """Columns all the way round, and the bounds of a single one, which nothing else tells."""
    n_columns = 2 * n_lat if n_lon is None else whole_number("n_lon", n_lon, 1)
    bounds = {"lon_bounds": np.array([[-180.0, 180.0]])} if n_columns == 1 else {}
    return {"lon": np.arange(n_columns) * (360.0 / n_columns), **bounds}


def _contains(bounds: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(
        (x >= bounds[:, 0] - COORDINATE_TOLERANCE) & (x <= bounds[:, 1] + COORDINATE_TOLERANCE)
    )


def _turned_to(lon: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bounds moved by the whole turns that bring their middle nearest to each longitude."""
    turns: NDArray[np.float64] = np.round((lon - bounds.mean(axis=-1)) / 360.0)[:, None]
    return bounds + 360.0 * turns


def _bounds_problems(
    name: str, centres: NDArray[np.float64], bounds: NDArray[np.float64]
) -> list[str]:
    problems = []
    # a cyclic column of no width stands where the last one ends, half a column from its centre
    outside = ~_contains(bounds, centres) & (np.ptp(bounds, axis=-1) > 0)
    if outside.any():
        problems.append(
            f"{name}_bounds must contain their centres, but {int(outside.sum())} do not, such as "
            f"{bounds[outside][0]} for {centres[outside][0]:g}"
        )
    lower, upper = bounds[np.lexsort(bounds.T[::-1])].T
    lapping = lower[1:] < upper[:-1] - COORDINATE_TOLERANCE
    if lapping.any():
        first = int(np.flatnonzero(lapping)[0])
        problems.append(
            f"{name}_bounds must not overlap, but {int(lapping.sum())} do, such as up to "
            f"{upper[first]:g} and from {lower[first + 1]:g}"
        )
    if name == "lon" and upper.max() - lower.min() > 360.0 + COORDINATE_TOLERANCE:
        problems.append(
            f"lon_bounds must cover at most 360 degrees, got {upper.max() - lower.min():g}"
        )
    return problems


@dataclass(frozen=True, eq=False, repr=False)
class LatLonGrid(Grid):
    """Cells between parallels and meridians; data are laid out (lat, lon).

    Parameters
    ----------
    lon : array_like of float, shape (n_lon,)
        Longitudes of the columns in degrees, monotonic, in any convention. The last column may
        repeat the first one 360 degrees further on: it then has no area.
    lat : array_like of float, shape (n_lat,)
        Latitudes of the rows in degrees, north to south or south to north, poles included or not.
    lon_bounds, lat_bounds : array_like of float, shape (n, 2), optional
        Edges of the columns and rows in degrees. By default halfway between the centres, clipped
        at the poles; for Gaussian latitudes such that areas are the quadrature weights. Where
        steps leave a gap (see `xsphere.grids.spacing.gaps_of`) and at the rim of a region, cells
        end half a step of their own beyond the centre. A single row or column is as wide, in
        degrees, as the cells are the other way.

    Raises
    ------
    ValueError
        If an axis is not monotonic or finite, a latitude is beyond a pole, the columns cover more
        than 360 degrees, bounds do not fit, or a single row and column come without bounds;
        everything wrong is named at once.

    Examples
    --------
    >>> grid = LatLonGrid(lon=[0, 90, 180, 270], lat=[45, -45])
    >>> grid.shape, grid.periodic
    ((2, 4), True)
    >>> grid.lat_bounds
    array([[  0.,  90.],
           [-90.,   0.]])
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    lon_bounds: NDArray[np.float64] | None = None
    lat_bounds: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        lon, lat = frozen_array(self.lon), frozen_array(self.lat)
        problems = axis_problems("lon", lon) + axis_problems("lat", lat)
        if not problems and np.abs(lat).max() > 90 + COORDINATE_TOLERANCE:
            problems.append(f"lat must be within -90..90 degrees, got up to {np.abs(lat).max():g}")
        if not problems and np.ptp(lon) > 360 + COORDINATE_TOLERANCE:
            problems.append(f"lon must cover at most 360 degrees, got {np.ptp(lon):g}")
        if problems:
            raise ValueError("; ".join(problems))
        lat = frozen_array(lat.clip(-90.0, 90.0))
        for name, values in (("lon", lon), ("lat", lat)):
            object.__setattr__(self, name, values)
        bounds = {"lon": self.lon_bounds, "lat": self.lat_bounds}
        known = {name: self._bounds(name, given) for name, given in bounds.items()}
        for name, other in (("lon", "lat"), ("lat", "lon")):
            if (found := known[name]) is None:
                found = bounds_beside(name, float(getattr(self, name)[0]), known[other])
            object.__setattr__(self, f"{name}_bounds", frozen_array(found))

    @classmethod
    def equiangular(
        cls,
        n_lat: int,
        n_lon: int | None = None,
        *,
        poles: Literal["none", "north", "both"] = "none",
    ) -> Self:
        """Rows and columns at equal angles, from north to south and eastward from longitude 0.

        Parameters
        ----------
        n_lat : int
            Number of rows.
        n_lon : int, optional
            Number of columns, ``2 * n_lat`` if not given. The 2b x 2b grid of bandwidth b that
            spherical CNNs use has ``equiangular(2 * b, 2 * b)``, with colatitudes
            ``pi (2 j + 1) / 4b`` [1]_, or ``pi j / 2b`` as first published [2]_ with
            ``poles="north"``.
        poles : {"none", "north", "both"}
            Where a row is at a pole. Otherwise rows are half a step from it.

        Returns
        -------
        LatLonGrid
            Of the whole sphere.

        Raises
        ------
        TypeError, ValueError
            If a number is no integer or too small, or `poles` is unknown.

        References
        ----------
        .. [1] Kostelec and Rockmore (2008), https://doi.org/10.1007/s00041-008-9013-5
        .. [2] Driscoll and Healy (1994), https://doi.org/10.1006/aama.1994.1008

        Examples
        --------
        >>> LatLonGrid.equiangular(3).lat
        array([ 60.,   0., -60.])
        >>> LatLonGrid.equiangular(3, poles="both").lat
        array([ 90.,   0., -90.])
        """
        if poles not in _POLES:
            raise ValueError(f"poles must be one of {sorted(_POLES)}, got {poles!r}")
        n_lat = whole_number("n_lat", n_lat, 2 if poles == "both" else 1)
        first, n_steps = _POLES[poles]
        lat = 90.0 - 180.0 * (np.arange(n_lat) + first) / (n_lat + n_steps)
        edges = np.concatenate([[90.0], (lat[:-1] + lat[1:]) / 2, [-90.0]])
        bounds = np.stack([edges[1:], edges[:-1]], -1)
        return cls(**_columns(n_lat, n_lon), lat=lat, lat_bounds=bounds)

    @classmethod
    def gaussian(cls, n_lat: int, n_lon: int | None = None) -> Self:
        """Rows at the nodes of the Gaussian quadrature, areas its weights.

        Parameters
        ----------
        n_lat : int
            Number of rows, from north to south.
        n_lon : int, optional
            Number of columns, eastward from longitude 0; ``2 * n_lat`` if not given.

        Returns
        -------
        LatLonGrid
            Of the whole sphere.

        Raises
        ------
        TypeError, ValueError
            If a number is no integer, or less than 1.

        Examples
        --------
        >>> LatLonGrid.gaussian(32)
        LatLonGrid(32 x 64, lat 85.7606..-85.7606, lon 0..354.375)
        """
        lat = gaussian_latitudes(n_lat)
        return cls(**_columns(n_lat, n_lon), lat=lat)

    def _bounds(self, name: str, given: ArrayLike | None) -> NDArray[np.float64] | None:
        """Edges that were given or follow from the centres, None for a single one without."""
        centres = getattr(self, name)
        if given is None and centres.size == 1:
            return None
        if given is None:
            return longitude_bounds(centres) if name == "lon" else latitude_bounds(centres)
        bounds = np.sort(np.array(given, float), axis=-1)
        if bounds.shape != (centres.size, 2):
            raise ValueError(
                f"{name}_bounds must have shape {(centres.size, 2)}, got {bounds.shape}"
            )
        if not np.isfinite(bounds).all():
            raise ValueError(f"{name}_bounds must be finite")
        bounds = self._beside_centres(bounds) if name == "lon" else bounds.clip(-90.0, 90.0)
        problems = _bounds_problems(name, centres, bounds)
        if problems:
            raise ValueError("; ".join(problems))
        return np.asarray(bounds)

    def _beside_centres(self, bounds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Longitude bounds moved by whole turns to where the centres are (0..360 or -180..180)."""
        straight = _turned_to(self.lon, bounds)
        # (359.5, 0.5) sorts to (0.5, 359.5), and means the way across the seam
        across = _turned_to(self.lon, np.stack([bounds[:, 1], bounds[:, 0] + 360.0], -1))
        width = np.ptp(bounds, axis=-1)
        better = ~_contains(straight, self.lon) | (width > 180.0)
        crossing = better & _contains(across, self.lon) & (width < 360.0 - COORDINATE_TOLERANCE)
        moved = np.where(crossing[:, None], across, straight)
        if self.has_cyclic_column and np.diff(moved).sum() > 360.0 + COORDINATE_TOLERANCE:
            moved[-1] = moved[-2, int(self.lon[0] < self.lon[-1])]
        return moved

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_lat, n_lon)``."""
        return (self.lat.size, self.lon.size)

    @cached_property
    def has_cyclic_column(self) -> bool:
        """Whether the last column repeats the first one, 360 degrees further on."""
        return self.lon.size > 1 and bool(abs(np.ptp(self.lon) - 360.0) < COORDINATE_TOLERANCE)

    @cached_property
    def periodic(self) -> bool:
        """Whether the columns go all the way round."""
        assert self.lon_bounds is not None
        return bool(np.diff(self.lon_bounds, axis=-1).sum() > 360.0 - COORDINATE_TOLERANCE)

    @cached_property
    def joined_columns(self) -> NDArray[np.bool_]:
        """Whether each column and the next, after the last the first, share an edge.

        Of shape (n_lon,), without a column that repeats the first.
        """
        assert self.lon_bounds is not None
        once = slice(self.lon.size - self.has_cyclic_column)
        return sharing_edges(self.lon[once], self.lon_bounds[once], around=360.0)

    @cached_property
    def joined_rows(self) -> NDArray[np.bool_]:
        """Whether each row and the next share an edge, shape (n_lat - 1,)."""
        assert self.lat_bounds is not None
        return sharing_edges(self.lat, self.lat_bounds)

    @cached_property
    def is_global(self) -> bool:
        """Whether every point of the sphere is in a cell."""
        return self.periodic and all(self.includes_poles) and bool(self.joined_rows.all())

    @property
    def includes_poles(self) -> tuple[bool, bool]:
        """Whether the rows reach the south and the north pole."""
        assert self.lat_bounds is not None
        return bool(self.lat_bounds.min() == -90.0), bool(self.lat_bounds.max() == 90.0)

    @cached_property
    def centre_lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of every cell, in degrees, each of shape (n_cells,)."""
        lon, lat = np.meshgrid(self.lon, self.lat)
        return frozen_array(lon.ravel()), frozen_array(lat.ravel())

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Area of every cell in steradian, shape (n_cells,)."""
        return frozen_array(np.outer(*self._sides).ravel())

    @property
    def largest_area(self) -> float:
        """Area of the largest cell in steradian."""
        height, width = self._sides
        return float(height.max() * width.max())

    @property
    def _sides(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Heights of the rows, as areas by radian of longitude, and widths of the columns."""
        assert self.lon_bounds is not None
        assert self.lat_bounds is not None
        width = np.deg2rad(np.diff(self.lon_bounds, axis=-1))[:, 0]
        south, north = np.deg2rad(self.lat_bounds.T)
        # sin(n) - sin(s), without the cancellation near a pole
        return 2 * np.cos((north + south) / 2) * np.sin((north - south) / 2), width

    def cells_at(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.int64]:
        """Position of the cell that holds each point.

        Parameters
        ----------
        lon, lat : array_like of float
            Degrees, of equal shape.

        Returns
        -------
        array of int64, same shape
            Positions in the flattened (lat, lon) data; -1 outside the grid or if not finite. Of
            two cells that meet at a point, it is in the eastern or northern one.

        Examples
        --------
        >>> LatLonGrid([0, 90, 180, 270], [45, -45]).cells_at([-10.0, 80.0], [5.0, -5.0])
        array([0, 5])
        """
        lon_deg, lat_deg = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
        assert self.lon_bounds is not None
        assert self.lat_bounds is not None
        start = self.lon_bounds.min()
        finite = np.isfinite(lon_deg) & np.isfinite(lat_deg)
        # a point on an edge, give or take rounding, is in the cell to the east or north
        from_start = np.where(finite, lon_deg, 0.0) - start + EDGE_TOLERANCE
        column = _interval_of(start + np.mod(from_start, 360.0), self.lon_bounds)
        row = _interval_of(np.where(finite, lat_deg, 0.0) + EDGE_TOLERANCE, self.lat_bounds)
        inside = finite & (column >= 0) & (row >= 0)
        return np.where(inside, row * self.lon.size + column, -1)

    def _definition(self) -> dict[str, Any]:
        return {
            "lon": self.lon,
            "lat": self.lat,
            "lon_bounds": self.lon_bounds,
            "lat_bounds": self.lat_bounds,
        }

    def __repr__(self) -> str:
        return (
            f"LatLonGrid({self.lat.size} x {self.lon.size}, "
            f"lat {self.lat[0]:g}..{self.lat[-1]:g}, lon {self.lon[0]:g}..{self.lon[-1]:g})"
        )


def _interval_of(x: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the interval that holds each x (its edges included), -1 for none."""
    order = np.argsort(bounds[:, 0], kind="stable")
    # a repeated cyclic column has no inside
    order = order[bounds[order, 1] > bounds[order, 0]]
    slot = np.searchsorted(bounds[order, 0], x, side="right") - 1
    found = order[slot.clip(min=0)]
    inside = (slot >= 0) & (x <= bounds[found, 1] + 2 * EDGE_TOLERANCE)
    return np.where(inside, found, -1)
