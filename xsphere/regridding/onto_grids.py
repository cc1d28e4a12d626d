"""The functions that users call."""

from typing import Literal, cast, get_args

import xarray as xr

from xsphere.conventions import HorizontalGrid, horizontal_grid, with_max_distance
from xsphere.conventions.base import Labelled
from xsphere.grids import Ellipsoid, Grid, HealpixGrid, IndexingScheme, LatLonGrid
from xsphere.notices import listing
from xsphere.regridding.labelled import regridded
from xsphere.regridding.node import Rules
from xsphere.regridding.places import (
    checked_level,
    covered_cells,
    equiangular,
    in_scheme,
    place_like,
    place_on,
)
from xsphere.regridding.vector_pairs import Vectors
from xsphere.weights import METHODS, RegridMethod
from xsphere.weights.apply import MISSING, MissingPolicy

Extent = Literal["global", "source"]


@listing(METHODS)
@listing(MISSING, "<missing>")
def regrid(
    obj: Labelled,
    target: Grid,
    *,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
    max_distance: float | None = None,
) -> Labelled:
    """The same fields on another grid, lazily if they are dask arrays.

    Parameters
    ----------
    obj : Dataset or DataArray
        On any grid that `xsphere.conventions.horizontal_grid` finds; the horizontal dimensions in
        one chunk. Left as it was. Variables of a Dataset without the horizontal dimensions pass
        through; bounds and other coordinates along them are dropped.
    target : Grid
        Where values go.
    method : str
        <table>.
        ``"auto"`` chooses for every variable: mode for booleans and classes, which are integers
        with ``flag_values`` (see `xsphere.conventions.masks.holds_classes`); from points without
        cell bounds nearest; conservative for fluxes, precipitation and sums (by ``standard_name``
        and ``cell_methods``) and where the target is coarser; else bilinear, from points with
        bounds inverse_distance.
    vectors : "auto", sequence of pairs of names, or None
        Variables that are the components of a vector towards the east and the north: they are
        regridded together, in space, since neighbours near a pole disagree about what east is.
        ``"auto"`` finds them by ``standard_name``, such as ``eastward_wind`` and
        ``northward_wind``, by ``long_name``, such as "10 metre U wind component", and by name, such
        as ``u10`` and ``v10``. Components in different units are turned in one, and come back each
        in its own.
    missing : str
        What a cell gets that misses some source values.
        <missing>.
    min_valid_fraction : float
        Part of a cell that must have values, from 0 to 1, for ``"renormalize"``. Cells beyond a
        regional source count as missing.
    max_distance : float, optional
        Kilometres up to which points without cell bounds stand for what is nearest to them: cells
        farther away are missing, unless there is a point in them. By default as their spacing
        tells, see `xsphere.grids.PointGrid`; infinity for no limit. An attribute ``max_distance``
        of the latitude says the same to every function.

    Returns
    -------
    Dataset or DataArray
        Names, attributes, other dimensions and float types kept; ``cell_methods`` tells the
        method. Integers become float32, or float64 from 32 bits on, except classes, which keep
        their type. Missing is NaN; for integer classes it is a flag ``not_computed``; booleans
        from a grid that does not cover the sphere become float32 for it. The horizontal dimensions
        come last: ``cells`` for HEALPix, ``lat`` and ``lon``, or ``points``.

    Notes
    -----
    Besides NaN and infinities, missing are values that attributes declare (``_FillValue``,
    ``missing_value``, or beyond ``valid_range``), and in floats the numbers that always stand for
    it: 1e20, 9.999e20 and whatever reaches 1e30, such as healpy's UNSEEN.

    Directions such as ``wind_from_direction`` are regridded as unit vectors, other angles that go
    round by sine and cosine (see `xsphere.conventions.angles.angle_of`); the result is from 0
    to below 360 degrees, and missing where they cancel out.

    Floats and counts that inherited ``flag_values`` from a mask, such as ``(mask == 1).mean()``,
    are a field. If all values are flags and some are beyond 1, they can only be classes: then an
    error is raised when they are computed.

    Raises
    ------
    TypeError
        If a variable to regrid holds neither numbers nor booleans.
    ValueError
        If no grid is found, horizontal dimensions are split into chunks, the method is not
        possible between these grids, flags would be averaged, variables are packed, vectors do not
        fit, or `max_distance` is given for cells with edges. When computed: if a mask holds values
        that are none of its flags.

    Warns
    -----
    LoneComponentWarning
        If one component of a vector is to be regridded without the other, on a grid that comes
        near a pole.

    Examples
    --------
    >>> import numpy as np
    >>> coords = {"lat": [-60.0, 0.0, 60.0], "lon": [0.0, 90.0, 180.0, 270.0]}
    >>> field = xr.DataArray(np.ones((3, 4), "f4"), coords, ("lat", "lon"), name="t")
    >>> regridded = regrid(field, HealpixGrid(level=2))
    >>> regridded.sizes, regridded.dtype
    (Frozen({'cells': 192}), dtype('float32'))
    """
    rules = Rules(method=method, missing=missing, min_valid_fraction=min_valid_fraction)
    obj = with_max_distance(obj, max_distance)
    return regridded(obj, horizontal_grid(obj), place_on(target), rules, vectors)


