"""Parts of specifications: variables, channels, graphs and calibrations, each checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from xsphere.graph import LaplacianType, Weights
from xsphere.grids import HealpixGrid
from xsphere.model.derived import DERIVED, derived_field
from xsphere.model.spec_types import check_types, is_number, name_problems
from xsphere.notices import shortened

LONGEST_NAME = 200
SMALLEST_STD = 1e-30
TEMPERATURES = 0.01, 100.0
LEAST_THRESHOLD = 1e-6


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A field that a model reads from a dataset.

    Parameters
    ----------
    name : str
        Name in the model; of several variables that fit, the one of this name is taken.
    units : str
        Units the model was trained in; data in others are converted.
    standard_name : str, optional
        CF standard name, tried first.
    aliases : tuple of str
        Other names of the variable, such as ERA5's and CMIP's, the most telling first.
    pressure : float, optional
        Pressure surface in hPa, for fields that may come with a vertical dimension.
    valid_range : (float, float), optional
        Lowest and highest value that the field can have, in its units. Cells that a value beyond
        has any part in are invalid input.

    Raises
    ------
    ValueError
        If an entry has the wrong type or is absurd.

    Examples
    --------
    >>> Variable(name="PSL", units="Pa", aliases=("msl",)).aliases
    ('msl',)
    """

    name: str
    units: str
    standard_name: str | None = None
    aliases: tuple[str, ...] = ()
    pressure: float | None = None
    valid_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_types(self, "variable")
        texts = (self.name, self.units, self.standard_name or "", *self.aliases)
        if not self.name or max(map(len, texts)) > LONGEST_NAME:
            raise ValueError(
                f"names and units of a variable must be text of 1 to {LONGEST_NAME} characters, "
                f"got {shortened(texts)}"
            )
        if self.pressure is not None and self.pressure <= 0:
            raise ValueError(f"pressure of {self.name} must be positive hPa, got {self.pressure}")
        if self.valid_range is not None and not self.valid_range[0] < self.valid_range[1]:
            raise ValueError(
                f"valid_range of {self.name} must be the lowest and the highest value, got "
                f"{shortened(self.valid_range)}"
            )


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One input channel of a network: a variable or what is derived from some, normalised.

    Parameters
    ----------
    name : str
        Name of the channel.
    kind : str
        ``"variable"`` or a name in `xsphere.model.DERIVED`, such as ``"wind_speed"``.
    sources : tuple of str
        Names of the variables it is made from.
    mean, std : float
        The network sees ``(value - mean) / std``.

    Raises
    ------
    ValueError
        If the kind is unknown, takes another number of sources, or `std` is not positive.

    Examples
    --------
    >>> Channel(name="speed", kind="wind_speed", sources=("U850", "V850")).std
    1.0
    """

    name: str
    kind: str = "variable"
    sources: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_types(self, "channel")
        n_sources = {"variable": 1} | {name: rule.n_sources for name, rule in DERIVED.items()}
        if self.kind not in n_sources:
            raise ValueError(
                f"channel {shortened(self.name)} is of the unknown kind {shortened(self.kind)}; "
                f"kinds are {sorted(n_sources)}"
            )
        if len(self.sources) != n_sources[self.kind]:
            raise ValueError(
                f"channel {shortened(self.name)} ({self.kind}) takes {n_sources[self.kind]} "
                f"sources, got {shortened(self.sources)}"
            )
        if not self.std >= SMALLEST_STD:
            raise ValueError(
                f"channel {shortened(self.name)} needs a finite mean and a positive std, got "
                f"{shortened(self.mean)} and {shortened(self.std)}"
            )

    def values(self, grid: HealpixGrid, fields: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The field that the channel stands for, not yet normalised.

        Parameters
        ----------
        grid : HealpixGrid
            Grid of the fields.
        fields : dict of array, shape (n, n_cells)
            Variables by name.

        Returns
        -------
        array of float, shape (n, n_cells) or (1, n_cells)
            The variable itself, or what is derived from its sources.

        Examples
        --------
        >>> import numpy as np
        >>> channel = Channel(name="pressure", sources=("PSL",))
        >>> channel.values(HealpixGrid(0), {"PSL": np.full((1, 12), 101325.0)}).max()
        np.float64(101325.0)
        """
        sources = [fields[name] for name in self.sources]
        if self.kind == "variable":
            return sources[0]
        return derived_field(self.kind, grid, *sources)


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """Graph of every level of a network.

    Parameters
    ----------
    k : int
        Neighbours of a cell; fewer where a level has too few cells.
    weights : str
        Kind of graph, see `xsphere.graph.SphereGraph`.
    laplacian_type : {"combinatorial", "normalized"}
        Kind of Laplacian.
    kernel_widths : tuple of float
        Width in radian at every level in use, the finest first; none for the default of the kind
        of graph.

    Raises
    ------
    ValueError
        If a number is absurd.

    Examples
    --------
    >>> GraphSpec(kernel_widths=(0.025, 0.05)).k
    8
    """

    k: int = 8
    weights: Weights = "consistent"
    laplacian_type: LaplacianType = "combinatorial"
    kernel_widths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "graph")
        if not 1 <= self.k <= 200:
            raise ValueError(f"graph k must be from 1 to 200, got {shortened(self.k)}")
        if not all(1e-6 < width < 10 for width in self.kernel_widths):
            raise ValueError(
                "graph kernel_widths must be radian from 1e-6 to 10, got "
                f"{shortened(self.kernel_widths)}"
            )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes probabilities and classes of a network's scores, chosen on validation data.

    Parameters
    ----------
    temperature : float
        Scores are divided by it before the softmax; 1 leaves them as they are.
    thresholds : dict of float
        Of each class of the model, the probability from which on a cell may have it; none for the
        likeliest class. See `xsphere.segment`.
    chosen_by : dict
        Record of how they were chosen: data, score, what it came to.

    Raises
    ------
    ValueError
        If a number is absurd.

    Examples
    --------
    >>> Calibration(temperature=1.5, thresholds={"low": 0.4}).temperature
    1.5
    """

    temperature: float = 1.0
    thresholds: dict[str, float] = field(default_factory=dict)
    chosen_by: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self, "calibration")
        low, high = TEMPERATURES
        problems = threshold_problems(self.thresholds, "thresholds")
        if not low <= self.temperature <= high:
            problems.append(f"temperature must be from {low} to {high}, got {self.temperature!r}")
        if problems:
            raise ValueError("unusable calibration: " + "; ".join(problems))


def threshold_problems(thresholds: Mapping[Any, Any], what: str) -> list[str]:
    """What is wrong with thresholds by class: they are probabilities, and none is 0."""
    return [
        f"{what}[{shortened(name)}] must be from {LEAST_THRESHOLD} to 1, got {shortened(value)}"
        for name, value in thresholds.items()
        if not (is_number(value) and LEAST_THRESHOLD <= value <= 1)
    ]


def part_of(cls: type[Any], values: Any, where: str, problems: list[str]) -> Any:
    """A part of a specification; None if something is wrong, which is added to the problems."""
    if wrong := name_problems(cls, values, where):
        problems += wrong
        return None
    try:
        return cls(**values)
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None
