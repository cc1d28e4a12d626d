"""The command ``xsphere``: each subcommand is one or two calls of plain functions."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Extreme events on the sphere: regrid, segment, list and draw them.",
    pretty_exceptions_enable=False,
)

cache = typer.Typer(no_args_is_help=True, help="What was built once: list, verify, clear.")
app.add_typer(cache, name="cache")

Input = Annotated[Path, typer.Argument(help="NetCDF file or Zarr store.", show_default=False)]
Output = Annotated[Path, typer.Argument(help="File to write (.zarr or .nc).", show_default=False)]
ModelName = Annotated[str, typer.Option("--model", "-m", help="Bundled name or model file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes on this machine; threads of one process if not given."),
]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to work on.")]
MinArea = Annotated[float, typer.Option(help="Smallest area of an event in km2.")]


@app.command()
def demo(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[INPUT]",
            help="NetCDF file or Zarr store with water vapour, sea-level pressure and winds at "
            "850 hPa; the two weather maps of the package if not given.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    model: ModelName = "tc-ar",
) -> None:
    """Find tropical cyclones and atmospheric rivers on real weather maps.

    Writes mask.zarr, events.csv and map.png, and prints what was found.
    """
    from xsphere.demo import run_demo

    run_demo(source, out, model)


@app.command()
def regrid(
    source: Input,
    out: Output,
    *,
    level: Annotated[int | None, typer.Option(help="HEALPix refinement level.")] = None,
    nside: Annotated[int | None, typer.Option(help="The same as 2**level.")] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Degrees, for longitude and latitude instead.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="auto, conservative, conservative2, bilinear, nearest, inverse_distance or mode."
        ),
    ] = "auto",
    missing: Annotated[str, typer.Option(help="renormalize or propagate.")] = "renormalize",
    min_valid_fraction: Annotated[
        float, typer.Option(help="Part of a cell that must have values, for renormalize.")
    ] = 0.5,
    overwrite: Overwrite = False,
) -> None:
    """Bring a dataset onto the HEALPix grid, or onto longitude and latitude."""
    from xsphere import to_healpix, to_latlon
    from xsphere.store import open_lazily, write_whole

    if resolution is not None and (level is not None or nside is not None):
        raise ValueError("expected --level or --resolution, got both; give one of them")
    ds = open_lazily(source)
    options: dict[str, Any] = {
        "method": method,
        "missing": missing,
        "min_valid_fraction": min_valid_fraction,
    }
    if resolution is not None:
        result = to_latlon(ds, resolution, **options)
    else:
        result = to_healpix(ds, level, nside=nside, **options)
    print(write_whole(result, out, overwrite=overwrite, progress="regridding"))


@app.command()
def pyramid(
    source: Input,
    out: Annotated[Path, typer.Argument(help="Store to write (.zarr).", show_default=False)],
    levels: Annotated[
        list[int] | None,
        typer.Option("--level", help="HEALPix level to write; give it once for each level."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write fields at several HEALPix levels to one store."""
    from xsphere import write_pyramid
    from xsphere.store import open_lazily

    ds = open_lazily(source)
    print(write_pyramid(ds, out, levels=levels, overwrite=overwrite, progress="regridding"))


@app.command()
def segment(
    source: Input,
    out: Output,
    *,
    model: ModelName = "tc-ar",
    output: Annotated[str, typer.Option(help="mask or probability.")] = "mask",
    grid: Annotated[str, typer.Option(help="healpix or source.")] = "healpix",
    block_size: Annotated[int | None, typer.Option(help="Maps in a task.")] = None,
    batch_size: Annotated[int, typer.Option(help="Maps a worker handles at a time.")] = 8,
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
    )
    if out.suffix == ".zarr":
        with _said_how_to_go_on(), cluster(workers, scheduler) as options:
            options |= {"overwrite": overwrite, "progress": "segmenting"}
            print(xsphere.write_blocks(result, out, **options))
    else:
        print(write_whole(result, out, overwrite=overwrite, progress="segmenting"))
    if output == "mask":
        print(shares_text(class_shares(mask_of(open_lazily(out)))))


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="What segment wrote (.zarr).", show_default=False)],
    repair: Annotated[
        Path | None,
        typer.Option(help="The input of segment: damaged and missing blocks are computed anew."),
    ] = None,
    model: ModelName = "tc-ar",
    output: Annotated[str, typer.Option(help="For --repair, as for segment.")] = "mask",
    grid: Annotated[str, typer.Option(help="For --repair, as for segment.")] = "healpix",
    block_size: Annotated[int | None, typer.Option(help="For --repair, as for segment.")] = None,
) -> None:
    """Read every block and compare it with its checksum; fails if one is damaged or missing."""
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
        )
        with _said_how_to_go_on():
            print(xsphere.repair_store(store, result, progress="repairing"))
    elif not report.ok:
        raise typer.Exit(1)


