"""Models: a network with its input contract, grid and classes, in one safe file."""

from xsphere.model.bounds import InvalidInputWarning
from xsphere.model.bundled import list_models
from xsphere.model.derived import DERIVED, derived_field
from xsphere.model.file import ModelFileError
from xsphere.model.model import Model
from xsphere.model.network import build_network, expected_shapes, resolve_graph
from xsphere.model.spec import ModelSpec
from xsphere.model.spec_parts import Calibration, Channel, GraphSpec, Variable
from xsphere.model.units import UnitsError, unit_conversion

__all__ = [
    "DERIVED",
    "Calibration",
    "Channel",
    "GraphSpec",
    "InvalidInputWarning",
    "Model",
    "ModelFileError",
    "ModelSpec",
    "UnitsError",
    "Variable",
    "build_network",
    "derived_field",
    "expected_shapes",
    "list_models",
    "resolve_graph",
    "unit_conversion",
]
