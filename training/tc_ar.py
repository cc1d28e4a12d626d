"""Train and measure the bundled model ``tc-ar``.

The exact command that made the file (about 15 minutes on two cores)::

    python training/tc_ar.py $XSPHERE_TEST_DATA --out xsphere/data/models/tc-ar.safetensors

The teacher are two CGNet networks that others trained on ClimateNet's expert labels, run on a year
of a general circulation model. What is learned is their opinion, not the truth. January and July
are held out for the test, October for validation; two days beside them are left out altogether.
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

import xsphere
from xsphere.conventions import INVALID
from xsphere.grids import EARTH_RADIUS_KM, lonlat_to_vectors
from xsphere.metrics import Confusion, average_precision
from xsphere.model import Channel, Model
from xsphere.nn.augment import Augmentation
from xsphere.nn.training import TrainingOptions

TEST = (("2001-07-01", "2001-07-31"), ("2002-01-01", "2002-01-31"))
VALIDATION = slice("2001-10-01", "2001-10-31")
GAP = np.timedelta64(2, "D")

DERIVED = (
    Channel(name="wind_speed", kind="wind_speed", sources=("U850", "V850")),
    Channel(name="cyclonic_vorticity", kind="cyclonic_vorticity", sources=("U850", "V850")),
    Channel(name="abs_sin_latitude", kind="abs_sin_latitude"),
)
DESCRIPTION = (
    "Tropical cyclones and atmospheric rivers from water vapour, sea-level pressure and winds at "
    "850 hPa. A student of two public networks (CGNet, trained by others on ClimateNet's expert "
    "labels) on one simulated year: their opinion, not expert truth."
)


def labels_of_the_teacher(folder: Path) -> xr.DataArray:
    """Probabilities of both classes, from 0 to 1."""
    labels = xr.open_dataset(folder / "gcm" / "labels_year.nc")
    return (labels.probability / 250.0).astype("float32").load()


def within(times: xr.DataArray, first: str, last: str, margin: np.timedelta64) -> xr.DataArray:
    """Whether times lie in a block of days, or near it."""
    start, end = np.datetime64(first) - margin, np.datetime64(last) + np.timedelta64(1, "D")
    return (times >= start) & (times < end + margin)


def selected(labels: xr.DataArray, *, test: bool) -> xr.DataArray:
    """Labels of the held-out months, or those that are far enough from them."""
    if test:
        keep = sum(within(labels.time, *block, np.timedelta64(0, "D")) for block in TEST)
        return labels.isel(time=np.flatnonzero(keep))
    near = sum(within(labels.time, *block, GAP) for block in TEST)
    block = (VALIDATION.start, VALIDATION.stop)
    beside = within(labels.time, *block, GAP) & ~within(labels.time, *block, 0 * GAP)
    return labels.isel(time=np.flatnonzero(~(near.astype(bool) | beside)))


def agreement(model: Model, ds: xr.Dataset, labels: xr.DataArray) -> dict[str, object]:
    """Scores against a teacher's probabilities on the model's grid, and their 95 % intervals."""
    truth = labels.sphere.to_healpix(level=model.level, method="conservative")
    truth = truth.transpose("time", "event", "cells").values
    true = np.concatenate([1 - truth.sum(1, keepdims=True), truth], 1).argmax(1)
    fields = ds.sel(time=labels.time)
    probability = fields.sphere.segment(model, output="probability").values
    predicted = np.where(np.isnan(probability[:, 0]), INVALID, probability.argmax(1))
    classes = ("background", *model.classes)
    total = confusion_of(classes, true, predicted)
    # five days are about the life of a storm: blocks that can be taken as independent
    blocks = np.arange(len(true)) // 5
    rng = np.random.default_rng(0)
    parts = [confusion_of(classes, true[blocks == b], predicted[blocks == b]) for b in set(blocks)]
    draws = [
        Confusion(classes, sum(parts[i].counts for i in rng.integers(0, len(parts), len(parts))))
        for _ in range(1000)
    ]
    scores: dict[str, object] = {"maps": len(true)}
    for index, name in enumerate(classes[1:], 1):
        interval = np.quantile([float(draw.iou()[name]) for draw in draws], [0.025, 0.975])
        scores[name] = {
            "iou": round(float(total.iou()[name]), 3),
            "iou_95": [round(float(edge), 3) for edge in interval],
            "recall": round(float(total.recall()[name]), 3),
            "precision": round(float(total.precision()[name]), 3),
            "average_precision": round(
                average_precision((true == index).ravel(), probability[:, index].ravel()), 3
            ),
        }
    return scores


def confusion_of(classes: tuple[str, ...], true: np.ndarray, predicted: np.ndarray) -> Confusion:
    """Counts of some maps."""
    confusion = Confusion(classes)
    confusion.add(true, predicted)
    return confusion


def real_fields(model: Model, folder: Path) -> dict[str, object]:
    """Agreement with the vote of four CGNet networks on real fields."""
    scores: dict[str, object] = {}
    for path in sorted((folder / "labels").glob("cgnet_pseudo_*.nc")):
        name = path.stem.removeprefix("cgnet_pseudo_")
        ds = xr.open_dataset(folder / "fields" / f"{name}.nc")[["TMQ", "PSL", "U850", "V850"]]
        vote = xr.open_dataset(path)["vote"]
        shares = xr.concat([(vote == 1), (vote == 2)], "event").astype(float)
        truth = shares.sphere.to_healpix(level=model.level, method="conservative")
        truth = truth.transpose("event", "cells").values
        true = np.concatenate([1 - truth.sum(0, keepdims=True), truth]).argmax(0)
        predicted = ds.sphere.segment(model).values[0]
        confusion = confusion_of(("background", *model.classes), true, predicted)
        scores[name] = {key: round(float(v), 3) for key, v in confusion.iou().items()}
    return scores


def storms(model: Model, folder: Path) -> dict[str, object]:
    """How far each observed cyclone is from the mask: the nearest cell and the nearest centre."""
    import pandas as pd

    tracks = pd.read_csv(folder / "labels" / "ibtracs_jtwc_1980_2024.csv.gz")
    mask = xsphere.sample_dataset().sphere.segment(model)
    events = mask.sphere.events()
    scores: dict[str, object] = {}
    for step in mask.transpose("time", ...):
        time = step.time.values
        now = events.sel(event=(events.time == time) & (events.event_class == 1))
        centres = lonlat_to_vectors(now.lon, now.lat)
        cells = model.grid.centres[step.values == 1]
        day = str(time)[:10]
        scores[f"{day} cyclones in the mask"] = int(now.event.size)
        for _, storm in tracks[pd.to_datetime(tracks.time) == pd.Timestamp(time)].iterrows():
            place = lonlat_to_vectors(storm.lon, storm.lat)
            scores[f"{day} {storm.track_id} {storm.status} {storm.lon:.1f}E {storm.lat:.1f}N"] = {
                "nearest cell": kilometres(cells, place),
                "nearest centre": kilometres(centres, place),
            }
    return scores


def kilometres(points: np.ndarray, place: np.ndarray) -> int | None:
    """Distance from a place to the nearest of some points, if there are any."""
    if not len(points):
        return None
    return round(EARTH_RADIUS_KM * float(np.arccos((points @ place).clip(-1, 1)).min()))


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=32)
    parser.add_argument("--measure-only", action="store_true", help="of the file at --out")
    arguments = parser.parse_args()
    checkpoint = arguments.out.with_suffix(".checkpoint")
    ds = xr.open_dataset(arguments.data / "gcm" / "fields_year.nc")
    labels = labels_of_the_teacher(arguments.data)
    if arguments.measure_only:
        model = Model.load(arguments.out)
    else:
        model = xsphere.fit(
            ds,
            selected(labels, test=False),
            architecture="small",
            level=5,
            variables=("TMQ", "PSL", "U850", "V850"),
            derived=DERIVED,
            validation=VALIDATION,
            augmentation=Augmentation(zoom=(0.6, 1.2), amplitude=(0.75, 1.35)),
            options=TrainingOptions(epochs=arguments.epochs, batch_size=4, learning_rate=3e-3),
            checkpoint=checkpoint,
            name="tc-ar",
            description=DESCRIPTION,
        )
    scores = {
        "agreement with CGNet, held-out months": agreement(model, ds, selected(labels, test=True)),
        "IoU with the vote of four CGNet, real fields": real_fields(model, arguments.data),
        "distance to observed cyclones (km)": storms(model, arguments.data),
    }
    for title, values in scores.items():
        print(title)
        for key, value in values.items():
            print("   ", key, value)
    if not arguments.measure_only:
        spec = model.spec.to_dict() | {"scores": scores}
        Model(type(model.spec).from_dict(spec), model.tensors).save(arguments.out)
        checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
