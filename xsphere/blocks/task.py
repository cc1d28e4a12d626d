"""One block, wherever it is computed: values, checks, the write and the row in the ledger."""

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xsphere.blocks.errors import OtherRunError, StoreWriteError
from xsphere.blocks.identity import scale
from xsphere.blocks.layout import Block, BlockedVariable
from xsphere.blocks.ledger import LEDGER, class_counts, row
from xsphere.blocks.state import State, open_state, set_status, written_in_full
from xsphere.stages import devices_noted, timed

T = TypeVar("T")
# errors that the same call would meet again
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
PAUSE = 0.1


@dataclass(frozen=True)
class BlockResult:
    """What is left of a block once it is written.

    Parameters
    ----------
    index : int
        Number of the block.
    entries : tuple of int
        Its row in the ledger.
    n_steps : int
        Its length.
    n_bytes : int
        Of its values.
    seconds : mapping of str to float
        By stage: those that the computation told of (see `xsphere.stages`), ``compute``, what it
        took besides, and ``write``.

    Examples
    --------
    >>> BlockResult(0, (1,), 4, 48, {"compute": 0.1, "write": 0.2}).n_bytes
    48
    """

    index: int
    entries: tuple[int, ...]
    n_steps: int
    n_bytes: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class BlockTask:
    """Computes one block and writes it; calling it twice does no harm.

    Parameters
    ----------
    path : str
        The store.
    identity : str
        What must be in the store.
    variables : tuple of BlockedVariable
        Those of the store, in order.
    block : Block
        Which block.
    label : str
        What it covers, in words.
    graph : mapping
        Of this block alone.
    keys : tuple
        Of its variables, in order.
    coordinates : mapping of str to (array, str)
        Stored values and units of the coordinates along the blocks' dimension, for this block.
    retries : int
        How often to try again after an error of the file system or the network.

    Examples
    --------
    >>> BlockTask(path="x", identity="", variables=(), block=Block(0, 0, 1), label="block 0",
    ...           graph={}, keys=(), coordinates={}, retries=0).label
    'block 0'
    """

    path: str
    identity: str
    variables: tuple[BlockedVariable, ...]
    block: Block
    label: str
    graph: Mapping[Any, Any] = field(repr=False)
    keys: tuple[Any, ...] = field(repr=False)
    coordinates: Mapping[str, tuple[NDArray[Any], str]] = field(repr=False)
    retries: int

    def __call__(self) -> BlockResult:
        """Compute, check and write the block."""
        start = time.perf_counter()
        with timed() as stages, devices_noted() as used:
            values = attempted(self._computed, self.retries)
        devices = ", ".join(sorted(used))
        counts = {v.name: self._checked(values[v.name], v) for v in self.variables}
        computed = time.perf_counter()
        entries = row(self.variables, values, counts, devices)
        try:
            attempted(lambda: self._write(values, entries, devices), self.retries)
        except OSError as error:
            raise StoreWriteError(
                error.errno,
                f"{self.label} cannot be written to {self.path} ({error.strerror or error}); when "
                "there is room and it can be written to, call again with the same path: only what "
                "is missing is computed",
            ) from error
        return BlockResult(
            self.block.index,
            tuple(int(entry) for entry in entries),
            self.block.stop - self.block.start,
            sum(array.nbytes for array in values.values()),
            _seconds(stages, computed - start) | {"write": time.perf_counter() - computed},
        )

    def with_data(self, data: Mapping[Any, Any]) -> "BlockTask":
        """The task with values in place of some keys."""
        return replace(self, graph={**self.graph, **data})

    def _computed(self) -> dict[str, NDArray[Any]]:
        """Values by variable; in this thread alone, whatever scheduler there is around it."""
        from dask.array import optimize
        from dask.local import get_sync

        keys = list(self.keys)
        # here rather than where the task is made, so that workers do it side by side
        graph: Any = optimize(dict(self.graph), keys)  # type: ignore[no-untyped-call]
        results = get_sync(dict(graph), keys)
        names = [variable.name for variable in self.variables]
        return {name: np.asarray(found) for name, found in zip(names, results, strict=True)}

    def _checked(self, values: NDArray[Any], variable: BlockedVariable) -> list[int]:
        """Counts of classes, once the values are known to be what the store is made for."""
        shape = (self.block.stop - self.block.start, *variable.shape[1:])
        dtype = np.dtype(variable.dtype)
        if values.shape != shape or values.dtype.newbyteorder("<") != dtype:
            raise ValueError(
                f"{variable.name!r} must be {dtype.name} of shape {shape}, got "
                f"{values.dtype.name} of {values.shape}: what dask was told of it was wrong; make "
                "it right where the array is made (meta or output_dtypes)"
            )
        counts = class_counts(values, variable)
        known = sum(counts) == values.size if variable.flags else True
        if not known or (dtype.kind in "iu" and (values == variable.fill_value).any()):
            self._refuse(values, variable)
        return counts

    def _refuse(self, values: NDArray[Any], variable: BlockedVariable) -> None:
        allowed = f"one of {variable.counted}" if variable.flags else "any other"
        wrong = {variable.fill_value}
        if variable.flags:
            wrong = set(np.unique(values).tolist()) - set(variable.counted)
        raise ValueError(
            f"{variable.name!r} has the values {sorted(wrong)}, but each must be {allowed} "
            f"({variable.fill_value} means 'not computed')"
        )

    def _write(
        self, values: Mapping[str, NDArray[Any]], entries: NDArray[Any], devices: str
    ) -> None:
        state = open_state(Path(self.path))
        self._check_place(state)
        if devices and not state.devices:
            # the first block decides; of two first ones, the one that is written last
            state = set_status(state, state.status, devices=devices)
        if devices and devices != state.devices:
            raise OtherRunError(
                f"{self.label} was computed with the {devices}, others of {self.path} with the "
                f"{state.devices}, and their last bits differ, so it is not written; go on where "
                "the others were computed (see device=, and whether regridded fields are cached), "
                "or write to another path, or replace the store with overwrite=True"
            )
        for name, array in values.items():
            _put(state.arrays[name], self.block.steps, array)
        # last, so that a row says that all before it is there
        _put(state.arrays[LEDGER], slice(self.block.index, self.block.index + 1), entries[None])

    def _check_place(self, state: State) -> None:
        """The store may have been replaced since, and a block in a wrong place looks like any."""
        wrong = [name for name in self.coordinates if not self._same(state.group[name], name)]
        if state.attributes["identity"] != self.identity or wrong:
            what = f"other values of {wrong}" if wrong else "another run"
            raise OtherRunError(
                f"{self.path} has {what} since this run began, so {self.label} is not written; "
                "write each run to a path of its own"
            )

    def _same(self, array: Any, name: str) -> bool:
        expected, units = self.coordinates[name]
        found = np.asarray(array[self.block.steps])
        same = np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")
        return same and scale(array.attrs) == units


def _seconds(stages: Mapping[str, float], total: float) -> dict[str, float]:
    """Stages that the computation told of, and what it took besides."""
    return {**stages, "compute": max(0.0, total - sum(stages.values()))}


def _put(array: Any, steps: slice, values: NDArray[Any]) -> None:
    written_in_full(array)[steps] = values


def attempted(action: Callable[[], T], retries: int) -> T:
    """What an action returns, tried again after errors that may pass.

    Parameters
    ----------
    action : callable
        Without arguments.
    retries : int
        How often to try again.

    Returns
    -------
    Any
        What `action` returns.

    Raises
    ------
    OSError
        The last error, or the first that will not pass, such as a full disk.

    Examples
    --------
    >>> attempted(lambda: 1, retries=2)
    1
    """
    for attempt in range(retries):
        try:
            return action()
        except OSError as error:
            if error.errno in LASTING:
                raise
            time.sleep(PAUSE * 4**attempt)
    return action()


def run_task(task: BlockTask, data: Mapping[Any, Any]) -> BlockResult:
    """Run a task with values that lay on the cluster already."""
    return task.with_data(data)() if data else task()
