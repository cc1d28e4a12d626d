"""Losses and scores of every epoch, as rows of a file."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from xsphere.atomic import write_file
from xsphere.evaluation.result import without_nan
from xsphere.paths import local_path

ENDINGS = (".csv", ".jsonl")


def log_path(log: str | Path | None) -> Path | None:
    """Where a log goes; refused if its ending is unknown."""
    if log is None:
        return None
    path = local_path(log, "the log")
    if path.suffix not in ENDINGS:
        raise ValueError(f"the log must end in one of {ENDINGS}, got {str(path)!r}")
    return path


def write_log(path: Path, history: list[dict[str, Any]]) -> None:
    """Write all epochs so far: in a CSV, scores of classes are columns such as ``iou_storm``."""
    records = [without_nan(record) for record in history]
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(record) + "\n" for record in records)
    else:
        rows = [_flat(record) for record in records]
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = lines.getvalue()
    write_file(path, text.encode())


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        flat |= {f"{name}_{key}" if key else name: part for key, part in inner}
    return flat
