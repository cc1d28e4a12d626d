"""Small models and datasets that several tests use: functions, so that none is ever shared."""

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.model import Channel, GraphSpec, Model, ModelSpec, Variable

STANDARD_NAMES = {
    "TMQ": "atmosphere_mass_content_of_water_vapor",
    "PSL": "air_pressure_at_mean_sea_level",
    "U850": "eastward_wind",
    "V850": "northward_wind",
}


def storm_spec(level: int = 2) -> ModelSpec:
    """Two winds and a pressure, a derived input, two classes, two levels of network."""
    return ModelSpec(
        name="storms",
        level=level,
        variables=(
            Variable(name="PSL", units="Pa", standard_name=STANDARD_NAMES["PSL"], aliases=("msl",)),
            Variable(
                name="U850",
                units="m s-1",
                standard_name=STANDARD_NAMES["U850"],
                aliases=("u850", "u"),
                pressure=850.0,
            ),
            Variable(
                name="V850",
                units="m s-1",
                standard_name=STANDARD_NAMES["V850"],
                aliases=("v850", "v"),
                pressure=850.0,
            ),
        ),
        channels=(
            Channel(name="PSL", sources=("PSL",), mean=101000.0, std=1000.0),
            Channel(name="speed", kind="wind_speed", sources=("U850", "V850"), mean=10.0, std=7.0),
            Channel(
                name="vorticity", kind="cyclonic_vorticity", sources=("U850", "V850"), std=2e-5
            ),
            Channel(name="latitude", kind="abs_sin_latitude", mean=0.5, std=0.3),
        ),
        classes=("cyclone", "river"),
        network={"architecture": "unet", "features": (4, 6), "depths": (0, 1), "kernel_size": 3},
        graph=GraphSpec(k=8),
    )


def storm_model(level: int = 2, seed: int = 0) -> Model:
    """Random weights: its answers vary from cell to cell, which is all that tests need."""
    return Model.untrained(storm_spec(level), seed)


def storm_dataset(n_times: int = 3, n_lat: int = 19, n_lon: int = 36, seed: int = 0) -> xr.Dataset:
    """Fields with the scales of weather on a global grid, poles included."""
    rng = np.random.default_rng(seed)
    shape = (n_times, n_lat, n_lon)
    coords = {
        "time": pd.date_range("2001-01-01", periods=n_times, freq="6h"),
        "lat": ("lat", np.linspace(-90, 90, n_lat), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(n_lon) * 360 / n_lon, {"units": "degrees_east"}),
    }
    scales = {"PSL": (101000, 1500, "Pa"), "U850": (3, 9, "m s-1"), "V850": (0, 9, "m s-1")}
    return xr.Dataset(
        {
            name: (
                ("time", "lat", "lon"),
                (mean + spread * rng.standard_normal(shape)).astype(np.float32),
                {"standard_name": STANDARD_NAMES[name], "units": units},
            )
            for name, (mean, spread, units) in scales.items()
        },
        coords,
    )
