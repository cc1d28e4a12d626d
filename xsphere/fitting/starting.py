"""Models that a training starts from: what is kept of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import xarray as xr

from xsphere.evaluation.shares import class_names
from xsphere.model import Model, ModelSpec, build_network

if TYPE_CHECKING:
    from xsphere.nn import SphereUNet
    from xsphere.nn.training import TrainingOptions


def spec_of_start(start: Model, labels: xr.DataArray, asked: Mapping[str, Any]) -> ModelSpec:
    """That of a model without its record, of the classes of labels; nothing else may be asked."""
    defaults = {"derived": (), "valid_ranges": "auto"}
    other = [name for name, value in asked.items() if value != defaults.get(name)]
    if other:
        raise ValueError(
            f"{other} are those of the model {start.spec.name!r} that training starts from; leave "
            "them out, or start from none"
        )
    if start.spec.members:
        raise ValueError(
            f"{start.spec.name!r} is an ensemble; start from one of its members, model.members[0]"
        )
    record: dict[str, Any] = {"training": {}, "scores": {}, "limits": (), "licence": ""}
    return replace(start.spec, classes=class_names(labels), calibration=None, **record)


def started_network(
    spec: ModelSpec, options: "TrainingOptions", start: Model | None
) -> "SphereUNet":
    """A network with random weights, or those of a model, but its last layer for other classes."""
    network = build_network(spec, options.seed)
    network.checkpointing = options.checkpointing
    if start is not None:
        import torch

        kept = {
            name: torch.from_numpy(values.copy())
            for name, values in start.tensors.items()
            if spec.classes == start.classes or not name.startswith("head.")
        }
        network.load_state_dict(network.state_dict() | kept)
    return network
