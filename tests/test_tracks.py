"""Tracks: regions that a person would call the same, the same for every way of computing them."""

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.test_regions import GLOBAL_GRIDS, cells_within, labelled
from tests.tiers import examples
from xsphere.conventions import mask_attributes
from xsphere.grids import HealpixGrid

GRID = HealpixGrid(4)
CLASSES = ["storm", "river"]


def series(steps, grid=GRID, times=None):
    """A mask of steps, each of discs (class, lon, lat, degrees)."""
    values = np.zeros((len(steps), grid.n_cells), np.uint8)
    for step, discs in zip(values, steps, strict=True):
        for value, *disc in discs:
            step[cells_within(grid, *disc)] = value
    mask = labelled(values, grid, attrs=mask_attributes(CLASSES), name="mask")
    return mask if times is None else mask.assign_coords(time=times)


def numbers(tracks):
    """Ids of tracks by time."""
    return [tracks.track_id.values[tracks.time == t].tolist() for t in np.unique(tracks.time)]


@pytest.mark.parametrize("grid", GLOBAL_GRIDS.values(), ids=list(GLOBAL_GRIDS))
def test_a_storm_across_the_seam_and_over_the_pole_is_one(grid):
    seam = series([[(1, 350 + 8 * n, 20, 12)] for n in range(5)], grid)
    pole = series([[(1, 40, 80 + 5 * n, 14)] for n in range(3)], grid)
    for mask in (seam, pole):
        tracks = xsphere.track(mask)
        assert tracks.sizes["track"] == 1
        assert tracks.track_id.values.tolist() == [1] * mask.sizes["time"]


def test_speed_and_heading_are_those_of_the_motion():
    tracks = xsphere.track(series([[(1, 10 + 6 * n, 0, 12)] for n in range(4)]))
    assert np.isnan(tracks.speed[0])
    km = np.deg2rad(6) * 6371.0
    assert tracks.speed.values[1:] == pytest.approx(km / 6, rel=0.2)
    assert tracks.speed.values[1:].mean() == pytest.approx(km / 6, rel=0.05)
    assert tracks.heading.values[1:] == pytest.approx(90, abs=5)
    south = xsphere.track(series([[(1, 10, 20 - 6 * n, 12)] for n in range(4)]))
    assert south.heading.values[1:] == pytest.approx(180, abs=5)


def test_the_largest_part_of_a_split_keeps_the_number():
    mask = series(
        [
            [(1, 20, 0, 16)],
            [(1, 8, 0, 5), (1, 29, 0, 9)],
            [(1, 8, 0, 5), (1, 29, 0, 9)],
        ]
    )
    tracks = xsphere.track(mask)
    assert tracks.sizes["track"] == 2
    large = tracks.track_id.values[tracks.lon.values > 15]
    assert set(large) == {1}
    assert tracks.parent.values.tolist() == [0, 1]
    assert tracks.child.values.tolist() == [0, 0]
    assert tracks.n_events.values.tolist() == [3, 2]
    assert xsphere.track(mask, split_merge=False).sizes["track"] == 1


def test_the_largest_part_of_a_merge_keeps_the_number():
    mask = series(
        [
            [(1, 8, 0, 5), (1, 29, 0, 9)],
            [(1, 8, 0, 5), (1, 29, 0, 9)],
            [(1, 20, 0, 16)],
        ]
    )
    tracks = xsphere.track(mask)
    assert tracks.sizes["track"] == 2
    kept = int(tracks.track_id[tracks.time == tracks.time.max()].item())
    other = 3 - kept
    assert tracks.genesis_lon.sel(track=1).item() != tracks.genesis_lon.sel(track=2).item()
    assert tracks.genesis_lon[kept - 1] == pytest.approx(29, abs=3)
    assert tracks.child.values[other - 1] == kept
    assert tracks.child.values[kept - 1] == 0
    assert (tracks.parent == 0).all()


def test_small_fast_storms_need_a_speed():
    mask = series([[(1, 10 + 12 * n, 15, 4)] for n in range(4)])
    assert xsphere.track(mask).sizes["track"] == 4
    km_per_hour = np.deg2rad(12) * 6371.0 / 6
    assert xsphere.track(mask, max_speed=0.8 * km_per_hour).sizes["track"] == 4
    assert xsphere.track(mask, max_speed=1.2 * km_per_hour).sizes["track"] == 1


