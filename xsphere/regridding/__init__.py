"""Regridding of labelled data, lazily: xarray in, xarray out.

Each variable becomes one node of the graph per block, which knows the two grids and the method.
Weights are looked up where the node runs, once per process, and never travel with a task. What
the weights are is the business of `xsphere.weights`.
"""

from xsphere.regridding.functions import regrid, to_healpix, to_latlon
from xsphere.regridding.node import MissingPolicy, RegridMethod

__all__ = ["MissingPolicy", "RegridMethod", "regrid", "to_healpix", "to_latlon"]
