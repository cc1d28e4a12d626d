"""What lies under a graph of tasks: the stored arrays that its first tasks read.

A graph that does no more than read, select and rechunk one stored array is told by what its tasks
are: dask's own functions that move cells. Whatever else is in it, under whatever name, is the
user's own, and is computed as it is.
"""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xsphere.sources.wrappers import Leaf, leaf_under

# cells along each axis of a stored array
Region = tuple[range, ...]
# of `dask.array.from_array`: they change no value
READ_OPTIONS = {"asarray", "lock"}


class _OtherError(Exception):
    """A task that may do more than move cells."""


def stored_leaves(data: Any) -> list[Leaf]:
    """Stored arrays that the tasks of a dask array read, in an order that is always the same."""
    return [leaf for _, leaf in sorted(_roots(data), key=lambda root: str(root[0]))]


def leaf_as_opened(data: Any) -> Leaf | None:
    """The one stored array, or a part of it, whose values a dask array has; else None."""
    moves = _Moves(data.dask.layers)
    try:
        region = moves.region_of(data)
    # a graph may be deeper than calls can be nested
    except (_OtherError, RecursionError):
        return None
    leaf = moves.leaf
    assert leaf is not None
    if region == tuple(map(range, leaf.shape)):
        return leaf.undasked()
    dims = [str(axis) for axis in range(len(region))]
    whole = xr.Variable(dims, leaf.undasked().around(leaf.stored))
    return leaf_under(whole[tuple(map(_as_slice, region))]._data)


class _Moves:
    """Which cells of one stored array each task gives, as long as tasks only move cells."""

    def __init__(self, layers: Mapping[Any, Any]) -> None:
        from dask._task_spec import Alias, Task, TaskRef
        from dask.array import chunk, core
        from dask.blockwise import Blockwise

        self.leaf: Leaf | None = None
        self.nodes: dict[Any, Any] = {}
        self.reads: dict[Any, Any] = {}
        self.known: dict[Any, Region] = {}
        self.kinds: dict[type, Any] = {
            TaskRef: lambda node: self._at(node.key),
            Alias: lambda node: self._at(node.target),
            Task: self._of_task,
        }
        self.cutting = (*_getters(), chunk.getitem, operator.getitem)
        self.joining = core.concatenate_shaped
        for layer in layers.values():
            if type(layer) is Blockwise:
                self.reads[layer.output] = layer
            elif _is_written_out(layer):
                self.nodes |= layer

    def region_of(self, data: Any) -> Region:
        """Cells that a dask array has, in its order."""
        if not all(map(_is_plain_read, self.reads.values())):
            raise _OtherError
        read = self.reads.get(data.name)
        if read is not None and next(iter(read.io_deps.values())).chunks == data.chunks:
            # however many blocks there are, they are all of it
            whole = [slice(0, size) for size in data.shape]
            return _cut(self._of(read.indices[0][0]), whole, data.shape)
        blocks = [self._at((data.name, *block)) for block in product(*map(range, data.numblocks))]
        return _joined(blocks, data.numblocks, data.chunks)

    def _at(self, key: Any) -> Region:
        """Cells of the task of this name."""
        if key not in self.known:
            read = self.reads.get(key[0]) if isinstance(key, tuple) else None
            if read is not None:
                slices = next(iter(read.io_deps.values()))[key[1:]]
                self.known[key] = _cut(self._of(read.indices[0][0]), slices)
            elif key in self.nodes:
                self.known[key] = self._of(self.nodes[key])
            else:
                raise _OtherError
        return self.known[key]

    def _of(self, node: Any) -> Region:
        """Cells that a task, a name of one or a stored array gives."""
        given = self.kinds.get(type(node))
        if given is not None:
            found: Region = given(node)
            return found
        leaf = leaf_under(getattr(node, "value", node))
        if leaf is None or (self.leaf is not None and leaf.stored is not self.leaf.stored):
            raise _OtherError
        self.leaf = leaf
        return tuple(map(range, leaf.shape))

    def _of_task(self, task: Any) -> Region:
        if task.func in self.cutting and set(task.kwargs) <= READ_OPTIONS:
            return _cut(self._of(task.args[0]), task.args[1])
        if task.func is self.joining:
            blocks, counts = task.args
            return _joined([self._of(block) for block in blocks.args], counts)
        raise _OtherError


