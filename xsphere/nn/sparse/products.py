"""Matrix products that threads share between them, each some rows and columns of the result."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from xsphere.nn.sparse.workers import share_out

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
class Extent:
    """Sizes of a product: rows and columns of the result, matrices, and what is summed over."""

    n_rows: int
    n_columns: int
    n_segments: int
    n_inner: int


def shared_product(
    extent: Extent,
    left: Strided,
    right: Strided,
    out: Strided,
    *,
    one: Any,
    accumulate: bool = False,
    epilogue: tuple[int, int, bool] = (0, 0, False),
) -> None:
    """``out (+)= sum over matrices of left @ right``, by all of torch's threads.

    Parameters
    ----------
    extent : Extent
        Sizes.
    left, right, out : Strided
        Factors and result; elements of a row of `right` and `out` stand side by side.
    one : float32 or float64
        The number 1, in the type of all elements.
    accumulate : bool
        Whether to add to what is there.
    epilogue : tuple
        Addresses of the scale and the shift of each column, or 0, and whether to rectify.
    """
    from xsphere.nn.sparse.rows import multiply

    n_columns, size = extent.n_columns, int(one.itemsize)
    # columns are kept together where there are few: each part reads all of its rows
    wide = COLUMNS if n_columns >= 2 * COLUMNS else n_columns
    parts = [
        (row, column)
        for column in range(0, n_columns, wide)
        for row in range(0, extent.n_rows, ROWS)
    ]
    scale, shift, rectify = epilogue

    def work(numbers: range) -> None:
        for number in numbers:
            row, column = parts[number]
            offset = column * size
            multiply(
                min(ROWS, extent.n_rows - row), min(wide, n_columns - column),
                extent.n_segments, extent.n_inner,
                left.address + row * left.row, left.row, left.column, left.segment,
                right.address + offset, right.row, right.segment,
                out.address + row * out.row + offset, out.row, accumulate,
                scale + offset if scale else 0, shift + offset if shift else 0, rectify, one,
            )  # fmt: skip

    share_out(work, len(parts))
