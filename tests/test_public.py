"""Every public name is documented, with an example that runs (doctests run it)."""

import importlib
import inspect
import pkgutil

import pytest
from numpydoc.validate import validate

import xsphere

CHECKS = {"GL03", "GL08", "SS03", "PR01", "PR02", "PR03", "PR05", "RT01", "EX01"}
PACKAGES = (
    "grids",
    "graph",
    "weights",
    "equivariance",
    "nn",
    "model",
    "conventions",
    "regridding",
    "filtering",
    "blocks",
    "sources",
    "plotting",
)


def public_names() -> list[str]:
    names = [f"xsphere.{name}" for name in xsphere.__all__]
    for package in PACKAGES:
        module = importlib.import_module(f"xsphere.{package}")
        names += [f"xsphere.{package}.{name}" for name in module.__all__]
    return sorted(names)


def resolved(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", public_names())
def test_public_name_is_documented(name: str) -> None:
    obj = resolved(name)
    if not (inspect.isroutine(obj) or inspect.isclass(obj)):
        return  # an alias of types or a table
    problems = [
        f"{code}: {text}"
        for code, text in validate(f"{obj.__module__}.{obj.__qualname__}")["errors"]
        if code in CHECKS
    ]
    assert not problems, f"{name}: {problems}"


@pytest.mark.parametrize("name", public_names())
def test_public_function_has_an_example(name: str) -> None:
    obj = resolved(name)
    if inspect.isroutine(obj) or inspect.isclass(obj):
        assert ">>>" in (inspect.getdoc(obj) or ""), f"{name} has no example"


def test_every_module_says_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(xsphere.__path__, "xsphere."):
        assert importlib.import_module(module.name).__doc__, f"{module.name} has no docstring"
