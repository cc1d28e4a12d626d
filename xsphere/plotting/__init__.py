"""Maps of fields and masks on any grid and any cartopy projection."""

from xsphere.plotting.maps import plot

__all__ = ["plot"]
