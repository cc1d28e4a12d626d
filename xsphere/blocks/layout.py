"""How a result is cut into blocks: checked before anything is written or computed."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions import NOT_COMPUTED, classes_of
from xsphere.conventions.base import check_known_sizes
from xsphere.storable import storable

# kinds of numbers that have a value to spare for cells that were never computed
BLOCKED = "iuf"


@dataclass(frozen=True)
class Block:
    """One piece of a result, along its first dimension.

    Parameters
    ----------
    index : int
        Its number, from 0.
    start, stop : int
        First position, and the one after the last.

    Examples
    --------
    >>> Block(1, 4, 8).steps
    slice(4, 8, None)
    """

    index: int
    start: int
    stop: int

    @property
    def steps(self) -> slice:
        """Where it is along the first dimension."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class BlockedVariable:
    """One variable that is written block by block, along the first of its dimensions."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    # the values of a mask of uint8 and what they mean; empty for anything else
    flags: tuple[tuple[int, str], ...] = ()

    @property
    def fill_value(self) -> float | int:
        """What cells that were never computed read as; no integer variable may hold it."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return np.nan
        limits = np.iinfo(dtype)
        return int(limits.max if dtype.kind == "u" else limits.min)

    @property
    def counted(self) -> dict[int, str]:
        """The flags that a computed cell can have."""
        return {value: name for value, name in self.flags if value != NOT_COMPUTED}


