"""What a model is, apart from its weights: plain values, checked before anything is built."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from xsphere.model.spec_parts import (
    LONGEST_NAME,
    Calibration,
    Channel,
    GraphSpec,
    Variable,
    part_of,
)
from xsphere.model.spec_types import check_types, name_problems, type_problems
from xsphere.notices import shortened
from xsphere.weights import FieldMethod
from xsphere.weights.vectors import northward_name

FORMAT = 1
MAX_LEVEL = 12
MAX_CHANNELS = 1024
MAX_CLASSES = 253
MAX_MEMBERS = 16
MOST_PROBLEMS = 10
# network of what has none of its own
ENSEMBLE = {"architecture": "ensemble"}
# entries that say something of a model and change none of its probabilities but by calibration
RECORD = ("name", "description", "training", "scores", "calibration", "limits", "licence")
# entries that files may lack
OPTIONAL = ("calibration", "members", "limits", "licence")
# entries that the members of an ensemble have in common, besides variables
SHARED = ("level", "classes", "regridding")


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
    calibration : Calibration, optional
        Temperature and thresholds; without, probabilities are as the network was trained to give
        them, and the likeliest class counts.
    members : tuple of ModelSpec
        Of an ensemble: models of the same level, variables and classes, whose probabilities are
        averaged. It has no channels, graph or network of its own.
    limits : tuple of str
        Where it fails and what it is not for: a sentence each.
    licence : str
        Of the weights.
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
    calibration: Calibration | None = None
    members: tuple["ModelSpec", ...] = ()
    limits: tuple[str, ...] = ()
    licence: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        if isinstance(self.network, Mapping):
            # JSON has lists only; one spelling makes equal models equal
            sizes = {
                k: tuple(v) if type(v) in (list, range) else v for k, v in self.network.items()
            }
            object.__setattr__(self, "network", sizes)
        check_types(self, "model specification", but=("regridding",))
        problems = [
            *self._size_problems(),
            *self._name_problems(),
            *self._network_problems(),
            *self._member_problems(),
        ]
        if problems:
            raise ValueError("unusable model specification: " + "; ".join(problems))

    @classmethod
    def of_members(
        cls, members: Sequence["ModelSpec"], name: str, description: str = ""
    ) -> "ModelSpec":
        """Specification of an ensemble; whatever members do not have in common is refused."""
        if not members:
            raise ValueError(f"an ensemble must have 2 to {MAX_MEMBERS} members, got 0")
        return replace(
            members[0],
            name=name,
            description=description,
            channels=(),
            network=ENSEMBLE,
            graph=GraphSpec(),
            training={},
            scores={},
            calibration=None,
            members=tuple(members),
        )

    def _size_problems(self) -> list[str]:
        problems = []
        if self.format != FORMAT:
            problems.append(f"format must be {FORMAT}, got {self.format!r}; update xsphere")
        if not 0 <= self.level <= MAX_LEVEL:
            problems.append(f"level must be from 0 to {MAX_LEVEL}, got {shortened(self.level)}")
        counts = (("variables", MAX_CHANNELS), ("classes", MAX_CLASSES))
        for name, most in counts:
            n = len(getattr(self, name))
            if not 1 <= n <= most:
                problems.append(f"there must be 1 to {most} {name}, got {n}")
        return problems + type_problems(ModelSpec, {"regridding": self.regridding})

    def _network_problems(self) -> list[str]:
        """What is wrong with the network, which an ensemble has not."""
        architecture, n_channels = self.network.get("architecture"), len(self.channels)
        if not self.members:
            problems = []
            if not 1 <= n_channels <= MAX_CHANNELS:
                problems.append(f"there must be 1 to {MAX_CHANNELS} channels, got {n_channels}")
            if architecture != "unet":
                known = ["unet"]
                problems.append(
                    f"unknown architecture {shortened(architecture)}; known are {known}"
                )
            return problems
        own = self.network, self.channels, self.graph
        if own == (ENSEMBLE, (), GraphSpec()):
            return []
        return [
            f"an ensemble must have the network {ENSEMBLE}, no channels and the default graph, got "
            f"{shortened(own)}"
        ]

    def _member_problems(self) -> list[str]:
        """How members differ from what they are to have in common."""
        if not self.members:
            return []
        n_members = len(self.members)
        problems = []
        if not 2 <= n_members <= MAX_MEMBERS:
            problems.append(f"an ensemble must have 2 to {MAX_MEMBERS} members, got {n_members}")
        for number, member in enumerate(self.members):
            what = f"member {number} ({shortened(member.name)})"
            if member.members:
                problems.append(f"{what} must be no ensemble; give its members instead")
            problems += [
                f"{what} must have the {name} of the others, {shortened(wanted)}, got "
                f"{shortened(found)}"
                for name, wanted, found in self._differences(member)
            ]
        return problems

    def _differences(self, member: "ModelSpec") -> list[tuple[str, Any, Any]]:
        """Names and both values of what differs, of what an ensemble has in common."""
        pairs = [(name, getattr(self, name), getattr(member, name)) for name in SHARED]
        names = ([v.name for v in self.variables], [v.name for v in member.variables])
        pairs.append(("variables", *names))
        if names[0] == names[1]:
            for one, other in zip(self.variables, member.variables, strict=True):
                pairs += [
                    (f"{entry.name} of {one.name}", getattr(one, entry.name), value)
                    for entry in fields(one)
                    for value in [getattr(other, entry.name)]
                ]
        return [(name, wanted, found) for name, wanted, found in pairs if wanted != found]

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
        thresholds = self.calibration.thresholds if self.calibration else {}
        if thresholds and set(thresholds) != set(self.classes):
            problems.append(
                f"thresholds must be of the classes {shortened(self.classes)}, got those of "
                f"{shortened(list(thresholds))}"
            )
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
        """Plain values for JSON; what a model has not is left out."""
        values = asdict(self) | {"members": tuple(member.to_dict() for member in self.members)}
        for name in OPTIONAL:
            if not values[name]:
                del values[name]
        return values

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
                    part_of(part, item, f"entry {index} of {name}", problems)
                    for index, item in enumerate(spec[name])
                ]
                spec[name] = tuple(found for found in parts if found is not None)
        if "graph" in spec:
            spec["graph"] = part_of(GraphSpec, spec["graph"], "graph", problems) or GraphSpec()
        if spec.get("calibration") is not None:
            spec["calibration"] = part_of(Calibration, spec["calibration"], "calibration", problems)
        if isinstance(spec.get("members"), list | tuple):
            spec["members"] = _members(spec["members"], problems)
        problems += type_problems(cls, spec)
        if problems:
            raise ValueError("; ".join(problems[:MOST_PROBLEMS]))
        return cls(**spec)


def _members(entries: list[Any] | tuple[Any, ...], problems: list[str]) -> tuple[ModelSpec, ...]:
    """Specifications of the members of an ensemble; what is wrong is added to the problems."""
    found = []
    for number, values in enumerate(entries[: MAX_MEMBERS + 1]):
        try:
            if isinstance(values, Mapping) and values.get("members"):
                raise ValueError("it must be no ensemble")  # noqa: TRY301
            found.append(ModelSpec.from_dict(values))
        except ValueError as error:
            problems.append(f"member {number}: {error}")
    return tuple(found)
