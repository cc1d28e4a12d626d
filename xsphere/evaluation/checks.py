"""What `evaluate` refuses before any work: options, kinds and classes that make no sense."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import xarray as xr

from xsphere.evaluation.shares import class_dim, class_names
from xsphere.grids import Grid
from xsphere.model import Model
from xsphere.notices import shortened
from xsphere.regions.labelling import is_number
from xsphere.regions.resampling import block_length
from xsphere.segmentation.checks import Threshold, thresholds_by_class, wrong_threshold
from xsphere.weights import FieldMethod

Weighting = Literal["area", "cells"]
Side = Literal["labels", "predicted"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `evaluate` may be asked for, as it explains; what is wrong is said at once."""

    grid: "Side | Grid" = "labels"
    method: FieldMethod = "conservative"
    weighting: Weighting = "area"
    threshold: Threshold = None
    min_area: float = 0.0
    min_overlap: float = 0.0
    block: str = "30D"
    n_samples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be one of {list(known)}, got {shortened(value)}"
            for name, value, known in (
                ("grid", self.grid, get_args(Side)),
                ("method", self.method, get_args(FieldMethod)),
                ("weighting", self.weighting, get_args(Weighting)),
            )
            if not isinstance(value, Grid) and value not in known
        ]
        problems += wrong_threshold(self.threshold)
        if not is_number(self.min_area) or not self.min_area >= 0:
            problems.append(f"min_area must be km2, 0 or more, got {shortened(self.min_area)}")
        if not is_number(self.min_overlap) or not 0 <= self.min_overlap <= 1:
            problems.append(f"min_overlap must be from 0 to 1, got {shortened(self.min_overlap)}")
        problems += [
            f"{name} must be an integer, 0 or more, got {shortened(value)}"
            for name, value in (("n_samples", self.n_samples), ("seed", self.seed))
            if type(value) is not int or value < 0
        ]
        try:
            block_length(self.block)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))


def check_kinds(predicted: Any, labels: Any, ds: Any) -> None:
    """Refuse what is no array or model, and fields without a model or a model without fields."""
    if not isinstance(predicted, xr.DataArray | Model | str | Path):
        raise TypeError(
            "predicted must be a DataArray, or a model or its name or path, got "
            f"{type(predicted).__name__}; choose an array, such as ds['mask']"
        )
    if not isinstance(labels, xr.DataArray):
        raise TypeError(
            f"labels must be a DataArray, got {type(labels).__name__}; choose one, such as "
            "ds['labels']"
        )
    if (ds is None) != isinstance(predicted, xr.DataArray):
        raise ValueError(
            "ds must be given with a model, which segments it, and not with a mask or "
            f"probabilities; got {type(predicted).__name__} {'without' if ds is None else 'and'} "
            "ds"
        )


def scored_classes(predicted: Any, labels: xr.DataArray, wanted: Any) -> tuple[str, ...]:
    """Names of the classes that are scored, in the order of those of the prediction."""
    known = class_names(labels)
    if isinstance(predicted, xr.DataArray):
        found = class_names(predicted, "predicted")
    else:
        found = Model.load(predicted).classes
    if wanted is None:
        if set(found) != set(known):
            raise ValueError(
                f"labels and predicted must have the same classes, got {shortened(list(known))} "
                f"and {shortened(list(found))}; score some with classes=[...]"
            )
        return tuple(found)
    asked = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    unknown = [name for name in asked if name not in found or name not in known]
    if unknown or not asked or len(set(asked)) < len(asked):
        raise ValueError(
            "classes must be some of those that both sides have, each once: "
            f"{shortened([name for name in found if name in known])}, got {shortened(list(asked))}"
        )
    return asked


def thresholds_of(predicted: Any, wanted: Threshold) -> dict[str, float]:
    """Of all classes of the prediction by name; none for the likeliest class."""
    if not isinstance(predicted, xr.DataArray):
        model = Model.load(predicted)
        names, default = model.classes, model.thresholds
    elif class_dim(predicted) is not None:
        names, default = class_names(predicted, "predicted"), {}
    elif wanted is not None:
        raise ValueError(
            "threshold is for probabilities and models, and predicted are classes; leave it out"
        )
    else:
        return {}
    return dict(zip(names, thresholds_by_class(wanted, names, default), strict=False))