def test_the_nearest_is_the_same_and_each_is_linked_once():
    first = [(1, 0, 0, 3), (1, 30, 0, 3)]
    then = [(1, 10, 0, 3), (1, 21, 0, 3)]
    tracks = xsphere.track(series([first, then]), max_speed=1000)
    lons = {int(n): tracks.lon.values[tracks.track_id == n].round() for n in tracks.track}
    assert [pair.tolist() for pair in lons.values()] == [
        pytest.approx([0, 10], abs=3),
        pytest.approx([30, 21], abs=3),
    ]


def test_another_class_is_another_event():
    mask = series([[(1, 20, 0, 10)], [(2, 20, 0, 10)]])
    tracks = xsphere.track(mask, max_speed=1000)
    assert tracks.track_class.values.tolist() == [1, 2]


@pytest.mark.parametrize("absent", [1, 2])
def test_a_gap_is_as_long_as_the_region_is_missing(absent):
    mask = series([[(1, 20, 0, 10)], *([[]] * absent), [(1, 22, 0, 10)]])
    assert xsphere.track(mask, max_gap=f"{6 * absent - 1}h").sizes["track"] == 2
    tracks = xsphere.track(mask, max_gap=f"{6 * absent}h")
    assert tracks.sizes["track"] == 1
    assert tracks.duration.values == [6 * (absent + 1)]


def test_a_gap_of_the_data_counts():
    steps = [[(1, 20, 0, 10)]] * 6
    times = pd.date_range("2000", periods=9, freq="6h")[[0, 1, 2, 6, 7, 8]]
    mask = series(steps, times=times)
    tracks = xsphere.track(mask)
    assert tracks.n_events.values.tolist() == [3, 3]
    assert tracks.cut_by_end.values.tolist() == [True, True]
    assert tracks.cut_by_start.values.tolist() == [True, True]
    assert xsphere.track(mask, max_gap="18h").n_events.values.tolist() == [6]
    assert xsphere.track(mask, max_gap="17h").sizes["track"] == 2


def test_ends_of_the_data_are_told():
    mask = series([[], [(1, 20, 0, 10)], [(1, 20, 0, 10)], []])
    tracks = xsphere.track(mask)
    assert not tracks.cut_by_start.any()
    assert not tracks.cut_by_end.any()
    assert tracks.start.values == mask.time.values[1]
    assert tracks.end.values == mask.time.values[2]


def test_overlaps_are_parts_of_areas():
    mask = series([[(1, 20, 0, 10)], [(1, 30, 0, 10)]])
    here, there = mask.values.astype(bool)
    shared, smaller = (here & there).sum(), min(here.sum(), there.sum())
    for overlap_of, whole in (("smaller", smaller), ("union", (here | there).sum())):
        for factor, n in ((0.99, 1), (1.01, 2)):
            share = min(1.0, factor * shared / whole)
            found = xsphere.track(mask, min_overlap=share, overlap_of=overlap_of)
            assert found.sizes["track"] == n


def test_short_tracks_are_left_out_and_numbers_have_no_gaps():
    mask = series(
        [[(1, 100, 0, 8)], [(1, 20, 0, 8), (2, 200, 0, 8)], [(1, 20, 0, 8), (2, 200, 0, 8)]]
    )
    tracks = xsphere.track(mask, min_duration="6h")
    assert tracks.track.values.tolist() == [1, 2]
    assert tracks.duration.values.tolist() == [6, 6]
    assert xsphere.track_mask(mask, tracks).isel(time=0).max() == 0


