"""Loops over the rows of a block of cells, compiled. Imports numba: import it inside functions.

All arrays are given by their addresses, and the way from one row to the next in bytes: calls cost
little, and one compilation serves every shape. `xsphere.nn.sparse.loops` alone calls these.
Positions are 32-bit integers; the address 0 is no array.
"""

from typing import Any

from xsphere.compiled import compiled
from xsphere.nn.sparse.tiles import rows_product
from xsphere.nn.sparse.vectors import copy_bytes, integer_at, weighted_sum

# Digest of tiles.py and vectors.py: numba keeps machine code as long as this file stays as it is,
# so it must change with them. A test tells what it should be.
MACHINE_CODE = "0ab41a268dcd55b6"
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
def gather_rows(
    n: int, ids: int, shift: int, x: int, x_row: int, out: int, out_row: int, n_bytes: int
) -> None:
    """`n_bytes` of the rows of some cells, or of their parents if `shift` is 2, one by one."""
    for i in range(n):
        copy_bytes(out + i * out_row, x + (integer_at(ids, i) >> shift) * x_row, n_bytes)


@compiled
def expand_terms(
    n_terms: int, recursive: bool, n_own: int, counts: int, indptr: int, indices: int,
    values: int, values_row: int, n_channels: int, scratch: int, spacing: int, row: int, one: Any,
) -> None:  # fmt: skip
    """Terms after the first of the channels in the first array, each into the array of its number.

    `counts` has the cells up to each ring of a block: every order of a recursion reaches one ring
    less far. Arrays are `spacing` bytes apart, matrices' values `values_row`.
    """
    for term in range(1, n_terms):
        out = scratch + term * spacing
        if not recursive:
            weigh_rows(
                0, n_own, indptr, indices, values + (term - 1) * values_row, n_channels,
                scratch, row, 0, 0, 0, 0, 0, 0, out, row, one,
            )  # fmt: skip
        else:
            weigh_rows(
                0, integer_at(counts, n_terms - 1 - term), indptr, indices, values, n_channels,
                out - spacing, row, 0, 0, 0, 0, out - 2 * spacing if term > 1 else 0, row,
                out, row, one + one if term > 1 else one,
            )  # fmt: skip


@compiled
def contract_terms(
    n_terms: int, recursive: bool, n_own: int, ids: int, shift: int, counts: int, indptr: int,
    indices: int, values: int, values_row: int, n_channels: int, terms: int, terms_row: int,
    terms_step: int, scratch: int, spacing: int, row: int, out: int, out_row: int, one: Any,
) -> None:  # fmt: skip
    """Sum over terms of each matrix times its own channels, which are `terms_step` bytes apart.

    By Clenshaw's recursion: ``b_k = s_k + 2 L b_(k+1) - b_(k+2)``, ``y = s_0 + L b_1 - b_2``.
    """
    last = n_terms - 1
    if recursive:
        array = scratch + last % 3 * spacing
        reached: int = integer_at(counts, last)
        gather_rows(reached, ids, shift, terms + last * terms_step, terms_row, array, row, row)
        for term in range(last - 1, -1, -1):
            weigh_rows(
                0, integer_at(counts, term), indptr, indices, values, n_channels,
                scratch + (term + 1) % 3 * spacing, row,
                terms + term * terms_step, terms_row, ids, shift,
                scratch + (term + 2) % 3 * spacing if term + 2 <= last else 0, row,
                scratch + term % 3 * spacing if term else out, row if term else out_row,
                one + one if term else one,
            )  # fmt: skip
        return
    reached = integer_at(counts, 1)
    for term in range(1, n_terms):
        gather_rows(reached, ids, shift, terms + term * terms_step, terms_row, scratch, row, row)
        plus = scratch + (1 + (term - 1) % 2) * spacing
        target = scratch + (1 + term % 2) * spacing
        weigh_rows(
            0, n_own, indptr, indices, values + (term - 1) * values_row, n_channels, scratch, row,
            plus if term > 1 else terms, row if term > 1 else terms_row,
            0 if term > 1 else ids, shift, 0, 0,
            target if term < last else out, row if term < last else out_row, one,
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
    segments_together = max(INNER_TOGETHER // n_inner, 1)
    for segment in range(0, n_segments, segments_together):
        n_these = min(segments_together, n_segments - segment)
        for inner in range(0, n_inner, INNER_TOGETHER):
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
