"""A store before its first block: made, found to be of the same run, extended or repaired."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from xsphere.atomic import built_beside
from xsphere.blocks.errors import OtherRunError, StoreError
from xsphere.blocks.graphs import block_tasks
from xsphere.blocks.opened import (
    SCHEMA,
    UNFINISHED,
    BlockStore,
    Books,
    changed_places,
    opened,
    read_books,
    write_frame,
)
from xsphere.blocks.rows import ABOUT, on_devices
from xsphere.blocks.target import Target, differences
from xsphere.blocks.task import brought_here
from xsphere.locations import Location
from xsphere.outputs import check_output, replace_remote


def create_store(target: Target, location: Location, *, overwrite: bool) -> Books:
    """Make a store with all but its blocks, in place of what is there only if asked."""
    check_output(location, [target.ds], folder=True, overwrite=overwrite)
    books, frame = _bookkeeping(target), target.frame()
    if location.local is None:
        if location.exists():
            if not overwrite:
                raise FileExistsError(f"{location} is there already: another process was first")
            replace_remote(location)
        return write_frame(location, books, frame)
    with built_beside(location.local, folder=True, replace=overwrite) as beside:
        return write_frame(Location(str(beside)), books, frame)


def _bookkeeping(target: Target) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": "writing",
        "array": target.array,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": _version(),
        "source": target.source(),
        **_about(target),
    }


def _about(target: Target) -> dict[str, Any]:
    """What changes with the length of the result."""
    n_blocks = len(target.layout.blocks)
    sizes = {"size": target.layout.size, "blocks": n_blocks}
    return sizes | {"identity": target.identity, "times": target.times} | target.description


def _version() -> str:
    try:
        return version("xsphere")
    except PackageNotFoundError:
        return "unknown"


def start_writing(
    target: Target,
    location: Location,
    *,
    resume: bool,
    overwrite: bool,
    append: bool,
    repaired_source: bool,
) -> tuple[Target, BlockStore]:
    """Return the target, with times encoded as in the store, and the store, created if needed."""
    if overwrite or not location.exists():
        try:
            books = create_store(target, location, overwrite=overwrite)
            return target, opened(location, books)
        except OSError:
            # another process may have made the same store just now
            if overwrite or not location.exists():
                raise
    elif not (resume or append):
        raise FileExistsError(
            f"{location} is there already; leave resume=True to go on with it, choose another "
            "name or overwrite it"
        )
    books = read_books(location)
    target = target.with_times(books["times"])
    read = check_same_run(target, books, location, append=append, repaired_source=repaired_source)
    if target.layout.size > books["size"]:
        check_old_part(target, books, location, read["source"], repaired_source=repaired_source)
    elif UNFINISHED not in books:
        store = opened(location, books)
        _check_untouched(store)
        return target, store if read == {} else store.with_books(**read)
    extended = books | read | _about(target)
    return target, opened(location, write_frame(location, extended, target.frame()))


def check_same_run(
    target: Target, books: Books, location: Location, *, append: bool, repaired_source: bool
) -> dict[str, Any]:
    """Refuse a store of another run; what the source is now, where the store is to know it."""
    size, grows = books["size"], append and target.layout.size > books["size"]
    part = target.description_of(size)
    ours = part if grows else target.description
    theirs = {key: books[key] for key in ours}
    if grows:
        # what dask calls a result is another name for a longer one
        ours, theirs = ({**d, "run": _ungraphed(d["run"])} for d in (ours, theirs))
    found = differences(ours, theirs)
    now, before = target.source(), books["source"]
    changed = [] if grows else changed_places(now, before)
    if found or (changed and not repaired_source):
        remedies = ["Write to another path, or replace the store with overwrite=True"]
        if not found:
            remedies.append("if the source was only repaired, resume with repaired_source=True")
        elif not append and target.layout.size > size and not differences(part, theirs):
            remedies.append("to add the new steps to what is there, say append=True")
        elif append and target.layout.size < size:
            remedies.append("append=True never makes a store shorter")
        found += [f"source: {place} has changed since the store was begun" for place in changed]
        raise OtherRunError(
            f"{location} holds another run:\n  " + "\n  ".join(found) + "\n" + "; ".join(remedies)
        )
    earlier = {"earlier sources": [*books.get("earlier sources", []), before]} if changed else {}
    return {"source": now, **earlier} if grows or changed else {}


def _ungraphed(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run without the names that dask gave its results."""
    return {
        key: _ungraphed(value) if isinstance(value, Mapping) else value
        for key, value in run.items()
        if key != "graph"
    }


def check_old_part(
    target: Target,
    books: Books,
    location: Location,
    source: Mapping[str, str],
    *,
    repaired_source: bool,
) -> None:
    """Refuse to extend a store where what it was made of has changed, as far as that can be told.

    Where the old part of the source can be told from the new one, it is compared; else the first
    and the last whole block are computed and compared.
    """
    if UNFINISHED in books:
        return  # who began to extend it has looked
    store = opened(location, books, read_only=True)
    _check_untouched(store)
    before, part = books["source"], target.source(books["size"])
    if before and {*before.values()} <= {*part.values()}:
        return
    changed = changed_places({p: d for p, d in part.items() if source.get(p) != d}, before)
    if changed and not repaired_source:
        raise OtherRunError(
            f"{location} is not extended: the source of what is there has changed ({changed}). If "
            "it was only repaired, or its last chunk has grown, say repaired_source=True; else "
            "write to another path, or replace the store with overwrite=True"
        )
    whole = [b for b in store.layout.blocks if b.stop - b.start == store.layout.step]
    there = [block for block in {*whole[:1], *whole[-1:]} if store.done()[block.index]]
    for task in block_tasks(target, location, there, retries=0):
        _, row, _ = brought_here(task).computed()
        ours, theirs = row[len(ABOUT) :], store.rows[task.block.index, len(ABOUT) :]
        if on_devices(row[None], store.devices)[0] and ours.tolist() != theirs.tolist():
            raise OtherRunError(
                f"{location} is not extended: {task.label} has other values now, so the source or "
                "what is done with it has changed. Write to another path, or replace the store "
                "with overwrite=True"
            )


def _check_untouched(store: BlockStore) -> None:
    damaged = [f"{name}: {reason}" for name, reason in store.damaged_frame().items()]
    if damaged:
        raise OtherRunError(
            f"{store.location} was changed since it was written:\n  "
            + "\n  ".join(damaged)
            + "\nMend it with repair_store, or replace the store with overwrite=True"
        )


def with_frame(target: Target, books: Books, location: Location) -> BlockStore:
    """The store with all but its blocks and their rows as they should be."""
    if UNFINISHED not in books:
        with suppress(StoreError):
            store = opened(location, books)
            if not store.damaged_frame():
                return store
    return opened(location, write_frame(location, books, target.frame()))
