"""A Zarr store as xarray opens it, whose variables are checked when they are read."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends.zarr import ZarrArrayWrapper, ZarrStore

from xsphere.compat import lazy_array
from xsphere.sources.contents import zarr_metadata
from xsphere.sources.opening import POLICY, MissingChunks
from xsphere.sources.strict import Opening, StrictArray
from xsphere.unpacking import bounded


class StrictZarrStore(ZarrStore):
    """Variables of a Zarr store, as `Opening` wants them."""

    def prepare(self, opening: Opening, *, masked: bool) -> None:
        """Say how the variables are read, and whether values that mean missing are decoded."""
        self.opening, self.masked = opening, masked
        self.stored: dict[str, Any] = {
            name: one for name, one in self.members.items() if hasattr(one, "chunks")
        }
        texts = [self.zarr_group.attrs, *(array.attrs for array in self.stored.values())]
        named = [str(about.get(key, "")) for about in texts for key in ("coordinates", "bounds")]
        self.coordinates = {name for text in named for name in text.split()}

    def problems(self, dropped: list[str]) -> list[str]:
        """Why variables must not be read."""
        found = {
            name: problem_of(name, array, self.opening.max_chunk_bytes)
            for name, array in sorted(self.stored.items())
            if name not in dropped
        }
        return [problem for problem in found.values() if problem is not None]

    def open_store_variable(self, name: str) -> xr.Variable:
        """As of the base class, read with checks."""
        plain: Any = super()
        variable: xr.Variable = plain.open_store_variable(name)
        array = self.stored[name]
        encoding = dict(variable.encoding)
        if array.dtype.kind in "fiub":
            policy, fill = self._policy(name, variable)
            stored: Any = StrictArray(
                array,
                name=name,
                dims=tuple(map(str, variable.dims)),
                opening=self.opening,
                missing_chunks=policy,
                fill=fill,
            )
            encoding[POLICY] = self.opening.missing_chunks
        else:
            stored = ZarrArrayWrapper(bounded(array))  # type: ignore[no-untyped-call]
        return xr.Variable(variable.dims, lazy_array(stored), variable.attrs, encoding)

    def _policy(self, name: str, variable: xr.Variable) -> tuple[MissingChunks, Any]:
        """What a missing chunk of a variable means, and the value that it reads as."""
        policy, array = self.opening.missing_chunks, self.stored[name]
        # Zarr leaves out chunks of nothing but 0, such as that of a first member
        if name in self.coordinates or name in variable.dims or not variable.dims:
            return "fill", None
        if policy != "invalid":
            return policy, None
        if array.dtype.kind == "f":
            return policy, array.dtype.type(np.nan)
        value = variable.attrs.get("_FillValue", variable.attrs.get("missing_value"))
        if value is None or not self.masked:
            return "raise", None
        return policy, array.dtype.type(value)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # the dataset's own token is made of the path and the time of its last change
        return ("xsphere.strict", self.opening.missing_chunks, self.masked)


def problem_of(name: str, array: Any, max_chunk_bytes: int) -> str | None:
    """Why a stored array must not be read, or None."""
    n_bytes = math.prod(array.chunks) * array.dtype.itemsize
    code = sorted(set(codecs_of(zarr_metadata(array))) & {"pickle", "numcodecs.pickle"})
    if code:
        return f"{name!r} is stored with the codecs {code}, which run code when read"
    if 0 in array.chunks and array.size:
        return f"{name!r} has chunks of length 0: its metadata are damaged"
    if n_bytes > max_chunk_bytes:
        return (
            f"{name!r} has chunks {tuple(array.chunks)} of {n_bytes / 2**20:.0f} MiB, the limit is "
            f"{max_chunk_bytes / 2**20:.0f} MiB: rechunk the store, or raise max_chunk_bytes"
        )
    return None


def codecs_of(document: Any) -> Iterator[str]:
    """Names of all codecs in the metadata of an array."""
    match document:
        case dict():
            for key, value in document.items():
                if key in ("id", "name") and isinstance(value, str):
                    yield value
                elif key not in ("attributes", ".zattrs"):
                    yield from codecs_of(value)
        case list():
            for value in document:
                yield from codecs_of(value)
