"""Results written block by block: what is done stays done, whatever happens to the run."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.atomic import older, remove_leftovers
from xsphere.blocks.creation import Plan, reopen, start_writing
from xsphere.blocks.errors import (
    BlockFailure,
    BlocksFailed,
    IncompleteStoreError,
    InterruptedRun,
    StoreError,
    StoreWriteError,
)
from xsphere.blocks.executors import Executor, chosen_executor
from xsphere.blocks.graphs import block_tasks
from xsphere.blocks.identity import changed_sources
from xsphere.blocks.layout import Block
from xsphere.blocks.ledger import LEDGER, counts_by_class, done, on_devices, read_ledger
from xsphere.blocks.progress import Show, Tally, shown
from xsphere.blocks.state import State, set_status, store_path
from xsphere.notices import shortened
from xsphere.sources import SourceChangedError

# no process writes so long at one file without a sign of life
WRITING_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class WriteReport:
    """What a run wrote.

    Parameters
    ----------
    path : Path
        The store.
    n_blocks : int
        All blocks of the store.
    written : int
        Those that this run computed; the others were there.
    n_steps : int
        Length of those along the first dimension.
    n_bytes : int
        Of their values, before compression.
    seconds : float
        From beginning to end.
    stages : dict of str to float
        Seconds by stage, summed over workers.
    counts : dict
        Cells of the whole store by mask and class.

    Examples
    --------
    >>> report = WriteReport(path=Path("m.zarr"), n_blocks=4, written=3, n_steps=12, n_bytes=10**6,
    ...                      seconds=2.0, stages={"compute": 1.9, "write": 0.1}, counts={})
    >>> print(report)
    m.zarr: complete, 4 blocks, 3 of them computed now: 12 steps in 2.0 s (6.0 a second)
    """

    path: Path
    n_blocks: int
    written: int
    n_steps: int
    n_bytes: int
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"{self.path}: complete, {self.n_blocks} blocks"
        if not self.written:
            return f"{head}, all there before"
        rate = self.n_steps / max(self.seconds, 1e-9)
        return (
            f"{head}, {self.written} of them computed now: {self.n_steps} steps in "
            f"{self.seconds:.1f} s ({rate:.1f} a second)"
        )


def write_blocks(
    obj: xr.Dataset | xr.DataArray,
    path: str | Path,
    *,
    resume: bool = True,
    overwrite: bool = False,
    mended_source: bool = False,
    workers: int | None = None,
    client: Any = None,
    retries: int = 2,
    progress: str | Show | None = None,
) -> WriteReport:
    """A Zarr store of a lazy result, written block by block so that no block is computed twice.

    A block is a dask chunk along the first dimension. Each is computed and written by itself, as
    one chunk of the store with a checksum; a ledger in the store says what is done. A run that
    stops, however it stops, is gone on with by the same call. The bytes of the blocks do not
    depend on who computed them, if all have CPUs of one kind and the same versions of the
    libraries, nor on how often the run was stopped.

    Parameters
    ----------
    obj : Dataset or DataArray
        A mask, probabilities or fields on any grid, in chunks along the first dimension only.
        Variables in memory and coordinates are written before the first block.
    path : str or Path
        A folder that ends in ``.zarr``; on a cluster, one that all workers share.
    resume : bool
        Whether to go on with a store that is there, if it is of the same run.
    overwrite : bool
        Whether to replace what is there, whatever it is.
    mended_source : bool
        Whether to go on with a store whose source has changed since, if nothing else has: for
        a source of which a damaged or missing part was put right. Blocks that are there stay as
        they are; what the source was before is kept in the attributes of the store.
    workers : int, optional
        Threads of this process; as many blocks are in memory at a time.
    client : distributed.Client, optional
        A Dask cluster. If neither is given, the active one, else a thread for each core.
    retries : int
        How often a block is tried again after an error of the file system or the network.
    progress : str or callable, optional
        Title of a progress bar, or a function that is called with a `Progress` after each block.

    Returns
    -------
    WriteReport
        What was done; the store is complete.

    Raises
    ------
    ValueError
        If the result cannot be cut into blocks.
    OtherRunError
        If the store is of another run, model, source, layout or coordinates (all are listed), or
        becomes one while it is written to.
    FileExistsError
        If something is there and `resume` is not set.
    StoreError
        If what is there is not a store of blocks.
    StoreWriteError
        If the disk is full or cannot be written to: no further block is begun.
    BlocksFailed
        If blocks could not be computed; the others are in the store.
    SourceChangedError
        If the source was changed since the result was made: the store stays as it is, but is not
        declared complete.
    InterruptedRun
        At Ctrl-C, once the blocks in hand are written; a second Ctrl-C leaves at once. The command
        ``xsphere`` treats SIGTERM as Ctrl-C; a program of yours may do so too.

    Notes
    -----
    A run is recognised by the attribute ``xsphere_run`` (the text of a JSON object) of the result
    or, where there is none, by the names that dask gives its arrays; those do not change when a
    source is changed in place.

    With `overwrite`, what is there is removed before the first block: a result that is computed
    from it needs another path.

    Two runs that write the same store at once do no harm: both write the same bytes, each chunk in
    one step. Writes survive the death of a process, not a loss of power.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> array = xr.DataArray([1.0, 2.0, 3.0], dims="time", name="x").chunk(time=2)
    >>> write_blocks(array, path).written
    2
    >>> write_blocks(array, path).written
    0
    """
    run = chosen_executor(workers, client)
    if type(retries) is not int or retries < 0:
        raise ValueError(f"retries must be an integer of 0 or more, got {shortened(retries)}")
    began = time.time()
    place = store_path(path)
    plan = Plan(obj)
    state = start_writing(
        plan, place, resume=resume, overwrite=overwrite, mended_source=mended_source
    )
    remove_leftovers(place)
    tally = run_blocks(plan, state, missing_blocks(state), run, retries=retries, progress=progress)
    check_source(plan, place)
    return finished(state.path, tally, began)


def check_source(plan: Plan, path: Path) -> None:
    """Refuse to declare a store complete whose source is not what it was when the run was made."""
    changed = changed_sources(plan.ds, plan.layout, plan.description)
    if changed:
        raise SourceChangedError(
            f"the source has changed since the result was made (seen in {changed}), so blocks of "
            f"{path} may be of other data. They are kept, and the store is not complete. Open the "
            "source again and write with overwrite=True; or with mended_source=True, if what was "
            "read before is still right"
        )


def missing_blocks(state: State) -> list[Block]:
    """Blocks that are not done: without a row in the ledger, a file, or on another device."""
    there = _done(state, read_ledger(state.arrays[LEDGER], state.layout))
    return [block for block in state.layout.blocks if not there[block.index]]


def _done(state: State, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    known = done(rows, state.layout) & on_devices(rows, state.devices)
    there: NDArray[np.bool_] = known & state.present_blocks()
    return there


def run_blocks(
    plan: Plan,
    state: State,
    todo: Sequence[Block],
    run: Executor,
    *,
    retries: int,
    progress: str | Show | None,
) -> Tally:
    """Compute and write blocks; what is left to say of them."""
    tally = Tally(state.layout)
    if not todo:
        return tally
    state = reopen(state)
    failures: list[BlockFailure] = []
    already = len(state.layout.blocks) - len(todo)
    tasks = block_tasks(plan, state, todo, retries=retries)
    n_blocks = len(state.layout.blocks)
    with (
        _stopped_in_order(state),
        shown(progress, already, n_blocks) as show,
        closing(run(tasks)) as outcomes,
    ):
        for outcome in outcomes:
            if isinstance(outcome, BlockFailure):
                _raise_if_in_vain(outcome)
                failures.append(outcome)
            else:
                tally.add(outcome)
                show(tally.progress(already))
    if failures:
        failures.sort(key=lambda failure: failure.index)
        raise BlocksFailed(state.path, failures, n_blocks) from failures[0].error
    return tally


def _raise_if_in_vain(failure: BlockFailure) -> None:
    if isinstance(failure.error, StoreWriteError | StoreError):
        raise failure.error


@contextmanager
def _stopped_in_order(state: State) -> Iterator[None]:
    """Ctrl-C as an error that says how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        n_there, n_blocks = int(state.present_blocks().sum()), len(state.layout.blocks)
        raise InterruptedRun(
            f"stopped with {n_there} of {n_blocks} blocks in {state.path}; call "
            "again with the same path to go on with the others"
        ) from error


