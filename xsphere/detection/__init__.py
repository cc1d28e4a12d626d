"""Events by published rules: thresholds and shapes of fields, on any grid."""

from xsphere.detection.detected import detect
from xsphere.detection.nearness import remove_near
from xsphere.detection.vapour_transport import integrated_vapour_transport

__all__ = ["detect", "integrated_vapour_transport", "remove_near"]