def to_healpix(  # noqa: PLR0913 - options of regridding and of the grid
    obj: Labelled,
    level: int | None = None,
    *,
    nside: int | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
    max_distance: float | None = None,
    indexing_scheme: IndexingScheme = "nested",
    extent: Extent = "global",
    ellipsoid: str | Ellipsoid | None = None,
) -> Labelled:
    """The same fields on a HEALPix grid, lazily if they are dask arrays.

    Parameters
    ----------
    obj : Dataset or DataArray
        On any grid that `xsphere.conventions.horizontal_grid` finds, HEALPix of another level
        included: a part of the HEALPix sphere stays a part.
    level : int, optional
        Refinement level: ``12 * 4**level`` cells.
    nside : int, optional
        ``2**level``, instead of `level`.
    method, vectors, missing, min_valid_fraction, max_distance
        As for `regrid`.
    indexing_scheme : {"nested", "ring"}
        Order of the cells.
    extent : {"global", "source"}
        Which cells the result has: all of the sphere, missing beyond a regional source, or those
        alone whose centres the source covers.
    ellipsoid : str or Ellipsoid, optional
        Figure of the Earth that the cells are on, such as ``"WGS84"``, for latitudes that are
        geodetic; a sphere if not given.

    Returns
    -------
    Dataset or DataArray
        As from `regrid`, with dimension ``cells`` and the coordinates of
        `xsphere.conventions.healpix_coords`.

    Raises
    ------
    TypeError
        If the level is not an integer, or a variable holds neither numbers nor booleans.
    ValueError
        If not exactly one of `level` and `nside` is given, or as for `regrid`.

    Examples
    --------
    >>> import numpy as np
    >>> coords = {"lat": [-60.0, 0.0, 60.0], "lon": [0.0, 90.0, 180.0, 270.0]}
    >>> field = xr.DataArray(np.ones((3, 4), "f4"), coords, ("lat", "lon"), name="t")
    >>> to_healpix(field, level=1).dims
    ('cells',)
    """
    rules = Rules(method=method, missing=missing, min_valid_fraction=min_valid_fraction)
    level = checked_level(level, nside, "to_healpix")
    grid = HealpixGrid(level, indexing_scheme, ellipsoid=ellipsoid)
    obj = with_max_distance(obj, max_distance)
    source = horizontal_grid(obj)
    if extent not in get_args(Extent):
        raise ValueError(f"extent must be one of {list(get_args(Extent))}, got {extent!r}")
    alike = isinstance(source.grid, HealpixGrid) and source.grid.figure == grid.figure
    if isinstance(source.grid, HealpixGrid) and alike and not source.grid.is_global:
        grid = in_scheme(source.grid.at_level(grid.level), indexing_scheme)
    elif extent == "source" and not source.grid.is_global:
        grid = in_scheme(covered_cells(source.grid, grid.level, grid.figure), indexing_scheme)
    return regridded(obj, source, place_on(grid), rules, vectors)


