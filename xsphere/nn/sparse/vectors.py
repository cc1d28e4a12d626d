"""The innermost loop of every sparse product, written in vector instructions.

A row of a sparse matrix times an array of channels is a weighted sum of rows of that array. Loops
that numba compiles keep that sum in memory, since nothing tells the compiler that input and output
are apart; here it stays in registers, at any number of channels. What the processor lacks in width
LLVM makes up with more instructions.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xsphere.compat import code_generation

cgutils = code_generation()

INDEX = ir.IntType(64)
# (width of a vector, vectors side by side, neighbours at a time): wide sums first, then the rest;
# several neighbours at a time where one vector alone would wait for its own last addition
SHAPES = ((16, 8, 1), (16, 4, 1), (16, 2, 2), (16, 1, 4), (8, 1, 4), (4, 1, 4), (1, 1, 1))
SUM = ("contract",)


@dataclass(frozen=True)
class _Row:
    """Arguments of one weighted sum, as LLVM values."""

    builder: ir.IRBuilder
    element: ir.Type
    x: ir.Value
    stride: ir.Value
    indices: ir.Value
    weights: ir.Value
    first: ir.Value
    last: ir.Value
    n_channels: ir.Value
    scale: ir.Value
    plus: ir.Value
    minus: ir.Value
    out: ir.Value


@intrinsic
def weighted_sum(
    _context: Any,
    x: Any,
    stride: Any,
    indices: Any,
    weights: Any,
    first: Any,
    last: Any,
    n_channels: Any,
    scale: Any,
    plus: Any,
    minus: Any,
    out: Any,
) -> Any:
    """Machine code of ``out = scale * sum_p weights[p] x[indices[p]] + plus - minus``.

    Arrays are given by their addresses; 0 leaves `plus` or `minus` away. Rows of `x` are `stride`
    bytes apart. `scale` says by its type what elements are.
    """
    address = count = types.int64
    signature = types.void(
        *(address, count, address, address, count, count, count, scale),
        *(address, address, address),
    )

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        element = context.get_value_type(scale)
        values = list(arguments)
        for position, pointee in ((2, ir.IntType(32)), (3, element)):
            values[position] = builder.inttoptr(values[position], pointee.as_pointer())
        x_, stride_, indices_, weights_, first_, last_, n_, scale_, plus_, minus_, out_ = values
        row = _Row(
            builder=builder,
            element=element,
            x=x_,
            stride=stride_,
            indices=indices_,
            weights=weights_,
            first=first_,
            last=last_,
            n_channels=n_,
            scale=scale_,
            plus=plus_,
            minus=minus_,
            out=out_,
        )
        _generate_row(row)
        return context.get_dummy_value()

    return signature, generate


def _generate_row(row: _Row) -> None:
    """All channels, in the widest vectors that still fit into what is left of them."""
    builder = row.builder
    done = cgutils.alloca_once_value(builder, constant(0))
    for width, n_vectors, n_ahead in SHAPES:
        with stepping(builder, row.n_channels, width * n_vectors, done) as channel:
            _generate_channels(row, channel, width, n_vectors, n_ahead)


def _generate_channels(
    row: _Row, channel: ir.Value, width: int, n_vectors: int, n_ahead: int
) -> None:
    """Some vectors of channels, summed over all neighbours in registers."""
    builder = row.builder
    vector = ir.VectorType(row.element, width)
    zero = ir.Constant(vector, [0.0] * width)
    sums = [
        [cgutils.alloca_once(builder, vector) for _ in range(n_vectors)] for _ in range(n_ahead)
    ]
    for one in itertools.chain(*sums):
        builder.store(zero, one)
    size = element_size(row.element)
    offset = builder.mul(channel, constant(size))
    columns = builder.add(row.x, offset)
    n_neighbours = builder.sub(row.last, row.first)
    bulk = builder.sub(row.last, builder.srem(n_neighbours, constant(n_ahead)))
    with _counting(builder, row.first, bulk, n_ahead) as p:
        for ahead in range(n_ahead):
            _add_neighbour(row, columns, builder.add(p, constant(ahead)), sums[ahead], vector)
    with _counting(builder, bulk, row.last, 1) as p:
        _add_neighbour(row, columns, p, sums[0], vector)
    scale = everywhere(builder, row.scale, vector)
    for number in range(n_vectors):
        total = builder.load(sums[0][number])
        for ahead in range(1, n_ahead):
            total = builder.fadd(total, builder.load(sums[ahead][number]))
        place = builder.add(offset, constant(number * width * size))
        builder.store(builder.fmul(total, scale), sums[0][number])
        _finish(row, sums[0][number], place, vector)


def _add_neighbour(
    row: _Row, columns: ir.Value, position: ir.Value, sums: list[Any], vector: ir.VectorType
) -> None:
    builder = row.builder
    index = builder.load(builder.gep(row.indices, [position]))
    weight = everywhere(builder, builder.load(builder.gep(row.weights, [position])), vector)
    start = builder.add(columns, builder.mul(builder.zext(index, INDEX), row.stride))
    size = vector.count * element_size(vector)
    for number, one in enumerate(sums):
        place = builder.add(start, constant(number * size))
        product = builder.fmul(weight, load(builder, place, vector), flags=SUM)
        builder.store(builder.fadd(builder.load(one), product, flags=SUM), one)


def _finish(row: _Row, total: ir.Value, place: ir.Value, vector: ir.VectorType) -> None:
    """Add and subtract what was asked for, and write the result wherever it is wanted."""
    builder = row.builder
    for address, combine in ((row.plus, builder.fadd), (row.minus, builder.fsub)):
        with builder.if_then(is_given(builder, address)):
            other = load(builder, builder.add(address, place), vector)
            builder.store(combine(builder.load(total), other), total)
    store(builder, builder.load(total), builder.add(row.out, place), vector)


def load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    """What stands at an address: an element, or a vector of elements."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    return builder.load(pointer, align=element_size(kind))


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, kind: ir.Type) -> None:
    """Write an element or a vector of elements to an address."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    builder.store(value, pointer, align=element_size(kind))


def element_size(kind: ir.Type) -> int:
    """Bytes of an element, or of those of a vector."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    return 4 if isinstance(element, ir.FloatType) else 8


