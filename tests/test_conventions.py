"""Grids read from labels of every convention, and the one form written."""

import warnings

import cf_xarray  # noqa: F401 - registers ds.cf
import numpy as np
import pyproj
import pytest
import xarray as xr
import xdggs
from hypothesis import given
from hypothesis import strategies as st

from xsphere.conventions import (
    INVALID,
    NOT_COMPUTED,
    GuessedGridWarning,
    classes_of,
    describe_healpix,
    healpix_coords,
    horizontal_grid,
    mask_attributes,
    without_dggs,
)
from xsphere.conventions.angle_units import angle_unit
from xsphere.grids import HealpixGrid, LatLonGrid, PointGrid

LAT = np.array([67.5, 22.5, -22.5, -67.5])
LON = np.arange(0.0, 360.0, 60.0)


def lat_lon_dataset(lat="lat", lon="lon", lat_attrs=None, lon_attrs=None):
    coords = {lat: (lat, LAT, lat_attrs or {}), lon: (lon, LON, lon_attrs or {})}
    return xr.Dataset({"t": (("time", lon, lat), np.zeros((2, 6, 4)))}, coords)


def healpix_dataset(level=1, ids=None, dim="cells"):
    n_cells = 12 * 4**level if ids is None else len(ids)
    return xr.Dataset(
        {
            "t": (("time", dim), np.arange(2.0 * n_cells).reshape(2, n_cells)),
            "global_mean": ("time", [1.0, 2.0]),
        }
    )


# --- latitude and longitude


@pytest.mark.parametrize(
    ("lat", "lon", "lat_attrs", "lon_attrs"),
    [
        ("a", "b", {"standard_name": "latitude"}, {"standard_name": "longitude"}),
        ("a", "b", {"units": "degrees_north"}, {"units": "degrees_east"}),
        ("a", "b", {"units": "degree_N"}, {"units": "degreeE"}),
        ("a", "b", {"units": "degrees north"}, {"units": "degrees east"}),
        ("a", "b", {"axis": "Y"}, {"axis": "X"}),
        ("a", "b", {"axis": "Y", "units": "degrees"}, {"axis": "X", "units": "degrees"}),
        ("lat", "lon", {}, {}),
        ("Latitude", "LONGITUDE", {}, {}),
        ("nav_lat", "nav_lon", {}, {}),
        ("clat", "clon", {"units": "degree"}, {"units": "degree"}),
        ("y", "x", {}, {}),
    ],
)
def test_latitude_and_longitude_are_found_by_attributes_and_by_name(lat, lon, lat_attrs, lon_attrs):
    ds = lat_lon_dataset(lat, lon, lat_attrs, lon_attrs)
    for obj in (ds, ds["t"]):
        found = horizontal_grid(obj)
        assert found.grid == LatLonGrid(LON, LAT)
        assert found.dims == (lat, lon)
        assert found.coords == (lat, lon)


def test_a_standard_name_is_stronger_than_a_name():
    ds = lat_lon_dataset("a", "lon", {"standard_name": "latitude"})
    ds = ds.assign_coords(lat=("other", [1.0, 2.0]))
    assert horizontal_grid(ds).dims == ("a", "lon")


def test_a_rotated_pole_is_not_taken_for_latitude_and_longitude():
    ds = lat_lon_dataset(
        "rlat", "rlon", {"axis": "Y", "units": "degrees"}, {"axis": "X", "units": "degrees"}
    )
    with pytest.raises(ValueError, match="no latitude and no longitude was found"):
        horizontal_grid(ds)


@pytest.mark.parametrize(
    "attrs", [{"units": "m"}, {"standard_name": "projection_x_coordinate", "units": "degrees"}]
)
def test_projected_coordinates_are_not_taken_for_longitude(attrs):
    ds = lat_lon_dataset("lat", "x", {}, attrs)
    with pytest.raises(ValueError, match="no longitude was found"):
        horizontal_grid(ds)


def test_counted_rows_are_not_taken_for_degrees():
    ds = lat_lon_dataset("y", "x").assign_coords(y=np.arange(4), x=np.arange(6))
    with pytest.raises(ValueError, match="no latitude and no longitude"):
        horizontal_grid(ds)


def test_bounds_are_used():
    edges = np.array([[90.0, 30.0], [30.0, 0.0], [0.0, -30.0], [-30.0, -90.0]])
    ds = lat_lon_dataset(lat_attrs={"bounds": "lat_bnds"}).assign_coords(
        lat_bnds=(("lat", "nv"), edges)
    )
    found = horizontal_grid(ds)
    assert found.coords == ("lat", "lon", "lat_bnds")
    np.testing.assert_array_equal(found.grid.lat_bounds, np.sort(edges, -1))
    # xarray moves the attribute to the encoding with decode_coords="all"
    ds["lat"].encoding["bounds"] = ds["lat"].attrs.pop("bounds")
    assert horizontal_grid(ds).grid == found.grid


