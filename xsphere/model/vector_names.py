"""Which variables are components of one vector: by standard names, GRIB long names, and names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import xarray as xr

from xsphere.model.units import UnitsError, unit_conversion

# Winds, stresses, transports, accelerations and fluxes of mass or volume: what has a direction.
_VECTOR_UNITS = ("m s-1", "Pa", "kg m-1 s-1", "m s-2", "m2 s-1", "kg s-1", "m3 s-1")
_EAST_WORDS = ("u", "x", "eastward", "zonal")
_NORTH_WORDS = ("v", "y", "northward", "meridional")
_OF_VECTORS = re.compile(
    r"^(winds?|components?|comp|velocity|velocities|currents?|stress|stresses|flux|transport"
    r"|drift|momentum|motion|acceleration|drag)$"
)
_OF_SCALARS = re.compile(r"friction|specific|speed|gust|vertical|magnitude|potential|variance")
# how names of the two components differ, where that is all
_SWAPS = (
    (r"uu", "uu", "vv"),
    (r"(?<![a-z])u|u(?![a-z])|^u|u$", "u", "v"),
    (r"(?<![a-z])x(?![a-z])|x$", "x", "y"),
    (r"(?<![a-z])e(?![a-z])|e$", "e", "n"),
    (r"zonal", "zonal", "meridional"),
    (r"eastward", "eastward", "northward"),
    (r"east(?!ward)", "east", "north"),
)
_IN_STANDARD_NAMES = (
    ("eastward", True),
    ("northward", False),
    ("(?<![a-z])x(?![a-z])", True),
    ("(?<![a-z])y(?![a-z])", False),
)
# names that are components in every model, if nothing speaks against it
_FAMILIES = re.compile(
    r"\d*m?_?[uv]_?\d*m?n?|[uv]as?\d*|[uv]o\d*|[uv]g?(wnd|wind|grd)\w*|[uv](bot|lml|comp|ice)"
    r"|(\d+m_)?[uv]_component\w*|(sur)?tau[uvxy]o?|(zonal|meridional|eastward|northward)_wind\w*"
    r"|[uv]_wind\w*|wind_[uv]\w*"
)
_NOTHING = {"", "unknown", "undefined", "none", "unavailable", "unnamed"}


class Evidence(NamedTuple):
    """What says that a variable is a component: components of one vector have the same key."""

    east: bool
    kind: str
    key: str


def component_pairs(variables: Mapping[Any, xr.DataArray]) -> list[tuple[Any, Any]]:
    """Names of components towards the east and the north that belong together.

    Parameters
    ----------
    variables : mapping of name to DataArray
        Any. Only labels are looked at.

    Returns
    -------
    list of tuple
        Each variable at most once. Two belong together by their ``standard_name``, such as
        ``eastward_wind`` and ``northward_wind``; where these say nothing by their ``long_name``,
        such as "10 metre U wind component", or by their names, such as ``u10`` and ``v10``. Their
        dimensions, single coordinates, numbers in names, and units must go together.

    Examples
    --------
    >>> u, v = (xr.DataArray([0.0], dims="x", attrs={"units": "m s-1"}) for _ in range(2))
    >>> component_pairs({"u10": u, "v10": v, "v100": v})
    [('u10', 'v10')]
    """
    found = {name: list(_evidence(str(name), variable)) for name, variable in variables.items()}
    named: dict[Evidence, list[Any]] = {}
    for name, evidence in found.items():
        for one in evidence:
            named.setdefault(one, []).append(name)
    pairs: dict[Any, Any] = {}
    taken: set[Any] = set()
    for kind in ("standard_name", "long_name", "name"):
        for name, evidence in found.items():
            for one in evidence:
                if name in taken or not one.east or one.kind != kind:
                    continue
                others = [n for n in named.get(one._replace(east=False), ()) if n not in taken]
                partner = _partner(variables, name, others)
                if partner:
                    pairs[name] = partner[0]
                    taken |= {name, partner[0]}
    return [(name, pairs[name]) for name in variables if name in pairs]


def _partner(variables: Mapping[Any, xr.DataArray], name: Any, others: list[Any]) -> list[Any]:
    """The one that belongs to an eastward component, if it is only one."""
    fitting = [other for other in others if _go_together(variables, name, other)]
    if len(fitting) > 1:
        fitting = [n for n in fitting if _differ_as_components(str(name), str(n))]
    return fitting if len(fitting) == 1 else []


def lone_components(variables: Mapping[Any, xr.DataArray], pairs: Any) -> list[Any]:
    """Variables that are components of vectors by all that is known, but in none of the pairs."""
    paired = {name for pair in pairs for name in pair}
    return [
        name
        for name, variable in variables.items()
        if name not in paired and _is_component(str(name), variable)
    ]


def units_factor(east: xr.DataArray, north: xr.DataArray) -> float | None:
    """Factor that brings one component into the units of the other; None if nothing does.

    Parameters
    ----------
    east, north : DataArray
        Components of a vector. One without units is in those of the other.

    Returns
    -------
    float or None
        ``factor * north`` is in the units of `east`.

    Examples
    --------
    >>> u, v = (xr.DataArray([0.0], attrs={"units": units}) for units in ("m s-1", "km h-1"))
    >>> round(units_factor(u, v), 4)
    0.2778
    """
    units = [array.attrs.get("units") for array in (east, north)]
    if None in units or units[0] == units[1]:
        return 1.0
    try:
        factor, offset = unit_conversion(str(units[1]), str(units[0]))
    except UnitsError:
        return None
    return factor if offset == 0 else None


def _evidence(name: str, variable: xr.DataArray) -> Iterator[Evidence]:
    standard_name, long_name = _text(variable, "standard_name"), _text(variable, "long_name")
    found = _in_standard_name(standard_name)
    if found is not None:
        yield found
    elif standard_name:
        # standard names win: what has another is no component, whatever it is called
        return
    found = _in_words(long_name)
    if found is not None:
        yield found
    elif _OF_SCALARS.search(long_name):
        return
    named = list(_in_name(name.lower()))
    # units last: they are parsed
    if named and (_FAMILIES.fullmatch(name.lower()) or _has_vector_units(variable)):
        yield from named


def _in_standard_name(standard_name: str) -> Evidence | None:
    for pattern, east in _IN_STANDARD_NAMES:
        key, n_found = re.subn(pattern, "*", standard_name)
        if n_found:
            return Evidence(east, "standard_name", key)
    return None


def _text(variable: xr.DataArray, key: str) -> str:
    """An attribute in lower case; nothing where it says nothing, as the "unknown" of GRIB does."""
    text = str(variable.attrs.get(key, "")).strip().lower()
    plain = key == "long_name" or "_" in text
    return text if plain and text not in _NOTHING else ""


def _in_words(long_name: str) -> Evidence | None:
    """What a long name says: one word of direction among those that vectors are made of."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"\b([uv])(wind|velocity)", r"\1 \2", long_name))
    ways = [word for word in words if word in (*_EAST_WORDS, *_NORTH_WORDS)]
    if len(ways) != 1 or not any(_OF_VECTORS.match(word) for word in words):
        return None
    if re.search(r"(zonal|meridional)(ly)? (mean|average|wavenumber)", long_name):
        return None
    east = ways[0] in _EAST_WORDS
    rank = (_EAST_WORDS if east else _NORTH_WORDS).index(ways[0])
    return Evidence(east, "long_name", " ".join(f"*{rank}" if w in ways else w for w in words))


