"""What a run will take before it begins: one block is tried, the rest is arithmetic."""

from xsphere.planning.planned import plan
from xsphere.planning.plans import Plan

__all__ = ["Plan", "plan"]
