"""Grid mappings other than longitude and latitude: found, so that nothing is taken for degrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from xsphere.conventions.base import mappings_of, variables_of
from xsphere.notices import cut_text, shortened

# rows are parallels and columns meridians on these, though their coordinates are no degrees
CYLINDRICAL = {"mercator", "lambert_cylindrical_equal_area"}
LOST = "not with them"
_GEOGRAPHIC = {"latitude_longitude", "healpix"}


@dataclass(frozen=True)
class Projection:
    """A grid mapping whose coordinates are neither longitude nor latitude.

    Parameters
    ----------
    name : str
        Of the variable that holds it.
    kind : str
        Its ``grid_mapping_name``, or what its text says, or `LOST`.

    Examples
    --------
    >>> print(Projection("rotated_pole", "rotated_latitude_longitude"))
    the grid mapping 'rotated_pole' (rotated_latitude_longitude)
    """

    name: str
    kind: str

    def __str__(self) -> str:
        return f"the grid mapping {shortened(self.name)} ({self.kind})"

    def advice(self) -> str:
        """What to do with data on it."""
        if self.kind == LOST:
            return (
                f"the data refer to {self}, so that coordinates that do not say latitude and "
                f"longitude by standard_name or units may be others; keep it with the data by "
                f"ds.set_coords({self.name!r}), or set their units to 'degrees_north' and "
                "'degrees_east'"
            )
        return (
            f"the data are on {self}, whose coordinates are not longitude and latitude whatever "
            "they are called; make points of the cells: crs = "
            f"pyproj.CRS.from_cf(ds[{shortened(self.name)}]"
            ".attrs), lon, lat = pyproj.Transformer.from_crs(crs, crs.source_crs, always_xy=True)"
            ".transform(*np.meshgrid(x, y)), ds.assign_coords(lon=(dims, lon), lat=(dims, lat))"
            ".stack(points=dims)"
        )


def projection_of(obj: xr.Dataset | xr.DataArray) -> Projection | None:
    """The projection that data refer to, or that is with them where they refer to none."""
    variables = variables_of(obj)
    meant, lost = mappings_of(obj)
    if lost and not meant:
        return Projection(lost[0], LOST)
    for name in meant or variables:
        kind = _kind(variables[name].attrs) if name in variables else None
        if kind is not None and kind not in _GEOGRAPHIC:
            return Projection(name, kind)
    return None


def _kind(attrs: Mapping[Any, Any]) -> str | None:
    """Name of a grid mapping, by CF or by its text as well-known."""
    if "grid_mapping_name" in attrs:
        return cut_text(str(attrs["grid_mapping_name"]), 120)
    text = attrs.get("crs_wkt", attrs.get("spatial_ref"))
    if not isinstance(text, str) or not text:
        return None
    import pyproj

    try:
        crs = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        return None
    return (
        "latitude_longitude"
        if crs.is_geographic and not crs.is_derived
        else cut_text(str(crs.name), 120)
    )
