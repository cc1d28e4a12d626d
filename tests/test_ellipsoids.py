"""HEALPix on an ellipsoid, against healpix-geo, xdggs and the integral that defines its areas."""

import healpix_geo
import numpy as np
import pytest
import xarray as xr
import xdggs
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import xsphere
from xsphere.conventions import describe_healpix, horizontal_grid, mask_attributes
from xsphere.graph import SphereGraph
from xsphere.grids import Ellipsoid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.grids.travel import pack, unpack
from xsphere.weights import regridding_weights

WGS84 = Ellipsoid.named("WGS84")
NAMES = ["WGS84", "GRS80", "bessel", "airy"]


def area_below(figure, lat):
    """Area between the equator and a parallel, over a constant, by quadrature."""
    flattening = 1 / figure.inverse_flattening
    squared = flattening * (2 - flattening)
    return quad(
        lambda x: np.cos(x) / (1 - squared * np.sin(x) ** 2) ** 2,
        0.0,
        np.deg2rad(lat),
        epsabs=1e-14,
    )[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lat", [1.0, 30.0, 45.0, 80.0])
def test_authalic_latitude_keeps_areas(name, lat):
    figure = Ellipsoid.named(name)
    share = area_below(figure, lat) / area_below(figure, 90.0)
    assert np.sin(np.deg2rad(figure.authalic(lat))) == pytest.approx(share, abs=1e-12)


@given(st.floats(-90, 90), st.floats(100, 1e6))
def test_latitudes_are_turned_and_turned_back(lat, inverse_flattening):
    figure = Ellipsoid(inverse_flattening=inverse_flattening)
    assert figure.geodetic(figure.authalic(lat)) == pytest.approx(lat, abs=1e-10)
    assert figure.authalic(90.0) == 90.0
    assert abs(figure.authalic(lat)) <= abs(lat)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["nested", "ring"])
def test_places_of_cells_are_those_of_healpix_geo(name, scheme):
    grid, other = HealpixGrid(4, scheme, ellipsoid=name), getattr(healpix_geo, scheme)
    ids = np.arange(grid.n_cells, dtype=np.uint64)
    for ours, theirs in (
        (grid.centre_lonlat, other.healpix_to_lonlat(ids, 4, ellipsoid=name)),
        (grid.corner_lonlat(), other.vertices(ids, 4, ellipsoid=name)),
    ):
        np.testing.assert_allclose(
            np.sort(ours[1], axis=-1), np.sort(theirs[1], axis=-1), atol=1e-9
        )
        if ours[0].ndim == 1:
            np.testing.assert_allclose((ours[0] - theirs[0] + 180) % 360 - 180, 0, atol=1e-9)
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(0, 360, 3000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 3000)))
    found = other.lonlat_to_healpix(lon, lat, 4, ellipsoid=name)
    np.testing.assert_array_equal(grid.cells_at(lon, lat), found)
    assert (grid.cells_at(lon, lat) != HealpixGrid(4, scheme).cells_at(lon, lat)).any()


def test_grids_are_equal_only_on_one_figure():
    ours = HealpixGrid(3, ellipsoid="WGS84")
    assert ours == HealpixGrid(3, ellipsoid="WGS 84") == HealpixGrid(3, ellipsoid=WGS84)
    assert len({ours, HealpixGrid(3), HealpixGrid(3, ellipsoid="bessel")}) == 3
    assert HealpixGrid(3, ellipsoid="sphere") == HealpixGrid(3)
    assert unpack(pack(ours)) == ours
    assert ours.at_level(1) == HealpixGrid(1, ellipsoid=WGS84)
    assert repr(ours) == "HealpixGrid(level=3, nested, WGS84)"


def test_what_is_no_ellipsoid_is_refused():
    with pytest.raises(TypeError, match="ellipsoid must be a name, such as 'WGS84'"):
        HealpixGrid(1, ellipsoid=6371.0)
    with pytest.raises(ValueError, match=r"the name of an ellipsoid, .* got 'potato'"):
        HealpixGrid(1, ellipsoid="potato")


# --- regridding

OTHERS = {
    "boxes": LatLonGrid.equiangular(18),
    "polygons": PointGrid.cubed_sphere(8),
    "sphere": HealpixGrid(3),
    "finer sphere": HealpixGrid(5),
    "bessel": HealpixGrid(3, ellipsoid="bessel"),
}


def sine(grid):
    """The sine of geodetic latitude: what it is at a place does not depend on the grid."""
    return np.sin(np.deg2rad(grid.centre_lonlat[1]))


