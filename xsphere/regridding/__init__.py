"""Regridding of labelled data, lazily: xarray in, xarray out.

Each variable becomes one node of the graph per block, which knows the two grids and the method.
Weights are looked up where the node runs, once per process, and never travel with a task. What
the weights are is the business of `xsphere.weights`.
"""

from xsphere.regridding.onto_grids import coarsen, refine, regrid, to_healpix, to_latlon
from xsphere.regridding.vector_pairs import LoneComponentWarning, Vectors
from xsphere.weights.apply import MissingPolicy
from xsphere.weights.method_table import RegridMethod

__all__ = [
    "LoneComponentWarning",
    "MissingPolicy",
    "RegridMethod",
    "Vectors",
    "coarsen",
    "refine",
    "regrid",
    "to_healpix",
    "to_latlon",
]
