"""For workers to load (dask's preload): block 1 of a segmentation ends its process, each time."""

import ctypes
from typing import Any

from xsphere.segmentation.direct import DirectSource


def dask_setup(worker: Any) -> None:
    """Dask calls this in a worker: importing the module, as pytest does, changes nothing."""
    block = DirectSource.block

    def deadly(self: DirectSource, index: int) -> Any:
        if index == 1:
            ctypes.string_at(0)
        return block(self, index)

    DirectSource.block = deadly  # type: ignore[method-assign]
