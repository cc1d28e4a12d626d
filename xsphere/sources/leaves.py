"""What lies under a lazily opened variable: a stored array, and what was selected of it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.compat import held, layers_around

# beyond it, what is selected is not told index by index
LONGEST_AXIS = 2**26

Selection = tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A stored array and the layers around it, the outermost first.

    Parameters
    ----------
    stored : BackendArray
        What reads from a file or store.
    layers : tuple
        Objects of xarray, each with the next in its attribute ``array``.
    """

    stored: Any
    layers: tuple[Any, ...]

    @property
    def zarr_array(self) -> Any:
        """The Zarr array that is read, or None."""
        get_array = getattr(self.stored, "get_array", None)
        array = get_array() if callable(get_array) else None
        return array if type(array).__module__.startswith("zarr.") else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the layers give."""
        return tuple((self.layers[0] if self.layers else self.stored).shape)

    def selection(self) -> Selection | None:
        """Indices taken along each axis; None if they are no outer product, or too many."""
        if max(self.stored.shape, default=0) > LONGEST_AXIS:
            return None
        selected = [np.arange(size) for size in self.stored.shape]
        axes = list(range(len(selected)))
        for layer in reversed(self.layers):
            key = getattr(layer, "key", None)
            if key is None:
                continue
            if _name(key) not in ("BasicIndexer", "OuterIndexer"):
                return None
            for axis, index in zip(axes, key.tuple, strict=True):
                selected[axis] = np.atleast_1d(selected[axis][index])
            axes = [a for a, i in zip(axes, key.tuple, strict=True) if not _is_scalar(i)]
        return tuple(selected)


def leaf_of(variable: xr.Variable) -> Leaf | None:
    """The stored array under a variable that is not loaded yet."""
    return leaf_under(held(variable))


def leaf_under(data: Any) -> Leaf | None:
    """As `leaf_of`, for what a variable or a task holds."""
    layers: list[Any] = []
    while (found := layers_around(data)) is not None:
        stored, around = found
        layers += around
        # what we open from a file has what xarray opens within
        data = getattr(stored, "inner", None)
        if data is None:
            return Leaf(stored=stored, layers=tuple(layers))
    return None


def decoding(leaf: Leaf) -> list[Any]:
    """How stored values become values, as plain data."""
    steps: list[Any] = []
    for layer in leaf.layers:
        name = _name(layer)
        if getattr(layer, "key", None) is not None:
            # what is selected is told by `Leaf.selection`, unless it is no outer product
            steps += [] if "Vectorized" not in name else [name, plain(layer.key.tuple)]
        elif hasattr(layer, "func"):
            steps.append([name, plain(layer.func)])
        elif name not in ("MemoryCachedArray", "CopyOnWriteArray", *_PASSING):
            steps.append(name)
    return steps


_PASSING = ("ImplicitToExplicitIndexingAdapter",)


def plain(value: Any) -> Any:
    """A value as JSON can hold it, the same in every process."""
    for kinds, described in _DESCRIPTIONS:
        if isinstance(value, kinds):
            return described(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _plain_array(array: NDArray[Any]) -> list[Any]:
    if array.dtype.hasobject:
        return ["array", list(array.shape), [plain(item) for item in array.ravel().tolist()]]
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return ["array", array.dtype.str, list(array.shape), digest]


# NumPy's floats are Python's too, so that they come first
_DESCRIPTIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (np.generic, lambda value: [value.dtype.str, repr(value.item())]),
    ((bool, int, str, type(None)), lambda value: value),
    (float, repr),
    (bytes, lambda value: value.hex()),
    (slice, lambda value: ["slice", plain(value.start), plain(value.stop), plain(value.step)]),
    (np.dtype, lambda value: value.str),
    (np.ndarray, _plain_array),
    ((set, frozenset), lambda value: sorted((plain(item) for item in value), key=repr)),
    ((tuple, list), lambda value: [plain(item) for item in value]),
    (dict, lambda value: {str(k): plain(v) for k, v in sorted(value.items(), key=repr)}),
    (partial, lambda value: [plain(value.func), plain(value.args), plain(value.keywords)]),
)


def _name(layer: Any) -> str:
    return type(layer).__name__


def _is_scalar(index: Any) -> bool:
    return not isinstance(index, slice) and np.ndim(index) == 0
