"""Scores of tracks: counts made by hand, and what huracanpy says of the same."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from xsphere.regions.basins import basin_of


def tracks_of(*lives, first="2001-08-01"):
    """Tracks as (first step of 6 h, [(lon, lat), ...])."""
    rows = [
        (number, pd.Timestamp(first) + pd.Timedelta(6 * (start + step), "h"), *place)
        for number, (start, places) in enumerate(lives, 1)
        for step, place in enumerate(places)
    ]
    frame = pd.DataFrame(rows, columns=["track_id", "time", "lon", "lat"])
    return xr.Dataset({name: ("event", frame[name].to_numpy()) for name in frame})


def line(lon, lat, n=4):
    return [(lon + 2.0 * step, lat) for step in range(n)]


def test_hits_misses_and_false_alarms_are_counted():
    reference = tracks_of((0, line(0, 10)), (0, line(100, 10)), (2, line(200, 10)))
    found = tracks_of((1, line(2, 11)), (0, line(100, 20)), (0, line(300, -10)), (0, line(198, 20)))
    scores = xsphere.score_tracks(found, reference)
    counts = [scores[name].item() for name in ("hits", "misses", "false_alarms")]
    assert counts == [1, 2, 3]
    assert scores.pod.item() == pytest.approx(1 / 3)
    assert scores.far.item() == pytest.approx(3 / 4)
    assert scores.csi.item() == pytest.approx(1 / 6)
    assert scores.track_id.values.tolist() == [1]
    assert scores.times.values.tolist() == [3]
    # it begins a step late
    assert scores.match_lead.values.tolist() == [-6.0]
    assert scores.distance.item() == pytest.approx(np.deg2rad(1) * 6371, rel=0.01)
    wide = xsphere.score_tracks(found, reference, max_distance=1500)
    assert wide.hits.item() == 3


def test_common_times_can_be_asked_for():
    reference = tracks_of((0, line(0, 10)))
    found = tracks_of((2, line(4, 10, n=6)))
    assert xsphere.score_tracks(found, reference, min_times=2).hits.item() == 1
    assert xsphere.score_tracks(found, reference, min_times=3).hits.item() == 0


def test_what_lies_outside_of_the_data_does_not_count():
    reference = tracks_of((0, line(0, 10)), (40, line(0, 10)))
    found = tracks_of((0, line(0, 10)))
    assert xsphere.score_tracks(found, reference).misses.item() == 0
    whole = found.assign_attrs(time_coverage_start="2001-08-01", time_coverage_end="2001-09-01")
    assert xsphere.score_tracks(whole, reference).misses.item() == 1


def test_scores_by_basin_and_season():
    reference = tracks_of((0, line(300, 15)), (0, line(140, 15)), (0, line(140, 25)))
    found = tracks_of((0, line(300, 15)), (0, line(60, -15)))
    scores = xsphere.score_tracks(found, reference, by="basin")
    assert scores.group.values.tolist() == ["all", "NA", "SI", "WP"]
    assert scores.pod.sel(group="NA") == 1
    assert scores.pod.sel(group="WP") == 0
    assert np.isnan(scores.pod.sel(group="SI"))
    assert scores.far.sel(group="SI") == 1
    assert xsphere.score_tracks(found, reference, by="season").group.values.tolist() == [
        "all",
        "JJA",
    ]


def test_intervals_hold_the_score_and_narrow_with_more_data():
    rng = np.random.default_rng(0)

    def pair(n):
        lives = [(40 * k, line(rng.uniform(0, 360), 15)) for k in range(n)]
        seen = [life for life in lives if rng.random() < 0.7]
        scores = xsphere.score_tracks(
            tracks_of(*seen).assign_attrs(time_coverage_start="2001", time_coverage_end="2100"),
            tracks_of(*lives),
        )
        assert scores.pod_low <= scores.pod <= scores.pod_high
        return scores.pod_high.item() - scores.pod_low.item()

    few, many = pair(20), pair(300)
    assert many < few
    # of 300 independent ones with 0.7: four standard deviations of the mean
    assert many == pytest.approx(4 * np.sqrt(0.7 * 0.3 / 300), rel=0.3)


def test_one_block_has_no_interval():
    one = tracks_of((0, line(0, 10)))
    assert np.isnan(xsphere.score_tracks(one, one).pod_low)


def test_no_tracks_at_all():
    one, none = tracks_of((0, line(0, 10))), tracks_of((0, line(0, 10))).isel(event=slice(0))
    found = none.assign_attrs(time_coverage_start="2001-08-01", time_coverage_end="2001-08-02")
    scores = xsphere.score_tracks(found, one)
    assert (scores.hits.item(), scores.misses.item()) == (0, 1)
    assert np.isnan(scores.far)
    assert xsphere.score_tracks(one, none).false_alarms.item() == 1


@pytest.mark.xdist_group("huracanpy")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@given(seed=st.integers(0, 10**6), distance=st.sampled_from([200.0, 500.0, 2000.0]))
@examples(15, deadline=None)
def test_pairs_are_those_of_huracanpy(seed, distance):
    import huracanpy

    rng = np.random.default_rng(seed)

    def some(n):
        return tracks_of(
            *(
                (int(rng.integers(0, 6)), line(rng.uniform(0, 20), rng.uniform(-10, 10), n=5))
                for _ in range(n)
            )
        )

    found, reference = some(6), some(5)
    period = {"time_coverage_start": "2001", "time_coverage_end": "2002"}
    ours = xsphere.score_tracks(found.assign_attrs(period), reference, max_distance=distance)
    theirs = huracanpy.assess.match([found, reference], max_dist=distance)
    theirs = theirs.sort_values(["id_1", "id_2"])
    assert ours.track_id.values.tolist() == theirs["id_1"].tolist()
    assert ours.reference_id.values.tolist() == theirs["id_2"].tolist()
    assert ours.times.values.tolist() == theirs["temp"].tolist()
    np.testing.assert_allclose(ours.match_distance, theirs["dist"].astype(float), rtol=1e-3)


@pytest.mark.xdist_group("huracanpy")
def test_basins_are_those_of_ibtracs():
    import huracanpy

    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(0, 360, 3000), rng.uniform(-89, 89, 3000)
    theirs = huracanpy.info.basin(lon, lat, convention="ibtracs")
    ours = basin_of(lon, lat)
    # their polygons have edges along great circles, and a north pole that is a point
    assert np.mean(np.asarray(theirs) == ours) > 0.95
    known = {(280, 25): "NA", (250, 15): "EP", (200, 15): "EP", (140, 20): "WP", (60, 15): "NI",
             (60, -15): "SI", (170, -15): "SP", (220, -15): "SP", (330, -10): "SA"}  # fmt: skip
    assert basin_of(*np.array(list(known), float).T).tolist() == list(known.values())


@pytest.mark.skipif("XSPHERE_TEST_DATA" not in os.environ, reason="needs the data of the tests")
def test_the_storms_of_the_sample_are_in_the_best_tracks():
    path = Path(os.environ["XSPHERE_TEST_DATA"], "labels", "ibtracs_jtwc_1980_2024.csv.gz")
    storms = xsphere.read_ibtracs(path)
    now = storms.isel(event=storms.time.values == np.datetime64("2011-10-11"))
    assert now.sizes["event"] == 4
    assert now.wind.values.max() == pytest.approx(105 * 1852 / 3600)
    assert now.pressure.values.min() == 958
    assert set(now.basin.values.tolist()) == {"EP", "WP"}
    assert storms.attrs.keys() <= {"title"}


def test_files_of_the_archive_are_read(tmp_path):
    lines = [
        "SID,SEASON,BASIN,NAME,ISO_TIME,NATURE,LAT,LON,WMO_WIND,WMO_PRES,USA_WIND,USA_PRES",
        " ,Year, , , , ,degrees_north,degrees_east,kts,mb,kts,mb",
        "2005A,2005,NA,KATRINA,2005-08-28 18:00:00,TS,26.3,-88.6,150,902,150,902",
        "2005A,2005,NA,KATRINA,2005-08-28 21:00:00,TS,26.8,-88.9, , , , ",
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    table = xsphere.read_ibtracs(tmp_path / "a.csv")
    assert table.name.values.tolist() == ["KATRINA"] * 2
    assert table.basin.values.tolist() == ["NA"] * 2
    assert table.pressure.values[0] == 902
    assert np.isnan(table.wind.values[1])
    assert table.season.values.tolist() == [2005, 2005]
    xr.Dataset(
        {
            "sid": ("storm", np.array([b"2005A", b"2005B"])),
            "season": ("storm", [2005.0, 2005.0]),
            "name": ("storm", np.array([b"KATRINA", b"RITA"])),
            "basin": (("storm", "date_time"), np.array([[b"NA", b"NA"], [b"NA", b""]])),
            "time": (
                ("storm", "date_time"),
                np.array([["2005-08-28T18", "2005-08-28T21"], ["2005-09-20T00", "NaT"]], "M8[ns]"),
            ),
            "lat": (("storm", "date_time"), [[26.3, 26.8], [24.0, np.nan]]),
            "lon": (("storm", "date_time"), [[-88.6, -88.9], [-82.0, np.nan]]),
            "usa_wind": (("storm", "date_time"), [[150.0, np.nan], [85.0, np.nan]]),
        }
    ).to_netcdf(tmp_path / "a.nc")
    storms = xsphere.read_ibtracs(tmp_path / "a.nc")
    assert storms.track_id.values.tolist() == ["2005A", "2005A", "2005B"]
    assert storms.name.values.tolist() == ["KATRINA", "KATRINA", "RITA"]
    assert storms.n_events.values.tolist() == [2, 1]
    np.testing.assert_allclose(storms.wind, [150 * 1852 / 3600, np.nan, 85 * 1852 / 3600])


def test_what_makes_no_sense_is_refused(tmp_path):
    one = tracks_of((0, line(0, 10)))
    with pytest.raises(ValueError, match=r"max_distance must .*; min_times must .*; by must"):
        xsphere.score_tracks(one, one, max_distance=0, min_times=0, by="month")
    for block in (5, "0D", "a month"):
        with pytest.raises(ValueError, match="block must be a length of time"):
            xsphere.score_tracks(one, one, block=block)
    with pytest.raises(ValueError, match=r"reference must have .* got \['lon'\] missing"):
        xsphere.score_tracks(one, one.drop_vars("lon"))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected best tracks"):
        xsphere.read_ibtracs(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        xsphere.read_ibtracs(tmp_path / "b.csv")
    with pytest.raises(ValueError, match="agency must be one of"):
        xsphere.read_ibtracs(tmp_path / "a.csv", agency="jma")