def test_bounds_are_no_candidates_themselves():
    attrs = {"units": "degrees_north", "bounds": "corners"}
    ds = xr.Dataset(
        coords={
            "clat": ("cell", [1.0, 2.0], attrs),
            "clon": ("cell", [3.0, 4.0], {"units": "degrees_east"}),
            "corners": (("cell", "nv"), np.zeros((2, 3)), {"units": "degrees_north"}),
        }
    )
    found = horizontal_grid(ds)
    assert found.grid == PointGrid([3.0, 4.0], [1.0, 2.0])
    assert found.coords == ("clat", "clon", "corners")


def test_bounds_that_a_selection_has_lost_do_not_matter():
    ds = lat_lon_dataset(lat_attrs={"bounds": "lat_bnds"})
    assert horizontal_grid(ds).grid == LatLonGrid(LON, LAT)


def test_bounds_have_the_units_of_their_coordinate():
    attrs = {"units": "radian", "standard_name": "latitude", "bounds": "lat_bnds"}
    edges = np.deg2rad([[90.0, 45.0], [45.0, 0.0], [0.0, -45.0], [-45.0, -90.0]])
    ds = lat_lon_dataset(lat_attrs=attrs)
    ds = ds.assign_coords(lat=("lat", np.deg2rad(LAT), attrs), lat_bnds=(("lat", "nv"), edges))
    grid = horizontal_grid(ds).grid
    np.testing.assert_allclose(grid.lat, LAT, atol=1e-12)
    np.testing.assert_allclose(grid.lat_bounds[0], [45.0, 90.0], atol=1e-12)


def test_longitudes_that_jump_by_a_turn_are_one_sequence():
    ds = lat_lon_dataset().assign_coords(lon=(LON + 180) % 360 - 180)
    ds = ds.isel(lon=[0, 1, 2, 3, 4, 5])
    assert (np.diff(ds.lon) < 0).any()
    np.testing.assert_array_equal(horizontal_grid(ds).grid.lon, LON)


def test_a_cyclic_column_is_kept():
    lon = np.append(LON, 360.0)
    ds = xr.Dataset({"t": (("lat", "lon"), np.zeros((4, 7)))}, {"lat": LAT, "lon": lon})
    assert horizontal_grid(ds).grid.has_cyclic_column


def test_axes_of_one_dimension_are_points():
    ds = xr.Dataset(
        {"t": (("time", "station"), np.zeros((2, 3)))},
        {"lat": ("station", [1.0, 2.0, 3.0]), "lon": ("station", [10.0, -20.0, 790.0])},
    )
    found = horizontal_grid(ds)
    assert found.grid == PointGrid([10.0, -20.0, 790.0], [1.0, 2.0, 3.0])
    assert found.dims == ("station",)


def test_a_pole_in_single_precision_radians_is_a_pole():
    lat = np.array([-np.pi / 2, 0.0, np.pi / 2], np.float32)
    ds = xr.Dataset(
        coords={
            "clat": ("cell", lat, {"units": "radian"}),
            "clon": ("cell", np.zeros(3, np.float32), {"units": "radian"}),
        }
    )
    np.testing.assert_array_equal(horizontal_grid(ds).grid.lat, [-90.0, 0.0, 90.0])


def test_data_variables_serve_where_no_coordinate_does():
    ds = xr.Dataset(
        {
            "t": ("ncol", np.zeros(3)),
            "lat": ("ncol", [1.0, 2.0, 3.0], {"units": "degrees_north"}),
            "lon": ("ncol", [1.0, 2.0, 3.0], {"units": "degrees_east"}),
        }
    )
    assert isinstance(horizontal_grid(ds).grid, PointGrid)


def test_a_stacked_grid_is_points():
    stacked = lat_lon_dataset().stack(points=("lat", "lon"))
    found = horizontal_grid(stacked)
    assert found.dims == ("points",)
    assert found.grid.n_cells == 24


def test_two_candidates_by_one_rule_are_refused():
    ds = lat_lon_dataset().assign_coords(latitude=("lat", LAT))
    with pytest.raises(ValueError, match=r"one latitude, got the candidates \['lat', 'latitude'\]"):
        horizontal_grid(ds)


def test_curvilinear_grids_are_refused_with_the_remedy():
    lon, lat = np.meshgrid(LON, LAT)
    ds = xr.Dataset(
        {"t": (("j", "i"), np.zeros((4, 6)))},
        {"lat": (("j", "i"), lat), "lon": (("j", "i"), lon)},
    )
    with pytest.raises(ValueError, match=r"curvilinear.*obj\.stack\(points=\('j', 'i'\)\)"):
        horizontal_grid(ds)
    assert horizontal_grid(ds.stack(points=("j", "i"))).grid.n_cells == 24


def test_coordinates_that_make_no_grid_are_named():
    ds = lat_lon_dataset().isel(lat=[0, 2, 1, 3])
    with pytest.raises(ValueError, match="'lat' and 'lon' make no grid: lat must increase or"):
        horizontal_grid(ds)


def test_an_object_without_any_grid_is_refused():
    with pytest.raises(ValueError, match=r"expected HEALPix metadata, or latitude.*\{'x': 2\}"):
        horizontal_grid(xr.DataArray([1, 2], dims="x"))


