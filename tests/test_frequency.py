"""Frequency of events: shares and counts as loops over cells and times give them."""

import dask
import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.test_regions import labelled
from xsphere.conventions import mask_attributes
from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.regions.basins import basin_of

CLASSES = ["storm", "river"]
GRIDS = {"healpix": HealpixGrid(1), "latlon": LatLonGrid(np.arange(0, 360, 40.0), [60.0, 0, -60])}


def random_mask(grid=GRIDS["healpix"], n_times=60, days=8, calendar="standard", seed=0):
    """Masks of 8 days apart: all months, all seasons, with cells of which nothing is known."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, 2, 254, 255], (n_times, grid.n_cells), p=[0.5, 0.2, 0.2, 0.05, 0.05])
    values[:, 3] = 254
    values[:, 4] = 0
    mask = labelled(values.astype(np.uint8), grid, attrs=mask_attributes(CLASSES), name="mask")
    times = xr.date_range("2001-01-03", periods=n_times, freq=f"{days}D", calendar=calendar)
    return mask.assign_coords(time=times)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
@pytest.mark.parametrize("by", [None, "season", "month"])
@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_shares_are_those_of_a_loop(grid, by, calendar):
    mask = random_mask(grid, calendar=calendar)
    found = xsphere.frequency(mask.chunk(time=7), by)
    values = mask.values.reshape(mask.sizes["time"], -1)
    months = [time.month for time in mask.indexes["time"]]
    names = {None: [None], "month": range(1, 13), "season": ["DJF", "MAM", "JJA", "SON"]}[by]
    key = {None: lambda m: None, "month": lambda m: m, "season": lambda m: names[m % 12 // 3]}[by]
    for name in names:
        here = found if by is None else found.sel({by: name})
        steps = [n for n, month in enumerate(months) if key(month) == name]
        valid = (values[steps] < 254).sum(axis=0)
        np.testing.assert_array_equal(here.valid_times.values.ravel(), valid)
        for code, title in enumerate(CLASSES, 1):
            times = (values[steps] == code).sum(axis=0)
            with np.errstate(invalid="ignore"):
                share = times / valid
            got = here.sel({"class": title})
            np.testing.assert_allclose(got.frequency.values.ravel(), share)
            low, high = (got[f"frequency_{end}"].values.ravel() for end in ("low", "high"))
            seen = valid > 0
            assert (low[seen] <= share[seen]).all()
            assert (high[seen] >= share[seen]).all()
            assert np.isnan(low[~seen]).all()
    assert np.isnan(
        found.frequency.values.reshape(*found.frequency.shape[: -len(grid.shape)], -1)[..., 3]
    ).all()


def test_intervals_count_spells():
    # 20 spells of 3 of 120 times tell as much as 20 of 40 that stand alone
    mask = random_mask(n_times=120)
    mask.values[:] = np.tile([1, 1, 1, 0, 0, 0], 20)[:, None]
    found = xsphere.frequency(mask, classes="storm").isel({"class": 0, "cells": 0})
    from scipy.stats import binomtest

    low, high = binomtest(20, 40).proportion_ci(method="wilson")
    assert found.frequency_low == pytest.approx(low)
    assert found.frequency_high == pytest.approx(high)


def test_basins_are_weighted_by_area():
    grid = GRIDS["latlon"]
    mask = random_mask(grid)
    found = xsphere.frequency(mask.chunk(time=7), "basin").compute()
    values = mask.values.reshape(60, -1)
    basins = basin_of(*grid.centre_lonlat)
    for name in found.basin.values:
        area = grid.areas * (basins == name)
        whole = ((values < 254) * area).sum()
        for code, title in enumerate(CLASSES, 1):
            got = found.sel({"basin": name, "class": title})
            assert got.frequency == pytest.approx(((values == code) * area).sum() / whole)
            assert got.frequency_low < got.frequency < got.frequency_high
    xr.testing.assert_allclose(found, xsphere.frequency(mask, "basin"))


@pytest.mark.parametrize("by", [None, "month", "basin"])
def test_nothing_is_computed_and_chunks_do_not_matter(by):
    mask = random_mask()
    kept = mask.copy(deep=True)
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed")):
        lazy = mask.copy(data=mask.chunk(time=9).data).sphere.frequency(by)
        assert lazy.frequency.chunks
    xr.testing.assert_allclose(lazy.compute(scheduler="sync"), xsphere.frequency(mask, by))
    xr.testing.assert_identical(mask, kept)


def test_share_of_a_field_inside():
    mask = random_mask()
    rng = np.random.default_rng(1)
    rain = mask.astype("f4").copy(data=rng.gamma(1, 1, mask.shape).astype("f4"))
    rain.values[5:9, 10] = np.nan
    rain.attrs = {"long_name": "rain"} | {k: v for k, v in mask.attrs.items() if k[:4] != "flag"}
    found = xsphere.frequency(mask.chunk(time=7), weight=rain.chunk(time=7), classes=["river"])
    values = mask.values
    counted = (values < 254) & ~np.isnan(rain.values)
    amount = np.where(counted, rain.values, 0).astype(float)
    with np.errstate(invalid="ignore"):
        share = (amount * (values == 2)).sum(axis=0) / amount.sum(axis=0)
    np.testing.assert_allclose(found.frequency.values[0], share)
    np.testing.assert_array_equal(found.valid_times, counted.sum(axis=0))
    assert "frequency_low" not in found
    assert "rain" in found.frequency.attrs["long_name"]


@pytest.mark.parametrize("by", [None, "basin"])
def test_members_give_mean_and_spread(by):
    members = [random_mask(seed=seed) for seed in range(3)]
    mask = xr.concat(members, "member", combine_attrs="override")
    found = xsphere.frequency(mask.chunk(member=1, time=20), by, over="member")
    each = [xsphere.frequency(member, by).frequency.values for member in members]
    np.testing.assert_allclose(found.frequency, np.mean(each, axis=0))
    np.testing.assert_allclose(found.spread, np.std(each, axis=0, ddof=1), atol=1e-12)
    apart = xsphere.frequency(mask, by)
    np.testing.assert_allclose(
        apart.frequency.sel(member=1)
        if "member" in apart.coords
        else apart.frequency.isel(member=1),
        each[1],
    )
    one = xsphere.frequency(mask.isel(member=[0]), by, over="member")
    assert np.isnan(one.spread).all()


def test_what_does_not_fit_is_refused():
    mask = random_mask()
    with pytest.raises(ValueError, match=r"by must be one of .*over must be one of"):
        xsphere.frequency(mask, "week", over="member")
    with pytest.raises(ValueError, match="times along 'time' must follow each other"):
        xsphere.frequency(mask[::-1])
    with pytest.raises(ValueError, match="needs one dimension of times"):
        xsphere.frequency(mask.isel(time=0, drop=True))
    with pytest.raises(TypeError, match="needs a mask as a DataArray"):
        xsphere.frequency(mask.to_dataset())
    mask.values[0, 0] = 7
    with pytest.raises(ValueError, match="got also"):
        xsphere.frequency(mask.chunk(time=7)).compute()
