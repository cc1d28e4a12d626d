"""Training: it learns, repeats itself, resumes to the same weights, and refuses nonsense."""

from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import torch
import xarray as xr

from tests.toys import storm_dataset
from xsphere.augmentation import InsertCyclones, Noise, Turn
from xsphere.fitting import fit
from xsphere.model import Channel, Model
from xsphere.nn.training import TrainingOptions

SPEED = Channel(name="speed", kind="wind_speed", sources=("U850", "V850"))
TINY = {"features": (6,), "depths": (0,), "kernel_size": 2}


def windy_labels(ds: xr.Dataset) -> xr.DataArray:
    """Class 1 where the wind blows hard: a network with the wind speed can learn it."""
    labels = (np.hypot(ds.U850, ds.V850) > 14.0).astype(np.uint8)
    labels.attrs = {"flag_values": [0, 1], "flag_meanings": "background gale"}
    return labels


def trained(ds: xr.Dataset, labels: xr.DataArray, **options: Any) -> Model:
    training = {"epochs": 2, "batch_size": 4} | options.pop("training", {})
    settings = {
        "architecture": TINY,
        "level": 2,
        "derived": (SPEED,),
        "variables": ("PSL", "U850", "V850"),
        "validation": 0.25,
        "progress": False,
        "options": TrainingOptions(**training),
    }
    return fit(ds, labels, **(settings | options))


def test_it_learns() -> None:
    ds = storm_dataset(n_times=12)
    # as smooth as the grid that the model works on
    ds = ds.map(lambda a: a.rolling(lat=7, lon=7, center=True, min_periods=1).mean() * 3)
    for name, array in storm_dataset().data_vars.items():
        ds[name].attrs = array.attrs
    ds["PSL"] = ds["PSL"] / 3
    ds["PSL"].attrs = storm_dataset()["PSL"].attrs
    model = trained(ds, windy_labels(ds), training={"epochs": 12, "learning_rate": 0.02})
    history = model.spec.training["history"]
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert history[-1]["iou"]["gale"] > 0.35


def test_same_seed_same_model() -> None:
    ds = storm_dataset(n_times=8)
    first, second = (trained(ds, windy_labels(ds)) for _ in range(2))
    assert first == second
    assert trained(ds, windy_labels(ds), training={"seed": 1}) != first


def test_chunked_data_give_the_same_model() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    assert trained(ds.chunk(time=3), labels.chunk(time=2)) == trained(ds, labels)


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    ds = storm_dataset(n_times=8)
    trained(ds, windy_labels(ds))
    assert torch.equal(torch.rand(1), expected)


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    trained(ds, windy_labels(ds), checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="belongs to a training with other data or options"):
        trained(ds, windy_labels(ds), checkpoint=tmp_path / "c", training={"learning_rate": 0.1})
    other = storm_dataset(n_times=8, seed=1)
    with pytest.raises(ValueError, match="belongs to a training with other data or options"):
        trained(other, windy_labels(other), checkpoint=tmp_path / "c")


def reversed_labels(ds: xr.Dataset, labels: xr.DataArray) -> tuple[xr.Dataset, xr.DataArray]:
    return ds, labels.copy(data=np.concatenate([labels.values[5::-1], labels.values[6:]]))


def reversed_fields(ds: xr.Dataset, labels: xr.DataArray) -> tuple[xr.Dataset, xr.DataArray]:
    order = [5, 4, 3, 2, 1, 0, 6, 7]
    return ds.isel(time=order).assign_coords(time=ds.time), labels


def swapped_winds(ds: xr.Dataset, labels: xr.DataArray) -> tuple[xr.Dataset, xr.DataArray]:
    return ds.assign(U850=ds.U850.copy(data=ds.V850), V850=ds.V850.copy(data=ds.U850)), labels


def mirrored_labels(ds: xr.Dataset, labels: xr.DataArray) -> tuple[xr.Dataset, xr.DataArray]:
    return ds, labels.copy(data=labels.values[..., ::-1])


def later(ds: xr.Dataset, labels: xr.DataArray) -> tuple[xr.Dataset, xr.DataArray]:
    times = ds.time + np.timedelta64(1, "D")
    return ds.assign_coords(time=times), labels.assign_coords(time=times)


