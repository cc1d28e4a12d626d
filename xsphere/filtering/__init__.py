"""Filters, derivatives and spectra of labelled fields, lazily: xarray in, xarray out.

Each variable becomes one node of the graph per block, which knows the grid and what to do. Sparse
matrices are looked up where the node runs, once per process, and never travel with a task. What
the matrices are is the business of `xsphere.graph`.
"""

from xsphere.filtering.by_degree import filter
from xsphere.filtering.degree_kernels import Kernel
from xsphere.filtering.spectrum import power_spectrum
from xsphere.filtering.wind_derivatives import divergence, gradient, vorticity

__all__ = ["Kernel", "divergence", "filter", "gradient", "power_spectrum", "vorticity"]
