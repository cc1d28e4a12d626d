"""Pictures of tracks and films: what is on them, not how they look."""

import os
import re
import sys
import warnings
import weakref

import cartopy.crs as ccrs
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

import xsphere
from tests.test_tracks import series
from xsphere.cli import app
from xsphere.plotting import animation


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


def test_maps_of_a_member_have_its_numbers_alone():
    shifted = split().assign_coords(time=split().time)
    both = xr.concat([shifted, shifted.isel(cells=slice(None, None, -1)).data + 0 * shifted],
                     pd.Index(["a", "b"], name="member"))  # fmt: skip
    both = both.astype("u1").assign_attrs(split().attrs)
    tracks = xsphere.track(both)
    for ax, name in zip(
        xsphere.plot(both.isel(time=0), tracks=tracks, col="member", pixels=60),
        ("a", "b"),
        strict=True,
    ):
        here = (tracks.member.values == name) & (tracks.time.values == both.time.values[0])
        expected = tracks.track_id.values[here]
        assert sorted(text.get_text() for text in ax.texts) == sorted(map(str, expected))
        assert 0 < len(expected) < np.unique(tracks.track_id).size


def test_the_line_over_the_seam_is_cut():
    times = pd.date_range("2001-01-01", periods=2, freq="6h")
    one = xr.Dataset({"track_id": ("event", [1, 1]), "lon": ("event", [350.0, 10.0])})
    one = one.assign(lat=("event", [0.0, 0.0]), time=("event", times))
    for centre, parts in ((180.0, 2), (0.0, 1)):
        ax = xsphere.plot_tracks(one, projection=ccrs.Robinson(centre), coastlines=False)
        (lines,) = ax.collections
        to_map = lines.get_transform() - ax.transData
        (path,) = lines.get_paths()
        drawn = to_map.transform_path_non_affine(path)
        jumps = np.abs(np.diff(drawn.vertices[:, 0])) > 0.5 * np.ptp(ax.get_xlim())
        assert jumps.sum() == parts - 1
        starts = np.flatnonzero(drawn.codes == drawn.MOVETO)
        assert len(starts) == parts
        assert set(np.flatnonzero(jumps) + 1) <= set(starts)  # never drawn across


def test_statistics_of_tracks_colour_all_their_steps(tracks):
    lines = xsphere.plot_tracks(tracks, "max_area").collections[0]
    ids = np.sort(tracks.track_id.values)
    steps = ids[1:][ids[1:] == ids[:-1]]
    np.testing.assert_array_equal(lines.get_array(), tracks.max_area.sel(track=steps))


def test_categories_have_a_colour_and_a_name_each(tracks):
    wind = (20.0 + 10 * np.arange(tracks.sizes["event"])) * xr.ones_like(tracks.area)
    ranks = xsphere.saffir_simpson(wind.assign_attrs(units="m s-1"))
    ax = xsphere.plot_tracks(tracks.assign(rank=ranks), "rank")
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    names = dict(zip(ranks.flag_values.tolist(), ranks.flag_meanings.split(), strict=True))
    present = [names[rank].replace("_", " ") for rank in np.unique(ranks)]
    assert words == present
    ordered = ranks.values[np.lexsort([tracks.time, tracks.track_id])]
    ids = np.sort(tracks.track_id.values)
    ends = ordered[1:][ids[1:] == ids[:-1]]
    handles = ax.get_legend().get_lines()
    by_name = {w: tuple(handle.get_color()) for w, handle in zip(words, handles, strict=True)}
    assert len(set(by_name.values())) == len(by_name)
    expected = [by_name[names[rank].replace("_", " ")] for rank in ends]
    np.testing.assert_allclose(
        ax.collections[0].get_colors(), matplotlib.colors.to_rgba_array(expected)
    )
    assert len(ax.figure.axes) == 1


