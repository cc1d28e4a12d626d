"""Gaussian and consistent graphs on HEALPix levels 3 to 8 and on irregular samplings.

``python examples/equivariance/levels.py`` prints two tables: exact means of Schur's measure over
degrees 5, 10, 20, 30, 45 and 60 for cells as large as those of HEALPix level 5, in proportion for
others. Grids of files (stations, ICON, MPAS, CAM-SE) are included where ``--data`` has them.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from xsphere import HealpixGrid, LatLonGrid, PointGrid, SphereGraph
from xsphere.equivariance import equivariance_error
from xsphere.equivariance.random_fields import PlaneFields
from xsphere.grids import Grid

DEGREES = np.array([5, 10, 20, 30, 45, 60])
CELLS_AT_LEVEL_5 = 12 * 4**5
NEIGHBOURS = (8, 20, 40)
# Degrees at which rows are compared with l (l + 1), cell by cell.
LOW_DEGREES = (2, 5, 10, 20)
N_FIELDS = 3
# Weights below this have no other scale.
VANISHING = 1e-300


def scaled_degrees(n_cells: int) -> NDArray[np.int64]:
    """Degrees that cells of this number resolve as level 5 resolves its own."""
    scaled = np.round(DEGREES * np.sqrt(n_cells / CELLS_AT_LEVEL_5)).astype(int)
    return np.unique(scaled[scaled >= 1])


def schur_mean(laplacian: sparse.csr_array, grid: Grid) -> float:
    """Exact mean of the unsquared error over the degrees."""
    return float(equivariance_error(laplacian, grid, scaled_degrees(grid.n_cells)).error.mean())


def cell_errors(laplacian: sparse.csr_array, grid: Grid) -> list[float]:
    """Median over the cells of ``|L f - l (l + 1) f| / |l (l + 1) f|``, for low degrees."""
    fields, rng, errors = PlaneFields(grid), np.random.default_rng(0), []
    for degree in LOW_DEGREES:
        values = fields.values(fields.drawn(degree, N_FIELDS, rng))
        expected = degree * (degree + 1) * values
        errors.append(float(np.median(np.abs(laplacian @ values / expected - 1))))
    return errors


def with_right_second_moment(laplacian: sparse.csr_array, grid: Grid) -> sparse.csr_array:
    """A Gaussian Laplacian with every row scaled to 1 / radian**2; vanishing rows are left out."""
    # weights of lonely stations may be near the smallest number that there is
    peaks = laplacian.diagonal()
    present = peaks > VANISHING
    relative = sparse.csr_array(
        sparse.diags_array(1 / np.where(present, peaks, np.inf)) @ laplacian
    )
    rows, columns = relative.tocoo().coords
    squares = ((grid.centres[columns] - grid.centres[rows]) ** 2).sum(axis=1)
    moments = -np.bincount(rows, relative.tocoo().data * squares, grid.n_cells)
    scales = np.divide(4.0, moments, out=np.zeros(grid.n_cells), where=moments > 0)
    return sparse.csr_array(sparse.diags_array(scales) @ relative)


def print_levels(levels: list[int]) -> None:
    """Table of HEALPix levels."""
    print(
        "| level | k | links a row | Gaussian | consistent | Gaussian / consistent | changed rows |"
    )
    print("|---" * 7 + "|")
    for level in levels:
        grid = HealpixGrid(level)
        for k in NEIGHBOURS:
            gaussian, ours = (SphereGraph(grid, k, weights=w) for w in ("gaussian", "consistent"))
            errors = [schur_mean(graph.laplacian, grid) for graph in (gaussian, ours)]
            links = ours.laplacian.nnz / grid.n_cells - 1
            print(
                f"| {level} | {k} | {links:.2f} | {errors[0]:.4f} | {errors[1]:.5f} | "
                f"{errors[0] / errors[1]:.1f} | {ours.n_changed_rows} |",
                flush=True,
            )


def print_samplings(grids: dict[str, Callable[[], Grid]]) -> None:
    """Table of other grids: by Schur's measure, and cell by cell."""
    columns = " | ".join(f"l={degree}" for degree in LOW_DEGREES)
    print(f"| sampling | cells | k | weights | schur | {columns} | wrong sign | changed rows |")
    print("|---" * (len(LOW_DEGREES) + 7) + "|")
    for name, make in grids.items():
        grid = make()
        for k in NEIGHBOURS:
            for weights in ("gaussian", "consistent"):
                graph = SphereGraph(grid, k, weights=weights)
                laplacian = graph.laplacian
                error = schur_mean(laplacian, grid)
                if weights == "gaussian":
                    laplacian = with_right_second_moment(laplacian, grid)
                cells = " | ".join(f"{error:.3g}" for error in cell_errors(laplacian, grid))
                wrong = float((graph.adjacency.data < 0).mean())
                print(
                    f"| {name} | {grid.n_cells} | {k} | {weights} | {error:.3g} | {cells} | "
                    f"{wrong:.1%} | {graph.n_changed_rows} |",
                    flush=True,
                )


def constructed() -> dict[str, Callable[[], Grid]]:
    """Grids about as fine as HEALPix level 5."""
    return {
        "icosahedral": lambda: PointGrid.icosahedral(5),
        "cubed sphere": lambda: PointGrid.cubed_sphere(45),
        "Fibonacci": lambda: PointGrid.fibonacci(12_288),
        "random": lambda: PointGrid.random(12_288),
        "reduced Gaussian": lambda: PointGrid.reduced_gaussian(51),
        "equiangular": lambda: LatLonGrid.equiangular(78),
    }


def from_files(folder: Path) -> dict[str, Callable[[], Grid]]:
    """Grids of those files that are there."""
    grids: dict[str, Callable[[], Grid]] = {}
    stations = folder / "stations" / "ghcn_stations_2010-2014.npz"
    if stations.exists():
        grids["GHCN stations"] = lambda: _places(np.load(stations), "lon", "lat")
    for name, file, lon, lat in (
        ("ICON", "triangular_grid_ICON.nc", "clon", "clat"),
        ("MPAS", "MPAS.nc", "lonCell", "latCell"),
        ("CAM-SE", "camse_unstructured_grid.nc", "lon", "lat"),
    ):
        path = folder / "other_grids" / file
        if path.exists():
            grids[name] = lambda path=path, lon=lon, lat=lat: _places(
                xr.open_dataset(path, decode_times=False)[[lon, lat]].load(), lon, lat
            )
    return grids


def _places(source: xr.Dataset, lon: str, lat: str) -> PointGrid:
    """Points of a file, in degrees whichever unit they are in."""
    places = [np.asarray(source[name], dtype=np.float64) for name in (lon, lat)]
    if np.abs(places[1]).max() < 2:
        places = [np.degrees(values) for values in places]
    return PointGrid(*places)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", type=int, nargs="*", default=[3, 4, 5, 6, 7, 8])
    parser.add_argument("--no-samplings", action="store_true", help="HEALPix alone")
    parser.add_argument("--only", nargs="+", help="samplings, by name; all if not given")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("XSPHERE_TEST_DATA"),
        help="folder of grids and stations; $XSPHERE_TEST_DATA if not given",
    )
    arguments = parser.parse_args()
    if arguments.levels:
        print_levels(arguments.levels)
    if not arguments.no_samplings:
        grids = constructed() | (from_files(arguments.data) if arguments.data else {})
        print()
        chosen = arguments.only or list(grids)
        if unknown := sorted(set(chosen) - set(grids)):
            parser.error(f"--only must name samplings among {list(grids)}, got also {unknown}")
        print_samplings({name: grids[name] for name in chosen})


if __name__ == "__main__":
    main()
