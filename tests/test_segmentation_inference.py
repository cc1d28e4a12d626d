"""What happens inside a task: weights once, one forward pass at a time, memory that runs out."""

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dask.base import tokenize

from tests.toys import storm_dataset, storm_model
from xsphere.grids import HealpixGrid
from xsphere.model import Model
from xsphere.model import model as model_core
from xsphere.segmentation import (
    DeviceMemoryError,
    DeviceWarning,
    Inference,
    ModelHandle,
    SegmentNode,
    devices,
    segment,
)
from xsphere.segmentation import inference as inferences
from xsphere.segmentation import node as nodes
from xsphere.segmentation.inference import probabilities

# No test here runs on a GPU: "meta" is a device that is not the CPU wherever torch is installed.
DEVICE = "meta"


@pytest.fixture
def model() -> Model:
    return storm_model()


def node_of(model: Model, **options: Any) -> SegmentNode:
    return SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.0),) * 3, **options)


def channels_of(model: Model, n: int) -> np.ndarray:
    shape = (n, model.grid.n_cells, len(model.spec.channels))
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


class Device:
    """Stands for a network on a device that holds so many samples at once."""

    def __init__(self, model: Model, limit: float, error: Callable[[str], Exception]) -> None:
        self.network, self.limit, self.error = model.network(), limit, error
        self.calls = float("inf")  # after so many, nothing fits any more
        self.batches: list[int] = []
        self.inside = self.most_inside = 0
        self.lock = threading.Lock()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        assert torch.get_num_threads() == 1
        with self.lock:
            self.batches.append(len(x))
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        time.sleep(0.002)
        with self.lock:
            self.inside -= 1
        if len(x) > self.limit or len(self.batches) > self.calls:
            raise self.error(f"CUDA out of memory. Tried to allocate {len(x)} GiB.\nMore words")
        # its input has no values: the batch's length is all that can be told
        return torch.zeros(len(x), x.shape[1], 3) + torch.arange(3.0)


