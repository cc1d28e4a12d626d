"""Files in and out: datasets opened lazily, results written whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import built_beside
from xsphere.conventions import NOT_COMPUTED, describe_healpix, horizontal_grid
from xsphere.conventions.base import check_known_sizes
from xsphere.conventions.masks import holds_classes
from xsphere.conventions.written import INDEX
from xsphere.grids import HealpixGrid
from xsphere.locations import Location, location
from xsphere.notices import without_warnings
from xsphere.outputs import BOOKS, check_output, mark_own, replace_remote
from xsphere.paths import local_path, source_path
from xsphere.sources import MissingChunks, open, unchanged
from xsphere.storable import storable

# what a task holds at a time, per variable
BLOCK_BYTES = 64 * 2**20


def open_lazily(path: str | Path, *, missing_chunks: MissingChunks | str = "raise") -> xr.Dataset:
    """Dataset of a Zarr store or file, in blocks of whole maps.

    Parameters
    ----------
    path : str or Path
        As for `xsphere.open`.
    missing_chunks : {"raise", "invalid", "fill"}
        As for `xsphere.open`; in a mask that we wrote, ``"fill"`` is "not computed".

    Returns
    -------
    Dataset
        Chunked along its other dimensions only. Variables without a horizontal grid are kept.

    Raises
    ------
    FileNotFoundError, UnreadableFileError, UnsafeSourceError
        As for `xsphere.open`.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> dict(open_lazily(SAMPLE).chunksizes)
    {'time': (2,), 'lat': (73,), 'lon': (144,)}
    """
    policy: Any = missing_chunks
    return in_whole_maps(open(path, chunks={}, missing_chunks=policy))


def in_whole_maps(ds: xr.Dataset) -> xr.Dataset:
    """The dataset in blocks of whole maps, cut along the first dimension of its variables."""
    try:
        dims = horizontal_grid(ds).dims
    except ValueError:
        return ds  # what needs a grid will say what is missing
    check_known_sizes({name: variable.chunksizes for name, variable in ds.variables.items()})
    blocks: dict[Any, int] = {}
    sizes: dict[Any, int] = dict.fromkeys(dims, -1)
    for variable in ds.variables.values():
        leading = [dim for dim in variable.dims if dim not in dims]
        if not leading or len(leading) == variable.ndim:
            continue
        first, *others = leading
        sizes |= dict.fromkeys(others, -1)
        stored = variable.encoding.get("preferred_chunks", {}).get(first, 1)
        # merged up to a block, never split finer than stored
        n_bytes = 4 * max(1, variable.size) // max(1, variable.sizes[first])
        found = max(BLOCK_BYTES // n_bytes, *(variable.chunksizes.get(first) or (stored,)), 1)
        blocks[first] = min(found, blocks.get(first, found))
    return ds.chunk(sizes | blocks)


def write_whole(
    obj: xr.Dataset | xr.DataArray,
    path: str | Path | Location,
    *,
    overwrite: bool = False,
    progress: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path | str:
    """Write a result to Zarr or NetCDF, so that it is there whole or not at all.

    It is written beside its place and renamed at the end: a run that dies leaves what was there
    before. In an object store, where nothing can be renamed, the metadata in one place are written
    last; with `overwrite`, what was there is removed first. Masks are compressed with a checksum,
    and blocks that were never computed read as 255.

    Parameters
    ----------
    obj : Dataset or DataArray
        What to write; computed block by block.
    path : str, Path or zarr.abc.store.Store
        Ends in ``.zarr`` or ``.nc``; a URL only in ``.zarr``.
    overwrite : bool
        Whether to replace what is there.
    progress : str, optional
        Title of a progress bar; none is shown if not given.
    storage_options : dict, optional
        For fsspec, where `path` is a URL.

    Returns
    -------
    Path or str
        Where it is.

    Raises
    ------
    ValueError
        If the name has another ending.
    FileExistsError
        If something is there and `overwrite` is not set.

    Examples
    --------
    >>> import tempfile
    >>> path = write_whole(xr.DataArray([1], name="x"), tempfile.mkdtemp() + "/x.zarr")
    >>> path.name
    'x.zarr'
    """
    file = _netcdf_path(path)
    ds = storable(with_title(obj.to_dataset() if isinstance(obj, xr.DataArray) else obj))
    if file is not None:
        check_output(file, [ds], folder=False, overwrite=overwrite)
        with built_beside(file, replace=overwrite) as beside, unchanged(ds), bar_of(progress):
            _to_netcdf(ds, beside, file)
        return file
    place = location(path, storage_options=storage_options)
    check_output(place, [ds], folder=True, overwrite=overwrite)
    with store_at(place, overwrite) as store, unchanged(ds), bar_of(progress):
        to_zarr(ds, store)
    return place.path


def _netcdf_path(path: Any) -> Path | None:
    """The file that is to be written, or None for a store."""
    if isinstance(path, Location) or not isinstance(path, str | os.PathLike):
        return None
    suffix = PurePosixPath(source_path(path, "the output")).suffix
    if suffix not in (".zarr", ".nc"):
        raise ValueError(f"the output must end in '.zarr' or '.nc', got {str(path)!r}")
    return local_path(path) if suffix == ".nc" else None


@contextmanager
def store_at(place: Location, overwrite: bool, *, group: bool = True) -> Iterator[Any]:
    """Where a store is written that is there whole or not at all, with a group that says whose."""
    if place.local is not None:
        with built_beside(place.local, folder=True, replace=overwrite) as beside:
            if group:
                mark_own(Location(str(beside)))
            yield beside
        return
    if overwrite:
        replace_remote(place)
    if group:
        mark_own(place, "being written")
    else:
        place.delete(BOOKS)
    with place.errors("written"):
        yield place.store()
    if group:
        mark_own(place)


def with_title(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with the version of CF that it follows."""
    return ds.assign_attrs({"Conventions": "CF-1.13"} | ds.attrs)