def _getters() -> tuple[Any, ...]:
    """What `dask.array.from_array` reads by."""
    from dask.array import core

    return core.getter, core.getter_nofancy, core.getter_inline


def _is_plain_read(layer: Any) -> bool:
    """Whether a layer does what `dask.array.from_array` does: one slice of one array a block."""
    from dask._task_spec import TaskRef
    from dask.blockwise import blockwise_token
    from dask.layers import ArraySliceDep

    places = tuple(TaskRef(blockwise_token(n)) for n in range(2))  # type: ignore[no-untyped-call]
    indices, deps = layer.indices, layer.io_deps
    return (
        layer.task.func in _getters()
        and tuple(layer.task.args) == places
        and set(layer.task.kwargs) <= READ_OPTIONS
        and len(indices) == 2
        and indices[0][1] is None
        and indices[1][1] == layer.output_indices
        and not layer.new_axes
        and list(deps) == [indices[1][0]]
        and all(type(dep) is ArraySliceDep for dep in deps.values())
    )


def _cut(region: Region, index: Any, shape: Sequence[int] | None = None) -> Region:
    """A part of a region, if it is cut by slices along every axis."""
    parts = tuple(index) if isinstance(index, tuple | list) else (index,)
    if len(parts) != len(region) or not all(isinstance(part, slice) for part in parts):
        raise _OtherError
    cut = tuple(cells[part] for cells, part in zip(region, parts, strict=True))
    if shape is not None and tuple(map(len, cut)) != tuple(shape):
        raise _OtherError
    return cut


def _joined(blocks: Sequence[Region], counts: Sequence[int], sizes: Any = None) -> Region:
    """Cells of blocks side by side, if these are an outer product of even steps along each axis."""
    if len(blocks) != math.prod(counts) or not blocks:
        raise _OtherError
    axes = []
    for axis in range(len(counts)):
        stride = math.prod(counts[axis + 1 :])
        along = [blocks[number * stride][axis] for number in range(counts[axis])]
        axes.append(along)
        if sizes is not None and tuple(map(len, along)) != tuple(sizes[axis]):
            raise _OtherError
    if list(blocks) != list(product(*axes)):
        raise _OtherError
    return tuple(map(_in_a_row, axes))


def _in_a_row(parts: Sequence[range]) -> range:
    filled = [part for part in parts if part]
    if len(filled) < 2:
        return filled[0] if filled else range(0)
    first = filled[0]
    step = first.step if len(first) > 1 else filled[1][0] - first[0]
    whole = range(first[0], first[0] + (step or 1) * sum(map(len, filled)), step or 1)
    start = 0
    for part in filled:
        if whole[start : start + len(part)] != part:
            raise _OtherError
        start += len(part)
    return whole


def _as_slice(cells: range) -> slice:
    return slice(cells.start, cells.stop if cells.stop >= 0 else None, cells.step)


def starts_are_known(data: Any) -> bool:
    """Whether every first task is a stored array or an array in memory, which its name tells."""
    for name, layer in data.dask.layers.items():
        if data.dask.dependencies[name]:
            continue
        if _is_written_out(layer):
            values = [getattr(node, "value", node) for node in layer.values()]
        else:
            values = list(_literals(layer))
        known = [isinstance(v, np.ndarray) or leaf_under(v) is not None for v in values]
        if not known or not all(known):
            return False
    return True


def _is_written_out(layer: Any) -> bool:
    from dask.highlevelgraph import MaterializedLayer

    return isinstance(layer, MaterializedLayer | dict)


def _literals(layer: Any) -> Iterator[Any]:
    """Arguments of a blockwise layer that are no blocks."""
    for value, index in getattr(layer, "indices", ()):
        if index is None:
            yield getattr(value, "value", value)


def _roots(data: Any) -> Iterator[tuple[Any, Leaf]]:
    for name, layer in data.dask.layers.items():
        written_out = _is_written_out(layer)
        nodes = layer.items() if written_out else ((name, value) for value in _literals(layer))
        for key, node in nodes:
            leaf = leaf_under(getattr(node, "value", node))
            if leaf is not None:
                yield key, leaf
