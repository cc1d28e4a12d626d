"""Print the least versions that pyproject.toml states, as constraints of pip."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# its older releases for CPUs are not on PyPI: any other would bring gigabytes of GPU libraries
PINNED = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

with (ROOT / "pyproject.toml").open("rb") as file:
    stated = tomllib.load(file)["project"]["dependencies"]
for requirement in stated:
    name, version = re.sub(r"\[.*\]", "", requirement).split(">=")
    print(PINNED[0] if name == "torch" and PINNED else f"{name}=={version}")
