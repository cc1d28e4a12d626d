"""Loops over the blocks of a convolution, compiled. Imports numba: import it inside functions.

Threads that run the same loop share its items: each takes the next one that no other has, so none
waits for another. All that a loop takes stands in one array of 64-bit integers, a call, whose first
entry counts the items; so any thread can run it, Python's or not. Arrays are given by their
addresses, with the way from one row to the next in bytes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.compiled import compiled
from xsphere.nn.sparse.calls import call_at, fetch_and_add, table_at
from xsphere.nn.sparse.orders import contract_terms, expand_terms, gather_rows
from xsphere.nn.sparse.records import (
    ADDRESS,
    BLOCKS,
    CHANNELS,
    COUNTS,
    FOUR,
    GATHERED,
    IDS,
    INDICES,
    INDPTR,
    MULTIPLY,
    N_ALL,
    N_BLOCKS,
    N_CHANNELS,
    N_SAMPLES,
    N_SHARED,
    N_SOURCES,
    N_TERMS,
    OF_THREAD,
    RECURSIVE,
    ROW,
    ROWS,
    SAMPLE,
    SCRATCH,
    SHIFT,
    SIZE,
    SOURCES,
    SPACING,
    START,
    STOP,
    SUM,
    THREADS,
    VALUES,
    VALUES_ROW,
    WEIGH,
    WIDTH,
)

Table = NDArray[np.int64]


class Work(NamedTuple):
    """What all loops over blocks know of a convolution.

    Parameters
    ----------
    scratch : int
        Address of the memory that this thread works in.
    n_terms : int
        Number of matrices, or of orders of a recursion.
    recursive, gathered : bool
        Whether terms are Chebyshev polynomials of one matrix; whether children are summed up.
    shift : int
        Bits by which the number of a cell is shifted to get that of its source.
    n_samples, n_channels : int
        Samples, and channels that are multiplied with the matrices.
    size, spacing : int
        Bytes of an element, and from one array to the next of those that blocks are worked out in.
    blocks : array of int64, shape (n_blocks, 9)
        See `xsphere.nn.sparse.blocks.Blocks`.
    sources : array of int64, shape (n, 4)
        Samples, whose channels follow each other: address, bytes from one sample and from one cell
        to the next, channels.
    four : int
        Address of the integers 0 to 3 and, 32 bytes on, of four ones.
    weigh, sum, multiply : int
        Addresses of the kernels of `xsphere.nn.sparse.rows` for the type of the elements.
    """

    scratch: int
    n_terms: int
    recursive: bool
    gathered: bool
    shift: int
    n_samples: int
    n_channels: int
    size: int
    spacing: int
    blocks: Table
    sources: Table
    four: int
    weigh: int
    sum: int
    multiply: int


@compiled
def work_of(call: int) -> Any:
    """What the first entries of a call say, with a part of the scratch memory that no other has."""
    c = table_at(call, 1, N_SHARED)[0]
    scratch = c[SCRATCH] + fetch_and_add(call + 8 * THREADS) * c[OF_THREAD]
    return Work(
        scratch, c[N_TERMS], c[RECURSIVE] != 0, c[GATHERED] != 0, c[SHIFT], c[N_SAMPLES],
        c[N_CHANNELS], c[SIZE], c[SPACING], table_at(c[BLOCKS], c[N_BLOCKS], 9),
        table_at(c[SOURCES], c[N_SOURCES], 4), c[FOUR], c[WEIGH], c[SUM], c[MULTIPLY],
    )  # fmt: skip


@compiled
def expand_block(
    work: Work, sample: int, place: int, start: int, width: int, terms: int, row: int
) -> None:
    """All terms of `width` channels of a block's own cells, `work.spacing` bytes apart."""
    block, begin = work.blocks[place], 0
    for source in work.sources:
        first = max(start, begin)
        last = min(start + width, begin + source[CHANNELS])
        if first < last:
            gather_rows(
                block[N_ALL], block[IDS], work.shift,
                source[ADDRESS] + sample * source[SAMPLE] + (first - begin) * work.size,
                source[ROW], terms + (first - start) * work.size, row, (last - first) * work.size,
            )  # fmt: skip
        begin += source[CHANNELS]
    expand_terms(
        work.weigh, work.n_terms, work.recursive, block[STOP] - block[START], block[COUNTS],
        block[INDPTR], block[INDICES], block[VALUES], block[VALUES_ROW], width,
        terms, work.spacing, row,
    )  # fmt: skip


