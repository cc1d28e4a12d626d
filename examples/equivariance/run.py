"""The equivariance errors of DeepSphere's figure, measured again, beside the published ones.

``python examples/equivariance/run.py`` measures the Laplacians of the published graphs and of the
consistent ones by both methods, and writes ``results.csv``, ``results.md`` and ``figure.png``.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from xsphere import HealpixGrid, LatLonGrid, SphereGraph
from xsphere.equivariance import EquivarianceError, equivariance_error
from xsphere.equivariance.random_fields import HealpixFields
from xsphere.equivariance.sampled import Sampling, confidence_interval
from xsphere.grids import level_from_nside

METHODS = ("inexact rotations", "rotations", "schur")
# Widths of the published Gaussian weights, in radians, by k and nside.
WIDTHS = {
    8: {32: 0.02500, 64: 0.01228, 128: 0.00614, 256: 0.00307},
    20: {32: 0.03185, 64: 0.01564, 128: 0.00782, 256: 0.00391},
    40: {32: 0.042432, 64: 0.021354, 128: 0.010595, 256: 0.005551},
}
# Parts of 3 nside at which rotations are measured, beside the published degrees.
PARTS = np.array([5, 10, 20, 30, 45, 60, 75, 90]) / 96
LOWEST_IN_MEAN = 5
# Degrees of the summary at nside 32, in proportion at others.
SUMMARY = np.array([5, 10, 20, 30, 45, 60])
# All weights are one to 5 digits at a width of so many radians.
EQUAL_WIDTH = 100.0
COLOURS = {8: "#0072B2", 20: "#D55E00", 40: "#009E73"}
OTHER_COLOURS = {"Khasanova": "0.5", "Perraudin": "#CC79A7", "equal weights": "#CC79A7"}
LINES = {
    "Khasanova": "-",
    "Perraudin": "-.",
    "equal weights": (0, (6, 1)),
    "Gaussian": "--",
    "consistent": "-",
}

Published = dict[tuple[str, int], dict[str, float]]
Errors = dict[tuple[int, str], dict[str, EquivarianceError]]
Links = dict[tuple[int, str], float]


class Case(NamedTuple):
    """A graph of the figure at one resolution."""

    kind: str
    k: int
    nside: int

    @property
    def name(self) -> str:
        """As the tables and the legend have it."""
        return f"{self.kind} k={self.k}"

    def graph(self) -> SphereGraph:
        """The graph, built when asked for."""
        healpix = HealpixGrid(level_from_nside(self.nside))
        match self.kind:
            case "Khasanova":
                grid = LatLonGrid.equiangular(4 * self.nside, 4 * self.nside)
                return SphereGraph(grid, k=self.k, weights="khasanova2017")
            case "Perraudin" | "equal weights":
                width = EQUAL_WIDTH if self.kind == "equal weights" else None
                return SphereGraph(healpix, k=self.k, weights="perraudin2019", kernel_width=width)
            case "Gaussian":
                # widths follow the size of the cells where none was published
                widths = WIDTHS[self.k]
                width = widths.get(self.nside, widths[32] * 32 / self.nside)
                return SphereGraph(healpix, k=self.k, weights="gaussian", kernel_width=width)
        return SphereGraph(healpix, k=self.k, weights="consistent")

    def degrees(self, method: str, published: Published) -> NDArray[np.int64]:
        """Degrees to measure: every one where that is exact and quick."""
        highest = 3 * self.nside - 1
        if method == "schur":
            return np.arange(1, highest + 1)
        known = [
            int(degree) for degree in published.get((self.name, self.nside), {}) if degree != "mean"
        ]
        spread = np.round(PARTS * 3 * self.nside).astype(int)
        return np.unique([degree for degree in [*known, *spread] if 1 <= degree <= highest])


def cases(nside: int) -> list[Case]:
    """All graphs of the figure; ours last, so that they lie on top."""
    numbers = {
        "Khasanova": (4,),
        "Perraudin": (8,),
        "equal weights": (8,),
        "Gaussian": (8, 20, 40),
        "consistent": (8, 20, 40),
    }
    return [Case(kind, k, nside) for kind, ks in numbers.items() for k in ks]


def read_published() -> Published:
    """Published errors by graph and nside, then by degree (or "mean").

    Those of Perraudin's graph stand beside equal weights too, which they agree with.
    """
    lines = Path(__file__).with_name("published.csv").read_text().splitlines()
    found: Published = {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        errors = found.setdefault((row["graph"], int(row["nside"])), {})
        errors[row["degree"]] = float(row["error"])
    equal = {
        ("equal weights k=8", nside): errors
        for (name, nside), errors in found.items()
        if name == "Perraudin k=8"
    }
    return found | equal


def measured(nside: int, published: Published, options: dict[str, Any]) -> tuple[Errors, Links]:
    """Errors of every graph by every method that can measure it, and its links a row."""
    found: Errors = {(nside, method): {} for method in METHODS}
    links = {}
    for case in cases(nside):
        graph = case.graph()
        links[nside, case.name] = graph.laplacian.nnz / graph.n_cells - 1
        for method in METHODS:
            if method != "schur" and not isinstance(graph.grid, HealpixGrid):
                continue  # fields on longitudes and latitudes are not rotated
            started = time.perf_counter()
            degrees = case.degrees(method, published)
            if method == "inexact rotations":
                errors = inexact_error(graph, degrees, Sampling(**options))
            else:
                errors = equivariance_error(
                    graph.laplacian, graph.grid, degrees, method=method, **options
                )
            seconds = time.perf_counter() - started
            print(f"nside {nside}  {case.name:<17} {method:<17} {seconds:6.1f} s", flush=True)
            found[nside, method][case.name] = errors
    return found, links


def inexact_error(
    graph: SphereGraph, degrees: NDArray[np.int64], sampling: Sampling
) -> EquivarianceError:
    """Error by rotations of input and output alike, through a transform without iterations.

    The transform's error goes through the operator as well: this is not a measure to use. It comes
    near the published values, which hints at how they were made.
    """
    fields = HealpixFields(graph.grid)
    ratios = np.empty((degrees.size, sampling.n_signals, sampling.n_rotations))
    for row, degree in enumerate(degrees):
        rng = sampling.rng(int(degree))
        for signal in range(sampling.n_signals):
            given = fields.values(fields.drawn(int(degree), 1, rng))
            found = graph.laplacian @ given
            of_given, of_found = (fields.of_values(array, 0) for array in (given, found))
            for turn, rotation in enumerate(Rotation.random(sampling.n_rotations, rng)):
                matrix = rotation.as_matrix()
                turned = fields.values(fields.rotated(of_given, matrix))
                after = fields.values(fields.rotated(of_found, matrix))
                difference = np.linalg.norm(after - graph.laplacian @ turned)
                ratios[row, signal, turn] = difference / np.linalg.norm(found)
    intervals = [
        confidence_interval(ratio, int(degree), sampling)
        for ratio, degree in zip(ratios, degrees, strict=True)
    ]
    return EquivarianceError(
        degrees=degrees,
        error=ratios.mean(axis=(1, 2)),
        squared_error=(ratios**2).mean(axis=(1, 2)),
        low=np.array([low for low, _ in intervals]),
        high=np.array([high for _, high in intervals]),
        floor=np.zeros(degrees.size),
        response=None,
        method="rotations",
        sampled=True,
    )


def mean_over_degrees(errors: EquivarianceError) -> float:
    """Mean over l from 5 on, straight lines between the degrees that were measured."""
    first = max(LOWEST_IN_MEAN, int(errors.degrees[0]))
    every = np.arange(first, errors.degrees[-1] + 1)
    return float(np.interp(every, errors.degrees, errors.error).mean())


def write_csv(path: Path, errors: Errors, published: Published) -> None:
    """All that was measured, a row for each degree."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = ("error", "squared_error", "low", "high", "floor")
        writer.writerow(["nside", "graph", "method", "degree", *names, "published"])
        for (nside, method), by_graph in errors.items():
            for name, found in by_graph.items():
                known = published.get((name, nside), {})
                columns = [getattr(found, column) for column in names]
                for degree, *values in zip(found.degrees, *columns, strict=True):
                    shown = [f"{value:.6g}" for value in values]
                    writer.writerow(
                        [nside, name, method, degree, *shown, known.get(str(degree), "")]
                    )


