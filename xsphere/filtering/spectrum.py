"""Angular power spectrum of fields on HEALPix, by healpy."""

import re
from typing import Literal

import numpy as np
import xarray as xr

from xsphere.conventions import horizontal_grid
from xsphere.conventions.values import ReadingNode, reading_of
from xsphere.filtering.filter_tasks import SpectrumNode
from xsphere.filtering.filtered_variables import check_fields
from xsphere.grids import Grid, HealpixGrid
from xsphere.notices import shortened


def power_spectrum(
    obj: xr.DataArray,
    max_degree: int | None = None,
    *,
    missing: Literal["propagate", "pseudo"] = "propagate",
) -> xr.DataArray:
    """Angular power C_l of every field by degree of spherical harmonics, lazily.

    ``C_l = sum_m |a_lm|**2 / (2 l + 1)``, with the harmonics orthonormal over the sphere:
    ``sum_l (2 l + 1) C_l / (4 pi)`` is the mean of the square of the field, and without l = 0 its
    variance. The harmonics are found by healpy with three iterations [1]_.

    Parameters
    ----------
    obj : DataArray
        On the cells of HEALPix, in any order; the cells in one chunk. Left as it was.
    max_degree : int, optional
        The last degree, by default the largest, ``3 nside - 1``. Above ``2 nside`` the cells tell
        harmonics apart less and less well.
    missing : {"propagate", "pseudo"}
        ``"propagate"``: a field with a missing cell has the spectrum NaN, and a part of the sphere
        is refused. ``"pseudo"``: the mean of the valid cells is taken off, missing cells are set to
        zero, and the power is divided by the valid part of the sphere; C_0 is that of the mean.
        This pseudo-spectrum has the right level, but neighbouring degrees leak into each other,
        over about 180 degrees by the size of the region.

    Returns
    -------
    DataArray
        float64, with dimension ``degree``, from 0, in place of the cells, in units of the field
        squared.

    Raises
    ------
    TypeError
        If `obj` is no DataArray, holds no numbers, or `max_degree` is not an integer.
    ValueError
        If the data are not on HEALPix, on a part of it without ``"pseudo"``, the cells are split
        into chunks, or an option is out of range.

    References
    ----------
    .. [1] Górski et al. (2005), https://doi.org/10.1086/427976

    Examples
    --------
    >>> from xsphere.conventions import describe_healpix
    >>> grid = HealpixGrid(level=3)
    >>> field = xr.DataArray(grid.centres[:, 2], dims="cells", attrs={"units": "K"})
    >>> power = power_spectrum(describe_healpix(field, grid), max_degree=3)
    >>> (3 * power / (4 * np.pi)).values.round(4)
    array([0.    , 0.3333, 0.    , 0.    ])
    """
    if not isinstance(obj, xr.DataArray):
        raise TypeError(
            f"power_spectrum() is of one field, a DataArray, got {type(obj).__name__}; choose a "
            "variable such as ds['t']"
        )
    if missing not in ("propagate", "pseudo"):
        raise ValueError(f"missing must be 'propagate' or 'pseudo', got {shortened(missing)}")
    found = horizontal_grid(obj)
    grid = _whole_sphere(found.grid, missing)
    check_fields({obj.name: obj}, found, "power_spectrum")
    node = SpectrumNode(grid=grid, max_degree=_last(max_degree, grid), missing=missing)
    stale = [name for name, c in obj.coords.items() if "grid_mapping_name" in c.attrs]
    result: xr.DataArray = xr.apply_ufunc(
        ReadingNode(node=node, readings=(reading_of(obj),)),
        obj.drop_vars(stale),
        input_core_dims=[list(found.dims)],
        output_core_dims=[["degree"]],
        exclude_dims=set(found.dims),
        dask="parallelized",
        output_dtypes=[np.dtype(np.float64)],
        dask_gufunc_kwargs={"output_sizes": {"degree": node.max_degree + 1}},
    )
    degrees = xr.Variable("degree", np.arange(node.max_degree + 1), {"units": "1"})
    result = result.assign_coords(degree=degrees)
    result.attrs = _attributes(obj)
    return result


def _whole_sphere(grid: Grid, missing: str) -> HealpixGrid:
    if not isinstance(grid, HealpixGrid):
        raise ValueError(  # noqa: TRY004 - the object is right, its grid is not
            f"power_spectrum() is for fields on HEALPix, got {shortened(grid)}; call to_healpix() "
            "first, at a level with cells no larger than those of the data"
        )
    if missing == "propagate" and not grid.is_global:
        raise ValueError(
            f"power_spectrum() needs the whole sphere, got {grid.n_cells} of {12 * 4**grid.level} "
            f"cells at level {grid.level}; missing='pseudo' gives the pseudo-spectrum of a part"
        )
    return grid


def _last(max_degree: int | None, grid: HealpixGrid) -> int:
    largest = 3 * grid.nside - 1
    if max_degree is None:
        return largest
    if isinstance(max_degree, bool) or not isinstance(max_degree, int | np.integer):
        raise TypeError(f"max_degree must be an integer, got {shortened(max_degree)}")
    if not 0 <= max_degree <= largest:
        raise ValueError(
            f"max_degree must be from 0 to 3 nside - 1 = {largest} at level {grid.level}, got "
            f"{max_degree}; refine() the data for more"
        )
    return int(max_degree)


def _attributes(variable: xr.DataArray) -> dict[str, str]:
    of = variable.attrs.get("long_name", variable.attrs.get("standard_name", variable.name))
    attributes = {"long_name": "angular power spectrum" + (f" of {of}" if of else "")}
    units = variable.attrs.get("units")
    if units in ("", "1"):
        attributes["units"] = "1"
    elif units is not None:
        plain = re.fullmatch(r"[A-Za-z]+", str(units))
        attributes["units"] = f"{units}2" if plain else f"({units})2"
    return attributes
