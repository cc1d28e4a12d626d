"""Regridding: how far results are from the truth, for every method and test field.

``python benchmarks/regrid_errors.py`` prints Markdown tables for 1 degree to level 6 and back and
takes half a minute; ``--big`` adds 0.25 degrees to level 8 and takes some minutes; ``--plot PATH``
draws the errors. Sources are sampled at cell centres; the truth is the mean over 256 places in
every cell. CDO (``pip install skyborn-cdo``) stands beside where it is installed.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from contenders import CDO_OPERATORS, cdo_binary, cdo_remapped, xsphere_methods
from fields import FIELDS, Floats, Scores, latlon, samples, scores, true_means

from xsphere.grids import Grid, HealpixGrid

# Below rounding: errors that are exactly zero stand here in the plot.
FLOOR = 1e-17
# The integral is kept if it changes by no more.
ROUNDING = 1e-12
PLOTTED = {
    "l1": "relative L1 error",
    "conservation": "relative change of the integral (grey: rounding)",
}
COLOURS = ("#0072B2", "#D55E00", "#56B4E9", "#E69F00")
MARKERS = "osDv"
TITLES = {
    "sinusoid": "sinusoid",
    "harmonic": "harmonic",
    "vortex": "vortex",
    "smooth": "smooth",
    "polar": "3 degree polar Gaussian",
}


class Row(NamedTuple):
    """Scores of one method on one field between two grids."""

    case: str
    field: str
    method: str
    scores: Scores


def regridded(
    source: Grid, target: Grid, given: dict[str, Floats], cdo: str | None
) -> Iterator[tuple[str, dict[str, Floats]]]:
    """Every method that there is between two grids, with all fields that it has regridded."""
    for method, regridder in xsphere_methods().items():
        try:
            built = regridder.build(source, target)
        except ValueError as error:
            print(f"{method} is left out: {error}")
            continue
        yield (
            f"xsphere {method}",
            {name: regridder.apply(built, values) for name, values in given.items()},
        )
        if cdo and method in CDO_OPERATORS:
            operator = CDO_OPERATORS[method]
            with tempfile.TemporaryDirectory() as folder:
                results = cdo_remapped(cdo, operator, source, target, given, folder=Path(folder))
            yield f"CDO {operator}", results


def measured(case: str, source: Grid, target: Grid, cdo: str | None) -> list[Row]:
    """Scores of every method on every field."""
    given, truth = samples(source), true_means(target)
    rows = [
        Row(case, name, method, scores(values, truth[name], given[name], source, target))
        for method, results in regridded(source, target, given, cdo)
        for name, values in results.items()
    ]
    return sorted(rows, key=lambda row: list(FIELDS).index(row.field))


@cache
def to_healpix(step: float, level: int, cdo: str | None) -> list[Row]:
    """Scores from latitudes and longitudes to HEALPix."""
    return measured(f"{step:g} deg to level {level}", latlon(step), HealpixGrid(level), cdo)


def to_latlon(step: float, level: int, cdo: str | None) -> list[Row]:
    """Scores from HEALPix to latitudes and longitudes."""
    return measured(f"level {level} to {step:g} deg", HealpixGrid(level), latlon(step), cdo)


def print_errors(rows: list[Row]) -> None:
    """Print a Markdown table."""
    print(f"\n| case | field | method | {' | '.join(Scores._fields)} |")
    print("|---|---|---|" + "---:|" * len(Scores._fields))
    for row in rows:
        numbers = " | ".join("0" if score == 0 else f"{score:.2e}" for score in row.scores)
        print(f"| {row.case} | {row.field} | {row.method} | {numbers} |")


def orders(steps: list[float], rows: list[Row]) -> dict[tuple[str, str], tuple[list[float], float]]:
    """L1 at every step, by field and method, and the power of the step that it falls with."""
    found = {}
    for field, method in dict.fromkeys((row.field, row.method) for row in rows):
        errors = [row.scores.l1 for row in rows if (row.field, row.method) == (field, method)]
        if len(errors) < len(steps):
            continue  # not possible on every grid
        logarithms = np.log(np.maximum(errors, FLOOR))
        known = bool(np.isfinite(logarithms).all())
        slope = np.polyfit(np.log(steps), logarithms, 1)[0] if known else np.nan
        found[field, method] = errors, float(slope)
    return found


def print_orders(step: float, level: int, cdo: str | None) -> None:
    """Print how L1 falls from grids two steps coarser to the given ones."""
    cases = [(step * 2**k, level - k) for k in (2, 1, 0)]
    rows = [row for case in cases for row in to_healpix(*case, cdo)]
    heads = " | ".join(f"L1, {size:g} deg to {at}" for size, at in cases)
    print(f"\n| field | method | {heads} | order |")
    print("|---|---|" + "---:|" * (len(cases) + 1))
    for (field, method), (errors, order) in orders([size for size, _ in cases], rows).items():
        numbers = " | ".join(f"{error:.2e}" for error in errors)
        print(f"| {field} | {method} | {numbers} | {order:.2f} |")


def plot(rows: list[Row], path: Path) -> None:
    """Draw two scores: a panel for each field, a line for each method, a colour for each case."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(row.method for row in rows))
    size = (14, 1.8 + 0.75 * len(methods))
    figure, axes = plt.subplots(
        2, len(FIELDS), figsize=size, sharex="row", sharey=True, layout="constrained"
    )
    for panels, (score, label) in zip(axes, PLOTTED.items(), strict=True):
        for axis, field in zip(panels, FIELDS, strict=True):
            draw(axis, [row for row in rows if row.field == field], score, methods)
        panels[len(FIELDS) // 2].set_xlabel(label)
    for axis, field in zip(axes[0], FIELDS, strict=True):
        axis.set_title(TITLES.get(field, field))
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw(axis: Any, rows: list[Row], score: str, methods: list[str]) -> None:
    """Draw one score of one field."""
    cases = list(dict.fromkeys(row.case for row in rows))
    for colour, marker, case in zip(COLOURS, MARKERS, cases, strict=False):
        chosen = [row for row in rows if row.case == case]
        aside = 0.16 * (cases.index(case) - (len(cases) - 1) / 2)
        heights = [methods.index(row.method) + aside for row in chosen]
        errors = [max(getattr(row.scores, score), FLOOR) for row in chosen]
        axis.scatter(errors, heights, color=colour, marker=marker, s=22, label=case, zorder=2)
    axis.set_xscale("log")
    if score == "conservation":
        axis.axvspan(FLOOR / 3, ROUNDING, color="0.93", zorder=0)
        axis.set_xlim(FLOOR / 3, 1.0)
    axis.set_yticks(range(len(methods)), methods)
    axis.grid(axis="both", color="0.88", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def pair(text: str) -> tuple[float, int]:
    """A step in degrees and a level, such as 0.25:8."""
    step, level = text.split(":")
    return float(step), int(level)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--big", action="store_true", help="also 0.25 degrees and level 8")
    parser.add_argument("--case", type=pair, action="append", help="STEP:LEVEL instead of 1:6")
    parser.add_argument("--plot", type=Path, help="where to write a picture of the errors")
    options = parser.parse_args(arguments)
    cases = (options.case or [(1.0, 6)]) + ([(0.25, 8)] if options.big else [])
    cdo = cdo_binary()
    rows = []
    for direction in (to_healpix, to_latlon):
        for case in cases:
            found = direction(*case, cdo)
            print_errors(found)
            rows += found
    print_orders(*cases[-1], cdo)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
