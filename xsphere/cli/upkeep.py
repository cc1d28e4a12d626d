"""Commands that look after the installation and the cache."""

import sys
from typing import Annotated

import typer

from xsphere.cli.options import (
    Scheduler,
)


def doctor(scheduler: Scheduler = None) -> None:
    """Check the installation: versions, cache, devices, models; those of all workers too."""
    from xsphere.clusters import cluster
    from xsphere.doctor import cluster_report, installation_report

    facts, problems = installation_report()
    if scheduler is not None:
        with cluster(None, scheduler) as options:
            lines, differences = cluster_report(options["client"])
        facts, problems = facts + lines, problems + differences
    print("\n".join(facts))
    for problem in problems:
        print(f"problem     {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


def cache_ls() -> None:
    """List what the cache holds."""
    from xsphere.cache import cache_dir
    from xsphere.housekeeping import cache_entries, entries_text

    print(cache_dir() or "the cache is off")
    print(entries_text(cache_entries()))


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
    from xsphere.housekeeping import clear_cache
    from xsphere.notices import bytes_text

    removed = clear_cache(kinds or (), older_than=older_than)
    total = bytes_text(sum(entry.n_bytes for entry in removed))
    print(f"{len(removed)} entries removed, {total}")
