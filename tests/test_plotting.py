"""Maps: every pixel shows the cell under it, and every colour is explained."""

import subprocess
import sys
from collections.abc import Iterator

import dask
import dask.array
import healpy
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr

mpl.use("Agg")

import cartopy
import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import shapely

from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid, lonlat_to_vectors
from xsphere.plotting import plot
from xsphere.plotting.screen import region_of

GEODETIC = ccrs.PlateCarree()
PROJECTIONS = {
    "plate carree": ccrs.PlateCarree(central_longitude=180.0),
    "robinson": ccrs.Robinson(central_longitude=-60.0),
    "orthographic": ccrs.Orthographic(30.0, -20.0),
    "polar": ccrs.NorthPolarStereo(),
    "equal earth": ccrs.EqualEarth(central_longitude=180.0),
}
CLASSES = ["tropical_cyclone", "atmospheric_river"]
TIMES = np.array(["2011-01-15T12:00:00", "2011-10-11T00:30:00"], "datetime64[ns]")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def on_healpix(values, grid=None, **kwargs) -> xr.DataArray:
    values = values if isinstance(values, dask.array.Array) else np.asarray(values)
    grid = grid or HealpixGrid(level=3)
    dims = ("time", "cells")[-values.ndim :]
    coords = {"time": TIMES[: len(values)]} if values.ndim == 2 else {}
    return describe_healpix(xr.DataArray(values, coords, dims, **kwargs), grid)