@dataclass(frozen=True)
class BlockLayout:
    """Blocks of a result along its first dimension, and the variables that are written in them.

    Examples
    --------
    >>> x = BlockedVariable("x", ("time",), (10,), "<f4")
    >>> BlockLayout("time", 10, 4, (x,)).blocks[-1]
    Block(index=2, start=8, stop=10)
    """

    dim: str
    size: int
    # length of every block but the last, which may be shorter
    step: int
    variables: tuple[BlockedVariable, ...]

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order; none where the variables have no cells."""
        if not any(np.prod(variable.shape) for variable in self.variables):
            return ()
        starts = range(0, self.size, self.step)
        return tuple(
            Block(index, start, min(start + self.step, self.size))
            for index, start in enumerate(starts)
        )

    def of_size(self, size: int) -> "BlockLayout":
        """The same layout of another length."""
        variables = (replace(v, shape=(size, *v.shape[1:])) for v in self.variables)
        return replace(self, size=size, variables=tuple(variables))

    def described(self) -> dict[str, Any]:
        """The layout as JSON can hold it."""
        return {
            "dimension": self.dim,
            "block": self.step,
            "variables": {
                variable.name: {
                    "dims": list(variable.dims),
                    "shape": list(variable.shape),
                    "dtype": variable.dtype,
                    "flags": {str(value): name for value, name in variable.flags},
                }
                for variable in self.variables
            },
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> "BlockLayout":
        """The layout that `described` was made of."""
        variables = tuple(
            BlockedVariable(
                name,
                tuple(entry["dims"]),
                tuple(entry["shape"]),
                entry["dtype"],
                tuple((int(value), flag) for value, flag in entry["flags"].items()),
            )
            for name, entry in described["variables"].items()
        )
        size = variables[0].shape[0]
        return cls(described["dimension"], size, described["block"], variables)


def in_blocks(obj: xr.Dataset | xr.DataArray) -> tuple[xr.Dataset, BlockLayout]:
    """The dataset that is written, and its blocks: the chunks along the first dimension.

    The dataset has its coordinates in memory and no encoding of the file it is from. Without lazy
    variables it is one block. All problems of chunks that cannot be blocks are told in one error.
    """
    ds = _in_memory(_as_dataset(obj))
    lazy = {str(name): ds[name] for name in ds.data_vars if ds[name].chunks is not None}
    if not lazy:
        ds, lazy = _as_one_block(ds)
    check_known_sizes({name: array.variable.chunksizes for name, array in lazy.items()})
    problems = _problems(lazy)
    if problems:
        raise ValueError("the result cannot be written block by block: " + "; ".join(problems))
    first = next(iter(lazy.values()))
    variables = tuple(_described(name, array) for name, array in lazy.items())
    assert first.chunks is not None
    step = max(1, first.chunks[0][0])
    return ds, BlockLayout(str(first.dims[0]), first.shape[0], step, variables)


def _as_dataset(obj: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(obj, xr.Dataset):
        return obj.drop_encoding()
    if obj.name is None:
        raise ValueError("the array must have a name, got None; call .rename('mask'), for example")
    return obj.to_dataset().drop_encoding()


def _in_memory(ds: xr.Dataset) -> xr.Dataset:
    """Coordinates and their bounds computed, and as files hold them."""
    attributes = [coord.attrs for coord in ds.coords.values()]
    bounds = {attrs.get(key) for attrs in attributes for key in ("bounds", "climatology")}
    wanted = [name for name in ds.variables if name in ds.coords or name in bounds]
    lazy = {name: ds.variables[name] for name in wanted if ds.variables[name].chunks is not None}
    loaded = {name: variable.compute() for name, variable in lazy.items()}
    coords = {name: loaded.pop(name) for name in lazy if name in ds.coords}
    return storable(ds.assign_coords(coords).assign(loaded))


def _as_one_block(ds: xr.Dataset) -> tuple[xr.Dataset, dict[str, xr.DataArray]]:
    """A dataset in memory as one block of all variables that share the first dimension."""
    arrays = {n: a for n, a in ds.data_vars.items() if a.ndim and a.dtype.kind in BLOCKED + "b"}
    dims = [array.dims[0] for array in arrays.values()]
    if not dims:
        raise ValueError(
            "expected a variable with a dimension to cut into blocks, got "
            f"{[str(name) for name in ds.data_vars]}; write it with .to_zarr() of xarray"
        )
    names = [name for name, array in arrays.items() if array.dims[0] == dims[0]]
    chunked = ds.assign({name: ds[name].chunk() for name in names})
    return chunked, {str(name): chunked[name] for name in names}


def _problems(lazy: Mapping[str, xr.DataArray]) -> list[str]:
    scalars = [name for name, array in lazy.items() if not array.ndim]
    if scalars:
        return [f"the lazy variables {scalars} have no dimension; compute them first with .load()"]
    kinds = {n: str(a.dtype) for n, a in lazy.items() if a.dtype.kind not in BLOCKED}
    problems = []
    if kinds:
        booleans = all(kind == "bool" for kind in kinds.values())
        problems.append(
            f"its values must be integers or floats, so that a cell that was never computed can "
            f"be told from all others, got {kinds}; "
            + (
                "convert them with .astype('uint8'), for example, and say what 1 is with "
                ".assign_attrs(mask_attributes(['storm']))"
                if booleans
                else "compute them first with .load(), then they are written at once, or drop them"
            )
        )
    firsts = {name: str(array.dims[0]) for name, array in lazy.items()}
    if len(set(firsts.values())) > 1:
        problems.append(
            f"all lazy variables must have the same first dimension, got {firsts}; compute the "
            "smaller ones first with .load(), or write them to another store"
        )
        return problems
    return problems + _problems_of_chunks(lazy, next(iter(firsts.values())))


def _problems_of_chunks(lazy: Mapping[str, xr.DataArray], first: str) -> list[str]:
    problems = []
    others: dict[str, list[str]] = {}
    for name, array in lazy.items():
        split = [dim for dim, sizes in _chunks(array).items() if dim != first and len(sizes) > 1]
        if split:
            others[name] = split
    if others:
        whole = ", ".join(
            f"{dim}=-1" for dim in sorted({d for dims in others.values() for d in dims})
        )
        problems.append(
            f"chunks may be along the first dimension {first!r} only, but these are split along "
            f"others too: {others}; call .chunk({whole}), or put the dimension that is split first "
            "with .transpose()"
        )
    bounds = {name: _chunks(array)[first] for name, array in lazy.items()}
    if len(set(bounds.values())) > 1 or any(not _regular(sizes) for sizes in bounds.values()):
        shown = {
            name: sizes[:4] + (("...",) if sizes[4:] else ()) for name, sizes in bounds.items()
        }
        size = max(max(sizes) for sizes in bounds.values())
        problems.append(
            f"all chunks along {first!r} must be equal, but the last, which may be smaller, and "
            f"the same in all variables, got {shown}; call .chunk({first}={size})"
        )
    return problems


def _chunks(array: xr.DataArray) -> dict[str, tuple[Any, ...]]:
    sizes: Mapping[Hashable, tuple[int, ...]] = array.variable.chunksizes
    return {str(dim): tuple(lengths) for dim, lengths in sizes.items()}


def _regular(sizes: tuple[int, ...]) -> bool:
    return all(size == sizes[0] for size in sizes[:-1]) and sizes[-1] <= sizes[0]


def _described(name: str, array: xr.DataArray) -> BlockedVariable:
    flags: tuple[tuple[int, str], ...] = ()
    if array.dtype == np.uint8 and "flag_values" in array.attrs:
        flags = tuple(classes_of(array).items())
    dims = tuple(map(str, array.dims))
    return BlockedVariable(name, dims, array.shape, array.dtype.newbyteorder("<").str, flags)