def table(nside: int, by_graph: dict[str, EquivarianceError], published: Published) -> list[str]:
    """Markdown of one method at one resolution: measured, and (published) where there is one."""
    known = {degree for name in by_graph for degree in published.get((name, nside), {})} - {"mean"}
    shared = set.intersection(*(set(found.degrees.tolist()) for found in by_graph.values()))
    spread = set(np.round(PARTS * 3 * nside).astype(int).tolist())
    degrees = sorted((spread | {int(degree) for degree in known}) & shared)
    lines = [
        f"| graph | {' | '.join(f'l={degree}' for degree in degrees)} | mean over l |",
        "|---" * (len(degrees) + 2) + "|",
    ]
    for name, found in by_graph.items():
        errors = dict(zip(found.degrees.tolist(), found.error, strict=True))
        values = [(errors[degree], str(degree)) for degree in degrees]
        paper = published.get((name, nside), {})
        cells = [
            f"{value:.3g} ({paper[key]:.3g})" if key in paper else f"{value:.3g}"
            for value, key in [*values, (mean_over_degrees(found), "mean")]
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    floors = np.mean(
        [[found.floor[found.degrees == d][0] for d in degrees] for found in by_graph.values()],
        axis=0,
    )
    lines.append(
        f"| floor (mean of the graphs) | {' | '.join(f'{floor:.2g}' for floor in floors)} | |"
    )
    return lines


def summary(nside: int, errors: Errors, links: Links, published: Published) -> list[str]:
    """Markdown of what counts at one resolution: a line for each graph, its means."""
    exact = errors[nside, "schur"]
    degrees = np.unique(np.round(SUMMARY * nside / 32).astype(int))
    few = ", ".join(map(str, degrees))
    lines = [
        "| graph | links a row | published | inexact rotations | rotations | schur | "
        f"schur, l = {few} | largest ratio to Gaussian |",
        "|---" * 8 + "|",
    ]
    for name, found in exact.items():
        paper = published.get((name, nside), {}).get("mean")
        rotated = [errors[nside, method].get(name) for method in METHODS[:2]]
        means = [None if e is None else mean_over_degrees(e) for e in rotated]
        means += [mean_over_degrees(found), found.error[degrees - 1].mean()]
        rival = exact.get(name.replace("consistent", "Gaussian"), found)
        ratio = (found.error / rival.error).max() if rival is not found else None
        shown = ["" if value is None else f"{value:.3g}" for value in (paper, *means, ratio)]
        lines.append(f"| {name} | {links[nside, name]:.2f} | {' | '.join(shown)} |")
    return lines


def write_tables(path: Path, errors: Errors, links: Links, published: Published) -> None:
    """Markdown tables of everything, published values in brackets."""
    lines = [
        "# Equivariance errors of graph Laplacians",
        "",
        "Ratios are NOT squared; published values in brackets. rotations: |R L f - L R f| / |L f|; "
        "inexact: input and output are rotated by a transform without iterations, which comes near "
        "what was published. schur: |L f - c f| / |L f|, the exact expectation, which has no floor "
        "and is about 1/sqrt(2) of the rotations'.",
    ]
    for nside in dict.fromkeys(nside for nside, _ in errors):
        lines += ["", f"## nside {nside}: means over l from {LOWEST_IN_MEAN}", ""]
        lines += summary(nside, errors, links, published)
    for (nside, method), by_graph in errors.items():
        lines += ["", f"## nside {nside}, {method}", "", *table(nside, by_graph, published)]
    path.write_text("\n".join(lines) + "\n")


def draw(path: Path, errors: Errors, published: Published) -> None:
    """Figure: a column for each resolution, a row for each method, crosses where published."""
    from matplotlib.figure import Figure

    from xsphere.plotting.curves import plot_equivariance

    resolutions = list(dict.fromkeys(nside for nside, _ in errors))
    figure = Figure(figsize=(5.2 * len(resolutions), 14), layout="constrained")
    panels = figure.subplots(len(METHODS), len(resolutions), squeeze=False, sharey=True)
    for (nside, method), by_graph in errors.items():
        ax = panels[METHODS.index(method), resolutions.index(nside)]
        styles = {name: style_of(name) for name in by_graph}
        plot_equivariance(by_graph, ax, title=f"nside {nside}, {method}", styles=styles)
        ax.set(ylabel="relative error, unsquared")
        ax.get_legend().remove()
        for name in by_graph if method != "schur" else ():
            known = published.get((name, nside), {})
            degrees = [degree for degree in known if degree != "mean"]
            places = [int(degree) for degree in degrees], [known[degree] for degree in degrees]
            ax.plot(*places, "x", color=styles[name]["color"], zorder=3)
    panels[0, 0].set_ylim(1e-6, 2)
    handles = {
        label: handle
        for ax in panels.flat
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    handles["published"] = panels[0, 0].plot([], [], "kx")[0]
    columns = 2 * len(resolutions)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
    figure.savefig(path, dpi=120)


def style_of(name: str) -> dict[str, Any]:
    """Colour for k, line for the kind of graph; ours is the thickest and on top."""
    kind, _, k = name.partition(" k=")
    ours = kind == "consistent"
    return {
        "color": OTHER_COLOURS.get(kind) or COLOURS[int(k)],
        "linestyle": LINES[kind],
        "lw": 2.5 if ours else 1.3,
        "zorder": 2.5 if ours else 2,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nside", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--out", type=Path, default=Path("equivariance-output"))
    parser.add_argument(
        "--signals", type=int, help="fields of each degree; 160 / nside, at least 2"
    )
    parser.add_argument("--rotations", type=int, help="rotations of each field; as many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="nside 8 alone, in seconds")
    arguments = parser.parse_args()
    published, errors, links = read_published(), {}, {}
    for nside in [8] if arguments.quick else arguments.nside:
        few = 1 if arguments.quick else max(2, 160 // nside)
        options = {
            "n_signals": arguments.signals or few,
            "n_rotations": arguments.rotations or few,
            "seed": arguments.seed,
        }
        new_errors, new_links = measured(nside, published, options)
        errors |= new_errors
        links |= new_links
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(arguments.out / "results.csv", errors, published)
    write_tables(arguments.out / "results.md", errors, links, published)
    draw(arguments.out / "figure.png", errors, published)
    print((arguments.out / "results.md").read_text())


if __name__ == "__main__":
    main()
