"""Reading that tells missing and damaged chunks apart from data, and names them."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.conventions.base import pandas_indexes
from xsphere.notices import shortened, warn_user
from xsphere.sources.contents import absent_chunk, file_of, zarr_metadata
from xsphere.sources.errors import UnsafeSourceError
from xsphere.sources.fingerprints import leaves_of, opened_leaf
from xsphere.sources.strict_array import MissingChunks, NamedArray, StrictArray
from xsphere.sources.wrappers import Leaf, leaf_of

# Blosc cannot hold more, and a worker should not
MAX_CHUNK_BYTES = 2**31
MAX_READ_BYTES = 2**36


class UncheckedChunksWarning(UserWarning):
    """Chunks are missing where only Zarr reads."""


def checked(
    ds: xr.Dataset,
    names: Sequence[Any] | None = None,
    *,
    missing_chunks: MissingChunks = "raise",
    max_chunk_bytes: int = MAX_CHUNK_BYTES,
    max_read_bytes: int = MAX_READ_BYTES,
) -> xr.Dataset:
    """The same dataset, still lazy, whose Zarr variables refuse chunks that are not what they were.

    Zarr gives the fill value of a chunk that is missing, often 0, and decoding a Blosc chunk that
    is cut off can end the process. Here both raise an error that names variable, place and chunk.

    Parameters
    ----------
    ds : Dataset
        Opened lazily from Zarr, chunked or not. Variables in memory, from other files or checked
        already are kept.
    names : sequence of names, optional
        Variables to check; all data variables if not given.
    missing_chunks : {"raise", "invalid", "fill"}
        What a chunk that is not in the store means. ``"raise"``: the store is damaged or not
        finished, whatever its fill value. ``"invalid"``: its cells are missing, NaN, which becomes
        invalid input and never background; integers without ``_FillValue`` have no such value, and
        raise. ``"fill"``: its cells have the fill value, as in stores
        written without chunks that hold nothing else (Zarr's ``write_empty_chunks=False``).
    max_chunk_bytes : int
        Size of a chunk beyond which a variable is refused at once.
    max_read_bytes : int
        Size of one read beyond which it is refused.

    Returns
    -------
    Dataset
        Values, names and labels as they were; tasks of chunked variables have new names. Variables
        whose tasks do more than read, slice and rechunk one stored array are kept as they are:
        what they compute with is read by Zarr, without checks.

    Raises
    ------
    KeyError
        If there are no such variables.
    ValueError
        If the policy is unknown.
    UnsafeSourceError
        If chunks are larger than allowed or hold code.

    Warns
    -----
    UncheckedChunksWarning
        If chunks are missing in a local store under variables that are computed with: there they
        read as the fill value.

    Notes
    -----
    Reading raises `MissingChunkError`, `CorruptChunkError` (with the error of the codec as its
    cause) or `UnsafeSourceError`. Whether a flipped bit is noticed depends on the codec: surely
    with a checksum, hardly ever with Blosc. Errors of disks and networks stay what they are.

    Examples
    --------
    >>> ds = xr.Dataset({"t": ("x", [1.0])})
    >>> checked(ds).identical(ds)
    True
    """
    if missing_chunks not in get_args(MissingChunks):
        raise ValueError(
            f"missing_chunks must be one of {list(get_args(MissingChunks))}, got {missing_chunks!r}"
        )
    chosen = list(ds.data_vars) if names is None else list(names)
    missing = [name for name in chosen if name not in ds.variables]
    if missing:
        raise KeyError(
            f"there are no variables {shortened(missing)}; the dataset has "
            f"{shortened(list(ds.data_vars))}"
        )
    _check_safety(ds, chosen, max_chunk_bytes, asked=names is not None)
    leaves = {
        name: leaf
        for name in chosen
        if (leaf := opened_leaf(ds.variables[name])) is not None and leaf.zarr_array is not None
    }
    strict = {
        name: _strict_variable(ds[name], leaf, missing_chunks, max_read_bytes)
        for name, leaf in leaves.items()
        if leaf.zarr_array.dtype.kind in "fiub"
    }
    for name in chosen:
        leaf = leaf_of(ds.variables[name])
        path = None if leaf is None else file_of(leaf, ds.variables[name].encoding.get("source"))
        if leaf is not None and path is not None and not isinstance(leaf.stored, NamedArray):
            strict[name] = leaf.around(NamedArray(leaf.stored, str(name), str(path)))
    if missing_chunks != "fill":
        _warn_of_what_is_missing(ds, [name for name in chosen if name not in leaves])
    return ds.assign({name: ds[name].copy(data=data) for name, data in strict.items()})


def _warn_of_what_is_missing(ds: xr.Dataset, names: Sequence[Any]) -> None:
    """Tell of missing chunks under variables that tasks work on: nobody else would."""
    for name in names:
        arrays = [leaf.zarr_array for leaf in leaves_of(ds.variables[name])]
        for array in arrays:
            key = None if array is None else absent_chunk(array)
            if key is not None:
                warn_user(
                    f"variable {shortened(name)} was computed with since it was opened, and chunks "
                    f"are not in its store (such as {shortened(key)}): where it is computed from "
                    f"these, it is computed from the fill value {shortened(array.fill_value)}. "
                    "Give the path or the dataset as it was opened to have them refused or marked "
                    "as invalid, or say missing_chunks='fill'",
                    UncheckedChunksWarning,
                )
                break


def _check_safety(ds: xr.Dataset, names: Sequence[Any], max_chunk_bytes: int, asked: bool) -> None:
    problems = []
    leaves = [(name, leaf.zarr_array) for name in names for leaf in leaves_of(ds.variables[name])]
    for name, array in leaves:
        if array is None:
            continue
        n_bytes = math.prod(array.chunks) * array.dtype.itemsize
        code = sorted(set(_codecs(zarr_metadata(array))) & {"pickle", "numcodecs.pickle"})
        if code:
            problems.append(
                f"{shortened(name)} is stored with the codecs {code}, which run code when read"
            )
        elif array.dtype.hasobject and asked:
            problems.append(f"{shortened(name)} holds objects, not numbers")
        elif 0 in array.chunks and array.size:
            problems.append(f"{shortened(name)} has chunks of length 0: its metadata are damaged")
        elif n_bytes > max_chunk_bytes:
            problems.append(
                f"{shortened(name)} has chunks {tuple(array.chunks)} of {n_bytes / 2**20:.0f} MiB, "
                f"the limit is {max_chunk_bytes / 2**20:.0f} MiB: rechunk the store, or raise "
                "max_chunk_bytes"
            )
    if problems:
        raise UnsafeSourceError("; ".join(sorted(problems)))


def _codecs(document: Any) -> Iterator[str]:
    """Names of all codecs in the metadata of an array."""
    match document:
        case dict():
            for key, value in document.items():
                if key in ("id", "name") and isinstance(value, str):
                    yield value
                elif key not in ("attributes", ".zattrs"):
                    yield from _codecs(value)
        case list():
            for value in document:
                yield from _codecs(value)


def _missing_value(variable: xr.DataArray, array: Any) -> Any:
    """What a stored value is that reads as missing, or None."""
    if array.dtype.kind == "f":
        return array.dtype.type(np.nan)
    if variable.dtype.kind != "f":
        return None
    value = variable.encoding.get("_FillValue", variable.encoding.get("missing_value"))
    return None if value is None else array.dtype.type(value)


def _strict_variable(
    variable: xr.DataArray, leaf: Leaf, policy: MissingChunks, max_read_bytes: int
) -> Any:
    # what was decided first holds
    if isinstance(leaf.stored, StrictArray):
        return variable.variable._data
    fill = _missing_value(variable, leaf.zarr_array) if policy == "invalid" else None
    stored = StrictArray(
        leaf.stored,
        variable=str(variable.name),
        dims=_stored_dims(leaf, variable),
        times=_times(leaf, variable),
        missing_chunks="raise" if policy == "invalid" and fill is None else policy,
        fill=fill,
        max_read_bytes=max_read_bytes,
    )
    data = leaf.undasked().around(stored)
    if variable.chunks is None:
        return data
    lazy = xr.DataArray(variable.variable.copy(data=data))
    return lazy.chunk(variable.variable.chunksizes, name_prefix="strict-").data


def _stored_dims(leaf: Leaf, variable: xr.DataArray) -> tuple[str, ...]:
    """Names of the axes of a stored array."""
    array = leaf.zarr_array
    names = getattr(array.metadata, "dimension_names", None)
    names = names or dict(array.attrs).get("_ARRAY_DIMENSIONS")
    if names is None or len(names) != array.ndim:
        names = variable.dims if variable.ndim == array.ndim else range(array.ndim)
    return tuple(str(name) for name in names)


def _times(leaf: Leaf, variable: xr.DataArray) -> dict[str, tuple[np.datetime64, np.timedelta64]]:
    """First time and step of axes that count times evenly: small, whatever their length."""
    selection, labelled = leaf.selection(), pandas_indexes(variable)
    found = {}
    for axis, dim in enumerate(_stored_dims(leaf, variable)):
        index = labelled.get(dim)
        if not isinstance(index, pd.DatetimeIndex) or index.hasnans:
            continue
        labels = index.tz_localize(None).to_numpy()
        indices = np.arange(labels.size) if selection is None else selection[axis]
        if labels.size < 2 or indices.size != labels.size:
            continue
        steps = np.diff(labels) // np.diff(indices)
        if (steps == steps[0]).all() and (steps * np.diff(indices) == np.diff(labels)).all():
            found[dim] = (labels[0] - indices[0] * steps[0], steps[0])
    return found
