"""Vortices written into the variables of a model: which these are, and how each changes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.augmentation import climatology
from xsphere.augmentation.base import Array, grid_of
from xsphere.augmentation.vortices import CellsOfAVortex, Floats, Vortex, horizontal
from xsphere.grids import EARTH_RADIUS_KM, tangent_vectors, vectors_to_lonlat
from xsphere.model import ModelSpec
from xsphere.model.catalogue import VARIABLES
from xsphere.model.spec_parts import Variable
from xsphere.model.units import UnitsError, unit_conversion
from xsphere.weights.vectors import local_frame

PRESSURES = ("air_pressure_at_mean_sea_level", "air_pressure_at_sea_level")
VAPOUR = ("atmosphere_mass_content_of_water_vapor",)
# Surfaces between these have the gradient wind of the profile, in hPa
SURFACES = (700.0, 1000.0)
# Winds without a number in their name that are near the surface
NEAR_SURFACE = ("uas", "ubot", "ulml", "usfc")
STEERING_KM = 800.0
# How sharp labels end
LABEL_EDGE_KM = 40.0


@dataclass(frozen=True)
class Winds:
    """Positions of two components, their units in m s-1, and whether they are at 10 m."""

    east: int
    north: int
    factor: float
    near_surface: bool


@dataclass(frozen=True)
class Written:
    """Which variables of a model a vortex is written into; factors from Pa and kg m-2.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> Written.of(example_spec()).pressure
    {0: 1.0}
    """

    spec: ModelSpec
    pressure: dict[int, float]
    vapour: dict[int, float]
    winds: tuple[Winds, ...]

    @classmethod
    def of(cls, spec: ModelSpec) -> "Written":
        """Those of a model."""
        pairs = (_winds(spec, *pair) for pair in spec.vectors)
        return cls(
            spec,
            _factors(spec, PRESSURES, "PSL", "Pa"),
            _factors(spec, VAPOUR, "TMQ", "kg m-2"),
            tuple(pair for pair in pairs if pair is not None),
        )

    @property
    def others(self) -> list[str]:
        """Names of the variables that are left as they are."""
        winds = {index for pair in self.winds for index in (pair.east, pair.north)}
        known = {*self.pressure, *self.vapour, *winds}
        return [v.name for index, v in enumerate(self.spec.variables) if index not in known]

    def motion(self, vortex: Vortex, field: Array, generator: np.random.Generator) -> Floats:
        """Motion of a vortex towards east and north, m s-1: the flow around it, and a drift.

        Parameters
        ----------
        vortex : Vortex
            Where.
        field : array of float32, shape (n_cells, n_variables)
            A map; winds on a pressure surface are taken before those at 10 m.
        generator : Generator
            Source of chance.

        Returns
        -------
        array of float, shape (2,)
            The drift alone where a model reads no winds.
        """
        drift = climatology.DRIFT + climatology.DRIFT_SCATTER * generator.standard_normal()
        motion = np.array([0.0, np.sign(vortex.lat) * drift])
        for pair in sorted(self.winds, key=lambda pair: pair.near_surface)[:1]:
            grid = grid_of(self.spec.level)
            near = grid.centres @ vortex.centre > np.cos(STEERING_KM / EARTH_RADIUS_KM)
            near[int(grid.cells_at(vortex.lon, vortex.lat))] = True
            flow = np.nanmean(self._in_space(pair, field, np.flatnonzero(near)), axis=0)
            motion += horizontal(flow, vortex.lon, vortex.lat)
        return motion

    def write(
        self, vortex: Vortex, motion: Floats, field: Array, generator: np.random.Generator
    ) -> None:
        """Pressure and winds of a vortex into a map."""
        found = CellsOfAVortex.of(vortex, self.spec.level, vortex.edge)
        deficit = vortex.deficit(found.distance).mean(axis=1)
        for index, factor in self.pressure.items():
            field[found.cells, index] -= (factor * deficit).astype(np.float32)
        inflow = climatology.INFLOW + climatology.INFLOW_SCATTER * generator.standard_normal()
        for pair in self.winds:
            self._write_winds(pair, found, vortex, motion, inflow, field)

    def write_moist_core(
        self, vortex: Vortex, field: Array, generator: np.random.Generator
    ) -> None:
        """Moist air about the centre of a vortex into a map."""
        water = generator.uniform(*climatology.CORE_WATER)
        radius = vortex.outer * generator.uniform(*climatology.MOIST_RADIUS)
        found = CellsOfAVortex.of(vortex, self.spec.level, 3.0 * radius)
        share = np.exp(-((found.distance / radius) ** 2)).mean(axis=1)
        for index, factor in self.vapour.items():
            own = field[found.cells, index]
            moist = (1.0 - share) * own + share * factor * water
            field[found.cells, index] = np.maximum(own, moist.astype(np.float32))

    def _write_winds(
        self,
        pair: Winds,
        found: CellsOfAVortex,
        vortex: Vortex,
        motion: Floats,
        inflow: float,
        field: Array,
    ) -> None:
        speed, angle, share, turned = vortex.speed(found.distance), 0.0, 1.0, 0.0
        if pair.near_surface:
            speed *= np.interp(found.distance, *climatology.AT_TEN_METRES)
            angle, share = inflow, climatology.OF_THE_MOTION
            turned = np.deg2rad(np.sign(vortex.lat) * climatology.MOTION_TURNED)
        cos, sin = np.cos(turned), np.sin(turned)
        towards = share * np.array([[cos, -sin], [sin, cos]]) @ motion
        translation = towards @ np.stack(tangent_vectors(vortex.lon, vortex.lat))
        inside = vortex.core(found.distance).mean(axis=1)[:, None]
        own = self._in_space(pair, field, found.cells)
        flow = (1.0 - inside) * own + inside * translation + found.flow(speed, angle)
        frame = self._frame(found.cells)
        for index, direction in ((pair.east, frame[0]), (pair.north, frame[1])):
            field[found.cells, index] = pair.factor * (flow * direction.T).sum(axis=-1)

    def _in_space(self, pair: Winds, field: Array, cells: NDArray[np.int64]) -> Floats:
        """Winds of some cells in m s-1, in space."""
        winds = field[cells][:, [pair.east, pair.north]].astype(np.float64) / pair.factor
        east, north = self._frame(cells)
        found: Floats = winds[:, :1] * east.T + winds[:, 1:] * north.T
        return found

    def _frame(self, cells: NDArray[np.int64]) -> NDArray[Any]:
        return local_frame(grid_of(self.spec.level), np.dtype(np.float64))[:, :, cells]


def sheared(vortex: Vortex, motion: Floats, generator: np.random.Generator) -> Vortex:
    """The same vortex where its moist core is: blown down the motion from its centre."""
    away = vortex.outer * generator.uniform(*climatology.SHEARED) / EARTH_RADIUS_KM
    along = motion @ np.stack(tangent_vectors(vortex.lon, vortex.lat))
    along /= max(float(np.linalg.norm(along)), 1e-9)
    lon, lat = vectors_to_lonlat(np.cos(away) * vortex.centre + np.sin(away) * along)
    return replace(vortex, lon=float(lon), lat=float(lat))


def write_label(vortex: Vortex, radius: float, column: int, target: Array, level: int) -> None:
    """Certain within a radius; the cell that holds the centre is always the cyclone's.

    Parameters
    ----------
    vortex : Vortex
        Where.
    radius : float
        In kilometres.
    column : int
        Of the class.
    target : array of float32, shape (n_cells, 1 + n_classes)
        Changed in place where it is known.
    level : int
        Of the cells.
    """
    found = CellsOfAVortex.of(vortex, level, radius + 5 * LABEL_EDGE_KM)
    share = (1 / (1 + np.exp((found.distance - radius) / LABEL_EDGE_KM))).mean(axis=1)
    share[found.cells == int(grid_of(level).cells_at(vortex.lon, vortex.lat))] = 1.0
    known = np.nan_to_num(target[found.cells]).sum(axis=-1) > 0
    cells, share = found.cells[known], share[known].astype(np.float32)
    target[cells] *= (1 - share)[:, None]
    target[cells, column] += share


def _factors(
    spec: ModelSpec, standard_names: Iterable[str], name: str, units: str
) -> dict[int, float]:
    """Positions of what is one quantity, by standard name or, where it has none, by name."""
    found = {}
    for index, variable in enumerate(spec.variables):
        named = variable.name == name or variable.name in VARIABLES[name].aliases
        is_it = variable.standard_name in standard_names if variable.standard_name else named
        factor = _factor(units, variable.units)
        if is_it and factor is not None:
            found[index] = factor
    return found


def _winds(spec: ModelSpec, east: int, north: int) -> Winds | None:
    """Two components, if they are winds where a vortex has some."""
    variable, surface = spec.variables[east], _surface(spec.variables[east])
    factor = _factor("m s-1", variable.units)
    known = surface == 0.0 or (surface is not None and SURFACES[0] <= surface <= SURFACES[1])
    alike = variable.units == spec.variables[north].units
    if variable.standard_name != "eastward_wind" or not known or not alike or factor is None:
        return None
    return Winds(east, north, factor, near_surface=surface == 0.0)


def _factor(source: str, target: str) -> float | None:
    try:
        factor, offset = unit_conversion(source, target)
    except UnitsError:
        return None
    return factor if offset == 0 else None


def _surface(variable: Variable) -> float | None:
    """Pressure in hPa of a wind, stated or in its name (``ua850``); 0 for 10 m, else None."""
    if variable.pressure is not None:
        return variable.pressure
    numbers = {float(number) for number in re.findall(r"\d+", variable.name)}
    if numbers == {10.0} or variable.name.lower() in NEAR_SURFACE:
        return 0.0
    return numbers.pop() if len(numbers) == 1 else None
