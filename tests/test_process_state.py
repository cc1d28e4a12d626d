"""A good guest: nothing that belongs to the whole process is changed, whatever threads do."""

import ast
import copy
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numba
import numpy as np
import pint
import pytest
import torch
import xarray as xr

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.cli import main
from xsphere.compiled import compiled
from xsphere.model import Model, units
from xsphere.nn.sparse.workers import one_thread
from xsphere.notices import without_warnings

PACKAGE = Path(xsphere.__file__).parent
# what changes a process, by its last name, and the modules that may: those of the command alone
CHANGES: dict[str, set[str]] = {
    "set_num_threads": set(),
    "set_num_interop_threads": set(),
    "set_default_dtype": set(),
    "set_default_device": set(),
    "set_grad_enabled": set(),
    "use_deterministic_algorithms": set(),
    "fork_rng": set(),
    "set_application_registry": set(),
    "catch_warnings": set(),
    "simplefilter": set(),
    "filterwarnings": set(),
    "resetwarnings": set(),
    "seterr": set(),
    "seed": set(),
    "rc_context": set(),
    "switch_backend": set(),
    "basicConfig": set(),
    "setLevel": set(),
    "mallopt": set(),
    "chdir": set(),
    "umask": set(),
    "putenv": set(),
    "set_start_method": set(),
    "setrecursionlimit": set(),
    "setlocale": set(),
    # in the process of a trial, which ends with it
    "malloc_trim": {"planning"},
    "when_imported": set(),
    "register_post_import_hook": set(),
    "settrace": set(),
    "setprofile": set(),
    "setswitchinterval": set(),
    "set_event_loop_policy": set(),
    "register_at_fork": set(),
    "set_flush_denormal": set(),
    "set_float32_matmul_precision": set(),
    "signal": {"cli"},
}


@pytest.fixture
def three_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def in_new_thread(ask: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def overlapped(context: AbstractContextManager[None], other: AbstractContextManager[None]) -> None:
    """Two threads: the first enters first and leaves first."""
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with other:
            entered.set()
            assert left.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with context:
            done = pool.submit(second)
            assert entered.wait(60)
        left.set()
        done.result()


def test_one_thread_of_torch_is_the_callers_alone(three_threads: int) -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        assert in_new_thread(torch.get_num_threads) == three_threads
    assert torch.get_num_threads() == three_threads
    overlapped(one_thread(), one_thread())
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == three_threads


def test_an_error_inside_leaves_torchs_threads(three_threads: int) -> None:
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == three_threads


def test_maps_in_memory_leave_torchs_threads(three_threads: int) -> None:
    xsphere.segment(storm_dataset(n_times=18), storm_model(level=2))
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == three_threads


def test_networks_are_drawn_beside_torchs_generator() -> None:
    spec = storm_model().spec
    before = torch.get_rng_state()
    expected = Model.untrained(spec, seed=3)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: Model.untrained(spec, seed=3), range(6)))
    expected.network()
    assert all(model == expected for model in found)
    assert Model.untrained(spec, seed=4) != expected
    assert torch.equal(torch.get_rng_state(), before)


def test_pints_registry_stays_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cf_xarray.units", raising=False)
    before, own = pint.application_registry.get(), pint.UnitRegistry()
    units._registry.cache_clear()
    units.unit_conversion.cache_clear()
    try:
        pint.set_application_registry(own)
        assert units.unit_conversion("hPa", "Pa") == (100.0, 0.0)
        assert pint.application_registry.get() is own
    finally:
        pint.set_application_registry(before)


def test_filters_of_warnings_stay_where_contexts_overlap() -> None:
    before = list(warnings.filters)
    overlapped(without_warnings("one"), without_warnings("other"))
    assert warnings.filters == before
    with without_warnings("other"):
        warnings.warn("other", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="one"):
            warnings.warn("one", UserWarning, stacklevel=1)


def test_compiling_in_threads_leaves_numbas_options() -> None:
    def options() -> dict[str, Any]:
        return {name: value for name, value in vars(numba.config).items() if name.isupper()}

    def add(a: float, b: float) -> float:
        return a + b

    before = options()
    with ThreadPoolExecutor(3) as pool:
        loops = list(pool.map(lambda _: compiled(add), range(3)))
        assert list(pool.map(lambda loop: loop(1.0, 2.0), loops)) == [3.0] * 3
        assert options() == before
    assert all("compile" not in vars(loop) for loop in loops)


def test_writing_leaves_signals_alone(tmp_path: Path) -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def noted(block: Any) -> Any:
        seen.append(signal.getsignal(signal.SIGTERM))
        return block

    values = da.ones(2, chunks=1).map_blocks(noted, meta=np.ones(1))
    xsphere.write_blocks(xr.DataArray(values, dims="time", name="x"), tmp_path / "x.zarr")
    assert seen == [before] * 2


def test_the_command_stops_in_order_at_sigterm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("xsphere.cli.app", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_common_use_leaves_the_process_as_it_was() -> None:
    def state() -> list[Any]:
        return [
            dict(os.environ),
            Path.cwd(),
            list(warnings.filters),
            np.geterr(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            xr.get_options(),
            copy.deepcopy(dask.config.config),
            list(sys.meta_path),
            sys.getswitchinterval(),
            torch.get_float32_matmul_precision(),
            threading.excepthook,
            sys.excepthook,
        ]

    before = state()
    ds = storm_dataset(n_times=3).chunk(time=1)
    mask = ds.sphere.segment(storm_model(level=2))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: mask.compute(scheduler="threads"), range(3)))
    ds.sphere.to_healpix(level=2).compute()
    assert state() == before


def test_threads_at_work_are_not_seen_by_others(three_threads: int, tmp_path: Path) -> None:
    """What others in the process find while threads of this library work, all the time."""

    def seen() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            np.geterr()["divide"],
            os.environ.get("OMP_NUM_THREADS"),
            dask.config.get("scheduler", None),
            signal.getsignal(signal.SIGTERM),
        )

    def work(number: int) -> None:
        ds = storm_dataset(n_times=6, seed=number).chunk(time=2)
        mask = xsphere.segment(ds, storm_model(level=2))
        mask.sphere.to_zarr(tmp_path / f"{number}.zarr")
        ds.sphere.to_healpix(level=2).compute(scheduler="threads")

    before, found = in_new_thread(seen), set()
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(work, number) for number in range(3)]
        while not all(job.done() for job in jobs):
            found.add(in_new_thread(seen))
        for job in jobs:
            job.result()
    assert found == {before}
    assert in_new_thread(seen) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_processors_are_those_that_the_process_was_given() -> None:
    # dask counts them, cgroups of containers and jobs included
    code = """
import os, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from xsphere.clusters import workforce
from xsphere.threads import in_parts
assert workforce({})["threads_per_worker"] == 1
assert len(set(in_parts(lambda rows: threading.get_ident(), n_rows=9, at_once=1))) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_module_changes_the_process() -> None:
    found = [
        (str(path.relative_to(PACKAGE)), name)
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in called_names(path) & set(CHANGES)
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in CHANGES[name]
    ]
    assert not found


def called_names(path: Path) -> set[str]:
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }
