"""Lazy segmentation: a dataset and a model in, masks or probabilities of events out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import (
    INVALID,
    HorizontalGrid,
    describe_healpix,
    horizontal_grid,
    mask_attributes,
)
from xsphere.grids import Grid
from xsphere.model import Model, ModelFileError
from xsphere.model.inputs import MatchedVariable, matched_variables
from xsphere.weights import Method

Output = Literal["mask", "probability"]
OutputGrid = Literal["healpix", "source"]


@dataclass(frozen=True)
class ModelHandle:
    """How a process comes by a model without its weights being in a task.

    Parameters
    ----------
    digest : str
        SHA-256 of the model's file; another content is refused.
    path : str, optional
        A file that holds it.
    content : Model, optional
        The model itself, where no file can be written.

    Examples
    --------
    >>> ModelHandle.of(Model.load("tc-ar")).load().level
    5
    """

    digest: str
    path: str | None = None
    content: Model | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: Model) -> "ModelHandle":
        """Handle of a model, by a file where one can be kept."""
        path = model.cached_file()
        if path is None:
            return cls(model.digest, content=model)
        return cls(model.digest, path=str(path))

    def load(self) -> Model:
        """The model, checked against the digest; read once per process."""
        if self.content is not None:
            return self.content
        assert self.path is not None
        if not Path(self.path).is_file():
            raise FileNotFoundError(
                f"the model file {self.path} cannot be seen by this process; point the cache of "
                "all workers at one shared folder (XSPHERE_CACHE_DIR)"
            )
        model = Model.load(Path(self.path))
        if model.digest != self.digest:
            raise ModelFileError(
                f"the model file {self.path} has digest {model.digest[:16]}, but "
                f"{self.digest[:16]} was asked for: it was changed or damaged; delete it"
            )
        return model


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Run torch in this thread alone: the same bits however many cores there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class SegmentNode:
    """What is done to one block of a dataset: regrid, derive, normalise, infer.

    It holds no weights, only names of them, so that a task graph of any length stays small. The
    result of a sample depends on that sample alone, bit for bit: not on the block it came in.

    Parameters
    ----------
    model : ModelHandle
        The model.
    source : Grid
        Grid of the data.
    conversions : tuple of (float, float)
        Factor and offset of each variable's units.
    output : {"mask", "probability"}
        Classes, or the probability of each.
    target : Grid, optional
        Grid of the result; the model's own if not given.
    batch_size : int
        Samples read and regridded at a time.
    device : str
        A torch device.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> model = Model.load("tc-ar")
    >>> node = SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),) * 4)
    >>> node(*np.full((4, 1, model.grid.n_cells), np.nan, np.float32)).max()
    np.uint8(254)
    """

    model: ModelHandle
    source: Grid
    conversions: tuple[tuple[float, float], ...]
    output: Output = "mask"
    target: Grid | None = None
    batch_size: int = 8
    device: str = "cpu"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        grids = (self.source.fingerprint, self.target.fingerprint if self.target else None)
        # neither the batch size nor the device changes what a result means
        return ("xsphere.SegmentNode", 1, self.model.digest, grids, self.conversions, self.output)

    def __call__(self, *fields: NDArray[Any]) -> NDArray[Any]:
        """Segment a block: each field (..., *horizontal), the result (..., [classes,] cells)."""
        n_horizontal = len(self.source.shape)
        leading = np.broadcast_shapes(*(values.shape[:-n_horizontal] for values in fields))
        flat = [
            np.broadcast_to(values, leading + self.source.shape).reshape(-1, self.source.n_cells)
            for values in fields
        ]
        model = self.model.load()
        result = self._allocated(model, int(np.prod(leading)))
        starts = range(0, len(result), self.batch_size)

        def run(start: int) -> None:
            part = slice(start, start + self.batch_size)
            with _one_torch_thread():
                result[part] = self._segmented(model, [values[part] for values in flat])

        self._run_all(run, starts)
        shape = (self.target or model.grid).shape
        return result.reshape(*leading, *result.shape[1:-1], *shape)

    def _run_all(self, run: Any, starts: range) -> None:
        import torch

        # inside a dask worker the scheduler owns the threads; eager calls use the cores themselves
        n_threads = 1 if _in_dask_task() or self.device != "cpu" else torch.get_num_threads()
        if n_threads == 1 or len(starts) == 1:
            for start in starts:
                run(start)
            return
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(run, starts))

    def _allocated(self, model: Model, n_samples: int) -> NDArray[Any]:
        n_cells = (self.target or model.grid).n_cells
        if self.output == "mask":
            return np.full((n_samples, n_cells), INVALID, np.uint8)
        return np.full((n_samples, len(model.classes) + 1, n_cells), np.nan, np.float32)

    def _segmented(self, model: Model, fields: list[NDArray[Any]]) -> NDArray[Any]:
        """One batch: fields (n, source cells) to the result (n, [classes,] cells)."""
        on_model_grid = [
            self._regridded(model, values, factor, offset)
            for values, (factor, offset) in zip(fields, self.conversions, strict=True)
        ]
        # on a CPU one sample at a time: nothing is gained by more, and no bit can depend on others
        step = 1 if self.device == "cpu" else self.batch_size
        parts = [
            self._classified(model, [values[start : start + step] for values in on_model_grid])
            for start in range(0, len(on_model_grid[0]), step)
        ]
        result = np.concatenate(parts)
        return self._on_target(model, result)

    def _classified(self, model: Model, fields: list[NDArray[Any]]) -> NDArray[Any]:
        channels, valid = model.channels(*fields)
        probability = self._probability(model, channels)
        probability[~np.broadcast_to(valid[:, None], probability.shape)] = np.nan
        if self.output == "mask":
            return np.where(valid, probability.argmax(axis=1), INVALID).astype(np.uint8)
        return probability

    def _regridded(
        self, model: Model, values: NDArray[Any], factor: float, offset: float
    ) -> NDArray[Any]:
        from xsphere.weights import apply_weights, regridding_weights

        dtype = np.float64 if values.dtype.itemsize > 4 else np.float32
        # Python numbers leave float32 what it is
        converted: NDArray[np.floating] = values.astype(dtype)
        converted = converted * factor + offset
        if self.source == model.grid:
            return converted
        weights = regridding_weights(self.source, model.grid, method=_method(model, self.source))
        return apply_weights(weights, converted)

    def _probability(self, model: Model, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        network = model.shared_network(self.device)
        logits = network(torch.from_numpy(channels).to(self.device))
        probability: NDArray[np.float32] = logits.softmax(-1).transpose(1, 2).cpu().numpy()
        return probability

    def _on_target(self, model: Model, values: NDArray[Any]) -> NDArray[Any]:
        if self.target is None:
            return values
        from xsphere.weights import apply_weights, regridding_weights

        if self.output == "mask":
            # the class of the cell that each point is in: a look-up, exact for classes
            weights = regridding_weights(model.grid, self.target, method="nearest")
            return values[..., weights.indices]
        weights = regridding_weights(model.grid, self.target, method="bilinear")
        return apply_weights(weights, values)


def _in_dask_task() -> bool:
    """Whether this code runs inside a dask computation."""
    import threading

    return threading.current_thread() is not threading.main_thread()


def _method(model: Model, source: Grid) -> Method:
    from xsphere.grids import PointGrid

    # points have no area that could be conserved
    if isinstance(source, PointGrid):
        return "nearest"
    return model.spec.regridding


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
    _check_shapes_and_chunks(matches, horizontal)
    _check_values(matches)
    node = SegmentNode(
        ModelHandle.of(model),
        horizontal.grid,
        tuple((match.factor, match.offset) for match in matches),
        output=output,
        target=horizontal.grid if grid == "source" else None,
        batch_size=batch_size,
        device=device or _default_device(),
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


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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


def _check_shapes_and_chunks(matches: list[MatchedVariable], horizontal: HorizontalGrid) -> None:
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
    split = {
        dim
        for match in matches
        for dim in horizontal.dims
        if len(match.array.chunksizes.get(dim, (1,))) > 1
    }
    if split:
        call = ", ".join(f"{dim!r}: -1" for dim in horizontal.dims)
        raise ValueError(
            f"segment() needs the whole grid in one chunk, but the data are split along "
            f"{sorted(map(str, split))}; call .chunk({{{call}}}) first"
        )


def _check_values(matches: list[MatchedVariable]) -> None:
    """Refuse fields in memory that are nowhere finite; data still to be computed are not read."""
    empty = [
        str(match.array.name)
        for match in matches
        if match.array.chunks is None
        and not np.isfinite(np.asarray(match.array.data, dtype=float)).any()
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
