"""Which files and stores a result reads when it is computed, so that it replaces none of them."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.locations import store_name
from xsphere.sources.contents import file_of, local_folder, plain_store, stored_contents
from xsphere.sources.errors import SourceChangedError
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
    places: set[Path] = set()
    for found in _read(obj):
        places |= {Path(found.folder)} if isinstance(found, FieldStore) else {*_places_of(found)}
    return places


def contents_read(obj: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """What the stored arrays hold that the lazy variables of an object read.

    Parameters
    ----------
    obj : Dataset or DataArray
        As for `places_read`.

    Returns
    -------
    dict of str to str
        A SHA-256 for each file, or array of a store; what nothing can tell is left out. Caches of
        ours are no sources.

    Examples
    --------
    >>> contents_read(xr.Dataset({"t": ("x", [1.0])}))
    {}
    """
    found: dict[str, set[str]] = {}
    for leaf in _read(obj):
        contents = stored_contents(leaf) if isinstance(leaf, Leaf) else None
        if contents is not None:
            array = leaf.zarr_array
            place = next(iter(map(str, _places_of(leaf))), None)
            if place is None:
                place = f"{store_name(plain_store(array.store))}/{array.path}"
            found.setdefault(place, set()).add(contents.digest)
    return {
        place: hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()
        for place, digests in sorted(found.items())
    }


@contextmanager
def unchanged(*read: xr.Dataset | xr.DataArray) -> Iterator[None]:
    """Refuse what was computed within from sources that changed meanwhile.

    Parameters
    ----------
    *read : Dataset or DataArray
        What is computed from, or lazily what is computed.

    Raises
    ------
    SourceChangedError
        At the end, if files or stores are not what they were at the beginning.

    Examples
    --------
    >>> with unchanged(xr.Dataset({"t": ("x", [1.0])})):
    ...     pass
    """
    before = [contents_read(obj) for obj in read]
    yield
    after = [contents_read(obj) for obj in read]
    pairs = zip(before, after, strict=True)
    changed = {p for old, new in pairs for p in {*old, *new} if old.get(p) != new.get(p)}
    if changed:
        raise SourceChangedError(
            f"{sorted(changed)} changed while it was read, so the result would be partly of other "
            "data; it is not kept. Open the source again and repeat this"
        )


def _read(obj: xr.Dataset | xr.DataArray) -> Iterator[Any]:
    """Stored arrays and stores of regridded fields that are read."""
    ds = obj.to_dataset(name="_") if isinstance(obj, xr.DataArray) else obj
    todo: list[Any] = []
    for variable in ds.variables.values():
        todo += [variable] if variable.chunks is None else variable.data.dask.layers.values()
    # by identity, and kept: what is gone could give its identity to another
    seen = {id(value): value for value in todo}
    while todo:
        value = todo.pop()
        leaf = leaf_of(value) if isinstance(value, xr.Variable) else leaf_under(value)
        if leaf is not None or isinstance(value, FieldStore):
            yield value if leaf is None else leaf
        # what the cache reads is made of a block that knows its source
        for part in _parts(value) if leaf is None else [getattr(leaf.stored, "block", None)]:
            if id(part) not in seen:
                seen[id(part)] = part
                todo.append(part)


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
