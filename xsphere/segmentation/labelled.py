"""Labels around the node: inputs found and checked before any work, results named and described."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.compat import held, is_unread
from xsphere.conventions import HorizontalGrid, describe_healpix, mask_attributes
from xsphere.conventions.base import check_one_chunk
from xsphere.conventions.horizontal import common_grid, on_its_own
from xsphere.conventions.values import Reading, reading_of
from xsphere.model import Model
from xsphere.model.inputs import MatchedVariable, matched_variables
from xsphere.notices import shortened
from xsphere.segmentation.checks import (
    Options,
    OutputGrid,
    Threshold,
    check_sizes,
    check_values,
    dataset_of,
)
from xsphere.segmentation.inference import Precision
from xsphere.segmentation.jobs import Segmentation, bare, chunked_alike
from xsphere.segmentation.layout import Layout
from xsphere.segmentation.node import ModelHandle, Output, SegmentNode
from xsphere.segmentation.record import run_record
from xsphere.sources import MissingChunks
from xsphere.sources.opening import warn_of_unchecked


def segment(  # noqa: PLR0913  (every one but two is a keyword)
    ds: xr.Dataset | str | Path,
    model: str | Path | Model,
    *,
    output: Output = "mask",
    threshold: Threshold = None,
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
        dimensions, such as time and ensemble member, are kept. It is not changed. A path or URL
        of a Zarr store or file is opened by `xsphere.open`, which is the best way to give much
        data: see the notes.
    model : str, Path or Model
        Name of a bundled model, path of a model file, or a model.
    output : {"mask", "probability", "spread"}
        The class of each cell; the probability of each class, after the temperature of the
        model's calibration; or, of an ensemble, the standard deviation of the probabilities over
        its members (each after its own temperature).
    threshold : float, mapping or "argmax", optional
        What a mask is decided by. With thresholds, one for all classes or one for each by name (by
        default those of the model for classes left out), a cell has the class whose probability is
        at least its threshold; of several, the one with the largest ratio of probability to
        threshold (in float32; of equal ratios the first class); else it is background. By default
        the thresholds of the model; where it has none, and with ``"argmax"``, the likeliest class
        counts.
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
        What a chunk means that is not in a Zarr store whose path is given, see `xsphere.open`: an
        error when it is read, invalid input, or the fill value. A dataset is computed as it was
        opened; where that was not by `xsphere.open`, missing chunks read as the fill value, of
        which ``"raise"`` warns.

    Returns
    -------
    DataArray
        ``mask``: uint8, 0 background, 1, 2, ... the model's classes, 254 where an input is not
        finite or beyond its valid range; the meaning is in its `flag_values` and
        `flag_meanings`. ``probability``: float32 with the dimension ``class``, the background
        first (spread likewise); NaN where an input is not finite or beyond its valid range. The
        attribute ``xsphere_run`` is a JSON text of all that the values depend on.

    Raises
    ------
    TypeError
        If `ds` is neither a Dataset nor a path.
    ValueError
        If `missing_chunks` is ``"invalid"`` for a dataset, which was opened before. If there is no
        horizontal grid or it is split in chunks, if variables are missing,
        ambiguous, packed or in units that cannot be converted, if a dimension is empty, if fields
        that are in memory are nowhere finite, or if there are no blocks to choose the size of; all
        that is wrong with the variables is said at once.
    FileNotFoundError
        If there is no such model or file.

    Notes
    -----
    A dataset that is neither chunked nor in memory (a path given here, ``xsphere.open(path)``, or
    ``xr.open_dataset(path)`` without `chunks`) becomes one task for each block, which reads its
    steps, regrids and infers: no field is ever moved between workers, and a worker holds no more
    than a variable or two of what it has read. Blocks are cut along the first dimension that is not
    horizontal, along chunks of the store; other dimensions are whole. A chunked dataset keeps its
    chunks, and its tasks as they are, with one more for each block.

    What xarray opened is read as xarray reads it: damaged chunks are errors of their codecs, which
    name no variable, or end the process (Blosc), and missing ones are the fill value.

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
    return job(
        ds,
        model,
        output=output,
        threshold=threshold,
        grid=grid,
        block_size=block_size,
        batch_size=batch_size,
        device=device,
        precision=precision,
        allow_cpu_fallback=allow_cpu_fallback,
        missing_chunks=missing_chunks,
    ).lazy()


def job(ds: xr.Dataset | str | Path, model: str | Path | Model, **options: Any) -> Segmentation:
    """The job that `segment` renders: inputs found and checked, nothing of them read.

    Parameters
    ----------
    ds : Dataset, str or Path
        As for `segment`.
    model : str, Path or Model
        As for `segment`.
    **options
        As for `segment`.

    Returns
    -------
    Segmentation
        ``job(ds, model).lazy()`` is what ``segment(ds, model)`` gives.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As for `segment`.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> job(SAMPLE, "tc-ar").template.sizes["cells"]
    12288
    """
    from dask.base import tokenize

    chosen = Options(**options)
    ds, model = dataset_of(ds, chosen.missing_chunks), Model.load(model)
    if chosen.output == "spread" and not model.spec.members:
        raise ValueError(
            f"output='spread' is of ensembles, and {shortened(model.spec.name)} is one model; make "
            "one with Model.ensemble([...]), or take output='probability'"
        )
    matches = matched_variables(ds, model.spec)
    arrays = [match.array for match in matches]
    horizontal = common_grid(ds, [array.name for array in arrays])
    check_sizes(matches)
    check_one_chunk({array.name: array for array in arrays}, horizontal.dims)
    check_values(matches)
    if chosen.missing_chunks == "raise":
        warn_of_unchecked(arrays)
    readings, conversions = readings_of(matches, model.spec.vectors)
    node = SegmentNode(
        ModelHandle.of(model),
        horizontal.grid,
        conversions,
        output=chosen.output,
        target=horizontal.grid if chosen.grid == "source" else None,
        inference=chosen.inference,
        parallel=_may_use_all_cores(arrays),
        readings=readings,
        thresholds=chosen.thresholds_of(model),
    )
    found = _cut(node, arrays, horizontal.dims, chosen.block_size)
    template = _labelled(
        _template(node, arrays, horizontal.dims),
        ds,
        model,
        horizontal,
        node,
        grid=chosen.grid,
    ).assign_attrs(xsphere_run=run_record(node, arrays))
    token = tokenize([held(array.variable) for array in arrays])
    return replace(found, template=template, token=token)


def _cut(
    node: SegmentNode,
    arrays: list[xr.DataArray],
    core: tuple[Any, ...],
    block_size: int | None,
) -> Segmentation:
    """A job without labels: what is read and in which blocks."""
    lazy = any(array.chunks is not None or is_unread(array.variable) for array in arrays)
    chunked = any(array.chunks is not None for array in arrays)
    if block_size is not None and (chunked or not lazy):
        raise ValueError(
            f"block_size={block_size} is for datasets that are neither chunked nor in memory; "
            "give the path of a store, or choose chunks with ds.chunk(time=...)"
        )
    if not lazy:
        layout = Layout.whole(arrays, core)
        return Segmentation(node=node, variables=_variables(arrays), layout=layout)
    layout = Layout.of(arrays, core, node, block_size)
    if all(is_unread(array.variable) for array in arrays):
        variables = tuple(bare(array.variable) for array in arrays)
    else:
        variables = tuple(chunked_alike(arrays, layout))
    return Segmentation(node=node, variables=variables, layout=layout)


def _variables(arrays: Sequence[xr.DataArray]) -> tuple[xr.Variable, ...]:
    return tuple(array.variable for array in arrays)


def _template(
    node: SegmentNode, arrays: Sequence[xr.DataArray], core: tuple[Any, ...]
) -> xr.DataArray:
    """Labels along the leading dimensions, around values of no size."""
    labels = [array.coords.to_dataset().drop_dims(core, errors="ignore") for array in arrays]
    merged = xr.merge(labels, join="exact", compat="minimal", combine_attrs="drop")
    made = list(core) if node.target is not None else ["cells"]
    leading = dict(Layout.whole(arrays, core).leading)
    dims = [*leading, *([] if node.output == "mask" else ["class"]), *made]
    values = np.broadcast_to(np.zeros((), node.dtype), (*leading.values(), *node.shape))
    return xr.DataArray(values, merged.coords, dims)


def readings_of(
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


def _may_use_all_cores(arrays: list[xr.DataArray]) -> bool:
    """Whether the work is done here and now, and this is no task of somebody's own."""
    in_memory = not any(array.chunks is not None or is_unread(array.variable) for array in arrays)
    return in_memory and threading.current_thread() is threading.main_thread()


