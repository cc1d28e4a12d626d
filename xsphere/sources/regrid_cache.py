"""Regridded fields of a dataset, kept as they are computed, so that they are computed once."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from xsphere.atomic import built_beside
from xsphere.cache import CacheWarning, cache_dir, entry_path
from xsphere.compat import is_unread
from xsphere.entries import MANIFEST, store_entry, usable
from xsphere.notices import warn_user
from xsphere.paths import local_path
from xsphere.regridding import MissingPolicy, RegridMethod, Vectors
from xsphere.regridding.node import Rules
from xsphere.sources.field_store import (
    USED,
    FieldStore,
    create_store,
    stored_keys,
)
from xsphere.sources.field_tasks import KeptBlock, LazyBlock, Within, kept_or_read, lazily_filled
from xsphere.sources.kept_array import unread_variable
from xsphere.sources.reads import stored_whole
from xsphere.sources.regrid_plan import KIND, RegridPlan, regrid_plan
from xsphere.sources.room import MAX_BYTES, CacheFullError, make_room


def cache_regridded(
    ds: xr.Dataset,
    level: int,
    *,
    path: str | Path | None = None,
    variables: Sequence[Any] | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    max_bytes: int | None = None,
    version: str | None = None,
) -> xr.Dataset:
    """The fields of `to_healpix`, to the last bit, each block of which is computed once.

    A block that is there is read, one that is not is made from the source when it is first
    computed, and kept: by whichever task, thread, process or run comes first. Nothing is computed
    before. A source that was edited, another method or level are other fields.

    Parameters
    ----------
    ds : Dataset
        On any grid that `xsphere.conventions.horizontal_grid` finds. What is neither chunked nor in
        memory, such as from `xsphere.open`, is read within the tasks. Of chunked data, blocks that
        are there when this is called are read, the others computed.
    level : int
        Refinement level: ``12 * 4**level`` cells.
    path : str or Path, optional
        A folder for a Zarr store of your own. If not given they are in the cache, one entry a
        variable; ``xsphere cache ls`` lists them as ``regridded``.
    variables : sequence of names, optional
        Variables to regrid; all with the horizontal dimensions if not given.
    method, vectors, missing
        As for `xsphere.to_healpix`.
    max_bytes : int, optional
        What all regridded fields in the cache may take, 100 GiB if not given; the fields that were
        not used for longest make room. At a `path`, what these may take.
    version : str, optional
        What the data are, in your words, where nothing can tell. It stands for the data: change it
        when they change.

    Returns
    -------
    Dataset
        Chunked, one task a block. Variables without the horizontal dimensions pass through.

    Raises
    ------
    TypeError
        If `ds` is no Dataset.
    ValueError
        If nothing can tell what the data are, or only so that an edit could go unnoticed, and no
        `version` is given; if the cache is off and no `path` is given; if the store at `path` holds
        something else; or as for `xsphere.to_healpix`.
    CacheFullError
        If the fields could take more than `max_bytes`.

    Warns
    -----
    CacheWarning
        If fields cannot be kept: they are computed all the same.

    Examples
    --------
    >>> import xsphere
    >>> ds = xsphere.sample_dataset()[["PSL"]]
    >>> fields = cache_regridded(ds, 3)
    >>> fields.PSL.chunksizes["cells"]
    (768,)
    >>> fields.identical(ds.sphere.to_healpix(3))
    True
    """
    own = None if path is None else local_path(path, "path")
    rules = Rules(method=method, missing=missing)
    plan = regrid_plan(ds, level, variables, rules, vectors, version)
    if plan is None:
        raise ValueError(
            "caching needs to know what the data are, so that an edit is noticed, but nothing "
            "tells (data in memory beyond 1 GiB, or a store or tasks without times and sizes); "
            "write them to Zarr first, or say version='...' and change it when the data change"
        )
    if own is not None:
        return _filled(plan, _own_store(plan, own, max_bytes))
    if cache_dir() is None:
        raise ValueError(
            "the cache is off; give path= a folder for the fields, or set_options(cache_dir=...)"
        )
    folders = _entries(plan, MAX_BYTES if max_bytes is None else max_bytes)
    return plan.template if folders is None else _filled(plan, folders)


def cached_fields(
    ds: xr.Dataset,
    level: int,
    *,
    variables: Sequence[Any] | None = None,
    method: RegridMethod = "auto",
    vectors: Vectors = "auto",
    missing: MissingPolicy = "renormalize",
    version: str | None = None,
    within: Within | None = None,
) -> xr.Dataset | None:
    """The fields that `cache_regridded` keeps in the cache for a dataset, if it does."""
    # before the chunks of a large source are listed
    if not has_level(level):
        return None
    rules = Rules(method=method, missing=missing)
    plan = regrid_plan(ds, level, variables, rules, vectors, version)
    if plan is None:
        return None
    folders = {name: _entry(key) for name, key in plan.keys.items()}
    if not all(usable(folder) for folder in folders.values()):
        return None
    # what other tasks make of the source cannot be looked at
    if (
        within
        and any(within.bounds.values())
        and not all(is_unread(array.variable) for array in plan.variables.values())
    ):
        return None
    stores = {name: folder / "data.zarr" for name, folder in folders.items()}
    return _filled(plan, stores, unread=True, within=within)


def has_level(level: int) -> bool:
    """Whether the cache holds fields of a level, of any dataset, as its entries say."""
    root = entry_path(KIND, "0" * 64)
    cells = f"'cells': {12 * 4**level}}}"
    for manifest in () if root is None else root.parent.parent.glob(f"*/*/{MANIFEST}"):
        with suppress(OSError):  # removed meanwhile
            if cells in manifest.read_text(errors="replace"):
                return True
    return False


def _entry(key: str) -> Path:
    folder = entry_path(KIND, key)
    assert folder is not None
    return folder


def _entries(plan: RegridPlan, max_bytes: int) -> dict[Any, Path] | None:
    """Stores in the cache, made where they are not; None where nothing can be written."""
    folders = {name: _entry(key) for name, key in plan.keys.items()}
    needed = sum(plan.template[name].nbytes for name in folders)
    make_room(needed, list(folders.values()), max_bytes)
    try:
        for name, folder in folders.items():
            if not usable(folder):
                _create_entry(folder, plan, name)
            (folder / USED).touch()
    except OSError as error:
        warn_user(
            f"cache folder {cache_dir()} cannot be written ({error}); fields are regridded without "
            "keeping them. Choose another with set_options(cache_dir=...), or give path=",
            CacheWarning,
        )
        return None
    return {name: folder / "data.zarr" for name, folder in folders.items()}


def _create_entry(folder: Path, plan: RegridPlan, name: Any) -> None:
    field = plan.template[name]

    def write(beside: Path) -> None:
        # what is there now has checksums in the manifest; blocks to come have their own
        create_store(beside / "data.zarr", plan.described([name]), {str(name): plan.keys[name]})
        (beside / USED).touch()

    about = f"{name} {dict(field.sizes)} {field.attrs.get('cell_methods', '')}"
    store_entry(folder, write, about)


def _own_store(plan: RegridPlan, path: Path, max_bytes: int | None) -> dict[Any, Path]:
    """A store at a path, made if there is none."""
    needed = sum(plan.template[name].nbytes for name in plan.keys)
    if max_bytes is not None and needed > max_bytes:
        raise CacheFullError(
            f"the regridded fields can take {needed} bytes, but max_bytes is {max_bytes}; raise "
            "it, or choose fewer variables or a coarser level"
        )
    keys = {str(name): key for name, key in plan.keys.items()}
    if not path.exists():
        try:
            with built_beside(path, folder=True) as beside:
                create_store(beside, plan.described(list(plan.keys)), keys)
        except FileExistsError:
            if stored_keys(path) is None:
                raise
            # another process was first
    _check_keys(path, keys)
    return dict.fromkeys(plan.keys, path)


def _check_keys(path: Path, keys: Mapping[str, str]) -> None:
    found = stored_keys(path)
    if found is None:
        raise ValueError(
            f"{path} is there, but holds no regridded fields; choose another path, or remove it"
        )
    absent = sorted(set(keys) - set(found))
    other = sorted(name for name in set(keys) & set(found) if keys[name] != found[name])
    if absent or other:
        raise ValueError(
            f"{path} holds regridded fields of other data, of another level or by another method: "
            f"{other} differ, {absent} are not there; choose another path, or remove it"
        )


def _filled(
    plan: RegridPlan,
    folders: Mapping[Any, Path],
    *,
    unread: bool = False,
    within: Within | None = None,
) -> xr.Dataset:
    """The fields, read from their stores or made and kept."""
    filled: dict[Any, xr.DataArray] = {}
    for names in plan.nodes:
        stores = {name: FieldStore(str(folders[name]), str(name)) for name in names}
        opened = all(is_unread(plan.variables[name].variable) for name in names)
        for name in names:
            field = plan.template[name]
            if opened and unread:
                block = replace(_lazy_block(plan, names, name, stores), within=within)
                filled[name] = xr.DataArray(unread_variable(block, field), field.coords)
            elif opened:
                data = lazily_filled(_lazy_block(plan, names, name, stores), field.dtype)
                filled[name] = field.copy(data=data)
            else:
                kept = KeptBlock(
                    store=stores[name],
                    variables=tuple(
                        variable
                        for other in names
                        for variable in stored_whole(plan.variables[other])
                    ),
                    leading=field.dims[:-1],
                    blocks=stores[name].blocks(),
                    made_ns=plan.made_ns,
                )
                filled[name] = field.copy(data=kept_or_read(kept, field.data))
    return plan.template.assign(filled)


def _lazy_block(
    plan: RegridPlan, names: tuple[Any, ...], name: Any, stores: Mapping[Any, FieldStore]
) -> LazyBlock:
    blocks = stores[name].blocks()
    return LazyBlock(
        node=plan.nodes[names],
        names=names,
        variables=tuple(plan.variables[other].variable for other in names),
        leading=plan.template[name].dims[:-1],
        horizontal=plan.dims,
        # one that was made anew since may have blocks of other lengths
        stores=tuple(s if s.blocks() == blocks else None for s in stores.values()),
        position=names.index(name),
        blocks=blocks,
        made_ns=plan.made_ns,
    )
