"""The bundled model on real fields: its scores are those in its file."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xsphere
from xsphere.conventions import mask_attributes

GFS = "gfs_2p5deg_2011-10-11T00"
FIELDS = ("gefs_p10_1deg_2005-12-11T18", "gfs_2p5deg_2011-01-15T12", GFS)


def test_bundled_model_is_small_and_says_what_it_is() -> None:
    model = xsphere.Model.load("tc-ar")
    path = Path(xsphere.__file__).parent / "data" / "models" / "tc-ar.safetensors"
    assert path.stat().st_size < 5 * 2**20
    assert model.n_parameters < 1_000_000
    assert "not expert truth" in model.spec.description
    assert model.spec.training["history"]
    assert model.spec.scores


def test_scores_on_held_out_months_are_recorded() -> None:
    scores = xsphere.Model.load("tc-ar").spec.scores["agreement with CGNet, held-out months"]
    assert scores["maps"] == 120
    for name, least in (("tropical_cyclone", 0.5), ("atmospheric_river", 0.65)):
        low, high = scores[name]["iou_95"]
        assert least < scores[name]["iou"]
        assert low < scores[name]["iou"] < high


@pytest.mark.parametrize("name", FIELDS)
def test_scores_on_real_fields_are_reproduced(test_data: Path, name: str) -> None:
    model = xsphere.Model.load("tc-ar")
    recorded = model.spec.scores["IoU with the vote of four CGNet, real maps"][name]
    with xr.open_dataset(test_data / "fields" / f"{name}.nc") as ds:
        mask = ds.sphere.segment(model)
    with xr.open_dataset(test_data / "labels" / f"cgnet_pseudo_{name}.nc") as labels:
        vote = labels["vote"].load()
    mask = mask.isel(time=0, drop=True)
    labels = vote.astype("uint8").assign_attrs(mask_attributes(model.classes))
    found = xsphere.evaluate(mask, labels, grid="predicted").scores.iou
    for key, value in recorded.items():
        assert found.sel(group=key).item() == pytest.approx(value, abs=0.01)


def test_winds_may_come_with_a_vertical_dimension(test_data: Path) -> None:
    with xr.open_dataset(test_data / "fields" / f"{GFS}.nc") as ds:
        expected = ds.sphere.segment("tc-ar", output="probability")
        stacked = ds.drop_vars(["U850", "V850"]).sphere.segment("tc-ar", output="probability")
    np.testing.assert_array_equal(stacked, expected)


def test_sample_is_the_original(test_data: Path) -> None:
    with xr.open_dataset(test_data / "fields" / f"{GFS}.nc") as ds:
        expected = ds[["TMQ", "PSL", "U850", "V850"]].load()
    sample = xsphere.sample_dataset().sel(time=expected.time)
    for name in expected:
        np.testing.assert_array_equal(sample[name], expected[name])


def test_files_without_the_inputs_say_what_is_missing(test_data: Path) -> None:
    with (
        xr.open_dataset(test_data / "fields" / "ecmwf_0p4deg_msl_2022-08-17_19.nc") as ds,
        pytest.raises(ValueError, match=r"TMQ: missing(.|\n)*U850: missing(.|\n)*V850: missing"),
    ):
        ds.sphere.segment("tc-ar")
