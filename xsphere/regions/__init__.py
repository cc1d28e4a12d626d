"""Events: the connected regions of a mask, as a table."""

from xsphere.regions.table import events, events_to_csv

__all__ = ["events", "events_to_csv"]