def on_latlon(values, lon, lat) -> xr.DataArray:
    return xr.DataArray(
        values,
        {
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        ("lat", "lon"),
    )


def mask_of(values, grid=None) -> xr.DataArray:
    return on_healpix(np.asarray(values, np.uint8), grid, attrs=mask_attributes(CLASSES))


def drawn(ax):
    """Array shown, with x and y of its pixel centres."""
    (image,) = ax.images
    array = image.get_array()
    west, east, south, north = image.get_extent()
    n_rows, n_columns = array.shape
    assert image.origin == "lower"
    x = west + (np.arange(n_columns) + 0.5) * (east - west) / n_columns
    y = south + (np.arange(n_rows) + 0.5) * (north - south) / n_rows
    return np.ma.asarray(array), x, y


def outlines(ax):
    return [artist for artist in ax.collections if isinstance(artist, mpl.contour.ContourSet)]


def pixels_on_globe(projection, x, y):
    """Longitude and latitude of each pixel well on the globe, by another way than the code's."""
    inside = projection.domain.buffer(-1e-3 * np.ptp(x))
    outside = projection.domain.buffer(1e-3 * np.ptp(x))
    points = shapely.points(*np.meshgrid(x, y))
    on, off = shapely.contains(inside, points), ~shapely.contains(outside, points)
    lonlat = [
        GEODETIC.transform_point(*shapely.get_coordinates(point)[0], projection)
        for point in points[on]
    ]
    return on, off, *np.array(lonlat).T


GRIDS = {
    "nested": HealpixGrid(3),
    "ring": HealpixGrid(3, "ring"),
    "points": PointGrid(lon=[3, 80, 150, -120, -50, 10, 0], lat=[5, -20, 40, 10, -35, 85, -88]),
    "0..360": LatLonGrid(lon=np.arange(0, 360, 20), lat=np.linspace(90, -90, 13)),
    "-180..180": LatLonGrid(lon=np.arange(-170, 180, 20), lat=np.linspace(-80, 80, 9)),
}


def field_on(grid) -> xr.DataArray:
    """The number of each cell."""
    numbers = np.arange(grid.n_cells, dtype=float).reshape(grid.shape)
    if isinstance(grid, HealpixGrid):
        return on_healpix(numbers, grid)
    if isinstance(grid, LatLonGrid):
        return on_latlon(numbers, grid.lon, grid.lat).transpose("lon", "lat")
    coords = {"lon": ("station", grid.lon), "lat": ("station", grid.lat)}
    return xr.DataArray(numbers, coords, ("station",))


def cells_by_brute_force(grid, lon, lat):
    if isinstance(grid, HealpixGrid):
        nest = grid.indexing_scheme == "nested"
        return healpy.ang2pix(grid.nside, lon, lat, nest=nest, lonlat=True)
    if isinstance(grid, PointGrid):
        return (lonlat_to_vectors(lon, lat) @ grid.centres.T).argmax(axis=-1)
    row = np.abs(lat[:, None] - grid.lat).argmin(axis=-1)
    column = np.abs((lon[:, None] - grid.lon + 180) % 360 - 180).argmin(axis=-1)
    return row * grid.lon.size + column


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_every_pixel_shows_the_cell_under_it(grid, name):
    projection = PROJECTIONS[name]
    array, x, y = drawn(plot(field_on(grid), projection=projection, pixels=60, coastlines=False))
    on, off, lon, lat = pixels_on_globe(projection, x, y)
    assert on.sum() > 500
    expected = cells_by_brute_force(grid, lon, lat)
    assert not np.ma.getmaskarray(array)[on].any()
    # centres of pixels may fall on the edge of two cells
    assert (array[on] == expected).mean() > 0.995
    assert np.ma.getmaskarray(array)[off].all()


def test_partial_healpix_shows_its_cells_alone():
    grid = HealpixGrid(2, "ring", cell_ids=[40, 7, 90, 91])
    array, x, y = drawn(plot(field_on(grid), projection=ccrs.PlateCarree(), pixels=200))
    lon, lat = np.meshgrid(x, y)
    ids = healpy.ang2pix(4, lon, lat, lonlat=True)
    for position, cell in enumerate([40, 7, 90, 91]):
        assert (array[ids == cell] == position).all()
    assert np.ma.getmaskarray(array)[~np.isin(ids, [40, 7, 90, 91])].all()


def test_no_seam_at_the_date_line():
    grid = LatLonGrid(lon=np.arange(0, 360, 2.5), lat=np.linspace(-90, 90, 73))
    field = on_latlon(np.cos(np.deg2rad(np.broadcast_to(grid.lon, grid.shape))), grid.lon, grid.lat)
    for centre in (0.0, 180.0, 77.0):
        projection = ccrs.PlateCarree(central_longitude=centre)
        array, *_ = drawn(plot(field, projection=projection, pixels=144))
        assert array.count() == array.size
        assert np.abs(np.diff(array, axis=1)).max() < 2.01 * np.deg2rad(2.5)


def test_pixels_are_those_asked_for():
    field = field_on(HealpixGrid(1))
    assert drawn(plot(field, projection=ccrs.PlateCarree(), pixels=50))[0].shape == (25, 50)
    ax = plt.figure(figsize=(4, 2), dpi=50).add_axes((0, 0, 1, 1), projection=ccrs.PlateCarree())
    assert drawn(plot(field, ax=ax))[0].shape == (400, 800)


def test_nan_and_infinity_are_transparent():
    values = np.arange(768.0)
    values[:300], values[300] = np.nan, np.inf
    array, *_ = drawn(plot(on_healpix(values), pixels=80))
    assert array.compressed().min() == 301
    assert array.count() < 0.7 * drawn(plot(field_on(HealpixGrid(3)), pixels=80))[0].count()


@pytest.mark.parametrize("dtype", [bool, "i2", "f4"])
def test_kinds_of_numbers(dtype):
    array, *_ = drawn(plot(on_healpix((np.arange(768) % 2).astype(dtype)), pixels=40))
    assert set(array.compressed().tolist()) == {0, 1}


def test_only_what_is_drawn_is_computed():
    def refuse(block):
        raise AssertionError("computed")

    first = dask.array.arange(768.0, chunks=768)[None]
    other = dask.array.map_blocks(refuse, first, dtype=float, meta=np.empty((0, 0)))
    both = dask.array.concatenate([first, other])
    field = on_healpix(both)
    assert drawn(plot(field.isel(time=0), pixels=40))[0].max() == 767
    assert isinstance(field.data, dask.array.Array)
    with pytest.raises(AssertionError, match="computed"):
        plot(field, col="time", pixels=40)


def test_facets_are_computed_one_at_a_time():
    blocks = []

    def scheduler(dsk, keys, **kwargs):
        result = dask.get(dsk, keys, **kwargs)
        blocks.append(np.asarray(result[0][0] if isinstance(result[0], list) else result[0]).size)
        return result

    mask = mask_of(np.ones((2, 768)))
    lazy = mask.copy(data=dask.array.from_array(mask.values, chunks=(1, 768)))
    with dask.config.set(scheduler=scheduler):
        plot(lazy, col="time", pixels=20, coastlines=False)
    assert blocks == [768, 768]


def test_default_maps():
    assert isinstance(plot(field_on(HealpixGrid(2)), pixels=20).projection, ccrs.Robinson)
    near_date_line = on_latlon(np.ones((3, 4)), [170.0, 175, 180, 185], [10.0, 20, 30])
    ax = plot(near_date_line, pixels=20)
    assert isinstance(ax.projection, ccrs.PlateCarree)
    west, east, south, north = ax.get_extent(ccrs.PlateCarree(central_longitude=180))
    np.testing.assert_allclose([west, east, south, north], [-12.5, 7.5, 5, 35], atol=1e-5)


def test_stereographic_map_of_the_globe_is_a_circle():
    ax = plot(field_on(HealpixGrid(2)), projection=ccrs.SouthPolarStereo(), pixels=30)
    edge = np.array([ax.get_xlim()[0], 0.0])
    assert GEODETIC.transform_point(*edge, ax.projection)[1] == pytest.approx(-30, abs=0.2)
    x, y = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    assert x == pytest.approx(y)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (HealpixGrid(3), None),
        (LatLonGrid(np.arange(0, 360, 30), np.linspace(-90, 90, 7)), None),
        (LatLonGrid(np.arange(0, 360, 30), [0, 10, 20]), (165, 180, -5, 25)),
        (PointGrid([350, 0, 10], [40, 50, 45]), (0, 10 + 1 / np.cos(np.deg2rad(50)), 39, 51)),
        (PointGrid([-100], [0]), (260, 1, -1, 1)),
    ],
)
def test_region_of(grid, expected):
    region = region_of(grid)
    if expected is None:
        assert region is None
        return
    lon, half_width, south, north = expected
    assert (region.lon - lon + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert (region.half_width, region.south, region.north) == pytest.approx(
        (half_width, south, north)
    )


def test_points_colour_their_region_alone():
    grid = PointGrid([350, 0, 10], [40, 50, 45])
    array, x, y = drawn(plot(field_on(grid), projection=ccrs.PlateCarree(), pixels=360))
    assert array.count() == array.size  # the map is the region
    _, ax = plt.subplots(subplot_kw={"projection": ccrs.PlateCarree()})
    ax.set_global()
    array, x, y = drawn(plot(field_on(grid), ax=ax, pixels=360))
    lon, lat = np.meshgrid(x, y)
    far = (np.abs(lon) > 12) | (lat > 52) | (lat < 38)
    assert np.ma.getmaskarray(array)[far].all()
    assert not np.ma.getmaskarray(array)[(np.abs(lon) < 11) & (np.abs(lat - 45) < 5)].any()


def test_mask_is_drawn_in_the_colours_of_its_legend():
    values = np.zeros(768)
    values[100:200], values[300:350] = 1, 2
    mask = mask_of(values)
    ax = plot(mask, pixels=100)
    array, *_ = drawn(ax)
    assert set(array.compressed().tolist()) == {1, 2}
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "tropical cyclone",
        "atmospheric river",
    ]
    colours = {code: ax.images[0].to_rgba(np.array([[code]]))[0, 0] for code in (1, 2)}
    for code, patch in zip((1, 2), legend.get_patches(), strict=True):
        np.testing.assert_allclose(colours[code], patch.get_facecolor(), atol=1e-6)
    assert len(ax.figure.axes) == 1  # no colour bar


