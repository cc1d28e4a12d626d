"""How loops become machine code here. Imports numba: import it, and what uses it, in functions."""

# mypy: allow-untyped-calls

import hashlib
import inspect
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

import numba

from xsphere.atomic import write_file
from xsphere.compat import c_function, keep_machine_code
from xsphere.entries import CacheWarning
from xsphere.notices import warn_user

# a check for zero at every division would keep loops from becoming vector instructions
ERROR_MODEL = {"error_model": "numpy"}
DIGEST_BYTES = 32


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code that releases the GIL, kept on disk where numba finds a place for it.

    Division by zero gives what IEEE 754 says, no error.

    Parameters
    ----------
    function : callable
        In the part of Python that numba compiles.

    Returns
    -------
    callable
        Compiled at its first call for each set of types.

    Examples
    --------
    >>> from xsphere.graph.near_cells import nearest_cells
    >>> bool(nearest_cells.targetoptions["nogil"])
    True
    """
    options: Any = {"nogil": True, **ERROR_MODEL}
    return cast("Callable[..., Any]", _kept(numba.njit(**options)(function), function))


def compiled_for_c(function: Callable[..., None]) -> Any:
    """Machine code that C can call, kept as that of `compiled`.

    Parameters
    ----------
    function : callable
        Of any number of 64-bit integers, in the part of Python that numba compiles.

    Returns
    -------
    CFunc
        With the address of the machine code, and a function of ctypes that calls it. It must be
        kept, for the machine code to stay.

    Examples
    --------
    >>> from xsphere.nn.sparse.entries import loop
    >>> loop("multiply_parts").address > 0
    True
    """
    integers = ", ".join(["int64"] * len(inspect.signature(function).parameters))
    machine_code = c_function(function, f"void({integers})", ERROR_MODEL)
    _kept(machine_code, function).compile()
    return machine_code


def _kept(machine_code: Any, function: Callable[..., Any]) -> Any:
    """Have machine code read from files and written to them, where there is a place for them."""
    # what a function builds on may stand in another file than its own
    stamp = _sources(Path(inspect.getfile(function)).parent)
    with suppress(RuntimeError):  # neither the package's folder nor a user's can be written
        keep_machine_code(machine_code, function, stamp, _Files())
    return machine_code


class _Files:
    """Files of machine code that end with a checksum.

    Of damaged ones, numba would raise an error at every call, or run what has become of the code.
    """

    def is_sound(self, path: Path) -> bool:
        """Whether a file is as it was written."""
        try:
            # a pipe would be waited for
            content = path.read_bytes() if path.is_file() else b""
        except OSError:
            return False
        return content[-DIGEST_BYTES:] == _checksum(content[:-DIGEST_BYTES])

    def write(self, path: Path, content: bytes) -> None:
        """Write a file; what is in its place and is none goes aside."""
        if path.is_dir():
            path.rename(f"{path}.corrupt-{uuid.uuid4().hex[:8]}")
        # behind the end, where numba does not look
        write_file(path, content + _checksum(content))

    def warn(self, folder: str, error: OSError) -> None:
        """Say that machine code is compiled in each process."""
        warn_user(
            f"machine code cannot be kept in {folder} ({error}); it is compiled in every process. "
            "NUMBA_CACHE_DIR chooses another folder",
            CacheWarning,
        )


@cache
def _sources(folder: Path) -> str:
    """Digest of the code in a folder."""
    digests = (_checksum(path.read_bytes()) for path in sorted(folder.glob("*.py")))
    return _checksum(b"".join(digests)).hex()


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
