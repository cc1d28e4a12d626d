"""What made a result: enough to tell whether two runs would give the same."""

import json
from collections.abc import Sequence
from typing import Any

import xarray as xr

from xsphere.segmentation.node import VERSION, SegmentNode

# of the record itself: raise it when its fields change
SCHEMA = 1


def run_record(
    node: SegmentNode,
    names: Sequence[Any],
    source: dict[str, Any] | None,
    missing_chunks: str = "raise",
) -> str:
    """JSON text of all that the values of a result depend on.

    Parameters
    ----------
    node : SegmentNode
        What is done to each block.
    names : sequence
        Names that the model's variables have in the dataset.
    source : dict, optional
        What the data are, see `xsphere.sources.source_of`.
    missing_chunks : str
        What a chunk means that is not in the source.

    Returns
    -------
    str
        With sorted keys: ``schema``, ``model`` (digest), ``grid`` (fingerprints of ``source`` and
        ``target``), ``source``, and ``options`` (``variables`` in the model's order, the
        ``conversions`` of their units, ``output``, ``precision``, ``missing_chunks``,
        ``version``, and
        ``readings`` where attributes declare missing values). Batches, devices and blocks are not
        part of it.

    Examples
    --------
    >>> from xsphere.model import Model
    >>> from xsphere.segmentation.node import ModelHandle
    >>> model = Model.load("tc-ar")
    >>> node = SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),) * 4)
    >>> record = json.loads(run_record(node, ["TMQ", "PSL", "U850", "V850"], None))
    >>> record["options"]["conversions"][0], record["source"]
    ([1.0, 0.0], None)
    """
    from xsphere.weights import regridding

    declared = [reading.declared() for reading in node.readings]
    target = node.model.grid if node.target is None else node.target
    record = {
        "schema": SCHEMA,
        "model": node.model.digest,
        "grid": {"source": node.source.fingerprint, "target": target.fingerprint},
        "source": source,
        "options": {
            # in the model's order: one variable may serve twice, on two pressure surfaces
            "variables": [str(name) for name in names],
            "conversions": [list(conversion) for conversion in node.conversions],
            "output": node.output,
            "precision": node.inference.precision,
            "missing_chunks": missing_chunks,
            "version": [VERSION, regridding.VERSION],
        }
        | ({"readings": declared} if any(declared) else {}),
    }
    return json.dumps(record, sort_keys=True)


def known_source(ds: xr.Dataset, names: Sequence[Any]) -> dict[str, Any] | None:
    """What the data of some variables are, found without reading them; None if nothing can tell.

    Parameters
    ----------
    ds : Dataset
        The dataset.
    names : sequence
        Its variables that are used.

    Returns
    -------
    dict or None
        See `xsphere.sources.source_of`.

    Examples
    --------
    >>> known_source(xr.Dataset({"x": 1.0}), ["x"])["variables"]["x"]["kind"]
    'memory'
    """
    from xsphere.sources import source_of

    return source_of(ds, list(dict.fromkeys(names)))
