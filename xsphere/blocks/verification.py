"""A store read again in full: what is damaged, what is missing, and only that computed anew."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import leftovers
from xsphere.blocks.creation import (
    Plan,
    check_same_description,
    damaged_frame,
    mend_frame,
    reopen,
    with_mended_source,
)
from xsphere.blocks.executors import chosen_executor
from xsphere.blocks.layout import Block
from xsphere.blocks.ledger import (
    LEDGER,
    UNREAD,
    checksum,
    checksum_columns,
    class_counts,
    counts_by_class,
    done,
    on_devices,
    read_ledger,
    read_row,
)
from xsphere.blocks.progress import Show
from xsphere.blocks.state import State, open_state, store_path
from xsphere.blocks.writing import (
    WriteReport,
    check_source,
    finished,
    missing_blocks,
    partial_files,
    run_blocks,
)
from xsphere.notices import shortened

# partial files of a live process are younger
STALE_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """What was found in a store.

    Parameters
    ----------
    path : Path
        The store.
    status : str
        ``writing`` or ``complete``.
    n_blocks : int
        All blocks.
    damaged : dict of int to str
        Blocks that were written, but are not what was written, and why.
    not_computed : tuple of int
        Blocks that were never written.
    damaged_variables : dict of str to str
        Coordinates and other variables that were written at once, files of metadata and the
        counts of classes, and what is wrong with them.
    stale : tuple of Path
        What processes that died left behind; it does no harm.

    Examples
    --------
    >>> report = StoreReport(path=Path("m.zarr"), status="complete", n_blocks=9,
    ...                      damaged={3: "mask: its chunk is missing"})
    >>> report.ok
    False
    >>> print(report)
    m.zarr: complete, 9 blocks, 1 damaged, 0 not computed
      block 3: mask: its chunk is missing
    """

    path: Path
    status: str
    n_blocks: int
    damaged: dict[int, str]
    not_computed: tuple[int, ...] = ()
    damaged_variables: dict[str, str] | None = None
    stale: tuple[Path, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the store is complete and every value in it is the one that was written."""
        sound = not (self.damaged or self.not_computed or self.damaged_variables)
        return sound and self.status == "complete"

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.status}, {self.n_blocks} blocks, {len(self.damaged)} damaged, "
            f"{len(self.not_computed)} not computed"
        ]
        lines += [f"  block {index}: {reason}" for index, reason in self.damaged.items()]
        lines += [f"  {name}: {why}" for name, why in (self.damaged_variables or {}).items()]
        lines += [f"  left over, harmless: {path}" for path in self.stale]
        return "\n".join(lines)


def verify_store(path: str | Path, *, workers: int = 4) -> StoreReport:
    """Every block of a store read again and compared with the checksum taken when it was computed.

    Parameters
    ----------
    path : str or Path
        A store that `write_blocks` wrote, complete or not.
    workers : int
        Blocks read at a time.

    Returns
    -------
    StoreReport
        Blocks that are damaged or missing; nothing is changed.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StoreError
        If it is no such store, or its metadata are damaged.

    Examples
    --------
    >>> import tempfile
    >>> from xsphere.blocks import write_blocks
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> _ = write_blocks(xr.DataArray([1.0, 2.0], dims="time", name="x"), path)
    >>> verify_store(path).ok
    True
    """
    state = open_state(store_path(path), mode="r")
    rows_there = state.present(LEDGER)
    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip(state.layout.blocks, pool.map(_Reader(state), _known(state)), strict=True))
    stale = partial_files(state.path, time.time() - STALE_SECONDS) + leftovers(state.path)
    return StoreReport(
        path=state.path,
        status=state.status,
        n_blocks=len(found),
        damaged={block.index: reason for block, reason in found.items() if reason},
        not_computed=tuple(int(index) for index in np.flatnonzero(~rows_there)),
        damaged_variables=damaged_frame(state) | _wrong_counts(state),
        stale=tuple(stale),
    )


