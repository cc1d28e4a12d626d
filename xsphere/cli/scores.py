"""The command that judges a segmentation."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from xsphere.cli.options import (
    MinArea,
    MissingChunks,
    Overwrite,
    ThresholdOption,
    with_options,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Arguments of `xsphere.evaluate`."""

    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Class to score; all if not given.")
    ] = None
    grid: Annotated[str, typer.Option(help="Where both are compared: labels or predicted.")] = (
        "labels"
    )
    method: Annotated[str, typer.Option(help="How the other is regridded: see regrid.")] = (
        "conservative"
    )
    weighting: Annotated[str, typer.Option(help="Cells count by their area, or as cells.")] = "area"
    threshold: ThresholdOption = None
    min_area: MinArea = 0.0
    min_overlap: Annotated[
        float, typer.Option(help="Part of the smaller of two regions that they must share.")
    ] = 0.0
    block: Annotated[str, typer.Option(help="Blocks of time drawn for intervals.")] = "30D"
    n_samples: Annotated[int, typer.Option(help="How often they are drawn.")] = 1000
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0


@with_options(EvaluateOptions)
def evaluate(
    predicted: Annotated[
        str, typer.Argument(metavar="PREDICTED", help="Mask or probabilities; a model with --of.")
    ],
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="What is true.")],
    out: Annotated[
        str | None, typer.Option(help="Folder to write: Markdown, JSON and pictures.")
    ] = None,
    of: Annotated[
        str | None, typer.Option("--of", help="Dataset that the model PREDICTED segments.")
    ] = None,
    overwrite: Overwrite = False,
    missing_chunks: MissingChunks = "raise",
    *,
    variable: Annotated[
        str | None, typer.Option(help="Variable of LABELS, if several may.")
    ] = None,
    **options: Any,
) -> None:
    """Score a mask, probabilities or a model against labels: cells, calibration, regions."""
    import xsphere
    from xsphere.atomic import check_free
    from xsphere.outputs import output_path
    from xsphere.reports import segmentation_of
    from xsphere.store import open_lazily

    place = None if out is None else output_path(out, labels, *([of] if of else [predicted]))
    if place is not None:
        check_free(place, folder=True, replace=overwrite)
    chunks: Any = missing_chunks
    true = segmentation_of(open_lazily(labels, missing_chunks=chunks), variable)
    side: Any = predicted
    ds = None
    if of is None:
        side = segmentation_of(open_lazily(predicted, missing_chunks=chunks))
    else:
        ds = xsphere.open(of, missing_chunks=chunks)
    found = xsphere.evaluate(side, true, ds, progress=True, **options)
    print(found.to_markdown())
    if place is not None:
        print(found.write(place, overwrite=overwrite))
