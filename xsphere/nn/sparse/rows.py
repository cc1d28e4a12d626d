"""Kernels: loops over the rows of a block of cells, compiled. Imports numba: import it inside.

All arrays are given by their addresses, and the way from one row to the next in bytes: calls cost
little, and one compilation serves every shape. Positions are 32-bit integers; the address 0 is no
array. Loops over blocks call the functions at the end, one for each kernel and type, as functions
of C.
"""

from typing import Any

import numpy as np

from xsphere.compiled import compiled
from xsphere.nn.sparse.tiles import rows_product
from xsphere.nn.sparse.vectors import integer_at, weighted_sum

# Rows of the left factor that are multiplied with all columns before the next ones are, and rows
# of the right factor that they are multiplied with before the next: the latter, of some hundred
# columns, stay in a core's second cache, and the former pass through it once.
ROWS_TOGETHER, INNER_TOGETHER = 64, 256


@compiled
def weigh_rows(
    first: int, last: int, indptr: int, indices: int, values: int, n_channels: int,
    x: int, x_row: int, plus: int, plus_row: int, plus_ids: int, plus_shift: int,
    minus: int, minus_row: int, out: int, out_row: int, scale: Any,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of ``scale * matrix @ x + plus - minus``, into `out`.

    Row i of `plus` is that of the i-th of the `plus_ids`, if there are any, or of its parent if
    `plus_shift` is 2.
    `scale` has the type of all elements.
    """
    for i in range(first, last):
        other = 0
        if plus:
            place = integer_at(plus_ids, i) >> plus_shift if plus_ids else i
            other = plus + place * plus_row
        weighted_sum(
            x,
            x_row,
            indices,
            values,
            integer_at(indptr, i),
            integer_at(indptr, i + 1),
            n_channels,
            scale,
            other,
            minus + i * minus_row if minus else 0,
            out + i * out_row,
        )


@compiled
def sum_children(
    n_parents: int, width: int, rows: int, row: int, out: int, out_row: int, four: int, one: Any
) -> None:
    """Sums of four rows at a time, which may be written over the rows themselves."""
    for parent in range(n_parents):
        weighted_sum(
            rows + 4 * parent * row, row, four, four + 32, 0, 4, width, one, 0, 0,
            out + parent * out_row,
        )  # fmt: skip


@compiled
def multiply(
    n_rows: int, n_columns: int, n_segments: int, n_inner: int,
    left: int, left_row: int, left_column: int, left_segment: int,
    right: int, right_row: int, right_segment: int,
    out: int, out_row: int, accumulate: bool, scale: int, shift: int, rectify: bool, one: Any,
) -> None:  # fmt: skip
    """``out (+)= sum over segments of left @ right``, then scaled, shifted, rectified.

    Strides are in bytes. Arguments as of `xsphere.nn.sparse.tiles.rows_product`.
    """
    segments_together = max(INNER_TOGETHER // max(n_inner, 1), 1)
    # a product of nothing is one as well: what is there is scaled, shifted and rectified
    for segment in range(0, max(n_segments, 1), segments_together):
        n_these = min(segments_together, n_segments - segment)
        for inner in range(0, max(n_inner, 1), INNER_TOGETHER):
            n_now = min(INNER_TOGETHER, n_inner - inner)
            is_last = segment + n_these == n_segments and inner + n_now == n_inner
            for row in range(0, n_rows, ROWS_TOGETHER):
                rows_product(
                    min(ROWS_TOGETHER, n_rows - row), n_columns, n_these, n_now,
                    left + row * left_row + inner * left_column + segment * left_segment,
                    left_row, left_column, left_segment,
                    right + inner * right_row + segment * right_segment, right_row, right_segment,
                    out + row * out_row, out_row, accumulate or inner + segment > 0,
                    scale if is_last else 0, shift if is_last else 0, rectify and is_last, one,
                )  # fmt: skip


def weigh_rows_float32(
    first: int, last: int, indptr: int, indices: int, values: int, n_channels: int,
    x: int, x_row: int, plus: int, plus_row: int, plus_ids: int, plus_shift: int,
    minus: int, minus_row: int, out: int, out_row: int, scale: int,
) -> None:  # fmt: skip
    """As `weigh_rows`, for C."""
    weigh_rows(
        first, last, indptr, indices, values, n_channels, x, x_row, plus, plus_row, plus_ids,
        plus_shift, minus, minus_row, out, out_row, np.float32(scale),
    )  # fmt: skip


def weigh_rows_float64(
    first: int, last: int, indptr: int, indices: int, values: int, n_channels: int,
    x: int, x_row: int, plus: int, plus_row: int, plus_ids: int, plus_shift: int,
    minus: int, minus_row: int, out: int, out_row: int, scale: int,
) -> None:  # fmt: skip
    """As `weigh_rows`, for C."""
    weigh_rows(
        first, last, indptr, indices, values, n_channels, x, x_row, plus, plus_row, plus_ids,
        plus_shift, minus, minus_row, out, out_row, np.float64(scale),
    )  # fmt: skip


def sum_children_float32(
    n_parents: int, width: int, rows: int, row: int, out: int, out_row: int, four: int
) -> None:  # fmt: skip
    """As `sum_children`, for C."""
    sum_children(
        n_parents, width, rows, row, out, out_row, four, np.float32(1)
    )  # fmt: skip


def sum_children_float64(
    n_parents: int, width: int, rows: int, row: int, out: int, out_row: int, four: int
) -> None:  # fmt: skip
    """As `sum_children`, for C."""
    sum_children(
        n_parents, width, rows, row, out, out_row, four, np.float64(1)
    )  # fmt: skip


def multiply_float32(
    n_rows: int, n_columns: int, n_segments: int, n_inner: int,
    left: int, left_row: int, left_column: int, left_segment: int,
    right: int, right_row: int, right_segment: int,
    out: int, out_row: int, accumulate: int, scale: int, shift: int, rectify: int,
) -> None:  # fmt: skip
    """As `multiply`, for C."""
    multiply(
        n_rows, n_columns, n_segments, n_inner, left, left_row, left_column, left_segment,
        right, right_row, right_segment, out, out_row, accumulate != 0, scale, shift,
        rectify != 0, np.float32(1),
    )  # fmt: skip


def multiply_float64(
    n_rows: int, n_columns: int, n_segments: int, n_inner: int,
    left: int, left_row: int, left_column: int, left_segment: int,
    right: int, right_row: int, right_segment: int,
    out: int, out_row: int, accumulate: int, scale: int, shift: int, rectify: int,
) -> None:  # fmt: skip
    """As `multiply`, for C."""
    multiply(
        n_rows, n_columns, n_segments, n_inner, left, left_row, left_column, left_segment,
        right, right_row, right_segment, out, out_row, accumulate != 0, scale, shift,
        rectify != 0, np.float64(1),
    )  # fmt: skip
