"""Masks of events that a published rule finds: checked, lazy, with the conventions of a mask."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsphere.conventions import INVALID, horizontal_grid, mask_attributes
from xsphere.conventions.base import check_one_chunk
from xsphere.conventions.horizontal import on_its_own
from xsphere.conventions.values import ReadingNode, check_unpacked, reading_of
from xsphere.detection.rules import RULES, Event, Rule
from xsphere.detection.vapour_transport import COMPONENTS, integrated_vapour_transport
from xsphere.grids import Grid
from xsphere.grids.travel import Travelling
from xsphere.model.inputs import InputsError, MatchedVariable, found_variables
from xsphere.notices import shortened
from xsphere.regions.labelling import is_number

Settings = tuple[tuple[str, float], ...]
# Part of every task's key: raise it when a rule finds other cells.
VERSION = 3


def detect(
    ds: xr.Dataset,
    event: Event,
    rule: str = "tempest",
    *,
    threshold: xr.DataArray | float | None = None,
    climatology: xr.DataArray | float | None = None,
    **settings: float | Sequence[float],
) -> xr.DataArray:
    """Find events by a published rule, lazily, on the grid of the dataset.

    Parameters
    ----------
    ds : Dataset
        On any grid that `xsphere.horizontal_grid` finds, in one chunk along it.
    event : {"tropical_cyclone", "atmospheric_river", "blocking"}
        What to find.
    rule : str
        Whose rule; settings and their defaults are those of the papers, in km and km2.

        - ``"tempest"``, rivers [1]_: where the Laplacian of the transport of vapour, of eight
          points at ``laplacian_distance=1112``, is at most ``max_laplacian=-2e4`` kg m-1 s-1
          rad-2, from ``min_latitude=15`` degrees on, in regions of ``min_area=4e5``.
        - ``"guan_waliser"``, rivers [2]_: transport above `threshold` and
          ``min_transport=100``, longer than ``min_length=2000`` and ``min_length_to_width=2``, with
          at least ``min_coherence=0.5`` of the area within ``max_turn=45`` degrees of the mean
          direction, that as near to the axis, and ``min_poleward_transport=50``.
        - ``"rutz"``, rivers [3]_: ``min_transport=250``, ``min_length=2000``.
        - ``"gershunov"``, rivers [4]_: ``min_transport=250``, ``min_vapour=15`` kg m-2,
          ``min_length=1500``.
        - ``"ralph"``, rivers [5]_: ``min_vapour=20``, ``min_length=2000``, ``max_width=1000``.
        - ``"tempest"``, cyclones [6]_: minima of sea-level pressure that rises by
          ``min_pressure_rise=200`` Pa within ``pressure_distance=612`` all around, and whose
          thickness of 300 to 500 hPa falls by ``min_thickness_fall=6`` m within
          ``thickness_distance=723`` of its largest within ``core_distance=111``; of those within
          ``merge_distance=667`` the deepest. The event is what lies within the contour.
        - ``"gfdl"``, cyclones [7]_: maxima of cyclonic vorticity at 850 hPa of
          ``min_vorticity=1.6e-4`` s-1 within ``vorticity_window=861`` (its whole width), whose
          lowest pressure within ``low_distance=222`` is surrounded by ``min_pressure_rise=400``
          Pa within ``pressure_distance=556``, and which are warm: within ``core_distance=222`` the
          mean temperature of 200 and 500 hPa has a maximum from which it falls by
          ``min_warmth_fall=0.8`` K within ``warmth_distance=556``, and the thickness of 200 to
          1000 hPa one from which it falls by ``min_thickness_fall=50`` m within
          ``thickness_distance=445``.
        - ``"tempest"``, blocking [8]_: where the height of 500 hPa is above `climatology` by
          ``min_anomaly=100`` m and `threshold`, from ``min_latitude=25`` to ``max_latitude=75``, in
          regions of ``min_area=1e6``.
        - ``"gradient"``, blocking [9]_: where the height of 500 hPa falls towards the equator over
          ``distance=1668`` (``min_equatorward_gradient=0`` m per degree), and towards the pole by
          more than 10 m per degree (``max_poleward_gradient=-10``), from ``min_latitude=35`` to
          ``max_latitude=75``. Blocks last: `xsphere.track` with ``min_duration="5D"``.
    threshold : DataArray or float, optional
        For ``"guan_waliser"``, which cannot do without: the 85th percentile of the transport in
        kg m-1 s-1, in each cell (and month, say, at the times of `ds`). For blocking by
        ``"tempest"``: the least anomaly in m, such as 1.5 standard deviations.
    climatology : DataArray or float, optional
        For blocking by ``"tempest"``, which cannot do without: the usual height of 500 hPa in m,
        in each cell (and month, say, at the times of `ds`).
    **settings
        Other numbers than those of the paper. Several numbers in place of one make an ensemble of
        all their combinations, whose result is a probability: the share that finds an event.

    Returns
    -------
    DataArray
        A mask (uint8) as from `xsphere.segment`, of one class: 0 background, 1 the event, 254 where
        an input is not finite. Of an ensemble, the probability (float32) of the background and the
        event along ``class``, NaN where an input is not finite.

    Raises
    ------
    TypeError
        If `ds` is no Dataset.
    ValueError
        If event, rule or settings are unknown, variables are missing or in units that cannot be
        converted, or the grid is split in chunks.

    Notes
    -----
    The transport of vapour is integrated from levels where it is not in the dataset, see
    `xsphere.integrated_vapour_transport`. Cells that are not known are in no event. A contour may
    run along a hole that lies within its distance, but neither along a larger one nor along the
    edge of a region: it is not closed there. Where a Laplacian or gradient needs a place that is
    not known, or outside of the region, there is no event.

    References
    ----------
    .. [1] Ullrich et al. (2021), https://doi.org/10.5194/gmd-14-5023-2021
    .. [2] Guan and Waliser (2015), https://doi.org/10.1002/2015JD024257
    .. [3] Rutz et al. (2014), https://doi.org/10.1175/MWR-D-13-00168.1
    .. [4] Gershunov et al. (2017), https://doi.org/10.1002/2017GL074175
    .. [5] Ralph et al. (2004), https://doi.org/10.1175/1520-0493(2004)132
    .. [6] Zarzycki and Ullrich (2017), https://doi.org/10.1002/2016GL071606
    .. [7] Knutson et al. (2007), https://doi.org/10.1175/BAMS-88-10-1549
    .. [8] Pinheiro et al. (2019), https://doi.org/10.1007/s00382-019-04782-5
    .. [9] Scherrer et al. (2006), https://doi.org/10.1002/joc.1250

    Examples
    --------
    >>> import xsphere
    >>> rivers = detect(xsphere.sample_dataset(), "atmospheric_river", "ralph")
    >>> rivers.attrs["flag_meanings"], int(rivers.max())
    ('background atmospheric_river invalid_input not_computed', 1)

    Rivers of at least 15, 20 or 25 kg m-2, as a probability:

    >>> ensemble = detect(
    ...     xsphere.sample_dataset(), "atmospheric_river", "ralph", min_vapour=[15, 20, 25]
    ... )
    >>> ensemble.name, ensemble.dims, ensemble["class"].values.tolist()
    ('probability', ('time', 'class', 'lat', 'lon'), ['background', 'atmospheric_river'])
    """
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"expected a Dataset, got {type(ds).__name__}; use .to_dataset()")
    maybe = {"threshold": threshold, "climatology": climatology}
    given = {name: values for name, values in maybe.items() if values is not None}
    chosen = _rule(event, rule)
    problems = _problems(rule, chosen, settings, given)
    matches = _matched(ds, chosen, f"the rule {rule!r} for {event}", problems)
    horizontal = horizontal_grid(ds)
    arrays = {variable.name: m.array for variable, m in zip(chosen.variables, matches, strict=True)}
    first = next(iter(arrays.values()))
    arrays |= {name: _field(values, first, horizontal.dims) for name, values in given.items()}
    check_one_chunk(arrays, horizontal.dims)
    check_unpacked(arrays)
    node = Detection(
        grid=horizontal.grid,
        event=event,
        rule=rule,
        names=tuple(arrays),
        conversions=tuple((m.factor, m.offset) for m in matches),
        settings=_combinations({**chosen.settings, **settings}),
    )
    dims = list(horizontal.dims)
    made = dims if len(node.settings) == 1 else ["class", *dims]
    found: xr.DataArray = xr.apply_ufunc(
        ReadingNode(node=node, readings=tuple(map(reading_of, arrays.values()))),
        *arrays.values(),
        input_core_dims=[dims] * len(arrays),
        output_core_dims=[made],
        join="exact",
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"class": 2}} if made != dims else None,
        output_dtypes=[node.dtype],
        keep_attrs=False,
    )
    attributes: dict[str, Any] = {"references": chosen.reference}
    if made == dims:
        attributes |= {"long_name": f"mask of {event} by the rule {rule!r}"}
        mask = found.rename("mask").assign_attrs(attributes | mask_attributes([event]))
        return on_its_own(mask, ds, horizontal)
    attributes |= {
        "long_name": f"share of {len(node.settings)} versions of the rule {rule!r} for {event}",
        "units": "1",
    }
    found = found.rename("probability").assign_coords({"class": ["background", event]})
    return on_its_own(found.assign_attrs(attributes), ds, horizontal)


def _rule(event: Any, rule: Any) -> Rule:
    """The rule, if it is known."""
    if event not in get_args(Event):
        raise ValueError(f"event must be one of {list(get_args(Event))}, got {shortened(event)}")
    if rule not in RULES[event]:
        raise ValueError(f"the rules for {event} are {sorted(RULES[event])}, got {shortened(rule)}")
    return RULES[event][rule]


def _problems(
    rule: str, chosen: Rule, settings: Mapping[str, Any], given: Mapping[str, Any]
) -> list[str]:
    """What is wrong or missing of the arguments of a rule."""
    problems = [
        f"{name} must be a number, or several, got {shortened(value)}"
        for name, value in settings.items()
        if not all(is_number(one) and np.isfinite(one) for one in _several(value) or [None])
    ]
    unknown = sorted(set(settings) - set(chosen.settings))
    if unknown:
        problems.append(f"{rule!r} has the settings {sorted(chosen.settings)}, not {unknown}")
    problems += [
        f"{rule!r} needs {name}=: {words}"
        for name, words in chosen.needs.items()
        if name not in given
    ]
    return problems + [
        f"{rule!r} takes no {name}"
        for name in given
        if name not in {**chosen.needs, **chosen.takes}
    ]


def _several(value: Any) -> list[Any]:
    """The values of a setting."""
    if isinstance(value, str) or np.ndim(value) > 1:
        return []
    return [value] if np.ndim(value) == 0 else list(value)


def _combinations(settings: Mapping[str, Any]) -> tuple[Settings, ...]:
    """Each combination of the values of the settings."""
    names = sorted(settings)
    chosen = itertools.product(*(_several(settings[name]) for name in names))
    return tuple(
        tuple((name, float(value)) for name, value in zip(names, values, strict=True))
        for values in chosen
    )


def _matched(
    ds: xr.Dataset, rule: Rule, reader: str, problems: Sequence[str]
) -> list[MatchedVariable]:
    """The rule's variables in a dataset, or all that is missing; a transport may be integrated."""
    transported = rule.variables[: len(COMPONENTS)] == COMPONENTS
    others = rule.variables[len(COMPONENTS) :] if transported else rule.variables
    readers: list[Callable[[xr.Dataset], list[MatchedVariable]]] = [
        *([_transport] if transported else []),
        partial(found_variables, variables=others, reader=reader),
    ]
    matches: list[MatchedVariable] = []
    lacking = []
    for read in readers:
        try:
            matches += read(ds)
        except InputsError as error:
            lacking.append(str(error))
    if lacking:
        raise InputsError("\n".join([*problems, *lacking]))
    if problems:
        raise ValueError("; ".join(problems))
    return matches


