"""Masks of events that a published rule finds: checked, lazy, with the conventions of a mask."""

from collections.abc import Mapping
from dataclasses import dataclass
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
from xsphere.model.inputs import MatchedVariable, found_variables
from xsphere.notices import shortened
from xsphere.regions.labelling import is_number

# Part of every task's key: raise it when a rule finds other cells.
VERSION = 1


def detect(
    ds: xr.Dataset,
    event: Event,
    rule: str = "tempest",
    *,
    threshold: xr.DataArray | float | None = None,
    **settings: float,
) -> xr.DataArray:
    """Find events by a published rule, lazily, on the grid of the dataset.

    Parameters
    ----------
    ds : Dataset
        On any grid that `xsphere.horizontal_grid` finds, in one chunk along it.
    event : {"tropical_cyclone", "atmospheric_river"}
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
    threshold : DataArray or float, optional
        For ``"guan_waliser"``, which cannot do without: the 85th percentile of the transport in
        kg m-1 s-1, in each cell (and month, say, at the times of `ds`).
    **settings
        Other numbers than those of the paper.

    Returns
    -------
    DataArray of uint8
        A mask as from `xsphere.segment`, of one class: 0 background, 1 the event, 254 where an
        input is not finite.

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
    `xsphere.integrated_vapour_transport`. Cells that are not known count as outside of every event,
    and within a Laplacian as 0.

    References
    ----------
    .. [1] Ullrich et al. (2021), https://doi.org/10.5194/gmd-14-5023-2021
    .. [2] Guan and Waliser (2015), https://doi.org/10.1002/2015JD024257
    .. [3] Rutz et al. (2014), https://doi.org/10.1175/MWR-D-13-00168.1
    .. [4] Gershunov et al. (2017), https://doi.org/10.1002/2017GL074175
    .. [5] Ralph et al. (2004), https://doi.org/10.1175/1520-0493(2004)132
    .. [6] Zarzycki and Ullrich (2017), https://doi.org/10.1002/2016GL071606

    Examples
    --------
    >>> import xsphere
    >>> rivers = detect(xsphere.sample_dataset(), "atmospheric_river", "ralph")
    >>> rivers.attrs["flag_meanings"], int(rivers.max())
    ('background atmospheric_river invalid_input not_computed', 1)
    """
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"expected a Dataset, got {type(ds).__name__}; use .to_dataset()")
    chosen = _rule(event, rule, settings, threshold)
    horizontal = horizontal_grid(ds)
    matches = _matched(ds, chosen, f"the rule {rule!r} for {event}")
    arrays = {variable.name: m.array for variable, m in zip(chosen.variables, matches, strict=True)}
    if threshold is not None:
        arrays["threshold"] = _field(threshold, arrays["IVT_u"], horizontal.dims)
    check_one_chunk(arrays, horizontal.dims)
    check_unpacked(arrays)
    node = Detection(
        grid=horizontal.grid,
        event=event,
        rule=rule,
        names=tuple(arrays),
        conversions=tuple((m.factor, m.offset) for m in matches),
        settings=tuple(sorted({**chosen.settings, **settings}.items())),
    )
    dims = list(horizontal.dims)
    found: xr.DataArray = xr.apply_ufunc(
        ReadingNode(node=node, readings=tuple(map(reading_of, arrays.values()))),
        *arrays.values(),
        input_core_dims=[dims] * len(arrays),
        output_core_dims=[dims],
        join="exact",
        dask="parallelized",
        output_dtypes=[np.uint8],
        keep_attrs=False,
    )
    attributes = {
        "long_name": f"mask of {event} by the rule {rule!r}",
        "references": chosen.reference,
    }
    mask = found.rename("mask").assign_attrs(attributes | mask_attributes([event]))
    return on_its_own(mask, ds, horizontal)


def _rule(event: Any, rule: Any, settings: Mapping[str, Any], threshold: Any) -> Rule:
    """The rule, if it and its settings are known."""
    if event not in get_args(Event):
        raise ValueError(f"event must be one of {list(get_args(Event))}, got {shortened(event)}")
    if rule not in RULES[event]:
        raise ValueError(f"the rules for {event} are {sorted(RULES[event])}, got {shortened(rule)}")
    chosen = RULES[event][rule]
    problems = [
        f"{name} must be a number, got {shortened(value)}"
        for name, value in settings.items()
        if not is_number(value) or not np.isfinite(value)
    ]
    unknown = sorted(set(settings) - set(chosen.settings))
    if unknown:
        problems.append(f"{rule!r} has the settings {sorted(chosen.settings)}, not {unknown}")
    if (rule == "guan_waliser") != (threshold is not None):
        problems.append(
            "threshold is the 85th percentile of the transport for 'guan_waliser', such as "
            "transport.quantile(0.85, 'time'); "
            + ("it is missing" if threshold is None else f"{rule!r} has none")
        )
    if problems:
        raise ValueError("; ".join(problems))
    return chosen


def _matched(ds: xr.Dataset, rule: Rule, reader: str) -> list[MatchedVariable]:
    """The rule's variables in a dataset; a transport that is not there is integrated."""
    if rule.variables[: len(COMPONENTS)] != COMPONENTS:
        return found_variables(ds, rule.variables, reader)
    others = found_variables(ds, rule.variables[len(COMPONENTS) :], reader)
    transport = integrated_vapour_transport(ds)
    return [
        *(MatchedVariable(transport[v.name], factor=1.0, offset=0.0) for v in COMPONENTS),
        *others,
    ]


def _field(
    threshold: xr.DataArray | float, like: xr.DataArray, dims: tuple[Any, ...]
) -> xr.DataArray:
    """The threshold with the dimensions of the grid."""
    if not isinstance(threshold, xr.DataArray):
        threshold = xr.DataArray(float(threshold))
    grid = like.isel({dim: 0 for dim in like.dims if dim not in dims}, drop=True)
    return threshold.broadcast_like(grid) if not set(dims) <= set(threshold.dims) else threshold


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
    settings : tuple of (str, float)
        Numbers of the rule.
    """

    __name__ = "xsphere_detect"

    grid: Grid
    event: Event
    rule: str
    names: tuple[str, ...]
    conversions: tuple[tuple[float, float], ...]
    settings: tuple[tuple[str, float], ...]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        about = (self.event, self.rule, self.names, self.conversions, self.settings)
        return ("xsphere.detect", VERSION, self.grid.fingerprint, *about)

    def __call__(self, *fields: NDArray[Any]) -> NDArray[np.uint8]:
        """Mask (..., *horizontal) of fields of that shape."""
        shape = np.broadcast_shapes(*(values.shape for values in fields))
        flat = [np.broadcast_to(f, shape).reshape(-1, self.grid.n_cells) for f in fields]
        for number, (factor, offset) in enumerate(self.conversions):
            if (factor, offset) != (1.0, 0.0):
                flat[number] = flat[number] * factor + offset
        find = RULES[self.event][self.rule].find
        result = np.empty(flat[0].shape, np.uint8)
        for step in range(len(result)):
            values = dict(zip(self.names, (f[step] for f in flat), strict=True))
            known = np.logical_and.reduce([np.isfinite(v) for v in values.values()])
            whole = {name: np.where(known, v, 0.0) for name, v in values.items()}
            inside = find(whole, self.grid, dict(self.settings))
            result[step] = np.where(known, inside, INVALID)
        return result.reshape(shape)
