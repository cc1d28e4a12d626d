"""Tracks in files: what was written is read back, by us and by those whose format it is."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xsphere
from tests.test_tracks import series
from xsphere.regions.track_files import FORMATS


@pytest.fixture(scope="module")
def tracks():
    mask = series(
        [
            [(1, 350, 10, 9), (2, 100, 40, 12)],
            [(1, 356, 12, 9), (2, 92, 40, 5), (2, 112, 40, 9)],
            [(1, 2, 14, 9), (2, 92, 40, 5), (2, 112, 40, 9)],
        ]
    )
    rng = np.random.default_rng(0)
    field = mask.astype(float) + rng.normal(1000, 5, mask.shape)
    field = field.assign_attrs(
        {"units": "hPa"}
        | {key: value for key, value in mask.attrs.items() if not key.startswith("flag")}
    )
    return xsphere.track(mask, field.rename("psl"))


def test_netcdf_keeps_everything(tracks, tmp_path):
    read = xsphere.read_tracks(xsphere.write_tracks(tracks, tmp_path / "t.nc"))
    xr.testing.assert_equal(read, tracks)
    assert read.psl_min.attrs["units"] == tracks.psl_min.attrs["units"]
    assert read.attrs == tracks.attrs


def test_netcdf_is_cf_trajectories(tracks, tmp_path):
    xsphere.write_tracks(tracks, tmp_path / "t.nc")
    with xr.open_dataset(tmp_path / "t.nc") as ds:
        assert ds.attrs["featureType"] == "trajectory"
        assert ds.track_id.attrs["cf_role"] == "trajectory_id"
        assert ds.rowSize.attrs["sample_dimension"] == "event"
        assert ds.rowSize.sum() == ds.sizes["event"]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_tables_keep_rows_and_kin(tracks, tmp_path, ending):
    read = xsphere.read_tracks(xsphere.write_tracks(tracks, tmp_path / f"t.{ending}"))
    assert set(read.variables) >= {"parent", "child", "duration", "psl_lifetime_min", "start"}
    for name in ("track_id", "lon", "lat", "area", "psl_min", "speed", "touches_unknown"):
        np.testing.assert_allclose(read[name], tracks[name], rtol=1e-5, atol=1e-3)
    for name in ("parent", "child", "n_events", "track_class", "psl_lifetime_max"):
        np.testing.assert_allclose(read[name], tracks[name], rtol=1e-5)
    assert (read.time.values == tracks.time.values).all()
    assert read.class_name.values.tolist() == tracks.class_name.values.tolist()


@pytest.mark.xdist_group("huracanpy")
@pytest.mark.parametrize("ending", ["csv", "nc", "parquet", "txt"])
def test_huracanpy_reads_them_as_they_are(tracks, tmp_path, ending):
    import huracanpy

    path = str(xsphere.write_tracks(tracks, tmp_path / f"t.{ending}"))
    loaded = huracanpy.load(path, source="te" if ending == "txt" else None)
    if "year" in loaded:
        raise AssertionError("times were not understood")
    np.testing.assert_allclose(loaded.lon, tracks.lon, atol=1e-3)
    np.testing.assert_allclose(loaded.lat, tracks.lat, atol=1e-3)
    assert (pd.DatetimeIndex(loaded.time.values) == pd.DatetimeIndex(tracks.time.values)).all()
    same = loaded.track_id.values[:, None] == loaded.track_id.values
    assert (same == (tracks.track_id.values[:, None] == tracks.track_id.values)).all()


@pytest.mark.xdist_group("huracanpy")
def test_huracanpy_reads_events_as_tracks_of_one_time(tmp_path):
    import huracanpy

    mask = series([[(1, 20, 0, 12)], [(1, 20, 0, 12), (2, 100, 40, 9)]])
    found = xsphere.events(mask)
    xsphere.events_to_csv(found, tmp_path / "events.csv")
    loaded = huracanpy.load(str(tmp_path / "events.csv"))
    assert loaded.track_id.values.tolist() == [0, 1, 2]
    assert (loaded.time.values == found.time.values).all()
    np.testing.assert_allclose(loaded.lon, found.lon, atol=1e-3)
    assert xsphere.read_tracks(tmp_path / "events.csv").n_events.values.tolist() == [1, 1, 1]


def test_node_files_are_read_back(tracks, tmp_path):
    read = xsphere.read_tracks(xsphere.write_tracks(tracks, tmp_path / "t.txt"))
    np.testing.assert_allclose(read.lon, tracks.lon, rtol=1e-5)
    np.testing.assert_allclose(read.feature_0, tracks.area, rtol=1e-5)
    assert read.i.values.tolist() == tracks.track_id.values.tolist()
    assert read.j.values.tolist() == tracks.label.values.tolist()


def test_no_tracks_are_written_and_read(tracks, tmp_path):
    none = tracks.isel(event=slice(0), track=slice(0))
    for ending in ("nc", "csv", "txt"):
        read = xsphere.read_tracks(xsphere.write_tracks(none, tmp_path / f"t.{ending}"))
        assert read.sizes["event"] == 0
        assert read.sizes["track"] == 0


def test_no_file_is_replaced_unasked(tracks, tmp_path):
    for ending in FORMATS:
        out = tmp_path / f"t{ending}"
        out.write_text("mine")
        with pytest.raises(FileExistsError, match="is there already; choose another name or over"):
            xsphere.write_tracks(tracks, out)
        assert out.read_text() == "mine"
        xsphere.write_tracks(tracks, out, overwrite=True)
        assert xsphere.read_tracks(out).sizes["event"] == tracks.sizes["event"]
    assert len(list(tmp_path.iterdir())) == len(FORMATS)


def test_tables_of_others_are_read(tmp_path):
    (tmp_path / "t.csv").write_text(
        "track_id,time,lat,lon,basin,wind\n"
        "b,1980-01-01 00:00:00,-12.5,172.5,NA,25\n"
        "a,1980-01-01 06:00:00,-11.9,172.4,SP,\n"
        "b,1980-01-01 06:00:00,-11.5,172.5,NA,30\n"
    )
    read = xsphere.read_tracks(tmp_path / "t.csv")
    assert read.track.values.tolist() == ["a", "b"]
    assert read.n_events.values.tolist() == [1, 2]
    assert read.basin.values.tolist() == ["SP", "NA", "NA"]


def test_what_cannot_be_written_or_read_is_refused(tracks, tmp_path):
    with pytest.raises(ValueError, match="must end in one of"):
        xsphere.write_tracks(tracks, tmp_path / "t.xlsx")
    with pytest.raises(ValueError, match=r"\['track_id'\] are missing"):
        xsphere.write_tracks(tracks.drop_vars("track_id"), tmp_path / "t.csv")
    with pytest.raises(TypeError, match="expected a Dataset of tracks"):
        xsphere.write_tracks(tracks.lon, tmp_path / "t.csv")
    half = tracks.assign_coords(time=tracks.time + np.timedelta64(30, "m"))
    with pytest.raises(ValueError, match="full hours"):
        xsphere.write_tracks(half, tmp_path / "t.txt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        xsphere.read_tracks(tmp_path / "none.csv")
    (tmp_path / "odd.csv").write_text("lon,lat\n1,2\n")
    with pytest.raises(ValueError, match=r"\['track_id', 'time'\] are missing"):
        xsphere.read_tracks(tmp_path / "odd.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.csv"]