def constant(number: int) -> ir.Constant:
    """A number as a 64-bit integer."""
    return ir.Constant(INDEX, number)


def is_given(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """Whether an address is not 0."""
    return builder.icmp_unsigned("!=", address, ir.Constant(address.type, 0))


def everywhere(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    """One value in all places of a vector."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, nothing, zeros)


@contextmanager
def _counting(
    builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int
) -> Iterator[ir.Value]:
    with cgutils.for_range_slice(builder, start, stop, constant(step), intp=INDEX) as loop:
        yield loop[0]


@intrinsic
def copy_bytes(_context: Any, out: Any, source: Any, n_bytes: Any) -> Any:
    """Machine code that copies bytes from one address to another."""
    signature = types.void(types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        to, start = (builder.inttoptr(address, byte) for address in arguments[:2])
        cgutils.raw_memcpy(builder, to, start, arguments[2], 1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def integer_at(_context: Any, address: Any, position: Any) -> Any:
    """Machine code that reads one 32-bit integer of an array given by its address."""
    signature = types.int64(types.int64, types.int64)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(32).as_pointer())
        return builder.zext(builder.load(builder.gep(pointer, [arguments[1]])), INDEX)

    return signature, generate


@contextmanager
def stepping(builder: ir.IRBuilder, n: ir.Value, step: int, done: Any) -> Iterator[ir.Value]:
    """Loop over steps as long as whole ones are left of `n`, from where `done` points on."""
    test, body, end = (builder.append_basic_block(name) for name in ("test", "body", "end"))
    builder.branch(test)
    builder.position_at_end(test)
    position = builder.load(done)
    following = builder.add(position, constant(step))
    builder.cbranch(builder.icmp_signed("<=", following, n), body, end)
    builder.position_at_end(body)
    yield position
    builder.store(following, done)
    builder.branch(test)
    builder.position_at_end(end)
