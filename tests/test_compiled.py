"""Machine code on disk: kept, checked, and made anew when it is damaged."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest

import xsphere.compiled as compiled_module
from tests.test_cache_damage import DAMAGES
from xsphere.entries import CacheWarning

SOURCE = """
from xsphere.compiled import compiled, compiled_for_c
from numba import carray, types
from xsphere.nn.sparse.calls import table_at

@compiled
def doubled(x):
    return 2 * x

def write(address, value):
    table_at(address, 1, 1)[0, 0] = value
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    (tmp_path / "loops.py").write_text(SOURCE)
    return tmp_path


def module(folder: Path) -> ModuleType:
    """As another process imports it."""
    spec = importlib.util.spec_from_file_location("loops", folder / "loops.py")
    assert spec is not None
    assert spec.loader is not None
    loops = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loops)
    return loops


def hits(loop: Any) -> int:
    return sum(loop.stats.cache_hits.values())


def test_what_was_kept_is_read(folder: Path) -> None:
    first, again = module(folder), module(folder)
    assert first.doubled(2.5) == again.doubled(2.5) == 5.0
    assert (hits(first.doubled), hits(again.doubled)) == (0, 1)


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_anew(
    folder: Path, ending: str, damage: Callable[[Path], Any]
) -> None:
    module(folder).doubled(2.5)
    (file,) = (folder / "numba").rglob(f"*.{ending}")
    damage(file)
    loops, again = module(folder), module(folder)
    assert loops.doubled(2.5) == 5.0
    assert hits(loops.doubled) == 0
    assert again.doubled(2.5) == 5.0
    assert hits(again.doubled) == 1


def test_code_that_was_inlined_from_another_file_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = "from xsphere.compiled import compiled\nfrom inlined_here import factor\n\n"
    (folder / "loops.py").write_text(f"{outer}@compiled\ndef times(x):\n    return factor() * x\n")
    monkeypatch.syspath_prepend(folder)
    for value in (2, 3):
        inner = f"import numba\n\n@numba.njit\ndef factor():\n    return {value}\n"
        (folder / "inlined_here.py").write_text(inner)
        compiled_module._sources.cache_clear()
        sys.modules.pop("inlined_here", None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        assert module(folder).times(5) == 5 * value
    sys.modules.pop("inlined_here")


def test_functions_of_c_are_checked_too(folder: Path) -> None:
    import numpy as np

    from xsphere.compiled import compiled_for_c

    def written() -> int:
        out = np.zeros(1, np.int64)
        compiled_for_c(module(folder).write).ctypes(out.ctypes.data, 7)
        return int(out[0])

    assert written() == 7
    (file,) = (folder / "numba").rglob("*write*.nbc")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert written() == 7
    assert file.read_bytes() != content


def test_a_folder_that_cannot_be_written_costs_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = module(folder)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xsphere.compiled.write_file", fail)
    with pytest.warns(CacheWarning, match="machine code cannot be kept in .*No space left"):
        assert loops.doubled(2.5) == 5.0
