"""The training loop: losses, means of weights, early stops, several processes, files."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import xsphere
import xsphere.fitting.samples
from tests.test_fitting import SPEED, trained, windy_labels
from tests.toys import storm_dataset, storm_model
from xsphere.augmentation import CutMix, Turn, Zoom
from xsphere.fitting import ConfigurationError, train_config
from xsphere.model import Model
from xsphere.nn import LOSSES
from xsphere.nn.checkpoints import resumed
from xsphere.nn.losses import focal_loss, jaccard_loss, soft_cross_entropy, tversky_loss
from xsphere.nn.parallel import SharedBatchNorm
from xsphere.nn.training import TrainingData, TrainingOptions, train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6, 3)).astype(np.float32)
TARGET = RNG.dirichlet((1, 1), (8, 6)).astype(np.float32)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def data(n: int = 8) -> TrainingData:
    return TrainingData(
        n_samples=n,
        n_validation=n,
        batch=lambda indices, _: (X[indices], TARGET[indices]),
        validation=lambda index: (X[index], TARGET[index]),
        classes=("a", "b"),
        class_weights=(1.0, 1.0),
    )


def weights_after(network: nn.Module | None = None, **options: Any) -> list[Tensor]:
    network = network or linear()
    train(network, data(), options=TrainingOptions(**options), progress=False)
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_losses_are_those_of_their_formulas() -> None:
    logits = torch.from_numpy(RNG.normal(size=(2, 5, 3)))
    target = torch.from_numpy(RNG.dirichlet((1, 1, 1), (2, 5)))
    target[0, 0] = 0.0  # unknown
    weights = torch.tensor([1.0, 2.0, 5.0])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    t, w = target.numpy(), weights.numpy()
    expected = -(w * t * (1 - p) ** 2 * np.log(p)).sum() / (w * t).sum()
    assert float(focal_loss(logits, target, weights)) == pytest.approx(expected)
    torch.testing.assert_close(
        focal_loss(logits, target, weights, focus=0.0), soft_cross_entropy(logits, target, weights)
    )
    p[0, 0] = 0.0
    index = np.mean(
        [
            (np.minimum(p, t)[..., c].sum() + 1)
            / (
                np.minimum(p, t)[..., c].sum()
                + 0.3 * np.maximum(p - t, 0)[..., c].sum()
                + 0.7 * np.maximum(t - p, 0)[..., c].sum()
                + 1
            )
            for c in range(3)
        ]
    )
    assert float(tversky_loss(logits, target)) == pytest.approx(1 - index)
    union = np.mean(
        [
            (np.minimum(p, t)[..., c].sum() + 1) / (np.maximum(p, t)[..., c].sum() + 1)
            for c in range(3)
        ]
    )
    assert float(jaccard_loss(logits, target)) == pytest.approx(1 - union)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_can_be_trained_with(loss: str) -> None:
    history = train(
        linear(),
        data(),
        options=TrainingOptions(epochs=8, losses={loss: 1.0}, learning_rate=0.1),
        progress=False,
    )
    assert history[-1]["loss"] < history[0]["loss"]


def test_mean_of_weights_moves_as_it_should() -> None:
    start = [p.detach().clone() for p in linear().parameters()]
    one_step = {"epochs": 1, "batch_size": 8}
    end, mean = (weights_after(averaging=a, **one_step) for a in (0.0, 0.75))
    for w0, w1, m in zip(start, end, mean, strict=True):
        torch.testing.assert_close(m, 0.75 * w0 + 0.25 * w1)


def test_accumulated_batches_are_as_one() -> None:
    """If all targets count alike, the mean over a batch is the mean of its halves."""
    losses = {"losses": {"cross_entropy": 1.0}, "epochs": 3, "learning_rate": 0.1}
    for one, two in zip(
        weights_after(batch_size=4, **losses),
        weights_after(batch_size=2, accumulate=2, **losses),
        strict=True,
    ):
        torch.testing.assert_close(one, two)
    with pytest.raises(ValueError, match="8 samples are too few for 9 batches a step"):
        weights_after(batch_size=1, accumulate=9)


def test_early_stop_keeps_the_best_weights() -> None:
    network, seen = linear(), []
    history = train(
        network,
        data(),
        # a rate that soon makes scores worse
        options=TrainingOptions(epochs=60, learning_rate=0.5, patience=3, score="f1"),
        progress=False,
        report=lambda _: seen.append([p.detach().clone() for p in network.parameters()]),
    )
    scores = [record["f1"]["b"] for record in history]
    best = int(np.argmax(scores))
    assert len(history) == best + 4 < 60
    assert all(map(torch.equal, seen[best], network.parameters()))
    assert not all(map(torch.equal, seen[best], seen[-1]))


def test_bfloat16_layers_train_float32_weights() -> None:
    full, half = (weights_after(epochs=4, precision=p) for p in ("float32", "bfloat16"))
    for one, two in zip(full, half, strict=True):
        assert two.dtype == torch.float32
        assert not torch.equal(one, two)
        torch.testing.assert_close(one, two, atol=0.02, rtol=0.02)


def test_normalisation_on_one_process_is_that_of_torch() -> None:
    rows = torch.from_numpy(X[0]) * 10 + 5
    ours, theirs = (kind(3, affine=False) for kind in (SharedBatchNorm, nn.BatchNorm1d))
    assert torch.equal(ours(rows), theirs(rows))
    assert all(map(torch.equal, ours.buffers(), theirs.buffers()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"averaging": 1.0}, "averaging must be from 0"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"score": "accuracy"}, "score must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"accumulate": 0}, "below their least values"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)
    with pytest.raises(ValueError, match=rf"{message}.*losses must|losses must.*{message}"):
        TrainingOptions(**options, losses={"no": 1.0})


def test_stopped_training_ends_with_the_same_weights_and_log(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    options = {
        "training": {"epochs": 3, "averaging": 0.5, "patience": 9},
        "augment": [Turn(), Zoom(), CutMix()],
    }
    labels = windy_labels(ds)
    expected = trained(ds, labels, log=tmp_path / "a.csv", **options)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    again = {"checkpoint": tmp_path / "c", "log": tmp_path / "b.csv", **options}
    with pytest.raises(KeyboardInterrupt):
        trained(ds, labels, report=stop, **again)
    assert trained(ds, labels, **again) == expected
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_logs_hold_the_history(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    told: list[dict[str, Any]] = []
    model = trained(ds, windy_labels(ds), log=tmp_path / "l.jsonl", report=told.append)
    history = model.spec.training["history"]
    rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert rows == told == history
    trained(ds, windy_labels(ds), log=tmp_path / "l.csv")
    table = pd.read_csv(tmp_path / "l.csv")
    assert table["iou_gale"].tolist() == [row["iou"]["gale"] for row in history]
    with pytest.raises(ValueError, match="log must end in one of"):
        trained(ds, windy_labels(ds), log=tmp_path / "l.txt")


def test_samples_in_a_file_train_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    expected = trained(ds, labels)
    monkeypatch.setattr(xsphere.fitting.samples, "MAX_SAMPLES_IN_MEMORY", 1000)
    with pytest.raises(ValueError, match="name a folder that holds them, scratch="):
        trained(ds, labels)
    assert trained(ds, labels, scratch=tmp_path) == expected
    assert not list(tmp_path.iterdir())


def test_statistics_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from xsphere.fitting import statistics

    ds = storm_dataset(n_times=8)
    ds.PSL[1, 2:4] = np.nan
    hp = ds.sphere.to_healpix(level=2)
    monkeypatch.setattr(statistics, "BLOCK", 3)
    model = trained(ds, windy_labels(ds), derived=[SPEED], level=2)
    n_train = 8 - model.spec.training["times"]["validation"][2]
    first = hp.isel(time=slice(n_train))
    by_name = {channel.name: channel for channel in model.spec.channels}
    speed = np.hypot(first.U850, first.V850)
    for name, values in (("PSL", first.PSL.values), ("speed", speed.values)):
        if name in by_name:
            assert by_name[name].mean == pytest.approx(np.nanmean(values), rel=1e-4)
            assert by_name[name].std == pytest.approx(np.nanstd(values), rel=1e-3)
    assert {"PSL", "speed"} & set(by_name)


def test_a_pupil_of_two_models_learns_their_mean() -> None:
    from xsphere.fitting.teaching import Teaching

    teachers = [storm_model(seed=seed) for seed in (1, 2)]
    spec = teachers[0].spec
    ds = storm_dataset(n_times=2)
    names = [variable.name for variable in spec.variables]
    hp = ds[names].sphere.to_healpix(level=spec.level)
    fields = np.stack([hp[name].values for name in names], -1).astype(np.float32)
    targets = np.zeros((2, fields.shape[1], 3), np.float32)
    targets[:, 1:, 0] = 1.0  # the first cell is unknown
    expected = [ds.sphere.segment(t, output="probability").values for t in teachers]
    mean = np.mean(expected, 0).transpose(0, 2, 1)
    found = Teaching.of(teachers, 0.25, spec)(fields, targets)
    np.testing.assert_allclose(found[:, 1:], (0.75 * targets + 0.25 * mean)[:, 1:], atol=1e-5)
    assert not found[:, 0].any()
    together = Teaching.of([Model.ensemble(teachers)], 0.25, spec)(fields, targets)
    np.testing.assert_allclose(together, found, atol=1e-6)
    np.testing.assert_array_equal(Teaching.of([], 0.25, spec)(fields, targets), targets)


def test_teachers_are_recorded_and_must_fit() -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    plain = trained(ds, labels)
    taught = trained(ds, labels, teachers=[plain], teacher_share=0.5)
    assert taught != plain
    assert taught.spec.training["teachers"] == [plain.digest]
    with pytest.raises(ValueError, match=r"share must be .*'storms' has classes"):
        trained(ds, labels, teachers=[storm_model(plain.level)], teacher_share=2.0)


def test_fine_tuning_starts_from_a_model_and_keeps_its_inputs(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    first = trained(ds, labels, training={"epochs": 3})
    path = first.save(tmp_path / "first.safetensors")
    # a rate of nothing: what it starts from is what comes out, but for running means
    still = TrainingOptions(epochs=1, learning_rate=0.0)
    same = xsphere.fit(ds, labels, start=path, options=still, progress=False)
    for name, values in first.tensors.items():
        if "running" not in name:
            np.testing.assert_array_equal(same.tensors[name], values)
    assert same.spec.channels == first.spec.channels
    assert same.spec.training["started_from"] == first.digest
    other = labels.assign_attrs(flag_meanings="background squall")
    moved = xsphere.fit(ds * 1.0, other, start=first, options=still, progress=False)
    assert moved.classes == ("squall",)
    heads = [name for name in first.tensors if name.startswith("head.")]
    assert not all(np.array_equal(moved.tensors[n], first.tensors[n]) for n in heads)
    np.testing.assert_array_equal(moved.tensors["encoder.0.bias"], first.tensors["encoder.0.bias"])


def test_what_a_start_has_cannot_be_asked_for(tmp_path: Path) -> None:
    ds = storm_dataset(n_times=8)
    labels = windy_labels(ds)
    first = trained(ds, labels)
    with pytest.raises(ValueError, match=r"\['level', 'valid_ranges'\] are those of the model"):
        xsphere.fit(ds, labels, start=first, level=5, valid_ranges=None, progress=False)
    with pytest.raises(ValueError, match="is an ensemble"):
        xsphere.fit(
            ds, labels, start=Model.ensemble([first, trained(ds, labels, training={"seed": 1})])
        )
    trained(ds, labels, checkpoint=tmp_path / "c", training={"epochs": 1})
    options = TrainingOptions(epochs=1)
    with pytest.raises(ValueError, match="belongs to a training with other data"):
        xsphere.fit(
            ds, labels, start=first, checkpoint=tmp_path / "c", options=options, progress=False
        )


def configuration(folder: Path, text: str = "") -> Path:
    ds = storm_dataset(n_times=8)
    ds.to_netcdf(folder / "fields.nc")
    windy_labels(ds).rename("gales").to_netcdf(folder / "labels.nc")
    path = folder / "train.toml"
    path.write_text(
        textwrap.dedent(
            f"""
            fields = "{folder}/fields.nc"
            labels = "{folder}/labels.nc"
            out = "{folder}/model.safetensors"
            checkpoint = "{folder}/checkpoint"
            level = 2
            variables = ["U850", "V850"]
            validation = [["2005-08-29", "2005-08-29T06"]]
            architecture = {{features = [4], depths = [0]}}
            """
        )
        + (text or '[training]\nepochs = 2\n[[augment]]\nname = "Turn"\nangle = 90.0\n')
    )
    return path


def test_a_file_says_all_of_a_training(tmp_path: Path) -> None:
    model = train_config(configuration(tmp_path), progress=False)
    assert Model.load(tmp_path / "model.safetensors") == model
    record = model.spec.training
    assert record["options"]["epochs"] == 2
    assert record["augmentation"] == [{"name": "Turn", "angle": 90.0}]


def test_all_that_is_wrong_in_a_file_is_said_at_once(tmp_path: Path) -> None:
    text = """
    levels = 5
    derived = [{name = "x", sort = "wind_speed"}]
    [training]
    epoch = 3
    averaging = 0.5
    [[augment]]
    name = "Spin"
    [[augment]]
    name = "Turn"
    angle = -1.0
    """
    path = configuration(tmp_path, text)
    path.write_text(path.read_text().replace("out =", "output ="))
    with pytest.raises(ConfigurationError) as caught:
        train_config(path, progress=False)
    for part in (
        "unknown keys ['levels', 'output']",
        "lacks ['out']",
        "derived has unknown keys ['sort']",
        "training has unknown keys ['epoch']",
        "got 'Spin'",
        "Turn: angle must be",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "checkpoint").exists()


TOGETHER = """
import sys
from pathlib import Path
import numpy as np, torch
from torch import distributed
from tests.test_fitting import trained, windy_labels
from tests.toys import storm_dataset

torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
store = distributed.FileStore(str(folder / "store"), 2)
distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
ds = storm_dataset(n_times=9)
options = {"epochs": 3, "batch_size": 2, "averaging": 0.5}
model = trained(ds, windy_labels(ds), training=options, checkpoint=folder / "c")
if rank == 0:
    model.save(folder / "together.safetensors")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(rank), str(tmp_path)], env=environment
        )
        for rank in range(2)
    ]
    assert [process.wait(300) for process in both] == [0, 0]
    together = Model.load(tmp_path / "together.safetensors")
    ds = storm_dataset(n_times=9)
    options = {"epochs": 3, "batch_size": 4, "averaging": 0.5}
    alone = trained(ds, windy_labels(ds), training=options)
    for name, values in alone.tensors.items():
        # a bias before a normalisation changes nothing, but Adam makes steps of its rounding
        if name not in ("encoder.1.bias", "decoder.0.up.bias") and "running" not in name:
            np.testing.assert_allclose(together.tensors[name], values, atol=2e-5)
    history = [model.spec.training["history"] for model in (alone, together)]
    assert history[0][-1]["loss"] == pytest.approx(history[1][-1]["loss"], rel=1e-4)
    assert history[0][-1]["iou"] == history[1][-1]["iou"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.test_fitting import trained, windy_labels
from tests.toys import storm_dataset

def kill(record):
    if record["epoch"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)

ds = storm_dataset(n_times=8)
trained(ds, windy_labels(ds), training={"epochs": 3}, checkpoint=Path(sys.argv[1]), report=kill)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "c")]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    ds = storm_dataset(n_times=8)
    labels, options = windy_labels(ds), {"epochs": 3}
    told: list[dict[str, Any]] = []
    model = trained(ds, labels, training=options, checkpoint=tmp_path / "c", report=told.append)
    assert [record["epoch"] for record in told] == [2]
    assert model == trained(ds, labels, training=options)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"\x00" * 100)
    optimizer = torch.optim.AdamW(linear().parameters())
    with pytest.raises(ValueError, match="cannot be used"):
        resumed(tmp_path / "c", {}, optimizer, "key")


def test_the_page_shows_a_file_that_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "train.toml"
    path.write_text(text)
    # its keys and values are sound; its fields are not here
    with pytest.raises(FileNotFoundError, match=r"era5\.zarr"):
        train_config(path, progress=False)
