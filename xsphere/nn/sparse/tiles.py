"""Matrix products of a few rows at a time, written in vector instructions.

Blocks of cells are small enough to stay in cache, so a product needs no packing, only accumulators
that stay in registers: rows of the left factor are read element by element, rows of the right one
vector by vector. Every element of the result is summed in one fixed order, whatever the shape of
the tile that it is in, so a sample's results do not depend on what else is multiplied.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xsphere.compat import code_generation
from xsphere.nn.sparse.vectors import (
    INDEX,
    SUM,
    constant,
    element_size,
    everywhere,
    is_given,
    load,
    stepping,
    store,
)

cgutils = code_generation()

# accumulators of a tile must fit the registers: 32 of 16 floats, or 16 of 8
WIDE_REGISTERS = bool(llvm.get_host_cpu_features().get("avx512f", False))
# (columns, rows) of tiles, wide ones first
TILES = (
    ((64, 4), (16, 8), (8, 8), (4, 8), (1, 8))
    if WIDE_REGISTERS
    else ((16, 6), (8, 6), (4, 6), (1, 6))
)


@dataclass(frozen=True)
class _Product:
    """Arguments of a product, as LLVM values."""

    builder: ir.IRBuilder
    element: ir.Type
    n_rows: ir.Value
    n_columns: ir.Value
    n_segments: ir.Value
    n_inner: ir.Value
    left: ir.Value
    left_row: ir.Value
    left_column: ir.Value
    left_segment: ir.Value
    right: ir.Value
    right_row: ir.Value
    right_segment: ir.Value
    out: ir.Value
    out_row: ir.Value
    accumulate: ir.Value
    scale: ir.Value
    shift: ir.Value
    rectify: ir.Value


@intrinsic
def rows_product(
    _context: Any, n_rows: Any, n_columns: Any, n_segments: Any, n_inner: Any, left: Any,
    left_row: Any, left_column: Any, left_segment: Any, right: Any, right_row: Any,
    right_segment: Any, out: Any, out_row: Any, accumulate: Any, scale: Any, shift: Any,
    rectify: Any, one: Any,
) -> Any:  # fmt: skip
    """Machine code of ``out (+)= sum over segments of left @ right``.

    Then times `scale` plus `shift`, each one value a column, where their addresses are not 0, and
    at least zero if `rectify`. Strides are in bytes. `one` says by its type what the elements are.
    """
    signature = types.void(
        *[types.int64] * 13, types.boolean, types.int64, types.int64, types.boolean, one
    )

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _generate_product(_Product(builder, context.get_value_type(one), *arguments[:-1]))
        return context.get_dummy_value()

    return signature, generate


def _generate_product(product: _Product) -> None:
    """All columns, in the widest tiles that still fit into what is left of them."""
    builder, size = product.builder, element_size(product.element)
    done = cgutils.alloca_once_value(builder, constant(0))
    for width, n_rows in TILES:
        with stepping(builder, product.n_columns, width, done) as column:
            offset = builder.mul(column, constant(size))
            moved = replace(
                product,
                right=builder.add(product.right, offset),
                out=builder.add(product.out, offset),
                scale=_moved(builder, product.scale, offset),
                shift=_moved(builder, product.shift, offset),
            )
            _generate_rows(moved, width, n_rows)


def _generate_rows(product: _Product, width: int, n_rows: int) -> None:
    """All rows, as many at a time as registers hold, then one by one."""
    builder = product.builder
    done = cgutils.alloca_once(builder, INDEX)
    builder.store(constant(0), done)
    for together in (n_rows, 1):
        with stepping(builder, product.n_rows, together, done) as row:
            tile = replace(
                product,
                left=_at(builder, product.left, row, product.left_row),
                out=_at(builder, product.out, row, product.out_row),
            )
            _generate_tile(tile, together, width)


def _generate_tile(tile: _Product, n_rows: int, width: int) -> None:
    builder, size = tile.builder, element_size(tile.element)
    lanes = min(width, 16)
    vector = ir.VectorType(tile.element, lanes)
    columns = [constant(part * lanes * size) for part in range(width // lanes)]
    sums = [[cgutils.alloca_once(builder, vector) for _ in columns] for _ in range(n_rows)]
    places = [
        [builder.add(_at(builder, tile.out, constant(row), tile.out_row), column)
         for column in columns]
        for row in range(n_rows)
    ]  # fmt: skip
    each = [pair for row in zip(sums, places, strict=True) for pair in zip(*row, strict=True)]
    for total, _ in each:
        builder.store(ir.Constant(vector, [0.0] * lanes), total)
    with cgutils.for_range(builder, tile.n_segments, intp=INDEX) as segment:
        left = _at(builder, tile.left, segment.index, tile.left_segment)
        right = _at(builder, tile.right, segment.index, tile.right_segment)
        lefts = [_at(builder, left, constant(row), tile.left_row) for row in range(n_rows)]
        with cgutils.for_range(builder, tile.n_inner, intp=INDEX) as inner:
            _add_products(tile, inner.index, lefts, right, columns, sums, vector)
    # sums of long products are sums of shorter ones, which round less than one long sum
    with builder.if_then(tile.accumulate):
        for total, place in each:
            before = load(builder, place, vector)
            builder.store(builder.fadd(before, builder.load(total)), total)
    _finish(tile, columns, sums, vector)
    for total, place in each:
        store(builder, builder.load(total), place, vector)


def _add_products(
    tile: _Product, inner: ir.Value, lefts: list[Any], right: ir.Value, columns: list[Any],
    sums: list[list[Any]], vector: ir.VectorType,
) -> None:  # fmt: skip
    """One element of each row times one row of the right factor."""
    builder = tile.builder
    row = _at(builder, right, inner, tile.right_row)
    factors = [load(builder, builder.add(row, column), vector) for column in columns]
    for left, totals in zip(lefts, sums, strict=True):
        place = _at(builder, left, inner, tile.left_column)
        one = everywhere(builder, load(builder, place, tile.element), vector)
        for total, factor in zip(totals, factors, strict=True):
            product = builder.fmul(one, factor, flags=SUM)
            builder.store(builder.fadd(builder.load(total), product, flags=SUM), total)


def _finish(
    tile: _Product, columns: list[Any], sums: list[list[Any]], vector: ir.VectorType
) -> None:
    """Scale, shift and rectify what is in the registers."""
    builder = tile.builder
    for address, combine in ((tile.scale, builder.fmul), (tile.shift, builder.fadd)):
        with builder.if_then(is_given(builder, address)):
            for number, column in enumerate(columns):
                values = load(builder, builder.add(address, column), vector)
                for totals in sums:
                    total = totals[number]
                    builder.store(combine(builder.load(total), values), total)
    zero = ir.Constant(vector, [0.0] * vector.count)
    with builder.if_then(tile.rectify):
        for total in itertools.chain(*sums):
            value = builder.load(total)
            # not a number stays so
            negative = builder.fcmp_ordered("<", value, zero)
            builder.store(builder.select(negative, zero, value), total)


def _at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, stride: ir.Value) -> ir.Value:
    return builder.add(base, builder.mul(index, stride))


def _moved(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value) -> ir.Value:
    """An address farther on, but 0 where it is 0."""
    return builder.select(is_given(builder, address), builder.add(address, offset), address)
