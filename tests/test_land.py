"""Land against crossings of its outlines, landfalls against a loop over the events."""

import cftime
import numpy as np
import pandas as pd
import pytest
import shapefile
import xarray as xr
from matplotlib.path import Path

import xsphere
from tests.test_regions import GLOBAL_GRIDS, cells_within, labelled, mask_on
from xsphere.conventions import mask_attributes
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid
from xsphere.regions.land import NATURAL_EARTH, is_land, land_cells
from xsphere.regions.track_tables import with_lives

GRID = GLOBAL_GRIDS["0..360"]


def inside_outlines(lon, lat):
    """Whether points are within an odd number of outlines, by matplotlib."""
    points = np.stack([(np.asarray(lon) + 180) % 360 - 180, lat], -1)
    odd = np.zeros(len(points), bool)
    with shapefile.Reader(str(NATURAL_EARTH / "ne_110m_land.shp")) as reader:
        for shape in reader.shapes():
            for start, stop in zip(shape.parts, [*shape.parts[1:], len(shape.points)], strict=True):
                odd ^= Path(shape.points[start:stop]).contains_points(points)
    return odd


def test_land_is_within_the_outlines():
    grid = HealpixGrid(4)
    lon, lat = grid.centre_lonlat
    # not on the seam, which is an outline there
    off = np.abs(lon - 180) > 1e-9
    assert (land_cells(grid) == inside_outlines(lon, lat))[off].all()
    assert 0.25 < grid.areas[land_cells(grid)].sum() / (4 * np.pi) < 0.32
    assert not land_cells(grid).flags.writeable


def test_places_that_are_known():
    land = [(10, 50), (-100, 40), (180, 67), (-180, -85), (0, -90), (140, -90), (-87.5, 47.5)]
    # with the Caspian Sea, the Ross ice shelf and Réunion, as the documentation says
    sea = [(-150, 40), (0, 90), (51, 42), (180, 0), (360, 0), (180, -80), (55.5, -21.1)]
    assert is_land(*np.array(land).T).all()
    assert not is_land(*np.array(sea).T).any()
    assert not is_land([np.nan], [10.0]).any()


@pytest.mark.parametrize("grid", GLOBAL_GRIDS.values(), ids=list(GLOBAL_GRIDS))
def test_shares_over_land_are_those_of_areas(grid):
    cells = {1: cells_within(grid, 280, 30, 15), 2: cells_within(grid, 0, -90, 30)}
    cells[2] = np.concatenate([cells[2], cells_within(grid, 180, 0, 8)])
    found = xsphere.events(mask_on(grid, cells), land=True)
    labels = xsphere.label(mask_on(grid, cells)).values.ravel()
    over = inside_outlines(*grid.centre_lonlat)
    for number in range(1, 4):
        inside = labels == number
        area = grid.covered_areas[inside].sum() * EARTH_RADIUS_KM**2
        row = found.isel(event=int(np.argmin(np.abs(found.area.values - area))))
        share = np.average(over[inside], weights=grid.covered_areas[inside])
        assert row.land_share.item() == pytest.approx(share, abs=0.02)
        if share == 0:
            assert np.isnan(row.land_lon.item())
            continue
        nearest = grid.cells_at(row.land_lon.values, row.land_lat.values)
        assert inside[nearest]
        assert is_land(row.land_lon, row.land_lat)
    assert found.land_share.attrs["units"] == "1"
    empty = xsphere.events(mask_on(grid, {}), land=True)
    assert set(empty.variables) == set(found.variables)
    assert empty.centre_over_land.dtype == bool


def storms(ways, times):
    """Masks of round storms with centres at the places of each way."""
    steps = [
        np.concatenate([cells_within(GRID, *way[n], 7) for way in ways]) for n in range(len(times))
    ]
    values = np.zeros((len(times), GRID.n_cells), np.uint8)
    for n, cells in enumerate(steps):
        values[n, cells] = 1
    mask = labelled(values, GRID, attrs=mask_attributes(["storm"]))
    return mask.assign_coords(time=times)


# from the Pacific into California; from Africa to sea; from India out and back; at sea
WAYS = [
    [(-148 + 7 * n, 36) for n in range(5)],
    [(-2 - 6 * n, 14) for n in range(5)],
    [(76, 20), (72, 19), (67, 18), (72, 19), (76, 20)],
    [(180, -30 - n) for n in range(5)],
]
TIMES = {
    "datetime": pd.date_range("2001-09-01", periods=5, freq="6h"),
    "noleap": xr.date_range("2001-02-27", periods=5, freq="6h", calendar="noleap", use_cftime=True),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=list(TIMES))
def test_landfall_is_the_first_time_over_land_after_one_at_sea(times):
    tracks = xsphere.track(storms(WAYS, times), land=True, max_speed=200)
    assert tracks.sizes["track"] == 4
    lon, lat = tracks.lon.values, tracks.lat.values
    over = {"landfall": inside_outlines(lon, lat), "contact": tracks.land_share.values > 0}
    kinds = set()
    for number in range(4):
        rows = np.flatnonzero(tracks.track_id == number + 1)
        for name, there in over.items():
            sea = rows[~there[rows]]
            after = [r for r in rows if there[r] and sea.size and r > sea[0]]
            kinds.add((name, bool(after)))
            track = tracks.isel(track=number)
            if not after:
                assert np.isnan(track[f"{name}_after"].item())
                assert np.isnan(track[f"{name}_lon"].item())
                continue
            row = tracks.isel(event=after[0])
            assert track[f"{name}_after"].item() == 6 * (after[0] - rows[0])
            of = "" if name == "landfall" else "land_"
            assert track[f"{name}_lon"].item() == row[f"{of}lon"].item()
            assert track[f"{name}_lat"].item() == row[f"{of}lat"].item()
            if "landfall_time" in tracks:
                assert track[f"{name}_time"].values == row.time.values
    assert len(kinds) == 4
    assert ("landfall_time" in tracks) == (not isinstance(times[0], cftime.datetime))
    assert "landfall_after" not in xsphere.track(storms(WAYS, times))


def test_branches_at_one_time_are_not_before_each_other():
    table = xr.Dataset(
        {
            "track_id": ("event", [1, 1, 1, 2]),
            "lon": ("event", [0.0, 1.0, 2.0, 3.0]),
            "lat": ("event", [0.0, 1.0, 2.0, 3.0]),
            "centre_over_land": ("event", [False, True, True, True]),
        },
        {
            "time": (
                "event",
                pd.to_datetime(["2001-01-01", "2001-01-01", "2001-01-02", "2001-01-02"]),
            )
        },
    )
    lives = with_lives(table, {})
    assert lives.landfall_lon.values[0] == 2.0
    assert np.isnat(lives.landfall_time.values[1])
