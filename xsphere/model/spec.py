"""What a model is, apart from its weights: plain values, checked before anything is built."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from numpy.typing import NDArray

from xsphere.graph import LaplacianType, Weights
from xsphere.grids import HealpixGrid
from xsphere.model.derived import DERIVED, derived_field
from xsphere.model.spec_types import name_problems, type_problems
from xsphere.notices import shortened
from xsphere.weights import FieldMethod
from xsphere.weights.vectors import northward_name

FORMAT = 1
MAX_LEVEL = 12
MAX_CHANNELS = 1024
MAX_CLASSES = 253
LONGEST_NAME = 200
SMALLEST_STD = 1e-30
MOST_PROBLEMS = 10


def _check_types(part: Any, what: str, *, but: tuple[str, ...] = ()) -> None:
    """Refuse wrong types, and make lists the tuples that are declared."""
    names = [entry.name for entry in fields(part) if entry.name not in but]
    values = {name: getattr(part, name) for name in names}
    problems = type_problems(type(part), values)
    if problems:
        raise ValueError(f"unusable {what}: " + "; ".join(problems))
    for name, value in values.items():
        if isinstance(value, list):
            object.__setattr__(part, name, tuple(value))


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
        _check_types(self, "variable")
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
        _check_types(self, "channel")
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
        _check_types(self, "graph")
        if not 1 <= self.k <= 200:
            raise ValueError(f"graph k must be from 1 to 200, got {shortened(self.k)}")
        if not all(1e-6 < width < 10 for width in self.kernel_widths):
            raise ValueError(
                "graph kernel_widths must be radian from 1e-6 to 10, got "
                f"{shortened(self.kernel_widths)}"
            )


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything about a model but its weights: what it reads, how it computes, what it says.

    Parameters
    ----------
    name : str
        Name of the model.
    level : int
        HEALPix refinement level of its input and output, nested.
    variables : tuple of Variable
        Fields it reads.
    channels : tuple of Channel
        What the network sees, in order.
    classes : tuple of str
        Names of the classes 1, 2, ...; 0 is the background.
    network : dict
        Architecture (``"unet"``) and its sizes, see `xsphere.nn.UNetLayout`.
    graph : GraphSpec
        Graph of every level.
    description : str
        What it is and what it is not, in a sentence or two.
    regridding : str
        Method that brings other grids to the model's: ``"conservative"`` or another of
        `xsphere.weights.regrid_fields`.
    training : dict
        Record of the training: data, options, versions.
    scores : dict
        What was measured on data not trained on.
    format : int
        Version of this list of entries.

    Raises
    ------
    ValueError
        If anything is absurd or does not fit together; everything wrong is named.

    Examples
    --------
    >>> psl = Variable(name="PSL", units="Pa")
    >>> spec = ModelSpec(
    ...     name="lows",
    ...     level=3,
    ...     variables=(psl,),
    ...     channels=(Channel(name="PSL", sources=("PSL",), mean=101000.0, std=1000.0),),
    ...     classes=("low",),
    ...     network={"architecture": "unet", "features": (4,), "depths": (0,)},
    ...     graph=GraphSpec(kernel_widths=(0.1,)),
    ... )
    >>> ModelSpec.from_dict(spec.to_dict()) == spec
    True
    """

    name: str
    level: int
    variables: tuple[Variable, ...]
    channels: tuple[Channel, ...]
    classes: tuple[str, ...]
    network: dict[str, Any]
    graph: GraphSpec
    description: str = ""
    regridding: FieldMethod = "conservative"
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if isinstance(self.network, Mapping):
            # JSON has lists only; one spelling makes equal models equal
            sizes = {
                k: tuple(v) if type(v) in (list, range) else v for k, v in self.network.items()
            }
            object.__setattr__(self, "network", sizes)
        _check_types(self, "model specification", but=("regridding",))
        problems = [*self._size_problems(), *self._name_problems()]
        if problems:
            raise ValueError("unusable model specification: " + "; ".join(problems))

    def _size_problems(self) -> list[str]:
        problems = []
        if self.format != FORMAT:
            problems.append(f"format must be {FORMAT}, got {self.format!r}; update xsphere")
        if not 0 <= self.level <= MAX_LEVEL:
            problems.append(f"level must be from 0 to {MAX_LEVEL}, got {shortened(self.level)}")
        counts = (("channels", MAX_CHANNELS), ("variables", MAX_CHANNELS), ("classes", MAX_CLASSES))
        for name, most in counts:
            n = len(getattr(self, name))
            if not 1 <= n <= most:
                problems.append(f"there must be 1 to {most} {name}, got {n}")
        architecture = self.network.get("architecture")
        if architecture != "unet":
            problems.append(f"unknown architecture {shortened(architecture)}; known are ['unet']")
        return problems + type_problems(ModelSpec, {"regridding": self.regridding})

    def _name_problems(self) -> list[str]:
        problems = []
        known = [variable.name for variable in self.variables]
        for what, names in (
            ("variables", known),
            ("channels", [channel.name for channel in self.channels]),
            ("classes", list(self.classes)),
        ):
            if len(set(names)) != len(names):
                problems.append(f"names of {what} must differ, got {shortened(names)}")
        for channel in self.channels:
            unknown = sorted(set(channel.sources) - set(known))
            if unknown:
                source = f"channel {shortened(channel.name)}"
                problems.append(f"{source} is made from unknown {shortened(unknown)}")
        if not all(0 < len(name) <= LONGEST_NAME for name in self.classes):
            given = shortened(self.classes)
            problems.append(f"classes must be names of 1 to {LONGEST_NAME} characters, got {given}")
        return problems

    @property
    def vectors(self) -> tuple[tuple[int, int], ...]:
        """Positions of the variables that are components of one vector, east before north."""
        names = [variable.standard_name or "" for variable in self.variables]
        pressures = [variable.pressure for variable in self.variables]
        known: list[tuple[str | None, float | None]] = [*zip(names, pressures, strict=True)]
        partners = [*zip(map(northward_name, names), pressures, strict=True)]
        # an unknown name is no partner, since those known are strings
        return tuple(
            (east, known.index(partner))
            for east, partner in enumerate(partners)
            if known.count(partner) == 1 and partners.count(partner) == 1
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "ModelSpec":
        """Specification from plain values, checked strictly.

        Parameters
        ----------
        values : dict
            As `to_dict` gives it.

        Returns
        -------
        ModelSpec
            The specification.

        Raises
        ------
        ValueError
            If entries are unknown, missing or absurd.

        Examples
        --------
        >>> ModelSpec.from_dict({"name": "x"})
        Traceback (most recent call last):
        ...
        ValueError: model specification has unknown entries [] and lacks ['channels', ...
        """
        problems = name_problems(cls, values, "model specification")
        spec = dict(values) if isinstance(values, Mapping) else {}
        for name, part in (("variables", Variable), ("channels", Channel)):
            if isinstance(spec.get(name), list | tuple):
                parts = [
                    _part(part, item, f"entry {index} of {name}", problems)
                    for index, item in enumerate(spec[name])
                ]
                spec[name] = tuple(found for found in parts if found is not None)
        if "graph" in spec:
            spec["graph"] = _part(GraphSpec, spec["graph"], "graph", problems) or GraphSpec()
        problems += type_problems(cls, spec)
        if problems:
            raise ValueError("; ".join(problems[:MOST_PROBLEMS]))
        return cls(**spec)


def _part(cls: type[Any], values: Any, where: str, problems: list[str]) -> Any:
    """A part of a specification; None if something is wrong, which is added to the problems."""
    if wrong := name_problems(cls, values, where):
        problems += wrong
        return None
    try:
        return cls(**values)
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None
