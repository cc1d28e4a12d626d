"""The command ``xsphere``: each subcommand is one or two calls of plain functions."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from xsphere.cli import fields, models, runs, scores, storms, upkeep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Extreme events on the sphere: regrid, segment, follow, score and draw them.",
    pretty_exceptions_enable=False,
)
cache = typer.Typer(no_args_is_help=True, help="What was built once: list, verify, clear.")
app.add_typer(cache, name="cache")
model = typer.Typer(no_args_is_help=True, help="Models: list those of the package, show one.")
app.add_typer(model, name="model")

COMMANDS: tuple[Callable[..., None], ...] = (
    fields.demo,
    fields.regrid,
    fields.pyramid,
    runs.plan,
    runs.segment,
    runs.verify,
    storms.detect,
    fields.events,
    storms.track,
    storms.frequency,
    storms.score,
    models.train,
    scores.evaluate,
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
model.command("ls")(models.model_ls)
model.command("show")(models.model_show)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Stop in order at what batch systems send before they kill."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main() -> None:
    """Run the command; what goes wrong is said in one line."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        with _sigterm_as_ctrl_c():
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