@compiled
def finish_block(work: Work, sample: int, place: int, start: int, width: int) -> Any:
    """As `expand_block`, in the scratch memory, with children summed up.

    Returns the number of rows of the result.
    """
    row = width * work.size
    expand_block(work, sample, place, start, width, work.scratch, row)
    n_rows = work.blocks[place, STOP] - work.blocks[place, START]
    if not work.gathered:
        return n_rows
    for term in range(work.n_terms):
        array = work.scratch + term * work.spacing
        call_at(work.sum, (n_rows // 4, width, array, row, array, row, work.four))
    return n_rows // 4


@compiled
def first_row(work: Work, place: int) -> Any:
    """Number of the first row of a block's result."""
    start = work.blocks[place, START]
    return start // 4 if work.gathered else start


def convolve_blocks(call: int) -> None:
    """Terms of the samples, multiplied with the weights of all terms at once.

    Takes the weights' address, the table of `y`, scale, shift, and whether to rectify.
    """
    work, a = work_of(call), table_at(call + 8 * N_SHARED, 1, 5)[0]
    weight, y, scale, shift, rectify = a[0], table_at(a[1], 1, 4)[0], a[2], a[3], a[4]
    n_blocks, size = len(work.blocks), work.size
    row = y[CHANNELS] * size
    item = fetch_and_add(call)
    while item < work.n_samples * n_blocks:
        sample, place = item // n_blocks, item % n_blocks
        out = y[ADDRESS] + sample * y[SAMPLE] + first_row(work, place) * y[ROW]
        for start in range(0, work.n_channels, WIDTH):
            width = min(WIDTH, work.n_channels - start)
            n_rows = finish_block(work, sample, place, start, width)
            last = start + width == work.n_channels
            call_at(work.multiply, (
                n_rows, y[CHANNELS], work.n_terms, width,
                work.scratch, width * size, size, work.spacing,
                weight + start * row, row, work.n_channels * row,
                out, y[ROW], start > 0,
                scale if last else 0, shift if last else 0, rectify if last else 0,
            ))  # fmt: skip
        item = fetch_and_add(call)


def adjoin_blocks(call: int) -> None:
    """Terms of a gradient times turned weights, and samples times them.

    Takes the ends of the groups of items, whose sums are kept apart, and their number; the turned
    weights; tables of the results, and their number, or none; tables of the samples, and their
    number; and the address of the sums, or 0.
    """
    work, a = work_of(call), table_at(call + 8 * N_SHARED, 1, 8)[0]
    n_groups, turned, sums = a[1], a[2], a[7]
    ends = table_at(a[0], 1, n_groups + 1)[0]
    results, xs = table_at(a[3], a[4], 4), table_at(a[5], a[6], 4)
    n_blocks, size, n_out, scratch = len(work.blocks), work.size, work.n_channels, work.scratch
    n_in = 0
    for x in xs:
        n_in += x[CHANNELS]
    group = fetch_and_add(call)
    while group < n_groups:
        of_group = sums + group * work.n_terms * n_in * n_out * size
        for item in range(ends[group], ends[group + 1]):
            sample, place = item // n_blocks, item % n_blocks
            first = first_row(work, place)
            for start in range(0, n_out, WIDTH):
                width = min(WIDTH, n_out - start)
                row = width * size
                n_rows = finish_block(work, sample, place, start, width)
                begin = 0
                for number in range(len(xs)):
                    n = xs[number, CHANNELS]
                    if len(results):
                        result, turned_row = results[number], n_in * size
                        call_at(work.multiply, (
                            n_rows, n, work.n_terms, width, scratch, row, size, work.spacing,
                            turned + (start * n_in + begin) * size, turned_row, n_out * turned_row,
                            result[ADDRESS] + sample * result[SAMPLE] + first * result[ROW],
                            result[ROW], start > 0, 0, 0, 0,
                        ))  # fmt: skip
                    x = xs[number, ADDRESS] + sample * xs[number, SAMPLE] + first * xs[number, ROW]
                    for term in range(work.n_terms if sums else 0):
                        call_at(work.multiply, (
                            n, width, 1, n_rows, x, size, xs[number, ROW], 0,
                            scratch + term * work.spacing, row, 0,
                            of_group + ((term * n_in + begin) * n_out + start) * size,
                            n_out * size, item > ends[group], 0, 0, 0,
                        ))  # fmt: skip
                    begin += n
        group = fetch_and_add(call)


def correlate_blocks(call: int) -> None:
    """Terms of the samples times a gradient.

    Takes the ends of the groups of items and their number, the table of the gradient, and the
    address of the sums.
    """
    work, a = work_of(call), table_at(call + 8 * N_SHARED, 1, 4)[0]
    n_groups, gradient, sums = a[1], table_at(a[2], 1, 4)[0], a[3]
    ends = table_at(a[0], 1, n_groups + 1)[0]
    n_blocks, size, n_in, n_out = len(work.blocks), work.size, work.n_channels, gradient[CHANNELS]
    group = fetch_and_add(call)
    while group < n_groups:
        for item in range(ends[group], ends[group + 1]):
            sample, place = item // n_blocks, item % n_blocks
            first = first_row(work, place)
            right = gradient[ADDRESS] + sample * gradient[SAMPLE] + first * gradient[ROW]
            for start in range(0, n_in, WIDTH):
                width = min(WIDTH, n_in - start)
                n_rows = finish_block(work, sample, place, start, width)
                for term in range(work.n_terms):
                    call_at(work.multiply, (
                        width, n_out, 1, n_rows,
                        work.scratch + term * work.spacing, size, width * size, 0,
                        right, gradient[ROW], 0,
                        sums + ((group * work.n_terms + term) * n_in + start) * n_out * size,
                        n_out * size, item > ends[group], 0, 0, 0,
                    ))  # fmt: skip
        group = fetch_and_add(call)


def contract_blocks(call: int) -> None:
    """Sums over terms of products, whose channels stand side by side in the only source.

    Takes the table of `y`, scale, shift, and whether to rectify.
    """
    work, a = work_of(call), table_at(call + 8 * N_SHARED, 1, 4)[0]
    y, scale, shift, rectify = table_at(a[0], 1, 4)[0], a[1], a[2], a[3]
    n_blocks, size, source, scratch = len(work.blocks), work.size, work.sources[0], work.scratch
    step = work.n_channels * size
    item = fetch_and_add(call)
    while item < work.n_samples * n_blocks:
        sample, place = item // n_blocks, item % n_blocks
        block = work.blocks[place]
        n_own = block[STOP] - block[START]
        out = y[ADDRESS] + sample * y[SAMPLE] + first_row(work, place) * y[ROW]
        for start in range(0, work.n_channels, WIDTH):
            width = min(WIDTH, work.n_channels - start)
            row, target = width * size, out + start * size
            # sums of children are made beside the result, which has no room for the children
            children = scratch + 3 * work.spacing
            contract_terms(
                work.weigh, work.n_terms, work.recursive, n_own, block[IDS], work.shift,
                block[COUNTS], block[INDPTR], block[INDICES], block[VALUES],
                block[VALUES_ROW], width,
                source[ADDRESS] + sample * source[SAMPLE] + start * size, source[ROW], step,
                scratch, work.spacing, row, children if work.gathered else target,
                row if work.gathered else y[ROW],
            )  # fmt: skip
            if work.gathered:
                call_at(work.sum, (n_own // 4, width, children, row, target, y[ROW], work.four))
        if scale or shift or rectify:
            # a product of nothing: what is there is scaled, shifted and rectified
            call_at(work.multiply, (
                n_own // 4 if work.gathered else n_own, work.n_channels, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                out, y[ROW], 1, scale, shift, rectify,
            ))  # fmt: skip
        item = fetch_and_add(call)


def expand_samples(call: int) -> None:
    """All terms of all cells of some samples, and of their parents.

    Takes the number of the first sample, that of samples, and addresses of the terms and of those
    of the parents.
    """
    work, a = work_of(call), table_at(call + 8 * N_SHARED, 1, 4)[0]
    first_sample, n_samples, terms, sums = a[0], a[1], a[2], a[3]
    n_parts = -(-work.n_channels // WIDTH)
    n_own = work.blocks[0, STOP]
    row = work.n_channels * work.size
    item = fetch_and_add(call)
    while item < n_samples * n_parts:
        sample, start = item // n_parts, item % n_parts * WIDTH
        width = min(WIDTH, work.n_channels - start)
        out = terms + sample * n_own * row + start * work.size
        expand_block(work, first_sample + sample, 0, start, width, out, row)
        for term in range(work.n_terms if work.gathered else 0):
            call_at(work.sum, (
                n_own // 4, width, out + term * work.spacing, row,
                sums + term * work.spacing + sample * (n_own // 4) * row + start * work.size, row,
                work.four,
            ))  # fmt: skip
        item = fetch_and_add(call)


def multiply_parts(call: int) -> None:
    """Products, whose parts are numbered through.

    Takes a table of the number of the first part of each, rows and columns of its parts, and its
    arguments, as of `multiply`; the number of its rows, that of all parts, bytes of an element,
    and the address of `multiply`.
    """
    a = table_at(call, 1, 6)[0]
    products, n_parts, size, multiply = table_at(a[1], a[2], 20), a[3], a[4], a[5]
    number = fetch_and_add(call)
    while number < n_parts:
        product = len(products) - 1
        while products[product, 0] > number:
            product -= 1
        high, wide, p = products[product, 1], products[product, 2], products[product, 3:]
        n_high = -(-p[0] // high)
        part = number - products[product, 0]
        row, column = part % n_high * high, part // n_high * wide
        offset = column * size
        call_at(multiply, (
            min(high, p[0] - row), min(wide, p[1] - column), p[2], p[3],
            p[4] + row * p[5], p[5], p[6], p[7], p[8] + offset, p[9], p[10],
            p[11] + row * p[12] + offset, p[12], p[13],
            p[14] + offset if p[14] else 0, p[15] + offset if p[15] else 0, p[16],
        ))  # fmt: skip
        number = fetch_and_add(call)


def weigh_samples(call: int) -> None:
    """A matrix times every sample.

    Takes the number of samples, the rows of the matrix, its positions, columns and values, and the
    tables of the samples and of the results; and the address of `weigh_rows`.
    """
    a = table_at(call, 1, 9)[0]
    n_samples, n_target = a[1], a[2]
    x, y = table_at(a[6], 1, 4)[0], table_at(a[7], 1, 4)[0]
    n_parts = -(-n_target // ROWS)
    item = fetch_and_add(call)
    while item < n_samples * n_parts:
        sample, first = item // n_parts, item % n_parts * ROWS
        call_at(a[8], (
            first, min(first + ROWS, n_target), a[3], a[4], a[5], x[CHANNELS],
            x[ADDRESS] + sample * x[SAMPLE], x[ROW], 0, 0, 0, 0, 0, 0,
            y[ADDRESS] + sample * y[SAMPLE], y[ROW], 1,
        ))  # fmt: skip
        item = fetch_and_add(call)
