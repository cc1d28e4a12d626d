"""The job as one value: what is read, what is done to it, in which blocks, under which labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.compat import is_unread
from xsphere.model.bounds import Beyond
from xsphere.segmentation.layout import Layout
from xsphere.segmentation.node import SegmentNode
from xsphere.stages import stage


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """A segmentation that is not done yet: all that is known before the first block is read.

    It is made by `xsphere.segmentation.job`, rendered as a lazy array by `lazy`, and tried block by
    block with `block`. Nothing here holds weights or values of unread data.

    Parameters
    ----------
    node : SegmentNode
        What is done to each block.
    variables : tuple of Variable
        What is read: the model's variables in its order, on the grid `node.source`, all in memory,
        all unread, or all chunked alike.
    layout : Layout
        How unread variables are cut along the first dimension that is not horizontal.
    template : DataArray, optional
        Name, labels and attributes of the result around values that say nothing. Tasks hold a job
        without it.
    token : str
        Part of the names of tasks: what the variables are made of.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> from xsphere.segmentation import job
    >>> found = job(SAMPLE, "tc-ar", block_size=1)
    >>> found.n_steps, found.blocks, found.block(1).shape
    (2, (slice(0, 1, None), slice(1, 2, None)), (1, 12288))
    """

    node: SegmentNode
    variables: tuple[xr.Variable, ...]
    layout: Layout
    template: xr.DataArray | None = None
    token: str = ""

    # of the names of the tasks of blocks; `xsphere.sources.contents_read` asks for it and the next
    prefix: ClassVar[str] = "xsphere-segment-"

    @property
    def first(self) -> str | None:
        """Dimension along which blocks follow each other; None if there is one map only."""
        return self.layout.first

    def steps_of(self, block: tuple[int, ...]) -> range:
        """Steps of a block of unread variables."""
        start = block[0] * self.layout.block if self.first is not None else 0
        return range(start, min(start + self.layout.block, self.n_steps))

    @property
    def is_chunked(self) -> bool:
        """Whether the variables are in graphs of tasks."""
        return any(variable.chunks is not None for variable in self.variables)

    @property
    def is_unread(self) -> bool:
        """Whether the variables are read within the task of each block."""
        return all(map(is_unread, self.variables))

    @property
    def n_steps(self) -> int:
        """Length of the first leading dimension; 1 if there is none."""
        return self.layout.n_steps

    @property
    def n_samples(self) -> int:
        """Number of maps, such as all members of all times."""
        return math.prod(size for _, size in self.layout.leading)

    @property
    def blocks(self) -> tuple[slice, ...]:
        """Steps of each block: what is computed and written at a time."""
        sizes = self.layout.chunks[0] if self.layout.leading else (1,)
        for variable in self.variables:
            sizes = variable.chunksizes.get(self.layout.first, sizes)
        stops = np.cumsum(sizes).tolist()
        return tuple(slice(stop - n, stop) for stop, n in zip(stops, sizes, strict=True))

    def lazy(self) -> xr.DataArray:
        """The result: computed now from values in memory, else when it is asked for.

        Returns
        -------
        DataArray
            As `xsphere.segment` gives it.
        """
        assert self.template is not None
        data = self._one_task_a_block() if self.is_unread else self._applied()
        return self.template.copy(data=data)

    def steps(self, part: slice) -> "Segmentation":
        """The same job on some of the steps.

        Parameters
        ----------
        part : slice
            Along the first leading dimension.

        Returns
        -------
        Segmentation
            Its blocks are at most as long.
        """
        first = self.layout.first
        if first is None:
            return self
        chosen: Any = {first: part}
        steps = range(self.n_steps)[part]
        n_steps = len(steps)
        layout = replace(
            self.layout,
            leading=((first, n_steps), *self.layout.leading[1:]),
            block=max(1, min(self.layout.block, n_steps)),
            read=max(1, min(self.layout.read, n_steps)),
        )
        variables = tuple(v.isel(chosen, missing_dims="ignore") for v in self.variables)
        template = None if self.template is None else self.template.isel(chosen)
        # tasks of other steps have other names
        token = f"{self.token} {steps}"
        return replace(self, variables=variables, layout=layout, template=template, token=token)

    def block(self, index: int) -> NDArray[Any]:
        """Result of one block, read and worked through part by part in this thread.

        Parameters
        ----------
        index : int
            Which of `blocks`.

        Returns
        -------
        array, shape (steps, *other leading dimensions, *result of a sample)
            As `SegmentNode` gives it.
        """
        if not self.is_unread:
            import dask

            with dask.config.set(scheduler="synchronous"):
                return np.asarray(self.steps(self.blocks[index])._applied())
        found = self.node.beyond(self.node.model.load().spec)
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

        fields = node.on_model_grid(model.spec, read, found)
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

    def _one_task_a_block(self) -> Any:
        """A dask array of all blocks, each of which is one task from the store to the result."""
        import dask.array as da
        from dask.base import tokenize
        from dask.delayed import delayed

        token = tokenize(self.node, self.token, self.layout)
        # a literal of the graph, which its tasks share by name; labels would travel with it
        shared = delayed(replace(self, template=None), name=f"xsphere-job-{token}", traverse=False)
        chunks = (*self.layout.chunks, *((size,) for size in self.node.shape))
        return da.map_blocks(  # type: ignore[no-untyped-call]
            _block_of,
            shared,
            chunks=chunks,
            dtype=self.node.dtype,
            meta=np.empty((0,) * len(chunks), self.node.dtype),
            name=f"{self.prefix}{token}",
        )

    def _applied(self) -> Any:
        """What the node makes of whole variables: now, or in one task a block of their chunks."""
        core = list(self.layout.core)
        made = [f"xsphere_{axis}" for axis in range(len(self.node.shape))]
        result: xr.Variable = xr.apply_ufunc(
            self.node,
            *self.variables,
            input_core_dims=[core] * len(self.variables),
            output_core_dims=[made],
            dask="parallelized",
            output_dtypes=[self.node.dtype],
            dask_gufunc_kwargs={
                "output_sizes": dict(zip(made, self.node.shape, strict=True)),
                "allow_rechunk": False,
            },
        )
        return result.data


def _block_of(job: Segmentation, block_id: tuple[int, ...]) -> NDArray[Any]:
    return job.block(block_id[0] if job.layout.leading else 0)


def bare(variable: xr.Variable) -> xr.Variable:
    """A variable without what its tasks do not need, and apart from what the user does to it."""
    # once the user loads the dataset, its own arrays hold values that would travel with the tasks
    found = variable.copy(deep=False)
    kept = {"preferred_chunks"} & set(variable.encoding)
    found.attrs, found.encoding = {}, {name: variable.encoding[name] for name in kept}
    return found


def chunked_alike(arrays: Sequence[xr.DataArray], layout: Layout) -> list[xr.Variable]:
    """Variables in tasks of the same steps: those of the chunked ones, if there are any."""
    sizes: dict[Any, Any] = {layout.first: layout.block}
    for array in reversed(arrays):
        sizes |= array.variable.chunksizes
    sizes |= dict.fromkeys(layout.core, -1)
    chunked = [
        array.variable.chunk({dim: sizes.get(dim, -1) for dim in array.dims})
        if array.chunks is None
        else array.variable
        for array in arrays
    ]
    # blocks follow the data, however their labels are chunked
    alike: tuple[Any, ...] = xr.unify_chunks(*map(xr.DataArray, chunked))
    return [array.variable for array in alike]
