"""Stores of blocks read lazily, and only where they are whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.blocks.errors import IncompleteStoreError, StoreError
from xsphere.blocks.opened import BlockStore, open_store
from xsphere.locations import location
from xsphere.sources import open


def open_mask(
    path: str | Path,
    *,
    allow_incomplete: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray | xr.Dataset:
    """The mask, probabilities or fields of a store, lazily, and whole unless asked otherwise.

    Parameters
    ----------
    path : str, Path or zarr.abc.store.Store
        A store that `write_blocks` wrote: a folder, a URL, or a store of Zarr.
    allow_incomplete : bool
        Whether to open a store in which blocks are missing: masks are 255 there (not computed),
        floats NaN.
    storage_options : dict, optional
        For fsspec, where `path` is a URL.

    Returns
    -------
    DataArray or Dataset
        What was written, in its blocks, with the same dtype.

    Raises
    ------
    IncompleteStoreError
        If blocks were not computed or are lost, and `allow_incomplete` is not set.
    FileNotFoundError
        If there is nothing at `path`.
    StoreError
        If it is no such store, or its metadata are damaged.

    Notes
    -----
    That blocks are there, and the metadata as they were written, is checked; the checksums of
    blocks are when they are read, and one that is gone by then is an error. See `verify_store`.

    Examples
    --------
    >>> import tempfile
    >>> from xsphere.blocks import write_blocks
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> _ = write_blocks(xr.DataArray([1.0, 2.0], dims="time", name="x"), path)
    >>> open_mask(path).values
    array([1., 2.])
    """
    store = open_store(location(path, "the store", storage_options=storage_options), read_only=True)
    _check_sound(store)
    if not allow_incomplete:
        _check_complete(store)
    place: Any = store.location.local or store.location.store(read_only=True)
    # blocks can still vanish before they are read
    policy: Any = "fill" if allow_incomplete else "raise"
    ds = open(place, chunks={}, missing_chunks=policy)
    name = store.books["array"]
    return ds if name is None else ds[name]


def _check_sound(store: BlockStore) -> None:
    wrong = [f"{name}: {reason}" for name, reason in store.damaged_metadata().items()]
    if wrong:
        raise StoreError(
            f"the metadata of {store.location} are damaged:\n  "
            + "\n  ".join(wrong)
            + "\nMend them "
            "with repair_store"
        )


def _check_complete(store: BlockStore) -> None:
    there = store.present_blocks()
    n_there, n_blocks = int(there.sum()), len(store.layout.blocks)
    if n_there < n_blocks and store.is_complete:
        lost = [block.index for block in store.layout.blocks if not there[block.index]]
        raise IncompleteStoreError(
            f"{store.location} was complete, but {n_blocks - n_there} of {n_blocks} blocks are "
            f"lost ({lost[:5]}{' ...' if lost[5:] else ''}); mend it with repair_store, or "
            "open it with allow_incomplete=True: they read as not computed"
        )
    if not store.is_complete:
        raise IncompleteStoreError(
            f"{store.location} is not complete: {n_there} of {n_blocks} blocks are there; go on "
            "with the call that wrote it (it computes only what is missing), or open it with "
            "allow_incomplete=True: the other blocks read as not computed"
        )