def test_only_xarray_objects_have_a_grid():
    with pytest.raises(TypeError, match="Dataset or DataArray, got ndarray"):
        horizontal_grid(np.zeros(3))


def test_data_are_not_read():
    class Unreadable(xr.backends.BackendArray):
        shape, dtype = (4, 6), np.dtype(float)

        def __getitem__(self, key):
            raise AssertionError("data were read")

    lazy = xr.core.indexing.LazilyIndexedArray(Unreadable())
    ds = xr.Dataset({"t": (("lat", "lon"), lazy)}, {"lat": LAT, "lon": LON})
    assert horizontal_grid(ds).grid.shape == (4, 6)


# --- HEALPix


REGION = np.array([40, 3, 17])


def with_crs(ds, attrs, **coords):
    return ds.assign_coords(crs=((), 0, attrs), **coords)


CF = {"grid_mapping_name": "healpix", "refinement_level": 1}


@pytest.mark.parametrize(
    ("ds", "grid", "dim"),
    [
        (with_crs(healpix_dataset(), CF | {"indexing_scheme": "nested"}), HealpixGrid(1), "cells"),
        (
            with_crs(healpix_dataset(dim="grid"), CF | {"indexing_scheme": "ring"}),
            HealpixGrid(1, "ring"),
            "grid",
        ),
        (
            with_crs(
                healpix_dataset(dim="cell"),
                {"grid_mapping_name": "healpix", "healpix_nside": 2, "healpix_order": "nest"},
            ),
            HealpixGrid(1),
            "cell",
        ),
        (
            with_crs(
                healpix_dataset(ids=REGION, dim="cell"),
                {"grid_mapping_name": "healpix", "healpix_nside": 2, "healpix_order": "ring"},
                cell=REGION,
            ),
            HealpixGrid(1, "ring", REGION),
            "cell",
        ),
        (
            with_crs(
                healpix_dataset(ids=REGION),
                CF | {"indexing_scheme": "nested", "earth_radius": 6371000.0},
                i=("cells", REGION.astype(float), {"standard_name": "healpix_index"}),
            ),
            HealpixGrid(1, "nested", REGION),
            "cells",
        ),
        (
            healpix_dataset(ids=REGION).assign_coords(
                cell_ids=(
                    "cells",
                    REGION.astype("u8"),
                    {"grid_name": "healpix", "nside": 2, "nest": False},
                )
            ),
            HealpixGrid(1, "ring", REGION),
            "cells",
        ),
        (
            healpix_dataset()
            .assign_coords(cell_ids=("cells", np.arange(48)))
            .assign_attrs(
                dggs={
                    "name": "healpix",
                    "refinement_level": 1,
                    "indexing_scheme": "nested",
                    "coordinate": "cell_ids",
                }
            ),
            HealpixGrid(1),
            "cells",
        ),
        (
            healpix_dataset(dim="values").assign(
                crs=("crs", [0], {"healpix_nside": np.int32(2), "healpix_order": "nested"})
            ),
            HealpixGrid(1),
            "values",
        ),
    ],
    ids=["cf", "ring", "easygems", "limited-area", "cf-index", "xdggs", "dggs", "length-1-crs"],
)
def test_healpix_is_read_from_every_convention(ds, grid, dim):
    found = horizontal_grid(ds)
    assert found.grid == grid
    assert found.dims == (dim,)


def test_healpix_metadata_come_before_latitude_and_longitude():
    grid = HealpixGrid(1)
    lon, lat = grid.centre_lonlat
    ds = describe_healpix(healpix_dataset(), grid)
    ds = ds.assign_coords(lat=("cells", lat), lon=("cells", lon))
    assert horizontal_grid(ds).grid == grid


def test_healpix_is_guessed_from_a_size_with_a_warning():
    ds = healpix_dataset(level=2, dim="value")
    with pytest.warns(GuessedGridWarning, match="'value' of 192 .* level 2, nested"):
        assert horizontal_grid(ds).grid == HealpixGrid(2)


@pytest.mark.parametrize("dim", ["x", "cells"])
def test_healpix_is_not_guessed_from_other_names_or_sizes(dim):
    n_cells = 48 if dim == "x" else 47
    with pytest.raises(ValueError, match="expected HEALPix metadata"):
        horizontal_grid(xr.DataArray(np.zeros(n_cells), dims=dim))


@pytest.mark.parametrize("scheme", ["nuniq", "zuniq"])
def test_cells_of_many_levels_are_refused(scheme):
    ds = with_crs(healpix_dataset(), {"grid_mapping_name": "healpix", "indexing_scheme": scheme})
    with pytest.raises(ValueError, match=f"'crs' says indexing_scheme '{scheme}'"):
        horizontal_grid(ds)


