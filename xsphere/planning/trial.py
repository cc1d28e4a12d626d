"""Seconds by stage, measured on a few steps: read, worked through and written as in the run."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.blocks import WriteReport, write_blocks
from xsphere.model import Model
from xsphere.planning.memory import resident_bytes
from xsphere.planning.volumes import Volume, volume
from xsphere.planning.work import Work
from xsphere.segmentation import SegmentNode
from xsphere.segmentation.jobs import Segmentation
from xsphere.stages import timed

# of a network, beyond which fewer steps are tried
TRIAL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was measured.

    Parameters
    ----------
    steps : slice
        Steps that were computed.
    seconds : dict of str to float
        Of one thread for one step, by stage.
    written : float
        Bytes of the result that were stored for one step.
    resident : int
        Memory of this process once weights were loaded and code compiled, before the first step.

    Examples
    --------
    >>> Trial(steps=slice(0, 8), seconds={"infer": 0.1}, written=100.0, resident=10**8).steps
    slice(0, 8, None)
    """

    steps: slice
    seconds: dict[str, float]
    written: float
    resident: int


def measured(work: Work, model: Model, reading: Volume) -> Trial:
    """A trial of a few steps in the middle of a run.

    Of an unread dataset, part of what a block reads at once; of a chunked one, a whole block of
    its graph is computed.

    Parameters
    ----------
    work : Work
        The run.
    model : Model
        Its model.
    reading : Volume
        All that the run reads.

    Returns
    -------
    Trial
        Loading of weights and compilation do not count. Chunks that are read by more than one
        part count as often.

    Examples
    --------
    >>> from xsphere.sample import SAMPLE
    >>> from xsphere.segmentation import segment
    >>> model, ds = Model.load("tc-ar"), xr.open_dataset(SAMPLE)
    >>> arrays = tuple(ds[name] for name in ("TMQ", "PSL", "U850", "V850"))
    >>> work = Work(segment(ds, model), arrays)
    >>> everything = volume(ds.TMQ.variable, "time", [slice(0, 1), slice(1, 2)])
    >>> list(measured(work, model, everything).seconds)
    ['read', 'regrid', 'infer', 'compute', 'write']
    """
    per_sample = _warmed_up(work.node, model, work.variables)
    resident = resident_bytes()
    block = work.blocks[len(work.blocks) // 2]
    if work.source is None:
        steps = block.steps if work.dim is not None else slice(0, 1)
        stages, values = _timed(lambda: work.computed(block))
    else:
        n_others = work.n_samples // work.n_steps
        steps = next(iter(work.source.layout.parts(block.index)))
        fits = int(TRIAL_SECONDS / max(1e-9, per_sample * n_others))
        steps = slice(steps.start, steps.start + max(1, min(fits, steps.stop - steps.start)))
        narrowed = _narrowed(work.source, steps)
        stages, values = _timed(lambda: narrowed.block(0))
    n_tried = steps.stop - steps.start
    seconds = {name: spent / n_tried for name, spent in stages.items()}
    if "read" in seconds:
        # a chunk is decoded as a whole, however few of its steps are wanted
        tried = [volume(variable, work.dim, [steps]) for variable in work.variables]
        decoded = sum(part.decoded for part in tried)
        if decoded:
            seconds["read"] *= n_tried / decoded * reading.decoded / work.n_steps
    writing, written = _written(work, values, n_tried)
    for name in ("compute", "write"):
        seconds[name] = seconds.get(name, 0.0) + writing[name]
    return Trial(steps=steps, seconds=seconds, written=written, resident=resident)


def _warmed_up(node: SegmentNode, model: Model, variables: Sequence[xr.Variable]) -> float:
    """Seconds that the network takes for a sample, once all is loaded and compiled."""
    node.model.load()
    batch = node.inference.batch_size
    plain = node.on_model_grid(
        model, lambda index: np.zeros((batch, node.source.n_cells), variables[index].dtype)
    )
    # no value at all, rather than one that no field has
    fields = [np.full_like(values, np.nan) for values in plain]
    few = [values[: node.inference.samples_at_once()] for values in fields]
    node.classified(model, few)
    start = time.perf_counter()
    node.classified(model, few)
    return (time.perf_counter() - start) / len(few[0])


def _timed(work: Any) -> tuple[dict[str, float], NDArray[Any]]:
    start = time.perf_counter()
    with timed() as stages:
        values: NDArray[Any] = work()
    total = time.perf_counter() - start
    return {**stages, "compute": max(0.0, total - sum(stages.values()))}, values


def _narrowed(source: Segmentation, steps: slice) -> Segmentation:
    """A source of some steps, which are its only part."""
    layout = source.layout
    if layout.first is None:
        return source
    n_steps = steps.stop - steps.start
    return replace(
        source,
        variables=tuple(
            variable.isel({layout.first: steps}) if layout.first in variable.dims else variable
            for variable in source.variables
        ),
        layout=replace(
            layout,
            leading=((layout.first, n_steps), *layout.leading[1:]),
            block=n_steps,
            read=n_steps,
        ),
    )


def _written(work: Work, values: NDArray[Any], n_tried: int) -> tuple[dict[str, float], float]:
    """Seconds and bytes a step of writing a whole block of such values."""
    n_block = min(work.block_steps, work.n_steps)
    with tempfile.TemporaryDirectory(prefix="xsphere-plan-") as folder:
        # first as they are: repeated values would be compressed too well
        few = _write(work, values, Path(folder, "few.zarr"))
        stored = Path(folder, "few.zarr", str(work.result.name), "c")
        n_bytes = sum(file.stat().st_size for file in stored.rglob("*") if file.is_file())
        whole = few
        if work.dim is not None:
            block = np.resize(values, (n_block, *values.shape[1:]))
            whole = _write(work, block, Path(folder, "whole.zarr"))
    seconds = {name: whole.stages.get(name, 0.0) / n_block for name in ("compute", "write")}
    return seconds, n_bytes / n_tried


def _write(work: Work, values: NDArray[Any], path: Path) -> WriteReport:
    import dask.array as da

    part = work.result if work.dim is None else work.result.isel({work.dim: slice(len(values))})
    lazy = da.from_array(values, chunks=-1)  # type: ignore[no-untyped-call]
    return write_blocks(part.copy(data=lazy), path, workers=1)
