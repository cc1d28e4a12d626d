"""Who regrids: the methods of xsphere, and its peers where they are installed.

Peers are found when asked for, so that the benchmarks run without any of them.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from xsphere import weights
from xsphere.grids import Grid, HealpixGrid, LatLonGrid

# operators of CDO by the method of xsphere that they compare with
CDO_OPERATORS = {
    "nearest": "remapnn",
    "bilinear": "remapbil",
    "inverse_distance": "remapdis",
    "conservative": "remapcon",
}


class Regridder(NamedTuple):
    """What makes weights from two grids, and what applies them to fields (..., n_source)."""

    build: Callable[[Grid, Grid], Any]
    apply: Callable[[Any, NDArray[Any]], NDArray[Any]]


def xsphere_methods() -> dict[str, Regridder]:
    """Every method that `xsphere.weights` names."""
    return {name: _regridder(name) for name in get_args(weights.FieldMethod)}


def _regridder(method: str) -> Regridder:
    if method == "conservative2":  # no matrix: its gradients depend on the values
        return Regridder(weights.second_order_weights, weights.apply_second_order)
    return Regridder(getattr(weights, f"{method}_weights"), weights.apply_weights)


def entries_of(built: Any) -> NDArray[np.float64]:
    """The weights themselves, of a matrix or of the second order."""
    entries: NDArray[np.float64] = built.data if sparse.issparse(built) else built.weights
    return entries


def is_installed(module: str, package: str) -> bool:
    """Whether a peer is there; prints how to get it where it is not."""
    if find_spec(module) is not None:
        return True
    print(f"{package} is not installed and left out; pip install {package}")
    return False


def cdo_binary() -> str | None:
    """Path of CDO, or None where there is none; prints how to get it then."""
    found = os.environ.get("CDO") or shutil.which("cdo")
    if found:
        return found
    if not is_installed("skyborn_cdo", "skyborn-cdo"):
        return None
    from skyborn_cdo import get_cdo_path

    return get_cdo_path()


def run_cdo(cdo: str, *arguments: str | Path) -> None:
    """Run CDO in one thread; it wants force for the edges of HEALPix cells, which it bends."""
    options = ["-s", "-O", "-P", "1", "--force", "-f", "nc4"]
    command = [cdo, *options, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def cdo_grid(grid: Grid) -> str:
    """The name by which CDO knows a nested HEALPix grid or a grid of `fields.latlon`."""
    if isinstance(grid, HealpixGrid):
        return f"hpz{grid.level}"
    return f"r{grid.shape[1]}x{grid.shape[0]}"


def write_fields(path: Path, grid: Grid, fields: Mapping[str, NDArray[Any]]) -> None:
    """Write a file that CDO reads; fields are (n_cells,) or (n_times, n_cells)."""
    dims = ("lat", "lon") if isinstance(grid, LatLonGrid) else ("cells",)
    coords: dict[str, Any] = {}
    if isinstance(grid, LatLonGrid):
        coords["lat"] = ("lat", grid.lat, {"units": "degrees_north", "standard_name": "latitude"})
        coords["lon"] = ("lon", grid.lon, {"units": "degrees_east", "standard_name": "longitude"})
    variables = {}
    for name, values in fields.items():
        leading = ("time",) if values.ndim == 2 else ()
        variables[name] = (leading + dims, values.reshape(*values.shape[:-1], *grid.shape))
    xr.Dataset(variables, coords).to_netcdf(path)


def cdo_remapped(
    cdo: str,
    operator: str,
    source: Grid,
    target: Grid,
    fields: Mapping[str, NDArray[Any]],
    *,
    folder: Path,
) -> dict[str, NDArray[Any]]:
    """Fields, each (n_source,), that CDO has regridded through files in a folder."""
    before, after = folder / "before.nc", folder / "after.nc"
    write_fields(before, source, fields)
    named = [f"-setgrid,{cdo_grid(source)}"] if isinstance(source, HealpixGrid) else []
    run_cdo(cdo, f"{operator},{cdo_grid(target)}", *named, before, after)
    with xr.open_dataset(after) as dataset:
        return {name: dataset[name].to_numpy().ravel().astype(float) for name in fields}


def edges(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges, shape (n + 1,), of adjoining cells given by their bounds, shape (n, 2)."""
    return np.append(bounds[:, 0], bounds[-1, 1])
