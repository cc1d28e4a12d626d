"""Colours, legends, outlines and coastlines of maps.

Coastlines and land come with the package: nothing is downloaded, and no setting of cartopy or
matplotlib is changed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xsphere.conventions import INVALID, NOT_COMPUTED, event_classes_of
from xsphere.notices import cut_text, shortened
from xsphere.plotting.screen import Extent, Screen
from xsphere.regions.land import natural_earth

# Wong (2011), https://doi.org/10.1038/nmeth.1618: told apart with any colour vision
CLASS_COLOURS = ("#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9", "#f0e442")
SPECIAL_STYLES = {
    INVALID: ("#7f7f7f", "invalid input"),
    NOT_COMPUTED: ("#cfcfcf", "not computed"),
}
LAND_COLOUR = "#efeae0"
Styles = dict[int, tuple[Any, str]]
Raster = np.ma.MaskedArray[Any, Any]


def class_styles(mask: xr.DataArray, cmap: Any) -> Styles:
    """Colour and label of every class but the background, by value."""
    import matplotlib as mpl

    classes = event_classes_of(mask)
    if cmap is None:
        cmap = CLASS_COLOURS if len(classes) <= len(CLASS_COLOURS) else "turbo"
    if isinstance(cmap, str | mpl.colors.Colormap):
        cmap = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap
        cmap = cmap(np.linspace(0.0, 1.0, len(classes)))
    if len(cmap) < len(classes):
        raise ValueError(
            f"cmap must give a colour to each of {shortened(list(classes.values()))}, got "
            f"{len(cmap)}"
        )
    named = zip(cmap, classes.items(), strict=False)
    return {value: (colour, readable(name)) for colour, (value, name) in named} | SPECIAL_STYLES


def draw_mask(
    axes: Sequence[Any],
    rasters: Sequence[Raster],
    screen: Screen,
    styles: Styles,
    options: Mapping[str, Any],
) -> list[Any]:
    """Draw each mask in the colours of its classes, and return the handles of a legend."""
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    codes = sorted(styles)
    norm = BoundaryNorm([code - 0.5 for code in codes] + [codes[-1] + 0.5], len(codes))
    colours = ListedColormap([styles[code][0] for code in codes])
    present = set[Any]().union(*(np.unique(raster.compressed()).tolist() for raster in rasters))
    unknown = sorted(present - {0, *codes})
    if unknown:
        raise ValueError(
            f"a mask must hold 0 or its flag_values {codes}, got also {shortened(unknown)}"
        )
    for ax, raster in zip(axes, rasters, strict=True):
        _draw_land(ax)
        visible = np.ma.masked_equal(raster, 0)
        ax.imshow(visible, extent=screen.extent, origin="lower", cmap=colours, norm=norm, **options)
    explained = [code for code in codes if code not in SPECIAL_STYLES or code in present]
    return [Patch(facecolor=styles[code][0], label=styles[code][1]) for code in explained]


def field_colours(
    rasters: Sequence[Raster], cmap: Any, vmin: float | None, vmax: float | None, norm: Any
) -> dict[str, Any]:
    """Colours of a field and their limits, one choice for all maps."""
    if norm is not None:
        return {"cmap": cmap}
    shown = [raster.compressed() for raster in rasters if raster.count()]
    limits = [np.percentile(values, [2.0, 98.0]) for values in shown] or [np.array([0.0, 1.0])]
    low = float(min(low for low, _ in limits)) if vmin is None else vmin
    high = float(max(high for _, high in limits)) if vmax is None else vmax
    about_zero = cmap is None and low < 0 < high and min(-low, high) > 0.25 * max(-low, high)
    if about_zero and (vmin is None or vmax is None):
        given = [abs(limit) for limit in (vmin, vmax) if limit is not None]
        high = given[0] if given else max(-low, high)
        low = -high
    diverging = about_zero and np.isclose(low, -high)
    return {"cmap": cmap or ("RdBu_r" if diverging else "viridis"), "vmin": low, "vmax": high}


def draw_field(
    axes: Sequence[Any], rasters: Sequence[Raster], screen: Screen, options: Mapping[str, Any]
) -> Any:
    """Draw each field, and return one image that stands for the colours of all."""
    images = [
        ax.imshow(raster, extent=screen.extent, origin="lower", **options)
        for ax, raster in zip(axes, rasters, strict=True)
    ]
    return images[0]


def draw_numbers(ax: Any, events: xr.Dataset) -> None:
    """Write the numbers of tracks at the places of some of their events."""
    import cartopy.crs as ccrs
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    named = zip(
        events["track_id"].values.tolist(),
        events["lon"].values.tolist(),
        events["lat"].values.tolist(),
        strict=True,
    )
    for number, lon, lat in named:
        ax.annotate(
            str(number),
            (lon, lat),
            xycoords=ccrs.PlateCarree(),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=8,
            path_effects=halo,
            annotation_clip=True,
            zorder=5.0,
        )


def number_tracks(axes: Sequence[Any], panels: Sequence[xr.DataArray], tracks: Any) -> None:
    """Write the numbers of tracks where they are at the time of each map."""
    needed = {"track_id", "time", "lon", "lat"}
    if not isinstance(tracks, xr.Dataset) or not needed <= set(tracks.variables):
        raise ValueError(
            "tracks must have track_id, time, lon and lat, as from xsphere.track, got "
            f"{shortened(tracks)}"
        )
    if "time" not in panels[0].coords or panels[0]["time"].ndim:
        raise ValueError("tracks are drawn at the time of a map, but da has no coordinate time")
    for axis, panel in zip(axes, panels, strict=True):
        # of several members, those of the member drawn
        shared = [
            str(name)
            for name, scalar in panel.coords.items()
            if not scalar.ndim and name in tracks.variables and tracks[name].dims == ("event",)
        ]
        here = [tracks[name].values == panel[name].values for name in shared]
        draw_numbers(axis, tracks.isel(event=np.logical_and.reduce(here)))


def is_wide(extent: Extent) -> bool:
    """Whether a colour bar stands better below a map than beside it."""
    west, east, south, north = extent
    return (north - south) < 0.75 * (east - west)


def draw_colorbar(image: Any, axes: Sequence[Any], rasters: Sequence[Raster], label: str) -> None:
    """One colour bar for all maps, with arrows where values lie beyond its ends."""
    low, high = image.get_clim()
    under = any(raster.count() and raster.min() < low for raster in rasters)
    over = any(raster.count() and raster.max() > high for raster in rasters)
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    (west, east), (south, north) = sorted(axes[0].get_xlim()), sorted(axes[0].get_ylim())
    wide = is_wide((west, east, south, north))
    axes[0].get_figure().colorbar(
        image,
        ax=list(axes),
        label=label,
        extend=extend.get((under, over), "neither"),
        orientation="horizontal" if wide else "vertical",
        shrink=0.6 if wide else 0.8,
        aspect=40 if wide else 30,
        pad=0.03,
    )


def draw_contours(
    axes: Sequence[Any], rasters: Sequence[Raster], screen: Screen, styles: Styles
) -> list[Any]:
    """Outline each class on each map, and return the handles of a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    classes = {value: style for value, style in styles.items() if value not in SPECIAL_STYLES}
    for ax, raster in zip(axes, rasters, strict=True):
        for value, (colour, _) in classes.items():
            inside = raster == value
            # contour() warns where there is nothing to draw
            if inside.any() and not inside.all():
                lines = ax.contour(
                    screen.x,
                    screen.y,
                    inside.astype(float),
                    levels=[0.5],
                    colors=[colour],
                    linewidths=1.6,
                    zorder=3.0,
                )
                lines.set(path_effects=[withStroke(linewidth=3.0, foreground="white")])
    return [Line2D([], [], color=colour, label=label) for colour, label in classes.values()]


