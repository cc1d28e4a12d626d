"""The ways to a result: computed here and now, one task a block, or a task for every variable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from xsphere.segmentation.direct import DirectSource, is_unread
from xsphere.segmentation.layout import Layout
from xsphere.segmentation.node import SegmentNode

Arrays = Sequence[xr.DataArray]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model is given.

    Parameters
    ----------
    arrays : sequence of DataArray
        Its variables in its order.
    core : tuple of str
        Their horizontal dimensions, in the order of the grid.
    block : int, optional
        Steps in a block, of arrays that were in such chunks when they were opened.
    kept : sequence of DataArray, optional
        The same variables on the model's grid, as the cache has them.
    source : dict, optional
        What the data are, see `xsphere.sources.source_of`.

    Examples
    --------
    >>> Inputs(arrays=[xr.DataArray([1.0], dims="x")], core=("x",)).unread
    False
    """

    arrays: Arrays
    core: tuple[Any, ...]
    block: int | None = None
    kept: Arrays | None = None
    source: dict[str, Any] | None = None

    @property
    def chunked(self) -> bool:
        """Whether any is in chunks."""
        return any(array.chunks is not None for array in self.arrays)

    @property
    def unread(self) -> bool:
        """Whether any is still in a file or store."""
        return any(is_unread(array) for array in self.arrays)

    def relabelled(self) -> list[xr.DataArray]:
        """The kept fields with the labels that the originals have along other dimensions."""
        assert self.kept is not None
        return [
            xr.DataArray(field.variable, _leading_coords(array, self.core))
            for field, array in zip(self.kept, self.arrays, strict=True)
        ]


def segmented(node: SegmentNode, inputs: Inputs, block_size: int | None) -> xr.DataArray:
    """The result of some inputs, computed now if all are in memory, else when it is asked for.

    Parameters
    ----------
    node : SegmentNode
        What is done to fields on the grid of the dataset.
    inputs : Inputs
        The fields.
    block_size : int, optional
        Steps in a task, of inputs that are not read yet.

    Returns
    -------
    DataArray
        Without name and attributes.

    Raises
    ------
    ValueError
        If there are no blocks to choose the size of.

    Examples
    --------
    >>> import xsphere
    >>> from xsphere.model import Model
    >>> from xsphere.segmentation.node import ModelHandle
    >>> model, ds = Model.load("tc-ar"), xsphere.sample_dataset()
    >>> node = SegmentNode(ModelHandle.of(model), ds.sphere.grid.grid, ((1.0, 0.0),) * 4)
    >>> arrays = [ds[name] for name in ("TMQ", "PSL", "U850", "V850")]
    >>> segmented(node, Inputs(arrays=arrays, core=("lat", "lon")), None).sizes["cells"]
    12288
    """
    lazy = inputs.chunked or inputs.unread
    if block_size is not None and (inputs.chunked or inputs.block is not None or not lazy):
        raise ValueError(
            f"block_size={block_size} is for datasets that are neither chunked nor in memory; "
            "give the path of a store, or choose chunks with ds.chunk(time=...)"
        )
    if not lazy:
        return _applied(node, inputs.arrays, node, inputs)
    layout = Layout.of(inputs.arrays, inputs.core, node, inputs.block or block_size)
    if all(is_unread(array) for array in (*inputs.arrays, *(inputs.kept or ()))):
        return _direct(node, inputs, layout)
    arrays = _chunked_alike(inputs.arrays, layout)
    if inputs.kept is not None:
        # in the same chunks, so that a run can go on whether there is a cache or not
        arrays = [
            field.chunk(
                {dim: array.variable.chunksizes.get(dim, -1) for dim in field.dims},
                # a kept field knows when it was made; its tasks are named by what they are of
                token=f"kept-{array.data.name}",
            )
            for field, array in zip(inputs.relabelled(), arrays, strict=True)
        ]
        return _applied(_from_model_grid(node), arrays, node, inputs)
    return _applied(node, arrays, node, inputs)


def _from_model_grid(node: SegmentNode) -> SegmentNode:
    """What is done to kept fields: on the model's grid, and without values beyond their ranges."""
    return replace(node, source=node.model.grid, readings=(), bounded=False)


def _chunked_alike(arrays: Arrays, layout: Layout) -> list[xr.DataArray]:
    """All arrays in tasks of the same steps: those of the chunked ones, if there are any."""
    sizes: dict[Any, Any] = {layout.first: layout.block}
    for array in reversed(arrays):
        sizes |= array.variable.chunksizes
    sizes |= dict.fromkeys(layout.core, -1)
    chunked = [
        array.chunk({dim: sizes.get(dim, -1) for dim in array.dims})
        if array.chunks is None
        else array
        for array in arrays
    ]
    # blocks follow the data, however their labels are chunked
    alike: tuple[Any, ...] = xr.unify_chunks(*(xr.DataArray(array.variable) for array in chunked))
    return [array.copy(data=one.data) for array, one in zip(chunked, alike, strict=True)]


def _direct(node: SegmentNode, inputs: Inputs, layout: Layout) -> xr.DataArray:
    """Labels as any other path gives them, around blocks that are read where they are used."""
    from dask.base import tokenize

    blocks = DirectSource.of(inputs.arrays, layout, node)
    if inputs.kept is not None:
        fields, start = inputs.relabelled(), _from_model_grid(node)
        # the same blocks, so that a run can go on whether there is a cache or not
        blocks = DirectSource.of(fields, Layout.of(fields, ("cells",), start, layout.block), start)
    # what is read from where and how, and its contents: names of files do not tell of edits
    stored = DirectSource.of(inputs.arrays, layout, node).variables
    content = inputs.source, inputs.kept is None, [variable._data for variable in stored]
    data = blocks.segmented(tokenize(node, content, layout))
    # stand-ins of no size, so that labels are merged and checked without data
    like = [a.copy(data=np.broadcast_to(np.zeros((), a.dtype), a.shape)) for a in inputs.arrays]
    return _applied(lambda *_: data, like, node, inputs)


def _applied(
    function: Callable[..., Any], arrays: Arrays, node: SegmentNode, inputs: Inputs
) -> xr.DataArray:
    """What a function makes of arrays, which are on the grid of the dataset or the model's."""
    new_dims = list(inputs.core) if node.target is not None else ["cells"]
    if node.output == "probability":
        new_dims = ["class", *new_dims]
    moved = not set(inputs.core) <= set(arrays[0].dims)
    core = ["cells"] if moved else list(inputs.core)
    plain = [xr.DataArray(array.variable, _leading_coords(array, core)) for array in arrays]
    result: xr.DataArray = xr.apply_ufunc(
        function,
        *plain,
        input_core_dims=[core] * len(plain),
        output_core_dims=[new_dims],
        # a dimension that keeps its name but may change its size
        exclude_dims=set(core),
        dask="parallelized",
        output_dtypes=[node.dtype],
        dask_gufunc_kwargs={
            "output_sizes": dict(zip(new_dims, node.shape, strict=True)),
            "allow_rechunk": False,
        },
        join="exact",
        keep_attrs=False,
    )
    return result


def _leading_coords(array: xr.DataArray, core: Sequence[Any]) -> dict[Any, xr.DataArray]:
    return {name: coord for name, coord in array.coords.items() if not set(coord.dims) & set(core)}
