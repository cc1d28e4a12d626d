"""Fields at many HEALPix levels in one store, for maps that zoom and models that look far."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.conventions import horizontal_grid
from xsphere.grids import HealpixGrid
from xsphere.locations import Location, location
from xsphere.outputs import OWN_MARK, OWN_WORDS, check_output
from xsphere.regridding import MissingPolicy, RegridMethod, Vectors, coarsen, to_healpix
from xsphere.sources import unchanged
from xsphere.storable import storable
from xsphere.store import bar_of, store_at, to_zarr, with_title, without_format_warnings

MULTISCALES_CONVENTION = {
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v1/"
    "schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v1/README.md",
    "name": "multiscales",
    "description": "Multiscale layout of zarr datasets",
}


def write_pyramid(
    obj: xr.Dataset | xr.DataArray,
    path: str | Path | Location,
    *,
    levels: Iterable[int] | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    min_valid_fraction: float = 0.5,
    overwrite: bool = False,
    progress: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path | str:
    """Write fields at several HEALPix levels to one Zarr store.

    The source is read, and regridded to the finest level, once: block by block, the coarser
    levels are exact means of the finest (for classes the class of most cells), not of each other.

    Parameters
    ----------
    obj : Dataset or DataArray
        On any grid that `xsphere.horizontal_grid` finds. Fields that are on HEALPix already are
        only made coarser.
    path : str, Path or zarr.abc.store.Store
        Ends in ``.zarr``, also as a URL. There or not there as a whole: a run that dies leaves what
        was before. In an object store its metadata in one place are written last.
    levels : iterable of int, optional
        Refinement levels to write. For fields on HEALPix, every level from theirs to 0 if not
        given.
    method, vectors, missing, min_valid_fraction
        As for `xsphere.regrid`.
    overwrite : bool
        Whether to replace what is there.
    progress : str, optional
        Title of a progress bar; none is shown if not given.
    storage_options : dict, optional
        For fsspec, where `path` is a URL.

    Returns
    -------
    Path or str
        Where it is. ``xr.open_zarr(path, group="6")`` reads a level, ``xr.open_datatree(path)``
        all of them. NetCDF cannot hold the nested attributes of the DGGS convention: save a level
        with ``level.drop_attrs(deep=False).to_netcdf(...)``, which leaves it described by CF.

    Raises
    ------
    ValueError
        If no levels are given for fields that are not on HEALPix, there are none, they repeat or
        are finer than the HEALPix fields, the name does not end in ``.zarr``, or as for
        `xsphere.regrid`.
    FileExistsError
        If something is there and `overwrite` is not set.

    Examples
    --------
    >>> import tempfile
    >>> import xsphere
    >>> path = tempfile.mkdtemp() + "/pyramid.zarr"
    >>> ds = xsphere.sample_dataset()[["TMQ"]]
    >>> xr.open_zarr(write_pyramid(ds, path, levels=[4, 3, 2]), group="3").sizes["cells"]
    768
    """
    place = location(path, storage_options=storage_options)
    ds = obj.to_dataset() if isinstance(obj, xr.DataArray) else obj
    # before fields in memory are regridded
    check_output(place, [ds], folder=True, overwrite=overwrite)
    grid = horizontal_grid(ds).grid
    chosen = _checked_levels(levels, grid if isinstance(grid, HealpixGrid) else None)
    options: dict[str, Any] = {
        "vectors": vectors,
        "missing": missing,
        "min_valid_fraction": min_valid_fraction,
    }
    if isinstance(grid, HealpixGrid):
        finest = ds if grid.level == chosen[0] else coarsen(ds, chosen[0], **options)
    else:
        finest = to_healpix(ds, chosen[0], method=method, **options)
    coarser = {level: coarsen(finest, level, **options) for level in chosen[1:]}
    return write_levels(
        {chosen[0]: finest} | coarser, place, overwrite=overwrite, progress=progress
    )


def _checked_levels(levels: Iterable[int] | None, grid: HealpixGrid | None) -> list[int]:
    """Levels to write, the finest first."""
    if levels is None and grid is None:
        raise ValueError(
            "write_pyramid() needs levels=[...] for fields that are not on HEALPix, got none; "
            "levels=range(7), for example"
        )
    chosen = list(range(grid.level + 1) if levels is None and grid is not None else levels or ())
    bad = [level for level in chosen if isinstance(level, bool) or not isinstance(level, int)]
    if not chosen or bad or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ValueError(f"levels must be different integers from 0 on, got {chosen}")
    if grid is not None and max(chosen) > grid.level:
        raise ValueError(
            f"levels must be at most {grid.level}, the level of the data, got {sorted(chosen)}; "
            "call refine() first"
        )
    return sorted(chosen, reverse=True)


def write_levels(
    levels: Mapping[int, xr.Dataset],
    place: Location,
    *,
    overwrite: bool = False,
    progress: str | None = None,
) -> Path | str:
    """Write datasets of several HEALPix levels, computing blocks that they share once.

    Each level is a group named by its number; the attributes follow the Zarr conventions
    multiscales (https://github.com/zarr-conventions/multiscales) and, in each group, dggs.
    """
    import zarr

    check_output(place, levels.values(), folder=True, overwrite=overwrite)
    groups = {str(level): storable(with_title(ds)) for level, ds in levels.items()}
    attributes = _multiscales(sorted(levels, reverse=True))
    with (
        store_at(place, overwrite, group=False) as store,
        unchanged(*levels.values()),
        bar_of(progress),
    ):
        zarr.create_group(store, attributes=attributes)
        for group, ds in groups.items():
            to_zarr(ds, store, group=group)
        _fill_together(groups, store)
        with without_format_warnings():
            zarr.consolidate_metadata(store)
    return place.path


def _multiscales(levels: Sequence[int]) -> dict[str, Any]:
    """Attributes of a group whose children are levels, the finest first."""
    finest = levels[0]
    layout = [
        {
            "asset": str(level),
            "refinement_level": level,
            "transform": {"scale": [2.0 ** (finest - level)]},
        }
        | ({"derived_from": str(finest)} if level != finest else {})
        for level in levels
    ]
    return {
        "zarr_conventions": [MULTISCALES_CONVENTION],
        "multiscales": {"layout": layout, "resampling_method": "average"},
        OWN_MARK: OWN_WORDS,
    }


def _fill_together(groups: Mapping[str, xr.Dataset], path: Any) -> None:
    """Compute and write the lazy variables of all groups in one graph.

    One by one, as xarray would do it, each group would compute anew what they share.
    """
    import dask.array as da
    import zarr

    lazy = {
        f"{group}/{name}": variable
        for group, ds in groups.items()
        for name, variable in ds.variables.items()
        if variable.chunks is not None
    }
    if lazy:
        store = zarr.open_group(path, mode="r+")
        encoded = [xr.conventions.encode_cf_variable(v, name=n).data for n, v in lazy.items()]
        targets: list[Any] = [store[name] for name in lazy]
        da.store(encoded, targets, lock=False)
