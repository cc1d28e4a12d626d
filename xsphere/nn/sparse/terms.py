"""One block of cells of a convolution: its terms, or their sum, worked out in a core's cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from xsphere.nn.sparse.blocks import Block
from xsphere.nn.sparse.matrices import Basis

# Channels that go through all orders together: their sums fill half of the widest registers.
WIDTH = 128
LINE = 64


@dataclass(frozen=True)
class Source:
    """Channels of one sample: where they stand in memory."""

    address: int
    row: int  # bytes from one cell to the next
    n_channels: int

    @classmethod
    def of(cls, sample: Tensor) -> "Source":
        """Channels of a sample of shape (cells, channels), which must outlive this."""
        return cls(sample.data_ptr(), sample.stride(0) * sample.element_size(), sample.shape[1])


@dataclass(frozen=True)
class Bench:
    """A block of a basis, and memory to work it out in.

    Parameters
    ----------
    basis : Basis
        Its matrices.
    block : Block
        One of its blocks.
    scratch : int
        Address of memory for as many arrays as are used, of the block's cells and `width` channels.
    width : int
        Channels that are worked out together.
    one : float32 or float64
        The number 1, in the type of all elements.
    """

    basis: Basis
    block: Block
    scratch: int
    width: int
    one: Any

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return int(self.one.dtype.itemsize)

    @property
    def row(self) -> int:
        """Bytes from one cell to the next in the arrays."""
        return self.width * self.size

    @property
    def shift(self) -> int:
        """Bits by which the number of a cell is shifted to get that of its source."""
        return 2 if self.basis.children == "spread" else 0

    @property
    def spacing(self) -> int:
        """Bytes from one array to the next, so that they begin at different places of the cache."""
        return spacing(len(self.block.ids), self.width, self.size)

    def array(self, number: int) -> int:
        """Address of one of the arrays."""
        return self.scratch + number * self.spacing

    def gather(self, n: int, source: tuple[int, int], out: int, n_channels: int) -> None:
        """Channels of the first `n` cells, from an address and the bytes between its rows."""
        from xsphere.nn.sparse.rows import gather_rows

        ids = self.block.addresses[0]
        gather_rows(n, ids, self.shift, *source, out, self.row, n_channels * self.size)

    def weigh(
        self, n: int, x: int, out: tuple[int, int], *,
        matrix: int = 0, scale: int = 1, plus: int = 0, whole: tuple[int, int] = (0, 0),
        minus: int = 0,
    ) -> None:  # fmt: skip
        """First `n` rows of a matrix times an array, plus and minus others.

        `whole` is added like `plus`, but has rows of the whole sphere, with the bytes between them.
        """
        from xsphere.nn.sparse.rows import weigh_rows

        ids, indptr, indices = self.block.addresses
        values = self.block.value_addresses[matrix]
        weigh_rows(
            0, n, indptr, indices, values, self.width, x, self.row,
            *((plus, self.row, 0, 0) if plus else (*whole, ids, self.shift)),
            minus, self.row, *out, self.one.dtype.type(scale),
        )  # fmt: skip


def spacing(n_cells: int, width: int, size: int) -> int:
    """Bytes between arrays of some cells and channels.

    Examples
    --------
    >>> spacing(10, 16, 4) % LINE
    0
    """
    lines = -(-n_cells * width * size // LINE)
    return (lines + 5) * LINE


def expand(bench: Bench, sources: Sequence[Source], start: int) -> None:
    """All terms of some channels of the block's own cells, each in the array of its number.

    Parameters
    ----------
    bench : Bench
        The block; ``bench.width`` channels are worked out.
    sources : sequence of Source
        Their channels follow each other.
    start : int
        The first channel to work out.
    """
    begin = 0
    for source in sources:
        first = max(start, begin)
        last = min(start + bench.width, begin + source.n_channels)
        if first < last:
            place = source.address + (first - begin) * bench.size, source.row
            out = bench.array(0) + (first - start) * bench.size
            bench.gather(len(bench.block.ids), place, out, last - first)
        begin += source.n_channels
    own, last_term = bench.block.n_own, bench.basis.n_terms - 1
    for term in range(1, last_term + 1):
        out_array = bench.array(term), bench.row
        if not bench.basis.recursive:
            bench.weigh(own, bench.array(0), out_array, matrix=term - 1)
            continue
        # each order reaches one ring less far
        n = int(bench.block.counts[last_term - term])
        minus = bench.array(term - 2) if term > 1 else 0
        scale = 1 if term == 1 else 2
        bench.weigh(n, bench.array(term - 1), out_array, scale=scale, minus=minus)


def contract(bench: Bench, products: Source, start: int, target: tuple[int, int]) -> None:
    """Sum over terms of each matrix times its own channels, for the block's own cells.

    Parameters
    ----------
    bench : Bench
        The block; ``bench.width`` channels are worked out.
    products : Source
        Channels of all terms side by side.
    start : int
        The first channel of each term to work out.
    target : tuple of int
        Address of the result for the first channel, and bytes between its rows.
    """
    n_channels = products.n_channels // bench.basis.n_terms
    terms = [
        (products.address + (term * n_channels + start) * bench.size, products.row)
        for term in range(bench.basis.n_terms)
    ]
    (_by_recursion if bench.basis.recursive else _by_matrices)(bench, terms, target)


def _by_recursion(bench: Bench, terms: Sequence[tuple[int, int]], target: tuple[int, int]) -> None:
    """Clenshaw's recursion: ``b_k = s_k + 2 L b_(k+1) - b_(k+2)``, ``y = s_0 + L b_1 - b_2``."""
    counts, last = bench.block.counts, len(terms) - 1
    bench.gather(int(counts[last]), terms[last], bench.array(last % 3), bench.width)
    for term in range(last - 1, -1, -1):
        bench.weigh(
            int(counts[term]),
            bench.array((term + 1) % 3),
            (bench.array(term % 3), bench.row) if term else target,
            scale=2 if term else 1,
            whole=terms[term],
            minus=bench.array((term + 2) % 3) if term + 2 <= last else 0,
        )


