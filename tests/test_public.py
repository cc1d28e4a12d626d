"""Every public name is documented, with an example that runs (doctests run it)."""

import importlib
import inspect
import pickle
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
    "datasets",
    "regridding",
    "evaluation",
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


def errors_of(kind: type[BaseException]) -> list[type[BaseException]]:
    return [c for child in kind.__subclasses__() for c in (child, *errors_of(child))]


def test_errors_and_warnings_survive_the_way_from_a_worker() -> None:
    for module in pkgutil.walk_packages(xsphere.__path__, "xsphere."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    own = {c for c in errors_of(BaseException) if c.__module__.startswith("xsphere.")}
    assert len(own) > 20
    for kind in own:
        takes = inspect.signature(kind.__init__).parameters.values()
        needed = [p for p in takes if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
        error = kind(*(p.name for p in needed[1:]) if needed else ("a message",))
        copied = pickle.loads(pickle.dumps(error))
        assert (type(copied), copied.args) == (kind, error.args)
        assert vars(copied) == vars(error)
