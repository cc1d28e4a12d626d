"""What is done to one block of data, wherever it is done: arrays in, classes out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xsphere.conventions import INVALID
from xsphere.grids import Grid
from xsphere.grids.travel import Travelling
from xsphere.model import Model, ModelFileError
from xsphere.regridding.methods import method_from

Output = Literal["mask", "probability"]


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
class SegmentNode(Travelling):
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
    device : str, optional
        A torch device. Where the node runs it takes a GPU if there is one, else the CPU.

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
    device: str | None = None

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

    def _device(self) -> str:
        """Chosen where the work is done: a client may have a GPU and its workers not."""
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def _run_all(self, run: Any, starts: range) -> None:
        import torch

        # inside a dask worker the scheduler owns the threads; eager calls use the cores themselves
        n_threads = 1 if _in_dask_task() or self._device() != "cpu" else torch.get_num_threads()
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
        on_model_grid = self._regridded(model, fields)
        # on a CPU one sample at a time: nothing is gained by more, and no bit can depend on others
        step = 1 if self._device() == "cpu" else self.batch_size
        parts = [
            self._classified(model, [values[start : start + step] for values in on_model_grid])
            for start in range(0, len(on_model_grid[0]), step)
        ]
        result = np.concatenate(parts)
        return self._on_target(model, result)

    def _classified(self, model: Model, fields: list[NDArray[Any]]) -> NDArray[Any]:
        channels, valid = model.channels(*fields)
        probability = self._probability(model, channels)
        # absurd input can overflow in the network: its NaN would count as the first class
        valid = valid & np.isfinite(probability).all(axis=1)
        probability[~np.broadcast_to(valid[:, None], probability.shape)] = np.nan
        if self.output == "mask":
            return np.where(valid, probability.argmax(axis=1), INVALID).astype(np.uint8)
        return probability

    def _regridded(self, model: Model, fields: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Fields in the model's units on its grid, winds as vectors."""
        from xsphere.weights import regrid_fields, regrid_vectors

        converted = [
            _converted(values, *conversion)
            for values, conversion in zip(fields, self.conversions, strict=True)
        ]
        if self.source == model.grid:
            return converted
        source, target = self.source, model.grid
        method = method_from(source, model.spec.regridding)
        pairs = model.spec.vectors
        moved = {
            index: regrid_fields(values, source, target, method=method)
            for index, values in enumerate(converted)
            if index not in {index for pair in pairs for index in pair}
        }
        for east, north in pairs:
            moved[east], moved[north] = regrid_vectors(
                converted[east], converted[north], source, target, method=method
            )
        return [moved[index] for index in range(len(fields))]

    def _probability(self, model: Model, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        device = self._device()
        network = model.shared_network(device)
        logits = network(torch.from_numpy(channels).to(device))
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


def _converted(values: NDArray[Any], factor: float, offset: float) -> NDArray[np.floating]:
    dtype = np.float64 if values.dtype.itemsize > 4 else np.float32
    # Python numbers leave float32 what it is
    converted: NDArray[np.floating] = values.astype(dtype)
    return converted * factor + offset


def _in_dask_task() -> bool:
    """Whether this code runs inside a dask computation."""
    import threading

    return threading.current_thread() is not threading.main_thread()
