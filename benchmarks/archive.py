"""A synthetic archive like ERA5, of any length, and a model with random weights that reads it.

Fields are smooth with noise, so that they compress about as fields of weather do. A few steps are
made, and the others are further names of the same files: any length is written in seconds and is
read from memory, so that what is timed is the processor, not a disk.
"""

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from xsphere.model import Channel, GraphSpec, Model, ModelSpec, Variable
from xsphere.nn import PRESETS, UNetLayout

LAYOUTS = {**PRESETS, "tiny": UNetLayout(features=(4, 4), depths=(0, 1))}
COMPRESSORS = ("blosc-lz4", "blosc-zstd", "zstd", "none")
# steps that differ from each other
DISTINCT = 4
# noise in parts of the spread of a field: zipped, it comes to two thirds, as ERA5 does
NOISE = 0.01
# size in grid cells of what is smooth
SMOOTH = 40


class Field(NamedTuple):
    """A variable as the archive holds it and the model reads it."""

    units: str
    standard_name: str
    mean: float
    std: float


# the channels of the published model of tropical cyclones and atmospheric rivers
FIELDS = {
    "TMQ": Field("kg m-2", "atmosphere_mass_content_of_water_vapor", 19.0, 16.0),
    "PSL": Field("Pa", "air_pressure_at_mean_sea_level", 100800.0, 1460.0),
    "U850": Field("m s-1", "eastward_wind", 1.5, 8.0),
    "V850": Field("m s-1", "northward_wind", 0.3, 6.0),
    "T200": Field("K", "air_temperature_at_200_hPa", 213.0, 7.8),
    "T500": Field("K", "air_temperature_at_500_hPa", 253.0, 12.8),
    "PRECT": Field("m s-1", "precipitation_rate", 3e-8, 1.5e-7),
    "TS": Field("K", "surface_temperature", 278.0, 23.0),
    "TREFHT": Field("K", "air_temperature", 278.0, 22.0),
    "QREFHT": Field("1", "specific_humidity", 8e-3, 6e-3),
    "PS": Field("Pa", "surface_air_pressure", 96500.0, 9700.0),
    "UBOT": Field("m s-1", "eastward_wind_at_lowest_level", 0.1, 6.0),
    "VBOT": Field("m s-1", "northward_wind_at_lowest_level", 0.2, 5.0),
    "ZBOT": Field("m", "height_of_lowest_level", 61.0, 4.9),
    "Z1000": Field("m", "geopotential_height_at_1000_hPa", 474.0, 833.0),
    "Z200": Field("m", "geopotential_height_at_200_hPa", 11736.0, 633.0),
}


def names_of(n_variables: int) -> tuple[str, ...]:
    """The first variables of the archive."""
    return tuple(FIELDS)[:n_variables]


def untrained(level: int, n_variables: int, layout: str) -> Model:
    """A model that reads the first variables, each as one channel."""
    chosen = {name: FIELDS[name] for name in names_of(n_variables)}
    spec = ModelSpec(
        name="benchmark",
        level=level,
        variables=tuple(
            Variable(name=name, units=field.units, standard_name=field.standard_name)
            for name, field in chosen.items()
        ),
        channels=tuple(
            Channel(name=name, sources=(name,), mean=field.mean, std=field.std)
            for name, field in chosen.items()
        ),
        classes=("tropical_cyclone", "atmospheric_river"),
        network={"architecture": "unet", **LAYOUTS[layout].to_dict()},
        graph=GraphSpec(),
    )
    return Model.untrained(spec)


def grid_of(step: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes from north to south, poles included, and longitudes, as ERA5 has them."""
    n_lat = round(180 / step)
    return np.linspace(90, -90, n_lat + 1), np.arange(2 * n_lat) * 180 / n_lat


def smooth_field(
    shape: tuple[int, int], field: Field, rng: np.random.Generator
) -> NDArray[np.float32]:
    """One map: random numbers on a coarse grid, smoothly in between, and noise."""
    coarse = tuple(max(2, size // SMOOTH) for size in shape)
    factors = [size / few for size, few in zip(shape, coarse, strict=True)]
    values = ndimage.zoom(rng.normal(size=coarse), factors, order=3, mode="grid-wrap")
    values = values[: shape[0], : shape[1]] + NOISE * rng.standard_normal(shape, np.float32)
    return (field.mean + field.std * values).astype(np.float32)


def write_archive(
    path: Path, n_steps: int, *, step: float, n_variables: int, compressor: str = "blosc-lz4"
) -> Path:
    """A Zarr store with one step in a chunk; at a path that must be free."""
    import zarr

    lat, lon = grid_of(step)
    coords = {
        "time": pd.date_range("1979-01-01", periods=n_steps, freq="h"),
        "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    xr.Dataset(coords=coords).to_zarr(path, mode="w-", consolidated=False, zarr_format=3)
    group, rng = zarr.open_group(path, mode="r+"), np.random.default_rng(0)
    for name in names_of(n_variables):
        field = FIELDS[name]
        array = group.create_array(
            name,
            shape=(n_steps, lat.size, lon.size),
            chunks=(1, lat.size, lon.size),
            dtype="f4",
            fill_value=np.nan,
            compressors=_codec(compressor),
            dimension_names=("time", "lat", "lon"),
            # one folder of files, not a folder for each step
            chunk_key_encoding={"name": "default", "separator": "."},
            attributes={"units": field.units, "standard_name": field.standard_name},
        )
        for number in range(min(DISTINCT, n_steps)):
            array[number] = smooth_field((lat.size, lon.size), field, rng)
        for number in range(DISTINCT, n_steps):
            files = (path / name / f"c.{i}.0.0" for i in (number % DISTINCT, number))
            _link(*files)
    return path


def _link(source: Path, target: Path) -> None:
    """Another name of the same file; a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _codec(compressor: str) -> Any:
    from zarr.codecs import BloscCodec, ZstdCodec

    match compressor:
        case "none":
            return None
        case "zstd":
            return ZstdCodec(level=3)
        case _:
            return BloscCodec(cname=compressor.removeprefix("blosc-"), clevel=5, shuffle="shuffle")


def stored_share(path: Path) -> float:
    """Bytes in the files of the first step as a part of those of its values."""
    import zarr

    arrays = [array for _, array in zarr.open_group(path, mode="r").arrays() if array.ndim == 3]
    stored = sum((path / array.path / "c.0.0.0").stat().st_size for array in arrays)
    return stored / sum(array.nbytes // array.shape[0] for array in arrays)


def step_bytes(path: Path) -> int:
    """Bytes of the values of one step."""
    import zarr

    arrays = [array for _, array in zarr.open_group(path, mode="r").arrays() if array.ndim == 3]
    return sum(array.nbytes // array.shape[0] for array in arrays)
