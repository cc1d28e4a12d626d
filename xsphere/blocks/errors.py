"""What can go wrong with a store that is written block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class StoreError(ValueError):
    """A path that holds no store of blocks, or one that cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from xsphere.blocks import open_mask
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     path = Path(folder, "empty.zarr")
    ...     path.mkdir()
    ...     open_mask(path)
    Traceback (most recent call last):
    xsphere.blocks.errors.StoreError: ...
    """


class OtherRunError(StoreError):
    """The store holds another run: other data, another model, other options or another layout.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> from xsphere.blocks import write_blocks
    >>> one = xr.DataArray([1.0, 2.0], dims="time", name="a").chunk(time=1)
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     _ = write_blocks(one, f"{folder}/a.zarr")
    ...     write_blocks(one + 1, f"{folder}/a.zarr")
    Traceback (most recent call last):
    xsphere.blocks.errors.OtherRunError: ...a.zarr holds another run:...
    """


class IncompleteStoreError(StoreError):
    """Blocks of the store were not computed, or were lost.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import xarray as xr
    >>> from xsphere.blocks import open_mask, write_blocks
    >>> one = xr.DataArray([1.0, 2.0], dims="time", name="a").chunk(time=1)
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     path = Path(folder, "a.zarr")
    ...     _ = write_blocks(one, path)
    ...     (path / "a" / "c" / "1").unlink()
    ...     open_mask(path)
    Traceback (most recent call last):
    xsphere.blocks.errors.IncompleteStoreError: ...1 of 2 blocks are lost...
    """


class StoreWriteError(OSError):
    """A block cannot be written: going on with the others would be in vain.

    Examples
    --------
    >>> StoreWriteError(28, "no space left").errno
    28
    """


class InterruptedRun(KeyboardInterrupt):
    """The run was stopped; its store can be gone on with.

    Examples
    --------
    As of Ctrl-C, handlers of errors do not hear of it:

    >>> try:
    ...     raise InterruptedRun("3 of 30 blocks are done")
    ... except Exception:
    ...     print("an error")
    ... except KeyboardInterrupt as stop:
    ...     print(stop)
    3 of 30 blocks are done
    """


class SharedWorkWarning(UserWarning):
    """Blocks that are computed one by one share work that each of them does anew.

    Examples
    --------
    >>> import tempfile
    >>> import warnings
    >>> import xarray as xr
    >>> from xsphere.blocks import write_blocks
    >>> one = xr.DataArray([1.0] * 20, dims="time", name="a").chunk(time=2)
    >>> with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():  # doctest: +ELLIPSIS
    ...     warnings.simplefilter("error", SharedWorkWarning)
    ...     write_blocks(one - one.mean(), f"{out}/a.zarr")
    Traceback (most recent call last):
    xsphere.blocks.errors.SharedWorkWarning: each of the 10 blocks is computed by itself, but ...
    """


@dataclass(frozen=True)
class BlockFailure:
    """One block that could not be computed.

    Parameters
    ----------
    index : int
        Number of the block.
    label : str
        What it covers, in words.
    error : Exception
        Why.

    Examples
    --------
    >>> print(BlockFailure(3, "block 3 (time 12 to 15)", ValueError("lost")))
    block 3 (time 12 to 15): ValueError: lost
    """

    index: int
    label: str
    error: Exception

    def __str__(self) -> str:
        # what a client of dask gives where it cannot read the pickle of an error
        if self.error.args and isinstance(self.error.args[0], bytes):
            return (
                f"{self.label}: an error that this process cannot read, as where a worker has "
                "another version of a package; the log of the worker shows it"
            )
        return f"{self.label}: {type(self.error).__name__}: {self.error}"


class BlocksFailed(RuntimeError):
    """Some blocks could not be computed; the others are in the store.

    Parameters
    ----------
    path : Path or str
        The store.
    failures : sequence of BlockFailure
        In the order of the blocks; the error of the first is also the cause of this one.
    n_blocks : int
        How many blocks there are.

    Examples
    --------
    >>> failure = BlockFailure(3, "block 3 (time 12 to 15)", ValueError("lost"))
    >>> BlocksFailed(Path("m.zarr"), [failure], 9).failures[0].index
    3
    """

    def __init__(self, path: Path | str, failures: Sequence[BlockFailure], n_blocks: int) -> None:
        self.path = path
        self.failures = tuple(failures)
        self.n_blocks = n_blocks
        super().__init__(path, self.failures, n_blocks)

    def __str__(self) -> str:
        shown = [str(failure) for failure in self.failures[:5]]
        more = len(self.failures) - len(shown)
        return (
            f"{len(self.failures)} of {self.n_blocks} blocks could not be computed, the others are "
            f"in {self.path}. Mend what is wrong and call again with the same path (and, where "
            "the source was repaired, repaired_source=True): only what is missing is computed.\n  "
            + "\n  ".join(shown)
            + (f"\n  ... and {more} more" if more else "")
        )
