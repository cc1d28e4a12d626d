"""Labels around the node: inputs found and checked before any work, results named and described."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from xsphere.conventions import (
    HorizontalGrid,
    describe_healpix,
    horizontal_grid,
    mask_attributes,
)
from xsphere.conventions.base import check_one_chunk
from xsphere.model import Model
from xsphere.model.inputs import MatchedVariable, matched_variables
from xsphere.segmentation.direct import DirectSource, is_unread
from xsphere.segmentation.inference import Inference, Precision
from xsphere.segmentation.layout import Layout
from xsphere.segmentation.node import ModelHandle, Output, SegmentNode
from xsphere.segmentation.record import known_source, run_record
from xsphere.sources import MissingChunks, checked
from xsphere.store import open_unread

OutputGrid = Literal["healpix", "source"]


def segment(
    ds: xr.Dataset | str | Path,
    model: str | Path | Model,
    *,
    output: Output = "mask",
    grid: OutputGrid = "healpix",
    block_size: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
    precision: Precision = "float32",
    allow_cpu_fallback: bool = False,
    missing_chunks: MissingChunks = "raise",
) -> xr.DataArray:
    """Events in every time step of a dataset.

    Variables are found by CF standard name, alias or name, their units converted, the fields
    brought to the model's HEALPix grid, and the network run, all inside one task a block: nothing
    is read or computed until the result is, unless the dataset is in memory. Chunked, unchunked,
    in threads, processes or on a cluster, the result has the same bits on CPUs.

    Parameters
    ----------
    ds : Dataset, str or Path
        Fields on a longitude-latitude, HEALPix or unstructured grid, in one chunk along it. Other
        dimensions, such as time and ensemble member, are kept. It is not changed. A path of a
        Zarr store or NetCDF file is opened without chunks, which is the best way to give much
        data: see the notes.
    model : str, Path or Model
        Name of a bundled model, path of a model file, or a model.
    output : {"mask", "probability"}
        The class of each cell, or the probability of each class.
    grid : {"healpix", "source"}
        The model's own grid, or that of the dataset: there each point has the class of the
        HEALPix cell that it is in, or probabilities interpolated bilinearly.
    block_size : int, optional
        Steps in a task, along the first dimension that is not horizontal, of a dataset that is
        neither chunked nor in memory. By default whole chunks of the store, about 48 samples.
    batch_size : int
        Samples a worker regrids at a time, and a GPU takes at a time: more take more memory. A
        GPU that runs out of memory is given half as many, and so on.
    device : str, optional
        A torch device. By default a GPU if the worker has one, else the CPU.
    precision : {"float32", "bfloat16", "float16"}
        Of the products inside the network; less than float32 is faster, on GPUs only. Results
        differ a little.
    allow_cpu_fallback : bool
        Whether the CPU takes over, in float32 and with a warning, where a GPU cannot hold one
        sample.
    missing_chunks : {"raise", "invalid", "fill"}
        What a chunk means that is not in a Zarr source, see `xsphere.checked`: an error when it
        is read, invalid input, or the fill value.

    Returns
    -------
    DataArray
        ``mask``: uint8, 0 background, 1, 2, ... the model's classes, 254 where an input is not
        finite; the meaning is in its `flag_values` and `flag_meanings`. ``probability``: float32
        with the dimension ``class``, the background first; NaN where an input is not finite. The
        attribute ``xsphere_run`` is a JSON text of all that the values depend on.

    Raises
    ------
    TypeError
        If `ds` is neither a Dataset nor a path.
    ValueError
        If there is no horizontal grid or it is split in chunks, if variables are missing,
        ambiguous, packed or in units that cannot be converted, if a dimension is empty, if fields
        that are in memory are nowhere finite, or if there are no blocks to choose the size of; all
        that is wrong with the variables is said at once.
    FileNotFoundError
        If there is no such model or file.

    Notes
    -----
    A dataset that is neither chunked nor in memory (``xr.open_dataset(path)`` without `chunks`, or
    a path given here) becomes one task for each block, which reads its steps, regrids and infers:
    no field is ever moved between workers, and a worker holds no more than a variable or two of
    what it has read. Blocks are cut along the first dimension that is not horizontal, along chunks
    of the store; other dimensions are whole. A chunked dataset keeps its chunks, with a task for
    each variable and one for the result.

    Every step is segmented for itself, so times may be in any order and repeat.

    Cells that are not finite are given to the network as the mean of the training data, so cells
    near them are classified with less to go by.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000

    Examples
    --------
    >>> import xsphere
    >>> mask = segment(xsphere.sample_dataset(), "tc-ar")
    >>> mask.dims, mask.dtype
    (('time', 'cells'), dtype('uint8'))
    >>> mask.attrs["flag_meanings"]
    'background tropical_cyclone atmospheric_river invalid_input not_computed'

    Of a file, nothing is read before the result is asked for:

    >>> from xsphere.sample import SAMPLE
    >>> lazy = segment(SAMPLE, "tc-ar", block_size=1)
    >>> lazy.chunks
    ((1, 1), (12288,))
    >>> bool((lazy == mask).all())
    True
    """
    inference = Inference(
        batch_size=batch_size,
        device=device,
        precision=precision,
        allow_cpu_fallback=allow_cpu_fallback,
    )
    _check_options(output, grid, block_size, inference)
    ds = _dataset(ds)
    model = Model.load(model)
    matches = matched_variables(ds, model.spec)
    horizontal = _common_grid(matches)
    _check_sizes(matches)
    check_one_chunk({match.array.name: match.array for match in matches}, horizontal.dims)
    _check_values(matches)
    names = [match.array.name for match in matches]
    source = known_source(ds, names)
    # the same arrays, which refuse chunks that are missing or damaged when they are read
    strict = checked(ds, list(dict.fromkeys(names)), missing_chunks=missing_chunks)
    arrays = [match.array for match in matched_variables(strict, model.spec)]
    node = SegmentNode(
        ModelHandle.of(model),
        horizontal.grid,
        tuple((match.factor, match.offset) for match in matches),
        output=output,
        target=horizontal.grid if grid == "source" else None,
        inference=inference,
        parallel=_may_use_all_cores(arrays),
    )
    result = _segmented(node, arrays, horizontal, block_size=block_size, source=source)
    result = _labelled(result, ds, model, horizontal, output=output, grid=grid)
    return result.assign_attrs(xsphere_run=run_record(node, names, source, missing_chunks))


def _check_options(output: str, grid: str, block_size: int | None, inference: Inference) -> None:
    problems = []
    if output not in get_args(Output):
        problems.append(f"output must be 'mask' or 'probability', got {output!r}")
    if grid not in get_args(OutputGrid):
        problems.append(f"grid must be 'healpix' or 'source', got {grid!r}")
    sizes = {"batch_size": inference.batch_size}
    if block_size is not None:
        sizes["block_size"] = block_size
    problems += [
        f"{name} must be a positive integer, got {size!r}"
        for name, size in sizes.items()
        if type(size) is not int or size < 1
    ]
    if inference.precision not in get_args(Precision):
        problems.append(
            f"precision must be one of {list(get_args(Precision))}, got {inference.precision!r}"
        )
    if not _is_device(inference.device):
        problems.append(
            f"device must be a torch device such as 'cuda', 'cuda:1' or 'cpu', got "
            f"{inference.device!r}"
        )
    if problems:
        raise ValueError("; ".join(problems))


def _is_device(name: str | None) -> bool:
    import torch

    try:
        torch.device(name or "cpu")
    except (RuntimeError, TypeError):
        return False
    return True


def _dataset(ds: Any) -> xr.Dataset:
    if isinstance(ds, str | Path):
        return open_unread(ds)
    if not isinstance(ds, xr.Dataset):
        raise TypeError(
            f"expected an xarray Dataset or the path of one, got {type(ds).__name__}; make a "
            "dataset of a single array with .to_dataset(name=...)"
        )
    return ds


def _may_use_all_cores(arrays: list[xr.DataArray]) -> bool:
    """Whether the work is done here and now, and this is no task of somebody's own."""
    in_memory = not any(array.chunks is not None or is_unread(array) for array in arrays)
    return in_memory and threading.current_thread() is threading.main_thread()


