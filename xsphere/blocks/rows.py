"""Rows of finished blocks: a small array in the store, which any reader of Zarr can read.

The array has a row for each block, which is one chunk, and named columns (attribute ``columns``):
when it was written, its length, the devices used, and by variable a checksum of its values and how
many there are of each class. It is written after the block itself, and says that the block is done:
nothing is ever read, changed and written back, so writers need no lock. A row that is not there
reads as zeros.
"""

import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.blocks.layout import BlockedVariable, BlockLayout
from xsphere.outputs import OWN_GROUP

ROWS = f"{OWN_GROUP}/blocks"
ABOUT = ("written (microseconds since 1970)", "steps", "devices (CRC-32)")
WRITTEN, STEPS, DEVICES = range(3)
# what says nothing of what is stored: of a disk that fails, nothing is to be computed again
UNREAD = (OSError, MemoryError)
# rows that are read at a time
PIECE = 512


def columns(layout: BlockLayout) -> list[str]:
    """Names of the columns."""
    names = list(ABOUT)
    for variable in layout.variables:
        names.append(f"{variable.name}: CRC-32 of values")
        names += [f"{variable.name}: {name}" for name in variable.counted.values()]
    return names


def checksum(values: NDArray[Any]) -> int:
    """CRC-32 of the bytes of a block, the same for equal values on any machine.

    Examples
    --------
    >>> checksum(np.zeros(3, ">f4")) == checksum(np.zeros(3, "<f4"))
    True
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return zlib.crc32(little.reshape(-1).view(np.uint8).data)


def row(
    variables: Sequence[BlockedVariable],
    values: Mapping[str, NDArray[Any]],
    counts: Mapping[str, list[int]],
    n_steps: int,
    devices: str = "",
) -> NDArray[np.uint64]:
    """The row of one block that is written now."""
    entries = [time.time_ns() // 1000, n_steps, device_code(devices)]
    for variable in variables:
        entries += [checksum(values[variable.name]), *counts[variable.name]]
    return np.array(entries, np.uint64)


def device_code(devices: str) -> int:
    """A number for devices; 0 for those that change no bits."""
    return zlib.crc32(devices.encode())


def class_counts(values: NDArray[Any], variable: BlockedVariable) -> list[int]:
    """How many cells of a block have each class, in the order of the flags."""
    if not variable.flags:
        return []
    # step by step: bincount makes integers of 8 bytes of all it is given
    total = sum(
        (np.bincount(step.ravel(), minlength=256) for step in values), np.zeros(256, np.int64)
    )
    return [int(total[value]) for value in variable.counted]


def read_rows(array: Any, layout: BlockLayout) -> NDArray[np.uint64]:
    """All rows; those that are missing or damaged are zero."""
    rows = np.zeros((len(layout.blocks), len(columns(layout))), np.uint64)
    # in pieces: zarr has all the chunks that it is asked for in hand at once
    todo = [slice(start, start + PIECE) for start in range(0, len(rows), PIECE)]
    while todo:
        piece = todo.pop()
        try:
            rows[piece] = array[piece]
        except UNREAD:
            raise
        # any codec may complain in its own words: one by one, to have all others
        except Exception:
            single = range(piece.start, min(piece.stop, len(rows)))
            todo += [slice(i, i + 1) for i in single] if len(single) > 1 else []
    return rows


def done(rows: NDArray[np.uint64], layout: BlockLayout, devices: str) -> NDArray[np.bool_]:
    """Which blocks are done, with the length that they have now and on these devices."""
    lengths = [block.stop - block.start for block in layout.blocks]
    there = (rows[:, WRITTEN] > 0) & (rows[:, STEPS] == np.array(lengths, np.uint64))
    return np.asarray(there & on_devices(rows, devices))


def on_devices(rows: NDArray[np.uint64], devices: str) -> NDArray[np.bool_]:
    """Which blocks were computed on some devices, or told of none."""
    return np.isin(rows[:, DEVICES], [0, device_code(devices)])


def variable_columns(layout: BlockLayout) -> dict[str, slice]:
    """Columns of each variable: its checksum, then its counts."""
    found, start = {}, len(ABOUT)
    for variable in layout.variables:
        stop = start + 1 + len(variable.counted)
        found[variable.name], start = slice(start, stop), stop
    return found


def counts_by_class(summed: Any, layout: BlockLayout) -> dict[str, dict[str, int]]:
    """Cells by variable and class, of a sum of rows."""
    places = variable_columns(layout)
    return {
        v.name: dict(zip(v.counted.values(), map(int, summed[places[v.name]][1:]), strict=True))
        for v in layout.variables
        if v.flags
    }