def to_zarr(ds: xr.Dataset, path: Any, group: str | None = None) -> Any:
    """Write a dataset; in a group everything but its lazy variables."""
    with without_format_warnings():
        encoding = _encoding(ds, "zarr")
        if group is None:
            return ds.to_zarr(path, mode="a", encoding=encoding)
        return with_conventions(ds).to_zarr(
            path, group=group, mode="w", encoding=encoding, compute=False, consolidated=False
        )


def _to_netcdf(ds: xr.Dataset, beside: Path, path: Path) -> None:
    try:
        ds.to_netcdf(beside, encoding=_encoding(ds, "nc"))
    except (OSError, RuntimeError) as error:
        # HDF5 has the same words for whatever a disk refuses: ask the disk itself
        try:
            with beside.open("ab") as file:
                file.write(bytes(2**20))
        except OSError as refusal:
            words = f"{path} cannot be written ({refusal.strerror})"
            raise OSError(refusal.errno, words) from error
        raise


def with_conventions(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with the attributes of the Zarr DGGS convention, if it is on HEALPix."""
    try:
        found = horizontal_grid(ds)
    except ValueError:
        return ds
    if not isinstance(found.grid, HealpixGrid) or INDEX not in ds.coords:
        return ds
    return describe_healpix(ds, found.grid, dim=found.dims[0], dggs=True)


@contextmanager
def without_format_warnings() -> Iterator[None]:
    """Metadata in one place without a warning that Zarr's third format does not foresee it."""
    # readers look for consolidated metadata, whatever the format's authors say, and partial files
    # are what another writer, who does the same, is about to rename
    with without_warnings("Consolidated metadata", r"Object at \S+\.partial is not recognized"):
        yield


def bar_of(title: str | None) -> AbstractContextManager[Any]:
    """A bar of what dask does inside, if it has a title."""
    if title is None:
        return nullcontext()
    from tqdm.dask import TqdmCallback

    bar: AbstractContextManager[Any] = TqdmCallback(desc=title, unit="task")
    return bar


def _encoding(ds: xr.Dataset, kind: str) -> dict[Any, dict[str, Any]]:
    masks = [
        name
        for name, array in ds.data_vars.items()
        if array.dtype == np.uint8 and holds_classes(array)
    ]
    if kind == "nc":
        return {name: {"zlib": True, "complevel": 4} for name in masks}
    from zarr.codecs import ZstdCodec

    # without a checksum most flipped bits would read as another class
    codec = ZstdCodec(level=3, checksum=True)
    return {name: {"fill_value": NOT_COMPUTED, "compressors": (codec,)} for name in masks}