def _common_grid(matches: list[MatchedVariable]) -> HorizontalGrid:
    """The grid that all variables share."""
    first = horizontal_grid(matches[0].array)
    others = [
        match.array.name
        for match in matches[1:]
        if (horizontal := horizontal_grid(match.array)).dims != first.dims
        or horizontal.grid != first.grid
    ]
    if others:
        raise ValueError(
            f"all inputs must be on one grid, but {others} are not on that of "
            f"{matches[0].array.name!r} ({first.grid!r}); regrid them first, for example with "
            ".sphere.to_healpix()"
        )
    return first


def _check_sizes(matches: list[MatchedVariable]) -> None:
    empty = {
        str(dim): match.array.name
        for match in matches
        for dim, size in match.array.sizes.items()
        if size == 0
    }
    if empty:
        raise ValueError(
            f"there is nothing to segment: the dimensions {sorted(empty)} have length 0 (in "
            f"{sorted(map(str, empty.values()))}); check the selection that made the dataset"
        )


def _check_values(matches: list[MatchedVariable]) -> None:
    """Refuse fields in memory that are nowhere finite; data still to be computed are not read."""
    empty = [
        str(match.array.name)
        for match in matches
        if match.array.chunks is None
        and not is_unread(match.array)
        and not np.isfinite(match.array.values).any()
    ]
    if empty:
        raise ValueError(
            f"the fields {empty} have no finite value, so there is nothing to segment; check the "
            "file and how missing values were decoded"
        )


