"""Arguments and options that several commands have, each said once.

A new option of `xsphere.segment` or of regridding is a field of a class here: `with_options` gives
it to the commands, which pass all of them on.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

import typer

# texts, not paths, which would make one slash of the two of a URL
Input = Annotated[str, typer.Argument(metavar="IN", help="NetCDF file or Zarr store, or its URL.")]
Output = Annotated[str, typer.Argument(metavar="OUT", help="File to write (.zarr or .nc).")]
ModelName = Annotated[str, typer.Option("--model", "-m", help="Bundled name or model file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes on this machine; threads of one process if not given."),
]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to work on.")]
RepairedSource = Annotated[
    bool,
    typer.Option("--repaired-source", help="Resume though the source changed: it was repaired."),
]
MissingChunks = Annotated[
    str, typer.Option(help="Chunks that are not in a Zarr source: raise, invalid or fill.")
]


def thresholds_of(text: str) -> Any:
    """Threshold for all classes, or by name as ``a=0.3,b=0.5``, or ``argmax``.

    Examples
    --------
    >>> thresholds_of("0.4"), thresholds_of("low=0.3,high=0.5")
    (0.4, {'low': 0.3, 'high': 0.5})
    """
    if text == "argmax":
        return text
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        named = {name.strip(): float(number) for name, number in pairs}
    except ValueError:
        named, pairs = {}, [[]]
    if len(named) != len(pairs):
        raise typer.BadParameter(
            "--threshold needs a number, NAME=NUMBER,NAME=NUMBER with each class once, or argmax, "
            f"got {text!r}"
        )
    return named


ThresholdOption = Annotated[
    Any,
    typer.Option(
        parser=thresholds_of,
        metavar="NUMBER",
        help="Probability from which on a cell has a class, for all or CLASS=NUMBER,...; "
        "argmax for the likeliest class. As the model says if not given.",
    ),
]
MinArea = Annotated[float, typer.Option(help="Smallest area of an event in km2.")]


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """Arguments of `xsphere.segment`, the same when a run is planned and repaired."""

    model: ModelName = "tc-ar"
    output: Annotated[str, typer.Option(help="mask, probability, or spread of an ensemble.")] = (
        "mask"
    )
    threshold: ThresholdOption = None
    grid: Annotated[str, typer.Option(help="healpix or source.")] = "healpix"
    block_size: Annotated[int | None, typer.Option(help="Maps in a task.")] = None
    batch_size: Annotated[int, typer.Option(help="Maps a worker handles at a time.")] = 8
    device: Annotated[str | None, typer.Option(help="A torch device; a GPU if there is one.")] = (
        None
    )
    precision: Annotated[str, typer.Option(help="float32; on GPUs also bfloat16 or float16.")] = (
        "float32"
    )
    allow_cpu_fallback: Annotated[
        bool, typer.Option("--allow-cpu-fallback", help="Where a GPU cannot hold one map.")
    ] = False
    missing_chunks: MissingChunks = "raise"


@dataclass(frozen=True, kw_only=True)
class RegridOptions:
    """Arguments of `xsphere.regrid`."""

    method: Annotated[
        str,
        typer.Option(
            help="auto, conservative, bilinear, nearest, mode and others: a wrong name lists them."
        ),
    ] = "auto"
    missing: Annotated[str, typer.Option(help="renormalize or propagate.")] = "renormalize"
    min_valid_fraction: Annotated[
        float, typer.Option(help="Part of a cell that must have values, for renormalize.")
    ] = 0.5
    max_distance: Annotated[
        float | None, typer.Option(help="Kilometres that points stand for; by their spacing.")
    ] = None


Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What `xsphere.events` and `xsphere.track` measure on request."""

    shape: Annotated[
        bool, typer.Option("--shape", help="Also length, width, direction, outline, transport.")
    ] = False
    land: Annotated[bool, typer.Option("--land", help="Also what is over land, landfalls.")] = False
    places: Annotated[
        bool, typer.Option("--places", help="Also where the fields have their extremes.")
    ] = False


def with_options(shared: type) -> Callable[[Command], Command]:
    """Decorator that gives a command the fields of a class as options, in its ``**options``."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for field in fields(shared)
    ]

    def extended(command: Command) -> Command:
        own = inspect.signature(command)
        parameters = [p for p in own.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        parameters += [*added, *(p for p in own.parameters.values() if p.kind is p.KEYWORD_ONLY)]
        about: Any = command
        about.__signature__ = own.replace(parameters=parameters)
        about.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return extended
