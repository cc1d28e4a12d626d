"""One reading of the grid, for a Dataset, its variables and every function."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
import xdggs
import zarr

import xsphere
from tests.toys import storm_dataset, storm_model, storm_spec
from xsphere.conventions import (
    GuessedGridWarning,
    describe_healpix,
    horizontal_grid,
    mask_attributes,
)
from xsphere.conventions.horizontal import common_grid, selected
from xsphere.fitting.samples import gathered_samples
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid
from xsphere.plotting.pictures import write_picture

LEVEL = 2
NAMES = ("u", "v", "PSL")


def winds(scheme="ring"):
    """Winds on the sphere, and no word about the grid."""
    grid = HealpixGrid(LEVEL, scheme)
    east = np.cos(np.deg2rad(grid.centre_lonlat[1]))
    attrs = {"units": "m s-1", "standard_name": "eastward_wind"}
    return xr.Dataset(
        {
            "u": (("time", "cells"), np.stack([east, 2 * east]), attrs),
            "PSL": (("time", "cells"), np.stack([1e5 + east, 1e5 - east]), {"units": "Pa"}),
            "v": (
                ("time", "cells"),
                np.stack([east**2, east]),
                attrs | {"standard_name": "northward_wind"},
            ),
        },
        {"time": np.array(["2001-01-01", "2001-01-02"], "M8[ns]")},
    )


def easygems(scheme="ring", refer=True):
    order = {"ring": "ring", "nested": "nest"}[scheme]
    attrs = {"grid_mapping_name": "healpix", "healpix_nside": 2**LEVEL, "healpix_order": order}
    ds = winds(scheme).assign_coords(crs=("crs", [np.nan], attrs))
    if refer:
        for name in NAMES:
            ds[name].attrs["grid_mapping"] = "crs"
    return ds


def zarr_dggs(scheme="ring"):
    dggs = {
        "name": "healpix",
        "refinement_level": LEVEL,
        "indexing_scheme": scheme,
        "spatial_dimension": "cells",
        "coordinate": "cell_ids",
    }
    return winds(scheme).assign_attrs(dggs=dggs)


def described(scheme="ring"):
    return describe_healpix(winds(scheme), HealpixGrid(LEVEL, scheme))


def decoded(scheme="ring"):
    return xdggs.decode(described(scheme)).drop_vars(["crs", "healpix_index"])


STATED = {
    "easygems": easygems,
    "unreferred": lambda: easygems(refer=False),
    "data variable": lambda: (
        easygems().reset_index("crs").rename_dims(crs="one").reset_coords("crs")
    ),
    "dggs": zarr_dggs,
    "xdggs": decoded,
}


@pytest.fixture(params=STATED, ids=str)
def stated(request):
    return STATED[request.param]()


def by_nested_id(result):
    """Values in nested order, whatever the order that the result says it has."""
    found = horizontal_grid(result)
    order = np.argsort(found.grid.nested_ids)
    return result.transpose(..., *found.dims).values[..., order]


def kept(ds, **options):
    return xsphere.cache_regridded(ds, 1, zarr.storage.MemoryStore(), workers=1, **options)


FUNCTIONS = {
    "filter": lambda ds: xsphere.filter(ds, "heat", scale=2000).pipe(selected, "u"),
    "vorticity": xsphere.vorticity,
    "divergence": xsphere.divergence,
    "to_healpix": lambda ds: xsphere.to_healpix(ds, 1)["u"],
    "coarsen": lambda ds: xsphere.coarsen(ds, 1)["u"],
    "refine": lambda ds: xsphere.refine(ds, 3)["u"],
    "cache": lambda ds: kept(ds)["u"],
    "cache of one": lambda ds: kept(ds, variables=["u"], vectors=None)["u"],
    "chunked": lambda ds: xsphere.to_healpix(ds.chunk(time=1), 1)["u"],
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_function_reads_the_grid_that_the_dataset_states(stated, function):
    before = stated.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = function(stated)
    np.testing.assert_allclose(
        by_nested_id(result), by_nested_id(function(described("nested"))), rtol=1e-5, atol=1e-9
    )
    xr.testing.assert_identical(stated, before)


def test_longitudes_and_latitudes_of_it_are_right(stated):
    made = xsphere.to_latlon(stated, 30.0)["u"]
    right = xsphere.to_latlon(described("nested"), 30.0)["u"]
    np.testing.assert_allclose(made, right, rtol=1e-5)


@pytest.mark.quick("easygems")
def test_events_and_pictures_are_where_the_dataset_says(stated, tmp_path):
    mask = (stated["u"] < 0.3).astype("u1").assign_attrs(mask_attributes(["storm"]))
    ds = stated.drop_vars("v").assign(u=mask)
    right = described("nested").u < 0.3
    right = right.astype("u1").assign_attrs(mask_attributes(["storm"]))
    found, wanted = xsphere.events(selected(ds, "u")), xsphere.events(right)
    np.testing.assert_array_equal(found.n_cells, wanted.n_cells)
    np.testing.assert_allclose(found.lat, wanted.lat, atol=1e-9)
    assert write_picture(ds, tmp_path / "x.png", variable="u").exists()


def test_events_take_fields_of_every_statement(stated):
    mask = (described().u > 0.9).astype("u1").assign_attrs(mask_attributes(["storm"]))
    found = xsphere.events(mask, stated)
    assert float(found.u_min.min()) > 0.9


def test_training_reads_the_grid_that_the_dataset_states(stated):
    labels = (stated["u"] > 0.7).astype("u1").assign_attrs(mask_attributes(["jet"]))
    samples = [
        gathered_samples(
            ds,
            labels_of_it,
            ds.time.values,
            replace(storm_spec(1), classes=("jet",)),
            progress=False,
        )
        for ds, labels_of_it in (
            (stated, selected(stated.assign(u=labels), "u")),
            (described(), (described().u > 0.7).astype("u1").assign_attrs(labels.attrs)),
        )
    ]
    np.testing.assert_allclose(samples[0].fields, samples[1].fields, rtol=1e-5)
    np.testing.assert_allclose(samples[0].targets, samples[1].targets, rtol=1e-5)
    # and they are where the winds are strong
    east = samples[0].fields[0, :, 1]
    assert samples[0].targets[0, east > 0.8, 1].min() > samples[0].targets[0, east < 0.6, 1].max()


def test_a_model_reads_the_grid_that_the_dataset_states(stated):
    model = storm_model(LEVEL)
    right = xsphere.segment(described("nested"), model, output="probability")
    for ds in (stated, stated.chunk(time=1)):
        made = xsphere.segment(ds, model, output="probability")
        np.testing.assert_allclose(made, right, rtol=1e-5)
    kept = xsphere.segment(stated, model, grid="source")
    assert horizontal_grid(kept).grid == HealpixGrid(LEVEL, "ring")
    np.testing.assert_array_equal(
        by_nested_id(kept), xsphere.segment(described("nested"), model, grid="source")
    )
    assert xsphere.plan(stated.chunk(time=1), model, trial=False).n_blocks == 2


def test_a_variable_that_lost_its_grid_mapping_is_not_guessed():
    with pytest.raises(ValueError, match=r"grid mapping \['crs'\], which is not .*squeeze\('crs'"):
        horizontal_grid(easygems()["u"])
    squeezed = easygems().squeeze("crs")["u"]
    assert horizontal_grid(squeezed).grid == HealpixGrid(LEVEL, "ring")


def test_cells_with_numbers_of_their_own_are_not_guessed():
    ids = np.arange(12 * 4**LEVEL)[::-1]
    with pytest.raises(ValueError, match="indexing_scheme of the cells that 'cell_ids' numbers"):
        horizontal_grid(winds().assign_coords(cell_ids=("cells", ids)))
    with pytest.warns(GuessedGridWarning):
        horizontal_grid(winds().assign_coords(cell_ids=("cells", ids[::-1])))


def test_a_variable_has_the_grid_mapping_that_it_refers_to():
    ds = easygems()
    attrs = {"grid_mapping_name": "healpix", "healpix_nside": 1, "healpix_order": "nest"}
    ds["coarse"] = ("few", np.zeros(12), {"grid_mapping": "other"})
    ds = ds.assign_coords(other=((), 0, attrs))
    assert horizontal_grid(ds, ["u"]).grid == HealpixGrid(LEVEL, "ring")
    assert horizontal_grid(ds, ["coarse"]).grid == HealpixGrid(0)
    assert horizontal_grid(ds["coarse"]).grid == HealpixGrid(0)
    with pytest.raises(ValueError, match="contradict each other"):
        horizontal_grid(ds)
    with pytest.raises(ValueError, match="must be on one grid, but \\['coarse'\\]"):
        common_grid(ds, ["u", "coarse"])


# --- bounds and meshes, which a selection loses


def lat_lon(**bounds):
    lat, lon = np.arange(-75.0, 90, 30), np.arange(15.0, 360, 30)
    edges = np.array([-90, -70, -35, 0, 35, 70, 90.0])
    ds = xr.Dataset(
        {
            "t": (("time", "lat", "lon"), np.ones((2, 6, 12))),
            "lat_bnds": (("lat", "bnds"), np.stack([edges[:-1], edges[1:]], -1)),
        },
        {
            "time": [0, 1],
            "lat": ("lat", lat, {"units": "degrees_north", "bounds": "lat_bnds"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    )
    return ds.assign(**bounds)


def test_bounds_count_for_a_variable_of_the_dataset():
    ds = lat_lon()
    grid = horizontal_grid(ds).grid
    assert grid.lat_bounds[1].tolist() == [-70.0, -35.0]
    assert horizontal_grid(ds, ["t"]).grid == grid


def test_bounds_that_are_equal_at_all_times_are_used():
    """As `xr.open_mfdataset` makes them of CMIP files."""
    ds = lat_lon()
    for order in (("time", "lat", "bnds"), ("lat", "time", "bnds")):
        bounds = ds.lat_bnds.expand_dims(time=2).transpose(*order)
        for given in (ds.assign(lat_bnds=bounds), ds.assign(lat_bnds=bounds.chunk(time=1))):
            assert horizontal_grid(given).grid == horizontal_grid(ds).grid
            assert xsphere.to_healpix(given, 1).t.dims == ("time", "cells")


def test_bounds_that_change_are_refused():
    ds = lat_lon()
    moving = ds.lat_bnds.expand_dims(time=2).copy()
    moving[1] += 1.0
    with pytest.raises(ValueError, match=r"'lat_bnds' must be the same .*isel\(time=0\)"):
        horizontal_grid(ds.assign(lat_bnds=moving))


def test_a_mesh_counts_for_a_variable_of_the_dataset():
    nodes = PointGrid([0, 90, 180, 270, 0, 0], [0, 0, 0, 0, 90, -90])
    faces = [[a, (a + 1) % 4, pole] for pole in (4, 5) for a in range(4)]
    topology = {
        "cf_role": "mesh_topology",
        "topology_dimension": 2,
        "node_coordinates": "x y",
        "face_node_connectivity": "faces",
    }
    ds = xr.Dataset(
        {
            "mesh": ((), 0, topology),
            "faces": (("face", "three"), faces, {"start_index": 0}),
            "x": ("node", nodes.lon, {"units": "degrees_east"}),
            "y": ("node", nodes.lat, {"units": "degrees_north"}),
            "t": ("face", np.arange(8.0), {"mesh": "mesh", "location": "face"}),
            "p": ("node", np.arange(6.0), {"mesh": "mesh", "location": "node"}),
        }
    )
    assert horizontal_grid(ds, ["t"]).grid.has_bounds
    assert horizontal_grid(ds, ["p"]).grid == nodes


def test_coordinates_among_the_data_go_with_a_variable():
    ds = lat_lon().reset_index("lat").rename(lat="nav").reset_coords("nav")
    array = selected(ds, "t")
    assert isinstance(horizontal_grid(array).grid, LatLonGrid)


def test_cells_of_other_places_than_said_are_refused():
    ds = described("nested")
    for scheme, level in (("nested", LEVEL), ("ring", LEVEL)):
        lon, lat = HealpixGrid(level, scheme).centre_lonlat
        told = ds.assign_coords(lon=("cells", lon), lat=("cells", lat))
        if scheme == "nested":
            assert horizontal_grid(told).grid == HealpixGrid(LEVEL)
        else:
            with pytest.raises(ValueError, match="contradicts the longitudes and latitudes along"):
                horizontal_grid(told)


def test_coordinates_that_are_equal_at_all_times_are_used():
    """As `xr.open_mfdataset` makes them of unstructured grids, whose coordinates are data."""
    one = xr.Dataset(
        {
            "t": (("time", "ncol"), np.ones((1, 3))),
            "lat": ("ncol", [1.0, 2.0, 3.0], {"units": "degrees_north"}),
            "lon": ("ncol", [10.0, 20.0, 30.0], {"units": "degrees_east"}),
        }
    )
    parts = [one.assign_coords(time=[np.datetime64(f"2001-01-0{day}", "ns")]) for day in (1, 2)]
    both = xr.concat(parts, "time", data_vars="all")
    assert both.lat.dims == ("time", "ncol")
    assert horizontal_grid(both).grid == horizontal_grid(one).grid
    assert horizontal_grid(both, ["t"]).dims == ("ncol",)
    both["lat"][1] += 1.0
    with pytest.raises(ValueError, match=r"'lat' must be the same everywhere along \['time'\]"):
        horizontal_grid(both)


def test_places_along_time_are_points():
    path = xr.Dataset(
        {"t": ("time", [1.0, 2.0])},
        {"time": [0, 1], "lat": ("time", [1.0, 2.0]), "lon": ("time", [3.0, 4.0])},
    )
    assert horizontal_grid(path).grid == PointGrid([3.0, 4.0], [1.0, 2.0])


def test_coordinates_without_a_word_need_the_grid_mapping_that_data_refer_to():
    """As a variable has lost it that is taken from a dataset whose mapping is no coordinate."""
    rotated = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25}
    ds = xr.Dataset(
        {"t": (("y", "x"), np.ones((3, 4)), {"grid_mapping": "pole"}), "pole": ((), 0, rotated)},
        {"y": [0.5, 1.0, 1.5], "x": [0.5, 1.0, 1.5, 2.0]},
    )
    with pytest.raises(ValueError, match=r"'pole' .* whatever they are called"):
        horizontal_grid(ds)
    with pytest.raises(ValueError, match=r"'pole' \(not with them\).*set_coords\('pole'\)"):
        horizontal_grid(ds["t"])
    ds["y"].attrs["units"], ds["x"].attrs["units"] = "degrees_north", "degrees_east"
    assert isinstance(horizontal_grid(ds["t"]).grid, LatLonGrid)


def test_inputs_that_say_the_same_of_their_place_are_looked_at_once(monkeypatch) -> None:
    from xsphere.conventions import horizontal

    seen: list[Any] = []
    told = horizontal.horizontal_grid

    def counted(ds: Any, names: Any) -> Any:
        seen.append(names)
        return told(ds, names)

    monkeypatch.setattr(horizontal, "horizontal_grid", counted)
    ds = storm_dataset()
    assert horizontal.common_grid(ds, list(ds.data_vars)).grid == told(ds).grid
    assert len(seen) == 1
    other = ds.assign(U850=ds.U850.rename(lon="x").assign_coords(x=ds.lon.values + 0.5))
    other.x.attrs["units"] = "degrees_east"
    with pytest.raises(ValueError, match=r"\['U850'\] are not on that of 'PSL'"):
        horizontal.common_grid(other, list(ds.data_vars))
