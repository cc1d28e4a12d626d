"""Counts of tracks: those that a hand counts, and years of data as the calendar has them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xsphere


def tracks(starts, lon=None, member=None, attrs=None, calendar="standard"):
    """Tracks of two rows each, a day apart, in no order."""
    times = [xr.date_range(s, periods=2, freq="D", calendar=calendar).values for s in starts]
    n = len(starts)
    columns = {
        "track_id": np.repeat(np.arange(n) + 1, 2),
        "time": np.concatenate(times),
        "lon": np.repeat(lon or [300.0] * n, 2),
        "lat": np.full(2 * n, 15.0),
    }
    if member is not None:
        columns["member"] = np.repeat(member, 2)
    ds = xr.Dataset({k: ("event", v) for k, v in columns.items()}, attrs=attrs)
    return ds.set_coords([k for k in ("time", "member") if k in ds]).isel(
        event=slice(None, None, -1)
    )


WHOLE = {"time_coverage_start": "2000-01-01T00", "time_coverage_end": "2003-12-31T18"}


def test_the_seasonal_cycle_is_that_of_first_times():
    starts = ["2000-08-31", "2001-08-01", "2001-09-15", "2003-12-30", "2000-01-31"]
    found = xsphere.count_tracks(tracks(starts, attrs=WHOLE), "month")
    expected = pd.Series(pd.to_datetime(starts).month).value_counts()
    assert {m: n for m, n in zip(range(1, 13), found.tracks.values, strict=True) if n} == dict(
        expected
    )
    np.testing.assert_allclose(found.years, 4)
    np.testing.assert_allclose(found.per_year, found.tracks / 4)
    august = found.sel(month=8)
    assert august.per_year_low <= august.per_year <= august.per_year_high
    assert august.per_year_low < august.per_year_high
    assert xsphere.count_tracks(tracks(starts, attrs=WHOLE)).tracks == 5


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_parts_of_months_count_as_parts(calendar):
    attrs = {"time_coverage_start": "2001-04-16 00:00:00", "time_coverage_end": "2002-02-15 00"}
    found = xsphere.count_tracks(tracks(["2001-06-03"], attrs=attrs, calendar=calendar), "month")
    february = 15 / (30 if calendar == "360_day" else 28)
    expected = [1, february, 0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(found.years, expected)
    assert np.isnan(found.per_year.sel(month=3))


def test_intervals_are_those_of_years_drawn_anew():
    years = np.arange(1990, 2020)
    numbers = np.random.default_rng(0).poisson(4, years.size)
    starts = [f"{y}-07-01" for y, n in zip(years, numbers, strict=True) for _ in range(n)]
    attrs = {"time_coverage_start": "1990-01-01", "time_coverage_end": "2019-12-31"}
    found = xsphere.count_tracks(tracks(starts, attrs=attrs))
    from scipy.stats import bootstrap

    expected = bootstrap((numbers,), np.mean, method="percentile", rng=1).confidence_interval
    assert found.per_year == pytest.approx(numbers.mean())
    assert found.per_year_low == pytest.approx(expected.low, abs=0.15)
    assert found.per_year_high == pytest.approx(expected.high, abs=0.15)


def test_basins_and_members():
    starts = ["2000-08-31", "2001-08-01", "2001-09-15"]
    table = tracks(starts, lon=[300.0, 140.0, 300.0], member=[0, 0, 2], attrs=WHOLE)
    found = xsphere.count_tracks(table, "basin", over="member")
    assert found.tracks.sel(basin=["NA", "WP", "SI"]).values.tolist() == [2, 1, 0]
    assert found.per_year.sel(basin="WP") == 1 / 4 / 2
    assert found.spread.sel(basin="WP") == pytest.approx(np.std([0.25, 0], ddof=1))
    members = xr.DataArray(np.arange(3), dims="member", name="member")
    found = xsphere.count_tracks(table, "basin", over=members)
    assert found.per_year.sel(basin="WP") == pytest.approx(1 / 4 / 3)
    with pytest.raises(ValueError, match="over must have every member"):
        xsphere.count_tracks(table, over=members[:2])
    with pytest.raises(ValueError, match="over must be a coordinate"):
        xsphere.count_tracks(table, over="model")
    with pytest.raises(ValueError, match=r"by must be one of .*n_samples"):
        xsphere.count_tracks(table, "week", n_samples=-1)
