"""Published rules for events, as functions of the fields of one step; a rule is one entry.

Every length is in km and every area in km2, so that a rule means the same on every grid. The
numbers are those of the papers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from xsphere.detection.vapour_transport import COMPONENTS
from xsphere.grids import EARTH_RADIUS_KM, Grid, lonlat_to_vectors, tangent_vectors
from xsphere.model.spec import Variable
from xsphere.regions.labelling import Labelling
from xsphere.regions.shapes import region_shapes

Event = Literal["tropical_cyclone", "atmospheric_river"]
Fields = Mapping[str, NDArray[Any]]
Find = Callable[[Fields, Grid, Mapping[str, float]], NDArray[np.bool_]]
# a degree of a great circle, in which papers give lengths
DEGREE = EARTH_RADIUS_KM * np.pi / 180

VAPOUR = Variable(
    name="IWV",
    units="kg m-2",
    standard_name="atmosphere_mass_content_of_water_vapor",
    aliases=("TMQ", "tcwv", "prw", "pwat", "tqv", "TQV", "total_column_water_vapour"),
)
PRESSURE = Variable(
    name="PSL",
    units="Pa",
    standard_name="air_pressure_at_mean_sea_level",
    aliases=("psl", "msl", "slp", "SLP", "prmsl", "mslet", "mean_sea_level_pressure"),
)


def _height(pressure: int) -> Variable:
    aliases = (f"z{pressure}", f"zg{pressure}", f"gh{pressure}", "gh", "zg", "Z", "z", "Z3")
    return Variable(
        name=f"Z{pressure}",
        units="m",
        standard_name="geopotential_height",
        aliases=aliases,
        pressure=float(pressure),
    )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How events of one kind are found.

    Parameters
    ----------
    variables : tuple of Variable
        What is read; those of the transport of vapour are integrated where they are not there.
    settings : dict of str to float
        Numbers of the paper by name.
    find : callable
        From fields by name, each of shape (n_cells,), the grid and settings to what is in an event.
    reference : str
        Where the rule is from.
    """

    variables: tuple[Variable, ...]
    settings: Mapping[str, float]
    find: Find
    reference: str


