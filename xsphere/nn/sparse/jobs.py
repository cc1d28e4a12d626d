"""How a convolution on the processor is cut up: blocks of cells of samples, for threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsphere.nn.sparse.blocks import Blocks, blocks, local_rows
from xsphere.nn.sparse.matrices import Basis
from xsphere.nn.sparse.memory import LINE, kept, scratch
from xsphere.nn.sparse.sources import WIDTH, source_shift
from xsphere.nn.sparse.workers import share_out

# Elements of all terms of a block: some MB, which a core finds in its caches.
TERMS_OF_BLOCK = 1 << 19
FEWEST_ROWS, MOST_ROWS = 1024, 4096
# Grids of so few cells are done as a whole: their weights are larger than their terms.
FEW_CELLS = 1024


def table(xs: Sequence[Tensor]) -> NDArray[np.int64]:
    """Where samples stand, for compiled loops; they must outlive it.

    Parameters
    ----------
    xs : sequence of tensors, shape (batch, cells, channels)
        Samples, whose channels stand side by side.

    Returns
    -------
    array of int64, shape (n, 4)
        Address, bytes from one sample and from one cell to the next, number of channels.

    Examples
    --------
    >>> table([torch.zeros(2, 5, 3)])[0, 1:].tolist()
    [60, 12, 3]
    """
    rows = [
        (x.data_ptr(), *(step * x.element_size() for step in x.stride()[:2]), x.shape[2])
        for x in xs
    ]
    return np.array(rows, np.int64).reshape(-1, 4)


def threads_for(n_items: int) -> int:
    """Torch's threads, or the caller's alone where there is no work to share.

    Parameters
    ----------
    n_items : int
        Items that can be done side by side.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> threads_for(1)
    1
    """
    return torch.get_num_threads() if n_items > 1 else 1


def run(name: str, arguments: Sequence[Any], n_threads: int) -> None:
    """Run a loop in several threads.

    Parameters
    ----------
    name : str
        Of one of `xsphere.nn.sparse.loops`.
    arguments : sequence of int or array
        Entries of its call after the first; the address of an array stands for it.
    n_threads : int
        Number of threads.
    """
    from xsphere.nn.sparse.entries import loop

    numbers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    share_out(loop(name), np.array([0, *numbers], np.int64), n_threads)


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
    def blocks(self) -> Blocks:
        """Blocks of cells: what they are does not depend on samples and threads."""
        matrices, n_rings = self.basis.matrices, self._n_rings
        n_cells = matrices.shape[0]
        n_blocks = -(-n_cells // (self._local_rows or n_cells))
        # whole families of four
        n_rows = -(-n_cells // (4 * n_blocks)) * 4
        return blocks(matrices, n_rows=n_rows, n_rings=n_rings, dtype=self.one.dtype)

    @property
    def n_items(self) -> int:
        """Blocks of all samples."""
        return len(self.xs[0]) * len(self.blocks.parts)

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

    def share(
        self,
        loop: str,
        *arguments: Any,
        n_items: int,
        n_arrays: int,
        xs: Sequence[Tensor] | None = None,
    ) -> None:
        """Run a loop over blocks, in which each thread works in memory of its own.

        Parameters
        ----------
        loop : str
            Name of one of `xsphere.nn.sparse.loops`.
        *arguments : int or array
            What it takes besides what all loops do.
        n_items : int
            Items that it takes.
        n_arrays : int
            Arrays of a block's cells that it needs.
        xs : sequence of tensors, optional
            What it works on, if that is not the samples.
        """
        row = min(self.n_channels, WIDTH) * self.size
        # arrays that begin at the same place of every page would push each other out of cache
        spacing = (-(-self.blocks.n_most * row // LINE) + 5) * LINE
        of_thread = n_arrays * spacing
        n_threads = threads_for(n_items)
        memory = scratch(n_threads * of_thread), of_thread, spacing
        self._run(loop, xs or self.xs, memory, arguments, n_threads)

    def groups(self, n_groups: int) -> NDArray[np.int64]:
        """First item of each of some groups of blocks, and the end."""
        ends = np.linspace(0, self.n_items, n_groups + 1)
        return ends.round().astype(np.int64)

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
        n_rows = len(samples) * self.basis.matrices.shape[0]
        n_sums = n_rows // 4 if self.basis.children == "gathered" else 0
        terms = kept((self.basis.n_terms, n_rows + n_sums, self.n_channels), self.xs[0].dtype)
        places = terms.data_ptr(), terms[:, n_rows:].data_ptr() if n_sums else 0
        self._run(
            "expand_samples",
            self.xs,
            (0, 0, terms.stride(0) * self.size),
            (samples.start, len(samples), *places),
            threads_for(len(samples) * -(-self.n_channels // WIDTH)),
        )
        return terms[:, n_rows:] if n_sums else terms

    def contract(self, products: Tensor, y: Tensor, scale: int, shift: int, rectify: bool) -> None:
        """Sum up the terms of every cell.

        Parameters
        ----------
        products : tensor of float, shape (n_samples, n_source, n_terms * n_channels)
            Channels of all terms side by side, of some samples.
        y : tensor of float, shape (n_samples, n_target, n_channels)
            Where sums go.
        scale, shift, rectify
            As of `xsphere.nn.sparse.products.shared_products`.
        """
        n_items = len(products) * len(self.blocks.parts)
        arguments = table([y]), scale, shift, rectify
        self.share("contract_blocks", *arguments, n_items=n_items, n_arrays=4, xs=[products])

    def _run(
        self,
        loop: str,
        xs: Sequence[Tensor],
        memory: tuple[int, int, int],
        arguments: tuple[Any, ...],
        n_threads: int,
    ) -> None:
        """Make the call of a loop: its entries are those of `xsphere.nn.sparse.loops`."""
        from xsphere.nn.sparse.entries import kernel

        basis, sources, blocks = self.basis, table(xs), self.blocks.table
        scratch_memory, of_thread, spacing = memory
        shared = (
            *(basis.n_terms, basis.recursive, basis.children == "gathered", source_shift(basis)),
            *(len(xs[0]), self.n_channels, self.size, spacing),
            *(blocks, len(blocks), sources, len(sources), _FOUR[self.size]),
            *(
                kernel(name, self.one.dtype.name).address
                for name in ("weigh_rows", "sum_children", "multiply")
            ),
        )
        run(loop, (0, scratch_memory, of_thread, *shared, *arguments), n_threads)


# the integers 0 to 7, of which four are used, then four ones of either size
_FOUR = {
    one.itemsize: np.concatenate([np.arange(8, dtype="i4").view("u1"), one.repeat(4).view("u1")])
    for one in (np.float32(1), np.float64(1))
}
