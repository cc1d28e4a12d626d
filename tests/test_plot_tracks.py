"""Pictures of tracks and films: what is on them, not how they look."""

import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

import xsphere
from tests.test_tracks import series


@pytest.fixture(autouse=True)
def nothing_is_left_or_changed():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


def split():
    """A storm over the seam, and one that splits."""
    steps = [
        [(1, 345 + 10 * n, 20, 12)]
        + ([(1, 120, -20, 18)] if n < 2 else [(1, 105, -20, 6), (1, 133, -20, 9)])
        for n in range(4)
    ]
    return series(steps)


@pytest.fixture(scope="module")
def tracks():
    return xsphere.track(split())


def test_steps_are_arcs_coloured_by_their_ends(tracks):
    ax = xsphere.plot_tracks(tracks, "area", vmin=0.0)
    lines = ax.collections[0]
    steps = tracks.sizes["event"] - tracks.sizes["track"]
    assert len(lines.get_segments()) == steps
    moved = np.isfinite(tracks.speed.values)
    expected = tracks.area.values[moved]
    order = np.lexsort([tracks.time.values[moved], tracks.track_id.values[moved]])
    np.testing.assert_array_equal(lines.get_array(), expected[order])
    assert lines.get_clim() == (0.0, tracks.area.values.max())
    assert "km" in ax.figure.axes[-1].get_xlabel()
    # the step over the seam is short, not once round the Earth
    spans = [np.ptp(np.unwrap(np.deg2rad(s[:, 0]))) for s in lines.get_segments()]
    assert max(spans) < np.deg2rad(20)


def test_classes_have_a_legend_and_a_split_a_dashed_line(tracks):
    ax = xsphere.plot_tracks(tracks, numbers=True, title="Storms")
    assert ax.get_title() == "Storms"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["storm"]
    written = {text.get_text() for text in ax.texts}
    assert {str(number) for number in tracks.track.values} <= written
    (dashed,) = [c for c in ax.collections if c.get_linestyle()[0][1]]
    assert len(dashed.get_segments()) == int((tracks.parent.values > 0).sum()) == 1


def test_numbers_are_written_on_maps_of_their_time(tracks):
    maps = split()
    # the grid mapping is an attribute
    fields = maps.astype(float).copy()
    fields.attrs = {"grid_mapping": "crs"}
    axes = xsphere.plot(fields, contours=maps, tracks=tracks, col="time", pixels=80)
    for ax, time in zip(axes, maps.time.values, strict=True):
        here = tracks.track_id.values[tracks.time.values == time]
        assert sorted(text.get_text() for text in ax.texts) == sorted(map(str, here))
    with pytest.raises(ValueError, match="tracks must have track_id"):
        xsphere.plot(maps.isel(time=0), tracks=tracks[["area"]])
    with pytest.raises(ValueError, match="da has no coordinate time"):
        xsphere.plot(maps.isel(time=0, drop=True), tracks=tracks)


def test_tracks_of_other_sources_are_drawn(tmp_path, tracks):
    xsphere.write_tracks(tracks, tmp_path / "tracks.csv")
    ax = xsphere.plot_tracks(xsphere.read_tracks(tmp_path / "tracks.csv"))
    assert len(ax.collections[0].get_segments()) > 0
    bare = tracks[["track_id", "lon", "lat"]].drop_vars(["event_class"], errors="ignore")
    assert xsphere.plot_tracks(bare.assign_coords(time=tracks.time)).get_legend() is None


def test_axes_given_are_drawn_on(tracks):
    import cartopy.crs as ccrs

    figure = plt.figure()
    ax = figure.add_subplot(projection=ccrs.Orthographic(0, 20))
    assert xsphere.plot_tracks(tracks, ax=ax) is ax
    with pytest.raises(ValueError, match="got ax together with projection"):
        xsphere.plot_tracks(tracks, ax=ax, projection=ccrs.Robinson())
    plain = figure.add_subplot()
    assert xsphere.plot_genealogy(tracks, ax=plain) is plain


