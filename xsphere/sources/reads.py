"""Which files and stores a result reads when it is computed, so that it replaces none of them."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.sources.contents import file_of, local_folder
from xsphere.sources.field_store import FieldStore
from xsphere.sources.wrappers import Leaf, leaf_of, leaf_under


def places_read(obj: xr.Dataset | xr.DataArray) -> set[Path]:
    """Local files, and folders of Zarr arrays, that the lazy variables of an object read.

    Parameters
    ----------
    obj : Dataset or DataArray
        Lazy or not; nothing is computed. Its graphs are searched task by task.

    Returns
    -------
    set of Path
        Empty for what is in memory.

    Examples
    --------
    >>> places_read(xr.Dataset({"t": ("x", [1.0])}))
    set()
    """
    ds = obj.to_dataset(name="_") if isinstance(obj, xr.DataArray) else obj
    places: set[Path] = set()
    todo: list[Any] = []
    for variable in ds.variables.values():
        todo += [variable] if variable.chunks is None else variable.data.dask.layers.values()
    # by identity, and kept: what is gone could give its identity to another
    seen = {id(value): value for value in todo}
    while todo:
        value = todo.pop()
        leaf = leaf_of(value) if isinstance(value, xr.Variable) else leaf_under(value)
        if leaf is not None:
            places |= set(_places_of(leaf))
        if isinstance(value, FieldStore):
            places.add(Path(value.folder))
        # what the cache reads is made of a block that knows its source
        for part in _parts(value) if leaf is None else [getattr(leaf.stored, "block", None)]:
            if id(part) not in seen:
                seen[id(part)] = part
                todo.append(part)
    return places


def _places_of(leaf: Leaf) -> Iterator[Path]:
    array = leaf.zarr_array
    place = file_of(leaf, None) if array is None else local_folder(array)
    if place is not None:
        yield Path(place)


def _parts(value: Any) -> Iterable[Any]:
    """What a task, or something within one, is made of."""
    if isinstance(value, list | tuple | set):
        return value
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    # layers and tasks of dask
    names = ("indices", "task", "mapping", "func", "args", "kwargs", "value")
    if type(value).__module__.startswith("dask."):
        return [getattr(value, name) for name in names if hasattr(value, name)]
    return ()
