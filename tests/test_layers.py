"""Imports point down the layers, and heavy libraries stay where they belong."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parent.parent / "xsphere"
PICTURE = re.search(
    r"## Layers.*?```\n(.*?)```",
    (PACKAGE.parent / "CONTRIBUTING.md").read_text(),
    re.DOTALL,
)
assert PICTURE
# a line that begins with a space goes on with the layer of the line before
LABELLED, NUMBERS = (
    [layer.split()[1:] for layer in re.split(r"\n(?=\S)", part.strip("\n"))]
    for part in re.split(r"-{5,}.*\n", PICTURE[1])
)
LAYERS = [*LABELLED, *NUMBERS]  # from the top
PLACE = {part: (row, n) for row, parts in enumerate(LAYERS) for n, part in enumerate(parts)}
OWNERS = {"torch": {"nn"}, "cartopy": set(), "matplotlib": set(), "healpy": set(), "pickle": set()}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}"


def imports() -> Iterator[tuple[str, str]]:
    """Every import of one part by another."""
    for path in modules():
        nodes = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.stmt)]
        for name in imported(nodes):
            root, _, rest = name.partition(".")
            target = rest.split(".")[0] if rest else "__init__"
            if root == "xsphere" and target != part_of(path):
                yield part_of(path), target


def test_imports_point_down_or_to_the_right() -> None:
    # the commands may use the public names, which are imported when they are used
    assert {(part, target) for part, target in imports() if target == "__init__"} <= {
        (part, "__init__") for part in LAYERS[0]
    }
    back = {
        f"{part} must not import {target}"
        for part, target in imports()
        if "__init__" not in (part, target) and PLACE[target] <= PLACE[part]
    }
    assert not back


def test_heavy_libraries_are_imported_only_by_their_owners() -> None:
    below = {part for layer in NUMBERS for part in layer}
    misplaced = {
        f"{path.relative_to(PACKAGE)} must not import {name} at the top"
        for path in modules()
        for name in imported(tree_of(path).body)
        if part_of(path) not in OWNERS.get(name.split(".")[0], {part_of(path)})
        or (name.split(".")[0] == "xarray" and part_of(path) in below)
    }
    assert not misplaced


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", PACKAGE.parent / ".ci" / "house.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_private_parts_of_others_stand_in_compat(house: ModuleType) -> None:
    assert not house.private_uses()


def test_private_parts_are_told_from_public_ones(house: ModuleType) -> None:
    code = """
from xarray.core import indexing
import dask._task_spec
from zarr.abc.store import Store
class Own:
    def _of_its_own(self): return self._of_its_own, self._of_another_module
data = variable._data, getattr(store, "_group"), Own()._of_its_own(), one.__dict__
"""
    tree = ast.parse(code)
    own = house.own_names(tree)
    found = [n for n in ast.walk(tree) if house.is_private(n, own, own | {"_of_another_module"})]
    assert {node.lineno for node in found} == {2, 3, 7}
    assert len(found) == 4


def test_packages_import_in_no_circle(house: ModuleType) -> None:
    assert not house.circles(house.imports())


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in modules()} == {*PLACE, "__init__"}
    assert len(PLACE) == sum(map(len, LAYERS))


def test_importing_is_light() -> None:
    # beside xarray, which is imported first; and no import of it can fail by us
    code = """
import sys
import xarray
hooks, before = list(sys.meta_path), set(sys.modules)
import xsphere
brought = {name.split(".")[0] for name in set(sys.modules) - before}
standard = set(sys.stdlib_module_names)
assert brought - standard <= {"xsphere", "lazy_loader", "packaging"}, brought - standard
assert list(sys.meta_path) == hooks
assert hasattr(xarray.Dataset, "sphere") and hasattr(xarray.DataArray, "sphere")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_alone_gives_accessors() -> None:
    code = (
        "import sys, xsphere; heavy = {'torch', 'matplotlib', 'cartopy', 'healpy', 'numba',"
        " 'scipy', 'dask', 'zarr', 'pint'} & set(sys.modules); assert not heavy, heavy;"
        "import xarray; assert hasattr(xarray.Dataset, 'sphere')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_module_hides_a_public_function(elsewhere: Callable[..., str]) -> None:
    # `import xsphere.fitting` must not put a module where a function is expected
    code = (
        "import xsphere, types, importlib, pkgutil;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(xsphere.__path__,"
        " 'xsphere.')];"
        "bad = [n for n in xsphere.__all__ if isinstance(getattr(xsphere, n), types.ModuleType)];"
        "assert not bad, bad"
    )
    elsewhere(code)


def test_files_hold_one_idea() -> None:
    long = {str(p): n for p in modules() if (n := len(p.read_text().splitlines())) > 400}
    assert not long
