"""Graphs of the sphere and the sparse matrices made from grids alone."""

from xsphere.graph.derivatives import divergence_matrices, gradient_matrices, vorticity_matrices
from xsphere.graph.directions import directional_matrices
from xsphere.graph.laplacians import LaplacianType, laplacian, spectrum_bound
from xsphere.graph.neighbours import nearest_neighbours
from xsphere.graph.sphere_graph import SphereGraph
from xsphere.graph.touching import adjacency
from xsphere.graph.weightings import WEIGHTINGS, Weights
from xsphere.graph.width import kernel_width

__all__ = [
    "WEIGHTINGS",
    "LaplacianType",
    "SphereGraph",
    "Weights",
    "adjacency",
    "directional_matrices",
    "divergence_matrices",
    "gradient_matrices",
    "kernel_width",
    "laplacian",
    "nearest_neighbours",
    "spectrum_bound",
    "vorticity_matrices",
]
