"""Labels around the node: inputs found and checked before any work, results named and described."""

from pathlib import Path
from typing import Any, Literal

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
from xsphere.segmentation.node import ModelHandle, Output, SegmentNode

OutputGrid = Literal["healpix", "source"]


def segment(
    ds: xr.Dataset,
    model: str | Path | Model,
    *,
    output: Output = "mask",
    grid: OutputGrid = "healpix",
    batch_size: int = 8,
    device: str | None = None,
) -> xr.DataArray:
    """Events in every time step of a dataset.

    Variables are found by CF standard name, alias or name, their units converted, the fields
    brought to the model's HEALPix grid, and the network run, all inside one task a block: nothing
    is computed until the result is, if the dataset is chunked. Chunked, unchunked, in threads,
    processes or on a cluster, the result has the same bits on CPUs.

    Parameters
    ----------
    ds : Dataset
        Fields on a longitude-latitude, HEALPix or unstructured grid, in one chunk along it. Other
        dimensions, such as time and ensemble member, are kept. It is not changed.
    model : str, Path or Model
        Name of a bundled model, path of a model file, or a model.
    output : {"mask", "probability"}
        The class of each cell, or the probability of each class.
    grid : {"healpix", "source"}
        The model's own grid, or that of the dataset: there each point has the class of the
        HEALPix cell that it is in, or probabilities interpolated bilinearly.
    batch_size : int
        Samples a worker handles at a time: more take more memory.
    device : str, optional
        A torch device. By default a GPU if the worker has one, else the CPU.

    Returns
    -------
    DataArray
        ``mask``: uint8, 0 background, 1, 2, ... the model's classes, 254 where an input is not
        finite; the meaning is in its `flag_values` and `flag_meanings`. ``probability``: float32
        with the dimension ``class``, the background first; NaN where an input is not finite.

    Raises
    ------
    ValueError
        If there is no horizontal grid or it is split in chunks, if variables are missing,
        ambiguous or in units that cannot be converted, if a dimension is empty, or if fields that
        are in memory are nowhere finite; all that is wrong with the variables is said at once.
    FileNotFoundError
        If there is no such model.

    Notes
    -----
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
    """
    _check_options(output, grid, batch_size)
    model = Model.load(model)
    matches = matched_variables(ds, model.spec)
    horizontal = _common_grid(matches)
    _check_sizes(matches)
    check_one_chunk({match.array.name: match.array for match in matches}, horizontal.dims)
    _check_values(matches)
    node = SegmentNode(
        ModelHandle.of(model),
        horizontal.grid,
        tuple((match.factor, match.offset) for match in matches),
        output=output,
        target=horizontal.grid if grid == "source" else None,
        batch_size=batch_size,
        device=device,
    )
    result = _applied(node, [match.array for match in matches], model, horizontal)
    return _labelled(result, ds, model, horizontal, output=output, grid=grid)


def _check_options(output: str, grid: str, batch_size: int) -> None:
    problems = []
    if output not in ("mask", "probability"):
        problems.append(f"output must be 'mask' or 'probability', got {output!r}")
    if grid not in ("healpix", "source"):
        problems.append(f"grid must be 'healpix' or 'source', got {grid!r}")
    if type(batch_size) is not int or batch_size < 1:
        problems.append(f"batch_size must be a positive integer, got {batch_size!r}")
    if problems:
        raise ValueError("; ".join(problems))


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
        if match.array.chunks is None and not np.isfinite(match.array.values).any()
    ]
    if empty:
        raise ValueError(
            f"the fields {empty} have no finite value, so there is nothing to segment; check the "
            "file and how missing values were decoded"
        )


def _applied(
    node: SegmentNode, arrays: list[xr.DataArray], model: Model, horizontal: HorizontalGrid
) -> xr.DataArray:
    core = list(horizontal.dims)
    new_dims = core if node.target is not None else ["cells"]
    shape = node.target.shape if node.target is not None else model.grid.shape
    sizes = dict(zip(new_dims, shape, strict=True))
    if node.output == "probability":
        new_dims = ["class", *new_dims]
        sizes["class"] = len(model.classes) + 1
    plain = [array.drop_vars(_horizontal_coords(array, core)) for array in arrays]
    result: xr.DataArray = xr.apply_ufunc(
        node,
        *plain,
        input_core_dims=[core] * len(plain),
        output_core_dims=[new_dims],
        # a dimension that keeps its name but may change its size
        exclude_dims=set(core),
        dask="parallelized",
        output_dtypes=[np.uint8 if node.output == "mask" else np.float32],
        dask_gufunc_kwargs={"output_sizes": sizes, "allow_rechunk": False},
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
