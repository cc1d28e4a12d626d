"""A store before its first block: made beside its place, and there as a whole or not at all."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import built_beside, write_file
from xsphere.blocks.errors import OtherRunError
from xsphere.blocks.identity import described, differences, summary
from xsphere.blocks.layout import BlockedVariable, Layout, in_blocks
from xsphere.blocks.ledger import LEDGER, UNREAD, columns
from xsphere.blocks.state import (
    SCHEMA,
    State,
    damaged_metadata,
    keep_books,
    metadata_digests,
    open_state,
    set_status,
)
from xsphere.cache import content_key
from xsphere.notices import shortened
from xsphere.outputs import OWN_GROUP, check_output
from xsphere.store import whatever_the_format, with_title

# entries of a coordinate that a block reads to check its place: 0.5 MB of times
COORDINATE_CHUNK = 2**16


class Plan:
    """What is to be written: the dataset, its blocks and what they are of."""

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self.ds, self.layout = in_blocks(obj)
        self.description = described(self.ds, self.layout)
        self.identity = content_key(self.description)
        self.array = str(obj.name) if isinstance(obj, xr.DataArray) else None


def create_store(plan: Plan, path: Path, *, overwrite: bool) -> None:
    """Make a store with all but its blocks, in place of what is there only if asked.

    Parameters
    ----------
    plan : Plan
        What will be written.
    path : Path
        Where.
    overwrite : bool
        Whether to replace what is there.

    Raises
    ------
    FileExistsError
        If something is there, or came there in the meantime, and `overwrite` is not set.
    ValueError
        If a folder would be replaced that xsphere did not write, or that is read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> create_store(Plan(xr.DataArray(np.zeros(3), name="x")), path, overwrite=False)
    >>> open_state(path).status
    'writing'
    """
    check_output(path, [plan.ds], folder=True, overwrite=overwrite)
    with built_beside(path, folder=True, replace=overwrite) as beside:
        _write_frame(plan, beside)


def _write_frame(plan: Plan, path: Path) -> None:
    """A store with coordinates, attributes and an empty ledger, but no blocks."""
    import zarr

    layout = plan.layout
    blocked = {variable.name: variable for variable in layout.variables}
    frame = plan.ds.assign({name: _template(plan.ds[name]) for name in blocked})
    with whatever_the_format():
        with_title(frame).to_zarr(
            path,
            mode="w-",
            compute=False,
            consolidated=False,
            zarr_format=3,
            write_empty_chunks=True,
            encoding=_encoding(frame, blocked, layout),
        )
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    names = columns(layout)
    group.create_array(
        LEDGER,
        shape=(len(layout.blocks), len(names)),
        chunks=(1, len(names)),
        dtype="u8",
        fill_value=0,
        compressors=_checksummed(),
        # one file a block and no folder: file systems of clusters count both
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("block", "column"),
        attributes={"columns": names},
    )
    with whatever_the_format():
        zarr.consolidate_metadata(str(path), zarr_format=3)
    keep_books(path, _bookkeeping(plan) | {"metadata": metadata_digests(path)})


def _bookkeeping(plan: Plan) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": "writing",
        "blocks": len(plan.layout.blocks),
        "identity": plan.identity,
        "array": plan.array,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": _version(),
        **plan.description,
    }


def _version() -> str:
    try:
        return version("xsphere")
    except PackageNotFoundError:
        return "unknown"


def _template(array: xr.DataArray) -> xr.DataArray:
    """As the array, but of one chunk that is never computed."""
    import dask.array as da

    return array.copy(data=da.zeros(array.shape, dtype=array.dtype, chunks=-1))


def _encoding(
    ds: xr.Dataset, blocked: dict[str, BlockedVariable], layout: Layout
) -> dict[Any, dict[str, Any]]:
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in ds.variables.items():
        encoding[name] = {"compressors": _checksummed()}
        if str(name) in blocked:
            block = (layout.step, *(max(1, size) for size in variable.shape[1:]))
            encoding[name] |= {"chunks": block, "fill_value": blocked[str(name)].fill_value}
        elif variable.dims == (layout.dim,):
            encoding[name]["chunks"] = (max(1, min(variable.size, COORDINATE_CHUNK)),)
    return encoding


def _checksummed() -> tuple[Any, ...]:
    from zarr.codecs import ZstdCodec

    # without a checksum most flipped bits would read as another value
    return (ZstdCodec(level=3, checksum=True),)


def check_same_run(plan: Plan, state: State) -> None:
    """Refuse a store of another run, or one whose coordinates were changed.

    Parameters
    ----------
    plan : Plan
        What is to be written.
    state : State
        The store.

    Raises
    ------
    OtherRunError
        With all that differs.

    Examples
    --------
    >>> import tempfile
    >>> plan = Plan(xr.DataArray(np.zeros(3), name="x"))
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> create_store(plan, path, overwrite=False)
    >>> check_same_run(plan, open_state(path))
    """
    check_same_description(plan, state)
    damaged = [f"{name}: {reason}" for name, reason in damaged_frame(state).items()]
    if damaged:
        raise OtherRunError(
            f"{state.path} was changed since it was written:\n  "
            + "\n  ".join(damaged)
            + "\nMend it with repair_store, or replace the store with overwrite=True"
        )


def check_same_description(plan: Plan, state: State) -> None:
    """As `check_same_run`, without reading what the store holds."""
    found = differences(plan.description, state.description)
    if not found:
        return
    remedy = "Write to another path, or replace the store with overwrite=True"
    if _but_for_the_source(plan.description) == _but_for_the_source(state.description):
        remedy += "; if the source was only mended, go on with mended_source=True"
    raise OtherRunError(f"{state.path} holds another run:\n  " + "\n  ".join(found) + f"\n{remedy}")


def with_mended_source(plan: Plan, state: State) -> State:
    """The store as one of the source as it is now, where nothing else differs.

    Parameters
    ----------
    plan : Plan
        What is to be written.
    state : State
        The store; what its source was is kept in its attributes.

    Returns
    -------
    State
        The same if anything but the source differs.

    Examples
    --------
    >>> import tempfile
    >>> runs = ['{"schema": 1, "source": "a"}', '{"schema": 1, "source": "b"}']
    >>> plans = [Plan(xr.DataArray([0.0], name="x", attrs={"xsphere_run": run})) for run in runs]
    >>> path = Path(tempfile.mkdtemp(), "x.zarr")
    >>> create_store(plans[0], path, overwrite=False)
    >>> check_same_run(plans[1], with_mended_source(plans[1], open_state(path)))
    """
    same = plan.description == state.description
    if same or _but_for_the_source(plan.description) != _but_for_the_source(state.description):
        return state
    earlier = [*state.attributes.get("earlier runs", []), state.description["run"]]
    changed = {"identity": plan.identity, "run": plan.description["run"], "earlier runs": earlier}
    return set_status(state, "writing", **changed)


def _but_for_the_source(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description without what the data of its run are, or of the run of each variable."""
    run = description["run"]
    if all(isinstance(one, Mapping) and "schema" in one for one in run.values()):
        bare = {name: _sourceless(one) for name, one in run.items()}
    else:
        bare = _sourceless(run)
    return {**description, "run": bare}


