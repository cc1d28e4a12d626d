"""What a result reads when it is computed: where that lies, and what it holds.

It is told by the literals of the result's graph: stored arrays, and objects that read blocks of
them. Such a reader has `variables`, `n_steps` along the dimension `first`, the `prefix` of its
tasks' names, and `steps_of` one of its blocks.
"""

import hashlib
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.compat import plain_store
from xsphere.locations import store_name
from xsphere.sources.contents import file_of, local_folder, stored_contents
from xsphere.sources.errors import SourceChangedError
from xsphere.sources.leaves import Leaf, leaf_of, leaf_under

# of a graph: more are not looked at one by one, and what they read counts as a whole
MOST_TASKS = 2 * 10**5


def places_read(obj: xr.Dataset | xr.DataArray) -> set[Path]:
    """Local files, and folders of Zarr arrays, that the lazy variables of an object read."""
    places: set[Path] = set()
    for found in literals(obj):
        if isinstance(found, Leaf) and (place := _local_place(found)) is not None:
            places.add(place)
    return places


def contents_read(obj: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """What the lazy variables of an object read, told without reading it.

    Parameters
    ----------
    obj : Dataset or DataArray
        As for `places_read`. What is selected of it counts, and nothing else: of a store that has
        grown, what was there is what it was.

    Returns
    -------
    dict of str to str
        A SHA-256 for each file, or array of a store, of the names, sizes and times of what is read;
        what nothing can tell is left out. What tasks make of it is told by
        the names that Dask has for them.

    Examples
    --------
    >>> contents_read(xr.Dataset({"t": ("x", [1.0])}))
    {}
    """
    found: dict[str, set[str]] = defaultdict(set)
    ds = obj.to_dataset(name="_") if isinstance(obj, xr.DataArray) else obj
    for variable in ds.variables.values():
        if variable.chunks is None:
            leaf = leaf_of(variable)
            leaves = [] if leaf is None else [leaf]
        else:
            leaves = _leaves_of_tasks(variable.data)
        for place, digest in (pair for leaf in leaves for pair in _contents_of(leaf)):
            found[place].add(digest)
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


def literals(obj: xr.Dataset | xr.DataArray) -> Iterator[Any]:
    """Stored arrays and readers of blocks, without making a task."""
    ds = obj.to_dataset(name="_") if isinstance(obj, xr.DataArray) else obj
    todo: list[Any] = []
    for variable in ds.variables.values():
        todo += [variable] if variable.chunks is None else variable.data.dask.layers.values()
    # by identity, and kept: what is gone could give its identity to another
    seen = {id(value): value for value in todo}
    while todo:
        value = todo.pop()
        leaf = leaf_of(value) if isinstance(value, xr.Variable) else None
        if hasattr(value, "array"):
            leaf = leaf_under(value)
        if leaf is not None or _is_reader(value):
            yield value if leaf is None else leaf
        for part in _parts(value) if leaf is None else ():
            if id(part) not in seen:
                seen[id(part)] = part
                todo.append(part)


def _contents_of(leaf: Leaf) -> Iterator[tuple[str, str]]:
    """Place and contents of a stored array, if anything tells."""
    contents = stored_contents(leaf)
    if contents is not None:
        array = leaf.zarr_array
        place = _local_place(leaf) or f"{store_name(plain_store(array.store))}/{array.path}"
        yield str(place), contents


def _leaves_of_tasks(data: Any) -> list[Leaf]:
    """Stored arrays that tasks read, or the part that a reader of blocks takes of them."""
    found, names = list(literals(xr.DataArray(data))), list(map(str, data.dask.layers))
    # readers may read from others, whose tasks these are not
    readers = [r for r in found if _is_reader(r) and any(n.startswith(r.prefix) for n in names)]
    steps = [_steps_taken(reader, data) for reader in readers]
    if len(readers) != 1 or steps[0] is None:
        return [one for one in found if isinstance(one, Leaf)]
    first = readers[0].first
    chosen = {} if first is None else {first: steps[0]}
    cut = [variable.isel(chosen, missing_dims="ignore") for variable in readers[0].variables]
    return [leaf for variable in cut if (leaf := leaf_of(variable)) is not None]


def _steps_taken(reader: Any, data: Any) -> NDArray[np.int64] | None:
    """Steps that an array takes of a reader's blocks; None if tasks do more than cut these."""
    from dask.array import chunk

    names = (reader.prefix, "xsphere-job-")
    if all(str(name).startswith(names) for name in data.dask.layers):
        return np.arange(reader.n_steps)
    if sum(map(len, data.dask.layers.values())) > MOST_TASKS:
        return None
    wanted = set(_flat(data.__dask_keys__()))
    taken: set[int] = set()
    for key, task in dict(data.dask.cull(wanted)).items():
        if not hasattr(task, "dependencies"):
            # a tuple, as of arrays joined by dask: what it takes is not said alike
            return None
        if str(key[0]).startswith(names) or not task.dependencies:
            # a block: those that use it say what they take
            taken |= {*reader.steps_of(key[1:])} if key in wanted else set()
            continue
        if getattr(task, "func", operator.getitem) not in (operator.getitem, chunk.getitem):
            return None
        cut = getattr(task, "args", (None, ()))[1]
        for block in (one for one in task.dependencies if str(one[0]).startswith(reader.prefix)):
            steps = reader.steps_of(block[1:])
            taken |= {*steps[cut[0]]} if cut and isinstance(cut[0], slice) else {*steps}
    return np.array(sorted(taken))


def _flat(keys: Any) -> Iterator[Any]:
    for key in keys:
        yield from _flat(key) if isinstance(key, list) else [key]


def _is_reader(value: Any) -> bool:
    return hasattr(value, "steps_of") and not isinstance(value, type)


def _local_place(leaf: Leaf) -> Path | None:
    array = leaf.zarr_array
    place = file_of(leaf) if array is None else local_folder(array)
    return None if place is None else Path(place)


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