def test_invalid_and_not_computed_are_shown_where_present():
    values = np.zeros(768)
    values[:50], values[50:90], values[90:99] = 254, 255, 1
    ax = plot(mask_of(values), pixels=100)
    assert set(drawn(ax)[0].compressed().tolist()) == {1, 254, 255}
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["tropical cyclone", "atmospheric river", "invalid input", "not computed"]


def test_nan_in_a_mask_is_invalid_not_background():
    values = np.where(np.arange(768) < 400, np.nan, 1.0)
    ax = plot(on_healpix(values, attrs=mask_attributes(CLASSES)), pixels=60)
    assert set(drawn(ax)[0].compressed().tolist()) == {1, 254}


def test_many_classes_have_different_colours():
    names = [f"class_{i}" for i in range(1, 12)]
    mask = on_healpix((np.arange(768) % 12).astype("u1"), attrs=mask_attributes(names))
    ax = plot(mask, pixels=40)
    assert len({patch.get_facecolor() for patch in ax.get_legend().get_patches()}) == 11
    ax = plot(mask.where(mask < 3, 0), cmap=["r", "g", "b"] * 4, pixels=40)
    assert ax.get_legend().get_patches()[1].get_facecolor() == (0, 0.5, 0, 1)


def test_colour_bar_names_the_field_and_its_units():
    field = field_on(HealpixGrid(3))
    wanted = [
        (
            {"long_name": "Wind", "standard_name": "wind_speed", "units": "m s-1"},
            "Wind [m s$^{-1}$]",
        ),
        ({"standard_name": "wind_speed", "units": "m s**-1"}, "wind speed [m s$^{-1}$]"),
        ({"units": "1e-3"}, "field [1e-3]"),
        ({"units": 1, "long_name": ["a"]}, "['a'] [1]"),
        ({"units": "K" * 10**5}, f"field [{'K' * 50}...{'K' * 50}]"),
        ({}, "field"),
    ]
    for attrs, words in wanted:
        kept = (
            {"grid_mapping": field.attrs["grid_mapping"]} if "grid_mapping" in field.attrs else {}
        )
        named = field.rename("field").copy()
        named.attrs = attrs | kept
        ax = plot(named, projection=ccrs.PlateCarree(), pixels=20, coastlines=False)
        assert ax.figure.axes[1].get_xlabel() == words


