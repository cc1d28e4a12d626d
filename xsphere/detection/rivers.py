"""Rules for atmospheric rivers, as functions of the fields of one step."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.detection.contours import nearest_cells, regions_of, values_at
from xsphere.grids import EARTH_RADIUS_KM, Grid, lonlat_to_vectors, tangent_vectors
from xsphere.regions.labelling import Labelling
from xsphere.regions.shapes import region_shapes

Fields = Mapping[str, NDArray[Any]]


def _elongated(
    inside: NDArray[np.bool_], grid: Grid, keep: Callable[[Mapping[str, Any]], NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Regions whose shape is right."""
    labels, classes = regions_of(grid).step(inside.astype(np.uint8))
    shapes = region_shapes(labels, classes.size, grid, regions_of(grid).adjacency)
    kept = np.concatenate([[False], keep(shapes)])
    return kept[labels]


def _transport(fields: Fields) -> NDArray[Any]:
    """Magnitude of the transport of vapour."""
    magnitude: NDArray[Any] = np.hypot(fields["IVT_u"], fields["IVT_v"])
    return magnitude


def ralph(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Long, narrow bands of much water vapour."""
    return _elongated(
        fields["IWV"] >= s["min_vapour"],
        grid,
        lambda shape: (shape["length"] >= s["min_length"]) & (shape["width"] <= s["max_width"]),
    )


def rutz(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Long regions of strong transport."""
    return _elongated(
        _transport(fields) >= s["min_transport"],
        grid,
        lambda shape: shape["length"] >= s["min_length"],
    )


def gershunov(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Long regions of strong transport and much vapour."""
    return _elongated(
        (_transport(fields) >= s["min_transport"]) & (fields["IWV"] >= s["min_vapour"]),
        grid,
        lambda shape: shape["length"] >= s["min_length"],
    )


def tempest_river(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Ridges of the transport, away from the equator."""
    transport = _transport(fields).astype(float)
    radius = s["laplacian_distance"] / EARTH_RADIUS_KM
    around = values_at(transport, _cells_around(grid, s["laplacian_distance"])).mean(axis=1)
    laplacian = 4 * (around - transport) / radius**2
    inside = laplacian <= s["max_laplacian"]
    inside &= np.abs(grid.centre_lonlat[1]) >= s["min_latitude"]
    find = Labelling(
        grid=grid, wanted=(1,), known=(0, 1), name="event", min_area=float(s["min_area"])
    )
    return find.step(inside.astype(np.uint8))[0] > 0


@lru_cache(maxsize=4)
def _cells_around(grid: Grid, distance: float) -> NDArray[np.int64]:
    """Cells at eight points around each cell, shape (n_cells, 8)."""
    lon, lat = grid.centre_lonlat
    east, north = tangent_vectors(lon, lat)
    centres, angle = lonlat_to_vectors(lon, lat), distance / EARTH_RADIUS_KM
    found = []
    for turn in np.arange(8) * np.pi / 4:
        way = np.sin(turn) * east + np.cos(turn) * north
        points = np.cos(angle) * centres + np.sin(angle) * way
        found.append(nearest_cells(grid, points))
    return np.stack(found, axis=1)


def guan_waliser(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Long, narrow regions of strong, coherent, poleward transport along their axis."""
    east, north = fields["IVT_u"].astype(float), fields["IVT_v"].astype(float)
    transport = np.hypot(east, north)
    inside = transport >= np.maximum(fields["threshold"], s["min_transport"])
    labels, classes = regions_of(grid).step(inside.astype(np.uint8))
    n = classes.size
    shape = region_shapes(labels, n, grid, regions_of(grid).adjacency)
    cells = np.flatnonzero(labels)
    region, weight = labels[cells] - 1, grid.covered_areas[cells]
    total = np.bincount(region, weight, n)
    ways = tangent_vectors(*(axis[cells] for axis in grid.centre_lonlat))
    flux = east[cells, None] * ways[0] + north[cells, None] * ways[1]
    mean = np.stack([np.bincount(region, weight * part, n) / total for part in flux.T], -1)
    strength = np.linalg.norm(mean, axis=-1)
    along = (flux * mean[region]).sum(-1)
    agree = along >= np.cos(np.deg2rad(s["max_turn"])) * transport[cells] * strength[region]
    coherent = np.bincount(region, weight * agree, n) / total >= s["min_coherence"]
    ends = [
        lonlat_to_vectors(shape[f"axis_{end}_lon"], shape[f"axis_{end}_lat"])
        for end in ("start", "end")
    ]
    axis = ends[1] - ends[0]
    size = np.linalg.norm(axis, axis=-1) * strength
    parallel = np.abs((axis * mean).sum(-1)) >= np.cos(np.deg2rad(s["max_turn"])) * size
    poleward = north[cells] * np.sign(grid.centre_lonlat[1][cells])
    mean_poleward = np.bincount(region, weight * poleward, n) / total
    kept = coherent & parallel & (mean_poleward >= s["min_poleward_transport"])
    kept &= (shape["length"] >= s["min_length"]) & (
        shape["length"] >= s["min_length_to_width"] * shape["width"]
    )
    return np.concatenate([[False], kept])[labels]
