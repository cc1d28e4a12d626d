"""Runs of the command that stop and go on: blocks, resumption, verification, repair."""

import contextlib
import copy
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xsphere
from tests.faults.runs import COMMAND, start_held, wait_for
from tests.toys import storm_dataset, storm_model
from xsphere import clusters
from xsphere.blocks import IncompleteStoreError, open_mask, verify_store
from xsphere.clusters import workforce


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.zarr"
    storm_dataset(n_times=6).to_zarr(path, consolidated=False, encoding={"time": {"chunks": (6,)}})
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return storm_model().save(tmp_path / "model.safetensors")


def test_segment_resumes_verifies_and_repairs(
    tmp_path: Path, data: Path, model: Path, in_shell: Any
) -> None:
    out = tmp_path / "mask.zarr"
    options = ("--model", model, "--block-size", 2)
    first = in_shell("segment", data, out, *options)
    assert first.returncode == 0, first.stderr
    assert "3 of them computed now" in first.stdout
    assert "background" in first.stdout
    expected = xsphere.segment(storm_dataset(n_times=6), model).values
    np.testing.assert_array_equal(open_mask(out).values, expected)
    again = in_shell("segment", data, out, *options)
    assert "all there before" in again.stdout

    chunk = out / "mask" / "c" / "1" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    found = in_shell("verify", out)
    assert found.returncode == 1
    assert "cannot be read" in found.stdout
    mended = in_shell("verify", out, "--repair", data, *options)
    assert mended.returncode == 0, mended.stderr
    assert "1 of them computed now" in mended.stdout
    assert verify_store(out).ok
    np.testing.assert_array_equal(open_mask(out).values, expected)


def test_another_run_is_refused_with_what_differs(
    tmp_path: Path, data: Path, model: Path, in_shell: Any
) -> None:
    out = tmp_path / "mask.zarr"
    assert in_shell("segment", data, out, "--model", model).returncode == 0
    other = storm_model(seed=1).save(tmp_path / "other.safetensors")
    refused = in_shell("segment", data, out, "--model", other)
    assert refused.returncode == 1
    assert "model" in refused.stderr
    assert "overwrite" in refused.stderr
    assert "Traceback" not in refused.stderr
    replaced = in_shell("segment", data, out, "--model", other, "--overwrite")
    assert replaced.returncode == 0, replaced.stderr


def test_an_edited_source_is_another_run(
    tmp_path: Path, data: Path, model: Path, in_shell: Any
) -> None:
    out = tmp_path / "mask.zarr"
    assert in_shell("segment", data, out, "--model", model).returncode == 0
    edited = xr.open_zarr(data, consolidated=False, chunks=None)[["PSL"]].load() + 1
    edited.PSL.attrs = storm_dataset().PSL.attrs
    edited[["PSL"]].drop_vars(["time", "lat", "lon"]).to_zarr(data, mode="r+", consolidated=False)
    refused = in_shell("segment", data, out, "--model", model)
    assert refused.returncode == 1
    assert "source" in refused.stderr


@pytest.mark.slow
def test_processes_give_the_same_bytes(
    tmp_path: Path, data: Path, model: Path, in_shell: Any
) -> None:
    options = ("--model", model, "--block-size", 2)
    assert in_shell("segment", data, tmp_path / "a.zarr", *options).returncode == 0
    run = in_shell("segment", data, tmp_path / "b.zarr", *options, "--workers", 1)
    assert run.returncode == 0, run.stderr
    for chunk in sorted((tmp_path / "a.zarr" / "mask" / "c").rglob("*")):
        if chunk.is_file():
            twin = tmp_path / "b.zarr" / chunk.relative_to(tmp_path / "a.zarr")
            assert twin.read_bytes() == chunk.read_bytes()


@pytest.mark.slow
def test_ctrl_c_leaves_a_store_that_goes_on(tmp_path: Path, model: Path, in_shell: Any) -> None:
    data, out = tmp_path / "long.zarr", tmp_path / "mask.zarr"
    storm_dataset(n_times=40).to_zarr(data, consolidated=False)
    arguments = ["segment", data, out, "--model", model, "--block-size", 1]
    run = start_held(COMMAND, *arguments, first=2, until=tmp_path / "go")
    wait_for(out, 2, run)
    run.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    _, errors = run.communicate(timeout=1800)
    assert run.returncode == 130, errors
    assert "again" in errors or "resume" in errors
    with pytest.raises(IncompleteStoreError):
        open_mask(out)
    done = in_shell(*arguments)
    assert done.returncode == 0, done.stderr
    assert open_mask(out).sizes["time"] == 40


