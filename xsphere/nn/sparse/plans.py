"""How convolutions on the processor are cut up, whatever their samples are."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from xsphere.nn.sparse import records
from xsphere.nn.sparse.blocks import Blocks, blocks, local_rows
from xsphere.nn.sparse.matrices import Basis
from xsphere.nn.sparse.memory import LINE
from xsphere.nn.sparse.records import WIDTH
from xsphere.nn.sparse.sources import source_shift

# Elements of all terms of a block: some MB, which a core finds in its caches.
TERMS_OF_BLOCK = 1 << 19
FEWEST_ROWS, MOST_ROWS = 1024, 4096
# Grids of so few cells are done as a whole: their weights are larger than their terms.
FEW_CELLS = 1024


@dataclass(frozen=True, eq=False)
class Plan:
    """Blocks of the cells of a convolution, and what compiled loops take of it.

    Parameters
    ----------
    basis : Basis
        The matrices.
    n_channels : int
        Channels that are multiplied with them.
    dtype : torch.dtype
        float32 or float64.
    """

    basis: Basis
    n_channels: int
    dtype: torch.dtype

    @classmethod
    def of(cls, basis: Basis, n_channels: int, dtype: torch.dtype) -> "Plan":
        """The one plan of these, as long as the matrices live.

        Parameters
        ----------
        basis, n_channels, dtype
            As for the class.

        Returns
        -------
        Plan
            Always the same.

        Examples
        --------
        >>> from scipy import sparse
        >>> from xsphere.nn.sparse.matrices import FixedMatrices
        >>> basis = Basis.of(FixedMatrices([sparse.eye_array(4).tocsr()]), n_terms=2)
        >>> Plan.of(basis, 3, torch.float32) is Plan.of(basis, 3, torch.float32)
        True
        """
        key = "plan", basis.number, n_channels, dtype
        return basis.matrices.kept(key, lambda: cls(basis, n_channels, dtype))

    @cached_property
    def blocks(self) -> Blocks:
        """Blocks of cells, which depend neither on samples nor on threads."""
        matrices, n_rings = self.basis.matrices, self._n_rings
        n_cells = matrices.shape[0]
        n_blocks = -(-n_cells // (self._local_rows or n_cells))
        # whole families of four
        n_rows = -(-n_cells // (4 * n_blocks)) * 4
        values = np.dtype(f"f{self.dtype.itemsize}")
        return blocks(matrices, n_rows=n_rows, n_rings=n_rings, dtype=values)

    @cached_property
    def is_whole(self) -> bool:
        """Whether all cells are better done at once: few, or in no order."""
        return self._local_rows is None

    @cached_property
    def spacing(self) -> int:
        """Bytes from one array of a block's cells to the next."""
        row = min(self.n_channels, WIDTH) * self.dtype.itemsize
        # arrays that begin at the same place of every page would push each other out of cache
        return int(-(-self.blocks.n_most * row // LINE) + 5) * LINE

    @cached_property
    def record(self) -> NDArray[np.int64]:
        """What calls begin with, but for samples and memory."""
        from xsphere.nn.sparse.entries import kernel

        record = np.zeros(records.N_SHARED, np.int64)
        record[records.N_TERMS] = self.basis.n_terms
        record[records.RECURSIVE] = self.basis.recursive
        record[records.GATHERED] = self.basis.children == "gathered"
        record[records.SHIFT] = source_shift(self.basis)
        record[records.N_CHANNELS] = self.n_channels
        record[records.SIZE] = self.dtype.itemsize
        record[records.BLOCKS] = self.blocks.table.ctypes.data
        record[records.N_BLOCKS] = len(self.blocks.table)
        record[records.FOUR] = _FOUR[self.dtype.itemsize].ctypes.data
        record[records.WEIGH] = kernel("weigh_rows", self.dtype).address
        record[records.SUM] = kernel("sum_children", self.dtype).address
        record[records.MULTIPLY] = kernel("multiply", self.dtype).address
        return record

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


# the integers 0 to 7, of which four are used, then four ones of either size
_FOUR = {
    one.itemsize: np.concatenate([np.arange(8, dtype="i4").view("u1"), one.repeat(4).view("u1")])
    for one in (np.float32(1), np.float64(1))
}
