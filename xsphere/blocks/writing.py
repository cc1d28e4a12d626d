"""Results written block by block: what is done stays done, whatever happens to the run."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.atomic import older, remove_leftovers
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
from xsphere.blocks.layout import Block
from xsphere.blocks.opened import BlockStore, changed_places, open_store
from xsphere.blocks.progress import Show, Tally, shown
from xsphere.blocks.rows import counts_by_class
from xsphere.blocks.starting import start_writing
from xsphere.blocks.target import Target
from xsphere.locations import Location, location
from xsphere.notices import shortened
from xsphere.sources import SourceChangedError

# no process writes so long at one file without a sign of life
WRITING_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class WriteReport:
    """What a run wrote.

    Parameters
    ----------
    path : Path or str
        The store: a folder, or a URL.
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

    path: Path | str
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


def write_blocks(  # noqa: PLR0913 what a run may be told
    obj: xr.Dataset | xr.DataArray,
    path: str | Path | Location,
    *,
    resume: bool = True,
    overwrite: bool = False,
    append: bool = False,
    repaired_source: bool = False,
    workers: int | None = None,
    client: Any = None,
    retries: int = 2,
    progress: str | Show | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> WriteReport:
    """A Zarr store of a lazy result, written block by block so that no block is computed twice.

    A block is a dask chunk along the first dimension. Each is computed and written by itself, as
    one chunk of the store with a checksum; a row in the store says that it is done. A run that
    stops, however it stops, is resumed by the same call. The bytes of the blocks do not
    depend on who computed them, if all have CPUs of one kind and the same versions of the
    libraries, nor on how often the run was stopped.

    Parameters
    ----------
    obj : Dataset or DataArray
        A mask, probabilities or fields on any grid, in chunks along the first dimension only.
        Variables in memory and coordinates are written before the first block.
    path : str, Path or zarr.abc.store.Store
        A folder or URL (``s3://``, ``gs://``) that ends in ``.zarr``, or a store of Zarr; on a
        cluster, one that all workers see.
    resume : bool
        Whether to go on with a store that is there, if it is of the same run.
    overwrite : bool
        Whether to replace what is there, if xsphere wrote it. A folder is replaced in one step
        before the first block; an object store, where nothing can be renamed, is first marked as
        not complete, then emptied, then written.
    append : bool
        Whether to extend what is there, where the result has more steps now: the run, all
        coordinates and the blocks must be those of before. See the notes.
    repaired_source : bool
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
    storage_options : dict, optional
        For fsspec, where `path` is a URL, as `xarray.open_zarr` has them.

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
        If the source was changed since the store was begun: the store stays as it is, but is not
        declared complete.
    ImportError
        If the driver of a URL is not installed.
    InterruptedRun
        At Ctrl-C, once the blocks in hand are written; a second Ctrl-C leaves at once. The command
        ``xsphere`` treats SIGTERM as Ctrl-C; a program of yours may do so too.

    Notes
    -----
    A run is recognised by the attribute ``xsphere_run`` (the text of a JSON object) of the result
    or, where there is none, by the names that dask gives its arrays. What its source holds is
    looked at when writing starts, again when it is resumed, and when it ends.

    The array ``_xsphere/blocks`` of the store, which any reader of Zarr can read, has a row for
    each block; its attribute ``columns`` names what is in it: when the block was written, its
    length, a checksum, and the cells of each class.

    With `append`, blocks that are there are kept, but the last if it has grown. The source of the
    old part is compared where it can be told from the new one (`repaired_source` goes on where only
    its last chunk has grown), else the first and last whole block are computed again and compared.
    Meanwhile readers find the old length, or the new one of a
    store that is not complete; a run that stops is finished by the same call.

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
    if type(retries) is not int or retries < 0:
        raise ValueError(f"retries must be an integer of 0 or more, got {shortened(retries)}")
    if append and overwrite:
        raise ValueError("expected append=True or overwrite=True, got both; give one")
    place = location(path, storage_options=storage_options)
    run = chosen_executor(workers, client, shared=place.shared)
    began = time.time()
    target, store = start_writing(
        Target(obj),
        place,
        resume=resume,
        overwrite=overwrite,
        append=append,
        repaired_source=repaired_source,
    )
    if place.local is not None:
        remove_leftovers(place.local)
    tally = run_blocks(target, store, store.missing_blocks(), run, retries, progress)
    return finished(target, store, tally, began)


def run_blocks(
    target: Target,
    store: BlockStore,
    todo: Sequence[Block],
    run: Executor,
    retries: int,
    progress: str | Show | None,
) -> Tally:
    """Compute and write blocks; what is left to say of them."""
    tally = Tally(store.layout)
    if not todo:
        return tally
    if store.is_complete:
        # nobody is to take it for complete
        store = store.with_books(status="writing")
    failures: list[BlockFailure] = []
    n_blocks = len(store.layout.blocks)
    already = n_blocks - len(todo)
    tasks = block_tasks(target, store.location, todo, retries=retries)
    with (
        _stopped_in_order(store),
        shown(progress, already, n_blocks) as show,
        closing(run(tasks)) as outcomes,
    ):
        for outcome in outcomes:
            if isinstance(outcome, BlockFailure):
                # where one cannot be written, none can
                if isinstance(outcome.error, StoreWriteError | StoreError):
                    raise outcome.error
                failures.append(outcome)
            else:
                tally.add(outcome)
                show(tally.progress(already))
    if failures:
        failures.sort(key=lambda failure: failure.index)
        raise BlocksFailed(store.location.path, failures, n_blocks) from failures[0].error
    return tally


@contextmanager
def _stopped_in_order(store: BlockStore) -> Iterator[None]:
    """Ctrl-C as an error that says how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        n_there, n_blocks = int(store.present_blocks().sum()), len(store.layout.blocks)
        raise InterruptedRun(
            f"stopped with {n_there} of {n_blocks} blocks in {store.location}; call "
            "again with the same path to go on with the others"
        ) from error


def finished(target: Target, store: BlockStore, tally: Tally, began: float) -> WriteReport:
    """Declare a store complete, once all its rows are there and its source is what it was."""
    place = store.location
    changed = changed_places(target.source(), store.books["source"])
    if changed:
        raise SourceChangedError(
            f"the source has changed since the store was begun (seen in {changed}), so blocks of "
            f"{place} may be of other data. They are kept, and the store is not complete. Open the "
            "source again and write with overwrite=True; or with repaired_source=True, if what was "
            "read before is still right"
        )
    store = open_store(place)
    n_missing = len(store.missing_blocks())
    if n_missing:
        raise IncompleteStoreError(
            f"{n_missing} of {len(store.layout.blocks)} blocks of {place} are missing though all "
            "were written: another process removed them; call again with the same path"
        )
    counts = counts_by_class(store.rows.sum(axis=0), store.layout)
    if place.local is not None:
        for file in partial_files(place.local, max(began, time.time() - WRITING_SECONDS)):
            file.unlink(missing_ok=True)
    if not store.is_complete:
        # the last write: whoever sees it sees all before it
        store.with_books(status="complete", counts=counts)
    return WriteReport(
        path=place.path,
        n_blocks=len(store.layout.blocks),
        written=tally.n_blocks,
        n_steps=tally.n_steps,
        n_bytes=tally.n_bytes,
        seconds=tally.elapsed,
        stages=tally.seconds,
        counts=counts,
    )


def partial_files(path: Path, before: float) -> list[Path]:
    """Files that a process was writing when it was killed, those of live ones excepted."""
    return older(path.rglob("*.partial"), before)