def test_a_family_has_a_row_for_each_track_and_a_line_for_each_link(tracks):
    ax = xsphere.plot_genealogy(tracks)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        str(number) for number in tracks.track.values
    ]
    links = [line for line in ax.lines if line.get_linestyle() == "--"]
    parents = tracks.track.values[tracks.parent.values > 0]
    assert len(links) == len(parents) == 1
    rows = {number: row for row, number in enumerate(tracks.track.values.tolist())}
    child = int(parents[0])
    parent = int(tracks.parent.sel(track=child))
    assert sorted(links[0].get_ydata()) == sorted([rows[parent], rows[child]])


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_a_life_is_its_columns(tracks, calendar):
    if calendar == "noleap":
        times = xr.date_range("2001-02-27", periods=4, freq="6h", calendar=calendar)
        tracks = xsphere.track(split().assign_coords(time=times))
    axes = xsphere.plot_life(tracks, 1, ["area", "speed"])
    rows = tracks.track_id.values == 1
    for ax, name in zip(axes, ("area", "speed"), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), tracks[name].values[rows])
    with pytest.raises(ValueError, match="there is no track 99"):
        xsphere.plot_life(tracks, 99)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: xsphere.plot_tracks(t.drop_vars("lon")), r"missing are \['lon'\]"),
        (lambda t: xsphere.plot_tracks(t, "fog"), r"missing are \['fog'\]"),
        (lambda t: xsphere.plot_tracks(t, "class_name"), "must be numbers along 'event'"),
        (lambda t: xsphere.plot_genealogy(t.area), "missing are"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tracks, call, words):
    with pytest.raises(ValueError, match=words):
        call(tracks)


def film(n=3):
    ds = xsphere.sample_dataset().PSL.isel(time=0, drop=True)
    times = pd.date_range("2001-01-01", periods=n, freq="6h")
    maps = [ds + 100.0 * step for step in range(n)]
    return xr.concat(maps, "time").assign_coords(time=times).assign_attrs(ds.attrs)


def test_films_have_a_frame_a_time_and_one_size(tmp_path):
    da, open_before = film().chunk(time=1), plt.get_fignums()
    path = xsphere.animate(da, tmp_path / "film.gif", pixels=120, fps=5)
    with Image.open(path) as read:
        assert read.n_frames == 3
        assert read.info["duration"] == 200
    folder = xsphere.animate(da, tmp_path / "frames", pixels=120)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    frames = [plt.imread(file) for file in files]
    assert len({frame.shape for frame in frames}) == 1
    # the same colours mean the same in all: what rises everywhere is drawn in others
    first, last = frames[0], frames[-1]
    assert (np.abs(first - last).max(axis=-1) > 0.08).mean() > 0.01
    assert plt.get_fignums() == open_before
    with pytest.raises(FileExistsError):
        xsphere.animate(da, path)


def test_a_film_of_a_mask_with_numbers(tmp_path, tracks):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = xsphere.animate(split(), tmp_path / "m.gif", tracks=tracks, pixels=120)
    with Image.open(path) as read:
        assert read.n_frames == 4


@pytest.mark.parametrize(
    ("make", "out", "options", "words"),
    [
        (lambda: film().isel(time=0), "x.gif", {}, "needs the dimension 'time'"),
        (film, "x.avi", {}, "must end in .gif, .mp4 or nothing"),
        (film, "x.gif", {"fps": 0}, "fps must be a number above 0"),
        (lambda: film().expand_dims(member=2), "x.gif", {}, "and those of the grid alone"),
    ],
)
def test_films_that_cannot_be_made_are_refused(make, out, options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        xsphere.animate(make(), tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


def test_the_command_makes_films(tmp_path, in_shell):
    film(2).to_dataset(name="PSL").to_netcdf(tmp_path / "in.nc")
    done = in_shell("plot", tmp_path / "in.nc", "--out", tmp_path / "x.gif", "--animate")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "x.gif") as read:
        assert read.n_frames == 2
    done = in_shell("plot", tmp_path / "in.nc", "--animate", "--time", "2001-01-01")
    assert "leave --time out" in done.stderr
