"""Kernels of the convolution on GPUs, in Triton: what `xsphere.nn.sparse.gpu` launches.

Cells are rows, channels columns; neighbours that are close in the nested order are close in memory,
so that a block of cells finds most of its neighbours in the cache of its own multiprocessor. Tiles
of channels follow each other fastest in the grid, then samples, then blocks of cells: programs that
run at the same time share the entries of the matrix and the rows of the samples. Places in memory
are 64-bit numbers: 12.6 million cells of 256 channels have more than 2**31 elements.
"""
# Triton has no types for what runs on the device, and a kernel takes all it needs as arguments
# mypy: ignore-errors
# ruff: noqa: PLR0913, PLR0915, PLR0917

# annotations are names: the module can be read, though not run, where Triton is not installed
from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

if find_spec("triton") is None:
    triton = tl = None
else:
    import triton
    from triton import language as tl

# in Triton's interpreter, which runs kernels in NumPy, without a GPU
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# sums that a thread keeps in registers; it needs as many again for what it adds to them
SUMS_OF_THREAD = 64


def sum_type(is_double: bool) -> Any:
    """What Triton calls the type of sums."""
    return tl.float64 if is_double else tl.float32


def _jit(function):
    return function if triton is None else triton.jit(function)


def _times(launch, quantiles):
    return triton.testing.do_bench(launch, quantiles=quantiles)


def _tuned(key, blocks, fitting):
    """Whichever block sizes are fastest at the first call for a key; the first when interpreted."""

    def decorate(kernel):
        if triton is None:
            return kernel
        if IS_INTERPRETED:
            # nothing to be timed, and no warps
            first = {name: lambda _, size=size: size for name, size in blocks[0][0].items()}
            return triton.heuristics(first)(kernel)
        configs = [triton.Config(sizes, num_warps=num_warps) for sizes, num_warps in blocks]
        pruning = {"early_config_prune": fitting}
        # the decorator of Triton 3.2 drops `do_bench`, and without it looks for a GPU at once
        return triton.runtime.Autotuner(
            kernel,
            kernel.arg_names,
            configs,
            key,
            None,
            None,
            prune_configs_by=pruning,
            do_bench=_times,
        )

    return decorate


def _filling(configs, named, **options):
    """Blocks that give threads enough to do, and leave room for several on a multiprocessor."""
    wide = {**named, **options}["BLOCK_CHANNELS"]
    return [config for config in configs if config.kwargs["BLOCK_ROWS"] * wide in (2048, 4096)]


def _fitting(configs, named, **options):
    """Block sizes whose sums fit into registers; the first always do."""
    settings = {**named, **options}
    sums_of_warp = 32 * SUMS_OF_THREAD
    if settings["PRECISION"] == "ieee" and settings["weight"].element_size() == 4:
        # without tensor cores, factors are in registers as well
        sums_of_warp //= 2
    return [
        config
        for config in configs
        if config.kwargs["BLOCK_ROWS"] * settings["BLOCK_OUT"] <= sums_of_warp * config.num_warps
    ]


@_jit
def _rows(pointer, cells, row, channels, mask):
    """Channels of some cells."""
    return tl.load(pointer + cells[:, None] * row + channels[None, :], mask=mask, other=0.0)


