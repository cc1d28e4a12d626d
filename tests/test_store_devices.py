"""A store holds blocks of one kind of device: the last bits of others differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_blocks import books, classes_at, mask
from tests.toys import storm_dataset, storm_model
from xsphere import segment
from xsphere.blocks import BlocksFailed, OtherRunError, repair_store, verify_store, write_blocks
from xsphere.stages import note_device


class On:
    """Computes blocks on one device or another, and fails at some."""

    def __init__(self, kind: Any, fail_at: tuple[int, ...] = ()) -> None:
        self.kind, self.fail_at = kind, fail_at

    def __call__(self, index: Any) -> Any:
        if index[0] in self.fail_at:
            raise RuntimeError("lost")
        kind = self.kind(index[0]) if callable(self.kind) else self.kind
        note_device("network", kind)
        return classes_at(index)

    def __dask_tokenize__(self) -> str:
        # where it is computed is not what it is
        return "on"


REFUSED = (
    r"\(time .*\) was computed with the network on cpu, others of .* with the network on cuda, and "
    r"their last bits differ, so it is not written; go on where .* device=.*overwrite=True"
)


def test_another_device_is_refused_and_nothing_mixed(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    with pytest.raises(BlocksFailed):
        write_blocks(mask(On("cuda", (4,))), path, workers=1)
    assert books(path)["devices"] == "network on cuda"
    with pytest.raises(OtherRunError, match=REFUSED):
        write_blocks(mask(On("cpu")), path, workers=1)
    assert verify_store(path).not_computed == (1,)
    assert write_blocks(mask(On("cuda")), path, workers=1).written == 1
    assert verify_store(path).ok
    # and a repair
    (path / "mask" / "c" / "0" / "0").unlink()
    with pytest.raises(OtherRunError, match=REFUSED):
        repair_store(path, mask(On("cpu")), workers=1)
    assert repair_store(path, mask(On("cuda")), workers=1).written == 1
    assert verify_store(path).ok
    # a store of its own is as good on either
    write_blocks(mask(On("cpu")), path, overwrite=True, workers=1)
    assert books(path)["devices"] == "network on cpu"


def test_workers_of_two_kinds_do_not_mix(tmp_path: Path) -> None:
    kinds = {0: "cuda", 4: "cpu", 8: "cuda"}
    with pytest.raises(OtherRunError, match=REFUSED):
        write_blocks(mask(On(lambda start: kinds[int(start)])), tmp_path / "m.zarr", workers=1)


def test_a_block_of_another_device_is_not_done(tmp_path: Path) -> None:
    """Two first blocks at once: the one that is recorded last decides."""
    path = tmp_path / "m.zarr"
    write_blocks(mask(On("cpu")), path, workers=1)
    write_blocks(mask(On("cuda")), tmp_path / "n.zarr", workers=1)
    ledger = Path("_xsphere", "blocks", "c.1.0")
    (path / ledger).write_bytes((tmp_path / "n.zarr" / ledger).read_bytes())
    assert "1: it was computed on other devices than those of the store, network on cpu" in str(
        verify_store(path)
    )
    assert write_blocks(mask(On("cpu")), path, workers=1).written == 1
    assert verify_store(path).ok


def test_a_segmentation_tells_its_device(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    result = segment(storm_dataset(2).chunk(time=1), storm_model(), device="cpu")
    write_blocks(result, path, workers=1)
    assert books(path)["devices"] == "network on cpu"
    # fields without a network give the same bits everywhere
    fields = storm_dataset(2).chunk(time=1).sphere.to_healpix(1)
    write_blocks(fields, tmp_path / "f.zarr", workers=1)
    assert "devices" not in books(tmp_path / "f.zarr")
    assert verify_store(tmp_path / "f.zarr").ok
    np.testing.assert_array_equal(result, segment(storm_dataset(2), storm_model()))
