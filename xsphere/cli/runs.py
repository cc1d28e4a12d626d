"""Commands that fill stores, and look after them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from xsphere.cli.options import (
    Input,
    Output,
    Overwrite,
    RepairedSource,
    Scheduler,
    SegmentOptions,
    Workers,
    with_options,
)


@with_options(SegmentOptions)
def segment(
    source: Input,
    out: Output,
    *,
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    append: Annotated[
        bool,
        typer.Option("--append", help="Add the steps that a longer INPUT has to what is there."),
    ] = False,
    repaired_source: RepairedSource = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Plan first, and compare with it what was achieved."),
    ] = False,
    **options: Any,
) -> None:
    """Segment every time step of a dataset; call it again to go on after a stop.

    A .zarr output is written block by block with checksums: what is done is not done again.
    """
    import xsphere
    from xsphere.clusters import cluster, workforce
    from xsphere.locations import Location
    from xsphere.outputs import store_or_file
    from xsphere.planning.trial import peak_bytes
    from xsphere.store import write_whole

    place = store_or_file(out, source)
    blocks = isinstance(place, Location)
    if append and not blocks:
        raise ValueError(f"--append is for an OUT that ends in .zarr, got {out!r}")
    if compare and not blocks:
        raise ValueError(f"--compare is for an OUT that ends in .zarr, got {out!r}")
    result = xsphere.segment(source, **options)
    if blocks:
        with _said_how_to_go_on(), cluster(workers, scheduler) as where:
            if compare:
                planned = xsphere.plan(source, **workforce(where), **options)
                print(planned)
            where |= {"overwrite": overwrite, "append": append, "repaired_source": repaired_source}
            report = xsphere.write_blocks(result, place, progress="segmenting", **where)
            print(report)
            if compare:
                peak = None if "client" in where else peak_bytes()
                print(planned.compare(report, peak_memory=peak))
    else:
        print(write_whole(result, place, overwrite=overwrite, progress="segmenting"))
    if options["output"] == "mask":
        _print_shares(str(place))


def _print_shares(mask: str) -> None:
    from xsphere.reports import class_shares, mask_of, shares_text
    from xsphere.store import open_lazily

    print(shares_text(class_shares(mask_of(open_lazily(mask, missing_chunks="fill")))))


@with_options(SegmentOptions)
def plan(
    source: Input,
    *,
    workers: Annotated[int, typer.Option(help="Processes that will work on it.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each, one block at a time.")] = 1,
    trial: Annotated[
        bool, typer.Option(help="Read, compute and write one block here to measure.")
    ] = True,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Maps a second of a thread at a stage, infer=160; once for each stage."),
    ] = None,
    read_bandwidth: Annotated[
        float | None, typer.Option(help="Bytes a second of the store for all workers together.")
    ] = None,
    **options: Any,
) -> None:
    """Try one block of a segmentation, and say what all will take: bytes, memory, hours."""
    import xsphere

    planned = xsphere.plan(
        source,
        workers=workers,
        threads_per_worker=threads,
        trial=trial,
        rates=_rates(rate or []) or None,
        read_bandwidth=read_bandwidth,
        **options,
    )
    print(planned)


def _rates(texts: list[str]) -> dict[str, float]:
    """Rates such as infer=160 by stage."""
    try:
        return {name: float(rate) for name, rate in (text.split("=") for text in texts)}
    except ValueError as error:
        raise ValueError(
            f"--rate must be a stage and maps a second, such as infer=160, got {texts}"
        ) from error


@with_options(SegmentOptions)
def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="What segment wrote (.zarr).")],
    *,
    repair: Annotated[
        str | None,
        typer.Option(help="The input of segment: damaged and missing blocks are computed anew."),
    ] = None,
    repaired_source: RepairedSource = False,
    **options: Any,
) -> None:
    """Read every block and compare it with its checksum; fails if one is damaged or missing.

    All options but --repair are those that were given to segment, for a repair.
    """
    import xsphere

    report = xsphere.verify_store(store)
    print(report)
    if repair is not None:
        result = xsphere.segment(repair, **options)
        with _said_how_to_go_on():
            print(
                xsphere.repair_store(
                    store, result, repaired_source=repaired_source, progress="repairing"
                )
            )
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