@pytest.fixture
def on_device(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    """Puts a network on a device of a given size."""
    shared = Model.shared_network

    def put(limit: float, error: Callable[[str], Exception] = torch.OutOfMemoryError) -> Device:
        device = Device(model, limit, error)

        def network(self: Model, name: str) -> Any:
            return device if name == DEVICE else shared(self, name)

        monkeypatch.setattr(Model, "shared_network", network)
        return device

    monkeypatch.setattr(devices, "_fitting", {})
    return put


def test_a_batch_that_does_not_fit_is_halved(model: Model, on_device: Any) -> None:
    device = on_device(3)
    result = probabilities(model, channels_of(model, 20), Inference(batch_size=16, device=DEVICE))
    assert result.shape == (20, 3, 192)
    np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-6)
    assert device.batches == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    # what was learned is kept
    device.batches.clear()
    probabilities(model, channels_of(model, 5), Inference(batch_size=16, device=DEVICE))
    assert device.batches == [2, 2, 1]
    probabilities(model, channels_of(model, 1), Inference(batch_size=1, device=DEVICE))
    assert device.batches[-1] == 1


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("n", [1, 7])
def test_no_sample_is_lost_or_doubled(
    model: Model, on_device: Any, monkeypatch: pytest.MonkeyPatch, limit: int, n: int
) -> None:
    on_device(limit)
    forward = inferences._forward
    given: list[np.ndarray] = []

    def spy(model: Model, channels: np.ndarray, *rest: Any) -> Any:
        result = forward(model, channels, *rest)
        given.append(channels)
        return result

    monkeypatch.setattr(inferences, "_forward", spy)
    channels = channels_of(model, n)
    assert len(probabilities(model, channels, Inference(batch_size=4, device=DEVICE))) == n
    np.testing.assert_array_equal(np.concatenate(given), channels)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError, RuntimeError, lambda text: RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")],
)
def test_too_little_memory_for_one_sample(model: Model, on_device: Any, error: Any) -> None:
    device = on_device(0, error)
    channels = channels_of(model, 4)
    with pytest.raises(
        DeviceMemoryError,
        match=r"'storms' runs out of memory on the device 'meta' with a batch of 1 sample "
        r"\(192 cells; CU.*precision='bfloat16'.*device='cpu'.*allow_cpu_fallback=True",
    ) as caught:
        probabilities(model, channels, Inference(batch_size=4, device=DEVICE))
    assert "More words" not in str(caught.value)
    assert device.batches == [4, 2, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory(model: Model, on_device: Any) -> None:
    device = on_device(0, lambda _: RuntimeError("device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        probabilities(model, channels_of(model, 4), Inference(batch_size=4, device=DEVICE))
    assert device.batches == [4]


def test_the_cpu_takes_over_only_where_allowed(model: Model, on_device: Any) -> None:
    on_device(0)
    options = Inference(batch_size=4, device=DEVICE, allow_cpu_fallback=True, precision="float32")
    channels = channels_of(model, 3)
    with pytest.warns(DeviceWarning, match="runs out of memory on the device 'meta'.*the CPU"):
        result = probabilities(model, channels, options)
    expected = [
        probabilities(model, channels[i : i + 1], Inference(device="cpu")) for i in range(3)
    ]
    np.testing.assert_array_equal(result, np.concatenate(expected))


def test_the_cpu_takes_over_where_the_device_left_off(model: Model, on_device: Any) -> None:
    device = on_device(1)
    device.calls = 2
    channels = channels_of(model, 5)
    with pytest.warns(DeviceWarning, match="the CPU takes over"):
        result = probabilities(
            model, channels, Inference(batch_size=1, device=DEVICE, allow_cpu_fallback=True)
        )
    assert len(result) == 5
    np.testing.assert_array_equal(result[0], result[1])
    for i in range(2, 5):
        alone = probabilities(model, channels[i : i + 1], Inference(device="cpu"))
        np.testing.assert_array_equal(result[i : i + 1], alone)


def test_one_forward_pass_at_a_time_on_a_device(model: Model, on_device: Any) -> None:
    device = on_device(100)
    options = Inference(batch_size=2, device=DEVICE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: probabilities(model, channels_of(model, 4), options), range(8)))
    assert len(device.batches) == 16
    assert device.most_inside == 1


def test_a_device_is_free_again_after_an_error(model: Model, on_device: Any) -> None:
    on_device(0)
    for _ in range(2):
        with pytest.raises(DeviceMemoryError):
            probabilities(model, channels_of(model, 1), Inference(device=DEVICE))
    assert devices._gate(torch.device(DEVICE)).acquire(timeout=1)
    devices._gate(torch.device(DEVICE)).release()
    with pytest.raises(ValueError, match="released too many times"):
        devices._gate(torch.device(DEVICE)).release()


@pytest.mark.filterwarnings("ignore:the input .* standard deviations away")
def test_a_whole_block_on_a_device(model: Model, on_device: Any) -> None:
    device = on_device(2)
    fields = np.random.default_rng(0).normal(1e5, 1e3, (3, 7, 192)).astype("f4")
    inference = Inference(batch_size=4, device=DEVICE)
    mask = node_of(model, inference=inference)(*fields)
    assert mask.shape == (7, 192)
    assert (mask == 2).all()
    assert sum(size for size in device.batches if size <= 2) == 7


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_less_precision_is_for_gpus(model: Model, precision: Any) -> None:
    with pytest.raises(ValueError, match=rf"precision='{precision}' is for GPUs.*on the CPU"):
        segment(storm_dataset(), model, precision=precision, device="cpu")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        context = inferences._autocast(torch.device("cuda"), precision)
    assert isinstance(context, torch.autocast)
    assert context.fast_dtype == getattr(torch, precision)
    assert isinstance(inferences._autocast(torch.device("cuda"), "float32"), nullcontext)


def test_devices_are_chosen_where_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Inference(device="cuda:3").chosen_device() == torch.device("cuda:3")
    assert Inference(device="cpu").samples_at_once() == 1
    assert Inference(device=DEVICE, batch_size=5).samples_at_once() == 5
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    # without its number the two would have a gate each
    assert Inference().chosen_device() == torch.device("cuda:1")
    assert Inference(device="cuda").chosen_device() == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Inference().chosen_device() == torch.device("cpu")


def test_options_are_checked_before_any_work(model: Model) -> None:
    with pytest.raises(
        ValueError,
        match=r"precision must be one of \['float32', 'bfloat16', 'float16'\], got 'half'; "
        r"device must be a torch device such as .* got 'gpu'",
    ):
        segment(storm_dataset(), model, precision="half", device="gpu")  # type: ignore[arg-type]


def test_settings_of_torch_are_left_as_they_were(model: Model) -> None:
    before = torch.get_num_threads()
    segment(storm_dataset(), model)
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()
    # what others share is no tensor of inference, which could not be trained or changed
    network = model.shared_network("cpu")
    assert not any(tensor.is_inference() for tensor in network.parameters())
    assert not any(tensor.is_inference() for tensor in network.buffers())


def test_networks_keep_nothing_of_a_call(model: Model) -> None:
    network = model.shared_network("cpu")
    samples = [torch.from_numpy(channels_of(model, 8)[i : i + 1]) for i in range(8)]

    def run(sample: torch.Tensor) -> bytes:
        with torch.inference_mode():
            return network(sample).numpy().tobytes()

    expected = [run(sample) for sample in samples]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(run, samples)) == expected


@pytest.mark.filterwarnings("ignore:the input .* standard deviations away")
def test_weights_are_read_and_checked_once(
    model: Model, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pickle.dumps(node_of(storm_model(seed=11)))
    counts = {"read": 0, "hashed": 0, "built": 0}

    def counting(name: str, function: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            time.sleep(0.02)  # time for others to come
            return function(*args, **options)

        return counted

    read = Model.__dict__["_read"].__func__
    monkeypatch.setattr(Model, "_read", classmethod(counting("read", read)))
    monkeypatch.setattr(model_core, "to_bytes", counting("hashed", model_core.to_bytes))
    monkeypatch.setattr(Model, "network", counting("built", Model.network))
    fields = np.random.default_rng(0).normal(1e5, 1e3, (3, 1, 192)).astype("f4")
    barrier = threading.Barrier(8)

    def run(_: int) -> bytes:
        node = pickle.loads(packed)
        barrier.wait()
        return node(*fields).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(run, range(8)))) == 1
    assert counts == {"read": 1, "hashed": 1, "built": 1}


def test_weights_that_changed_are_read_again(cache_folder: Path) -> None:
    handle = ModelHandle.of(storm_model(seed=12))
    first = handle.load()
    assert handle.load() is first
    assert handle.path is not None
    storm_model(seed=13).save(handle.path)
    with pytest.raises(nodes.ModelFileError, match="was asked for"):
        handle.load()


def test_token_tells_of_content(model: Model) -> None:
    token = tokenize(node_of(model))
    for inference in (
        Inference(batch_size=3),
        Inference(device="cuda:1"),
        Inference(allow_cpu_fallback=True),
    ):
        assert tokenize(node_of(model, inference=inference)) == token
    assert tokenize(node_of(model, parallel=True)) == token
    others = [
        node_of(storm_model(seed=1)),
        node_of(model, output="probability"),
        node_of(model, target=HealpixGrid(1)),
        node_of(model, inference=Inference(precision="bfloat16")),
        SegmentNode(ModelHandle.of(model), HealpixGrid(3), ((1.0, 0.0),) * 3),
        SegmentNode(ModelHandle.of(model), model.grid, ((1.0, 0.5),) * 3),
    ]
    assert len({token, *(tokenize(other) for other in others)}) == 1 + len(others)


def test_one_bit_of_a_weight_changes_the_token(model: Model) -> None:
    name = max(model.tensors, key=lambda key: model.tensors[key].size)
    changed = model.tensors[name].copy()
    changed.view(np.uint32).reshape(-1)[-1] ^= 1
    other = Model(model.spec, model.tensors | {name: changed})
    assert tokenize(node_of(other)) != tokenize(node_of(model))


SCRIPT = """
import sys
from tests.toys import storm_dataset, storm_model
from xsphere.segmentation import segment
for ds in (sys.argv[1], storm_dataset(n_times=2).chunk(time=1)):
    mask = segment(ds, storm_model())
    print(mask.data.name, mask.attrs["xsphere_run"])
"""


def test_names_are_the_same_in_every_interpreter(tmp_path: Path, elsewhere: Any) -> None:
    path = tmp_path / "x.zarr"
    storm_dataset(n_times=2).to_zarr(path, consolidated=False)
    masks = [segment(ds, storm_model()) for ds in (path, storm_dataset(n_times=2).chunk(time=1))]
    here = "".join(f"{mask.data.name} {mask.attrs['xsphere_run']}\n" for mask in masks)
    assert elsewhere(SCRIPT, path) == here
    assert here.startswith("xsphere-segment-")
