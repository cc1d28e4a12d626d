"""Regridded fields kept in a store of blocks, so that they are computed once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.blocks import write_blocks
from xsphere.conventions import horizontal_grid
from xsphere.conventions.base import horizontal_names
from xsphere.locations import Location, location
from xsphere.notices import shortened
from xsphere.regridding import MissingPolicy, RegridMethod, Vectors, to_healpix
from xsphere.sources import open
from xsphere.store import in_whole_maps


def cache_regridded(
    ds: xr.Dataset,
    level: int,
    path: str | Path | Location,
    *,
    variables: Sequence[Any] | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    **writing: Any,
) -> xr.Dataset:
    """Regrid onto HEALPix, keep the fields in a Zarr store, and open that.

    The store is one of `xsphere.write_blocks`: a call that finds some of the blocks computes the
    others, one that finds all computes nothing, and a store of other data, of another level or
    method is refused. Models of that level read the fields as they are.

    Parameters
    ----------
    ds : Dataset
        On any grid that `xsphere.horizontal_grid` finds; lazy, from `xsphere.open` or chunked along
        its first dimension, or in memory.
    level : int
        Refinement level: ``12 * 4**level`` cells.
    path : str, Path or zarr.abc.store.Store
        Where the fields are kept, as for `xsphere.write_blocks`.
    variables : sequence of names, optional
        Variables to regrid; all with the horizontal dimensions if not given.
    method, vectors, missing
        As for `xsphere.to_healpix`. A model's own method is ``model.spec.regridding``.
    **writing
        As for `xsphere.write_blocks`: `append`, `overwrite`, `workers`, `progress` and others.

    Returns
    -------
    Dataset
        As `xsphere.open` gives it. Variables without the horizontal dimensions are kept too.

    Raises
    ------
    TypeError
        If `ds` is no Dataset.
    ValueError
        If there are no such variables, or as for `xsphere.to_healpix`.
    OtherRunError
        If the store holds other fields, or its source has changed.

    Notes
    -----
    Values beyond the valid range of a model's variable are recognised after regridding only, in the
    cells that they spoil most. `xsphere.segment` of the source marks each cell they have part in.

    Examples
    --------
    >>> import tempfile, xsphere
    >>> ds = xsphere.sample_dataset()
    >>> place, method = tempfile.mkdtemp() + "/fields.zarr", "conservative"
    >>> fields = cache_regridded(ds, 5, place, method=method)
    >>> fields.PSL.sizes["cells"]
    12288
    >>> bool((fields.sphere.segment("tc-ar") == ds.sphere.segment("tc-ar")).all())
    True
    """
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"expected a Dataset, got {type(ds).__name__}; use .to_dataset()")
    place = location(path, storage_options=writing.get("storage_options"))
    regridded = to_healpix(
        in_whole_maps(_chosen(ds, variables)),
        level,
        method=method,
        vectors=vectors,
        missing=missing,
    )
    write_blocks(_first_apart(regridded), place, **writing)
    return open(place.store() if place.local is None else place.local)


def _chosen(ds: xr.Dataset, variables: Sequence[Any] | None) -> xr.Dataset:
    """The dataset without what is not to be regridded."""
    if variables is None:
        return ds
    horizontal = horizontal_grid(ds, [name for name in variables if name in ds] or None)
    present = horizontal_names(ds, horizontal)
    unknown = [name for name in variables if name not in present]
    if unknown:
        raise ValueError(
            f"there are no variables {shortened(unknown)} with the dimensions {horizontal.dims}; "
            f"the dataset has {shortened(present)}"
        )
    return ds.drop_vars([name for name in present if name not in variables])


def _first_apart(ds: xr.Dataset) -> xr.Dataset:
    """Fields in blocks along the first of their dimensions; those without it computed."""
    lazy = {name: array for name, array in ds.data_vars.items() if array.chunks is not None}
    leading = [array.dims[0] for array in lazy.values() if len(array.dims) > 1]
    whole = [name for name, array in lazy.items() if array.dims[0] not in leading]
    return ds.assign({name: ds[name].compute() for name in whole})
