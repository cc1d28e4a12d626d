"""Regridding on the device that the network runs on: the rules of `xsphere.weights`, in torch."""

import numpy as np
import torch
from torch import Tensor, nn

from xsphere.cache import SharedEntries
from xsphere.grids import Grid
from xsphere.nn.operator import SparseOperator
from xsphere.weights import FieldMethod, regridding_weights
from xsphere.weights.apply import PART_TOLERANCE
from xsphere.weights.vectors import local_frame

_regridders = SharedEntries(4)


class FieldRegridder(nn.Module):
    """Fields and vectors taken from one grid to another on any device, in float32.

    Does what `xsphere.weights.regrid_fields` and `regrid_vectors` do: the mean of the valid source
    cells where they are enough of the target cell, else NaN. Sums are rounded in another order, so
    values may differ in their last bits.

    Parameters
    ----------
    source, target : Grid
        Cells from and to which values go.
    method : str
        One whose weights are a matrix, see `regridding_weights`.
    min_valid_fraction : float
        Part of a target cell that must have values.

    References
    ----------
    .. [1] Jones (1999), https://doi.org/10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> coarsen = FieldRegridder(HealpixGrid(1), HealpixGrid(0), method="conservative")
    >>> coarsen(torch.arange(48.0)[None])[0, :3].tolist()
    [1.5, 5.5, 9.5]
    """

    def __init__(
        self, source: Grid, target: Grid, *, method: FieldMethod, min_valid_fraction: float = 0.5
    ) -> None:
        super().__init__()
        matrix = regridding_weights(source, target, method=method)
        self.operator = SparseOperator(matrix)
        parts = matrix.sum(axis=1)
        least = min_valid_fraction - PART_TOLERANCE
        # never enough where the source does not reach
        enough = np.where((parts >= least) & (parts > 0), max(least, PART_TOLERANCE), np.inf)
        buffers = {
            "enough": enough,
            "from_frame": local_frame(source, np.dtype(np.float32)),
            "to_frame": local_frame(target, np.dtype(np.float32)),
        }
        for name, array in buffers.items():
            self.register_buffer(name, torch.tensor(array.astype(np.float32)), persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Regridded fields: (n, n_source) to (n, n_target)."""
        columns = fields.T.contiguous()
        valid = columns.isfinite()
        both = torch.stack([valid.to(columns.dtype), columns.where(valid, 0.0)])
        known, sums = self.operator(both)
        is_enough = known >= self.get_buffer("enough")[:, None]
        filled: Tensor = (sums / known).where(is_enough, torch.nan)
        return filled.T

    def vectors(self, east: Tensor, north: Tensor) -> tuple[Tensor, Tensor]:
        """Regridded components of vectors, missing where either of them is.

        Parameters
        ----------
        east, north : tensors of float, shape (n, n_source)
            Components.

        Returns
        -------
        east, north : tensors of float, shape (n, n_target)
            Along the east and north of the target's cells.

        Examples
        --------
        >>> from xsphere.grids import HealpixGrid
        >>> coarsen = FieldRegridder(HealpixGrid(2), HealpixGrid(1), method="conservative")
        >>> east, north = coarsen.vectors(torch.ones(1, 192), torch.zeros(1, 192))
        >>> bool((north.abs() < 0.1).all())
        True
        """
        from_frame, to_frame = self.get_buffer("from_frame"), self.get_buffer("to_frame")
        x, y, z = (
            self(east * from_frame[0, axis] + north * from_frame[1, axis]) for axis in range(3)
        )
        first, second = (x * d[0] + y * d[1] + z * d[2] for d in to_frame)
        return first, second

    @classmethod
    def shared(
        cls, source: Grid, target: Grid, *, method: FieldMethod, device: str
    ) -> "FieldRegridder":
        """The one regridder between two grids that this process has on a device.

        Parameters
        ----------
        source, target : Grid
            Grids.
        method : str
            See `regridding_weights`.
        device : str
            A torch device.

        Returns
        -------
        FieldRegridder
            Not to be changed.

        Examples
        --------
        >>> from xsphere.grids import HealpixGrid
        >>> grids = HealpixGrid(1), HealpixGrid(0)
        >>> first = FieldRegridder.shared(*grids, method="nearest", device="cpu")
        >>> first is FieldRegridder.shared(*grids, method="nearest", device="cpu")
        True
        """
        key = f"{source.fingerprint} {target.fingerprint} {method} {device}"
        regridder: FieldRegridder = _regridders.fetch(
            key, lambda: cls(source, target, method=method).to(device)
        )
        return regridder
