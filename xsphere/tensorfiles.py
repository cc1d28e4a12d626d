"""Files of tensors (safetensors) with a digest of all that they hold.

A file is distrusted until its header fits its size, and its tensors until they fit the digest.
Nothing in a file is ever executed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsphere.notices import shortened

MAX_HEADER = 16 * 2**20
MAX_FILE = 2 * 2**30
MAX_TENSORS = 4096
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
DIGEST = "sha256"
Tensors = Mapping[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


class TensorFileError(ValueError):
    """A file that is no sound file of tensors.

    Examples
    --------
    >>> raise TensorFileError("its tensors overlap or leave holes")
    Traceback (most recent call last):
    ...
    xsphere.tensorfiles.TensorFileError: its tensors overlap or leave holes
    """


class Header(NamedTuple):
    """What a file says of itself.

    Parameters
    ----------
    metadata : dict of str
        Texts by name, without the digest.
    shapes : dict of tuple
        Shape of every tensor; they fill the file exactly.

    Examples
    --------
    >>> Header({"a": "b"}, {}).metadata
    {'a': 'b'}
    """

    metadata: dict[str, str]
    shapes: Shapes


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise TensorFileError("its header repeats a name")
    return values


def _refused_constant(name: str) -> None:
    raise TensorFileError(f"its header holds {name}, which is no number")


def parsed_json(text: bytes | str) -> Any:
    """Value of a JSON text in a header, read strictly.

    Parameters
    ----------
    text : bytes or str
        Without repeated names, NaN and infinities.

    Returns
    -------
    object
        Plain values.

    Raises
    ------
    TensorFileError
        If it is no such text.

    Examples
    --------
    >>> parsed_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object_without_repeats, parse_constant=_refused_constant
        )
    except TensorFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"its header is not JSON ({shortened(error)})") from error


