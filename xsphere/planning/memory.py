"""How much memory a worker takes at most, from the sizes of what it holds at a time.

What Python, its libraries and the weights take is measured in this process; what a thread holds
while it works on a block is added up stage by stage, as the work is written.
"""

import math
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import xarray as xr

from xsphere.model import Model
from xsphere.planning.volumes import chunk_bytes, stored_dtype
from xsphere.segmentation import SegmentNode
from xsphere.weights.apply import FIELDS_AT_ONCE

FLOAT = 4
# chunks of a variable that zarr decodes side by side
CHUNKS_IN_FLIGHT = 10
# fields of the model's size that one sample has while channels are derived
FIELDS_OF_CHANNELS = 8
# a result, its copy in one piece, what is compared and what is encoded
COPIES_OF_RESULT = 4
# what the allocator keeps for a thread beside what the thread holds: measured
KEPT_BYTES = 48 * 2**20
# the compiler and its libraries, and a source cell in the matrix of regridding: measured
CODE_BYTES = 160 * 2**20
MATRIX_BYTES = 80


def resident_bytes() -> int:
    """Memory that this process has now; the most it had, where the system tells no more."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most memory that this process ever had; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def loaded_bytes(node: SegmentNode, model: Model) -> int:
    """Memory of what a process loads before its first block, if this one has not done so.

    Parameters
    ----------
    node : SegmentNode
        What is done to each block.
    model : Model
        Its model.

    Returns
    -------
    int
        Weights, graphs of all levels, the matrix of regridding, and the code that applies it.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> from xsphere.segmentation import ModelHandle
    >>> model = Model.untrained(example_spec())
    >>> node = SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),))
    >>> loaded_bytes(node, model) > 10_000
    True
    """
    # a column and a weight for each neighbour; the levels together have a third more cells
    graphs = model.grid.n_cells * 4 // 3 * model.spec.graph.k * 2 * FLOAT
    network = 2 * FLOAT * model.n_parameters + graphs
    if "numba" in sys.modules or node.source == model.grid:
        return network
    return network + CODE_BYTES + MATRIX_BYTES * node.source.n_cells


def activation_bytes(model: Model) -> int:
    """The most memory that one sample takes inside a network.

    Parameters
    ----------
    model : Model
        Its network is a U-Net; a network of another kind counts as one of its widest layer.

    Returns
    -------
    int
        What one stage is given and gives, and what the decoder still waits for; terms of
        polynomials are a few MB of each thread, whatever the network.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> activation_bytes(Model.untrained(example_spec())) // (768 * FLOAT)
    13
    """
    spec = model.spec
    features, depths = spec.network["features"], spec.network["depths"]
    widths = [len(spec.channels), *features]
    cells = [model.grid.n_cells // 4**depth for depth in depths]
    held, most = 0, 0
    for size, (narrow, wide) in zip(cells, pairwise(widths), strict=True):
        held += size * narrow
        most = max(most, held + size * wide)
    below = widths[-1]
    for size, (skip, width) in reversed(list(zip(cells, pairwise(widths), strict=True))):
        most = max(most, held + size * (below + 2 * width))
        held -= size * skip
        below = width
    return FLOAT * most


def thread_bytes(
    node: SegmentNode, model: Model, arrays: Sequence[xr.Variable], sizes: dict[str, int]
) -> int:
    """The most memory that a thread takes for one block.

    Parameters
    ----------
    node : SegmentNode
        What is done to each block.
    model : Model
        The model, in memory.
    arrays : sequence of Variable
        The model's variables as they are read.
    sizes : dict
        Samples in a ``"block"``, and in a ``"part"`` of it that is read together.

    Returns
    -------
    int
        Without what all threads share. Of a chunked dataset all variables of a block are there
        at once; else one or two, while the next are read.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> from xsphere.segmentation import ModelHandle
    >>> model = Model.untrained(example_spec())
    >>> node = SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),))
    >>> array = xr.Variable(("time", "cells"), [[0.0] * 768] * 2)
    >>> thread_bytes(node, model, [array], {"block": 2, "part": 2}) > 4 * array.nbytes
    True
    """
    chunked = any(array.chunks is not None for array in arrays)
    n_part, n_block = sizes["part"], sizes["block"]
    batch = min(node.inference.batch_size, n_part)
    result = math.prod(node.shape) * node.dtype.itemsize
    per_sample = [node.source.n_cells * array.dtype.itemsize for array in arrays]
    if chunked:
        held, waiting = sum(per_sample) * n_block, 0
        kept = len(arrays) * batch * model.grid.n_cells * FLOAT
    else:
        held = 2 * max(per_sample) * n_part
        waiting = held
        kept = len(arrays) * n_part * model.grid.n_cells * FLOAT
    read = waiting + max(_extra_of_reading(array, n_part, node) for array in arrays)
    # the components of vectors in space, or fields in the type that they are regridded in
    regrid = FLOAT * min(3 * n_part, FIELDS_AT_ONCE) * node.source.n_cells
    infer = _bytes_of_inference(node, model, batch)
    at_work = held + kept + n_block * result + max(read, regrid, infer)
    return KEPT_BYTES + int(max(at_work, COPIES_OF_RESULT * n_block * result))


def _extra_of_reading(variable: xr.Variable, n_samples: int, node: SegmentNode) -> int:
    """Bytes beside the values themselves: chunks as they are decoded, and values unpacked."""
    stored, n_values = stored_dtype(variable), n_samples * node.source.n_cells
    raw = n_values * stored.itemsize
    chunk = chunk_bytes(variable)
    in_flight = max(chunk, min(raw, CHUNKS_IN_FLIGHT * chunk))
    if stored.newbyteorder("=") == variable.dtype:
        return in_flight
    return int(in_flight + raw + n_values * variable.dtype.itemsize)


def _bytes_of_inference(node: SegmentNode, model: Model, batch: int) -> int:
    """Bytes of the samples that the network has at a time, and of the network if on a CPU."""
    on_cpu = not on_gpu(node.inference.device)
    samples = 1 if on_cpu else batch
    widths = 2 * len(model.spec.channels) + FIELDS_OF_CHANNELS + 4 * node.model.n_classes
    own = samples * model.grid.n_cells * widths * FLOAT
    return own + (activation_bytes(model) if on_cpu else 0)


def on_gpu(device: str | None) -> bool:
    """Whether the network runs on a GPU, as far as this process can tell of the workers."""
    import torch

    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type != "cpu"
