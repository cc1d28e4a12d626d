"""Runs in processes of their own, and what can be seen of them from outside."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import xarray as xr

from tests.toys import storm_dataset, storm_model

ROOT = Path(__file__).parents[2]
# as in a terminal: what a shell starts in the background is deaf to Ctrl-C
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
COMMAND = LISTEN + "from xsphere.cli import main; main()"
# blocks from one on wait, so that how far a run came is no matter of its speed
HELD = f"""
{LISTEN}
import os, time
from pathlib import Path
from xsphere.blocks.task import BlockTask
call = BlockTask.__call__
def held(task):
    if task.block.index >= int(os.environ["HELD_FROM"]):
        while not Path(os.environ["HELD_UNTIL"]).exists():
            time.sleep(0.002)
        # a run that was told to stop must stop before it has done them all
        time.sleep(0.5)
    return call(task)
BlockTask.__call__ = held
"""


def start(code: str, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
    """A process that runs some code."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def n_done(path: Path) -> int:
    """Rows of a store."""
    rows = (path / "_xsphere" / "blocks").glob("c.*")
    # what is being written has such a name too
    return sum(row.suffix != ".partial" for row in rows)


def start_held(
    code: str, *arguments: object, first: int, until: Path | str = "never"
) -> "subprocess.Popen[str]":
    """A process whose blocks from one on wait until there is a file."""
    return start(HELD + code, *arguments, HELD_FROM=str(first), HELD_UNTIL=str(until))


def wait_for(path: Path, n_blocks: int, process: Any) -> None:
    """Wait until so many blocks are there, or the process has ended."""
    end = time.monotonic() + 1800
    while n_done(path) < n_blocks and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def seeded(default: int) -> random.Random:
    """Random numbers: the same in every run, unless XSPHERE_SEED says otherwise."""
    seed = int(os.environ.get("XSPHERE_SEED", default))
    sys.stderr.write(f"XSPHERE_SEED={seed}\n")
    return random.Random(seed)


def stored(path: Path, n_times: int, steps: int = 1, **options: Any) -> xr.Dataset:
    """Weather in a store with so many steps in a chunk."""
    ds = storm_dataset(n_times, **options)
    chunks = {name: {"chunks": (steps, *ds[name].shape[1:])} for name in ds.data_vars}
    ds.to_zarr(path, mode="w", consolidated=False, encoding=chunks)
    return ds


def saved_model(folder: Path, **options: Any) -> Path:
    """File of a small model."""
    return storm_model(**options).save(folder / "model.safetensors")
