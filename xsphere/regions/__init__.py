"""Events: the connected regions of a mask, as labels, as a table, and followed through time."""

from xsphere.regions.artmip import to_artmip
from xsphere.regions.categories import river_rank, river_scale, saffir_simpson
from xsphere.regions.counts import count_tracks
from xsphere.regions.frequency import frequency
from xsphere.regions.geojson import write_outlines
from xsphere.regions.ibtracs import read_ibtracs
from xsphere.regions.labelling import label
from xsphere.regions.scores import score_tracks
from xsphere.regions.table import events, events_to_csv
from xsphere.regions.track_files import read_tracks, write_tracks
from xsphere.regions.track_masks import track_mask
from xsphere.regions.tracks import track

__all__ = [
    "count_tracks",
    "events",
    "events_to_csv",
    "frequency",
    "label",
    "read_ibtracs",
    "read_tracks",
    "river_rank",
    "river_scale",
    "saffir_simpson",
    "score_tracks",
    "to_artmip",
    "track",
    "track_mask",
    "write_outlines",
    "write_tracks",
]
