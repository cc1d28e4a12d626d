"""Fields of a block brought into a model's units and onto its grid, where its network runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import Grid
from xsphere.segmentation.devices import in_batches, without_device
from xsphere.segmentation.inference import Inference
from xsphere.stages import note_device
from xsphere.weights import METHODS, FieldMethod, regrid_fields, regrid_vectors

if TYPE_CHECKING:
    import torch

Fields = Sequence[NDArray[Any]]


def regridded_fields(
    fields: Fields, source: Grid, target: Grid, *, method: FieldMethod, options: Inference
) -> list[NDArray[np.floating[Any]]]:
    """Fields on another grid, regridded by the device that the network runs on."""
    if source == target:
        return list(fields)
    device = options.chosen_device()
    if device.type == "cpu" or not METHODS[method].is_matrix:
        return _on_cpu(fields, source, target, method)
    from xsphere.nn.field_regridder import FieldRegridder

    note_device("regridding", device.type)
    regridder = FieldRegridder.shared(source, target, method=method, device=str(device))
    parts, shortage = in_batches(
        lambda part: _on_device(regridder, [values[part] for values in fields], device),
        len(fields[0]),
        device=device,
        batch_size=options.batch_size,
        purpose=f"regridding {source.fingerprint} {target.fingerprint} {len(fields)}",
    )
    if shortage:
        without_device(
            f"regridding a map of {source.n_cells:,} cells runs out of memory on the device "
            f"'{device}' ({shortage})",
            allowed=options.allow_cpu_fallback,
        )
        n_done = sum(part.shape[1] for part in parts)
        rest = _on_cpu([values[n_done:] for values in fields], source, target, method)
        parts.append(np.stack(rest))
    return list(np.concatenate(parts, axis=1))


def _on_cpu(
    fields: Fields, source: Grid, target: Grid, method: FieldMethod
) -> list[NDArray[np.floating[Any]]]:
    if len(fields) == 1:
        return [regrid_fields(fields[0], source, target, method=method)]
    east, north = fields
    return list(regrid_vectors(east, north, source, target, method=method))


def _on_device(regridder: Any, fields: Fields, device: "torch.device") -> NDArray[np.float32]:
    """Regridded fields, shape (fields, n, target cells)."""
    import torch

    with torch.inference_mode():
        # torch has no arrays that cannot be written to
        own = [np.require(values, np.float32, ("C", "W")) for values in fields]
        there = [torch.from_numpy(values).to(device) for values in own]
        found = (regridder(*there),) if len(there) == 1 else regridder.vectors(*there)
        result: NDArray[np.float32] = torch.stack(found).cpu().numpy()
    return result
