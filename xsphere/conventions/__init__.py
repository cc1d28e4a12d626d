"""Where labels meet grids: CF, xdggs, easygems and Zarr DGGS read, one form written."""

from xsphere.conventions.base import HorizontalGrid
from xsphere.conventions.healpix_cells import GuessedGridWarning
from xsphere.conventions.horizontal import horizontal_grid, with_max_distance
from xsphere.conventions.masks import (
    INVALID,
    NOT_COMPUTED,
    classes_of,
    event_classes_of,
    mask_attributes,
)
from xsphere.conventions.written import (
    describe_healpix,
    healpix_coords,
    healpix_info,
    without_dggs,
)

__all__ = [
    "INVALID",
    "NOT_COMPUTED",
    "GuessedGridWarning",
    "HorizontalGrid",
    "classes_of",
    "describe_healpix",
    "event_classes_of",
    "healpix_coords",
    "healpix_info",
    "horizontal_grid",
    "mask_attributes",
    "with_max_distance",
    "without_dggs",
]
