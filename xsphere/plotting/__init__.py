"""Maps of fields, masks and tracks on any cartopy projection."""

from xsphere.plotting.animation import animate
from xsphere.plotting.lives import plot_genealogy, plot_life
from xsphere.plotting.maps import plot
from xsphere.plotting.tracks import plot_tracks

__all__ = ["animate", "plot", "plot_genealogy", "plot_life", "plot_tracks"]