@pytest.mark.parametrize(
    "figure",
    [
        {"reference_ellipsoid_name": "WGS 84"},
        {"inverse_flattening": 298.257223563},
        {"semi_major_axis": 6378137.0, "semi_minor_axis": 6356752.3},
        {"ellipsoid": "WGS84"},
        {"ellipsoid": {"semimajor_axis": 6378137.0, "inverse_flattening": 298.257223563}},
        {"ellipsoid": {"name": "WGS84", "semimajor_axis": 6378137.0, "flattening": 0.0033528106}},
        {"crs_wkt": pyproj.CRS.from_epsg(4326).to_wkt()},
    ],
    ids=str,
)
def test_an_ellipsoid_is_read(figure):
    ds = with_crs(healpix_dataset(), CF | {"indexing_scheme": "nested"} | figure)
    grid = horizontal_grid(ds).grid
    assert grid == HealpixGrid(1, ellipsoid="WGS84") != HealpixGrid(1)
    assert horizontal_grid(ds["t"]).grid == grid


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"reference_ellipsoid_name": "potato"}, "expected the name of an ellipsoid"),
        ({"inverse_flattening": 3.0}, "inverse_flattening from 100"),
        ({"inverse_flattening": "flat"}, "the ellipsoid that 'crs' states is none"),
        ({"ellipsoid": "WGS84", "inverse_flattening": 299.0}, "'crs' contradict each other"),
        ({"ellipsoid": "WGS84", "earth_radius": 6371e3}, None),
        ({"ellipsoid": "sphere", "inverse_flattening": 298.257}, "contradict each other"),
    ],
    ids=str,
)
def test_an_ellipsoid_that_is_none_is_refused(figure, message):
    ds = with_crs(healpix_dataset(), CF | {"indexing_scheme": "nested"} | figure)
    with pytest.raises(ValueError, match=message):
        horizontal_grid(ds)


def test_ellipsoids_that_contradict_each_other_are_refused():
    ds = describe_healpix(healpix_dataset(), HealpixGrid(1, ellipsoid="WGS84"))
    ds["cell_ids"].attrs["ellipsoid"] = "sphere"
    with pytest.raises(ValueError, match="expected one HEALPix ellipsoid"):
        horizontal_grid(ds)


@pytest.mark.parametrize(
    "figure",
    [
        {"ellipsoid": "sphere"},
        {"ellipsoid": {"radius": 6371000.0}},
        {"inverse_flattening": 0.0},
        {"semi_major_axis": 1.0, "semi_minor_axis": 1.0},
    ],
)
def test_a_sphere_by_any_name_is_accepted(figure):
    ds = with_crs(healpix_dataset(), CF | {"indexing_scheme": "nested"} | figure)
    assert horizontal_grid(ds).grid == HealpixGrid(1)


def test_metadata_that_contradict_each_other_are_refused():
    ds = describe_healpix(healpix_dataset(), HealpixGrid(1))
    ds["crs"].attrs["refinement_level"] = 2
    with pytest.raises(ValueError, match=r"contradict each other: .*'crs': 2"):
        horizontal_grid(ds)


def test_metadata_without_a_scheme_are_refused():
    with pytest.raises(ValueError, match="expected the HEALPix indexing_scheme"):
        horizontal_grid(with_crs(healpix_dataset(), CF))


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match=r"indexing_scheme must be one of .* got 'spiral'"):
        horizontal_grid(with_crs(healpix_dataset(), CF | {"indexing_scheme": "spiral"}))


def test_a_part_of_the_sphere_needs_its_ids():
    ds = with_crs(healpix_dataset(ids=REGION), CF | {"indexing_scheme": "nested"})
    with pytest.raises(ValueError, match="the 48 cells of HEALPix level 1"):
        horizontal_grid(ds)


def test_ids_must_be_whole_numbers():
    ds = with_crs(
        healpix_dataset(ids=REGION),
        CF | {"indexing_scheme": "nested"},
        cell_ids=("cells", REGION + 0.5),
    )
    with pytest.raises(ValueError, match="'cell_ids' must be integers, got float64"):
        horizontal_grid(ds)


def test_two_index_coordinates_are_refused():
    index = ("cells", np.arange(48), {"standard_name": "healpix_index"})
    ds = with_crs(healpix_dataset(), CF | {"indexing_scheme": "nested"}, i=index, j=index)
    with pytest.raises(ValueError, match=r"one coordinate of HEALPix cell ids, got \['i', 'j'\]"):
        horizontal_grid(ds)


# --- writing

GRIDS = [
    HealpixGrid(1),
    HealpixGrid(1, "ring"),
    HealpixGrid(2, "nested", [5, 100, 7]),
    HealpixGrid(1, ellipsoid="WGS84"),
    HealpixGrid(2, "ring", [5, 100, 7], "bessel"),
]


def test_attributes_written_are_those_of_every_convention():
    coords = healpix_coords(HealpixGrid(3, "ring"))
    assert coords["crs"].dtype.kind == "i"
    assert coords["crs"].attrs == {
        "grid_mapping_name": "healpix",
        "indexing_scheme": "ring",
        "refinement_level": 3,
    }
    assert coords["healpix_index"].attrs == {"standard_name": "healpix_index"}
    np.testing.assert_array_equal(coords["healpix_index"], coords["cell_ids"])
    assert coords["cell_ids"].attrs == {
        "grid_name": "healpix",
        "level": 3,
        "indexing_scheme": "ring",
    }
    assert coords["cell_ids"].dims == ("cells",)
    assert not coords.xindexes


