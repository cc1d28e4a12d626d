"""Matrix products that threads share between them, each some rows and columns of the result."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xsphere.nn.sparse.jobs import run, threads_for

# Rows and columns of the result that a thread does at a time, at most and at least. What they are
# changes no result: every element is summed in the same order.
MOST, FEWEST = (256, 256), (64, 64)
# Parts for each thread, for none to wait long for another.
PARTS = 4
# Of an epilogue that does nothing.
NOTHING = (0, 0, False)


class Strided(NamedTuple):
    """Elements of matrices: where they stand, and the bytes from one to the next.

    Parameters
    ----------
    address, row, column, segment : int
        Of the first element; between rows, between columns, and between matrices.
    """

    address: int
    row: int
    column: int = 0
    segment: int = 0

    @classmethod
    def of(cls, x: Tensor, start: tuple[int, ...] = ()) -> "Strided":
        """Elements of a tensor of shape (rows, columns) or (matrices, rows, columns).

        From the element at `start` on.
        """
        size = x.element_size()
        steps = [step * size for step in x.stride()]
        offset = sum(place * step for place, step in zip(start, steps, strict=False))
        segment = steps[0] if x.ndim == 3 else 0
        return cls(x.data_ptr() + offset, steps[-2], steps[-1], segment)

    @property
    def transposed(self) -> "Strided":
        """The same elements, columns for rows."""
        return Strided(self.address, self.column, self.row, self.segment)


class Product(NamedTuple):
    """``out (+)= sum over matrices of left @ right``, of known sizes.

    Parameters
    ----------
    n_rows, n_columns, n_segments, n_inner : int
        Rows and columns of the result, matrices, and what is summed over.
    left, right, out : Strided
        Factors and result; elements of a row of `right` and `out` stand side by side.
    accumulate : bool
        Whether to add to what is there.
    epilogue : tuple
        Addresses of the scale and the shift of each column, or 0, and whether to rectify.
    """

    n_rows: int
    n_columns: int
    n_segments: int
    n_inner: int
    left: Strided
    right: Strided
    out: Strided
    accumulate: bool = False
    epilogue: tuple[int, int, bool] = NOTHING

    @property
    def arguments(self) -> tuple[int, ...]:
        """As of `xsphere.nn.sparse.rows.multiply`."""
        left, right, out = self.left, self.right, self.out
        return (
            *(self.n_rows, self.n_columns, self.n_segments, self.n_inner),
            *(left.address, left.row, left.column, left.segment),
            *(right.address, right.row, right.segment),
            *(out.address, out.row, self.accumulate, *self.epilogue),
        )

    def extent_of_parts(self, n_parts: int) -> tuple[int, int]:
        """Rows and columns of parts, of which there are so many if there can be."""
        high, wide = MOST
        while -(-self.n_rows // high) * -(-self.n_columns // wide) < n_parts:
            if high > FEWEST[0]:
                high //= 2
            elif wide > FEWEST[1]:
                wide //= 2
            else:
                break
        return high, wide


def shared_products(products: Sequence[Product], dtype: torch.dtype) -> None:
    """Products, none of which needs another, by all of torch's threads.

    Parameters
    ----------
    products : sequence of Product
        They must write to different places.
    dtype : torch.dtype
        float32 or float64, of all elements.
    """
    from xsphere.nn.sparse.entries import kernel

    n_threads = torch.get_num_threads()
    wanted = -(-PARTS * n_threads // len(products)) if n_threads > 1 else 1
    rows, n_parts = [], 0
    for product in products:
        high, wide = product.extent_of_parts(wanted)
        rows.append((n_parts, high, wide, *product.arguments))
        n_parts += -(-product.n_rows // high) * -(-product.n_columns // wide)
    address = kernel("multiply", dtype).address
    arguments = np.array(rows, np.int64), len(rows), n_parts, dtype.itemsize, address
    run("multiply_parts", arguments, threads_for(n_parts))
