"""Matrix products that threads share between them, each some rows and columns of the result."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from xsphere.nn.sparse.jobs import run

# Columns of the right factor that a core finds in its cache while it does all rows of a part.
ROWS, COLUMNS = 1024, 64


@dataclass(frozen=True)
class Strided:
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


@dataclass(frozen=True)
class Product:
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
    epilogue: tuple[int, int, bool] = (0, 0, False)

    def parts(self, size: int) -> Iterator[tuple[int, ...]]:
        """Arguments, as of `xsphere.nn.sparse.rows.multiply`, of some rows and columns each."""
        # columns are kept together where there are few: each part reads all of its rows
        wide = COLUMNS if self.n_columns >= 2 * COLUMNS else self.n_columns
        left, right, out = self.left, self.right, self.out
        scale, shift, rectify = self.epilogue
        for column in range(0, self.n_columns, wide):
            offset = column * size
            for row in range(0, self.n_rows, ROWS):
                yield (
                    min(ROWS, self.n_rows - row), min(wide, self.n_columns - column),
                    self.n_segments, self.n_inner,
                    left.address + row * left.row, left.row, left.column, left.segment,
                    right.address + offset, right.row, right.segment,
                    out.address + row * out.row + offset, out.row, self.accumulate,
                    scale + offset if scale else 0, shift + offset if shift else 0, rectify,
                )  # fmt: skip


def shared_products(products: Iterable[Product], one: Any) -> None:
    """Products, none of which needs another, by all of torch's threads.

    Parameters
    ----------
    products : iterable of Product
        They must write to different places.
    one : float32 or float64
        The number 1, in the type of all elements.
    """
    size = int(one.itemsize)
    parts = np.array([part for product in products for part in product.parts(size)], np.int64)
    run("multiply_parts", (parts, len(parts)), one, len(parts))
