"""Which fields are to be made of which variables, by what, and what tells them from others."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

from xsphere.cache import content_key
from xsphere.conventions import HorizontalGrid, horizontal_grid
from xsphere.conventions.base import check_known_sizes, horizontal_names
from xsphere.conventions.values import ReadingNode
from xsphere.grids import HealpixGrid
from xsphere.notices import shortened
from xsphere.regridding import Vectors, to_healpix
from xsphere.regridding.labelled import regrid_node, vector_node
from xsphere.regridding.methods import definite_methods
from xsphere.regridding.node import Rules
from xsphere.regridding.vector_pairs import vector_pairs
from xsphere.sources.field_store import block_sizes
from xsphere.sources.fingerprints import coordinates_of, source_of
from xsphere.sources.leaves import plain
from xsphere.sources.opening import policy_of

KIND = "regridded"
# part of every key: raise it when what is kept changes its form
VERSION = 2


@dataclass(frozen=True, kw_only=True)
class RegridPlan:
    """What is to be made of which variables.

    Parameters
    ----------
    variables : dict of name to DataArray
        The sources: not loaded where they are as they were opened, else chunked.
    dims : tuple of str
        The horizontal dimensions.
    blocks : dict of name to dict of dimension to int
        Lengths of the blocks along the other dimensions.
    template : Dataset
        The fields, as tasks would make them without a cache.
    nodes : dict of tuple of names to node
        What makes them, by one variable or the two of a vector.
    keys : dict of name to str
        What makes each field what it is.
    made_ns : int
        When this was made, before anything was looked at.
    """

    variables: dict[Any, xr.DataArray]
    dims: tuple[str, ...]
    blocks: dict[Any, dict[Any, int]]
    template: xr.Dataset
    nodes: dict[tuple[Any, ...], ReadingNode]
    keys: dict[Any, str]
    made_ns: int

    def described(self, names: Sequence[Any]) -> xr.Dataset:
        """Fields without values, chunked as they are kept."""
        import dask.array as da

        def without_values(field: xr.DataArray) -> xr.DataArray:
            chunks = tuple(self.blocks[field.name].get(dim, -1) for dim in field.dims)
            return field.copy(data=da.zeros(field.shape, dtype=field.dtype, chunks=chunks))

        return self.template[list(names)].map(without_values, keep_attrs=True)


def regrid_plan(
    ds: xr.Dataset,
    level: int,
    variables: Sequence[Any] | None,
    rules: Rules,
    vectors: Vectors,
    version: str | None,
) -> RegridPlan | None:
    """What is to be made, or None where nothing tells what the data are."""
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"expected a Dataset, got {type(ds).__name__}; use .to_dataset()")
    made_ns = time.time_ns()
    # names that are not there are refused below
    horizontal = horizontal_grid(ds, [name for name in variables or () if name in ds] or None)
    ds, chosen = _chosen(ds, horizontal, variables)
    check_known_sizes({name: ds.variables[name].chunksizes for name in chosen})
    source = source_of(ds, chosen) if version is None else _told(ds, chosen, version)
    if source is None or not source["exact"]:
        return None
    # apart from the user's, which keep what they have read
    arrays = {name: ds[name].copy(deep=False) for name in chosen}
    n_cells = 12 * 4**level
    blocks = {name: _blocks(v.variable, horizontal.dims, n_cells) for name, v in arrays.items()}
    template = _regridded(ds, level, rules, vectors, blocks)
    nodes = _nodes(arrays, template, horizontal, rules, vectors)
    return RegridPlan(
        variables=arrays,
        dims=horizontal.dims,
        blocks=blocks,
        template=template,
        nodes=nodes,
        keys=_keys(arrays, nodes, source),
        made_ns=made_ns,
    )


def _chosen(
    ds: xr.Dataset, horizontal: HorizontalGrid, variables: Sequence[Any] | None
) -> tuple[xr.Dataset, list[Any]]:
    """The dataset without what is not to be regridded, and the names of what is."""
    present = horizontal_names(ds, horizontal)
    if variables is None:
        return ds, present
    unknown = [name for name in variables if name not in present]
    if unknown:
        raise ValueError(
            f"there are no variables {shortened(unknown)} with the dimensions {horizontal.dims}; "
            f"the dataset has {shortened(present)}"
        )
    left_out = [name for name in present if name not in variables]
    return ds.drop_vars(left_out), [name for name in present if name in variables]


def _told(ds: xr.Dataset, chosen: list[Any], version: str) -> dict[str, Any]:
    """As `source_of`, with the user's word for the contents."""
    variables = {name: ds[name].variable for name in chosen}
    coordinates, _ = coordinates_of(ds, variables)
    records = {
        str(name): [version, [str(dim) for dim in v.dims], list(v.shape), v.dtype.str]
        for name, v in variables.items()
    }
    return {"exact": True, "variables": records, "coordinates": coordinates}


