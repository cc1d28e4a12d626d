"""Temperatures and thresholds: how classes are decided by them, kept in files, and chosen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import log_softmax, softmax
from sklearn.metrics import jaccard_score, log_loss
from typer.testing import CliRunner

import xsphere
from tests.test_model import edited_spec
from tests.toys import storm_dataset, storm_model
from xsphere.cli import app
from xsphere.conventions import mask_attributes
from xsphere.model import Calibration, Model, ModelFileError
from xsphere.segmentation.node import decided

THRESHOLDS = {"cyclone": 0.8, "river": 0.2}


def calibrated(temperature: float = 1.0, **thresholds: float) -> Model:
    return storm_model().with_record(
        calibration=Calibration(temperature=temperature, thresholds=thresholds)
    )


def by_hand(chances: np.ndarray, thresholds: list[float]) -> int:
    """Class of one cell: the rule, word for word."""
    best, found = 0.0, 0
    for number, threshold in enumerate(thresholds, start=1):
        if chances[number] >= np.float32(threshold):
            ratio = chances[number] / np.float32(threshold)
            if ratio > best:
                best, found = ratio, number
    return found


def test_a_calibrated_file_round_trips(tmp_path: Path) -> None:
    model = calibrated(1.7, **THRESHOLDS)
    again = Model.load(model.save(tmp_path / "m.safetensors"))
    assert again.spec == model.spec
    assert (again.temperature, again.thresholds) == (1.7, THRESHOLDS)
    assert model.digest != storm_model().digest == model.with_record(calibration=None).digest
    # files of models without one are what they were
    assert "calibration" not in storm_model().spec.to_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 0.0}, "temperature must be from 0.01 to 100"),
        ({"temperature": "hot"}, "temperature must be a finite number"),
        ({"thresholds": {"cyclone": 0.5}}, "thresholds must be of the classes"),
        ({"thresholds": {"cyclone": 0.5, "river": 1.5}}, r"thresholds\['river'\] must be from"),
        ({"thresholds": {"cyclone": 0, "river": 0.5}}, r"thresholds\['cyclone'\] must be from"),
        ({"thresholds": [0.5, 0.5]}, "thresholds must be a JSON object"),
        ({"thresh": {}}, r"calibration has unknown entries \['thresh'\]"),
    ],
)
def test_absurd_calibrations_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = storm_model().save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=words):
        Model.load(edited_spec(path, calibration=change))


def test_scores_are_divided_by_the_temperature() -> None:
    ds, tempered = storm_dataset(2), calibrated(2.5)
    plain = xsphere.segment(ds, storm_model(), output="probability")
    found = xsphere.segment(ds, tempered, output="probability")
    # logarithms of probabilities are scores but for a constant
    expected = softmax(np.log(plain.values.astype(np.float64)) / 2.5, axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(found - plain).max() > 0.02
    assert plain.attrs["calibration"].startswith("none")
    assert found.attrs["calibration"].startswith("temperature 2.5 of the softmax")


@pytest.mark.parametrize("threshold", [THRESHOLDS, 0.7, {"cyclone": 0.9, "river": 0.05}])
def test_a_mask_follows_the_thresholds(threshold: Any) -> None:
    ds = storm_dataset(2)
    ds.PSL[0, 9] = np.nan
    chances = xsphere.segment(ds, storm_model(), output="probability").values
    mask = xsphere.segment(ds, storm_model(), threshold=threshold)
    each = list(threshold.values()) if isinstance(threshold, dict) else [threshold] * 2
    for step, cell in np.ndindex(mask.shape):
        known = np.isfinite(chances[step, :, cell]).all()
        expected = by_hand(chances[step, :, cell], each) if known else 254
        assert mask.values[step, cell] == expected
    assert (mask == 254).any()
    assert len(np.unique(mask)) > 2
    assert mask.attrs["thresholds"] == each


def test_ties_fall_to_the_first_class_and_a_threshold_counts_itself() -> None:
    chances = np.array([[0.5, 0.25, 0.25], [0.5, 0.2, 0.3], [0.75, 0.25, 0.0]], np.float32)
    for cell, expected in zip(chances, (1, 2, 1), strict=True):
        assert decided(cell[None, :, None], (0.25, 0.25)) == [[expected]]
    # nothing reaches its threshold
    assert decided(chances[:1, :, None], (0.3, 0.3)) == [[0]]


def test_thresholds_of_the_model_count_unless_others_are_given() -> None:
    ds, model = storm_dataset(1), calibrated(**THRESHOLDS)

    for given, expected in (
        (None, THRESHOLDS),
        ({"river": 0.3}, THRESHOLDS | {"river": 0.3}),
        ("argmax", None),
    ):
        mask = xsphere.segment(ds, model, threshold=given)
        assert mask.equals(xsphere.segment(ds, storm_model(), threshold=expected))
    likeliest = xsphere.segment(ds, storm_model(), output="probability").argmax("class")
    assert (xsphere.segment(ds, storm_model()) == likeliest).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.0}, "threshold must be a probability"),
        ({"threshold": True}, "threshold must be a probability"),
        ({"threshold": {"river": 2.0}}, r"threshold\['river'\] must be from"),
        ({"threshold": {"river": 0.2, "rain": 0.2}}, r"got unknown \['rain'\], and none of \['cyc"),
        ({"threshold": 0.5, "output": "probability"}, "threshold is for output='mask'"),
    ],
)
def test_thresholds_are_checked(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        xsphere.segment(storm_dataset(1), storm_model(), **options)


def test_lazy_masks_have_the_same_bits_and_names_of_their_own() -> None:
    ds = storm_dataset(3)
    eager = xsphere.segment(ds, storm_model(), threshold=THRESHOLDS)
    lazy = xsphere.segment(ds.chunk(time=2), storm_model(), threshold=THRESHOLDS)
    xr.testing.assert_equal(lazy.compute(), eager)
    other = xsphere.segment(ds.chunk(time=2), storm_model(), threshold=0.2)
    assert lazy.data.name != other.data.name


def test_a_store_of_other_thresholds_is_refused(tmp_path: Path) -> None:
    ds, place = storm_dataset(2).chunk(time=1), tmp_path / "mask.zarr"
    xsphere.segment(ds, storm_model(), threshold=0.3).sphere.to_zarr(place, progress=False)
    for threshold in (0.4, None):
        with pytest.raises(ValueError, match="thresholds"):
            xsphere.segment(ds, storm_model(), threshold=threshold).sphere.to_zarr(place)
    # said in another way, it is the same run
    same = xsphere.segment(ds, storm_model(), threshold={"cyclone": 0.3, "river": 0.3})
    same.sphere.to_zarr(place, progress=False)
    assert (xsphere.open_mask(place) == same).all()


def test_the_command_takes_thresholds(tmp_path: Path) -> None:
    ds, model = storm_dataset(1), storm_model().save(tmp_path / "m.safetensors")
    ds.to_netcdf(tmp_path / "in.nc")
    arguments = ["segment", str(tmp_path / "in.nc"), str(tmp_path / "out.nc"), "-m", str(model)]
    done = CliRunner().invoke(app, [*arguments, "--threshold", "cyclone=0.8,river=0.2"])
    assert done.exit_code == 0, done.output
    with xr.open_dataset(tmp_path / "out.nc") as written:
        assert (written.mask == xsphere.segment(ds, storm_model(), threshold=THRESHOLDS)).all()
    wrong = CliRunner().invoke(app, [*arguments, "--threshold", "river=0.2,river=0.3"])
    assert wrong.exit_code == 2
    assert "each class once" in wrong.output


def labelled(ds: xr.Dataset, temperature: float, seed: int = 0) -> xr.DataArray:
    """Labels drawn from the probabilities of a model at another temperature."""
    chances = xsphere.segment(ds, calibrated(temperature), output="probability")
    draws = np.random.default_rng(seed).random((len(chances), 1, chances.sizes["cells"]))
    drawn = (chances.values.cumsum(axis=1) < draws).sum(axis=1).clip(0, 2).astype(np.uint8)
    labels = chances.isel({"class": 0}, drop=True).copy(data=drawn)
    return labels.assign_attrs(mask_attributes(storm_model().classes))


def test_a_known_temperature_is_found_again() -> None:
    ds = storm_dataset(3)
    labels = xsphere.segment(ds, calibrated(1.8), output="probability")
    # what a model was before does not count
    found = xsphere.calibrate(calibrated(0.3, **THRESHOLDS), ds, labels, score=None)
    assert found.temperature == pytest.approx(1.8, rel=1e-3)
    assert found.thresholds == {}
    assert all(
        np.array_equal(found.tensors[name], storm_model().tensors[name]) for name in found.tensors
    )


@pytest.fixture(scope="module")
def chosen() -> tuple[xr.Dataset, xr.DataArray, Model]:
    ds = storm_dataset(4)
    ds.PSL[1, 9] = np.nan
    labels = labelled(storm_dataset(4), 0.6)
    labels[2, :50] = 255
    return ds, labels, xsphere.calibrate(storm_model(), ds, labels)


def test_no_other_temperature_has_less_log_loss(chosen: Any) -> None:
    ds, labels, model = chosen
    plain = xsphere.segment(ds, storm_model(), output="probability").transpose(..., "class")
    known = (labels.values <= 2) & np.isfinite(plain.values).all(-1)
    logs, true = np.log(plain.values[known].astype(np.float64)), labels.values[known]

    def loss(temperature: float) -> float:
        return log_loss(true, np.exp(log_softmax(logs / temperature, axis=1)), labels=[0, 1, 2])

    tried = np.geomspace(0.05, 20, 400)
    assert loss(model.temperature) <= min(map(loss, tried)) + 1e-9
    record = model.spec.calibration.chosen_by
    assert record["log_loss"] == pytest.approx(
        {"as trained": loss(1.0), "calibrated": loss(model.temperature)}, rel=1e-4
    )
    assert record["cells"] == known.sum() < labels.size
    assert record["times"][2] == 4
    json.dumps(record)


def test_no_other_threshold_has_a_larger_score(chosen: Any) -> None:
    ds, labels, model = chosen
    chances = xsphere.segment(ds, model, output="probability").transpose("class", ...).values
    known = (labels.values <= 2) & np.isfinite(chances).all(0)
    for number, name in enumerate(model.classes, start=1):
        true, p = labels.values[known] == number, chances[number][known]
        tried = {t: jaccard_score(true, p >= np.float32(t)) for t in np.arange(1, 100) / 100}
        best = max(tried.values())
        # a cell on a threshold may fall to either side by rounding
        assert tried[model.thresholds[name]] == pytest.approx(best, abs=5e-3)
        assert model.spec.calibration.chosen_by["scores"][name] == pytest.approx(best, abs=5e-3)


def test_what_cannot_be_calibrated_is_refused() -> None:
    ds, labels = storm_dataset(2), labelled(storm_dataset(2), 1.0)
    with pytest.raises(ValueError, match="score must be one of"):
        xsphere.calibrate(storm_model(), ds, labels, score="accuracy")  # type: ignore[arg-type]
    none = xr.zeros_like(labels)
    with pytest.raises(ValueError, match=r"classes \['cyclone', 'river'\] are in none"):
        xsphere.calibrate(storm_model(), ds, none)
    with pytest.raises(ValueError, match="no cell is known"):
        xsphere.calibrate(storm_model(), ds, xr.full_like(labels, 255))
    others = labels.assign_attrs(mask_attributes(["low"]))
    with pytest.raises(ValueError, match="labels must have the classes of the model"):
        xsphere.calibrate(storm_model(), ds, others)
    with pytest.raises(ValueError, match="ds must have every time of the labels"):
        xsphere.calibrate(storm_model(), ds.isel(time=[0]), labels)