def test_cluster_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ValueError, match="--workers or --scheduler, got both"),
        clusters.cluster(2, "tcp://"),
    ):
        pass
    with pytest.raises(ValueError, match="at least 1 process, got 0"), clusters.cluster(0, None):
        pass
    monkeypatch.setattr(clusters, "PATIENCE", "100ms")
    with (
        pytest.raises(OSError, match=r"127\.0\.0\.1:1"),
        clusters.cluster(None, "tcp://127.0.0.1:1"),
    ):
        pass


def test_clusters_of_the_command_are_for_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import dask
    import distributed

    asked: dict[str, Any] = {}

    class Started(contextlib.nullcontext[None]):
        def __init__(self, *_: Any, **options: Any) -> None:
            super().__init__()
            environ = dict(dask.config.get("distributed.nanny.pre-spawn-environ"))
            asked.update(options, environ=environ)

    monkeypatch.setattr(distributed, "LocalCluster", Started)
    monkeypatch.setattr(distributed, "Client", contextlib.nullcontext)
    before = copy.deepcopy(dask.config.config)
    with clusters.cluster(2, None):
        pass
    assert dask.config.config == before
    addresses = {asked[name] for name in ("dashboard_address", "worker_dashboard_address")}
    assert addresses == {"127.0.0.1:0"}
    assert asked["host"] == "127.0.0.1"
    # freed memory is used again; one thread in libraries, as Dask has it
    assert asked["environ"]["MALLOC_TRIM_THRESHOLD_"] == 2**28
    assert asked["environ"]["OMP_NUM_THREADS"] == 1


@pytest.mark.slow
def test_nothing_of_the_command_listens_to_other_machines() -> None:
    import psutil

    with clusters.cluster(1, None):
        here = psutil.Process()
        heard = {
            one.laddr.ip
            for process in (here, *here.children(recursive=True))
            for one in process.net_connections()
            if one.status == psutil.CONN_LISTEN
        }
    assert heard == {"127.0.0.1"}


def test_missing_chunks_are_an_error_or_invalid_input(
    tmp_path: Path, model: Path, in_shell: Any
) -> None:
    data, out = tmp_path / "parts.zarr", tmp_path / "mask.zarr"
    storm_dataset(n_times=4).chunk(time=2).to_zarr(data, consolidated=False)
    shutil.rmtree(data / "PSL" / "c" / "0")
    refused = in_shell("segment", data, out, "--model", model)
    assert refused.returncode == 1
    assert "PSL" in refused.stderr
    assert "missing_chunks" in refused.stderr
    told = in_shell("segment", data, out, "--model", model, "--missing-chunks", "invalid")
    # another run than the one that began there
    assert told.returncode == 1
    assert "missing_chunks" in told.stderr
    options = ("--missing-chunks", "invalid", "--overwrite")
    done = in_shell("segment", data, out, "--model", model, *options)
    assert done.returncode == 0, done.stderr
    invalid = (open_mask(out) == 254).all("cells")
    np.testing.assert_array_equal(invalid, [True, True, False, False])


def test_options_of_devices_are_checked_before_any_work(
    tmp_path: Path, data: Path, model: Path, in_shell: Any
) -> None:
    options = ("--device", "abacus", "--precision", "float8")
    refused = in_shell("segment", data, tmp_path / "mask.zarr", "--model", model, *options)
    assert refused.returncode == 1
    assert "abacus" in refused.stderr
    assert "float8" in refused.stderr
    assert not (tmp_path / "mask.zarr").exists()


def test_a_plan_is_made_and_compared(
    tmp_path: Path, data: Path, model: Path, in_shell: Any
) -> None:
    options = ("--model", model, "--block-size", 2)
    planned = in_shell("plan", data, *options, "--workers", 2, "--rate", "infer=10", "--no-trial")
    assert planned.returncode == 0, planned.stderr
    assert "6 in 3 blocks of 2\n" in planned.stdout
    assert "<- asked for" in planned.stdout
    counted = in_shell("plan", data, *options, "--no-trial")
    assert "asked for" not in counted.stdout
    assert "3 blocks of 2" in counted.stdout
    wrong = in_shell("plan", data, *options, "--rate", "infer")
    assert "--rate must be a stage and maps a second" in wrong.stderr
    out = tmp_path / "mask.zarr"
    run = in_shell("segment", data, out, *options, "--compare")
    assert run.returncode == 0, run.stderr
    assert "planned   achieved" in run.stdout
    assert "3 of them computed now" in run.stdout
    refused = in_shell("segment", data, tmp_path / "mask.nc", *options, "--compare")
    assert "--compare is for an OUT that ends in .zarr" in refused.stderr


def test_workers_are_counted_for_a_plan(cluster: Any) -> None:
    assert workforce({"client": cluster}) == {"workers": 2, "threads_per_worker": 1}
    assert workforce({})["threads_per_worker"] >= 1
