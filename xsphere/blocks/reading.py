"""Stores of blocks read lazily, and only where they are whole."""

from pathlib import Path

import xarray as xr

from xsphere.blocks.errors import IncompleteStoreError, StoreError
from xsphere.blocks.state import State, damaged_metadata, open_state, store_path
from xsphere.sources import checked
from xsphere.store import whatever_the_format


def open_mask(path: str | Path, *, allow_incomplete: bool = False) -> xr.DataArray | xr.Dataset:
    """The mask, probabilities or fields of a store, lazily, and whole unless asked otherwise.

    Parameters
    ----------
    path : str or Path
        A store that `write_blocks` wrote.
    allow_incomplete : bool
        Whether to open a store in which blocks are missing: masks are 255 there (not computed),
        floats NaN.

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
    state = open_state(store_path(path), mode="r")
    _check_sound(state)
    if not allow_incomplete:
        _check_complete(state)
    with whatever_the_format():
        ds: xr.Dataset = xr.open_zarr(state.path, chunks={}, consolidated=False, zarr_format=3)
    if not allow_incomplete:
        # blocks can still vanish before they are read
        ds = checked(ds, [variable.name for variable in state.layout.variables])
    name = state.attributes.get("array")
    return ds if name is None else ds[name]


def _check_sound(state: State) -> None:
    wrong = [f"{name}: {reason}" for name, reason in damaged_metadata(state).items()]
    if wrong:
        raise StoreError(
            f"the metadata of {state.path} are damaged:\n  " + "\n  ".join(wrong) + "\nMend them "
            "with repair_store"
        )


def _check_complete(state: State) -> None:
    there = state.present_blocks()
    n_there, n_blocks = int(there.sum()), len(state.layout.blocks)
    if n_there < n_blocks and state.status == "complete":
        lost = [block.index for block in state.layout.blocks if not there[block.index]]
        raise IncompleteStoreError(
            f"{state.path} was complete, but {n_blocks - n_there} of {n_blocks} blocks are lost "
            f"({lost[:5]}{' ...' if lost[5:] else ''}); compute them anew with repair_store, or "
            "open it with allow_incomplete=True: they read as not computed"
        )
    if state.status != "complete":
        raise IncompleteStoreError(
            f"{state.path} is not complete: {n_there} of {n_blocks} blocks are there; go on with "
            "the call that wrote it (it computes only what is missing), or open it with "
            "allow_incomplete=True: the other blocks read as not computed"
        )