def test_only_variables_along_the_cells_get_a_grid_mapping():
    ds = healpix_dataset()
    before = ds.copy(deep=True)
    described = describe_healpix(ds, HealpixGrid(1))
    assert described["t"].attrs["grid_mapping"] == "crs"
    assert "grid_mapping" not in described["global_mean"].attrs
    xr.testing.assert_identical(ds, before)
    assert "grid_mapping" not in ds["t"].attrs


def test_a_grid_mapping_in_the_encoding_is_replaced(tmp_path):
    ds = healpix_dataset()
    ds["t"].encoding["grid_mapping"] = "spatial_ref"
    described = describe_healpix(ds, HealpixGrid(1))
    described.to_netcdf(tmp_path / "x.nc")
    assert ds["t"].encoding["grid_mapping"] == "spatial_ref"


def test_describing_the_wrong_number_of_cells_is_refused():
    with pytest.raises(ValueError, match="'cells' of 192 cells for HealpixGrid"):
        describe_healpix(healpix_dataset(), HealpixGrid(2))


@pytest.mark.parametrize("decode_coords", [True, "all"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_what_is_written_to_zarr_is_read_back(tmp_path, grid, chunked, decode_coords):
    ds = describe_healpix(healpix_dataset(grid.level, grid.cell_ids), grid, dggs=True)
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    read = xr.open_dataset(
        tmp_path / "x.zarr",
        engine="zarr",
        consolidated=False,
        decode_coords=decode_coords,
        chunks={} if chunked else None,
    )
    assert read.attrs["dggs"]["compression"] == "none"
    for obj in (read, read["t"]):
        assert horizontal_grid(obj).grid == grid
    # and can be written again
    describe_healpix(read, grid).drop_encoding().to_zarr(tmp_path / "y.zarr", consolidated=False)


@pytest.mark.parametrize("decode_coords", [True, "all"])
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_what_is_written_to_netcdf_is_read_back(tmp_path, grid, decode_coords):
    ds = describe_healpix(healpix_dataset(grid.level, grid.cell_ids), grid)
    ds.to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc", decode_coords=decode_coords) as read:
        assert horizontal_grid(read).grid == grid
        assert horizontal_grid(read["t"]).grid == grid
        assert read["crs"].ndim == 0
        describe_healpix(read, grid).to_netcdf(tmp_path / "y.nc")
    with xr.open_dataset(tmp_path / "y.nc", decode_coords=False) as raw:
        assert raw["t"].attrs["grid_mapping"] == "crs"
        assert "grid_mapping" not in raw["global_mean"].attrs


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_xdggs_reads_what_is_written_and_is_read(tmp_path, grid):
    ds = describe_healpix(healpix_dataset(grid.level, grid.cell_ids), grid)
    ds.to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc") as read:
        decoded = xdggs.decode(read)
        lon, lat = grid.centre_lonlat
        np.testing.assert_allclose(decoded.dggs.cell_centers().latitude, lat, atol=1e-9)
        turn = (decoded.dggs.cell_centers().longitude.values - lon + 180) % 360 - 180
        np.testing.assert_allclose(turn, 0, atol=1e-9)
        assert horizontal_grid(decoded).grid == grid
        assert horizontal_grid(decoded["t"]).grid == grid
        # without a word of CF: the index of xdggs alone
        assert horizontal_grid(decoded.drop_vars("crs")).grid == grid


@pytest.mark.parametrize("convention", ["xdggs", "cf", "zarr"])
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_xdggs_reads_what_is_written_by_every_convention(tmp_path, grid, convention):
    ds = describe_healpix(healpix_dataset(grid.level, grid.cell_ids), grid, dggs=True)
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    if convention == "cf" and grid.figure is not None:
        pytest.skip("xdggs (0.6) refuses the attributes that CF has for an ellipsoid")
    name = None if convention == "cf" else "cell_ids"
    read = xr.open_zarr(tmp_path / "x.zarr", consolidated=False)
    decoded = xdggs.decode(read, name=name, convention=convention)
    info = decoded.dggs.grid_info
    assert (info.level, info.indexing_scheme) == (grid.level, grid.indexing_scheme)
    np.testing.assert_array_equal(decoded.dggs.coord, grid.ids)
    assert horizontal_grid(decoded).grid == grid


def test_what_xdggs_writes_is_read():
    grid = HealpixGrid(2, "nested", [5, 100, 7])
    ds = xdggs.decode(describe_healpix(healpix_dataset(2, grid.cell_ids), grid))
    plain = ds.drop_vars(["crs", "healpix_index"])
    plain["t"].attrs.pop("grid_mapping")
    for convention in ("xdggs", "cf", "zarr"):
        written = plain.dggs.encode(convention)
        assert horizontal_grid(written).grid == grid, convention


def test_conventions_are_declared_once():
    grid = HealpixGrid(1)
    ds = describe_healpix(healpix_dataset(), grid, dggs=True)
    ds.attrs["zarr_conventions"] = [{"uuid": "other"}, *ds.attrs["zarr_conventions"]]
    again = describe_healpix(ds, grid, dggs=True)
    assert len(again.attrs["zarr_conventions"]) == 2
    assert without_dggs(again.attrs)["zarr_conventions"] == [{"uuid": "other"}]
    assert "dggs" not in without_dggs(again.attrs)


def test_cf_readers_find_the_grid_mapping():
    ds = describe_healpix(healpix_dataset(), HealpixGrid(1))
    assert ds["t"].cf["grid_mapping"].attrs["refinement_level"] == 1


def test_easygems_reads_what_is_written():
    inspection = pytest.importorskip("easygems.healpix.inspection")
    ds = describe_healpix(healpix_dataset(2), HealpixGrid(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert inspection.get_nside(ds["t"]) == 4
        assert inspection.is_nested(ds["t"])
        assert inspection.get_index_name(ds) == "healpix_index"


# --- masks

names = st.lists(st.text("aZ_9.+@-", min_size=1, max_size=9), min_size=1, max_size=9, unique=True)


@given(names)
def test_classes_are_read_back(classes):
    mask = xr.DataArray(np.zeros(2, np.uint8), attrs=mask_attributes(classes))
    assert mask.attrs["flag_values"].dtype == np.uint8
    assert classes_of(mask) == {
        0: "background",
        **dict(enumerate(classes, 1)),
        INVALID: "invalid_input",
        NOT_COMPUTED: "not_computed",
    }


@pytest.mark.parametrize("engine", ["zarr", "netcdf4"])
def test_classes_survive_a_file(tmp_path, engine):
    values = np.array([0, 1, 254, 255], np.uint8)
    mask = xr.DataArray(values, dims="cells", name="m", attrs=mask_attributes(["storm"]))
    path = tmp_path / "mask"
    if engine == "zarr":
        mask.to_dataset().to_zarr(path, consolidated=False, encoding={"m": {"fill_value": 255}})
        read = xr.open_dataset(path, engine="zarr", consolidated=False)["m"].load()
    else:
        mask.to_netcdf(path)
        read = xr.open_dataarray(path).load()
        read.close()
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)
    assert classes_of(read) == classes_of(mask)


@pytest.mark.parametrize(
    "classes", [["two words"], ["a", "a"], ["background"], ["not_computed"], [""], ["a,b"]]
)
def test_class_names_must_be_different_single_words(classes):
    with pytest.raises(ValueError, match="classes must be different single words"):
        mask_attributes(classes)


def test_a_single_string_is_no_list_of_classes():
    with pytest.raises(TypeError, match="got the string 'storm'"):
        mask_attributes("storm")


def test_there_is_room_for_253_classes():
    many = [f"c{i}" for i in range(253)]
    assert len(mask_attributes(many)["flag_values"]) == 256
    with pytest.raises(ValueError, match="at most 253, got 254"):
        mask_attributes([*many, "last"])


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({}, r"\['flag_values', 'flag_meanings'\] is missing"),
        ({"flag_values": [0, 1], "flag_meanings": "a"}, "got 1 for 2"),
    ],
)
def test_flags_that_do_not_fit_are_refused(attrs, message):
    with pytest.raises(ValueError, match=message):
        classes_of(xr.DataArray(np.zeros(2, np.uint8), attrs=attrs))


# --- real files


@pytest.mark.parametrize(
    ("file", "shape", "dims"),
    [
        ("fields/gfs_2p5deg_2011-10-11T00.nc", (73, 144), ("lat", "lon")),
        ("fields/era5_tl31_19590102T00.nc", (32, 64), ("latitude", "longitude")),
        ("fields/cfs_t62_flux_2006-04-01.nc", (94, 192), ("lat", "lon")),
        ("fields/ecmwf_0p4deg_msl_2022-08-17_19.nc", (451, 900), ("latitude", "longitude")),
        ("fields/ecmwf_0p4deg_uvt850_2022-08-17_19.nc", (451, 900), ("lat", "lon")),
        ("fields/iris_tcco2_6hourly_2006-01.nc", (161, 320), ("latitude", "longitude")),
        ("fields/t_in_Celsius_1.nc", (96, 192), ("lat", "lon")),
        ("other_grids/camse_unstructured_grid.nc", (48602,), ("ncol",)),
        ("other_grids/triangular_grid_ICON.nc", (20480,), ("ncells",)),
    ],
)
def test_grids_of_real_files_are_recognised(test_data, file, shape, dims):
    with xr.open_dataset(test_data / file, decode_times=False) as ds:
        found = horizontal_grid(ds)
    assert found.grid.shape == shape
    assert found.dims == dims
    if isinstance(found.grid, LatLonGrid):
        assert found.grid.periodic
        assert found.grid.includes_poles == (True, True)
    lon, lat = found.grid.centre_lonlat
    assert np.abs(lat).max() > 80
    assert np.ptp(lon % 360) > 350


# --- units of angle, directions, projections

SPELLINGS = {
    ("latitude", 1.0): "degrees_north degree_north degree_N degrees_N degreeN degreesN degN",
    ("latitude", -1.0): "degrees_south degree_south degree_S degrees_S degreeS degreesS degS",
    ("longitude", 1.0): "degrees_east degree_east degree_E degrees_E degreeE degreesE degE",
    ("longitude", -1.0): "degrees_west degree_west degree_W degrees_W degreeW degreesW degW",
    (None, 1.0): "degrees degree deg degs DEGREES arc_degree degree_true °",
    (None, 180 / np.pi): "radian radians rad rads Radians",
    (None, 1 / 60): "arc_minute arcmin arcminutes",
    (None, 1 / 3600): "arc_second arcsec",
}


@pytest.mark.parametrize(("meant", "spellings"), SPELLINGS.items(), ids=str)
def test_units_of_angle_are_known_in_every_spelling(meant, spellings):
    for text in spellings.split():
        angle = angle_unit(text)
        assert (angle.axis, angle.degrees) == (meant[0], pytest.approx(meant[1])), text


@pytest.mark.parametrize("text", ["m", "km", "K", "1", "degC", "degree_Celsius", "radiance", "s"])
def test_other_units_are_no_angles(text):
    assert angle_unit(text) is None


def turned(values, way, unit):
    """Values in other units, towards another side."""
    return values * (1 if way in ("north", "east") else -1) * (np.pi / 180 if unit else 1)


@given(st.sampled_from(["north", "south"]), st.sampled_from(["east", "west"]), st.booleans())
def test_a_grid_is_the_same_in_whatever_units(north, east, radian):
    """Also with bounds, as points, and as the nodes of a mesh."""
    unit = "radians" if radian else "degrees"
    lat_attrs = {"units": f"{unit}_{north}", "bounds": "lat_bnds"}
    lon_attrs = {"units": f"{unit}_{east}"}
    edges = np.array([[90.0, 30.0], [30.0, 0.0], [0.0, -30.0], [-30.0, -90.0]])
    lat, lon = turned(LAT, north, radian), turned(LON, east, radian)
    ds = xr.Dataset(
        {"t": (("lat", "lon"), np.zeros((4, 6)))},
        {
            "lat": ("lat", lat, lat_attrs),
            "lon": ("lon", lon, lon_attrs),
            "lat_bnds": (("lat", "nv"), turned(edges, north, radian)),
        },
    )
    grid = horizontal_grid(ds).grid
    np.testing.assert_allclose(grid.lat, LAT, atol=1e-9)
    np.testing.assert_allclose(grid.lon, LON, atol=1e-9)
    np.testing.assert_allclose(grid.lat_bounds, np.sort(edges, -1), atol=1e-9)
    points = xr.Dataset(
        coords={"y": ("n", lat[:4], lat_attrs), "x": ("n", lon[:4], lon_attrs)}
    ).drop_attrs(deep=False)
    grid = horizontal_grid(points).grid
    np.testing.assert_allclose(grid.lat, LAT, atol=1e-9)
    np.testing.assert_allclose(grid.lon, LON[:4], atol=1e-9)
    curved = ds.drop_vars(["lat_bnds"]).stack(points=("lat", "lon")).reset_index("points")
    curved["lat"].attrs, curved["lon"].attrs = lat_attrs, lon_attrs
    lon_of_all, lat_of_all = horizontal_grid(curved).grid.centre_lonlat
    np.testing.assert_allclose(lat_of_all, np.repeat(LAT, 6), atol=1e-9)
    np.testing.assert_allclose(lon_of_all, np.tile(LON, 4), atol=1e-9)


def test_values_of_westward_longitudes_are_where_they_belong():
    west = xr.DataArray(
        np.array([[1.0, 2, 3, 4]] * 3),
        dims=("lat", "lon"),
        coords={
            "lat": [60.0, 0, -60],
            "lon": ("lon", [0.0, 90, 180, 270], {"units": "degrees_west"}),
        },
    )
    east = west.assign_coords(lon=[0.0, -90, -180, -270])
    np.testing.assert_array_equal(
        west.sphere.to_latlon(10.0).values, east.sphere.to_latlon(10.0).values
    )


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        (({"standard_name": "longitude"}, {}), "'lat' is longitude by standard_name 'longitude'"),
        (({"units": "degrees_east"}, {}), "'lat' is longitude by units 'degrees_east'"),
        (({"axis": "X"}, {"axis": "Y"}), "'lon' is latitude by axis 'Y' and longitude by its name"),
        (
            ({"standard_name": "latitude", "units": "m"}, {}),
            "'lat' has the units 'm', which are no",
        ),
        (
            ({"standard_name": "latitude", "units": "1"}, {}),
            "'lat' has the units '1', which are no",
        ),
    ],
    ids=str,
)
def test_attributes_that_contradict_each_other_are_refused(attrs, message):
    ds = lat_lon_dataset(lat_attrs=attrs[0], lon_attrs=attrs[1])
    if attrs[1] == {} and "latitude" not in attrs[0].values():
        ds["lon"].attrs["standard_name"] = "latitude"
    with pytest.raises(ValueError, match=message):
        horizontal_grid(ds)


