"""What made a result: enough to tell whether two runs would give the same of the same data."""

import json
from collections.abc import Sequence

import xarray as xr

from xsphere.segmentation.node import VERSION, SegmentNode
from xsphere.sources.opening import policy_of

# of the record itself: raise it when its fields change
SCHEMA = 2


def run_record(node: SegmentNode, arrays: Sequence[xr.DataArray]) -> str:
    """JSON text of what the values of a result depend on, but for the data.

    Parameters
    ----------
    node : SegmentNode
        What is done to each block.
    arrays : sequence of DataArray
        The model's variables in its order, as they are in the dataset.

    Returns
    -------
    str
        With sorted keys: ``schema``, ``model`` (digest), ``grid`` (fingerprints of ``source`` and
        ``target``), ``inputs`` (``dims`` and ``dtypes``), ``options`` (``variables`` in the model's
        order, the ``conversions`` of their units, ``output``, ``precision``, ``missing_chunks``,
        ``version``, ``readings`` where attributes declare missing values, and ``thresholds`` where
        there are any) and, of chunked
        inputs, ``source``: Dask's names for them, which tell what tasks make of the data. Batches,
        devices and blocks are not part of it. Nor are labels, which the result has itself, and what
        the data hold, which may change until they are read: see `xsphere.sources.contents_read`.
    """
    from xsphere.weights import regridding

    declared = [reading.declared() for reading in node.readings]
    target = node.model.grid if node.target is None else node.target
    record = {
        "schema": SCHEMA,
        "model": node.model.digest,
        "grid": {"source": node.source.fingerprint, "target": target.fingerprint},
        "inputs": {
            "dims": [[str(dim) for dim in array.dims] for array in arrays],
            "dtypes": [array.dtype.str for array in arrays],
        },
        "options": {
            # in the model's order: one variable may serve twice, on two pressure surfaces
            "variables": [str(array.name) for array in arrays],
            "conversions": [list(conversion) for conversion in node.conversions],
            "output": node.output,
            "precision": node.inference.precision,
            "missing_chunks": policy_of(arrays),
            "version": [VERSION, regridding.VERSION],
        }
        | ({"readings": declared} if any(declared) else {})
        | ({"thresholds": list(node.thresholds)} if node.thresholds else {}),
    }
    names = [None if array.chunks is None else str(array.data.name) for array in arrays]
    # what tasks make of what is stored, which only Dask can tell
    source = {"source": names} if any(names) else {}
    return json.dumps(record | source, sort_keys=True)
