"""``.sphere`` on datasets and arrays: each method is one call of a plain function."""

import textwrap
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import xarray as xr

import xsphere
from xsphere.notices import without_warnings

if TYPE_CHECKING:
    from xsphere.blocks import WriteReport
    from xsphere.conventions import HorizontalGrid
    from xsphere.detection.rules import Event
    from xsphere.evaluation import Evaluation
    from xsphere.grids import Grid
    from xsphere.model import Model
    from xsphere.planning import Plan
    from xsphere.regions.frequency import By

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


MOST_NAMES = 20


def _told(fact: Callable[[], str]) -> str:
    try:
        return fact()
    # objects can be odd in more ways than are known
    except Exception as error:
        return textwrap.shorten(f"unknown ({error})", 300)


class _Accessor(Generic[Labelled]):
    """What datasets and arrays have in common."""

    def __init__(self, obj: Labelled) -> None:
        self._obj: Labelled = obj

    def __repr__(self) -> str:
        lines: list[str] = [
            textwrap.fill(text, 100, initial_indent=f"{name:<12}", subsequent_indent=" " * 12)
            for name, text in self._facts().items()
        ]
        return "\n".join([f"<{type(self).__name__}: .sphere of xsphere>", *lines])

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><th style='text-align: left'>{escape(name)}</th>"
            f"<td style='text-align: left'>{escape(text)}</td></tr>"
            for name, text in self._facts().items()
        ]
        return f"<b>{type(self).__name__}</b> (xsphere)<table>{''.join(rows)}</table>"

    def _facts(self) -> dict[str, str]:
        """What can be told without computing; what cannot be told is never an error."""
        facts = {"Grid": self._grid_text, "Variables": self._names_text, "Chunks": self._chunk_text}
        methods = (name for name in dir(type(self)) if not name.startswith("_"))
        return {name: _told(fact) for name, fact in facts.items()} | {"Has": ", ".join(methods)}

    def _known_grid(self) -> "HorizontalGrid":
        lazy = [str(name) for name, c in self._obj.coords.items() if c.chunks is not None]
        if lazy:
            raise ValueError(f"the coordinates {', '.join(lazy)} are not computed yet")
        with without_warnings("dimension .* is taken for the whole HEALPix sphere"):
            return self.grid

    def _grid_text(self) -> str:
        found = self._known_grid()
        return f"{found.grid!r} on {', '.join(map(str, found.dims))}"

    def _names_text(self) -> str:
        obj: Any = self._obj
        arrays = {obj.name: obj} if isinstance(obj, xr.DataArray) else dict(obj.data_vars)
        try:
            dims = set(self._known_grid().dims)
        except Exception:  # `_grid_text` says why
            dims = set()
        names = [str(name) for name, array in arrays.items() if dims <= set(array.dims)]
        n_others = len(arrays) - len(names)
        shown = f"{', '.join(names[:MOST_NAMES])}{' ...' if names[MOST_NAMES:] else ''}"
        return f"{shown}; {n_others} others without the grid" if n_others else shown or "none"

    def _chunk_text(self) -> str:
        sizes = self._obj.chunksizes.items()
        texts = [f"{dim}: {len(parts)} of up to {max(parts, default=0)}" for dim, parts in sizes]
        return ", ".join(texts) or "none: in memory, or read when needed"

    @property
    def grid(self) -> "HorizontalGrid":
        """Horizontal grid, see `xsphere.horizontal_grid`."""
        return xsphere.horizontal_grid(self._obj)

    def to_healpix(self, level: int | None = None, **options: Any) -> Labelled:
        """Regridded onto HEALPix, see `xsphere.to_healpix`."""
        return xsphere.to_healpix(self._obj, level, **options)

    def to_latlon(self, resolution: float | None = None, **options: Any) -> Labelled:
        """Regridded onto longitude and latitude, see `xsphere.to_latlon`."""
        return xsphere.to_latlon(self._obj, resolution, **options)

    def coarsen(self, level: int | None = None, **options: Any) -> Labelled:
        """HEALPix fields at a coarser level, see `xsphere.coarsen`."""
        return xsphere.coarsen(self._obj, level, **options)

    def refine(self, level: int | None = None, **options: Any) -> Labelled:
        """HEALPix fields at a finer level, see `xsphere.refine`."""
        return xsphere.refine(self._obj, level, **options)

    def regrid(self, target: "Grid", **options: Any) -> Labelled:
        """Regridded onto any grid, see `xsphere.regrid`."""
        return xsphere.regrid(self._obj, target, **options)

    def filter(self, kernel: Any, **options: Any) -> Labelled:
        """Filtered by a function of the degree, see `xsphere.filter`."""
        return xsphere.filter(self._obj, kernel, **options)

    def to_zarr(self, path: "str | Path", **options: Any) -> "WriteReport":
        """Written block by block, resumably, see `xsphere.write_blocks`."""
        return xsphere.write_blocks(self._obj, path, **options)

    def to_pyramid(self, path: "str | Path", **options: Any) -> "Path | str":
        """Written at several HEALPix levels, see `xsphere.write_pyramid`."""
        return xsphere.write_pyramid(self._obj, path, **options)


