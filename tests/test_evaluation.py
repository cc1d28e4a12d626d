"""Scores against scikit-learn, brute force and hands; streamed, repeatable, refused where wrong."""

import json
import weakref
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.conventions import describe_healpix, mask_attributes
from xsphere.fitting.samples import validation_times
from xsphere.grids import HealpixGrid
from xsphere.model import Calibration

CLASSES = ("cyclone", "river")
NAMES = ["background", *CLASSES]
TIMES = pd.date_range("2001-01-01", periods=8, freq="12h")


def mask_of(values: Any, times: Any = TIMES, classes: Any = CLASSES) -> xr.DataArray:
    """Classes (time, lat, lon) on a grid of neither equal sides nor equal areas."""
    values = np.asarray(values, np.uint8)
    _, n_lat, n_lon = values.shape
    coords = {
        "time": times[: len(values)],
        "lat": ("lat", np.linspace(-80, 80, n_lat), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(n_lon) * 360.0 / n_lon, {"units": "degrees_east"}),
    }
    return xr.DataArray(
        values, coords, ("time", "lat", "lon"), "mask", mask_attributes(list(classes))
    )


def random_mask(seed: int, n_times: int = 8, n_lat: int = 5, n_lon: int = 8) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    return mask_of(rng.choice([0, 1, 2, 254], (n_times, n_lat, n_lon), p=[0.5, 0.2, 0.2, 0.1]))


def random_probability(seed: int, like: xr.DataArray) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.dirichlet([0.6, 0.4, 0.4], like.shape)
    values[rng.random(like.shape) < 0.05] = np.nan
    array = xr.DataArray(values, like.coords, (*like.dims, "class"), "probability")
    return array.assign_coords({"class": NAMES})


