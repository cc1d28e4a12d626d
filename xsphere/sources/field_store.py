"""Regridded fields in Zarr stores that fill up block by block, whoever computes one first.

A block is one Zarr chunk, written whole under its final name, with a checksum: that it is there and
verifies is the ledger. One that is damaged counts as one that is not there.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.atomic import write_file
from xsphere.cache import CacheWarning, content_key
from xsphere.notices import warn_user
from xsphere.storable import without_unstorable

Ends = Mapping[str, Sequence[float]]

KEYS = "xsphere_regridded"
USED = "used"
# of one block: what a task holds, and what the files of a cache should not be smaller than
LARGEST_BLOCK, USUAL_BLOCK = 2**28, 2**24


@dataclass(frozen=True)
class FieldStore:
    """One variable in a store of regridded fields.

    Parameters
    ----------
    folder : str
        Of the Zarr group.
    name : str
        Of the variable.
    """

    folder: str
    name: str

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the blocks along each dimension, as dask has them."""
        array = self._array("r")
        sides = zip(array.shape, array.chunks, strict=True)
        return tuple(
            tuple(min(chunk, size - start) for start in range(0, size, chunk)) or (0,)
            for size, chunk in sides
        )

    def has(self, block: tuple[int, ...]) -> bool:
        """Whether a block was written."""
        return self._file(self._array("r"), block).is_file()

    def read(self, block: tuple[int, ...]) -> NDArray[Any] | None:
        """A block, or None if it is not there or damaged."""
        try:
            array = self._array("r")
            if not self._file(array, block).is_file():
                return None
            values: NDArray[Any] = array[_region(array, block)]
        except FileNotFoundError:
            return None  # cleared meanwhile
        except MemoryError:
            raise
        # a codec has its own kind of error for bytes that are not its own
        except Exception as error:
            warn_user(
                f"block {block} of {self.name!r} in {self.folder} cannot be read ({error}); it is "
                "made again",
                CacheWarning,
            )
            return None
        self._mark_used()
        return values

    def write(self, block: tuple[int, ...], values: NDArray[Any], ends: Ends | None = None) -> None:
        """Keep a block; a store that cannot be written costs a warning."""
        try:
            array = self._array("r+")
            array[_region(array, block)] = values
            # a store of the user's own has nothing that he does not look for
            if ends is not None and self._used.exists():
                write_file(self._ends_file(block), json.dumps([ends, content_key(ends)]).encode())
        except OSError as error:
            warn_user(
                f"{self.folder} cannot be written ({error}); going on without keeping fields there",
                CacheWarning,
            )
            return
        self._mark_used()

    def ends(self, block: tuple[int, ...]) -> Ends | None:
        """Least and greatest value of each variable that a block was made of; None if unknown."""
        try:
            ends, key = json.loads(self._ends_file(block).read_bytes())
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return ends if content_key(ends) == key else None

    @property
    def _used(self) -> Path:
        return Path(self.folder).parent / USED

    def _ends_file(self, block: tuple[int, ...]) -> Path:
        return Path(self.folder).parent / "ends" / f"{'.'.join(map(str, block))}.json"

    def _array(self, mode: Any) -> Any:
        import zarr

        from xsphere.unpacking import bounded

        array = zarr.open_array(f"{self.folder}/{self.name}", mode=mode)
        # a block of nothing but missing values is one that was computed
        return bounded(array, in_full=True)

    def _file(self, array: Any, block: tuple[int, ...]) -> Path:
        return Path(self.folder, self.name, array.metadata.encode_chunk_key(block))

    def _mark_used(self) -> None:
        """Tell those who look for room; a store of the user's own has no such mark."""
        with suppress(OSError):  # read-only: nothing will be removed either
            if self._used.exists():
                self._used.touch()


def ends_of(values: NDArray[Any]) -> tuple[float, float]:
    """Least and greatest finite value; the other way round where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)


def _region(array: Any, block: tuple[int, ...]) -> tuple[slice, ...]:
    sides = zip(block, array.chunks, array.shape, strict=True)
    return tuple(slice(n * size, min((n + 1) * size, total)) for n, size, total in sides)


def create_store(folder: Path, fields: xr.Dataset, keys: Mapping[str, str]) -> None:
    """Write the metadata and coordinates of fields, and none of their values."""
    from zarr.codecs import ZstdCodec

    # coordinates that tasks would compute are not worth it
    computed = [name for name, c in fields.coords.items() if c.chunks is not None]
    plain = fields.drop_vars(computed).drop_attrs(deep=False).drop_encoding()
    empty = without_unstorable(plain)
    encoding = {}
    for name, field in fields.data_vars.items():
        encoding[name] = {
            "chunks": tuple(max(sizes, default=1) or 1 for sizes in field.data.chunks),
            "compressors": (ZstdCodec(level=1, checksum=True),),
            "fill_value": _missing(field.dtype),
        }
    # a text, since NetCDF holds no mappings
    empty.attrs = {KEYS: json.dumps(keys)}
    empty.to_zarr(
        folder, mode="w-", compute=False, zarr_format=3, consolidated=False, encoding=encoding
    )


def _missing(dtype: np.dtype[Any]) -> Any:
    """What a block reads as, to others, that is not there."""
    match dtype.kind:
        case "f":
            return float("nan")
        case "b":
            return False
    return int(np.iinfo(dtype).max)


def stored_keys(folder: Path) -> dict[str, str] | None:
    """Keys of the variables of a store, or None if it holds no regridded fields."""
    import zarr

    try:
        keys = json.loads(str(zarr.open_group(folder, mode="r").attrs[KEYS]))
    # whatever else lies there is not ours
    except (OSError, ValueError, KeyError):
        return None
    return dict(keys) if isinstance(keys, dict) else None


def block_sizes(sizes: Mapping[Any, int], stored: Mapping[Any, int], cell_bytes: int) -> list[int]:
    """Lengths of the blocks of leading dimensions: whole stored chunks, tens of megabytes."""
    blocks = {dim: max(1, min(size, stored.get(dim, 1))) for dim, size in sizes.items()}
    if _product(blocks) * cell_bytes > LARGEST_BLOCK:
        blocks = dict.fromkeys(blocks, 1)
    for dim in reversed(list(blocks)):
        while blocks[dim] < sizes[dim] and 2 * _product(blocks) * cell_bytes <= USUAL_BLOCK:
            blocks[dim] = min(sizes[dim], 2 * blocks[dim])
    return list(blocks.values())


def _product(blocks: Mapping[Any, int]) -> int:
    return int(np.prod(list(blocks.values()), dtype=np.int64))


def folder_bytes(folder: Path) -> int:
    """Size of all files of a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue  # removed meanwhile
    return total
