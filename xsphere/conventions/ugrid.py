"""Unstructured meshes by the UGRID conventions: faces as polygons, nodes as points."""

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.base import HorizontalGrid, at_all_times, related, variables_of
from xsphere.conventions.coordinates import lonlat_of
from xsphere.grids import PointGrid, lonlat_to_vectors, vectors_to_lonlat
from xsphere.grids.polygon_areas import polygon_centroids
from xsphere.notices import shortened

Variables = Mapping[str, xr.Variable]
LonLat = tuple[NDArray[np.float64], NDArray[np.float64]]


def ugrid_grid(obj: xr.Dataset | xr.DataArray) -> HorizontalGrid | None:
    """Grid of an object on a UGRID mesh, or None where no mesh topology is present."""
    variables = variables_of(obj)
    meshes = [n for n, v in variables.items() if v.attrs.get("cf_role") == "mesh_topology"]
    if not meshes:
        return None
    mesh, location = _only_location(obj, meshes)
    topology = variables[mesh]
    try:
        grid, dim = _GRIDS[location](variables, topology)
    except ValueError as error:
        raise ValueError(
            f"the {location}s of mesh {shortened(mesh)} make no grid: {error}"
        ) from error
    names = (mesh, *_names_of(topology))
    bounds = (str(related(variables[name], "bounds")) for name in names if name in variables)
    present = tuple(dict.fromkeys(name for name in (*names, *bounds) if name in variables))
    return HorizontalGrid(grid=grid, dims=(dim,), coords=present)


def _only_location(obj: xr.Dataset | xr.DataArray, meshes: list[str]) -> tuple[str, str]:
    """The mesh and the part of it that all variables are on; faces where none says."""
    arrays = obj.data_vars if isinstance(obj, xr.Dataset) else {obj.name: obj}
    places: dict[tuple[str, str], list[str]] = {}
    for name, array in arrays.items():
        if related(array.variable, "mesh") in meshes:
            place = str(related(array.variable, "mesh")), str(related(array.variable, "location"))
            places.setdefault(place, []).append(str(name))
    if not places:
        places = {(mesh, "face"): [] for mesh in meshes}
    if len(places) > 1:
        raise ValueError(
            f"expected variables on one part of one mesh, got {places} by mesh and location; drop "
            f"the others first, for example ds.drop_vars({shortened(list(places.values())[-1])})"
        )
    mesh, location = next(iter(places))
    if location not in _GRIDS:
        raise ValueError(
            f"location of variables on a mesh must be 'face' or 'node', got {shortened(location)} "
            f"for {places[mesh, location]}; take the mean of the faces or nodes beside each edge "
            "first, or treat the edges as points with coordinates lat and lon"
        )
    return mesh, location


def _names_of(topology: xr.Variable) -> Iterator[str]:
    """Every variable that a mesh topology names."""
    stated = {**topology.encoding, **topology.attrs}
    for key, value in stated.items():
        if str(key).endswith(("_coordinates", "_connectivity")):
            yield from str(value).split()


def _node_grid(variables: Variables, topology: xr.Variable) -> tuple[PointGrid, str]:
    lon, lat, dim = _places(variables, topology, "node_coordinates")
    return PointGrid(lon, lat), dim


def _face_grid(variables: Variables, topology: xr.Variable) -> tuple[PointGrid, str]:
    lon, lat, _ = _places(variables, topology, "node_coordinates")
    faces, dim = _faces(variables, topology, lon.size)
    # a place for the corners that a face does not have
    lon, lat = np.append(lon, np.nan), np.append(lat, np.nan)
    lon_bounds, lat_bounds = lon[faces], lat[faces]
    if related(topology, "face_coordinates") is None:
        centres = _centroids(lon_bounds, lat_bounds)
    else:
        centres = _places(variables, topology, "face_coordinates")[:2]
    return PointGrid(*centres, lon_bounds, lat_bounds), dim


def _places(
    variables: Variables, topology: xr.Variable, key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Longitude, latitude and dimension of the nodes or faces."""
    names = str(related(topology, key) or "").split()
    found = {name: at_all_times(name, variables) for name in names if name in variables}
    lonlat = lonlat_of(found)
    if lonlat is None:
        raise ValueError(
            f"{key} must name a longitude and a latitude by standard_name or units, got "
            f"{shortened(names)}, of which {shortened(sorted(found))} are present"
        )
    return *lonlat, str(next(iter(found.values())).dims[0])


def _faces(
    variables: Variables, topology: xr.Variable, n_nodes: int
) -> tuple[NDArray[np.int64], str]:
    """Positions of the nodes of every face, -1 for none, and the dimension of the faces."""
    name = str(related(topology, "face_node_connectivity"))
    if name not in variables:
        raise ValueError(
            f"face_node_connectivity must name a variable of the dataset, got {shortened(name)}; "
            "keep it with the data, or drop the mesh to treat the faces as points"
        )
    connectivity = at_all_times(name, variables)
    dim = str(related(topology, "face_dimension") or connectivity.dims[0])
    stored = np.asarray(connectivity.transpose(dim, ...).values)
    fill = related(connectivity, "_FillValue")
    absent = np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    if fill is not None:
        absent |= stored == fill
    start = int(related(connectivity, "start_index") or 0)
    faces = np.where(absent, start, stored).astype(np.int64) - start
    outside = (faces < 0) | (faces >= n_nodes)
    if outside.any():
        raise ValueError(
            f"{shortened(name)} must hold numbers of nodes from {start} to {start + n_nodes - 1}, "
            f"got {int(outside.sum())} others, such as {stored[outside][0]}; set its start_index, "
            "or _FillValue for the corners that faces do not have"
        )
    return np.where(absent, -1, faces), dim


def _centroids(lon_bounds: NDArray[np.float64], lat_bounds: NDArray[np.float64]) -> LonLat:
    """Centres of faces that have none of their own; corners that are absent change nothing."""
    absent = np.isnan(lon_bounds)
    corners = lonlat_to_vectors(
        np.where(absent, lon_bounds[:, :1], lon_bounds),
        np.where(absent, lat_bounds[:, :1], lat_bounds),
    )
    return vectors_to_lonlat(polygon_centroids(corners))


_GRIDS = {"face": _face_grid, "node": _node_grid}