@pytest.mark.parametrize(
    "change", [reversed_labels, reversed_fields, swapped_winds, mirrored_labels, later]
)
def test_checkpoint_of_the_same_values_in_another_order_is_refused(
    tmp_path: Path, change: Any
) -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    trained(ds, labels, checkpoint=tmp_path / "c", training={"epochs": 1})
    with pytest.raises(ValueError, match="belongs to a training with other data or options"):
        trained(*change(ds, labels), checkpoint=tmp_path / "c", training={"epochs": 1})


def test_checkpoint_with_other_validation_times_is_refused(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    first, last = (slice(*ds.time.values[[i, i + 1]]) for i in (0, 6))
    options: dict[str, Any] = {"checkpoint": tmp_path / "c", "training": {"epochs": 1}}
    trained(ds, windy_labels(ds), validation=last, **options)
    with pytest.raises(ValueError, match="belongs to a training with other data or options"):
        trained(ds, windy_labels(ds), validation=first, **options)


@pytest.mark.parametrize("position", [0, 12, 200, 2000, -3])
def test_damaged_checkpoint_is_refused(tmp_path: Path, position: int) -> None:
    ds = storm_dataset(n_times=8)
    trained(ds, windy_labels(ds), checkpoint=tmp_path / "c", training={"epochs": 1})
    content = bytearray((tmp_path / "c").read_bytes())
    content[position] ^= 1
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint .* cannot be used: .*; delete it"):
        trained(ds, windy_labels(ds), checkpoint=tmp_path / "c", training={"epochs": 1})


def test_probabilities_are_labels_too() -> None:
    ds = storm_dataset(n_times=8)
    hard = windy_labels(ds)
    soft = xr.concat([hard.astype(float)], "event").assign_coords(event=["gale"])
    model = trained(ds, soft.transpose("time", "event", "lat", "lon"))
    assert model.classes == ("gale",)
    expected = trained(ds, hard)
    for name, tensor in model.tensors.items():
        np.testing.assert_allclose(tensor, expected.tensors[name], atol=1e-6)


def test_labels_may_be_on_another_grid_and_at_fewer_times() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds).isel(time=slice(None, None, 2), lat=slice(1, -1))
    record = trained(ds, labels).spec.training
    assert record["times"]["training"][2] == 3
    assert record["times"]["validation"][2] == 1


def test_unknown_labels_teach_nothing() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    labels.attrs = {
        "flag_values": [0, 1, 254, 255],
        "flag_meanings": "background gale invalid_input not_computed",
    }
    half = labels.copy(data=np.where(ds.lat.values[:, None] > 0, 255, labels))
    other = labels.copy(data=np.where(ds.lat.values[:, None] > 0, 254, labels))
    assert trained(ds, half) == trained(ds, other)
    assert trained(ds, half) != trained(ds, labels)


def test_classes_are_told_by_their_flag_values() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    other = (labels * 5).astype(np.uint8)
    other.attrs = {"flag_values": [0, 5], "flag_meanings": "background gale"}
    assert trained(ds, other) == trained(ds, labels)


def test_labels_that_are_not_declared_teach_nothing() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    north = ds.lat.values[:, None] > 0
    first, second = (labels.copy(data=np.where(north, value, labels)) for value in (7, 99))
    assert trained(ds, first) == trained(ds, second)
    assert trained(ds, first) != trained(ds, labels.copy(data=np.where(north, 0, labels)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.5}, "share from 0 to 1"),
        ({"class_weights": "many"}, "class_weights must be one of"),
        ({"class_weights": (1.0,)}, "class_weights must be 2"),
        (
            {"augment": [InsertCyclones(), InsertCyclones(class_name="wind")]},
            r"no class 'tropical_cyclone' but \['gale'\].*no class 'wind'",
        ),
        ({"architecture": {"features": (0,), "depths": (0,)}}, "features must be"),
        ({"architecture": {"features": (4,) * 5, "depths": range(5)}}, "needs level 4 or finer"),
    ],
)
def test_bad_options_are_refused_before_any_work(options: dict[str, Any], message: str) -> None:
    def fail() -> Any:
        raise AssertionError("data were read")

    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    for name, array in ds.data_vars.items():
        lazy = dask.array.from_delayed(dask.delayed(fail)(), array.shape, array.dtype)
        ds[name] = array.copy(data=lazy)
    with pytest.raises(ValueError, match=message):
        trained(ds, labels, **options)


