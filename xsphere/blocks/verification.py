"""A store read again in full: what is damaged, what is missing, and only that computed anew."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.atomic import leftovers
from xsphere.blocks.executors import chosen_executor
from xsphere.blocks.layout import Block
from xsphere.blocks.opened import BlockStore, open_store, read_books
from xsphere.blocks.progress import Show
from xsphere.blocks.rows import (
    ROWS,
    STEPS,
    checksum,
    class_counts,
    counts_by_class,
    on_devices,
    variable_columns,
)
from xsphere.blocks.starting import check_same_run, with_frame
from xsphere.blocks.target import Target
from xsphere.blocks.writing import WriteReport, finished, partial_files, run_blocks
from xsphere.locations import location

# partial files of a live process are younger
STALE_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """What was found in a store.

    Parameters
    ----------
    path : Path or str
        The store: a folder, or a URL.
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

    path: Path | str
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


def verify_store(
    path: str | Path, *, workers: int = 4, storage_options: Mapping[str, Any] | None = None
) -> StoreReport:
    """Every block of a store read again and compared with the checksum taken when it was computed.

    Parameters
    ----------
    path : str, Path or zarr.abc.store.Store
        A store that `write_blocks` wrote, complete or not: a folder, a URL, or a store of Zarr.
    workers : int
        Blocks read at a time.
    storage_options : dict, optional
        For fsspec, where `path` is a URL.

    Returns
    -------
    StoreReport
        Blocks that are damaged or missing; nothing is changed.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    IncompleteStoreError
        If a run died in the moment in which it made or extended the store.
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
    place = location(path, "the store", storage_options=storage_options)
    return verified(open_store(place, read_only=True), workers)


def verified(store: BlockStore, workers: int = 4) -> StoreReport:
    """What is found in an opened store."""
    reader = _Reader(store)
    blocks, local = store.layout.blocks, store.location.local
    with ThreadPoolExecutor(workers) as pool:
        reasons = dict(zip(blocks, pool.map(reader, blocks), strict=True))
    stale = [] if local is None else partial_files(local, time.time() - STALE_SECONDS)
    return StoreReport(
        path=store.location.path,
        status=str(store.books["status"]),
        n_blocks=len(blocks),
        damaged={block.index: reason for block, reason in reasons.items() if reason},
        not_computed=tuple(np.flatnonzero(~reader.known).tolist()),
        damaged_variables=store.damaged_frame() | _wrong_counts(store),
        stale=tuple(stale + ([] if local is None else leftovers(local))),
    )


def _wrong_counts(store: BlockStore) -> dict[str, str]:
    """Whether the counts of a complete store are not those of rows that are whole."""
    if not store.is_complete or not store.done().all():
        return {}
    summed, recorded = counts_by_class(store.rows.sum(axis=0), store.layout), store.books["counts"]
    return {} if summed == recorded else {"counts": f"they are {recorded}, the rows have {summed}"}


class _Reader:
    """Says of one block what is wrong with it."""

    def __init__(self, store: BlockStore) -> None:
        self.store, self.layout = store, store.layout
        self.places = variable_columns(store.layout)
        self.chunks = {name: store.present(name) for name in self.places}
        # a row of another length is that of a block that has grown since
        lengths = np.array([b.stop - b.start for b in store.layout.blocks], np.uint64)
        grown = (store.rows[:, STEPS] > 0) & (store.rows[:, STEPS] != lengths)
        self.known: NDArray[np.bool_] = store.present(ROWS) & ~grown
        self.done = store.done()

    def __call__(self, block: Block) -> str:
        row = self.store.rows[block.index]
        if not self.known[block.index]:
            return ""
        if not on_devices(row[None], self.store.devices)[0]:
            return f"it was computed on other devices than those of the store, {self.store.devices}"
        if not self.done[block.index]:
            return "its row is damaged"
        reasons = (self._reason(variable, block, row) for variable in self.layout.variables)
        return "; ".join(reason for reason in reasons if reason)

    def _reason(self, variable: Any, block: Block, row: Any) -> str:
        name = variable.name
        if not self.chunks[name][block.index]:
            return f"{name}: its chunk is missing"
        array = self.store.arrays[name]
        values, reason = self.store.read(lambda: np.asarray(array[block.steps]))
        if reason:
            return f"{name}: {reason}"
        entries = [checksum(values), *class_counts(values, variable)]
        if entries != row[self.places[name]].tolist():
            return f"{name}: its values are not those that were written"
        return ""


def repair_store(
    path: str | Path,
    obj: xr.Dataset | xr.DataArray,
    *,
    repaired_source: bool = False,
    workers: int | None = None,
    client: Any = None,
    retries: int = 2,
    progress: str | Show | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> WriteReport:
    """A store whose damaged and missing blocks are computed again; no other is touched.

    Parameters
    ----------
    path : str, Path or zarr.abc.store.Store
        A store that `write_blocks` wrote.
    obj : Dataset or DataArray
        What was written: the same run, made anew.
    repaired_source, workers, client, retries, progress, storage_options
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
        If it is no such store, or its bookkeeping is damaged.

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
    place = location(path, "the store", storage_options=storage_options)
    run = chosen_executor(workers, client, shared=place.shared)
    began = time.time()
    books = read_books(place)
    target = Target(obj).with_times(books["times"])
    read = check_same_run(target, books, place, append=False, repaired_source=repaired_source)
    # first, since by wrong metadata sound blocks look damaged
    store = with_frame(target, books | read, place)
    report = verified(store)
    if report.damaged or report.damaged_variables or read:
        # from here on nobody takes it for complete, should this run be stopped
        store = store.with_books(status="writing", **read)
    # no row: not done. It is not set to zero, so that a row is always that of a block
    place.delete(*(store.chunk(ROWS, index) for index in report.damaged))
    store = open_store(place)
    tally = run_blocks(target, store, store.missing_blocks(), run, retries, progress)
    return finished(target, store, tally, began)
