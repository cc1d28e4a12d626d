"""What is done to one block of data, wherever it is done: arrays in, classes out."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xsphere.cache import SharedEntries
from xsphere.conventions import INVALID
from xsphere.conventions.values import Reading
from xsphere.grids import Grid
from xsphere.grids.healpix import HealpixGrid
from xsphere.grids.travel import Travelling
from xsphere.model import Model, ModelFileError, ModelSpec
from xsphere.model.bounds import Beyond, source_bounds, touched_cells
from xsphere.model.units import converted
from xsphere.notices import OncePerRun
from xsphere.regridding.methods import method_from
from xsphere.segmentation.device_regridding import regridded_fields
from xsphere.segmentation.inference import Inference, probabilities
from xsphere.segmentation.plausibility import check_plausible
from xsphere.stages import stage
from xsphere.tensorfiles import file_stamp

Output = Literal["mask", "probability", "spread"]

# Part of every task's key: raise it when results change for the same model and weights.
VERSION = 5

_checked = SharedEntries(8)


@dataclass(frozen=True)
class ModelHandle:
    """How a process comes by a model without its weights being in a task.

    Parameters
    ----------
    digest : str
        SHA-256 of the model's file; another content is refused.
    level : int
        HEALPix refinement level of the model.
    n_classes : int
        Number of its classes, the background included.
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
    level: int
    n_classes: int
    path: str | None = None
    content: Model | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: Model) -> "ModelHandle":
        """Handle of a model, by a file where one can be kept."""
        path = model.cached_file()
        about = (model.digest, model.level, len(model.classes) + 1)
        return cls(*about, content=model) if path is None else cls(*about, path=str(path))

    @property
    def grid(self) -> HealpixGrid:
        """Grid of the model, known without its file."""
        return HealpixGrid(self.level)

    def load(self) -> Model:
        """The model; its file is read and checked against the digest once per process."""
        if self.content is not None:
            return self.content
        assert self.path is not None
        try:
            key = f"{self.digest} {file_stamp(Path(self.path))}"
        except FileNotFoundError:
            raise FileNotFoundError(
                f"the model file {self.path} cannot be seen by this process; point the cache of "
                "all workers at one shared folder (XSPHERE_CACHE_DIR)"
            ) from None
        # under a lock: from Python 3.12 on, threads would each compute a digest of their own
        model: Model = _checked.fetch(key, self._read)
        return model

    def _read(self) -> Model:
        assert self.path is not None
        model = Model.load(Path(self.path))
        if model.digest != self.digest:
            raise ModelFileError(
                f"the model file {self.path} has digest {model.digest[:16]}, but "
                f"{self.digest[:16]} was asked for: it was changed or damaged; delete it"
            )
        return model