def _blocks(variable: xr.Variable, horizontal: tuple[str, ...], n_cells: int) -> dict[Any, int]:
    """Lengths of the blocks of the field that a variable becomes."""
    leading = {dim: size for dim, size in variable.sizes.items() if dim not in horizontal}
    stored = dict(variable.encoding.get("preferred_chunks", {}))
    if variable.chunks is not None:
        stored = {dim: sizes[0] for dim, sizes in variable.chunksizes.items() if sizes}
    sizes = block_sizes(leading, stored, n_cells * max(4, variable.dtype.itemsize))
    return dict(zip(leading, sizes, strict=True))


def _regridded(
    ds: xr.Dataset, level: int, rules: Rules, vectors: Vectors, blocks: Mapping[Any, Any]
) -> xr.Dataset:
    """Lazy fields, whose tasks are replaced or kept as they are."""
    chunked = {
        name: ds[name].chunk({dim: blocks[name].get(dim, -1) for dim in ds[name].dims})
        for name in blocks
        if ds[name].chunks is None
    }
    return to_healpix(
        ds.assign(chunked), level, method=rules.method, vectors=vectors, missing=rules.missing
    )


def _nodes(
    arrays: Mapping[Any, xr.DataArray],
    template: xr.Dataset,
    source: HorizontalGrid,
    rules: Rules,
    vectors: Vectors,
) -> dict[tuple[Any, ...], ReadingNode]:
    """What `to_healpix` runs in its tasks."""
    target = horizontal_grid(template).grid
    assert isinstance(target, HealpixGrid)
    methods = definite_methods(arrays, source.grid, target, rules.method)
    # `to_healpix` has warned
    pairs = vector_pairs(arrays, vectors, source.grid, warn=False)
    pairs = [pair for pair in pairs if methods[pair[0]] != "mode"]
    nodes: dict[tuple[Any, ...], ReadingNode] = {}
    for name in arrays:
        if not any(name in pair for pair in pairs):
            chosen = replace(rules, method=methods[name])
            nodes[(name,)] = regrid_node(arrays[name], source.grid, target, chosen)[0]
    for pair in pairs:
        chosen = replace(rules, method=methods[pair[0]])
        nodes[pair] = vector_node([arrays[name] for name in pair], source.grid, target, chosen)
    return nodes


def _keys(
    arrays: Mapping[Any, xr.DataArray],
    nodes: Mapping[tuple[Any, ...], Any],
    source: dict[str, Any],
) -> dict[Any, str]:
    """For each field the hash of all that it depends on."""
    keys = {}
    for names, node in nodes.items():
        dims = sorted({str(dim) for name in names for dim in arrays[name].dims})
        data = [source["variables"][str(name)] for name in names]
        data.append({dim: source["coordinates"].get(dim) for dim in dims})
        made = plain(node.__dask_tokenize__())
        policy = policy_of(arrays[name] for name in names)
        for position, name in enumerate(names):
            what = [str(name), position, [str(dim) for dim in arrays[name].dims]]
            keys[name] = content_key(KIND, VERSION, what, data, made, policy)
    return {name: keys[name] for name in arrays}
