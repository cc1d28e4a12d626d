"""Is this installation sound, here and on all workers? Versions, cache, devices, models."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "xsphere",
    "numpy",
    "scipy",
    "numba",
    "healpy",
    "xarray",
    "dask",
    "distributed",
    "zarr",
    "numcodecs",
    "torch",
    "safetensors",
    "cartopy",
    "matplotlib",
)


def installation_report() -> tuple[list[str], list[str]]:
    """What is installed, and what is wrong with it.

    Returns
    -------
    facts, problems : lists of str
        Lines to show. No problem means that the package works.

    Examples
    --------
    >>> facts, problems = installation_report()
    >>> problems
    []
    """
    facts: list[str] = []
    problems: list[str] = []
    for package, found in _versions().items():
        if found is None:
            problems.append(f"{package} is not installed; pip install {package}")
        else:
            facts.append(f"{package:<12}{found}")
    for check in (_cache_facts, _device_facts, _model_facts):
        try:
            facts.append(check())
        # a report names every kind of failure instead of ending at the first
        except Exception as error:
            problems.append(f"{check.__name__.strip('_').split('_')[0]}: {error}")
    return facts, problems


def cluster_report(client: Any) -> tuple[list[str], list[str]]:
    """What the workers of a Dask cluster are, and where they differ from this process.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.

    Returns
    -------
    facts, problems : lists of str
        A line for each worker, and what would go wrong: other versions of a package, no package, a
        cache folder that not all share.

    Examples
    --------
    >>> from distributed import Client
    >>> with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
    ...     facts, problems = cluster_report(client)
    >>> len(facts), problems
    (1, [])
    """
    from xsphere.cache import cache_dir

    folder = cache_dir()
    with tempfile.TemporaryDirectory() as nowhere:
        place = folder or Path(nowhere)
        place.mkdir(parents=True, exist_ok=True)
        # seen by a worker only if it is one folder for both
        with tempfile.NamedTemporaryFile(prefix=".xsphere-doctor-", dir=place) as token:
            found = _asked(client, WorkerFacts(token.name))
    lines = [_worker_line(address, facts) for address, facts in sorted(found.items())]
    problems = _unreachable(found) + _differing(found) + _crowded(found)
    apart = [a for a, facts in sorted(found.items()) if facts.get("shares_cache") is False]
    if folder is not None and apart:
        problems.append(
            f"the cache folder {folder} is not seen by {_listed(apart)}; point XSPHERE_CACHE_DIR "
            "at one folder that this process and all workers share: models and weights are there"
        )
    if not found:
        problems.append("the cluster has no workers; start some, then ask again")
    return lines, problems


class WorkerFacts:
    """What a worker says of itself.

    Parameters
    ----------
    token : str
        A file that the asking process has made in its cache folder.

    Examples
    --------
    >>> WorkerFacts("/nowhere")()["shares_cache"]
    False
    """

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self) -> dict[str, Any]:
        """Versions, device and whether the cache folder is that of the asking process."""
        from xsphere.cache import cache_dir

        folder = cache_dir()
        same = folder is not None and (folder / Path(self.token).name).is_file()
        return {
            "versions": _versions(),
            "device": _device_facts()[12:],
            "gpu": _first_gpu(),
            "shares_cache": same,
        }


def _asked(client: Any, question: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """Answers by address of the worker; a worker that cannot answer says why."""
    answers = client.run(question, on_error="return")
    return {
        address: {"error": answer} if isinstance(answer, BaseException) else answer
        for address, answer in answers.items()
    }


def _worker_line(address: str, facts: Mapping[str, Any]) -> str:
    if "error" in facts:
        return f"{'worker':<12}{address}: no answer"
    versions = facts["versions"]
    return (
        f"{'worker':<12}{address}: {facts['device']}, xsphere {versions['xsphere']}, "
        f"torch {versions['torch']}"
    )


def _unreachable(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{address} cannot run xsphere ({facts['error']}); install the same version there"
        for address, facts in sorted(found.items())
        if "error" in facts
    ]


def _differing(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Packages of another version than here, each with the workers that have it."""
    here, problems = _versions(), []
    for package, own in here.items():
        others: dict[str, list[str]] = {}
        for address, facts in sorted(found.items()):
            theirs = facts.get("versions", here).get(package)
            if theirs != own:
                others.setdefault(theirs or "missing", []).append(address)
        problems += [
            f"{package} is {own or 'missing'} here but {theirs} on {_listed(addresses)}; install "
            "the same everywhere, or results may differ between workers"
            for theirs, addresses in others.items()
        ]
    return problems


def _crowded(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """GPUs that several worker processes would use at once."""
    users: dict[str, list[str]] = {}
    for address, facts in sorted(found.items()):
        if facts.get("gpu") is not None:
            users.setdefault(facts["gpu"], []).append(address)
    return [
        f"{_listed(addresses)} use one GPU ({gpu}); start one worker for each, as dask-cuda does"
        for gpu, addresses in users.items()
        if len(addresses) > 1
    ]


def _first_gpu() -> str | None:
    """Host and identity of the GPU that this process would use."""
    import torch

    if not torch.cuda.is_available():
        return None
    return f"{platform.node()} {torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def _listed(addresses: list[str]) -> str:
    shown = ", ".join(addresses[:3])
    return shown if len(addresses) <= 3 else f"{shown} and {len(addresses) - 3} more workers"


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _cache_facts() -> str:
    from xsphere.cache import cache_dir
    from xsphere.housekeeping import cache_entries
    from xsphere.notices import bytes_text

    folder = cache_dir()
    if folder is None:
        return f"{'cache':<12}off"
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        raise OSError(f"{folder} cannot be written; set XSPHERE_CACHE_DIR to a folder that can")
    size = bytes_text(sum(entry.n_bytes for entry in cache_entries()))
    return f"{'cache':<12}{folder} ({size})"


def _device_facts() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{'device':<12}{torch.cuda.get_device_name()}"
    return f"{'device':<12}CPU, {torch.get_num_threads()} threads of torch"


def _model_facts() -> str:
    from xsphere.model import Model, list_models

    models = [repr(Model.load(name)) for name in list_models()]
    if not models:
        raise FileNotFoundError("the package holds none; install it again")
    return f"{'models':<12}" + "\n            ".join(models)