def read_header(path: Path) -> Header:
    """Metadata and shapes of a file, of which only the header is read.

    Parameters
    ----------
    path : Path
        A file of tensors.

    Returns
    -------
    Header
        Its digest is not compared yet.

    Raises
    ------
    TensorFileError
        If it is no sound safetensors file.

    Examples
    --------
    >>> read_header(Path("no-such-file"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...
    """
    size = path.stat().st_size
    if not 8 < size <= MAX_FILE:
        raise TensorFileError(f"its size of {size} bytes is not between 8 and {MAX_FILE}")
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        if n_header > min(MAX_HEADER, size - 8):
            raise TensorFileError(
                f"its header claims {n_header} bytes of a file of {size}: it is truncated or not "
                "a safetensors file"
            )
        entries = parsed_json(file.read(n_header))
    metadata = _popped_metadata(entries)
    metadata.pop(DIGEST, None)
    return Header(metadata, _checked_shapes(entries, size - 8 - n_header))


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Tensors of a file whose header is sound, compared with its digest.

    Parameters
    ----------
    path : Path
        A file of tensors for which `read_header` found nothing wrong.

    Returns
    -------
    dict of array
        Tensors by name.

    Raises
    ------
    TensorFileError
        If the file has no digest, or another content than the digest says.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
    >>> n_bytes = path.write_bytes(packed({"a": np.ones(2, np.float32)}, {}))
    >>> read_tensors(path)
    {'a': array([1., 1.], dtype=float32)}
    """
    from safetensors.numpy import load

    content = path.read_bytes()
    n_header = int.from_bytes(content[:8], "little")
    entries = parsed_json(content[8 : 8 + n_header])
    metadata = _popped_metadata(entries)
    told = metadata.pop(DIGEST, None)
    if told is None:
        raise TensorFileError(
            "it holds no digest of its contents, so damage could not be noticed; make it again "
            "with this version of xsphere"
        )
    if told != _digest(metadata, entries, memoryview(content)[8 + n_header :]):
        raise TensorFileError("its contents do not match its digest: it was changed or damaged")
    tensors: dict[str, NDArray[Any]] = load(content)
    return tensors


def file_stamp(path: Path) -> str:
    """Text that changes when a file does, found without reading it.

    Parameters
    ----------
    path : Path
        A file that exists.

    Returns
    -------
    str
        Its place, number, size and times.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> n_bytes = path.write_bytes(b"1")
    >>> file_stamp(path) == file_stamp(path)
    True
    """
    stat = path.stat()
    # times of contents can be set, as copies do, and that of the last change cannot
    parts = (path.resolve(), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return " ".join(map(str, parts))


def packed(tensors: Tensors, metadata: Mapping[str, str]) -> bytes:
    """Content of a file: the same bytes for the same tensors and texts, in every process.

    Parameters
    ----------
    tensors : dict of array
        Of float32 or int64, by name.
    metadata : dict of str
        Texts by name.

    Returns
    -------
    bytes
        A safetensors file, with a digest of both in its header.

    Examples
    --------
    >>> content = packed({"a": np.zeros(2, np.float32)}, {"author": "me"})
    >>> content[-8:] == bytes(8)
    True
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    entries: dict[str, Any] = {}
    parts, end = [], 0
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        # a scalar is one number, not one of length 1
        little = values.astype(values.dtype.newbyteorder("<")).reshape(np.shape(tensors[name]))
        start, end = end, end + little.nbytes
        entries[name] = {
            "dtype": names[little.dtype],
            "shape": list(little.shape),
            "data_offsets": [start, end],
        }
        parts.append(little.tobytes())
    data = b"".join(parts)
    sealed = dict(metadata) | {DIGEST: _digest(metadata, entries, data)}
    text = json.dumps({"__metadata__": sealed} | entries, sort_keys=True).encode()
    # tensors begin at a multiple of their size
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _digest(metadata: Mapping[str, str], entries: Mapping[str, Any], data: Any) -> str:
    """SHA-256 of all that a file says, however its header is spelled."""
    sha = hashlib.sha256(json.dumps([metadata, entries], sort_keys=True).encode())
    sha.update(data)
    return sha.hexdigest()


def _popped_metadata(entries: Any) -> dict[str, str]:
    """Texts of a header, which has only tensors afterwards."""
    if not isinstance(entries, dict):
        raise TensorFileError("its header is not a JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise TensorFileError("the metadata of its header are not texts by name")
    return metadata


def _checked_shapes(entries: dict[str, Any], n_bytes: int) -> dict[str, tuple[int, ...]]:
    if len(entries) > MAX_TENSORS:
        raise TensorFileError(f"it has {len(entries)} tensors, more than {MAX_TENSORS}")
    shapes, spans = {}, []
    for name, entry in entries.items():
        shapes[name], span = _shape_and_span(name, entry)
        spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise TensorFileError("its tensors overlap or leave holes")
        end = stop
    if end != n_bytes:
        raise TensorFileError(f"its tensors fill {end} bytes but {n_bytes} are there: truncated?")
    return shapes


def _shape_and_span(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise TensorFileError(
            f"tensor {shortened(name)} has no dtype, shape and offsets"
        ) from error
    sound = isinstance(shape, list) and len(shape) <= 8
    if not sound or not all(type(n) is int and 0 <= n < 2**40 for n in [*shape, start, stop]):
        raise TensorFileError(
            f"tensor {shortened(name)} has the absurd shape or offsets {shortened(entry)}"
        )
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise TensorFileError(
            f"tensor {shortened(name)} has dtype {shortened(dtype)}, known are {sorted(DTYPES)}"
        )
    # Python integers: nothing overflows
    expected: int = DTYPES[dtype].itemsize
    for n in shape:
        expected *= n
    if stop - start != expected:
        raise TensorFileError(
            f"tensor {shortened(name)} of shape {shape} needs {expected} bytes, got {stop - start}"
        )
    return tuple(shape), (start, stop)