def _calibration_text(model: Model, output: Output) -> str:
    """What is calibrated of the probabilities of a model."""
    if output == "spread":
        return f"temperatures of members: {', '.join(f'{m.temperature:g}' for m in model.members)}"
    if model.temperature == 1.0:
        return "none: as the network was trained to give them"
    assert model.spec.calibration is not None
    how = model.spec.calibration.chosen_by.get("temperature", "how it was chosen is not recorded")
    return f"temperature {model.temperature:g} of the softmax: {how}"


def _labelled(
    result: xr.DataArray,
    ds: xr.Dataset,
    model: Model,
    horizontal: HorizontalGrid,
    node: SegmentNode,
    *,
    grid: OutputGrid,
) -> xr.DataArray:
    """Names, meanings and coordinates of a result."""
    result = result.rename(node.output)
    if node.output == "mask":
        result.attrs = {"long_name": "segmentation mask"} | mask_attributes(model.classes)
        if node.thresholds:
            result.attrs["thresholds"] = list(node.thresholds)
    else:
        result = result.assign_coords({"class": ["background", *model.classes]})
        spread = "standard deviation over members of the " if node.output == "spread" else ""
        result.attrs = {"long_name": f"{spread}probability of the class", "units": "1"}
        result.attrs["calibration"] = _calibration_text(model, node.output)
    result.attrs |= {"xsphere_model": model.spec.name, "xsphere_model_digest": model.digest}
    if grid == "healpix":
        return describe_healpix(result, model.grid)
    kept = {
        name: coord
        for name, coord in ds.coords.items()
        if set(coord.dims) & set(horizontal.dims) and set(coord.dims) <= set(result.dims)
    }
    return on_its_own(result.assign_coords(kept), ds, horizontal)