def _elongated(
    inside: NDArray[np.bool_], grid: Grid, keep: Callable[[Mapping[str, Any]], NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Regions whose shape is right."""
    labels, classes = _regions(grid).step(inside.astype(np.uint8))
    shapes = region_shapes(labels, classes.size, grid, _regions(grid).adjacency)
    kept = np.concatenate([[False], keep(shapes)])
    return kept[labels]


@lru_cache(maxsize=4)
def _regions(grid: Grid) -> Labelling:
    return Labelling(grid=grid, wanted=(1,), known=(0, 1), name="event")


def _transport(fields: Fields) -> NDArray[Any]:
    """Magnitude of the transport of vapour."""
    magnitude: NDArray[Any] = np.hypot(fields["IVT_u"], fields["IVT_v"])
    return magnitude


def _ralph(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    return _elongated(
        fields["IWV"] >= s["min_vapour"],
        grid,
        lambda shape: (shape["length"] >= s["min_length"]) & (shape["width"] <= s["max_width"]),
    )


def _rutz(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    return _elongated(
        _transport(fields) >= s["min_transport"],
        grid,
        lambda shape: shape["length"] >= s["min_length"],
    )


def _gershunov(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    return _elongated(
        (_transport(fields) >= s["min_transport"]) & (fields["IWV"] >= s["min_vapour"]),
        grid,
        lambda shape: shape["length"] >= s["min_length"],
    )


def _tempest_river(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    transport = _transport(fields).astype(float)
    radius = s["laplacian_distance"] / EARTH_RADIUS_KM
    around = transport[_cells_around(grid, s["laplacian_distance"])].mean(axis=1)
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
        found.append(_tree(grid).query(points)[1])
    return np.stack(found, axis=1)


@lru_cache(maxsize=4)
def _tree(grid: Grid) -> cKDTree:
    return cKDTree(grid.centres)


def _guan_waliser(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    east, north = fields["IVT_u"].astype(float), fields["IVT_v"].astype(float)
    transport = np.hypot(east, north)
    inside = transport >= np.maximum(fields["threshold"], s["min_transport"])
    labels, classes = _regions(grid).step(inside.astype(np.uint8))
    n = classes.size
    shape = region_shapes(labels, n, grid, _regions(grid).adjacency)
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


def _tempest_cyclone(fields: Fields, grid: Grid, s: Mapping[str, float]) -> NDArray[np.bool_]:
    pressure = fields["PSL"].astype(float)
    thickness = fields["Z300"].astype(float) - fields["Z500"].astype(float)
    touching = _regions(grid).adjacency
    rows = np.repeat(np.arange(grid.n_cells), np.diff(touching.indptr))
    lower = np.full(grid.n_cells, np.inf)
    np.minimum.at(lower, rows, pressure[touching.indices])
    found: list[tuple[float, int, NDArray[np.int64]]] = []
    for cell in np.flatnonzero(pressure < lower).tolist():
        contour = _closed(
            pressure, cell, grid, touching, s["pressure_distance"], s["min_pressure_rise"]
        )
        if contour is None:
            continue
        near = _within(grid, cell, s["core_distance"])
        core = int(near[np.argmax(thickness[near])])
        falls = _closed(
            -thickness, core, grid, touching, s["thickness_distance"], s["min_thickness_fall"]
        )
        if falls is not None:
            found.append((float(pressure[cell]), cell, contour))
    inside = np.zeros(grid.n_cells, bool)
    # the deepest of those that are near each other
    kept: list[int] = []
    for _, cell, contour in sorted(found, key=lambda low: low[:2]):
        beside = _within(grid, cell, s["merge_distance"])
        if not set(kept) & set(beside.tolist()):
            kept.append(cell)
            inside[contour] = True
    return inside


def _within(grid: Grid, cell: int, distance: float) -> NDArray[np.int64]:
    """Cells whose centres are near that of a cell, in order."""
    chord = 2 * np.sin(min(distance / EARTH_RADIUS_KM, np.pi) / 2)
    return np.array(sorted(_tree(grid).query_ball_point(grid.centres[cell], chord)), np.int64)


def _closed(
    values: NDArray[np.float64],
    cell: int,
    grid: Grid,
    touching: sparse.csr_array,
    distance: float,
    rise: float,
) -> NDArray[np.int64] | None:
    """Cells within a contour that is so much higher than a cell, if it closes within a distance."""
    near = _within(grid, cell, distance)
    below = near[values[near] < values[cell] + rise]
    place = np.searchsorted(below, cell)
    if place >= below.size or below[place] != cell:
        return None
    parts = connected_components(touching[below][:, below], directed=False)[1]
    basin: NDArray[np.int64] = below[parts == parts[place]]
    around = np.setdiff1d(touching[basin].indices, near)
    if (values[around] < values[cell] + rise).any():
        return None
    return basin


RULES: Mapping[Event, Mapping[str, Rule]] = {
    "atmospheric_river": {
        "tempest": Rule(
            variables=COMPONENTS,
            settings={
                "max_laplacian": -2e4,  # kg m-1 s-1 rad-2
                "laplacian_distance": 10 * DEGREE,
                "min_latitude": 15.0,
                "min_area": 4e5,
            },
            find=_tempest_river,
            reference="Ullrich et al. (2021), https://doi.org/10.5194/gmd-14-5023-2021",
        ),
        "guan_waliser": Rule(
            variables=COMPONENTS,
            settings={
                "min_transport": 100.0,
                "min_length": 2000.0,
                "min_length_to_width": 2.0,
                "max_turn": 45.0,
                "min_coherence": 0.5,
                "min_poleward_transport": 50.0,
            },
            find=_guan_waliser,
            reference="Guan and Waliser (2015), https://doi.org/10.1002/2015JD024257",
        ),
        "rutz": Rule(
            variables=COMPONENTS,
            settings={"min_transport": 250.0, "min_length": 2000.0},
            find=_rutz,
            reference="Rutz et al. (2014), https://doi.org/10.1175/MWR-D-13-00168.1",
        ),
        "gershunov": Rule(
            variables=(*COMPONENTS, VAPOUR),
            settings={"min_transport": 250.0, "min_vapour": 15.0, "min_length": 1500.0},
            find=_gershunov,
            reference="Gershunov et al. (2017), https://doi.org/10.1002/2017GL074175",
        ),
        "ralph": Rule(
            variables=(VAPOUR,),
            settings={"min_vapour": 20.0, "min_length": 2000.0, "max_width": 1000.0},
            find=_ralph,
            reference="Ralph et al. (2004), https://doi.org/10.1175/1520-0493(2004)132",
        ),
    },
    "tropical_cyclone": {
        "tempest": Rule(
            variables=(PRESSURE, _height(300), _height(500)),
            settings={
                "min_pressure_rise": 200.0,  # Pa
                "pressure_distance": 5.5 * DEGREE,
                "min_thickness_fall": 6.0,  # m
                "thickness_distance": 6.5 * DEGREE,
                "core_distance": 1.0 * DEGREE,
                "merge_distance": 6.0 * DEGREE,
            },
            find=_tempest_cyclone,
            reference="Zarzycki and Ullrich (2017), https://doi.org/10.1002/2016GL071606",
        ),
    },
}
