"""What a store is of: the run, the layout and the coordinates, and where two of them differ."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.blocks.layout import Layout
from xsphere.sources.reads import contents_read

RUN = "xsphere_run"
# letters of a value in a message
SHOWN = 200


def described(ds: xr.Dataset, layout: Layout) -> dict[str, Any]:
    """All that must be equal for two runs to fill the same store, as JSON can hold it.

    Parameters
    ----------
    ds : Dataset
        What is written; its attribute ``xsphere_run``, or that of its variables, names the run.
    layout : Layout
        Its blocks.

    Returns
    -------
    dict
        ``run``, ``layout`` and, by variable, a digest of what is written at once.

    Raises
    ------
    ValueError
        If the attribute is no JSON object.

    Examples
    --------
    >>> ds = xr.Dataset({"x": ("time", np.zeros(2))}, attrs={RUN: '{"model": "a"}'})
    >>> described(ds, Layout("time", 2, 1, ()))["run"]
    {'model': 'a'}
    """
    blocked = {variable.name for variable in layout.variables}
    whole = {
        str(name): summary(*encoded(variable, str(name)))
        for name, variable in ds.variables.items()
        if str(name) not in blocked
    }
    return {"run": _run(ds, layout), "layout": layout.described(), "written whole": whole}


def _run(ds: xr.Dataset, layout: Layout) -> dict[str, Any]:
    """The run of a dataset, or those of its variables where they differ."""
    if RUN in ds.attrs:
        return _parsed(ds.attrs[RUN], "the dataset")
    runs = {}
    for variable in layout.variables:
        array = ds[variable.name]
        if RUN in array.attrs:
            runs[variable.name] = _parsed(array.attrs[RUN], repr(variable.name))
        else:
            # what dask calls a result is made of what it is computed from
            read = contents_read(array)
            runs[variable.name] = {"graph": str(array.data.name)} | (
                {"source": read} if read else {}
            )
    values = list(runs.values())
    return values[0] if values and all(run == values[0] for run in values) else runs


def changed_sources(ds: xr.Dataset, layout: Layout, described: Mapping[str, Any]) -> list[str]:
    """Sources of a run that are not what its description says, by the names of variables or files.

    Parameters
    ----------
    ds : Dataset
        What is written.
    layout : Layout
        Its blocks.
    described : mapping
        As `described` gave it before.

    Returns
    -------
    list of str
        Empty where nothing changed, or nothing can tell.

    Examples
    --------
    >>> ds = xr.Dataset({"x": ("time", np.zeros(2))}).chunk()
    >>> layout = Layout("time", 2, 2, ())
    >>> changed_sources(ds, layout, described(ds, layout))
    []
    """
    records: list[Any] = [
        ds.attrs.get(RUN),
        *(array.attrs.get(RUN) for array in ds.data_vars.values()),
    ]
    looks = {str(text): text.changed for text in records if hasattr(text, "changed")}
    if looks:
        return sorted({name for look in looks.values() for name in look()})
    return [line.partition(":")[0] for line in differences(_run(ds, layout), described["run"])]


def _parsed(text: Any, owner: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the attribute {RUN!r} of {owner} must be the text of a JSON object, got {text!r}; "
            f"remove it with del obj.attrs[{RUN!r}] if it is not from this package"
        ) from error


def encoded(variable: xr.Variable, name: str) -> tuple[NDArray[Any], Mapping[str, Any]]:
    """Values as they are stored, and attributes: times are numbers, and their units count."""
    if variable.dtype.kind == "b":
        return np.asarray(variable.data), variable.attrs  # Zarr has booleans
    stored = xr.conventions.encode_cf_variable(variable.to_base_variable(), name=name)
    return np.asarray(stored.data), stored.attrs


def scale(attributes: Mapping[str, Any]) -> str:
    """What turns stored numbers into values: the same numbers may be other times."""
    return ", ".join(str(attributes[key]) for key in ("units", "calendar") if key in attributes)


def summary(values: NDArray[Any], attributes: Mapping[str, Any]) -> str:
    """Size, ends, units and SHA-256 of stored values, in one line that people can compare."""
    if values.dtype.kind in "OUST":
        values = values.astype(object)
        content, kind = json.dumps(values.tolist(), default=str).encode(), "text"
    else:
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        content, kind = np.ascontiguousarray(values).tobytes(), str(values.dtype)
    shape = "x".join(map(str, values.shape)) or "1"
    ends = f", {values.flat[0]} to {values.flat[-1]}" if values.size else ""
    units = f" {scale(attributes)}" if scale(attributes) else ""
    return f"{shape} {kind}{ends}{units}, sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """One line for each field in which two descriptions differ.

    Parameters
    ----------
    ours, theirs : mapping
        As JSON can hold them.

    Returns
    -------
    list of str
        Dotted name and both values, the store's first.

    Examples
    --------
    >>> differences({"run": {"model": "a", "k": 1}}, {"run": {"model": "b", "k": 1}})
    ["run.model: 'b' in the store, 'a' now"]
    """
    here, there = dict(_flat(ours)), dict(_flat(theirs))
    return [
        f"{name}: {_shown(there, name)} in the store, {_shown(here, name)} now"
        for name in sorted(here.keys() | there.keys())
        if name not in here or name not in there or here[name] != there[name]
    ]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "nothing"
    text = repr(fields[name])
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