def _by_matrices(bench: Bench, terms: Sequence[tuple[int, int]], target: tuple[int, int]) -> None:
    own, last = bench.block.n_own, len(terms) - 1
    n_all = len(bench.block.ids)
    for term in range(1, last + 1):
        bench.gather(n_all, terms[term], bench.array(0), bench.width)
        out = target if term == last else (bench.array(1 + term % 2), bench.row)
        if term == 1:
            bench.weigh(own, bench.array(0), out, whole=terms[0])
        else:
            plus = bench.array(1 + (term - 1) % 2)
            bench.weigh(own, bench.array(0), out, matrix=term - 1, plus=plus)


def sum_children(
    n_parents: int, n_channels: int, rows: tuple[int, int], out: tuple[int, int], one: Any
) -> None:
    """Sums of four rows at a time, which may be written over the rows themselves.

    Parameters
    ----------
    n_parents, n_channels : int
        Number of sums, and elements of each.
    rows, out : tuples of int
        Addresses of four times as many rows and of the sums, each with the bytes between rows.
    one : float32 or float64
        The number 1, in the type of the elements.
    """
    from xsphere.nn.sparse.rows import weigh_rows

    indptr = np.arange(0, 4 * n_parents + 1, 4, dtype=np.int32)
    indices = np.arange(4 * n_parents, dtype=np.int32)
    ones = np.full(4 * n_parents, one)
    weigh_rows(
        0, n_parents, indptr.ctypes.data, indices.ctypes.data, ones.ctypes.data, n_channels,
        *rows, 0, 0, 0, 0, 0, 0, *out, one,
    )  # fmt: skip
