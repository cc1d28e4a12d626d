"""What made a result: enough to tell whether two runs would give the same."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import xarray as xr

from xsphere.segmentation.node import VERSION, SegmentNode
from xsphere.sources import as_opened, source_of

# of the record itself: raise it when its fields change
SCHEMA = 1


class RunRecord(str):
    """Text of a record that can look at its source again; elsewhere it is a text alone."""

    look: Callable[[], dict[str, Any] | None]

    @classmethod
    def of(cls, text: str, ds: xr.Dataset, names: Sequence[Any]) -> "RunRecord":
        """The text, for what was read of a dataset that is not in memory."""
        record = cls(text)
        chosen = list(dict.fromkeys(n for n in names if not ds.variables[n]._in_memory))
        # what the user loads later is no other source
        record.look = partial(known_source, as_opened(ds[chosen], chosen), chosen)
        return record

    def changed(self) -> list[str]:
        """Variables whose source is not what it was when this was written."""
        recorded = json.loads(self)["source"]
        now = None if recorded is None else self.look()
        if now is None:
            return []
        known = recorded["variables"]
        return [name for name, one in now["variables"].items() if known.get(name) != one]

    def __deepcopy__(self, memo: Any) -> "RunRecord":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


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
    return source_of(ds, list(dict.fromkeys(names)))
