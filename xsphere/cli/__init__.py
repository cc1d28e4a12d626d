"""The command ``xsphere``: each subcommand is one or two calls of plain functions."""

import sys
from collections.abc import Callable

import typer

from xsphere.cli import fields, runs, upkeep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Extreme events on the sphere: regrid, segment, list and draw them.",
    pretty_exceptions_enable=False,
)
cache = typer.Typer(no_args_is_help=True, help="What was built once: list, verify, clear.")
app.add_typer(cache, name="cache")

COMMANDS: tuple[Callable[..., None], ...] = (
    fields.demo,
    fields.regrid,
    fields.pyramid,
    runs.plan,
    runs.segment,
    runs.verify,
    fields.events,
    fields.plot,
    fields.equivariance,
    upkeep.doctor,
)
for command in COMMANDS:
    app.command()(command)
for name, part in (
    ("ls", upkeep.cache_ls),
    ("verify", upkeep.cache_verify),
    ("clear", upkeep.cache_clear),
):
    cache.command(name)(part)


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
