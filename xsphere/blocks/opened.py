"""A store of blocks as it lies there: its bookkeeping, its arrays, and which of its objects exist.

The bookkeeping is an attribute of a group of its own, so that the data have none that only Zarr can
hold. It has a digest of itself, and one of each other object of metadata: no bit of them can change
unnoticed.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.blocks.errors import IncompleteStoreError, StoreError
from xsphere.blocks.layout import Block, BlockLayout
from xsphere.blocks.rows import ROWS, UNREAD, done, read_rows
from xsphere.blocks.target import summary
from xsphere.cache import content_key
from xsphere.locations import Location
from xsphere.notices import shortened
from xsphere.outputs import BOOKS

# of the bookkeeping: raise it when its fields change
SCHEMA = 3
ATTRIBUTE = "xsphere"
# there while all but the blocks is written
UNFINISHED = "in the making"
KEYS = (
    "status", "size", "blocks", "identity", "times", "run", "layout", "written whole", "metadata",
    "source",
)  # fmt: skip
# each is at least two objects
MAX_BLOCKS = 10**7

Books = Mapping[str, Any]


@dataclass(frozen=True)
class BlockStore:
    """An opened store."""

    location: Location
    books: Books = field(repr=False)
    layout: BlockLayout
    group: Any = field(repr=False)
    # rows and the variables that are written in blocks
    arrays: Mapping[str, Any] = field(repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether all its blocks were written."""
        return bool(self.books["status"] == "complete")

    @property
    def devices(self) -> str:
        """Kinds of devices that its blocks were computed on, as far as that changes bits."""
        return str(self.books.get("devices", ""))

    @cached_property
    def rows(self) -> NDArray[np.uint64]:
        """The row of each block, read once."""
        return read_rows(self.arrays[ROWS], self.layout)

    def done(self) -> NDArray[np.bool_]:
        """Which blocks are done by their rows."""
        return done(self.rows, self.layout, self.devices)

    def chunk(self, name: str, index: int) -> str:
        """Name of the object that holds a block of a variable, or its row."""
        return f"{name}/{_chunk_key(self.arrays[name], index)}"

    def present(self, name: str) -> NDArray[np.bool_]:
        """Which blocks of a variable, or rows, have an object."""
        array = self.arrays[name]
        keys = [_chunk_key(array, block.index) for block in self.layout.blocks]
        return np.array(self.location.has(name, keys), bool)

    def present_blocks(self) -> NDArray[np.bool_]:
        """Which blocks have all their objects, their row included."""
        names = [ROWS, *(variable.name for variable in self.layout.variables)]
        here: NDArray[np.bool_] = np.all([self.present(name) for name in names], axis=0)
        return here

    def missing_blocks(self) -> list[Block]:
        """Blocks that are not done: without a row or an object, or of another device or length."""
        there = self.done() & self.present_blocks()
        return [block for block in self.layout.blocks if not there[block.index]]

    def with_books(self, **changed: Any) -> "BlockStore":
        """The store with other bookkeeping, written in one step."""
        books = {**self.books, **changed}
        write_books(self.location, books)
        return replace(self, books=books)

    def damaged_metadata(self) -> dict[str, str]:
        """Damaged or missing objects of metadata, by name, with the reason."""
        wrong = {}
        for key, digest in self.books["metadata"].items():
            content = self.location.read(key)
            if content is None:
                wrong[key] = "it is missing"
            elif _sha256(content) != digest:
                wrong[key] = "it was changed since it was written"
        return wrong

    def damaged_frame(self) -> dict[str, str]:
        """Damage outside the blocks and their rows, by variable or object of metadata."""
        wrong = self.damaged_metadata()
        for name, expected in self.books["written whole"].items():
            found, reason = self.read(partial(self._summary, name))
            if reason:
                wrong[name] = reason
            elif found != expected:
                wrong[name] = f"it was written as {expected}, and is now {found}"
        return wrong

    def read(self, action: Any) -> tuple[Any, str]:
        """What an action reads, or None and why it cannot be read."""
        try:
            with self.location.errors("read"):
                return action(), ""
        except UNREAD as error:
            if not isinstance(error, FileNotFoundError):
                raise
            found: Exception = error
        # a missing array, a missing chunk or any complaint of a codec
        except Exception as error:
            found = error
        return None, f"it cannot be read ({type(found).__name__}: {shortened(found)})"

    def _summary(self, name: str) -> str:
        array = self.group[name]
        return summary(np.asarray(array[...]), array.attrs)


def _chunk_key(array: Any, index: int) -> str:
    return str(array.metadata.encode_chunk_key((index,) + (0,) * (array.ndim - 1)))


def open_store(location: Location, *, read_only: bool = False) -> BlockStore:
    """The store at a place: only its metadata are read.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    IncompleteStoreError
        If it is just being made or extended, or a run died in that moment.
    StoreError
        If it is not a store that was written block by block, or its metadata are damaged.

    Examples
    --------
    >>> open_store(Location("/nowhere/x.zarr"))
    Traceback (most recent call last):
    FileNotFoundError: there is no store at /nowhere/x.zarr; on a cluster ... all workers share
    """
    books = read_books(location)
    if UNFINISHED in books:
        raise IncompleteStoreError(
            f"{location} is being made or extended, or a run died in that moment; go on with the "
            "call that wrote it"
        )
    return opened(location, books, read_only=read_only)