def known_cells(
    labels: xr.DataArray, probability: xr.DataArray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes, probabilities (cells, classes) and areas of all cells known on both sides."""
    grid = xsphere.horizontal_grid(labels).grid
    area = np.broadcast_to(grid.areas.reshape(labels.shape[1:]), labels.shape)
    probability = probability.transpose(*labels.dims, "class")
    known = (labels.values < 3) & np.isfinite(probability.values).all(-1)
    return labels.values[known], probability.values[known], area[known] * 6371.0**2


@pytest.mark.parametrize("weighting", ["area", "cells"])
def test_scores_are_those_of_scikit_learn(weighting: Any) -> None:
    labels = random_mask(0)
    probability = random_probability(1, labels)
    found = xsphere.evaluate(probability, labels, weighting=weighting, n_samples=0)
    true, shares, area = known_cells(labels, probability)
    weight = area if weighting == "area" else np.ones(area.size)
    hard = shares.argmax(-1)
    of = {"sample_weight": weight}
    confusion = sk.confusion_matrix(true, hard, **of)
    np.testing.assert_allclose(found.confusion, confusion, rtol=1e-3)  # the Earth's radius
    np.testing.assert_allclose(found.confusion / found.confusion.sum(), confusion / weight.sum())
    scores = found.scores
    np.testing.assert_allclose(scores.share[:3], confusion.sum(1) / weight.sum())
    np.testing.assert_allclose(scores.predicted_share[:3], confusion.sum(0) / weight.sum())
    for name, score in {
        "iou": sk.jaccard_score,
        "recall": sk.recall_score,
        "precision": sk.precision_score,
        "f1": sk.f1_score,
    }.items():
        np.testing.assert_allclose(scores[name][:3], score(true, hard, average=None, **of))
        np.testing.assert_allclose(scores[name][4], score(true, hard, average="macro", **of))
        events = score(true, hard, average="macro", labels=[1, 2], **of)
        np.testing.assert_allclose(scores[name][3], events)
    for number, name in enumerate(NAMES):
        one, p = scores.sel(group=name), shares[:, number]
        exact = sk.average_precision_score(true == number, p, **of)
        assert abs(one.average_precision - exact) <= one.average_precision_error < 0.02
        np.testing.assert_allclose(one.brier, sk.brier_score_loss(true == number, p, **of))
        bins = np.minimum((p * 10).astype(int), 9)
        error = sum(
            abs((weight * (p - (true == number)))[bins == n].sum()) / weight.sum()
            for n in range(10)
        )
        np.testing.assert_allclose(one.calibration_error, error)
    assert found.cells["scored"] == true.size
    assert found.cells["unknown_labels"] == (labels == 254).sum()
    assert found.cells["unknown_predicted"] == probability.isnull().any("class").sum()


def test_curves_are_those_of_scikit_learn() -> None:
    labels = random_mask(2)
    probability = random_probability(3, labels).round(2)
    probability = probability.where(probability["class"] != "background").fillna(
        1 - probability.isel({"class": [1, 2]}).sum("class", skipna=False)
    )
    found = xsphere.evaluate(probability, labels, weighting="cells", n_samples=0)
    true, shares, _ = known_cells(labels, probability)
    for number, name in enumerate(CLASSES, 1):
        curve = found.curves.sel({"class": name})
        # thresholds lie between the values of p, of which none is rounded to another side
        p, hit = shares[:, number] + 1e-6, true == number
        observed, mean = calibration_curve(hit, p.clip(0, 1), n_bins=10)
        there = curve.bin_share.values > 0
        np.testing.assert_allclose(curve.observed[there], observed)
        np.testing.assert_allclose(curve.probability[there], mean, atol=1e-5)
        precision, recall, thresholds = sk.precision_recall_curve(hit, p)
        at = np.minimum((thresholds * 1000).astype(int), 999)
        np.testing.assert_allclose(curve.recall[at], recall[:-1])
        np.testing.assert_allclose(curve.precision[at], precision[:-1])


def test_counts_made_by_hand() -> None:
    labels = mask_of([[[0, 0, 1, 1], [2, 2, 0, 254]]])
    predicted = mask_of([[[0, 1, 1, 0], [2, 2, 2, 2]]])
    found = xsphere.evaluate(predicted, labels, weighting="cells")
    assert found.confusion.values.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 2]]
    assert found.scores.iou.values[:3] == pytest.approx([1 / 4, 1 / 3, 2 / 3])
    assert found.scores.iou.sel(group="mean_of_events").item() == pytest.approx(1 / 2)
    assert found.scores.iou.sel(group="mean_of_all").item() == pytest.approx(5 / 12)
    assert found.settings["predicted_kind"] == "classes"
    assert "average_precision" not in found.scores
    # one block of time says nothing of others
    assert np.isnan(found.scores.iou_low).all()


def test_regions_are_found_missed_or_false() -> None:
    """Two cyclones and a river of which a neighbour is predicted as the other class."""
    labels, predicted = np.zeros((2, 1, 8, 20), np.uint8)
    labels[0, 4, 1:5] = 1
    labels[0, 4, 8:10] = 1
    labels[0, 4, 13:15] = 2
    predicted[0, 4, 4:7] = 1  # shares a cell of four
    predicted[0, 1, 8:10] = 1  # elsewhere
    predicted[0, 4, 13:15] = 1  # another class
    counts = ["hits", "misses", "false_alarms"]

    def scores(**options: Any) -> xr.Dataset:
        return xsphere.evaluate(mask_of(predicted), mask_of(labels), **options).scores

    cyclone, river = (scores().sel(group=name) for name in CLASSES)
    assert [cyclone[name].item() for name in counts] == [1, 1, 2]
    assert [river[name].item() for name in counts] == [0, 1, 0]
    assert cyclone.pod.item() == pytest.approx(1 / 2)
    assert cyclone.far.item() == pytest.approx(2 / 3)
    assert cyclone.csi.item() == pytest.approx(1 / 4)
    assert np.isnan(river.far)
    for least, hits in ((1 / 3, 1), (0.34, 0)):
        assert scores(min_overlap=least).hits.sel(group="cyclone") == hits
    areas = xsphere.events(mask_of(predicted)).area.values
    most = areas.max() - 1
    # what is three cells at the same latitude is left
    assert scores(min_area=most).false_alarms.sel(group="cyclone") == 0
    assert scores(min_area=most).misses.sum() == 0


def test_intervals_are_of_blocks_drawn_anew() -> None:
    labels, predicted = random_mask(4), random_mask(5)
    options: dict[str, Any] = {"block": "1D", "n_samples": 200, "seed": 3}
    found = xsphere.evaluate(predicted, labels, **options)
    true, shares, area = [], [], []
    for day in range(4):  # two times a day
        part = slice(2 * day, 2 * day + 2)
        one = xr.concat([predicted == n for n in range(3)], "class").astype(float)
        one = one.where(predicted < 3)
        for column, values in zip(
            (true, shares, area),
            known_cells(labels[part], one.isel(time=part)),
            strict=True,
        ):
            column.append(values)
    rng = np.random.default_rng(3)
    draws = []
    for times in rng.multinomial(4, np.full(4, 0.25), 200):
        days = np.repeat(np.arange(4), times)
        parts = (np.concatenate([column[d] for d in days]) for column in (true, shares, area))
        y, p, weight = parts
        draws.append(sk.jaccard_score(y, p.argmax(-1), average=None, sample_weight=weight))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(found.scores.iou_low[:3], low)
    np.testing.assert_allclose(found.scores.iou_high[:3], high)
    assert found.settings["n_blocks"] == 4
    assert "4 blocks of 1D" in found.to_markdown()
    assert xsphere.evaluate(predicted, labels, block="2D").settings["n_blocks"] == 2


def test_chunks_order_and_schedulers_change_nothing(processes: Any) -> None:
    labels = random_mask(6)
    probability = random_probability(7, labels).transpose("class", "time", "lat", "lon")
    before = labels.copy(deep=True), probability.copy(deep=True)
    options: dict[str, Any] = {"block": "1D", "n_samples": 20}
    expected = xsphere.evaluate(probability, labels, **options)
    chunked = probability.chunk(time=3, lat=2), labels.chunk(time=2)
    for scheduler in ({"scheduler": "threads"}, processes):
        with dask.config.set(scheduler):
            found = xsphere.evaluate(*chunked, **options)
        assert found.to_dict() == expected.to_dict()
    more = xr.concat([probability[:, ::-1], probability.isel(time=[0])], "time")
    more = more.assign_coords(time=[*TIMES[::-1], pd.Timestamp("2003-01-01")])
    assert xsphere.evaluate(more, labels, **options).to_dict() == expected.to_dict()
    xr.testing.assert_identical(labels, before[0])
    xr.testing.assert_identical(probability, before[1])


def test_blocks_are_read_once_and_let_go() -> None:
    labels = random_mask(8)
    held: list[weakref.ref[Any]] = []
    most = 0

    def block(block_id: Any = None) -> Any:
        nonlocal most
        values = np.array(labels.values[block_id[0]][None])
        held.append(weakref.ref(values))
        most = max(most, sum(one() is not None for one in held))
        return values

    made = dask.array.map_blocks(block, chunks=((1,) * 8, 5, 8), dtype=np.uint8)
    with dask.config.set(scheduler="sync"):
        xsphere.evaluate(labels.copy(data=made), labels)
    assert len(held) == 8
    assert most <= 2


def test_other_grids_are_compared_where_it_is_asked() -> None:
    labels = random_mask(9, n_times=2, n_lat=9, n_lon=16)
    values = np.random.default_rng(10).dirichlet([1, 1, 1], (2, 48)).transpose(0, 2, 1)
    coords = {"time": TIMES[:2], "class": NAMES}
    bare = xr.DataArray(values, coords, ("time", "class", "cells"), "probability")
    probability = describe_healpix(bare, HealpixGrid(1))
    there = probability.sphere.regrid(xsphere.horizontal_grid(labels).grid, method="conservative")
    expected = xsphere.evaluate(there, labels, n_samples=0)
    found = xsphere.evaluate(probability, labels, n_samples=0)
    np.testing.assert_allclose(found.confusion, expected.confusion, rtol=1e-6)
    np.testing.assert_allclose(found.scores.brier, expected.scores.brier)
    on_model_grid = xsphere.evaluate(probability, labels, grid="predicted", n_samples=0)
    assert on_model_grid.settings["grid"] == repr(HealpixGrid(1))
    coarse = xsphere.evaluate(probability, labels, grid=HealpixGrid(0), n_samples=0)
    assert coarse.cells["total"] == 24


def test_annotators_are_averaged_where_they_know() -> None:
    """Four cells: both annotators say cyclone; one does; only one knows; one says both classes."""
    nan = np.nan
    cyclone = [[1, 1, 1, 1], [1, 0, nan, 0]]
    river = [[0, 0, 0, 1], [0, 0, 0, 0]]
    like = mask_of(np.zeros((1, 1, 4))).drop_attrs()
    labels = xr.DataArray(
        np.array([cyclone, river]).transpose(1, 0, 2),
        dims=("annotator", "class", "lon"),
        coords={"class": list(CLASSES)},
    ).expand_dims(like.drop_vars("lon").coords)
    labels = labels.assign_coords(like.coords)
    found = xsphere.evaluate(labels.isel(annotator=0, drop=True) * 0, labels, weighting="cells")
    true = np.array([[1, 0.5, 1, 0.25], [0, 0, 0, 0.25]])
    squares = [((1 - true.sum(0) - 1) ** 2).mean(), *(true**2).mean(1)]
    assert found.scores.brier.values[:3] == pytest.approx(squares)
    # of equal shares the first counts
    assert found.confusion.sum("predicted").values.tolist() == [2, 2, 0]


def test_a_model_segments_the_times_of_the_labels() -> None:
    ds, model = storm_dataset(n_times=4), storm_model()
    labels = xsphere.segment(ds, storm_model(seed=1)).isel(time=[2, 0])
    probability = xsphere.segment(ds, model, output="probability")
    expected = xsphere.evaluate(probability, labels).to_dict()
    assert probability.sphere.evaluate(labels).to_dict() == expected
    assert ds.chunk(time=1).sphere.evaluate(model, labels).to_dict() == expected


def test_some_classes_may_be_scored() -> None:
    labels, predicted = random_mask(11), random_mask(12)
    whole = xsphere.evaluate(predicted, labels)
    found = xsphere.evaluate(predicted, labels, classes="river")
    assert found.scores.group.values[:2].tolist() == ["background", "river"]
    assert found.scores.iou.sel(group="river") == whole.scores.iou.sel(group="river")
    # classes are told by their names, not their numbers
    swapped = np.array([0, 2, 1, *range(3, 256)], np.uint8)[predicted.values]
    other = predicted.copy(data=swapped).assign_attrs(mask_attributes(CLASSES[::-1]))
    xr.testing.assert_allclose(
        xsphere.evaluate(other, labels).scores.sel(group=CLASSES[0]),
        whole.scores.sel(group=CLASSES[0]),
    )


def test_classes_of_probabilities_are_those_of_masks() -> None:
    ds, labels = storm_dataset(n_times=2), random_mask(22, n_times=2, n_lat=19, n_lon=36)
    model = storm_model().with_record(
        calibration=Calibration(thresholds={"cyclone": 0.4, "river": 0.3})
    )
    labels = labels.assign_coords(time=ds.time)
    options: dict[str, Any] = {"grid": "predicted", "n_samples": 0}
    for threshold in (None, 0.35, "argmax", {"river": 0.5}):
        mask = xsphere.segment(ds, model, threshold=threshold)
        for classes in (None, "river"):
            expected = xsphere.evaluate(mask, labels, classes=classes, **options)
            found = xsphere.evaluate(
                model, labels, ds, classes=classes, threshold=threshold, **options
            )
            xr.testing.assert_equal(found.confusion, expected.confusion)
            np.testing.assert_array_equal(found.scores.pod, expected.scores.pod)
    assert found.settings["threshold"] == {"cyclone": 0.4, "river": 0.5}
    assert "Classes by thresholds: cyclone 0.4, river 0.5." in found.to_markdown()


def test_a_class_that_is_nowhere_is_told() -> None:
    labels = mask_of([[[0, 0, 1, 1], [0, 0, 0, 254]]])
    found = xsphere.evaluate(labels, labels)
    assert np.isnan(found.scores.iou.sel(group=["river", "mean_of_events"])).all()
    assert "Nowhere in the labels: river." in found.to_markdown()


def test_report_is_written(tmp_path: Any) -> None:
    labels = random_mask(13)
    found = xsphere.evaluate(random_probability(14, labels), labels, block="1D", n_samples=50)
    place = found.write(tmp_path / "report")
    names = {"scores.md", "scores.json", "scores.png", "reliability.png", "precision_recall.png"}
    assert {path.name for path in place.iterdir()} == names
    told = json.loads((place / "scores.json").read_text())
    assert told == json.loads(json.dumps(found.to_dict()))
    iou = told["scores"]["iou"]["river"]
    assert iou["value"] == pytest.approx(found.scores.iou.sel(group="river").item())
    assert iou["interval"][0] <= iou["value"] <= iou["interval"][1]
    assert f"{iou['value']:.3f}" in (place / "scores.md").read_text()
    assert f"{iou['value']:.3f}" in repr(found)
    with pytest.raises(FileExistsError):
        found.write(place)
    found.write(place, overwrite=True)


def failing(array: xr.DataArray) -> xr.DataArray:
    def fail() -> Any:
        raise AssertionError("data were read")

    lazy = dask.array.from_delayed(dask.delayed(fail)(), array.shape, array.dtype)
    return array.copy(data=lazy)


def soft(mask: xr.DataArray) -> xr.DataArray:
    """Nothing but the background, as a probability."""
    return mask.drop_attrs().expand_dims({"class": ["background"]})


LATER = np.timedelta64(1, "h")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda p, m: (p, m.assign_coords(time=m.time + LATER)), {}, "lacks 8 of 8.*labels.sel"),
        (lambda p, m: (p.isel(time=slice(2, None)), m), {}, "lacks 2 of 8"),
        (lambda p, m: (p.isel(time=0), m), {}, "lacks 7 of 8"),
        (lambda p, m: (p, m.isel(time=[0, 0, 1])), {}, "differ from each other, got 1 dup"),
        (lambda p, m: (p, m.assign_coords(time=range(8))), {}, "must be dates"),
        (lambda p, m: (p, m.drop_vars("time")), {}, "labels must have a time coordinate"),
        (lambda p, m: (p, m.assign_attrs(mask_attributes(["fog"]))), {}, "the same classes"),
        (lambda p, m: (p, m.drop_attrs()), {}, "must have the attributes flag_values"),
        (lambda p, m: (p, m.astype(float).drop_attrs()), {}, "integer classes, or probabilities"),
        (lambda p, m: (p.expand_dims("member"), m), {}, "member of predicted"),
        (
            lambda p, m: (p.rename(lat="a", lon="b").drop_vars(["a", "b"]), m),
            {},
            "expected HEALPix metadata",
        ),
        (lambda p, m: (p, m), {"classes": ["fog", "river"]}, "that both sides have"),
        (lambda p, m: (p, m), {"block": 5}, "length of time"),
        (lambda p, m: (p, m), {"threshold": 0.5}, "threshold is for probabilities"),
        (lambda p, m: (p, soft(m)), {}, "other than the background"),
        (lambda p, m: (p, m), {"ds": storm_dataset()}, "not with a mask"),
        (
            lambda p, m: (p, m),
            {"block": "soon", "seed": -1, "grid": "mine", "min_overlap": 2, "threshold": 2},
            "grid must be.*threshold must be.*min_overlap must be.*seed must be.*block must be",
        ),
    ],
)
def test_what_does_not_match_is_refused_before_work(
    change: Any, options: dict[str, Any], message: str
) -> None:
    labels = random_mask(15)
    sides = change(failing(random_mask(16)), failing(labels))
    with pytest.raises(ValueError, match=message):
        xsphere.evaluate(*sides, **options)


def test_other_kinds_are_refused() -> None:
    labels = random_mask(17)
    with pytest.raises(TypeError, match="choose an array"):
        xsphere.evaluate(labels.to_dataset(), labels)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="labels must be a DataArray"):
        xsphere.evaluate(labels, labels.to_dataset())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ds must be given with a model"):
        xsphere.evaluate("tc-ar", labels)
    with pytest.raises(ValueError, match="no cell is known both"):
        xsphere.evaluate(labels, labels * 0 + np.uint8(254))
    with pytest.raises(ValueError, match="probabilities must be from 0 to 1"):
        xsphere.evaluate(random_probability(1, labels) * 250, labels)


@examples(40)
@given(st.integers(0, 10**6), st.sampled_from(["3D", "10D", "30D"]), st.sampled_from([0, 24, 72]))
def test_splits_keep_blocks_together(seed: int, block: str, gap: int) -> None:
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.choice(24 * 120, 300, replace=False))
    times = pd.Timestamp("2001-01-01") + pd.to_timedelta(hours, "h")
    ds = xr.Dataset(coords={"time": times[rng.permutation(300)]})
    parts = xsphere.split_times(ds, block=block, gap=f"{gap}h", seed=seed)
    numbers = {
        name: set(((part.values - times[0].to_numpy()) // pd.Timedelta(block)).tolist())
        for name, part in parts.items()
    }
    assert list(parts) == ["training", "validation", "test"]
    assert all(
        len(part) and (np.diff(part.values) > np.timedelta64(0)).all() for part in parts.values()
    )
    assert not numbers["training"] & (numbers["validation"] | numbers["test"])
    assert not numbers["validation"] & numbers["test"]
    others = np.concatenate([parts["validation"].values, parts["test"].values])
    distance = abs(parts["training"].values[:, None] - others).min(1) / np.timedelta64(1, "h")
    assert distance.min() >= gap
    left = set(times.to_numpy()) - set(np.concatenate([others, parts["training"].values]))
    assert all(abs(others - time).min() < np.timedelta64(gap, "h") for time in left)
    xr.testing.assert_identical(ds.sel(time=parts["test"]).time, parts["test"])


def test_splits_are_what_training_takes() -> None:
    times = pd.date_range("2001-01-01", periods=80, freq="12h").to_numpy()
    parts = xsphere.split_times(xr.Dataset(coords={"time": times}), block="4D")
    chosen = validation_times(times, parts["validation"])
    assert times[chosen].tolist() == parts["validation"].values.tolist()


def test_single_times_are_drawn_by_name_with_a_warning() -> None:
    ds = xr.Dataset(coords={"time": pd.date_range("2001-01-01", periods=200, freq="3h")})
    with pytest.warns(UserWarning, match=r"9\d % of the times|9\d% of the times"):
        parts = xsphere.split_times(ds, unit="single_times")
    assert [len(part) for part in parts.values()] == [140, 30, 30]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shares": {"training": 1.0}, "unit": "hours", "gap": "-1h"},
            "unit must.*shares must.*gap",
        ),
        ({"block": "90D"}, "a block for each"),
    ],
)
def test_bad_splits_are_refused(options: dict[str, Any], message: str) -> None:
    ds = xr.Dataset(coords={"time": pd.date_range("2001-01-01", periods=20, freq="3h")})
    with pytest.raises(ValueError, match=message):
        xsphere.split_times(ds, **options)


def test_published_scores_are_of_their_own_definitions() -> None:
    labels = random_mask(18)
    probability = random_probability(19, labels)
    found = xsphere.evaluate(probability, labels, weighting="cells")
    true, shares, _ = known_cells(labels, probability)
    published = found.published
    hard = shares.argmax(-1)
    assert published["accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, hard))
    exact = np.mean([sk.average_precision_score(true == n, shares[:, n]) for n in (1, 2)])
    assert published["mAP"] == pytest.approx(exact, abs=0.01)
    assert published["events_mean_iou"] == pytest.approx(
        sk.jaccard_score(true, hard, labels=[1, 2], average="macro")
    )
    assert "accuracy" in found.to_markdown()


def test_the_command_writes_what_the_function_gives(tmp_path: Path, in_shell: Any) -> None:
    labels = random_mask(20)
    probability = random_probability(21, labels)
    labels.to_netcdf(tmp_path / "labels.nc")
    probability.to_netcdf(tmp_path / "p.nc")
    expected = xsphere.evaluate(probability, labels, block="1D", weighting="cells", n_samples=9)
    options = ["--block", "1D", "--weighting", "cells", "--n-samples", "9"]
    command = ["evaluate", tmp_path / "p.nc", tmp_path / "labels.nc", *options]
    done = in_shell(*command, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert expected.to_markdown() in done.stdout
    told = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert told == expected.to_dict()
    assert "is there already" in in_shell(*command, "--out", tmp_path / "report").stderr
    storm_dataset().to_netcdf(tmp_path / "in.nc")
    done = in_shell("evaluate", tmp_path / "p.nc", tmp_path / "in.nc")
    assert "one variable with flag_meanings" in done.stderr


@pytest.mark.slow
def test_the_command_scores_a_model(tmp_path: Path, in_shell: Any) -> None:
    ds, model = storm_dataset(n_times=6), storm_model()
    chunks = {name: {"chunks": (2, 19, 36)} for name in ds}
    ds.to_zarr(tmp_path / "in.zarr", consolidated=False, encoding=chunks)
    model.save(tmp_path / "m.safetensors")
    labels = xsphere.segment(ds, storm_model(seed=1), grid="source").isel(time=[4, 1])
    labels.to_netcdf(tmp_path / "labels.nc")
    sides = [tmp_path / "m.safetensors", tmp_path / "labels.nc", "--of", tmp_path / "in.zarr"]
    done = in_shell("evaluate", *sides, "--class", "river")
    assert done.returncode == 0, done.stderr
    expected = xsphere.evaluate(model, labels, ds, classes="river")
    assert expected.to_markdown() in done.stdout
