"""What is written: the dataset and its blocks, what it is of, and all of it but the blocks."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.blocks.layout import BlockLayout, in_blocks
from xsphere.blocks.rows import ROWS, columns
from xsphere.cache import content_key
from xsphere.notices import without_warnings
from xsphere.outputs import BOOKS
from xsphere.sources.reads import contents_read
from xsphere.store import with_title, without_format_warnings

RUN = "xsphere_run"
# letters of a value in a message
SHOWN = 200
# entries in a chunk of a coordinate along the blocks, however long it is: it may grow
ENTRIES = 2**14


class Target:
    """A result that is to be written, as its run, layout and coordinates describe it."""

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self.ds, self.layout = in_blocks(obj)
        self.array = str(obj.name) if isinstance(obj, xr.DataArray) else None
        self._runs, self._sources_told = _runs(self.ds, self.layout)
        blocked = {variable.name for variable in self.layout.variables}
        self._plain = [str(name) for name in self.ds.variables if str(name) not in blocked]
        self._describe()

    def with_times(self, times: Mapping[str, Mapping[str, str]]) -> "Target":
        """The same, with the units of a store for the times that have its calendar."""
        kept = {name: now for name, now in self.times.items() if name in times}
        if all(times[name] == now for name, now in kept.items()):
            return self
        other = copy(self)
        other.ds = self.ds.copy()
        for name, now in kept.items():
            if times[name].get("calendar") == now.get("calendar"):
                other.ds.variables[name].encoding = dict(times[name])
        other._describe()
        return other

    def _describe(self) -> None:
        self.times = {
            name: {**scale(attributes), "dtype": values.dtype.str}
            for name in self._plain
            if self.ds.variables[name].dtype.kind in "mMO"
            for values, attributes in [encoded(self.ds.variables[name], name)]
            if scale(attributes)
        }
        self.description = {
            "run": self._runs,
            "layout": self.layout.described(),
            "written whole": self._whole({}),
        }
        self.identity = content_key(self.description)

    def source(self, size: int | None = None) -> dict[str, str]:
        """What is read, for so many steps, holds now: a digest by place where anything tells."""
        part = self.ds if size is None else self.ds.isel({self.layout.dim: slice(0, size)})
        return contents_read(part) | self._sources_told

    def description_of(self, size: int) -> dict[str, Any]:
        """The description of fewer steps, such as those that a store has."""
        first = {self.layout.dim: slice(0, size)}
        layout = self.layout.of_size(size).described()
        return {**self.description, "layout": layout, "written whole": self._whole(first)}

    def _whole(self, part: Mapping[Any, slice]) -> dict[str, str]:
        found = {}
        for name in self._plain:
            variable = self.ds.variables[name].isel(part, missing_dims="ignore")
            found[name] = summary(*encoded(variable, name))
        return found

    def frame(self) -> dict[str, bytes]:
        """All objects of the store but the blocks, their rows and the bookkeeping."""
        import zarr
        from zarr.storage import MemoryStore

        written: dict[str, Any] = {}
        store, layout = MemoryStore(written), self.layout
        templates = {v.name: _template(self.ds[v.name]) for v in layout.variables}
        frame = with_title(self.ds.assign(templates))
        with without_format_warnings():
            frame.to_zarr(
                store,
                mode="w-",
                compute=False,
                consolidated=False,
                zarr_format=3,
                write_empty_chunks=True,
                encoding=_encoding(frame, layout),
            )
            names = columns(layout)
            zarr.open_group(store, mode="r+", use_consolidated=False).create_array(
                ROWS,
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
            zarr.consolidate_metadata(store, zarr_format=3)
        # values before what tells of them, and that of the whole last
        keys = sorted(written, key=lambda key: (key.endswith("zarr.json"), key == "zarr.json", key))
        return {key: written[key].to_bytes() for key in keys if key != BOOKS}


def _runs(ds: xr.Dataset, layout: BlockLayout) -> tuple[dict[str, Any], dict[str, str]]:
    """The run of a dataset, or those of its variables where they differ, and what sources were."""
    if RUN in ds.attrs:
        runs = {"": _parsed(ds.attrs[RUN], "the dataset")}
    else:
        arrays = {variable.name: ds[variable.name] for variable in layout.variables}
        # what dask calls a result is made of what it is computed from
        runs = {
            name: _parsed(array.attrs[RUN], repr(name))
            if RUN in array.attrs
            else {"graph": str(array.data.name)}
            for name, array in arrays.items()
        }
    sources = {
        f"{name or 'dataset'}.{RUN}": content_key(run["source"])
        for name, run in runs.items()
        if "source" in run
    }
    bare = [{k: v for k, v in run.items() if k != "source"} for run in runs.values()]
    same = bare and all(run == bare[0] for run in bare)
    return (bare[0] if same else dict(zip(runs, bare, strict=True))), sources


def _parsed(text: Any, owner: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the attribute {RUN!r} of {owner} must be the text of a JSON object, got {text!r}; "
            f"remove it with del obj.attrs[{RUN!r}] if it is not from this package"
        ) from error


def encoded(variable: xr.Variable, name: str) -> tuple[NDArray[Any], Mapping[str, Any]]:
    """Values as they are stored, and attributes: times are numbers, and their units count."""
    if variable.dtype.kind == "b":
        return np.asarray(variable.data), variable.attrs  # Zarr has booleans
    # where times do not fit the units that were asked for, finer ones are another summary
    with without_warnings("Times can't be serialized faithfully"):
        stored = xr.conventions.encode_cf_variable(variable.to_base_variable(), name=name)
    return np.asarray(stored.data), stored.attrs


def scale(attributes: Mapping[str, Any]) -> dict[str, str]:
    """What turns stored numbers into values: the same numbers may be other times."""
    return {key: str(attributes[key]) for key in ("units", "calendar") if key in attributes}


def summary(values: NDArray[Any], attributes: Mapping[str, Any]) -> str:
    """Size, ends, units and SHA-256 of stored values, in one line that people can compare."""
    if values.dtype.kind in "OUST":
        values = values.astype(object)
        content, kind = json.dumps(values.tolist(), default=str).encode(), "text"
    else:
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        content, kind = np.ascontiguousarray(values).tobytes(), str(values.dtype)
    shape = "x".join(map(str, values.shape)) or "1"
    ends = f", {values.flat[0]} to {values.flat[-1]}" if values.size else ""
    units = "".join(f" {value}," for value in scale(attributes).values())
    return f"{shape} {kind}{ends}{units} sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """One line for each field in which two descriptions differ.

    Examples
    --------
    >>> differences({"run": {"model": "a", "k": 1}}, {"run": {"model": "b", "k": 1}})
    ["run.model: 'b' in the store, 'a' now"]
    """
    here, there = dict(_flat(ours)), dict(_flat(theirs))
    return [
        f"{name}: {_shown(there, name)} in the store, {_shown(here, name)} now"
        for name in sorted(here.keys() | there.keys())
        if name not in here or name not in there or here[name] != there[name]
    ]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "nothing"
    text = repr(fields[name])
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _template(array: xr.DataArray) -> xr.DataArray:
    """As the array, but of one chunk that is never computed."""
    import dask.array as da

    return array.copy(data=da.zeros(array.shape, dtype=array.dtype, chunks=-1))


def _encoding(ds: xr.Dataset, layout: BlockLayout) -> dict[Any, dict[str, Any]]:
    blocked = {variable.name: variable for variable in layout.variables}
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in ds.variables.items():
        encoding[name] = {"compressors": _checksummed()}
        sizes = {dim: max(1, size) for dim, size in zip(variable.dims, variable.shape, strict=True)}
        if str(name) in blocked:
            sizes[layout.dim] = layout.step
            encoding[name]["fill_value"] = blocked[str(name)].fill_value
        elif layout.dim in sizes:
            cells = variable.size // max(1, variable.sizes[layout.dim])
            sizes[layout.dim] = max(1, ENTRIES // max(1, cells))
        encoding[name]["chunks"] = tuple(sizes.values())
    return encoding


def _checksummed() -> tuple[Any, ...]:
    from zarr.codecs import ZstdCodec

    # without a checksum most flipped bits would read as another value
    return (ZstdCodec(level=3, checksum=True),)
