"""Commands for models: trained, listed, shown."""

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


def model_ls() -> None:
    """List the models of the package, with what each is for."""
    from xsphere import list_models

    for name, description in list_models().items():
        print(f"{name:<12}{description}")


def model_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Bundled name or model file.")],
) -> None:
    """Print the card of a model: inputs, classes, recipe, scores, where it fails."""
    from xsphere import Model

    print(Model.load(name).card())
