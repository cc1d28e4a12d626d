"""What a lazy result is made of: its blocks, their tasks, and what is done in one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.blocks.creation import Plan as WritingPlan
from xsphere.blocks.graphs import BlockGraphs
from xsphere.blocks.layout import Block
from xsphere.segmentation import SegmentNode
from xsphere.segmentation.jobs import Segmentation

# blocks whose tasks are counted; of more, some stand for all
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Work:
    """A result of `xsphere.segment` that is not computed yet, as it would be written.

    Parameters
    ----------
    result : DataArray
        The result; nothing of it is computed.
    arrays : tuple of DataArray
        The model's variables, in its order, in the user's dataset.

    Raises
    ------
    ValueError
        If it cannot be written block by block.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> from xsphere.segmentation import segment
    >>> work = Work(segment(SAMPLE, "tc-ar", block_size=1), ())
    >>> work.n_steps, len(work.blocks), work.n_tasks
    (2, 2, 2)
    """

    result: xr.DataArray
    arrays: tuple[xr.DataArray, ...]

    @cached_property
    def _plan(self) -> WritingPlan:
        return WritingPlan(self.result)

    @cached_property
    def _graphs(self) -> BlockGraphs:
        return BlockGraphs(self._plan)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is computed and written at a time."""
        return self._plan.layout.blocks

    @property
    def dim(self) -> str | None:
        """Dimension along which blocks follow each other; None if there is one map only."""
        leading = self.result.ndim - len(self.node.shape)
        return str(self.result.dims[0]) if leading else None

    @property
    def n_steps(self) -> int:
        """Length of that dimension."""
        return 1 if self.dim is None else int(self.result.sizes[self.dim])

    @property
    def n_samples(self) -> int:
        """Number of maps, such as all members of all times."""
        return int(self.result.size // int(np.prod(self.node.shape)))

    @property
    def block_steps(self) -> int:
        """Steps in every block but the last."""
        return 1 if self.dim is None else self._plan.layout.step

    @cached_property
    def n_tasks(self) -> int:
        """Tasks of all blocks that do something, once dask has optimised each."""
        chosen = np.unique(np.linspace(0, len(self.blocks) - 1, MOST_BLOCKS).astype(int))
        counts = [_n_real_tasks(self.graph(self.blocks[index])[0]) for index in chosen]
        return round(len(self.blocks) * sum(counts) / len(counts))

    @cached_property
    def source(self) -> Segmentation | None:
        """What reads the blocks, if each is one task from the store to the result."""
        return next(self._found(Segmentation), None)

    @cached_property
    def node(self) -> SegmentNode:
        """What is done to each block."""
        return next(self._found(SegmentNode)) if self.source is None else self.source.node

    @cached_property
    def parts(self) -> list[slice]:
        """Steps that are read together, in order."""
        if self.dim is None:
            return [slice(0, 1)]
        if self.source is None:
            return [block.steps for block in self.blocks]
        layout = self.source.layout
        return [part for block in self.blocks for part in layout.parts(block.index)]

    @cached_property
    def variables(self) -> tuple[xr.Variable, ...]:
        """What is read, with the chunks that it lies in."""
        if self.source is None:
            return tuple(array.variable for array in self.arrays)
        return tuple(
            _with_encoding(variable, array.variable)
            for variable, array in zip(self.source.variables, self.arrays, strict=True)
        )

    def graph(self, block: Block) -> tuple[Mapping[Any, Any], list[Any]]:
        """The optimised graph of a block and its keys, as the block is computed."""
        from dask.array import optimize

        graph, keys = next(self._graphs.of([block]))
        optimised: Any = optimize(dict(graph), list(keys))  # type: ignore[no-untyped-call]
        return dict(optimised), list(keys)

    def computed(self, block: Block) -> NDArray[Any]:
        """The values of a block, in this thread alone."""
        from dask.local import get_sync

        graph, keys = self.graph(block)
        return np.asarray(get_sync(graph, keys)[0])

    def _found(self, kind: type[Any]) -> Iterator[Any]:
        graph, _ = next(self._graphs.of(self.blocks[:1]))
        return _objects(graph.values(), kind, set())


def _with_encoding(variable: xr.Variable, original: xr.Variable) -> xr.Variable:
    """A variable as it is read, with what the user's knows of its chunks if they are the same."""
    if variable.dims != original.dims or variable.shape != original.shape:
        return variable
    known = variable.copy(deep=False)
    known.encoding = dict(original.encoding)
    return known


def _n_real_tasks(graph: Mapping[Any, Any]) -> int:
    """Tasks that do something: neither literals nor other names."""
    return sum(type(task).__name__ == "Task" for task in graph.values())


def _objects(places: Iterable[Any], kind: type[Any], seen: set[int]) -> Iterator[Any]:
    """Objects of a kind in tasks, and in what tasks are given."""
    for place in places:
        if id(place) in seen:
            continue
        seen.add(id(place))
        if isinstance(place, kind):
            yield place
        elif isinstance(place, Mapping):
            yield from _objects(place.values(), kind, seen)
        elif isinstance(place, tuple | list):
            yield from _objects(place, kind, seen)
        elif type(place).__module__.startswith(("dask.", "functools")):
            yield from _objects(_held(place), kind, seen)


def _held(task: Any) -> Sequence[Any]:
    names = ("value", "func", "args", "kwargs", "keywords", "__wrapped__")
    return [getattr(task, name) for name in names if hasattr(task, name)]
