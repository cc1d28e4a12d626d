"""How fast each stage of the pipeline is by itself, and all of them together.

A stage is what a task of `xsphere.segment` does, with its input ready in memory: the same calls on
the same number of threads. Nothing here is timed against a clock that others share: beside the
time that passes there is always the time that processors worked.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from archive import step_bytes
from numpy.typing import NDArray

import xsphere
from xsphere.atomic import remove_whole
from xsphere.conventions import describe_healpix
from xsphere.grids import LatLonGrid
from xsphere.model import Model
from xsphere.segmentation import ModelHandle, SegmentNode

STAGES = ("decode", "regrid", "infer", "write")
# masks are written so much faster than made that more of them must be
TIMES_WRITTEN = 16


class Cost(NamedTuple):
    """Seconds that passed and that processors worked, for each step."""

    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Steps a second."""
        return 1 / self.wall


def best(costs: Sequence[Cost]) -> Cost:
    """The least of each: what takes longer was waiting for others."""
    return Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


def cost_of(call: Callable[[], Any], n_steps: int) -> Cost:
    """Cost of a step of a call that handles some."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    passed = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(*(seconds / n_steps for seconds in passed))


def processor_seconds(client: Any = None) -> float:
    """Seconds that processors worked for this process and the workers of a cluster."""
    workers = [] if client is None else client.run(time.process_time).values()
    return time.process_time() + sum(workers)


class Pipeline:
    """An archive and a model, and the stages between them, each with its input ready.

    Parameters
    ----------
    path, folder : Path
        The archive; where results go.
    model : Model
        The model.
    n_steps, block : int
        Steps that are handled, and those in a task.
    """

    def __init__(self, path: Path, folder: Path, model: Model, n_steps: int, block: int) -> None:
        self.path, self.folder, self.model, self.n_steps = path, folder, model, n_steps
        self.block, self.step_bytes = block, step_bytes(path)
        self.names = [variable.name for variable in model.spec.variables]
        self.parts = [slice(i, min(i + block, n_steps)) for i in range(0, n_steps, block)]

    @cached_property
    def node(self) -> SegmentNode:
        """What is done to a block."""
        ds = xsphere.open(self.path)
        grid = LatLonGrid(ds.lon.to_numpy(), ds.lat.to_numpy())
        return SegmentNode(ModelHandle.of(self.model), grid, ((1.0, 0.0),) * len(self.names))

    @cached_property
    def fields(self) -> list[NDArray[np.float32]]:
        """Values of a block as they are read, (steps, source cells) for each variable."""
        stored = xsphere.open(self.path).isel(time=self.parts[0])
        return [
            stored[name].to_numpy().reshape(-1, self.node.source.n_cells) for name in self.names
        ]

    @cached_property
    def moved(self) -> list[NDArray[np.float32]]:
        """The same on the model's grid."""
        return self.regridded(self.parts[0])

    def read_each(self, ds: Callable[[], xr.Dataset], part: slice) -> None:
        """Read a block, a variable at a time, and keep nothing."""
        variables = [ds()[name].variable for name in self.names]
        for variable in variables:
            # what is chosen is an object of its own: what it reads is not kept
            assert variable[part].values.size

    def regridded(self, part: slice) -> list[NDArray[np.float32]]:
        """A block on the model's grid."""
        n_steps = part.stop - part.start
        return self.node.on_model_grid(self.model.spec, lambda index: self.fields[index][:n_steps])

    def inferred(self, part: slice) -> NDArray[Any]:
        """Classes of a block."""
        n_steps = part.stop - part.start
        return self.node.classified(self.model, [field[:n_steps] for field in self.moved])

    def in_threads(self, work: Callable[[slice], Any], workers: int) -> Cost:
        """Cost of some work on every block."""

        def call() -> None:
            with ThreadPoolExecutor(workers) as pool:
                for _ in pool.map(work, self.parts):
                    pass

        return cost_of(call, self.n_steps)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A free place for a result, removed afterwards."""
        path = self.folder / "out.zarr"
        try:
            yield path
        finally:
            remove_whole(path)

    def decode(self, workers: int) -> Cost:
        """Chunks read, checked and unpacked."""
        ds = xsphere.open(self.path)
        return self.in_threads(partial(self.read_each, lambda: ds), workers)

    def decode_unchecked(self, workers: int) -> Cost:
        """The same by xarray and Zarr alone."""
        ds = xr.open_dataset(self.path, engine="zarr", chunks=None, cache=False)
        return self.in_threads(partial(self.read_each, lambda: ds), workers)

    def regrid(self, workers: int) -> Cost:
        """Fields taken to the model's grid."""
        return self.in_threads(self.regridded, workers)

    def infer(self, workers: int) -> Cost:
        """Channels, network and classes."""
        return self.in_threads(self.inferred, workers)

    def write(self, workers: int) -> Cost:
        """Blocks checked, packed and written, with their rows; of masks that are there."""
        mask = self.inferred(self.parts[0])
        values = np.concatenate([mask] * (TIMES_WRITTEN * len(self.parts)))
        array = xr.DataArray(values, dims=("time", "cells"), name="mask").chunk(time=self.block)
        array = describe_healpix(array, self.model.grid)
        with self.place() as out:
            cpu = time.process_time()
            report = xsphere.write_blocks(array, out, workers=workers)
            cpu = time.process_time() - cpu
        return Cost(report.seconds / len(values), cpu / len(values))

    def whole(self, **executor: Any) -> tuple[Cost, dict[str, float]]:
        """From the path to the store; seconds by stage, summed over workers, and of the rest."""
        wall = time.perf_counter()
        mask = xsphere.segment(self.path, self.model, block_size=self.block)
        cpu = processor_seconds(executor.get("client"))
        with self.place() as out:
            report = xsphere.write_blocks(mask, out, **executor)
            around = time.perf_counter() - wall - report.seconds
            cpu = processor_seconds(executor.get("client")) - cpu
        cost = Cost(report.seconds / self.n_steps, cpu / self.n_steps)
        return cost, {**report.stages, "around": around}
