"""Orders of a convolution, of one block of cells, compiled. Imports numba: import it inside.

`weigh` is the address of `xsphere.nn.sparse.rows.weigh_rows` for the type of the elements; other
arguments are as in there.
"""

from xsphere.compiled import compiled
from xsphere.nn.sparse.calls import call_at
from xsphere.nn.sparse.vectors import copy_bytes, integer_at


@compiled
def gather_rows(
    n: int, ids: int, shift: int, x: int, x_row: int, out: int, out_row: int, n_bytes: int
) -> None:
    """`n_bytes` of the rows of some cells, or of their parents if `shift` is 2, one by one."""
    for i in range(n):
        copy_bytes(out + i * out_row, x + (integer_at(ids, i) >> shift) * x_row, n_bytes)


@compiled
def expand_terms(
    weigh: int, n_terms: int, recursive: bool, n_own: int, counts: int, indptr: int, indices: int,
    values: int, values_row: int, n_channels: int, scratch: int, spacing: int, row: int,
) -> None:  # fmt: skip
    """Terms after the first of the channels in the first array, each into the array of its number.

    `counts` has the cells up to each ring of a block: every order of a recursion reaches one ring
    less far. Arrays are `spacing` bytes apart, matrices' values `values_row`.
    """
    for term in range(1, n_terms):
        out = scratch + term * spacing
        if not recursive:
            call_at(weigh, (
                0, n_own, indptr, indices, values + (term - 1) * values_row, n_channels,
                scratch, row, 0, 0, 0, 0, 0, 0, out, row, 1,
            ))  # fmt: skip
        else:
            call_at(weigh, (
                0, integer_at(counts, n_terms - 1 - term), indptr, indices, values, n_channels,
                out - spacing, row, 0, 0, 0, 0, out - 2 * spacing if term > 1 else 0, row,
                out, row, 2 if term > 1 else 1,
            ))  # fmt: skip


@compiled
def contract_terms(
    weigh: int, n_terms: int, recursive: bool, n_own: int, ids: int, shift: int, counts: int,
    indptr: int, indices: int, values: int, values_row: int, n_channels: int,
    terms: int, terms_row: int, terms_step: int, scratch: int, spacing: int, row: int,
    out: int, out_row: int,
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
            call_at(weigh, (
                0, integer_at(counts, term), indptr, indices, values, n_channels,
                scratch + (term + 1) % 3 * spacing, row,
                terms + term * terms_step, terms_row, ids, shift,
                scratch + (term + 2) % 3 * spacing if term + 2 <= last else 0, row,
                scratch + term % 3 * spacing if term else out, row if term else out_row,
                2 if term else 1,
            ))  # fmt: skip
        return
    reached = integer_at(counts, 1)
    for term in range(1, n_terms):
        gather_rows(reached, ids, shift, terms + term * terms_step, terms_row, scratch, row, row)
        plus = scratch + (1 + (term - 1) % 2) * spacing
        target = scratch + (1 + term % 2) * spacing
        call_at(weigh, (
            0, n_own, indptr, indices, values + (term - 1) * values_row, n_channels, scratch, row,
            plus if term > 1 else terms, row if term > 1 else terms_row,
            0 if term > 1 else ids, shift, 0, 0,
            target if term < last else out, row if term < last else out_row, 1,
        ))  # fmt: skip
