"""What of a mask is near other events, such as rivers that are the rain bands of a cyclone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from xsphere.conventions import INVALID, NOT_COMPUTED, HorizontalGrid, horizontal_grid
from xsphere.conventions.base import check_one_chunk, pandas_indexes
from xsphere.conventions.masks import holds_classes
from xsphere.detection.contours import DEGREE
from xsphere.grids import EARTH_RADIUS_KM, Grid, lonlat_to_vectors
from xsphere.grids.travel import Travelling
from xsphere.notices import shortened
from xsphere.regions.labelling import is_number

UNKNOWN = (INVALID, NOT_COMPUTED)


def remove_near(
    mask: xr.DataArray, others: xr.DataArray | xr.Dataset, *, max_distance: float = 8 * DEGREE
) -> xr.DataArray:
    """Take out of a mask what is near other events at the same time.

    Parameters
    ----------
    mask : DataArray
        A mask of flags, lazy or not.
    others : DataArray or Dataset
        A mask on the same grid, each class of which counts, or tracks with ``time``, ``lon`` and
        ``lat`` along ``event``, such as from `xsphere.track` or `xsphere.read_ibtracs`.
    max_distance : float
        Cells whose centre is so near, in km, to a cell or a position of the others become
        background. 8 degrees if not given, as for rivers near tropical cyclones [1]_.

    Returns
    -------
    DataArray
        As `mask`; cells of which nothing is known stay so.

    Raises
    ------
    TypeError
        If `others` are neither a mask nor tracks.
    ValueError
        If a mask has no classes, grids or times differ, or no time of tracks is one of the mask.

    References
    ----------
    .. [1] Ullrich et al. (2021), https://doi.org/10.5194/gmd-14-5023-2021

    Examples
    --------
    >>> import xsphere
    >>> ds = xsphere.sample_dataset()
    >>> mask = ds.sphere.segment("tc-ar")
    >>> cyclones = (mask == 1).astype("uint8").assign_attrs(mask.attrs)
    >>> left = remove_near(mask, cyclones)
    >>> bool((left == 1).any()), int((left == 2).sum()) <= int((mask == 2).sum())
    (False, True)
    """
    for one in (mask, others) if isinstance(others, xr.DataArray) else (mask,):
        if not holds_classes(one):
            raise ValueError(
                "remove_near() needs masks with flag_values and flag_meanings, got "
                f"{shortened(one)}"
            )
    if not is_number(max_distance) or not 0 <= max_distance < np.inf:
        raise ValueError(f"max_distance must be in km, zero or more, got {shortened(max_distance)}")
    horizontal = horizontal_grid(mask)
    check_one_chunk({mask.name: mask}, horizontal.dims)
    dims = list(horizontal.dims)
    if isinstance(others, xr.DataArray):
        beside, core = [_on_grid_of(horizontal, others)], [dims]
    else:
        found = _positions(others, mask, horizontal)
        beside, core = [found["lon"], found["lat"]], [["storm"], ["storm"]]
    result: xr.DataArray = xr.apply_ufunc(
        Removal(grid=horizontal.grid, max_distance=float(max_distance)),
        mask,
        *beside,
        input_core_dims=[dims, *core],
        output_core_dims=[dims],
        join="exact",
        dask="parallelized",
        output_dtypes=[mask.dtype],
        keep_attrs=False,
    )
    return result.transpose(*mask.dims).rename(mask.name).assign_attrs(mask.attrs)


def _on_grid_of(horizontal: HorizontalGrid, others: xr.DataArray) -> xr.DataArray:
    found = horizontal_grid(others)
    if found.grid != horizontal.grid:
        raise ValueError(
            f"the masks must be on one grid, got {shortened(horizontal.grid)} and "
            f"{shortened(found.grid)}; regrid one of them with xsphere.regrid"
        )
    check_one_chunk({others.name: others}, found.dims)
    renamed = dict(zip(found.dims, horizontal.dims, strict=True))
    plain: xr.DataArray = others.rename({a: b for a, b in renamed.items() if a != b})
    return plain.drop_vars([n for n in plain.coords if set(plain[n].dims) & set(horizontal.dims)])


def _positions(tracks: Any, mask: xr.DataArray, horizontal: HorizontalGrid) -> xr.Dataset:
    """Positions of tracks at each step of a mask, NaN where there are fewer."""
    if not isinstance(tracks, xr.Dataset) or not {"time", "lon", "lat"} <= set(tracks.variables):
        raise TypeError(
            "others must be a mask, or tracks with time, lon and lat, got "
            f"{type(tracks).__name__}; see xsphere.read_tracks"
        )
    indexes = {d: i for d, i in pandas_indexes(mask).items() if d not in horizontal.dims}
    keys = [dim for dim in mask.dims if dim in indexes and dim in tracks.variables]
    places = [indexes[key].get_indexer(pd.Index(tracks[key].values)) for key in keys]
    there = np.logical_and.reduce([place >= 0 for place in places]) if places else np.empty(0, bool)
    if "time" not in keys or not there.any():
        raise ValueError(
            "no time of the tracks is a time of the mask, so that nothing can be near; give tracks "
            "at the times of the mask"
        )
    shape = [indexes[key].size for key in keys]
    step = np.ravel_multi_index([place[there] for place in places], shape)
    number = pd.Series(step).groupby(step).cumcount().to_numpy()
    found = {}
    for name in ("lon", "lat"):
        values = np.full((int(np.prod(shape)), int(number.max()) + 1), np.nan)
        values[step, number] = tracks[name].values[there]
        found[name] = ([*keys, "storm"], values.reshape(*shape, -1))
    together = xr.Dataset(found, {key: mask[key] for key in keys})
    chunks = {key: mask.chunksizes[key] for key in keys if key in mask.chunksizes}
    return together.chunk(chunks) if chunks else together


@dataclass(frozen=True, kw_only=True)
class Removal(Travelling):
    """What is done to one block: cells near others become background.

    Parameters
    ----------
    grid : Grid
        Of the mask.
    max_distance : float
        In km.
    """

    __name__ = "xsphere_remove_near"

    grid: Grid
    max_distance: float

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("xsphere.remove_near", self.grid.fingerprint, self.max_distance)

    def __call__(self, mask: NDArray[Any], *others: NDArray[Any]) -> NDArray[Any]:
        """Mask (..., *horizontal) beside another one, or longitudes and latitudes (..., n)."""
        n_horizontal = len(self.grid.shape)
        leading = mask.shape[:-n_horizontal]
        core = n_horizontal if len(others) == 1 else 1
        flat = [
            np.broadcast_to(o, leading + o.shape[-core:]).reshape(-1, int(np.prod(o.shape[-core:])))
            for o in others
        ]
        result = mask.reshape(-1, self.grid.n_cells).copy()
        for number, step in enumerate(result):
            step[self._near(*(of[number] for of in flat)) & ~np.isin(step, UNKNOWN)] = 0
        return result.reshape(mask.shape)

    def _near(self, *others: NDArray[Any]) -> NDArray[np.bool_]:
        """Cells that are near a cell of another mask, or a position."""
        if len(others) == 1:
            points = self.grid.centres[(others[0] > 0) & ~np.isin(others[0], UNKNOWN)]
        else:
            points = lonlat_to_vectors(*others)[np.isfinite(others).all(axis=0)]
        if not len(points):
            return np.zeros(self.grid.n_cells, bool)
        chord = 2 * np.sin(min(self.max_distance / EARTH_RADIUS_KM, np.pi) / 2)
        # the bound itself is near
        apart = cKDTree(points).query(self.grid.centres, distance_upper_bound=chord + 1e-12)[0]
        near: NDArray[np.bool_] = np.isfinite(apart)
        return near