def test_limits_are_robust_and_arrows_show_what_lies_beyond():
    field = field_on(HealpixGrid(3))
    ax = plot(field, projection=ccrs.PlateCarree(), pixels=100)
    low, high = ax.images[0].get_clim()
    shown = drawn(ax)[0].compressed()
    assert (low, high) == pytest.approx(tuple(np.percentile(shown, [2, 98])))
    assert ax.images[0].colorbar.extend == "both"
    ax = plot(field, vmin=-5.0, vmax=2000.0, pixels=20)
    assert ax.images[0].get_clim() == (-5, 2000)
    assert ax.images[0].colorbar.extend == "neither"
    assert plot(field, vmin=-5.0, vmax=9.0, pixels=20).images[0].colorbar.extend == "max"
    assert plot(field, vmin=5.0, vmax=999.0, pixels=20).images[0].colorbar.extend == "min"


def test_colours_diverge_about_zero():
    signed = field_on(HealpixGrid(3)) - 300.0
    image = plot(signed, pixels=40).images[0]
    assert image.get_cmap().name == "RdBu_r"
    assert image.get_clim()[0] == -image.get_clim()[1] < -300
    assert plot(signed, vmax=100.0, pixels=40).images[0].get_clim() == (-100, 100)
    assert plot(signed, vmin=-200.0, pixels=40).images[0].get_clim() == (-200, 200)
    assert plot(signed, vmin=-90.0, vmax=80.0, pixels=40).images[0].get_cmap().name == "viridis"
    assert plot(signed + 280.0, pixels=40).images[0].get_cmap().name == "viridis"
    image = plot(signed, cmap="magma", pixels=40).images[0]
    assert image.get_cmap().name == "magma"
    assert image.get_clim()[0] > -300


def test_field_without_a_number_is_blank():
    ax = plot(on_healpix(np.full(768, np.nan)), pixels=20)
    assert drawn(ax)[0].count() == 0
    ax.figure.canvas.draw()


def test_options_reach_imshow():
    norm = mpl.colors.LogNorm(1.0, 100.0)
    ax = plot(field_on(HealpixGrid(3)) + 1.0, norm=norm, alpha=0.5, pixels=20, add_colorbar=False)
    assert ax.images[0].norm is norm
    assert ax.images[0].get_alpha() == 0.5
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize(
    "projection", [ccrs.NorthPolarStereo(), ccrs.Robinson(180.0)], ids=["polar", "robinson"]
)
def test_contours_follow_the_edge_of_each_class(projection):
    grid = HealpixGrid(4)
    lat = grid.centre_lonlat[1]
    mask = mask_of(np.where(lat > 60, 1, np.where((lat < 50) & (lat > 40), 2, 0)), grid)
    ax = plot(field_on(HealpixGrid(3)), contours=mask, projection=projection, pixels=300)
    cap, band = outlines(ax)
    cell = np.rad2deg(np.sqrt(grid.areas[0]))
    for lines, parallels in ((cap, [60]), (band, [40, 50])):
        x, y = np.concatenate([path.vertices for path in lines.get_paths()]).T
        lats = GEODETIC.transform_points(projection, x, y)[:, 1]
        away = np.abs(lats[:, None] - parallels)
        assert away.min(axis=1).max() < cell
        assert (away.min(axis=0) < cell / 4).all()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        n.replace("_", " ") for n in CLASSES
    ]
    colours = [tuple(lines.get_edgecolor()[0]) for lines in (cap, band)]
    assert colours == [mpl.colors.to_rgba(h.get_color()) for h in ax.get_legend().get_lines()]


