"""Model files: tensors with the specification as JSON in the header.

A file is distrusted until its header fits its size and its specification, and its tensors fit its
digest: what is wrong is said before any tensor is allocated.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xsphere.notices import shortened
from xsphere.tensorfiles import Shapes, Tensors, packed, parsed_json, read_header

METADATA_KEY = "xsphere"


class ModelFileError(ValueError):
    """A file that is not a sound model.

    Examples
    --------
    >>> check_shapes({"a": (2,)}, {"a": (3,)})
    Traceback (most recent call last):
    ...
    xsphere.model.file.ModelFileError: tensor 'a' has shape (2,), its network needs (3,)
    """


def read_specification(path: Path) -> tuple[Any, Shapes]:
    """Specification and tensor shapes of a file, of which only the header is read.

    Parameters
    ----------
    path : Path
        A model file.

    Returns
    -------
    specification : object
        Plain values, unchecked.
    shapes : dict of tuple
        Shape of every tensor; they fill the file exactly.

    Raises
    ------
    ValueError
        If the file is no sound safetensors file, or not written by xsphere.

    Examples
    --------
    >>> read_specification(Path("no-such-file"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...
    """
    header = read_header(path)
    if METADATA_KEY not in header.metadata:
        raise ModelFileError(f"its header has no {METADATA_KEY!r} specification")
    return parsed_json(header.metadata[METADATA_KEY]), header.shapes


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
        problems.append(f"it lacks tensors {shortened(missing[:5])} ({len(missing)} in all)")
    if superfluous:
        problems.append(
            f"it has unknown tensors {shortened(superfluous[:5])} ({len(superfluous)} in all)"
        )
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
    text = json.dumps(specification, sort_keys=True, allow_nan=False)
    return packed(tensors, {METADATA_KEY: text})
