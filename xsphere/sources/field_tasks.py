"""What tasks do about one block of regridded fields: read it, or make it and keep it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.cache import CacheWarning
from xsphere.model.bounds import Beyond, Bounds, touched_cells
from xsphere.notices import OncePerRun, warn_user
from xsphere.sources.contents import newest_change
from xsphere.sources.field_store import Ends, FieldStore, ends_of
from xsphere.sources.leaves import plain
from xsphere.stages import stage


@dataclass(frozen=True)
class Within:
    """What the values of a source must lie within, for those who read its fields.

    Parameters
    ----------
    bounds : dict of name to (float, float) or None
        Lowest and highest value of each variable, as it is stored.
    run : OncePerRun
        The run that a warning is said in once.
    """

    bounds: Mapping[Any, Bounds | None]
    run: OncePerRun


@dataclass(frozen=True, kw_only=True)
class LazyBlock:
    """What a task does for one block: read it, or make it from the source and keep it.

    Parameters
    ----------
    node : ReadingNode
        Makes fields of one grid fields of another.
    names : tuple
        Names of the variables.
    variables : tuple of Variable
        Not loaded: what the node takes.
    leading, horizontal : tuple
        Dimensions of the blocks, and those that the node replaces, in its order.
    stores : tuple of FieldStore or None
        Where each result is kept, if it is.
    position : int
        Which result is wanted.
    blocks : tuple of tuple of int
        Lengths of the blocks.
    made_ns : int
        When this was made: what changed since is another source, and is not kept.
    within : Within, optional
        What the values of the source must lie within.
    """

    __name__ = "xsphere_cached"
    prefix: ClassVar[str] = "xsphere-cached-"

    node: Any
    names: tuple[Any, ...]
    variables: tuple[xr.Variable, ...]
    leading: tuple[Any, ...]
    horizontal: tuple[Any, ...]
    stores: tuple[FieldStore | None, ...]
    position: int
    blocks: tuple[tuple[int, ...], ...]
    made_ns: int
    within: Within | None = None

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        store = self.store
        bounds = [list(self.within.bounds.items())] if self.within else []
        node = plain(self.node.__dask_tokenize__())
        return ("xsphere.LazyBlock", store.folder, store.name, node, *plain(bounds))

    @property
    def first(self) -> Any:
        """Dimension along which `steps_of` tells steps; None if there is none."""
        return self.leading[0] if self.leading else None

    @property
    def n_steps(self) -> int:
        """Length of that dimension."""
        return sum(self.blocks[0]) if self.leading else 1

    def steps_of(self, block: tuple[int, ...]) -> range:
        """Steps of a block, see `xsphere.sources.contents_read`."""
        start = sum(self.blocks[0][: block[0]])
        return range(start, start + self.blocks[0][block[0]]) if self.leading else range(1)

    @property
    def store(self) -> FieldStore:
        """Where the result that is wanted is kept."""
        store = self.stores[self.position]
        assert store is not None
        return store

    def __call__(self, block_id: tuple[int, ...]) -> NDArray[Any]:
        """The block with these numbers along each dimension of the result."""
        store = self.store
        if self._allowed(store.ends(block_id)):
            found = store.read(block_id)
            if found is not None:
                return found
        regions = self._regions(block_id)
        order = (*self.leading, *self.horizontal)
        with stage("read"):
            # read first: a lazy transpose would be one by points
            parts = [variable.isel(regions).load() for variable in self.variables]
        read = zip(self.node.readings, parts, strict=True)
        with stage("regrid"):
            # in the units that components are turned in, and without what stands for missing
            fields = [reading(part.transpose(*order).values) for reading, part in read]
            made, sound = self._made(fields)
        if sound and self._unchanged(regions):
            ends = dict(zip(map(str, self.names), map(ends_of, fields), strict=True))
            for kept, result in zip(self.stores, made, strict=True):
                if kept is not None:
                    kept.write(block_id, result, ends)
        return made[self.position]

    def _bounds(self) -> list[Bounds | None]:
        """Bounds of the variables as they are read."""
        assert self.within is not None
        bounds = [self.within.bounds.get(name) for name in self.names]
        factors = [reading.factor for reading in self.node.readings]
        return [b and (b[0] * f, b[1] * f) for b, f in zip(bounds, factors, strict=True)]

    def _allowed(self, ends: Ends | None) -> bool:
        """Whether no value of a block lies beyond, by the least and greatest of each variable."""
        if self.within is None:
            return True
        for name, bounds in zip(self.names, self._bounds(), strict=True):
            low, high = (ends or {}).get(str(name), (-np.inf, np.inf))
            if bounds is not None and not (bounds[0] <= low and high <= bounds[1]):
                return False
        return True

    def _made(self, fields: list[NDArray[Any]]) -> tuple[tuple[NDArray[Any], ...], bool]:
        """The results, and whether they are those of all values."""
        where = None
        if self.within is not None:
            beyond = Beyond(self.names, self._bounds(), self.within.run)
            fields, where = beyond.taken_out(range(len(fields)), fields)
            beyond.tell()
        node = self.node.node
        made = node(*fields)
        results = made if isinstance(made, tuple) else (made,)
        if where is None:
            return results, True
        marks = where.reshape(-1, node.source.n_cells)
        touched = touched_cells(marks, node.source, node.target, node.rules.method)
        return tuple(
            np.where(touched.reshape(result.shape), result.dtype.type(np.nan), result)
            for result in results
        ), False

    def _regions(self, block_id: tuple[int, ...]) -> dict[Any, slice]:
        return _regions(self.leading, self.blocks, block_id)

    def _unchanged(self, regions: Mapping[Any, slice]) -> bool:
        return _is_unchanged(self.store.name, self.variables, regions, self.made_ns)


def _regions(
    leading: tuple[Any, ...], blocks: tuple[tuple[int, ...], ...], block_id: tuple[int, ...]
) -> dict[Any, slice]:
    """What a block takes along each leading dimension."""
    regions = {}
    for dim, number, sizes in zip(leading, block_id, blocks, strict=False):
        start = sum(sizes[:number])
        regions[dim] = slice(start, start + sizes[number])
    return regions


def _is_unchanged(
    name: str, variables: Iterable[xr.Variable], regions: Mapping[Any, slice], made_ns: int
) -> bool:
    """Whether some of what was opened is what it was at a time; a change is warned of."""
    if max((newest_change(v.isel(regions)) for v in variables), default=0) <= made_ns:
        return True
    warn_user(
        f"the source of {name!r} has changed since the dataset was opened; fields are not kept in "
        "the cache. Open it again",
        CacheWarning,
    )
    return False


@dataclass(frozen=True, kw_only=True)
class KeptBlock:
    """What a task does for a block that comes out of other tasks: keep it.

    Parameters
    ----------
    store : FieldStore
        Where.
    first : int
        Number of the first block along the first dimension.
    variables : tuple of Variable
        Stored arrays that are read step by step, not loaded.
    leading, blocks, made_ns
        As of `LazyBlock`.
    """

    __name__ = "xsphere_kept"

    store: FieldStore
    first: int = 0
    variables: tuple[xr.Variable, ...] = ()
    leading: tuple[Any, ...] = ()
    blocks: tuple[tuple[int, ...], ...] = ()
    made_ns: int = 0

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("xsphere.KeptBlock", self.store.folder, self.store.name, self.first)

    def __call__(self, values: NDArray[Any], block_id: tuple[int, ...]) -> NDArray[Any]:
        """The block as it came."""
        block = (block_id[0] + self.first, *block_id[1:])
        regions = _regions(self.leading, self.blocks, block)
        if _is_unchanged(self.store.name, self.variables, regions, self.made_ns):
            self.store.write(block, values)
        return values


@dataclass(frozen=True, kw_only=True)
class ReadBlock:
    """What a task does for a block that was there when the graph was made.

    Parameters
    ----------
    store : FieldStore
        Where.
    first : int
        Number of the first block along the first dimension.
    """

    __name__ = "xsphere_read"

    store: FieldStore
    first: int = 0

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("xsphere.ReadBlock", self.store.folder, self.store.name, self.first)

    def __call__(self, block_id: tuple[int, ...]) -> NDArray[Any]:
        """The block with these numbers."""
        block = (block_id[0] + self.first, *block_id[1:])
        values = self.store.read(block)
        if values is None:
            # what would make it again was left out of the graph when it was there
            raise FileNotFoundError(
                f"block {block} of {self.store.name!r} in {self.store.folder} was there and is "
                "gone or damaged; ask for the cached fields again, and it is made from the source"
            )
        return values


def lazily_filled(block: LazyBlock, dtype: np.dtype[Any]) -> Any:
    """Dask array of the blocks, each read or made when it is computed."""
    import dask.array as da
    from dask.base import tokenize

    return da.map_blocks(  # type: ignore[no-untyped-call]
        block,
        chunks=block.blocks,
        dtype=dtype,
        meta=np.empty((0,) * len(block.blocks), dtype),
        name=f"{block.prefix}{tokenize(block)}",
    )


def kept_or_read(kept: KeptBlock, regridded: Any) -> Any:
    """Dask array whose blocks are read where they were there, else made by tasks and kept."""
    import dask.array as da

    made = regridded.rechunk(kept.blocks)
    rows = [_row_is_there(kept.store, made.numblocks, row) for row in range(made.numblocks[0])]
    runs, start = [], 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or rows[stop] != rows[start]:
            part = made.blocks[start:stop]
            if rows[start]:
                runs.append(
                    _mapped(ReadBlock(store=kept.store, first=start), part, [], part.chunks)
                )
            else:
                runs.append(_mapped(replace(kept, first=start), part, [part], None))
            start = stop
    return da.concatenate(runs) if len(runs) > 1 else runs[0]  # type: ignore[no-untyped-call]


def _row_is_there(store: FieldStore, counts: tuple[int, ...], row: int) -> bool:
    return all(store.has((row, *rest)) for rest in np.ndindex(*counts[1:]))


def _mapped(node: "KeptBlock | ReadBlock", made: Any, given: list[Any], chunks: Any) -> Any:
    import dask.array as da
    from dask.base import tokenize

    return da.map_blocks(  # type: ignore[no-untyped-call]
        node,
        *given,
        chunks=chunks,
        dtype=made.dtype,
        meta=np.empty((0,) * made.ndim, made.dtype),
        name=f"{node.__name__}-{tokenize(node, made.chunks, made.name)}".replace("_", "-", 1),
    )