def _transport(ds: xr.Dataset) -> list[MatchedVariable]:
    """The transport of vapour, integrated where it is not there."""
    found = integrated_vapour_transport(ds)
    return [MatchedVariable(found[v.name], factor=1.0, offset=0.0) for v in COMPONENTS]


def _field(values: xr.DataArray | float, like: xr.DataArray, dims: tuple[Any, ...]) -> xr.DataArray:
    """What is given beside the dataset, with the dimensions of the grid."""
    if not isinstance(values, xr.DataArray):
        values = xr.DataArray(float(values))
    grid = like.isel({dim: 0 for dim in like.dims if dim not in dims}, drop=True)
    return values.broadcast_like(grid) if not set(dims) <= set(values.dims) else values


@dataclass(frozen=True, kw_only=True)
class Detection(Travelling):
    """What is done to one block: a rule applied to each step.

    Parameters
    ----------
    grid : Grid
        Of the fields.
    event, rule : str
        Which rule.
    names : tuple of str
        Of the fields, in their order.
    conversions : tuple of (float, float)
        Factor and offset of the units of the first of them.
    settings : tuple of tuples of (str, float)
        Numbers of the rule: one version, or those of an ensemble.
    """

    __name__ = "xsphere_detect"

    grid: Grid
    event: Event
    rule: str
    names: tuple[str, ...]
    conversions: tuple[tuple[float, float], ...]
    settings: tuple[Settings, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result: a mask, or the probability of an ensemble."""
        return np.dtype(np.uint8 if len(self.settings) == 1 else np.float32)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        about = (self.event, self.rule, self.names, self.conversions, self.settings)
        return ("xsphere.detect", VERSION, self.grid.fingerprint, *about)

    def __call__(self, *fields: NDArray[Any]) -> NDArray[Any]:
        """Mask (..., *horizontal), or probability (..., 2, *horizontal), of fields."""
        shape = np.broadcast_shapes(*(values.shape for values in fields))
        flat = [np.broadcast_to(f, shape).reshape(-1, self.grid.n_cells) for f in fields]
        for number, (factor, offset) in enumerate(self.conversions):
            if (factor, offset) != (1.0, 0.0):
                flat[number] = flat[number] * factor + offset
        find = RULES[self.event][self.rule].find
        single = len(self.settings) == 1
        result = np.empty((len(flat[0]), 1 if single else 2, self.grid.n_cells), self.dtype)
        for step in range(len(result)):
            values = dict(zip(self.names, (f[step] for f in flat), strict=True))
            known = np.logical_and.reduce([np.isfinite(v) for v in values.values()])
            # rules see what is missing: it is no value
            bare = {name: np.where(known, v, np.nan) for name, v in values.items()}
            versions = [find(bare, self.grid, dict(numbers)) for numbers in self.settings]
            share = np.mean(versions, axis=0)
            parts = [share] if single else [1 - share, share]
            result[step] = np.where(known, parts, INVALID if single else np.nan)
        n_horizontal = len(self.grid.shape)
        leading, cells = shape[:-n_horizontal], shape[-n_horizontal:]
        return result.reshape(*leading, *([] if single else [2]), *cells)
