"""Which data a dataset holds, told so that another process can compare it in another year."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.compat import is_unread
from xsphere.conventions.base import pandas_indexes
from xsphere.sources.contents import Contents, memory_contents, stored_contents
from xsphere.sources.leaves import UnknownError, leaf_of, leaf_under, plain
from xsphere.sources.reads import contents_read

# data in memory beyond this are not hashed
MEMORY_LIMIT = 2**30


def source_of(
    obj: xr.Dataset | xr.DataArray, names: Sequence[Any] | None = None
) -> dict[str, Any] | None:
    """What the data of variables are, found without reading any that are not in memory.

    Equal for the same data in every process, however a path to them was written and wherever they
    were moved to; different when a chunk was edited in place, a file replaced, something else
    selected or done to the data. A store that has only grown is the same for what was there.

    Parameters
    ----------
    obj : Dataset or DataArray
        Opened lazily from Zarr or files, chunked or not; or in memory.
    names : sequence of names, optional
        Variables; all data variables if not given.

    Returns
    -------
    dict or None
        As JSON can hold it. ``exact``: false if an edit in place could go unnoticed, as in a remote
        store that lists no times or tags. ``variables``: for each its ``kind`` (``"zarr"``,
        ``"icechunk"``, ``"file"``, ``"memory"``, or ``"graph"`` where tasks work on it first),
        ``contents`` (a SHA-256 of metadata, selection, and names, sizes and times of chunks),
        ``dims``, ``sizes``, ``dtype`` and ``units``. ``coordinates``: a SHA-256 for
        each dimension that has one, and ``calendar``. None where nothing can tell: more than 1 GiB
        in memory, objects, backends without files.

    Raises
    ------
    KeyError
        If there are no such variables.

    Notes
    -----
    Variables that xarray has loaded meanwhile (``.load()``, ``.values`` of an unchunked dataset)
    count as in memory. What tasks do is told by dask's name for it, which tells of paths too: a
    store that was moved and then transformed counts as another. Encodings that only say how to
    write are ignored.

    Examples
    --------
    >>> ds = xr.Dataset({"t": ("time", [1.0, 2.0])}, {"time": [0, 1]})
    >>> source_of(ds)["variables"]["t"]["kind"]
    'memory'
    >>> source_of(ds) == source_of(ds + 0) != source_of(ds + 1)
    True
    """
    if isinstance(obj, xr.DataArray):
        obj = obj.to_dataset(name="_" if obj.name is None else obj.name)
    ds = obj
    variables = {name: ds.variables[name] for name in (ds.data_vars if names is None else names)}
    loaded = [v for v in variables.values() if v.chunks is None and not is_unread(v)]
    if sum(variable.nbytes for variable in loaded) > MEMORY_LIMIT:
        return None
    records, exact = {}, True
    try:
        for name, variable in variables.items():
            contents = _contents(variable)
            if contents is None:
                return None
            exact = exact and contents.exact
            records[str(name)] = _record(variable, contents)
        coordinates, calendar = coordinates_of(ds, variables)
    except UnknownError:
        return None
    return {
        "exact": exact,
        "variables": records,
        "coordinates": coordinates,
        "calendar": calendar,
    }


def _contents(variable: xr.Variable) -> Contents | None:
    if variable.chunks is not None:
        return _graph_contents(variable.data)
    if is_unread(variable):
        leaf = leaf_of(variable)
        return None if leaf is None else stored_contents(leaf, variable.encoding.get("source"))
    return None if variable.dtype.hasobject else memory_contents(variable.values)


def _graph_contents(data: Any) -> Contents:
    """What tasks make of data: dask's name for what they do, and what lies under them."""
    read = contents_read(xr.DataArray(data))
    starts = [
        _starts_of(layer)
        for name, layer in data.dask.layers.items()
        if not data.dask.dependencies[name]
    ]
    known = all(
        len(values) > 0
        and all(isinstance(value, np.ndarray) or leaf_under(value) is not None for value in values)
        for values in starts
    )
    text = json.dumps([str(data.name), read])
    return Contents(kind="graph", digest=hashlib.sha256(text.encode()).hexdigest(), exact=known)


def _starts_of(layer: Any) -> list[Any]:
    """What a layer begins with: its tasks where they are written out, else its literals."""
    if isinstance(layer, Mapping) and not hasattr(layer, "indices"):
        return [getattr(task, "value", task) for task in layer.values()]
    return [getattr(v, "value", v) for v, index in getattr(layer, "indices", ()) if index is None]


def _record(variable: xr.Variable, contents: Contents) -> dict[str, Any]:
    return {
        "kind": contents.kind,
        "contents": contents.digest,
        "dims": [str(dim) for dim in variable.dims],
        "sizes": list(variable.shape),
        "dtype": variable.dtype.str,
        "units": str(variable.attrs["units"]) if "units" in variable.attrs else None,
    }


def coordinates_of(
    obj: xr.Dataset | xr.DataArray, variables: Mapping[Any, xr.Variable]
) -> tuple[dict[str, str], str | None]:
    """A digest for the labels of each dimension, and the calendar of times."""
    dims = {dim: None for variable in variables.values() for dim in variable.dims}
    labels = {dim: index for dim, index in pandas_indexes(obj).items() if dim in dims}
    calendars = {_calendar(index) for index in labels.values()} - {None}
    digests = {str(dim): labels_digest(index) for dim, index in labels.items()}
    return digests, ", ".join(sorted(map(str, calendars))) or None


def _calendar(index: "pd.Index[Any]") -> str | None:
    if isinstance(index, pd.DatetimeIndex):
        return "proleptic_gregorian"
    return str(index.calendar) if isinstance(index, xr.CFTimeIndex) and index.size else None


def labels_digest(index: "pd.Index[Any]") -> str:
    """SHA-256 of labels, the same whatever unit times are counted in and however texts are kept."""
    dtype: Any = index.dtype
    kind = dtype.kind if isinstance(dtype, np.dtype) else "O"
    match kind:
        case "M" | "m":
            counted = index.to_numpy().astype(f"{kind}8[us]").view(np.int64)
            data = counted.tobytes()
        case "i" | "u" | "f" | "b" | "c":
            data = plain_bytes(index.to_numpy())
        case _:
            kinds = sorted({type(label).__name__ for label in index})
            data = json.dumps([kinds, [_label_text(label) for label in index]]).encode()
    return hashlib.sha256(f"{kind} {index.shape} ".encode() + data).hexdigest()


def plain_bytes(values: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Bytes of an array in the order of C, the smallest first."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _label_text(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_label_text(part) for part in value]
    if isinstance(value, pd.Period | pd.Interval) or value is pd.NA or value is pd.NaT:
        return str(value)
    if hasattr(value, "isoformat"):
        return [getattr(value, "calendar", None), value.isoformat()]
    return plain(value)