@xr.register_dataset_accessor("sphere")  # type: ignore[no-untyped-call]
class SphereDataset(_Accessor[xr.Dataset]):
    """``ds.sphere``: regridding, segmentation and training from a dataset.

    Parameters
    ----------
    obj : Dataset
        The dataset; never changed.

    Examples
    --------
    >>> xsphere.sample_dataset().sphere.segment("tc-ar").dtype
    dtype('uint8')
    """

    def divergence(self, **options: Any) -> xr.DataArray:
        """Divergence of a wind, see `xsphere.divergence`."""
        return xsphere.divergence(self._obj, **options)

    def vorticity(self, **options: Any) -> xr.DataArray:
        """Relative vorticity of a wind, see `xsphere.vorticity`."""
        return xsphere.vorticity(self._obj, **options)

    def segment(self, model: "str | Path | Model", **options: Any) -> xr.DataArray:
        """Events in every time step, see `xsphere.segment`."""
        return xsphere.segment(self._obj, model, **options)

    def detect(self, event: "Event", rule: str = "tempest", **options: Any) -> xr.DataArray:
        """Events by a published rule, see `xsphere.detect`."""
        return xsphere.detect(self._obj, event, rule, **options)

    def plan(self, model: "str | Path | Model", **options: Any) -> "Plan":
        """What that would take: blocks, bytes, memory, hours, see `xsphere.plan`."""
        return xsphere.plan(self._obj, model, **options)

    def cache(self, level: int, path: Any, **options: Any) -> xr.Dataset:
        """Regridded onto HEALPix and kept in a store, see `xsphere.cache_regridded`."""
        return xsphere.cache_regridded(self._obj, level, path, **options)

    def evaluate(
        self, model: "str | Path | Model", labels: xr.DataArray, **options: Any
    ) -> "Evaluation":
        """Scores of a model on this dataset, see `xsphere.evaluate`."""
        return xsphere.evaluate(model, labels, self._obj, **options)

    def fit(self, labels: xr.DataArray, **options: Any) -> "Model":
        """Model trained on this dataset and labels, see `xsphere.fit`."""
        return xsphere.fit(self._obj, labels, **options)


@xr.register_dataarray_accessor("sphere")  # type: ignore[no-untyped-call]
class SphereDataArray(_Accessor[xr.DataArray]):
    """``da.sphere``: regridding, maps and events from an array.

    Parameters
    ----------
    obj : DataArray
        The array; never changed.

    Examples
    --------
    >>> xsphere.sample_dataset().PSL.sphere.to_healpix(level=3).sizes["cells"]
    768
    """

    def gradient(self, **options: Any) -> xr.Dataset:
        """Derivatives towards the east and the north, see `xsphere.gradient`."""
        return xsphere.gradient(self._obj, **options)

    def power_spectrum(self, max_degree: int | None = None, **options: Any) -> xr.DataArray:
        """Angular power by degree, see `xsphere.power_spectrum`."""
        return xsphere.power_spectrum(self._obj, max_degree, **options)

    def events(self, fields: xr.Dataset | xr.DataArray | None = None, **options: Any) -> xr.Dataset:
        """Connected regions of a mask as a table, see `xsphere.events`."""
        return xsphere.events(self._obj, fields, **options)

    def evaluate(self, labels: xr.DataArray, **options: Any) -> "Evaluation":
        """Scores of a mask or of probabilities, see `xsphere.evaluate`."""
        return xsphere.evaluate(self._obj, labels, **options)

    def frequency(self, by: "By | None" = None, **options: Any) -> xr.Dataset:
        """Share of valid times in each class, see `xsphere.frequency`."""
        return xsphere.frequency(self._obj, by, **options)

    def label(self, **options: Any) -> xr.DataArray:
        """Connected regions of a mask, numbered step by step, see `xsphere.label`."""
        return xsphere.label(self._obj, **options)

    def track(self, fields: xr.Dataset | xr.DataArray | None = None, **options: Any) -> xr.Dataset:
        """Regions of a mask followed through time, see `xsphere.track`."""
        return xsphere.track(self._obj, fields, **options)

    def track_mask(self, tracks: xr.Dataset) -> xr.DataArray:
        """Number of the track of each cell, see `xsphere.track_mask`."""
        return xsphere.track_mask(self._obj, tracks)

    def plot(self, **options: Any) -> Any:
        """Map of a field or mask, see `xsphere.plot`."""
        return xsphere.plot(self._obj, **options)
