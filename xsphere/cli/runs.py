"""Commands that fill stores, and look after them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xsphere.cli.options import (
    BlockSize,
    Device,
    Grid,
    Input,
    MissingChunks,
    ModelName,
    Output,
    Overwrite,
    Precision,
    Scheduler,
    What,
    Workers,
)


def segment(
    source: Input,
    out: Output,
    *,
    model: ModelName = "tc-ar",
    output: What = "mask",
    grid: Grid = "healpix",
    block_size: BlockSize = None,
    batch_size: Annotated[int, typer.Option(help="Maps a worker handles at a time.")] = 8,
    device: Device = None,
    precision: Precision = "float32",
    allow_cpu_fallback: Annotated[
        bool,
        typer.Option("--allow-cpu-fallback", help="Where a GPU cannot hold one map."),
    ] = False,
    missing_chunks: MissingChunks = "raise",
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment every time step of a dataset; call it again to go on after a stop.

    A .zarr output is written block by block with checksums: what is done is not done again.
    """
    import xsphere
    from xsphere.clusters import cluster
    from xsphere.reports import class_shares, mask_of, shares_text
    from xsphere.store import open_lazily, write_whole

    result = xsphere.segment(
        source,
        model,
        output=output,  # type: ignore[arg-type]
        grid=grid,  # type: ignore[arg-type]
        block_size=block_size,
        batch_size=batch_size,
        device=device,
        precision=precision,  # type: ignore[arg-type]
        allow_cpu_fallback=allow_cpu_fallback,
        missing_chunks=missing_chunks,  # type: ignore[arg-type]
    )
    if out.suffix == ".zarr":
        with _said_how_to_go_on(), cluster(workers, scheduler) as options:
            options |= {"overwrite": overwrite, "progress": "segmenting"}
            print(xsphere.write_blocks(result, out, **options))
    else:
        print(write_whole(result, out, overwrite=overwrite, progress="segmenting"))
    if output == "mask":
        print(shares_text(class_shares(mask_of(open_lazily(out)))))


def verify(
    store: Annotated[Path, typer.Argument(help="What segment wrote (.zarr).", show_default=False)],
    repair: Annotated[
        Path | None,
        typer.Option(help="The input of segment: damaged and missing blocks are computed anew."),
    ] = None,
    model: ModelName = "tc-ar",
    output: What = "mask",
    grid: Grid = "healpix",
    block_size: BlockSize = None,
    device: Device = None,
    precision: Precision = "float32",
    missing_chunks: MissingChunks = "raise",
) -> None:
    """Read every block and compare it with its checksum; fails if one is damaged or missing.

    All options but --repair are those that were given to segment, for a repair.
    """
    import xsphere

    report = xsphere.verify_store(store)
    print(report)
    if repair is not None:
        result = xsphere.segment(
            repair,
            model,
            output=output,  # type: ignore[arg-type]
            grid=grid,  # type: ignore[arg-type]
            block_size=block_size,
            device=device,
            precision=precision,  # type: ignore[arg-type]
            missing_chunks=missing_chunks,  # type: ignore[arg-type]
        )
        with _said_how_to_go_on():
            print(xsphere.repair_store(store, result, progress="repairing"))
    elif not report.ok:
        raise typer.Exit(1)


@contextmanager
def _said_how_to_go_on() -> Iterator[None]:
    """What a run that was stopped says, which the command line would pass over."""
    from xsphere.blocks import InterruptedRun

    try:
        yield
    except InterruptedRun as stop:
        print(f"xsphere: {stop}", file=sys.stderr)
        raise typer.Exit(130) from stop
