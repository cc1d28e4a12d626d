"""The table of faults names tests that exist, and a test of each fault."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (Path(__file__).parent / "README.md").read_text()


@cache
def defined_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_test_of_the_table_exists() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", TABLE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 33))
    named = {number: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests) for number, tests in rows}
    assert all(named.values())
    missing = [
        f"{number}: {file}::{test}"
        for number, tests in named.items()
        for file, test in tests
        if not (ROOT / file).is_file() or test not in defined_in(ROOT / file)
    ]
    assert not missing


def test_every_numbered_test_is_in_its_rows() -> None:
    lines = {line.split(" ")[1]: line for line in TABLE.splitlines() if line.startswith("| ")}
    for path in Path(__file__).parent.glob("test_*.py"):
        for test in defined_in(path):
            numbers = re.match(r"test_((?:\d\d_)+)", test)
            for number in numbers[1].strip("_").split("_") if numbers else ():
                node = f"`{path.relative_to(ROOT).as_posix()}::{test}`"
                assert node in lines[str(int(number))], node
