"""How a convolution on the processor is cut up: blocks of cells of samples, for threads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xsphere.nn.sparse.blocks import Block, blocks, local_rows
from xsphere.nn.sparse.matrices import Basis
from xsphere.nn.sparse.memory import LINE, kept, scratch
from xsphere.nn.sparse.terms import (
    WIDTH,
    Bench,
    Source,
    contract,
    expand,
    sum_children,
)
from xsphere.nn.sparse.workers import share_out

# Elements of all terms of a block: some MB, which a core finds in its caches.
TERMS_OF_BLOCK = 1 << 19
FEWEST_ROWS, MOST_ROWS = 1024, 4096
# Grids of so few cells are done as a whole: their weights are larger than their terms.
FEW_CELLS = 1024


@dataclass(frozen=True)
class Item:
    """Some cells of a sample.

    Parameters
    ----------
    sample : int
        Number of the sample.
    rows : slice
        Cells of the result.
    group : int
        Items of one group are done by one thread, one after another.
    """

    sample: int
    rows: slice
    group: int

    @property
    def n_rows(self) -> int:
        """Number of cells."""
        return int(self.rows.stop - self.rows.start)

    def of(self, x: Tensor) -> Source:
        """Its part of samples of shape (batch, cells, channels), contiguous."""
        return Source.of(x[self.sample, self.rows])


@dataclass(frozen=True)
class Terms:
    """Terms of some channels of an item, in memory that is used again for the next.

    Parameters
    ----------
    address, row, term : int
        Where they begin, and bytes from one cell and from one term to the next.
    start, width : int
        The first of their channels, and their number.
    is_last : bool
        Whether no channels of the item are left.
    """

    address: int
    row: int
    term: int
    start: int
    width: int
    is_last: bool


@dataclass(frozen=True)
class Job:
    """Convolution of a batch of samples by a basis.

    Parameters
    ----------
    basis : Basis
        The matrices.
    xs : sequence of tensors of float32 or float64, shape (batch, n_source, channels)
        Samples; channels of several follow each other.
    n_channels : int
        Channels that are multiplied with the matrices.
    """

    basis: Basis
    xs: Sequence[Tensor]
    n_channels: int

    @cached_property
    def one(self) -> Any:
        """The number 1 in the type of all elements."""
        return np.float64(1) if self.xs[0].dtype == torch.float64 else np.float32(1)

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return int(self.one.dtype.itemsize)

    @cached_property
    def blocks(self) -> list[Block]:
        """Blocks of cells: what they are does not depend on samples and threads."""
        matrices, n_rings = self.basis.matrices, self._n_rings
        n_cells = matrices.shape[0]
        n_blocks = -(-n_cells // (self._local_rows or n_cells))
        # whole families of four
        n_rows = -(-n_cells // (4 * n_blocks)) * 4
        return blocks(matrices, n_rows=n_rows, n_rings=n_rings, dtype=self.one.dtype)

    @property
    def _n_rings(self) -> int:
        return self.basis.n_terms - 1 if self.basis.recursive else 1

    @cached_property
    def _local_rows(self) -> int | None:
        """Cells of a block; None where there is to be one alone."""
        matrices = self.basis.matrices
        if matrices.shape[0] <= FEW_CELLS:
            return None
        fitting = TERMS_OF_BLOCK // (self.basis.n_terms * min(self.n_channels, WIDTH))
        n_rows = min(max(fitting, FEWEST_ROWS), MOST_ROWS)
        return local_rows(matrices, n_rows=n_rows, n_rings=self._n_rings)

    def expand(self, finish: Callable[[Item, Terms], None], *, n_groups: int | None = None) -> None:
        """Make all terms of every cell, some channels at a time, and hand them on.

        Parameters
        ----------
        finish : callable
            Takes an item and its terms.
        n_groups : int, optional
            Groups of items, as many as there are items if not given.
        """
        n_items = len(self.xs[0]) * len(self.blocks)
        ends = np.linspace(0, n_items, (n_groups or n_items) + 1).round().astype(int)

        def work(groups: range) -> None:
            for group in groups:
                for number in range(ends[group], ends[group + 1]):
                    sample, place = divmod(number, len(self.blocks))
                    block = self.blocks[place]
                    self._expand(Item(sample, self._rows(block), group), block, finish)

        share_out(work, len(ends) - 1)

    def _expand(self, item: Item, block: Block, finish: Callable[[Item, Terms], None]) -> None:
        n_terms, gathered = self.basis.n_terms, self.basis.children == "gathered"
        sources = [Source.of(x[item.sample]) for x in self.xs]
        for start, bench in self._benches(block, n_terms):
            expand(self.basis, block, sources, start, bench)
            for term in range(n_terms if gathered else 0):
                rows = bench.scratch + term * bench.spacing, bench.row
                sum_children(item.n_rows, bench.width, rows, rows, self.one)
            is_last = start + bench.width == self.n_channels
            terms = Terms(bench.scratch, bench.row, bench.spacing, start, bench.width, is_last)
            finish(item, terms)

    @property
    def is_whole(self) -> bool:
        """Whether all cells are better done at once: few, or in no order."""
        return self._local_rows is None

    def whole(self, samples: range) -> Tensor:
        """All terms of all cells of some samples.

        Parameters
        ----------
        samples : range
            Their numbers.

        Returns
        -------
        tensor of float, shape (n_terms, n_samples * n_target, n_channels)
            Rows of one term stand side by side, but terms may stand apart.
        """
        block, n_terms = self.blocks[0], self.basis.n_terms
        n_rows = len(samples) * block.n_own
        terms = kept((n_terms, n_rows, self.n_channels), self.xs[0].dtype)
        row, spacing = self.n_channels * self.size, terms.stride(0) * self.size

        def work(numbers: range) -> None:
            for number in numbers:
                scratch = terms.data_ptr() + number * block.n_own * row
                sources = [Source.of(x[samples[number]]) for x in self.xs]
                bench = Bench(scratch, spacing, self.n_channels, self.one)
                expand(self.basis, block, sources, 0, bench)

        share_out(work, len(samples))
        if self.basis.children != "gathered":
            return terms
        for term in terms:
            rows = term.data_ptr(), row
            sum_children(n_rows // 4, self.n_channels, rows, rows, self.one)
        return terms[:, : n_rows // 4]

    def contract(self, products: Tensor, y: Tensor, finish: Callable[[Tensor], object]) -> None:
        """Sum up the terms of every cell.

        Parameters
        ----------
        products : tensor of float, shape (n_samples, n_source, n_terms * n_channels)
            Channels of all terms side by side, of some samples.
        y : tensor of float, shape (n_samples, n_target, n_channels)
            Where sums go.
        finish : callable
            Takes some rows of `y` that are done.
        """

        def work(numbers: range) -> None:
            for number in numbers:
                sample, place = divmod(number, len(self.blocks))
                block = self.blocks[place]
                out = y[sample, self._rows(block)]
                self._contract(block, Source.of(products[sample]), out)
                finish(out)

        share_out(work, len(products) * len(self.blocks))

    def _contract(self, block: Block, products: Source, out: Tensor) -> None:
        # sums of children are made beside the result, which has no room for the children
        gathered = self.basis.children == "gathered"
        for start, bench in self._benches(block, 4):
            place = out.data_ptr() + start * self.size, self.n_channels * self.size
            children = bench.scratch + 3 * bench.spacing, bench.row
            contract(self.basis, block, products, start, bench, children if gathered else place)
            if gathered:
                sum_children(block.n_own // 4, bench.width, children, place, self.one)

    def _benches(self, block: Block, n_arrays: int) -> Iterator[tuple[int, Bench]]:
        """The first channel and the place to work of each part of the channels."""
        for start in range(0, self.n_channels, WIDTH):
            width = min(WIDTH, self.n_channels - start)
            # arrays that begin at the same place of every page would push each other out of cache
            spacing = (-(-len(block.ids) * width * self.size // LINE) + 5) * LINE
            yield start, Bench(scratch(n_arrays * spacing), spacing, width, self.one)

    def _rows(self, block: Block) -> slice:
        fewer = 4 if self.basis.children == "gathered" else 1
        return slice(block.start // fewer, block.stop // fewer)
