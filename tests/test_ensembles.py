"""Ensembles: one file, the mean and the spread of members, refusals that name all differences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.test_model import edited_spec
from tests.toys import storm_dataset, storm_model, storm_spec
from xsphere.model import Calibration, Channel, Model, ModelFileError


def members() -> list[Model]:
    """Members that differ in all they may: networks, normalisations and temperatures."""
    channels = (Channel(name="PSL", sources=("PSL",), mean=100000.0, std=2000.0),)
    network = {"architecture": "unet", "features": (5,), "depths": (0,), "kernel_size": 2}
    other = replace(storm_spec(), name="other", channels=channels, network=network)
    calibration = Calibration(temperature=0.4, thresholds={"cyclone": 0.9, "river": 0.9})
    return [
        storm_model(),
        storm_model(seed=1).with_record(calibration=calibration),
        Model.untrained(other, seed=2),
    ]


@pytest.fixture(scope="module")
def ensemble() -> Model:
    return Model.ensemble(members(), name="three", description="Three models.")


def test_an_ensemble_is_one_file(ensemble: Model, tmp_path: Path) -> None:
    again = Model.load(ensemble.save(tmp_path / "m.safetensors"))
    assert again == ensemble
    assert list(again.members) == members()
    assert again.n_parameters == sum(model.n_parameters for model in members())
    assert (again.level, again.classes) == (2, ("cyclone", "river"))
    assert "mean of 3 models" in repr(again)


def test_probability_and_spread_are_those_of_members(ensemble: Model) -> None:
    ds = storm_dataset(2)
    ds.PSL[1, 9] = np.nan
    each = [xsphere.segment(ds, model, output="probability") for model in members()]
    stacked = np.stack([array.values for array in each]).astype(np.float64)
    found = xsphere.segment(ds, ensemble, output="probability")
    np.testing.assert_allclose(found, stacked.mean(0), rtol=1e-6)
    spread = xsphere.segment(ds, ensemble, output="spread")
    np.testing.assert_allclose(spread, stacked.std(0), rtol=1e-5, atol=1e-7)
    assert (spread.name, spread.dtype, spread.dims) == ("spread", np.float32, found.dims)
    assert spread.attrs["calibration"] == "temperatures of members: 1, 0.4, 1"
    assert np.isnan(spread).any()
    # the thresholds of members do not count
    mask = xsphere.segment(ds, ensemble)
    expected = np.where(np.isfinite(found[:, 0]), found.fillna(0.0).argmax("class"), 254)
    np.testing.assert_array_equal(mask, expected)


def test_a_temperature_comes_after_the_mean(ensemble: Model) -> None:
    ds = storm_dataset(1)
    calibration = Calibration(temperature=2.0, thresholds={"cyclone": 0.5, "river": 0.2})
    tempered = ensemble.with_record(calibration=calibration)
    mean = xsphere.segment(ds, ensemble, output="probability").astype(float)
    expected = np.sqrt(mean) / np.sqrt(mean).sum("class")
    found = xsphere.segment(ds, tempered, output="probability")
    xr.testing.assert_allclose(found.astype(float), expected, rtol=1e-6)
    known = xsphere.calibrate(ensemble, ds, found, score=None)
    assert known.temperature == pytest.approx(2.0, rel=1e-3)


def test_an_ensemble_is_lazy_and_has_the_same_bits(ensemble: Model) -> None:
    ds = storm_dataset(3)
    lazy = xsphere.segment(ds.chunk(time=1), ensemble, output="spread")
    assert lazy.chunks
    xr.testing.assert_equal(lazy.compute(), xsphere.segment(ds, ensemble, output="spread"))


def test_all_differences_of_members_are_named() -> None:
    spec = storm_spec(level=3)
    variables = (replace(spec.variables[0], units="hPa", aliases=()), *spec.variables[1:])
    other = Model.untrained(replace(spec, classes=("cyclone", "front"), variables=variables))
    with pytest.raises(ValueError, match=r"member 1 \('storms'\)") as caught:
        Model.ensemble([storm_model(), other])
    for words in (
        "the level of the others, 2, got 3",
        "the classes of the others, ('cyclone', 'river'), got ('cyclone', 'front')",
        "the units of PSL of the others, 'Pa', got 'hPa'",
        "the aliases of PSL of the others, ('msl',), got ()",
    ):
        assert words in str(caught.value)
    fewer = replace(storm_spec(), variables=variables[:1], channels=spec.channels[:1])
    with pytest.raises(ValueError, match=r"the variables of the others, \['PSL', 'U850', 'V850'\]"):
        Model.ensemble([storm_model(), Model.untrained(fewer)])


@pytest.mark.parametrize("n", [0, 1, 17])
def test_ensembles_have_some_members(n: int) -> None:
    with pytest.raises(ValueError, match=f"must have 2 to 16 members, got {n}"):
        Model.ensemble([storm_model()] * n)


def test_what_ensembles_are_not_is_refused(ensemble: Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be no ensemble"):
        Model.ensemble([ensemble, storm_model()])
    with pytest.raises(ValueError, match="the ensemble 'three' has no network of its own"):
        ensemble.network()
    with pytest.raises(ValueError, match="output='spread' is of ensembles, and 'storms' is one"):
        xsphere.segment(storm_dataset(1), storm_model(), output="spread")
    path = ensemble.save(tmp_path / "m.safetensors")
    nested = [ensemble.spec.to_dict(), storm_spec().to_dict()]
    with pytest.raises(ModelFileError, match="member 0: it must be no ensemble"):
        Model.load(edited_spec(path, members=nested))
    ensemble.save(path)
    with pytest.raises(ModelFileError, match="an ensemble must have the network"):
        Model.load(edited_spec(path, network=storm_spec().network))


def test_scores_of_a_model_follow_its_thresholds() -> None:
    ds = storm_dataset(2)
    calibration = Calibration(thresholds={"cyclone": 0.8, "river": 0.2})
    model = storm_model().with_record(calibration=calibration)
    labels = xsphere.segment(ds, model)
    found = xsphere.evaluate(model, labels, ds, n_samples=0)
    assert (found.scores.iou.sel(group=["cyclone", "river"]) == 1.0).all()
    plain = xsphere.evaluate(storm_model(), labels, ds, n_samples=0)
    assert plain.scores.iou.sel(group="cyclone") < 0.9
