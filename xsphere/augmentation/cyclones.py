"""Tropical cyclones put into maps that have none as sharp, and lows to tell apart from them."""

from dataclasses import dataclass

import numpy as np

from xsphere.augmentation import climatology
from xsphere.augmentation.base import (
    Array,
    Augmentation,
    Range,
    check_numbers,
    check_ranges,
    grid_of,
)
from xsphere.augmentation.vortices import as_seen
from xsphere.augmentation.writing import Written, sheared, write_label
from xsphere.grids import EARTH_RADIUS_KM, lonlat_to_vectors
from xsphere.model import ModelSpec

# Of two vortices of a map
LEAST_APART_KM = 1500.0
TRIES = 20


@dataclass(frozen=True, kw_only=True)
class InsertCyclones(Augmentation):
    """Tropical cyclones in gradient-wind balance, with their labels, and lows that are none.

    Coarse climate models have no sharp cyclones, real maps do. A vortex is drawn at sea, where
    the best tracks have cyclones, with a wind, a radius, a shape and a size from published
    distributions (`xsphere.augmentation.climatology` holds every number and its origin), and
    taken as data of a random coarse spacing would have it. It is added as means over cells:

    - sea-level pressure falls by what balances the wind (Holland's profile);
    - winds at 850 hPa, or any surface from 700 to 1000 hPa, are the gradient wind, those at 10 m
      weaker and turned inwards; inside, the map's own flow gives way to that of the motion: the
      steering flow around the place with a poleward drift, so that one side is the stronger;
    - water vapour rises to a saturated core.

    Parameters
    ----------
    storms : float
        Mean number of tropical cyclones in a map (Poisson).
    lows : float
        Mean number of lows that are none: half of them weak and wide without a moist core, half of
        them sheared, the moist core far down the flow. Labels stay as they were.
    class_name : str
        Class of the model that is a tropical cyclone.
    extent : (float, float)
        Least and greatest radius of the labels in kilometres. In between they reach as far as the
        profile's wind (`Vortex.outer`, median 423 km). The default are the quartiles of the areas
        that CGNet networks marked in a simulated year, median 440 km.
    spacing : (float, float)
        Kilometres by which cores are widened, as data of such a grid have them.
    least_water : float
        Water vapour in kg m-2 that a map must have at the place, if the model reads it: stands for
        warm oceans.
    untouched : tuple of str
        Variables that may stay as they are though a cyclone would change them.

    Raises
    ------
    AugmentationError
        If numbers are out of range; by `xsphere.fit`, if the model lacks the class, reads nothing
        that a vortex is written into, or reads a variable that is neither written nor named in
        `untouched`.

    Notes
    -----
    Put it before what turns or mirrors maps: places at sea are those of the map as it came. Cells
    that are missing or unknown stay so. Where places are wanting (no sea is moist enough), fewer
    are put in.

    Examples
    --------
    >>> InsertCyclones(storms=1.0).to_dict()["class_name"]
    'tropical_cyclone'
    """

    storms: float = 0.8
    lows: float = 0.4
    class_name: str = "tropical_cyclone"
    extent: Range = (256.0, 657.0)
    spacing: Range = (0.0, 150.0)
    least_water: float = 30.0
    untouched: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_numbers(self, low=0.0, high=100.0, storms=self.storms, lows=self.lows)
        check_numbers(self, low=0.0, high=1000.0, least_water=self.least_water)
        check_ranges(self, least=0.0, extent=self.extent, spacing=self.spacing)

    def problems(self, spec: ModelSpec) -> list[str]:
        """See `Augmentation`."""
        found = []
        if self.class_name not in spec.classes:
            found.append(
                f"the model has no class {self.class_name!r} but {list(spec.classes)}; choose one: "
                "InsertCyclones(class_name=...)"
            )
        written = Written.of(spec)
        left = [name for name in written.others if name not in self.untouched]
        if left:
            found.append(
                "cyclones are written into sea-level pressure, column water vapour and pairs of "
                f"winds at 10 m or 700 to 1000 hPa, but not into {left}; leave these out of the "
                "model, or say that they stay as they are: InsertCyclones(untouched=(...))"
            )
        elif len(written.others) == len(spec.variables):
            found.append("the model reads nothing that cyclones are written into")
        return found

    def __call__(
        self, fields: Array, targets: Array, generator: np.random.Generator, spec: ModelSpec
    ) -> tuple[Array, Array]:
        """See `Augmentation`."""
        fields, targets = fields.copy(), targets.copy()
        written = Written.of(spec)
        for field, target in zip(fields, targets, strict=True):
            n_storms, n_lows = generator.poisson((self.storms, self.lows))
            kinds = ["storm"] * n_storms
            kinds += generator.choice(["weak", "sheared"], n_lows).tolist()
            taken: list[tuple[float, float]] = []
            for kind in kinds:
                place = self._place(written, field, taken, generator)
                if place is not None:
                    taken.append(place)
                    self._insert(kind, place, written, field, target, generator)
        return fields, targets

    def _place(
        self,
        written: Written,
        field: Array,
        taken: list[tuple[float, float]],
        generator: np.random.Generator,
    ) -> tuple[float, float] | None:
        """Where the next vortex is; None if no draw will do."""
        grid = grid_of(written.spec.level)
        others = np.array([lonlat_to_vectors(*other) for other in taken]).reshape(-1, 3)
        nearest = np.cos(LEAST_APART_KM / EARTH_RADIUS_KM)
        for _ in range(TRIES):
            place = climatology.drawn_place(generator)
            if place is None:
                continue
            here = field[int(grid.cells_at(*place))]
            moist = all(
                here[i] >= factor * self.least_water for i, factor in written.vapour.items()
            )
            apart = others @ lonlat_to_vectors(*place) < nearest
            if moist and np.isfinite(here).all() and apart.all():
                return place
        return None

    def _insert(
        self,
        kind: str,
        place: tuple[float, float],
        written: Written,
        field: Array,
        target: Array,
        generator: np.random.Generator,
    ) -> None:
        """Write a vortex into a map, and a cyclone into its labels."""
        drawn = climatology.drawn_cyclone if kind == "storm" else climatology.drawn_low
        vortex = as_seen(drawn(generator, *place), generator.uniform(*self.spacing))
        motion = written.motion(vortex, field, generator)
        written.write(vortex, motion, field, generator)
        if kind == "sheared":
            written.write_moist_core(sheared(vortex, motion, generator), field, generator)
        elif kind == "storm":
            written.write_moist_core(vortex, field, generator)
            column = 1 + written.spec.classes.index(self.class_name)
            radius = float(np.clip(vortex.outer, *self.extent))
            write_label(vortex, radius, column, target, written.spec.level)