def coarsen(
    obj: Labelled,
    level: int | None = None,
    *,
    nside: int | None = None,
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> Labelled:
    """The same HEALPix fields at a coarser level: each cell the exact mean of its children.

    Booleans and variables with ``flag_values`` get the class that most of the children have.

    Parameters
    ----------
    obj : Dataset or DataArray
        On a HEALPix grid, in either scheme, the whole sphere or a part of it.
    level : int, optional
        Refinement level, at most that of the data.
    nside : int, optional
        ``2**level``, instead of `level`.
    vectors, missing, min_valid_fraction
        As for `regrid`.

    Returns
    -------
    Dataset or DataArray
        As from `to_healpix`, in the scheme of the data. A part of the sphere becomes all cells
        that it touches.

    Raises
    ------
    ValueError
        If the data are not on a HEALPix grid, or their level is coarser, or as for `regrid`.

    Examples
    --------
    >>> import numpy as np
    >>> from xsphere.conventions import describe_healpix
    >>> field = describe_healpix(xr.DataArray(np.arange(48.0), dims="cells"), HealpixGrid(1))
    >>> coarsen(field, level=0).values[:3]
    array([1.5, 5.5, 9.5])
    """
    source, grid = _nested_grids(obj, checked_level(level, nside, "coarsen"), "coarsen")
    rules = Rules(
        # the same cells: a look-up
        method="nearest" if grid == source.grid else "auto",
        missing=missing,
        min_valid_fraction=min_valid_fraction,
    )
    return regridded(obj, source, place_on(grid), rules, vectors)


def refine(
    obj: Labelled,
    level: int | None = None,
    *,
    nside: int | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> Labelled:
    """The same HEALPix fields at a finer level.

    Parameters
    ----------
    obj : Dataset or DataArray
        On a HEALPix grid, in either scheme, the whole sphere or a part of it.
    level : int, optional
        Refinement level, at least that of the data.
    nside : int, optional
        ``2**level``, instead of `level`.
    method : str
        As for `regrid`. ``"conservative"`` gives the children the value of their parent,
        ``"conservative2"`` a slope between them whose mean is that value, ``"bilinear"`` (what
        ``"auto"`` takes for smooth fields) interpolates, and does not keep means.
    vectors, missing, min_valid_fraction
        As for `regrid`.

    Returns
    -------
    Dataset or DataArray
        As from `to_healpix`, in the scheme of the data.

    Raises
    ------
    ValueError
        If the data are not on a HEALPix grid, or their level is finer, or as for `regrid`.

    Examples
    --------
    >>> import numpy as np
    >>> from xsphere.conventions import describe_healpix
    >>> field = describe_healpix(xr.DataArray(np.arange(12.0), dims="cells"), HealpixGrid(0))
    >>> refine(field, level=1, method="conservative").values[:6]
    array([0., 0., 0., 0., 1., 1.])
    """
    source, grid = _nested_grids(obj, checked_level(level, nside, "refine"), "refine")
    rules = Rules(method=method, missing=missing, min_valid_fraction=min_valid_fraction)
    return regridded(obj, source, place_on(grid), rules, vectors)


def _nested_grids(
    obj: xr.Dataset | xr.DataArray, level: int, wish: str
) -> tuple[HorizontalGrid, HealpixGrid]:
    """The HEALPix grid of an object and that of another level, in the same scheme."""
    source = horizontal_grid(obj)
    if not isinstance(source.grid, HealpixGrid):
        raise ValueError(  # noqa: TRY004 - the object is right, its grid is not
            f"{wish}() is for fields on a HEALPix grid, got {source.grid}; use to_healpix({level})"
        )
    have = source.grid.level
    if (level > have) if wish == "coarsen" else (level < have):
        bound, other = ("at most", "refine") if wish == "coarsen" else ("at least", "coarsen")
        raise ValueError(
            f"{wish}() needs {bound} the level {have} of the data, got {level}; use {other}()"
        )
    return source, in_scheme(source.grid.at_level(level), source.grid.indexing_scheme)


def to_latlon(
    obj: Labelled,
    resolution: float | None = None,
    *,
    like: xr.Dataset | xr.DataArray | LatLonGrid | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
    max_distance: float | None = None,
) -> Labelled:
    """The same fields on a longitude-latitude grid, lazily if they are dask arrays.

    Parameters
    ----------
    obj : Dataset or DataArray
        On any grid that `xsphere.conventions.horizontal_grid` finds.
    resolution : float, optional
        Size of the cells in degrees, a divisor of 180. Rows go from south to north, columns east
        from the meridian of Greenwich; centres are half a cell off the poles and the meridian.
    like : Dataset, DataArray or LatLonGrid, optional
        Whose grid to take instead, with its names.
    method, vectors, missing, min_valid_fraction, max_distance
        As for `regrid`.

    Returns
    -------
    Dataset or DataArray
        As from `regrid`, with dimensions ``lat`` and ``lon`` or those of `like`.

    Raises
    ------
    TypeError
        If a variable holds neither numbers nor booleans.
    ValueError
        If not exactly one of `resolution` and `like` is given, the resolution does not divide 180,
        `like` is not on a longitude-latitude grid, or as for `regrid`.

    Examples
    --------
    >>> import numpy as np
    >>> from xsphere.conventions import describe_healpix
    >>> field = describe_healpix(xr.DataArray(np.ones(48), dims="cells"), HealpixGrid(level=1))
    >>> to_latlon(field, 45.0).sizes
    Frozen({'lat': 4, 'lon': 8})
    """
    if (resolution is None) == (like is None):
        raise ValueError(
            "to_latlon() needs either resolution=<degrees> or like=<dataset>, got "
            f"{'neither' if like is None else 'both'}"
        )
    rules = Rules(method=method, missing=missing, min_valid_fraction=min_valid_fraction)
    if isinstance(like, xr.Dataset | xr.DataArray):
        place = place_like(like)
    else:
        place = place_on(like if like is not None else equiangular(cast("float", resolution)))
    obj = with_max_distance(obj, max_distance)
    return regridded(obj, horizontal_grid(obj), place, rules, vectors)
