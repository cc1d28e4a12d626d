"""Places of extremes against a search of all cells, transport against what was drawn."""

import pickle

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.test_region_shapes import BANDS, FINE, band
from tests.test_regions import GLOBAL_GRIDS, cells_within, labelled, mask_on
from xsphere.conventions import mask_attributes
from xsphere.grids import lonlat_to_vectors, tangent_vectors
from xsphere.regions.labelling import labelling
from xsphere.regions.steps import measuring


@pytest.mark.parametrize("grid", GLOBAL_GRIDS.values(), ids=list(GLOBAL_GRIDS))
def test_extremes_are_where_all_cells_say(grid):
    rng = np.random.default_rng(0)
    values = np.zeros((2, grid.n_cells), np.uint8)
    for step, lon in enumerate((0, 6)):
        values[step, cells_within(grid, lon, 85, 12)] = 1
        values[step, cells_within(grid, 170 + lon, -20, 14)] = 2
    mask = labelled(values, grid, attrs=mask_attributes(["storm", "river"]))
    wind = rng.normal(20, 5, values.shape).astype(np.float32)
    wind[rng.random(wind.shape) < 0.2] = np.nan
    fields = xr.Dataset(
        {
            "wind": labelled(wind, grid),
            "psl": labelled(rng.integers(950, 1000, values.shape), grid),
            "nothing": labelled(np.full(values.shape, np.nan), grid),
            "dir": labelled(wind, grid, attrs={"standard_name": "wind_from_direction"}),
        }
    )
    tracks = xsphere.track(mask, fields, places=True)
    assert tracks.sizes["track"] == 2
    labels = xsphere.label(mask).values.reshape(values.shape)
    lon, lat = grid.centre_lonlat
    for n in range(tracks.sizes["event"]):
        event = tracks.isel(event=n)
        step = int(event.time.values != mask.time.values[0])
        inside = np.flatnonzero(labels[step] == event.label.item())
        for name, kind, best in (
            ("wind", "max", np.nanargmax),
            ("wind", "min", np.nanargmin),
            ("psl", "min", np.argmin),
        ):
            field = fields[name].values.reshape(values.shape)[step]
            cell = inside[best(field[inside])]
            found = event[f"{name}_{kind}_lon"].item(), event[f"{name}_{kind}_lat"].item()
            assert found == (lon[cell] % 360, lat[cell])
    assert np.isnan(tracks.nothing_max_lon).all()
    assert "dir_max_lon" not in tracks
    # of a life, the place of the extreme itself
    for number in range(2):
        rows = np.flatnonzero(tracks.track_id == number + 1)
        row = rows[np.argmax(tracks.wind_max.values[rows])]
        assert tracks.wind_lifetime_max_lon[number] == tracks.wind_max_lon[row]
        assert tracks.wind_lifetime_max_time[number] == tracks.time[row]
    assert tracks.psl_min_lon.attrs["units"] == "degrees_east"
    assert set(xsphere.events(mask, fields)).isdisjoint({"wind_max_lon", "wind_min_lat"})


@pytest.mark.parametrize("grid", FINE.values(), ids=list(FINE))
@pytest.mark.parametrize("ends", BANDS.values(), ids=list(BANDS))
def test_transport_is_what_passes_through_cross_sections(grid, ends):
    labels, _ = band(grid, *ends, 6)
    pole = np.cross(lonlat_to_vectors(*ends[:2]), lonlat_to_vectors(*ends[2:]))
    along = np.cross(pole, grid.centres)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(grid.centres, along)
    mask = mask_on(grid, {2: np.flatnonzero(labels)})
    found = {}
    for name, vectors in {
        "along": 600 * along,
        "back": -600 * along,
        "across": 600 * across,
    }.items():
        parts = [(vectors * way).sum(-1) for way in tangent_vectors(*grid.centre_lonlat)]
        fields = xr.Dataset(
            {
                # in other units
                n: labelled(part / 1000, grid, attrs={"units": "Mg m-1 s-1"})
                for n, part in zip(("IVT_u", "IVT_v"), parts, strict=True)
            }
        )
        found[name] = xsphere.events(mask, fields, shape=True)
    table = found["along"]
    # 600 kg m-1 s-1 over 6 degrees
    expected = 600 * table.width.item() * 1000
    assert table.transport.item() == pytest.approx(expected, rel=0.03)
    assert found["back"].transport.item() == pytest.approx(table.transport.item())
    assert found["across"].transport.item() < 0.1 * expected
    assert table.transport.attrs["units"] == "kg s-1"


def test_transport_needs_components_and_an_axis():
    grid = GLOBAL_GRIDS["nested"]
    one = labelled(np.ones(grid.n_cells), grid, attrs={"units": "kg m-1 s-1"})
    mask = mask_on(grid, {1: [5]})
    both = xr.Dataset({"IVT_u": one, "IVT_v": one})
    assert np.isnan(xsphere.events(mask, both, shape=True).transport).all()
    assert "transport" not in xsphere.events(mask, both)
    assert "transport" not in xsphere.events(mask, both[["IVT_u"]], shape=True)


def test_chunks_and_copies_measure_the_same():
    grid = GLOBAL_GRIDS["ring"]
    rng = np.random.default_rng(1)
    values = np.zeros((4, grid.n_cells), np.uint8)
    for step in range(4):
        values[step, cells_within(grid, 100 + 5 * step, 30, 15)] = 1
    mask = labelled(values, grid, attrs=mask_attributes(["river"]))
    ivt = labelled(rng.normal(300, 90, values.shape), grid, attrs={"units": "kg m-1 s-1"})
    fields = xr.Dataset({"IVT_u": ivt, "IVT_v": ivt})
    wishes = {"shape": True, "land": True, "places": True}
    whole = xsphere.track(mask, fields, **wishes)
    before = fields.copy(deep=True)
    xr.testing.assert_identical(
        xsphere.track(mask.chunk(time=1), fields.chunk(time=3), **wishes), whole
    )
    xr.testing.assert_identical(fields, before)
    # what is asked for changes nothing else
    plain = xsphere.track(mask, fields)
    same = [name for name in plain.variables if "lifetime" not in name]
    xr.testing.assert_identical(whole[same], plain[same])
    horizontal = xsphere.horizontal_grid(mask)
    find = labelling(mask, None, min_area=0.0, max_hole_area=0.0, merge_distance=0.0, wish="track")
    finder = measuring(mask, fields, find, horizontal, ["time"], **wishes)[1]
    assert pickle.loads(pickle.dumps(finder)).measures == finder.measures
