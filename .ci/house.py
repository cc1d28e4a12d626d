"""Count the house: lines per package, modules that the main job crosses, private parts, imports.

    python .ci/house.py [FOLDER]    # the folder that holds `xsphere`; this checkout by default

A module change is a call from one module of xsphere straight into another. It is counted in a
second, warm call, on the sample dataset as a Zarr store of two maps. `house` are the packages
between the labels and the files: sources, blocks, planning, store, segmentation and what they
share; a change within it has both ends there.
"""

import ast
import importlib
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

GIVEN = sys.argv[1:2] if __name__ == "__main__" else []
ROOT = Path(*GIVEN or [Path(__file__).parent.parent]).resolve()
PACKAGE = ROOT / "xsphere"
HOUSE = {
    "blocks",
    "locations",
    "opening",
    "outputs",
    "planning",
    "segmentation",
    "sources",
    "storable",
    "store",
}
FOREIGN = {"dask", "distributed", "numba", "torch", "xarray", "zarr"}
# documented in spite of their names
OPEN = {"_replace", "_asdict", "_fields", "_getframe"}


def part_of(path: Path) -> str:
    """Package or single module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def trees() -> dict[Path, ast.Module]:
    """Every module, parsed."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


class Changes:
    """Counts calls between modules while it is the profile function."""

    def __init__(self) -> None:
        self.pairs: Counter[tuple[str, str]] = Counter()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """What `sys.setprofile` calls."""
        if event != "call" or frame.f_back is None or frame.f_code.co_name.startswith("<"):
            return
        start = f"{PACKAGE}/"
        caller, called = frame.f_back.f_code.co_filename, frame.f_code.co_filename
        if caller != called and caller.startswith(start) and called.startswith(start):
            self.pairs[caller.removeprefix(start), called.removeprefix(start)] += 1

    def counted(self, within: set[str] | None = None) -> tuple[int, int]:
        """Modules and changes; only those between some packages, if they are given."""
        pairs = {
            pair: n
            for pair, n in self.pairs.items()
            if within is None or all(part_of(PACKAGE / module) in within for module in pair)
        }
        return len({module for pair in pairs for module in pair}), sum(pairs.values())


def changes(job: Callable[[], Any]) -> Changes:
    """The calls of a job, in all threads."""
    found = Changes()
    every = getattr(threading, "setprofile_all_threads", threading.setprofile)
    threading.setprofile(found)
    every(found)
    sys.setprofile(found)
    try:
        job()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        every(None)
    return found


def main_jobs() -> dict[str, Changes]:
    """Calls of the main job, counted when all is warm."""
    sys.path.insert(0, str(ROOT))
    warnings.simplefilter("ignore")
    xsphere: Any = importlib.import_module("xsphere")
    import xarray as xr

    assert Path(xsphere.__file__).parent == PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/sample.zarr"
        xsphere.sample_dataset().to_zarr(path)
        computed = xr.open_zarr(path).map(lambda a: a * 1, keep_attrs=True)
        runs = iter(range(2))
        jobs: dict[str, Callable[[], Any]] = {
            "segment(path)": lambda: xsphere.segment(path, "tc-ar"),
            "segment(computed with)": lambda: xsphere.segment(computed, "tc-ar"),
            "segment(path) and to_zarr": lambda: xsphere.write_blocks(
                xsphere.segment(path, "tc-ar", block_size=1),
                f"{folder}/{next(runs)}.zarr",
                progress=False,
            ),
        }
        for job in jobs.values():
            job()
        return {name: changes(job) for name, job in jobs.items()}


def private_uses() -> Counter[str]:
    """Private attributes of others and their private modules, by file, outside `compat`."""
    modules = trees()
    package = OPEN | {name for tree in modules.values() for name in own_names(tree)}
    found: Counter[str] = Counter()
    for path, tree in modules.items():
        own = OPEN | own_names(tree)
        n_uses = sum(is_private(node, own, package) for node in ast.walk(tree))
        found[str(path.relative_to(PACKAGE))] = n_uses
    found.pop("compat.py", None)
    return +found


def own_names(tree: ast.AST) -> set[str]:
    """The names that are given in a module."""
    nodes = list(ast.walk(tree))
    return (
        {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        | {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_stored(node)}
        | {node.id for node in nodes if isinstance(node, ast.Name) and is_stored(node)}
    )


def is_stored(node: ast.Attribute | ast.Name) -> bool:
    """Whether a statement sets it."""
    return isinstance(node.ctx, ast.Store)


def is_private(node: ast.AST, own: set[str], package: set[str]) -> bool:
    """Whether a node uses a private attribute or module of another library.

    An attribute that its own module names is the module's; one of `self`, the package's.
    """
    match node:
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
            return is_hidden(name) and name not in package
        case ast.Attribute(attr=name):
            return is_hidden(name) and name not in own
        case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=name)]):
            return is_hidden(str(name)) and name not in own
        case ast.ImportFrom(module=str(module)):
            return is_hidden_module(module)
        case ast.Import(names=names):
            return any(is_hidden_module(alias.name) for alias in names)
    return False


def is_hidden(name: str) -> bool:
    """Whether a name is private, and none of the language's own."""
    return name.startswith("_") and not name.endswith("__")


def is_hidden_module(name: str) -> bool:
    """Whether a module of a library is private, such as ``xarray.core.indexing``."""
    library, *parts = name.split(".")
    return library in FOREIGN and any(part == "core" or is_hidden(part) for part in parts)


def imports() -> set[tuple[str, str]]:
    """Which package imports which."""
    found = set()
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xsphere."):
                found.add((part_of(path), str(node.module).split(".")[1]))
    return {(one, other) for one, other in found if one != other}


def circles(edges: set[tuple[str, str]]) -> list[str]:
    """Groups of packages that import each other, straight or round a corner."""
    reach = dict.fromkeys({part for edge in edges for part in edge}, frozenset[str]())
    for _ in reach:
        reach = {
            part: reach[part].union(*({b} | reach[b] for a, b in edges if a == part))
            for part in reach
        }
    groups = {
        tuple(sorted(other for other in reach if other in reach[part] and part in reach[other]))
        for part in reach
        if part in reach[part]
    }
    return [" <-> ".join(group) for group in sorted(groups)]


def main() -> None:
    """Print all counts."""
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for path in trees():
        lines[part_of(path)] += len(path.read_text().splitlines())
        files[part_of(path)] += 1
    print(f"{'package':<28}{'files':>8}{'lines':>8}")
    for part, n in lines.most_common():
        print(f"{part:<28}{files[part]:>8}{n:>8}")
    print(f"{'all':<28}{files.total():>8}{lines.total():>8}")
    print(f"{'house':<28}{'':>8}{sum(n for part, n in lines.items() if part in HOUSE):>8}")
    print(f"\n{'crossed by':<28}{'modules':>8}{'changes':>8}   in the house")
    for name, found in main_jobs().items():
        whole, house = found.counted(), found.counted(HOUSE)
        print(f"{name:<28}{whole[0]:>8}{whole[1]:>8}   {house[0]} modules, {house[1]} changes")
    private = private_uses()
    print(f"\nprivate parts of others outside compat: {private.total()}")
    for name, n in private.most_common():
        print(f"  {name:<40}{n:>3}")
    print("circles of packages:", "; ".join(circles(imports())) or "none")


if __name__ == "__main__":
    main()
