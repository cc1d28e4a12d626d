"""Room for regridded fields in the cache: what is not in use and oldest goes first."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xsphere.atomic import put_away
from xsphere.cache import FORMAT, cache_dir
from xsphere.notices import bytes_text
from xsphere.sources.field_store import USED, folder_bytes
from xsphere.sources.regrid_plan import KIND

# of all regridded fields together
MAX_BYTES = 100 * 2**30
# what was used within this time is in use, in seconds
IN_USE = 3600.0


class CacheFullError(ValueError):
    """Fields would take more room than the cache is allowed.

    Examples
    --------
    >>> import xsphere
    >>> ds = xsphere.sample_dataset()[["TMQ"]]
    >>> ds.sphere.cache(level=5, max_bytes=1000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xsphere.sources.room.CacheFullError: ...
    """


@dataclass(frozen=True)
class Kept:
    """An entry of regridded fields."""

    folder: Path
    n_bytes: int
    idle_seconds: float


def make_room(needed: int, own: Sequence[Path], max_bytes: int) -> list[Path]:
    """Remove the fields that were not used for longest until `needed` bytes fit."""
    others = sorted(
        (entry for entry in _kept() if entry.folder not in own),
        key=lambda entry: -entry.idle_seconds,
    )
    excess = needed + sum(entry.n_bytes for entry in others) - max_bytes
    leaving: list[Kept] = []
    for entry in others:
        if excess <= 0:
            break
        if entry.idle_seconds > IN_USE:
            leaving.append(entry)
            excess -= entry.n_bytes
    if excess > 0:
        busy = sum(entry.n_bytes for entry in others if entry.idle_seconds <= IN_USE)
        raise CacheFullError(
            f"the regridded fields can take {bytes_text(needed)}, and {bytes_text(busy)} of others "
            f"are in use, but the cache may hold {bytes_text(max_bytes)} of such fields; raise "
            "max_bytes=, choose fewer variables or a coarser level, or keep them at a path= of "
            "your own"
        )
    for entry in leaving:
        _remove(entry.folder)
    return [entry.folder for entry in leaving]


def _kept() -> list[Kept]:
    root = cache_dir()
    if root is None:
        return []
    folders = (root / FORMAT / KIND).glob("*/*")
    return [Kept(f, folder_bytes(f), _idle(f)) for f in folders if len(f.name) == 64]


def _idle(folder: Path) -> float:
    try:
        return time.time() - (folder / USED).stat().st_mtime
    except OSError:
        return float("inf")


def _remove(folder: Path) -> None:
    # another process may be first
    with suppress(OSError):
        put_away(folder)
