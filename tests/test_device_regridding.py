"""Regridding where the network runs: the same rules as on CPUs, whatever the device."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers import examples
from tests.toys import storm_dataset, storm_model
from xsphere.grids import Grid, HealpixGrid, LatLonGrid, PointGrid
from xsphere.nn.field_regridder import FieldRegridder
from xsphere.segmentation import (
    DeviceMemoryError,
    DeviceWarning,
    Inference,
    device_regridding,
    devices,
    segment,
)
from xsphere.segmentation.device_regridding import regridded_fields
from xsphere.weights import Method, regrid_fields, regrid_vectors

TARGET = HealpixGrid(2)
REGIONAL = LatLonGrid(lon=np.arange(20.0, 90.0, 5.0), lat=np.arange(-40.0, 35.0, 5.0))
SOURCES: list[tuple[Grid, Method]] = [
    (LatLonGrid.equiangular(19, 36), "bilinear"),
    (LatLonGrid.equiangular(19, 36), "conservative"),
    (REGIONAL, "conservative"),
    (REGIONAL, "bilinear"),
    (PointGrid.fibonacci(301), "inverse_distance"),
    (HealpixGrid(3), "nearest"),
]
# "meta" is a device that is not the CPU wherever torch is installed; no test here runs on a GPU
DEVICE = "meta"


def holed(rng: np.random.Generator, n_cells: int, share: float) -> np.ndarray:
    field = rng.normal(1e5, 1e3, (3, n_cells)).astype(np.float32)
    field[1, rng.random(n_cells) < share] = np.nan
    field[2, rng.random(n_cells) < share / 2] = np.inf
    return field


@pytest.mark.parametrize(("source", "method"), SOURCES)
@examples(10)
@given(seed=st.integers(0, 2**16), share=st.floats(0.0, 1.0))
def test_fields_are_those_of_the_cpu(source: Grid, method: Method, seed: int, share: float) -> None:
    field = holed(np.random.default_rng(seed), source.n_cells, share)
    expected = regrid_fields(field, source, TARGET, method=method)
    found = FieldRegridder(source, TARGET, method=method)(torch.from_numpy(field)).numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize(("source", "method"), SOURCES)
def test_vectors_are_those_of_the_cpu(source: Grid, method: Method) -> None:
    rng = np.random.default_rng(1)
    east, north = (holed(rng, source.n_cells, share) / 1e4 for share in (0.3, 0.1))
    expected = regrid_vectors(east, north, source, TARGET, method=method)
    regridder = FieldRegridder(source, TARGET, method=method)
    found = regridder.vectors(torch.from_numpy(east), torch.from_numpy(north))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(one.numpy()), np.isnan(other))
        np.testing.assert_allclose(one.numpy(), other, atol=2e-5)


def test_the_least_valid_part_can_be_chosen() -> None:
    source = LatLonGrid.equiangular(19, 36)
    field = holed(np.random.default_rng(0), source.n_cells, 0.6)
    for least in (0.0, 0.9):
        regridder = FieldRegridder(source, TARGET, method="conservative", min_valid_fraction=least)
        expected = regrid_fields(
            field, source, TARGET, method="conservative", min_valid_fraction=least
        )
        found = regridder(torch.from_numpy(field)).numpy()
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


class Card:
    """Stands for a device: does what is asked for by a CPU, and notes how much at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 10**9) -> None:
        self.batches: list[int] = []
        self.limit = limit
        on_device, forward = device_regridding._on_device, device_regridding.Inference.chosen_device
        regridders = FieldRegridder.shared

        def limited(regridder: Any, fields: Any, device: torch.device) -> Any:
            self.batches.append(len(fields[0]))
            if len(fields[0]) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return on_device(regridder, fields, torch.device("cpu"))

        def here(*grids: Grid, method: Method, device: str) -> FieldRegridder:
            assert device == DEVICE
            return regridders(*grids, method=method, device="cpu")

        monkeypatch.setattr(device_regridding, "_on_device", limited)
        monkeypatch.setattr(FieldRegridder, "shared", here)
        monkeypatch.setattr(devices, "_fitting", {})
        assert forward(Inference(device=DEVICE)).type == DEVICE


def some_fields(n: int) -> tuple[LatLonGrid, list[np.ndarray]]:
    source = LatLonGrid.equiangular(19, 36)
    rng = np.random.default_rng(0)
    return source, [rng.normal(size=(n, source.n_cells)).astype("f4") for _ in range(2)]


def test_a_device_regrids_in_batches_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch, limit=2)
    source, fields = some_fields(7)
    options = Inference(device=DEVICE, batch_size=5)
    found = regridded_fields(fields, source, TARGET, method="bilinear", options=options)
    assert card.batches == [5, 2, 2, 2, 1]
    expected = regrid_vectors(*fields, source, TARGET, method="bilinear")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_cpu_takes_over_only_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch, limit=0)
    source, fields = some_fields(3)
    options = Inference(device=DEVICE)
    with pytest.raises(DeviceMemoryError, match="regridding a map of 684 cells runs out of memory"):
        regridded_fields(fields, source, TARGET, method="bilinear", options=options)
    allowed = Inference(device=DEVICE, allow_cpu_fallback=True)
    with pytest.warns(DeviceWarning, match="the CPU takes over"):
        found = regridded_fields(fields[:1], source, TARGET, method="bilinear", options=allowed)
    np.testing.assert_array_equal(
        found[0], regrid_fields(fields[0], source, TARGET, method="bilinear")
    )


def test_the_second_order_method_stays_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    source, fields = some_fields(2)
    options = Inference(device=DEVICE)
    regridded_fields(fields[:1], source, TARGET, method="conservative2", options=options)
    assert card.batches == []


def test_read_only_fields_are_taken_as_they_are() -> None:
    source, fields = some_fields(2)
    fields[0].flags.writeable = False
    regridder = FieldRegridder(source, TARGET, method="bilinear")
    found = device_regridding._on_device(
        regridder, [np.broadcast_to(fields[0][:1], (2, 684))], "cpu"
    )  # type: ignore[arg-type]
    assert found.shape == (1, 2, TARGET.n_cells)
    np.testing.assert_array_equal(found[0, 0], found[0, 1])


def test_segment_regrids_where_the_network_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All maps of a dataset go through the device, and the mask is that of the CPU."""
    model, ds = storm_model(), storm_dataset()
    expected = segment(ds, model)
    card = Card(monkeypatch)
    shared = type(model).shared_network
    monkeypatch.setattr(type(model), "shared_network", lambda self, _: shared(self, "cpu"))
    real_to = torch.Tensor.to

    def to(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        stays = args and isinstance(args[0], torch.device) and args[0].type == DEVICE
        return tensor if stays else real_to(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    found = segment(ds, model, device=DEVICE)
    assert sum(card.batches) > 0
    agreement = float((found == expected).mean())
    assert agreement > 0.999
