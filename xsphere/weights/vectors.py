"""Vectors taken from one grid to another: in space, where east and north do not turn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.cache import SharedEntries
from xsphere.grids import Grid, tangent_vectors
from xsphere.weights.apply import MissingPolicy, result_dtype
from xsphere.weights.method_table import FieldMethod
from xsphere.weights.regridding import regrid_fields

# Fields at a time: their three components fill the lanes of a product.
VECTORS_AT_ONCE = 5
# A mean of unit vectors that is shorter has no direction, but for rounding.
LEAST_LENGTH = 1e-5

_frames = SharedEntries(4)


def regrid_vectors(
    east: NDArray[Any],
    north: NDArray[Any],
    source: Grid,
    target: Grid,
    *,
    method: FieldMethod,
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Vectors on another grid, given by their components towards the east and the north.

    Next to a pole, neighbours name one direction differently. So vectors are regridded as three
    Cartesian components, and what comes out is seen along the east and north of the target cell.
    The part that stands out of the sphere, small as the square of the cells, is left.

    Parameters
    ----------
    east, north : arrays of real numbers, shape (..., n_source)
        Components; a vector is missing where either of them is.
    source, target : Grid
        Cells from and to which values go.
    method : str
        See `regrid_fields`.
    missing, min_valid_fraction
        See `apply_weights`.

    Returns
    -------
    east, north : arrays of float, shape (..., n_target)
        In the type that `apply_weights` gives.

    Raises
    ------
    ValueError
        If the shapes differ, or the method is not possible between these grids.

    Examples
    --------
    Flow across the pole is northward on one side and southward on the other:

    >>> from xsphere.grids import LatLonGrid, PointGrid
    >>> ring = LatLonGrid(lon=[0, 90, 180, 270], lat=[80], lat_bounds=[[70, 90]])
    >>> east, north = regrid_vectors(
    ...     np.array([0.0, 1.0, 0.0, -1.0]), np.array([1.0, 0.0, -1.0, 0.0]),
    ...     ring, PointGrid([0.0], [89.0]), method="bilinear",
    ... )
    >>> east.round(2) + 0, north.round(2)
    (array([0.]), array([0.99]))
    """
    east, north = np.asarray(east), np.asarray(north)
    if east.shape != north.shape:
        raise ValueError(
            f"components of vectors must have one shape, got {east.shape} and {north.shape}"
        )
    dtype = np.promote_types(result_dtype(east.dtype), result_dtype(north.dtype))
    from_frame, to_frame = local_frame(source, dtype), local_frame(target, dtype)
    leading = east.shape[:-1]
    flat = [component.reshape(-1, source.n_cells) for component in (east, north)]
    result = np.empty((2, len(flat[0]), target.n_cells), dtype)
    for start in range(0, len(flat[0]), VECTORS_AT_ONCE):
        part = slice(start, start + VECTORS_AT_ONCE)
        moved = regrid_fields(
            _in_space(flat[0][part], flat[1][part], from_frame),
            source,
            target,
            method=method,
            missing=missing,
            min_valid_fraction=min_valid_fraction,
        )
        for component, direction in zip(result, to_frame, strict=True):
            component[part] = moved[0] * direction[0] + moved[1] * direction[1]
            component[part] += moved[2] * direction[2]
    shaped = result.reshape(2, *leading, target.n_cells)
    return shaped[0], shaped[1]


def regrid_angles(
    values: NDArray[Any],
    source: Grid,
    target: Grid,
    *,
    turn: float,
    from_north: bool,
    method: FieldMethod,
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
) -> NDArray[np.floating[Any]]:
    """Angles that go round on another grid: the angle of the mean of unit vectors.

    Parameters
    ----------
    values : array of real numbers, shape (..., n_source)
        Angles.
    source, target : Grid
        Cells from and to which values go.
    turn : float
        Once round, such as 360.
    from_north : bool
        Whether angles are directions, clockwise from the north of their cell: then they are
        regridded as vectors, else by sine and cosine.
    method, missing, min_valid_fraction
        As for `regrid_vectors`.

    Returns
    -------
    array of float, shape (..., n_target)
        From 0 to below `turn`; NaN where unit vectors cancel out.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> winds = np.tile([350.0, 10.0, 350.0, 10.0], 12)
    >>> grids = HealpixGrid(1), HealpixGrid(0)
    >>> found = regrid_angles(winds, *grids, turn=360.0, from_north=False, method="conservative")
    >>> bool(np.cos(np.deg2rad(found)).min() > 0.999)
    True
    """
    angles = np.asarray(values).astype(result_dtype(np.asarray(values).dtype), copy=False)
    with np.errstate(invalid="ignore"):
        radians = angles * angles.dtype.type(2 * np.pi / turn)
        east, north = np.sin(radians), np.cos(radians)
    options: dict[str, Any] = {
        "method": method,
        "missing": missing,
        "min_valid_fraction": min_valid_fraction,
    }
    if from_north:
        sine, cosine = regrid_vectors(east, north, source, target, **options)
    else:
        sine, cosine = (regrid_fields(part, source, target, **options) for part in (east, north))
    return angle_of_sums(sine, cosine, turn)


def angle_of_sums(sine: NDArray[Any], cosine: NDArray[Any], turn: float) -> NDArray[Any]:
    """Angle of mean unit vectors, from 0 to below `turn`; NaN where nothing is left of them."""
    scale, whole = sine.dtype.type(turn / (2 * np.pi)), sine.dtype.type(turn)
    angle: NDArray[Any] = np.mod(np.arctan2(sine, cosine) * scale, whole)
    # what is next to nothing below zero is rounded to a whole turn
    angle[angle >= turn] = 0.0
    angle[np.hypot(sine, cosine) < LEAST_LENGTH] = np.nan
    return angle


def northward_name(standard_name: str) -> str | None:
    """Standard name of the northward component that belongs to an eastward one.

    Parameters
    ----------
    standard_name : str
        In the words of CF.

    Returns
    -------
    str or None
        None if the name is not that of an eastward component.

    Examples
    --------
    >>> northward_name("surface_downward_eastward_stress")
    'surface_downward_northward_stress'
    """
    if "eastward" not in standard_name:
        return None
    return standard_name.replace("eastward", "northward")


def _in_space(
    east: NDArray[Any], north: NDArray[Any], frame: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Cartesian components, shape (3, n_fields, n_source), all missing where one is."""
    components = np.empty((3, *east.shape), frame.dtype)
    # an infinite component is missing, whatever comes of it
    with np.errstate(invalid="ignore"):
        for axis in range(3):
            components[axis] = east * frame[0, axis]
            components[axis] += north * frame[1, axis]
    return components


def local_frame(grid: Grid, dtype: np.dtype[Any]) -> NDArray[np.floating[Any]]:
    """East and north of every cell, shape (2, 3, n_cells)."""

    def make() -> NDArray[np.floating[Any]]:
        frame = np.stack(tangent_vectors(*grid.centre_lonlat))
        return np.ascontiguousarray(np.moveaxis(frame, -1, 1), dtype)

    frame: NDArray[np.floating[Any]] = _frames.fetch(f"{grid.fingerprint} {dtype}", make)
    return frame