@app.command()
def events(
    mask: Annotated[Path, typer.Argument(help="A mask that was written.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Table to write (.csv).", show_default=False)],
    fields: Annotated[
        Path | None, typer.Option(help="Dataset on the mask's grid: extremes are listed.")
    ] = None,
    min_area: MinArea = 0.0,
) -> None:
    """List the connected regions of a mask."""
    import xsphere
    from xsphere.reports import events_text, mask_of
    from xsphere.store import open_lazily

    table = xsphere.events(
        mask_of(open_lazily(mask)),
        None if fields is None else open_lazily(fields),
        min_area=min_area,
    )
    xsphere.events_to_csv(table, out)
    print(events_text(table))
    print(out)


@app.command()
def plot(
    source: Input,
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .pdf, .svg).")] = Path(
        "map.png"
    ),
    variable: Annotated[
        str | None, typer.Option(help="Variable to draw; the mask or the first if not given.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time to draw, the nearest is taken; else the first.")
    ] = None,
) -> None:
    """Draw one time of a field or mask on a map."""
    from xsphere.reports import write_picture
    from xsphere.store import open_lazily

    print(write_picture(open_lazily(source), out, variable=variable, time=time))


@app.command()
def equivariance(
    level: Annotated[int, typer.Option(help="HEALPix refinement level.")] = 5,
    k: Annotated[
        list[int] | None,
        typer.Option(help="Number of neighbours; give it once for each, else 8, 20 and 40."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="consistent, gaussian or perraudin2019; give it once for each, else consistent."
        ),
    ] = None,
    degrees: Annotated[
        str | None,
        typer.Option(help="Degrees of the fields, such as 5,10,20-25; a dozen if not given."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="schur (exact, no floor) or rotations (random).")
    ] = "schur",
    plot: Annotated[Path | None, typer.Option(help="Picture to write (.png, .pdf, .svg).")] = None,
    seed: Annotated[int, typer.Option(help="Of the random fields and rotations.")] = 0,
) -> None:
    """Measure how far graph Laplacians are from commuting with rotations."""
    from xsphere.equivariance.graphs import degrees_of_text, errors_text, graph_errors
    from xsphere.grids import HealpixGrid
    from xsphere.plotting.curves import check_picture_name, write_curves

    if plot is not None:
        check_picture_name(plot)
    grid = HealpixGrid(level)
    errors = graph_errors(
        grid,
        degrees_of_text(degrees, grid),
        neighbours=k or (8, 20, 40),
        weights=weights or ("consistent",),  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        seed=seed,
    )
    print(errors_text(errors))
    if plot is not None:
        print(write_curves(errors, plot))


@app.command()
def doctor() -> None:
    """Check the installation: versions, cache, devices, bundled models."""
    from xsphere.doctor import installation_report

    facts, problems = installation_report()
    print("\n".join(facts))
    for problem in problems:
        print(f"problem     {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


@cache.command("ls")
def cache_ls() -> None:
    """List what the cache holds."""
    from xsphere.cache import cache_dir
    from xsphere.housekeeping import cache_entries, entries_text

    print(cache_dir() or "the cache is off")
    print(entries_text(cache_entries()))


@cache.command("verify")
def cache_verify() -> None:
    """Read every byte and compare it with its checksum."""
    from xsphere.housekeeping import damaged_entries

    damaged = damaged_entries()
    for entry in damaged:
        print(f"damaged  {entry.path}", file=sys.stderr)
    if damaged:
        print("xsphere cache clear removes them; what is needed is built again", file=sys.stderr)
        raise typer.Exit(1)
    print("every entry is as it was written")


@cache.command("clear")
def cache_clear(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(help="Kinds to remove, such as weights; all if not given."),
    ] = None,
    older_than: Annotated[
        float, typer.Option(help="Days since an entry was written: younger ones stay.")
    ] = 0.0,
) -> None:
    """Remove what the cache holds; it is built again when needed."""
    from xsphere.housekeeping import clear_cache, size_text

    removed = clear_cache(kinds or (), older_than=older_than)
    print(f"{len(removed)} entries removed, {size_text(removed)}")


@contextmanager
def _said_how_to_go_on() -> Iterator[None]:
    """What a run that was stopped says, which the command line would pass over."""
    from xsphere.blocks import InterruptedRun

    try:
        yield
    except InterruptedRun as stop:
        print(f"xsphere: {stop}", file=sys.stderr)
        raise typer.Exit(130) from stop


def main() -> None:
    """Run the command; what goes wrong is said in one line."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments, prog_name="xsphere")
    except KeyboardInterrupt:
        print("xsphere: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        line = " ".join(text.split())
        print(f"xsphere: {line or type(error).__name__} (--debug shows where)", file=sys.stderr)
        sys.exit(1)
