"""Published rules and a model on real maps: agreement with CGNet's vote, storms of IBTrACS found.

``python benchmarks/detection.py DATA`` prints two Markdown tables, the second of two Laplacians.
DATA holds ``fields`` (one map a file), ``labels/cgnet_pseudo_<file>`` with the ``vote`` of four
networks, and IBTrACS. The vote is a teacher's opinion, not truth: a score against it is agreement
with CGNet.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr

import xsphere
from xsphere.conventions import mask_attributes
from xsphere.detection.rivers import _cells_around, values_at
from xsphere.graph import SphereGraph
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid
from xsphere.regions.linking import great_circle

CYCLONE, RIVER = "tropical_cyclone", "atmospheric_river"
RULES = {
    CYCLONE: {"tempest": {}, "gfdl": {}, "gfdl, three numbers halved": "half"},
    RIVER: {
        "tempest": {},
        "rutz": {},
        "gershunov": {},
        "ralph": {},
        "guan_waliser, threshold 250": {"threshold": 250.0},
    },
}
HALF = {"min_vorticity": 0.8e-4, "min_pressure_rise": 200.0, "min_thickness_fall": 25.0}
# of the nearest cell of a region to the centre in IBTrACS, on grids of up to 2.5 degrees: two
# storms side by side may share a region, whose own centre is then near neither
NEAR_KM = 300.0


def masks_of(
    ds: xr.Dataset, event: str, models: list[str]
) -> Iterator[tuple[str, xr.DataArray | None]]:
    """What each rule and each model find; None where inputs are missing."""
    for label, settings in RULES[event].items():
        chosen = dict(HALF) if settings == "half" else dict(settings)
        rule = label.split(",")[0].split(" ")[0]
        yield label, _or_none(lambda r=rule, c=chosen: xsphere.detect(ds, event, r, **c))
    for model in models:
        yield f"model {Path(model).stem}", _or_none(lambda m=model: _of_model(ds, event, m))


def _or_none(make: Callable[[], xr.DataArray]) -> xr.DataArray | None:
    try:
        return make().squeeze(drop=True).compute()
    except ValueError:
        return None


def _of_model(ds: xr.Dataset, event: str, model: str) -> xr.DataArray:
    mask = xsphere.segment(ds, model, grid="source")
    wanted = 1 if event == CYCLONE else 2
    found = xr.where(mask >= 254, mask, (mask == wanted).astype("u1")).astype("u1")
    return found.assign_attrs(mask_attributes([event]))


def agreement(mask: xr.DataArray, vote: xr.DataArray) -> float:
    """Intersection over union by area, where both are known."""
    weight = np.cos(np.deg2rad(mask.lat)) * (mask < 254)
    one, other = mask == 1, vote == 1
    union = float((weight * (one | other)).sum())
    return float((weight * (one & other)).sum()) / union if union else np.nan


def storms_found(mask: xr.DataArray, now: xr.Dataset) -> tuple[int, int, list[str]]:
    """Storms that a region is near, regions near no cyclone of any strength, and who is missed."""
    labels = xsphere.label(mask)
    cells = labels.stack(cell=labels.dims).reset_index("cell")
    cells = cells[cells.values > 0]
    # of tropical-storm strength, 34 knots, or more
    strong = xsphere.saffir_simpson(now.wind).values >= 0
    places = [now.lon.values[:, None], now.lat.values[:, None]]
    near = great_circle(cells.lon.values, cells.lat.values, *places) < NEAR_KM
    found = near.any(axis=1)
    alarms = set(cells.values.tolist()) - set(cells.values[near.any(axis=0)].tolist())
    names = now["name"].values if "name" in now else now.track_id.values
    missed = [str(name) for name in names[strong & ~found]]
    return int((found & strong).sum()), len(alarms), missed


def rows(data: Path, models: list[str]) -> Iterator[list[str]]:
    """A row for each map, class and rule."""
    storms = xsphere.read_ibtracs(data / "labels" / "ibtracs_jtwc_1980_2024.csv.gz")
    for labels in sorted((data / "labels").glob("cgnet_pseudo_*.nc")):
        name = labels.name.removeprefix("cgnet_pseudo_")
        with xr.open_dataset(data / "fields" / name) as ds, xr.open_dataset(labels) as votes:
            ds.load()
            now = storms.isel(event=storms.time.values == ds.time.values[0])
            for number, event in enumerate((CYCLONE, RIVER), 1):
                vote = (votes["vote"] == number).astype("u1").assign_attrs(mask_attributes([event]))
                like = next(a for a in ds.data_vars.values() if {"lat", "lon"} <= set(a.dims))
                vote = xsphere.to_latlon(vote.rename("vote"), like=like, method="mode")
                for rule, mask in masks_of(ds, event, models):
                    if mask is None:
                        yield [name[:-3], event, rule, "inputs missing", "", "", ""]
                        continue
                    cells = [f"{agreement(mask, vote):.2f}", f"{float((mask == 1).mean()):.3f}"]
                    if event == CYCLONE:
                        hits, alarms, missed = storms_found(mask, now)
                        n_storms = hits + len(missed)
                        cells += [f"{hits} of {n_storms}", f"{alarms}; missed {missed}"]
                    else:
                        cells += ["", ""]
                    yield [name[:-3], event, rule, *cells]


def laplacians(data: Path) -> Iterator[list[str]]:
    """Rivers by eight points at 10 degrees, and by a graph's Laplacian of smoothed transport."""
    grid, radius = HealpixGrid(6), np.deg2rad(10)
    graph = SphereGraph(grid, k=20, weights="consistent").laplacian
    high = np.abs(grid.centre_lonlat[1]) > 15
    for labels in sorted((data / "labels").glob("cgnet_pseudo_*.nc")):
        name = labels.name.removeprefix("cgnet_pseudo_")
        with xr.open_dataset(data / "fields" / name) as ds:
            transport = np.hypot(ds.IVT_u, ds.IVT_v).squeeze(drop=True).rename("ivt")
        cells = xsphere.to_healpix(transport, level=6, method="bilinear")
        around = values_at(cells.values, _cells_around(grid, 1112.0)).mean(axis=1)
        eight = 4 * (around - cells.values) / radius**2
        # mean over the circle and heat agree to second order at this width
        wide = xsphere.filter(cells, "heat", scale=EARTH_RADIUS_KM * radius / np.sqrt(8))
        masks = [(-(graph @ field) <= -2e4) & high for field in (wide.values, cells.values)]
        mask = (eight <= -2e4) & high
        shares = [grid.areas[a & mask].sum() / grid.areas[a | mask].sum() for a in masks]
        same = np.corrcoef(eight, -(graph @ wide.values))[0, 1]
        yield [name[:-3], f"{same:.3f}", *(f"{share:.2f}" for share in shares)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["tc-ar"], help="names or files")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    head = ["map", "class", "rule", "IoU with the vote", "share", "storms found", "false alarms"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows(arguments.data, arguments.models):
        print("| " + " | ".join(row) + " |", flush=True)
    head = ["map", "correlation", "IoU of masks, graph of smoothed", "graph of the field itself"]
    print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in laplacians(arguments.data):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
