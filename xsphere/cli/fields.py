"""Commands that make and show fields, masks and events."""

from typing import Annotated, Any

import typer

from xsphere.cli.options import (
    Input,
    MeasureOptions,
    MinArea,
    MissingChunks,
    ModelName,
    Output,
    Overwrite,
    RegridOptions,
    with_options,
)


def demo(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="NetCDF file or Zarr store with water vapour, sea-level pressure and winds at "
            "850 hPa; the two weather maps of the package if not given.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for the results.")] = "demo-output",
    model: ModelName = "tc-ar",
) -> None:
    """Find tropical cyclones and atmospheric rivers on real weather maps.

    Writes mask.zarr, events.csv and map.png, and prints what was found.
    """
    from xsphere.demo import run_demo

    run_demo(source, out, model)


@with_options(RegridOptions)
def regrid(
    source: Input,
    out: Output,
    *,
    level: Annotated[int | None, typer.Option(help="HEALPix refinement level.")] = None,
    nside: Annotated[int | None, typer.Option(help="The same as 2**level.")] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Degrees, for longitude and latitude instead.")
    ] = None,
    ellipsoid: Annotated[
        str | None,
        typer.Option(help="Figure of the Earth of a HEALPix grid, such as WGS84; else a sphere."),
    ] = None,
    missing_chunks: MissingChunks = "raise",
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Bring a dataset onto the HEALPix grid, or onto longitude and latitude."""
    from xsphere import to_healpix, to_latlon
    from xsphere.outputs import store_or_file
    from xsphere.store import open_lazily, write_whole

    place = store_or_file(out, source)
    if resolution is not None and (level is not None or nside is not None):
        raise ValueError("expected --level or --resolution, got both; give one of them")
    if resolution is not None and ellipsoid is not None:
        raise ValueError("--ellipsoid is of HEALPix grids, got --resolution too; leave one out")
    ds = open_lazily(source, missing_chunks=missing_chunks)
    if resolution is not None:
        result = to_latlon(ds, resolution, **options)
    else:
        result = to_healpix(ds, level, nside=nside, ellipsoid=ellipsoid, **options)
    print(write_whole(result, place, overwrite=overwrite, progress="regridding"))


def pyramid(
    source: Input,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Store to write (.zarr).")],
    levels: Annotated[
        list[int] | None,
        typer.Option("--level", help="HEALPix level to write; give it once for each level."),
    ] = None,
    missing_chunks: MissingChunks = "raise",
    overwrite: Overwrite = False,
) -> None:
    """Write fields at several HEALPix levels to one store."""
    from xsphere import write_pyramid
    from xsphere.outputs import store_or_file
    from xsphere.store import open_lazily

    place = store_or_file(out, source)
    ds = open_lazily(source, missing_chunks=missing_chunks)
    print(write_pyramid(ds, place, levels=levels, overwrite=overwrite, progress="regridding"))


@with_options(MeasureOptions)
def events(
    mask: Annotated[str, typer.Argument(metavar="MASK", help="A mask that was written.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Table (.csv) or outlines (.geojson).")],
    fields: Annotated[
        str | None, typer.Option(help="Dataset on the mask's grid: extremes are listed.")
    ] = None,
    min_area: MinArea = 0.0,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """List the connected regions of a mask."""
    import xsphere
    from xsphere.atomic import check_free
    from xsphere.outputs import output_path
    from xsphere.reports import events_text, mask_of
    from xsphere.store import open_lazily

    place = output_path(out, mask, *([] if fields is None else [fields]))
    check_free(place, replace=overwrite)
    if place.suffix == ".geojson":
        if fields is not None or any(options.values()):
            raise ValueError("outlines have no fields or measures; leave them out, or write .csv")
        regions = mask_of(open_lazily(mask, missing_chunks="fill"))
        print(xsphere.write_outlines(regions, place, min_area=min_area, overwrite=overwrite))
        return
    if ".csv" not in place.suffixes[-2:]:
        raise ValueError(f"the table must end in '.csv' or '.geojson', got {out!r}")
    table = xsphere.events(
        mask_of(open_lazily(mask, missing_chunks="fill")),
        None if fields is None else open_lazily(fields),
        min_area=min_area,
        **options,
    )
    xsphere.events_to_csv(table, place, overwrite=overwrite)
    print(events_text(table))
    print(place)


def plot(
    source: Input,
    out: Annotated[str, typer.Option(help="Picture to write (.png, .pdf, .svg).")] = "map.png",
    variable: Annotated[
        str | None, typer.Option(help="Variable to draw; the mask or the first if not given.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time to draw, the nearest is taken; else the first.")
    ] = None,
    film: Annotated[
        bool, typer.Option("--animate", help="All times as a film: OUT is .gif, .mp4 or a folder.")
    ] = False,
    times: Annotated[
        str | None, typer.Option(help="Of a film: the first and last time, FIRST/LAST; else all.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Of a film: frames a second; else 4.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a film that is there, as pictures are.")
    ] = False,
) -> None:
    """Draw one time of a field or mask on a map, or all as a film."""
    from xsphere.outputs import output_path
    from xsphere.plotting.pictures import picture_path, write_film, write_picture
    from xsphere.store import open_lazily

    of_films = {"--times": times, "--fps": fps, "--overwrite": overwrite or None}
    given = [name for name, value in of_films.items() if value is not None]
    if film and time is not None:
        raise ValueError("--animate draws all times; leave --time out, or give --times FIRST/LAST")
    if given and not film:
        raise ValueError(f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for --animate")
    place = output_path(out, source)
    if not film:
        picture_path(place)
    ds = open_lazily(source, missing_chunks="fill")
    if film:
        options: dict[str, Any] = {"overwrite": overwrite} | ({} if fps is None else {"fps": fps})
        print(write_film(ds, place, variable=variable, times=times, **options))
    else:
        print(write_picture(ds, place, variable=variable, time=time))


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
    plot: Annotated[str | None, typer.Option(help="Picture to write (.png, .pdf, .svg).")] = None,
    seed: Annotated[int, typer.Option(help="Of the random fields and rotations.")] = 0,
) -> None:
    """Measure how far graph Laplacians are from commuting with rotations."""
    from xsphere.equivariance.graph_errors import degrees_of_text, errors_text, graph_errors
    from xsphere.grids import HealpixGrid
    from xsphere.plotting.curves import write_curves
    from xsphere.plotting.pictures import picture_path

    if plot is not None:
        picture_path(plot)
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
