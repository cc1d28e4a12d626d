"""Cards: all that a file says of a model, for people, whatever it holds."""

import json
import re
import statistics
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import xsphere
from tests.tiers import examples
from tests.toys import storm_model, storm_spec
from xsphere.cli import app
from xsphere.model import Calibration, Model
from xsphere.model.cards import as_html, as_markdown, card_blocks

SEEDS = [0.61, 0.55, 0.58, 0.6, 0.52]
RECORD: dict[str, Any] = {
    "description": "Storms in fields that never were.",
    "training": {
        "data": "a year of noise",
        "times": {"training": ["2001-01-01T00:00:00", "2001-12-30T00:00:00", 360]},
        "options": {"seed": 3, "learning_rate": 0.001},
        "history": [{"loss": 1.0}, {"loss": 0.5}],
        "versions": {"torch": "9.9.9"},
    },
    "scores": {
        "held-out month": {
            "cyclone": {"iou": 0.481, "iou_95": [0.412, 0.533], "maps": 12},
            "river": {"iou": {"value": 0.7, "interval": [0.65, 0.75]}},
        },
        "five seeds": {"iou": {"cyclone": SEEDS}},
    },
    "calibration": Calibration(
        temperature=1.25,
        thresholds={"cyclone": 0.35, "river": 0.5},
        chosen_by={"thresholds": "largest iou of each class"},
    ),
    "limits": ("Over land it sees storms in heat lows.",),
    "licence": "CC-BY-4.0",
}


@pytest.fixture(scope="module")
def card() -> str:
    return storm_model().with_record(**RECORD).card()


@pytest.mark.parametrize(
    "said",
    [
        "# storms",
        "Storms in fields that never were.",
        r"\| PSL +\| Pa +\| +\| air_pressure_at_mean_sea_level +\| msl ",
        r"\| U850 +\| m s-1 +\| 850 hPa +\| eastward_wind +\| u850, u ",
        r"HEALPix level 2 \(nside 4\), nested: 192 cells, about 1630 km wide",
        r"- channels: PSL, speed, vorticity, latitude",
        r"\| 1 +\| cyclone +\| 0.35 +\|",
        "temperature 1.25",
        "- thresholds: largest iou of each class",
        "- data: a year of noise",
        "- training: 360 maps from 2001-01-01T00:00 to 2001-12-30T00:00",
        "- epochs: 2",
        "- options: learning rate 0.001, seed 3",
        r"\| cyclone \| 0.481 \(0.412 to 0.533\) +\| 12 ",
        r"\| river +\| 0.7 \(0.65 to 0.75\) +\| +\|",
        "- Over land it sees storms in heat lows.",
        "CC-BY-4.0",
        "- torch: 9.9.9",
    ],
)
def test_a_card_says_what_the_file_says(card: str, said: str) -> None:
    assert re.search(said, card), card


def test_a_card_gives_the_spread_over_seeds(card: str) -> None:
    mean, deviation = statistics.mean(SEEDS), statistics.stdev(SEEDS)
    assert f"{mean:.3g} ± {deviation:.3g} (0.61, 0.55" in card


def test_a_card_is_of_the_file_alone(card: str, tmp_path: Path) -> None:
    path = storm_model().with_record(**RECORD).save(tmp_path / "m.safetensors")
    assert Model.load(path).card() == card
    assert Model.load(path).digest in card
    plain = storm_model().card()
    for title in ("Scores", "Where it fails", "Licence", "Data and recipe"):
        assert f"## {title}\n\nThe file does not say." in plain
    # files without limits and licence are what they were
    assert not {"limits", "licence"} & set(storm_model().spec.to_dict())


def test_the_card_of_an_ensemble_has_its_members() -> None:
    other = storm_model(seed=1).with_record(**RECORD, name="another")
    card = Model.ensemble([storm_model(), other], name="two").card()
    assert "an ensemble: the mean probability of 2 models" in card
    assert re.search(r"\| another \| PSL, speed, .* \| consistent, 8 neighbours \| 1.25 ", card)
    assert "### another\n\n- training: 360 maps" in card


class Tags(HTMLParser):
    """Tags that are open, each closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


TEXTS = st.text("a|<b>&\n'\"#", max_size=6)
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | TEXTS
NAMES = TEXTS | st.sampled_from(["value", "interval", "iou", "iou_95", "settings", "scores"])
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
TRAINING = st.dictionaries(
    TEXTS | st.sampled_from(["times", "history", "versions", "data"]), JSON, max_size=3
)


@examples(40)
@given(st.dictionaries(NAMES, JSON, max_size=3), TRAINING)
def test_whatever_a_file_says_makes_a_card(scores: Any, training: Any) -> None:
    spec = replace(storm_spec(), scores=scores, training=training, name="<script>")
    blocks = card_blocks(spec, 1, "00")
    card, html = as_markdown(blocks), Tags(as_html(blocks))
    assert not html.open
    assert html.seen <= {"div", "h3", "h4", "h5", "h6", "h7", "h8", "p", "ul", "li", "table"} | {
        "tr",
        "th",
        "td",
    }
    for rows in re.findall(r"(?m)(?:^\|.*\|$\n?)+", card):
        # a table has as many cells in every row
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows.strip().split("\n")}
        assert len(cells) == 1


def test_only_the_record_can_be_replaced() -> None:
    with pytest.raises(ValueError, match=r"the record of a model has .*, got \['level'\]"):
        storm_model().with_record(level=3)
    with pytest.raises(ValueError, match="limits must be a list"):
        storm_model().with_record(limits="none")


def test_models_of_the_package_are_listed_and_shown() -> None:
    listed = xsphere.list_models()
    assert "tropical" in listed["tc-ar"].lower()
    assert all(Model.load(name).spec.description == text for name, text in listed.items())
    shown = CliRunner().invoke(app, ["model", "ls"]).output
    assert all(name in shown for name in listed)
    shown = CliRunner().invoke(app, ["model", "show", "tc-ar"]).output
    assert shown.strip() == Model.load("tc-ar").card().strip()
    json.dumps(listed)