def _segmented(
    node: SegmentNode,
    arrays: list[xr.DataArray],
    horizontal: HorizontalGrid,
    *,
    block_size: int | None,
    source: dict[str, Any] | None,
) -> xr.DataArray:
    """The result, computed now if all is in memory, else when it is asked for."""
    unread = [is_unread(array) for array in arrays]
    chunked = any(array.chunks is not None for array in arrays)
    if block_size is not None and (chunked or not any(unread)):
        raise ValueError(
            f"block_size={block_size} is for datasets that are neither chunked nor in memory; "
            "give the path of a store, or choose chunks with ds.chunk(time=...)"
        )
    if not chunked and not any(unread):
        return _applied(node, arrays, node, horizontal)
    layout = Layout.of(arrays, horizontal.dims, node, block_size)
    if all(unread):
        return _direct(node, arrays, horizontal, layout, source)
    return _applied(node, _chunked_alike(arrays, layout), node, horizontal)


def _chunked_alike(arrays: list[xr.DataArray], layout: Layout) -> list[xr.DataArray]:
    """All arrays in tasks of the same steps: those of the chunked ones, if there are any."""
    sizes: dict[Any, Any] = {layout.first: layout.block}
    for array in reversed(arrays):
        sizes |= array.chunksizes
    sizes |= dict.fromkeys(layout.core, -1)
    chunked = [
        array.chunk({dim: sizes.get(dim, -1) for dim in array.dims})
        if array.chunks is None
        else array
        for array in arrays
    ]
    alike: tuple[Any, ...] = xr.unify_chunks(*chunked)
    return list(alike)


def _direct(
    node: SegmentNode,
    arrays: list[xr.DataArray],
    horizontal: HorizontalGrid,
    layout: Layout,
    source: dict[str, Any] | None,
) -> xr.DataArray:
    """Labels as any other path gives them, around blocks that are read where they are used."""
    from dask.base import tokenize

    blocks = DirectSource.of(arrays, layout, node)
    # what is read from where and how, and its contents: names of files do not tell of edits
    content = source, [variable._data for variable in blocks.variables]
    data = blocks.segmented(tokenize(node, content, layout))
    # stand-ins of no size, so that labels are merged and checked without data
    like = [a.copy(data=np.broadcast_to(np.zeros((), a.dtype), a.shape)) for a in arrays]
    return _applied(lambda *_: data, like, node, horizontal)


def _applied(
    function: Callable[..., Any],
    arrays: Sequence[xr.DataArray],
    node: SegmentNode,
    horizontal: HorizontalGrid,
) -> xr.DataArray:
    core = list(horizontal.dims)
    new_dims = core if node.target is not None else ["cells"]
    if node.output == "probability":
        new_dims = ["class", *new_dims]
    plain = [array.drop_vars(_horizontal_coords(array, core)) for array in arrays]
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


def _horizontal_coords(array: xr.DataArray, dims: list[Any]) -> list[Any]:
    return [name for name, coord in array.coords.items() if set(coord.dims) & set(dims)]


def _labelled(
    result: xr.DataArray,
    ds: xr.Dataset,
    model: Model,
    horizontal: HorizontalGrid,
    *,
    output: Output,
    grid: OutputGrid,
) -> xr.DataArray:
    """Names, meanings and coordinates of a result."""
    result = result.rename(output)
    if output == "mask":
        result.attrs = {"long_name": "segmentation mask"} | mask_attributes(model.classes)
    else:
        result = result.assign_coords({"class": ["background", *model.classes]})
        result.attrs = {"long_name": "probability of the class", "units": "1"}
    result.attrs |= {"xsphere_model": model.spec.name, "xsphere_model_digest": model.digest}
    if grid == "healpix":
        return describe_healpix(result, model.grid)
    kept = {
        name: coord
        for name, coord in ds.coords.items()
        if set(coord.dims) & set(horizontal.dims) and set(coord.dims) <= set(result.dims)
    }
    return result.assign_coords(kept)