def test_steps_of_which_nothing_is_known_are_pale(tracks):
    ax = xsphere.plot_tracks(tracks.assign(w=tracks.area.where(tracks.track_id != 1)), "w")
    ax.figure.canvas.draw()
    lines = ax.collections[0]
    unknown = np.ma.getmaskarray(np.ma.masked_invalid(lines.get_array()))
    assert 0 < unknown.sum() < unknown.size
    pale = matplotlib.colors.to_rgba("#8c8c8c")
    np.testing.assert_allclose(lines.get_edgecolor()[unknown], [pale] * unknown.sum())


def test_deep_lows_are_as_dark_as_strong_winds(tracks):
    low = tracks.assign(psl_min=tracks.area, psl_max=tracks.area)
    dark = [xsphere.plot_tracks(low, by).collections[0].get_cmap() for by in ("psl_min", "psl_max")]
    assert sum(dark[0](0.0)[:3]) < sum(dark[0](1.0)[:3])
    assert sum(dark[1](0.0)[:3]) > sum(dark[1](1.0)[:3])


def test_no_tracks_are_an_empty_picture(tracks):
    none = tracks.isel(event=slice(0), track=slice(0))
    for ax in (xsphere.plot_tracks(none, numbers=True), xsphere.plot_tracks(none, "area")):
        ax.figure.canvas.draw()
        assert [len(lines.get_segments()) for lines in ax.collections[:1]] == [0]
    ax = xsphere.plot_genealogy(none)
    ax.figure.canvas.draw()
    assert [len(marks.get_offsets()) for marks in ax.collections] == [0]


def test_tracks_of_other_sources_are_drawn(tmp_path, tracks):
    xsphere.write_tracks(tracks, tmp_path / "tracks.csv")
    ax = xsphere.plot_tracks(xsphere.read_tracks(tmp_path / "tracks.csv"))
    assert len(ax.collections[0].get_segments()) > 0
    bare = tracks[["track_id", "lon", "lat"]].drop_vars(["event_class"], errors="ignore")
    assert xsphere.plot_tracks(bare.assign_coords(time=tracks.time)).get_legend() is None


def test_axes_given_are_drawn_on(tracks):
    figure = plt.figure()
    ax = figure.add_subplot(projection=ccrs.Orthographic(0, 20))
    assert xsphere.plot_tracks(tracks, ax=ax) is ax
    with pytest.raises(ValueError, match="got ax together with projection"):
        xsphere.plot_tracks(tracks, ax=ax, projection=ccrs.Robinson())
    plain = figure.add_subplot()
    assert xsphere.plot_genealogy(tracks, ax=plain) is plain
    assert xsphere.plot_life(tracks, 1, "area", ax=plain).tolist() == [plain]
    two = figure.subplots(2)
    assert xsphere.plot_life(tracks, 1, ["area", "speed"], ax=two).tolist() == two.tolist()
    with pytest.raises(TypeError, match="cartopy GeoAxes, got Axes"):
        xsphere.plot_tracks(tracks, ax=plain)
    with pytest.raises(ValueError, match=r"ax must be 2 axes, one for each of .*speed.*, got 1"):
        xsphere.plot_life(tracks, 1, ["area", "speed"], ax=plain)
    assert plt.get_fignums() == [figure.number]


def test_a_family_has_a_row_for_each_track_and_an_arrow_for_each_link(tracks):
    ax = xsphere.plot_genealogy(tracks)
    rows = [int(label.get_text()) for label in ax.get_yticklabels()]
    assert sorted(rows) == tracks.track.values.tolist()
    child = int(tracks.track.values[tracks.parent.values > 0].item())
    parent = int(tracks.parent.sel(track=child))
    assert abs(rows.index(parent) - rows.index(child)) == 1  # a family stands together
    (arrow,) = [text for text in ax.texts if text.arrow_patch]
    begin = tracks.start.sel(track=child).values
    before = begin - np.timedelta64(6, "h")
    assert arrow.xy == (begin, rows.index(child))
    assert arrow.xyann == (before, rows.index(parent))


