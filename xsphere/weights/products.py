"""Products of a weight matrix with fields, as compiled loops that read fields as they lie.

Sixteen fields go at a time: target cells are taken in tiles, the source cells of a tile are
gathered side by side into a buffer that stays in the processor's cache, and every weight is read
once for all fields. Sums run over the entries of a row in their order, field by field, so that
they are the same whichever fields go together. Imports numba: import it inside functions.
"""

# mypy: allow-untyped-defs

import numba
import numpy as np

from xsphere.compiled import compiled

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


@numba.njit(nogil=True)
def _sums(starts, weights, slots, first, last, x, out):
    """Weighted sums of the columns of x, one row of out for each."""
    nothing = x.dtype.type(0)
    for row in range(first, last):
        a = b = c = d = e = f = g = h = i = j = k = l = m = n = o = p = nothing  # noqa: E741
        for entry in range(starts[row], starts[row + 1]):
            # written out, since a loop would keep the sums in memory instead of registers
            w, s = weights[entry], slots[entry]
            a, b, c, d = a + w * x[s, 0], b + w * x[s, 1], c + w * x[s, 2], d + w * x[s, 3]
            e, f, g, h = e + w * x[s, 4], f + w * x[s, 5], g + w * x[s, 6], h + w * x[s, 7]
            i, j, k, l = i + w * x[s, 8], j + w * x[s, 9], k + w * x[s, 10], l + w * x[s, 11]  # noqa: E741
            m, n, o, p = m + w * x[s, 12], n + w * x[s, 13], o + w * x[s, 14], p + w * x[s, 15]
        at = row - first
        out[0, at], out[1, at], out[2, at], out[3, at] = a, b, c, d
        out[4, at], out[5, at], out[6, at], out[7, at] = e, f, g, h
        out[8, at], out[9, at], out[10, at], out[11, at] = i, j, k, l
        out[12, at], out[13, at], out[14, at], out[15, at] = m, n, o, p


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
