"""Maps of fields and masks: which panels, on which axes, with which words.

Which cell every pixel shows is found in `xsphere.plotting.screen`; colours and lines are drawn in
`xsphere.plotting.drawing`.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.conventions import INVALID, HorizontalGrid, classes_of, horizontal_grid
from xsphere.conventions.masks import check_flags, flag_values, holds_classes
from xsphere.conventions.values import check_unpacked, reading_of
from xsphere.grids import Grid
from xsphere.notices import shortened
from xsphere.plotting.drawing import (
    Raster,
    axis_label,
    class_styles,
    decorate,
    draw_colorbar,
    draw_contours,
    draw_field,
    draw_legend,
    draw_mask,
    field_colours,
    is_wide,
    number_tracks,
)
from xsphere.plotting.screen import (
    Screen,
    cells_under,
    default_projection,
    frame_axes,
    frame_of,
    screen_of,
)


def plot(  # noqa: PLR0913 - the options of a picture, all by keyword
    da: xr.DataArray,
    *,
    ax: Any = None,
    projection: Any = None,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    contours: xr.DataArray | None = None,
    tracks: xr.Dataset | None = None,
    coastlines: bool = True,
    add_colorbar: bool = True,
    add_legend: bool = True,
    title: str | None = None,
    col: Hashable | None = None,
    col_wrap: int | None = None,
    pixels: int | None = None,
    **imshow_kwargs: Any,
) -> Any:
    """Map of a field or a mask, drawn pixel by pixel on a cartopy projection.

    Masks (integers with ``flag_meanings``, or floats that hold nothing but flags) are drawn in one
    colour a class, with a legend, on a background that is transparent. Fields get a colour bar;
    NaN is transparent. Only what is drawn is computed, one map at a time.

    Parameters
    ----------
    da : DataArray
        A field or mask on a HEALPix, longitude-latitude or point grid. Dimensions other than the
        grid's must have size 1, except `col`.
    ax : GeoAxes, optional
        Axes to draw on. Its limits are kept if it has any. New axes if not given.
    projection : cartopy.crs.Projection, optional
        By default Robinson centred on the date line for global data, and plate carrée limited to
        the region for regional data.
    cmap : str, Colormap or sequence of colours, optional
        Colours of a field; for a mask, one colour for each class in order. By default viridis,
        or blue to red about zero where the field is strong on both sides of it.
    vmin, vmax : float, optional
        Limits of the colours. By default the 2nd and 98th percentile, shared by all facets.
    contours : DataArray, optional
        A mask, on any grid, whose classes are outlined over the field, or booleans.
    tracks : Dataset, optional
        Tracks, as from `xsphere.track`: their numbers are written where they are at the time, and
        in the member, of each map.
    coastlines : bool, default True
        Whether to draw coastlines.
    add_colorbar, add_legend : bool, default True
        Whether to explain the colours of a field, the classes of a mask.
    title : str, optional
        By default the scalar coordinates, such as the time; ``""`` for none.
    col : hashable, optional
        Dimension with one map for each of its entries.
    col_wrap : int, optional
        Maps in a row. By default nearly as many rows as columns.
    pixels : int, optional
        Pixels along the longer side of a map. By default 200 an inch.
    **imshow_kwargs
        Passed to `matplotlib.axes.Axes.imshow`, such as ``alpha`` or ``norm``.

    Returns
    -------
    GeoAxes, or array of GeoAxes
        The axes drawn on; with `col`, one for each entry, in order.

    Raises
    ------
    TypeError
        If `da` is not a DataArray or `ax` is not a GeoAxes.
    ValueError
        If dimensions are left over, options contradict each other, or a mask holds values that
        are none of its classes.

    Examples
    --------
    >>> import cartopy.crs as ccrs
    >>> da = xr.DataArray(np.arange(192.0), dims="cells", attrs={"grid_mapping": "crs"})
    >>> crs = {"grid_mapping_name": "healpix", "refinement_level": 2, "indexing_scheme": "nested"}
    >>> da = da.assign_coords(cell_ids=("cells", np.arange(192)), crs=((), 0, crs))
    >>> ax = plot(da, projection=ccrs.Orthographic(), pixels=100, title="Cell ids")
    >>> ax.get_title()
    'Cell ids'
    """
    _check_options(da, ax=ax, projection=projection, contours=contours, col=col)
    horizontal = horizontal_grid(da)
    panels = _panels("da", da, horizontal, col)
    axes = [ax] if ax is not None else new_axes(len(panels), horizontal.grid, projection, col_wrap)
    if axes[0].get_autoscale_on():
        frame_axes(axes, horizontal.grid)
    screen = screen_of(axes[0], pixels)
    rasters = _rasters(panels, horizontal, screen)
    of_fields = {"vmin": vmin, "vmax": vmax, "norm": imshow_kwargs.get("norm")}
    is_mask = shows_classes(da, rasters, of_fields)
    rasters = [_visible(raster, nan_as=INVALID if is_mask else None) for raster in rasters]
    options = {"interpolation": "nearest", "zorder": 1.0, **imshow_kwargs}
    handles = []
    if is_mask:
        _check_mask_options(**of_fields)
        handles += draw_mask(axes, rasters, screen, class_styles(da, cmap), options)
    else:
        options |= field_colours(rasters, cmap, vmin, vmax, options.get("norm"))
        image = draw_field(axes, rasters, screen, options)
        if add_colorbar:
            draw_colorbar(image, axes, rasters, axis_label(da))
    if contours is not None:
        handles += draw_contours(
            axes,
            _rasters_of_contours(contours, da, col, screen),
            screen,
            class_styles(contours, None),
        )
    if tracks is not None:
        number_tracks(axes, panels, tracks)
    _entitle(axes, panels, title, col)
    decorate(axes, coastlines=coastlines)
    if add_legend and handles:
        draw_legend(axes, handles, facets=col is not None)
    return axes[0] if col is None else np.array(axes, object)


def _check_options(da: Any, *, ax: Any, projection: Any, contours: Any, col: Any) -> None:
    for name, value in (("da", da), ("contours", contours)):
        if not isinstance(value, xr.DataArray) and (name == "da" or value is not None):
            raise TypeError(
                f"plot() needs a DataArray for {name}, got {type(value).__name__}; choose one "
                "variable, such as ds['TMQ']"
            )
    check_axes(ax, "plot()", projection=projection, col=col)
    check_unpacked({da.name: da})
    if contours is not None:
        check_contours(contours)


def check_contours(contours: xr.DataArray) -> None:
    """Refuse what cannot be outlined."""
    if not _may_show_classes(contours):
        raise ValueError(
            "contours must be a mask, booleans or integers with flag_values of their type and "
            f"flag_meanings in their attributes, got {contours.dtype} with only "
            f"{shortened(sorted(map(str, contours.attrs)))}"
        )


def check_axes(ax: Any, caller: str, **of_new_axes: Any) -> None:
    """Refuse axes that are no map, or that come with options of new axes."""
    if ax is not None and not hasattr(ax, "projection"):
        raise TypeError(
            f"ax must be a cartopy GeoAxes, got {type(ax).__name__}; make it with "
            "plt.axes(projection=cartopy.crs.Robinson())"
        )
    clashing = [name for name, value in of_new_axes.items() if value is not None]
    if ax is not None and clashing:
        raise ValueError(f"{caller} got ax together with {', '.join(clashing)}; leave one side out")


def _may_show_classes(da: xr.DataArray) -> bool:
    """Whether values can be classes; of floats they decide themselves."""
    if da.dtype.kind == "b":
        return True
    return "flag_meanings" in da.attrs and (da.dtype.kind == "f" or holds_classes(da))


def shows_classes(
    da: xr.DataArray, rasters: Sequence[Raster], of_fields: Mapping[str, Any]
) -> bool:
    """Whether maps are of classes: floats are where they hold nothing but flags."""
    if da.dtype.kind == "f" and any(value is not None for value in of_fields.values()):
        return False
    if not _may_show_classes(da) or da.dtype.kind == "b":
        return False
    if holds_classes(da):
        return True
    flags = [*flag_values(da), np.nan]
    return all(
        bool((np.isin(r.compressed(), flags) | np.isnan(r.compressed())).all()) for r in rasters
    )


def _check_mask_options(**options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)} are for fields, but da is a mask (it has flag_meanings); leave "
            "them out, or choose the colours with cmap=[...]"
        )


def _panels(
    name: str, da: xr.DataArray, horizontal: HorizontalGrid, col: Hashable | None
) -> list[xr.DataArray]:
    """One array a map, still lazy, with the dimensions of the grid alone."""
    if col is not None and col not in da.dims:
        raise ValueError(
            f"col must be a dimension of {name}, which has {da.dims}, got {shortened(col)}"
        )
    others = [dim for dim in da.dims if dim not in (*horizontal.dims, col)]
    left = {str(dim): da.sizes[dim] for dim in others if da.sizes[dim] != 1}
    if left:
        chosen = ", ".join(f"{dim}=0" for dim in left)
        raise ValueError(
            f"plot() draws one map, but {name} also has dimensions {left}; choose with "
            f".isel({chosen}), or draw a map for each entry of one with "
            f"col={shortened(next(iter(left)))}"
        )
    da = da.squeeze(others)
    return [da] if col is None else [da.isel({col: i}) for i in range(da.sizes[col])]


def _rasters(
    panels: Sequence[xr.DataArray],
    horizontal: HorizontalGrid,
    screen: Screen,
) -> list[Raster]:
    """Values under every pixel of each map, NaN included, one map in memory at a time."""
    cells = cells_under(screen, horizontal.grid)
    rasters: list[Raster] = []
    for panel in panels:
        values = np.asarray(panel.transpose(*horizontal.dims).values).ravel()
        if values.dtype.kind not in "biuf":
            raise TypeError(f"plot() draws numbers, got values of dtype {values.dtype}")
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        values = replace(reading_of(panel), classes=())(values)
        rasters.append(np.ma.masked_array(values[cells], mask=cells < 0))
    return rasters


def _visible(raster: Raster, nan_as: int | None = None) -> Raster:
    """What is seen of a map: NaN as a value that stands for it, or not at all."""
    values = raster.data
    if values.dtype.kind == "f" and nan_as is not None:
        values = np.where(np.isnan(values), nan_as, values)
    return np.ma.masked_array(values, mask=np.ma.getmaskarray(raster) | ~np.isfinite(values))


def _rasters_of_contours(
    contours: xr.DataArray, da: xr.DataArray, col: Hashable | None, screen: Screen
) -> list[Raster]:
    """Classes to outline on every map: matched by the labels of `col`, or one mask for all."""
    horizontal = horizontal_grid(contours)
    shared = col if col in contours.dims else None
    panels = _panels("contours", matched_contours(contours, da, col), horizontal, shared)
    rasters = [_visible(raster) for raster in _rasters(panels, horizontal, screen)]
    for raster in rasters:
        check_flags(raster.compressed(), classes_of(contours), contours.name)
    return rasters if col is None or shared is not None else rasters * da.sizes[col]


def matched_contours(
    contours: xr.DataArray, da: xr.DataArray, col: Hashable | None
) -> xr.DataArray:
    """The mask with the entries of `da` along `col`, in their order, if it has that dimension."""
    if col not in contours.dims:
        return contours
    if col in contours.coords and col in da.coords:
        contours = _at_labels(contours, col, list(da[col].to_index()))
    if contours.sizes[col] != da.sizes[col]:
        raise ValueError(
            f"contours must have the {da.sizes[col]} entries of da along {shortened(col)}, got "
            f"{contours.sizes[col]}"
        )
    return contours


def _at_labels(contours: xr.DataArray, col: Hashable, labels: list[Any]) -> xr.DataArray:
    """The mask at the labels of all maps; where the same labels repeat, in the same order."""
    found = contours[col].to_index()
    if list(found) == list(pd.Index(labels)):
        return contours
    missing = [str(label) for label in labels if label not in found]
    if missing:
        raise ValueError(f"contours lacks {col} {', '.join(missing)}, which da has")
    if not found.is_unique:
        raise ValueError(
            f"contours must have each {col} once, or exactly those of da in their order, got "
            f"{found[found.duplicated()][0]} more than once; choose with "
            f"contours.drop_duplicates({shortened(col)})"
        )
    return contours.sel({col: labels})


def new_axes(
    n: int,
    grid: Grid,
    projection: Any,
    col_wrap: int | None = None,
    new_figure: Callable[..., Any] | None = None,
) -> list[Any]:
    """Axes of so many maps of a grid, in a new figure; by default one that pyplot shows."""
    if new_figure is None:
        import matplotlib.pyplot as plt

        new_figure = plt.figure
    projection = projection or default_projection(grid)
    extent = frame_of(projection, grid)[0]
    tallness = (extent[3] - extent[2]) / (extent[1] - extent[0])
    n_columns = min(n, col_wrap or int(np.ceil(np.sqrt(n))))
    n_rows = -(-n // n_columns)
    width = min(9.0, 6.0 / tallness) / np.sqrt(n_columns)
    # room for titles, and for a colour bar and a legend
    beside, below = (0.0, 0.9) if is_wide(extent) else (1.2, 0.4)
    size = (n_columns * width + beside, n_rows * (width * tallness + 0.3) + below)
    figure = new_figure(figsize=size, layout="compressed")
    return [figure.add_subplot(n_rows, n_columns, i + 1, projection=projection) for i in range(n)]


def _entitle(
    axes: Sequence[Any], panels: Sequence[xr.DataArray], title: str | None, col: Hashable | None
) -> None:
    """Titles of the maps, and of all of them."""
    for axis, words in zip(axes, _titles(panels, title, col), strict=True):
        axis.set_title(words)
    if col is not None and title:
        axes[0].get_figure().suptitle(title)


def _titles(panels: Sequence[xr.DataArray], title: str | None, col: Hashable | None) -> list[str]:
    """What is particular to each map: its entry of `col`, or all its scalar coordinates."""
    if col is None and title is not None:
        return [title]
    return [", ".join(_coordinate_label(c) for c in _scalars(panel, col)) for panel in panels]


def _scalars(panel: xr.DataArray, col: Hashable | None) -> list[xr.DataArray]:
    scalars = [c for c in panel.coords.values() if c.ndim == 0]
    if col is not None:
        return [c for c in scalars if c.name == col]
    mappings = {panel.attrs.get("grid_mapping"), panel.encoding.get("grid_mapping")}
    return [c for c in scalars if "grid_mapping_name" not in c.attrs and c.name not in mappings]


def _coordinate_label(coordinate: xr.DataArray) -> str:
    value = coordinate.values[()]
    if coordinate.dtype.kind == "M":
        return str(np.datetime_as_string(value, unit="m")).replace("T", " ")
    # cftime; a month has no hour
    if hasattr(value, "strftime") and not isinstance(value, pd.Period):
        return str(value.strftime("%Y-%m-%d %H:%M"))
    if coordinate.dtype.kind == "m":
        return f"{coordinate.name} = {value / np.timedelta64(1, 'h'):g} h"
    number = f"{value:g}" if coordinate.dtype.kind == "f" else str(value)
    return f"{coordinate.name} = {number} {coordinate.attrs.get('units', '')}".strip()
