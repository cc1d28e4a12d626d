"""Imports point down the layers, and heavy libraries stay where they belong."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parent.parent / "xsphere"
LAYERS = (
    {
        "atomic",
        "cache",
        "compat",
        "compiled",
        "compressed",
        "config",
        "entries",
        "housekeeping",
        "locations",
        "notices",
        "paths",
        "stages",
        "tensorfiles",
        "threads",
        "unpacking",
    },
    {"grids"},
    {"graph", "weights", "metrics"},
    {"nn", "equivariance"},
    {"model", "conventions"},
    {"regridding", "filtering", "outputs", "storable", "store", "sample", "blocks", "sources"},
    {"segmentation", "fitting", "regions", "detection", "plotting", "pyramids", "planning"},
    {"accessor", "reports", "doctor", "demo", "clusters", "cli", "__init__", "__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# within one layer, who may use whom
SIDEWAYS = {
    ("cache", "paths"),
    ("cache", "config"),
    ("cache", "entries"),
    ("cache", "notices"),
    ("compiled", "atomic"),
    ("compiled", "compat"),
    ("compiled", "entries"),
    ("compiled", "notices"),
    ("config", "paths"),
    ("entries", "atomic"),
    ("entries", "notices"),
    ("housekeeping", "atomic"),
    ("housekeeping", "cache"),
    ("housekeeping", "entries"),
    ("housekeeping", "notices"),
    ("locations", "compat"),
    ("locations", "notices"),
    ("locations", "paths"),
    ("tensorfiles", "notices"),
    ("blocks", "store"),
    ("blocks", "outputs"),
    ("blocks", "sources"),
    ("blocks", "storable"),
    ("sources", "storable"),
    ("store", "storable"),
    ("outputs", "sources"),
    ("store", "outputs"),
    ("store", "sources"),
    ("sources", "regridding"),
    ("planning", "segmentation"),
    ("detection", "regions"),
    ("accessor", "__init__"),
    ("demo", "reports"),
    ("cli", "demo"),
    ("cli", "reports"),
    ("cli", "doctor"),
    ("cli", "clusters"),
    ("__main__", "cli"),
}
OWNERS = {"torch": {"nn"}, "cartopy": set(), "matplotlib": set(), "healpy": set(), "pickle": set()}
XARRAY_FROM = 4
# packages that still use private parts of other libraries themselves
NOT_YET = {"segmentation", "sources", "store"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.stmt)]
    for name in imported(nodes):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0] if rest else "__init__"
        if root != "xsphere" or target == part or (part, target) in SIDEWAYS:
            continue
        # functions of the top layer may use the public names
        if LEVEL[part] == len(LAYERS) - 1 and target == "__init__":
            continue
        assert LEVEL[target] < LEVEL[part], f"{part} must not import {target}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_only_by_their_owners(path: Path) -> None:
    part = part_of(path)
    for name in imported(ast.parse(path.read_text()).body):
        root = name.split(".")[0]
        if root in OWNERS:
            assert part in OWNERS[root], f"{part} must not import {root} at the top"
        if root == "xarray":
            assert LEVEL[part] >= XARRAY_FROM, f"{part} must not import xarray"


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", PACKAGE.parent / ".ci" / "house.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_private_parts_of_others_stand_in_compat(house: ModuleType) -> None:
    assert {part_of(PACKAGE / name) for name in house.private_uses()} <= NOT_YET


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
    assert {part_of(path) for path in modules()} == set(LEVEL)


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