def test_a_sphere_in_radians_that_nothing_says_is_refused():
    lat, lon = np.deg2rad(LAT), np.deg2rad(LON)
    ds = lat_lon_dataset().assign_coords(lat=lat, lon=lon)
    with pytest.raises(ValueError, match=r"have units of radians, .* as a whole sphere does in"):
        horizontal_grid(ds)
    ds["lat"].attrs["units"] = ds["lon"].attrs["units"] = "radian"
    np.testing.assert_allclose(horizontal_grid(ds).grid.lat, LAT)


def test_latitudes_as_text_are_refused_with_the_remedy():
    ds = lat_lon_dataset()
    ds = ds.assign_coords(lat=LAT.astype(str))
    with pytest.raises(ValueError, match=r"'lat' holds <U\d+, not numbers: .*astype\(float\)"):
        horizontal_grid(ds)


ROTATED = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
}
STEREO = {"grid_mapping_name": "polar_stereographic", "latitude_of_projection_origin": 90.0}
WKT = {"spatial_ref": pyproj.CRS.from_epsg(3413).to_wkt()}


@pytest.mark.parametrize("mapping", [ROTATED, STEREO, WKT], ids=["rotated", "stereo", "wkt"])
@pytest.mark.parametrize(
    ("names", "attrs"),
    [(("lat", "lon"), {}), (("y", "x"), {}), (("lat", "lon"), {"units": "degrees"})],
    ids=str,
)
@pytest.mark.parametrize("referred", [True, False])
def test_coordinates_of_a_projection_are_not_taken_for_degrees(mapping, names, attrs, referred):
    ds = lat_lon_dataset(*names, attrs, attrs).assign_coords(pole=((), 0, mapping))
    if referred:
        ds["t"].attrs["grid_mapping"] = "pole"
    for obj in (ds, ds["t"]):
        with pytest.raises(ValueError, match=r"grid mapping 'pole' .* whatever they are called"):
            horizontal_grid(obj)


