"""What lies under a graph of tasks: the stored arrays that its first tasks read."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from xsphere.sources.wrappers import Leaf, leaf_under

# layers that move values into other blocks and change none
_MOVING = ("rechunk-merge-", "rechunk-split-", "open_dataset-", "xarray-", "original-", "strict-")


def stored_leaves(data: Any) -> list[Leaf]:
    """Stored arrays that the tasks of a dask array read, in an order that is always the same."""
    return [leaf for _, leaf in sorted(_roots(data), key=lambda root: str(root[0]))]


def leaf_as_opened(data: Any) -> Leaf | None:
    """The one stored array whose values, all and unchanged, a dask array has; else None."""
    leaves = stored_leaves(data)
    moved = all(str(name).startswith(_MOVING) for name in _layers(data))
    if len(leaves) != 1 or not moved or leaf_shape(leaves[0]) != tuple(data.shape):
        return None
    return leaves[0]


def leaf_shape(leaf: Leaf) -> tuple[int, ...]:
    """Shape of what a leaf and its layers give."""
    return tuple((leaf.layers[0] if leaf.layers else leaf.stored).shape)


def starts_are_known(data: Any) -> bool:
    """Whether every first task is a stored array or an array in memory, which its name tells."""
    for name, layer in _layers(data).items():
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


def with_stored(data: Any, replaced: Callable[[Leaf], Any]) -> Any:
    """A dask array whose tasks, under their names, read what `replaced` makes of stored arrays."""
    from dask.highlevelgraph import HighLevelGraph

    layers = {name: _with_stored(layer, replaced) for name, layer in _layers(data).items()}
    graph = HighLevelGraph(layers, data.dask.dependencies)
    return type(data)(graph, data.name, data.chunks, dtype=data.dtype, meta=data._meta)


def _with_stored(layer: Any, replaced: Callable[[Leaf], Any]) -> Any:
    if _is_written_out(layer):
        return {key: _node_with_stored(key, node, replaced) for key, node in layer.items()}
    leaves = [leaf_under(value) for value in _literals(layer)]
    if not any(leaves):
        return layer
    changed = copy.copy(layer)
    changed.indices = tuple(
        (leaf.around(replaced(leaf)), None)
        if index is None and (leaf := leaf_under(value)) is not None
        else (value, index)
        for value, index in layer.indices
    )
    return changed


def _node_with_stored(key: Any, node: Any, replaced: Callable[[Leaf], Any]) -> Any:
    leaf = leaf_under(getattr(node, "value", node))
    if leaf is None:
        return node
    changed = leaf.around(replaced(leaf))
    return type(node)(key, changed) if hasattr(node, "value") else changed


def _layers(data: Any) -> Mapping[Any, Any]:
    layers: Mapping[Any, Any] = data.dask.layers
    return layers


def _is_written_out(layer: Any) -> bool:
    return type(layer).__name__ in ("MaterializedLayer", "dict")


def _literals(layer: Any) -> Iterator[Any]:
    """Arguments of a blockwise layer that are no blocks."""
    for value, index in getattr(layer, "indices", ()):
        if index is None:
            yield getattr(value, "value", value)


def _roots(data: Any) -> Iterator[tuple[Any, Leaf]]:
    for name, layer in _layers(data).items():
        written_out = _is_written_out(layer)
        nodes = layer.items() if written_out else ((name, value) for value in _literals(layer))
        for key, node in nodes:
            leaf = leaf_under(getattr(node, "value", node))
            if leaf is not None:
                yield key, leaf
