"""What is measured of regions on request: shapes, land, places of extremes, transport."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions.angles import angle_of
from xsphere.model.inputs import InputsError, found_variables
from xsphere.model.spec_parts import Variable
from xsphere.regions.labelling import Labelling
from xsphere.regions.land import LAND_ATTRIBUTES, land_of_regions
from xsphere.regions.outlines import OUTLINE_ATTRIBUTES, region_outlines
from xsphere.regions.regions import EXTREMES, Columns, extreme_places
from xsphere.regions.shapes import SHAPE_ATTRIBUTES, TRANSPORT_ATTRIBUTES, region_shapes

# components of the integrated transport of vapour
COMPONENTS = (
    Variable(
        name="IVT_u",
        units="kg m-1 s-1",
        standard_name="eastward_atmosphere_water_transport_across_unit_distance",
        aliases=("ivt_u", "viwve", "uivt", "ivtu", "IVTX", "IVTx"),
    ),
    Variable(
        name="IVT_v",
        units="kg m-1 s-1",
        standard_name="northward_atmosphere_water_transport_across_unit_distance",
        aliases=("ivt_v", "viwvn", "vivt", "ivtv", "IVTY", "IVTy"),
    ),
)
Flux = tuple[tuple[str, float, float], tuple[str, float, float]]
Attributes = dict[str, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured beside areas and statistics.

    Parameters
    ----------
    shape, land : bool
        Whether to measure shapes and outlines; and what is over land.
    placed : tuple of str
        Fields whose places of extremes are wanted.
    flux : pair of (name, factor, offset), optional
        Fields of the components of the transport of vapour, and what brings them to kg m-1 s-1.

    Examples
    --------
    >>> list(Measures(placed=("psl",)).attributes)
    ['psl_max_lon', 'psl_max_lat', 'psl_min_lon', 'psl_min_lat']
    """

    shape: bool = False
    land: bool = False
    placed: tuple[str, ...] = ()
    flux: Flux | None = None

    @classmethod
    def of(
        cls, measured: Mapping[str, xr.DataArray], *, shape: bool, land: bool, places: bool
    ) -> Self:
        """What is measured with some fields, by name."""
        placed = [name for name, field in measured.items() if angle_of(field) is None]
        return cls(
            shape=shape,
            land=land,
            placed=tuple(placed) if places else (),
            flux=_flux_among(measured) if shape else None,
        )

    @property
    def attributes(self) -> Attributes:
        """Attributes of the columns, in their order."""
        words = {"max": "maximum", "min": "minimum"}
        found: Attributes = {
            **(SHAPE_ATTRIBUTES if self.shape else {}),
            **(TRANSPORT_ATTRIBUTES if self.flux else {}),
            **(OUTLINE_ATTRIBUTES if self.shape else {}),
            **(LAND_ATTRIBUTES if self.land else {}),
        }
        for name in self.placed:
            for kind in EXTREMES:
                of = f"of the {words[kind]} of {name}"
                lon = {"long_name": f"longitude {of}", "units": "degrees_east"}
                lat = {"long_name": f"latitude {of}", "units": "degrees_north"}
                found |= {f"{name}_{kind}_lon": lon, f"{name}_{kind}_lat": lat}
        return found

    @property
    def no_regions(self) -> Columns:
        """Columns of no rows."""
        return {
            name: np.empty(0, bool if name == "centre_over_land" else float)
            for name in self.attributes
        }

    def __call__(
        self,
        cells: NDArray[np.int64],
        region: NDArray[np.int64],
        columns: Columns,
        values: Columns,
        find: Labelling,
    ) -> Columns:
        """Columns of the regions of a step, of which there are areas and statistics."""
        found: Columns = {}
        if self.shape or self.land:
            labels = find.labels(cells, region)
        if self.shape:
            number = columns["area"].size
            flux = None
            if self.flux is not None:
                one, other = (values[name] * factor + offset for name, factor, offset in self.flux)
                flux = (one, other)
            found |= region_shapes(labels, number, find.grid, find.adjacency, flux)
            found |= region_outlines(labels, number, find.grid)
        if self.land:
            found |= land_of_regions(labels, columns["lon"], columns["lat"], find.grid)
        return found | extreme_places(cells, region, columns, values, self.placed, find.grid)


def _flux_among(measured: Mapping[str, Any]) -> Flux | None:
    ds = xr.Dataset({name: field.variable for name, field in measured.items()})
    try:
        one, other = found_variables(ds, COMPONENTS, "the transport of vapour")
    except InputsError:
        return None
    return (
        (str(one.array.name), one.factor, one.offset),
        (str(other.array.name), other.factor, other.offset),
    )
