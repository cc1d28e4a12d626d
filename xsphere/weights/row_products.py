"""Products of a weight matrix with fields, as compiled loops that read fields as they lie.

Sixteen fields go at a time: target cells are taken in tiles, the source cells of a tile are
gathered side by side into a buffer that stays in the processor's cache, and every weight is read
once for all fields. Sums run over the entries of a row in their order, field by field, so that
they are the same whichever fields go together. Imports numba: import it inside functions.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xsphere.compat import code_generation
from xsphere.compiled import compiled

cgutils = code_generation()

# Fields side by side: two registers of the widest kind hold their sums.
LANES = 16
# Target cells of a tile, and most source cells (one row may have more): half a second-level cache.
TILE_ROWS = 4096
TILE_SOURCES = 8192


@numba.njit(nogil=True)
def _add_sources(sources, tile, owner, needed, count):
    """Those source cells that the tile did not have yet, appended; their new number."""
    for source in sources:
        if owner[source] != tile:
            owner[source] = tile
            needed[count] = source
            count += 1
    return count


@compiled
def tiles_of(starts, sources, n_source):
    """Target cells cut into tiles, and the source cells that each tile needs.

    Parameters
    ----------
    starts, sources : arrays of int, shapes (n_target + 1,), (n,)
        Rows of a matrix (target, source) and the column of each entry.
    n_source : int
        Number of source cells.

    Returns
    -------
    rows, needs : arrays of int64, shape (n_tiles + 1,)
        First target cell of each tile; where its source cells begin in `needed`.
    needed : array of int32, shape (n_needed,)
        Source cells of each tile, ascending.
    slots : array of int32, shape (n,)
        Which of the tile's source cells each entry reads.
    """
    n_target = starts.size - 1
    owner, slot_of = np.full(n_source, -1, np.int32), np.empty(n_source, np.int32)
    slots, needed = np.empty(sources.size, np.int32), np.empty(sources.size, np.int32)
    rows, needs = np.zeros(n_target + 1, np.int64), np.zeros(n_target + 1, np.int64)
    count, tile, last = 0, 0, 0
    while last < n_target:
        first, begin = last, count
        while last < n_target and last - first < TILE_ROWS:
            row = sources[starts[last] : starts[last + 1]]
            grown = _add_sources(row, tile, owner, needed, count)
            if grown - begin > TILE_SOURCES and last > first:
                owner[needed[count:grown]] = -1
                break
            count, last = grown, last + 1
        needed[begin:count] = np.sort(needed[begin:count])
        slot_of[needed[begin:count]] = np.arange(count - begin)
        for entry in range(starts[first], starts[last]):
            slots[entry] = slot_of[sources[entry]]
        tile += 1
        rows[tile], needs[tile] = last, count
    return rows[: tile + 1], needs[: tile + 1], needed[:count].copy(), slots


@numba.njit(nogil=True)
def _gather(fields, cells, expected, buffer):
    """Values of the cells expected to be valid, else 0; whether all others are missing."""
    for i in range(cells.size):
        cell = cells[i]
        for field in range(fields.shape[0]):
            buffer[i, field] = fields[field, cell]
    if expected.all():
        return True
    n_valid = 0
    for i in range(cells.size):
        if not expected[i]:
            n_valid += np.isfinite(buffer[i, : fields.shape[0]]).sum()
            buffer[i] = 0.0
    return n_valid == 0


@numba.njit(nogil=True)
def _gather_valid(fields, cells, expected, buffer, flags, flag):
    """Values with 0 where missing, flags of valid or missing; the first mask is next expected."""
    nothing = buffer.dtype.type(0)
    for i in range(cells.size):
        expected[i] = np.isfinite(fields[0, cells[i]])
        for field in range(fields.shape[0]):
            value = fields[field, cells[i]]
            valid = np.isfinite(value)
            buffer[i, field] = value if valid else nothing
            flags[i, field] = valid == flag


def _everywhere(builder: Any, value: Any, vector: Any) -> Any:
    """One value in all places of a vector."""
    nothing, place = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, value, ir.Constant(place, 0))
    zeros = ir.Constant(ir.VectorType(place, LANES), [0] * LANES)
    return builder.shuffle_vector(first, nothing, zeros)


@intrinsic
def _weighted_sums(_context: Any, weights: Any, slots: Any, _first: Any, _last: Any, x: Any) -> Any:
    """Sums ``weights[e] * x[slots[e]]`` over entries, a tuple of as many as x has columns.

    Vector instructions keep the sums in registers; a loop over columns would keep them in memory.
    """
    lanes = types.UniTuple(x.dtype, LANES)
    signature = lanes(weights, slots, types.intp, types.intp, x)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [
            context.make_array(signature.args[at])(context, builder, values[at]).data
            for at in (0, 1, 4)
        ]
        element = context.get_value_type(signature.return_type.dtype)
        vector = ir.VectorType(element, LANES)
        start = builder.bitcast(arrays[2], vector.as_pointer())
        sums = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES))
        one = ir.Constant(values[2].type, 1)
        with cgutils.for_range_slice(builder, values[2], values[3], one) as (entry, _):
            weight, slot = (builder.load(builder.gep(array, [entry])) for array in arrays[:2])
            lane = builder.load(
                builder.gep(start, [slot]), align=4 if isinstance(element, ir.FloatType) else 8
            )
            product = builder.fmul(_everywhere(builder, weight, vector), lane)
            builder.store(builder.fadd(builder.load(sums), product), sums)
        total = builder.load(sums)
        numbers = (ir.Constant(ir.IntType(32), lane) for lane in range(LANES))
        each = [builder.extract_element(total, number) for number in numbers]
        return context.make_tuple(builder, signature.return_type, each)

    return signature, generate


@numba.njit(nogil=True)
def _sums(starts, weights, slots, first, last, x, out):
    """Weighted sums of the columns of x, one row of out for each."""
    for row in range(first, last):
        s: Any = _weighted_sums(weights, slots, starts[row], starts[row + 1], x)  # type: ignore[call-arg]
        at = row - first
        out[0, at], out[1, at], out[2, at], out[3, at] = s[0], s[1], s[2], s[3]
        out[4, at], out[5, at], out[6, at], out[7, at] = s[4], s[5], s[6], s[7]
        out[8, at], out[9, at], out[10, at], out[11, at] = s[8], s[9], s[10], s[11]
        out[12, at], out[13, at], out[14, at], out[15, at] = s[12], s[13], s[14], s[15]


@numba.njit(nogil=True)
def _divisor(part, usual, enough, propagate):
    """What a sum over a cell with missing values is divided by: NaN where too much is missing.

    The part is the valid one of the cell or, where missing values propagate, the missing one.
    """
    if propagate:
        return usual if part == 0.0 else np.nan
    return part if part >= enough and part > 0.0 else np.nan


@numba.njit(nogil=True, error_model="numpy")
def _divide(sums, usual, result, first, last):
    """Fills columns of result; whether all sums are finite."""
    n_bad = 0
    by = usual[first:last]
    for field in range(result.shape[0]):
        # whole rows: their numbers lie side by side, as vector instructions want them
        x, quotient = sums[field], result[field, first:last]
        for cell in range(last - first):
            quotient[cell] = x[cell] / by[cell]
            n_bad += (x[cell] - x[cell]) != 0
    return n_bad == 0


@numba.njit(nogil=True, error_model="numpy")
def _divide_masked(sums, parts, usual, result, first, last, rule):
    enough, propagate = rule
    for field in range(result.shape[0]):
        for cell in range(first, last):
            part = parts[field, cell - first]
            by = _divisor(part, usual[cell], enough[cell], propagate)
            result[field, cell] = sums[field, cell - first] / by


@compiled
def apply_tiles(starts, weights, tiles, usual, expected, fields, result, rule):
    """Fill result with up to `LANES` fields.

    Parameters
    ----------
    starts, weights : arrays, shapes (n_target + 1,), (n,)
        Rows of the matrix and its entries.
    tiles : tuple of arrays
        As from `tiles_of`.
    usual : array of float, shape (n_target,)
        What sums are divided by where nothing is missing; NaN where the source covers too little.
    expected : tuple of arrays, of bool, shape (n_needed,), and of float, shape (n_target,)
        Which source cells of each tile have a value, and what sums are then divided by, until a
        tile turns out to differ: so a mask that stays costs once. Both are updated.
    fields, result : arrays, shapes (n_fields, n_source), (n_fields, n_target)
        Source fields, NaN and infinities missing, and what they become.
    rule : (array of float, bool)
        Valid part of each target cell that is enough; whether instead one missing value makes the
        cell missing.
    """
    rows, needs, needed, slots = tiles
    buffer = np.zeros((np.diff(needs).max(), LANES), weights.dtype)
    # rows that are no multiple of a page apart do not push each other out of the cache
    sums = np.empty((LANES, np.diff(rows).max() + LANES), weights.dtype)
    flags, parts = np.zeros_like(buffer), np.empty_like(sums)
    for tile in range(rows.size - 1):
        cells = needed[needs[tile] : needs[tile + 1]]
        valid, first, last = expected[0][needs[tile] : needs[tile + 1]], rows[tile], rows[tile + 1]
        as_expected = _gather(fields, cells, valid, buffer)
        _sums(starts, weights, slots, first, last, buffer, sums)
        if _divide(sums, expected[1], result, first, last) and as_expected:
            continue
        _gather_valid(fields, cells, valid, buffer, flags, not rule[1])
        _sums(starts, weights, slots, first, last, buffer, sums)
        _sums(starts, weights, slots, first, last, flags, parts)
        _divide_masked(sums, parts, usual, result, first, last, rule)
        for row in range(first, last):
            by = _divisor(parts[0, row - first], usual[row], rule[0][row], rule[1])
            expected[1][row] = by


@numba.njit(nogil=True)
def _masked_sum(weights, sources, field, propagate):
    """Sum over the valid cells, and the part `_divisor` asks for."""
    total = part = field.dtype.type(0)
    for entry in range(weights.size):
        value = field[sources[entry]]
        valid = np.isfinite(value)
        if valid:
            total += weights[entry] * value
        if valid != propagate:
            part += weights[entry]
    return total, part


@compiled
def apply_rows(starts, weights, sources, usual, fields, result, rule):
    """Fill result with a few fields, for which tiles do not pay; arguments as `apply_tiles`.

    Parameters
    ----------
    starts, weights, sources : arrays, shapes (n_target + 1,), (n,), (n,)
        A matrix (target, source) in compressed rows.
    usual, fields, result, rule
        As for `apply_tiles`.
    """
    enough, propagate = rule
    for f in range(fields.shape[0]):
        field = fields[f]
        for row in range(usual.size):
            first, last = starts[row], starts[row + 1]
            total, by = weights.dtype.type(0), usual[row]
            for entry in range(first, last):
                total += weights[entry] * field[sources[entry]]
            if not np.isfinite(total):
                total, part = _masked_sum(
                    weights[first:last], sources[first:last], field, propagate
                )
                by = _divisor(part, by, enough[row], propagate)
            result[f, row] = total / by


@compiled
def row_sums(starts, weights):
    """Sum of every row, shape (n_target,), in the order in which fields are summed.

    Parameters
    ----------
    starts, weights : arrays, shapes (n_target + 1,), (n,)
        Rows of a matrix and its entries.

    Returns
    -------
    array of the type of `weights`
    """
    result = np.zeros(starts.size - 1, weights.dtype)
    for row in range(result.size):
        for entry in range(starts[row], starts[row + 1]):
            result[row] += weights[entry]
    return result
