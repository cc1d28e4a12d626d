"""Which data a dataset holds, told so that another process can compare it in another year."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.conventions.base import pandas_indexes
from xsphere.notices import shortened
from xsphere.sources.contents import (
    Contents,
    file_of,
    local_folder,
    memory_contents,
    stored_contents,
)
from xsphere.sources.graphs import leaf_as_opened, starts_are_known, stored_leaves
from xsphere.sources.wrappers import Leaf, UnknownError, decoding, leaf_of, plain

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
        ``dims``, ``sizes``, ``dtype``, ``units`` and ``packing``. ``coordinates``: a SHA-256 for
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
    variables = _variables(obj, names)
    in_memory = sum(v.nbytes for v in variables.values() if v._in_memory)
    if in_memory > MEMORY_LIMIT:
        return None
    try:
        leaves = {name: opened_leaf(variable) for name, variable in variables.items()}
        found = {name: _contents(v, leaves[name]) for name, v in variables.items()}
        if any(contents is None for contents in found.values()):
            return None
        records = {
            str(name): _record(variables[name], leaves[name], contents)
            for name, contents in found.items()
            if contents is not None
        }
        coordinates, calendar = coordinates_of(obj, variables)
    except UnknownError:
        return None
    return {
        "exact": all(contents.exact for contents in found.values() if contents is not None),
        "variables": records,
        "coordinates": coordinates,
        "calendar": calendar,
    }


def places_of(obj: xr.Dataset | xr.DataArray, names: Sequence[Any] | None = None) -> list[str]:
    """Files and stores that variables are read from, for people to read.

    Parameters
    ----------
    obj : Dataset or DataArray
        As for `source_of`, which leaves them out: data stay the same when they are moved.
    names : sequence of names, optional
        Variables; all data variables if not given.

    Returns
    -------
    list of str
        Sorted paths and URLs; empty for data in memory.

    Raises
    ------
    KeyError
        If there are no such variables.

    Examples
    --------
    >>> places_of(xr.Dataset({"t": ("x", [1.0])}))
    []
    """
    places = set()
    for variable in _variables(obj, names).values():
        for leaf in leaves_of(variable):
            array = leaf.zarr_array
            path = file_of(leaf, variable.encoding.get("source"))
            if array is not None:
                places.add(local_folder(array) or str(array.store_path))
            elif path is not None:
                places.add(str(path))
    return sorted(places)


def leaves_of(variable: xr.Variable) -> list[Leaf]:
    """Stored arrays under a variable, lazy or chunked; none for one in memory."""
    if variable.chunks is not None:
        return stored_leaves(variable.data)
    leaf = leaf_of(variable)
    return [] if leaf is None else [leaf]


def opened_leaf(variable: xr.Variable) -> Leaf | None:
    """The stored array whose values a variable has, unchanged, however it is chunked."""
    return leaf_of(variable) if variable.chunks is None else leaf_as_opened(variable.data)


def as_opened(ds: xr.Dataset, names: Sequence[Any]) -> xr.Dataset:
    """The dataset, with variables as they were opened: out of tasks, and apart from the user's.

    Parameters
    ----------
    ds : Dataset
        Any dataset; not changed.
    names : sequence
        The variables that matter.

    Returns
    -------
    Dataset
        Variables whose tasks do no more than read, slice and rechunk are as
        `xarray.open_dataset` gives them without `chunks`; the others are kept.

    Examples
    --------
    >>> ds = xr.Dataset({"t": ("x", [1.0])})
    >>> as_opened(ds, ["t"]).identical(ds)
    True
    """
    opened = {}
    for name in names:
        array = ds[name]
        leaf = opened_leaf(array.variable)
        if leaf is not None:
            opened[name] = array.copy(data=leaf.undasked().around(leaf.stored))
    return ds.assign(opened)


def _variables(
    obj: xr.Dataset | xr.DataArray, names: Sequence[Any] | None
) -> dict[Any, xr.Variable]:
    if isinstance(obj, xr.DataArray):
        return {obj.name: obj.variable}
    chosen = list(obj.data_vars) if names is None else list(names)
    missing = [name for name in chosen if name not in obj.variables]
    if missing:
        raise KeyError(
            f"there are no variables {shortened(missing)}; the dataset has "
            f"{shortened(list(obj.data_vars))}"
        )
    return {name: obj.variables[name] for name in chosen}


def _contents(variable: xr.Variable, leaf: Leaf | None) -> Contents | None:
    source = variable.encoding.get("source")
    if leaf is not None:
        return stored_contents(leaf, source)
    if variable.chunks is not None:
        return _graph_contents(variable.data, source)
    # read once, and kept by xarray in the layers around the file
    if not variable._in_memory or variable.dtype.hasobject:
        return None
    return memory_contents(variable.values)


def _graph_contents(data: Any, source: str | None) -> Contents:
    """What tasks make of data: dask's name for what they do, and what lies under them."""
    parts = [stored_contents(leaf, source) for leaf in stored_leaves(data)]
    known = [part for part in parts if part is not None]
    exact = starts_are_known(data) and len(known) == len(parts)
    text = json.dumps([data.name, [part.digest for part in known]])
    return Contents(
        kind="graph",
        digest=hashlib.sha256(text.encode()).hexdigest(),
        exact=exact and all(part.exact for part in known),
    )


def _record(variable: xr.Variable, leaf: Leaf | None, contents: Contents) -> dict[str, Any]:
    return {
        "kind": contents.kind,
        "contents": contents.digest,
        "dims": [str(dim) for dim in variable.dims],
        "sizes": list(variable.shape),
        "dtype": variable.dtype.str,
        "units": str(variable.attrs["units"]) if "units" in variable.attrs else None,
        "packing": [] if leaf is None else decoding(leaf),
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
