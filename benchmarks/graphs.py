"""Task graphs of many blocks: the seconds they take before the first block is begun."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import xarray as xr

import xsphere
from xsphere.blocks.graphs import BlockGraphs
from xsphere.blocks.target import Target
from xsphere.model import Model
from xsphere.sources import contents_read


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def graph_costs(path: Path, model: Model, *, full: bool) -> dict[str, dict[str, float]]:
    """Costs of blocks of one step: of a path, of a dataset in chunks, and of one computed with.

    ``source`` is what it takes to tell which chunks there are, and part of no other; ``tasks`` are
    counted after the optimisation; ``cut`` is what `write_blocks` does instead of it, block by
    block while others are computed.
    """
    names = [variable.name for variable in model.spec.variables]
    chunked = xr.open_zarr(path, chunks={"time": 1}, consolidated=False)
    costs = {
        "path": _costs(
            xsphere.open(path), names, lambda: xsphere.segment(path, model, block_size=1)
        ),
        "opened in chunks": _costs(chunked, names, lambda: xsphere.segment(chunked, model)),
    }
    if full:
        # tasks of the user's own for each variable, which dask optimises one by one
        worked = chunked.map(lambda array: array * 1, keep_attrs=True)
        costs["computed with"] = _costs(worked, names, lambda: xsphere.segment(worked, model))
    return costs


def _costs(
    ds: xr.Dataset, names: list[str], segmented: Callable[[], xr.DataArray]
) -> dict[str, float]:
    source, _ = seconds(lambda: contents_read(ds[names]))
    build, mask = seconds(segmented)
    optimise, (optimised,) = seconds(lambda: dask.optimize(mask))
    tasks = len(dict(optimised.__dask_graph__()))
    cut, _ = seconds(lambda: _cut(mask))
    return {
        "source": source,
        "build": build,
        "optimise": optimise,
        "tasks": tasks,
        "cut": cut,
    }


def _cut(mask: xr.DataArray) -> int:
    """Make the graph of every block as `write_blocks` does, and keep none."""
    target = Target(mask)
    return sum(1 for _ in BlockGraphs(target).of(target.layout.blocks))
