"""Is this installation sound? Versions, cache, devices, bundled models."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
    facts = [f"{'python':<12}{sys.version.split()[0]}"]
    problems = []
    for package in PACKAGES:
        try:
            facts.append(f"{package:<12}{version(package)}")
        except PackageNotFoundError:
            problems.append(f"{package} is not installed; pip install {package}")
    for check in (_cache_facts, _device_facts, _model_facts):
        try:
            facts.append(check())
        # a report names every kind of failure instead of ending at the first
        except Exception as error:
            problems.append(f"{check.__name__.strip('_').split('_')[0]}: {error}")
    return facts, problems


def _cache_facts() -> str:
    from xsphere.cache import cache_dir

    folder = cache_dir()
    if folder is None:
        return f"{'cache':<12}off"
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        raise OSError(f"{folder} cannot be written; set XSPHERE_CACHE_DIR to a folder that can")
    size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return f"{'cache':<12}{folder} ({size / 2**20:.0f} MiB)"


def _device_facts() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{'device':<12}{torch.cuda.get_device_name()}"
    return f"{'device':<12}CPU, {torch.get_num_threads()} threads of torch"


def _model_facts() -> str:
    from xsphere.model import Model, bundled_models

    models = [repr(Model.load(name)) for name in bundled_models()]
    if not models:
        raise FileNotFoundError("the package holds none; install it again")
    return f"{'models':<12}" + "\n            ".join(models)
