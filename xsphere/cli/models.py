"""Commands for models: trained here."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file that says it all.")],
    *,
    progress: Annotated[bool, typer.Option(help="Show progress.")] = True,
) -> None:
    """Train a model as a TOML file says; with a checkpoint, call it again to go on after a stop.

    Under torchrun --nproc-per-node N -m xsphere train CONFIG, N processes train together.
    """
    from xsphere.fitting import train_config

    print(train_config(config, progress=progress))
