"""Train and measure the bundled model ``tc-ar``, and what each part of its recipe is worth.

The commands that made the file (each training takes about half an hour of one core)::

    train="python training/tc_ar.py train $XSPHERE_TEST_DATA runs"
    $train --seed 0
    $train --seed 1
    $train --seed 2
    python training/tc_ar.py measure $XSPHERE_TEST_DATA runs/*.safetensors --out tc-ar.safetensors

Of the models that are measured, the one with the best mean IoU of both events in the months of
validation is written. `--without` leaves parts of the recipe out, and `--teachers` distils.

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
from xsphere.conventions import mask_attributes
from xsphere.model import Channel, GraphSpec, Model
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


LIMITS = (
    "Maps of about 200 km: the strength of a storm cannot be told, nor its eye.",
    "As its teachers do, it marks wide surroundings: storms side by side may share one region.",
    "Deep or moist lows that no best track has are marked now and then: false alarms.",
    "Learned from a coarse climate model: of real maps, five forecasts and analyses were tried.",
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
        teachers=[Model.load(path) for path in arguments.teachers],
        options=TrainingOptions(epochs=arguments.epochs, seed=arguments.seed),
        checkpoint=path.with_suffix(".checkpoint"),
        progress=arguments.progress,
        name=arguments.name,
        description=DESCRIPTION,
    )
    model.save(path)
    path.with_suffix(".checkpoint").unlink(missing_ok=True)


def held_out(model: Model, ds: xr.Dataset, labels: xr.DataArray) -> dict[str, Any]:
    """Agreement with the teacher in the months of the test, on the grid of the model."""
    chosen = labels.isel(time=np.flatnonzero(within(labels.indexes["time"], TEST)))
    # five days are about the life of a storm: blocks that can be taken as independent
    found = xsphere.evaluate(model, chosen.rename(event="class"), ds, grid="predicted", block="5D")
    return of_events(found, "iou", "recall", "precision", "average_precision") | {
        "maps": chosen.sizes["time"]
    }


def of_events(found: xsphere.Evaluation, *names: str) -> dict[str, Any]:
    """Scores of the events, and the ends of their intervals."""
    kept: dict[str, Any] = {}
    for event in map(str, found.confusion["true"].values[1:]):
        kept[event] = {}
        for name in names:
            entry = found.to_dict()["scores"][name][event]
            kept[event][name] = rounded(entry["value"])
            if "interval" in entry:
                kept[event][f"{name}_95"] = [rounded(end) for end in entry["interval"]]
    return kept


def rounded(value: float | None) -> float | None:
    """Three digits."""
    return None if value is None else round(value, 3)


def real_maps(model: Model, folder: Path) -> dict[str, Any]:
    """IoU with the vote of four CGNet networks on real fields: each map, and all together."""
    masks, votes = {}, {}
    for path in sorted((folder / "labels").glob("cgnet_pseudo_*.nc")):
        name = path.stem.removeprefix("cgnet_pseudo_")
        ds = xr.open_dataset(folder / "fields" / f"{name}.nc")[list(VARIABLES)]
        vote = xr.open_dataset(path)["vote"].astype("uint8")
        vote = vote.assign_attrs(mask_attributes(model.classes)).expand_dims(time=ds.time)
        masks[name], votes[name] = ds.sphere.segment(model), vote
    # in the order of time
    order = sorted(masks, key=lambda name: masks[name].time.values[0])
    pairs = {name: (masks[name], votes[name]) for name in order}
    pairs["all together"] = tuple(
        xr.concat([of[name] for name in order], "time") for of in (masks, votes)
    )
    found = {}
    for name, (mask, vote) in pairs.items():
        scores = of_events(xsphere.evaluate(mask, vote, grid="predicted", n_samples=0), "iou")
        found[name] = {event: of["iou"] for event, of in scores.items()}
    return found


def scores_of(model: Model, data: Path, ds: xr.Dataset, labels: xr.DataArray) -> dict[str, Any]:
    """What a model is worth."""
    return {
        "agreement with CGNet, held-out months": held_out(model, ds, labels),
        "IoU with the vote of four CGNet, real maps": real_maps(model, data),
    }


def measure(arguments: argparse.Namespace) -> None:
    """Print what models are worth; with --out, write the best in validation with all of it."""
    ds, labels = data_of(arguments.data)
    models = {str(path): Model.load(path) for path in arguments.models}
    found = {}
    for path, model in models.items():
        found[path] = scores_of(model, arguments.data, ds, labels)
        lines = (f"{name}: {of}" for name, of in flat(found[path]).items())
        print(path, f"validation: {validated(model):.3f}", *lines, sep="\n    ", flush=True)
    if arguments.out:
        best = max(models, key=lambda path: validated(models[path]))
        seeds = [str(models[path].spec.training["options"]["seed"]) for path in found]
        spread = {
            event: {
                "iou": [
                    of["agreement with CGNet, held-out months"][event]["iou"]
                    for of in found.values()
                ],
                "iou_real_maps": [
                    of["IoU with the vote of four CGNet, real maps"]["all together"][event]
                    for of in found.values()
                ],
            }
            for event in models[best].classes
        }
        scores = found[best] | {f"spread over the seeds {', '.join(seeds)}": spread}
        models[best].with_record(
            name="tc-ar", scores=scores, limits=LIMITS, licence="BSD-3-Clause"
        ).save(arguments.out)


def validated(model: Model) -> float:
    """Mean IoU of the events in the months of validation, at the end of the training."""
    if not model.spec.training.get("history"):
        return float("nan")
    iou = model.spec.training["history"][-1]["iou"]
    return float(np.mean([iou[event] for event in model.classes]))


def flat(scores: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """One entry a class."""
    found = {}
    for name, value in scores.items():
        inner = isinstance(value, dict) and any(isinstance(v, dict) for v in value.values())
        found |= flat(value, f"{prefix}{name}: ") if inner else {prefix + name: value}
    return found


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
    one.add_argument("--teachers", type=Path, nargs="*", default=[], help="models to distil")
    one.set_defaults(run=train)
    two = commands.add_parser("measure", help="scores of models")
    two.add_argument("data", type=Path, help="folder of the project's data")
    two.add_argument("models", nargs="+", help="names or files")
    two.add_argument("--out", type=Path, help="file for the best in validation")
    two.set_defaults(run=measure)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
