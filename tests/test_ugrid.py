"""Meshes by the UGRID conventions, and cells with corners by CF."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xsphere.conventions import horizontal_grid
from xsphere.conventions.horizontal import selected
from xsphere.grids import HealpixGrid, PointGrid
from xsphere.regridding import regrid, to_healpix
from xsphere.weights import conservative_weights

# a square pyramid upside down: four octants of the north, and the southern cap in one piece
NODE_LON = np.array([0.0, 90.0, 180.0, 270.0, 45.0])
NODE_LAT = np.array([-20.0, -20.0, -20.0, -20.0, 90.0])
FACES = np.array([[0, 1, 4, -1], [1, 2, 4, -1], [4, 2, 3, -1], [3, 0, 4, -1], [0, 1, 2, 3]])
FACE_LON, FACE_LAT = [45.0, 135.0, 225.0, 315.0, 10.0], [20.0, 20.0, 20.0, 20.0, -90.0]


def mesh_dataset(*, start=0, fill=-999, location="face", faces=FACES, dtype="i4", centres=True):
    topology = {
        "cf_role": "mesh_topology",
        "topology_dimension": 2,
        "node_coordinates": "node_x node_y",
        "face_node_connectivity": "face_nodes",
        "edge_node_connectivity": "edge_nodes",
        "edge_coordinates": "edge_x edge_y",
    }
    degrees = ({"standard_name": "longitude"}, {"standard_name": "latitude"})
    stored = np.where(faces < 0, fill, faces + start).astype(dtype)
    on = {"mesh": "mesh", "location": location}
    ds = xr.Dataset(
        {
            "t": (("time", location), np.zeros((2, 5)), on),
            "mesh": ((), 0, topology),
            "face_nodes": (
                ("face", "corner"), stored, {"start_index": start, "_FillValue": fill}
            ),
            "edge_nodes": (("edge", "two"), np.zeros((8, 2), int)),
            "node_x": ("node", NODE_LON, degrees[0]),
            "node_y": ("node", NODE_LAT, degrees[1]),
            "edge_x": ("edge", np.zeros(8), degrees[0]),
            "edge_y": ("edge", np.zeros(8), degrees[1]),
        }
    )  # fmt: skip
    if not centres:
        return ds
    ds["mesh"].attrs["face_coordinates"] = "face_y face_x"
    ds["face_x"], ds["face_y"] = ("face", FACE_LON, degrees[0]), ("face", FACE_LAT, degrees[1])
    return ds.set_coords(["face_x", "face_y"])


def expected_grid(lon=FACE_LON, lat=FACE_LAT):
    corners = np.where(FACES < 0, np.nan, FACES)
    absent = np.isnan(corners)
    return PointGrid(
        lon,
        lat,
        np.where(absent, np.nan, NODE_LON[FACES]),
        np.where(absent, np.nan, NODE_LAT[FACES]),
    )


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"start": 1},
        {"start": 1, "fill": 0},
        {"dtype": "f8"},
        {"dtype": "f8", "fill": np.nan, "start": 1},
    ],
)
def test_faces_are_polygons(how):
    ds = mesh_dataset(**how)
    if np.isnan(how.get("fill", 0.0)):
        # as xarray decodes a fill value
        ds["face_nodes"].encoding["_FillValue"] = ds["face_nodes"].attrs.pop("_FillValue")
    found = horizontal_grid(ds)
    assert found.grid == expected_grid()
    assert found.dims == ("face",)
    assert set(found.coords) == set(ds.variables) - {"t"}
    assert found.grid.areas.sum() == pytest.approx(4 * np.pi)


def test_faces_may_come_after_corners():
    ds = mesh_dataset()
    ds["face_nodes"] = ds["face_nodes"].transpose()
    ds["mesh"].attrs["face_dimension"] = "face"
    assert horizontal_grid(ds).grid == expected_grid()


def test_faces_without_centres_get_their_centroids():
    grid = horizontal_grid(mesh_dataset(centres=False)).grid
    assert isinstance(grid, PointGrid)
    np.testing.assert_allclose(grid.lon[:4], FACE_LON[:4], atol=1e-9)
    np.testing.assert_allclose(grid.lat[:4], grid.lat[0], atol=1e-9)
    assert 15 < grid.lat[0] < 40
    assert grid.lat[4] == pytest.approx(-90)
    assert grid == expected_grid(grid.lon, grid.lat)


def test_nodes_are_points_without_edges():
    ds = mesh_dataset(location="node")
    found = horizontal_grid(ds)
    assert found.grid == PointGrid(NODE_LON, NODE_LAT)
    assert found.dims == ("node",)
    assert "face_nodes" in found.coords
    with pytest.raises(ValueError, match=r"target.*without bounds"):
        conservative_weights(HealpixGrid(1), found.grid)


def test_a_mesh_without_data_is_its_faces():
    assert horizontal_grid(mesh_dataset().drop_vars("t")).grid == expected_grid()


def test_radians_are_read():
    ds = mesh_dataset()
    for name in ("node_x", "node_y"):
        attrs = {**ds[name].attrs, "units": "radian"}
        ds[name] = ("node", np.deg2rad(ds[name].values).astype("f4"), attrs)
    grid = horizontal_grid(ds).grid
    np.testing.assert_allclose(grid.lat_bounds, expected_grid().lat_bounds, atol=1e-5)
    assert grid.lat_bounds.max() == 90.0


def test_a_variable_without_its_mesh_is_on_points():
    found = horizontal_grid(mesh_dataset()["t"])
    assert found.grid == PointGrid(FACE_LON, FACE_LAT)


def test_data_on_edges_are_refused_with_the_remedy():
    ds = mesh_dataset()
    ds["flow"] = ("edge", np.zeros(8), {"mesh": "mesh", "location": "edge"})
    with pytest.raises(ValueError, match=r"one part of one mesh, .*ds.drop_vars\(\['flow'\]\)"):
        horizontal_grid(ds)
    with pytest.raises(ValueError, match=r"'face' or 'node', got 'edge' for \['flow'\]; take the"):
        horizontal_grid(ds.drop_vars("t"))


def test_nodes_that_are_not_there_are_refused():
    ds = mesh_dataset(start=1, fill=-999)
    del ds["face_nodes"].attrs["start_index"]
    with pytest.raises(ValueError, match="numbers of nodes from 0 to 4, got 4 others, such as 5;"):
        horizontal_grid(ds)
    with pytest.raises(ValueError, match="faces of mesh 'mesh' make no grid: face_node_connectiv"):
        horizontal_grid(mesh_dataset().drop_vars("face_nodes"))
    with pytest.raises(ValueError, match=r"node_coordinates must name a longitude.*\['node_x'\] a"):
        horizontal_grid(mesh_dataset().drop_vars("node_y"))


# --- CF bounds of cells with corners


def corners_dataset(units="radian", factor=np.pi / 180):
    grid = expected_grid()
    ds = xr.Dataset(
        {
            "t": ("cell", np.zeros(5)),
            "clon_bnds": (("cell", "nv"), grid.lon_bounds * factor),
            "clat_bnds": (("nv", "cell"), grid.lat_bounds.T * factor),
        },
        {
            "clon": ("cell", grid.lon * factor, {"units": units, "bounds": "clon_bnds"}),
            "clat": ("cell", grid.lat * factor, {"units": units, "bounds": "clat_bnds"}),
        },
    )
    for name in ("clon", "clat"):
        ds[name].attrs["standard_name"] = {"clon": "longitude", "clat": "latitude"}[name]
    return ds


@pytest.mark.parametrize(("units", "factor"), [("radian", np.pi / 180), ("degrees", 1.0)])
def test_bounds_of_points_are_corners(units, factor):
    found = horizontal_grid(corners_dataset(units, factor))
    assert found.coords == ("clat", "clon", "clat_bnds", "clon_bnds")
    np.testing.assert_allclose(found.grid.lon_bounds, expected_grid().lon_bounds, atol=1e-12)
    np.testing.assert_allclose(found.grid.areas, expected_grid().areas, rtol=1e-12)


def test_single_precision_corners_at_a_pole_are_at_the_pole():
    ds = corners_dataset()
    # the single precision of a quarter turn lies beyond it
    ds = ds.assign(clat_bnds=ds["clat_bnds"].astype("f4"), clon_bnds=ds["clon_bnds"].astype("f4"))
    assert horizontal_grid(ds).grid.lat_bounds.max() == 90.0


def test_two_bounds_a_point_are_no_corners():
    ds = corners_dataset().isel(nv=[0, 1])
    assert horizontal_grid(ds).grid == horizontal_grid(ds.drop_vars(["clon_bnds"])).grid
    assert not horizontal_grid(ds).grid.has_bounds


def test_corners_in_other_units_than_said_are_refused():
    ds = corners_dataset("degrees", 1.0)
    ds["clon_bnds"], ds["clat_bnds"] = ds["clon_bnds"] / 57.3, ds["clat_bnds"] / 57.3
    with pytest.raises(ValueError, match="'clat' and 'clon' make no grid: every cell must be near"):
        horizontal_grid(ds)


# --- real files


def test_real_meshes_are_read(test_data: Path):
    folder = test_data / "other_grids"
    with xr.open_dataset(folder / "lfric_surface_mean.nc", decode_times=False) as ds:
        lfric = horizontal_grid(ds)
        assert set(lfric.coords) == {
            name
            for name in ds.variables
            if name.startswith("Mesh2d") and name.split("_")[-1] != "links"
        } - {"Mesh2d_half_levels_face_edges"}
    assert lfric.grid.shape == (13824,)
    assert lfric.grid.has_bounds
    with xr.open_dataset(folder / "triangular_grid_ICON.nc", decode_times=False) as ds:
        icon = horizontal_grid(ds)
        assert not horizontal_grid(ds["S"]).grid.has_bounds
    assert icon.grid.has_bounds
    assert icon.coords == ("clat", "clon", "clat_vertices", "clon_vertices")
    for grid in (lfric.grid, icon.grid):
        assert grid.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)


def test_real_files_without_a_grid_say_so(test_data: Path):
    with (
        xr.open_dataset(test_data / "other_grids" / "MPAS.nc") as ds,
        pytest.raises(ValueError, match="no latitude and no longitude was found"),
    ):
        horizontal_grid(ds)


# --- regridding of labelled fields on meshes


def test_fields_on_faces_are_averaged_and_what_described_the_mesh_goes():
    ds = mesh_dataset()
    ds["t"][:] = np.arange(5.0)
    # a second connectivity along the faces is no field
    ds["face_edges"] = (("face", "three"), np.zeros((5, 3), int), {"cf_role": "face_edge"})
    ds["names"] = ("time", [1.0, 2.0])
    result = to_healpix(ds, 2)
    assert set(result.data_vars) == {"t", "names"}
    assert set(result.coords) == {"crs", "cell_ids", "healpix_index"}
    assert not {"mesh", "location"} & set(result["t"].attrs)
    # five cells only: every target is finer, and the field is no flux
    assert "inverse_distance" in result["t"].attrs["cell_methods"]
    mean = to_healpix(ds, 2, method="conservative")["t"]
    areas = horizontal_grid(ds).grid.areas
    np.testing.assert_allclose(mean.mean("cells"), (areas * np.arange(5.0)).sum() / (4 * np.pi))


def test_fluxes_on_faces_keep_their_integral_by_default():
    ds = mesh_dataset()
    ds["t"].attrs["standard_name"] = "precipitation_flux"
    assert "conservative" in to_healpix(ds, 2)["t"].attrs["cell_methods"]
    assert "conservative" in to_healpix(ds, 0)["t"].attrs["cell_methods"]


def test_classes_on_faces_go_by_area():
    ds = mesh_dataset()
    ds["t"] = ds["t"].astype("u1").assign_attrs(flag_values=[0, 1], flag_meanings="sea land")
    ds["t"][:, 4] = 1
    result = to_healpix(ds, 1)["t"]
    lat = HealpixGrid(1).centre_lonlat[1]
    np.testing.assert_array_equal(result[0, np.abs(lat) > 40], (lat < 0)[np.abs(lat) > 40])


def test_a_regional_mesh_leaves_the_rest_missing():
    ds = mesh_dataset().isel(face=[0, 1])
    result = to_healpix(ds, 3, method="conservative")["t"]
    part = horizontal_grid(ds).grid.areas.sum() / (4 * np.pi)
    assert np.isfinite(result).mean() == pytest.approx(part, abs=0.02)
    own = to_healpix(ds, 3, method="conservative", extent="source")["t"]
    np.testing.assert_array_equal(own, result.values[:, own["cell_ids"]])
    assert np.isfinite(own).all()


@pytest.mark.parametrize("centres", [True, False])
def test_an_array_of_a_mesh_is_on_the_centres_of_its_faces(centres):
    ds = mesh_dataset(centres=centres)
    grid = horizontal_grid(ds).grid
    for given in (ds, ds.set_coords("mesh")):
        alone = horizontal_grid(selected(given, "t"))
        assert alone.grid == PointGrid(grid.lon, grid.lat)
        assert alone.dims == ("face",)


def test_an_array_alone_has_lost_its_mesh_and_says_so():
    ds = mesh_dataset()
    with pytest.raises(ValueError, match=r"a DataArray loses them"):
        to_healpix(ds["t"], 2, method="conservative")


def test_a_field_goes_onto_the_faces_of_another_dataset():
    mesh = horizontal_grid(mesh_dataset()).grid
    lon, lat = np.arange(0, 360, 10.0), np.arange(-85, 90, 10.0)
    height = np.broadcast_to(np.sin(np.deg2rad(lat))[:, None], (18, 36))
    source = xr.Dataset({"z": (("lat", "lon"), height)}, {"lat": lat, "lon": lon})
    result = regrid(source, mesh, method="conservative")
    assert horizontal_grid(result).grid == mesh
    areas = horizontal_grid(source).grid.areas
    kept = (result["z"].values * mesh.areas).sum()
    assert kept == pytest.approx((height.ravel() * areas).sum(), abs=1e-6)
