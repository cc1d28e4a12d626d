"""What a model is, apart from its weights: plain values, checked before anything is built."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, get_args

from numpy.typing import NDArray

from xsphere.graph import LaplacianType, Weights
from xsphere.grids import HealpixGrid
from xsphere.model.derived import DERIVED, derived_field
from xsphere.weights import FieldMethod
from xsphere.weights.vectors import northward_name

FORMAT = 1
MAX_LEVEL = 12
MAX_CHANNELS = 1024
MAX_CLASSES = 253


def _from_mapping(cls: type[Any], values: Any, where: str) -> Any:
    """An object of a frozen dataclass; unknown and missing entries are named at once."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a JSON object, got {type(values).__name__}")  # noqa: TRY004
    known = {entry.name: entry for entry in fields(cls)}
    unknown = sorted(set(values) - set(known))
    missing = sorted(
        name
        for name, entry in known.items()
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING
    )
    if unknown or missing:
        raise ValueError(f"{where} has unknown entries {unknown} and lacks {missing}")
    return cls(**values)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30


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

    Raises
    ------
    ValueError
        If an entry has the wrong type.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "aliases", tuple(self.aliases))
        names = [self.name, self.units, self.standard_name or "", *self.aliases]
        if not all(isinstance(name, str) for name in names) or not self.name:
            raise ValueError(f"names and units of a variable must be text, got {names!r}")
        if self.pressure is not None and not (_number(self.pressure) and self.pressure > 0):
            raise ValueError(f"pressure of {self.name} must be positive hPa, got {self.pressure!r}")


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
        object.__setattr__(self, "sources", tuple(self.sources))
        n_sources = {"variable": 1} | {name: rule.n_sources for name, rule in DERIVED.items()}
        if self.kind not in n_sources:
            raise ValueError(
                f"channel {self.name!r} is of the unknown kind {self.kind!r}; kinds are "
                f"{sorted(n_sources)}"
            )
        if len(self.sources) != n_sources[self.kind]:
            raise ValueError(
                f"channel {self.name!r} ({self.kind}) takes {n_sources[self.kind]} sources, got "
                f"{self.sources!r}"
            )
        if not (_number(self.mean) and _number(self.std) and self.std > 0):
            raise ValueError(
                f"channel {self.name!r} needs a finite mean and a positive std, got "
                f"{self.mean!r} and {self.std!r}"
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
    weights : {"consistent", "gaussian", "perraudin2019"}
        Kind of edge weights, see `xsphere.graph.SphereGraph`.
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
        object.__setattr__(self, "kernel_widths", tuple(self.kernel_widths))
        if type(self.k) is not int or not 1 <= self.k <= 200:
            raise ValueError(f"graph k must be from 1 to 200, got {self.k!r}")
        for name, known in (("weights", Weights), ("laplacian_type", LaplacianType)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"graph {name} must be one of {get_args(known)}, got {getattr(self, name)!r}"
                )
        if not all(_number(width) and 0 < width < 10 for width in self.kernel_widths):
            raise ValueError(
                f"graph kernel_widths must be radian from 0 to 10, got {self.kernel_widths!r}"
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
        for name in ("variables", "channels", "classes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        # JSON has lists only; one spelling makes equal models equal
        network = {k: tuple(v) if isinstance(v, list) else v for k, v in self.network.items()}
        object.__setattr__(self, "network", network)
        problems = [*self._size_problems(), *self._name_problems()]
        if problems:
            raise ValueError("unusable model specification: " + "; ".join(problems))

    def _size_problems(self) -> list[str]:
        problems = []
        if self.format != FORMAT:
            problems.append(f"format must be {FORMAT}, got {self.format!r}; update xsphere")
        if type(self.level) is not int or not 0 <= self.level <= MAX_LEVEL:
            problems.append(f"level must be from 0 to {MAX_LEVEL}, got {self.level!r}")
        counts = (("channels", MAX_CHANNELS), ("variables", MAX_CHANNELS), ("classes", MAX_CLASSES))
        for name, most in counts:
            n = len(getattr(self, name))
            if not 1 <= n <= most:
                problems.append(f"there must be 1 to {most} {name}, got {n}")
        if self.network.get("architecture") != "unet":
            problems.append(
                f"unknown architecture {self.network.get('architecture')!r}; known are ['unet']"
            )
        if self.regridding not in get_args(FieldMethod):
            problems.append(
                f"unknown regridding {self.regridding!r}; known are {get_args(FieldMethod)}"
            )
        return problems

    def _name_problems(self) -> list[str]:
        problems = []
        known = [variable.name for variable in self.variables]
        for what, names in (
            ("variables", known),
            ("channels", [channel.name for channel in self.channels]),
            ("classes", list(self.classes)),
        ):
            if len(set(names)) != len(names):
                problems.append(f"names of {what} must differ, got {names}")
        for channel in self.channels:
            unknown = sorted(set(channel.sources) - set(known))
            if unknown:
                problems.append(f"channel {channel.name!r} is made from unknown {unknown}")
        if not all(type(name) is str and name for name in self.classes):
            problems.append(f"classes must be names, got {self.classes!r}")
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
        spec = dict(values) if isinstance(values, Mapping) else values
        for name, part in (("variables", Variable), ("channels", Channel)):
            if isinstance(spec, dict) and isinstance(spec.get(name), (list, tuple)):
                spec[name] = tuple(
                    _from_mapping(part, item, f"entry {index} of {name}")
                    for index, item in enumerate(spec[name])
                )
        if isinstance(spec, dict) and "graph" in spec:
            spec["graph"] = _from_mapping(GraphSpec, spec["graph"], "graph")
        if isinstance(spec, dict) and not isinstance(spec.get("network", {}), Mapping):
            raise ValueError("network must be a JSON object")  # noqa: TRY004
        checked: ModelSpec = _from_mapping(cls, spec, "model specification")
        return checked
