"""Train and measure the bundled model ``tc-ar``, and what each part of its recipe is worth.

The commands that made the file::

    python training/tc_ar.py train $XSPHERE_TEST_DATA runs --seed 0    # and 1, 2, ...
    python training/tc_ar.py measure $XSPHERE_TEST_DATA runs/*.safetensors

Each training can be stopped and started again. The teacher are two CGNet networks that others
trained on ClimateNet's expert labels, run on two years of a general circulation model. What is
learned is their opinion, not the truth; only of the cyclones that are put into the maps the labels
are exact. Of each run, one or two months are held out for the test and one for validation; two
days beside them are left out altogether. Real maps are never trained or tuned on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xsphere
from xsphere.augmentation import Amplify, InsertCyclones, Mirror, Turn, Zoom
from xsphere.model import Channel, GraphSpec
from xsphere.nn.training import TrainingOptions

# Runs have dates in common but not their weather: each has years of its own here.
RUNS = {"year": 0, "run_a": 10, "run_b": 20}
TEST = {
    "year": (("2001-07-01", "2001-07-31"), ("2002-01-01", "2002-01-31")),
    "run_a": (("2001-11-01", "2001-11-30"),),
    "run_b": (("2002-05-01", "2002-05-31"),),
}
VALIDATION = {
    "year": (("2001-10-01", "2001-10-31"),),
    "run_a": (("2001-09-01", "2001-09-30"),),
    "run_b": (("2002-03-01", "2002-03-31"),),
}
GAP = pd.Timedelta(2, "D")

VARIABLES = ("TMQ", "PSL", "U850", "V850")
DERIVED = (
    Channel(name="wind_speed", kind="wind_speed", sources=("U850", "V850")),
    Channel(name="cyclonic_vorticity", kind="cyclonic_vorticity", sources=("U850", "V850")),
    Channel(name="abs_sin_latitude", kind="abs_sin_latitude"),
)
AUGMENT = {
    "vortices": InsertCyclones(),
    "amplitude": Amplify(factor=(0.75, 1.35)),
    "zoom": Zoom(factor=(0.6, 1.2)),
    "rotation": Turn(),
    "mirror": Mirror(),
}
DESCRIPTION = (
    "Tropical cyclones and atmospheric rivers from water vapour, sea-level pressure and winds at "
    "850 hPa. A student of two public networks (CGNet, trained by others on ClimateNet's expert "
    "labels) on two simulated years, with balanced vortices put in as tropical cyclones: their "
    "opinion, not expert truth."
)


def data_of(folder: Path) -> tuple[xr.Dataset, xr.DataArray]:
    """Fields, and the teacher's probabilities from 0 to 1, of all runs one after the other."""
    fields, labels = [], []
    for run, years in RUNS.items():
        ds = xr.open_dataset(folder / "gcm" / f"fields_{run}.nc")
        probability = xr.open_dataset(folder / "gcm" / f"labels_{run}.nc").probability
        fields.append(moved(ds.sel(time=probability.time), years))
        labels.append(moved((probability / 250.0).astype("float32"), years))
    ds = xr.concat(fields, "time", join="override", combine_attrs="drop_conflicts").load()
    return ds, xr.concat(labels, "time", join="override").load()


def moved(part: Any, years: int) -> Any:
    """The same some years later."""
    return part.assign_coords(time=part.indexes["time"] + pd.DateOffset(years=years))


def blocks(months: dict[str, Any], gap: pd.Timedelta = 0 * GAP) -> Iterator[slice]:
    """Slices of time of some months of the runs, and so much on both sides."""
    for run, pairs in months.items():
        later = pd.DateOffset(years=RUNS[run])
        for first, last in pairs:
            end = pd.Timestamp(last) + pd.Timedelta("23:59:59")
            yield slice(pd.Timestamp(first) + later - gap, end + later + gap)


def within(times: pd.Index, months: dict[str, Any], gap: pd.Timedelta = 0 * GAP) -> np.ndarray:
    """Whether times lie in some months, or as near as the gap."""
    return np.any([(times >= b.start) & (times <= b.stop) for b in blocks(months, gap)], axis=0)


def for_training(labels: xr.DataArray) -> xr.DataArray:
    """Labels to learn from and to validate with: all that are far from the months of the test."""
    times = labels.indexes["time"]
    beside = within(times, VALIDATION, GAP) & ~within(times, VALIDATION)
    return labels.isel(time=np.flatnonzero(~(within(times, TEST, GAP) | beside)))


def train(arguments: argparse.Namespace) -> None:
    """One model, by its seed and what is left out of the recipe."""
    ds, labels = data_of(arguments.data)
    labels = for_training(labels)
    without = set(arguments.without)
    augment = [entry for name, entry in AUGMENT.items() if name not in without]
    path = arguments.out / f"{arguments.name}_{arguments.seed}.safetensors"
    arguments.out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    model = xsphere.fit(
        ds,
        labels,
        architecture="small",
        level=arguments.level,
        graph=GraphSpec(k=arguments.k, weights=arguments.weights),
        variables=VARIABLES,
        derived=() if "derived" in without else DERIVED,
        validation=list(blocks(VALIDATION)),
        augment=augment,
        options=TrainingOptions(epochs=arguments.epochs, seed=arguments.seed),
        checkpoint=path.with_suffix(".checkpoint"),
        progress=arguments.progress,
        name=arguments.name,
        description=DESCRIPTION,
    )
    model.save(path)
    path.with_suffix(".checkpoint").unlink(missing_ok=True)


def main() -> None:
    """Commands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="one model")
    one.add_argument("data", type=Path, help="folder of the project's data")
    one.add_argument("out", type=Path, help="folder of models")
    one.add_argument("--name", default="tc-ar")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--epochs", type=int, default=24)
    one.add_argument("--level", type=int, default=5)
    one.add_argument("--k", type=int, default=8)
    one.add_argument("--weights", default="gaussian")
    one.add_argument("--without", nargs="*", default=[], choices=[*AUGMENT, "derived"])
    one.add_argument("--progress", action="store_true")
    one.set_defaults(run=train)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
