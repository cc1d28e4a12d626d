"""Private parts of other libraries: all that xsphere uses of them, each with its reason.

A release of theirs may change any of it. No other module uses one; it imports each library where it
is used, so that nothing heavy comes with it.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


def code_generation() -> Any:
    """Numba's helpers for writing LLVM code: intrinsics are documented, these are not."""
    from numba.core import cgutils

    return cgutils


def c_function(function: Callable[..., None], signature: str, options: dict[str, Any]) -> Any:
    """A function for C, not compiled yet: `numba.cfunc` compiles before a cache can be given."""
    from numba.core import sigutils
    from numba.core.ccallback import CFunc

    normal: Any = sigutils.normalize_signature(signature)
    return CFunc(function, normal, locals={}, options=options)


class CheckedFiles(Protocol):
    """How files of machine code are checked and written."""

    def is_sound(self, path: Path) -> bool:
        """Whether a file may be read."""

    def write(self, path: Path, content: bytes) -> None:
        """Write a file, whole or not at all."""

    def warn(self, folder: str, error: OSError) -> None:
        """Say that files cannot be written."""


def keep_machine_code(
    machine_code: Any, function: Callable[..., Any], stamp: str, files: CheckedFiles
) -> None:
    """Let machine code be read from checked files: numba's own are believed as they are.

    `stamp` stands for the sources: numba's own is that of one file. Raises `RuntimeError` where
    numba finds no folder for them.
    """
    from numba.core.caching import FunctionCache, IndexDataCacheFile

    class Files(IndexDataCacheFile):
        """Damaged files count as absent."""

        def save(self, key: Any, data: Any) -> None:
            """Keep machine code where that is possible."""
            try:
                super().save(key, data)
            except OSError as error:
                files.warn(kept._cache_path, error)

        def _load_index(self) -> Any:
            sound = files.is_sound(Path(self._index_path))
            return super()._load_index() if sound else {}

        def _load_data(self, name: str) -> Any:
            sound = files.is_sound(Path(self._data_path(name)))
            return super()._load_data(name) if sound else None

        @contextmanager
        def _open_for_write(self, filepath: str) -> Iterator[BytesIO]:
            content = BytesIO()
            yield content
            files.write(Path(filepath), content.getvalue())

    kept: Any = FunctionCache(function)
    kept._cache_file = Files(kept._cache_path, kept._impl.filename_base, stamp)
    machine_code._cache = kept


def done_by_zarr(work: Coroutine[Any, Any, T]) -> T:
    """What asynchronous work on a store returns: Zarr's stores are tied to a loop of its own."""
    from zarr.core.sync import sync

    return sync(work)


def held(variable: Any) -> Any:
    """What a variable of xarray holds: its public `data` reads what is still in a file."""
    return variable._data


def is_unread(variable: Any) -> bool:
    """Whether a variable is neither in memory nor in tasks: xarray has no public way to ask."""
    from xarray.core.indexing import ExplicitlyIndexed

    return isinstance(variable._data, ExplicitlyIndexed) and not variable._in_memory


def lazy_array(stored: Any) -> Any:
    """What xarray puts around an array of a backend: documented for backends, but in `core`."""
    from xarray.core.indexing import LazilyIndexedArray

    return LazilyIndexedArray(stored)


def by_outer_indices(key: Any, shape: tuple[int, ...], read: Callable[[Any], Any]) -> Any:
    """Serve any index of xarray by one index along each axis: documented, but in `core`."""
    from xarray.core.indexing import IndexingSupport, explicit_indexing_adapter

    return explicit_indexing_adapter(key, shape, IndexingSupport.OUTER, read)


def layers_around(data: Any) -> tuple[Any, list[Any]] | None:
    """The array of a backend under what a variable or a task holds, and xarray's layers around it.

    The outermost layer is the first. Each has the next in its attribute `array`, and some an index
    (`key`) or a function that decodes (`func`); there is no public way to ask for either.
    """
    from xarray.backends import BackendArray

    layers: list[Any] = []
    while not isinstance(data, BackendArray):
        inner = getattr(data, "array", None)
        if inner is None or not type(data).__module__.startswith("xarray."):
            return None
        layers.append(data)
        data = inner
    return data, layers


def file_and_group(stored: Any) -> tuple[Any, Any]:
    """File and group that an array of xarray's backends for files reads: not told in public."""
    store = getattr(stored, "datastore", None)
    return getattr(store, "_filename", None), getattr(store, "_group", None)


def plain_store(store: Any) -> Any:
    """A store of Zarr without what others put around it, for which a wrapper has no public name."""
    while hasattr(store, "_with_store"):
        store = store._store
    return store


def objects_below(store: Any, folder: str) -> dict[str, Any]:
    """Details of all objects below a folder of a remote store: Zarr lists names only."""
    store.fs.invalidate_cache()
    found: dict[str, Any] = done_by_zarr(store.fs._find(folder, detail=True))
    return found


def objects_in_memory(store: Any) -> dict[str, Any]:
    """The objects of a store of Zarr in memory, without a coroutine for each."""
    found: dict[str, Any] = store._store_dict
    return found