def _wrong_counts(state: State) -> dict[str, str]:
    """Whether the counts of a complete store are not those of a ledger that is whole."""
    rows = read_ledger(state.arrays[LEDGER], state.layout)
    if state.status != "complete" or not done(rows, state.layout).all():
        return {}
    summed, recorded = counts_by_class(rows.sum(axis=0), state.layout), state.attributes["counts"]
    return {} if summed == recorded else {"counts": f"they are {recorded}, the ledger has {summed}"}


def _known(state: State) -> Iterator[tuple[Block, bool]]:
    """Blocks, and whether the ledger knows of them."""
    return zip(state.layout.blocks, state.present(LEDGER).tolist(), strict=True)


class _Reader:
    """Says of one block what is wrong with it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.columns = checksum_columns(state.layout)
        self.variables = {variable.name: variable for variable in state.layout.variables}

    def __call__(self, known: tuple[Block, bool]) -> str:
        block, there = known
        if not there:
            return ""
        row = read_row(self.state.arrays[LEDGER], block.index)
        if not done(row[None], self.state.layout)[0]:
            return "its row in the ledger is damaged"
        if not on_devices(row[None], self.state.devices)[0]:
            return f"it was computed on other devices than those of the store, {self.state.devices}"
        reasons = (self._reason(name, block, row) for name in self.columns)
        return "; ".join(reason for reason in reasons if reason)

    def _reason(self, name: str, block: Block, row: Any) -> str:
        if not self.state.chunk_file(name, block.index).is_file():
            return f"{name}: its chunk is missing"
        try:
            values = np.asarray(self.state.arrays[name][block.steps])
        except UNREAD:
            raise
        # each codec complains in its own words
        except Exception as error:
            return f"{name}: it cannot be read ({type(error).__name__}: {shortened(error)})"
        variable, start = self.variables[name], self.columns[name]
        entries = [checksum(values), *class_counts(values, variable)]
        if entries != row[start : start + len(entries)].tolist():
            return f"{name}: its values are not those that were written"
        return ""


def repair_store(
    path: str | Path,
    obj: xr.Dataset | xr.DataArray,
    *,
    mended_source: bool = False,
    workers: int | None = None,
    client: Any = None,
    retries: int = 2,
    progress: str | Show | None = None,
) -> WriteReport:
    """A store whose damaged and missing blocks are computed again; no other is touched.

    Parameters
    ----------
    path : str or Path
        A store that `write_blocks` wrote.
    obj : Dataset or DataArray
        What was written: the same run, made anew.
    mended_source, workers, client, retries, progress
        As for `write_blocks`.

    Returns
    -------
    WriteReport
        What was done; the store is complete.

    Raises
    ------
    OtherRunError
        If `obj` is of another run than the store.
    FileNotFoundError
        If there is nothing at `path`.
    StoreError
        If it is no such store, or its metadata are damaged.

    Examples
    --------
    >>> import tempfile
    >>> from xsphere.blocks import write_blocks
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> array = xr.DataArray([1.0, 2.0, 3.0], dims="time", name="x").chunk(time=1)
    >>> _ = write_blocks(array, path)
    >>> (path / "x" / "c" / "1").unlink()
    >>> repair_store(path, array).written
    1
    """
    run = chosen_executor(workers, client)
    began = time.time()
    state = open_state(store_path(path))
    plan = Plan(obj)
    if mended_source:
        state = with_mended_source(plan, state)
    check_same_description(plan, state)
    if damaged_frame(state):
        # first, since by wrong metadata sound blocks look damaged
        state = mend_frame(plan, reopen(state))
    report = verify_store(path)
    if report.damaged or report.damaged_variables:
        # from here on nobody takes it for complete, should this run be stopped
        state = reopen(state)
    for index in report.damaged:
        # no row: not done. It is not set to zero, so that a row is always that of a block
        state.chunk_file(LEDGER, index).unlink(missing_ok=True)
    todo = missing_blocks(state)
    tally = run_blocks(plan, state, todo, run, retries=retries, progress=progress)
    check_source(plan, state.path)
    return finished(state.path, tally, began)