def test_the_family_of_one_track(tracks):
    child = int(tracks.track.values[tracks.parent.values > 0].item())
    family = sorted([int(tracks.parent.sel(track=child)), child])
    for number in family:
        ax = xsphere.plot_genealogy(tracks, number)
        assert [int(label.get_text()) for label in ax.get_yticklabels()] == family
    (alone,) = set(tracks.track.values.tolist()) - set(family)
    ax = xsphere.plot_genealogy(tracks, alone)
    assert [label.get_text() for label in ax.get_yticklabels()] == [str(alone)]
    with pytest.raises(ValueError, match="there is no track 99"):
        xsphere.plot_genealogy(tracks, 99)


def test_an_unknown_area_hides_no_other(tracks):
    area = tracks.area.where(np.arange(tracks.sizes["event"]) > 0)
    for marks in xsphere.plot_genealogy(tracks.assign(area=area)).collections:
        assert np.isfinite(marks.get_sizes()).all()


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
        (
            lambda t: xsphere.plot_tracks(t, "class_name"),
            "must be numbers along 'event' or 'track', got",
        ),
        (lambda t: xsphere.plot_tracks(t, "start"), "must be numbers along 'event' or 'track'"),
        (lambda t: xsphere.plot_genealogy(t.area), "missing are"),
        (lambda t: xsphere.plot_life(t, 1, []), "names must be one column or more"),
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


def limits_of_frames(monkeypatch, da, out, **options):
    """Limits of the colours of each frame."""
    found, draw = [], animation.plot

    def watched(*args, **kwargs):
        ax = draw(*args, **kwargs)
        found.append(ax.images[0].get_clim())
        return ax

    monkeypatch.setattr(animation, "plot", watched)
    xsphere.animate(da, out, pixels=40, coastlines=False, **options)
    return found


def test_a_colour_means_the_same_in_all_frames(monkeypatch, tmp_path):
    da = film()
    ((low, high),) = set(limits_of_frames(monkeypatch, da, tmp_path / "a", vmin=9e4))
    assert low == 9e4 < high
    hidden = da.where(da.time > da.time[0])
    limits = limits_of_frames(monkeypatch, hidden, tmp_path / "b")
    assert limits[1] == limits[2]
    assert 9e4 < limits[1][0] < limits[1][1] < 1.1e5  # not those of a frame without numbers
    # a share of the mask, whose first time would pass for a mask
    share = split() * xr.DataArray([0.0, 0.5, 1.0, 1.0], dims="time")
    share.attrs = split().attrs
    limits = limits_of_frames(monkeypatch, share, tmp_path / "c")
    assert limits[0] == limits[1] == limits[2] == limits[3]


def test_times_without_change_are_frames_too(tmp_path):
    da = film(4)
    still = da.copy(data=np.broadcast_to(da.values[:1], da.shape))
    path = xsphere.animate(still, tmp_path / "still.gif", title="", pixels=40)
    with Image.open(path) as read:
        assert read.n_frames == 4
        assert read.info["loop"] == 0
        for number in range(4):
            read.seek(number)
            assert read.info["duration"] == 250


def test_frames_are_let_go_one_by_one(monkeypatch, tmp_path):
    alive, most, frames = [], [], animation._frames

    def watched(*args):
        for frame in frames(*args):
            alive.append(weakref.ref(frame))
            most.append(sum(known() is not None for known in alive))
            yield frame
            del frame

    monkeypatch.setattr(animation, "_frames", watched)
    for out in ("a.gif", "b"):
        xsphere.animate(film(5), tmp_path / out, pixels=40, coastlines=False)
    assert len(most) == 10
    assert max(most) <= 2


def test_films_leave_the_figures_of_the_user(tmp_path):
    mine = plt.figure()
    ax = mine.add_subplot(projection=ccrs.Robinson())
    for wrong in ({"ax": ax}, {"col": "time"}):
        with pytest.raises(ValueError, match=r"animate.. makes a map of each time; leave .* out"):
            xsphere.animate(film(), tmp_path / "x.gif", **wrong)
    with pytest.raises(AttributeError, match="fog"):
        xsphere.animate(film(), tmp_path / "x.gif", pixels=40, fog=1)
    with matplotlib.rc_context({"savefig.bbox": "tight", "figure.dpi": 50}):
        xsphere.animate(film(2), tmp_path / "y.gif", pixels=40)
    assert plt.get_fignums() == [mine.number]
    assert plt.gcf() is mine
    assert not ax.images
    assert [path.name for path in tmp_path.iterdir()] == ["y.gif"]