def test_a_projection_whose_rows_are_said_to_be_parallels_is_refused():
    ds = lat_lon_dataset(lat_attrs={"standard_name": "latitude"}, lon_attrs={"units": "degreeE"})
    ds = ds.assign_coords(pole=((), 0, ROTATED))
    with pytest.raises(ValueError, match="expected one description of the grid"):
        horizontal_grid(ds)
    plate = {"grid_mapping_name": "latitude_longitude", "semi_major_axis": 6371229.0}
    assert horizontal_grid(ds.assign_coords(pole=((), 0, plate))).grid == LatLonGrid(LON, LAT)
    wkt = {"crs_wkt": pyproj.CRS.from_epsg(4326).to_wkt()}
    assert horizontal_grid(ds.assign_coords(pole=((), 0, wkt))).grid == LatLonGrid(LON, LAT)


def test_points_of_a_projection_are_where_its_cells_are():
    """What the message advises, against the corner of a domain of CORDEX."""
    x, y = np.linspace(-28.375, 18.155, 4), np.linspace(-23.375, 21.835, 3)
    crs = pyproj.CRS.from_cf(ROTATED)
    across = pyproj.Transformer.from_crs(crs, crs.source_crs, always_xy=True)
    lon, lat = across.transform(*np.meshgrid(x, y))
    ds = xr.Dataset({"t": (("y", "x"), np.zeros((3, 4)), {"grid_mapping": "pole"})})
    ds = ds.assign_coords(lon=(("y", "x"), lon), lat=(("y", "x"), lat), pole=((), 0, ROTATED))
    for name in ("lon", "lat"):
        ds[name].attrs["standard_name"] = {"lon": "longitude", "lat": "latitude"}[name]
    grid = horizontal_grid(ds.stack(points=("y", "x"))).grid
    assert (grid.lon[0], grid.lat[0]) == pytest.approx((-10.06, 21.99), abs=0.01)


