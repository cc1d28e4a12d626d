"""Labels around the node: inputs found and checked before any work, results named and described."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from xsphere.conventions import HorizontalGrid, describe_healpix, mask_attributes
from xsphere.conventions.base import check_one_chunk
from xsphere.conventions.horizontal import common_grid, on_its_own
from xsphere.conventions.values import Reading, reading_of
from xsphere.model import Model
from xsphere.model.inputs import MatchedVariable, matched_variables
from xsphere.notices import OncePerRun
from xsphere.segmentation.checks import (
    OutputGrid,
    check_options,
    check_sizes,
    check_values,
    dataset_of,
)
from xsphere.segmentation.direct import is_unread
from xsphere.segmentation.inference import Inference, Precision
from xsphere.segmentation.layout import regular_block
from xsphere.segmentation.node import ModelHandle, Output, SegmentNode
from xsphere.segmentation.paths import Inputs, segmented
from xsphere.segmentation.record import RunRecord, known_source, run_record
from xsphere.sources import MissingChunks, as_opened, checked, kept_inputs


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
    in threads, processes or on a cluster, the result has the same bits on CPUs of one kind; other
    kinds of CPU, and GPUs, differ in the last digits of probabilities.

    Parameters
    ----------
    ds : Dataset, str or Path
        Fields on a longitude-latitude, HEALPix or unstructured grid, in one chunk along it. Cells
        without data near are invalid input (see `xsphere.horizontal_grid`). Other
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
        What a chunk means that is not in a Zarr source, see `xsphere.checked`: an error
        when it is read, invalid input, or the fill value. Variables that were computed with since
        they were opened are computed as they are, and missing chunks under them are warned of.

    Returns
    -------
    DataArray
        ``mask``: uint8, 0 background, 1, 2, ... the model's classes, 254 where an input is not
        finite or beyond its valid range; the meaning is in its `flag_values` and
        `flag_meanings`. ``probability``: float32 with the dimension ``class``, the background
        first; NaN where an input is not finite or beyond its valid range. The
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
    Of a dataset that `xsphere.cache_regridded` was called for at the model's level, fields that are
    in the cache are read, others kept there; that changes no bit and no chunk of the result.

    A dataset that is neither chunked nor in memory (``xr.open_dataset(path)`` without `chunks`, or
    a path given here) becomes one task for each block, which reads its steps, regrids and infers:
    no field is ever moved between workers, and a worker holds no more than a variable or two of
    what it has read. Blocks are cut along the first dimension that is not horizontal, along chunks
    of the store; other dimensions are whole. A chunked dataset keeps its chunks: one that is as it
    was opened (``xr.open_zarr(path)``), or only sliced or chunked anew since, has a task for each
    as well; one that was computed with has a task for each variable and one for the result.

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
    check_options(output, grid, block_size, inference)
    ds = dataset_of(ds)
    model = Model.load(model)
    matches = matched_variables(ds, model.spec)
    names = [match.array.name for match in matches]
    horizontal = common_grid(ds, names)
    check_sizes(matches)
    check_one_chunk({match.array.name: match.array for match in matches}, horizontal.dims)
    check_values(matches)
    source = known_source(ds, names)
    run = OncePerRun()
    kept = kept_inputs(ds, model.spec, matches, missing_chunks=missing_chunks, run=run)
    arrays, block = _strict(ds, model, matches, horizontal, missing_chunks)
    readings, conversions = _readings(matches, model.spec.vectors)
    node = SegmentNode(
        ModelHandle.of(model),
        horizontal.grid,
        conversions,
        output=output,
        target=horizontal.grid if grid == "source" else None,
        inference=inference,
        parallel=_may_use_all_cores(arrays),
        readings=readings,
        run=run,
    )
    inputs = Inputs(
        arrays=arrays,
        core=horizontal.dims,
        block=block,
        kept=None if kept is None else [match.array for match in kept],
        source=source,
    )
    result = segmented(node, inputs, block_size)
    result = _labelled(result, ds, model, horizontal, output=output, grid=grid)
    record = run_record(node, names, source, missing_chunks)
    return result.assign_attrs(xsphere_run=RunRecord.of(record, ds, names))


def _readings(
    matches: Sequence[MatchedVariable], vectors: Sequence[tuple[int, int]]
) -> tuple[tuple[Reading, ...], tuple[tuple[float, float], ...]]:
    """How values are read, and how they are converted once they are on the model's grid."""
    readings = [reading_of(match.array) for match in matches]
    conversions = [(match.factor, match.offset) for match in matches]
    for east, north in vectors:
        factor = conversions[north][0] / conversions[east][0]
        if factor != 1:
            # components in units of their own cannot be turned into each other
            readings[north] = replace(readings[north], factor=factor)
            conversions[north] = conversions[east]
    return tuple(readings), tuple(conversions)


def _strict(
    ds: xr.Dataset,
    model: Model,
    matches: Sequence[MatchedVariable],
    horizontal: HorizontalGrid,
    missing_chunks: MissingChunks,
) -> tuple[list[xr.DataArray], int | None]:
    """The same arrays, which refuse chunks that are missing or damaged when they are read.

    What is in chunks only since it was opened so comes without them, and with their length: then
    one task does what else is one for each variable.
    """
    names = list(dict.fromkeys(match.array.name for match in matches))
    # each change of a dataset looks at all of its variables
    ds = ds[names]
    block = regular_block([match.array for match in matches], horizontal.dims)

    def read_strictly(given: xr.Dataset) -> list[xr.DataArray]:
        strict = checked(given, names, missing_chunks=missing_chunks)
        return [match.array for match in matched_variables(strict, model.spec)]

    if block is not None:
        arrays = read_strictly(as_opened(ds, names))
        if all(is_unread(array) for array in arrays):
            return arrays, block
    return read_strictly(ds), None


def _may_use_all_cores(arrays: list[xr.DataArray]) -> bool:
    """Whether the work is done here and now, and this is no task of somebody's own."""
    in_memory = not any(array.chunks is not None or is_unread(array) for array in arrays)
    return in_memory and threading.current_thread() is threading.main_thread()


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
    return on_its_own(result.assign_coords(kept), ds, horizontal)
