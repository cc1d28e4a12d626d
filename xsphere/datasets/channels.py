"""The sixteen channels of CAM5.1 that these datasets share, in their published order."""

from typing import Any

import xarray as xr

from xsphere.conventions import mask_attributes
from xsphere.model.units import UnitsError, unit_conversion
from xsphere.notices import shortened

CLASSES = ("tropical_cyclone", "atmospheric_river")
CHANNELS: dict[str, dict[str, str]] = {
    name: {"standard_name": standard_name, "units": units, "long_name": long_name}
    for name, standard_name, units, long_name in (
        ("TMQ", "atmosphere_mass_content_of_water_vapor", "kg m-2", "water vapour in the column"),
        ("U850", "eastward_wind", "m s-1", "eastward wind at 850 hPa"),
        ("V850", "northward_wind", "m s-1", "northward wind at 850 hPa"),
        ("UBOT", "eastward_wind", "m s-1", "eastward wind at the lowest model level"),
        ("VBOT", "northward_wind", "m s-1", "northward wind at the lowest model level"),
        ("QREFHT", "specific_humidity", "kg kg-1", "humidity at reference height"),
        ("PS", "surface_air_pressure", "Pa", "surface pressure"),
        ("PSL", "air_pressure_at_mean_sea_level", "Pa", "sea-level pressure"),
        ("T200", "air_temperature", "K", "temperature at 200 hPa"),
        ("T500", "air_temperature", "K", "temperature at 500 hPa"),
        ("PRECT", "lwe_precipitation_rate", "m s-1", "precipitation rate"),
        ("TS", "surface_temperature", "K", "radiative temperature of the surface"),
        ("TREFHT", "air_temperature", "K", "temperature at reference height"),
        ("Z1000", "geopotential_height", "m", "height of 1000 hPa"),
        ("Z200", "geopotential_height", "m", "height of 200 hPa"),
        ("ZBOT", "height", "m", "height of the lowest model level"),
    )
}


def label_attributes() -> dict[str, Any]:
    """CF flags of the labels, and their name."""
    return {"long_name": "labels", **mask_attributes(CLASSES)}


def other_units(ds: xr.Dataset) -> list[str]:
    """Channels whose file says units that are not the published ones."""
    said = {name: str(ds[name].attrs["units"]) for name in CHANNELS if "units" in ds[name].attrs}
    return [
        f"{name} in {shortened(units)}" for name, units in said.items() if not _same(name, units)
    ]


def _same(name: str, units: str) -> bool:
    try:
        return unit_conversion(units, CHANNELS[name]["units"]) == (1.0, 0.0)
    except UnitsError:
        return False