def test_contours_of_an_absent_class_draw_nothing():
    ax = plot(field_on(HealpixGrid(3)), contours=mask_of(np.zeros(768)), pixels=20)
    assert not outlines(ax)


def test_facets_share_colours_and_are_named_by_their_time():
    field = on_healpix(np.stack([np.arange(768.0), 1000 + np.arange(768.0)]))
    axes = plot(field, col="time", pixels=40, title="Both")
    assert [ax.get_title() for ax in axes] == ["2011-01-15 12:00", "2011-10-11 00:30"]
    first, second = (ax.images[0].get_clim() for ax in axes)
    assert first == second
    assert first[0] < 100
    assert first[1] > 1600
    figure = axes[0].figure
    assert figure.get_suptitle() == "Both"
    assert len(figure.axes) == 3  # two maps, one colour bar
    assert drawn(axes[1])[0].min() >= 1000


def test_facets_wrap():
    field = xr.concat([field_on(HealpixGrid(1))] * 5, "member")
    axes = plot(field, col="member", col_wrap=2, pixels=10, coastlines=False)
    rows = [ax.get_subplotspec().rowspan.start for ax in axes]
    assert rows == [0, 0, 1, 1, 2]


def test_facets_outline_the_mask_of_their_own_time():
    values = np.zeros((2, 768))
    values[0, :64], values[1, 400:500] = 1, 2
    mask = mask_of(values)
    field = on_healpix(np.ones((2, 768)))
    for contours in (mask, mask.isel(time=[1, 0])):
        axes = plot(field, col="time", contours=contours, pixels=60)
        assert [len(outlines(ax)) for ax in axes] == [1, 1]
        colours = [mpl.colors.to_hex(outlines(ax)[0].get_edgecolor()[0]) for ax in axes]
        assert colours == ["#d55e00", "#0072b2"]
    (legend,) = axes[0].figure.legends
    assert len(legend.get_texts()) == 2
    one = plot(field, col="time", contours=mask.isel(time=0), pixels=60)
    assert [len(outlines(ax)) for ax in one] == [1, 1]


def test_facets_may_repeat_a_time():
    values = np.zeros((2, 768))
    values[0, :64], values[1, 400:500] = 1, 2
    twice = [TIMES[0]] * 2
    mask = mask_of(values).assign_coords(time=twice)
    field = on_healpix(np.ones((2, 768)))
    axes = plot(field.assign_coords(time=twice), col="time", contours=mask, pixels=60)
    colours = [mpl.colors.to_hex(outlines(ax)[0].get_edgecolor()[0]) for ax in axes]
    assert colours == ["#d55e00", "#0072b2"]
    with pytest.raises(ValueError, match=r"each time once, .*drop_duplicates\('time'\)"):
        plot(field.isel(time=[0]).assign_coords(time=twice[:1]), col="time", contours=mask)


def test_titles_tell_the_scalar_coordinates():
    field = field_on(HealpixGrid(1)).assign_coords(
        time=TIMES[0],
        level=((), 850.0, {"units": "hPa"}),
        step=np.timedelta64(36, "h").astype("timedelta64[ns]"),
    )
    ax = plot(field, pixels=10, coastlines=False)
    assert ax.get_title() == "2011-01-15 12:00, level = 850 hPa, step = 36 h"
    assert plot(field, title="", pixels=10, coastlines=False).get_title() == ""
    later = xr.date_range("2000-02-30", periods=1, calendar="360_day", use_cftime=True)
    field = field_on(HealpixGrid(1)).expand_dims(time=later)
    assert plot(field, pixels=10, coastlines=False).get_title() == "2000-02-30 00:00"
    months = field.assign_coords(time=pd.period_range("2000-02", periods=1, freq="M"))
    assert plot(months, pixels=10, coastlines=False).get_title() == "time = 2000-02"