def weather(n_time=7, n_member=2, seed=3):
    """Blobs that come, go, touch and part, unknown cells among them."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([0, -60], [360, 60], (6, 2))
    values = np.zeros((n_member, n_time, GRID.n_cells), np.uint8)
    for member in range(n_member):
        for time in range(n_time):
            for number, centre in enumerate(centres):
                lon, lat = centre + rng.normal(0, 4, 2) + [4.0 * time, 0]
                if rng.random() < 0.85:
                    disc = cells_within(GRID, lon, lat, rng.uniform(4, 12))
                    values[member, time, disc] = 1 + number % 2
    values[:, 2, rng.choice(GRID.n_cells, 300)] = 254
    mask = labelled(values, GRID, attrs=mask_attributes(CLASSES), name="mask")
    wind = rng.normal(10, 3, values.shape)
    wind[wind < 5] = np.nan
    return mask, labelled(wind, GRID, name="wind")


OPTIONS = {"max_speed": 150.0, "max_gap": "6h", "min_duration": "6h", "min_area": 2e5}


@pytest.mark.parametrize(
    "chunks", [{"time": 1}, {"time": 3}, {"member": 1, "time": 2}, {"member": 2, "time": -1}]
)
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_chunks_and_schedulers_change_nothing(chunks, scheduler):
    mask, wind = weather()
    expected = xsphere.track(mask, wind, **OPTIONS)
    assert expected.sizes["track"] > 5
    with dask.config.set(scheduler=scheduler):
        found = xsphere.track(mask.chunk(chunks), wind.chunk(time=2), **OPTIONS)
        xr.testing.assert_identical(found, expected)
        turned = xsphere.track(mask.transpose("cells", "time", "member").chunk(chunks), **OPTIONS)
    xr.testing.assert_identical(turned, xsphere.track(mask, **OPTIONS))


def test_other_processes_give_the_same_rows(processes):
    mask, wind = weather()
    with dask.config.set(processes):
        found = xsphere.track(mask.chunk(time=2), wind.chunk(time=2), **OPTIONS)
    xr.testing.assert_identical(found, xsphere.track(mask, wind, **OPTIONS))


@pytest.mark.slow
def test_workers_give_the_same_rows(cluster):
    mask, wind = weather()
    with cluster.as_current():
        assert dask.base.get_scheduler() == cluster.get
        found = xsphere.track(mask.chunk(time=2), wind.chunk(time=2), **OPTIONS)
    xr.testing.assert_identical(found, xsphere.track(mask, wind, **OPTIONS))


def test_members_are_followed_each_for_itself():
    mask, wind = weather()
    together = xsphere.track(mask, wind, **OPTIONS)
    for member in range(2):
        alone = xsphere.track(mask.isel(member=member), wind.isel(member=member), **OPTIONS)
        rows = together.isel(event=together.member.values == member)
        assert rows.sizes["event"] == alone.sizes["event"]
        for name in ("lon", "wind_max", "speed", "area"):
            np.testing.assert_array_equal(np.sort(rows[name]), np.sort(alone[name]))


def test_every_cell_of_a_track_has_its_number():
    mask, _ = weather(n_member=1)
    mask = mask.isel(member=0, drop=True)
    tracks = xsphere.track(mask, min_area=2e5)
    found = xsphere.track_mask(mask, tracks)
    labels = xsphere.label(mask, min_area=2e5)
    assert ((found > 0) == (labels > 0)).all()
    for _, event in tracks.groupby("event"):
        step = found.sel(time=event.time.values.item() if event.time.ndim == 0 else event.time[0])
        assert (step == event.track_id.item()).sum() >= event.n_cells.item()
    lazy = mask.chunk(time=2).sphere.track_mask(tracks)
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(), found)
    some = [5, 1]
    xr.testing.assert_identical(
        xsphere.track_mask(mask.isel(time=some), tracks), found.isel(time=some)
    )


def test_tracks_of_tracks_are_written(tmp_path):
    mask, _ = weather(n_member=1)
    mask = mask.isel(member=0, drop=True)
    tracks = xsphere.track(mask)
    xsphere.track_mask(mask.chunk(time=2), tracks).sphere.to_zarr(tmp_path / "ids.zarr")
    read = xsphere.open_mask(tmp_path / "ids.zarr")
    np.testing.assert_array_equal(read, xsphere.track_mask(mask, tracks))


def test_extremes_have_their_place_and_time():
    mask = series([[(1, 20 + 5 * n, 0, 10)] for n in range(4)])
    pressure = labelled(np.full(mask.shape, 1000.0), GRID, name="psl")
    pressure[2, :] -= 40.0
    pressure[1, :] += 5.0
    tracks = xsphere.track(mask, pressure)
    assert tracks.psl_lifetime_min.item() == 960.0
    assert tracks.psl_lifetime_min_time.values == mask.time.values[2]
    assert tracks.psl_lifetime_min_lon.item() == tracks.lon.values[2]
    assert tracks.psl_lifetime_max_time.values == mask.time.values[1]


def test_regions_beside_unknown_cells_are_marked():
    mask = series([[(1, 20, 0, 10), (1, 120, 0, 10)]] * 2)
    beside = np.setdiff1d(cells_within(GRID, 20, 0, 16), cells_within(GRID, 20, 0, 10))
    mask[1, beside[:5]] = 254
    mask[1, beside[5:]] = 255
    tracks = xsphere.track(mask)
    marked = tracks.isel(event=tracks.touches_unknown.values)
    assert marked.sizes["event"] == 1
    assert marked.lon.item() == pytest.approx(20, abs=2)
    assert marked.time.values == mask.time.values[1]


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars(calendar):
    times = xr.date_range(
        "2001-02-28T12:00", periods=4, freq="6h", calendar=calendar, use_cftime=True
    )
    tracks = xsphere.track(series([[(1, 20, 0, 10)]] * 4, times=times))
    assert tracks.duration.values.tolist() == [18]
    assert tracks.start.values[0] == times[0]


def test_maps_that_are_far_apart_are_warned_of():
    times = pd.date_range("2001", periods=3, freq="MS")
    with pytest.warns(UserWarning, match="30 days apart"):
        xsphere.track(series([[(1, 20, 0, 10)]] * 3, times=times))


def test_nothing_at_all_is_no_track():
    tracks = xsphere.track(series([[], []]))
    assert dict(tracks.sizes) == {"event": 0, "track": 0}
    some = xsphere.track(series([[(1, 20, 0, 10)]] * 2))
    assert set(some.variables) == set(tracks.variables)
    assert {n: v.dtype.kind for n, v in tracks.items()} == {
        n: v.dtype.kind for n, v in some.items()
    }


def test_one_region_that_covers_the_sphere():
    mask = series([[(1, 0, 0, 180)]] * 3)
    tracks = xsphere.track(mask)
    assert tracks.n_events.values.tolist() == [3]
    assert tracks.area.values == pytest.approx(4 * np.pi * 6371.0**2)


def test_series_that_cannot_be_followed_are_refused():
    mask = series([[(1, 20, 0, 10)]] * 3)
    with pytest.raises(ValueError, match=r"sortby\('time'\)"):
        xsphere.track(mask.isel(time=[1, 0, 2]))
    with pytest.raises(ValueError, match="drop_duplicates"):
        xsphere.track(mask.isel(time=[0, 0, 1]))
    with pytest.raises(ValueError, match="needs one dimension of times"):
        xsphere.track(mask.isel(time=0))
    with pytest.raises(ValueError, match="decode numbers"):
        xsphere.track(mask.assign_coords(time=[0, 6, 12]))
    with pytest.raises(ValueError, match="expected tracks from track"):
        xsphere.track_mask(mask, xsphere.events(mask))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_gap": "soon"}, "max_gap must be a duration"),
        ({"min_duration": -1}, "min_duration must be a duration"),
        ({"max_speed": 0, "overlap_of": "both"}, "overlap_of must .*; max_speed must"),
        ({"min_overlap": 1.5}, "min_overlap must be from 0 to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        xsphere.track(series([[(1, 20, 0, 10)]] * 2), **options)


@given(seed=st.integers(0, 10**6), n_regions=st.integers(0, 12))
@examples(50, deadline=None)
def test_identities_follow_the_rule(seed, n_regions):
    """Brute force of what the documentation says."""
    from xsphere.regions.linking import Links, identities

    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(n_regions) for j in range(i + 1, n_regions)]
    chosen = [pair for pair in pairs if rng.random() < 0.3]
    shared = {pair: float(rng.integers(1, 4)) for pair in chosen}

    def best(region, ways):
        found = [(-shared[p], other, p) for p, other in ways if region in p]
        return min(found)[1] if found else None

    forward = {i: best(i, [(p, p[1]) for p in chosen if p[0] == i]) for i in range(n_regions)}
    backward = {j: best(j, [(p, p[0]) for p in chosen if p[1] == j]) for j in range(n_regions)}
    expected: list[int] = []
    parents, children, count = {}, {}, 0
    for region in range(n_regions):
        before = backward[region]
        if before is not None and forward[before] == region:
            expected.append(expected[before])
        else:
            expected.append(count)
            if before is not None:
                parents[count] = before
            count += 1
    for region in range(n_regions):
        after = forward[region]
        if after is not None and backward[after] != region:
            children[expected[region]] = expected[after]
    array = np.array(chosen, np.int64).reshape(-1, 2).T
    found = identities(
        n_regions, Links(*array, np.array([shared[p] for p in chosen], float)), split_merge=True
    )
    assert found.track.tolist() == expected
    assert found.parent.tolist() == [
        expected[parents[n]] if n in parents else -1 for n in range(count)
    ]
    assert found.child.tolist() == [children.get(n, -1) for n in range(count)]
