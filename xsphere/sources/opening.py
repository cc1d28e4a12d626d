"""Datasets opened so that no chunk is read that is missing, damaged, or larger than it says."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.compat import is_unread, lazy_array
from xsphere.conventions.base import pandas_indexes
from xsphere.notices import shortened, warn_user, without_warnings
from xsphere.paths import source_path
from xsphere.sources.contents import absent_chunk
from xsphere.sources.errors import UnsafeSourceError
from xsphere.sources.reads import literals

MissingChunks = Literal["raise", "invalid", "fill"]
# Blosc cannot hold more, and a worker should not
MAX_CHUNK_BYTES = 2**31
MAX_READ_BYTES = 2**36
# chunks of a variable that xarray opened, whose files are looked for
MOST_LOOKED_AT = 2**11
# in the encoding of a variable: what its missing chunks mean
POLICY = "missing_chunks"


class UnreadableFileError(ValueError):
    """A file or store that is no dataset.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     open(folder)
    Traceback (most recent call last):
    xsphere.sources.opening.UnreadableFileError: ... cannot be read as a dataset (...
    """


class UncheckedChunksWarning(UserWarning):
    """Chunks are missing in a store that xarray opened: their fill value would be read.

    Examples
    --------
    >>> issubclass(UncheckedChunksWarning, UserWarning)
    True
    """


def open(
    source: Any,
    *,
    group: str | None = None,
    chunks: Any = None,
    missing_chunks: MissingChunks = "raise",
    max_chunk_bytes: int = MAX_CHUNK_BYTES,
    max_read_bytes: int = MAX_READ_BYTES,
    engine: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Dataset of a Zarr store or a file, of which nothing but coordinates is read.

    Zarr gives the fill value of a chunk that is missing, often 0, and decoding a Blosc chunk that
    is cut off can end the process. Here both raise an error that names variable, place and chunk,
    however the dataset is selected, rechunked and computed with. Files are read as
    `xarray.open_dataset` reads them.

    Parameters
    ----------
    source : str, Path or zarr.abc.store.Store
        A Zarr store (a folder, a URL such as ``s3://bucket/x.zarr``, or a store of Zarr), or any
        file that xarray reads.
    group : str, optional
        Of the store or file.
    chunks : dict, optional
        As for `xarray.open_dataset`. Not chunked by default, which is best for `xsphere.segment`:
        then each block is one task.
    missing_chunks : {"raise", "invalid", "fill"}
        What a chunk means that is not in a Zarr store. ``"raise"``: the store is damaged or not
        finished, whatever its fill value. ``"invalid"``: its cells are missing, NaN, which becomes
        invalid input and never background; integers without ``_FillValue`` have no such value, and
        raise. ``"fill"``: its cells have the fill value, as in stores written without chunks that
        hold nothing else (Zarr's ``write_empty_chunks=False``). Coordinates are always filled.
    max_chunk_bytes : int
        Size of a chunk beyond which a store is refused at once.
    max_read_bytes : int
        Size of one read beyond which it is refused.
    engine, storage_options
        As for `xarray.open_dataset`. By default a folder or URL is Zarr.
    **options
        More of `xarray.open_dataset`, such as `drop_variables`.

    Returns
    -------
    Dataset
        What is read of it is not kept.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    UnreadableFileError
        If it cannot be read.
    UnsafeSourceError
        If chunks are larger than allowed or hold code.
    ValueError
        If the policy is unknown.

    Notes
    -----
    Reading raises `MissingChunkError`, `CorruptChunkError` (with the error of the codec as its
    cause) or `UnsafeSourceError`. Whether a flipped bit is noticed depends on the codec: surely
    with a checksum, hardly ever with Blosc. Errors of disks and networks stay what they are.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> open(SAMPLE).PSL.chunks is None
    True
    """
    if missing_chunks not in get_args(MissingChunks):
        raise ValueError(
            f"missing_chunks must be one of {list(get_args(MissingChunks))}, got {missing_chunks!r}"
        )
    is_store = hasattr(source, "list_prefix")
    place = source if is_store else source_path(source)
    if not is_store and "://" not in place and not Path(place).exists():
        raise FileNotFoundError(f"there is no file or folder {place!r}")
    is_zarr = is_store or "://" in place or Path(place).is_dir()
    own: dict[str, Any] = {"group": group} if group is not None else {}
    try:
        # stores without consolidated metadata are read all the same
        with without_warnings(".*consolidated metadata"):
            if (engine is None and not is_zarr) or engine not in (None, "zarr"):
                if storage_options is not None:
                    own["storage_options"] = dict(storage_options)
                own |= {"engine": engine, "chunks": chunks, "cache": False} | options
                return _named(xr.open_dataset(place, **own), str(place))
            return _opened(
                place,
                {**own, "storage_options": storage_options},
                {"chunks": chunks, "cache": False} | options,
                policy=missing_chunks,
                sizes=(max_chunk_bytes, max_read_bytes),
            )
    except UnsafeSourceError:
        raise
    # every reader has its own kinds of error for a file that is not its own
    except Exception as error:
        raise UnreadableFileError(
            f"{str(place)!r} cannot be read as a dataset ({type(error).__name__}: "
            f"{shortened(error)}); NetCDF files and Zarr stores can"
        ) from error


def _opened(
    place: Any, where: dict[str, Any], options: dict[str, Any], *, policy: MissingChunks, sizes: Any
) -> xr.Dataset:
    """A Zarr store, opened by xarray through arrays that check."""
    from xsphere.sources.strict import Opening
    from xsphere.sources.zarr_store import StrictZarrStore

    opening = Opening(
        missing_chunks=policy,
        max_chunk_bytes=sizes[0],
        max_read_bytes=sizes[1],
        stamp=_stamp(place),
    )
    store = StrictZarrStore.open_group(place, consolidated=None, **where)
    store.prepare(opening, masked=options.get("mask_and_scale", True) is not False)
    dropped = options.get("drop_variables") or ()
    unsafe = store.problems([dropped] if isinstance(dropped, str) else list(dropped))
    if unsafe:
        raise UnsafeSourceError(f"{'; '.join(unsafe)}. To do without: drop_variables=[...]")
    ds = xr.open_dataset(place, engine="zarr", store=store, **options)
    opening.times.update(_even_times(ds))
    return ds


def _stamp(place: Any) -> str:
    """When a folder was last written to as a whole: to tell another store at its path."""
    try:
        return str(os.stat(place).st_mtime_ns)
    except (OSError, TypeError, ValueError):
        return ""


def _even_times(ds: xr.Dataset) -> dict[str, Any]:
    """First time and step of dimensions that count times evenly: small, whatever their length."""
    found = {}
    for dim, index in pandas_indexes(ds).items():
        if getattr(index.dtype, "kind", "") != "M" or index.size < 2 or index.hasnans:
            continue
        times = index.to_numpy()
        steps = np.diff(times)
        if (steps == steps[0]).all():
            found[str(dim)] = (times[0], steps[0])
    return found


def _named(ds: xr.Dataset, path: str) -> xr.Dataset:
    """A dataset of a file whose variables name it when they cannot be read."""
    from xsphere.sources.strict import NamedArray

    named = {
        name: xr.Variable(
            variable.dims,
            lazy_array(NamedArray(variable, str(name), path)),
            variable.attrs,
            variable.encoding,
        )
        for name, variable in ds.variables.items()
        if name in ds.data_vars and is_unread(variable)
    }
    opened = ds.assign(named)
    opened.set_close(ds.close)
    return opened


def policy_of(arrays: Iterable[xr.DataArray]) -> str:
    """What missing chunks of some arrays mean: the fill value, unless `open` opened them."""
    return ", ".join(sorted({str(array.encoding.get(POLICY, "fill")) for array in arrays}))


def warn_of_unchecked(arrays: Iterable[xr.DataArray]) -> None:
    """Tell of chunks that are missing in local stores, where nothing refuses them when read.

    Of a store with many chunks some are looked at, spread over it.
    """
    for array in arrays:
        if POLICY in array.encoding:
            continue
        for leaf in literals(array.rename("_").reset_coords(drop=True)):
            stored = getattr(leaf, "zarr_array", None)
            if stored is None or hasattr(leaf.stored, "missing_chunks") or _means_missing(stored):
                continue
            key = absent_chunk(stored, MOST_LOOKED_AT)
            if key is not None:
                warn_user(
                    f"variable {shortened(array.name)} was opened by xarray, and chunks are not "
                    f"in its store (such as {shortened(key)}): they are read as the fill value "
                    f"{shortened(stored.fill_value)}, as if it were data. Open it with "
                    "xsphere.open(path), or give the path, to have them refused or marked as "
                    "invalid; or say missing_chunks='fill'",
                    UncheckedChunksWarning,
                )
                return


def _means_missing(array: Any) -> bool:
    """Whether xarray reads the fill value of a Zarr array as missing, so that it is no data."""
    fill = array.fill_value
    if fill is None or array.metadata.zarr_format == 2:
        return fill is not None
    return bool(pd.isna(fill)) or array.attrs.get("_FillValue") == fill
