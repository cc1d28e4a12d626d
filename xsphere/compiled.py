"""How loops become machine code here. Imports numba: import it, and what uses it, in functions."""

# mypy: allow-untyped-calls

import hashlib
import inspect
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numba
from numba.core import sigutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc

from xsphere.atomic import write_file
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
    numba.core.ccallback.CFunc
        With the address of the machine code, and a function of ctypes that calls it. It must be
        kept, for the machine code to stay.

    Examples
    --------
    >>> from xsphere.nn.sparse.entries import loop
    >>> loop("multiply_parts").address > 0
    True
    """
    integers = ", ".join(["int64"] * len(inspect.signature(function).parameters))
    signature: Any = sigutils.normalize_signature(f"void({integers})")
    # as `numba.cfunc` does, which would use files without checksums
    machine_code: Any = CFunc(function, signature, locals={}, options=ERROR_MODEL)
    _kept(machine_code, function).compile()
    return machine_code


def _kept(machine_code: Any, function: Callable[..., Any]) -> Any:
    """Have machine code read from files and written to them, where there is a place for them."""
    with suppress(RuntimeError):  # neither the package's folder nor a user's can be written
        machine_code._cache = _Cache(function)
    return machine_code


class _Cache(FunctionCache):
    """Numba's cache of a function, in files that are checked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # numba's own stamp is that of one file: what a function builds on may stand in another
        stamp = _sources(Path(inspect.getfile(function)).parent)
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, stamp)


class _CheckedFiles(IndexDataCacheFile):
    """Files of machine code that end with a checksum; damaged ones count as absent.

    Numba's own would raise an error at every call, or run what has become of the machine code.
    """

    def save(self, key: Any, data: Any) -> None:
        """Keep machine code; where that is impossible, it is compiled in each process."""
        try:
            super().save(key, data)
        except OSError as error:
            warn_user(
                f"machine code cannot be kept in {self._cache_path} ({error}); it is compiled in "
                "every process. NUMBA_CACHE_DIR chooses another folder",
                CacheWarning,
            )

    def _load_index(self) -> Any:
        return super()._load_index() if _is_sound(Path(self._index_path)) else {}

    def _load_data(self, name: str) -> Any:
        return super()._load_data(name) if _is_sound(Path(self._data_path(name))) else None

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BytesIO]:
        place, content = Path(filepath), BytesIO()
        yield content
        if place.is_dir():
            place.rename(f"{place}.corrupt-{uuid.uuid4().hex[:8]}")
        # behind the end, where numba does not look
        write_file(place, content.getvalue() + _checksum(content.getvalue()))


@cache
def _sources(folder: Path) -> str:
    """Digest of the code in a folder."""
    digests = (_checksum(path.read_bytes()) for path in sorted(folder.glob("*.py")))
    return _checksum(b"".join(digests)).hex()


def _is_sound(path: Path) -> bool:
    try:
        # a pipe would be waited for
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    return content[-DIGEST_BYTES:] == _checksum(content[:-DIGEST_BYTES])


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
