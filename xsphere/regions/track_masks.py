"""Numbers of tracks on the grid of their mask."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import horizontal_grid
from xsphere.conventions.base import pandas_indexes
from xsphere.notices import shortened
from xsphere.regions.labelling import label
from xsphere.regions.tracks import SETTINGS


def track_mask(mask: xr.DataArray, tracks: xr.Dataset) -> xr.DataArray:
    """Number of the track that each cell of a mask belongs to.

    Parameters
    ----------
    mask : DataArray of int or bool
        What was tracked, or some of its steps.
    tracks : Dataset
        From `xsphere.track`.

    Returns
    -------
    DataArray of int32
        On the grid of `mask`, with its dimensions and labels; lazy if `mask` is. 0 where there is
        no track, or one that was left out.

    Raises
    ------
    ValueError
        If `tracks` are not from `xsphere.track`, or not of this mask.

    Examples
    --------
    >>> import xsphere
    >>> ds = xsphere.sample_dataset()
    >>> ds = ds.assign_coords(time=ds.time[0].values + np.timedelta64(6, "h") * np.arange(2))
    >>> mask = xsphere.segment(ds, "tc-ar")
    >>> tracks = xsphere.track(mask, min_area=1e5)
    >>> found = track_mask(mask, tracks)
    >>> sorted(set(found.values.ravel()) - {0}) == tracks.track.values.tolist()
    True
    """
    missing = [name for name in ("track_id", "label", "event_class") if name not in tracks]
    missing += [name for name in SETTINGS if name not in tracks.attrs]
    if missing:
        raise ValueError(
            f"expected tracks from track(), but {shortened(missing)} are missing in them"
        )
    dims = horizontal_grid(mask).dims
    labels = label(
        mask,
        classes=[int(value) for value in tracks["event_class"].attrs["flag_values"]],
        **{name: float(tracks.attrs[name]) for name in SETTINGS},
    )
    leading = [dim for dim in mask.dims if dim not in dims]
    lookup = xr.DataArray(_numbers(mask, tracks, leading), dims=(*leading, "number"))
    if mask.chunks is not None:
        sizes = {dim: mask.variable.chunksizes.get(dim, -1) for dim in leading}
        lookup = lookup.chunk({**sizes, "number": -1})
    found: xr.DataArray = xr.apply_ufunc(
        _looked_up,
        labels,
        lookup,
        input_core_dims=[list(dims), ["number"]],
        output_core_dims=[list(dims)],
        dask="parallelized",
        output_dtypes=[np.int32],
        keep_attrs=False,
    )
    named = found.transpose(*mask.dims).rename("track_id")
    return named.assign_attrs(labels.attrs | {"long_name": "number of the track, 0 for none"})


def _numbers(mask: xr.DataArray, tracks: xr.Dataset, leading: list[Any]) -> NDArray[np.int32]:
    """Number of the track of each region of each step, 0 for none."""
    indexes = pandas_indexes(mask)
    place = []
    for dim in leading:
        if dim not in tracks.variables:
            raise ValueError(f"the tracks have no {dim!r}: they are not of this mask")
        labels = tracks[dim].to_index()
        place.append(
            indexes[dim].get_indexer(labels) if dim in indexes else np.asarray(labels, np.int64)
        )
    here = np.logical_and.reduce([positions >= 0 for positions in place])
    regions = tracks["label"].values[here].astype(np.int64)
    sizes = [mask.sizes[dim] for dim in leading]
    numbers = np.zeros((*sizes, int(regions.max(initial=0)) + 1), np.int32)
    numbers[(*(positions[here] for positions in place), regions)] = tracks["track_id"].values[here]
    return numbers


def _looked_up(labels: NDArray[np.int32], numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers (..., *horizontal) of the tracks of labels, by those (..., label) of each step."""
    n_horizontal = labels.ndim - numbers.ndim + 1
    leading = labels.shape[: labels.ndim - n_horizontal]
    # a region that is not in the table is in no track
    wide = np.concatenate([numbers, np.zeros((*leading, 1), np.int32)], axis=-1)
    flat = np.minimum(labels, wide.shape[-1] - 1).reshape(*leading, -1)
    found: NDArray[np.int32] = np.take_along_axis(wide, flat.astype(np.int64), axis=-1)
    return found.reshape(labels.shape)
