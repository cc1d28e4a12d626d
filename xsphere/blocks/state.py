"""A store of blocks as it lies on disk: its bookkeeping, and which of its files are there.

The bookkeeping is an attribute of a group of its own, so that the data have none that only Zarr can
hold. It has a digest of itself, and one of each other file of metadata: no bit of them can change
unnoticed.
"""

import hashlib
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xsphere.blocks.errors import StoreError
from xsphere.blocks.layout import Layout
from xsphere.blocks.ledger import LEDGER
from xsphere.cache import content_key
from xsphere.notices import shortened
from xsphere.outputs import OWN_GROUP, zarr_path

# of the bookkeeping: raise it when its fields change
SCHEMA = 2
BOOKKEEPING = "xsphere"
KEYS = ("status", "blocks", "identity", "run", "layout", "written whole", "metadata")
# each is at least two files
MAX_BLOCKS = 10**7


@dataclass(frozen=True)
class State:
    """An opened store.

    Parameters
    ----------
    path : Path
        Where it is.
    group : zarr.Group
        Its root.
    attributes : mapping
        Its bookkeeping.
    layout : Layout
        Its blocks.
    arrays : mapping
        Its ledger and the variables that are written in blocks.

    Examples
    --------
    >>> State(Path("x"), None, {"status": "writing"}, Layout("time", 0, 1, ()), {}).status
    'writing'
    """

    path: Path
    group: Any = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)
    layout: Layout
    arrays: Mapping[str, Any] = field(repr=False)

    @property
    def status(self) -> str:
        """``writing`` or ``complete``."""
        return str(self.attributes["status"])

    @property
    def devices(self) -> str:
        """Kinds of devices that its blocks were computed on, as far as that changes bits."""
        return str(self.attributes.get("devices", ""))

    @property
    def description(self) -> dict[str, Any]:
        """What the store is of."""
        return {name: self.attributes[name] for name in ("run", "layout", "written whole")}

    def chunk_file(self, name: str, index: int) -> Path:
        """File of a block of a variable, or of its row in the ledger."""
        return self.path / name / _chunk_key(self.arrays[name], index)

    def present(self, name: str) -> NDArray[np.bool_]:
        """Which blocks of a variable, or rows of the ledger, have a file."""
        array = self.arrays[name]
        folder = os.fspath(self.path / name)
        return np.array(
            [
                _is_file(f"{folder}/{_chunk_key(array, block.index)}")
                for block in self.layout.blocks
            ],
            bool,
        )

    def present_blocks(self) -> NDArray[np.bool_]:
        """Which blocks have all their files, that of the ledger included."""
        here = self.present(LEDGER)
        for variable in self.layout.variables:
            here &= self.present(variable.name)
        return here


def written_in_full(array: Any) -> Any:
    """An array that also writes chunks of nothing but the fill value: none is missing unless lost.

    How an array writes cannot be chosen when it is opened, and zarr's setting is that of all
    threads.
    """
    import zarr

    return zarr.Array(
        zarr.AsyncArray(
            metadata=array.metadata,
            store_path=array.store_path,
            config={"write_empty_chunks": True},
        )
    )


