"""Cards of models: all that a file says of itself, as Markdown and as HTML."""

import json
import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

import numpy as np

from xsphere.grids import EARTH_RADIUS_KM
from xsphere.model.spec import ModelSpec
from xsphere.notices import markdown_table

NOT_SAID = "The file does not say."
# parts of a stored evaluation that are for machines
LONG = ("cells", "classes", "confusion", "curves")
OWN_PLACE = ("times", "history", "versions")


class Heading(NamedTuple):
    """A title of a level."""

    level: int
    text: str


class Bullets(NamedTuple):
    """Lines of a list."""

    lines: list[str]


Table = list[list[str]]
Block = str | Heading | Bullets | Table


def card_blocks(spec: ModelSpec, n_parameters: int, digest: str) -> list[Block]:
    """What there is to say of a model, in order.

    Parameters
    ----------
    spec : ModelSpec
        Of the model.
    n_parameters : int
        Number of its trained weights.
    digest : str
        Of its file.

    Returns
    -------
    list of str, Heading, Bullets or list of list of str
        Paragraphs, titles, lists and tables, these with their heads.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> card_blocks(example_spec(), 10, "ab")[0]
    Heading(level=1, text='example')
    """
    # entries in the order of a file, which sorts them
    spec = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict(), sort_keys=True)))
    versions = _mapping(spec.training.get("versions"))
    return [
        Heading(1, spec.name),
        *([spec.description] if spec.description else []),
        Heading(2, "Inputs"),
        *_inputs(spec),
        Heading(2, "Grid and network"),
        *_network(spec, n_parameters),
        Heading(2, "Classes"),
        *_classes(spec),
        Heading(2, "Data and recipe"),
        *_training(spec),
        Heading(2, "Scores"),
        *(_rendered(spec.scores, 3) if spec.scores else [NOT_SAID]),
        Heading(2, "Where it fails"),
        Bullets(list(spec.limits)) if spec.limits else NOT_SAID,
        Heading(2, "Licence"),
        spec.licence or NOT_SAID,
        Heading(2, "Versions"),
        Bullets(
            [
                f"file: format {spec.format}, SHA-256 {digest}",
                *(f"{name}: {_text(value)}" for name, value in versions.items()),
            ]
        ),
    ]


def as_markdown(blocks: list[Block]) -> str:
    """Blocks of a card as Markdown."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"{'#' * level} {text}")
            case Bullets(lines):
                parts.append("\n".join(f"- {_one_line(line)}" for line in lines))
            case str():
                parts.append(block)
            case _:
                rows = [[_one_line(cell).replace("|", "\\|") for cell in row] for row in block]
                parts.append(markdown_table(rows))
    return "\n\n".join(parts) + "\n"


def as_html(blocks: list[Block]) -> str:
    """Blocks of a card as HTML, whatever signs their texts have."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"<h{level + 2}>{escape(text)}</h{level + 2}>")
            case Bullets(lines):
                items = "".join(f"<li>{escape(line)}</li>" for line in lines)
                parts.append(f"<ul>{items}</ul>")
            case str():
                parts.append(f"<p>{escape(block)}</p>")
            case _:
                kinds = ["th", *["td"] * (len(block) - 1)]
                rows = [
                    "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row)
                    for kind, row in zip(kinds, block, strict=True)
                ]
                parts.append(f"<table><tr>{'</tr><tr>'.join(rows)}</tr></table>")
    return f"<div>{''.join(parts)}</div>"


def _inputs(spec: ModelSpec) -> Iterator[Block]:
    heads = ["input", "units", "on", "standard name", "other names", "valid range"]
    yield [
        heads,
        *(
            [
                variable.name,
                variable.units,
                f"{variable.pressure:g} hPa" if variable.pressure else "",
                variable.standard_name or "",
                ", ".join(variable.aliases),
                " to ".join(f"{end:g}" for end in variable.valid_range or ()),
            ]
            for variable in spec.variables
        ),
    ]
    yield (
        "They are found by standard name, then by name, and converted to these units; a cell where "
        "any is missing or beyond its range is invalid input."
    )


def _network(spec: ModelSpec, n_parameters: int) -> Iterator[Block]:
    n_cells = 12 * 4**spec.level
    width = math.sqrt(4 * math.pi / n_cells) * EARTH_RADIUS_KM
    lines = [
        f"HEALPix level {spec.level} (nside {2**spec.level}), nested: {n_cells:,} cells, about "
        f"{width:.0f} km wide",
        f"other grids are brought to it by the method {spec.regridding!r}",
        f"{n_parameters:,} trained weights",
    ]
    if spec.members:
        yield Bullets([*lines, f"an ensemble: the mean probability of {len(spec.members)} models"])
        yield [
            ["member", "channels", "network", "graph", "temperature"],
            *([member.name, *_architecture(member)] for member in spec.members),
        ]
        return
    channels, network, graph, _ = _architecture(spec)
    yield Bullets([*lines, f"channels: {channels}", f"network: {network}", f"graph: {graph}"])


