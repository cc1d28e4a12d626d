"""Commands for events with a life: found by rules, followed, scored."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from xsphere.cli.options import Input, MeasureOptions, MinArea, Output, Overwrite, with_options

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="NAME=NUMBER: another number than the rule's, or several with commas between."
    ),
]


@dataclass(frozen=True, kw_only=True)
class TrackOptions(MeasureOptions):
    """Arguments of `xsphere.track`."""

    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Class to follow; all if not given.")
    ] = None
    min_area: MinArea = 0.0
    max_hole_area: Annotated[float, typer.Option(help="Holes to fill, in km2.")] = 0.0
    merge_distance: Annotated[float, typer.Option(help="Regions so near are one, in km.")] = 0.0
    min_duration: Annotated[str, typer.Option(help="Shortest track, such as 24h.")] = "0h"
    max_gap: Annotated[str, typer.Option(help="How long a region may be missing.")] = "0h"
    max_speed: Annotated[
        float | None, typer.Option(help="km/h, for regions that share no cell from step to step.")
    ] = None
    min_overlap: Annotated[float, typer.Option(help="Least shared part of the area.")] = 0.0
    overlap_of: Annotated[str, typer.Option(help="smaller or union.")] = "smaller"
    split_merge: Annotated[
        bool, typer.Option(help="Branches are tracks of their own, or all that is linked is one.")
    ] = True


def detect(
    source: Input,
    out: Output,
    event: Annotated[str, typer.Option(help="tropical_cyclone, atmospheric_river or blocking.")],
    rule: Annotated[str, typer.Option(help="Whose rule: a wrong name lists them.")] = "tempest",
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Find events by a published rule and write their mask."""
    import xsphere
    from xsphere.outputs import output_path
    from xsphere.store import open_lazily, write_whole

    place = output_path(out, source)
    chosen: Any = event
    mask = xsphere.detect(open_lazily(source), chosen, rule, **_numbers(settings or []))
    print(write_whole(mask, place, overwrite=overwrite, progress="detecting"))


@with_options(TrackOptions)
def track(
    mask: Annotated[str, typer.Argument(metavar="MASK", help="A mask that was written.")],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Tracks to write (.csv, .parquet, .nc or .txt).")
    ],
    fields: Annotated[
        str | None, typer.Option(help="Dataset on the mask's grid: extremes are listed.")
    ] = None,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Follow the regions of a mask through time; resumes after a stop."""
    import xsphere
    from xsphere.atomic import check_free, remove_whole
    from xsphere.outputs import output_path
    from xsphere.regions.track_files import check_ending
    from xsphere.reports import mask_of
    from xsphere.store import open_lazily

    place = output_path(out, mask, *([] if fields is None else [fields]))
    check_ending(place.name)
    check_free(place, replace=overwrite)
    parts = place.with_name(f"{place.name}.parts")
    tracks = xsphere.track(
        mask_of(open_lazily(mask, missing_chunks="fill")),
        None if fields is None else open_lazily(fields),
        parts=parts,
        **options,
    )
    print(xsphere.write_tracks(tracks, place, overwrite=overwrite))
    remove_whole(parts)
    print(f"{tracks.sizes['track']} tracks of {tracks.sizes['event']} regions")


def frequency(
    mask: Annotated[str, typer.Argument(metavar="MASK", help="A mask that was written.")],
    out: Output,
    by: Annotated[str | None, typer.Option(help="For each season, month or basin.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Class to count; all if not given.")
    ] = None,
    over: Annotated[
        str | None, typer.Option(help="Dimension of other estimates, such as member: mean, spread.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write how often each cell is in each class of a mask."""
    import xsphere
    from xsphere.outputs import store_or_file
    from xsphere.reports import mask_of
    from xsphere.store import open_lazily, write_whole

    place = store_or_file(out, mask)
    chosen: Any = by
    shares = xsphere.frequency(
        mask_of(open_lazily(mask, missing_chunks="fill")), chosen, classes=classes, over=over
    )
    print(write_whole(shares, place, overwrite=overwrite, progress="counting"))


def score(
    tracks: Annotated[str, typer.Argument(metavar="TRACKS", help="Tracks that were written.")],
    reference: Annotated[
        str, typer.Option(help="Best tracks: a file of IBTrACS, or any table of tracks.")
    ],
    max_distance: Annotated[float, typer.Option(help="Kilometres between what is one.")] = 300.0,
    min_times: Annotated[int, typer.Option(help="Common times that are needed.")] = 1,
    event: Annotated[
        str | None, typer.Option("--class", help="Class of the tracks that is meant; else all.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Also by basin, season or year.")] = None,
) -> None:
    """Compare tracks with a reference: hits, misses, false alarms, with intervals."""
    import xsphere
    from xsphere.reports import scores_text

    found = xsphere.read_tracks(tracks)
    if event is not None:
        found = found.isel(event=found["class_name"].values == event)
    grouped: Any = by
    scores = xsphere.score_tracks(
        found,
        _reference(reference),
        max_distance=max_distance,
        min_times=min_times,
        by=grouped,
    )
    print(scores_text(scores))


def _reference(path: str) -> Any:
    """Best tracks, or any other tracks."""
    import xsphere

    try:
        return xsphere.read_ibtracs(path)
    except ValueError as error:
        try:
            return xsphere.read_tracks(path)
        except (ValueError, KeyError):
            raise error from None


def _numbers(settings: list[str]) -> dict[str, Any]:
    """Settings as NAME=NUMBER, or NAME=NUMBER,NUMBER."""
    found: dict[str, Any] = {}
    for text in settings:
        name, _, number = text.partition("=")
        try:
            several = [float(part) for part in number.split(",")]
            found[name.strip()] = several[0] if len(several) == 1 else several
        except ValueError:
            raise ValueError(f"--set needs NAME=NUMBER, got {text!r}") from None
    return found
