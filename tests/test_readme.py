"""What the README shows runs, and what it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(code, "README.md", "exec"), names)
    assert names["prob"].dims == ("time", "class", "lat", "lon")  # type: ignore[attr-defined]
    assert (tmp_path / "events.csv").stat().st_size > 500
    assert (tmp_path / "fields.zarr" / "5" / "TMQ").is_dir()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{command}:" in makefile


def test_numbers_are_those_of_the_model() -> None:
    import xsphere

    model = xsphere.Model.load("tc-ar")
    assert f"{model.n_parameters:,} parameters" in TEXT
    scores = model.spec.scores["agreement with CGNet, held-out months"]
    for name in model.classes:
        iou, (low, high) = scores[name]["iou"], scores[name]["iou_95"]
        shown = [f"{value:.2f}".removeprefix("0") for value in (iou, low, high)]
        assert f"{shown[0]} ({shown[1]} to {shown[2]})" in TEXT


def test_the_page_on_scores_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "evaluation.md").read_text()
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, "evaluation.md", "exec"), names)
    assert (tmp_path / "report" / "scores.md").exists()
