"""What a run will take before it begins: tasks, bytes, memory, hours, and what limits them."""

from xsphere.planning.planned import plan
from xsphere.planning.plans import Plan
from xsphere.planning.table import compared

__all__ = ["Plan", "compared", "plan"]