def _in_name(name: str) -> Iterator[Evidence]:
    # vozocrtx and vomecrty, as NEMO has them
    name = re.sub(r"^([a-z]o)zo(\w+)x$", r"\1zonal\2", name)
    name = re.sub(r"^([a-z]o)me(\w+)y$", r"\1meridional\2", name)
    for pattern, east, north in _SWAPS:
        for way, plain in ((True, pattern), (False, pattern.replace(east, north))):
            for match in re.finditer(plain, name):
                key = f"{name[: match.start()]}*{east}{name[match.end() :]}"
                yield Evidence(way, "name", key)


def _is_component(name: str, variable: xr.DataArray) -> bool:
    kinds = {evidence.kind for evidence in _evidence(name, variable)}
    if "standard_name" in kinds:
        return True
    named = "name" in kinds and bool(_FAMILIES.fullmatch(name.lower()))
    return ("long_name" in kinds or named) and _has_vector_units(variable)


def _has_vector_units(variable: xr.DataArray) -> bool:
    units = variable.attrs.get("units")
    if units is None:
        return False
    for wanted in _VECTOR_UNITS:
        try:
            unit_conversion(str(units), wanted)
        except UnitsError:
            continue
        return True
    return False


def _go_together(variables: Mapping[Any, xr.DataArray], name: Any, other: Any) -> bool:
    one, two = variables[name], variables[other]
    numbers = [re.findall(r"\d+", str(label)) for label in (name, other)]
    plain = [re.sub(r"\d+", "", str(label)) for label in (name, other)]
    if all(numbers) and numbers[0] != numbers[1] and _differ_as_components(*plain):
        # u10 and v100; numbers of GRIB parameters may differ
        return False
    scalars = [{n: c.values[()] for n, c in a.coords.items() if not c.ndim} for a in (one, two)]
    shared = set(scalars[0]) & set(scalars[1])
    return (
        dict(one.sizes) == dict(two.sizes)
        and all(bool(scalars[0][label] == scalars[1][label]) for label in shared)
        and units_factor(one, two) is not None
    )


def _differ_as_components(east: str, north: str) -> bool:
    keys = [
        {e.key for e in _in_name(name.lower()) if e.east == way}
        for name, way in ((east, True), (north, False))
    ]
    return bool(keys[0] & keys[1])
