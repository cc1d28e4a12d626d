"""Length, width and direction of regions that are known to be so long, wide and directed."""

import numpy as np
import pytest

import xsphere
from tests.test_regions import GLOBAL_GRIDS, cells_within, mask_on
from xsphere.graph import adjacency
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid, LatLonGrid, lonlat_to_vectors
from xsphere.regions.shapes import region_shapes

DEGREE = np.deg2rad(1) * EARTH_RADIUS_KM
FINE = {
    "healpix": HealpixGrid(6),
    "ring": HealpixGrid(6, "ring"),
    "latlon": LatLonGrid(np.arange(0, 360, 1.0), np.arange(-89.5, 90, 1.0)),
}
BANDS = {
    "equator": (0, 0, 60, 0),
    "seam": (330, 20, 20, 45),
    "south": (170, -40, 230, -20),
    "meridian": (20, 0, 20, 40),
    "over the pole": (40, 70, 220, 70),
}


def band(grid, lon, lat, to_lon, to_lat, width):
    """Cells along a great circle, as many degrees wide."""
    one, other = lonlat_to_vectors(lon, lat), lonlat_to_vectors(to_lon, to_lat)
    angle = np.arccos(one @ other)
    part = np.linspace(0, 1, 400)[:, None]
    points = (np.sin((1 - part) * angle) * one + np.sin(part * angle) * other) / np.sin(angle)
    near = np.arccos(np.clip(grid.centres @ points.T, -1, 1)).min(axis=1)
    return (near < np.deg2rad(width / 2)).astype(np.int32), angle * EARTH_RADIUS_KM


@pytest.mark.parametrize("grid", FINE.values(), ids=list(FINE))
@pytest.mark.parametrize("ends", BANDS.values(), ids=list(BANDS))
def test_a_band_is_as_long_and_wide_as_it_was_drawn(grid, ends):
    labels, length = band(grid, *ends, 6)
    shape = region_shapes(labels, 1, grid, adjacency(grid))
    whole = length + 6 * DEGREE
    assert shape["length"][0] == pytest.approx(whole, rel=0.05)
    area = (labels @ grid.areas) * EARTH_RADIUS_KM**2
    assert shape["width"][0] == pytest.approx(area / whole, rel=0.05)
    found = [
        lonlat_to_vectors(shape[f"axis_{end}_lon"][0], shape[f"axis_{end}_lat"][0])
        for end in ("start", "end")
    ]
    drawn = [lonlat_to_vectors(*ends[:2]), lonlat_to_vectors(*ends[2:])]
    apart = [[np.rad2deg(np.arccos(np.clip(a @ b, -1, 1))) for a in found] for b in drawn]
    # the corners of the ends, 3 degrees from each
    assert min(apart[0]) < 5
    assert min(apart[1]) < 5


def test_directions_are_from_north():
    grid = FINE["healpix"]
    for ends, expected in (((0, 0, 60, 0), 90), ((20, 0, 20, 40), 0), ((0, -20, 40, 20), 45)):
        shape = region_shapes(band(grid, *ends, 6)[0], 1, grid, adjacency(grid))
        turn = (shape["orientation"][0] - expected + 90) % 180 - 90
        assert abs(turn) < 6


def test_a_bow_is_longer_than_the_way_between_its_ends():
    grid = FINE["healpix"]
    one, length = band(grid, 0, 0, 40, 0, 5)
    other, more = band(grid, 40, 0, 40, 40, 5)
    shape = region_shapes((one | other).astype(np.int32), 1, grid, adjacency(grid))
    assert shape["length"][0] == pytest.approx(length + more + 5 * DEGREE, rel=0.05)


@pytest.mark.parametrize("grid", GLOBAL_GRIDS.values(), ids=list(GLOBAL_GRIDS))
def test_many_regions_are_measured_each_for_itself(grid):
    labels = np.zeros(grid.n_cells, np.int32)
    for number, (lon, radius) in enumerate([(0, 10), (120, 15), (240, 20)], 1):
        labels[cells_within(grid, lon, 10, radius)] = number
    touching = adjacency(grid)
    together = region_shapes(labels, 3, grid, touching)
    for number in (1, 2, 3):
        alone = region_shapes((labels == number).astype(np.int32), 1, grid, touching)
        for name, values in together.items():
            assert values[number - 1] == alone[name][0]


def test_single_cells_and_nothing():
    grid = HealpixGrid(3)
    labels = np.zeros(grid.n_cells, np.int32)
    assert region_shapes(labels, 0, grid, adjacency(grid))["length"].size == 0
    labels[7] = 1
    shape = region_shapes(labels, 1, grid, adjacency(grid))
    assert shape["length"][0] == pytest.approx(np.sqrt(grid.areas[7]) * EARTH_RADIUS_KM)
    assert shape["width"][0] == pytest.approx(shape["length"][0])
    assert np.isnan(shape["orientation"][0])


def test_tables_have_shapes_where_they_are_asked_for():
    grid = FINE["healpix"]
    labels, length = band(grid, 330, 20, 20, 45, 6)
    mask = mask_on(grid, {2: np.flatnonzero(labels)})
    table = xsphere.events(mask, shape=True)
    assert table.length.item() == pytest.approx(length + 6 * DEGREE, rel=0.05)
    assert table.length.attrs["units"] == "km"
    assert "length" not in xsphere.events(mask)
    none = xsphere.events(mask_on(grid, {}), shape=True)
    assert set(none.variables) == set(table.variables)
    times = np.datetime64("2001-01-01", "ns") + np.timedelta64(6, "h") * np.arange(2)
    tracks = xsphere.track(mask.expand_dims(time=times), shape=True)
    assert tracks.length.values == pytest.approx(table.length.item())
