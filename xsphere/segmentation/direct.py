"""Datasets that were opened but not read: each block is one task that reads, regrids and infers.

Nothing of a field ever waits in memory for another task, and nothing travels between workers. The
stored arrays are in the task graph once, by name, however many blocks there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core.indexing import ExplicitlyIndexed

from xsphere.model.bounds import Beyond
from xsphere.segmentation.layout import Layout
from xsphere.segmentation.node import SegmentNode
from xsphere.stages import stage


def is_unread(array: xr.DataArray) -> bool:
    """Whether values are still in a file or store: neither in memory nor in a graph of tasks.

    Parameters
    ----------
    array : DataArray
        Any; nothing is read.

    Returns
    -------
    bool
        True for what `xarray.open_dataset` gives without `chunks`, until it is loaded.

    Examples
    --------
    >>> is_unread(xr.DataArray([1.0]))
    False
    """
    # the only use of what xarray keeps to itself: it has no public way to ask
    variable = array.variable
    return isinstance(variable._data, ExplicitlyIndexed) and not variable._in_memory


@dataclass(frozen=True, kw_only=True)
class DirectSource:
    """Stored arrays and what is done to each block of them: in a task graph once.

    Parameters
    ----------
    node : SegmentNode
        What is done to the fields.
    variables : tuple of Variable
        The model's, in its order; not read.
    layout : Layout
        How they are cut.

    Examples
    --------
    >>> from xsphere.model import Model
    >>> from xsphere.sample import SAMPLE
    >>> from xsphere.store import open_unread
    >>> from xsphere.segmentation.node import ModelHandle
    >>> model, ds = Model.load("tc-ar"), open_unread(SAMPLE)
    >>> node = SegmentNode(ModelHandle.of(model), ds.sphere.grid.grid, ((1.0, 0.0),) * 4)
    >>> arrays = [ds[name] for name in ("TMQ", "PSL", "U850", "V850")]
    >>> layout = Layout.of(arrays, ("lat", "lon"), node, block_size=1)
    >>> DirectSource.of(arrays, layout, node).block(1).shape
    (1, 12288)
    """

    node: SegmentNode
    variables: tuple[xr.Variable, ...]
    layout: Layout

    @classmethod
    def of(
        cls, arrays: Sequence[xr.DataArray], layout: Layout, node: SegmentNode
    ) -> "DirectSource":
        """Source of some variables, of which nothing is read."""
        return cls(node=node, variables=tuple(_bare(a.variable) for a in arrays), layout=layout)

    def segmented(self, token: str) -> Any:
        """A dask array of all blocks, whose tasks are named by the token."""
        import dask.array as da
        from dask.delayed import delayed

        # a literal of the graph, which its tasks share by name
        shared = delayed(self, name=f"xsphere-source-{token}", traverse=False)
        chunks = (*self.layout.chunks, *((size,) for size in self.node.shape))
        return da.map_blocks(  # type: ignore[no-untyped-call]
            _block_of,
            shared,
            chunks=chunks,
            dtype=self.node.dtype,
            meta=np.empty((0,) * len(chunks), self.node.dtype),
            name=f"xsphere-segment-{token}",
        )

    def block(self, index: int) -> NDArray[Any]:
        """Result of one block, read and worked through part by part.

        Parameters
        ----------
        index : int
            Which block along the first leading dimension.

        Returns
        -------
        array, shape (steps, *other leading dimensions, *result of a sample)
            As `SegmentNode` gives it.
        """
        found = self.node.beyond(self.node.model.load())
        parts = [self._part(part, found) for part in self.layout.parts(index)]
        found.tell()
        return np.concatenate(parts) if self.layout.leading else parts[0]

    def _part(self, part: slice, found: Beyond) -> NDArray[Any]:
        node, model = self.node, self.node.model.load()
        leading = tuple(size for _, size in self.layout.leading)
        leading = (part.stop - part.start, *leading[1:]) if leading else ()
        n_samples = math.prod(leading)

        def read(index: int) -> NDArray[Any]:
            with stage("read"):
                return node.flattened(self._read(self.variables[index], part), leading)

        fields = node.on_model_grid(model, read, found)
        result = node.allocated(n_samples)
        for batch in node.batches(n_samples):
            with stage("infer"):
                result[batch] = node.classified(model, [values[batch] for values in fields])
        return result.reshape(*leading, *node.shape)

    def _read(self, variable: xr.Variable, part: slice) -> NDArray[Any]:
        """Values (*leading or 1, *horizontal) of some steps; what is read is not kept."""
        dims = self.layout.dims
        # always an object of its own: xarray keeps what it has read in the one that was asked
        chosen = variable[
            tuple(part if dim == self.layout.first else slice(None) for dim in variable.dims)
        ]
        values = xr.Variable(variable.dims, chosen.values)
        present = [dim for dim in dims if dim in variable.dims]
        ordered: NDArray[Any] = values.transpose(*present, *self.layout.core).values
        return ordered[tuple(slice(None) if dim in present else None for dim in dims)]


def _block_of(source: DirectSource, block_id: tuple[int, ...]) -> NDArray[Any]:
    return source.block(block_id[0] if source.layout.leading else 0)


def _bare(variable: xr.Variable) -> xr.Variable:
    """A variable without what its tasks do not need, and apart from what the user does to it."""
    # once the user loads the dataset, its own arrays hold values that would travel with the tasks
    bare = variable.copy(deep=False)
    bare.attrs, bare.encoding = {}, {}
    return bare
