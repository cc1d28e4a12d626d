"""What stored data hold, told by the names, sizes and times of their pieces: nothing is decoded."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from xsphere.compat import (
    file_and_group,
    objects_below,
    objects_in_memory,
    plain_store,
)
from xsphere.sources.leaves import Leaf, Selection, decoding, plain

# of a file, at each end: where NetCDF and HDF5 keep what they change with every write
ENDS = 2**16
# of an array; more are not looked at one by one
MOST_OBJECTS = 10**8
# by which a store tells versions of one object apart, the surest first
_TAGS = (
    "ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated",
    "created",
)  # fmt: skip


def stored_contents(leaf: Leaf) -> str | None:
    """SHA-256 of what tells of the selected part of a stored array; None where nothing does."""
    array, selection = leaf.zarr_array, leaf.selection()
    about = [decoding(leaf), None if selection is None else [plain(axis) for axis in selection]]
    if array is not None:
        if math.prod(len(axis) for axis in _touched(array, selection)) > MOST_OBJECTS:
            return None
        pieces = _zarr_pieces(array, selection)
        about.append(zarr_metadata(array))
    else:
        path = file_of(leaf)
        if path is None:
            return None
        pieces = [file_line(path)]
        group = file_and_group(leaf.stored)[1]
        about.append([str(leaf.stored.dtype), list(leaf.stored.shape)])
        name = getattr(leaf.stored, "variable_name", None)
        about.append([name, group if isinstance(group, str) else None])
    sha = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for piece in pieces:
        sha.update(piece.encode())
    return sha.hexdigest()


def file_of(leaf: Leaf) -> Path | None:
    """The local file under a stored array that is not Zarr, if it is one."""
    name = file_and_group(leaf.stored)[0]
    return Path(name) if isinstance(name, str) and os.path.isfile(name) else None


def file_line(path: Path) -> str:
    """Size, time and both ends of a file."""
    status = path.stat()
    with path.open("rb") as file:
        ends = file.read(ENDS)
        file.seek(max(0, status.st_size - ENDS))
        ends += file.read(ENDS)
    return f"{status.st_size} {status.st_mtime_ns} {hashlib.sha256(ends).hexdigest()}\n"


def zarr_metadata(array: Any) -> Any:
    """Metadata of a Zarr array but its shape, which may grow while a part stays what it is."""
    from zarr.buffer import default_buffer_prototype

    documents = array.metadata.to_buffer_dict(default_buffer_prototype())
    parsed = {name: json.loads(text.to_bytes()) for name, text in documents.items()}
    for document in parsed.values():
        document.pop("shape", None)
        document.pop("consolidated_metadata", None)
    # numbers such as NaN as text, since JSON has none
    return json.loads(json.dumps(parsed, sort_keys=True), parse_constant=str)


def outer_chunks(array: Any) -> tuple[int, ...]:
    """Shape of what is one object in the store: a shard, else a chunk."""
    return tuple(getattr(array, "shards", None) or array.chunks)


def touched(selection: Selection | None, shape: Iterable[int], chunks: Iterable[int]) -> list[Any]:
    """Numbers of the chunks along each axis that hold what is selected."""
    sizes = zip(shape, chunks, strict=True)
    if selection is None:
        return [range(-(-size // chunk)) for size, chunk in sizes]
    pairs = zip(selection, sizes, strict=True)
    return [np.unique(indices // chunk).tolist() for indices, (_, chunk) in pairs]


def touched_keys(array: Any, selection: Selection | None) -> Iterator[str]:
    """Names of the objects, within the array, that hold what is selected."""
    encode = array.metadata.encode_chunk_key
    return (encode(at) for at in product(*_touched(array, selection)))


def _touched(array: Any, selection: Selection | None) -> list[Any]:
    return touched(selection, array.shape, outer_chunks(array))


def local_folder(array: Any) -> str | None:
    """Folder of a Zarr array on a file system of this machine."""
    store = plain_store(array.store)
    if type(store).__name__ != "LocalStore":
        return None
    return os.path.join(store.root, array.path) if array.path else str(store.root)


def absent_chunk(array: Any, most: int) -> str | None:
    """Name of an object that an array in a local store lacks; of many, so many are looked for."""
    folder, chunks = local_folder(array), outer_chunks(array)
    if folder is None or not all(array.shape):
        return None
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, chunks, strict=True)]
    n = math.prod(counts)
    for number in np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)):
        key = array.metadata.encode_chunk_key(tuple(map(int, np.unravel_index(number, counts))))
        if not os.path.exists(f"{folder}/{key}"):
            return f"{array.path}/{key}".lstrip("/")
    return None


def _zarr_pieces(array: Any, selection: Selection | None) -> Iterable[str]:
    """A line for each object that is there, as far as the store tells of them."""
    store, keys = plain_store(array.store), touched_keys(array, selection)
    session: Any = getattr(store, "session", None)
    if hasattr(session, "snapshot_id"):
        return [f"{array.path} {session.snapshot_id}"]
    match type(store).__name__:
        case "LocalStore":
            return _local_lines(str(local_folder(array)), keys)
        case "MemoryStore":
            return _memory_lines(objects_in_memory(store), array.path, keys)
        case "ZipStore":
            return [array.path, file_line(Path(store.path))]
        case "FsspecStore":
            return _listed_lines(_listing(store, array.path), keys)
    return []


def _local_lines(folder: str, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        try:
            status = os.stat(f"{folder}/{key}")
        except FileNotFoundError:
            continue
        yield f"{key} {status.st_size} {status.st_mtime_ns}\n"


def _memory_lines(objects: Mapping[str, Any], path: str, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        stored = objects.get(f"{path}/{key}".lstrip("/"))
        if stored is not None:
            yield f"{key} {hashlib.sha256(stored.to_bytes()).hexdigest()}\n"


def _listing(store: Any, path: str) -> dict[str, Any]:
    """Details of the objects of an array by their names within it."""
    folder = f"{store.path}/{path}".rstrip("/")
    try:
        found = objects_below(store, folder)
    except (OSError, NotImplementedError):
        return {}
    marker = folder.strip("/") + "/"
    return {name.partition(marker)[2]: details for name, details in found.items()}


def _listed_lines(listing: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if key in listing:
            details = listing[key]
            tag = next((details[name] for name in _TAGS if details.get(name)), None)
            yield f"{key} {details.get('size')} {tag}\n"
