"""One block, wherever it is computed: values, checks, the write and its row."""

import errno
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xsphere.blocks.errors import OtherRunError, StoreWriteError
from xsphere.blocks.layout import Block, BlockedVariable
from xsphere.blocks.opened import BlockStore, opened, read_books
from xsphere.blocks.rows import ROWS, class_counts, row
from xsphere.locations import Location
from xsphere.stages import devices_noted, timed

T = TypeVar("T")
# errors that the same call would meet again
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
PAUSE = 0.1


@dataclass(frozen=True)
class BlockResult:
    """What is left of a block once it is written."""

    index: int
    entries: tuple[int, ...]
    n_steps: int
    n_bytes: int
    # by stage: those that the computation told of, ``compute``, what it took besides, and ``write``
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class BlockTask:
    """Computes one block and writes it; calling it twice does no harm."""

    location: Location
    # what must be in the store
    identity: str
    variables: tuple[BlockedVariable, ...]
    block: Block
    # what it covers, in words
    label: str
    # of this block alone, and the keys of its variables in it
    graph: Mapping[Any, Any] = field(repr=False)
    keys: tuple[Any, ...] = field(repr=False)
    retries: int

    def __call__(self) -> BlockResult:
        """Compute, check and write the block."""
        start = time.perf_counter()
        with timed() as stages:
            values, entries, devices = self.computed()
        computed = time.perf_counter()
        try:
            attempted(lambda: self._write(values, entries, devices), self.retries)
        except OSError as error:
            raise StoreWriteError(
                error.errno,
                f"{self.label} cannot be written to {self.location} ({error.strerror or error}); "
                "when there is room and it can be written to, call again with the same path: only "
                "what is missing is computed",
            ) from error
        return BlockResult(
            self.block.index,
            tuple(int(entry) for entry in entries),
            self.block.stop - self.block.start,
            sum(array.nbytes for array in values.values()),
            {
                **stages,
                "compute": max(0.0, computed - start - sum(stages.values())),
                "write": time.perf_counter() - computed,
            },
        )

    def computed(self) -> tuple[dict[str, NDArray[Any]], NDArray[np.uint64], str]:
        """Values by variable, the row of the block, and the devices that were used."""
        with devices_noted() as used:
            values = attempted(self._values, self.retries)
        devices = ", ".join(sorted(used))
        counts = {v.name: self._checked(values[v.name], v) for v in self.variables}
        n_steps = self.block.stop - self.block.start
        return values, row(self.variables, values, counts, n_steps, devices), devices

    def with_data(self, data: Mapping[Any, Any]) -> "BlockTask":
        """The task with values in place of some keys."""
        return replace(self, graph={**self.graph, **data})

    def _values(self) -> dict[str, NDArray[Any]]:
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
        store = self._store()
        if devices and not store.devices:
            # the first block decides; of two first ones, the one that is written last
            store = store.with_books(devices=devices)
        if devices and devices != store.devices:
            raise OtherRunError(
                f"{self.label} was computed with the {devices}, others of {self.location} with the "
                f"{store.devices}, and their last bits differ, so it is not written; go on where "
                "the others were computed (see device=, and whether regridded fields are cached), "
                "or write to another path, or replace the store with overwrite=True"
            )
        with self.location.errors("written"):
            for name, array in values.items():
                _put(store.arrays[name], self.block.steps, array)
            # last, so that a row says that all before it is there
            index = self.block.index
            _put(store.arrays[ROWS], slice(index, index + 1), entries[None])

    def _store(self) -> BlockStore:
        """The store, if it is still of this run: it may have been replaced since."""
        books = read_books(self.location)
        if books["identity"] != self.identity:
            raise OtherRunError(
                f"{self.location} holds another run since this one began, so {self.label} is not "
                "written; write each run to a path of its own"
            )
        return replace(_opened_once(self.location, self.identity), books=books)


@lru_cache(maxsize=4)
def _opened_once(location: Location, identity: str) -> BlockStore:
    """A store of this identity, whose arrays stay what they are."""
    store = opened(location, read_books(location))
    assert store.books["identity"] == identity
    return store


def _put(array: Any, steps: slice, values: NDArray[Any]) -> None:
    array[steps] = values


def attempted(action: Callable[[], T], retries: int) -> T:
    """What an action returns, tried again after errors that may pass, unlike a full disk."""
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


def futures_in(task: BlockTask) -> dict[Any, Any]:
    """Values of a graph that are on a cluster, as after ``.persist()``."""
    if "distributed" not in sys.modules:
        return {}
    from distributed import Future

    found = {key: getattr(value, "value", value) for key, value in task.graph.items()}
    return {key: value for key, value in found.items() if isinstance(value, Future)}


def brought_here(task: BlockTask) -> BlockTask:
    """The task, with what is on a cluster in this process."""
    data = {key: future.result() for key, future in futures_in(task).items()}
    return task.with_data(data) if data else task