@pytest.mark.parametrize("axis", ["lat", "lon"])
def test_rows_that_differ_by_rounding_are_refused(axis):
    ds = lat_lon_dataset()
    other = ds.assign_coords({axis: ds[axis] + 1e-6})
    joined = xr.merge([ds, other.rename(t="u")], join="outer", compat="no_conflicts")
    with pytest.raises(ValueError, match=rf"{axis} must not hold .* rounding.*join='override'"):
        horizontal_grid(joined)
    assert horizontal_grid(xr.merge([ds, other.rename(t="u")], join="override")).grid.n_cells == 24


def test_rows_that_repeat_are_refused_with_the_remedy():
    ds = lat_lon_dataset().isel(lat=[0, 1, 1, 2])
    with pytest.raises(ValueError, match=r"1 values more than once; .*drop_duplicates\('lat'\)"):
        horizontal_grid(ds)
    east = np.append(LON, 360.0)
    both = xr.Dataset({"t": (("lat", "lon"), np.zeros((4, 7)))}, {"lat": LAT, "lon": east})
    folded = both.assign_coords(lon=both.lon % 360)
    with pytest.raises(ValueError, match=r"lon must .* more than once; .*drop_duplicates\('lon'\)"):
        horizontal_grid(folded.sortby("lon"))