@_jit
def _weighted(
    indices, values, n_entries, start, stop, x, row, x_matrix, channels, wide,
    SHIFT: tl.constexpr, N_MATRICES: tl.constexpr, SUM: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Sums of the weighted rows of `x` that the entries from `start` to `stop` name."""
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), dtype=SUM)
    longest = tl.max(stop - start, axis=0)
    for first in range(0, longest, AHEAD):
        # several entries at a time: their loads do not wait for each other
        for ahead in tl.static_range(AHEAD):
            entry = start + first + ahead
            there = entry < stop
            cells = (tl.load(indices + entry, mask=there, other=0) >> SHIFT).to(tl.int64)
            mask = there[:, None] & wide[None, :]
            # pointers move on: their distances from the first may need more than 32 bits
            weights, source = values + entry, x
            for _ in tl.static_range(N_MATRICES):
                weight = tl.load(weights, mask=there, other=0.0)
                total += weight[:, None] * _rows(source, cells, row, channels, mask).to(SUM)
                weights += n_entries
                source += x_matrix
    return total


@_jit
def _finished(
    total, norm, shift, channels, wide, RECTIFY: tl.constexpr, SUM: tl.constexpr
):  # fmt: skip
    """What the epilogue makes of sums; a NaN stays one."""
    if norm is not None:
        total = total * tl.load(norm + channels, mask=wide, other=0.0).to(SUM)[None, :]
    if shift is not None:
        total = total + tl.load(shift + channels, mask=wide, other=0.0).to(SUM)[None, :]
    if RECTIFY:
        total = tl.where(total < 0, 0.0, total)
    return total


@_tuned(
    key=["BLOCK_CHANNELS", "N_MATRICES"],
    blocks=[({"BLOCK_ROWS": n, "AHEAD": 4}, 4) for n in (32, 16, 64, 128, 256)],
    fitting=_filling,
)
@_jit
def weigh(
    indptr, indices, values, x, plus, minus, out, sums, norm, shift,
    n_samples, n_rows, n_channels, n_entries,
    x_batch, x_row, x_matrix, plus_batch, plus_row, minus_batch, minus_row,
    out_batch, out_row, sums_batch, sums_row,
    X_SHIFT: tl.constexpr, PLUS_SHIFT: tl.constexpr, MINUS_SHIFT: tl.constexpr,
    N_MATRICES: tl.constexpr, SCALE: tl.constexpr, RECTIFY: tl.constexpr, SUM: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Makes ``SCALE * sum_m A_m x_m + plus - minus``; its rows go to `out`, sums of 4 to `sums`.

    What is None is left away. Cell `i` of an array of parents is ``i >> 2``: its shift is 2.
    """
    n_tiles = tl.cdiv(n_channels, BLOCK_CHANNELS)
    program = tl.program_id(0)
    sample = ((program // n_tiles) % n_samples).to(tl.int64)
    first = (program // (n_tiles * n_samples)) * BLOCK_ROWS
    cells = (first + tl.arange(0, BLOCK_ROWS)).to(tl.int64)
    channels = (program % n_tiles) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    there, wide = cells < n_rows, channels < n_channels
    mask = there[:, None] & wide[None, :]
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), dtype=SUM)
    if x is not None:
        start = tl.load(indptr + cells, mask=there, other=0).to(tl.int64)
        stop = tl.load(indptr + cells + 1, mask=there, other=0).to(tl.int64)
        total = SCALE * _weighted(
            indices, values, n_entries, start, stop, x + sample * x_batch, x_row, x_matrix,
            channels, wide, X_SHIFT, N_MATRICES, SUM, BLOCK_ROWS, BLOCK_CHANNELS, AHEAD,
        )  # fmt: skip
    if plus is not None:
        parts = _rows(plus + sample * plus_batch, cells >> PLUS_SHIFT, plus_row, channels, mask)
        total += parts.to(SUM)
    if minus is not None:
        parts = _rows(minus + sample * minus_batch, cells >> MINUS_SHIFT, minus_row, channels, mask)
        total -= parts.to(SUM)
    if sums is not None:
        parents = ((first // 4) + tl.arange(0, BLOCK_ROWS // 4)).to(tl.int64)
        summed = tl.sum(tl.reshape(total, (BLOCK_ROWS // 4, 4, BLOCK_CHANNELS)), axis=1)
        summed = _finished(summed, norm, shift, channels, wide, RECTIFY, SUM)
        place = sums + sample * sums_batch + parents[:, None] * sums_row + channels[None, :]
        tl.store(place, summed, mask=(parents < n_rows // 4)[:, None] & wide[None, :])
    else:
        total = _finished(total, norm, shift, channels, wide, RECTIFY, SUM)
    if out is not None:
        place = out + sample * out_batch + cells[:, None] * out_row + channels[None, :]
        tl.store(place, total, mask=mask)


@_jit
def _cells_or_sums(
    pointer, cells, row, channels, mask, SHIFT: tl.constexpr, CHILDREN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    """Channels of cells, of their parents (`SHIFT` 2), or sums of their `CHILDREN`."""
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), dtype=tl.float32)
    for child in tl.static_range(CHILDREN):
        finer = cells * CHILDREN + child
        total += _rows(pointer, finer >> SHIFT, row, channels, mask).to(tl.float32)
    return total


@_jit
def _mixed(
    total, rows, weight, term, channels, wide, outs, out_wide, n_in, n_out,
    PRECISION: tl.constexpr, IS_INTERPRETED: tl.constexpr,
):  # fmt: skip
    """Adds the product of rows, in the type of the weights, with the weights of a term."""
    places = weight + (term * n_in + channels).to(tl.int64)[:, None] * n_out + outs[None, :]
    factors = tl.load(places, mask=wide[:, None] & out_wide[None, :], other=0.0)
    rows = rows.to(factors.dtype)
    if IS_INTERPRETED:
        # NumPy has no bfloat16: the interpreter would multiply the bits as integers
        rows, factors = rows.to(tl.float32), factors.to(tl.float32)
    return tl.dot(rows, factors, total, input_precision=PRECISION)


@_jit
def _add_source(
    total, x, x_row, terms, terms_row, terms_size, begin, n_channels, weight, n_in, n_out,
    outs, out_wide, cells, there, indices, values, n_entries, start, stop,
    SHIFT: tl.constexpr, CHILDREN: tl.constexpr, N_STORED: tl.constexpr, N_MADE: tl.constexpr,
    PRECISION: tl.constexpr, IS_INTERPRETED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_IN: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Adds the part of the channels of one source: its own, its stored terms, those made here."""
    for first in range(0, n_channels, BLOCK_IN):
        channels = first + tl.arange(0, BLOCK_IN)
        wide = channels < n_channels
        mask = there[:, None] & wide[None, :]
        before = tl.zeros((BLOCK_ROWS, BLOCK_IN), dtype=tl.float32)
        latest = _cells_or_sums(
            x, cells, x_row, channels, mask, SHIFT, CHILDREN, BLOCK_ROWS, BLOCK_IN
        )
        total = _mixed(
            total, latest, weight, 0, begin + channels, wide, outs, out_wide, n_in, n_out,
            PRECISION, IS_INTERPRETED,
        )  # fmt: skip
        stored = terms
        for term in tl.static_range(N_STORED):
            if term > 0:
                stored += terms_size
            before = latest
            latest = _cells_or_sums(
                stored, cells, terms_row, begin + channels, mask, 0, CHILDREN,
                BLOCK_ROWS, BLOCK_IN,
            )  # fmt: skip
            total = _mixed(
                total, latest, weight, term + 1, begin + channels, wide, outs, out_wide, n_in,
                n_out, PRECISION, IS_INTERPRETED,
            )  # fmt: skip
        weights = values
        for made in tl.static_range(N_MADE):
            if N_STORED > 0:
                rows = 2 * _weighted(
                    indices, values, n_entries, start, stop, stored, terms_row, 0,
                    begin + channels, wide, 0, 1, tl.float32, BLOCK_ROWS, BLOCK_IN, AHEAD,
                ) - before  # fmt: skip
            else:
                rows = _weighted(
                    indices, weights, n_entries, start, stop, x, x_row, 0,
                    channels, wide, SHIFT, 1, tl.float32, BLOCK_ROWS, BLOCK_IN, AHEAD,
                )  # fmt: skip
            weights += n_entries
            total = _mixed(
                total, rows, weight, N_STORED + 1 + made, begin + channels, wide, outs, out_wide,
                n_in, n_out, PRECISION, IS_INTERPRETED,
            )  # fmt: skip
    return total


@_tuned(
    key=["BLOCK_OUT", "N_STORED", "N_MADE"],
    blocks=[
        ({"BLOCK_ROWS": 32, "BLOCK_IN": 32, "AHEAD": 4}, 4),
        ({"BLOCK_ROWS": 64, "BLOCK_IN": 32, "AHEAD": 2}, 4),
        ({"BLOCK_ROWS": 64, "BLOCK_IN": 32, "AHEAD": 4}, 8),
        ({"BLOCK_ROWS": 128, "BLOCK_IN": 32, "AHEAD": 2}, 8),
    ],
    fitting=_fitting,
)
@_jit
def mix(
    indptr, indices, values, x0, x1, terms, weight, out, norm, shift,
    n_samples, n_rows, n_sources, n_cells, n_entries, terms_size, n_channels0, n_channels1, n_out,
    SHIFT: tl.constexpr, CHILDREN: tl.constexpr, N_STORED: tl.constexpr, N_MADE: tl.constexpr,
    RECTIFY: tl.constexpr, PRECISION: tl.constexpr, IS_INTERPRETED: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_IN: tl.constexpr,
    AHEAD: tl.constexpr,
):  # fmt: skip
    """Makes ``sum_k A_k x W_k`` from one or two sources, their stored terms and what it adds.

    Stored terms have all channels, of each cell. With them, one more order of the recursion is
    made in registers; without, each of `N_MADE` matrices is applied to the sources. Neither goes to
    memory. Rows of the result are cells, or with 4 `CHILDREN` parents, which get sums of cells.
    """
    n_tiles = tl.cdiv(n_out, BLOCK_OUT)
    program = tl.program_id(0)
    sample = ((program // n_tiles) % n_samples).to(tl.int64)
    cells = (program // (n_tiles * n_samples)) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    cells = cells.to(tl.int64)
    outs = (program % n_tiles) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    there, out_wide = cells < n_rows, outs < n_out
    start, stop = cells, cells
    if N_MADE > 0:
        # entries of four children follow each other
        start = tl.load(indptr + cells * CHILDREN, mask=there, other=0).to(tl.int64)
        stop = tl.load(indptr + (cells + 1) * CHILDREN, mask=there, other=0).to(tl.int64)
    n_in = n_channels0 + n_channels1
    stored = terms
    if N_STORED > 0:
        stored = terms + sample * n_cells * n_in
    total = tl.zeros((BLOCK_ROWS, BLOCK_OUT), dtype=tl.float32)
    total = _add_source(
        total, x0 + sample * n_sources * n_channels0, n_channels0, stored, n_in, terms_size,
        0, n_channels0, weight, n_in, n_out, outs, out_wide, cells, there,
        indices, values, n_entries, start, stop, SHIFT, CHILDREN, N_STORED, N_MADE,
        PRECISION, IS_INTERPRETED, BLOCK_ROWS, BLOCK_IN, AHEAD,
    )  # fmt: skip
    if x1 is not None:
        total = _add_source(
            total, x1 + sample * n_sources * n_channels1, n_channels1, stored, n_in, terms_size,
            n_channels0, n_channels1, weight, n_in, n_out, outs, out_wide, cells, there,
            indices, values, n_entries, start, stop, SHIFT, CHILDREN, N_STORED, N_MADE,
            PRECISION, IS_INTERPRETED, BLOCK_ROWS, BLOCK_IN, AHEAD,
        )  # fmt: skip
    total = _finished(total, norm, shift, outs, out_wide, RECTIFY, tl.float32)
    place = out + sample * n_rows * n_out + cells[:, None] * n_out + outs[None, :]
    tl.store(place, total, mask=there[:, None] & out_wide[None, :])
