"""One block read, computed and written as in the run, in a process of its own, and measured."""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from xsphere.blocks import BlocksFailed, WriteReport, write_blocks
from xsphere.config import DEFAULTS, config, set_options
from xsphere.notices import shortened
from xsphere.stages import bytes_read

# of work, beyond which fewer steps than a block are tried
TRIAL_SECONDS = 30.0
Pieces = Mapping[int, xr.DataArray]
CHILD = "import sys; from xsphere.planning.trial import child; child(sys.argv[1])"


class TrialError(RuntimeError):
    """The process of a trial ended without a result."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Steps that were tried; seconds by stage, bytes and memory of all of them together."""

    n_steps: int
    seconds: Mapping[str, float]
    read: int
    written: int
    # memory before, and the most beside it; None where other work shares the process
    base: int | None = None
    added: int | None = None
    device: int = 0
    # why it does
    shared: str = ""


def tried(warm: Pieces, pieces: Pieces) -> Trial:
    """A trial of the longest lazy result, by steps, that does not take too long.

    It runs in a process of its own where the results can be handed to one; others, of which the
    shortest has one step, warm up. What fails there is raised here.
    """
    import cloudpickle
    from dask.base import optimize

    # without the tasks of other blocks
    warm, pieces = optimize(dict(warm), dict(pieces))  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="xsphere-plan-") as folder:
        try:
            options = {name: config.get(name) for name in DEFAULTS}
            job = cloudpickle.dumps((options, warm, pieces))
            Path(folder, "job").write_bytes(job)
            _run_child(folder)
        except TrialError:
            raise
        # objects of users fail in ways of their own, and so do systems that start no process
        except Exception as error:
            shared = f"{type(error).__name__}: {shortened(error)}"
            return measured(warm, pieces, folder, shared=shared)
        outcome = cloudpickle.loads(Path(folder, "outcome").read_bytes())
    if isinstance(outcome, Exception):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _run_child(folder: str) -> None:
    # modules are found where this process finds them, and nowhere else
    command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-P", "-c", CHILD]
    done = subprocess.run(
        [*command, folder],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        # Ctrl-C is for this process alone, which then kills the other
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:
        raise TrialError(
            f"the process that tried a block ended with {done.returncode}; below 0, a signal "
            "killed it, and 9 means that memory was short, most likely. Choose a smaller "
            "block_size, or plan without a trial (trial=False)"
        )


def child(folder: str) -> None:
    """Do the trial that lies in a folder, and leave there what came of it."""
    import cloudpickle

    outcome: Trial | Exception
    try:
        options, warm, pieces = cloudpickle.loads(Path(folder, "job").read_bytes())
        set_options(**options)
        outcome = measured(warm, pieces, folder)
    # whatever it is, it is raised where the plan was asked for
    except Exception as error:
        outcome = error.with_traceback(None)
        outcome.__cause__ = outcome.__context__ = None  # with tracebacks, which hold everything
    try:
        left = cloudpickle.dumps(outcome)
        cloudpickle.loads(left)
    except Exception:
        left = cloudpickle.dumps(TrialError(f"{type(outcome).__name__}: {outcome}"))
    Path(folder, "outcome").write_bytes(left)


def measured(warm: Pieces, pieces: Pieces, folder: str, *, shared: str = "") -> Trial:
    """What comes of a trial in this process."""
    import torch

    _written(warm[1], Path(folder, "first.zarr"))  # loads the model
    seconds = _written(warm[1], Path(folder, "again.zarr")).stages
    each = sum(seconds.values()) - seconds.get("read", 0.0)
    few, n_steps = (
        max(n for n in lengths if n == min(lengths) or n * each <= TRIAL_SECONDS)
        for lengths in (warm, pieces)
    )
    _written(warm[few], Path(folder, "few.zarr"))  # compiles what is for many steps
    path = Path(folder, "block.zarr")
    base, before = None if shared else _forget_peak(), bytes_read()
    seconds = _written(pieces[n_steps], path).stages
    peak = peak_bytes()
    stored = (path / str(pieces[n_steps].name) / "c").rglob("*")
    return Trial(
        n_steps=n_steps,
        seconds=seconds,
        read=0 if shared else bytes_read() - before,
        written=sum(file.stat().st_size for file in stored if file.is_file()),
        base=base,
        added=None if base is None or peak is None else max(0, peak - base),
        device=0 if shared else int(torch.cuda.max_memory_allocated()),
        shared=shared,
    )


def _written(piece: xr.DataArray, path: Path) -> WriteReport:
    try:
        return write_blocks(piece, path, workers=1)
    except BlocksFailed as error:
        # the store that it tells of is nobody's
        raise error.failures[0].error from None


def peak_bytes() -> int | None:
    """The most memory that this process ever had; None where the system does not tell."""
    peak = _status("VmHWM")  # other figures count the process that started this one
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
    return peak


def _forget_peak() -> int | None:
    """Memory that this process needs now, which becomes the most that it ever had."""
    try:
        # what is free, but not given back, would count as if threads shared it
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return peak_bytes()
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A figure that Linux has of this process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)
