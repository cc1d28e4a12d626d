"""`fit`: samples gathered, statistics measured, network trained, model made."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.augmentation import Augmentation, augmented
from xsphere.augmentation.base import checked
from xsphere.cache import content_key
from xsphere.evaluation.result import without_nan
from xsphere.evaluation.shares import class_names
from xsphere.fitting.logs import log_path, write_log
from xsphere.fitting.samples import (
    Samples,
    common_times,
    gathered_samples,
    input_variables,
    validation_times,
    with_ranges,
)
from xsphere.fitting.starting import spec_of_start, started_network
from xsphere.fitting.statistics import check_class_weights, weights_of_classes, with_statistics
from xsphere.fitting.teaching import Teaching
from xsphere.model import (
    Channel,
    GraphSpec,
    Model,
    ModelSpec,
    Variable,
    resolve_graph,
)
from xsphere.model.inputs import matched_variables
from xsphere.paths import local_path
from xsphere.sources import unchanged

if TYPE_CHECKING:
    from xsphere.nn.training import TrainingOptions


def fit(  # noqa: PLR0913  (every one is a keyword)
    ds: xr.Dataset,
    labels: xr.DataArray,
    *,
    start: str | Path | Model | None = None,
    architecture: str | dict[str, Any] | None = None,
    level: int | None = None,
    graph: GraphSpec | None = None,
    variables: Sequence[str | Variable] | None = None,
    derived: Sequence[Channel] = (),
    validation: float | slice | xr.DataArray | Sequence[slice] = 0.2,
    class_weights: str | Sequence[float] = "sqrt",
    valid_ranges: Literal["auto"] | Mapping[str, tuple[float, float] | None] | None = "auto",
    augment: Sequence[Augmentation] = (),
    teachers: Sequence[Model] = (),
    teacher_share: float = 0.5,
    options: "TrainingOptions | None" = None,
    checkpoint: str | Path | None = None,
    scratch: str | Path | None = None,
    log: str | Path | None = None,
    report: Callable[[dict[str, Any]], object] | None = None,
    progress: bool = True,
    name: str = "model",
    description: str = "",
) -> Model:
    """Model trained to segment a dataset as its labels do.

    Parameters
    ----------
    ds : Dataset
        Fields with the dimension ``time`` on any horizontal grid, chunked or not. Not changed.
    labels : DataArray
        Either integer classes (time, ...horizontal): 0 background, the events as `flag_values`
        and `flag_meanings` say, anything else (such as 254 and 255) unknown; or probabilities
        (time, class, ...horizontal) of the classes along a dimension named ``class`` or ``event``
        with their names as coordinate.
        On any grid, which may be another than that of `ds`; at times that `ds` has.
    start : str, Path or Model, optional
        A model whose weights are the first ones (fine-tuning). Its level, layout, graph, variables,
        ranges, derived inputs and their normalisation are kept; where the labels have other classes
        than it, the last layer is a new one.
    architecture : {"small", "deepsphere"} or dict, optional
        Layout of the U-Net by name, or its sizes, see `xsphere.nn.UNetLayout`; small if not given.
    level : int, optional
        HEALPix level to work on; 5 if not given.
    graph : GraphSpec, optional
        Graph of the sphere; 8 neighbours if not given.
    variables : sequence of str or Variable, optional
        Inputs. Names are looked up among the well-known ones, else in `ds`. By default every
        variable of `ds` on its horizontal grid.
    derived : sequence of Channel
        Further inputs derived from the variables, such as
        ``Channel(name="speed", kind="wind_speed", sources=("U850", "V850"))``. Means and standard
        deviations are measured, whatever is given.
    validation : float, slice, DataArray or sequence of slice
        Share of the times at the end, times as from `xsphere.split_times`, or slices of times:
        blocks, so that validation maps have no neighbours in time among the training maps but at
        their edges.
    class_weights : {"sqrt", "balanced", "none"} or sequence of float
        Weights in the cross-entropy, background first: the inverse frequency of a class, its square
        root, or 1.
    valid_ranges : "auto", dict or None
        Lowest and highest value that each variable can have, in its units; kept in the model. Cells
        that a value beyond has any part in are invalid input, in training and whenever the model is
        used. ``"auto"`` takes those of well-known standard names
        (`xsphere.model.bounds.VALID_RANGES`), and none for other variables; a dict changes them by
        name, with None for no bounds. None means no bounds at all.
    augment : sequence of Augmentation
        Random changes of the training samples, see `xsphere.augmentation`, applied in this order to
        every batch, by numbers from the seed; kept in the record of the model. Statistics of the
        channels are those of the samples as they came.
    teachers : sequence of Model
        Models with the same variables, level and classes, whose mean probability for the maps as
        they are augmented is learned beside the labels: several models become one [2]_.
    teacher_share : float
        Part of the targets that is the teachers', from 0 to 1.
    options : TrainingOptions, optional
        Epochs, batch size, rate, seed and the like.
    checkpoint : str or Path, optional
        File written after each epoch. If it exists, the training goes on from there, and ends with
        the same weights as if it had never stopped.
    scratch : str or Path, optional
        Folder for samples that memory does not hold: they lie in a file of their own there while
        the network is trained, and are read as they are needed.
    log : str or Path, optional
        A ``.csv`` or ``.jsonl`` (JSON lines) of losses and scores, one row an epoch, rewritten
        after each.
    report : callable, optional
        Called with the record of each epoch when it has ended: for loggers of any kind, such as
        ``lambda record: writer.add_scalar("loss", record["loss"], record["epoch"])``.
    progress : bool
        Whether to show a progress bar.
    name, description : str
        Kept in the model.

    Returns
    -------
    Model
        The trained model, with the record of its training.

    Raises
    ------
    ValueError
        If inputs cannot be read, labels name no classes, no time is in both, the model cannot have
        an augmentation, memory does not hold the samples and there is no `scratch`, or the
        checkpoint belongs to another training.

    Notes
    -----
    Where ``torch.distributed`` has a group of processes, each trains on its part of every batch,
    and the weights are those of one process with the whole batch, to rounding (where nothing is
    augmented: each process draws its own changes). `xsphere train` makes the group by itself under
    ``torchrun``.

    References
    ----------
    .. [1] Defferrard et al. (2020), https://arxiv.org/abs/2012.15000
    .. [2] Hinton et al. (2015), https://arxiv.org/abs/1503.02531

    Examples
    --------
    >>> import xsphere
    >>> from xsphere.nn.training import TrainingOptions
    >>> ds = xsphere.sample_dataset()[["PSL"]]
    >>> lows = (ds.PSL < 99000.0).astype("uint8")
    >>> lows.attrs = {"flag_values": [0, 1], "flag_meanings": "background deep_low"}
    >>> model = fit(
    ...     ds, lows, level=3, validation=0.5, progress=False,
    ...     architecture={"features": (8,), "depths": (0,)}, options=TrainingOptions(epochs=1),
    ... )
    >>> model.classes
    ('deep_low',)
    """
    from xsphere.nn.training import TrainingOptions, train

    options = options or TrainingOptions()
    place = None if checkpoint is None else local_path(checkpoint, "the checkpoint")
    log = log_path(log)
    start = None if start is None else Model.load(start)
    asked: dict[str, Any] = {"architecture": architecture, "level": level, "graph": graph}
    asked |= {"variables": variables, "derived": derived, "valid_ranges": valid_ranges}
    made = _new_spec(ds, labels, **asked) if start is None else spec_of_start(start, labels, asked)
    spec = replace(made, name=name, description=description)
    # whatever can be wrong is found before any field is regridded
    spec = resolve_graph(spec)
    check_class_weights(class_weights, len(spec.classes) + 1)
    augment = checked(augment, spec)
    teaching = Teaching.of(teachers, teacher_share, spec)
    times = common_times(ds, labels)
    is_validation = validation_times(times, validation)
    names = dict.fromkeys(match.array.name for match in matched_variables(ds, spec))
    with _folder(scratch) as folder:
        with unchanged(ds[list(names)], labels):
            samples = gathered_samples(ds, labels, times, spec, scratch=folder, progress=progress)
        train_times = np.flatnonzero(~is_validation)
        spec = spec if start else with_statistics(spec, samples, train_times)
        weights = weights_of_classes(class_weights, samples, train_times)
        data = _training_data(spec, samples, is_validation, weights, augment, teaching, start)
        network = started_network(spec, options, start)
        history = train(
            network,
            data,
            options=options,
            checkpoint=place,
            progress=progress,
            report=_told(log, report),
        )
    record = _record(samples, is_validation, data, options, augment, history)
    record |= teaching.to_dict() | ({"started_from": start.digest} if start else {})
    return Model.from_network(replace(spec, training=record), network)


def _new_spec(
    ds: xr.Dataset,
    labels: xr.DataArray,
    *,
    architecture: str | dict[str, Any] | None,
    level: int | None,
    graph: GraphSpec | None,
    variables: Sequence[str | Variable] | None,
    derived: Sequence[Channel],
    valid_ranges: Any,
) -> ModelSpec:
    """What is asked for, with the defaults."""
    inputs = with_ranges(input_variables(ds, variables), valid_ranges)
    return ModelSpec(
        name="model",
        level=5 if level is None else level,
        variables=inputs,
        channels=(*(Channel(name=v.name, sources=(v.name,)) for v in inputs), *derived),
        classes=class_names(labels),
        network={"architecture": "unet", **_sizes(architecture or "small")},
        graph=graph or GraphSpec(),
    )


def _sizes(architecture: str | dict[str, Any]) -> dict[str, Any]:
    from xsphere.nn import normalize_layout

    layout = normalize_layout(architecture) if isinstance(architecture, str) else architecture
    return layout if isinstance(layout, dict) else layout.to_dict()


def _told(
    log: Path | None, report: Callable[[dict[str, Any]], object] | None
) -> Callable[[list[dict[str, Any]]], None]:
    """What is done with the records after each epoch."""

    def told(history: list[dict[str, Any]]) -> None:
        if log is not None:
            write_log(log, history)
        if report is not None:
            report(without_nan(history[-1]))

    return told


@contextmanager
def _folder(scratch: str | Path | None) -> Iterator[Path | None]:
    """A folder of its own in the one for samples, if there is one."""
    if scratch is None:
        yield None
        return
    parent = local_path(scratch, "the folder of samples")
    with tempfile.TemporaryDirectory(prefix="samples-", dir=parent) as folder:
        yield Path(folder)


def _training_data(
    spec: ModelSpec,
    samples: Samples,
    is_validation: NDArray[np.bool_],
    class_weights: tuple[float, ...],
    augment: Sequence[Augmentation],
    teaching: Teaching,
    start: Model | None,
) -> Any:
    from xsphere.nn.training import TrainingData

    # normalisation and derived inputs are those of the finished model, not a second version
    model = Model.untrained(spec)
    train, held = np.flatnonzero(~is_validation), np.flatnonzero(is_validation)

    def prepared(fields: NDArray[np.float32], targets: NDArray[np.float32]) -> Any:
        channels, valid = model.channels(*np.moveaxis(fields, -1, 0))
        return channels, np.where(valid[..., None], targets, np.float32(0))

    def batch(indices: NDArray[np.int64], rng: np.random.Generator) -> Any:
        chosen = train[indices]
        fields, targets = samples.fields[chosen], samples.targets[chosen]
        fields, targets = augmented(augment, fields, targets, rng, spec)
        return prepared(fields, teaching(fields, targets))

    def validation(index: int) -> Any:
        of_one = prepared(samples.fields[held[[index]]], samples.targets[held[[index]]])
        return tuple(part[0] for part in of_one)

    return TrainingData(
        n_samples=len(train),
        n_validation=len(held),
        batch=batch,
        validation=validation,
        classes=("background", *spec.classes),
        class_weights=class_weights,
        fingerprint=content_key(
            spec.to_dict(),
            _recipe(augment),
            *teaching.to_dict().values(),
            *([start.digest] if start else []),
            [_digest(samples.fields), _digest(samples.targets), _digest(is_validation)],
            [str(time) for time in samples.times],
        ),
    )


def _digest(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _recipe(augment: Sequence[Augmentation]) -> list[dict[str, Any]] | None:
    """What was done to the samples; None for nothing."""
    return [entry.to_dict() for entry in augment] or None


def _record(
    samples: Samples,
    is_validation: NDArray[np.bool_],
    data: Any,
    options: "TrainingOptions",
    augment: Sequence[Augmentation],
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    times = {
        name: [str(chosen.min()), str(chosen.max()), len(chosen)]
        for name, chosen in (
            ("training", samples.times[~is_validation]),
            ("validation", samples.times[is_validation]),
        )
        if len(chosen)
    }
    return {
        "times": times,
        "options": asdict(options),
        "augmentation": _recipe(augment),
        "class_weights": list(data.class_weights),
        "history": [without_nan(epoch) for epoch in history],
        "versions": {package: version(package) for package in ("xsphere", "torch", "numpy")},
    }
