"""What is refused before any work: options, grids, sizes and values that make no sense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from xsphere.compat import is_unread
from xsphere.conventions.values import reading_of
from xsphere.model import Model
from xsphere.model.inputs import MatchedVariable
from xsphere.model.spec_parts import LEAST_THRESHOLD, threshold_problems
from xsphere.model.spec_types import is_number
from xsphere.notices import shortened
from xsphere.segmentation.inference import Inference, Precision
from xsphere.segmentation.node import Output
from xsphere.sources import MissingChunks, open

Threshold = float | Mapping[str, float] | Literal["argmax"] | None
OutputGrid = Literal["healpix", "source"]


@dataclass(frozen=True, kw_only=True)
class Options(Inference):
    """What `segment` may be asked for, as it explains; what is wrong is said at once."""

    output: Output = "mask"
    grid: OutputGrid = "healpix"
    block_size: int | None = None
    missing_chunks: MissingChunks = "raise"
    threshold: Threshold = None

    def __post_init__(self) -> None:
        problems = []
        if self.output not in get_args(Output):
            problems.append(
                f"output must be one of {list(get_args(Output))}, got {shortened(self.output)}"
            )
        if self.grid not in get_args(OutputGrid):
            problems.append(f"grid must be 'healpix' or 'source', got {shortened(self.grid)}")
        sizes = {"batch_size": self.batch_size}
        if self.block_size is not None:
            sizes["block_size"] = self.block_size
        problems += [
            f"{name} must be a positive integer, got {shortened(size)}"
            for name, size in sizes.items()
            if type(size) is not int or size < 1
        ]
        if self.precision not in get_args(Precision):
            problems.append(
                f"precision must be one of {list(get_args(Precision))}, got {self.precision!r}"
            )
        if self.missing_chunks not in get_args(MissingChunks):
            problems.append(
                f"missing_chunks must be one of {list(get_args(MissingChunks))}, got "
                f"{shortened(self.missing_chunks)}"
            )
        if not _is_device(self.device):
            problems.append(
                f"device must be a torch device such as 'cuda', 'cuda:1' or 'cpu', got "
                f"{shortened(self.device)}"
            )
        problems += wrong_threshold(self.threshold, self.output)
        if problems:
            raise ValueError("; ".join(problems))

    def thresholds_of(self, model: Model) -> tuple[float, ...]:
        """Of each class of a model; none where the likeliest class counts."""
        if self.output != "mask":
            return ()
        return thresholds_by_class(self.threshold, model.classes, model.thresholds)

    @property
    def inference(self) -> Inference:
        """How the network is run."""
        return Inference(**{field.name: getattr(self, field.name) for field in fields(Inference)})


def wrong_threshold(given: Any, output: Any = "mask") -> list[str]:
    """What is wrong with a threshold, whatever the classes are."""
    if given is not None and output != "mask":
        return [f"threshold is for output='mask', got output={shortened(output)}"]
    if isinstance(given, Mapping):
        return threshold_problems(given, "threshold")
    if given is None or (isinstance(given, str) and given == "argmax"):
        return []
    if is_number(given) and not threshold_problems({"": given}, ""):
        return []
    return [
        f"threshold must be a probability from {LEAST_THRESHOLD} to 1, one for each class by "
        f"name, or 'argmax' for the likeliest class, got {shortened(given)}"
    ]


def thresholds_by_class(
    given: Threshold, classes: Sequence[str], default: Mapping[str, float]
) -> tuple[float, ...]:
    """Threshold of each class, by default as a model has them; none for the likeliest class."""
    if given == "argmax":
        return ()
    if given is not None and not isinstance(given, Mapping):
        return (float(given),) * len(classes)
    chosen = dict(default) | dict(given or {})
    unknown = [name for name in chosen if name not in classes]
    missing = [name for name in classes if name not in chosen] if chosen else []
    if unknown or missing:
        raise ValueError(
            f"threshold must be of the classes {shortened(list(classes))} of the model, "
            f"got unknown {shortened(unknown)}, and none of {shortened(missing)}"
        )
    return tuple(float(chosen[name]) for name in classes if chosen)


def _is_device(name: str | None) -> bool:
    import torch

    try:
        torch.device(name or "cpu")
    except (RuntimeError, TypeError):
        return False
    return True


def check_sizes(matches: Sequence[MatchedVariable]) -> None:
    """Refuse dimensions of length 0."""
    empty = {
        str(dim): match.array.name
        for match in matches
        for dim, size in match.array.sizes.items()
        if size == 0
    }
    if empty:
        raise ValueError(
            f"there is nothing to segment: the dimensions {shortened(sorted(empty))} have length 0 "
            f"(in {shortened(sorted(map(str, empty.values())))}); check the selection that made "
            "the dataset"
        )


def check_values(matches: Sequence[MatchedVariable]) -> None:
    """Refuse fields in memory that are nowhere finite; data still to be computed are not read."""
    empty = [
        str(match.array.name)
        for match in matches
        if match.array.chunks is None
        and not is_unread(match.array.variable)
        and not np.isfinite(reading_of(match.array)(match.array.values)).any()
    ]
    if empty:
        raise ValueError(
            f"the fields {shortened(empty)} have no finite value, so there is nothing to segment; "
            "check the file and how missing values were decoded"
        )


def dataset_of(ds: Any, missing_chunks: MissingChunks = "raise") -> xr.Dataset:
    """A dataset, opened without chunks where its path is given."""
    if isinstance(ds, str | Path):
        return open(ds, missing_chunks=missing_chunks)
    if not isinstance(ds, xr.Dataset):
        raise TypeError(
            f"expected an xarray Dataset or the path of one, got {type(ds).__name__}; make a "
            "dataset of a single array with .to_dataset(name=...)"
        )
    if missing_chunks == "invalid":
        raise ValueError(
            "missing_chunks='invalid' is decided where a store is opened, and this dataset was "
            "opened before; give the path, or xsphere.open(path, missing_chunks='invalid')"
        )
    return ds
