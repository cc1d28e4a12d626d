"""Kept fields as an array that is not read yet, whose blocks are read or made when asked for."""

from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray

from xsphere.compat import by_outer_indices, lazy_array
from xsphere.sources.field_tasks import LazyBlock


class KeptArray(BackendArray):
    """Blocks of a kept field as one array.

    Parameters
    ----------
    block : LazyBlock
        Reads or makes a block.
    dtype : dtype
        Of its values.
    """

    def __init__(self, block: LazyBlock, dtype: np.dtype[Any]) -> None:
        self.block, self.dtype = block, dtype
        self.shape = tuple(sum(sizes) for sizes in block.blocks)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("xsphere.KeptArray", *self.block.__dask_tokenize__())

    def __getitem__(self, key: Any) -> Any:
        return by_outer_indices(key, self.shape, self._selected)

    def _selected(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Values at an outer product of indices, of which a number takes its axis away."""
        wanted = [
            np.atleast_1d(np.arange(size)[k]) for size, k in zip(self.shape, key, strict=True)
        ]
        result = np.empty([len(indices) for indices in wanted], self.dtype)
        starts = [np.cumsum((0, *sizes)) for sizes in self.block.blocks]
        owners = [
            np.searchsorted(first, indices, side="right") - 1
            for first, indices in zip(starts, wanted, strict=True)
        ]
        for number in product(*map(np.unique, owners)):
            where = [np.flatnonzero(owner == n) for owner, n in zip(owners, number, strict=True)]
            within = [
                indices[places] - first[n]
                for indices, places, first, n in zip(wanted, where, starts, number, strict=True)
            ]
            result[np.ix_(*where)] = self.block(tuple(map(int, number)))[np.ix_(*within)]
        alone = [isinstance(k, int | np.integer) for k in key]
        return result[tuple(0 if one else slice(None) for one in alone)]


def unread_variable(block: LazyBlock, field: xr.DataArray) -> xr.Variable:
    """A variable that is read block by block when its values are asked for."""
    data = lazy_array(KeptArray(block, field.dtype))
    lengths = {dim: max(sizes) for dim, sizes in zip(field.dims, block.blocks, strict=True)}
    encoding = {"preferred_chunks": lengths}
    return xr.Variable(field.dims, data, field.attrs, encoding=encoding)
