"""Labels as files hold them: what has another form is given it, what has none is refused."""

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

# Of the file that was read; what Zarr 2 has there, Zarr 3 does not know.
_LAYOUT = {
    "chunks",
    "compressor",
    "compressors",
    "filters",
    "preferred_chunks",
    "serializer",
    "shards",
}


def storable(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with coordinates and variables in memory as Zarr and NetCDF hold them.

    Parameters
    ----------
    ds : Dataset
        Any; left as it was. Lazy numbers stay so.

    Returns
    -------
    Dataset
        Times with a zone are in UTC, categories and nullable numbers are plain (missing numbers
        NaN), texts are objects. How the file that was read lays out its chunks is forgotten.

    Raises
    ------
    ValueError
        If labels have no such form, with all of them and what to do.

    Examples
    --------
    >>> hours = pd.date_range("2001-01-01", periods=2, freq="h", tz="Europe/Paris")
    >>> storable(xr.Dataset(coords={"time": hours})).time.values[0]
    np.datetime64('2000-12-31T23:00:00.000000')
    >>> storable(xr.Dataset(coords={"time": pd.period_range("2001", periods=2, freq="Y")}))
    Traceback (most recent call last):
    ValueError: these labels cannot be written: 'time' (period[Y-DEC]): ...to_timestamp()...
    """
    changed, problems = _converted(ds)
    if problems:
        raise ValueError("these labels cannot be written: " + "; ".join(problems.values()))
    return _with_converted(ds, changed)


def without_unstorable(ds: xr.Dataset) -> xr.Dataset:
    """As `storable`, where what cannot be written is not worth an error."""
    changed, problems = _converted(ds)
    return _with_converted(ds.drop_vars(problems), changed)


def _with_converted(ds: xr.Dataset, changed: Mapping[Any, xr.Variable]) -> xr.Dataset:
    """The dataset with converted variables, without the layout of the file that was read."""
    labels = {name: new for name, new in changed.items() if name in ds.coords}
    plain = ds.assign_coords(labels).assign({n: v for n, v in changed.items() if n not in labels})
    for variable in plain.variables.values():
        kept = variable.encoding.items()
        variable.encoding = {key: value for key, value in kept if key not in _LAYOUT}
    return plain


def _converted(ds: xr.Dataset) -> tuple[dict[Any, xr.Variable], dict[Any, str]]:
    """Variables that change, and what is wrong with others, by name."""
    changed, problems = {}, {}
    for name, original in ds.variables.items():
        numbers = getattr(original.dtype, "kind", "O") in "biufcmM"
        # numbers stay lazy, and only coordinates may be of other kinds
        if original.chunks is not None and (numbers or name not in ds.coords):
            continue
        variable = original if original.chunks is None else original.compute()
        try:
            values = _plain(variable, name, ds.xindexes.get(name))
        except ValueError as error:
            problems[name] = f"{str(name)!r} ({variable.dtype}): {error}"
            continue
        if values is not None or original.chunks is not None:
            values = variable.values if values is None else values
            changed[name] = xr.Variable(variable.dims, values, variable.attrs, variable.encoding)
    return changed, problems


def _plain(variable: xr.Variable, name: Any, index: Any = None) -> Any:
    """Values in a form that can be written; None if they are."""
    dtype: Any = variable.dtype
    refused = [words for kind, words in _WITHOUT_FORM.items() if kind in (type(dtype), type(index))]
    if refused:
        raise ValueError(refused[0].format(name=name))
    if isinstance(dtype, np.dtype):
        if dtype.kind in "UT":
            return variable.values.astype(object)
        return _plain_objects(variable.values) if dtype.kind == "O" else None
    labels = variable.to_index() if variable.ndim else pd.Index([variable.values.item()])
    return _plain_labels(labels).reshape(variable.shape)


def _plain_labels(labels: "pd.Index[Any]") -> NDArray[Any]:
    """Labels of a type of pandas as an array of numpy."""
    dtype: Any = labels.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.DatetimeIndex(labels).tz_convert(None).to_numpy()
    if isinstance(dtype, pd.CategoricalDtype):
        return _plain_labels(labels.astype(dtype.categories.dtype))
    if isinstance(dtype, pd.StringDtype):
        return labels.to_numpy(object)
    if labels.hasnans:
        return labels.to_numpy("f8", na_value=np.nan)
    return labels.to_numpy(getattr(dtype, "numpy_dtype", None))


_WITHOUT_FORM: Mapping[type, str] = {
    pd.PeriodDtype: "a period has no form in files; give its start, "
    "ds.assign_coords({name}=ds.indexes['{name}'].to_timestamp())",
    pd.IntervalDtype: "an interval has no form in files; give its middle, "
    "ds.assign_coords({name}=ds.indexes['{name}'].mid)",
    xr.indexes.PandasMultiIndex: "a MultiIndex has no form in files; call .reset_index('{name}')",
}


def _plain_objects(values: NDArray[Any]) -> NDArray[Any] | None:
    items = values.ravel().tolist()
    if all(isinstance(item, str) for item in items) or all(_is_cftime(item) for item in items):
        return None
    if all(isinstance(item, datetime.date) for item in items):
        times = pd.DatetimeIndex(pd.to_datetime(items, utc=True)).tz_convert(None).to_numpy()
        return times.reshape(values.shape)
    kinds = sorted({type(item).__name__ for item in items})
    raise ValueError(
        f"objects of the kinds {kinds} have no form in files; make them texts, numbers or times, "
        "or drop them"
    )


def _is_cftime(item: Any) -> bool:
    return hasattr(item, "calendar") and hasattr(item, "timetuple")