def opened(location: Location, books: Books, *, read_only: bool = False) -> BlockStore:
    """A store whose bookkeeping was read."""
    import zarr

    from xsphere.unpacking import bounded

    try:
        layout = BlockLayout.from_description(books["layout"])
        with location.errors("read"):
            group: Any = zarr.open_group(
                location.store(read_only=read_only),
                mode="r" if read_only else "r+",
                zarr_format=3,
                use_consolidated=False,
            )
            names = (ROWS, *(variable.name for variable in layout.variables))
            # also chunks of nothing but the fill value are written: none is missing unless lost
            arrays = {name: bounded(group[name], in_full=True) for name in names}
        _check_consistent(layout, arrays)
    except Exception as error:
        raise _refusal(location, error) from error
    return BlockStore(location, books, layout, group, arrays)


def read_books(location: Location) -> dict[str, Any]:
    """The bookkeeping of a store, if it is sound."""
    content = location.read(BOOKS)
    if content is None and not location.exists():
        raise FileNotFoundError(
            f"there is no store at {location}; on a cluster it must lie in a folder that all "
            "workers share"
        )
    try:
        return _sound_books(content)
    except Exception as error:
        raise _refusal(location, error) from error


def _sound_books(content: bytes | None) -> dict[str, Any]:
    if content is None:
        raise FileNotFoundError(f"it has no {BOOKS}")
    document = json.loads(content)
    books: dict[str, Any] = document["attributes"][ATTRIBUTE]
    if document != _document(books):
        raise ValueError("the group of its bookkeeping is none that xsphere wrote")
    if books["schema"] != SCHEMA:
        raise ValueError(
            f"its bookkeeping has the schema {books['schema']!r}, not {SCHEMA}: another version of "
            "xsphere wrote it"
        )
    if _sealed(books)["digest"] != books["digest"]:
        raise ValueError("its bookkeeping was changed since it was written")
    missing = [key for key in KEYS if key not in books]
    if missing:
        raise KeyError(f"its bookkeeping lacks {missing}")
    _check_numbers(books)
    return books


def _refusal(location: Location, error: Exception) -> Exception:
    """The error of a store that is none: whatever is there instead, zarr has its own for it."""
    lost = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    if isinstance(error, UNREAD) and not lost:
        return error  # a disk that fails says nothing of what is stored
    return StoreError(
        f"{location} is no store that was written block by block, or its metadata are damaged "
        f"({type(error).__name__}: {shortened(error)}); choose another path, or replace it with "
        "overwrite=True"
    )


def write_books(location: Location, books: Books) -> None:
    """Write the bookkeeping of a store, in one step."""
    location.write(BOOKS, json.dumps(_document(_sealed(books)), indent=2).encode())


def _document(books: Books) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTE: books}}


def _sealed(books: Books) -> dict[str, Any]:
    """Bookkeeping with a digest of itself."""
    rest = {key: value for key, value in books.items() if key != "digest"}
    return {**rest, "digest": content_key(rest)}


def write_frame(location: Location, books: Books, frame: Mapping[str, bytes]) -> dict[str, Any]:
    """Write all but the blocks; who dies meanwhile leaves a store that says so, and is finished."""
    metadata = {key: _sha256(frame[key]) for key in frame if key.endswith("zarr.json")}
    whole = {**books, "status": "writing", "metadata": metadata}
    whole.pop(UNFINISHED, None)
    write_books(location, {**whole, UNFINISHED: True})
    for key, content in frame.items():
        location.write(key, content)
    write_books(location, whole)
    return whole


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_numbers(books: Books) -> None:
    """Refuse lengths that cannot be, before there is a list of blocks."""
    layout = BlockLayout.from_description(books["layout"])
    if type(layout.step) is not int or layout.step < 1:
        raise ValueError(f"blocks must have a length of 1 or more, got {shortened(layout.step)}")
    some = any(math.prod(variable.shape) for variable in layout.variables)
    n_blocks = -(-layout.size // layout.step) if some else 0
    if n_blocks > MAX_BLOCKS:
        raise ValueError(f"it claims {n_blocks} blocks, more than {MAX_BLOCKS}")
    if (books["blocks"], books["size"]) != (n_blocks, layout.size):
        raise ValueError(f"it has blocks: {books['blocks']}, not {n_blocks}, or another length")


def _check_consistent(layout: BlockLayout, arrays: Mapping[str, Any]) -> None:
    """Refuse bookkeeping that does not fit the arrays: by it, nothing need be missing."""
    expected: dict[str, Any] = {"rows": len(layout.blocks)}
    found: dict[str, Any] = {"rows": arrays[ROWS].shape[0]}
    for variable in layout.variables:
        array = arrays[variable.name]
        expected[variable.name] = (variable.shape, layout.step)
        found[variable.name] = (array.shape, array.chunks[0])
    wrong = [f"{k}: {found[k]}, not {expected[k]}" for k in expected if found[k] != expected[k]]
    if wrong:
        raise ValueError("its bookkeeping does not fit its arrays: " + "; ".join(wrong))


def changed_places(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Sources whose contents are not what they were, wherever they lie now."""
    known: Iterable[str] = before.values()
    return sorted(place for place, digest in now.items() if before and digest not in known)