def _sourceless(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key != "source"}


def damaged_frame(state: State) -> dict[str, str]:
    """Damage outside the blocks and their ledger, by variable or metadata file."""
    wrong = damaged_metadata(state)
    for name, expected in state.description["written whole"].items():
        try:
            array = state.group[name]
            found = summary(np.asarray(array[...]), array.attrs)
        except UNREAD:
            raise
        # a missing array, a missing chunk or any complaint of a codec
        except Exception as error:
            wrong[name] = f"it cannot be read ({type(error).__name__}: {shortened(error)})"
            continue
        if found != expected:
            wrong[name] = f"it was written as {expected}, and is now {found}"
    return wrong


def mend_frame(plan: Plan, state: State) -> State:
    """The store with all but its blocks and their ledger written again, file by file."""
    with TemporaryDirectory(dir=state.path.parent, prefix=".", suffix=".tmp") as folder:
        frame = Path(folder, "frame.zarr")
        _write_frame(plan, frame)
        for file in frame.rglob("*"):
            name = file.relative_to(frame)
            if file.is_file() and name != Path(OWN_GROUP, "zarr.json"):
                write_file(state.path / name, file.read_bytes())
    return set_status(open_state(state.path), "writing", metadata=metadata_digests(state.path))


def start_writing(
    plan: Plan, path: Path, *, resume: bool, overwrite: bool, mended_source: bool
) -> State:
    """A store at `path` that blocks of the plan can be written to, made if there is none."""
    if overwrite or not path.exists():
        try:
            create_store(plan, path, overwrite=overwrite)
        except OSError:
            # another process may have made the same store just now
            if overwrite or not path.exists():
                raise
    elif not resume:
        raise FileExistsError(
            f"{path} is there already; leave resume=True to go on with it, choose another name or "
            "overwrite it"
        )
    state = open_state(path)
    if mended_source:
        state = with_mended_source(plan, state)
    check_same_run(plan, state)
    return state


def reopen(state: State) -> State:
    """The store with its status back at writing, so that nobody takes it for complete."""
    return state if state.status == "writing" else set_status(state, "writing")
