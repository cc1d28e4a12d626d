"""Files in and out: datasets opened lazily, results written whole or not at all."""

import os
import shutil
import uuid
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions import NOT_COMPUTED, horizontal_grid

# what a task holds at a time, per variable
BLOCK_BYTES = 64 * 2**20


class UnreadableFileError(ValueError):
    """A file that is no dataset."""


def open_lazily(path: str | Path) -> xr.Dataset:
    """Dataset of a Zarr store or NetCDF file, in blocks of whole maps.

    Parameters
    ----------
    path : str or Path
        A Zarr store (a folder or a URL) or any file that xarray reads.

    Returns
    -------
    Dataset
        Chunked along its other dimensions only. Variables without a horizontal grid are kept.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    UnreadableFileError
        If it cannot be read.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> dict(open_lazily(SAMPLE).chunksizes)
    {'time': (2,), 'lat': (73,), 'lon': (144,)}
    """
    text = str(path)
    if "://" not in text and not Path(text).exists():
        raise FileNotFoundError(f"there is no file or folder {text!r}")
    is_zarr = "://" in text or Path(text).is_dir()
    try:
        with warnings.catch_warnings():
            # stores without consolidated metadata are read all the same
            warnings.filterwarnings("ignore", message=".*consolidated metadata")
            ds = xr.open_dataset(text, engine="zarr" if is_zarr else None, chunks={})
    # every reader has its own kinds of error for a file that is not its own
    except Exception as error:
        raise UnreadableFileError(
            f"{text!r} cannot be read as a dataset ({type(error).__name__}: {error}); NetCDF files "
            "and Zarr stores can"
        ) from error
    return _in_whole_maps(ds)


def _in_whole_maps(ds: xr.Dataset) -> xr.Dataset:
    try:
        dims = horizontal_grid(ds).dims
    except ValueError:
        return ds  # what needs a grid will say what is missing
    n_cells = int(np.prod([ds.sizes[dim] for dim in dims]))
    block = max(1, BLOCK_BYTES // (4 * n_cells))
    sizes: dict[Any, int] = dict.fromkeys(dims, -1)
    if "time" in ds.dims and "time" in ds.chunksizes:
        # merged up to a block, never split finer than stored
        sizes["time"] = max(block, max(ds.chunksizes["time"], default=1))
    return ds.chunk(sizes)


def write_whole(
    obj: xr.Dataset | xr.DataArray,
    path: str | Path,
    *,
    overwrite: bool = False,
    progress: str | None = None,
) -> Path:
    """Write a result to Zarr or NetCDF, so that it is there whole or not at all.

    It is written beside its place and renamed at the end: a run that dies leaves what was there
    before. Masks are compressed with a checksum, and blocks that were never computed read as 255.

    Parameters
    ----------
    obj : Dataset or DataArray
        What to write; computed block by block.
    path : str or Path
        Ends in ``.zarr`` or ``.nc``.
    overwrite : bool
        Whether to replace what is there.
    progress : str, optional
        Title of a progress bar; none is shown if not given.

    Returns
    -------
    Path
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
    path = Path(path)
    if path.suffix not in (".zarr", ".nc"):
        raise ValueError(f"the output must end in '.zarr' or '.nc', got {str(path)!r}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; choose another name or overwrite it")
    ds = obj.to_dataset() if isinstance(obj, xr.DataArray) else obj
    ds = ds.assign_attrs({"Conventions": "CF-1.13"} | ds.attrs)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with _bar(progress):
            if path.suffix == ".nc":
                ds.to_netcdf(beside, encoding=_encoding(ds, "nc"))
            else:
                with warnings.catch_warnings():
                    # readers look for consolidated metadata, whatever the format's authors say
                    warnings.filterwarnings("ignore", message="Consolidated metadata")
                    ds.to_zarr(beside, mode="w", encoding=_encoding(ds, "zarr"))
        _remove(path)
        os.replace(beside, path)
    finally:
        _remove(beside)
    return path


def _bar(title: str | None) -> AbstractContextManager[Any]:
    if title is None:
        return nullcontext()
    from tqdm.dask import TqdmCallback

    bar: AbstractContextManager[Any] = TqdmCallback(desc=title, unit="task")
    return bar


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _encoding(ds: xr.Dataset, kind: str) -> dict[Any, dict[str, Any]]:
    masks = [name for name, array in ds.data_vars.items() if "flag_meanings" in array.attrs]
    if kind == "nc":
        return {name: {"zlib": True, "complevel": 4} for name in masks}
    from zarr.codecs import ZstdCodec

    # without a checksum most flipped bits would read as another class
    codec = ZstdCodec(level=3, checksum=True)
    return {name: {"fill_value": NOT_COMPUTED, "compressors": (codec,)} for name in masks}
