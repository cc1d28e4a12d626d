"""The small real dataset that comes with the package."""

from pathlib import Path

import xarray as xr

SAMPLE = Path(__file__).parent / "data" / "sample" / "gfs_2011.nc"


def sample_dataset() -> xr.Dataset:
    """Two global weather maps: a winter day with atmospheric rivers, an autumn day with cyclones.

    Forecasts of the NOAA Global Forecast System for 2011-01-15 12 UTC and 2011-10-11 00 UTC on a
    grid of 2.5 degrees: water vapour, sea-level pressure and winds at 850 hPa. On the second day
    three tropical cyclones were observed: Jova, Irwin and Banyan.

    Returns
    -------
    Dataset
        ``TMQ`` (kg m-2), ``PSL`` (Pa), ``U850`` and ``V850`` (m s-1), in memory.

    References
    ----------
    .. [1] NOAA National Centers for Environmental Prediction, Global Forecast System; public domain

    Examples
    --------
    >>> dict(sample_dataset().sizes)
    {'time': 2, 'lat': 73, 'lon': 144}
    """
    with xr.open_dataset(SAMPLE, engine="netcdf4") as ds:
        return ds.load()
