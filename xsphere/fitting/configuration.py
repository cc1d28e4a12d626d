"""A training described in a TOML file: read, checked as a whole, run."""

import inspect
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import xsphere.augmentation
from xsphere.augmentation import Augmentation
from xsphere.fitting.trained_model import fit
from xsphere.model import Channel, GraphSpec, Model
from xsphere.notices import shortened
from xsphere.paths import local_path
from xsphere.sources import open as open_strictly

# beside the arguments of `fit` that plain values can say
FILES = {"fields", "labels", "label_variable", "out"}
TABLES: dict[str, Callable[..., Any]] = {"graph": GraphSpec, "derived": Channel}
NOT_IN_FILES = {"ds", "labels", "options", "augment", "teachers", "report", "progress"}


class ConfigurationError(ValueError):
    """What is wrong in the file of a training: all of it.

    Examples
    --------
    >>> raise ConfigurationError("unknown keys: ['epoch']")
    Traceback (most recent call last):
    ...
    xsphere.fitting.configuration.ConfigurationError: unknown keys: ['epoch']
    """


def train_config(config: str | Path, *, progress: bool = True) -> Model:
    """Train what a TOML file describes, and write the model.

    Parameters
    ----------
    config : str or Path
        Has ``fields`` and ``labels`` (files or URLs), ``out`` (the model's file), perhaps
        ``label_variable``; arguments of `xsphere.fit` by their names; a table ``training`` with
        those of `TrainingOptions`; tables ``augment``, each with the ``name`` of an augmentation
        and its arguments. Slices of time are pairs of texts. Paths are relative to the current
        folder.
    progress : bool
        Whether to show progress.

    Returns
    -------
    Model
        What was written to ``out``; that file is the last that is written.

    Raises
    ------
    ConfigurationError
        If keys are missing or unknown, or values make no sense: all of them, before any work.

    Notes
    -----
    Under ``torchrun --nproc-per-node N -m xsphere train CONFIG`` N processes train together.

    Examples
    --------
    >>> train_config("no.toml")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'no.toml'
    """
    with Path(config).open("rb") as file:
        try:
            values = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{config} is no TOML: {error}") from error
    arguments = _arguments(values, str(config))
    out = local_path(values["out"], "the model")
    if out.suffix != ".safetensors":
        raise ConfigurationError(f"out must end in '.safetensors', got {str(out)!r}")
    ds, labels = open_strictly(values["fields"]), open_strictly(values["labels"])
    name = values.get("label_variable")
    if (name is None and len(labels) != 1) or (name is not None and name not in labels):
        raise ConfigurationError(
            f"label_variable must be one of {shortened(list(labels))}, got {name!r}"
        )
    chosen = labels[name if name is not None else next(iter(labels))]
    with _processes() as first:
        model = fit(ds, chosen, progress=progress and first, **arguments)
        if first:
            model.save(out)
    return model


def _arguments(values: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Arguments of `fit`, all that is wrong said at once."""
    known = set(inspect.signature(fit).parameters) - NOT_IN_FILES
    problems = _unknown(values, known | FILES | {"training", "augment"}, config)
    missing = sorted({"fields", "labels", "out"} - set(values))
    if missing:
        problems.append(f"{config} lacks {missing}")
    found: dict[str, Any] = {name: values[name] for name in known & set(values)}
    for name, make in TABLES.items():
        if name in found:
            many = isinstance(found[name], list)
            made = [
                _made(make, table, name, problems)
                for table in (found[name] if many else [found[name]])
            ]
            found[name] = made if many else made[0]
    if isinstance(found.get("validation"), list):
        found["validation"] = [slice(*pair) for pair in found["validation"]]
    from xsphere.nn.training import TrainingOptions

    found["options"] = _made(TrainingOptions, values.get("training", {}), "training", problems)
    found["augment"] = [_augmentation(table, problems) for table in values.get("augment", [])]
    if problems:
        raise ConfigurationError("; ".join(problems))
    return found


def _unknown(table: Mapping[str, Any], known: set[str], where: str) -> list[str]:
    unknown = sorted(set(table) - known)
    return [f"{where} has unknown keys {unknown}; known are {sorted(known)}"] if unknown else []


def _made(make: Callable[..., Any], table: Any, where: str, problems: list[str]) -> Any:
    """A value of a table; None, and why, if that cannot be."""
    if not isinstance(table, Mapping):
        problems.append(f"{where} must be a table, got {shortened(table)}")
        return None
    assert is_dataclass(make)
    unknown = _unknown(table, {field.name for field in fields(make)}, where)
    problems += unknown
    if unknown:
        return None
    try:
        return make(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
    except (TypeError, ValueError) as error:
        problems.append(f"{where}: {error}")
        return None


def _augmentation(table: Any, problems: list[str]) -> Any:
    known = {
        name: kind
        for name, kind in vars(xsphere.augmentation).items()
        if isinstance(kind, type)
        and issubclass(kind, Augmentation)
        and not inspect.isabstract(kind)
    }
    name = table.get("name") if isinstance(table, Mapping) else None
    if name not in known:
        problems.append(f"augment: name must be one of {sorted(known)}, got {shortened(name)}")
        return None
    rest = {key: value for key, value in table.items() if key != "name"}
    return _made(known[name], rest, f"augment {name}", problems)


@contextmanager
def _processes() -> Iterator[bool]:
    """The group of processes that ``torchrun`` has started, if any; whether this is the first."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    import torch

    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield torch.distributed.get_rank() == 0
    finally:
        torch.distributed.destroy_process_group()