def _is_file(path: str) -> bool:
    """As `os.path.isfile`, but a disk that cannot tell is an error."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _chunk_key(array: Any, index: int) -> str:
    return str(array.metadata.encode_chunk_key((index,) + (0,) * (array.ndim - 1)))


def store_path(path: str | Path) -> Path:
    """Absolute path of a folder that is or will be a store.

    Parameters
    ----------
    path : str or Path
        Ends in ``.zarr``.

    Returns
    -------
    Path
        The same in every process, whatever folder it runs in.

    Raises
    ------
    ValueError
        If the name has another ending, or is that of a place that is not a folder.

    Examples
    --------
    >>> store_path("mask.zarr").is_absolute()
    True
    """
    return zarr_path(path, "a store of blocks, a folder that all workers share,").absolute()


def open_state(path: Path, mode: Literal["r", "r+"] = "r+") -> State:
    """The store at `path`.

    Parameters
    ----------
    path : Path
        Where it is.
    mode : {"r", "r+"}
        Whether its arrays can be written to.

    Returns
    -------
    State
        Only its metadata are read.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    StoreError
        If it is not a store that was written block by block, or its metadata are damaged.

    Examples
    --------
    >>> open_state(Path("/nowhere/x.zarr"))
    Traceback (most recent call last):
    FileNotFoundError: there is no store at /nowhere/x.zarr; on a cluster ... all workers share
    """
    import zarr

    from xsphere.unpacking import bounded

    if not path.exists():
        raise FileNotFoundError(
            f"there is no store at {path}; on a cluster it must lie in a folder that all workers "
            "share"
        )
    try:
        group = zarr.open_group(path, mode=mode, zarr_format=3, use_consolidated=False)
        attributes: Any = group[OWN_GROUP].attrs[BOOKKEEPING]
        _check_sealed(attributes)
        assert all(key in attributes for key in KEYS)
        layout = Layout.from_description(attributes["layout"])
        names = (LEDGER, *(variable.name for variable in layout.variables))
        members: Any = group
        arrays = {name: bounded(members[name]) for name in names}
        _check_consistent(attributes, layout, arrays)
    # a disk that fails says nothing of what is stored
    except (PermissionError, MemoryError):
        raise
    # whatever is there instead, zarr has its own error for it
    except Exception as error:
        raise StoreError(
            f"{path} is no store that was written block by block, or its metadata are damaged "
            f"({type(error).__name__}: {shortened(error)}); choose another path, or replace it "
            "with overwrite=True"
        ) from error
    return State(path, group, attributes, layout, arrays)


def _check_consistent(
    attributes: Mapping[str, Any], layout: Layout, arrays: Mapping[str, Any]
) -> None:
    """Refuse bookkeeping that does not fit the arrays: by it, nothing need be missing."""
    step = layout.step
    if type(step) is not int or step < 1:
        raise ValueError(f"blocks must have a length of 1 or more, got {shortened(step)}")
    # counted before there is a list of them: numbers in a file may be absurd
    n_blocks = -(-layout.size // step) if any(math.prod(v.shape) for v in layout.variables) else 0
    if n_blocks > MAX_BLOCKS:
        raise ValueError(f"it claims {n_blocks} blocks, more than {MAX_BLOCKS}")
    expected: dict[str, Any] = {"blocks": n_blocks, "rows of the ledger": n_blocks}
    found = {"blocks": attributes["blocks"], "rows of the ledger": arrays[LEDGER].shape[0]}
    for variable in layout.variables:
        array = arrays[variable.name]
        expected[variable.name] = (variable.shape, step)
        found[variable.name] = (array.shape, array.chunks[0])
    wrong = [f"{k}: {found[k]}, not {expected[k]}" for k in expected if found[k] != expected[k]]
    if wrong:
        raise ValueError("its bookkeeping does not fit its arrays: " + "; ".join(wrong))


def _check_sealed(attributes: Mapping[str, Any]) -> None:
    if attributes["schema"] != SCHEMA:
        raise ValueError(
            f"its bookkeeping has the schema {attributes['schema']!r}, not {SCHEMA}: another "
            "version of xsphere wrote it"
        )
    if sealed(attributes)["digest"] != attributes["digest"]:
        raise ValueError("its bookkeeping was changed since it was written")


def sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Bookkeeping with a digest of itself."""
    rest = {key: value for key, value in attributes.items() if key != "digest"}
    return {**rest, "digest": content_key(rest)}


def keep_books(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write the bookkeeping of a store, in one step."""
    import zarr

    group = zarr.open_group(path / OWN_GROUP, mode="r+", use_consolidated=False)
    group.attrs.update({BOOKKEEPING: sealed(attributes)})


def set_status(state: State, status: str, **more: Any) -> State:
    """The store with another status, written in one step."""
    keep_books(state.path, {**state.attributes, "status": status, **more})
    return open_state(state.path)


def metadata_digests(path: Path) -> dict[str, str]:
    """SHA-256 of each file of metadata but that of the bookkeeping, by name within the store."""
    # arrays lie in the store or in its own group; blocks lie deeper, and may be millions
    files = (
        str(f.relative_to(path))
        for depth in ("", "*/", "*/*/")
        for f in path.glob(f"{depth}zarr.json")
    )
    return {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in sorted(files)
        if name != f"{OWN_GROUP}/zarr.json"
    }


def damaged_metadata(state: State) -> dict[str, str]:
    """Damaged or missing metadata files, by name, with the reason."""
    found = metadata_digests(state.path)
    expected: Mapping[str, str] = state.attributes["metadata"]
    return {
        name: "it was changed since it was written" if name in found else "it is missing"
        for name, digest in expected.items()
        if found.get(name) != digest
    }