def _architecture(spec: ModelSpec) -> tuple[str, str, str, str]:
    graph = f"{spec.graph.weights}, {spec.graph.k} neighbours"
    temperature = 1.0 if spec.calibration is None else spec.calibration.temperature
    channels = ", ".join(channel.name for channel in spec.channels)
    return channels, _entries(spec.network), graph, f"{temperature:g}"


def _classes(spec: ModelSpec) -> Iterator[Block]:
    found = spec.calibration
    thresholds = {} if found is None else found.thresholds
    yield [
        ["value", "class", "threshold"],
        ["0", "background", ""],
        *(
            [str(value), name, f"{thresholds[name]:g}" if thresholds else "likeliest"]
            for value, name in enumerate(spec.classes, start=1)
        ),
        ["254", "invalid input", ""],
    ]
    if found is None:
        yield "Probabilities are as the network was trained to give them: not calibrated."
        return
    yield f"Probabilities are calibrated: temperature {found.temperature:g}."
    if found.chosen_by:
        yield Bullets([f"{_readable(n)}: {_span(v)}" for n, v in found.chosen_by.items()])


def _training(spec: ModelSpec) -> Iterator[Block]:
    """The record of a training; of an ensemble that of each member."""
    for member in spec.members:
        yield Heading(3, member.name)
        yield from _training(member)
    if spec.members and not spec.training:
        return
    told = spec.training
    history = told.get("history")
    lines = [f"{name}: {_span(span)}" for name, span in _mapping(told.get("times")).items()]
    lines += [f"epochs: {len(history)}"] if isinstance(history, list | tuple) else []
    lines += [
        f"{_readable(name)}: {_text(value)}"
        for name, value in told.items()
        if name not in OWN_PLACE and value not in (None, [], {}, ())
    ]
    yield Bullets(lines) if lines else NOT_SAID


def _span(span: Any) -> str:
    match span:
        case [str(first), str(last), int(n)]:
            return f"{n} maps from {first[:16]} to {last[:16]}"
    return _text(span)


def _rendered(values: Mapping[str, Any], level: int) -> Iterator[Block]:
    """Nested values: lists of plain ones, tables of those that have rows, titles for the rest."""
    if {"settings", "scores"} <= set(values):
        values = {name: value for name, value in values.items() if name not in LONG}
    values = _with_intervals(values)
    rows = {name: _with_intervals(v) for name, v in values.items() if _is_row(v)}
    lines = [f"{_readable(n)}: {_score(v)}" for n, v in values.items() if _is_plain(v)]
    if lines:
        yield Bullets(lines)
    if rows:
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        yield [
            ["", *map(_readable, columns)],
            *(
                [_readable(name), *(_score(row[key]) if key in row else "" for key in columns)]
                for name, row in rows.items()
            ),
        ]
    for name, value in values.items():
        if name not in rows and not _is_plain(value):
            yield Heading(min(level, 6), _readable(name))
            yield from _rendered(value, level + 1)


def _with_intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Entries such as ``iou`` and ``iou_95``, the ends of its interval, as one."""
    joined = dict(values)
    for name, value in values.items():
        ends = values.get(f"{name}_95")
        if isinstance(value, int | float) and isinstance(ends, list | tuple) and len(ends) == 2:
            joined[name] = {"value": value, "interval": ends}
            del joined[f"{name}_95"]
    return joined


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Mapping) or "value" in value


def _is_row(value: Any) -> bool:
    return not _is_plain(value) and bool(value) and all(map(_is_plain, value.values()))


def _readable(name: Any) -> str:
    return str(name).replace("_", " ")


def _entries(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_readable(name)} {_text(value)}" for name, value in values.items())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _score(value: Any) -> str:
    """A score with its interval; of several seeds the mean and the standard deviation first."""
    match value:
        case {"value": inner, "interval": [float(low), float(high)]}:
            return f"{_text(inner)} ({_text(low)} to {_text(high)})"
        case {"value": inner}:
            return _text(inner)
    several = isinstance(value, list | tuple) and len(value) > 2
    if several and all(type(item) is float for item in value):
        mean, deviation = float(np.mean(value)), float(np.std(value, ddof=1))
        return f"{_text(mean)} ± {_text(deviation)} ({_text(value)})"
    return _text(value)


def _text(value: Any) -> str:
    """A plain value in few signs."""
    match value:
        case None:
            return "unknown"
        case float():
            return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case list() | tuple():
            return ", ".join(map(_text, value))
        case Mapping():
            return _entries(value)
    return str(value)
