"""Write the sample that ships with the package: four fields of the GFS at two times.

    python training/make_sample.py FOLDER_OF_DATA xsphere/data/sample/gfs_2011.nc

FOLDER_OF_DATA holds the two files of `SOURCES`, converted from GRIB files in the pygrib 2.1.6
source distribution. Values are copied bit by bit; units and attributes are made to follow the CF
conventions.
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

SOURCES = ("fields/gfs_2p5deg_2011-01-15T12.nc", "fields/gfs_2p5deg_2011-10-11T00.nc")
ATTRS = {
    "TMQ": {
        "standard_name": "atmosphere_mass_content_of_water_vapor",
        "long_name": "Precipitable water",
        "units": "kg m-2",
    },
    "PSL": {
        "standard_name": "air_pressure_at_mean_sea_level",
        "long_name": "Sea-level pressure",
        "units": "Pa",
    },
    "U850": {
        "standard_name": "eastward_wind",
        "long_name": "Eastward wind at 850 hPa",
        "units": "m s-1",
    },
    "V850": {
        "standard_name": "northward_wind",
        "long_name": "Northward wind at 850 hPa",
        "units": "m s-1",
    },
    "lat": {
        "standard_name": "latitude",
        "long_name": "Latitude",
        "units": "degrees_north",
        "axis": "Y",
    },
    "lon": {
        "standard_name": "longitude",
        "long_name": "Longitude",
        "units": "degrees_east",
        "axis": "X",
    },
    "time": {"standard_name": "time", "long_name": "Valid time", "axis": "T"},
}
VARIABLES = ("TMQ", "PSL", "U850", "V850")


def sample(folder: Path) -> xr.Dataset:
    """Both times of the four fields, in order of time, with CF attributes."""
    parts = []
    for name in SOURCES:
        with xr.open_dataset(folder / name) as part:
            parts.append(part.load())
    parts.sort(key=lambda part: part.time.values[0])
    fields = [part[list(VARIABLES)].drop_vars("level", errors="ignore") for part in parts]
    ds = xr.concat(fields, "time", join="exact", combine_attrs="drop")
    for name, attrs in ATTRS.items():
        ds[name].attrs = attrs
    psl = "; ".join(f"{_day(part)}: {part.PSL.attrs['long_name']}" for part in parts)
    ds.PSL.attrs["comment"] = f"Reduction to sea level, as named in the originals. {psl}"
    ds.attrs = {
        "Conventions": "CF-1.11",
        "title": "Two forecasts of the NOAA Global Forecast System",
        "institution": "NOAA/NCEP",
        "source": "; ".join(f"{_day(part)}: {part.attrs['source']}" for part in parts),
        "license": "; ".join(dict.fromkeys(part.attrs["license"] for part in parts)),
        "history": "Copied from the GRIB files in the pygrib 2.1.6 source distribution by "
        "training/make_sample.py; values unchanged",
    }
    return ds


def write(ds: xr.Dataset, path: Path) -> None:
    """Write the sample as compressed float32."""
    packed = {"dtype": "float32", "zlib": True, "complevel": 9, "shuffle": True}
    encoding: dict[str, dict[str, object]] = {
        name: {**packed, "_FillValue": np.float32(np.nan)} for name in VARIABLES
    }
    encoding["time"] = {
        "units": "hours since 2011-01-01",
        "dtype": "int64",
        "calendar": "proleptic_gregorian",
    }
    encoding |= {name: {"_FillValue": None} for name in ("lat", "lon")}
    path.parent.mkdir(parents=True, exist_ok=True)
    for variable in ds.variables.values():
        variable.encoding = {}
    ds.to_netcdf(path, encoding=encoding)


def _day(part: xr.Dataset) -> str:
    return str(part.time.dt.strftime("%Y-%m-%d").item())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the project's data")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()
    write(sample(arguments.folder), arguments.output)