def test_limits_of_given_axes_are_kept():
    _, ax = plt.subplots(subplot_kw={"projection": ccrs.Robinson()})
    ax.set_extent([10, 40, 50, 70], ccrs.PlateCarree())
    before = ax.get_xlim(), ax.get_ylim()
    assert plot(field_on(HealpixGrid(3)), ax=ax, pixels=30) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == before
    assert ax.images[0].get_extent() == [*before[0], *before[1]]


def test_nothing_is_downloaded_and_no_setting_changes(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("download")

    monkeypatch.setattr(cartopy.io.Downloader, "path", refuse)
    monkeypatch.setattr(cartopy.io.Downloader, "acquire_resource", refuse)
    settings, options = dict(cartopy.config), dict(mpl.rcParams)
    field, mask = field_on(HealpixGrid(3)), mask_of(np.arange(768) % 3)
    kept = field.copy(deep=True)
    plot(field, contours=mask, pixels=40).figure.canvas.draw()
    plot(mask, pixels=40).figure.canvas.draw()
    assert dict(cartopy.config) == settings
    assert dict(mpl.rcParams) == options
    assert mpl.get_backend().lower() == "agg"
    xr.testing.assert_identical(field, kept)


def test_coastlines_may_be_left_out():
    field = field_on(HealpixGrid(1))
    artists = [len(plot(field, pixels=10, coastlines=on).get_children()) for on in (True, False)]
    assert artists[0] == artists[1] + 2


def test_import_loads_neither_cartopy_nor_matplotlib():
    code = (
        "import sys, xsphere.plotting; "
        "sys.exit(bool({'cartopy', 'matplotlib', 'torch'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def wrong_calls():
    field = field_on(HealpixGrid(1))
    steps = xr.concat([field, field], "time")
    mask = on_healpix(np.zeros(48, "u1"), HealpixGrid(1), attrs=mask_attributes(CLASSES))
    flat = plt.figure().add_subplot
    return [
        (TypeError, "DataArray for da, got Dataset; choose one", field.to_dataset(name="a"), {}),
        (TypeError, "DataArray for contours, got str", field, {"contours": "a"}),
        (TypeError, "cartopy GeoAxes, got Axes; make it", field, {"ax": flat()}),
        (ValueError, r"also has dimensions \{'time': 2\}; choose with .isel\(time=0\)", steps, {}),
        (ValueError, "col must be a dimension of da", field, {"col": "time"}),
        (ValueError, "contours must be a mask", field, {"contours": field}),
        (ValueError, "vmin, norm are for fields", mask, {"vmin": 1, "norm": mpl.colors.LogNorm()}),
        (ValueError, r"or its flag_values .* got also \[7\]", mask + np.uint8(7), {}),
        (ValueError, "colour to each of .*river.*got 1", mask, {"cmap": ["red"]}),
        (ValueError, "ax together with projection", field, {"ax": "geo", "projection": GEODETIC}),
        (TypeError, "draws numbers, got values of dtype", field.astype(str), {}),
    ]


@pytest.mark.parametrize("number", range(11))
def test_errors_say_what_to_do(number):
    with xr.set_options(keep_attrs=True):
        error, words, da, options = wrong_calls()[number]
    if options.get("ax") == "geo":
        options["ax"] = plt.figure().add_subplot(projection=GEODETIC)
    with pytest.raises(error, match=words):
        plot(da, pixels=10, **options)


def test_contours_that_do_not_match_the_facets():
    field, mask = on_healpix(np.ones((2, 768))), mask_of(np.zeros((2, 768)))
    with pytest.raises(ValueError, match="contours lacks time 2011-10-11 00:30"):
        plot(field, col="time", contours=mask.isel(time=[0]), pixels=10)
    with pytest.raises(ValueError, match="must have the 2 entries of da along 'time', got 1"):
        plot(field.drop_vars("time"), col="time", contours=mask.isel(time=[0]), pixels=10)
    with pytest.raises(ValueError, match="contours also has dimensions"):
        plot(field.isel(time=0), contours=mask, pixels=10)