@pytest.mark.parametrize("method", ["nearest", "bilinear", "conservative", "inverse_distance"])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("way", ["to", "from"])
def test_values_stay_at_their_latitudes(method, other, way):
    ours, theirs = HealpixGrid(4, ellipsoid="WGS84"), OTHERS[other]
    source, target = (theirs, ours) if way == "to" else (ours, theirs)
    if method == "bilinear" and isinstance(source, PointGrid):
        pytest.skip("there are no bilinear weights from points")
    weights = regridding_weights(source, target, method=method)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    error = weights @ sine(source) - sine(target)
    assert np.abs(error).max() < np.sqrt(max(source.areas.max(), target.areas.max()))


def test_values_at_points_are_those_of_the_cells_that_healpix_geo_finds():
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(0, 360, 3000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 3000)))
    grid, points = HealpixGrid(3, ellipsoid="WGS84"), PointGrid(lon, lat)
    nearest = regridding_weights(grid, points, method="nearest")
    ids = healpix_geo.nested.lonlat_to_healpix(lon, lat, 3, ellipsoid="WGS84")
    np.testing.assert_array_equal(nearest.indices, ids)
    # and between them as at the same places of the sphere of equal areas
    on_sphere = PointGrid(lon, WGS84.authalic(lat))
    for method in ("bilinear", "inverse_distance"):
        ours = regridding_weights(grid, points, method=method)
        plain = regridding_weights(HealpixGrid(3), on_sphere, method=method)
        np.testing.assert_allclose(ours.toarray(), plain.toarray(), atol=1e-12)


def test_conservative_weights_are_the_areas_of_the_ellipsoid():
    """Each band of latitudes has the share of the ellipsoid that the integral gives it."""
    edges = np.linspace(-90, 90, 10)
    rows = np.stack([edges[:-1], edges[1:]], -1)
    bands = LatLonGrid([180.0], rows.mean(axis=1), lon_bounds=[[0.0, 360.0]], lat_bounds=rows)
    grid = HealpixGrid(4, ellipsoid=WGS84)
    weights = regridding_weights(bands, grid, method="conservative")
    shares = weights.T @ grid.areas / (4 * np.pi)
    wanted = np.diff([area_below(WGS84, lat) for lat in edges]) / (2 * area_below(WGS84, 90.0))
    np.testing.assert_allclose(shares, wanted, rtol=1e-9)


def test_one_figure_needs_no_interpolation():
    fine, coarse = (HealpixGrid(level, ellipsoid="WGS84") for level in (3, 2))
    weights = regridding_weights(fine, coarse, method="conservative")
    plain = regridding_weights(HealpixGrid(3), HealpixGrid(2), method="conservative")
    assert (weights != plain).nnz == 0


def test_second_order_weights_go_between_figures_and_boxes_alone():
    ds = field(HealpixGrid(4, ellipsoid="WGS84"))
    made = xsphere.to_latlon(ds, 10.0, method="conservative2").t
    np.testing.assert_allclose(made, np.sin(np.deg2rad(made.lat)) + 0 * made.lon, atol=0.02)
    with pytest.raises(ValueError, match="'conservative2' is between HealpixGrid and LatLonGrid"):
        xsphere.to_healpix(ds, 3, method="conservative2")


# --- datasets


def field(grid):
    ds = xr.Dataset({"t": ("cells", sine(grid), {"units": "1"})})
    return describe_healpix(ds, grid, dggs=True)


def test_a_round_trip_by_files_keeps_the_ellipsoid(tmp_path):
    grid = HealpixGrid(2, "ring", ellipsoid="WGS84")
    ds = field(grid)
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    ds.drop_attrs(deep=False).to_netcdf(tmp_path / "x.nc")
    for read in (
        xr.open_zarr(tmp_path / "x.zarr", consolidated=False),
        xr.open_dataset(tmp_path / "x.nc"),
        xr.open_dataset(tmp_path / "x.nc", decode_coords="all"),
    ):
        for obj in (read, read["t"]):
            assert horizontal_grid(obj).grid == grid
        read.close()


@pytest.mark.parametrize("convention", ["xdggs", "zarr"])
def test_xdggs_reads_the_ellipsoid_and_is_read(convention):
    grid = HealpixGrid(2, ellipsoid="WGS84")
    decoded = xdggs.decode(field(grid), name="cell_ids", convention=convention)
    centres = decoded.dggs.cell_centers()
    np.testing.assert_allclose(centres.latitude, grid.centre_lonlat[1], atol=1e-9)
    alone = decoded.drop_vars(["crs", "healpix_index"])
    alone["t"].attrs.pop("grid_mapping")
    assert horizontal_grid(alone).grid == grid
    for written in ("xdggs", "cf", "zarr"):
        assert horizontal_grid(alone.dggs.encode(written)).grid == grid, written


