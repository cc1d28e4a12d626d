"""What is known of each block that is done: the checksum of its values and how many of each class.

The ledger is an array of its own, one chunk a block, written after the block itself: nothing is
ever read, changed and written back, so writers need no lock. A row is there or it is not; a row of
zeros, which is what a missing chunk reads as, says that the block is not done.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.blocks.layout import BlockedVariable, Layout
from xsphere.outputs import OWN_GROUP

LEDGER = f"{OWN_GROUP}/ledger"
# above the 32 bits of a checksum, so that one that happens to be 0 still counts as done
DONE = 1 << 32
# what says nothing of what is stored: of a disk that fails, nothing is to be computed again
UNREAD = (OSError, MemoryError)
# rows that are read at a time
PIECE = 512


def columns(layout: Layout) -> list[str]:
    """Names of the ledger's columns.

    A checksum for each variable and counts of its classes; last, a checksum of the devices used.
    """
    names = [
        column
        for variable in layout.variables
        for column in (
            f"{variable.name}: crc32",
            *(f"{variable.name}: {name}" for name in variable.counted.values()),
        )
    ]
    return [*names, "devices: crc32"]


def checksum(values: NDArray[Any]) -> int:
    """CRC-32 of the bytes of a block, marked as done: never 0.

    Parameters
    ----------
    values : array
        A block, in any order of bytes.

    Returns
    -------
    int
        The same for equal values, on any machine.

    Examples
    --------
    >>> checksum(np.zeros(0)) == DONE
    True
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return DONE | zlib.crc32(little.reshape(-1).view(np.uint8).data)


def row(
    variables: Sequence[BlockedVariable],
    values: Mapping[str, NDArray[Any]],
    counts: Mapping[str, list[int]],
    devices: str = "",
) -> NDArray[np.uint64]:
    """The row of one block."""
    entries: list[int] = []
    for variable in variables:
        entries += [checksum(values[variable.name]), *counts[variable.name]]
    return np.array([*entries, zlib.crc32(devices.encode())], np.uint64)


def class_counts(values: NDArray[Any], variable: BlockedVariable) -> list[int]:
    """How many cells of a block have each class, in the order of the flags."""
    if not variable.flags:
        return []
    # step by step: bincount makes integers of 8 bytes of all it is given
    total = sum(
        (np.bincount(step.ravel(), minlength=256) for step in values), np.zeros(256, np.int64)
    )
    return [int(total[value]) for value in variable.counted]


def read_ledger(ledger: Any, layout: Layout) -> NDArray[np.uint64]:
    """All rows; those that are missing or damaged are zero."""
    rows = np.zeros((len(layout.blocks), len(columns(layout))), np.uint64)
    # in pieces: zarr has all the chunks that it is asked for in hand at once
    for start in range(0, len(rows), PIECE):
        piece = slice(start, start + PIECE)
        try:
            rows[piece] = ledger[piece]
        except UNREAD:
            raise
        # any codec may complain in its own words
        except Exception:
            for index in range(start, min(start + PIECE, len(rows))):
                rows[index] = read_row(ledger, index)
    return rows


def read_row(ledger: Any, index: int) -> NDArray[np.uint64]:
    """One row, zero if it is missing or damaged."""
    try:
        return np.asarray(ledger[index])
    except UNREAD:
        raise
    except Exception:
        return np.zeros(ledger.shape[1], np.uint64)


def done(rows: NDArray[np.uint64], layout: Layout) -> NDArray[np.bool_]:
    """Which blocks are done, by the ledger."""
    marked: NDArray[np.bool_] = rows[:, list(checksum_columns(layout).values())] >= DONE
    return np.asarray(marked.all(axis=1))


def on_devices(rows: NDArray[np.uint64], devices: str) -> NDArray[np.bool_]:
    """Which blocks were computed on some devices, or told of none."""
    return np.isin(rows[:, -1], [0, zlib.crc32(devices.encode())])


def checksum_columns(layout: Layout) -> dict[str, int]:
    """Number of the column that has the checksum of each variable."""
    starts, start = {}, 0
    for variable in layout.variables:
        starts[variable.name] = start
        start += 1 + len(variable.counted)
    return starts


def counts_by_class(entries: Any, layout: Layout) -> dict[str, dict[str, int]]:
    """Sums of rows by variable and class."""
    summed = [int(entry) for entry in entries]
    return {
        variable.name: dict(zip(variable.counted.values(), summed[start + 1 :], strict=False))
        for (variable, start) in zip(
            layout.variables, checksum_columns(layout).values(), strict=True
        )
        if variable.flags
    }