def finished(path: Path, tally: Tally, began: float) -> WriteReport:
    """Declare a store complete, once its ledger is full."""
    from xsphere.blocks.state import open_state

    state = open_state(path)
    rows = read_ledger(state.arrays[LEDGER], state.layout)
    n_missing = int((~_done(state, rows)).sum())
    if n_missing:
        raise IncompleteStoreError(
            f"{n_missing} of {len(state.layout.blocks)} blocks of {path} are missing though all "
            "were written: another process removed them; call again with the same path"
        )
    counts = counts_by_class(rows.sum(axis=0), state.layout)
    _remove_partial_files(path, max(began, time.time() - WRITING_SECONDS))
    if state.status != "complete":
        # the last write: whoever sees it sees all before it
        set_status(state, "complete", counts=counts)
    return WriteReport(
        path=path,
        n_blocks=len(state.layout.blocks),
        written=tally.n_blocks,
        n_steps=tally.n_steps,
        n_bytes=tally.n_bytes,
        seconds=tally.elapsed,
        stages=tally.seconds,
        counts=counts,
    )


def _remove_partial_files(path: Path, before: float) -> None:
    for file in partial_files(path, before):
        file.unlink(missing_ok=True)


def partial_files(path: Path, before: float) -> list[Path]:
    """Files that a process was writing when it was killed, those of live ones excepted."""
    return older(path.rglob("*.partial"), before)
