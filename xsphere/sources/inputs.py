"""A model's variables as the cache of regridded fields has them."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xsphere.compat import is_unread
from xsphere.conventions import horizontal_grid
from xsphere.conventions.masks import has_flags
from xsphere.grids import HealpixGrid
from xsphere.model import ModelSpec
from xsphere.model.bounds import source_bounds
from xsphere.model.inputs import MatchedVariable, matched_variables
from xsphere.notices import OncePerRun
from xsphere.regridding.methods import method_from
from xsphere.sources.field_tasks import Within
from xsphere.sources.regrid_cache import cached_fields, has_level


def kept_inputs(
    ds: xr.Dataset,
    spec: ModelSpec,
    matches: Sequence[MatchedVariable],
    *,
    run: OncePerRun | None = None,
) -> list[MatchedVariable] | None:
    """A model's variables on its grid, if `cache_regridded` was called for all of them.

    Blocks that are in the cache are read, the others made from the source and kept, with the bits
    that regridding gives.

    Parameters
    ----------
    ds : Dataset
        The source.
    spec : ModelSpec
        What the model reads.
    matches : sequence of MatchedVariable
        Its variables in `ds`, in its order.
    run : OncePerRun, optional
        The run that a warning of values beyond their valid ranges is said in once.

    Returns
    -------
    list of MatchedVariable or None
        In the same order and units as `matches`, not read where `ds` is not. None
        where nothing is kept, where nothing would be gained (data in memory or on the model's grid
        already), or where what is kept has other bits than the model would be given.
    """
    if not has_level(spec.level):
        return None
    arrays = [match.array for match in matches]
    names = [array.name for array in arrays]
    source = horizontal_grid(ds, names[:1]).grid
    bounds = {
        match.array.name: source_bounds(variable.valid_range, match.factor, match.offset)
        for match, variable in zip(matches, spec.variables, strict=True)
    }
    pairs = {(names[east], names[north]) for east, north in spec.vectors}
    if source == HealpixGrid(spec.level) or not _worth_keeping(ds, arrays, pairs):
        return None
    fields = cached_fields(
        ds,
        spec.level,
        variables=list(dict.fromkeys(names)),
        method=method_from(source, spec.regridding),
        vectors=sorted(pairs, key=str),
        within=Within(bounds, run or OncePerRun()),
    )
    if fields is None:
        return None
    found = matched_variables(fields, spec)
    same = all(
        (one.array.name, one.factor, one.offset) == (other.array.name, other.factor, other.offset)
        for one, other in zip(found, matches, strict=True)
    )
    return found if same else None


def _worth_keeping(
    ds: xr.Dataset, arrays: Sequence[xr.DataArray], pairs: set[tuple[object, object]]
) -> bool:
    """Whether the cache holds what a model would be given, and saves work."""
    if not any(array.chunks is not None or is_unread(array.variable) for array in arrays):
        return False
    # half precision is kept as such, and flags are kept as flags
    if any(array.dtype == np.float16 or has_flags(array) for array in arrays):
        return False
    # nor are components in units of their own turned with the same bits
    return all(
        ds[east].dtype == ds[north].dtype
        and ds[east].attrs.get("units") == ds[north].attrs.get("units")
        for east, north in pairs
    )