@dataclass(frozen=True)
class SegmentNode(Travelling):
    """What is done to one block of a dataset: regrid, derive, normalise, infer.

    It holds no weights, only names of them, so that a task graph of any length stays small. The
    result of a sample depends on that sample alone, bit for bit on CPUs of one kind: not on the
    block it came in. Fields are cast to float32 once they are on the model's grid and in its units.

    Parameters
    ----------
    model : ModelHandle
        The model.
    source : Grid
        Grid of the data.
    conversions : tuple of (float, float)
        Factor and offset of each variable's units.
    readings : tuple of Reading
        What is missing in each variable; only what is not finite if not given.
    output : {"mask", "probability", "spread"}
        Classes, or the probability of each, or its standard deviation over an ensemble.
    target : Grid, optional
        Grid of the result; the model's own if not given.
    inference : Inference
        How the network is run. As many samples are regridded at a time as it takes in a batch.
    parallel : bool
        Whether a call uses all cores itself. Inside a task the scheduler has them.
    thresholds : tuple of float
        Of the classes, see `decided`; the likeliest class counts if not given.
    run : OncePerRun
        The run that a warning is said in once.

    Examples
    --------
    >>> model = Model.load("tc-ar")
    >>> node = SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),) * 4)
    >>> node(*np.full((4, 1, model.grid.n_cells), np.nan, np.float32)).max()
    np.uint8(254)
    """

    # the name of its tasks; dask cannot do with one that has a hyphen, as a repr may have
    __name__ = "xsphere_segment"

    model: ModelHandle
    source: Grid
    conversions: tuple[tuple[float, float], ...]
    output: Output = "mask"
    target: Grid | None = None
    inference: Inference = field(default_factory=Inference)
    parallel: bool = False
    readings: tuple[Reading, ...] = ()
    thresholds: tuple[float, ...] = ()
    run: OncePerRun = field(default_factory=OncePerRun, compare=False, repr=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result."""
        return np.dtype(np.uint8 if self.output == "mask" else np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result of one sample: ([classes,] *cells)."""
        grid = self.target or self.model.grid
        return grid.shape if self.output == "mask" else (self.model.n_classes, *grid.shape)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from xsphere.weights import regridding

        versions = (VERSION, regridding.VERSION)
        grids = (self.source.fingerprint, self.target.fingerprint if self.target else None)
        # neither batches nor devices nor threads change what a result means
        options = (self.conversions, self.output, self.inference.precision)
        rules = tuple(reading.__dask_tokenize__() for reading in self.readings)
        return (
            "xsphere.segment",
            versions,
            self.model.digest,
            grids,
            *options,
            rules,
            self.thresholds,
        )

    def __call__(self, *fields: NDArray[Any]) -> NDArray[Any]:
        """Segment a block: each field (..., *horizontal), the result (..., [classes,] *cells)."""
        n_horizontal = len(self.source.shape)
        leading = np.broadcast_shapes(*(values.shape[:-n_horizontal] for values in fields))
        if any(values.size == 0 for values in fields):
            return np.empty((*leading, *self.shape), self.dtype)
        flat = [self.flattened(values, leading) for values in fields]
        result = self.allocated(len(flat[0]))
        model = self.model.load()
        found = self.beyond(model.spec)

        def run(part: slice) -> None:
            chosen = [values[part] for values in flat]
            regridded = self.on_model_grid(model.spec, lambda index: chosen[index], found)
            with stage("infer"):
                result[part] = self.classified(model, regridded)

        self._run_all(run, self.batches(len(result)))
        found.tell()
        return result.reshape(*leading, *self.shape)

    def flattened(self, values: NDArray[Any], leading: tuple[int, ...]) -> NDArray[Any]:
        """A field (..., *horizontal) as one of shape (n, source cells) for all samples."""
        return np.broadcast_to(values, leading + self.source.shape).reshape(-1, self.source.n_cells)

    def allocated(self, n_samples: int) -> NDArray[Any]:
        """A result that says that nothing is known, shape (n, *shape)."""
        fill = INVALID if self.output == "mask" else np.nan
        return np.full((n_samples, *self.shape), fill, self.dtype)

    def batches(self, n_samples: int) -> list[slice]:
        """Which samples are handled together."""
        size = self.inference.batch_size
        return [slice(start, start + size) for start in range(0, n_samples, size)]

    def beyond(self, spec: ModelSpec) -> Beyond:
        """Nothing yet of what lies beyond the valid ranges of the variables."""
        variables = spec.variables
        bounds = [
            source_bounds(variable.valid_range, *conversion)
            for variable, conversion in zip(variables, self.conversions, strict=True)
        ]
        return Beyond([variable.name for variable in variables], bounds, self.run)

    def on_model_grid(
        self, spec: ModelSpec, read: Callable[[int], NDArray[Any]], found: Beyond | None = None
    ) -> list[NDArray[np.float32]]:
        """All variables (n, model cells), each regridded as soon as it is read.

        Components of a vector are read together; no more than those are held meanwhile. Cells that
        a value beyond the valid range has any part in are NaN.
        """
        found = found or self.beyond(spec)
        pairs = [tuple(pair) for pair in spec.vectors]
        paired = {index for pair in pairs for index in pair}
        moved: dict[int, NDArray[np.float32]] = {}
        for group in pairs + [(i,) for i in range(len(self.conversions)) if i not in paired]:
            fields = [read(index) for index in group]
            with stage("regrid"):
                if self.readings:
                    fields = [self.readings[i](f) for i, f in zip(group, fields, strict=True)]
                moved |= zip(group, self._regridded(spec, group, fields, found), strict=True)
        return [moved[index] for index in range(len(moved))]

    def _regridded(
        self,
        spec: ModelSpec,
        group: tuple[int, ...],
        fields: Sequence[NDArray[Any]],
        found: Beyond,
    ) -> list[NDArray[np.float32]]:
        """Fields (n, source cells) of a group of variables, in the model's units on its grid."""
        method = method_from(self.source, spec.regridding)
        fields, where = found.taken_out(group, fields)
        on_grid = regridded_fields(
            fields, self.source, self.model.grid, method=method, options=self.inference
        )
        # last: there are fewer cells
        results = [
            converted(values, *self.conversions[index])
            for index, values in zip(group, on_grid, strict=True)
        ]
        if where is None:
            return results
        touched = touched_cells(where, self.source, self.model.grid, method)
        return [np.where(touched, np.float32(np.nan), values) for values in results]

    def classified(self, model: Model, fields: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Result (n, *shape) of all variables (n, model cells)."""
        step = self.inference.samples_at_once()
        parts = [
            self._inferred(model, [values[start : start + step] for values in fields])
            for start in range(0, len(fields[0]), step)
        ]
        return self._on_target(model, np.concatenate(parts))

    def _run_all(self, run: Callable[[slice], None], parts: list[slice]) -> None:
        import torch

        on_cpu = self.inference.chosen_device().type == "cpu"
        n_threads = torch.get_num_threads() if self.parallel and on_cpu else 1
        if n_threads == 1 or len(parts) == 1:
            for part in parts:
                run(part)
            return
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(run, parts))

    def _inferred(self, model: Model, fields: list[NDArray[Any]]) -> NDArray[Any]:
        of_members = [self._chances(member, fields) for member in model.members]
        if self.output == "spread":
            spread: NDArray[np.float64] = np.std(of_members, axis=0, dtype=np.float64)
            return spread.astype(np.float32)
        probability = pooled(model, of_members)
        if self.output == "mask":
            valid = np.isfinite(probability[:, 0])
            chosen = decided(probability, self.thresholds)
            return np.where(valid, chosen, INVALID).astype(np.uint8)
        return probability

    def _chances(self, model: Model, fields: list[NDArray[Any]]) -> NDArray[np.float32]:
        """Probabilities (n, classes, cells) of a model that is no ensemble, NaN where invalid."""
        channels, valid = model.channels(*fields)
        check_plausible(model, channels, valid, self.run)
        probability = probabilities(model, channels, self.inference)
        # absurd input can overflow in the network: its NaN would count as the first class
        valid = valid & np.isfinite(probability).all(axis=1)
        probability[~np.broadcast_to(valid[:, None], probability.shape)] = np.nan
        return probability

    def _on_target(self, model: Model, values: NDArray[Any]) -> NDArray[Any]:
        if self.target is None:
            return values
        from xsphere.weights import apply_weights, regridding_weights

        if self.output == "mask":
            # the class of the cell that each point is in: a look-up, exact for classes
            weights = regridding_weights(model.grid, self.target, method="nearest")
            found = values[..., weights.indices]
        else:
            weights = regridding_weights(model.grid, self.target, method="bilinear")
            found = apply_weights(weights, values)
        return found.reshape(-1, *self.shape)


def pooled(model: Model, of_members: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of the probabilities (n, classes, cells) of members, at the ensemble's temperature.

    A model that is no ensemble is its own only member, whose probabilities are final.
    """
    if len(of_members) == 1:
        return of_members[0]
    mean: NDArray[np.float64] = np.mean(of_members, axis=0, dtype=np.float64)
    if model.temperature != 1.0:
        # the softmax of logarithms that are divided by it
        mean **= 1.0 / model.temperature
        mean /= mean.sum(axis=1, keepdims=True)
    return mean.astype(np.float32)


def decided(
    probability: NDArray[np.float32], thresholds: tuple[float, ...]
) -> NDArray[np.integer[Any]]:
    """Class of each cell by the probabilities (n, classes, cells), the background first.

    With thresholds a cell has the class, of those whose probability is at least their threshold,
    for which the ratio of both is largest (of equal ratios the first), else it is background.
    """
    found: NDArray[np.integer[Any]]
    if not thresholds:
        found = probability.argmax(axis=1)
        return found
    ratios = probability[:, 1:] / np.array(thresholds, np.float32)[:, None]
    found = ratios.argmax(axis=1) + 1
    found[(ratios < 1).all(axis=1)] = 0
    return found