def test_a_text_that_is_no_reference_system_is_refused():
    stated = describe_healpix(field(HealpixGrid(1)), HealpixGrid(1))
    stated["crs"].attrs["crs_wkt"] = "no such text"
    with pytest.raises(ValueError, match="the ellipsoid that 'crs' states is none: Invalid"):
        horizontal_grid(stated)


def test_an_ellipsoid_without_a_name_is_kept(tmp_path):
    grid = HealpixGrid(1, ellipsoid=Ellipsoid(inverse_flattening=250.0, semi_major_axis=6.4e6))
    field(grid).drop_attrs(deep=False).to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc") as read:
        found = horizontal_grid(read).grid
    assert found == grid
    assert found.figure.semi_major_axis == 6.4e6


def test_datasets_are_regridded_to_and_from_an_ellipsoid():
    boxes = xr.DataArray(
        np.zeros((36, 72)),
        {"lat": np.arange(-87.5, 90, 5), "lon": np.arange(2.5, 360, 5)},
        ("lat", "lon"),
        name="t",
    )
    boxes = boxes + np.sin(np.deg2rad(boxes.lat))
    on_it = xsphere.to_healpix(boxes, 4, ellipsoid="WGS84", method="bilinear")
    grid = horizontal_grid(on_it).grid
    assert grid == HealpixGrid(4, ellipsoid="WGS84")
    np.testing.assert_allclose(on_it, sine(grid), atol=2e-3)
    assert horizontal_grid(xsphere.coarsen(on_it, 2)).grid == HealpixGrid(2, ellipsoid="WGS84")
    assert horizontal_grid(xsphere.refine(on_it, 5)).grid == HealpixGrid(5, ellipsoid="WGS84")
    # the same level, but other cells: regridded, not renamed
    plain = xsphere.to_healpix(on_it, 4, method="bilinear")
    assert horizontal_grid(plain).grid == HealpixGrid(4)
    np.testing.assert_allclose(plain, sine(HealpixGrid(4)), atol=3e-3)
    assert float(abs(plain.values - on_it.values).max()) > 1e-3
    part = xsphere.to_healpix(boxes.sel(lat=slice(20, 60)), 4, ellipsoid="WGS84", extent="source")
    assert horizontal_grid(part).grid.figure == WGS84
    assert horizontal_grid(part).grid.centre_lonlat[1].min() + 2.5 > 20


def test_filters_graphs_and_derivatives_are_those_of_the_sphere_of_equal_areas():
    ours, plain = HealpixGrid(3, ellipsoid="WGS84"), HealpixGrid(3)
    graph = SphereGraph(ours)
    wanted = SphereGraph(plain).laplacian.toarray()
    np.testing.assert_allclose(graph.laplacian.toarray(), wanted, rtol=1e-12)
    height = xr.Dataset({"t": ("cells", plain.centres[:, 2], {"units": "K"})})
    on_ours, on_plain = describe_healpix(height, ours).t, describe_healpix(height, plain).t
    for function in (
        lambda da: xsphere.filter(da, "heat", scale=1000),
        lambda da: xsphere.gradient(da).northward_derivative,
        xsphere.power_spectrum,
    ):
        np.testing.assert_allclose(function(on_ours), function(on_plain), rtol=1e-12, atol=1e-15)
    assert horizontal_grid(xsphere.filter(on_ours, "heat", scale=1000)).grid == ours


def test_events_are_at_geodetic_latitudes():
    grid = HealpixGrid(4, ellipsoid="WGS84")
    cell = int(grid.cells_at(10.0, 45.0))
    mask = xr.DataArray(np.zeros(grid.n_cells, "u1"), dims="cells", attrs=mask_attributes(["s"]))
    mask[cell] = 1
    found = xsphere.events(describe_healpix(mask, grid))
    assert float(found.lat[0]) == pytest.approx(grid.centre_lonlat[1][cell], abs=1e-9)
    fields = describe_healpix(xr.Dataset({"t": ("cells", np.ones(grid.n_cells))}), HealpixGrid(4))
    with pytest.raises(ValueError, match="fields must be on the grid of mask"):
        xsphere.events(describe_healpix(mask, grid), fields)