def test_record_says_what_was_done() -> None:
    ds = storm_dataset(n_times=8)
    model = trained(ds, windy_labels(ds), name="gales", description="Hard winds.")
    record = model.spec.training
    assert model.spec.name == "gales"
    assert record["options"]["epochs"] == 2
    assert len(record["history"]) == 2
    assert set(record["versions"]) == {"xsphere", "torch", "numpy"}
    speed = model.spec.channels[-1]
    assert speed.mean == pytest.approx(11.0, rel=0.6)
    assert speed.std > 0


def test_augmentations_are_drawn_by_the_seed_and_recorded(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    plain, first, second, other = (
        trained(ds, labels, augment=augment)
        for augment in ([], [Turn(), Noise()], [Turn(), Noise()], [Noise(), Turn()])
    )
    assert first == second
    assert first != other
    assert not any(np.array_equal(first.tensors[k], plain.tensors[k]) for k in plain.tensors)
    assert plain.spec.training["augmentation"] is None
    recorded = [{"name": "Turn", "angle": 180.0}, {"name": "Noise", "share": [0.0, 0.1]}]
    assert first.spec.training["augmentation"] == recorded
    assert Model.load(first.save(tmp_path / "m.safetensors")) == first


def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    trained(ds, windy_labels(ds), checkpoint=tmp_path / "c", augment=[Turn()])
    with pytest.raises(ValueError, match="belongs to a training with other data or options"):
        trained(ds, windy_labels(ds), checkpoint=tmp_path / "c", augment=[Turn(angle=90.0)])


def test_dataset_and_labels_are_not_changed() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    before = ds.copy(deep=True), labels.copy(deep=True)
    trained(ds, labels)
    xr.testing.assert_identical(ds, before[0])
    xr.testing.assert_identical(labels, before[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, m: (d, m.drop_attrs()), "flag_meanings|name their classes"),
        (lambda d, m: (d, m.astype(float).drop_attrs()), "integer classes, or probabilities"),
        (lambda d, m: (d, m.assign_coords(time=m.time + np.timedelta64(1, "h"))), "no time is in"),
        (lambda d, m: (d, m.isel(time=0)), "must have a time coordinate"),
        (lambda d, m: (d, m.isel(time=[0, 0, 1])), "must differ"),
        (lambda d, m: (d, m * np.uint8(0)), "nowhere in the training labels|name their classes"),
        (lambda d, m: (d.drop_vars("PSL"), m), "PSL: missing"),
    ],
)
def test_bad_data_are_refused(change: Any, message: str) -> None:
    ds = storm_dataset(n_times=8)
    with pytest.raises(ValueError, match=message):
        trained(*change(ds, windy_labels(ds)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.5}, "share from 0 to 1"),
        ({"validation": slice(None)}, "leaves none"),
        ({"class_weights": "many"}, "class_weights must be one of"),
        ({"class_weights": (1.0,)}, "class_weights must be 2"),
        ({"variables": ("PSL", "fog")}, r"variables \['fog'\] are not in the dataset"),
        ({"architecture": "huge"}, "presets are"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    ds = storm_dataset(n_times=8)
    with pytest.raises(ValueError, match=message):
        trained(ds, windy_labels(ds), **options)


@pytest.mark.parametrize("augment", [Turn(), None, [Turn], [Turn(), "noise"]])
def test_what_is_no_augmentation_is_refused(augment: Any) -> None:
    ds = storm_dataset(n_times=8)
    with pytest.raises(TypeError, match=r"augment must (be a list|hold augmentations)"):
        trained(ds, windy_labels(ds), augment=augment)


def test_bad_training_options_are_refused() -> None:
    with pytest.raises(ValueError, match="below their least values"):
        TrainingOptions(epochs=0, learning_rate=-1)
    for losses in ({"hinge": 1.0}, {"jaccard": 0.0}):
        with pytest.raises(ValueError, match=r"weights for some of \['cross_entropy', 'focal', "):
            TrainingOptions(losses=losses)


def test_probabilities_beyond_one_are_refused() -> None:
    ds = storm_dataset(n_times=8)
    soft = 250.0 * xr.concat([windy_labels(ds).astype(float)], "event").assign_coords(
        event=["gale"]
    )
    with pytest.raises(ValueError, match="probabilities must be from 0 to 1"):
        trained(ds, soft)


def test_scores_of_classes_that_are_nowhere_are_none(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=4)
    model = trained(ds, windy_labels(ds), validation=0.0, training={"epochs": 1})
    assert model.spec.training["history"][0]["iou"] == {"background": None, "gale": None}
    assert Model.load(model.save(tmp_path / "m.safetensors")) == model
