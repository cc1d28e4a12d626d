"""One block of cells of a convolution: its terms, or their sum, worked out in a core's cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from torch import Tensor

from xsphere.nn.sparse.blocks import Block
from xsphere.nn.sparse.matrices import Basis

# Channels that go through all orders together: their sums fill half of the widest registers.
WIDTH = 128


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
    """Memory to work out some channels of a block in.

    Parameters
    ----------
    scratch, spacing : int
        Address of as many arrays of the block's cells as are used, and bytes from one to the next.
    width : int
        Channels that are worked out together.
    one : float32 or float64
        The number 1, in the type of all elements.
    """

    scratch: int
    spacing: int
    width: int
    one: Any

    @property
    def row(self) -> int:
        """Bytes from one cell to the next in the arrays."""
        return self.width * int(self.one.itemsize)


def expand(basis: Basis, block: Block, sources: Sequence[Source], start: int, bench: Bench) -> None:
    """All terms of some channels of the block's own cells, each in the array of its number.

    Parameters
    ----------
    basis : Basis
        The matrices.
    block : Block
        One of its blocks.
    sources : sequence of Source
        Their channels follow each other.
    start : int
        The first channel to work out.
    bench : Bench
        Where; with room for as many arrays as there are terms.
    """
    from xsphere.nn.sparse.rows import expand_terms, gather_rows

    ids, *addresses = block.addresses
    row, size, begin = bench.row, int(bench.one.itemsize), 0
    for source in sources:
        first = max(start, begin)
        last = min(start + bench.width, begin + source.n_channels)
        if first < last:
            gather_rows(
                len(block.ids), ids, source_shift(basis), source.address + (first - begin) * size,
                source.row, bench.scratch + (first - start) * size, row, (last - first) * size,
            )  # fmt: skip
        begin += source.n_channels
    expand_terms(
        basis.n_terms, basis.recursive, block.n_own, *addresses, bench.width,
        bench.scratch, bench.spacing, row, bench.one,
    )  # fmt: skip


def contract(
    basis: Basis,
    block: Block,
    products: Source,
    start: int,
    bench: Bench,
    target: tuple[int, int],
) -> None:
    """Sum over terms of each matrix times its own channels, for the block's own cells.

    Parameters
    ----------
    basis : Basis
        The matrices.
    block : Block
        One of its blocks.
    products : Source
        Channels of all terms side by side.
    start : int
        The first channel of each term to work out.
    bench : Bench
        Where; with room for 3 arrays.
    target : tuple of int
        Address of the result for the first channel, and bytes between its rows.
    """
    from xsphere.nn.sparse.rows import contract_terms

    ids, *addresses = block.addresses
    size = int(bench.one.itemsize)
    step = products.n_channels // basis.n_terms * size
    contract_terms(
        basis.n_terms, basis.recursive, block.n_own, ids, source_shift(basis), *addresses,
        bench.width, products.address + start * size, products.row, step,
        bench.scratch, bench.spacing, bench.row, *target, bench.one,
    )  # fmt: skip


def source_shift(basis: Basis) -> int:
    """Bits by which the number of a cell is shifted to get that of its source.

    Parameters
    ----------
    basis : Basis
        The matrices.

    Returns
    -------
    int
        2 where sources are parents, else 0.

    Examples
    --------
    >>> from scipy import sparse
    >>> from xsphere.nn.sparse.matrices import FixedMatrices
    >>> matrices = FixedMatrices([sparse.eye_array(4).tocsr()])
    >>> source_shift(Basis.of(matrices, n_terms=2, children="spread"))
    2
    """
    return 2 if basis.children == "spread" else 0


def channels_of(xs: Sequence[Tensor]) -> list[slice]:
    """Which of all channels each source has, where they follow each other.

    Parameters
    ----------
    xs : sequence of tensors, shape (batch, cells, channels)
        The sources.

    Returns
    -------
    list of slice
        One for each.

    Examples
    --------
    >>> import torch
    >>> channels_of([torch.zeros(1, 4, 2), torch.zeros(1, 4, 3)])
    [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = accumulate((x.shape[2] for x in xs), initial=0)
    return [slice(*pair) for pair in pairwise(ends)]


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
