"""Calls of compiled loops: what they take stands in memory, where any thread can find it.

Imports numba: import it inside functions.
"""

from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from xsphere.compat import code_generation
from xsphere.compiled import compiled

cgutils = code_generation()


@intrinsic
def fetch_and_add(_context: Any, counter: Any) -> Any:
    """Machine code that raises a 64-bit integer by one for all threads, and gives what it was."""
    signature = types.int64(types.int64)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(64)
        pointer = builder.inttoptr(arguments[0], integer.as_pointer())
        return builder.atomic_rmw("add", pointer, integer(1), "monotonic")

    return signature, generate


@intrinsic
def call_at(_context: Any, address: Any, arguments: Any) -> Any:
    """Machine code that calls a function of C with 64-bit integers, given as a tuple.

    Loops that call the kernels so are compiled without them: theirs is most of the machine code.
    """
    signature = types.void(types.int64, arguments)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer = ir.IntType(64)
        each = cgutils.unpack_tuple(builder, values[1])
        numbers = [
            context.cast(builder, value, kind, types.int64)
            for value, kind in zip(each, signature.args[1], strict=True)
        ]
        function = ir.FunctionType(ir.VoidType(), [integer] * len(numbers))
        builder.call(builder.inttoptr(values[0], function.as_pointer()), numbers)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pointer_at(_context: Any, address: Any) -> Any:
    """Machine code that takes an address as that of 64-bit integers."""
    signature = types.CPointer(types.int64)(types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@compiled
def table_at(address: int, n_rows: int, n_columns: int) -> Any:
    """An array of 64-bit integers, shape (n_rows, n_columns), that stands at an address."""
    return carray(pointer_at(address), (n_rows, n_columns))