def _draw_coastlines(ax: Any) -> None:
    import cartopy.crs as ccrs
    from cartopy.feature import ShapelyFeature

    coast = ShapelyFeature(natural_earth("coastline"), ccrs.PlateCarree(), facecolor="none")
    # a pale line under the dark one: seen on dark colours and on light ones
    ax.add_feature(coast, edgecolor="#ffffff", linewidth=1.4, alpha=0.4, zorder=2.0)
    ax.add_feature(coast, edgecolor="#262626", linewidth=0.6, zorder=2.0)


def _draw_land(ax: Any) -> None:
    import cartopy.crs as ccrs
    from cartopy.feature import ShapelyFeature

    land = ShapelyFeature(natural_earth("land"), ccrs.PlateCarree())
    ax.add_feature(land, facecolor=LAND_COLOUR, edgecolor="none", zorder=0.5)


def decorate(axes: Sequence[Any], *, coastlines: bool) -> None:
    """Coastlines and, on plain maps, degrees of longitude and latitude."""
    for ax in axes:
        if coastlines:
            _draw_coastlines(ax)
        if _is_plain(ax):
            lines = {"linewidth": 0.4, "color": "#000000", "alpha": 0.25, "zorder": 2.0}
            ax.gridlines(draw_labels={"left": "y", "bottom": "x"}, **lines)


def _is_plain(ax: Any) -> bool:
    """Whether numbers stand along the sides."""
    import cartopy.crs as ccrs

    return not hasattr(ax, "projection") or isinstance(ax.projection, ccrs.PlateCarree)


def draw_legend(
    axes: Sequence[Any], handles: Sequence[Any], *, facets: bool, title: str | None = None
) -> None:
    """Below one picture, or below all maps."""
    columns = min(len(handles), 5)
    options = {"handles": handles, "ncols": columns, "frameon": False, "title": title}
    if facets:
        axes[0].get_figure().legend(loc="outside lower center", **options)
    else:
        below_labels = 2.2 if _is_plain(axes[0]) else 0.5
        axes[0].legend(
            loc="upper center", bbox_to_anchor=(0.5, 0.0), borderaxespad=below_labels, **options
        )


def readable(name: str) -> str:
    """A name of CF in plain words."""
    return name.replace("_", " ")


def axis_label(da: xr.DataArray) -> str:
    """Name and units of what is drawn."""
    # attributes may be anything, and of any length
    long_name, standard_name, text = (
        cut_text(str(da.attrs.get(key, "")), 100) for key in ("long_name", "standard_name", "units")
    )
    name = long_name or readable(standard_name) or ("" if da.name is None else str(da.name))
    # m s-1 and m s**-1 as they are printed
    units = re.sub(r"(?<!\d)([A-Za-z])\*{0,2}(-?\d+)", r"\1$^{\2}$", text)
    return f"{name} [{units}]" if units else name