FFMPEG = """#!{python}
import sys
options = sys.argv[1:]
width, height = map(int, options[options.index("-s") + 1].split("x"))
assert width % 2 == height % 2 == 0
sent = sys.stdin.buffer.read({most})
frames, rest = divmod(len(sent), 3 * width * height)
if {most} > 0:
    sys.exit(3)
open(options[-1], "w").write(f"{{frames}} {{rest}} {{options[options.index('-r') + 1]}}")
"""


@pytest.mark.parametrize("most", [-1, 1000])
def test_films_for_ffmpeg(monkeypatch, tmp_path, most):
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(python=sys.executable, most=most))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    if most < 0:
        path = xsphere.animate(film(), tmp_path / "x.mp4", fps=2, pixels=40)
        assert path.read_text() == "3 0 2.0"
        return
    with pytest.raises(OSError, match="ffmpeg failed with status 3"):
        xsphere.animate(film(), tmp_path / "x.mp4", pixels=40)
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize(
    ("make", "out", "options", "words"),
    [
        (lambda: film().isel(time=0), "x.gif", {}, "needs the dimension 'time'"),
        (film, "x.avi", {}, "must end in .gif, .mp4 or nothing"),
        (film, "x.gif", {"fps": 0}, "fps must be a number above 0"),
        (film, "x.gif", {"fps": 60}, "fps of a .gif must lie between 0.01 and 50"),
        (split, "x.gif", {"contours": split().isel(time=[0])}, "contours lacks time 2011"),
        (
            lambda: split().drop_vars("time"),
            "x",
            {"contours": split().isel(time=[0])},
            "must have the 4 entries of da along 'time', got 1",
        ),
        (split, "x", {"contours": split().astype("f4").drop_attrs()}, "contours must be a mask"),
        (lambda: film().expand_dims(member=2), "x.gif", {}, "and those of the grid alone"),
    ],
)
def test_films_that_cannot_be_made_are_refused(make, out, options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        xsphere.animate(make(), tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


def test_the_command_makes_films(tmp_path, in_shell):
    film(4).to_dataset(name="PSL").to_netcdf(tmp_path / "in.nc")
    command = ("plot", tmp_path / "in.nc", "--animate", "--out", tmp_path / "x.gif")
    times = ("--times", "2001-01-01T06/2001-01-01T12", "--fps", "10")
    (tmp_path / "x.gif").write_text("mine")
    assert "is there already" in in_shell(*command, *times).stderr
    assert (tmp_path / "x.gif").read_text() == "mine"
    done = in_shell(*command, *times, "--overwrite")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "x.gif") as read:
        assert (read.n_frames, read.info["duration"]) == (2, 100)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--animate", "--time", "2001-01-01"), "leave --time out"),
        (("--fps", "3"), "--fps is for --animate"),
        (("--times", "2001/2002", "--overwrite"), "--times, --overwrite are for --animate"),
        (("--animate", "--out", "x.gif", "--times", "2001"), "two times with a / between"),
        (("--animate", "--out", "x.gif", "--times", "a/b"), "two times with a / between"),
        (("--animate", "--out", "x.gif", "--times", "2005/2006"), "no time of .*2005/2006"),
    ],
)
def test_options_of_films_are_explained(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    film(2).to_dataset(name="PSL").to_netcdf("in.nc")
    done = CliRunner().invoke(app, ["plot", "in.nc", *options])
    assert done.exit_code
    assert re.search(words, done.output + str(done.exception))
    assert [path.name for path in tmp_path.iterdir()] == ["in.nc"]
