"""Model files: safetensors with the specification as JSON in the header.

A file is distrusted until its header fits its size and its specification: what is wrong is said
before any tensor is allocated. Nothing in a file is ever executed.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

METADATA_KEY = "xsphere"
MAX_HEADER = 16 * 2**20
MAX_FILE = 2 * 2**30
MAX_TENSORS = 4096
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
Tensors = Mapping[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


class ModelFileError(ValueError):
    """A file that is not a sound model.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from xsphere.model import Model
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     path = Path(folder, "model.safetensors")
    ...     _ = path.write_bytes(b"no model")
    ...     Model.load(path)
    Traceback (most recent call last):
    xsphere.model.file.ModelFileError: ...model.safetensors...
    """


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ModelFileError("its header repeats a name")
    return values


def _json(text: bytes | str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"its header is not JSON ({error})") from error


def read_header(path: Path) -> tuple[dict[str, Any], Shapes]:
    """Specification and tensor shapes of a file, of which only the header is read.

    Parameters
    ----------
    path : Path
        A model file.

    Returns
    -------
    specification : dict
        Plain values, unchecked.
    shapes : dict of tuple
        Shape of every tensor; they fill the file exactly.

    Raises
    ------
    ModelFileError
        If the file is no sound safetensors file, or not written by xsphere.

    Examples
    --------
    >>> read_header(Path("no-such-file"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...
    """
    size = path.stat().st_size
    if not 8 < size <= MAX_FILE:
        raise ModelFileError(f"its size of {size} bytes is not between 8 and {MAX_FILE}")
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        if n_header > min(MAX_HEADER, size - 8):
            raise ModelFileError(
                f"its header claims {n_header} bytes of a file of {size}: it is truncated or not "
                "a safetensors file"
            )
        header = _json(file.read(n_header))
    if not isinstance(header, dict):
        raise ModelFileError("its header is not a JSON object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA_KEY), str):
        raise ModelFileError(f"its header has no {METADATA_KEY!r} specification")
    specification = _json(metadata[METADATA_KEY])
    return specification, _checked_shapes(header, size - 8 - n_header)


def _checked_shapes(entries: dict[str, Any], n_bytes: int) -> dict[str, tuple[int, ...]]:
    if len(entries) > MAX_TENSORS:
        raise ModelFileError(f"it has {len(entries)} tensors, more than {MAX_TENSORS}")
    shapes, spans = {}, []
    for name, entry in entries.items():
        shapes[name], span = _shape_and_span(name, entry)
        spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise ModelFileError("its tensors overlap or leave holes")
        end = stop
    if end != n_bytes:
        raise ModelFileError(f"its tensors fill {end} bytes but {n_bytes} are there: truncated?")
    return shapes


def _shape_and_span(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise ModelFileError(f"tensor {name!r} has no dtype, shape and offsets") from error
    sound = isinstance(shape, list) and len(shape) <= 8
    if not sound or not all(type(n) is int and 0 <= n < 2**40 for n in [*shape, start, stop]):
        raise ModelFileError(f"tensor {name!r} has the absurd shape or offsets {entry!r:.200}")
    if dtype not in DTYPES:
        raise ModelFileError(f"tensor {name!r} has dtype {dtype!r}, known are {sorted(DTYPES)}")
    # Python integers: nothing overflows
    expected: int = DTYPES[dtype].itemsize
    for n in shape:
        expected *= n
    if stop - start != expected:
        raise ModelFileError(
            f"tensor {name!r} of shape {shape} needs {expected} bytes, got {stop - start}"
        )
    return tuple(shape), (start, stop)


def check_shapes(shapes: Shapes, expected: Shapes) -> None:
    """Refuse tensors that do not fit a network, naming every misfit.

    Parameters
    ----------
    shapes, expected : dict of tuple
        Shapes by name: as they came, and as the network has them.

    Raises
    ------
    ModelFileError
        If a tensor is missing, superfluous or of another shape.

    Examples
    --------
    >>> check_shapes({"a": (2,)}, {"a": (2,)})
    """
    problems = []
    missing, superfluous = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    if missing:
        problems.append(f"it lacks tensors {missing[:5]} ({len(missing)} in all)")
    if superfluous:
        problems.append(f"it has unknown tensors {superfluous[:5]} ({len(superfluous)} in all)")
    problems += [
        f"tensor {name!r} has shape {shapes[name]}, its network needs {expected[name]}"
        for name in sorted(set(shapes) & set(expected))
        if tuple(shapes[name]) != tuple(expected[name])
    ]
    if problems:
        raise ModelFileError("; ".join(problems[:10]))


def check_finite(tensors: Tensors) -> None:
    """Refuse weights that are not finite, naming every such tensor.

    Parameters
    ----------
    tensors : dict of array
        Weights by name.

    Raises
    ------
    ModelFileError
        If a value is NaN or infinite.

    Examples
    --------
    >>> check_finite({"a": np.array([np.nan])})
    Traceback (most recent call last):
    ...
    xsphere.model.file.ModelFileError: its tensors ['a'] hold values that are not finite
    """
    bad = sorted(name for name, tensor in tensors.items() if not np.isfinite(tensor).all())
    if bad:
        raise ModelFileError(f"its tensors {bad[:10]} hold values that are not finite")


def to_bytes(specification: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Content of a model file: the same bytes for the same model, in every process.

    Parameters
    ----------
    specification : dict
        Plain values.
    tensors : dict of array
        Weights by name.

    Returns
    -------
    bytes
        A safetensors file.

    Examples
    --------
    >>> len(to_bytes({}, {"a": np.zeros(2, np.float32)})) > 8
    True
    """
    from safetensors.numpy import save

    text = json.dumps(specification, sort_keys=True, allow_nan=False)
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    content: bytes = save(ordered, metadata={METADATA_KEY: text})
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it.

    Parameters
    ----------
    path : Path
        Where to write; replaced if it exists.
    content : bytes
        What to write.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> write_atomically(path, b"abc")
    >>> path.read_bytes()
    b'abc'
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
