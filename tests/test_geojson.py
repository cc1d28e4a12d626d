"""Outlines: what shapely and geopandas read covers the cells, and nothing else."""

import json

import numpy as np
import pytest
import shapely
import xarray as xr
from shapely.geometry import shape

import xsphere
from tests.test_regions import cells_within, labelled, mask_on
from tests.test_tracks import CLASSES, series
from xsphere.conventions import mask_attributes
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid, LatLonGrid, PointGrid
from xsphere.regions.geojson import cell_polygons

GRIDS = {
    "nested": HealpixGrid(3),
    "ring": HealpixGrid(3, "ring"),
    "0..360": LatLonGrid(np.arange(0, 360, 10.0), np.linspace(-85, 85, 18)),
    "north first, rows at poles": LatLonGrid(np.arange(-175, 180, 10.0), np.linspace(90, -90, 19)),
}


def features(path):
    return json.loads(path.read_text())["features"]


def area(outline):
    """km2, in the cylindrical projection that keeps areas."""
    flat = shapely.transform(
        outline, lambda xy: np.column_stack([np.deg2rad(xy[:, 0]), np.sin(np.deg2rad(xy[:, 1]))])
    )
    return flat.area * EARTH_RADIUS_KM**2


@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
def test_outlines_cover_the_cells(grid, tmp_path):
    discs = {
        "seam": (180, 10, 25),
        "north": (30, 90, 25),
        "south": (0, -80, 20),
        "all": (0, 0, 181),
    }
    for name, disc in discs.items():
        cells = cells_within(grid, *disc)
        if name == "seam":
            cells = np.setdiff1d(cells, cells_within(grid, 180, 10, 12))  # a ring
        mask = mask_on(grid, {1: cells})
        path = xsphere.write_outlines(mask, tmp_path / "o.geojson", overwrite=True)
        (feature,) = features(path)
        outline = shape(feature["geometry"])
        assert outline.is_valid
        west, south, east, north = outline.bounds
        assert -180 <= west < east <= 180
        assert -90 <= south < north <= 90
        assert area(outline) == pytest.approx(feature["properties"]["area_km2"], rel=2e-3)
        for part in getattr(outline, "geoms", [outline]):
            assert part.exterior.is_ccw
            assert not any(hole.is_ccw for hole in part.interiors)
        lon, lat = grid.centre_lonlat
        # not at an edge of the map, nor of a part that was cut there
        lon, lat = (lon + 180) % 360 - 180 + 1e-4, np.clip(lat, -89.9, 89.9)
        inside = shapely.contains_xy(outline, lon, lat)
        np.testing.assert_array_equal(np.flatnonzero(inside), np.sort(cells))


def test_polygons_with_a_pole_inside_cover_the_sphere():
    grid = PointGrid.fibonacci(300).with_voronoi_bounds()
    polygons = cell_polygons(grid, np.arange(300))
    areas = np.array([area(polygon) for polygon in polygons])
    np.testing.assert_allclose(areas, grid.areas * EARTH_RADIUS_KM**2, rtol=0.02)
    assert areas.sum() == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2, rel=1e-6)


def test_features_are_those_of_events_and_tracks(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    mask = series([[(1, 350 + 8 * n, 20, 12), (2, 100, 40, 9)] for n in range(3)])
    mask = mask.copy(data=mask.chunk(time=2).data)
    read = geopandas.read_file(xsphere.write_outlines(mask, tmp_path / "e.geojson"))
    found = xsphere.events(mask)
    assert read["class"].tolist() == found.class_name.values.tolist()
    np.testing.assert_allclose(read.area_km2, found.area, atol=0.06)
    assert (read.time.to_numpy().astype("M8[s]") == found.time.values.astype("M8[s]")).all()
    assert read.crs.to_epsg() == 4326
    tracks = xsphere.track(mask)
    path = xsphere.write_outlines(mask, tmp_path / "t.geojson", tracks=tracks)
    rows = [(f["properties"]["track_id"], f["properties"]["time"]) for f in features(path)]
    times = tracks.time.values.astype("M8[s]").astype(str)
    assert sorted(rows) == sorted(zip(tracks.track_id.values.tolist(), times, strict=True))


def test_no_regions_other_calendars_and_members(tmp_path):
    times = xr.date_range("2000-02-29", periods=2, calendar="360_day", use_cftime=True)
    grid = GRIDS["nested"]
    values = np.zeros((3, 2, grid.n_cells), np.uint8)
    mask = labelled(values, grid, attrs=mask_attributes(CLASSES)).assign_coords(time=times)
    assert features(xsphere.write_outlines(mask, tmp_path / "o.geojson")) == []
    mask.values[2, 1, 7] = 2
    with pytest.raises(FileExistsError, match="is there already; choose another name or overwrite"):
        xsphere.write_outlines(mask, tmp_path / "o.geojson")
    assert features(tmp_path / "o.geojson") == []
    path = xsphere.write_outlines(mask, tmp_path / "o.geojson", overwrite=True)
    (feature,) = features(path)
    assert feature["properties"]["time"] == "2000-02-30T00:00:00"
    assert feature["properties"]["class"] == "river"


def test_bad_input_is_refused(tmp_path):
    mask = mask_on(GRIDS["nested"], {1: [3]})
    with pytest.raises(ValueError, match=r"must end in '\.geojson'"):
        xsphere.write_outlines(mask, tmp_path / "o.json")
    with pytest.raises(ValueError, match="leave these out"):
        xsphere.write_outlines(mask, tmp_path / "o.geojson", tracks=xr.Dataset(), min_area=1.0)
    points = mask_on(PointGrid.fibonacci(50), {1: [3]})
    with pytest.raises(ValueError, match="cells with edges"):
        xsphere.write_outlines(points, tmp_path / "o.geojson")
    assert not list(tmp_path.iterdir())
