"""Tasks of single blocks, cut out of the graph of a result without ever building all of it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr

from xsphere.blocks.errors import SharedWorkWarning
from xsphere.blocks.layout import Block
from xsphere.blocks.target import Target
from xsphere.blocks.task import BlockTask
from xsphere.locations import Location
from xsphere.notices import warn_user

# blocks whose tasks are made together: 0.5 ms each for 8 variables read from a store
SPAN = 256
# blocks, fewer than which can share what they like
FEW = 8


class BlockGraphs:
    """Graphs of single blocks of a dataset's lazy variables."""

    def __init__(self, target: Target) -> None:
        from dask.blockwise import optimize_blockwise
        from dask.highlevelgraph import HighLevelGraph

        self._arrays = [target.ds[variable.name].data for variable in target.layout.variables]
        every = {key for block in target.layout.blocks for key in self._keys(block)}
        graph = HighLevelGraph.from_collections("blocks", {}, self._arrays)
        # by layers, not by tasks: no task is made here
        self._graph: Any = optimize_blockwise(graph, keys=every)  # type: ignore[no-untyped-call]

    def _keys(self, block: Block) -> tuple[Any, ...]:
        return tuple((array.name, block.index, *([0] * (array.ndim - 1))) for array in self._arrays)

    def of(self, blocks: Sequence[Block]) -> Iterator[tuple[dict[Any, Any], tuple[Any, ...]]]:
        """Graph and keys of each block, in order."""
        for _, span in groupby(blocks, key=lambda block: block.index // SPAN):
            keys = [self._keys(block) for block in span]
            together = dict(self._graph.cull({key for group in keys for key in group}))
            for group in keys:
                yield _culled(together, group)[0], group

    def warn_of_shared_work(self, blocks: Sequence[Block]) -> None:
        """Warn if the first block and the last need the same tasks, as many as there are blocks.

        Each block is computed by itself, so a mean over all times would be computed as many times.
        """
        if len(blocks) < FEW:
            return
        needed = []
        for block in (blocks[0], blocks[-1]):
            keys = self._keys(block)
            _, dependencies = _culled(dict(self._graph.cull(set(keys))), keys)
            needed.append({key for key, others in dependencies.items() if others})
        shared = needed[0] & needed[1]
        if len(shared) >= len(blocks):
            names = sorted({str(key[0] if isinstance(key, tuple) else key) for key in shared})
            warn_user(
                f"each of the {len(blocks)} blocks is computed by itself, but {len(shared)} tasks "
                f"are needed by more than one and done anew for each ({', '.join(names[:3])}, "
                "...): compute what they share first, such as a mean over time, with .compute() or "
                ".persist(), and make blocks no shorter than the chunks of the source",
                SharedWorkWarning,
            )


def _culled(graph: dict[Any, Any], keys: tuple[Any, ...]) -> tuple[dict[Any, Any], Any]:
    """The part of a graph that keys need, and what each of its tasks depends on."""
    from dask.optimization import cull

    found: tuple[dict[Any, Any], Any] = cull(graph, list(keys))  # type: ignore[no-untyped-call]
    return found


def block_tasks(
    target: Target, location: Location, blocks: Sequence[Block], *, retries: int
) -> Iterator[BlockTask]:
    """Tasks of blocks, made as they are asked for."""
    graphs = BlockGraphs(target)
    graphs.warn_of_shared_work(blocks)

    def tasks() -> Iterator[BlockTask]:
        for block, (graph, keys) in zip(blocks, graphs.of(blocks), strict=True):
            yield BlockTask(
                location=location,
                identity=target.identity,
                variables=target.layout.variables,
                block=block,
                label=label_of(target.ds, target.layout.dim, block),
                graph=graph,
                keys=keys,
                retries=retries,
            )

    return tasks()


def label_of(ds: xr.Dataset, dim: str, block: Block) -> str:
    """A block in words, by its coordinate where there is one."""
    first, last = block.start, block.stop - 1
    if dim not in ds.coords:
        return f"block {block.index} ({dim} {first} to {last})"
    coord = ds.coords[dim]
    ends = " to ".join(_text(coord.values[position]) for position in (first, last))
    return f"block {block.index} ({dim} {ends})"


def _text(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="m"))
    return str(value)
